//! One entry of a log, as it lies in memory, in the store and on the wire.

use bytes::Bytes;
use prost::Message;
use tern_proto::v1;
use tern_storage::LogId;
use tern_storage::records::{EntryRecord, StoryIdRecord};
use tern_wire::ids::{ChatId, ClientMessageId, DeviceId, MediaId, Seq, UserId};
use tern_wire::message::{Envelope, is_message};
use tern_wire::story::StoryId;
use xxhash_rust::xxh3::Xxh3;

/// A device of a user: who does something.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Author {
    /// The user.
    pub user: UserId,
    /// The device.
    pub device: DeviceId,
}

impl Author {
    /// The server, for a user: it sends what was scheduled.
    pub fn server_for(user: UserId) -> Self {
        Self { user, device: DeviceId::MAX }
    }

    /// Whether it is the server, and no device.
    pub fn is_server(&self) -> bool {
        self.device == DeviceId::MAX
    }
}

const _: () = assert!(EntryRecord::LOST == v1::Kind::Lost as i32);

/// The kind of an entry that changes its group.
pub const KIND_GROUP: i32 = v1::Kind::Group as i32;

/// The kind of an entry of a private log.
pub const KIND_PRIVATE: i32 = v1::Kind::Private as i32;

/// The kind of an entry from which on messages disappear, or do not any more.
pub const KIND_TIMER: i32 = v1::Kind::Timer as i32;

/// One entry.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// The log that it stands in.
    pub log: LogId,
    /// Its place there.
    pub seq: Seq,
    /// Who sent it.
    pub author: Author,
    /// Under which number of the device's own.
    pub client_id: ClientMessageId,
    /// When, in ms since the Unix epoch.
    pub time_ms: u64,
    /// The body's kind, as on the wire.
    pub kind: i32,
    /// What was sent.
    pub body: Bytes,
    /// Bytes of all bodies of the author in the log, this one included.
    pub sender_bytes: u64,
    /// Bytes of all bodies of the others in the log up to here.
    pub other_bytes: u64,
    /// In a direct chat: how many messages of the author there are in the log, up to here.
    pub sender_messages: u64,
    /// How many messages there are in the log, up to here.
    pub messages: u64,
    /// What was said of it beside its body.
    pub envelope: Option<Box<Envelope>>,
    /// What later entries, and time, make of it.
    pub fate: Option<Box<Fate>>,
}

/// What later entries, and time, make of one.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Fate {
    /// By which it reads otherwise, rising.
    pub edits: Vec<Seq>,
    /// Its body is erased, and whom it mentioned.
    pub erased: bool,
    /// When it is erased by itself, in ms since the Unix epoch; 0: never.
    pub expires_ms: u64,
    /// The peer in the direct chat blocked its author: nobody else sees it.
    pub withheld: bool,
}

impl Fate {
    /// The fate, unless there is nothing to it.
    pub fn if_any(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }
}

/// Shows no content.
impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { log, seq, author, body, .. } = self;
        write!(f, "Entry {{ {log:?}, {seq:?}, {author:?}, {} bytes }}", body.len())
    }
}

impl Entry {
    /// The store's value.
    pub fn to_record(&self) -> EntryRecord {
        EntryRecord {
            seq: self.seq.0,
            sender: self.author.user.get(),
            device: self.author.device.get(),
            client_id: self.client_id.0,
            time_ms: self.time_ms,
            kind: self.kind,
            body: self.body.clone(),
            sender_bytes: self.sender_bytes,
            other_bytes: self.other_bytes,
            sender_messages: self.sender_messages,
            messages: self.messages,
            about: self.about().0,
            forwards: self.envelope.as_ref().map_or(0, |envelope| envelope.forwards),
            mentions: self.mentions().iter().map(|user| user.get()).collect(),
            edits: self.edits().iter().map(|seq| seq.0).collect(),
            erased: self.is_erased(),
            expires_ms: self.expires_ms(),
            withheld: self.is_withheld(),
            media: self.media().iter().map(MediaId::to_bytes).collect(),
            story: self
                .story()
                .map(|story| StoryIdRecord { author: story.author.get(), number: story.number }),
        }
    }

