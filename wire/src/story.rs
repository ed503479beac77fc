//! Stories, parsed at the boundary: what somebody shows for a day, and to whom. See `PostStory` in the schema.

use bytes::Bytes;
use prost::Message as _;
use tern_proto::v1::{self, Kind, StoryAudience};

use crate::errors::{Reason, Refusal};
use crate::ids::{MediaId, UserId};
use crate::limits::{NUMBERS_END, STORY_BODY_BYTES_MAX, STORY_CHARS_MAX, STORY_MEDIA_MAX, STORY_NAMED_MAX};

/// Which story: whose, and which of theirs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StoryId {
    /// Who posted it.
    pub author: UserId,
    /// The number that their device gave it.
    pub number: u64,
}

impl StoryId {
    /// As it goes over the wire.
    pub fn to_raw(self) -> v1::StoryId {
        v1::StoryId { user_id: self.author.get(), number: self.number }
    }

    /// A story that a client names.
    ///
    /// # Errors
    /// If nobody is named, or no number of a story.
    pub fn parse(raw: v1::StoryId) -> Result<Self, Refusal> {
        let author = UserId::new(raw.user_id).ok_or(invalid("nobody is named whose story it is"))?;
        Ok(Self { author, number: number(raw.number)? })
    }
}

/// What a client asks of stories.
#[derive(Clone, PartialEq, Debug)]
pub enum StoryRequest {
    /// Posts one.
    Post(Box<PostStory>),
    /// Ends one of one's own.
    Delete(u64),
    /// Lists those that one may see, behind this one: at most so many, 0 for as many as the server gives.
    List(Option<StoryId>, u32),
    /// One has seen it.
    See(StoryId),
    /// Lists who has seen one of one's own, behind this one: so many, as above.
    Viewers(u64, Option<UserId>, u32),
}

/// See `PostStory` in the schema.
#[derive(Clone, PartialEq)]
pub struct PostStory {
    /// The device's number of it.
    pub number: u64,
    /// The body's kind, as on the wire: `KIND_TEXT` or `KIND_MEDIA`.
    pub kind: i32,
    /// What it shows.
    pub body: Bytes,
    /// The media that go with it, each once.
    pub media: Vec<MediaId>,
    /// For whom it is.
    pub audience: Audience,
}

/// Shows no content.
impl std::fmt::Debug for PostStory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { number, kind, body, .. } = self;
        write!(f, "PostStory {{ {number}, kind {kind}, {} bytes }}", body.len())
    }
}

/// For whom a story is. Who is named is so once, rising.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Audience {
    /// One's contacts.
    Contacts,
    /// The same, without these.
    Except(Vec<UserId>),
    /// These of them alone.
    Only(Vec<UserId>),
    /// One's contacts, and all with whom one has a direct chat.
    Everyone,
}

impl Audience {
    /// As it goes over the wire, and lies in the store.
    pub fn to_raw(&self) -> (i32, Vec<u64>) {
        let ids = |named: &[UserId]| named.iter().map(|user| user.get()).collect();
        match self {
            Self::Contacts => (StoryAudience::Contacts.into(), Vec::new()),
            Self::Except(named) => (StoryAudience::ContactsExcept.into(), ids(named)),
            Self::Only(named) => (StoryAudience::Only.into(), ids(named)),
            Self::Everyone => (StoryAudience::Everyone.into(), Vec::new()),
        }
    }

    /// Who is meant by what a client, or the store, says.
    ///
    /// # Errors
    /// If that is nobody that this server knows of.
    pub fn parse(audience: i32, user_ids: &[u64]) -> Result<Self, Refusal> {
        let audience = StoryAudience::try_from(audience)
            .map_err(|_| invalid("for whom the story is has a value that is not known"))?;
        let names = matches!(audience, StoryAudience::ContactsExcept | StoryAudience::Only);
        if !names && !user_ids.is_empty() {
            return Err(invalid("nobody is named where it is for all contacts, or for everyone"));
        }
        if user_ids.len() > STORY_NAMED_MAX {
            return Err(invalid("at most 1,000 people are named"));
        }
        let named: Option<Vec<_>> = user_ids.iter().map(|id| UserId::new(*id)).collect();
        let mut named = named.ok_or(invalid("somebody is named who is no user"))?;
        named.sort_unstable();
        named.dedup();
        Ok(match audience {
            StoryAudience::Contacts => Self::Contacts,
            StoryAudience::ContactsExcept => Self::Except(named),
            StoryAudience::Only => Self::Only(named),
            StoryAudience::Everyone => Self::Everyone,
        })
    }

    /// The first and the last of those who are named, if nobody else is meant.
    pub fn named_alone(&self) -> Option<(UserId, UserId)> {
        match self {
            Self::Only(named) => Some((*named.first()?, *named.last()?)),
            Self::Contacts | Self::Except(_) | Self::Everyone => None,
        }
    }

    /// Whether a contact of the author's is meant.
    pub fn has_contact(&self, user: UserId) -> bool {
        match self {
            Self::Contacts | Self::Everyone => true,
            Self::Except(named) => named.binary_search(&user).is_err(),
            Self::Only(named) => named.binary_search(&user).is_ok(),
        }
    }
}

const fn invalid(detail: &'static str) -> Refusal {
    Refusal::new(Reason::InvalidArgument, detail)
}

