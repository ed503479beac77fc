//! The few system calls beside io_uring: the listener, limits, pages, pinning, the eventfd that wakes a ring.

use std::fs::File;
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

/// Connections that wait to be accepted. The kernel cuts it to net.core.somaxconn.
const BACKLOG: i32 = 4096;

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Opens the listening socket that all rings accept from. Its TCP_NODELAY is inherited by what it accepts.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    let on: libc::c_int = 1;
    let fd = listener.as_raw_fd();
    // SAFETY: `fd` is open as long as `listener` lives, and the option's value is a c_int that outlives the call.
    check(unsafe {
        let value = (&raw const on).cast();
        libc::setsockopt(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, value, size_of_val(&on) as libc::socklen_t)
    })?;
    // std listens with a short backlog; to listen again only changes that.
    // SAFETY: `fd` is a bound socket, open as long as `listener` lives.
    check(unsafe { libc::listen(fd, BACKLOG) })?;
    Ok(listener)
}

/// Ends listening: what waits to be accepted is refused, and so is whatever comes; the port is free when this returns, though rings
/// still accept from the listener: a ring's operations end some milliseconds after its process.
pub fn stop_listening(listener: &TcpListener) -> io::Result<()> {
    // SAFETY: the descriptor is open as long as `listener` lives.
    check(unsafe { libc::shutdown(listener.as_raw_fd(), libc::SHUT_RDWR) })?;
    Ok(())
}

/// Raises the process's limit of open files to what it may be. Gives the limit.
pub fn raise_open_files() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit that outlives both calls.
    unsafe {
        check(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit))?;
        limit.rlim_cur = limit.rlim_max;
        check(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit))?;
    }
    Ok(limit.rlim_cur)
}

/// Has the kernel back this process's memory with small pages alone: of huge ones a heap of many small objects leaves a third
/// unused.
pub fn use_small_pages() -> io::Result<()> {
    let unused: libc::c_ulong = 0;
    let on: libc::c_ulong = 1;
    // SAFETY: the call takes numbers, and no memory.
    check(unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, on, unused, unused, unused) })?;
    Ok(())
}

/// Binds this thread to a CPU, counted over those that the process may use.
pub fn pin_to_cpu(number: usize) -> io::Result<()> {
    // SAFETY: a cpu_set_t is plain data for which all zeros is the empty set; the calls get its address and size, and
    // CPU_ISSET and CPU_SET are given numbers below CPU_SETSIZE.
    unsafe {
        let mut allowed: libc::cpu_set_t = std::mem::zeroed();
        check(libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut allowed))?;
        let cpus: Vec<_> =
            (0..libc::CPU_SETSIZE as usize).filter(|cpu| libc::CPU_ISSET(*cpu, &allowed)).collect();
        let mut one: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpus[number % cpus.len()], &mut one);
        check(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const one))?;
    }
    Ok(())
}

/// A TCP socket that will connect from `source`, or from where the kernel likes. Its port is chosen when it connects, so
/// that sockets with different destinations can share one.
pub fn socket_from(source: Option<SocketAddr>, server: SocketAddr) -> io::Result<OwnedFd> {
    let family = if server.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: the call takes no memory; what it gives is a new descriptor, owned by nobody else.
    let socket = unsafe {
        OwnedFd::from_raw_fd(check(libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0))?)
    };
    let on: libc::c_int = 1;
    let set = |level, option| {
        let (value, size) = ((&raw const on).cast(), size_of_val(&on) as libc::socklen_t);
        // SAFETY: the socket is open, and the option's value is a c_int that outlives the call.
        check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value, size) })
    };
    set(libc::IPPROTO_TCP, libc::TCP_NODELAY)?;
    if let Some(source) = source {
        set(libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT)?;
        let address = SocketAddress::new(source);
        // SAFETY: the socket is open, and the call gets the address and its size.
        check(unsafe { libc::bind(socket.as_raw_fd(), address.as_ptr(), address.length()) })?;
    }
    Ok(socket)
}

/// An address as the kernel takes it.
pub(super) enum SocketAddress {
    V4(libc::sockaddr_in),
    V6(libc::sockaddr_in6),
}

impl SocketAddress {
    pub(super) fn new(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(address) => Self::V4(libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from(*address.ip()).to_be() },
                sin_zero: [0; 8],
            }),
            SocketAddr::V6(address) => Self::V6(libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: address.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                sin6_scope_id: address.scope_id(),
            }),
        }
    }

    pub(super) fn as_ptr(&self) -> *const libc::sockaddr {
        match self {
            Self::V4(address) => (&raw const *address).cast(),
            Self::V6(address) => (&raw const *address).cast(),
        }
    }

    pub(super) fn length(&self) -> libc::socklen_t {
        match self {
            Self::V4(address) => size_of_val(address) as libc::socklen_t,
            Self::V6(address) => size_of_val(address) as libc::socklen_t,
        }
    }
}

/// Room for an address that the kernel tells.
#[derive(Default)]
#[repr(C, align(8))]
pub(super) struct SocketAddressBytes([u8; size_of::<libc::sockaddr_in6>()]);

impl SocketAddressBytes {
    pub(super) fn as_mut_ptr(&mut self) -> *mut libc::c_void {
        (&raw mut self.0).cast()
    }

    /// Bytes of an address of a family.
    pub(super) fn length(is_ipv6: bool) -> u32 {
        if is_ipv6 { size_of::<libc::sockaddr_in6>() as u32 } else { size_of::<libc::sockaddr_in>() as u32 }
    }

    /// The address, IPv4 mapped into IPv6.
    pub(super) fn ip(&self) -> io::Result<[u8; 16]> {
        let Self(bytes) = self;
        let family = i32::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
        match family {
            libc::AF_INET => {
                let address = std::net::Ipv4Addr::new(bytes[4], bytes[5], bytes[6], bytes[7]);
                Ok(address.to_ipv6_mapped().octets())
            }
            libc::AF_INET6 => Ok(bytes[8..24].try_into().expect("16 bytes")),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

/// Wakes a ring from any thread.
#[derive(Clone, Debug)]
pub struct Waker(Arc<File>);

impl Waker {
    /// Wakes the ring.
    pub fn wake(&self) {
        // Only a counter that is full could refuse, and then the ring is awake already.
        let _ = (&*self.0).write(&1u64.to_ne_bytes());
    }

    pub(super) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A waker, to be given to the ring that it wakes.
pub fn eventfd_waker() -> io::Result<Waker> {
    // Blocking, for io_uring would not wait on one that is not.
    // SAFETY: the call takes no memory; what it gives is a new descriptor, owned by nobody else.
    let file = unsafe { File::from_raw_fd(check(libc::eventfd(0, libc::EFD_CLOEXEC))?) };
    Ok(Waker(Arc::new(file)))
}
