//! The process's threads: none dies alone.
//!
//! A thread that panics, or returns when it should not, takes the process with it: exit code 1, with the reason on stderr.
//! Everything that was acknowledged is on the disk, and whoever supervises ternd starts it again; a server without one of
//! its threads would look well and be of no use to some.

use std::io;
use std::panic::PanicHookInfo;
use std::thread::{self, JoinHandle};

use crate::logging;

/// Starts a thread that serves as long as the process lives.
pub fn spawn(name: &str, serve: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    spawn_ending(name, move || {
        serve();
        false
    })
}

/// Starts a thread that may end: `true` says that it ended in order.
pub fn spawn_ending(name: &str, work: impl FnOnce() -> bool + Send + 'static) -> io::Result<JoinHandle<()>> {
    let own = name.to_owned();
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _watch = Watch;
        if !work() {
            end_process(format_args!("the thread {own} has ended by itself"));
        }
    })
}

/// For threads that panic where no hook was installed.
struct Watch;

impl Drop for Watch {
    fn drop(&mut self) {
        if thread::panicking() {
            end_process(format_args!("the thread {} has panicked", thread::current().name().unwrap_or("?")));
        }
    }
}

/// Has a panic of any thread, of a library's too, end the process. For the program, before it starts any.
pub fn end_process_on_panic() {
    std::panic::set_hook(Box::new(|panic: &PanicHookInfo<'_>| {
        let place = panic.location().map_or_else(|| "?".to_owned(), ToString::to_string);
        let thread = thread::current();
        let name = thread.name().unwrap_or("without a name");
        let said = panic.payload_as_str().unwrap_or("no reason was given");
        end_process(format_args!(
            "the thread {name} has panicked at {place}: {said} (a mistake of ternd: please report it)"
        ));
    }));
}

fn end_process(reason: std::fmt::Arguments<'_>) -> ! {
    logging::say(format_args!("ternd ends: {reason}; everything acknowledged is safe"));
    logging::flush();
    std::process::exit(1)
}
