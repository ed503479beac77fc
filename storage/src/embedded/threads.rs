//! The threads that drive the engine's parts: they wait, look at the clock, and do the next step. What a step is, the parts
//! know; a [stepped engine](super::SteppedEngine) drives the same parts without threads.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::applier::{Applier, Backlog};
use super::committer::{Committer, Taking};
use super::keeper::{FlushPart, Keeper, Remedy};
use super::reader::{self, Answering, Reader};
use super::tables::{Tables, TablesError};
use crate::commits::Link;
use crate::medium::Medium;
use crate::parker::{AbortOnPanic, Turn, Work};

/// How long to wait after the system has refused something.
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// How long to wait before tables are merged again of which one is damaged.
const RETRY_DAMAGED: Duration = Duration::from_secs(600);

/// The committer's thread.
pub(super) struct Committing<M: Medium> {
    committer: Committer<M>,
    backlog: Arc<Backlog>,
    began: Instant,
}

impl<M: Medium> Committing<M> {
    pub(super) fn new(committer: Committer<M>, backlog: Arc<Backlog>) -> Self {
        Self { committer, backlog, began: Instant::now() }
    }
}

impl<M: Medium> Work<Link> for Committing<M> {
    fn link(&mut self, link: Link) {
        self.committer.link(link);
    }

    fn turn(&mut self) -> Turn {
        match self.committer.take(self.began.elapsed()) {
            Taking::Taken => {}
            Taking::Later(wait) => return Turn::Later(wait),
            Taking::Nothing => return Turn::Idle,
        }
        let started = Instant::now();
        self.committer.write();
        self.committer.complete(started.elapsed());
        if let Err(reason) = self.backlog.wait_for_room() {
            self.committer.fail(reason);
        }
        Turn::Worked
    }
}

impl<T: Tables> Work<reader::Link> for (Reader<T>, Arc<Backlog>) {
    fn link(&mut self, link: reader::Link) {
        self.0.link(link);
    }

    fn turn(&mut self) -> Turn {
        match self.0.answer() {
            Answering::Answered => Turn::Worked,
            Answering::Nothing => Turn::Idle,
            Answering::WaitsFor(number) => {
                // Why it will never be there, the next answer says.
                let _ = self.1.wait_for(number);
                Turn::Worked
            }
        }
    }
}

/// Starts the applier's thread. It ends after the backlog is closed and empty; then everything is sealed, unless something
/// has failed.
pub(super) fn spawn_applier<T: Tables>(
    mut applier: Applier<T>,
    backlog: Arc<Backlog>,
    keeper: Arc<Keeper<T>>,
) -> io::Result<JoinHandle<()>> {
    spawn("tern-apply", move || {
        if let Err(why) = apply_all(&mut applier, &backlog, &keeper) {
            // What is in the log is not lost: the next opening brings it into the tables.
            backlog.fail(why);
        }
    })
}

fn apply_all<T: Tables>(
    applier: &mut Applier<T>,
    backlog: &Backlog,
    keeper: &Keeper<T>,
) -> Result<(), String> {
    loop {
        let groups = backlog.take();
        if groups.is_empty() {
            applier.finish();
            return Ok(());
        }
        applier.apply(&groups);
        while !applier.settle()? {
            keeper.wait_for_room()?;
        }
    }
}

/// Starts the keeper's threads: one flushes, one merges.
pub(super) fn spawn_keeper<T: Tables>(keeper: &Arc<Keeper<T>>) -> io::Result<[JoinHandle<()>; 2]> {
    let (flushes, merges) = (keeper.clone(), keeper.clone());
    Ok([
        spawn("tern-flush", move || flush_all(&flushes))?,
        spawn("tern-compact", move || compact_all(&merges))?,
    ])
}

fn flush_all<T: Tables>(keeper: &Keeper<T>) {
    while let Some(number) = keeper.wait_for_flush() {
        if let Err(error) = flush(keeper, number) {
            if !keeper.flush_failed(&error) {
                return;
            }
            keeper.pause(RETRY);
        }
    }
}

fn flush<T: Tables>(keeper: &Keeper<T>, number: u64) -> Result<(), TablesError> {
    let mut next = Some(FlushPart::Tables);
    while let Some(part) = next {
        next = keeper.flush(number, part)?;
    }
    Ok(())
}

fn compact_all<T: Tables>(keeper: &Keeper<T>) {
    while keeper.wait_to_compact() {
        if let Err(remedy) = keeper.compact() {
            keeper.pause(pause_after(remedy));
        }
    }
}

/// How long to wait before tables are merged again.
pub(super) fn pause_after(remedy: Remedy) -> Duration {
    match remedy {
        Remedy::Retry | Remedy::GiveUp => RETRY,
        Remedy::Damage => RETRY_DAMAGED,
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _abort = AbortOnPanic;
        run();
    })
}
