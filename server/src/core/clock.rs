//! The brain's time: the machine's monotonic clock, set by its wall clock, whose steps it follows as [`Course`] says.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tern_shard::course::Course;

/// How often [`Clock::follow`] should be called.
pub const FOLLOW: Duration = Duration::from_secs(1);

/// One node's clock.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    started: Instant,
    /// One is read, and the other one written before it is read in its place: a second later at the earliest.
    courses: [Shared; 2],
    current: AtomicUsize,
}

/// A [`Course`] that all cores read.
#[derive(Debug, Default)]
struct Shared {
    offset_ms: AtomicI64,
    slow_from_ms: AtomicU64,
    slow_ms: AtomicI64,
}

impl Shared {
    fn load(&self) -> Course {
        Course {
            offset_ms: self.offset_ms.load(Ordering::Acquire),
            slow_from_ms: self.slow_from_ms.load(Ordering::Acquire),
            slow_ms: self.slow_ms.load(Ordering::Acquire),
        }
    }

    fn store(&self, course: Course) {
        self.offset_ms.store(course.offset_ms, Ordering::Release);
        self.slow_from_ms.store(course.slow_from_ms, Ordering::Release);
        self.slow_ms.store(course.slow_ms, Ordering::Release);
    }
}

fn wall_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64
}

impl Clock {
    /// A clock that starts at the wall clock's time.
    pub fn start() -> Self {
        let inner =
            Inner { started: Instant::now(), courses: Default::default(), current: AtomicUsize::new(0) };
        inner.go(Course::of_wall(0, wall_ms()));
        Self(Arc::new(inner))
    }

    /// Ms since the Unix epoch.
    pub fn now_ms(&self) -> u64 {
        self.0.course().at(self.0.elapsed_ms())
    }

    /// Looks at the wall clock, and follows it. Gives by how many ms it has stepped, if it has. For one thread alone.
    pub fn follow(&self) -> Option<i64> {
        let (next, step) = self.0.course().follow(self.0.elapsed_ms(), wall_ms())?;
        self.0.go(next);
        Some(step)
    }
}

impl Inner {
    fn elapsed_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    fn course(&self) -> Course {
        self.courses[self.current.load(Ordering::Acquire) % 2].load()
    }

    fn go(&self, course: Course) {
        let next = self.current.load(Ordering::Acquire) + 1;
        self.courses[next % 2].store(course);
        self.current.store(next, Ordering::Release);
    }
}
