//! Which addresses may be reached. Where a user says to which host the server is to talk, that host must not be the server's neighbour: it
//! would answer the server what it would not answer the user (server-side request forgery).
//!
//! A name is looked at as it is resolved for the connection itself, so that it can't be another address a moment later.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::Uri;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use tower_service::Service;

/// Where requests may go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Reach {
    /// To hosts all of whose addresses are public.
    #[default]
    Public,
    /// Anywhere: where the operator has chosen the host, and for tests.
    Anywhere,
}

/// The host is, or has, an address that is not public.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct NotReachable;

impl fmt::Display for NotReachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the host has an address that is not public")
    }
}

impl std::error::Error for NotReachable {}

/// Whether a request may go to a URL, as far as it says it itself.
pub(super) fn may_reach(reach: Reach, uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    reach == Reach::Anywhere || address.map_or(true, is_public)
}

/// Resolves names to addresses that may be reached.
#[derive(Clone)]
pub(super) struct Resolver {
    system: GaiResolver,
    reach: Reach,
}

impl Resolver {
    pub fn new(reach: Reach) -> Self {
        Self { system: GaiResolver::new(), reach }
    }
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (resolving, reach) = (self.system.call(name), self.reach);
        Box::pin(async move { reachable(reach, resolving.await?.collect()).map(Vec::into_iter) })
    }
}

/// A host's addresses, if all of them may be reached: of one that is some of each, nobody means well.
fn reachable(reach: Reach, addresses: Vec<SocketAddr>) -> io::Result<Vec<SocketAddr>> {
    let may = reach == Reach::Anywhere || addresses.iter().all(|address| is_public(address.ip()));
    if may { Ok(addresses) } else { Err(io::Error::new(io::ErrorKind::PermissionDenied, NotReachable)) }
}

/// Whether an address is somebody's on the Internet (IANA's registries of special-purpose addresses).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        || (a, b & 0xc0) == (100, 64) // shared address space: of a provider's customers (RFC 6598)
        || (a, b, c) == (192, 0, 0) // of protocols (RFC 6890)
        || (a, b, c) == (192, 88, 99) // relays of 6to4, which are gone (RFC 7526)
        || (a, b & 0xfe) == (198, 18) // benchmarks (RFC 2544)
        || a >= 240; // reserved, and broadcast
    !is_special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        [0, 0, 0, 0, 0, 0xffff, high, low] => embedded(high, low),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low), // NAT64 (RFC 6052)
        [0x2002, high, low, ..] => embedded(high, low),               // 6to4
        [0x2001, 0..=0x1ff, ..] => false, // of protocols, Teredo among them (RFC 2928)
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false, // documentation
        [first, ..] => first & 0xe000 == 0x2000, // the only addresses that are given out (RFC 4291, section 2.4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(addresses: &[&str], expect: bool) {
        for address in addresses {
            let parsed: IpAddr = address.parse().expect("an address");
            assert_eq!(is_public(parsed), expect, "{address}");
            let host = if parsed.is_ipv6() { format!("[{address}]") } else { (*address).to_owned() };
            let uri: Uri = format!("https://{host}:8443/x").parse().expect("a URL");
            assert_eq!(may_reach(Reach::Public, &uri), expect, "{uri}");
            assert!(may_reach(Reach::Anywhere, &uri));
        }
    }

    #[test]
    fn addresses_of_neighbours_are_not_public() {
        check(
            &[
                "127.0.0.1",
                "127.8.8.8",
                "0.0.0.0",
                "0.1.2.3",
                "10.1.2.3",
                "172.16.0.1",
                "172.31.255.255",
                "192.168.1.1",
                "169.254.169.254",
                "100.64.0.1",
                "100.127.255.255",
                "192.0.0.8",
                "192.0.2.1",
                "198.18.0.1",
                "198.19.255.255",
                "198.51.100.1",
                "203.0.113.1",
                "224.0.0.1",
                "240.0.0.1",
                "255.255.255.255",
                "192.88.99.1",
            ],
            false,
        );
        check(
            &[
                "::",
                "::1",
                "fc00::1",
                "fd12:3456::1",
                "fe80::1",
                "fec0::1",
                "ff02::1",
                "::ffff:127.0.0.1",
                "::ffff:10.0.0.1",
                "::127.0.0.1",
                "64:ff9b::7f00:1",
                "64:ff9b:1::1",
                "2002:7f00:1::",
                "2001::1",
                "2001:db8::1",
                "100::1",
                "3fff::1",
            ],
            false,
        );
        check(
            &[
                "8.8.8.8",
                "17.188.143.34",
                "172.32.0.1",
                "100.128.0.1",
                "2606:4700::1111",
                "::ffff:8.8.8.8",
                "64:ff9b::808:808",
                "2a00:1450:4001::1",
            ],
            true,
        );
    }

    #[test]
    fn a_name_that_has_one_address_inside_is_not_reached_at_all() {
        let addresses: Vec<SocketAddr> =
            ["8.8.8.8:443", "10.0.0.1:443"].iter().map(|address| address.parse().expect("one")).collect();
        let refused = reachable(Reach::Public, addresses.clone()).expect_err("one of them is inside");
        assert_eq!(super::super::lost(&refused), super::super::Lost::NotReachable);
        assert_eq!(reachable(Reach::Public, addresses[..1].to_vec()).expect("it is outside").len(), 1);
        assert_eq!(reachable(Reach::Anywhere, addresses).expect("all may").len(), 2);
    }
}
