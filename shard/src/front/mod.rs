//! The front: connections, their opening and their windows, sessions, what is pushed to them, and the lists that they ask for.

pub mod connection;
mod listing;
pub mod session;
mod waits;

pub(crate) use connection::Conns;
pub(crate) use listing::Listings;
pub(crate) use waits::ScanFor;
