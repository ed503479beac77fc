//! The metrics and health listener: GET of four paths, one request a connection, on a plain thread.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Bytes of a request's head.
const HEAD_BYTES_MAX: u64 = 4096;

/// How long a client may take to ask, and to take the answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What the listener shows.
pub trait Health: Send + Sync + 'static {
    /// Prometheus' text format.
    fn metrics(&self) -> String;

    /// Sampled messages on their way since the last call.
    fn traces(&self) -> String;

    /// Why the process should be replaced; `Ok` while it works.
    fn alive(&self) -> Result<(), String>;

    /// Why it should not be sent clients; `Ok` while it takes them.
    fn ready(&self) -> Result<(), String>;
}

/// Starts the listener. Gives its address.
pub fn start(address: SocketAddr, health: Arc<dyn Health>) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address)?;
    let address = listener.local_addr()?;
    thread::Builder::new().name("tern-metrics".to_owned()).spawn(move || {
        // One at a time: whoever asks is an operator on this machine, and has two seconds.
        for connection in listener.incoming().flatten() {
            let _ = serve(&connection, &*health);
        }
    })?;
    Ok(address)
}

fn serve(mut connection: &TcpStream, health: &dyn Health) -> std::io::Result<()> {
    connection.set_read_timeout(Some(TIMEOUT))?;
    connection.set_write_timeout(Some(TIMEOUT))?;
    let mut reader = BufReader::new(connection.take(HEAD_BYTES_MAX));
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let (status, kind, body) = answer(&request, health);
    write!(
        connection,
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn answer(request: &str, health: &dyn Health) -> (&'static str, &'static str, String) {
    const TEXT: &str = "text/plain; charset=utf-8";
    const JSON: &str = "application/json";
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let state = |state: Result<(), String>| match state {
        Ok(()) => ("200 OK", JSON, "{\"ok\":true}\n".to_owned()),
        Err(why) => {
            ("503 Service Unavailable", JSON, format!("{}\n", serde_json::json!({ "ok": false, "why": why })))
        }
    };
    let mut words = request.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some("GET"), Some("/metrics"), Some(_)) => ("200 OK", OPEN_METRICS, health.metrics()),
        (Some("GET"), Some("/traces"), Some(_)) => ("200 OK", TEXT, health.traces()),
        (Some("GET"), Some("/healthz"), Some(_)) => state(health.alive()),
        (Some("GET"), Some("/readyz"), Some(_)) => state(health.ready()),
        (Some("GET"), Some(_), Some(_)) => {
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
        fn metrics(&self) -> String {
            "m 1\n".to_owned()
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
            ("GET /metrics HTTP/1.1\r\n\r\n", "200", "m 1"),
            ("GET /healthz HTTP/1.1\r\n\r\n", "200", "true"),
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
