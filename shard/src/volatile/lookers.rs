//! Who shows one person, or one group: mostly few, and sometimes very many.

use tern_wire::ids::UserId;

use super::Cx;
use crate::entry::Author;
use crate::maps::{Hashing, Map};
use crate::message::{FrontOp, Looker, Notice, Sees, Whereabouts};

/// A device, and what it was told last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seeing {
    pub(super) looker: Looker,
    pub(super) sees: Sees,
    /// The version of what it was told.
    pub(super) told: u32,
    /// It has seen something since it came, and so may still show it: that it sees nothing any more may have been lost on the way.
    pub(super) saw: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Lookers {
    all: All,
    /// Of a person: whether it is here, as far as that is known.
    pub(super) is: Option<Whereabouts>,
    /// Counts what `is` has been.
    pub(super) version: u32,
    /// It is among those of whom not all have been told.
    pub(super) is_untold: bool,
}

/// Few are looked through: a table would take several times their memory.
#[derive(Debug)]
enum All {
    Few(Vec<Seeing>),
    Many(Map<Author, Seeing>),
}

/// As many are few.
const FEW_MAX: usize = 16;

impl Seeing {
    /// Whether it is this one, and has seen something up to now.
    fn has_seen(&self, looker: Looker) -> bool {
        self.looker == looker && (self.saw || self.sees != Sees::default())
    }

    /// What it is told of a person.
    pub(super) fn presence(&self, user: UserId, is: Option<Whereabouts>) -> Notice {
        let Some(Whereabouts { online, last_seen_ms }) = is else {
            return Notice::Presence { user, online: None, last_seen_ms: 0 };
        };
        let is_seen = online && self.sees.online;
        let last_seen_ms = if self.sees.last_seen && !is_seen { last_seen_ms } else { 0 };
        Notice::Presence { user, online: self.sees.online.then_some(online), last_seen_ms }
    }
}

impl Lookers {
    /// Nobody.
    pub(super) fn new() -> Self {
        Self { all: All::Few(Vec::new()), is: None, version: 0, is_untold: false }
    }

    pub(super) fn len(&self) -> usize {
        match &self.all {
            All::Few(few) => few.len(),
            All::Many(many) => many.len(),
        }
    }

    /// Puts a device in. Gives whether it has seen something before, as the same connection.
    pub(super) fn put(&mut self, mut seeing: Seeing, hashing: Hashing) -> bool {
        let device = seeing.looker.device;
        match &mut self.all {
            All::Few(few) => {
                if let Some(known) = few.iter_mut().find(|known| known.looker.device == device) {
                    seeing.saw = known.has_seen(seeing.looker);
                    *known = seeing;
                    return seeing.saw;
                }
                if few.len() < FEW_MAX {
                    few.push(seeing);
                } else {
                    let mut many = Map::with_hasher(hashing);
                    many.extend(few.drain(..).chain([seeing]).map(|seeing| (seeing.looker.device, seeing)));
                    self.all = All::Many(many);
                }
                false
            }
            All::Many(many) => {
                seeing.saw = many.get(&device).is_some_and(|known| known.has_seen(seeing.looker));
                many.insert(device, seeing);
                seeing.saw
            }
        }
    }

    /// Takes a device out, unless another connection stands for it by now.
    pub(super) fn remove(&mut self, looker: Looker) {
        match &mut self.all {
            All::Few(few) => few.retain(|seeing| seeing.looker != looker),
            All::Many(many) => {
                if many.get(&looker.device).is_some_and(|seeing| seeing.looker == looker) {
                    many.remove(&looker.device);
                }
            }
        }
    }

    /// Takes out all devices of a user.
    pub(super) fn remove_user(&mut self, user: UserId) {
        match &mut self.all {
            All::Few(few) => few.retain(|seeing| seeing.looker.device.user != user),
            All::Many(many) => many.retain(|device, _| device.user != user),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Seeing> {
        let (few, many) = match &self.all {
            All::Few(few) => (Some(few.iter()), None),
            All::Many(many) => (None, Some(many.values())),
        };
        few.into_iter().flatten().chain(many.into_iter().flatten())
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut Seeing> {
        let (few, many) = match &mut self.all {
            All::Few(few) => (Some(few.iter_mut()), None),
            All::Many(many) => (None, Some(many.values_mut())),
        };
        few.into_iter().flatten().chain(many.into_iter().flatten())
    }

    /// Tells those who have not been told, at most so many. Gives how many were.
    pub(super) fn tell(&mut self, cx: &mut Cx, user: UserId, room: usize) -> usize {
        let (is, version) = (self.is, self.version);
        let mut told = 0;
        for seeing in self.iter_mut().filter(|seeing| seeing.told != version).take(room) {
            (seeing.told, told) = (version, told + 1);
            if seeing.sees != Sees::default() {
                cx.tell_front(seeing.looker.place, FrontOp::Notice(seeing.presence(user, is)));
            }
        }
        told
    }

    pub(super) fn has_untold(&self) -> bool {
        self.iter().any(|seeing| seeing.told != self.version)
    }
}
