//! The FoundationDB engine: a batch is durable when the transaction that holds it has committed.
//!
//! Invariants: a lane has one transaction under way, so batches take effect in the order of their submission; each transaction writes
//! its lane's record, which tells whether it is there when FoundationDB can't, and with which a late twin of it conflicts; each rests on
//! a version at which every epoch of its fences was verified, and conflicts with their rows; a lane goes on only when it is settled what
//! became of the transaction before; whoever starts takes the store over, and what processes before it have under way lands no more.
//!
//! The parts (lanes, tickets, driver) know no thread and no clock. [`Fdb`] drives them with a thread, over FoundationDB's client
//! library, which is behind [`Client`](client::Client); [`SteppedFdb`] over [`SimFdb`](simulated::SimFdb), in a simulation.
//! docs/STORAGE.md ("FoundationDB") has the rows; docs/decisions/0049 says why it is so.

pub mod client;
pub mod codes;
mod driver;
mod engine;
mod health;
mod lane;
mod options;
mod port;
mod ports;
mod raising;
pub mod simulated;
mod statistics;
mod stepped;
mod takeover;
mod tickets;

pub use self::engine::Fdb;
pub use self::options::FdbOptions;
pub use self::stepped::SteppedFdb;
