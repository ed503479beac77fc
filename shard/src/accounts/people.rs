//! What people learn of each other: who somebody is, and that somebody is not as before.
//!
//! A right is never derived from what the asker alone can make. A phone is shown to those to whom its owner has written, a
//! name to those with whom both have written; a log's owner knows that, and says so with what it asks of the user's owner.

use prost::Message as _;
use tern_proto::v1;
use tern_storage::records::ChatSettingsRecord;
use tern_storage::{Direction, LogId, Row, Rows, ScanLimit, keys};
use tern_wire::errors::{Reason, Refusal};
use tern_wire::ids::UserId;
use tern_wire::request::Lookup;

use super::relations::UNKNOWN_USER;
use super::seeking::Seeking;
use super::users::Ask;
use super::waits::logs_of;
use super::{Accounts, Cx, ScanFor, has_room};
use crate::entry::peer_of;
use crate::message::{FrontOp, Glance, LogOp, LogsPage, Notice, Search, Shown, Unreadable, UserOp};
use crate::reply::{Origin, Reply};

const LIST_UNREADABLE: Refusal =
    Refusal::for_now(Reason::Unavailable, 1000, "the list of chats can't be read");

impl Accounts {
    /// Whom a user looks up: somebody's owner answers, by way of the log of the two, which knows what may be shown.
    pub(super) fn look_up(&mut self, cx: &mut Cx, asker: UserId, origin: Origin, lookup: Lookup) {
        if let Err(refusal) = self.budgets.look_up(asker, cx.now_ms) {
            return cx.refuse(origin, refusal);
        }
        match lookup {
            Lookup::Phone(phone) => Self::seek(cx, Seeking::of_phone(asker, origin, phone)),
            Lookup::User(peer) if peer == asker => {
                let shown = Shown { to: asker, name: true, phone: true };
                self.ask_user(cx, asker, Ask::Told(UserOp::Describe(origin, shown)));
            }
            Lookup::InGroup(user, group) => {
                let log = LogId::Group(group.get());
                cx.ask_log(origin, log, LogOp::DescribeMember(origin, asker, user));
            }
            Lookup::User(peer) => Self::look_up_peer(cx, asker, origin, peer),
        }
    }

    /// A part of a user's logs, for a list of chats.
    pub(super) fn list_logs(
        &mut self,
        cx: &mut Cx,
        user: UserId,
        origin: Origin,
        may: Result<(), Refusal>,
        (after, rows): (Option<LogId>, usize),
    ) {
        let room = if has_room(cx) { Ok(()) } else { Err(cx.overloaded()) };
        if let Err(refusal) = room.and(may) {
            return cx.tell_front(origin.place, FrontOp::Logs(origin.ask, Err(refusal)));
        }
        let limit = ScanLimit { rows, bytes: usize::MAX };
        let range = keys::memberships(user.get(), after);
        cx.scan(range, Direction::Forwards, limit, ScanFor::Logs(user, origin));
    }

    /// A user searches in one of its logs.
    pub(super) fn search(&mut self, cx: &mut Cx, user: UserId, log: LogId, search: Box<Search>) {
        match self.budgets.search(user, cx.now_ms) {
            Ok(()) => cx.tell_log(log, LogOp::Search(search)),
            Err(refusal) => {
                let Origin { place, ask } = search.origin;
                cx.tell_front(place, FrontOp::Found(ask, Err(refusal)));
            }
        }
    }

    /// A part of a user's logs has been read.
    pub(super) fn logs_read(
        &mut self,
        cx: &mut Cx,
        user: UserId,
        origin: Origin,
        rows: Result<Rows, Unreadable>,
    ) {
        let logs = rows.and_then(|rows| match logs_of(&rows) {
            Some(mut logs) => {
                // One's private log is no chat.
                logs.retain(|log| !matches!(log, LogId::Private(_)));
                Ok(LogsPage { logs: logs.into_iter().map(|log| (log, None)).collect(), more: rows.more })
            }
            None => {
                cx.damaged("a key of chats", &keys::user(user.get()));
                Err(Unreadable::Damaged)
            }
        });
        match logs {
            Ok(page) if !page.logs.is_empty() => {
                let (first, last) = (page.logs[0].0, page.logs[page.logs.len() - 1].0);
                let range = keys::all_chat_settings(user.get(), first, last);
                let all = ScanLimit { rows: usize::MAX, bytes: usize::MAX };
                cx.scan(range, Direction::Forwards, all, ScanFor::ChatSettings(user, origin, page));
            }
            logs => tell_logs(cx, origin, logs),
        }
    }

