//! From the handshake to a logged-in device: versions, registration, tokens, and the word of the user's owner.
//!
//! A connection whose user is another core's moves there before it is attached.

use tern_proto::v1;
use tern_storage::Slot;
use tern_wire::errors::{Farewell, Reason, Refusal};
use tern_wire::opening::{Opening, OutOfOrder};
use tern_wire::request::{Hello, Request};

use super::asking::Ask;
use super::conns::{Conn, Pause, Waiter, Why};
use super::session::Session;
use super::{Cx, Front};
use crate::asks::AskId;
use crate::message::{Attached, Message, NetworkOp, UserOp};
use crate::network::Network;
use crate::reply::{ConnId, Origin, Reply};

impl Front {
    /// A request that counts against the window.
    pub(super) fn request(&mut self, cx: &mut Cx, waiter: Waiter, request: Request) {
        let conn = self.conns.get(waiter.conn).expect("it has just asked, or waited for its login");
        match conn.opening.admit(&request) {
            Err(OutOfOrder::Refuse(refusal)) => return self.turn_down(cx, waiter, refusal),
            Err(OutOfOrder::Close(farewell)) => return self.farewell(cx, waiter.conn, farewell),
            Ok(()) => {}
        }
        match request {
            Request::Hello(hello) => self.hello(cx, waiter, &hello),
            Request::Ping => self.respond(cx, waiter, Reply::Pong(v1::Pong { time_ms: cx.now_ms })),
            Request::Register(phone) => {
                let slot = Slot::of_phone(phone.digits());
                self.ask_network(cx, waiter, slot, |origin| NetworkOp::Register(origin, phone));
            }
            Request::Verify(verify) => {
                let slot = Slot::of_phone(verify.phone.digits());
                self.ask_network(cx, waiter, slot, |origin| NetworkOp::Verify(origin, Box::new(verify)));
            }
            Request::Link(link) => {
                // Done twice, it would find its code used.
                let user = link.user;
                let origin = self.note_once(cx, waiter, Slot::of_user(user.get()), None);
                cx.ask(origin, Message::User(user, UserOp::Link(origin, Box::new(link))));
            }
            Request::Refresh(refresh) => match self.keys.refresh_token_owner(&refresh.token) {
                Ok(author) => self.ask(cx, waiter, author, Ask::Refresh(Box::new((author, refresh)))),
                Err(refusal) => self.turn_down(cx, waiter, refusal),
            },
            Request::Login(token) => self.login(cx, waiter, &token),
            request => self.session_request(cx, waiter, request),
        }
    }

    /// Asks the owner of the network that a connection comes from, who counts what is asked for there, and passes it on to the
    /// owner of a phone. Asked twice it would be counted, or done, twice.
    fn ask_network(
        &mut self,
        cx: &mut Cx,
        waiter: Waiter,
        phone: Slot,
        op: impl FnOnce(Origin) -> NetworkOp,
    ) {
        let network = Network::of(cx.fx().peer_address(waiter.conn));
        let origin = self.note_once(cx, waiter, Slot::of_address(network.bytes()), Some(phone));
        cx.ask(origin, Message::Network(network, op(origin)));
    }

    fn hello(&mut self, cx: &mut Cx, waiter: Waiter, hello: &Hello) {
        let id = waiter.conn;
        let Some(version) = hello.version else {
            self.respond(cx, waiter, Reply::VersionUnsupported);
            return self.close(cx, id);
        };
        let welcome = v1::Welcome {
            version,
            server: concat!("ternd ", env!("CARGO_PKG_VERSION")).to_owned(),
            features: 0,
            limits: Some(cx.limits().for_clients()),
            time_ms: cx.now_ms,
            store: self.identity.id(),
            generation: self.identity.generation(),
        };
        let conn = self.conns.get(id).expect("it has just asked");
        (conn.opening, conn.window) = (Opening::Welcomed, hello.window);
        cx.fx().greeted(id, &hello.client);
        self.respond(cx, waiter, Reply::Welcome(Box::new(welcome)));
    }

    /// Authenticates a connection. One whose user lives on another core moves there with what it has not read; so
    /// nothing else may be under way, whose answer would come to the core that it left.
    fn login(&mut self, cx: &mut Cx, waiter: Waiter, token: &str) {
        let access = match self.keys.verify_access_token(token, cx.now_ms) {
            Ok(access) => access,
            Err(refusal) => return self.turn_down(cx, waiter, refusal),
        };
        let id = waiter.conn;
        let behind = self.uncounted(cx, id);
        let conn = self.conns.get(id).expect("it has just asked");
        if conn.in_flight as usize > 1 + behind {
            let refusal = Refusal::new(Reason::Unexpected, "a Login waits for the requests before it");
            return self.turn_down(cx, waiter, refusal);
        }
        conn.pause = Some(Pause::new(Why::LogsIn(access, waiter)));
        let behind = self.take_uncounted(cx, id);
        self.conns.get(id).and_then(|conn| conn.pause.as_mut()).expect("it was just set").waiting = behind;
        if cx.owns(Slot::of_user(access.author.user.get())) {
            return self.ask_to_attach(cx, id, access.author, Some(access.session));
        }
        self.move_to_owner(cx, id, access.author);
    }

    /// The connection stands for its device, unless it has gone meanwhile: then its owner has been told already.
    pub(super) fn attached(&mut self, cx: &mut Cx, id: ConnId, ask: AskId, attached: Attached) {
        let Some(conn) = self.asked(id, ask).and_then(|_| self.conns.get(id)) else { return };
        let Some((waiter, waiting)) = take_login(conn) else {
            return self.follows(cx, id, attached.missed.map(|missed| *missed));
        };
        let author = attached.device;
        conn.opening = Opening::LoggedIn;
        let network = Network::of(cx.fx().peer_address(id));
        conn.session = Some(Box::new(Session::new(author, conn.window, network)));
        cx.fx().authenticated(id, author);
        let login = v1::LoggedIn {
            user_id: author.user.get(),
            device_id: author.device.get(),
            name: attached.name,
            newest_device_id: attached.newest_device,
        };
        self.respond(cx, waiter, Reply::LoggedIn(login));
        self.go_on(cx, waiting);
    }

    /// The connection does not stand for its device: the login alone is refused. One that stood for it before ends.
    pub(super) fn not_attached(&mut self, cx: &mut Cx, id: ConnId, ask: AskId, refusal: Refusal) {
        let Some(conn) = self.asked(id, ask).and_then(|_| self.conns.get(id)) else { return };
        match take_login(conn) {
            Some((waiter, waiting)) => {
                self.turn_down(cx, waiter, refusal);
                self.go_on(cx, waiting);
            }
            None => {
                let Refusal { reason, retry_after_ms, detail } = refusal;
                self.farewell(cx, id, Farewell { reason, reconnect_after_ms: retry_after_ms, detail });
            }
        }
    }
}

/// The `Login` of a connection whose user's owner has not answered, and what waits for it.
fn take_login(conn: &mut Conn) -> Option<(Waiter, Vec<(Waiter, Request)>)> {
    let Pause { why, waiting } = *conn.pause.take_if(|pause| pause.logs_in().is_some())?;
    match why {
        Why::LogsIn(_, waiter) => Some((waiter, waiting)),
        Why::FallsStill | Why::SaysGoodbye | Why::Arrives => None,
    }
}
