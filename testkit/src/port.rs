//! A port of this machine that stays a test's own while nobody listens at it.

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, ipproto, socket_with, sockopt};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

/// A port that the kernel gives to no one else: to none that asks for any port, and to no connection as its own.
///
/// Its socket is bound with `SO_REUSEADDR`, and does not listen. So whoever sets that option can listen at the port, as
/// servers do, and a connection to it is refused as long as nobody does.
#[derive(Debug)]
pub struct HeldPort {
    socket: OwnedFd,
}

impl HeldPort {
    /// One of the loopback's.
    pub fn new() -> Self {
        // No program that a test starts holds it on.
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, Some(ipproto::TCP));
        let socket = socket.expect("a socket");
        sockopt::set_socket_reuseaddr(&socket, true).expect("an option of every socket");
        bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a port is free");
        Self { socket }
    }

    /// Where one listens at it.
    pub fn address(&self) -> SocketAddr {
        let address = getsockname(&self.socket).expect("it is bound");
        address.try_into().expect("it is of the internet")
    }
}

impl Default for HeldPort {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::HeldPort;
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};

    /// Servers that were to start again did not: between two of their lives, a connection of another test had their port.
    #[test]
    fn a_port_is_held_between_two_servers_and_nobody_answers_there_meanwhile() {
        let port = HeldPort::new();
        for _ in 0..2 {
            let refused = TcpStream::connect(port.address()).expect_err("nobody listens");
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            let server = TcpListener::bind(port.address()).expect("it is held for this");
            let client = TcpStream::connect(server.local_addr().expect("it is bound")).expect("it listens");
            drop(server.accept().expect("somebody comes"));
            drop((server, client));
        }
        // Without the option, which all who listen here set, it is taken.
        let other = rustix::net::socket(
            rustix::net::AddressFamily::INET,
            rustix::net::SocketType::STREAM,
            Some(rustix::net::ipproto::TCP),
        )
        .expect("a socket");
        assert!(rustix::net::bind(&other, &port.address()).is_err());
    }
}
