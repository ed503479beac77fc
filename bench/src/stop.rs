//! Stopping early: the first SIGINT or SIGTERM ends a scenario with a report of what was measured so far, the second one
//! ends the program, and the servers that it has started.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// The exit code of a program that a signal has ended, as shells tell it: 128 and SIGINT.
const EXIT_CODE: i32 = 130;

static ASKED: AtomicBool = AtomicBool::new(false);

/// Listens to the signals.
pub fn listen() -> std::io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::Builder::new().name("bench-signals".to_owned()).spawn(move || {
        for _ in signals.forever() {
            if ASKED.swap(true, Ordering::Relaxed) {
                tern_testkit::end_all();
                std::process::exit(EXIT_CODE);
            }
            crate::progress("stopping: what was measured so far is told; once more ends at once");
        }
    })?;
    Ok(())
}

/// Whether the user has asked to stop.
pub fn asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}
