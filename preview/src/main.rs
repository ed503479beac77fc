//! `tern-preview`: makes the preview of one file, locked in.
//!
//! `tern-preview TYPE [cpu-s=N] [memory=BYTES] [file=BYTES] [pixels=N]` reads the file from standard input, and writes the
//! [answer](tern_preview::answer) to standard output, which is a pipe. `tern-preview --check` is locked in too, and then tries what it
//! may not: it is to be killed by SIGSYS. Other ends are those of [`exit`](tern_preview::exit).

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::panic;
use std::process::ExitCode;

use tern_preview::{Limits, answer, exit, preview_of, sandbox};

fn main() -> ExitCode {
    // What a panic says may have content of the file.
    panic::set_hook(Box::new(|_| {}));
    ExitCode::from(panic::catch_unwind(run).unwrap_or(exit::PANICKED))
}

fn run() -> u8 {
    let mut arguments = std::env::args().skip(1);
    let of = arguments.next();
    let (Some(of), Some(limits)) = (of, Limits::from_arguments(arguments)) else { return exit::USAGE };
    // Where memory is short, this one is ended, and not the server.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    if sandbox::enter(&limits).is_err() {
        return exit::NO_SANDBOX;
    }
    if of == "--check" {
        // Killed here, or the sandbox is none.
        let _ = File::open("/");
        return exit::NOT_KILLED;
    }
    match make(&of, &limits) {
        Ok(()) => exit::ANSWERED,
        Err(_) => exit::FAILED,
    }
}

fn make(of: &str, limits: &Limits) -> io::Result<()> {
    let mut bytes = Vec::new();
    // A byte more than there may be says that there are too many.
    io::stdin().lock().take(limits.file_bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    let bytes = answer::write(&preview_of(of, &bytes, limits));
    let mut to = io::stdout().lock();
    to.write_all(&bytes)?;
    to.flush()
}
