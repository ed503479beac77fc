//! What the server knows of a message outside its body: what kind of entry it is, what it is about, how often it was forwarded, whom it
//! mentions; and of the body that says when messages disappear. See `Kind` and `Send` in the schema.

use bytes::Bytes;
use prost::Message as _;
use tern_proto::v1::{self, Kind};

use crate::errors::{Reason, Refusal};
use crate::group::Change;
use crate::ids::{ChatId, ClientMessageId, MediaId, Seq, UserId};
use crate::limits::{MEDIA_MAX, MENTIONS_MAX, NUMBERS_END, REACTION_BYTES_MAX, TIMER_MS, VOTE_BYTES_MAX};
use crate::private::Private;
use crate::story::StoryId;

/// Something that is to be appended to a chat, well-formed.
#[derive(Clone, PartialEq)]
pub struct Send {
    /// Which chat.
    pub chat: ChatId,
    /// The device's number of it.
    pub client_id: ClientMessageId,
    /// The body's kind, as on the wire.
    pub kind: i32,
    /// At most a frame; empty only where the kind says so.
    pub body: Bytes,
    /// What else is said of it, if anything is.
    pub envelope: Option<Box<Envelope>>,
}

/// Shows no content.
impl std::fmt::Debug for Send {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { chat, client_id, kind, body, envelope } = self;
        write!(f, "Send {{ {chat:?}, {client_id:?}, kind {kind}, {} bytes, {envelope:?} }}", body.len())
    }
}

/// What is said of a message beside its body. Not empty: where nothing is said there is none.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Envelope {
    /// The entry of the chat that it is about; 0: none.
    pub about: Seq,
    /// How often it was forwarded before it came here, this time included.
    pub forwards: u32,
    /// Whom it mentions, each once, rising.
    pub mentions: Vec<UserId>,
    /// The media that go with it, each once.
    pub media: Vec<MediaId>,
    /// The story of the other one's that it replies to.
    pub story: Option<StoryId>,
}

impl Envelope {
    /// The envelope, unless nothing stands on it.
    pub fn if_any(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }
}

/// Whether an entry of this kind is a message: what somebody says. It counts as unread, and others may be about it.
pub fn is_message(kind: i32) -> bool {
    let kind = Kind::try_from(kind);
    matches!(kind, Ok(Kind::Text | Kind::Location | Kind::Contact | Kind::Poll | Kind::Media | Kind::Call))
}

/// What an entry of a kind does to the message that it is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deed {
    /// It reads otherwise.
    Edit,
    /// It is deleted for everyone.
    Delete,
    /// Somebody's choice, of a poll.
    Vote,
    /// Nothing to itself: a reaction, or that it is pinned or not.
    Remark,
    /// It is replaced, in a private log.
    Replace,
}

impl Deed {
    /// Of a kind that is about a message; `None` for any other.
    pub fn of(kind: i32) -> Option<Self> {
        match Kind::try_from(kind).ok()? {
            Kind::Edit => Some(Self::Edit),
            Kind::Deletion => Some(Self::Delete),
            Kind::Vote => Some(Self::Vote),
            Kind::Reaction | Kind::Pin | Kind::Unpin => Some(Self::Remark),
            Kind::Private => Some(Self::Replace),
            Kind::Text
            | Kind::Lost
            | Kind::Withheld
            | Kind::Group
            | Kind::Location
            | Kind::Contact
            | Kind::Poll
            | Kind::Media
            | Kind::Call
            | Kind::Timer => None,
        }
    }
}

const fn invalid(detail: &'static str) -> Refusal {
    Refusal::new(Reason::InvalidArgument, detail)
}

/// A `Send` that is well-formed.
pub(crate) fn send(raw: v1::Send) -> Result<Send, Refusal> {
    let chat = ChatId::new(raw.chat).ok_or(invalid("no chat is named"))?;
    let kind = Kind::try_from(raw.kind).map_err(|_| NOT_TAKEN)?;
    check_body(kind, chat, &raw.body)?;
    let client_id = client_id(raw.client_id)?;
    if says_no_more(&raw) && is_message(raw.kind) {
        return Ok(Send { chat, client_id, kind: raw.kind, body: raw.body, envelope: None });
    }
    if raw.about >= NUMBERS_END {
        return Err(invalid("a message is about an entry below 2^53"));
    }
    let (mentions, media) = (mentions(&raw.mentions)?, media(&raw.media)?);
    let story = raw.story.map(StoryId::parse).transpose()?;
    let envelope = Envelope { about: Seq(raw.about), forwards: raw.forwards, mentions, media, story };
    check_envelope(kind, chat, &envelope)?;
    Ok(Send { chat, client_id, kind: raw.kind, body: raw.body, envelope: envelope.if_any() })
}

