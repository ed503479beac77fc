//! What a user is to others: name, what the user says of themselves, picture. Each is told to whom it may be: the name by what both have
//! written, which a log's owner knows, the others by what the user lets others see. When one of them becomes another, those are told who see
//! it, and nobody else learns that anything has changed: the version that somebody is told counts the changes of what they see.

use tern_proto::v1;
use tern_storage::keys::{self, Relation};
use tern_storage::records::UserRecord;
use tern_storage::{Direction, LogId, Row, ScanLimit};
use tern_wire::errors::Refusal;
use tern_wire::ids::UserId;

use super::relations::{IfContact, UNKNOWN_USER};
use super::{Accounts, Cx, ScanFor};
use crate::circle::{Circle, Concern, Verdict};
use crate::entry::peer_of;
use crate::limits::CONTACTS_MAX;
use crate::media::cites::NO_SUCH_PICTURE;
use crate::message::{FrontOp, LogOp, Notice, Shown, Unreadable, UserOp};
use crate::mutations::{Mutation, is};
use crate::reply::{Origin, Reply};

/// What of a user has become another, or is seen by somebody.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Parts {
    pub(super) name: bool,
    pub(super) about: bool,
    pub(super) picture: bool,
}

impl Parts {
    /// The name alone.
    pub(super) const NAME: Self = Self { name: true, about: false, picture: false };

    /// Everything.
    pub(super) const ALL: Self = Self { name: true, about: true, picture: true };

    /// Whether there is any.
    pub(super) fn any(self) -> bool {
        self != Self::default()
    }

    fn and(self, other: Self) -> Self {
        Self {
            name: self.name && other.name,
            about: self.about && other.about,
            picture: self.picture && other.picture,
        }
    }

    /// Those that are not in the other one.
    fn beyond(self, other: Self) -> Self {
        Self {
            name: self.name && !other.name,
            about: self.about && !other.about,
            picture: self.picture && !other.picture,
        }
    }

    /// Those that a user has said.
    fn said(record: &UserRecord) -> Self {
        let UserRecord { about, picture, .. } = record;
        Self { name: true, about: !about.is_empty(), picture: !picture.is_empty() }
    }

    /// How often these have become another.
    pub(super) fn version(self, record: &UserRecord) -> u64 {
        let UserRecord { names, abouts, pictures, .. } = *record;
        let counts = [(self.name, names), (self.about, abouts), (self.picture, pictures)];
        counts.into_iter().filter(|(is_seen, _)| *is_seen).map(|(_, count)| count).sum()
    }
}

/// Whom a user lets see what the user says of themselves, and the picture, if they are not blocked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Audiences {
    about: Verdict,
    picture: Verdict,
}

impl Audiences {
    pub(super) fn of(circle: &Circle) -> Self {
        Self { about: circle.lets_others(Concern::About), picture: circle.lets_others(Concern::Picture) }
    }

    fn depend_on_contacts(self) -> bool {
        [self.about, self.picture].contains(&Verdict::IfContact)
    }

    /// What of the two somebody sees.
    fn seen(self, is_contact: bool) -> Parts {
        Parts { name: false, about: self.about.allows(is_contact), picture: self.picture.allows(is_contact) }
    }
}

/// Why others may see something else of a user than before.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Changed {
    /// These are others.
    Parts(Parts),
    /// They were for others to see.
    Audiences(Audiences),
}

/// Logs of a user whose other members are told, when it is known who of them are contacts.
#[derive(Clone, Debug)]
pub(crate) struct Telling {
    changed: Changed,
    logs: Vec<LogId>,
}

impl Accounts {
    /// What of the user somebody sees beside the name; `None`: it depends on whether they are a contact.
    fn seen_by(&mut self, id: UserId, other: UserId, is_contact: Option<bool>) -> Option<Parts> {
        let mut sees = |concern| match self.lets(id, other, concern) {
            Verdict::Yes => Some(true),
            Verdict::No => Some(is(Mutation::ShowProfile)),
            Verdict::IfContact => is_contact,
        };
        let (about, picture) = (sees(Concern::About)?, sees(Concern::Picture)?);
        Some(Parts { name: false, about, picture })
    }

