//! Messages, and what is about them: as they are sent, as they come, and as they stand after all that was said of them.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;
use tern_proto::v1;
use tern_wire::group::Change;
use tern_wire::ids::MediaId;
use tern_wire::message::timer_ms;

use crate::private::Private;
use crate::stories::StoryId;

/// A message, or something about one.
#[derive(Clone, PartialEq, Default)]
pub struct Message {
    /// The chat.
    pub chat: u64,
    /// Its place there.
    pub seq: u64,
    /// Who sent it.
    pub sender: u64,
    /// When the server committed it, in ms since the Unix epoch.
    pub time_ms: u64,
    /// What was sent; empty if it was deleted for everyone.
    pub body: Vec<u8>,
    /// It is one's own.
    pub own: bool,
    /// What the body is.
    pub kind: Kind,
    /// What was said of it beside the body.
    pub envelope: Envelope,
    /// It was deleted for everyone, or is an edit of one that was; or its time has come.
    pub erased: bool,
    /// When its time comes, in ms since the Unix epoch, from which on it is not to be shown; 0: never.
    pub expires_ms: u64,
    /// The newest edit of it, if it was read from the server; 0: none, or it came before that.
    pub edited_by: u64,
}

/// What is said of a message beside its body.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Envelope {
    /// The message of the chat that it replies to, or that this is about; 0: none.
    pub about: u64,
    /// How often it was forwarded before it came here, this time included.
    pub forwards: u32,
    /// Whom it mentions.
    pub mentions: Vec<u64>,
    /// The media that go with it: of a [`crate::body::Media`] the medium itself, and its preview if there is one.
    pub media: Vec<MediaId>,
    /// The story that it replies to.
    pub story: Option<StoryId>,
}

/// Media as they go over the wire.
pub(crate) fn to_wire(media: &[MediaId]) -> Vec<Bytes> {
    media.iter().map(MediaId::to_bytes).collect()
}

/// Media as they come.
pub(crate) fn media_of(raw: &[Bytes]) -> Vec<MediaId> {
    raw.iter().filter_map(|medium| MediaId::from_slice(medium)).collect()
}

impl Envelope {
    /// About a message, and nothing else.
    pub fn about(seq: u64) -> Self {
        Self { about: seq, ..Self::default() }
    }
}

/// A message that is to be sent, or something about one.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct NewMessage {
    /// To whom; 0: it makes a group, which is not known yet.
    pub chat: u64,
    /// What the body is.
    pub kind: Kind,
    /// What.
    pub body: Vec<u8>,
    /// What is said of it beside that.
    pub envelope: Envelope,
    /// By which it is known again.
    pub key: Option<String>,
}

impl NewMessage {
    /// A text.
    pub fn text(chat: u64, text: impl Into<Vec<u8>>) -> Self {
        Self { chat, body: text.into(), ..Self::default() }
    }
}

/// Shows no content.
impl std::fmt::Debug for NewMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { chat, kind, body, envelope: _, key } = self;
        let keyed = if key.is_some() { ", with a key" } else { "" };
        write!(f, "NewMessage {{ {kind:?} to {chat}, {} bytes{keyed} }}", body.len())
    }
}

impl Message {
    /// What became of a group, if it says so in a way that this version knows.
    pub fn change(&self) -> Option<Change> {
        if self.kind == Kind::Group { Change::parse(&self.body).ok() } else { None }
    }

    /// What one has told one's own devices, if it says so in a way that this version knows, and nothing has replaced it since.
    pub fn private(&self) -> Option<Private> {
        if self.kind == Kind::Private { Private::of_body(&self.body) } else { None }
    }

    /// After how many ms messages disappear that are sent from here on, if it says so; 0: they stay.
    pub fn timer(&self) -> Option<u64> {
        if self.kind == Kind::Timer { timer_ms(&self.body).ok() } else { None }
    }

    /// Its time has come: nobody is to see it any more.
    pub fn is_over(&self, now_ms: u64) -> bool {
        self.expires_ms > 0 && self.expires_ms <= now_ms
    }

    /// The body as what its kind says: a [`crate::body::Poll`], say. `None` if it is not that, or is encrypted.
    pub fn body_as<T: prost::Message + Default>(&self) -> Option<T> {
        T::decode(&self.body[..]).ok().filter(|_| !self.erased)
    }

