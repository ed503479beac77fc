//! What people learn of each other: who somebody is, and that somebody is not as before.
//!
//! A right is never derived from what the asker alone can make. A phone is shown to those to whom its owner has written, a
//! name to those with whom both have written; a log's owner knows that, and says so with what it asks of the user's owner.

use tern_proto::v1::{self, server_frame};
use tern_storage::{Direction, LogId, Row, ScanLimit, keys};
use tern_wire::errors::{Reason, Refusal};
use tern_wire::ids::{DeviceId, UserId};

use super::{After, ScanFor};
use crate::Cx;
use crate::entry::{Author, peer_of};
use crate::message::{Glance, LogOp, Message, Shown, UserAsk, UserOp};
use crate::reply::{ConnId, Origin, Reply};
use crate::shard::Shard;

/// A day, in milliseconds.
pub(super) const DAY_MS: u64 = 24 * 3_600_000;

/// The day of a time, counted from the Unix epoch.
pub(super) fn day_of(time_ms: u64) -> u32 {
    (time_ms / DAY_MS).try_into().unwrap_or(u32::MAX)
}

/// Whether a day of its user's has begun between two times: each user's begins at another moment, so that what is noted once a
/// day is not noted for all at once.
pub(crate) fn another_day(user: UserId, before_ms: u64, now_ms: u64) -> bool {
    let shift_ms = (user.get() >> 12) % DAY_MS;
    before_ms.saturating_add(shift_ms) / DAY_MS != now_ms.saturating_add(shift_ms) / DAY_MS
}

impl Shard {
    pub(super) fn describe(&mut self, cx: &mut Cx, origin: Origin, id: UserId, shown: Shown) {
        let reply = match self.users.record(id) {
            Some(record) => Reply::Person(v1::Person {
                user_id: id.get(),
                name: if shown.name { record.name.clone() } else { String::new() },
                phone: if shown.phone { record.phone.clone() } else { String::new() },
            }),
            None => Reply::Refused(Refusal::new(Reason::UnknownUser, "there is no such user")),
        };
        self.reply(cx, origin, reply);
    }

    /// Adds to a chat at a glance who the peer is.
    pub(super) fn introduce(&mut self, cx: &mut Cx, id: UserId, mut glance: Box<Glance>) {
        if let Some(record) = self.users.record(id) {
            if glance.shown.name {
                glance.name.clone_from(&record.name);
            }
            if glance.shown.phone {
                glance.phone.clone_from(&record.phone);
            }
        }
        self.tell(cx, glance.asker.core, Message::Glance(glance));
    }

    /// A device is here: that is written once a day, so that an account whose devices have all stayed away can be told.
    pub(crate) fn note_seen(&mut self, cx: &mut Cx, author: Author) {
        let today = day_of(cx.now_ms);
        let Some(record) = self.users.device_record(author).filter(|record| record.seen_day < today) else {
            return;
        };
        record.seen_day = today;
        self.commits.put(keys::device(author.user.get(), author.device.get()), record);
        self.then(After::Noted(author.user));
    }

    /// A device was added, durably: the others that are here are told.
    pub(crate) fn device_joined(&mut self, cx: &mut Cx, id: UserId, device: DeviceId) {
        self.devices_changed(cx, id);
        let Some(record) = self.users.device_record(Author { user: id, device }) else { return };
        let added = v1::DeviceAdded {
            device_id: device.get(),
            device_name: record.name.clone(),
            time_ms: record.created_ms,
        };
        for (other, conn) in self.users.attached(id) {
            if other != device {
                self.notify(cx, conn, server_frame::Message::DeviceAdded(added.clone()));
            }
        }
    }

    /// A user is not as before, durably: whoever is here of those with whom there is a chat that both wrote in is told.
    pub(crate) fn person_changed(&mut self, cx: &mut Cx, id: UserId) {
        self.read_peers(cx, id, None);
    }

    fn read_peers(&mut self, cx: &mut Cx, id: UserId, after: Option<LogId>) {
        let limit = ScanLimit { rows: self.limits.inbox_step_rows, bytes: usize::MAX };
        let range = keys::memberships(id.get(), after);
        self.reads.scan(cx.fx, range, Direction::Forwards, limit, ScanFor::Peers(id));
    }

    /// A step of a user's logs has been read. The peers' owners are asked first, for of the peers few are here.
    pub(crate) fn peers_read(&mut self, cx: &mut Cx, id: UserId, rows: &[Row], more: bool) {
        let logs: Vec<_> = rows.iter().filter_map(|(key, _)| keys::log_of(key)).collect();
        for log in &logs {
            let peer = peer_of(*log, id);
            if peer != id {
                self.tell_user(cx, UserOp { user: peer, ask: UserAsk::PeerChanged(*log) });
            }
        }
        if more && let Some(last) = logs.last() {
            self.read_peers(cx, id, Some(*last));
        }
    }

    /// The peer of a user in a log is not as before. If a device of the user is here, the log says whether it may know.
    pub(super) fn peer_changed(&mut self, cx: &mut Cx, id: UserId, log: LogId) {
        if !self.users.attached(id).is_empty() {
            self.tell_log(cx, log, LogOp::Changed(peer_of(log, id)));
        }
    }

    pub(crate) fn tell_of_person(&mut self, cx: &mut Cx, id: UserId, changed: UserId) {
        for (_, conn) in self.users.attached(id) {
            let changed = v1::PersonChanged { user_id: changed.get() };
            self.notify(cx, conn, server_frame::Message::PersonChanged(changed));
        }
    }

    /// Tells a device something that it can find out otherwise: if it reads slowly, it is not told.
    fn notify(&mut self, cx: &mut Cx, conn: ConnId, message: server_frame::Message) {
        if self.conns.session(conn).is_some() && cx.fx.backlog(conn) <= self.limits.send_queue_bytes_max {
            cx.fx.send(conn, &v1::ServerFrame { id: 0, message: Some(message) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_day_begins_once_a_day_and_not_for_all_at_once() {
        let mut hours = std::collections::BTreeSet::new();
        for number in 1..200u64 {
            let user = UserId::new((number * 40_503_001) << 12).expect("not 0");
            let begins: Vec<u64> =
                (0..96).filter(|hour| another_day(user, hour * 3_600_000, (hour + 1) * 3_600_000)).collect();
            assert_eq!(begins.len(), 4);
            hours.insert(begins[0]);
        }
        assert!(hours.len() > 20, "{hours:?}");
    }
}
