//! Who shows whom, on the way to another core.

use tern_storage::Slot;

use super::{Lookers, Volatile};
use crate::message::Subject;

/// What a core holds of a slot's people and groups.
#[derive(Debug)]
pub(crate) struct Taken(Vec<(Subject, Box<Lookers>)>);

impl Volatile {
    /// Lets go of a slot.
    pub(crate) fn let_go(&mut self, slot: Slot) -> Taken {
        Taken(self.subjects.take(slot))
    }

    /// Takes up a slot that another core has let go. Who has not been told something is told it here.
    pub(crate) fn take_up(&mut self, Taken(taken): Taken) {
        for (subject, lookers) in taken {
            if let Subject::User(user) = subject
                && lookers.is_untold
            {
                self.untold.push_back(user);
            }
            self.subjects.insert(subject, lookers);
        }
    }
}