    /// An entry that came in answer to a request, without its peer.
    pub(crate) fn of_page(chat: u64, entry: v1::Entry, me: u64) -> Self {
        let v1::Entry {
            seq,
            time_ms,
            about,
            forwards,
            mentions,
            edited_by,
            erased,
            expires_ms,
            media,
            story,
            ..
        } = entry;
        let sender = if entry.sender == 0 { chat } else { entry.sender };
        let story = story.and_then(StoryId::of_wire);
        let envelope = Envelope { about, forwards, mentions, media: media_of(&media), story };
        let (kind, own, body) = (entry.kind.into(), sender == me, entry.body.into());
        Self { chat, seq, sender, time_ms, body, own, kind, envelope, erased, expires_ms, edited_by }
    }
}

/// Shows no content.
impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Message {{ chat {}, seq {}, {} bytes }}", self.chat, self.seq, self.body.len())
    }
}

/// What a message's body is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Kind {
    /// Text, UTF-8 if its sender keeps to the protocol.
    #[default]
    Text,
    /// A [`crate::body::Location`].
    Location,
    /// A [`crate::body::ContactCard`].
    Contact,
    /// A [`crate::body::Poll`].
    Poll,
    /// A [`crate::body::Media`].
    Media,
    /// Somebody calls: a [`crate::body::Call`]. It rings for as long as the server says in its limits, counted from [`Message::time_ms`].
    Call,
    /// What the message that it is about reads from here on.
    Edit,
    /// Nothing: the message that it is about is deleted for everyone.
    Deletion,
    /// The sender's reaction to the message that it is about, UTF-8; empty: none any more.
    Reaction,
    /// The sender's choice in the poll that it is about: a [`crate::body::Vote`].
    Vote,
    /// Nothing: the message that it is about is pinned.
    Pin,
    /// Nothing: it is pinned no more.
    Unpin,
    /// What became of a group: see [`Message::change`].
    Group,
    /// What one has told one's own devices: see [`Message::private`].
    Private,
    /// After how long messages disappear from here on: see [`Message::timer`].
    Timer,
    /// Nothing: it was lost when the server's store was damaged. Only its place is known.
    Lost,
    /// Nothing: it was sent by somebody whom one blocked then. It is not for one to see, and is not shown.
    Withheld,
    /// Something that this version can't show.
    Unknown,
}

impl Kind {
    /// The number of its [`v1::Kind`].
    pub fn number(self) -> i32 {
        match self {
            Self::Text => v1::Kind::Text,
            Self::Location => v1::Kind::Location,
            Self::Contact => v1::Kind::Contact,
            Self::Poll => v1::Kind::Poll,
            Self::Media => v1::Kind::Media,
            Self::Call => v1::Kind::Call,
            Self::Edit => v1::Kind::Edit,
            Self::Deletion => v1::Kind::Deletion,
            Self::Reaction => v1::Kind::Reaction,
            Self::Vote => v1::Kind::Vote,
            Self::Pin => v1::Kind::Pin,
            Self::Unpin => v1::Kind::Unpin,
            Self::Group => v1::Kind::Group,
            Self::Private => v1::Kind::Private,
            Self::Timer => v1::Kind::Timer,
            Self::Withheld => v1::Kind::Withheld,
            // No server takes one.
            Self::Lost | Self::Unknown => v1::Kind::Lost,
        }
        .into()
    }

    /// Whether it is a message, which somebody says, and not about one or about the group.
    pub fn is_message(self) -> bool {
        tern_wire::message::is_message(self.number())
    }
}

impl From<i32> for Kind {
    fn from(number: i32) -> Self {
        match v1::Kind::try_from(number) {
            Ok(v1::Kind::Text) => Self::Text,
            Ok(v1::Kind::Lost) => Self::Lost,
            Ok(v1::Kind::Withheld) => Self::Withheld,
            Ok(v1::Kind::Group) => Self::Group,
            Ok(v1::Kind::Private) => Self::Private,
            Ok(v1::Kind::Timer) => Self::Timer,
            Ok(v1::Kind::Location) => Self::Location,
            Ok(v1::Kind::Contact) => Self::Contact,
            Ok(v1::Kind::Poll) => Self::Poll,
            Ok(v1::Kind::Media) => Self::Media,
            Ok(v1::Kind::Call) => Self::Call,
            Ok(v1::Kind::Edit) => Self::Edit,
            Ok(v1::Kind::Deletion) => Self::Deletion,
            Ok(v1::Kind::Reaction) => Self::Reaction,
            Ok(v1::Kind::Vote) => Self::Vote,
            Ok(v1::Kind::Pin) => Self::Pin,
            Ok(v1::Kind::Unpin) => Self::Unpin,
            Err(_) => Self::Unknown,
        }
    }
}

