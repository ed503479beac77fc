//! Stories: what one shows for a day, what others show, and who has seen it.

use tern_proto::v1::{self, client_frame, server_frame};
use tern_wire::ids::MediaId;
use tern_wire::limits::NUMBERS_END;

use crate::account::WRONG_KIND;
use crate::client::{Client, Sent};
use crate::error::Error;
use crate::message::{Kind, media_of, to_wire};
use crate::private::Private;

/// Names a story.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct StoryId {
    /// Who posted it.
    pub user_id: u64,
    /// Which of theirs.
    pub number: u64,
}

/// For whom a story is: of one's contacts those who have one as a contact too, or have a direct chat with one.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub enum StoryAudience {
    /// One's contacts.
    #[default]
    Contacts,
    /// The same, without these.
    Except(Vec<u64>),
    /// These of them alone.
    Only(Vec<u64>),
    /// One's contacts, and all with whom one has a direct chat.
    Everyone,
}

/// A story that is to be posted.
#[derive(Clone, PartialEq, Default)]
pub struct NewStory {
    /// What the body is: a text, or media.
    pub kind: Kind,
    /// A [`crate::body::StoryText`], or a [`crate::body::Media`].
    pub body: Vec<u8>,
    /// With media: the medium, which was uploaded, and its preview if there is one.
    pub media: Vec<MediaId>,
    /// For whom it is.
    pub audience: StoryAudience,
}

/// A story.
#[derive(Clone, PartialEq)]
pub struct Story {
    /// Which.
    pub id: StoryId,
    /// When it was posted, in ms since the Unix epoch.
    pub time_ms: u64,
    /// When it ends, from which on it is not to be shown.
    pub expires_ms: u64,
    /// What the body is.
    pub kind: Kind,
    /// What it shows.
    pub body: Vec<u8>,
    /// The media that go with it.
    pub media: Vec<MediaId>,
    /// A link to each of them, and until when it is good; none in an event.
    pub links: Vec<(String, u64)>,
    /// One has seen it, on any device.
    pub seen: bool,
    /// One has muted whoever posted it; not told in an event.
    pub muted: bool,
    /// Of one's own: for whom it is; not told in an event.
    pub audience: StoryAudience,
}

/// Somebody who has seen a story.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Viewer {
    /// Who.
    pub user_id: u64,
    /// When, in ms since the Unix epoch.
    pub time_ms: u64,
}

/// What one hears of stories while it happens.
#[derive(Clone, PartialEq, Debug)]
pub enum StoryNews {
    /// There is one that was not there before. It may be told more than once.
    Posted(Story),
    /// It is not there any more, before its time.
    Gone(StoryId),
    /// One has seen it on another device.
    Seen(StoryId),
}

/// Shows no content.
impl std::fmt::Debug for NewStory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NewStory {{ {:?}, {} bytes }}", self.kind, self.body.len())
    }
}

/// Shows no content.
impl std::fmt::Debug for Story {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Story {{ {:?}, {:?}, {} bytes }}", self.id, self.kind, self.body.len())
    }
}

impl StoryId {
    /// As it comes; `None` of nobody.
    pub(crate) fn of_wire(raw: v1::StoryId) -> Option<Self> {
        (raw.user_id > 0).then_some(Self { user_id: raw.user_id, number: raw.number })
    }

    pub(crate) fn to_wire(self) -> v1::StoryId {
        v1::StoryId { user_id: self.user_id, number: self.number }
    }
}

impl StoryAudience {
    fn of_wire(audience: v1::StoryAudience, named: Vec<u64>) -> Self {
        match audience {
            v1::StoryAudience::Contacts => Self::Contacts,
            v1::StoryAudience::ContactsExcept => Self::Except(named),
            v1::StoryAudience::Only => Self::Only(named),
            v1::StoryAudience::Everyone => Self::Everyone,
        }
    }

    fn to_wire(&self) -> (v1::StoryAudience, Vec<u64>) {
        match self {
            Self::Contacts => (v1::StoryAudience::Contacts, Vec::new()),
            Self::Except(named) => (v1::StoryAudience::ContactsExcept, named.clone()),
            Self::Only(named) => (v1::StoryAudience::Only, named.clone()),
            Self::Everyone => (v1::StoryAudience::Everyone, Vec::new()),
        }
    }
}

impl Story {
    pub(crate) fn of_wire(raw: v1::Story) -> Self {
        let audience = StoryAudience::of_wire(raw.audience(), raw.user_ids);
        let links = raw.links.into_iter().map(|link| (link.url, link.until_ms));
        Self {
            id: StoryId { user_id: raw.user_id, number: raw.number },
            time_ms: raw.time_ms,
            expires_ms: raw.expires_ms,
            kind: raw.kind.into(),
            body: raw.body.into(),
            media: media_of(&raw.media),
            links: links.collect(),
            seen: raw.seen,
            muted: raw.muted,
            audience,
        }
    }

