//! What members of a log may learn of each other: the log knows who has written.

use tern_storage::LogId;
use tern_wire::ids::UserId;

use super::{Cx, Logs, UNKNOWN_USER};
use crate::entry::peer_of;
use crate::message::{Shown, UserOp};
use crate::reply::Origin;

impl Logs {
    /// Tells a member of a direct chat who the other is. What the one who asks has written proves nothing: the other must have
    /// written too, or be asked for by phone.
    pub(super) fn describe_peer(
        &mut self,
        cx: &mut Cx,
        id: LogId,
        origin: Origin,
        reader: UserId,
        by_phone: bool,
    ) {
        let log = self.known(id);
        let peer = peer_of(id, reader);
        let shown = Shown { name: log.has_written(peer) && log.has_written(reader), phone: true };
        if by_phone || log.has_written(peer) {
            cx.tell_user(peer, UserOp::Describe(origin, shown));
        } else {
            cx.refuse(origin, UNKNOWN_USER);
        }
    }

    /// A member is not as before.
    pub(super) fn member_changed(&mut self, cx: &mut Cx, id: LogId, user: UserId) {
        let peer = peer_of(id, user);
        let log = self.known(id);
        if log.has_written(peer) && log.has_written(user) {
            cx.tell_user(peer, UserOp::PersonChanged(user));
        }
    }
}
