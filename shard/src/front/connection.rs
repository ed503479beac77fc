//! The connections of a core: who may ask what, how much may be under way, and how each ends.
//!
//! A request counts against its connection's window from its frame until its response, wherever it goes meanwhile.

use tern_proto::v1::{self, server_frame};
use tern_wire::errors::{Farewell, Reason, Refusal};
use tern_wire::limits::REQUESTS_IN_FLIGHT_MAX_BEFORE_LOGIN;
use tern_wire::opening::{Opening, OutOfOrder};
use tern_wire::request::{self, Hello, PushWindow, Request};

use super::session::Session;
use crate::Cx;
use crate::accounts::addresses::network_of;
use crate::accounts::people::another_day;
use crate::accounts::tokens::Access;
use crate::effects::{Arrival, Stage};
use crate::entry::Author;
use crate::message::{Message, PhoneOp, UserAsk, UserOp};
use crate::reply::{ConnId, Origin, Reply, UNKNOWN};
use crate::shard::Shard;
use crate::slots::CoreId;

/// One connection.
#[derive(Debug, Default)]
pub struct Conn {
    /// Tells it from those that had its place before.
    generation: u32,
    opening: Opening,
    in_flight: u32,
    in_flight_bytes: u32,
    opened_ms: u64,
    received_ms: u64,
    window: PushWindow,
    /// The end has been said; what still comes is not read.
    closing: bool,
    /// The peer sends no more: what it asked for is answered, then the connection ends.
    finished: bool,
    attaching: Option<Box<Attaching>>,
    session: Option<Box<Session>>,
}

// For connections are many, and memory comes in such sizes.
const _: () = assert!(size_of::<Conn>() == 56);

impl Conn {
    /// The device that it stands for, once logged in.
    pub fn session(&mut self) -> Option<&mut Session> {
        self.session.as_deref_mut()
    }
}

/// A login whose user is being read. Requests pipelined behind it wait; the window bounds them.
#[derive(Debug)]
struct Attaching {
    access: Access,
    origin: Origin,
    waiting: Vec<(Origin, Request)>,
}

/// The connections of a core, by the shell's dense index.
#[derive(Debug, Default)]
pub struct Conns {
    /// Boxed, so that room for more costs little.
    slots: Vec<Option<Box<Conn>>>,
    count: usize,
    swept: usize,
}

impl Conns {
    /// The connection, unless it has gone.
    pub fn get(&mut self, id: ConnId) -> Option<&mut Conn> {
        match self.slots.get_mut(id.index as usize) {
            Some(Some(conn)) if conn.generation == id.generation => Some(conn),
            _ => None,
        }
    }

    /// The session of a connection, unless either has gone or the end has been said.
    pub fn session(&mut self, id: ConnId) -> Option<&mut Session> {
        self.get(id).filter(|conn| !conn.closing)?.session()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many are logged in, and have not been told to go.
    pub fn sessions(&self) -> usize {
        self.slots.iter().flatten().filter(|conn| conn.session.is_some() && !conn.closing).count()
    }

    /// All of them.
    pub fn ids(&self) -> Vec<ConnId> {
        let id = |(index, slot): (usize, &Option<Box<Conn>>)| {
            let generation = slot.as_ref()?.generation;
            Some(ConnId { index: index as u32, generation })
        };
        self.slots.iter().enumerate().filter_map(id).collect()
    }

    fn insert(&mut self, id: ConnId, conn: Conn) {
        let index = id.index as usize;
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, || None);
        }
        assert!(self.slots[index].is_none(), "the shell reuses an index only after Closed or move_to");
        self.slots[index] = Some(Box::new(Conn { generation: id.generation, ..conn }));
        self.count += 1;
    }

    fn remove(&mut self, id: ConnId) -> Option<Conn> {
        self.get(id)?;
        self.count -= 1;
        self.slots[id.index as usize].take().map(|conn| *conn)
    }

    /// The next part of all connections, so that each is seen about once a second at ten calls a second.
    fn sweep(&mut self) -> Vec<ConnId> {
        let part = self.slots.len() / 10 + 1;
        let (from, to) = (self.swept, (self.swept + part).min(self.slots.len()));
        self.swept = if to == self.slots.len() { 0 } else { to };
        let id = |index: usize| {
            Some(ConnId { index: index as u32, generation: self.slots[index].as_ref()?.generation })
        };
        (from..to).filter_map(id).collect()
    }
}

