//! ternd: threads, sockets, io_uring, clock, the mesh, the admin and metrics listeners. A thin shell around the brain
//! of `tern-shard`.

#![cfg_attr(not(test), warn(clippy::too_many_lines))]

pub mod admin;
mod announce;
pub mod audit;
mod backup;
pub mod balance;
pub mod certificate;
pub mod certificates;
pub mod codes;
pub mod config;
pub mod control;
pub mod core;
pub mod counts;
pub mod exposition;
pub mod facts;
pub mod files;
mod filter;
pub mod http;
pub mod https;
mod identity;
pub mod logging;
mod media;
pub mod mesh;
pub mod metrics;
pub mod minder;
pub mod operations;
pub mod process;
pub mod pushes;
pub mod restore;
pub mod run;
mod shown;
mod store;
pub mod threads;
pub mod tickets;
pub mod trouble;
mod webhook;

// Faults are put into the code of the store and the brain for their tests alone.
#[cfg(not(debug_assertions))]
const _: () = assert!(
    !tern_storage::mutations::COMPILED && !tern_shard::mutations::COMPILED,
    "a release of ternd is built without the feature mutations"
);
