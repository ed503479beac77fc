//! A world in one thread, under a seed: a node of several cores on a simulated medium, hundreds of devices, and a network between
//! them, with faults.
//!
//! The code is the product's: the brains of the cores, the wire's frames, the store's log, committer, recovery and hand-over, the rule
//! by which a node follows its wall clock, and the clients' machines. Simulated are the clocks themselves, the network, the disk and
//! the trees behind the store's tables. **Not in here:** TLS (a connection is there when it is made), the rings and the life of a
//! connection in the shell (server/src/core/life searches its states by itself), threads.
//!
//! # What is done
//! Everything that docs/FEATURES.md says people can, as far as the client's machine offers it: each kind is counted ([`work`]). People
//! register by phone and code, which may be lost, and by a PIN; have several devices, end them, log out; tokens end and are exchanged. Beside them
//! there are operators, and strangers who keep to no protocol. Drafts and what else a terminal keeps are not the machine's.
//!
//! # What is checked
//! All the time, as a core says it (`node/gate.rs`):
//! - an answer is to a request that was made and not answered;
//! - an entry, a head or a watermark is told only when the batch that says it has completed, or a start has read it;
//! - the entries of a chat are pushed to a connection in order, each once, and watermarks never fall;
//! - what a core queues to a connection, and its commits under way, are within their bounds.
//!
//! All the time, as a device is told it (`record.rs`, `device.rs`): what stands at a place is what was said there, the same to all; a
//! retry has its place; nothing is gone, no chat put back; no session ends but one whose end was asked for; nobody is let in without a
//! PIN that was acknowledged (`pins.rs`).
//!
//! As a core writes it, in the worlds whose servers keep messages for some time alone (`kept.rs`): what is cut off is old, and each
//! member has it on some device. The books hold it from there on as it was written last.
//!
//! At each start of a process, and at the end, in the store itself (`books.rs`, [`Sums`]):
//! - entries are dense, under their seqs, each of them said, once, by its author in this chat, under its author's number; the sums that
//!   they carry add up; times do not fall, but where a clock was set right;
//! - what was acknowledged stands at its place;
//! - for each living device of each member, each entry is either delivered (at or before the device's position, or its own) or
//!   pending, and then the store marks it in the device's inbox; nobody is beyond the head, and nothing read that is not delivered;
//! - nothing of what an earlier reading said has become less.
//!
//! At the end, within a bounded time after the faults have stopped (`world/audit.rs`):
//! - every device has a session and has caught up; all that a device has kept to be sent, and was not refused, stands in the store;
//! - each device has each entry, and has said so: nothing is pending for it; it knows the watermarks that it waits for;
//! - the lists of chats say what the store says, unread messages included;
//! - a device whose end was acknowledged has ended;
//! - nobody waits for an answer, nothing is under way in the brains, and what is in memory is within its bounds.
//!
//! A failing seed prints the command that replays it, and one of a shorter world that fails too.

#![cfg_attr(not(test), warn(clippy::too_many_lines))]
#![forbid(unsafe_code)]

mod books;
mod census;
mod clocks;
mod device;
mod kept;
mod media;
mod model;
mod node;
mod pins;
mod pushes;
mod record;
mod registrar;
mod reports;
mod shape;
mod shrink;
mod store;
mod stranger;
mod suspensions;
mod talk;
pub mod trouble;
pub mod work;
mod world;

pub use books::Sums;
pub use shrink::{finds, shrink};
pub use world::{Failure, Options, Outcome, run};
