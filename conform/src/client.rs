//! The client under test: a process that is told what to do and says what it shows, a JSON object a line. docs/CONFORM.md has them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;

/// How a client is started.
pub struct Program {
    pub command: Vec<String>,
}

/// One that runs.
pub struct Client {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<Result<Value, String>>,
    complaints: Arc<Mutex<String>>,
}

impl Program {
    /// Starts it, for a server and with a directory for its state.
    pub fn start(
        &self,
        server: SocketAddr,
        ca_file: &Path,
        state: &Path,
        (phone, code): (&str, &str),
    ) -> Result<Client, String> {
        let (program, arguments) = self.command.split_first().ok_or("there is no command")?;
        let mut child = Command::new(program)
            .args(arguments)
            .env("TERN_CONFORM_SERVER", server.to_string())
            .env("TERN_CONFORM_CA", ca_file)
            .env("TERN_CONFORM_STATE", state)
            .env("TERN_CONFORM_PHONE", phone)
            .env("TERN_CONFORM_CODE", code)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{program}: {error}"))?;
        let (said, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().ok_or("it has no standard output")?);
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let value =
                    serde_json::from_str(&line).map_err(|_| format!("it says what is not JSON: {line}"));
                if said.send(value).is_err() {
                    return;
                }
            }
        });
        let complaints = Arc::<Mutex<String>>::default();
        let (mut stderr, kept) = (child.stderr.take().ok_or("it has no standard error")?, complaints.clone());
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = stderr.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..read]).into_owned();
                kept.lock().expect("nothing panics while it holds this").push_str(&text);
            }
        });
        let stdin = child.stdin.take().ok_or("it has no standard input")?;
        Ok(Client { child, stdin, lines, complaints })
    }
}

impl Client {
    /// Tells it to do something.
    pub fn tell(&mut self, what: &Value) -> Result<(), String> {
        let told = writeln!(self.stdin, "{what}").and_then(|()| self.stdin.flush());
        told.map_err(|_| format!("it has ended, or does not read: {}", self.complaints().trim()))
    }

    /// What it has said, if anything.
    pub fn said(&mut self) -> Option<Result<Value, String>> {
        self.lines.try_recv().ok()
    }

    /// Whether it runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What it has said on standard error.
    pub fn complaints(&self) -> String {
        self.complaints.lock().expect("nothing panics while it holds this").clone()
    }

    /// Ends it at once, as a crash does.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.kill();
    }
}
