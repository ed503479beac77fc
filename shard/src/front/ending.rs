//! How connections end, and why.

use tern_proto::v1::{self, server_frame};
use tern_wire::errors::{Farewell, Reason};

use super::{Cx, Front};
use crate::reply::ConnId;

impl Front {
    /// Says why a connection ends, and ends it, unless it has gone or is ending.
    pub(crate) fn farewell(&mut self, cx: &mut Cx, id: ConnId, farewell: Farewell) {
        if self.conns.get(id).is_some_and(|conn| !conn.closing) {
            let message = Some(server_frame::Message::GoAway(farewell.into()));
            cx.fx().send(id, &v1::ServerFrame { id: 0, message });
            self.close(cx, id);
        }
    }

    /// The node is about to stop.
    pub(crate) fn farewell_to_all(&mut self, cx: &mut Cx) {
        for id in self.conns.ids() {
            self.farewell(cx, id, Farewell::new(Reason::ShuttingDown, "this server is stopping"));
        }
    }

    /// The peer sends no more.
    pub(crate) fn finished(&mut self, cx: &mut Cx, id: ConnId) {
        if let Some(conn) = self.conns.get(id) {
            conn.finished = true;
            self.close_if_finished(cx, id);
        }
    }

    pub(super) fn close_if_finished(&mut self, cx: &mut Cx, id: ConnId) {
        let is_over = |conn: &mut super::Conn| conn.finished && conn.in_flight == 0 && !conn.closing;
        if self.conns.get(id).is_some_and(is_over) {
            self.close(cx, id);
        }
    }

    pub(super) fn close_if_too_slow(&mut self, cx: &mut Cx, id: ConnId) {
        if cx.fx().backlog(id) > cx.limits().send_queue_bytes_hard_max {
            self.farewell(cx, id, Farewell::new(Reason::TooSlow, "responses are not being read"));
        }
    }

    pub(super) fn close(&mut self, cx: &mut Cx, id: ConnId) {
        let conn = self.conns.get(id).expect("whoever ends a connection has just looked at it");
        conn.closing = true;
        cx.fx().close(id);
    }

    /// Ends connections that have not logged in, or not been heard of, for too long.
    pub(super) fn sweep(&mut self, cx: &mut Cx) {
        let limits = cx.limits();
        let (login_timeout_ms, idle_timeout_ms) = (limits.login_timeout_ms, limits.idle_timeout_ms);
        let mut may_follow = self.strays.tick();
        for id in self.conns.sweep() {
            let conn = self.conns.get(id).expect("it has just been listed, and nothing removes it here");
            // The clock may have been set back: what is ahead of it counts as now.
            (conn.opened_ms, conn.received_ms) =
                (conn.opened_ms.min(cx.now_ms), conn.received_ms.min(cx.now_ms));
            let (waited_ms, silent_ms) = (cx.now_ms - conn.opened_ms, cx.now_ms - conn.received_ms);
            if conn.session.is_none() && waited_ms >= login_timeout_ms {
                self.farewell(cx, id, Farewell::new(Reason::Unauthenticated, "no Login came in time"));
            } else if silent_ms >= idle_timeout_ms {
                self.farewell(cx, id, Farewell::new(Reason::Idle, "nothing came for too long: ping in time"));
            } else if may_follow > 0 && self.follow(cx, id) {
                may_follow -= 1;
                self.strays.look();
            }
        }
    }
}
