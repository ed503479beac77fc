//! People at a shell: profiles on which the `tern` program is run, and listeners.

#![allow(dead_code, reason = "each test uses its part")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tern_testkit::{Ternd, program};

/// A profile, by its directory.
pub struct Profile {
    pub dir: PathBuf,
}

impl Profile {
    pub fn tern(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("tern"));
        command.arg("--profile").arg(&self.dir).args(arguments).stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.tern(arguments).output().expect("tern runs")
    }

    pub fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        let lines = String::from_utf8(output.stdout).expect("text");
        lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    pub fn refusal(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        // Not possible, no connection, refused.
        assert!(matches!(output.status.code(), Some(1 | 4 | 5)), "{arguments:?}: {:?}", output.status);
        String::from_utf8(output.stderr).expect("text")
    }

    /// Registers, with the code typed at the prompt.
    pub fn register(server: &Ternd, dir: &Path, phone: &str, name: &str) -> Self {
        Self::register_with(server, dir, phone, name, &[])
    }

    /// The same, with more arguments.
    pub fn register_with(server: &Ternd, dir: &Path, phone: &str, name: &str, more: &[&str]) -> Self {
        let profile = Self { dir: dir.join(name) };
        let address = server.address().to_string();
        let ca = server.ca_file();
        let trust = ["--server", &address, "--ca", ca.to_str().expect("text")];
        let mut child = profile
            .tern(&[&trust[..], &["register", phone, "--name", name], more].concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("tern runs");
        let mut prompt = BufReader::new(child.stderr.take().expect("piped"));
        let mut asked = Vec::new();
        prompt.read_until(b':', &mut asked).expect("a prompt");
        assert!(String::from_utf8_lossy(&asked).contains("a code of 6 digits was sent"));
        writeln!(child.stdin.take().expect("piped"), "{}", server.code_of(phone)).expect("typed");
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        profile
    }
}

/// A listener at its prompt, with its lines.
pub struct Listener {
    pub child: Child,
    pub lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Listener {
    pub fn start(profile: &Profile) -> Self {
        Self::start_with(profile, &[])
    }

    /// The same, with more arguments.
    pub fn start_with(profile: &Profile, more: &[&str]) -> Self {
        let arguments = [&["listen", "--json"], more].concat();
        let mut child = profile.tern(&arguments).stdout(Stdio::piped()).spawn().expect("tern runs");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self { child, lines }
    }

    pub fn until(&mut self, kind: &str) -> Value {
        loop {
            let line = self.lines.next().expect("it goes on").expect("text");
            let event: Value = serde_json::from_str(&line).expect("JSON");
            if event["event"] == kind {
                return event;
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The messages among events, as (seq, text).
pub fn texts(events: &[Value], kind: &str) -> Vec<(u64, String)> {
    let text = |event: &Value| {
        (event["seq"].as_u64().expect("a number"), event["text"].as_str().expect("text").to_owned())
    };
    events.iter().filter(|event| event["event"] == kind).map(text).collect()
}

/// Copies what lies in a folder.
pub fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp runs");
    assert!(done.success());
}

/// Has a folder be what another one is.
pub fn put_back(copied: &Path, folder: &Path) {
    std::fs::remove_dir_all(folder).expect("removed");
    copy(copied, folder);
}
