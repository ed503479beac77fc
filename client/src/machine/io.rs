//! What comes into the machine, and what it wants done: two closed sets.

use std::fmt;
use std::time::Duration;

use tern_proto::v1::{self, client_frame, lookup, server_frame};

use super::rows::Person;
use crate::client::{HistoryPage, Sent};
use crate::error::Error;
use crate::event::{Event, Status};
use crate::message::NewMessage;

/// When something comes in.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Now {
    /// Since some fixed moment: it never falls.
    pub monotonic: Duration,
    /// In ms since the Unix epoch, as far as the device knows: it may jump.
    pub unix_ms: u64,
}

/// Numbers the machine's connections, from 1.
pub type ConnectionId = u64;

/// Numbers what the application asks: its shell gives them out, each once.
pub type Ticket = u64;

/// What comes in.
pub enum Input {
    /// A moment that the machine has asked to be woken at has come, or there is something to do about what the application has
    /// dealt with ([`super::Machine::minds`]).
    Due,
    /// A connection stands, up to and with TLS.
    Connected(ConnectionId),
    /// The next bytes of a connection's stream, cut anywhere.
    Received(ConnectionId, Vec<u8>),
    /// A connection could not be made, or was lost.
    Lost(ConnectionId, Error),
    /// The application wants something.
    Ask(Ticket, Ask),
    /// The application wants no more.
    Close,
}

/// What the application wants.
#[derive(Clone)]
pub enum Ask {
    /// A message is to be kept, and sent: [`Reply::Kept`] comes first, then [`Reply::Sent`].
    Send(NewMessage),
    /// [`Reply::Person`].
    Lookup(lookup::By),
    /// Everything up to a message was read: [`Reply::Done`].
    MarkRead {
        /// The chat.
        chat: u64,
        /// The message.
        upto: u64,
    },
    /// A request whose answer changes nothing but people's names here: [`Reply::Message`].
    Request(client_frame::Request),
    /// [`Reply::Page`].
    History(v1::History),
    /// Whom the device shows from now on, on later connections too: [`Reply::Done`].
    Show(v1::Subscribe),
    /// Waits until everything that was kept is sent or refused: [`Reply::Done`].
    Flush,
}

/// What the application is answered.
#[derive(Clone, PartialEq)]
pub enum Reply {
    /// The message is kept. The same ticket is answered once more.
    Kept,
    /// The message is durable on the server.
    Sent(Sent),
    /// It is so.
    Done,
    /// Who it is.
    Person(Person),
    /// What the server said.
    Message(server_frame::Message),
    /// What the server has.
    Page(HistoryPage),
}

/// What is to be done, in this order. Whatever it rests on is stored.
pub enum Action {
    /// Connect to the server.
    Connect(ConnectionId),
    /// Send these bytes.
    Send(ConnectionId, Vec<u8>),
    /// End the connection, or stop making it. Nothing more of it need come in.
    Close {
        /// Which.
        connection: ConnectionId,
        /// What was to be sent is sent first, and the other side told that this is the end.
        cleanly: bool,
    },
    /// Tell the application.
    Tell {
        /// What.
        event: Event,
        /// Those that the application deals with are numbered, from 1.
        number: Option<u64>,
    },
    /// Whoever asks how it is, is told this from here on.
    Status(Status),
    /// Answer what the application has asked.
    Answer(Ticket, Result<Reply, Error>),
    /// It is over: nothing that comes in has an effect any more.
    Over,
}

/// How far the application is with what it was told.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Progress {
    /// So many events it has taken.
    pub taken: u64,
    /// It has dealt with those of a number up to this.
    pub dealt_with: u64,
}

/// Shows no content, as all below.
impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Due => write!(f, "Due"),
            Self::Connected(connection) => write!(f, "Connected({connection})"),
            Self::Received(connection, bytes) => write!(f, "Received({connection}, {} bytes)", bytes.len()),
            Self::Lost(connection, error) => write!(f, "Lost({connection}, {error})"),
            Self::Ask(ticket, ask) => write!(f, "Ask({ticket}, {ask:?})"),
            Self::Close => write!(f, "Close"),
        }
    }
}

impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send(message) => write!(f, "Send({message:?})"),
            Self::Lookup(lookup::By::UserId(user)) => write!(f, "Lookup({user})"),
            Self::Lookup(lookup::By::Phone(_)) => write!(f, "Lookup(a phone)"),
            Self::Lookup(lookup::By::Card(card)) => write!(f, "Lookup(the card of {})", card.user_id),
            Self::MarkRead { chat, upto } => write!(f, "MarkRead {{ of {chat}, up to {upto} }}"),
            Self::Request(_) => write!(f, "Request"),
            Self::History(v1::History { chat, from, forwards, limit }) => {
                write!(f, "History {{ of {chat}, from {from}, forwards {forwards}, limit {limit} }}")
            }
            Self::Show(shows) => {
                write!(f, "Show({} people, {} groups)", shows.user_ids.len(), shows.groups.len())
            }
            Self::Flush => write!(f, "Flush"),
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kept => write!(f, "Kept"),
            Self::Sent(sent) => write!(f, "{sent:?}"),
            Self::Done => write!(f, "Done"),
            Self::Person(person) => write!(f, "Person({})", person.user_id),
            Self::Message(_) => write!(f, "Message"),
            Self::Page(page) => write!(f, "Page({:?})", page.messages),
        }
    }
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(connection) => write!(f, "Connect({connection})"),
            Self::Send(connection, bytes) => write!(f, "Send({connection}, {} bytes)", bytes.len()),
            Self::Close { connection, cleanly } => write!(f, "Close({connection}, cleanly {cleanly})"),
            Self::Tell { event: Event::Message(message), number } => {
                write!(f, "Tell({message:?}, {number:?})")
            }
            Self::Tell { event: Event::NotSent { chat, reason, .. }, .. } => {
                write!(f, "Tell(NotSent {{ to {chat}, {} }})", reason.name())
            }
            Self::Tell { event: Event::PersonChanged(person), .. } => {
                write!(f, "Tell(PersonChanged({}))", person.user_id)
            }
            Self::Tell { event, number } => write!(f, "Tell({event:?}, {number:?})"),
            Self::Status(status) => write!(f, "Status({status:?})"),
            Self::Answer(ticket, answer) => write!(f, "Answer({ticket}, {answer:?})"),
            Self::Over => write!(f, "Over"),
        }
    }
}
