//! What people learn of each other: who somebody is, and that somebody is not as before.
//!
//! A right is never derived from what the asker alone can make. A phone is shown to those to whom its owner has written, a
//! name to those with whom both have written; a log's owner knows that, and says so with what it asks of the user's owner.

use prost::Message as _;
use tern_storage::records::ChatSettingsRecord;
use tern_storage::{Direction, LogId, Row, Rows, ScanLimit, keys};
use tern_wire::errors::{Reason, Refusal};
use tern_wire::ids::UserId;
use tern_wire::request::Lookup;

use super::seeking::Seeking;
use super::users::Ask;
use super::waits::logs_of;
use super::{Accounts, Cx, ScanFor, has_room};
use crate::message::{
    FrontOp, Glance, LogOp, LogsPage, Search, Shown, Unreadable, UserOp, found, tell_glance,
};
use crate::reply::Origin;

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
                let shown = Shown { to: asker, name: true, phone: true, picture: None };
                self.ask_user(cx, asker, Ask::Told(UserOp::Describe(origin, shown)));
            }
            Lookup::InGroup(user, group) => {
                let log = LogId::Group(group.get());
                cx.ask_log(origin, log, LogOp::DescribeMember(origin, asker, user));
            }
            Lookup::Card(of, secret) => Self::look_up_card(cx, asker, origin, of, secret),
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
            Err(refusal) => found(cx, &search, Err(refusal)),
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
        tell_glance(cx, glance);
    }
}

fn tell_logs(cx: &mut Cx, origin: Origin, logs: Result<LogsPage, Unreadable>) {
    cx.tell_front(origin.place, FrontOp::Logs(origin.ask, logs.map_err(|_| LIST_UNREADABLE)));
}
