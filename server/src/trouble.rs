//! What to tell an operator when the system refuses: what is missing, and what to do.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;

use tern_uring::Missing;

/// What is looked up to explain a refusal.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The kernel's release.
    pub kernel: String,
    /// The value of the sysctl `kernel.io_uring_disabled`, if there is one.
    pub io_uring_disabled: Option<String>,
}

impl Facts {
    /// Of this machine.
    pub fn gather() -> Self {
        let read = |path| std::fs::read_to_string(path).ok().map(|text: String| text.trim().to_owned());
        Self {
            kernel: read("/proc/sys/kernel/osrelease").unwrap_or_default(),
            io_uring_disabled: read("/proc/sys/kernel/io_uring_disabled"),
        }
    }
}

/// Why a ring can't be had.
pub fn of_uring(missing: &Missing, facts: &Facts) -> String {
    let Facts { kernel, io_uring_disabled } = facts;
    let error = match missing {
        Missing::Operation(name) => {
            return format!(
                "the kernel {kernel} is too old: its io_uring does not know {name}; ternd needs Linux 6.8 or newer"
            );
        }
        Missing::Ring(error) => error,
    };
    let mut text = format!("io_uring can't be used ({error}), and ternd can't run without it: ");
    let advice = match (error.kind(), error.raw_os_error(), io_uring_disabled.as_deref()) {
        (_, _, Some("2")) => "it is switched off by the sysctl kernel.io_uring_disabled = 2; set it to 0".to_owned(),
        (io::ErrorKind::PermissionDenied, _, Some("1")) => {
            "the sysctl kernel.io_uring_disabled = 1 allows it to privileged processes only; set it to 0".to_owned()
        }
        (io::ErrorKind::PermissionDenied, ..) => {
            "it is blocked, most likely by a container's seccomp profile; allow io_uring_setup, io_uring_enter and \
             io_uring_register"
                .to_owned()
        }
        (io::ErrorKind::Unsupported, ..) => format!("the kernel {kernel} is built without it, or a sandbox hides it"),
        (io::ErrorKind::InvalidInput, ..) => format!("the kernel {kernel} is too old; ternd needs Linux 6.8 or newer"),
        (_, Some(24 /* EMFILE */), _) => {
            "the limit of open files is below limits.connections_max; raise it (ulimit -n) or lower the other".to_owned()
        }
        (io::ErrorKind::OutOfMemory, ..) => "memory is short, or RLIMIT_MEMLOCK is too low".to_owned(),
        _ => format!("the kernel is {kernel}"),
    };
    let _ = write!(text, "{advice}");
    text
}

/// Why an address can't be listened on.
pub fn of_listening(address: SocketAddr, purpose: &str, error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => "another program listens there: stop it, or choose another address",
        io::ErrorKind::PermissionDenied => "ports below 1024 need privileges: choose a higher one",
        io::ErrorKind::AddrNotAvailable => "this machine does not have that address",
        _ => "choose another address",
    };
    let flag = match purpose {
        "metrics" => "--metrics",
        "media" => "--media-listen",
        _ => "--listen",
    };
    format!("can't listen on {address} for {purpose}: {error}; {advice} ({flag} ADDRESS)")
}

/// Why no connection can be accepted for now, if it is for want of something.
pub fn of_accepting(error: &io::Error) -> Option<&'static str> {
    match error.raw_os_error() {
        Some(23 /* ENFILE */) => Some("the machine, or limits.connections_max, has no file left: raise fs.file-max or the limit"),
        Some(24 /* EMFILE */) => Some("the process has no file left: raise its limit (ulimit -n)"),
        Some(12 /* ENOMEM */ | 105 /* ENOBUFS */) => Some("the machine has no memory left for connections"),
        _ => None,
    }
}

/// What to do when a directory or a file can't be used.
pub fn of_files(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "the user that ternd runs as must own it",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "there is no room: make some; nothing is damaged"
        }
        io::ErrorKind::ReadOnlyFilesystem => "the file system is mounted read-only",
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => "something else has that name",
        _ => match error.raw_os_error() {
            Some(23 | 24) => "there are too few open files: raise the limit (ulimit -n)",
            Some(5 /* EIO */) => "the disk failed: look at the kernel's log",
            _ => "see what the system says",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_ring_is_explained() {
        let eperm = || Missing::Ring(io::Error::from_raw_os_error(1));
        let facts = |disabled: Option<&str>| Facts {
            kernel: "5.4.0".to_owned(),
            io_uring_disabled: disabled.map(str::to_owned),
        };
        let cases = [
            (eperm(), facts(Some("2")), "kernel.io_uring_disabled = 2"),
            (eperm(), facts(Some("1")), "kernel.io_uring_disabled = 1"),
            (eperm(), facts(Some("0")), "seccomp"),
            (Missing::Ring(io::Error::from_raw_os_error(38)), facts(None), "5.4.0"),
            (Missing::Ring(io::Error::from_raw_os_error(22)), facts(None), "too old"),
            (Missing::Ring(io::Error::from_raw_os_error(24)), facts(None), "connections_max"),
            (Missing::Operation("MSG_RING"), facts(None), "MSG_RING"),
        ];
        for (missing, facts, expected) in cases {
            let text = of_uring(&missing, &facts);
            assert!(text.contains(expected), "{text:?} does not name {expected:?}");
        }
    }

    #[test]
    fn a_taken_port_is_explained() {
        let address = "127.0.0.1:7443".parse().expect("an address");
        let text = of_listening(address, "clients", &io::ErrorKind::AddrInUse.into());
        assert!(
            text.contains("127.0.0.1:7443") && text.contains("another program") && text.contains("--listen")
        );
    }
}
