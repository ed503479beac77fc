//! The time of day, as an argument.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

/// Says what time it is. Tokens and expiries go by it; how long something waits goes by tokio's time.
#[derive(Clone)]
pub struct Wall(Arc<dyn Fn() -> u64 + Send + Sync>);

impl Wall {
    /// The machine's.
    pub fn system() -> Self {
        Self::new(|| SystemTime::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_secs()))
    }

    /// One that gives s since the Unix epoch.
    pub fn new(now_s: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now_s))
    }

    /// The time, in s since the Unix epoch.
    pub fn now_s(&self) -> u64 {
        (self.0)()
    }
}

impl fmt::Debug for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wall(..)")
    }
}
