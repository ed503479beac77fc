//! Why a connection ended, and so what follows.

use std::time::Duration;

use tern_wire::errors::Reason;

use crate::error::Error;
use crate::machine::limits::SUSPENDED_WAIT;

/// See the module.
#[derive(Debug)]
pub(crate) enum Ended {
    /// It is to be made again, not before so long.
    Lost(Error, Duration),
    /// The session is over.
    Final(Reason),
    /// The store is not the one that the session is of.
    OtherStore,
    /// The application wants no more.
    Closed,
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        match &error {
            Error::Refused { reason: reason @ (Reason::TokenReused | Reason::TokenInvalid), .. }
            | Error::Refused { reason: reason @ (Reason::SessionRevoked | Reason::Replaced), .. } => {
                Self::Final(*reason)
            }
            // Until operators, or whoever proves the phone, say otherwise: it is asked again now and then.
            Error::Refused { reason: Reason::Suspended | Reason::AccountEnds, retry_after_ms, .. } => {
                let wait = match retry_after_ms {
                    0 => SUSPENDED_WAIT,
                    wait_ms => Duration::from_millis((*wait_ms).into()).min(SUSPENDED_WAIT),
                };
                Self::Lost(error, wait)
            }
            Error::Refused { retry_after_ms, .. } => {
                let wait = Duration::from_millis((*retry_after_ms).into());
                Self::Lost(error, wait)
            }
            Error::OtherStore { .. } => Self::OtherStore,
            _ => Self::Lost(error, Duration::ZERO),
        }
    }
}
