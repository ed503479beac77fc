//! ternd: threads, sockets, io_uring, clock, the mesh, the admin and metrics listeners. A thin shell around the brain
//! of `tern-shard`.

pub mod control;
