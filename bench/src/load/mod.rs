//! Simulated devices: many connections on few threads, each thread with rings of its own. Connections are direct
//! descriptors, so the process's limit of open files counts for each ring and not for all together.

mod addresses;
mod fleet;
mod link;
mod live;
mod pool;
mod schedule;
mod secured;
mod traffic;

pub use addresses::Addresses;
pub use fleet::{Fleet, WAIT};
pub use link::{Link, Said, Speaker};
pub use live::{CLEAR, Live};
pub use pool::{Happened, LinkId, Pool, PoolOptions};
pub use schedule::{Arrivals, Schedule, exponential};
pub use secured::Secured;
pub use traffic::{Habits, STAMP_BYTES, Sampled, Tally, Traffic};
