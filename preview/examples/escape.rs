//! What a decoder would do that hostile bytes have taken over: locked in as `tern-preview` is, it does what its standard input says. For the
//! tests of the sandbox; it is nowhere but in them.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::mem::ManuallyDrop;
use std::net::UdpSocket;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio, abort};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, getpid, kill_process};
use tern_preview::{Limits, sandbox};

/// How it ends if it could do it, or was told that it can't.
const GOT_AWAY: u8 = 77;

fn main() -> ExitCode {
    let limits = Limits::from_arguments(std::env::args().skip(2)).expect("the server says them");
    // Before it is locked in: what a server may have left open.
    let open = File::open("/proc/self/status").expect("it is there");
    // To close it is forbidden too.
    let mut open = ManuallyDrop::new(open);
    sandbox::enter(&limits).expect("the kernel has seccomp");
    let mut what = String::new();
    io::stdin().read_to_string(&mut what).expect("it is a file");
    tried(&what, &mut open);
    ExitCode::from(GOT_AWAY)
}

fn tried(what: &str, open: &mut File) {
    match what {
        "open" => drop(File::open("/etc/passwd")),
        "write" => drop(File::create("/tmp/tern-preview-escape")),
        "read another" => drop(open.read(&mut [0])),
        "socket" => drop(UdpSocket::bind("127.0.0.1:0")),
        "fork" => drop(Command::new("/bin/true").stdin(Stdio::inherit()).status()),
        "exec" => drop(Command::new("/bin/true").stdin(Stdio::inherit()).exec()),
        "thread" => drop(thread::spawn(|| {})),
        "kill" => drop(kill_process(Pid::INIT, Signal::KILL)),
        "kill itself" => drop(kill_process(getpid(), Signal::KILL)),
        "sleep" => thread::sleep(Duration::from_secs(3600)),
        "unlink" => drop(std::fs::remove_file("/tmp/tern-preview-escape")),
        "limits" => drop(rustix::process::setrlimit(
            rustix::process::Resource::Nofile,
            rustix::process::Rlimit { current: Some(0), maximum: Some(0) },
        )),
        "memory" => touch(vec![1_u8; 2 << 30]),
        "pieces of memory" => pieces(1 << 30),
        "stack" => drop(deep(0)),
        "loop" => loop {
            std::hint::spin_loop();
        },
        "flood" => flood(1 << 30),
        "abort" => abort(),
        "panic" => std::panic::resume_unwind(Box::new(())),
        "nonsense" => print(b"TPV1 and this is no answer"),
        "nothing" => {}
        _ => panic!("nobody knows how to do that"),
    }
}

fn touch(bytes: Vec<u8>) {
    print(&bytes[bytes.len() - 1..]);
}

fn pieces(count: u64) {
    let mut pieces = Vec::new();
    for at in 0..count {
        pieces.push(Box::new([at; 100]));
    }
    std::hint::black_box(pieces);
}

fn deep(depth: u64) -> [u64; 512] {
    let mut frame = std::hint::black_box([depth; 512]);
    if depth < u64::MAX {
        frame[0] = std::hint::black_box(deep(depth + 1))[0];
    }
    frame
}

fn flood(bytes: usize) {
    let piece = [0; 64 << 10];
    for _ in 0..bytes / piece.len() {
        print(&piece);
    }
}

fn print(bytes: &[u8]) {
    // Whoever reads it may have enough.
    let _ = io::stdout().write_all(bytes);
    let _ = io::stdout().flush();
}
