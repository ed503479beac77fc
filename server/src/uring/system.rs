//! The few system calls beside io_uring: the listener, limits, pinning, the eventfd that wakes a ring.

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

/// The remote address of a socket, IPv4 mapped into IPv6.
pub(super) fn peer_address(socket: &OwnedFd) -> io::Result<[u8; 16]> {
    // SAFETY: a sockaddr_storage is plain data, large enough for any address; the calls get its address and size.
    let storage = unsafe {
        let mut storage: libc::sockaddr_storage = std::mem::zeroed();
        let mut length = size_of_val(&storage) as libc::socklen_t;
        check(libc::getpeername(socket.as_raw_fd(), (&raw mut storage).cast(), &raw mut length))?;
        storage
    };
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that a sockaddr_in was written, which is smaller than the storage.
            let address = unsafe { *(&raw const storage).cast::<libc::sockaddr_in>() };
            let address = std::net::Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr));
            Ok(address.to_ipv6_mapped().octets())
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that a sockaddr_in6 was written, which is smaller than the storage.
            let address = unsafe { *(&raw const storage).cast::<libc::sockaddr_in6>() };
            Ok(address.sin6_addr.s6_addr)
        }
        _ => Err(io::ErrorKind::Unsupported.into()),
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
