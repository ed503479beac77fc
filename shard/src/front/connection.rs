//! What comes on a connection, and what is under way on it.
//!
//! A request counts against its connection's window from its frame until its response, wherever it goes meanwhile.

use tern_wire::errors::Refusal;
use tern_wire::limits::REQUESTS_IN_FLIGHT_MAX_BEFORE_LOGIN;
use tern_wire::request::{self, Request, Subscribe};

use super::conns::{Conn, Waiter};
use super::{Cx, Front};
use crate::days::another_day;
use crate::effects::Stage;
use crate::entry::Author;
use crate::limits::ASKS_MAX;
use crate::load::Work;
use crate::message::{Looker, UserOp};
use crate::reply::{ConnId, Reply, UNKNOWN};

impl Front {
    /// A connection has finished its TLS handshake.
    pub(crate) fn opened(&mut self, cx: &mut Cx, id: ConnId, number: u64) {
        let conn = Conn { number, opened_ms: cx.now_ms, received_ms: cx.now_ms, ..Conn::default() };
        self.conns.insert(id, conn);
        self.forgets_on_reconnect(cx, id);
    }

    /// The connection has gone; what it asked for goes on, and the answers find nobody.
    pub(crate) fn closed(&mut self, cx: &mut Cx, id: ConnId) {
        // One that has moved away is not here any more.
        let Some(conn) = self.conns.remove(id) else { return };
        self.listings.forget(id);
        self.searches.forget(id);
        let place = cx.place(id);
        let session = conn.session.map(|mut session| {
            let looker = Looker { device: session.author(), place };
            Self::shows_no_more(cx, looker, session.show(Subscribe::default()));
            session.author()
        });
        let logs_in = conn.pause.and_then(|pause| pause.logs_in());
        if let Some(Author { user, device }) = session.or(logs_in) {
            cx.tell_user(user, UserOp::Detach(device, place));
        }
    }

    /// A whole frame has come.
    pub(crate) fn frame(&mut self, cx: &mut Cx, id: ConnId, bytes: &[u8]) {
        // What was on its way when the end was said is not read.
        let Some(conn) = self.conns.get(id).filter(|conn| !conn.closing) else { return };
        let before_ms = std::mem::replace(&mut conn.received_ms, cx.now_ms);
        if let Some(Author { user, device }) = conn.session.as_deref().map(|session| session.author()) {
            cx.count(user, Work::Came);
            if another_day(user, before_ms, cx.now_ms) {
                cx.tell_user(user, UserOp::Seen(device));
            }
        }
        let incoming = match request::parse(bytes) {
            Ok(incoming) => incoming,
            Err(farewell) => return self.farewell(cx, id, farewell),
        };
        let waiter = Waiter { conn: id, request: incoming.id, bytes: bytes.len() as u32 };
        let request = match incoming.request {
            Ok(Request::Credit(credit)) => return self.credit(cx, id, credit),
            Ok(request) => request,
            Err(refusal) => return self.refuse_at_once(cx, waiter, refusal),
        };
        let limits = cx.limits();
        let in_flight_max = match (&conn.session, &conn.pause) {
            (None, None) => limits.requests_in_flight_max.min(REQUESTS_IN_FLIGHT_MAX_BEFORE_LOGIN),
            _ => limits.requests_in_flight_max,
        };
        if conn.in_flight >= in_flight_max
            || conn.in_flight_bytes + waiter.bytes > limits.request_bytes_in_flight_max
            || self.asks.len() >= ASKS_MAX
        {
            let refusal = cx.overloaded();
            return self.refuse_at_once(cx, waiter, refusal);
        }
        conn.in_flight += 1;
        conn.in_flight_bytes += waiter.bytes;
        self.count(cx, waiter, request);
    }

    /// Answers a request of a connection of this core, if it is still here.
    pub(super) fn respond(&mut self, cx: &mut Cx, waiter: Waiter, reply: Reply) {
        let id = waiter.conn;
        let Some(conn) = self.conns.get(id) else { return };
        if matches!(reply, Reply::Unknown) {
            return self.farewell(cx, id, UNKNOWN);
        }
        conn.in_flight = conn.in_flight.checked_sub(1).expect("a request is answered once");
        conn.in_flight_bytes -= waiter.bytes;
        let waits = conn.pause.is_some();
        if waiter.request != 0 && !conn.closing {
            let mut sent = None;
            if let Some(session) = conn.session.as_deref_mut() {
                cx.count(session.author().user, Work::Sent);
                if let Reply::Sent(_, client_id, _) = &reply {
                    session.sent();
                    sent = Some((session.author(), *client_id));
                }
            }
            let is_waited_for = !matches!(reply, Reply::Acknowledged);
            let frame = reply.into_frame(waiter.request);
            if is_waited_for {
                cx.fx().send(id, &frame);
            } else {
                cx.fx().send_lazily(id, &frame);
            }
            if let Some((author, client_id)) = sent {
                cx.passed(author, client_id, Stage::Acknowledged);
            }
            self.close_if_too_slow(cx, id);
        }
        self.close_if_finished(cx, id);
        if waits {
            self.go_on_following(cx, id);
        }
    }

    /// Refuses a request of a connection of this core.
    pub(super) fn turn_down(&mut self, cx: &mut Cx, waiter: Waiter, refusal: Refusal) {
        self.respond(cx, waiter, Reply::Refused(refusal));
    }

    /// Refuses a request that never counted against the window.
    fn refuse_at_once(&mut self, cx: &mut Cx, waiter: Waiter, refusal: Refusal) {
        if waiter.request != 0 {
            let id = waiter.conn;
            cx.fx().send(id, &Reply::Refused(refusal).into_frame(waiter.request));
            self.close_if_too_slow(cx, id);
        }
    }
}
