//! The machine's bounds and times, with what happens when they are reached.

use std::time::Duration;

/// How long connecting and the TLS handshake may take together. Then the connection is given up, and made again after a wait.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a response may take. Then the connection is given up.
pub(crate) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(20);

/// The longest wait before the first reconnect, doubled with every failure.
pub(crate) const BACKOFF_MIN: Duration = Duration::from_millis(100);

/// The longest wait before any reconnect.
pub(crate) const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// How long a client whose account is suspended stays away at the most: operators may free it earlier than was said.
pub(crate) const SUSPENDED_WAIT: Duration = Duration::from_secs(60);

/// The least time until a request that was refused for now is made again.
pub(crate) const RETRY_MIN: Duration = Duration::from_millis(100);

/// A token that ends within this is exchanged before it is used.
pub(crate) const TOKEN_SPARE_MS: u64 = 60_000;

/// Asks that wait: for a connection that is being made, for the server's window, or for the outbox to be empty. Beyond, the machine
/// takes no more ([`super::Machine::takes_asks`]), and callers wait.
pub(crate) const ASKS_WAITING_MAX: usize = 1024;

/// How soon a person whose name or phone the server did not tell is looked up again.
pub(crate) const ASK_AGAIN: Duration = Duration::from_secs(60);

/// People of whom is remembered when they were looked up. Beyond, that is forgotten, and some are asked for too soon.
pub(crate) const ASKED_MAX: usize = 4096;

/// How long acknowledgements gather before they are sent.
pub(crate) const ACKNOWLEDGE_DELAY: Duration = Duration::from_millis(25);

/// Messages sent and not yet acknowledged; the rest of the outbox waits.
pub(crate) const SENDS_IN_FLIGHT_MAX: usize = 64;

/// Events that the application has not taken. Beyond, the store keeps what it would be told.
pub(crate) const EVENTS_WAITING_MAX: u64 = 256;

/// So few events must be left before an application that was told as much as it takes is told more. Filling up event by event
/// would read the store once for each.
pub(crate) const EVENTS_WAITING_FEW: u64 = 128;
