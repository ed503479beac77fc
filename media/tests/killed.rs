//! A process that is killed at any moment loses nothing of an upload that it has said to have, and no medium is there by half.

#[allow(dead_code, reason = "it serves other tests as well")]
mod common;

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use common::{Server, ask, id_of};
use fastrand::Rng;
use tempfile::tempdir;
use tern_media::limits::Limits;

const FOLDER: &str = "TERN_MEDIA_FOLDER";

/// Serves in a process of its own, which the tests below start and kill; by itself it does nothing.
#[test]
#[allow(clippy::print_stdout, reason = "it says where it listens")]
fn serves() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let server = Server::start(&folder, Limits::default(), None);
    // What the gate was told of is kept, as the brain would.
    let told = OpenOptions::new().create(true).append(true).open(folder.join("told")).expect("a file");
    *server.accounts.told.lock().expect("no panic") = Some(told);
    println!("\nlistens on {}", server.address);
    loop {
        server.sweep();
        thread::yield_now();
    }
}

struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    fn start(folder: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this one"))
            .args(["serves", "--exact", "--nocapture"])
            .env(FOLDER, folder)
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let said = BufReader::new(child.stdout.take().expect("piped"));
        let address = said.lines().find_map(|line| line.ok()?.strip_prefix("listens on ")?.parse().ok());
        Self { child, address: address.expect("it listens") }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it has ended");
    }
}

#[test]
fn what_was_said_to_be_there_is_there_whenever_the_process_is_killed() {
    let folder = tempdir().expect("a folder");
    let mut rng = Rng::with_seed(1);
    let (mut whole, mut kills) = (0, 0);
    while whole < 12 || kills < 30 {
        let mut process = Process::start(folder.path());
        let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
        bytes.extend((0..rng.usize(200_000..600_000)).map(|at| (at / 7) as u8));
        let length = bytes.len().to_string();
        let metadata = "filetype aW1hZ2UvcG5n";
        let begun = ask(
            process.address,
            7,
            "POST",
            "/uploads",
            &[("upload-length", &length), ("upload-metadata", metadata)],
            b"",
        );
        let path = begun.expect("nobody kills it yet").headers["location"].clone();
        let mut said = 0;
        loop {
            // It is killed after a while, whatever it does then; that it is, the end of the request says.
            let (after, is_over) =
                (Duration::from_micros(rng.u64(..8_000)), Arc::new(AtomicBool::new(false)));
            let killer = rng.bool().then(|| {
                let (pid, is_over) = (process.child.id(), is_over.clone());
                thread::spawn(move || {
                    thread::park_timeout(after);
                    let pid = rustix::process::Pid::from_raw(pid as i32).expect("a process");
                    let is_killed = !is_over.load(Ordering::Acquire);
                    if is_killed {
                        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it runs");
                    }
                    is_killed
                })
            });
            let piece = rng.usize(1..bytes.len()).min(bytes.len() - said);
            let offset = said.to_string();
            let headers = [("content-type", "application/offset+octet-stream"), ("upload-offset", &*offset)];
            let answer = ask(process.address, 7, "PATCH", &path, &headers, &bytes[said..said + piece]);
            if let Some(answer) = &answer {
                assert_eq!(answer.status, 204, "{answer:?}");
                said += piece;
            }
            is_over.store(true, Ordering::Release);
            if killer.is_some_and(|killer| killer.join().expect("no panic")) {
                kills += 1;
                drop(process);
                process = Process::start(folder.path());
            }
            let at = ask(process.address, 7, "HEAD", &path, &[], b"").expect("nobody kills it");
            assert_eq!(at.status, 200, "{at:?}");
            let at: usize = at.headers["upload-offset"].parse().expect("a number");
            assert!(at >= said, "it said to have {said}, and has {at}");
            said = at;
            if said == bytes.len() {
                break;
            }
        }
        let place = place_of(folder.path(), &path);
        assert!(fs::read(&place).expect("it has its place") == bytes, "it is what was sent");
        let told = fs::read_to_string(folder.path().join("told")).expect("a file");
        assert!(told.lines().any(|id| path.ends_with(id)), "whoever is to know of it was told");
        whole += 1;
    }
    // Nothing is left of uploads, and of each medium the bytes and what is known of it.
    let _process = Process::start(folder.path());
    assert_eq!(fs::read_dir(folder.path().join("uploads")).expect("a folder").count(), 0);
    assert_eq!(files(&folder.path().join("media")), 2 * whole);
}

fn place_of(folder: &Path, path: &str) -> PathBuf {
    let id = id_of(path);
    let [one, two, ..] = id.as_bytes();
    folder.join("media").join(format!("{one:02x}")).join(format!("{two:02x}")).join(id.to_string())
}

fn files(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("it is there").path());
    entries.map(|path| if path.is_dir() { files(&path) } else { usize::from(File::open(path).is_ok()) }).sum()
}
