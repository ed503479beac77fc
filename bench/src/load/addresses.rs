//! Many loopback addresses for many connections.
//!
//! The kernel looks for a free port among those that a pair of addresses has left, and takes its time when more than
//! half are in use; so connections are spread over many source addresses (all of 127.0.0.0/8 is this machine).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Connections of one source address: well under half of the ephemeral ports.
const CONNECTIONS_OF_ONE: u32 = 10_000;

/// Where connections come from and go to.
#[derive(Clone, Debug)]
pub struct Addresses {
    server: SocketAddr,
    given: u32,
    first: u32,
}

impl Addresses {
    /// For connections to a server, with source addresses from the `block`th thousand on.
    pub fn new(server: SocketAddr, block: u32) -> Self {
        Self { server, given: 0, first: u32::from(Ipv4Addr::new(127, 1, 0, 1)) + block * 1000 }
    }

    /// The next connection's source, if the server is on loopback, and its destination.
    pub fn next(&mut self) -> (Option<SocketAddr>, SocketAddr) {
        let source = Ipv4Addr::from(self.first + self.given / CONNECTIONS_OF_ONE);
        self.given += 1;
        let loopback = self.server.is_ipv4() && self.server.ip().is_loopback();
        (loopback.then_some(SocketAddr::new(IpAddr::V4(source), 0)), self.server)
    }
}