    /// How a user has the chats of a page has been read.
    pub(super) fn chat_settings_read(
        cx: &mut Cx,
        user: UserId,
        origin: Origin,
        mut page: LogsPage,
        rows: Result<Rows, Unreadable>,
    ) {
        let found = rows.and_then(|rows| {
            let read =
                |(key, value): Row| Some((keys::log_of(&key)?, ChatSettingsRecord::decode(value).ok()?));
            rows.rows.into_iter().map(read).collect::<Option<Vec<_>>>().ok_or_else(|| {
                cx.damaged("a setting of a chat", &keys::user(user.get()));
                Unreadable::Damaged
            })
        });
        let page = found.map(|found| {
            for (log, settings) in &mut page.logs {
                let place = found.binary_search_by_key(log, |(log, _)| *log);
                *settings = place.ok().map(|place| found[place].1);
            }
            page
        });
        tell_logs(cx, origin, page);
    }

    pub(super) fn describe(&mut self, cx: &mut Cx, origin: Origin, id: UserId, shown: Shown) {
        let reply = match self.record(id) {
            Some(record) => Reply::Person(Box::new(v1::Person {
                user_id: id.get(),
                name: if shown.name { record.name.clone() } else { String::new() },
                phone: if shown.phone { record.phone.clone() } else { String::new() },
            })),
            None => Reply::Refused(UNKNOWN_USER),
        };
        cx.reply(origin, reply);
    }

    /// Adds to a chat at a glance who the peer is.
    pub(super) fn introduce(&mut self, cx: &mut Cx, id: UserId, mut glance: Box<Glance>) {
        if let Some(record) = self.record(id) {
            if glance.shown.name {
                glance.name.clone_from(&record.name);
            }
            if glance.shown.phone {
                glance.phone.clone_from(&record.phone);
            }
        }
        cx.tell_front(glance.asker.origin.place, FrontOp::Glance(glance));
    }

    /// A user is not as before, durably: whoever is here of those with whom there is a chat that both wrote in is told.
    pub(super) fn person_changed(&mut self, cx: &mut Cx, id: UserId) {
        read_peers(cx, id, None);
    }

    /// A step of a user's logs has been read. The peers' owners are asked first, for of the peers few are here.
    pub(super) fn peers_read(&mut self, cx: &mut Cx, id: UserId, rows: &[Row], more: bool) {
        let logs: Vec<_> = rows.iter().filter_map(|(key, _)| keys::log_of(key)).collect();
        for log in &logs {
            if let Some(peer) = peer_of(*log, id).filter(|peer| *peer != id) {
                cx.tell_user(peer, UserOp::PeerChanged(*log));
            }
        }
        if more && let Some(last) = logs.last() {
            read_peers(cx, id, Some(*last));
        }
    }

    /// The peer of a user in a log is not as before. If a device of the user is here, the log says whether it may know.
    pub(super) fn peer_changed(&mut self, cx: &mut Cx, id: UserId, log: LogId) {
        if let Some(peer) = peer_of(log, id).filter(|_| self.is_attached(id)) {
            cx.tell_log(log, LogOp::Changed(peer));
        }
    }

    pub(super) fn tell_of_person(&mut self, cx: &mut Cx, id: UserId, changed: UserId) {
        self.tell_attached(cx, id, |_| Some(FrontOp::Notice(Notice::PersonChanged(changed))));
    }
}

fn tell_logs(cx: &mut Cx, origin: Origin, logs: Result<LogsPage, Unreadable>) {
    cx.tell_front(origin.place, FrontOp::Logs(origin.ask, logs.map_err(|_| LIST_UNREADABLE)));
}

fn read_peers(cx: &mut Cx, id: UserId, after: Option<LogId>) {
    let limit = ScanLimit { rows: cx.limits().inbox_step_rows, bytes: usize::MAX };
    let range = keys::memberships(id.get(), after);
    cx.scan(range, Direction::Forwards, limit, ScanFor::Peers(id));
}
