//! One thread's requests: futures that are polled by that thread alone, when the library's thread has said that they may go on.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{self, Context, Poll, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use foundationdb::Database;
use tern_storage::Wake;
use tern_storage::fdb::client::{Caller, Outcome, Request, Token};

use crate::requests;

type Running = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// See the module.
pub(crate) struct FdbCaller {
    database: Arc<Database>,
    prefix: Arc<[u8]>,
    tasks: Vec<Option<Task>>,
    free: Vec<usize>,
    ready: Arc<Ready>,
    ended: VecDeque<(Token, Outcome)>,
    asked: u64,
}

/// A request under way.
struct Task {
    token: Token,
    running: Running,
    is_commit: bool,
    woken: Arc<Woken>,
}

/// Which requests may go on. As many as are under way at most.
struct Ready {
    tasks: Mutex<VecDeque<usize>>,
    came: Condvar,
    /// Whether there is any: looked at without the lock.
    any: AtomicBool,
    wake: Arc<dyn Wake>,
}

/// The waker of one of them.
struct Woken {
    task: usize,
    /// It stands among the ready ones.
    is_ready: AtomicBool,
    ready: Arc<Ready>,
}

impl task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        if self.is_ready.swap(true, Ordering::AcqRel) {
            return;
        }
        self.ready.tasks.lock().expect("nothing panics while it holds this").push_back(self.task);
        self.ready.any.store(true, Ordering::Release);
        self.ready.came.notify_one();
        self.ready.wake.wake();
    }
}

impl FdbCaller {
    pub(crate) fn new(database: Arc<Database>, prefix: Vec<u8>, wake: Arc<dyn Wake>) -> Self {
        Self {
            database,
            prefix: prefix.into(),
            tasks: Vec::new(),
            free: Vec::new(),
            ready: Arc::new(Ready {
                tasks: Mutex::new(VecDeque::new()),
                came: Condvar::new(),
                any: AtomicBool::new(false),
                wake,
            }),
            ended: VecDeque::new(),
            asked: 0,
        }
    }

    /// Has a request go on as far as it can.
    fn go_on(&mut self, at: usize) {
        let Some(task) = self.tasks[at].as_mut() else { return };
        task.woken.is_ready.swap(false, Ordering::AcqRel);
        let waker = Waker::from(task.woken.clone());
        if let Poll::Ready(outcome) = task.running.as_mut().poll(&mut Context::from_waker(&waker)) {
            self.ended.push_back((task.token, outcome));
            self.tasks[at] = None;
            self.free.push(at);
        }
    }
}

impl Caller for FdbCaller {
    fn start(&mut self, request: Request) -> Token {
        self.asked += 1;
        let token = Token(self.asked);
        let is_commit = matches!(request, Request::Commit(_));
        let running = requests::run(self.database.clone(), self.prefix.clone(), request);
        let at = self.free.pop().unwrap_or_else(|| {
            self.tasks.push(None);
            self.tasks.len() - 1
        });
        let woken = Arc::new(Woken { task: at, is_ready: AtomicBool::new(false), ready: self.ready.clone() });
        self.tasks[at] = Some(Task { token, running, is_commit, woken });
        self.go_on(at);
        if !self.ended.is_empty() {
            // Whoever looks for outcomes must be told of one that was there at once.
            self.ready.wake.wake();
        }
        token
    }

    fn poll(&mut self, outcomes: &mut Vec<(Token, Outcome)>) {
        let ready = {
            let mut tasks = self.ready.tasks.lock().expect("nothing panics while it holds this");
            self.ready.any.store(false, Ordering::Release);
            std::mem::take(&mut *tasks)
        };
        for at in ready {
            self.go_on(at);
        }
        outcomes.extend(self.ended.drain(..));
    }

    fn has_outcomes(&self) -> bool {
        !self.ended.is_empty() || self.ready.any.load(Ordering::Acquire)
    }

    fn wait(&mut self, at_most: Duration) -> bool {
        if !self.ended.is_empty() {
            return true;
        }
        let tasks = self.ready.tasks.lock().expect("nothing panics while it holds this");
        let waited = self.ready.came.wait_timeout_while(tasks, at_most, |tasks| tasks.is_empty());
        let (tasks, _) = waited.expect("nothing panics while it holds this");
        !tasks.is_empty()
    }
}

/// A commit that is cancelled may land, and a future that is dropped is cancelled: what is under way when its caller goes is left to end.
impl Drop for FdbCaller {
    fn drop(&mut self) {
        for task in self.tasks.drain(..).flatten().filter(|task| task.is_commit) {
            std::mem::forget(task.running);
        }
    }
}

struct Unpark(Thread);

impl task::Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// What a future gives, if it does so within this: for what asks nobody.
pub(crate) fn now_or_soon<F: Future + Unpin>(mut future: F, within: Duration) -> Option<F::Output> {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let ends = Instant::now() + within;
    loop {
        if let Poll::Ready(output) = Pin::new(&mut future).poll(&mut Context::from_waker(&waker)) {
            return Some(output);
        }
        let left = ends.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        thread::park_timeout(left);
    }
}
