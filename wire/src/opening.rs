//! The order of a connection's opening, as one table: what may be asked in which state.
//!
//! ```text
//! AwaitingHello --Hello--> Welcomed --Login--> LoggedIn
//! ```

use crate::errors::{Farewell, Reason, Refusal};
use crate::limits::{FRAME_BYTES_MAX, FRAME_BYTES_MAX_BEFORE_LOGIN};
use crate::request::Request;

/// How far a connection's opening has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Opening {
    /// Nothing has been said.
    #[default]
    AwaitingHello,
    /// The version is agreed.
    Welcomed,
    /// It stands for a device of a user.
    LoggedIn,
}

/// Why a request can't be taken in the present state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OutOfOrder {
    /// The request alone is refused.
    Refuse(Refusal),
    /// The connection ends.
    Close(Farewell),
}

impl Opening {
    /// Whether `request` may come now.
    pub fn admit(self, request: &Request) -> Result<(), OutOfOrder> {
        use OutOfOrder::{Close, Refuse};
        use Request as R;
        let hello_first = Farewell::new(Reason::Unexpected, "the first request is not Hello");
        let hello_twice = Farewell::new(Reason::Unexpected, "Hello came twice");
        let login_first = Refusal::new(Reason::Unauthenticated, "that needs a Login first");
        let login_twice = Refusal::new(Reason::Unexpected, "the connection is logged in");
        match (self, request) {
            (Self::AwaitingHello, R::Hello(_)) => Ok(()),
            (Self::AwaitingHello, _) => Err(Close(hello_first)),
            (_, R::Hello(_)) => Err(Close(hello_twice)),
            (
                Self::Welcomed,
                R::Register(_) | R::Verify(_) | R::Refresh(_) | R::Login(_) | R::Link(_) | R::Ping,
            ) => Ok(()),
            (Self::Welcomed, _) => Err(Refuse(login_first)),
            (Self::LoggedIn, R::Login(_)) => Err(Refuse(login_twice)),
            (Self::LoggedIn, _) => Ok(()),
        }
    }

    /// The longest frame that may come now, in bytes without the length prefix.
    pub fn frame_bytes_max(self) -> usize {
        match self {
            Self::AwaitingHello | Self::Welcomed => FRAME_BYTES_MAX_BEFORE_LOGIN,
            Self::LoggedIn => FRAME_BYTES_MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{Hello, PushWindow, Resume};

    #[test]
    fn hello_comes_once_and_first() {
        let hello =
            Request::Hello(Hello { version: Some(1), client: String::new(), window: PushWindow::default() });
        assert_eq!(Opening::AwaitingHello.admit(&hello), Ok(()));
        assert!(matches!(Opening::AwaitingHello.admit(&Request::Ping), Err(OutOfOrder::Close(_))));
        assert!(matches!(Opening::Welcomed.admit(&hello), Err(OutOfOrder::Close(_))));
        assert!(matches!(Opening::LoggedIn.admit(&hello), Err(OutOfOrder::Close(_))));
    }

    #[test]
    fn what_needs_a_login_is_refused_before_it_and_login_after_it() {
        let (resume, login) = (Request::Resume(Resume::default()), Request::Login(String::new()));
        let Err(OutOfOrder::Refuse(early)) = Opening::Welcomed.admit(&resume) else {
            panic!("a Resume before Login must be refused")
        };
        assert_eq!(early.reason, Reason::Unauthenticated);
        let Err(OutOfOrder::Refuse(twice)) = Opening::LoggedIn.admit(&login) else {
            panic!("a second Login must be refused")
        };
        assert_eq!(twice.reason, Reason::Unexpected);
        assert_eq!(Opening::Welcomed.admit(&login), Ok(()));
        assert_eq!(Opening::LoggedIn.admit(&resume), Ok(()));
    }
}