    /// The body as what its kind says: a [`crate::body::StoryText`], or a [`crate::body::Media`]. `None` if it is not that.
    pub fn body_as<T: prost::Message + Default>(&self) -> Option<T> {
        T::decode(&self.body[..]).ok()
    }
}

/// A number for a story that is to be posted, which no other one has.
pub fn story_number() -> Result<u64, Error> {
    let random = getrandom::u64().map_err(|error| Error::Config(format!("no entropy: {error}")))?;
    Ok(random % NUMBERS_END)
}

impl Client {
    /// Posts a story under a number ([`story_number`]): tried again with the same one, it is the same story. Gives when it was posted, and when
    /// it ends, in ms since the Unix epoch. A number that stands for another story is refused: `CLIENT_ID_REUSED`.
    pub async fn post_story(&self, number: u64, story: &NewStory) -> Result<(u64, u64), Error> {
        let (audience, user_ids) = story.audience.to_wire();
        let post = v1::PostStory {
            number,
            kind: story.kind.number(),
            body: story.body.clone().into(),
            media: to_wire(&story.media),
            audience: audience.into(),
            user_ids,
        };
        match self.ask(client_frame::Request::PostStory(post)).await? {
            server_frame::Message::StoryMade(made) => Ok((made.time_ms, made.expires_ms)),
            _ => Err(WRONG_KIND),
        }
    }

    /// Deletes a story of one's own. Whoever has it has it no more.
    pub async fn delete_story(&self, number: u64) -> Result<(), Error> {
        match self.ask(client_frame::Request::DeleteStory(v1::DeleteStory { number })).await? {
            server_frame::Message::StoryDeleted(_) => Ok(()),
            _ => Err(WRONG_KIND),
        }
    }

    /// A page of the stories that are there: one's own first, then those of others that one may see. With where the next page goes on, if there
    /// is more; `limit` 0: as many as the server gives.
    pub async fn stories(
        &self,
        after: Option<StoryId>,
        limit: u32,
    ) -> Result<(Vec<Story>, Option<StoryId>), Error> {
        let list = v1::ListStories { after: after.map(StoryId::to_wire), limit };
        match self.ask(client_frame::Request::ListStories(list)).await? {
            server_frame::Message::StoriesPage(page) => {
                let stories = page.stories.into_iter().map(Story::of_wire).collect();
                Ok((stories, page.next.and_then(StoryId::of_wire)))
            }
            _ => Err(WRONG_KIND),
        }
    }

    /// Says that one has seen a story: one's other devices are told, and whoever posted it can tell, unless one of the two hides what they
    /// read.
    pub async fn see_story(&self, story: StoryId) -> Result<(), Error> {
        let see = v1::SeeStory { story: Some(story.to_wire()) };
        match self.ask(client_frame::Request::SeeStory(see)).await? {
            server_frame::Message::StoryMarked(_) => Ok(()),
            _ => Err(WRONG_KIND),
        }
    }

    /// A page of those who have seen a story of one's own, by their numbers: those behind `after`, and where the next page goes on (0: there are
    /// no more).
    pub async fn story_viewers(
        &self,
        number: u64,
        after: u64,
        limit: u32,
    ) -> Result<(Vec<Viewer>, u64), Error> {
        let list = v1::ListViewers { number, after, limit };
        match self.ask(client_frame::Request::ListViewers(list)).await? {
            server_frame::Message::ViewersPage(page) => {
                let viewer = |raw: v1::Viewer| Viewer { user_id: raw.user_id, time_ms: raw.time_ms };
                Ok((page.viewers.into_iter().map(viewer).collect(), page.next))
            }
            _ => Err(WRONG_KIND),
        }
    }

    /// Says, for all of one's devices, that one does not care for somebody's stories, or does again.
    pub async fn mute_stories(&self, user_id: u64, is_muted: bool) -> Result<Sent, Error> {
        self.tell_own(&Private::StoriesMuted(user_id, is_muted)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn for_whom_a_story_is_is_read_as_it_was_said() {
        for audience in [
            StoryAudience::Contacts,
            StoryAudience::Except(vec![7]),
            StoryAudience::Only(vec![7, 9]),
            StoryAudience::Everyone,
        ] {
            let (raw, named) = audience.to_wire();
            assert_eq!(StoryAudience::of_wire(raw, named), audience);
        }
    }
}
