//! Waiting for a port of the own thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};

use crate::engine::Wake;

/// Waits for what wakes this thread.
pub(crate) struct Waiter(Arc<Unpark>);

struct Unpark {
    thread: Thread,
    woken: AtomicBool,
}

impl Wake for Unpark {
    fn wake(&self) {
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

impl Waiter {
    /// Waits until the thread has been woken since the last call.
    pub(crate) fn wait(&self) {
        while !self.0.woken.swap(false, Ordering::AcqRel) {
            thread::park();
        }
    }
}

/// For this thread: what wakes it, and what waits.
pub(crate) fn waiter() -> (Arc<dyn Wake>, Waiter) {
    let unpark = Arc::new(Unpark { thread: thread::current(), woken: AtomicBool::new(false) });
    (unpark.clone(), Waiter(unpark))
}
