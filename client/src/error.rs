//! What can go wrong, by what the application can do about it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use tern_proto::v1;
use tern_wire::errors::Reason;

/// An error of this library.
#[derive(Clone, Debug)]
pub enum Error {
    /// The server can't be reached, or the connection broke: try again.
    Connection(Arc<std::io::Error>),
    /// There is no connection: the last try's failure.
    Offline {
        /// HOST:PORT.
        server: String,
        /// In words.
        why: String,
    },
    /// The server is not the one that is trusted, or speaks no common TLS.
    Tls {
        /// In words.
        why: String,
        /// The SHA-256 of the certificate that came, as pairs of hexadecimal digits with colons between, if that is what is not
        /// trusted.
        sha256: Option<String>,
    },
    /// The server refused the request.
    Refused {
        /// Why, for programs.
        reason: Reason,
        /// When to try again, in milliseconds; 0 if it won't help.
        retry_after_ms: u32,
        /// Why, for developers.
        detail: String,
    },
    /// Where media are refused something.
    Media {
        /// The status of HTTP.
        status: u16,
        /// In words.
        why: String,
    },
    /// The server said something that the protocol does not allow.
    Protocol(&'static str),
    /// No answer came in time.
    TimedOut,
    /// This profile is not registered.
    NotRegistered,
    /// The session has ended for good: register again.
    SessionEnded(Reason),
    /// The server's store is another one than this profile was registered in: nothing was sent to it.
    OtherStore {
        /// HOST:PORT.
        server: String,
    },
    /// This profile holds something that registering would empty.
    ProfileTaken(String),
    /// A message of this key was sent before, to another person or with another text.
    KeyReused,
    /// Another process uses this profile.
    ProfileInUse {
        /// The profile.
        dir: PathBuf,
        /// The process, if it says so.
        pid: Option<u32>,
    },
    /// The profile can't be read or written.
    Store(String),
    /// A file or option can't be used.
    Config(String),
    /// The client has been closed.
    Closed,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(error) => write!(f, "the server can't be reached: {error}"),
            Self::Offline { server, why } => write!(f, "{server}: {why}"),
            Self::Tls { why, .. } => write!(f, "no trusted connection to the server: {why}"),
            Self::Refused { reason: Reason::Suspended, retry_after_ms, .. } => {
                write!(f, "this account is suspended by the operators of the server")?;
                match retry_after_ms {
                    0 => write!(f, ", until they free it"),
                    wait_ms => write!(f, ", for {} s more", wait_ms.div_ceil(1000)),
                }
            }
            Self::Refused { reason: Reason::AccountEnds, retry_after_ms, .. } => {
                let hours = retry_after_ms.div_ceil(3_600_000);
                write!(f, "this account ends in {hours} h: whoever registers its phone before keeps it")
            }
            Self::Refused { reason, retry_after_ms, detail } => {
                write!(f, "refused ({}): {detail}", reason.name())?;
                if *retry_after_ms > 0 {
                    write!(f, "; try again in {} s", retry_after_ms.div_ceil(1000))?;
                }
                Ok(())
            }
            Self::Media { status, why } => write!(f, "refused ({status}): {why}"),
            Self::Protocol(what) => write!(f, "the server broke the protocol: {what}"),
            Self::TimedOut => write!(f, "no answer came in time"),
            Self::NotRegistered => write!(f, "this profile is not registered: register first"),
            Self::SessionEnded(reason) => {
                write!(f, "the session has ended ({}): register again", reason.name())
            }
            Self::OtherStore { server } => write!(
                f,
                "{server} is not the server that this profile was registered with: it was set up anew, or is another \
                 one. Nothing was sent. `tern register PHONE --replace` makes a new device there, and empties the \
                 profile; `tern history PHONE --local` shows what it has kept"
            ),
            Self::ProfileTaken(what) => write!(f, "this profile {what}: --replace empties it"),
            Self::KeyReused => write!(f, "a message of this key was sent before, and was not this one"),
            Self::ProfileInUse { dir, pid } => {
                write!(f, "the profile {} is in use by another process", dir.display())?;
                pid.map_or(Ok(()), |pid| write!(f, " ({pid})"))
            }
            Self::Store(why) => write!(f, "the profile can't be used: {why}"),
            Self::Config(why) => write!(f, "{why}"),
            Self::Closed => write!(f, "the client has been closed"),
        }
    }
}

impl std::error::Error for Error {}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::Connection(error.into())
    }
}

impl From<v1::Refused> for Error {
    fn from(refused: v1::Refused) -> Self {
        Self::Refused {
            reason: refused.reason(),
            retry_after_ms: refused.retry_after_ms,
            detail: refused.detail,
        }
    }
}