const OVERLOADED: &str = "too much is under way, try again";

impl Shard {
    pub(crate) fn opened(&mut self, cx: &mut Cx, id: ConnId) {
        let conn = Conn { opened_ms: cx.now_ms, received_ms: cx.now_ms, ..Conn::default() };
        self.conns.insert(id, conn);
    }

    pub(crate) fn arrived(&mut self, cx: &mut Cx, id: ConnId, arrival: Arrival) {
        let Arrival { user, device, session, request, request_bytes, window, opened_ms } = arrival;
        let conn = Conn {
            opening: Opening::Welcomed,
            in_flight: 1,
            in_flight_bytes: request_bytes,
            opened_ms,
            received_ms: cx.now_ms,
            window,
            ..Conn::default()
        };
        self.conns.insert(id, conn);
        let origin = Origin { core: self.core, conn: id, request, bytes: request_bytes };
        self.begin_attach(cx, origin, Access { author: Author { user, device }, session });
    }

    /// The connection has gone; what it asked for goes on, and the answers find nobody.
    pub(crate) fn closed(&mut self, id: ConnId) {
        if let Some(Conn { session: Some(session), .. }) = self.conns.remove(id) {
            self.listings.forget(id);
            self.users.detach(session.author(), id);
        }
    }

    pub(crate) fn frame(&mut self, cx: &mut Cx, id: ConnId, bytes: &[u8]) {
        let Some(conn) = self.conns.get(id).filter(|conn| !conn.closing) else { return };
        let before_ms = std::mem::replace(&mut conn.received_ms, cx.now_ms);
        if let Some(author) = conn.session.as_deref().map(Session::author)
            && another_day(author.user, before_ms, cx.now_ms)
        {
            self.note_seen(cx, author);
        }
        let Some(conn) = self.conns.get(id) else { return };
        let incoming = match request::parse(bytes) {
            Ok(incoming) => incoming,
            Err(farewell) => return self.farewell(cx, id, farewell),
        };
        let origin = Origin { core: self.core, conn: id, request: incoming.id, bytes: bytes.len() as u32 };
        let request = match incoming.request {
            Ok(Request::Credit(credit)) => return self.credit(cx, id, credit),
            Ok(request) => request,
            Err(refusal) => return self.refuse_at_once(cx, origin, refusal),
        };
        let in_flight_max = match (&conn.session, &conn.attaching) {
            (None, None) => self.limits.requests_in_flight_max.min(REQUESTS_IN_FLIGHT_MAX_BEFORE_LOGIN),
            _ => self.limits.requests_in_flight_max,
        };
        if conn.in_flight >= in_flight_max
            || conn.in_flight_bytes + origin.bytes > self.limits.request_bytes_in_flight_max
        {
            let refusal = self.overloaded();
            return self.refuse_at_once(cx, origin, refusal);
        }
        conn.in_flight += 1;
        conn.in_flight_bytes += origin.bytes;
        match &mut conn.attaching {
            Some(attaching) => attaching.waiting.push((origin, request)),
            None => self.request(cx, origin, request),
        }
    }

