//! What the owner of a user does for the user's groups.

use tern_storage::{Direction, LogId, Row, ScanLimit, keys};
use tern_wire::ids::{Seq, UserId};

use super::users::Ask;
use super::{Accounts, Cx, ScanFor};
use crate::entry::Entry;
use crate::message::{FrontOp, LogOp, Send, UserOp, Watermarks};

impl Accounts {
    /// Makes a group: its number follows from whose message it is, so that a retry makes no other one.
    pub(super) fn create_group(&mut self, cx: &mut Cx, id: UserId, mut send: Box<Send>) {
        let group = self.keys.group_id(send.author, send.client_id);
        let log = LogId::Group(group.get());
        send.epoch = cx.epoch(tern_storage::Slot::of_log(log));
        self.pass_on(cx, id, log, send);
    }

    /// What was before an entry is withheld, from this entry on, or the user has come into a group by it: the devices that are here ask for
    /// what they see of that.
    pub(super) fn grown(&mut self, cx: &mut Cx, id: UserId, entry: &Entry, from: Option<Seq>) {
        let (log, newest) = (entry.log, entry.seq);
        self.enters_inboxes(cx, id, entry, || match from {
            Some(from) => FrontOp::Lacks(log, from),
            None => FrontOp::Behind(log, newest),
        });
        self.wake_for(cx, id, entry);
    }

    /// The devices of a user are not as before: its groups are told, which do not watch their members.
    pub(super) fn groups_read(&mut self, cx: &mut Cx, id: UserId, rows: &[Row], more: bool) {
        let logs = rows.iter().filter_map(|(key, _)| keys::log_of(key));
        let logs: Vec<_> = logs.filter(|log| matches!(log, LogId::Group(_))).collect();
        if more && let Some(last) = logs.last() {
            read_groups(cx, id, Some(*last));
        }
        if !logs.is_empty() {
            // The user may have left the memory meanwhile.
            self.ask_user(cx, id, Ask::Told(UserOp::TellDevices(logs)));
        }
    }

    /// Tells groups of a user which devices there are.
    pub(super) fn tell_devices(&mut self, cx: &mut Cx, id: UserId, logs: &[LogId]) {
        // What is under way has them told again when it is durable.
        let Some(devices) = self.durable_devices(id) else { return };
        for log in logs {
            cx.tell_log(*log, LogOp::DevicesChanged(id, devices.clone()));
        }
    }

    /// All others in a group have got further.
    pub(super) fn others_advanced(&mut self, cx: &mut Cx, id: UserId, log: LogId, marks: Watermarks) {
        self.tell_attached(cx, id, |_| Some(FrontOp::Watermarks(log, None, marks)));
    }
}

/// Reads the groups of a user, from just after one on.
pub(super) fn read_groups(cx: &mut Cx, id: UserId, after: Option<LogId>) {
    let limit = ScanLimit { rows: cx.limits().inbox_step_rows, bytes: usize::MAX };
    let range = keys::memberships(id.get(), after.or(Some(LogId::Group(0))));
    cx.scan(range, Direction::Forwards, limit, ScanFor::Groups(id));
}
