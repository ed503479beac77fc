//! The thread that drives a backup, and what operators ask of it.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::state::BackupState;
use super::status::BackupStatus;
use super::{Backup, Key, Of, Start};
use crate::embedded::hold::Hold;
use crate::embedded::stepped::Stepped;
use crate::embedded::tables::Tables;
use crate::parker::AbortOnPanic;

/// How long an operator waits for an answer. The thread may wait for a disk.
const ANSWER: Duration = Duration::from_secs(20);

/// How long the end of a store waits for what is not archived yet.
const CLOSE: Duration = Duration::from_secs(10);

/// How often what operators are told is made anew.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// What the storage does not know by itself.
pub struct Surroundings {
    /// What clocks say, in ms since the Unix epoch.
    pub now_ms: Box<dyn Fn() -> u64 + Send>,
    /// Random bytes that nobody can guess, never the same.
    pub random: Box<dyn FnMut() -> [u8; 32] + Send>,
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings").finish_non_exhaustive()
    }
}

/// The backups of a store.
#[derive(Debug)]
pub struct Backups {
    shared: Arc<Shared>,
    hold: Arc<Hold>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    commands: VecDeque<(Command, SyncSender<Result<(), String>>)>,
    status: BackupStatus,
    closing: bool,
    ended: bool,
}

#[derive(Debug)]
enum Command {
    Start(Start),
    Stop,
    Rate(u64),
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds this")
    }
}

impl Backups {
    /// Starts the thread, which goes on with what the store says.
    pub(in super::super) fn serve<T: Tables>(
        (of, state): (Of<T>, Option<BackupState>),
        id: Bytes,
        target: T::Medium,
        surroundings: Surroundings,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (serves, hold) = (shared.clone(), of.hold.clone());
        let Surroundings { now_ms, random } = surroundings;
        thread::Builder::new().name("tern-backup".to_owned()).spawn(move || {
            let _abort = AbortOnPanic;
            let backup = Backup::new((of, state), id, target, random, &|path: &Path| Key::read(path));
            serve(&serves, backup, &*now_ms);
            serves.lock().ended = true;
            serves.changed.notify_all();
        })?;
        Ok(Self { shared, hold })
    }

    /// Has a backup begin, or go on with other settings.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn start(&self, start: Start) -> Result<(), String> {
        self.ask(Command::Start(start))
    }

    /// Has it end when what is durable now is archived; at once if it is in trouble. [`Backups::status`] says when it has.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn stop(&self) -> Result<(), String> {
        self.ask(Command::Stop)
    }

    /// Bytes a second from now on.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn set_rate(&self, per_s: u64) -> Result<(), String> {
        self.ask(Command::Rate(per_s))
    }

    /// What it is doing.
    pub fn status(&self) -> BackupStatus {
        self.shared.lock().status.clone()
    }

    fn ask(&self, command: Command) -> Result<(), String> {
        let (answer, answered) = sync_channel(1);
        self.shared.lock().commands.push_back((command, answer));
        self.shared.changed.notify_all();
        answered
            .recv_timeout(ANSWER)
            .unwrap_or_else(|_| Err("the backup waits for its disk, and has not answered".to_owned()))
    }

    /// The store ends, and commits nothing more: archives what there is, for a while. A thread that waits for a disk is left.
    pub(in super::super) fn close(&self) {
        let mut state = self.shared.lock();
        if std::mem::replace(&mut state.closing, true) {
            return;
        }
        self.shared.changed.notify_all();
        let waits = self.shared.changed.wait_timeout_while(state, CLOSE + RETRY, |state| !state.ended);
        drop(waits);
        // No file of the next process goes by a pin of this one.
        self.hold.unpin_all();
    }
}

/// Beyond its own limit the thread has this long to see that it is over.
const RETRY: Duration = Duration::from_secs(1);

fn serve<T: Tables>(shared: &Shared, mut backup: Backup<T>, now_ms: &dyn Fn() -> u64) {
    let began = Instant::now();
    let mut told = None;
    loop {
        let (commands, closing) = {
            let mut state = shared.lock();
            (std::mem::take(&mut state.commands), state.closing)
        };
        let answers = !commands.is_empty();
        for (command, answer) in commands {
            let done = match command {
                Command::Start(start) => backup.start(start, began.elapsed()),
                Command::Stop => {
                    backup.stop();
                    Ok(())
                }
                Command::Rate(per_s) => backup.set_rate(per_s),
            };
            // Before the answer: whoever has it may look.
            shared.lock().status = backup.status();
            // Who asked may have gone.
            let _ = answer.send(done);
        }
        if closing {
            let until = began.elapsed() + CLOSE;
            while began.elapsed() < until && backup.finish(began.elapsed(), now_ms()) {}
            return;
        }
        let stepped = backup.step(began.elapsed(), now_ms());
        let waits = match stepped {
            Stepped::Did | Stepped::Waits | Stepped::Failed => Duration::ZERO,
            Stepped::Later(wait) => wait,
            Stepped::Nothing => Duration::MAX,
        };
        if answers || !waits.is_zero() || told.is_none_or(|told| began.elapsed() >= told + TELL_EVERY) {
            told = Some(began.elapsed());
            let status = backup.status();
            shared.lock().status = status;
        }
        let state = shared.lock();
        let is_idle = |state: &mut State| state.commands.is_empty() && !state.closing;
        let waited = shared.changed.wait_timeout_while(state, waits.min(Duration::from_secs(3600)), is_idle);
        drop(waited.expect("no thread panics while it holds this"));
    }
}