/// Whether nothing is said of a message beside its body, as of most.
fn says_no_more(raw: &v1::Send) -> bool {
    let v1::Send { about, forwards, mentions, media, story, .. } = raw;
    *about == 0 && *forwards == 0 && mentions.is_empty() && media.is_empty() && story.is_none()
}

/// After how many ms messages disappear, as the body of an entry of `KIND_TIMER` says; 0: they do not.
///
/// # Errors
/// If it is no `Timer`, or out of bounds.
pub fn timer_ms(body: &[u8]) -> Result<u64, Refusal> {
    match v1::Timer::decode(body) {
        Ok(v1::Timer { after_ms }) if after_ms == 0 || TIMER_MS.contains(&after_ms) => Ok(after_ms),
        Ok(_) => Err(invalid("messages disappear after a second to a year")),
        Err(_) => Err(invalid("the body is no Timer")),
    }
}

const NOT_TAKEN: Refusal = invalid("this server does not take that kind of message in that chat");

fn check_body(kind: Kind, chat: ChatId, body: &Bytes) -> Result<(), Refusal> {
    if (kind == Kind::Private) != (chat == ChatId::Private) {
        return Err(NOT_TAKEN);
    }
    let has_body = match kind {
        Kind::Text | Kind::Location | Kind::Contact | Kind::Poll | Kind::Media | Kind::Edit => true,
        Kind::Group if matches!(chat, ChatId::Group(_)) => {
            if let Change::Made(_) = Change::parse(body)? {
                return Err(invalid("a group is made by CreateGroup"));
            }
            true
        }
        Kind::Private => {
            Private::parse(body)?;
            true
        }
        Kind::Timer => {
            timer_ms(body)?;
            // That they stay is an empty body.
            return Ok(());
        }
        // Whoever calls may have nothing more to say.
        Kind::Call if matches!(chat, ChatId::With(_)) => return Ok(()),
        Kind::Group | Kind::Call | Kind::Lost | Kind::Withheld => return Err(NOT_TAKEN),
        Kind::Reaction if body.len() > REACTION_BYTES_MAX => {
            return Err(invalid("a reaction has at most 64 bytes"));
        }
        Kind::Vote if body.len() > VOTE_BYTES_MAX => return Err(invalid("a vote has at most 1024 bytes")),
        Kind::Reaction | Kind::Vote => return Ok(()),
        Kind::Deletion | Kind::Pin | Kind::Unpin => false,
    };
    match (has_body, body.is_empty()) {
        (true, true) => Err(invalid("a message has no body")),
        (false, false) => Err(invalid("what deletes or pins a message has no body")),
        _ => Ok(()),
    }
}

fn check_envelope(kind: Kind, chat: ChatId, envelope: &Envelope) -> Result<(), Refusal> {
    let (says, deed) = (is_message(kind.into()), Deed::of(kind.into()));
    if kind == Kind::Call && *envelope != Envelope::default() {
        return Err(invalid("a call says nothing beside its body"));
    }
    if deed.is_some_and(|deed| deed != Deed::Replace) && envelope.about == Seq(0) {
        return Err(invalid("what it is about is not said"));
    }
    if matches!(kind, Kind::Group | Kind::Timer) && envelope.about > Seq(0) {
        return Err(invalid("what changes a chat is about no message"));
    }
    if !says && envelope.forwards > 0 {
        return Err(invalid("nothing but a message is forwarded"));
    }
    if !says && !envelope.media.is_empty() {
        return Err(invalid("media go with nothing but a message"));
    }
    let is_with_author = |story: &StoryId| says && chat == ChatId::With(story.author);
    if !envelope.story.as_ref().is_none_or(is_with_author) {
        return Err(invalid("a story is replied to by a message, in the direct chat with whoever posted it"));
    }
    let may_mention = (says || deed == Some(Deed::Edit)) && matches!(chat, ChatId::Group(_));
    if !may_mention && !envelope.mentions.is_empty() {
        return Err(invalid("nobody is mentioned but in a message to a group"));
    }
    Ok(())
}

