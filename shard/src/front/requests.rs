//! What a logged-in device asks for: each request goes to the owner who can answer it.

use tern_storage::LogId;
use tern_wire::errors::{Reason, Refusal};
use tern_wire::ids::UserId;
use tern_wire::request::{Acknowledge, History, Request, Resume, Send};

use super::{Cx, Front};
use crate::effects::Stage;
use crate::entry::Author;
use crate::limits::INBOX_LOGS_MAX;
use crate::message::{self, Claim, LogOp, Message, ReadHistory, UserOp, Watermarks};
use crate::mutations::{Mutation, is};
use crate::reply::{Origin, Reply};

impl Front {
    /// A request that only a logged-in connection may make.
    pub(super) fn session_request(&mut self, cx: &mut Cx, origin: Origin, request: Request) {
        // Of a connection that is ending nothing is answered any more.
        let Some(session) = self.conns.session(origin.place.conn) else { return };
        let Author { user, device } = session.author();
        let author = Author { user, device };
        match request {
            Request::Send(send) => self.send(cx, origin, author, send),
            Request::Acknowledge(acknowledge) => {
                let Acknowledge { peer, delivered_upto, read_upto } = acknowledge;
                let upto = Watermarks { delivered: delivered_upto, read: read_upto };
                ask_chat(cx, origin, user, peer, LogOp::Acknowledge { origin, author, upto });
            }
            Request::History(History { peer, from, forwards, limit }) => {
                let max = cx.limits().history_entries_max;
                let limit = if limit == 0 { max } else { max.min(limit as usize) };
                let history = ReadHistory { origin, reader: user, from, forwards, limit };
                ask_chat(cx, origin, user, peer, LogOp::History(history));
            }
            Request::Resume(resume) => self.resume(cx, origin, &resume),
            Request::Lookup(lookup) => ask_account(cx, origin, user, UserOp::LookUp(origin, lookup)),
            Request::Chats(chats) => self.chats(cx, origin, user, chats),
            Request::Devices => ask_account(cx, origin, user, UserOp::ListDevices(origin)),
            Request::EndDevice(ended) => ask_account(cx, origin, user, UserOp::EndDevice(origin, ended)),
            Request::RingDevice(rung) => {
                ask_account(cx, origin, user, UserOp::RingDevice(origin, device, rung))
            }
            Request::Rename(rename) => {
                ask_account(cx, origin, user, UserOp::Rename(origin, device, Box::new(rename)));
            }
            Request::Hello(_)
            | Request::Register(_)
            | Request::Verify(_)
            | Request::Refresh(_)
            | Request::Login(_)
            | Request::Credit(_)
            | Request::Ping => unreachable!("handled before, or not admitted in this state"),
        }
    }

    /// Its owner knows how much the account may send; then it goes on to the log.
    fn send(&mut self, cx: &mut Cx, origin: Origin, author: Author, send: Send) {
        if send.body.len() > cx.limits().body_bytes_max {
            let refusal = Refusal::new(Reason::BodyTooLarge, "the body is longer than Limits.body_bytes_max");
            return self.turn_down(cx, origin, refusal);
        }
        let Send { peer, client_id, kind, body } = send;
        cx.passed(author, client_id, Stage::Decrypted);
        let log = LogId::direct(author.user.get(), peer.get());
        let send = message::Send { origin, author, client_id, kind, body, permits: Default::default() };
        ask_account(cx, origin, author.user, UserOp::Send(log, send));
    }

    /// Starts the pushes. A further `Resume` asks again for the logs that it lists; each is followed by `CaughtUp`.
    fn resume(&mut self, cx: &mut Cx, origin: Origin, resume: &Resume) {
        let id = origin.place.conn;
        let session = self.conns.session(id).expect("it has just asked");
        if session.logs_behind() + resume.positions.len() > INBOX_LOGS_MAX {
            let refusal = cx.overloaded();
            return self.turn_down(cx, origin, refusal);
        }
        let named = !resume.generations.is_empty();
        let knows = self.identity.knows(&resume.generations) || is(Mutation::TrustEveryPast);
        let trusted = named && knows;
        let rewound = !trusted && (named || !resume.positions.is_empty());
        let user = session.author().user;
        session.resume();
        for position in &resume.positions {
            let log = LogId::direct(user.get(), position.peer.get());
            let known = Watermarks { delivered: position.delivered_upto, read: position.read_upto };
            session.add_position(log, Claim { upto: position.upto, trusted }, known);
        }
        self.respond(cx, origin, Reply::Resumed { rewound });
        self.advance(cx, id);
    }
}

fn ask_account(cx: &mut Cx, origin: Origin, user: UserId, op: UserOp) {
    cx.ask(origin, Message::User(user, op));
}

fn ask_chat(cx: &mut Cx, origin: Origin, user: UserId, peer: UserId, op: LogOp) {
    cx.ask_log(origin, LogId::direct(user.get(), peer.get()), op);
}
