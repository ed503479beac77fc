//! Waiting for a port of the own thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};

use crate::engine::{Completion, Port, StoreError, Wake};

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

    /// What becomes of the one batch that was submitted to this thread's port; `None` if nothing comes any more.
    pub(crate) fn committed(
        &self,
        port: &mut impl Port,
        is_closed: impl Fn() -> bool,
    ) -> Option<Result<(), StoreError>> {
        let mut completions = Vec::new();
        loop {
            port.poll(&mut completions);
            match completions.pop() {
                Some(Completion::Committed(_)) => return Some(Ok(())),
                Some(Completion::CommitFailed { error, .. }) => return Some(Err(error)),
                Some(Completion::Value { .. } | Completion::Rows { .. }) => unreachable!("nothing was read"),
                None if is_closed() => return None,
                None => self.wait(),
            }
        }
    }
}

/// For this thread: what wakes it, and what waits.
pub(crate) fn waiter() -> (Arc<dyn Wake>, Waiter) {
    let unpark = Arc::new(Unpark { thread: thread::current(), woken: AtomicBool::new(false) });
    (unpark.clone(), Waiter(unpark))
}
