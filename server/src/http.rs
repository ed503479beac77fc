//! The metrics and health listener: GET of four paths, one request a connection, on plain threads.
//!
//! A request has one deadline, however its bytes come, and is answered beside those that are slow. Of more than
//! `CONNECTIONS_MAX` at once the oldest is ended, so that those who only hold connections keep nobody from an answer.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::exposition::Format;
use crate::threads;

/// Bytes of a request's head. Beyond, the connection ends.
const HEAD_BYTES_MAX: usize = 4096;

/// Connections at once. Beyond, the oldest is ended.
const CONNECTIONS_MAX: usize = 32;

/// How long a client may take to ask and to take the answer, both together.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What the listener shows.
pub trait Health: Send + Sync + 'static {
    /// The numbers as text.
    fn metrics(&self, format: Format) -> String;

    /// Sampled messages on their way since the last call.
    fn traces(&self) -> String;

    /// Why the process should be replaced; `Ok` while it works.
    fn alive(&self) -> Result<(), String>;

    /// Why it should not be sent clients; `Ok` while it takes them.
    fn ready(&self) -> Result<(), String>;
}

/// Starts the listener. Gives its address.
pub fn start(address: SocketAddr, health: Arc<dyn Health>) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address)?;
    let address = listener.local_addr()?;
    let open = Arc::new(Open::default());
    threads::spawn("tern-metrics", move || {
        loop {
            match listener.accept() {
                Ok((connection, _)) => serve_aside(Arc::new(connection), open.clone(), health.clone()),
                // Without descriptors, say: it is tried again when some may be free.
                Err(_) => thread::sleep(Duration::from_millis(50)),
            }
        }
    })?;
    Ok(address)
}

/// The connections that are served now, the oldest first.
#[derive(Default)]
struct Open(Mutex<VecDeque<Arc<TcpStream>>>);

impl Open {
    fn add(&self, connection: &Arc<TcpStream>) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.push_back(connection.clone());
        if open.len() > CONNECTIONS_MAX
            && let Some(oldest) = open.pop_front()
        {
            // Its thread sees the end, and ends.
            let _ = oldest.shutdown(Shutdown::Both);
        }
    }

    fn remove(&self, connection: &Arc<TcpStream>) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|other| !Arc::ptr_eq(other, connection));
    }
}

fn serve_aside(connection: Arc<TcpStream>, open: Arc<Open>, health: Arc<dyn Health>) {
    open.add(&connection);
    let serving = (connection.clone(), open.clone());
    let started = threads::spawn_ending("tern-http", move || {
        // A client that goes away, or is too slow, has no answer.
        let _ = serve(&serving.0, &*health);
        serving.1.remove(&serving.0);
        true
    });
    if started.is_err() {
        open.remove(&connection);
    }
}

/// What is left of a request's time.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

fn serve(mut connection: &TcpStream, health: &dyn Health) -> io::Result<()> {
    let deadline = Instant::now() + TIMEOUT;
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && !head.windows(2).any(|end| end == b"\n\n") {
        connection.set_read_timeout(Some(left(deadline)?))?;
        let bytes = connection.read(&mut piece)?;
        head.extend_from_slice(&piece[..bytes]);
        if bytes == 0 || head.len() > HEAD_BYTES_MAX {
            return Ok(());
        }
    }
    let head = String::from_utf8_lossy(&head);
    let request = head.lines().next().unwrap_or_default();
    let accept = head.lines().skip(1).find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("accept").then_some(value)
    });
    let (status, kind, body) = answer(request, accept.unwrap_or_default(), health);
    let mut response = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    if !request.starts_with("HEAD ") {
        response.push_str(&body);
    }
    let mut rest = response.as_bytes();
    while !rest.is_empty() {
        connection.set_write_timeout(Some(left(deadline)?))?;
        let written = connection.write(rest)?;
        rest = &rest[written..];
    }
    Ok(())
}

fn answer(request: &str, accept: &str, health: &dyn Health) -> (&'static str, &'static str, String) {
    const TEXT: &str = "text/plain; charset=utf-8";
    const JSON: &str = "application/json";
    let state = |state: Result<(), String>| match state {
        Ok(()) => ("200 OK", JSON, "{\"ok\":true}\n".to_owned()),
        Err(why) => {
            ("503 Service Unavailable", JSON, format!("{}\n", serde_json::json!({ "ok": false, "why": why })))
        }
    };
    let mut words = request.split_whitespace();
    let (method, path, version) = (words.next(), words.next(), words.next());
    let path = path.map(|path| path.split('?').next().unwrap_or(path));
    match (method, path, version) {
        (Some("GET" | "HEAD"), Some("/metrics"), Some(_)) => {
            let format = Format::accepted(accept);
            ("200 OK", format.content_type(), health.metrics(format))
        }
        (Some("GET"), Some("/traces"), Some(_)) => ("200 OK", TEXT, health.traces()),
        (Some("GET" | "HEAD"), Some("/healthz"), Some(_)) => state(health.alive()),
        (Some("GET" | "HEAD"), Some("/readyz"), Some(_)) => state(health.ready()),
        (Some("GET" | "HEAD"), Some(_), Some(_)) => {
            ("404 Not Found", TEXT, "try /metrics, /healthz, /readyz, /traces\n".to_owned())
        }
        (Some(_), Some(_), Some(_)) => ("405 Method Not Allowed", TEXT, "only GET\n".to_owned()),
        _ => ("400 Bad Request", TEXT, "that is no HTTP request\n".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sick;

    impl Health for Sick {
        fn metrics(&self, format: Format) -> String {
            format!("m {format:?}\n")
        }

        fn traces(&self) -> String {
            String::new()
        }

        fn alive(&self) -> Result<(), String> {
            Ok(())
        }

        fn ready(&self) -> Result<(), String> {
            Err("draining".to_owned())
        }
    }

    #[test]
    fn each_request_gets_its_answer() {
        let address = start("127.0.0.1:0".parse().expect("an address"), Arc::new(Sick)).expect("listens");
        let cases = [
            ("GET /metrics HTTP/1.1\r\n\r\n", "200", "text/plain; version=0.0.4; charset=utf-8"),
            ("GET /metrics HTTP/1.1\r\n\r\n", "200", "m Classic"),
            ("GET /metrics HTTP/1.1\r\naccept: application/openmetrics-text\r\n\r\n", "200", "m OpenMetrics"),
            ("GET /healthz HTTP/1.1\r\n\r\n", "200", "true"),
            ("GET /healthz?verbose=1 HTTP/1.1\r\n\r\n", "200", "true"),
            ("HEAD /healthz HTTP/1.1\r\n\r\n", "200", "content-length: 12\r\nconnection: close\r\n\r\n"),
            ("GET /readyz HTTP/1.1\r\n\r\n", "503", "draining"),
            ("GET /other HTTP/1.1\r\n\r\n", "404", "/metrics"),
            ("POST /metrics HTTP/1.1\r\n\r\n", "405", "GET"),
            ("nonsense\r\n\r\n", "400", "no HTTP"),
        ];
        for (request, status, body) in cases {
            let mut connection = TcpStream::connect(address).expect("connects");
            connection.write_all(request.as_bytes()).expect("sent");
            let mut answer = String::new();
            connection.read_to_string(&mut answer).expect("answered");
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(body),
                "{request}: {answer}"
            );
        }
    }
}
