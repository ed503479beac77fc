//! How a ring is made, and what the kernel must offer for it.

use std::fmt;
use std::io;

use io_uring::{IoUring, Probe, opcode};

/// Sizes of a ring.
#[derive(Clone, Debug)]
pub struct RingOptions {
    /// Submissions that fit before they must be handed over.
    pub entries: u32,
    /// Completions that fit before the kernel keeps them elsewhere.
    pub completions: u32,
    /// Direct descriptors. The limit of open files bounds it.
    pub files: u32,
    /// Receive buffers: a power of two, at most 32,768.
    pub receive_buffers: u16,
    /// Bytes of each.
    pub receive_buffer_bytes: u32,
}

/// What this kernel, or its configuration, does not offer.
#[derive(Debug)]
pub enum Missing {
    /// No ring can be made.
    Ring(io::Error),
    /// An operation is not known.
    Operation(&'static str),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ring(error) => write!(f, "io_uring can't be set up: {error}"),
            Self::Operation(name) => write!(f, "this kernel's io_uring does not know {name}"),
        }
    }
}

impl std::error::Error for Missing {}

/// Sets a ring of this thread up, with room for direct descriptors.
pub(super) fn set_up(options: &RingOptions) -> Result<IoUring, Missing> {
    let uring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        // Without it an entry that does not wait would leave completions of sockets where they are.
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_cqsize(options.completions)
        .build(options.entries)
        .map_err(Missing::Ring)?;
    probe(&uring)?;
    uring.submitter().register_files_sparse(options.files).map_err(Missing::Ring)?;
    Ok(uring)
}

/// Whether the kernel knows every operation that is used here.
fn probe(uring: &IoUring) -> Result<(), Missing> {
    let mut probe = Probe::new();
    uring.submitter().register_probe(&mut probe).map_err(Missing::Ring)?;
    let needed = [
        (opcode::AcceptMulti::CODE, "ACCEPT"),
        (opcode::RecvMulti::CODE, "RECV"),
        (opcode::PollAdd::CODE, "POLL_ADD"),
        (opcode::Send::CODE, "SEND"),
        (opcode::Shutdown::CODE, "SHUTDOWN"),
        (opcode::Close::CODE, "CLOSE"),
        (opcode::AsyncCancel2::CODE, "ASYNC_CANCEL"),
        (opcode::MsgRingSendFd::CODE, "MSG_RING (Linux 6.0)"),
        (opcode::SetSockOpt::CODE, "URING_CMD for sockets (Linux 6.7)"),
    ];
    match needed.iter().find(|(code, _)| !probe.is_supported(*code)) {
        Some((_, name)) => Err(Missing::Operation(name)),
        None => Ok(()),
    }
}
