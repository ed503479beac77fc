//! Starts the real `ternd` for end-to-end tests: on loopback, in a temporary directory, ended with the test.
//!
//! The program is taken from the build directory of the running test, where `cargo test --workspace` puts it; it is
//! built if it is not there.

#![cfg_attr(not(test), warn(clippy::too_many_lines))]
#![allow(clippy::missing_panics_doc, reason = "a test that can't go on fails")]

mod foundationdb;
pub mod person;
mod port;
mod raw;
pub mod s3;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use serde_json::{Value, json};
use tempfile::TempDir;

pub use foundationdb::FoundationDb;
pub use port::HeldPort;
pub use raw::{Raw, Tls, hash_of};

/// How long `ternd` may take to be ready on a loaded machine.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// What a server is started with.
#[derive(Clone, Debug, Default)]
pub struct TerndOptions {
    /// Cores; 0 for 2.
    pub cores: u16,
    /// More arguments.
    pub arguments: Vec<String>,
    /// Environment variables.
    pub environment: Vec<(String, String)>,
    /// The program, if it is not to be found as [`program`] says.
    pub program: Option<PathBuf>,
    /// It is in a process group of its own: the terminal's Ctrl-C is for whoever started it, who ends it, with [`end_all`] at the
    /// latest.
    pub own_group: bool,
}

/// A verified user with one device.
#[derive(Clone, Debug)]
pub struct TestUser {
    /// The user.
    pub id: u64,
    /// E.164.
    pub phone: String,
    /// The device's access token.
    pub token: String,
}

/// A running server.
#[derive(Debug)]
pub struct Ternd {
    child: Child,
    address: SocketAddr,
    /// Its port, which nobody else gets between two of its lives.
    port: Arc<HeldPort>,
    data: Arc<TempDir>,
    options: TerndOptions,
    stderr: Arc<Mutex<String>>,
}

