//! What is lost with a log's owner: entries and watermarks on their way to its members. A log is watched before anything is written in
//! it, so the logs of which something can be lost are among those that users of this core watch; the next owner of each says where
//! it stands.

use std::collections::BTreeSet;

use tern_storage::{LogId, Slot};
use tern_wire::ids::UserId;

use super::inbox::SOME_ENTRY;
use super::kept::Inbox;
use super::{Accounts, Cx, slot_of};
use crate::limits::RECOVERED_PER_TICK;
use crate::message::{FrontOp, LogOp, Standing};
use crate::slots;

/// A log that a user watches, in its slot.
type Watch = (Slot, LogId, UserId);

/// Who watches what.
#[derive(Default, Debug)]
pub(super) struct Watches {
    /// The logs that users of this core watch: their owners have them in memory, and have said so.
    known: BTreeSet<Watch>,
    /// Those of which something may be lost, with their last owner.
    doubted: BTreeSet<Watch>,
    /// Those whose owners were asked where they stand, and have not said so. They may go the same way.
    asked: BTreeSet<Watch>,
}

/// Those of the users of a slot.
#[derive(Default, Debug)]
pub(super) struct Taken {
    known: Vec<Watch>,
    doubted: Vec<Watch>,
    asked: Vec<Watch>,
}

impl Watches {
    /// A user watches a log.
    pub(super) fn add(&mut self, log: LogId, user: UserId) {
        self.known.insert((Slot::of_log(log), log, user));
    }

    /// A user watches a log no more.
    pub(super) fn remove(&mut self, log: LogId, user: UserId) {
        self.known.remove(&(Slot::of_log(log), log, user));
    }

    /// Takes out those of the users of a slot.
    pub(super) fn take(&mut self, slot: Slot) -> Taken {
        let is_of = |(_, _, user): &Watch| slot_of(*user) == slot;
        Taken {
            known: self.known.extract_if(.., is_of).collect(),
            doubted: self.doubted.extract_if(.., is_of).collect(),
            asked: self.asked.extract_if(.., is_of).collect(),
        }
    }

    /// Takes up those of the users of a slot.
    pub(super) fn put_back(&mut self, Taken { known, doubted, asked }: Taken) {
        self.known.extend(known);
        self.doubted.extend(doubted);
        self.asked.extend(asked);
    }
}

impl Accounts {
    /// Owners of logs are gone: those in their place are asked where the logs stand, some at each tick.
    pub(crate) fn owners_gone(&mut self, taken: &slots::Taken) {
        let Watches { known, doubted, asked } = &mut self.watches;
        let first = (LogId::direct(0, 0), UserId::new(1).expect("not 0"));
        for slot in taken.slots() {
            let from = (*slot, first.0, first.1);
            let next = Slot::new(slot.number() + 1).map(|next| (next, first.0, first.1));
            for of_last in [&mut *known, &mut *asked] {
                match next {
                    Some(next) => doubted.extend(of_last.extract_if(from..next, |_| true)),
                    None => doubted.extend(of_last.extract_if(from.., |_| true)),
                }
            }
        }
    }

    /// A device has come to a new owner of its user: the logs that have told that owner before where they stand say so once more.
    pub(super) fn recover_watched(&mut self, cx: &mut Cx, id: UserId) {
        let watched = self.users.get(id).map(|user| user.watched.clone()).unwrap_or_default();
        for log in watched {
            cx.tell_log(log, LogOp::Recover(id));
        }
    }

    /// Asks about some of them.
    pub(super) fn recover_some(&mut self, cx: &mut Cx) {
        for _ in 0..RECOVERED_PER_TICK {
            let Some(watch @ (_, log, id)) = self.watches.doubted.pop_first() else { return };
            if !self.watches.known.contains(&watch)
                && let Some(user) = self.users.get(id)
            {
                // Its next owner says so when it has it in memory.
                user.watched.remove(&log);
            }
            // If nobody is here, the store says as much.
            if self.is_attached(id) {
                self.watches.asked.insert(watch);
                cx.tell_log(log, LogOp::Recover(id));
            }
        }
    }

    /// A log of a user stands there: what its devices that are here may not have been told of they are told now.
    pub(super) fn log_stands(&mut self, cx: &mut Cx, id: UserId, standing: &Standing) {
        let Standing { log, behind, marks } = standing;
        // Of what its last owner has said something may be lost, whatever the next one has said since.
        let may_lack = self.watches.asked.remove(&(Slot::of_log(*log), *log, id));
        // Of a user who is not in memory, nobody is here.
        let Some(user) = self.users.get(id) else { return };
        for (device, state) in user.devices.iter_mut() {
            let newest = behind.iter().find(|(other, _)| other == device).map(|(_, newest)| *newest);
            let known = state.inbox.logs().and_then(|logs| logs.get(log)).copied();
            // If the inbox holds that entry, the device was told, or is being told.
            let heard = known.filter(|known| *known != SOME_ENTRY && !may_lack);
            let missed = newest.filter(|newest| Some(*newest) > heard);
            match (missed, known) {
                (None, _) => {}
                (Some(missed), Some(known)) => state.inbox.insert(*log, known.max(missed)),
                // What is in the inbox has a mark; whether this has one the store knows.
                (Some(_), None) => state.inbox = Inbox::Unknown,
            }
            if let Some(missed) = missed {
                state.tell(cx, FrontOp::Behind(*log, missed));
            }
            for (member, marks) in marks {
                state.tell(cx, FrontOp::Watermarks(*log, *member, *marks));
            }
        }
    }
}
