//! The bench's own server, looked at each second: what it has written, and how large it and its store are.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::measure;
use crate::target::Target;

/// The server at one moment.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sample {
    pub at_s: f64,
    /// Messages acknowledged in the second before.
    pub acked_per_s: f64,
    /// Its private memory.
    pub user_bytes: u64,
    /// All files of its store.
    pub store_bytes: u64,
    /// What the disk has written since the begin, for everybody.
    pub disk_bytes: Option<u64>,
}

/// The thread that looks.
pub struct Watch {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Sample>>,
}

impl Watch {
    /// Begins now; `None` if the server is not the bench's own.
    pub fn begin(target: &Target) -> Option<Self> {
        let (pid, store) = (target.pid()?, target.own()?.data_dir().join("store"));
        let over = Arc::new(AtomicBool::new(false));
        let stopped = over.clone();
        let thread = thread::spawn(move || look(pid, &store, &stopped));
        Some(Self { over, thread })
    }

    /// What was seen.
    pub fn end(self) -> Vec<Sample> {
        self.over.store(true, Ordering::Release);
        self.thread.thread().unpark();
        self.thread.join().unwrap_or_default()
    }
}

fn look(pid: u32, store: &Path, over: &AtomicBool) -> Vec<Sample> {
    let (begin, written) = (Instant::now(), measure::device_bytes_written(store));
    let mut samples = Vec::new();
    loop {
        samples.push(Sample {
            at_s: begin.elapsed().as_secs_f64(),
            acked_per_s: 0.0,
            user_bytes: measure::anonymous_bytes(pid),
            store_bytes: measure::directory_bytes(store),
            disk_bytes: written.and_then(|before| Some(measure::device_bytes_written(store)? - before)),
        });
        let next = Duration::from_secs(samples.len() as u64);
        while begin.elapsed() < next {
            if over.load(Ordering::Acquire) {
                return samples;
            }
            thread::park_timeout(next.saturating_sub(begin.elapsed()));
        }
    }
}
