//! Where a connection comes from, as far as limits look at it.

use std::net::Ipv6Addr;

/// A network: an IPv4 address, mapped into IPv6, or the first half of an IPv6 one, for whoever has one address with it has them all.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Network([u8; 16]);

impl Network {
    /// Stands for one that is not known, or says nothing.
    pub const UNKNOWN: Self = Self([0; 16]);

    /// The network of an address.
    pub fn of(mut address: [u8; 16]) -> Self {
        if Ipv6Addr::from(address).to_ipv4_mapped().is_none() {
            address[8..].fill(0);
        }
        Self(address)
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8; 16] {
        &self.0
    }
}
