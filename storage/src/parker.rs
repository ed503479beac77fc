//! A thread that sleeps when it has nothing to do, and the wait-free way to wake it.
//!
//! Whoever has work pushes it, then looks whether the thread has announced that it sleeps; the thread announces it, then
//! looks once more for work. With a full fence between the two steps on either side, one of them sees the other.

#![cfg_attr(
    not(all(feature = "embedded", feature = "fdb-core")),
    allow(dead_code, reason = "each engine uses its part of it")
)]

use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

/// The shared side of a worker thread. `L` is what a new port hands to it.
pub(crate) struct Parker<L> {
    sleeping: AtomicBool,
    closed: AtomicBool,
    /// Set by the thread before it runs.
    thread: OnceLock<Thread>,
    /// Ports opened since the thread last looked. Opening is rare and may lock.
    links: Mutex<Vec<L>>,
    has_links: AtomicBool,
}

impl<L> Default for Parker<L> {
    fn default() -> Self {
        Self {
            sleeping: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            thread: OnceLock::new(),
            links: Mutex::new(Vec::new()),
            has_links: AtomicBool::new(false),
        }
    }
}

impl<L> Parker<L> {
    /// Wakes the thread if it sleeps. Call it after pushing work.
    pub(crate) fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed)
            && self.sleeping.swap(false, Ordering::AcqRel)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    /// Gives the thread a port to serve.
    pub(crate) fn link(&self, link: L) {
        self.links.lock().expect("no thread panics while it holds this").push(link);
        self.has_links.store(true, Ordering::Release);
        self.wake();
    }

    /// Has the thread finish what there is, and end.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.wake();
    }

    /// Whether the thread ends.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Ports opened since the last call.
    pub(crate) fn new_links(&self) -> Vec<L> {
        if self.has_links.swap(false, Ordering::AcqRel) {
            std::mem::take(&mut *self.links.lock().expect("no thread panics while it holds this"))
        } else {
            Vec::new()
        }
    }
}

/// What came of a worker's turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Turn {
    /// It did something; there may be more.
    Worked,
    /// There was nothing.
    Idle,
    /// There was nothing, and there will be something after this time, if nothing wakes it before.
    IdleFor(Duration),
    /// There is something, but it is better done after this time.
    Later(Duration),
}

#[cfg(feature = "fdb-core")]
impl Turn {
    /// The same, but not idle for longer than this.
    pub(crate) fn at_most(self, wait: Duration) -> Self {
        match self {
            Self::Idle => Self::IdleFor(wait),
            Self::IdleFor(longer) => Self::IdleFor(longer.min(wait)),
            Self::Worked | Self::Later(_) => self,
        }
    }
}

/// What a worker thread does.
pub(crate) trait Work<L>: Send + 'static {
    /// Serves a new port.
    fn link(&mut self, link: L);

    /// Does what there is.
    fn turn(&mut self) -> Turn;
}

/// Without one of its threads a store would leave its callers waiting for ever. What was acknowledged is on the disk, so
/// the process may end at once.
pub(crate) struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::abort();
        }
    }
}

/// Starts a worker thread.
pub(crate) fn spawn<L: Send + 'static>(
    name: &str,
    parker: Arc<Parker<L>>,
    mut work: impl Work<L>,
) -> std::io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _abort = AbortOnPanic;
        let _ = parker.thread.set(thread::current());
        loop {
            let closing = parker.is_closed();
            parker.new_links().into_iter().for_each(|link| work.link(link));
            match work.turn() {
                Turn::Worked => continue,
                Turn::Idle if closing => return,
                Turn::Idle | Turn::IdleFor(_) => {}
                Turn::Later(wait) => {
                    // It does not announce that it sleeps: whoever brings more need not wake it.
                    if !closing {
                        thread::park_timeout(wait);
                    }
                    continue;
                }
            }
            parker.sleeping.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            parker.new_links().into_iter().for_each(|link| work.link(link));
            match work.turn() {
                // Whoever wakes it says so here as well: what it does in its turn may have taken the token.
                Turn::Idle | Turn::IdleFor(_) if !parker.sleeping.load(Ordering::Acquire) => {}
                Turn::Idle if !parker.is_closed() => thread::park(),
                Turn::IdleFor(wait) => thread::park_timeout(wait),
                Turn::Idle | Turn::Worked | Turn::Later(_) => {}
            }
            parker.sleeping.store(false, Ordering::Relaxed);
        }
    })
}
