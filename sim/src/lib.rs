//! A world in one thread, under a seed: a node of several cores on a simulated medium, hundreds of devices, and a network between
//! them, with faults.
//!
//! The code is the product's: the brains of the cores, the wire's frames, the store's log, committer, recovery and hand-over, and the
//! clients' machines. Simulated are the clock, the network, the disk and the trees behind the store's tables. **Not in here:** TLS (a
//! connection is there when it is made), the rings and the life of a connection in the shell (server/src/core/life searches its
//! states by itself), threads.
//!
//! What holds is looked at all the time and at the end ([`record`]); a failing seed prints the command that replays it.

#![cfg_attr(not(test), warn(clippy::too_many_lines))]
#![forbid(unsafe_code)]

mod device;
mod network;
mod node;
pub mod record;
mod shrink;
pub mod trouble;
mod world;

pub use shrink::{finds, shrink};
pub use world::{Failure, Options, Outcome, run};