fn mentions(ids: &[u64]) -> Result<Vec<UserId>, Refusal> {
    if ids.len() > MENTIONS_MAX {
        return Err(invalid("a message mentions at most 64 people"));
    }
    let users: Option<Vec<_>> = ids.iter().map(|id| UserId::new(*id)).collect();
    let mut users = users.ok_or(invalid("somebody is mentioned who is no user"))?;
    users.sort_unstable();
    users.dedup();
    Ok(users)
}

fn media(ids: &[Bytes]) -> Result<Vec<MediaId>, Refusal> {
    if ids.len() > MEDIA_MAX {
        return Err(invalid("at most 16 media go with a message"));
    }
    let mut media = Vec::with_capacity(ids.len());
    for id in ids {
        let id = MediaId::from_slice(id).ok_or(invalid("a medium's id has 16 bytes"))?;
        if media.contains(&id) {
            return Err(invalid("a medium goes with a message once"));
        }
        media.push(id);
    }
    Ok(media)
}

pub(crate) fn client_id(number: u64) -> Result<ClientMessageId, Refusal> {
    if number >= NUMBERS_END {
        return Err(invalid("a client_id is below 2^53"));
    }
    Ok(ClientMessageId(number))
}

/// What a body says in words that a search finds, if it is of a kind that does and no other than that. Encrypted ones say nothing.
pub fn text_of(kind: i32, body: &[u8]) -> Option<String> {
    match v1::Kind::try_from(kind).ok()? {
        v1::Kind::Text => str::from_utf8(body).ok().map(str::to_owned),
        v1::Kind::Media => Some(v1::Media::decode(body).ok()?.caption),
        v1::Kind::Location => Some(v1::Location::decode(body).ok()?.name),
        v1::Kind::Contact => Some(v1::ContactCard::decode(body).ok()?.name),
        v1::Kind::Poll => Some(v1::Poll::decode(body).ok()?.question),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::GROUPS_FROM;

    const PEER: u64 = 4096;

    fn check(raw: v1::Send, expect: Result<(), Reason>) {
        let sent = send(raw.clone()).map(|_| ()).map_err(|refusal| refusal.reason);
        assert_eq!(sent, expect, "{raw:?}");
    }

    fn raw(kind: Kind, about: u64, body: &'static [u8]) -> v1::Send {
        v1::Send {
            chat: PEER,
            client_id: 1,
            kind: kind.into(),
            about,
            body: body.into(),
            ..Default::default()
        }
    }

    #[test]
    fn what_is_about_nothing_or_has_a_body_that_its_kind_has_not_is_refused() {
        use Reason::InvalidArgument as Bad;
        for kind in [Kind::Text, Kind::Location, Kind::Contact, Kind::Poll, Kind::Media] {
            check(raw(kind, 0, b"hi"), Ok(()));
            check(raw(kind, 7, b"hi"), Ok(()));
            check(raw(kind, 0, b""), Err(Bad));
        }
        for kind in [Kind::Edit, Kind::Reaction, Kind::Vote] {
            check(raw(kind, 7, b"hi"), Ok(()));
            check(raw(kind, 0, b"hi"), Err(Bad));
        }
        for kind in [Kind::Deletion, Kind::Pin, Kind::Unpin] {
            check(raw(kind, 7, b""), Ok(()));
            check(raw(kind, 7, b"hi"), Err(Bad));
            check(raw(kind, 0, b""), Err(Bad));
        }
        check(raw(Kind::Call, 0, b"hi"), Ok(()));
        check(raw(Kind::Call, 0, b""), Ok(()));
        check(raw(Kind::Call, 7, b"hi"), Err(Bad));
        check(v1::Send { forwards: 1, ..raw(Kind::Call, 0, b"hi") }, Err(Bad));
        check(v1::Send { chat: GROUPS_FROM, ..raw(Kind::Call, 0, b"hi") }, Err(Bad));
        check(raw(Kind::Edit, 7, b""), Err(Bad));
        check(raw(Kind::Reaction, 7, b""), Ok(()));
        check(raw(Kind::Reaction, 7, &[b'x'; 65]), Err(Bad));
        check(raw(Kind::Vote, 7, &[b'x'; 1025]), Err(Bad));
        check(raw(Kind::Text, NUMBERS_END, b"hi"), Err(Bad));
        check(raw(Kind::Lost, 0, b"hi"), Err(Bad));
        check(raw(Kind::Withheld, 0, b"hi"), Err(Bad));
        check(raw(Kind::Group, 0, b"hi"), Err(Bad));
    }

    #[test]
    fn messages_disappear_after_a_second_to_a_year_or_not_at_all() {
        use Reason::InvalidArgument as Bad;
        let timer = |after_ms| {
            let body = v1::Timer { after_ms }.encode_to_vec().into();
            v1::Send { body, ..raw(Kind::Timer, 0, b"") }
        };
        for after_ms in [0, 1_000, *TIMER_MS.end()] {
            check(timer(after_ms), Ok(()));
        }
        for after_ms in [1, 999, TIMER_MS.end() + 1, u64::MAX] {
            check(timer(after_ms), Err(Bad));
        }
        check(raw(Kind::Timer, 0, b"\xff"), Err(Bad));
        check(v1::Send { about: 3, ..timer(1_000) }, Err(Bad));
        check(v1::Send { chat: crate::ids::PRIVATE, ..timer(1_000) }, Err(Bad));
    }

    #[test]
    fn media_go_with_messages_each_once_and_have_ids() {
        use Reason::InvalidArgument as Bad;
        let with = |kind, media: &[&'static [u8]]| {
            let media = media.iter().map(|id| Bytes::from_static(id)).collect();
            v1::Send { media, ..raw(kind, 7, b"hi") }
        };
        let (one, other) = (&[1; 16][..], &[2; 16][..]);
        check(with(Kind::Media, &[one, other]), Ok(()));
        check(with(Kind::Text, &[one]), Ok(()));
        check(with(Kind::Reaction, &[one]), Err(Bad));
        check(with(Kind::Edit, &[one]), Err(Bad));
        check(with(Kind::Media, &[one, one]), Err(Bad));
        check(with(Kind::Media, &[b"short"]), Err(Bad));
        let many: Vec<Bytes> = (0..=16).map(|number| vec![number; 16].into()).collect();
        check(v1::Send { media: many[..16].to_vec(), ..raw(Kind::Media, 0, b"hi") }, Ok(()));
        check(v1::Send { media: many, ..raw(Kind::Media, 0, b"hi") }, Err(Bad));
    }

    #[test]
    fn a_story_is_replied_to_by_a_message_to_whoever_posted_it() {
        use Reason::InvalidArgument as Bad;
        let reply = |kind, user_id| {
            let story = Some(v1::StoryId { user_id, number: 3 });
            v1::Send { story, ..raw(kind, 7, b"hi") }
        };
        check(reply(Kind::Text, PEER), Ok(()));
        check(reply(Kind::Media, PEER), Ok(()));
        check(reply(Kind::Reaction, PEER), Err(Bad));
        check(reply(Kind::Text, PEER + 1), Err(Bad));
        check(reply(Kind::Text, 0), Err(Bad));
        check(v1::Send { chat: GROUPS_FROM, ..reply(Kind::Text, PEER) }, Err(Bad));
    }

    #[test]
    fn only_a_message_is_forwarded_and_only_one_to_a_group_mentions() {
        use Reason::InvalidArgument as Bad;
        check(v1::Send { forwards: 3, ..raw(Kind::Text, 0, b"hi") }, Ok(()));
        check(v1::Send { forwards: 3, ..raw(Kind::Reaction, 7, b"hi") }, Err(Bad));
        let mentioning = |kind, chat, mentions: Vec<u64>| v1::Send { chat, mentions, ..raw(kind, 7, b"hi") };
        check(mentioning(Kind::Text, GROUPS_FROM, vec![3, 3, 2]), Ok(()));
        check(mentioning(Kind::Edit, GROUPS_FROM, vec![3]), Ok(()));
        check(mentioning(Kind::Text, PEER, vec![3]), Err(Bad));
        check(mentioning(Kind::Reaction, GROUPS_FROM, vec![3]), Err(Bad));
        check(mentioning(Kind::Text, GROUPS_FROM, vec![0]), Err(Bad));
        check(mentioning(Kind::Text, GROUPS_FROM, (1..=65).collect()), Err(Bad));
        let sent = send(mentioning(Kind::Text, GROUPS_FROM, vec![3, 3, 2])).expect("well-formed");
        let mentions = sent.envelope.expect("it says something").mentions;
        assert_eq!(mentions.iter().map(|user| user.get()).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(send(raw(Kind::Text, 0, b"hi")).expect("well-formed").envelope, None);
    }
}
