//! Other programs that serve the same, beside ternd.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

/// How long one may take to listen.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// An address that nobody listens at, at this moment.
pub fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// Waits until a program that was started listens.
///
/// # Errors
/// It has ended, or takes too long.
pub fn until_it_listens(child: &mut Child, address: SocketAddr) -> Result<(), String> {
    let begin = Instant::now();
    while TcpStream::connect(address).is_err() {
        if let Ok(Some(status)) = child.try_wait() {
            return Err(format!("it has ended, {status}"));
        }
        if begin.elapsed() > START_TIMEOUT {
            return Err("it does not listen".to_owned());
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