/// A number of a story.
pub(crate) fn number(number: u64) -> Result<u64, Refusal> {
    if number >= NUMBERS_END { Err(invalid("the number of a story is below 2^53")) } else { Ok(number) }
}

/// A `PostStory` that is well-formed.
pub(crate) fn post(raw: v1::PostStory) -> Result<PostStory, Refusal> {
    let audience = Audience::parse(raw.audience, &raw.user_ids)?;
    if raw.body.len() > STORY_BODY_BYTES_MAX {
        return Err(Refusal::new(Reason::BodyTooLarge, "the body of a story has at most 4,096 bytes"));
    }
    let media = media(&raw.media)?;
    match Kind::try_from(raw.kind) {
        Ok(Kind::Text) if !media.is_empty() => return Err(invalid("no medium goes with a story of text")),
        Ok(Kind::Text) => check_text(&raw.body)?,
        Ok(Kind::Media) if media.is_empty() => return Err(invalid("the story's medium is not named")),
        Ok(Kind::Media) => {}
        _ => return Err(invalid("a story is a text or a medium")),
    }
    Ok(PostStory { number: number(raw.number)?, kind: raw.kind, body: raw.body, media, audience })
}

fn check_text(body: &[u8]) -> Result<(), Refusal> {
    let text = v1::StoryText::decode(body).map_err(|_| invalid("the body is no StoryText"))?.text;
    match text.chars().take(STORY_CHARS_MAX + 1).count() {
        0 => Err(invalid("the story has no text")),
        1..=STORY_CHARS_MAX => Ok(()),
        _ => Err(invalid("the text of a story has at most 700 characters")),
    }
}

fn media(ids: &[Bytes]) -> Result<Vec<MediaId>, Refusal> {
    if ids.len() > STORY_MEDIA_MAX {
        return Err(invalid("a story has a medium, and its preview at most"));
    }
    let media: Option<Vec<_>> = ids.iter().map(|id| MediaId::from_slice(id)).collect();
    let media = media.ok_or(invalid("a medium's id has 16 bytes"))?;
    match media[..] {
        [one, other] if one == other => Err(invalid("a medium goes with a story once")),
        _ => Ok(media),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Bytes {
        v1::StoryText { text: text.to_owned(), ..Default::default() }.encode_to_vec().into()
    }

    fn check(raw: v1::PostStory, expect: Result<(), Reason>) {
        assert_eq!(post(raw).map(drop).map_err(|refusal| refusal.reason), expect);
    }

    #[test]
    fn what_is_out_of_range_is_refused_by_reason() {
        let bad = Err(Reason::InvalidArgument);
        let of_text = |said: &str| v1::PostStory { body: text(said), ..Default::default() };
        check(of_text("x"), Ok(()));
        check(of_text(&"漢".repeat(700)), Ok(()));
        check(of_text(&"x".repeat(701)), bad);
        check(of_text(""), bad);
        check(v1::PostStory { body: Bytes::from_static(b"\xff"), ..Default::default() }, bad);
        check(v1::PostStory { number: NUMBERS_END, ..of_text("x") }, bad);
        check(v1::PostStory { kind: Kind::Poll.into(), ..of_text("x") }, bad);
        check(v1::PostStory { audience: 4, ..of_text("x") }, bad);
        let media = |ids: &[u8], body: usize| v1::PostStory {
            kind: Kind::Media.into(),
            body: vec![0; body].into(),
            media: ids.iter().map(|id| vec![*id; 16].into()).collect(),
            ..Default::default()
        };
        check(media(&[1, 2], STORY_BODY_BYTES_MAX), Ok(()));
        check(media(&[1], STORY_BODY_BYTES_MAX + 1), Err(Reason::BodyTooLarge));
        for ids in [&[][..], &[1, 1], &[1, 2, 3]] {
            check(media(ids, 1), bad);
        }
        check(v1::PostStory { kind: Kind::Text.into(), body: text("x"), ..media(&[1], 1) }, bad);
        check(v1::PostStory { media: vec![Bytes::from_static(b"short")], ..media(&[1], 1) }, bad);
    }

    #[test]
    fn who_is_named_counts_where_somebody_may_be() {
        let user = |id| UserId::new(id).expect("a user");
        let audience = |audience: StoryAudience, ids: &[u64]| Audience::parse(audience.into(), ids).ok();
        assert_eq!(audience(StoryAudience::Contacts, &[7]), None);
        assert_eq!(audience(StoryAudience::Everyone, &[7]), None);
        assert_eq!(audience(StoryAudience::Only, &[0]), None);
        let many: Vec<_> = (1..=1_001).collect();
        assert!(audience(StoryAudience::Only, &many[..1_000]).is_some());
        assert_eq!(audience(StoryAudience::Only, &many), None);
        let only = audience(StoryAudience::Only, &[9, 7, 9]).expect("two are named");
        assert_eq!(only, Audience::Only(vec![user(7), user(9)]));
        assert!(only.has_contact(user(9)) && !only.has_contact(user(8)));
        let except = audience(StoryAudience::ContactsExcept, &[9]).expect("one is named");
        assert!(except.has_contact(user(8)) && !except.has_contact(user(9)));
        let (raw, named) = except.to_raw();
        assert_eq!(Audience::parse(raw, &named), Ok(except));
    }
}