    fn request(&mut self, cx: &mut Cx, origin: Origin, request: Request) {
        let Some(conn) = self.conns.get(origin.conn) else { return };
        match conn.opening.admit(&request) {
            Err(OutOfOrder::Refuse(refusal)) => return self.respond(cx, origin, Reply::Refused(refusal)),
            Err(OutOfOrder::Close(farewell)) => return self.farewell(cx, origin.conn, farewell),
            Ok(()) => {}
        }
        match request {
            Request::Hello(hello) => self.hello(cx, origin, &hello),
            Request::Ping => self.respond(cx, origin, Reply::Pong(v1::Pong { time_ms: cx.now_ms })),
            Request::Register(phone) => {
                let (address, owner) = self.network_of(cx, origin.conn);
                self.ask(cx, owner, origin, Message::Register { origin, address, phone });
            }
            Request::Verify(verify) => {
                let (address, owner) = self.network_of(cx, origin.conn);
                self.ask(cx, owner, origin, Message::Verify { origin, address, verify: Box::new(verify) });
            }
            Request::Refresh(refresh) => match self.keys.refresh_token_owner(&refresh.token) {
                Ok(author) => {
                    let ask = UserAsk::Refresh(origin, author.device, Box::new(refresh));
                    let owner = self.slots.owner(tern_storage::Slot::of_user(author.user.get()));
                    self.ask(cx, owner, origin, Message::User(UserOp { user: author.user, ask }));
                }
                Err(refusal) => self.respond(cx, origin, Reply::Refused(refusal)),
            },
            Request::Login(token) => self.login(cx, origin, &token),
            request => self.session_request(cx, origin, request),
        }
    }

    fn hello(&mut self, cx: &mut Cx, origin: Origin, hello: &Hello) {
        let Some(version) = hello.version else {
            self.respond(cx, origin, Reply::VersionUnsupported);
            return self.close(cx, origin.conn);
        };
        let welcome = v1::Welcome {
            version,
            server: concat!("ternd ", env!("CARGO_PKG_VERSION")).to_owned(),
            features: 0,
            limits: Some(self.limits.for_clients()),
            time_ms: cx.now_ms,
            store: self.identity.id(),
            generation: self.identity.generation(),
        };
        if let Some(conn) = self.conns.get(origin.conn) {
            (conn.opening, conn.window) = (Opening::Welcomed, hello.window);
        }
        cx.fx.greeted(origin.conn, &hello.client);
        self.respond(cx, origin, Reply::Welcome(welcome));
    }

    /// Authenticates a connection. One whose user lives on another core moves there with what it has not read; so
    /// nothing else may be under way, whose answer would come to the core that it left.
    fn login(&mut self, cx: &mut Cx, origin: Origin, token: &str) {
        let access = match self.keys.verify_access_token(token, cx.now_ms) {
            Ok(access) => access,
            Err(refusal) => return self.respond(cx, origin, Reply::Refused(refusal)),
        };
        let Some(conn) = self.conns.get(origin.conn) else { return };
        if conn.in_flight > 1 {
            let refusal = Refusal::new(Reason::Unexpected, "a Login waits for the requests before it");
            return self.respond(cx, origin, Reply::Refused(refusal));
        }
        let (window, opened_ms) = (conn.window, conn.opened_ms);
        let author = access.author;
        let owner = self.slots.owner(tern_storage::Slot::of_user(author.user.get()));
        if owner == self.core {
            return self.begin_attach(cx, origin, access);
        }
        self.conns.remove(origin.conn);
        let arrival = Arrival {
            user: author.user,
            device: author.device,
            session: access.session,
            request: origin.request,
            request_bytes: origin.bytes,
            window,
            opened_ms,
        };
        cx.fx.move_to(origin.conn, owner, arrival);
    }

    fn begin_attach(&mut self, cx: &mut Cx, origin: Origin, access: Access) {
        if !self.reads.has_room() {
            let refusal = self.overloaded();
            return self.respond(cx, origin, Reply::Refused(refusal));
        }
        let Some(conn) = self.conns.get(origin.conn) else { return };
        conn.attaching = Some(Box::new(Attaching { access, origin, waiting: Vec::new() }));
        self.attach_when_loaded(cx, access.author.user, origin.conn);
    }

