//! ternd: threads, sockets, io_uring, clock, the mesh, the admin and metrics listeners. A thin shell around the brain
//! of `tern-shard`.

pub mod admin;
pub mod certificate;
pub mod certificates;
pub mod codes;
pub mod config;
pub mod control;
pub mod core;
pub mod exposition;
pub mod facts;
pub mod files;
pub mod http;
mod identity;
pub mod logging;
pub mod mesh;
pub mod metrics;
pub mod minder;
pub mod operations;
pub mod process;
pub mod run;
pub mod threads;
pub mod trouble;