/// A message as it stands after what was said about it.
#[derive(Clone, PartialEq, Debug)]
pub struct Standing {
    /// It, with the body that it has now.
    pub message: Message,
    /// When it was last edited, in ms since the Unix epoch.
    pub edited_ms: Option<u64>,
    /// Who has reacted, and how.
    pub reactions: BTreeMap<u64, String>,
    /// Who has chosen what, in a poll.
    pub votes: BTreeMap<u64, Vec<u32>>,
    /// It is pinned.
    pub pinned: bool,
}

impl Standing {
    /// A message of which nothing else was said.
    pub fn new(message: Message) -> Self {
        let (reactions, votes) = (BTreeMap::new(), BTreeMap::new());
        Self { message, edited_ms: None, reactions, votes, pinned: false }
    }

    /// Takes what was said about it, in the order of its seqs. `false` if that says nothing of it.
    pub fn take(&mut self, about: &Message) -> bool {
        if about.envelope.about != self.message.seq || about.chat != self.message.chat {
            return false;
        }
        let sender = about.sender;
        match about.kind {
            Kind::Edit if !about.erased && !self.message.erased => {
                (self.message.body, self.edited_ms) = (about.body.clone(), Some(about.time_ms));
                self.message.envelope.mentions.clone_from(&about.envelope.mentions);
            }
            Kind::Deletion => {
                (self.message.body, self.message.erased) = (Vec::new(), true);
                self.message.envelope.mentions.clear();
            }
            Kind::Reaction => {
                let reaction = String::from_utf8_lossy(&about.body).into_owned();
                set(&mut self.reactions, sender, Some(reaction).filter(|reaction| !reaction.is_empty()));
            }
            Kind::Vote => {
                let vote = v1::Vote::decode(&about.body[..]).ok().map(|vote| vote.answers);
                set(&mut self.votes, sender, vote.filter(|answers| !answers.is_empty()));
            }
            Kind::Pin | Kind::Unpin => self.pinned = about.kind == Kind::Pin,
            _ => return false,
        }
        true
    }
}

fn set<V>(map: &mut BTreeMap<u64, V>, key: u64, value: Option<V>) {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(seq: u64, sender: u64, kind: Kind, body: &[u8]) -> Message {
        let envelope = Envelope::about(1);
        let (time_ms, body) = (seq * 10, body.to_vec());
        Message {
            chat: 7,
            seq,
            sender,
            time_ms,
            body,
            own: false,
            kind,
            envelope,
            erased: false,
            expires_ms: 0,
            edited_by: 0,
        }
    }

    #[test]
    fn a_message_stands_as_the_last_has_left_it() {
        let message = Message { envelope: Envelope::default(), ..about(1, 7, Kind::Text, b"helo") };
        let mut standing = Standing::new(message);
        assert!(standing.take(&about(2, 7, Kind::Edit, b"hello")));
        assert!(standing.take(&about(3, 8, Kind::Reaction, "\u{1f44d}".as_bytes())));
        assert!(standing.take(&about(4, 8, Kind::Reaction, b"!")));
        assert!(standing.take(&about(5, 9, Kind::Reaction, b"?")));
        assert!(standing.take(&about(6, 9, Kind::Reaction, b"")));
        assert!(standing.take(&about(7, 8, Kind::Pin, b"")));
        assert_eq!((&standing.message.body[..], standing.edited_ms), (&b"hello"[..], Some(20)));
        assert_eq!(standing.reactions, BTreeMap::from([(8, "!".to_owned())]));
        assert!(standing.pinned);
        assert!(!standing.take(&Message { envelope: Envelope::about(9), ..about(8, 7, Kind::Edit, b"x") }));
        assert!(!standing.take(&about(8, 7, Kind::Text, b"a reply")), "a reply leaves it as it is");
        assert!(standing.take(&about(9, 7, Kind::Deletion, b"")));
        assert!(standing.take(&about(10, 8, Kind::Unpin, b"")));
        standing.take(&about(11, 7, Kind::Edit, b"too late"));
        assert!(standing.message.erased && standing.message.body.is_empty() && !standing.pinned);
    }

    #[test]
    fn every_kind_is_the_one_of_its_number() {
        for number in 0..100 {
            let kind = Kind::from(number);
            assert!(kind == Kind::Unknown || kind.number() == number, "{kind:?}");
        }
    }
}