    /// Says who a user is, so far as it may be shown.
    pub(super) fn describe(&mut self, cx: &mut Cx, origin: Origin, id: UserId, shown: Shown) {
        if self.record(id).is_none() {
            return cx.refuse(origin, unknown(shown));
        }
        match self.seen_by(id, shown.to, None) {
            Some(sees) => self.describe_to(cx, origin, id, shown, sees),
            None => Self::ask_if_contact(cx, id, IfContact::Describe(origin, shown)),
        }
    }

    /// The same, when it is known whether whoever asks is a contact.
    pub(super) fn describe_if_contact(
        &mut self,
        cx: &mut Cx,
        origin: Origin,
        id: UserId,
        shown: Shown,
        is_contact: bool,
    ) {
        if self.users.get(id).is_none_or(|user| !user.held.is_known()) {
            // It may have left the memory since, or have come into doubt.
            return self.user_told(cx, id, UserOp::Describe(origin, shown));
        }
        let sees = self.seen_by(id, shown.to, Some(is_contact)).unwrap_or_default();
        self.describe_to(cx, origin, id, shown, sees);
    }

    fn describe_to(&mut self, cx: &mut Cx, origin: Origin, id: UserId, shown: Shown, sees: Parts) {
        let sees = Parts { name: shown.name, ..sees };
        if let Some(medium) = shown.picture {
            return self.picture_wanted(cx, origin, id, medium, sees.picture);
        }
        let Some(record) = self.record(id) else { return cx.refuse(origin, unknown(shown)) };
        let only = |is_shown: bool, text: &String| if is_shown { text.clone() } else { String::new() };
        let person = v1::Person {
            user_id: id.get(),
            name: only(sees.name, &record.name),
            phone: only(shown.phone, &record.phone),
            about: only(sees.about, &record.about),
            picture: if sees.picture { record.picture.clone() } else { Default::default() },
            version: sees.version(record),
        };
        cx.reply(origin, Reply::Person(Box::new(person)));
    }

    /// Parts of a user are not as before, durably: whoever is here of those with whom there is a chat that both wrote in is told, if they
    /// see it.
    pub(super) fn person_changed(&mut self, cx: &mut Cx, id: UserId, changed: Parts) {
        if changed.any() {
            read_peers(cx, id, Changed::Parts(changed), None);
        }
    }

    /// A user has said, durably, who may see what: whoever sees more of the user than before is told, as far as there is something to see.
    /// Whoever sees less finds out when they look, as those do whom the user blocks: that nothing is told is not to say which of both it was.
    pub(super) fn audiences_changed(&mut self, cx: &mut Cx, id: UserId, before: Audiences) {
        let is_another = Audiences::of(&self.user(id).circle) != before;
        if is_another && self.record(id).is_some() && self.budgets.tell_audience(id, cx.now_ms) {
            read_peers(cx, id, Changed::Audiences(before), None);
        }
    }

    /// A step of a user's logs has been read. The peers' owners are asked first, for of the peers few are here.
    pub(super) fn peers_read(&mut self, cx: &mut Cx, id: UserId, changed: Changed, rows: &[Row], more: bool) {
        let logs: Vec<_> = rows.iter().filter_map(|(key, _)| keys::log_of(key)).collect();
        if more && let Some(last) = logs.last() {
            read_peers(cx, id, changed, Some(*last));
        }
        let telling = Telling { changed, logs };
        let now = self.users.get(id).map(|user| Audiences::of(&user.circle));
        let before = match changed {
            Changed::Audiences(before) => Some(before),
            Changed::Parts(_) => None,
        };
        if now.into_iter().chain(before).any(Audiences::depend_on_contacts) {
            let all = ScanLimit { rows: CONTACTS_MAX, bytes: usize::MAX };
            let purpose = ScanFor::PeersKnown(id, Box::new(telling));
            return cx.scan(keys::contacts(id.get()), Direction::Forwards, all, purpose);
        }
        self.tell_peers(cx, id, &telling, |_| false);
    }

