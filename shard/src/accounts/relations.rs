//! What a user has said of others, where it matters: to whom something is shown, who may do something, and what the user's direct
//! chats must know.

use tern_storage::keys::{self, Relation};
use tern_storage::{Direction, KeyRange, LogId, ScanLimit};
use tern_wire::errors::{Reason, Refusal};
use tern_wire::ids::UserId;
use tern_wire::private::Private;

use super::profiles::Audiences;
use super::users::{Ask, look_later, permit};
use super::waits::ScanFor;
use super::{Accounts, Cx};
use crate::circle::{Concern, Verdict};
use crate::entry::peer_of;
use crate::limits::{BLOCKED_MAX, CONTACTS_MAX, MUTED_MAX};
use crate::message::{
    FrontOp, LogOp, LookedAt, Named, Said, Shown, Subject, Terms, TermsTold, Unreadable, UserOp, VolatileOp,
};
use crate::mutations::{Mutation, is};
use crate::reply::{Asker, Origin, Reply};

const TOO_MANY_BLOCKED: Refusal = Refusal::new(Reason::TooManyPeople, "as many people are blocked as may be");
const TOO_MANY_CONTACTS: Refusal =
    Refusal::new(Reason::TooManyPeople, "as many people are contacts as may be");
const TOO_MANY_MUTED: Refusal =
    Refusal::new(Reason::TooManyPeople, "the stories of as many people are muted as may be");
/// Of one who is not there, and of one who does not want to be found: in the same words.
pub(super) const UNKNOWN_USER: Refusal = Refusal::new(Reason::UnknownUser, "there is no such user");
pub(super) const UNREADABLE: Refusal =
    Refusal::for_now(Reason::Unavailable, 1000, "the contacts can't be read");

/// What is done for somebody if they are a contact of a user, and otherwise not.
#[derive(Clone, Copy, Debug)]
pub(crate) enum IfContact {
    /// Say who the user is.
    Describe(Origin, Shown),
    /// Take the user into a group, if the user lets contacts.
    Come(LogId, UserId, bool),
    /// See whether the user is here.
    Look(LookedAt),
}

impl IfContact {
    /// Who may be one.
    fn other(&self) -> UserId {
        match self {
            Self::Describe(_, shown) => shown.to,
            Self::Come(_, by, _) => *by,
            Self::Look(asked) => asked.looker.device.user,
        }
    }
}

impl Accounts {
    /// What a user says of others is durable. Whoever has said so is told when those who must know do.
    pub(super) fn said(&mut self, cx: &mut Cx, id: UserId, said: Box<Said>) {
        if let Ok(private) = Private::parse(&said.entry.body) {
            Self::look_whom_to_hide_from(cx, id, &private);
        }
        if self.users.contains(id) {
            // What is being read of the user may be older.
            return self.ask_user(cx, id, Ask::Said(said));
        }
        cx.reply(said.asker, said.reply);
    }

    /// The same, of a user who is known.
    pub(super) fn hear(&mut self, cx: &mut Cx, id: UserId, Said { entry, asker, reply }: Said) {
        let Ok(private) = Private::parse(&entry.body) else { return cx.reply(asker, reply) };
        let user = self.user(id);
        let showed = Audiences::of(&user.circle);
        user.circle.say(&private);
        if is(Mutation::ConfirmBlockEarly) {
            cx.reply(asker, reply);
            return;
        }
        let mut then = Some((asker, reply));
        if user.being.is_looked_at {
            let lets_see = |whom| (Subject::User(id), VolatileOp::LetsSee(whom));
            match &private {
                Private::Contacts(people) => {
                    cx.tell_volatiles(people.iter().map(|(other, _)| lets_see(Some(*other))));
                }
                Private::Blocked(other, _) => cx.tell_volatiles([lets_see(Some(*other))].into_iter()),
                Private::Privacy(_) => cx.tell_volatiles([lets_see(None)].into_iter()),
                _ => {}
            }
        }
        if !matches!(private, Private::Contacts(_)) || user.circle.shows_to_contacts() {
            // Whoever hides something does not see it of others.
            self.tell_attached(cx, id, |_| Some(FrontOp::LookAgain(None)));
        }
        let user = self.user(id);
        match private {
            Private::Blocked(other, _) => {
                let log = LogId::direct(id.get(), other.get());
                if user.watched.contains(&log) {
                    self.tell_terms(cx, id, log, then.take());
                }
            }
            Private::Privacy(_) => {
                self.audiences_changed(cx, id, showed);
                let user = self.user(id);
                let logs = user.watched.clone();
                for log in logs.into_iter().filter(|log| matches!(log, LogId::Direct(..))) {
                    self.tell_terms(cx, id, log, None);
                }
            }
            _ => {}
        }
        if let Some((asker, reply)) = then {
            cx.reply(asker, reply);
        }
    }