    /// The entry that the store holds at `seq` of `log`; `None` if the value is not that.
    pub fn from_record(log: LogId, seq: u64, value: Bytes) -> Option<Self> {
        let record = EntryRecord::decode(value).ok().filter(|record| record.seq == seq)?;
        let author = Author { user: UserId::new(record.sender)?, device: DeviceId::new(record.device)? };
        let mentions = record.mentions.iter().map(|user| UserId::new(*user)).collect::<Option<_>>()?;
        let media = record.media.iter().map(|id| MediaId::from_slice(id)).collect::<Option<_>>()?;
        let edits = record.edits.into_iter().map(Seq).collect();
        let story = match record.story {
            Some(StoryIdRecord { author, number }) => Some(StoryId { author: UserId::new(author)?, number }),
            None => None,
        };
        let EntryRecord { erased, expires_ms, withheld, .. } = record;
        let fate = Fate { edits, erased, expires_ms, withheld };
        Some(Self {
            log,
            seq: Seq(seq),
            author,
            client_id: ClientMessageId(record.client_id),
            time_ms: record.time_ms,
            kind: record.kind,
            body: record.body,
            sender_bytes: record.sender_bytes,
            other_bytes: record.other_bytes,
            sender_messages: record.sender_messages,
            messages: record.messages,
            envelope: Envelope {
                about: Seq(record.about),
                forwards: record.forwards,
                mentions,
                media,
                story,
            }
            .if_any(),
            fate: fate.if_any(),
        })
    }

    /// What a member sees of it. Within a history page the chat is left out.
    pub fn view(&self, reader: UserId, in_page: bool) -> v1::Entry {
        let own = self.author.user == reader;
        let in_group = matches!(self.log, LogId::Group(_));
        let chat = if in_page { 0 } else { chat_of(self.log, reader).get() };
        if self.is_withheld_from(reader) {
            let kind = v1::Kind::Withheld.into();
            return v1::Entry { chat, seq: self.seq.0, time_ms: self.time_ms, kind, ..v1::Entry::default() };
        }
        v1::Entry {
            chat,
            seq: self.seq.0,
            time_ms: self.time_ms,
            body: self.body.clone(),
            kind: self.kind,
            // In a chat with oneself both are true: who sent it is told, as in all one's own.
            sender: if own || in_group { self.author.user.get() } else { 0 },
            sender_device: if own { self.author.device.get() } else { 0 },
            client_id: if own { self.client_id.0 } else { 0 },
            about: self.about().0,
            forwards: self.envelope.as_ref().map_or(0, |envelope| envelope.forwards),
            mentions: self.mentions().iter().map(|user| user.get()).collect(),
            edited_by: self.edits().last().map_or(0, |seq| seq.0),
            erased: self.is_erased(),
            expires_ms: self.expires_ms(),
            media: self.media().iter().map(MediaId::to_bytes).collect(),
            story: self.story().map(StoryId::to_raw),
        }
    }

    /// The entry that it is about; 0: none.
    pub fn about(&self) -> Seq {
        self.envelope.as_ref().map_or(Seq(0), |envelope| envelope.about)
    }

    /// Whom it mentions.
    pub fn mentions(&self) -> &[UserId] {
        self.envelope.as_ref().map_or(&[], |envelope| &envelope.mentions)
    }

    /// The media that go with it.
    pub fn media(&self) -> &[MediaId] {
        self.envelope.as_ref().map_or(&[], |envelope| &envelope.media)
    }

    /// The story that it replies to.
    fn story(&self) -> Option<StoryId> {
        self.envelope.as_ref().and_then(|envelope| envelope.story)
    }

    /// By which it reads otherwise, rising.
    pub fn edits(&self) -> &[Seq] {
        self.fate.as_ref().map_or(&[], |fate| &fate.edits)
    }

    /// Its body is erased.
    pub fn is_erased(&self) -> bool {
        self.fate.as_ref().is_some_and(|fate| fate.erased)
    }

    /// When it is erased by itself, in ms since the Unix epoch; 0: never.
    pub fn expires_ms(&self) -> u64 {
        self.fate.as_ref().map_or(0, |fate| fate.expires_ms)
    }

    /// It says nothing any more: it is erased, or its time has come by this moment, in ms since the Unix epoch.
    pub fn is_gone(&self, now_ms: u64) -> bool {
        self.is_erased() || (self.expires_ms() > 0 && self.expires_ms() <= now_ms)
    }