    /// The contacts of a user are known, of whose peers those are told who see what has become another.
    pub(super) fn peers_known(
        &mut self,
        cx: &mut Cx,
        id: UserId,
        telling: &Telling,
        rows: Result<Vec<Row>, Unreadable>,
    ) {
        // Whoever is not told finds out when they look.
        let Ok(rows) = rows else { return };
        let contact = |(key, _): &Row| match Relation::of(key)? {
            Relation::Contact(user) => Some(user),
            _ => None,
        };
        // Rising, as their keys are.
        let contacts: Vec<_> = rows.iter().filter_map(contact).collect();
        self.tell_peers(cx, id, telling, |user| contacts.binary_search(&user.get()).is_ok());
    }

    fn tell_peers(
        &mut self,
        cx: &mut Cx,
        id: UserId,
        telling: &Telling,
        is_contact: impl Fn(UserId) -> bool,
    ) {
        let is_known = self.users.get(id).is_some_and(|user| user.held.is_known());
        for log in &telling.logs {
            let Some(peer) = peer_of(*log, id).filter(|peer| *peer != id) else { continue };
            if !is_known {
                // It has left the memory since. What it is called all may know; of the rest they find out when they look.
                if matches!(telling.changed, Changed::Parts(Parts { name: true, .. })) {
                    cx.tell_user(peer, UserOp::PeerChanged(*log, 0));
                }
                continue;
            }
            if let Some(version) = self.version_told(id, peer, is_contact(peer), telling.changed) {
                cx.tell_user(peer, UserOp::PeerChanged(*log, version));
            }
        }
    }

    /// The version that somebody is told, if something of what they see of a user is another.
    fn version_told(&mut self, id: UserId, peer: UserId, is_contact: bool, changed: Changed) -> Option<u64> {
        let sees = self.seen_by(id, peer, Some(is_contact)).unwrap_or_default();
        match changed {
            Changed::Parts(changed) => {
                let sees = Parts { name: true, ..sees };
                // Of an account that has ended there is none.
                let version = self.record(id).map_or(0, |record| sees.version(record));
                sees.and(changed).any().then_some(version)
            }
            // Of what is seen now the version may be the same number as of what was seen before: none is told.
            Changed::Audiences(before) => {
                let more = sees.beyond(before.seen(is_contact));
                more.and(Parts::said(self.record(id)?)).any().then_some(0)
            }
        }
    }

    /// The peer of a user in a log is not as before. If a device of the user is here, the log says whether it may know.
    pub(super) fn peer_changed(&mut self, cx: &mut Cx, id: UserId, log: LogId, version: u64) {
        if let Some(peer) = peer_of(log, id).filter(|_| self.is_attached(id)) {
            cx.tell_log(log, LogOp::Changed(peer, version));
        }
    }

    pub(super) fn tell_of_person(&mut self, cx: &mut Cx, id: UserId, changed: UserId, version: u64) {
        let notice = Notice::PersonChanged(changed, version);
        self.tell_attached(cx, id, |_| Some(FrontOp::Notice(notice.clone())));
    }

    /// One's own devices are told that one is not as before.
    pub(super) fn tell_own_of_person(&mut self, cx: &mut Cx, id: UserId) {
        let version = self.record(id).map_or(0, |record| Parts::ALL.version(record));
        self.tell_of_person(cx, id, id, version);
    }
}

/// There is no such user. Of one who does not show the picture nobody learns more who asks for that.
fn unknown(shown: Shown) -> Refusal {
    if shown.picture.is_some() { NO_SUCH_PICTURE } else { UNKNOWN_USER }
}

fn read_peers(cx: &mut Cx, id: UserId, changed: Changed, after: Option<LogId>) {
    let limit = ScanLimit { rows: cx.limits().inbox_step_rows, bytes: usize::MAX };
    let range = keys::memberships(id.get(), after);
    cx.scan(range, Direction::Forwards, limit, ScanFor::Peers(id, changed));
}