    fn tell_terms(&mut self, cx: &mut Cx, id: UserId, log: LogId, then: Option<(Asker, Reply)>) {
        let told = TermsTold { terms: self.terms(id, log), then };
        cx.tell_log(log, LogOp::Terms(id, Box::new(told)));
    }

    /// What a user says of the other member of a direct chat.
    pub(super) fn terms(&mut self, id: UserId, log: LogId) -> Terms {
        let LogId::Direct(..) = log else { return Terms::default() };
        let circle = &self.user(id).circle;
        let blocks = peer_of(log, id).is_some_and(|peer| circle.blocks(peer));
        Terms { blocks, hides_reads: circle.hides_reads() }
    }

    /// Whether a user may name so many more people.
    pub(super) fn may_name(&mut self, cx: &mut Cx, id: UserId, log: LogId, number: u64, named: Named) {
        match named {
            Named::Blocked => {
                let is_full = self.user(id).circle.all_blocked().len() >= BLOCKED_MAX;
                permit(cx, log, number, if is_full { Err(TOO_MANY_BLOCKED) } else { Ok(()) });
            }
            Named::Muted => {
                let limit = ScanLimit { rows: MUTED_MAX, bytes: usize::MAX };
                let purpose = ScanFor::Contacts(id, log, number, named);
                cx.scan(keys::muted(id.get()), Direction::Forwards, limit, purpose);
            }
            Named::Contacts(_) => {
                let limit = ScanLimit { rows: CONTACTS_MAX, bytes: usize::MAX };
                let purpose = ScanFor::Contacts(id, log, number, named);
                cx.scan(keys::contacts(id.get()), Direction::Forwards, limit, purpose);
            }
        }
    }

    /// Whether somebody may take a user into a group.
    pub(super) fn may_come(&mut self, cx: &mut Cx, id: UserId, log: LogId, by: UserId) {
        let is_there = self.record(id).is_some();
        match self.lets(id, by, Concern::Groups) {
            Verdict::Yes if is_there => cx.tell_log(log, LogOp::Comes(id, by, Ok(true))),
            // Whoever lets nobody is as one who is not there, or who does not know whoever asks: as much is read.
            lets => {
                let may = is_there && lets == Verdict::IfContact;
                Self::ask_if_contact(cx, id, IfContact::Come(log, by, may));
            }
        }
    }

    /// So many people are contacts of a user who is about to name more, or so many are muted.
    pub(super) fn contacts_counted(
        cx: &mut Cx,
        log: LogId,
        number: u64,
        named: Named,
        rows: Result<usize, Unreadable>,
    ) {
        let answer = match (named, rows) {
            (_, Err(_)) => Err(UNREADABLE),
            (Named::Contacts(added), Ok(rows)) if rows + added > CONTACTS_MAX => Err(TOO_MANY_CONTACTS),
            (Named::Muted, Ok(rows)) if rows >= MUTED_MAX => Err(TOO_MANY_MUTED),
            (_, Ok(_)) => Ok(()),
        };
        permit(cx, log, number, answer);
    }

    /// Whether somebody may do something, as a user who is known has said.
    pub(super) fn lets(&mut self, id: UserId, other: UserId, concern: Concern) -> Verdict {
        if other == id { Verdict::Yes } else { self.user(id).circle.lets(other, concern) }
    }

    /// Asks the store whether somebody is a contact of a user's.
    pub(super) fn ask_if_contact(cx: &mut Cx, id: UserId, ask: IfContact) {
        let key = keys::relation(id.get(), Relation::Contact(ask.other().get()));
        let one = ScanLimit { rows: 1, bytes: usize::MAX };
        cx.scan(KeyRange::of_key(&key), Direction::Forwards, one, ScanFor::IsContact(id, ask));
    }

    /// Somebody is a contact of a user's, or is not.
    pub(super) fn if_contact(
        &mut self,
        cx: &mut Cx,
        id: UserId,
        ask: IfContact,
        is_one: Result<bool, Unreadable>,
    ) {
        match (ask, is_one) {
            (IfContact::Describe(origin, shown), Ok(is_one)) => {
                self.describe_if_contact(cx, origin, id, shown, is_one);
            }
            (IfContact::Describe(origin, _), Err(_)) => cx.refuse(origin, UNREADABLE),
            (IfContact::Look(asked), Ok(is_one))
                if self.users.get(id).is_some_and(|user| user.held.is_known()) =>
            {
                self.shown_to(cx, id, asked, is_one);
            }
            (IfContact::Look(_), Err(Unreadable::Damaged)) => {}
            // It can't be read now, or may have been said since.
            (IfContact::Look(asked), _) => {
                look_later(cx, id, UserOp::LookedAt(Box::new(asked)));
            }
            (IfContact::Come(log, by, may), is_one) => {
                let comes = is_one.map(|is_one| is_one && may);
                cx.tell_log(log, LogOp::Comes(id, by, comes.map_err(|_| ())));
            }
        }
    }
}
