//! What the owners of users are asked and told of stories.

use std::sync::Arc;

use tern_proto::v1;
use tern_storage::records::FeedRecord;
use tern_wire::ids::{DeviceId, UserId};
use tern_wire::story::{StoryId, StoryRequest};

use crate::reply::Origin;

/// What is asked of a user's owner of stories, or told to it.
#[derive(Debug)]
pub enum StoryOp {
    /// A device of the user asks something.
    Asked(Origin, DeviceId, StoryRequest),
    /// Something is to be done about a story of the user's, or one that the user may see.
    Due(StoryDue),
    /// A story of another one's that the user is to have, or to have no more. Answered by [`StoryOp::Heard`].
    Told(StoryTold),
    /// The user's story, of which this one was told by the work of this number: they know of it, durably, or could not be told now.
    Heard(StoryId, u64, UserId, bool),
    /// Somebody has seen a story of the user's. Answered by [`StoryOp::Noted`].
    Viewed(Viewed),
    /// The user has seen a story, and whoever posted it knows of that, if they may.
    Noted(Viewed),
    /// Somebody blocks the user, who is to have none of their stories any more. Answered by [`StoryOp::Hid`].
    Hidden(Hides),
    /// The user blocks somebody, who has none of their stories any more, durably.
    Hid(Hides),
}

impl StoryOp {
    /// Whether somebody waits for an answer, so that it may be refused.
    pub(crate) fn is_request(&self) -> bool {
        match self {
            Self::Asked(..) | Self::Told(_) | Self::Viewed(_) | Self::Noted(_) => true,
            Self::Due(_) | Self::Heard(..) | Self::Hidden(_) | Self::Hid(_) => false,
        }
    }

    /// Whether it reads, or writes. What could not be done for want of room is found again, or asked again.
    pub(crate) fn needs_room(&self) -> bool {
        !matches!(self, Self::Heard(..))
    }
}

/// What a row says that is to be done about a story.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoryDue {
    /// Which.
    pub story: StoryId,
    /// From when on, in ms since the Unix epoch.
    pub at_ms: u64,
    /// What.
    pub what: StoryDuty,
}

/// See [`StoryDue`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoryDuty {
    /// Those are to be told who are to know what has become of it.
    Tell,
    /// It ends.
    End,
    /// In place of a story, somebody: they are blocked, and are to have no stories of the user's any more.
    Hide,
}

/// Somebody blocks another one, who is to have none of their stories any more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Hides {
    /// Who is to have them no more.
    pub reader: UserId,
    /// Who has posted them.
    pub by: UserId,
    /// Since when, in ms since the Unix epoch.
    pub at_ms: u64,
}

/// What somebody is told of a story.
#[derive(Clone, Debug)]
pub struct StoryTold {
    /// Which.
    pub story: StoryId,
    /// The number of its owner's work.
    pub work: u64,
    /// They may have been told before.
    pub again: bool,
    /// What.
    pub news: StoryNews,
}

/// See [`StoryTold`].
#[derive(Clone, Debug)]
pub enum StoryNews {
    /// It is there.
    Posted(Arc<PostedStory>),
    /// It is not there any more.
    Gone,
}

/// A story as others see it.
#[derive(Clone, PartialEq)]
pub struct PostedStory {
    /// Which.
    pub story: StoryId,
    /// What it shows.
    pub record: FeedRecord,
}

/// Shows no content.
impl std::fmt::Debug for PostedStory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PostedStory {{ {:?}, {} bytes }}", self.story, self.record.body.len())
    }
}

impl PostedStory {
    /// As it goes over the wire; without links, and what only its reader's owner knows.
    pub fn to_raw(&self) -> v1::Story {
        let FeedRecord { time_ms, expires_ms, kind, body, media } = self.record.clone();
        let StoryId { author, number } = self.story;
        v1::Story {
            user_id: author.get(),
            number,
            time_ms,
            expires_ms,
            kind,
            body,
            media,
            ..v1::Story::default()
        }
    }
}

/// Somebody has seen a story.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Viewed {
    /// Who says so.
    pub origin: Origin,
    /// By which device.
    pub device: DeviceId,
    /// Who.
    pub viewer: UserId,
    /// Which.
    pub story: StoryId,
    /// When it ends, in ms since the Unix epoch.
    pub expires_ms: u64,
}