    /// The user of a login has been read: the connection stands for the device, if both live.
    pub(crate) fn attach(&mut self, cx: &mut Cx, id: ConnId) {
        let Some(attaching) = self.conns.get(id).and_then(|conn| conn.attaching.take()) else { return };
        let Attaching { access, origin, waiting } = *attaching;
        let author = access.author;
        match self.users.attach(access, id) {
            Ok(attached) => {
                if let Some(older) = attached.older {
                    let reason = "a newer connection of the same device has taken over";
                    self.farewell(cx, older, Farewell::new(Reason::Replaced, reason));
                }
                let conn = self.conns.get(id).expect("it was there above, and only `closed` removes it");
                conn.opening = Opening::LoggedIn;
                conn.session = Some(Box::new(Session::new(author, conn.window)));
                cx.fx.authenticated(id, author);
                let login = v1::LoggedIn {
                    user_id: author.user.get(),
                    device_id: author.device.get(),
                    name: attached.name,
                    newest_device_id: attached.newest_device,
                };
                self.note_seen(cx, author);
                self.respond(cx, origin, Reply::LoggedIn(login));
            }
            Err(refusal) => self.respond(cx, origin, Reply::Refused(refusal)),
        }
        for (origin, request) in waiting {
            self.request(cx, origin, request);
        }
    }

    /// The user of a login can't be read: the login alone is refused.
    pub(crate) fn attach_refused(&mut self, cx: &mut Cx, id: ConnId, refusal: Refusal) {
        let Some(attaching) = self.conns.get(id).and_then(|conn| conn.attaching.take()) else { return };
        self.respond(cx, attaching.origin, Reply::Refused(refusal));
        for (origin, request) in attaching.waiting {
            self.request(cx, origin, request);
        }
    }

    /// Sends a request on to the core that can answer it, unless too much waits there.
    pub(crate) fn ask(&mut self, cx: &mut Cx, owner: crate::slots::CoreId, origin: Origin, message: Message) {
        if owner != self.core && cx.fx.congested(owner) {
            let refusal = self.overloaded();
            return self.respond(cx, origin, Reply::Refused(refusal));
        }
        self.tell(cx, owner, message);
    }

    pub(crate) fn ask_phone(
        &mut self,
        cx: &mut Cx,
        origin: Origin,
        phone: tern_wire::ids::Phone,
        op: PhoneOp,
    ) {
        let owner = self.slots.owner(tern_storage::Slot::of_phone(phone.digits()));
        self.ask(cx, owner, origin, Message::Phone(phone, op));
    }

    /// Answers a request, wherever its connection is.
    pub(crate) fn reply(&mut self, cx: &mut Cx, origin: Origin, reply: Reply) {
        if origin.core == self.core {
            self.respond(cx, origin, reply);
        } else {
            cx.fx.tell(origin.core, Message::Reply(origin, reply));
        }
    }

    pub(crate) fn refuse(&mut self, cx: &mut Cx, origin: Origin, refusal: Refusal) {
        self.reply(cx, origin, Reply::Refused(refusal));
    }

    /// Answers a request of a connection of this core.
    pub(crate) fn respond(&mut self, cx: &mut Cx, origin: Origin, reply: Reply) {
        let Some(conn) = self.conns.get(origin.conn) else { return };
        if matches!(reply, Reply::Unknown) {
            return self.farewell(cx, origin.conn, UNKNOWN);
        }
        if let (Reply::Acknowledged(log, position), Some(session)) = (&reply, conn.session.as_deref()) {
            self.users.acknowledged(session.author(), *log, *position);
        }
        conn.in_flight = conn.in_flight.saturating_sub(1);
        conn.in_flight_bytes = conn.in_flight_bytes.saturating_sub(origin.bytes);
        if origin.request != 0 && !conn.closing {
            let sent = match (&reply, conn.session.as_deref()) {
                (Reply::Sent(_, client_id), Some(session)) => Some((session.author(), *client_id)),
                _ => None,
            };
            cx.fx.send(origin.conn, &reply.into_frame(origin.request));
            if let Some((author, client_id)) = sent {
                cx.fx.passed(author, client_id, Stage::Acknowledged);
            }
            self.close_if_too_slow(cx, origin.conn);
        }
        if self
            .conns
            .get(origin.conn)
            .is_some_and(|conn| conn.finished && conn.in_flight == 0 && !conn.closing)
        {
            self.close(cx, origin.conn);
        }
    }

