//! What a device shows: whose presence it is told, and in which groups who does what.

use tern_wire::ids::{ChatId, UserId};
use tern_wire::request::{Doing, Subscribe};

use super::asking::Ask;
use super::conns::Waiter;
use super::{Cx, Front};
use crate::entry::{Author, log_of};
use crate::message::{Looker, Message, Subject, Subscribing, UserOp, VolatileOp};
use crate::reply::{ConnId, Reply};
use crate::slots::Taken;

impl Front {
    /// A device says what it shows, in place of what it said before.
    pub(super) fn subscribe(&mut self, cx: &mut Cx, waiter: Waiter, author: Author, shows: Subscribe) {
        self.ask(cx, waiter, author, Ask::Subscribe(Box::new(shows)));
    }

    /// It may: what it does not show any more is told to whoever told it.
    pub(super) fn subscribed(&mut self, cx: &mut Cx, id: ConnId, shows: Subscribe) {
        let Some(session) = self.conns.session(id) else { return };
        let author = session.author();
        let before = session.show(shows);
        let place = cx.place(id);
        let now = self.conns.session(id).and_then(|session| session.shows()).cloned().unwrap_or_default();
        if before.away != now.away {
            cx.tell_user(author.user, UserOp::Appears(author.device, place, now.away));
        }
        let gone = Subscribe {
            users: before.users.into_iter().filter(|user| now.users.binary_search(user).is_err()).collect(),
            groups: before
                .groups
                .into_iter()
                .filter(|group| now.groups.binary_search(group).is_err())
                .collect(),
            away: false,
        };
        look_away(cx, Looker { device: author, place }, gone);
    }

    /// A connection has gone with all that it showed.
    pub(super) fn shows_no_more(cx: &mut Cx, looker: Looker, shows: Subscribe) {
        look_away(cx, looker, shows);
    }

    /// Whoever knows what a device shows may have forgotten, or must decide anew what it sees: this one is asked again, or all are.
    pub(super) fn look_again(&mut self, cx: &mut Cx, id: ConnId, at: Option<Subject>) {
        let Some(session) = self.conns.session(id) else { return };
        let device = session.author();
        let Some(Subscribe { users, groups, away }) = session.shows().cloned() else { return };
        let place = cx.place(id);
        let looker = Looker { device, place };
        let more = match at {
            Some(at) if !self.does_show(id, at) => return,
            Some(Subject::User(user)) => Subscribing { looker, users: vec![user], groups: Vec::new() },
            Some(Subject::Group(group)) => Subscribing { looker, users: Vec::new(), groups: vec![group] },
            None => {
                cx.tell_user(device.user, UserOp::Appears(device.device, place, away));
                Subscribing { looker, users, groups }
            }
        };
        cx.tell_user(device.user, UserOp::Subscribe(None, Box::new(more)));
    }

    /// Owners are gone, and with them who was shown by whom.
    pub(super) fn lookers_lost(&mut self, cx: &mut Cx, taken: &Taken) {
        for id in self.conns.ids() {
            let Some(session) = self.conns.session(id) else { continue };
            let own = Subject::User(session.author().user);
            let Some(shows) = session.shows() else { continue };
            let users = shows.users.iter().map(|user| Subject::User(*user));
            let groups = shows.groups.iter().map(|group| Subject::Group(*group));
            if users.chain(groups).chain([own]).any(|subject| taken.has(subject.slot())) {
                self.look_again(cx, id, None);
            }
        }
    }

    /// A user does something in a chat just now.
    pub(super) fn act(
        &mut self,
        cx: &mut Cx,
        waiter: Waiter,
        Author { user, .. }: Author,
        chat: ChatId,
        doing: Doing,
    ) {
        let log = log_of(user, chat);
        if waiter.request == 0 {
            cx.tell_user(user, UserOp::Act(None, log, doing));
            return self.respond(cx, waiter, Reply::ActivityTold);
        }
        let slot = super::asking::slot_of(user);
        let origin = self.note_once(cx, waiter, slot, Some(tern_storage::Slot::of_log(log)));
        cx.ask(origin, Message::User(user, UserOp::Act(Some(origin), log, doing)));
    }

    /// Whether a device shows somebody, or something.
    pub(super) fn does_show(&mut self, id: ConnId, subject: Subject) -> bool {
        let shows = self.conns.session(id).and_then(|session| session.shows());
        shows.is_some_and(|shows| match subject {
            Subject::User(user) => shows.users.binary_search(&user).is_ok(),
            Subject::Group(group) => shows.groups.binary_search(&group).is_ok(),
        })
    }

    /// Whom a device does not show yet of those whom it is to show.
    pub(super) fn not_shown(
        &mut self,
        id: ConnId,
        shows: &Subscribe,
    ) -> (Vec<UserId>, Vec<tern_wire::ids::GroupId>) {
        let known = self.conns.session(id).and_then(|session| session.shows()).cloned().unwrap_or_default();
        let users = shows.users.iter().copied().filter(|user| known.users.binary_search(user).is_err());
        let groups = shows.groups.iter().copied().filter(|group| known.groups.binary_search(group).is_err());
        (users.collect(), groups.collect())
    }
}

fn look_away(cx: &mut Cx, looker: Looker, gone: Subscribe) {
    let users = gone.users.into_iter().map(Subject::User);
    let groups = gone.groups.into_iter().map(Subject::Group);
    cx.tell_volatiles(users.chain(groups).map(|subject| (subject, VolatileOp::LookAway(looker))));
}
