//! What a service is: something that takes a notice to a device, and says what has become of it.

use std::borrow::Cow;
use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use crate::notice::Notice;
use crate::token::{Token, TokenKind};

/// What is waited for.
pub type Doing<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// See the module.
pub trait Service: Send + Sync + 'static {
    /// What it is called in logs and counters.
    fn name(&self) -> &'static str;

    /// Which tokens are its.
    fn kind(&self) -> TokenKind;

    /// Sends a notice once, and gives what the service says. It ends within a bounded time, whatever the service does.
    fn send<'a>(&'a self, token: &'a Token, notice: &'a Notice) -> Doing<'a, Answer>;
}

/// What a service says of a notice.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It has it. Whether the device ever shows it is not known.
    Delivered,
    /// There is no such device any more: its token is of no use.
    Dead,
    /// It will never take this notice.
    Refused(Reason),
    /// It does not take it now.
    Later {
        /// Who is to wait.
        trouble: Trouble,
        /// For how long at least, if it says so.
        after: Option<Duration>,
    },
    /// It was not sent: there is no room at its host now. This is no try.
    Wait(Duration),
}

/// Why a service does not take a notice now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// This device is sent too much, or its host is down: what goes to others is not touched.
    Device,
    /// All that goes to the service is too much.
    Busy,
    /// The service is down, or can't be reached.
    Down,
}

/// Why a service has refused: its own word for it. It never has anything of a token or a notice in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Reason(Cow<'static, str>);

/// Characters of a reason. Beyond, it is none.
const REASON_CHARS_MAX: usize = 64;

impl Reason {
    /// One of ours.
    pub const fn of(reason: &'static str) -> Self {
        Self(Cow::Borrowed(reason))
    }

    /// A service's code, if it is one: letters, digits and `_`. A sentence could say what was sent.
    pub(crate) fn coded(code: &str, otherwise: &'static str) -> Self {
        let is_code = (1..=REASON_CHARS_MAX).contains(&code.len())
            && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if is_code { Self(Cow::Owned(code.to_owned())) } else { Self::of(otherwise) }
    }

    /// A status of HTTP.
    pub(crate) fn status(status: u16) -> Self {
        Self(Cow::Owned(format!("status {status}")))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Answer {
    /// The service is down, or can't be reached.
    pub(crate) const DOWN: Self = Self::Later { trouble: Trouble::Down, after: None };
    /// The token is not of this service: whoever has chosen the service is at fault.
    pub(crate) const NOT_ITS_TOKEN: Self = Self::Refused(Reason::of("the token is another service's"));
}