/// The servers that run: what ends this program ends them.
static RUNNING: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// Kills all servers that were started and run: before this program ends without a word.
pub fn end_all() {
    for pid in RUNNING.lock().expect("nothing panics while it holds this").drain(..) {
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            // Nobody has waited for it, so its number is still its own.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Copies a directory with modes, times and all to where nothing is.
fn copy_dir(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp runs");
    assert!(done.success(), "cp said why");
}

/// Whether Python is there, with what makes environments for its packages. Where it is not, the test that asks is skipped, and says so,
/// unless `TERN_REQUIRE_PYTHON` is set: then it fails.
#[allow(clippy::print_stderr, reason = "whoever runs the tests must see what was not tested")]
pub fn python_is_there() -> bool {
    let probe = Command::new("python3").args(["-c", "import venv, ensurepip"]).stderr(Stdio::null()).status();
    let is_there = probe.is_ok_and(|status| status.success());
    if !is_there {
        assert!(
            std::env::var_os("TERN_REQUIRE_PYTHON").is_none(),
            "python3 with venv is required, but not there"
        );
        eprintln!("SKIPPED: python3 with its venv module is not there");
    }
    is_there
}

/// The path of one of the workspace's programs, built if it is not there.
pub fn program(name: &str) -> PathBuf {
    let running = std::env::current_exe().expect("a running program has a path");
    let beside = running.with_file_name(name);
    if beside.exists() {
        return beside;
    }
    let profile =
        running.parent().and_then(Path::parent).expect("tests lie in PROFILE/deps, examples beside");
    let path = profile.join(name);
    if !path.exists() {
        let mut build = Command::new(env!("CARGO"));
        build
            .args(["build", "--workspace", "--bins"])
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        if profile.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().expect("cargo runs").success(), "{name} can't be built");
    }
    path
}

/// Waits for a server's end. Again, when it has ended already, it gives the same.
fn reap(child: &mut Child) -> ExitStatus {
    // It has ended, and its number is its own until it is waited for: until then it can be killed by it.
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    let _ = waitid(WaitId::Pid(Pid::from_child(child)), options);
    RUNNING.lock().expect("nothing panics while it holds this").retain(|pid| *pid != child.id());
    child.wait().expect("it was started")
}

impl Ternd {
    /// Starts a server with `cores` cores.
    pub fn start(cores: u16) -> Self {
        Self::start_with(TerndOptions { cores, ..TerndOptions::default() })
    }

    /// Starts a server.
    pub fn start_with(options: TerndOptions) -> Self {
        Self::try_start(options).unwrap_or_else(|why| panic!("ternd did not start: {why}"))
    }

    /// Starts a server. If it can't, gives what it says on stderr, and its exit code.
    pub fn try_start(options: TerndOptions) -> Result<Self, String> {
        let data = Arc::new(tempfile::tempdir().expect("a temporary directory"));
        Self::start_in(options, &data)
    }

    /// Starts a server on data that is there, or to be. If it can't, gives what it says on stderr, and its exit code.
    pub fn start_in(options: TerndOptions, data: &Arc<TempDir>) -> Result<Self, String> {
        Self::launch(options, data.clone(), Arc::default())
    }

    /// Starts a server that should not be able to. Gives what it says on stderr, and its exit code.
    pub fn fail_to_start(options: TerndOptions, data: &Arc<TempDir>, listen: &str) -> String {
        match Self::launch_at(listen, options, data.clone(), Arc::default()) {
            Ok(_) => panic!("ternd started, but should not have"),
            Err(why) => why,
        }
    }

    fn launch(options: TerndOptions, data: Arc<TempDir>, port: Arc<HeldPort>) -> Result<Self, String> {
        Self::launch_at(&port.address().to_string(), options, data, port)
    }

    fn launch_at(
        listen: &str,
        options: TerndOptions,
        data: Arc<TempDir>,
        port: Arc<HeldPort>,
    ) -> Result<Self, String> {
        let cores = if options.cores == 0 { 2 } else { options.cores };
        let program = options.program.clone().unwrap_or_else(|| {
            // It looks for this one beside it.
            program("tern-preview");
            program("ternd")
        });
        let mut command = Command::new(program);
        if options.own_group {
            command.process_group(0);
        }
        let mut child = command
            .args([
                "--listen",
                listen,
                "--metrics",
                "127.0.0.1:0",
                "--media-listen",
                "127.0.0.1:0",
                "--cores",
                &cores.to_string(),
                "--data-dir",
            ])
            .arg(data.path().join("data"))
            // Tests and load have few users who send much. What a test sets itself comes later, and holds.
            .args(["--limit", "sends_per_minute_max=0", "--limit", "strangers_per_hour_max=0"])
            .args(["--limit", "groups_per_day_max=0", "--limit", "address_requests_per_minute_max=0"])
            .args(["--limit", "same_text_per_hour_max=0"])
            .args(&options.arguments)
            .envs(options.environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ternd can be run");
        RUNNING.lock().expect("nothing panics while it holds this").push(child.id());
        let stderr = Arc::new(Mutex::new(String::new()));
        let kept = stderr.clone();
        let mut errors = BufReader::new(child.stderr.take().expect("it is piped"));
        let collector = thread::spawn(move || {
            let mut line = String::new();
            while errors.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
                kept.lock().expect("nothing panics while it holds this").push_str(&line);
                line.clear();
            }
        });
        let ready = first_line(child.stdout.take().expect("it is piped"));
        match ready.recv_timeout(READY_TIMEOUT).ok().and_then(|line| address_of(&line)) {
            Some(address) => Ok(Self { child, address, port, data, options, stderr }),
            None => {
                let _ = child.kill();
                let status = reap(&mut child);
                let _ = collector.join();
                Err(format!("{}{status}", stderr.lock().expect("nothing panics while it holds this")))
            }
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate to trust.
    pub fn ca_file(&self) -> PathBuf {
        self.data_dir().join("cert.pem")
    }

    /// Its data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.data.path().join("data")
    }

    /// The directory that goes with the last server of this data.
    pub fn temporary(&self) -> Arc<TempDir> {
        self.data.clone()
    }

    /// Waits until it has said a line with this text on stderr, and gives that line.
    pub fn said(&self, text: &str) -> String {
        let deadline = std::time::Instant::now() + READY_TIMEOUT;
        loop {
            if let Some(line) = self.stderr().lines().find(|line| line.contains(text)) {
                return line.to_owned();
            }
            assert!(std::time::Instant::now() < deadline, "ternd never said {text:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Asks the metrics and health listener: (status, body).
    pub fn http(&self, path: &str) -> (u16, String) {
        let line = self.said("/metrics");
        let address =
            line.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("an address");
        let mut socket = TcpStream::connect(address).expect("connected");
        write!(socket, "GET {path} HTTP/1.1\r\nHost: tern\r\nConnection: close\r\n\r\n").expect("asked");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("answered");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP response");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, body.to_owned())
    }

    /// The sum over all cores of a metric.
    pub fn metric(&self, name: &str) -> u64 {
        self.measured(name) as u64
    }

    /// The same of a metric that is no whole number: seconds.
    pub fn measured(&self, name: &str) -> f64 {
        let (_, text) = self.http("/metrics");
        let values = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
        values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// What it has said on stderr.
    pub fn stderr(&self) -> String {
        self.stderr.lock().expect("nothing panics while it holds this").clone()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("the server is this test's own child");
    }

    /// Stops all its threads where they are.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    /// Kills it (SIGKILL), and starts it again on the same data and port.
    pub fn kill_and_restart(&mut self) {
        self.child.kill().expect("the server is this test's own child");
        self.wait();
        self.start_again();
    }

    /// Starts it again on the same data and port after it has ended.
    pub fn start_again(&mut self) {
        let next = Self::launch(self.options.clone(), self.data.clone(), self.port.clone());
        *self = next.unwrap_or_else(|why| panic!("ternd did not start again: {why}"));
    }

    /// Copies its data, after it has ended, for [`Ternd::put_back`]. Gives where the copy lies.
    pub fn copy_data(&self) -> PathBuf {
        let copied = self.data_dir().with_file_name("copied");
        copy_dir(&self.data_dir(), &copied);
        copied
    }

    /// Puts a copy in the place of its data, after it has ended.
    pub fn put_back(&self, copied: &Path) {
        std::fs::remove_dir_all(self.data_dir()).expect("a directory of this test");
        copy_dir(copied, &self.data_dir());
    }

    /// Puts what is restored of a backup in the place of its store, after it has ended; its certificate stays. Gives what `ternd restore`
    /// printed.
    pub fn restore(&self, backup: &Path, flags: &[&str]) -> Value {
        let new = self.data_dir().with_file_name("restored");
        let mut restore = Command::new(program("ternd"));
        restore
            .arg("restore")
            .arg("--json")
            .arg("--from")
            .arg(backup)
            .arg("--data-dir")
            .arg(&new)
            .args(flags);
        let done = restore.output().expect("ternd runs");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let store = self.data_dir().join("store");
        std::fs::remove_dir_all(&store).expect("a directory of this test");
        std::fs::rename(new.join("store"), store).expect("within one directory");
        std::fs::remove_dir_all(new).expect("a directory of this test");
        serde_json::from_slice(&done.stdout).expect("JSON")
    }

    /// What its backup is doing, as soon as that is so.
    pub fn backup_until(&self, is_so: impl Fn(&Value) -> bool) -> Value {
        loop {
            let status = self.admin(&serde_json::json!({ "ask": "backup_status" })).remove(0)["ok"].clone();
            if is_so(&status) {
                return status;
            }
            std::thread::yield_now();
        }
    }

    /// Asks it to end (SIGTERM).
    pub fn ask_to_end(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends it (SIGKILL), and starts it again on the same data and port with other options.
    pub fn restart_with(&mut self, options: TerndOptions) {
        self.options = options;
        self.kill_and_restart();
    }

    /// Has it drain (SIGTERM), and waits for its end.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        reap(&mut self.child)
    }

    /// Asks on the admin socket. Gives the lines of the answer.
    pub fn admin(&self, question: &Value) -> Vec<Value> {
        let mut socket =
            UnixStream::connect(self.data_dir().join("ternd.sock")).expect("the admin socket is there");
        writeln!(socket, "{question}").expect("asked");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("answered");
        answer.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// Makes test users, each with a device. The same users get another device when they are made again.
    pub fn provision(&self, count: u32) -> Vec<TestUser> {
        let question = json!({ "ask": "provision", "count": count, "first": "+15553000000", "name": "test" });
        let mut lines = self.admin(&question);
        let done = lines.pop().expect("an answer");
        assert_eq!(done["ok"]["done"], count, "{done}");
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let user = |line: Value| TestUser {
            id: line["ok"]["user_id"].as_u64().expect("a number"),
            phone: text(&line["ok"]["phone"]),
            token: text(&line["ok"]["access_token"]),
        };
        lines.into_iter().map(user).collect()
    }

    /// The one-time code that a phone was sent last.
    pub fn code_of(&self, phone: &str) -> String {
        let answer = self.admin(&json!({ "ask": "otp", "phone": phone }));
        answer[0]["ok"]["code"].as_str().unwrap_or_else(|| panic!("no code: {answer:?}")).to_owned()
    }
}

impl Drop for Ternd {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        reap(&mut self.child);
        if thread::panicking() {
            #[allow(clippy::print_stderr, reason = "a failed test shows what the server said")]
            {
                eprintln!("ternd said:\n{}", self.stderr());
            }
        }
    }
}

fn first_line(stdout: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, line) = channel();
    thread::spawn(move || {
        let mut stdout = BufReader::new(stdout);
        let mut first = String::new();
        if stdout.read_line(&mut first).is_ok() {
            // A test that has given up is not told.
            let _ = sender.send(first);
        }
        // Reading on keeps the server's stdout open.
        let _ = std::io::copy(&mut stdout, &mut std::io::sink());
    });
    line
}

fn address_of(line: &str) -> Option<SocketAddr> {
    line.trim().strip_prefix("ternd ready on ")?.parse().ok()
}
