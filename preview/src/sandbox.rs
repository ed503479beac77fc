//! Locks a process in before it reads what others have written: from then on it can read its standard input, write its standard output,
//! and use memory and time as far as they are given. There is no way back, and nothing else that it asks of the kernel is refused: the
//! process is killed.
//!
//! What it rests on, one behind the other:
//! - It can't get a descriptor: none can be opened (the filter, and a limit of 0), and of those that it has by mistake it can use none, for
//!   it may read from 0 and write to 1 and 2 alone.
//! - It can't run anything else: no new process or thread, no other program, and no memory that can be executed.
//! - It can't signal anybody but itself, to abort.
//! - It leaves no core: what it has read is nobody's to see.
//!
//! If any of it can't be had, nothing is read ([`exit::NO_SANDBOX`](crate::exit::NO_SANDBOX)).

use std::fmt;

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use crate::limits::Limits;

/// The process is not locked in.
#[derive(Debug)]
pub enum SandboxError {
    /// A limit of the process can't be set.
    Limit(rustix::io::Errno),
    /// The filter of system calls can't be made: there is none for this kind of processor.
    Filter(BackendError),
    /// The kernel does not take it: it is built without, or whoever started the process forbids `seccomp`.
    Kernel(seccompiler::Error),
}

impl fmt::Display for SandboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit(errno) => write!(f, "a limit of the process can't be set: {errno}"),
            Self::Filter(error) => write!(f, "the filter of system calls can't be made: {error}"),
            Self::Kernel(error) => write!(f, "the kernel does not take a filter of system calls: {error}"),
        }
    }
}

impl std::error::Error for SandboxError {}

/// See the module. For a process that has one thread, and nothing that it will need but its standard input and output.
pub fn enter(limits: &Limits) -> Result<(), SandboxError> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(SandboxError::Limit)?;
    let cpu_s = limits.cpu_s();
    for (resource, to) in [
        (Resource::As, limits.memory_bytes_max),
        // Standard output is a pipe: no file has a length that is not 0.
        (Resource::Fsize, 0),
        (Resource::Core, 0),
        (Resource::Nproc, 0),
        (Resource::Nofile, 0),
    ] {
        lower(resource, to, to)?;
    }
    // SIGXCPU, which says what has happened; and SIGKILL a second later.
    lower(Resource::Cpu, cpu_s, cpu_s + 1)?;
    let filter = filter().map_err(SandboxError::Filter)?;
    // It sets no_new_privs too.
    seccompiler::apply_filter_all_threads(&filter).map_err(SandboxError::Kernel)
}

/// Lowers a limit, never beyond what whoever started the process has left it.
fn lower(resource: Resource, current: u64, maximum: u64) -> Result<(), SandboxError> {
    let was = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let limit = Rlimit { current: Some(current.min(was)), maximum: Some(maximum.min(was)) };
    setrlimit(resource, limit).map_err(SandboxError::Limit)
}

/// What the process may ask of the kernel, and how; all else kills it.
fn filter() -> Result<BpfProgram, BackendError> {
    let executable = |argument| {
        let no_bit = SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64);
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, no_bit, 0)
    };
    let (pid, aborts) = (u64::from(std::process::id()), libc::SIGABRT as u64);
    let no_file = u64::from(u32::MAX);
    let rules = [
        (libc::SYS_read, vec![SeccompRule::new(vec![is(0, 0)?])?]),
        // Standard error too: the last words of the allocator and of a stack that is used up, which have no content of the file.
        (libc::SYS_write, vec![SeccompRule::new(vec![is(0, 1)?])?, SeccompRule::new(vec![is(0, 2)?])?]),
        (libc::SYS_mmap, vec![SeccompRule::new(vec![executable(2)?, is(4, no_file)?])?]),
        (libc::SYS_mprotect, vec![SeccompRule::new(vec![executable(2)?])?]),
        (libc::SYS_tgkill, vec![SeccompRule::new(vec![is(0, pid)?, is(2, aborts)?])?]),
    ];
    let rules = rules.into_iter().chain(ALLOWED.iter().map(|call| (*call, Vec::new())));
    let arch = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules.collect(), SeccompAction::KillProcess, SeccompAction::Allow, arch)?.try_into()
}

/// What it may ask in any way: its memory, its end, its own signals, the time, and randomness.
const ALLOWED: &[i64] = &[
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
];

fn is(argument: u8, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}
