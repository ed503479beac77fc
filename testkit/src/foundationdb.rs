//! Starts a real FoundationDB for tests, where there is one: a single process on loopback, in a temporary directory, ended with the test.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::HeldPort;

/// How long an `fdbcli` may take, in seconds.
const CLI_TIMEOUT_S: u32 = 60;

/// A running FoundationDB with the engine ssd-2.
#[derive(Debug)]
pub struct FoundationDb {
    server: PathBuf,
    cli: PathBuf,
    dir: TempDir,
    port: HeldPort,
    process: Option<Child>,
}

/// A program of this name on PATH.
fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

impl FoundationDb {
    /// One that has just been made. `None`, and it says so: `fdbserver` and `fdbcli` are not on PATH.
    #[allow(clippy::print_stderr, reason = "whoever runs the tests must see what was not tested")]
    pub fn start() -> Option<Self> {
        let (Some(server), Some(cli)) = (on_path("fdbserver"), on_path("fdbcli")) else {
            eprintln!(
                "SKIPPED: fdbserver and fdbcli are not on PATH, so nothing was tested against a FoundationDB"
            );
            return None;
        };
        let dir = tempfile::tempdir().expect("a temporary directory");
        let port = HeldPort::new();
        for sub in ["data", "log"] {
            std::fs::create_dir(dir.path().join(sub)).expect("made");
        }
        let mut fdb = Self { server, cli, dir, port, process: None };
        std::fs::write(fdb.cluster_file(), format!("test:test@{}\n", fdb.port.address())).expect("written");
        fdb.run();
        fdb.tell("configure new single ssd-2");
        Some(fdb)
    }

    /// The cluster file, by which clients find it.
    pub fn cluster_file(&self) -> PathBuf {
        self.dir.path().join("fdb.cluster")
    }

    /// Starts its process, which has ended, or was never started.
    pub fn run(&mut self) {
        let address = self.port.address().to_string();
        let dir = |sub: &str| self.dir.path().join(sub);
        let process = Command::new(&self.server)
            .args(["-p", &address, "-l", &address, "-C"])
            .arg(self.cluster_file())
            .arg("-d")
            .arg(dir("data"))
            .arg("-L")
            .arg(dir("log"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("fdbserver can be run");
        self.process = Some(process);
    }

    /// Kills its process (SIGKILL).
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("it is this test's own child");
            process.wait().expect("it was started");
        }
    }

    fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("it runs");
        kill_process(Pid::from_child(process), signal).expect("it is this test's own child");
    }

    /// Freezes it (SIGSTOP).
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    /// Has `fdbcli` do something, and gives what it says.
    pub fn tell(&self, what: &str) -> String {
        let Output { status, stdout, stderr } = Command::new(&self.cli)
            .arg("-C")
            .arg(self.cluster_file())
            .args(["--timeout", &CLI_TIMEOUT_S.to_string(), "--exec", what])
            .output()
            .expect("fdbcli can be run");
        let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(status.success(), "fdbcli {what:?}: {said}");
        said
    }

    /// Locks the database.
    pub fn lock(&self) {
        self.tell("lock");
    }

    /// Unlocks the database: `fdbcli unlock` asks people for a word, so this is what it does.
    pub fn unlock(&self) {
        self.tell("option on ACCESS_SYSTEM_KEYS; option on LOCK_AWARE; writemode on; clear \\xff/dbLocked");
    }
}

impl Drop for FoundationDb {
    fn drop(&mut self) {
        if self.process.is_some() {
            // One that stands still dies as well.
            self.kill();
        }
    }
}