    /// Nobody but its author sees it.
    pub fn is_withheld(&self) -> bool {
        self.fate.as_ref().is_some_and(|fate| fate.withheld)
    }

    /// Somebody does not see it.
    pub fn is_withheld_from(&self, reader: UserId) -> bool {
        self.is_withheld() && self.author.user != reader
    }

    /// As it is when it also has this edit.
    pub fn edited(&self, by: Seq) -> Self {
        let mut fate = self.fate.as_deref().cloned().unwrap_or_default();
        fate.edits.push(by);
        Self { fate: Some(Box::new(fate)), ..self.clone() }
    }

    /// As it is without its body, its media, whom it mentions, and the story that it replies to.
    pub fn erased(&self) -> Self {
        let mut fate = self.fate.as_deref().cloned().unwrap_or_default();
        fate.erased = true;
        let mut envelope = self.envelope.as_deref().cloned().unwrap_or_default();
        envelope.mentions.clear();
        envelope.media.clear();
        envelope.story = None;
        Self { body: Bytes::new(), envelope: envelope.if_any(), fate: Some(Box::new(fate)), ..self.clone() }
    }

    /// How many messages of a direct chat are by the other than `reader`, up to this entry.
    pub fn messages_of_others(&self, reader: UserId) -> u64 {
        let own = self.author.user == reader;
        if own { self.messages.saturating_sub(self.sender_messages) } else { self.sender_messages }
    }

    /// Whether it counts as unread where it has not been read.
    pub fn counts(&self) -> bool {
        is_message(self.kind) && !self.is_withheld()
    }

    /// By what a client id that is used twice is told from a retry. 0: nothing is left to tell it by.
    pub fn fingerprint(&self) -> u64 {
        if self.is_erased() { 0 } else { fingerprint(self.kind, &self.body, self.envelope.as_deref()) }
    }
}

/// xxh3 of a message's kind, body and envelope. Persisted: it never changes.
pub fn fingerprint(kind: i32, body: &[u8], envelope: Option<&Envelope>) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(&kind.to_le_bytes());
    hasher.update(body);
    if let Some(Envelope { about, forwards, mentions, media, story }) = envelope {
        hasher.update(&about.0.to_le_bytes());
        hasher.update(&forwards.to_le_bytes());
        mentions.iter().for_each(|user| hasher.update(&user.get().to_le_bytes()));
        media.iter().for_each(|medium| hasher.update(medium.as_bytes()));
        if let Some(StoryId { author, number }) = story {
            hasher.update(b"story");
            hasher.update(&author.get().to_le_bytes());
            hasher.update(&number.to_le_bytes());
        }
    }
    hasher.digest()
}

const NAMED: &str = "a log is made of users or a group, and none of them is 0";

/// The log of a chat that a user names so.
pub fn log_of(user: UserId, chat: ChatId) -> LogId {
    match chat {
        ChatId::With(peer) => LogId::direct(user.get(), peer.get()),
        ChatId::Group(group) => LogId::Group(group.get()),
        ChatId::Private => LogId::Private(user.get()),
    }
}

/// How a user names the chat of a log.
pub fn chat_of(log: LogId, user: UserId) -> ChatId {
    match log {
        LogId::Direct(low, high) => ChatId::new(if low == user.get() { high } else { low }).expect(NAMED),
        LogId::Group(group) => ChatId::new(group).expect(NAMED),
        LogId::Private(_) => ChatId::Private,
    }
}

/// The user at the other end of a direct chat from `member`: `member` itself in a chat with oneself, and in its private log. `None` in a
/// group.
pub fn peer_of(log: LogId, member: UserId) -> Option<UserId> {
    match chat_of(log, member) {
        ChatId::With(peer) => Some(peer),
        ChatId::Group(_) => None,
        ChatId::Private => Some(member),
    }
}

/// The members of a direct chat or a private log, each once. Who the members of a group are, its log says.
pub fn members_of(log: LogId) -> impl Iterator<Item = UserId> {
    let both = match log {
        LogId::Direct(low, high) => [Some(low), (high != low).then_some(high)],
        LogId::Private(user) => [Some(user), None],
        LogId::Group(_) => [None, None],
    };
    both.into_iter().flatten().map(|user| UserId::new(user).expect(NAMED))
}
