//! From the handshake to a logged-in device: versions, registration, tokens, and the word of the user's owner.
//!
//! A connection whose user is another core's moves there before it is attached.

use tern_proto::v1;
use tern_storage::Slot;
use tern_wire::errors::{Reason, Refusal};
use tern_wire::opening::{Opening, OutOfOrder};
use tern_wire::request::{Hello, Request};

use super::conns::Attaching;
use super::session::Session;
use super::{Cx, Front};
use crate::effects::Arrival;
use crate::message::{Attach, Attached, Message, NetworkOp, UserOp};
use crate::network::Network;
use crate::reply::{ConnId, Origin, Reply};
use crate::tokens::Access;

impl Front {
    /// A request that counts against the window.
    pub(super) fn request(&mut self, cx: &mut Cx, origin: Origin, request: Request) {
        let conn = self.conns.get(origin.place.conn).expect("it has just asked, or waited for its login");
        match conn.opening.admit(&request) {
            Err(OutOfOrder::Refuse(refusal)) => return self.turn_down(cx, origin, refusal),
            Err(OutOfOrder::Close(farewell)) => return self.farewell(cx, origin.place.conn, farewell),
            Ok(()) => {}
        }
        match request {
            Request::Hello(hello) => self.hello(cx, origin, &hello),
            Request::Ping => self.respond(cx, origin, Reply::Pong(v1::Pong { time_ms: cx.now_ms })),
            Request::Register(phone) => self.ask_network(cx, origin, NetworkOp::Register(origin, phone)),
            Request::Verify(verify) => {
                self.ask_network(cx, origin, NetworkOp::Verify(origin, Box::new(verify)));
            }
            Request::Refresh(refresh) => match self.keys.refresh_token_owner(&refresh.token) {
                Ok(author) => {
                    let op = UserOp::Refresh(origin, author.device, Box::new(refresh));
                    cx.ask(origin, Message::User(author.user, op));
                }
                Err(refusal) => self.turn_down(cx, origin, refusal),
            },
            Request::Login(token) => self.login(cx, origin, &token),
            request => self.session_request(cx, origin, request),
        }
    }

    /// Asks the owner of the network that a connection comes from, who counts what is asked for there.
    fn ask_network(&mut self, cx: &mut Cx, origin: Origin, op: NetworkOp) {
        let network = Network::of(cx.fx().peer_address(origin.place.conn));
        cx.ask(origin, Message::Network(network, op));
    }

    fn hello(&mut self, cx: &mut Cx, origin: Origin, hello: &Hello) {
        let id = origin.place.conn;
        let Some(version) = hello.version else {
            self.respond(cx, origin, Reply::VersionUnsupported);
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
        self.respond(cx, origin, Reply::Welcome(welcome));
    }

    /// Authenticates a connection. One whose user lives on another core moves there with what it has not read; so
    /// nothing else may be under way, whose answer would come to the core that it left.
    fn login(&mut self, cx: &mut Cx, origin: Origin, token: &str) {
        let access = match self.keys.verify_access_token(token, cx.now_ms) {
            Ok(access) => access,
            Err(refusal) => return self.turn_down(cx, origin, refusal),
        };
        let id = origin.place.conn;
        let conn = self.conns.get(id).expect("it has just asked");
        if conn.in_flight > 1 {
            let refusal = Refusal::new(Reason::Unexpected, "a Login waits for the requests before it");
            return self.turn_down(cx, origin, refusal);
        }
        let (window, opened_ms, number) = (conn.window, conn.opened_ms, conn.number);
        let slot = Slot::of_user(access.author.user.get());
        if cx.owns(slot) {
            return self.begin_attach(cx, origin, access);
        }
        self.conns.remove(id);
        let arrival = Arrival {
            user: access.author.user,
            device: access.author.device,
            session: access.session,
            request: origin.request,
            request_bytes: origin.bytes,
            window,
            opened_ms,
            number,
        };
        let owner = cx.owner(slot);
        cx.fx().move_to(id, owner, arrival);
    }

    /// Asks the user's owner whether the connection may stand for its device.
    pub(super) fn begin_attach(&mut self, cx: &mut Cx, origin: Origin, access: Access) {
        let conn = self.conns.get(origin.place.conn).expect("it has just asked, or arrived");
        conn.attaching = Some(Box::new(Attaching { access, origin, waiting: Vec::new() }));
        let attach = Attach { place: origin.place, access, number: conn.number };
        cx.tell_user(access.author.user, UserOp::Attach(Box::new(attach)));
    }

    /// The connection stands for its device, unless it has gone meanwhile: then its owner has been told already.
    pub(super) fn attached(&mut self, cx: &mut Cx, id: ConnId, attached: Attached) {
        let Some(conn) = self.conns.get(id) else { return };
        let attaching = *conn.attaching.take().expect("an Attach is answered once");
        let author = attached.device;
        conn.opening = Opening::LoggedIn;
        conn.session = Some(Box::new(Session::new(author, conn.window)));
        cx.fx().authenticated(id, author);
        let login = v1::LoggedIn {
            user_id: author.user.get(),
            device_id: author.device.get(),
            name: attached.name,
            newest_device_id: attached.newest_device,
        };
        self.login_ended(cx, attaching, Reply::LoggedIn(login));
    }

    /// The connection does not stand for its device: the login alone is refused.
    pub(super) fn not_attached(&mut self, cx: &mut Cx, id: ConnId, refusal: Refusal) {
        let Some(conn) = self.conns.get(id) else { return };
        let attaching = *conn.attaching.take().expect("an Attach is answered once");
        self.login_ended(cx, attaching, Reply::Refused(refusal));
    }

    /// A login is answered: what was pipelined behind it goes on.
    fn login_ended(&mut self, cx: &mut Cx, attaching: Attaching, reply: Reply) {
        self.respond(cx, attaching.origin, reply);
        for (origin, request) in attaching.waiting {
            self.request(cx, origin, request);
        }
    }
}
