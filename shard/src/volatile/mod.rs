//! Who shows whom: devices that want to know whether somebody is here, and who does what in a group just now.
//!
//! Nothing of it is stored, and all of it may be lost: whoever loses a connection, or whose owner is gone, asks anew. A person costs
//! nothing here at whom nobody looks. What others may see, the person's account says; who is in a group, its log.

mod lookers;
mod moving;

use std::collections::VecDeque;

use tern_wire::ids::UserId;
use tern_wire::request::Doing;

use self::lookers::{Lookers, Seeing};
pub(crate) use self::moving::Taken;
use crate::by_slot::{BySlot, InSlot};
use crate::cx::{Cx as AnyCx, Department, Never};
use crate::limits::{LOOKERS_MAX, TOLD_PER_TURN_MAX};
use crate::maps::Hashing;
use crate::message::{FrontOp, Looker, Notice, Sees, Subject, UserOp, VolatileOp, Whereabouts};

/// See the module.
#[derive(Debug)]
pub(crate) struct Volatile {
    subjects: BySlot<Subject, Box<Lookers>>,
    /// People of whom not all have been told that look at them.
    untold: VecDeque<UserId>,
    hashing: Hashing,
}

/// It asks the store nothing.
impl Department for Volatile {
    type After = Never;
    type Get = Never;
    type Scan = Never;
}

type Cx<'a> = AnyCx<'a, Volatile>;

impl InSlot for Subject {
    fn slot(&self) -> tern_storage::Slot {
        Self::slot(*self)
    }
}

impl Volatile {
    /// Nobody looks at anybody.
    pub(crate) fn new(hashing: Hashing) -> Self {
        Self { subjects: BySlot::new(hashing), untold: VecDeque::new(), hashing }
    }

    /// Whether some are still to be told something, in a turn that is to follow at once.
    pub(crate) fn has_more(&self) -> bool {
        !self.untold.is_empty()
    }

    /// Something is told of a subject.
    pub(crate) fn told(&mut self, cx: &mut Cx, subject: Subject, op: VolatileOp) {
        match (subject, op) {
            (_, VolatileOp::Look(looker, sees)) => self.look(cx, subject, looker, sees),
            (_, VolatileOp::LookAway(looker)) => self.look_away(cx, subject, looker),
            (Subject::User(user), VolatileOp::Is(is)) => self.is(cx, user, is),
            (Subject::User(user), VolatileOp::WhoLooks) => {
                cx.tell_user(user, UserOp::IsLookedAt(self.subjects.contains_key(&subject)));
            }
            (Subject::User(user), VolatileOp::LetsSee(whom)) => self.lets_see(cx, user, whom),
            (Subject::Group(_), VolatileOp::Lost(user)) => self.lost(subject, user),
            (Subject::Group(_), VolatileOp::Acts(user, doing, not)) => {
                self.acts(cx, subject, user, doing, &not);
            }
            (Subject::User(_), VolatileOp::Lost(_) | VolatileOp::Acts(..))
            | (Subject::Group(_), VolatileOp::Is(_) | VolatileOp::LetsSee(_) | VolatileOp::WhoLooks) => {
                unreachable!("people are here, and members act in groups")
            }
        }
    }

    /// Goes on with telling: so much in a turn that nobody else waits for it.
    pub(crate) fn go_on(&mut self, cx: &mut Cx) {
        let mut room = TOLD_PER_TURN_MAX;
        while room > 0
            && let Some(user) = self.untold.pop_front()
        {
            let Some(lookers) = self.subjects.get_mut(&Subject::User(user)) else { continue };
            room -= lookers.tell(cx, user, room);
            lookers.is_untold = lookers.has_untold();
            if lookers.is_untold {
                self.untold.push_back(user);
            }
        }
    }

    fn look(&mut self, cx: &mut Cx, subject: Subject, looker: Looker, sees: Sees) {
        if !self.subjects.contains_key(&subject) {
            self.subjects.insert(subject, Box::new(Lookers::new()));
            if let Subject::User(user) = subject {
                cx.tell_user(user, UserOp::IsLookedAt(true));
            }
        }
        let lookers = self.subjects.get_mut(&subject).expect("it is there by now");
        if lookers.len() >= LOOKERS_MAX {
            // Those who are there already stay told.
            return;
        }
        let seeing = Seeing { looker, sees, told: lookers.version, saw: false };
        let saw = lookers.put(seeing, self.hashing);
        // What is not known yet is told when it is. Whoever asks again may have missed something, and whoever sees less than before is
        // told that; one who comes and sees nothing is told nothing, as of one who does not exist.
        if let Subject::User(user) = subject
            && (saw || sees != Sees::default())
            && lookers.is.is_some()
        {
            cx.tell_front(looker.place, FrontOp::Notice(seeing.presence(user, lookers.is)));
        }
    }

    fn look_away(&mut self, cx: &mut Cx, subject: Subject, looker: Looker) {
        let Some(lookers) = self.subjects.get_mut(&subject) else { return };
        lookers.remove(looker);
        self.part(cx, subject);
    }

    /// If nobody looks any more, nothing of a subject is kept.
    fn part(&mut self, cx: &mut Cx, subject: Subject) {
        if self.subjects.get(&subject).is_some_and(|lookers| lookers.len() == 0) {
            self.subjects.remove(&subject);
            if let Subject::User(user) = subject {
                cx.tell_user(user, UserOp::IsLookedAt(false));
            }
        }
    }

    /// A person is here, or not any more.
    fn is(&mut self, cx: &mut Cx, user: UserId, is: Option<Whereabouts>) {
        let Some(lookers) = self.subjects.get_mut(&Subject::User(user)).filter(|lookers| lookers.is != is)
        else {
            return;
        };
        (lookers.is, lookers.version) = (is, lookers.version.wrapping_add(1));
        lookers.tell(cx, user, TOLD_PER_TURN_MAX);
        if lookers.has_untold() && !std::mem::replace(&mut lookers.is_untold, true) {
            self.untold.push_back(user);
        }
    }

    /// What a person lets others see is another: their devices ask the person's account again.
    fn lets_see(&mut self, cx: &mut Cx, user: UserId, whom: Option<UserId>) {
        let Some(lookers) = self.subjects.get(&Subject::User(user)) else { return };
        for Seeing { looker, .. } in lookers.iter() {
            if whom.is_none_or(|whom| whom == looker.device.user) {
                // What the looker shares of itself with the person its own account knows.
                cx.tell_user(looker.device.user, UserOp::LookAgain(*looker, user));
            }
        }
    }

    fn lost(&mut self, subject: Subject, user: UserId) {
        if let Some(lookers) = self.subjects.get_mut(&subject) {
            lookers.remove_user(user);
            if lookers.len() == 0 {
                self.subjects.remove(&subject);
            }
        }
    }

    /// A member does something in a group: those who show it are told, but for its own devices and for whom it blocks.
    fn acts(&mut self, cx: &mut Cx, subject: Subject, user: UserId, doing: Doing, not: &[u64]) {
        let Subject::Group(group) = subject else { return };
        let Some(lookers) = self.subjects.get(&subject) else { return };
        for Seeing { looker, .. } in lookers.iter() {
            let whose = looker.device.user;
            if whose != user && !not.contains(&whose.get()) {
                let notice = Notice::Activity { subject: Subject::Group(group), user, doing };
                cx.tell_front(looker.place, FrontOp::Notice(notice));
            }
        }
    }
}
