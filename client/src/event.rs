//! What an application hears of, and what it says it has dealt with.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tern_wire::errors::Reason;
use tokio::sync::{Notify, mpsc};

use crate::error::Error;
use crate::machine::Progress;
use crate::machine::rows::Person;
use crate::message::{Kind, Message};
use crate::presence::Doing;
use crate::stories::StoryNews;

/// Something has happened. Messages of one person come in the order of their seqs; each comes again after a restart until
/// the application has asked for the next event, and only then the server is told that it has arrived.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The connection stands; what was missed comes next.
    Connected,
    /// It does not, and is tried again by itself.
    Disconnected {
        /// Why, for developers.
        why: String,
        /// Why, for programs.
        cause: Cause,
        /// When it is tried again.
        retry_in: Duration,
    },
    /// Everything that was missed has come.
    CaughtUp,
    /// A message, or something about one: from a person, or of one's own from any device.
    Message(Message),
    /// A person, or another of one's own devices, has got further. After a [`Event::Rewound`] this may be less than before.
    Receipt {
        /// The chat.
        chat: u64,
        /// Everything up to here has reached a device.
        delivered_upto: u64,
        /// Everything up to here was read.
        read_upto: u64,
        /// It is one's own reading, on another device.
        own: bool,
    },
    /// The server's store was put back from a copy: what one had of a chat beyond here is in doubt. What the server has
    /// stays as it was told, and what it has in its place comes as messages; the rest follows as [`Event::Gone`].
    Rewound {
        /// The chat.
        chat: u64,
        /// Everything up to here is there.
        upto: u64,
    },
    /// The server had this message and has it no more. It is kept here. Was it one's own, then the server has lost it
    /// although it had been sent, and it is not sent again by itself.
    Gone(Message),
    /// A message that was kept by an earlier run, and that the server refused now: it is not sent.
    NotSent {
        /// To whom.
        chat: u64,
        /// What its body is.
        kind: Kind,
        /// What.
        body: Vec<u8>,
        /// Why, for programs.
        reason: Reason,
        /// Why, for developers.
        detail: String,
    },
    /// The server does not take messages to a person for now: too much waits for them, or one has written to too many
    /// strangers. What is kept for them is sent later.
    Delayed {
        /// To whom.
        chat: u64,
        /// Why, for programs.
        reason: Reason,
        /// When it is tried again.
        retry_in: Duration,
    },
    /// A person is not as before: another name, or no account any more (neither name nor phone).
    PersonChanged(Person),
    /// Another device was added to one's own account: whoever did not do that should look into it.
    DeviceAdded {
        /// Which.
        device_id: u32,
        /// What it is called; empty if it was added while this one was away.
        device_name: String,
        /// When, in ms since the Unix epoch; 0 if it was added while this one was away.
        time_ms: u64,
    },
    /// Another device of one's account asks that this one rings, now.
    Ring {
        /// Which.
        device_id: u32,
        /// What it is called.
        device_name: String,
    },
    /// Somebody whom this device shows is here, or is not. Without a connection nothing is known of that.
    Presence {
        /// Who.
        user_id: u64,
        /// Whether they are here; `None`: not for one to know, or not known.
        online: Option<bool>,
        /// When they were here last, in ms since the Unix epoch; 0: likewise, or they are here.
        last_seen_ms: u64,
    },
    /// Somebody does something just now. It is over when that is said, or when nothing more was heard of it for 6 seconds.
    Activity {
        /// In which chat.
        chat: u64,
        /// Who.
        sender: u64,
        /// What.
        doing: Doing,
    },
    /// Something of stories: what was told while there was no connection is not told later, but is to be listed.
    Story(Box<StoryNews>),
    /// The session has ended for good: nothing follows.
    SessionEnded(Reason),
    /// The server's store is another one than this profile was registered in: nothing was sent, and nothing follows.
    OtherStore,
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The server can't be reached, or does not serve now.
    Offline,
    /// The server is not trusted.
    Untrusted {
        /// The SHA-256 of its certificate, as pairs of hexadecimal digits with colons between, if that is what is not trusted.
        sha256: Option<String>,
    },
}

/// Whether there is a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// The first one is being made.
    Connecting,
    /// It stands.
    Connected,
    /// It does not, and is tried again by itself.
    Lost {
        /// Why, for developers.
        why: String,
        /// Why, for programs.
        cause: Cause,
    },
    /// The session has ended for good.
    Ended(Reason),
    /// The server's store is another one than this profile was registered in.
    OtherStore,
    /// The client has been closed.
    Closed,
}

impl From<&Error> for Cause {
    fn from(error: &Error) -> Self {
        match error {
            Error::Tls { sha256, .. } => Self::Untrusted { sha256: sha256.clone() },
            _ => Self::Offline,
        }
    }
}

/// What the application has taken and dealt with, for the client's task. Events that matter are numbered from 1.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    taken: AtomicU64,
    dealt_with: AtomicU64,
    pub(crate) notify: Notify,
}

impl Shared {
    pub(crate) fn progress(&self) -> Progress {
        Progress {
            taken: self.taken.load(Ordering::Acquire),
            dealt_with: self.dealt_with.load(Ordering::Acquire),
        }
    }

    fn taken(&self) {
        self.taken.fetch_add(1, Ordering::AcqRel);
        self.notify.notify_one();
    }

    fn note(&self, number: u64) {
        self.dealt_with.fetch_max(number, Ordering::AcqRel);
        self.notify.notify_one();
    }
}

/// The events, in order. Each is dealt with when the next one is asked for, or when [`Events::done`] is called: a message is
/// acknowledged to the server only then, and one that was not comes again after a restart. What an application does not
/// take stays in the profile's database; nothing piles up in memory.
#[derive(Debug)]
pub struct Events {
    events: mpsc::UnboundedReceiver<(Event, Option<u64>)>,
    shared: Arc<Shared>,
    /// The numbers of the last that was taken, and of the last that is dealt with.
    last: u64,
    dealt_with: u64,
}

impl Events {
    pub(crate) fn new(events: mpsc::UnboundedReceiver<(Event, Option<u64>)>, shared: Arc<Shared>) -> Self {
        Self { events, shared, last: 0, dealt_with: 0 }
    }

    /// The next event; `None` when the client has been closed, or its session has ended. Those before are dealt with.
    pub async fn next(&mut self) -> Option<Event> {
        self.done();
        self.take().await
    }

    /// The next event, if there is one now. Those before are dealt with.
    pub fn try_next(&mut self) -> Option<Event> {
        self.done();
        let (event, number) = self.events.try_recv().ok()?;
        Some(self.taken(event, number))
    }

    /// The next event. Those before are not dealt with until [`Events::done`] says so.
    pub async fn take(&mut self) -> Option<Event> {
        let (event, number) = self.events.recv().await?;
        Some(self.taken(event, number))
    }

    /// How many messages were taken and not dealt with.
    pub fn undone(&self) -> usize {
        (self.last - self.dealt_with) as usize
    }

    /// The number of the newest message that was taken: they are counted from 1.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// What was taken is dealt with.
    pub fn done(&mut self) {
        self.done_upto(self.last);
    }

    /// Messages that were taken are dealt with, up to one of this number.
    pub fn done_upto(&mut self, number: u64) {
        let upto = number.min(self.last);
        if upto > self.dealt_with {
            self.dealt_with = upto;
            self.shared.note(upto);
        }
    }

    fn taken(&mut self, event: Event, number: Option<u64>) -> Event {
        self.shared.taken();
        if let Some(number) = number {
            self.last = number;
        }
        event
    }
}