    /// The peer sends no more.
    pub(crate) fn finished(&mut self, cx: &mut Cx, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        conn.finished = true;
        if conn.in_flight == 0 && !conn.closing {
            self.close(cx, id);
        }
    }

    /// Refuses a request that never counted against the window.
    fn refuse_at_once(&mut self, cx: &mut Cx, origin: Origin, refusal: Refusal) {
        if origin.request != 0 {
            cx.fx.send(origin.conn, &Reply::Refused(refusal).into_frame(origin.request));
            self.close_if_too_slow(cx, origin.conn);
        }
    }

    pub(crate) fn overloaded(&self) -> Refusal {
        Refusal::for_now(Reason::Overloaded, self.limits.overloaded_retry_after_ms, OVERLOADED)
    }

    fn close_if_too_slow(&mut self, cx: &mut Cx, id: ConnId) {
        if cx.fx.backlog(id) > self.limits.send_queue_bytes_hard_max {
            self.farewell(cx, id, Farewell::new(Reason::TooSlow, "responses are not being read"));
        }
    }

    /// Says why a connection ends, and ends it.
    pub(crate) fn farewell(&mut self, cx: &mut Cx, id: ConnId, farewell: Farewell) {
        if self.conns.get(id).is_some_and(|conn| !conn.closing) {
            let message = Some(server_frame::Message::GoAway(farewell.into()));
            cx.fx.send(id, &v1::ServerFrame { id: 0, message });
            self.close(cx, id);
        }
    }

    fn close(&mut self, cx: &mut Cx, id: ConnId) {
        if let Some(conn) = self.conns.get(id) {
            conn.closing = true;
            cx.fx.close(id);
        }
    }

    pub(crate) fn farewell_to_all(&mut self, cx: &mut Cx) {
        for id in self.conns.ids() {
            self.farewell(cx, id, Farewell::new(Reason::ShuttingDown, "this server is stopping"));
        }
    }

    /// The network that a connection comes from, and the core that counts what it asks for.
    fn network_of(&self, cx: &mut Cx, id: ConnId) -> ([u8; 16], CoreId) {
        let network = network_of(cx.fx.peer_address(id));
        (network, self.slots.owner(tern_storage::Slot::of_address(&network)))
    }

    /// Ends connections that have not logged in, or not been heard of, for too long.
    pub(crate) fn sweep_connections(&mut self, cx: &mut Cx) {
        for id in self.conns.sweep() {
            let Some(conn) = self.conns.get(id) else { continue };
            // The clock may have been set back: what is ahead of it counts as now.
            (conn.opened_ms, conn.received_ms) =
                (conn.opened_ms.min(cx.now_ms), conn.received_ms.min(cx.now_ms));
            let (waited_ms, silent_ms) =
                (cx.now_ms.saturating_sub(conn.opened_ms), cx.now_ms.saturating_sub(conn.received_ms));
            if conn.session.is_none() && waited_ms >= self.limits.login_timeout_ms {
                self.farewell(cx, id, Farewell::new(Reason::Unauthenticated, "no Login came in time"));
            } else if silent_ms >= self.limits.idle_timeout_ms {
                self.farewell(cx, id, Farewell::new(Reason::Idle, "nothing came for too long: ping in time"));
            }
        }
    }

    /// The longest frame that a connection may send now, in bytes without the length prefix. Pipelined behind a Login
    /// that is being checked, the larger limit holds already.
    pub fn frame_bytes_max(&mut self, id: ConnId) -> usize {
        match self.conns.get(id) {
            Some(Conn { attaching: Some(_), .. }) => Opening::LoggedIn.frame_bytes_max(),
            Some(conn) => conn.opening.frame_bytes_max(),
            None => 0,
        }
    }
}
