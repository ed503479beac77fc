//! What an application hears of.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tern_wire::errors::Reason;
use tokio::sync::{Notify, mpsc};

/// Something has happened. Messages of one person come in the order of their seqs, each once.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The connection stands; what was missed comes next.
    Connected,
    /// It does not, and is tried again by itself.
    Disconnected {
        /// Why, for developers.
        why: String,
        /// When it is tried again.
        retry_in: Duration,
    },
    /// Everything that was missed has come.
    CaughtUp,
    /// A message: from a person, or of one's own from any device.
    Message(Message),
    /// A person, or another of one's own devices, has got further.
    Receipt {
        /// The chat.
        peer: u64,
        /// Everything up to here has reached a device.
        delivered_upto: u64,
        /// Everything up to here was read.
        read_upto: u64,
        /// It is one's own reading, on another device.
        own: bool,
    },
    /// The session has ended for good: nothing follows.
    SessionEnded(Reason),
}

/// A message.
#[derive(Clone, PartialEq)]
pub struct Message {
    /// The chat.
    pub peer: u64,
    /// Its place there.
    pub seq: u64,
    /// Who sent it.
    pub sender: u64,
    /// When the server committed it, in ms since the Unix epoch.
    pub time_ms: u64,
    /// What was sent.
    pub body: Vec<u8>,
    /// It is one's own.
    pub own: bool,
}

/// Shows no content.
impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Message {{ peer {}, seq {}, {} bytes }}", self.peer, self.seq, self.body.len())
    }
}

/// What an event holds of its connection's credit window, until the application has taken it.
#[derive(Debug)]
pub(crate) struct Charge {
    pub(crate) taken: Arc<Taken>,
    pub(crate) bytes: u64,
}

/// What has been taken of one connection's pushes.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) frames: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) notify: Notify,
}

/// The events, in order. An application that takes them slowly is pushed to slowly: the server gets no credit for
/// what has not been taken. Its own requests go on meanwhile.
#[derive(Debug)]
pub struct Events {
    pub(crate) events: mpsc::UnboundedReceiver<(Event, Option<Charge>)>,
}

impl Events {
    /// The next event; `None` when the client has been closed, or its session has ended.
    pub async fn next(&mut self) -> Option<Event> {
        let (event, charge) = self.events.recv().await?;
        Some(taken(event, charge))
    }

    /// The next event, if there is one now.
    pub fn try_next(&mut self) -> Option<Event> {
        let (event, charge) = self.events.try_recv().ok()?;
        Some(taken(event, charge))
    }
}

fn taken(event: Event, charge: Option<Charge>) -> Event {
    if let Some(Charge { taken, bytes }) = charge {
        taken.frames.fetch_add(1, Ordering::Relaxed);
        taken.bytes.fetch_add(bytes, Ordering::Relaxed);
        taken.notify.notify_one();
    }
    event
}
