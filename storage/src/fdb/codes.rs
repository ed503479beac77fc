//! What FoundationDB's error codes mean to a commit.

use super::client::Code;

/// What follows from an error of a commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meaning {
    /// Something that it rests on has changed: nothing of it is there.
    Conflict,
    /// Nobody knows: it may be there, or land later.
    Unknown,
    /// Nothing of it is there, and it may go well the next time.
    Again,
    /// Nothing of it is there, and an operator has locked the database.
    Locked,
    /// A bug of ours, or a client library that does not fit: nothing goes on.
    Broken,
}

/// `not_committed`.
pub const NOT_COMMITTED: Code = Code(1020);
/// `commit_unknown_result`: it is there or not, and lands no more.
pub const UNKNOWN_RESULT: Code = Code(1021);
/// `transaction_timed_out`.
pub const TIMED_OUT: Code = Code(1031);
/// `cluster_version_changed`.
pub const CLUSTER_VERSION_CHANGED: Code = Code(1039);
/// `operation_cancelled`.
pub const CANCELLED: Code = Code(1101);
/// `transaction_too_old`.
pub const TOO_OLD: Code = Code(1007);
/// `database_locked`.
pub const LOCKED: Code = Code(1038);
/// `commit_proxy_memory_limit_exceeded`.
pub const PROXY_MEMORY: Code = Code(1042);
/// `tag_throttled`.
pub const THROTTLED: Code = Code(1213);

/// What a code means. What is not known here may have landed, unless it is of the client's own errors, from 1500 on.
pub fn meaning(code: Code) -> Meaning {
    match code.0 {
        1020 => Meaning::Conflict,
        // Too old, future version, process behind, proxies' memory, throttled: batch, memory of read versions, tags.
        1007 | 1009 | 1037 | 1042 | 1051 | 1078 | 1213 | 1235 => Meaning::Again,
        1038 => Meaning::Locked,
        1..1500 => Meaning::Unknown,
        _ => Meaning::Broken,
    }
}
