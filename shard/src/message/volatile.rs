//! What the owners of people and groups are told of who looks at them, and what those are told.

use tern_storage::{LogId, Slot};
use tern_wire::ids::{GroupId, UserId};
use tern_wire::request::Doing;

use crate::entry::Author;
use crate::reply::Place;

/// Somebody, or something, that devices show.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Subject {
    /// A person.
    User(UserId),
    /// A group.
    Group(GroupId),
}

impl Subject {
    /// Where it lies.
    pub fn slot(self) -> Slot {
        match self {
            Self::User(user) => Slot::of_user(user.get()),
            Self::Group(group) => Slot::of_log(LogId::Group(group.get())),
        }
    }
}

/// What of a person somebody may see.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Sees {
    /// That the person is here.
    pub online: bool,
    /// When the person was here last.
    pub last_seen: bool,
}

/// Whether a person is here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Whereabouts {
    /// It is.
    pub online: bool,
    /// When it was here last, in ms since the Unix epoch; 0: not known.
    pub last_seen_ms: u64,
}

/// A device that shows somebody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Looker {
    /// Which.
    pub device: Author,
    /// Where its connection is.
    pub place: Place,
}

/// What is told of a subject to its owner. Nobody waits for any of it.
#[derive(Debug)]
pub enum VolatileOp {
    /// A device shows it from now on, or sees more or less of it than before.
    Look(Looker, Sees),
    /// A device does not show it any more.
    LookAway(Looker),
    /// A person is here, or not any more; `None`: that is not known now.
    Is(Option<Whereabouts>),
    /// What a person lets others see is another: this one, or (`None`) all.
    LetsSee(Option<UserId>),
    /// The owner of a person has forgotten whether somebody looks.
    WhoLooks,
    /// A group has lost a member.
    Lost(UserId),
    /// A member of a group does something in it, which these are not told of.
    Acts(UserId, Doing, Vec<u64>),
}
