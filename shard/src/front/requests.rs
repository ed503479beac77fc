//! What a logged-in device asks for: each request goes to the owner who can answer it.

use tern_storage::Slot;
use tern_wire::errors::{Reason, Refusal};
use tern_wire::ids::UserId;
use tern_wire::message::Send;
use tern_wire::request::{Acknowledge, CreateGroup, GetMedium, History, Request, Resume};

use super::asking::Ask;
use super::conns::Waiter;
use super::{Cx, Front};
use crate::effects::Stage;
use crate::entry::{Author, log_of};
use crate::limits::INBOX_LOGS_MAX;
use crate::media::NO_MEDIA;
use crate::message::{Claim, Issued, Message, Setting, UserOp, Watermarks};
use crate::mutations::{Mutation, is};
use crate::reply::{Origin, Reply};

impl Front {
    /// Asks the owner of a user what is not to be asked again: done twice, it could undo what another device has done meanwhile.
    fn ask_once(&mut self, cx: &mut Cx, waiter: Waiter, user: UserId, op: impl FnOnce(Origin) -> UserOp) {
        let origin = self.note_once(cx, waiter, Slot::of_user(user.get()), None);
        cx.ask(origin, Message::User(user, op(origin)));
    }

    /// A device wants the account otherwise.
    fn set(&mut self, cx: &mut Cx, waiter: Waiter, Author { user, device }: Author, setting: Setting) {
        self.ask_once(cx, waiter, user, |origin| UserOp::Set(origin, device, Box::new(setting)));
    }

    /// A request that only a logged-in connection may make.
    pub(super) fn session_request(&mut self, cx: &mut Cx, waiter: Waiter, request: Request) {
        // Of a connection that is ending nothing is answered any more.
        let Some(session) = self.conns.session(waiter.conn) else { return };
        let author @ Author { user, device } = session.author();
        match request {
            Request::Send(send) => self.send(cx, waiter, author, send),
            Request::Acknowledge(acknowledge) => {
                let Acknowledge { chat, delivered_upto, read_upto } = acknowledge;
                let upto = Watermarks { delivered: delivered_upto, read: read_upto };
                self.ask(cx, waiter, author, Ask::Acknowledge { chat, upto });
            }
            Request::History(History { chat, from, forwards, limit }) => {
                let max = cx.limits().history_entries_max;
                let limit = if limit == 0 { max } else { max.min(limit as usize) };
                self.ask(cx, waiter, author, Ask::History { chat, from, forwards, limit });
            }
            Request::Resume(resume) => self.resume(cx, waiter, &resume),
            Request::Lookup(lookup) => self.ask(cx, waiter, author, Ask::Lookup(Box::new(lookup))),
            Request::Search(search) => self.search(cx, waiter, author, *search),
            Request::Discover(hashes) => self.ask(cx, waiter, author, Ask::Discover(hashes.into())),
            Request::Chats(chats) => self.chats(cx, waiter, author, chats),
            Request::Devices => self.ask(cx, waiter, author, Ask::Devices),
            Request::EndDevice(ended) => self.ask(cx, waiter, author, Ask::EndDevice(ended)),
            Request::CreateGroup(CreateGroup { client_id, body }) => {
                self.ask(cx, waiter, author, Ask::CreateGroup(client_id, body));
            }
            Request::AboutGroup(group, hash) => {
                self.ask(cx, waiter, author, Ask::AboutGroup(group, hash.map(Box::new)));
            }
            Request::NewLink => {
                self.ask_once(cx, waiter, user, |origin| UserOp::Issue(origin, device, Issued::Link))
            }
            Request::NewCard(renew) => {
                self.ask_once(cx, waiter, user, |origin| UserOp::NewCard(origin, device, renew));
            }
            Request::RingDevice(rung) => self.ask(cx, waiter, author, Ask::RingDevice(rung)),
            Request::Rename(rename) => {
                self.ask_once(cx, waiter, user, |origin| UserOp::Rename(origin, device, Box::new(rename)));
            }
            Request::SetPin(pin) => self.set(cx, waiter, author, Setting::Pin(pin)),
            Request::SetPush(set) => self.set(cx, waiter, author, Setting::Push(set)),
            Request::DeleteAccount(pin) => self.set(cx, waiter, author, Setting::End(pin)),
            Request::AboutPush => self.ask(cx, waiter, author, Ask::About(Issued::AboutPush)),
            Request::Subscribe(shows) => self.subscribe(cx, waiter, author, shows),
            Request::AboutMedia => self.about_media(cx, waiter, author),
            Request::GetMedium(wanted) => self.get_medium(cx, waiter, author, wanted),
            Request::Story(asked) => self.ask(cx, waiter, author, Ask::Story(Box::new(asked))),
            Request::Report(report) => self.ask(cx, waiter, author, Ask::Report(Box::new(report))),
            Request::Activity(chat, doing) => self.act(cx, waiter, author, chat, doing),
            Request::Hello(_)
            | Request::Register(_)
            | Request::Verify(_)
            | Request::Link(_)
            | Request::Refresh(_)
            | Request::Login(_)
            | Request::Credit(_)
            | Request::Ping => unreachable!("handled before, or not admitted in this state"),
        }
    }

    fn about_media(&mut self, cx: &mut Cx, waiter: Waiter, author: Author) {
        if !cx.has_media() {
            return self.turn_down(cx, waiter, NO_MEDIA);
        }
        self.ask(cx, waiter, author, Ask::About(Issued::AboutMedia));
    }

    fn get_medium(&mut self, cx: &mut Cx, waiter: Waiter, author: Author, wanted: GetMedium) {
        if !cx.has_media() {
            return self.turn_down(cx, waiter, NO_MEDIA);
        }
        self.ask(cx, waiter, author, Ask::GetMedium(Box::new(wanted)));
    }

    /// Its owner knows how much the account may send; then it goes on to the log.
    fn send(&mut self, cx: &mut Cx, waiter: Waiter, author: Author, send: Send) {
        if send.body.len() > cx.limits().body_bytes_max {
            let refusal = Refusal::new(Reason::BodyTooLarge, "the body is longer than Limits.body_bytes_max");
            return self.turn_down(cx, waiter, refusal);
        }
        cx.passed(author, send.client_id, Stage::Decrypted);
        self.ask(cx, waiter, author, Ask::Send(send));
    }

    /// Starts the pushes. A further `Resume` asks again for the logs that it lists; each is followed by `CaughtUp`.
    fn resume(&mut self, cx: &mut Cx, waiter: Waiter, resume: &Resume) {
        let id = waiter.conn;
        let session = self.conns.session(id).expect("it has just asked");
        if session.logs_behind() + resume.positions.len() > INBOX_LOGS_MAX {
            let refusal = cx.overloaded();
            return self.turn_down(cx, waiter, refusal);
        }
        let named = !resume.generations.is_empty();
        let knows = self.identity.knows(&resume.generations) || is(Mutation::TrustEveryPast);
        let trusted = named && knows;
        let rewound = !trusted && (named || !resume.positions.is_empty());
        let user = session.author().user;
        let is_first = session.is_silent();
        session.resume();
        for position in &resume.positions {
            let log = log_of(user, position.chat);
            let known = Watermarks { delivered: position.delivered_upto, read: position.read_upto };
            session.add_position(log, Claim { upto: position.upto, trusted }, known);
        }
        self.respond(cx, waiter, Reply::Resumed { rewound });
        if is_first {
            // A page follows, or that there is none.
            cx.fx().hold(id);
        }
        self.advance(cx, id);
    }
}
