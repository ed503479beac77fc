//! What a silent connection takes of the heap, counted byte by byte: the server runs in this process, under an allocator
//! that counts, and its clients in another one. (What the kernel and the allocator add is measured by `tern-bench idle`.)

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use peak_alloc::PeakAlloc;
use serde_json::{Value, json};
use tern_server::config::{Config, Flags};
use tern_testkit::{HeldPort, program};

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// The most that one may take, in bytes: 5 % above what was counted when this was last changed. Whoever makes it smaller,
/// lowers it.
const BYTES_MAX: usize = 529;

/// Connections before and after: between two doublings of the tables.
const FEW: usize = 1100;
const MANY: usize = 1700;

const DEADLINE: Duration = Duration::from_secs(120);

/// Starts the server in this process. It runs until the process ends.
fn start(data_dir: &Path) -> (SocketAddr, SocketAddr) {
    let ports = [HeldPort::new(), HeldPort::new()];
    let [listen, metrics] = ports.each_ref().map(HeldPort::address);
    let mut config = Config { listen, data_dir: data_dir.to_owned(), cores: 1, ..Config::default() };
    config.metrics.listen = metrics;
    // Users that are not connected are forgotten: what they take counts with their connections.
    config.limits.users_cached_max = 16;
    config.limits.idle_timeout_ms = 3_600_000;
    config.limits.strangers_per_network_max = 0;
    config.limits.address_requests_per_minute_max = 0;
    // When somebody was here last is written only behind that, and would be in the store's memory. Who may come back until then stands in
    // a list, which is as large for the few as for the many: between two doublings as well.
    config.limits.presence_grace_ms = 600_000;
    thread::spawn(move || {
        tern_server::run::run(&config, &Flags::default()).expect("it runs");
        drop(ports);
    });
    until("the server listens", || TcpStream::connect(metrics).is_ok());
    (listen, metrics)
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < DEADLINE, "{what}: not yet");
        thread::sleep(Duration::from_millis(50));
    }
}

fn provision(data_dir: &Path, users: &Path) {
    let mut socket = UnixStream::connect(data_dir.join("ternd.sock")).expect("the admin socket");
    let question = json!({ "ask": "provision", "count": MANY, "first": "+15553000000", "name": "test" });
    writeln!(socket, "{question}").expect("asked");
    let mut file = fs::File::create(users).expect("a file");
    for line in BufReader::new(socket).lines().map_while(Result::ok) {
        let line: Value = serde_json::from_str(&line).expect("JSON");
        if line["ok"]["done"].is_null() {
            writeln!(file, "{}", line["ok"]).expect("written");
        }
    }
}

fn metric(address: SocketAddr, name: &str) -> usize {
    let mut socket = TcpStream::connect(address).expect("connected");
    write!(socket, "GET /metrics HTTP/1.1\r\n\r\n").expect("asked");
    let mut text = String::new();
    socket.read_to_string(&mut text).expect("answered");
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()).unwrap_or(0.0) as usize
}

struct Clients(Child);

impl Drop for Clients {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Connects so many, and gives the bytes that are allocated when they are silent.
fn with_connections(count: usize, (server, metrics): (SocketAddr, SocketAddr), dir: &Path) -> usize {
    let child = Command::new(program("tern-bench"))
        .args(["idle", "--quiet", "--settle", "600", "--server", &server.to_string(), "--connections"])
        .arg(count.to_string())
        .arg("--ca")
        .arg(dir.join("data/cert.pem"))
        .arg("--user-file")
        .arg(dir.join("users"))
        .arg("--all-at-once")
        .stdout(Stdio::null())
        .spawn();
    let _clients = Clients(child.expect("tern-bench runs"));
    until("all are connected", || metric(metrics, "tern_connections{") == count);
    // Within two seconds they let go of what can be made again; then nothing changes any more.
    let (mut last, mut same) = (0, 0);
    until("they are silent", || {
        // Asking takes some memory itself, and gives it back.
        let now = ALLOCATED.current_usage() / 4096;
        same = if now == last { same + 1 } else { 0 };
        last = now;
        same > 60
    });
    ALLOCATED.current_usage()
}

#[test]
#[allow(clippy::print_stdout, reason = "how near it is, for who asks with --nocapture")]
fn a_silent_connection_takes_no_more_memory_than_it_did() {
    program("ternd");
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = start(&dir.path().join("data"));
    provision(&dir.path().join("data"), &dir.path().join("users"));
    // What only grows has grown once: how large a batch or a queue has been is a matter of the machine's pace, not of connections.
    with_connections(MANY, addresses, dir.path());
    until("all have gone", || metric(addresses.1, "tern_connections{") == 0);
    with_connections(FEW, addresses, dir.path());
    until("all have gone", || metric(addresses.1, "tern_connections{") == 0);
    let few = with_connections(FEW, addresses, dir.path());
    until("all have gone", || metric(addresses.1, "tern_connections{") == 0);
    let many = with_connections(MANY, addresses, dir.path());
    let bytes = (many - few) / (MANY - FEW);
    println!("{bytes} bytes a connection");
    assert!(bytes <= BYTES_MAX, "{bytes} bytes a connection, at most {BYTES_MAX} are allowed");
    assert!(bytes * 100 > BYTES_MAX * 85, "{bytes} bytes a connection: lower the limit of {BYTES_MAX}");
}
