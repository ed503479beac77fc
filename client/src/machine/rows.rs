//! What a device keeps, as plain values: what [`super::tables::Tables`] holds, and nothing of how it holds it.

use std::fmt;

use bytes::Bytes;
use tern_proto::v1;

use crate::client::Sent;
use crate::message::{Envelope, Message};

/// This device's session.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// E.164.
    pub phone: String,
    /// The user.
    pub user_id: u64,
    /// The device.
    pub device_id: u32,
    pub(crate) access_token: String,
    pub(crate) access_expires_ms: u64,
    pub(crate) refresh_token: String,
    /// The id of the server's store; empty until a server has named it.
    pub(crate) store: Vec<u8>,
}

impl Account {
    /// The account of a session that a server in the store with this id (empty: not known) has just made.
    pub fn new(phone: &str, session: &v1::Session, store: &[u8]) -> Self {
        Self {
            phone: phone.to_owned(),
            user_id: session.user_id,
            device_id: session.device_id,
            access_token: session.access_token.clone(),
            access_expires_ms: session.access_expires_ms,
            refresh_token: session.refresh_token.clone(),
            store: store.to_vec(),
        }
    }

    /// For tests that speak the protocol themselves.
    #[doc(hidden)]
    pub fn access_token(&self) -> &str {
        &self.access_token
    }
}

/// Shows no token.
impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account").field("user_id", &self.user_id).field("device_id", &self.device_id).finish()
    }
}

/// The session, and what counts up with it.
#[derive(Clone, PartialEq, Eq)]
pub struct DeviceRow {
    /// The session.
    pub account: Account,
    /// The nonce of the refresh under way.
    pub nonce: Option<Vec<u8>>,
    /// The number of the next message that is kept.
    pub next_client_id: u64,
    /// The newest device of the account that the person was told of; 0 before the first login.
    pub newest_device: u32,
}

impl DeviceRow {
    /// What a new session begins with.
    pub fn new(account: Account) -> Self {
        let newest_device = account.device_id;
        Self { account, nonce: None, next_client_id: 1, newest_device }
    }
}

/// A person.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Person {
    /// The user.
    pub user_id: u64,
    /// The display name.
    pub name: String,
    /// E.164; empty if the server did not tell.
    pub phone: String,
    /// What they say of themselves; empty if that is nothing, or not for one to see.
    pub about: String,
    /// What names their picture; empty likewise.
    pub picture: Vec<u8>,
    /// Rises with each change of what one sees of them.
    pub version: u64,
}

/// How far this device is with one person.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct LogState {
    /// The person.
    pub chat: u64,
    /// Everything up to here is stored.
    pub position: u64,
    /// The server knows that it is.
    pub acked: u64,
    /// One's own read watermark.
    pub read_upto: u64,
    /// The server knows it.
    pub read_acked: u64,
    /// The peer has everything up to here.
    pub others_delivered: u64,
    /// The peer has read up to here.
    pub others_read: u64,
    /// The newest of one's own messages.
    pub last_own: u64,
    /// The application has dealt with everything up to here.
    pub told: u64,
    /// The newest that is stored, beyond a gap or not.
    pub top: u64,
}

/// An entry of a log.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct EntryRow {
    /// Its place.
    pub seq: u64,
    /// Who sent it.
    pub sender: u64,
    /// When the server committed it, in ms since the Unix epoch.
    pub time_ms: u64,
    /// The number of its [`v1::Kind`], known to this version or not.
    pub kind: i32,
    /// What was sent.
    pub body: Bytes,
    /// What was said of it beside that.
    pub envelope: Envelope,
    /// It was deleted for everyone, or is an edit of one that was; or its time has come.
    pub erased: bool,
    /// When its time comes, in ms since the Unix epoch; 0: never.
    pub expires_ms: u64,
    /// The application was told before the server was put back.
    pub seen: bool,
}

/// Shows no content, as all below.
impl fmt::Debug for EntryRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seq, sender, time_ms, kind, body, seen, .. } = self;
        let bytes = body.len();
        write!(f, "Entry {{ seq {seq} of {sender} at {time_ms}, kind {kind}, {bytes} bytes, seen {seen} }}")
    }
}

impl fmt::Debug for DeviceRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { account, nonce, next_client_id, newest_device } = self;
        let refreshing = nonce.is_some();
        write!(
            f,
            "Device {{ {account:?}, refreshing {refreshing}, next {next_client_id}, newest {newest_device} }}"
        )
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outgoing {{ {} to {}, {} bytes }}", self.client_id, self.chat, self.body.len())
    }
}

impl fmt::Debug for KeyRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key {{ of {}, sent {:?} }}", self.client_id, self.sent)
    }
}

impl EntryRow {
    /// What it says, whatever the application knows of it. Of one that was deleted only the place is left.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let says_same = self.body == other.body || self.erased || other.erased;
        says_same && (self.sender, self.time_ms) == (other.sender, other.time_ms)
    }

    /// Nothing is left of what it said.
    pub(crate) fn erase(&mut self) {
        (self.body, self.erased) = (Bytes::new(), true);
        self.envelope.mentions.clear();
        self.envelope.media.clear();
        self.envelope.story = None;
    }

    /// As the application is told of it: in the chat with this person, by this user's device.
    pub(crate) fn into_message(self, chat: u64, me: u64) -> Message {
        let Self { seq, sender, time_ms, kind, body, envelope, erased, expires_ms, seen: _ } = self;
        let (own, kind, body) = (sender == me || chat == me, kind.into(), body.into());
        Message { chat, seq, sender, time_ms, body, own, kind, envelope, erased, expires_ms, edited_by: 0 }
    }
}

/// An entry that the server had, and may have no more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GoneRow {
    /// They are numbered as they went, from 1.
    pub id: u64,
    /// The chat.
    pub chat: u64,
    /// What stood there.
    pub entry: EntryRow,
    /// The application knows that it is gone.
    pub told: bool,
}

/// A message that the server has not acknowledged.
#[derive(Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Its number.
    pub client_id: u64,
    /// To whom; 0: it makes a group.
    pub chat: u64,
    /// The number of its [`v1::Kind`].
    pub kind: i32,
    /// What.
    pub body: Vec<u8>,
    /// What is said of it beside that.
    pub envelope: Envelope,
}

/// A message that is known again by a key of the application's.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// The key.
    pub key: String,
    /// The message's number.
    pub client_id: u64,
    /// Tells another message from a retry.
    pub digest: Vec<u8>,
    /// What became of it, once it is sent.
    pub sent: Option<Sent>,
}
