//! What the front asks of owners for its connections: kept until it is answered, its deadline has passed, or an owner on its way is
//! gone with what it was asked. Then it is asked again, in order, before anything newer.
//!
//! What is asked again has a new number: an answer to the first time says nothing of the second. It may have been carried out the
//! first time, so whoever writes tells it by the client's own number, or does what is done already; what can't be told so is not
//! asked again, and a refusal for now is no answer to it: its connection ends, and the client asks.

use bytes::Bytes;
use tern_storage::{LogId, Slot};
use tern_wire::errors::{Farewell, Reason};
use tern_wire::group::InvitationHash;
use tern_wire::ids::{ChatId, ClientMessageId, DeviceId, GroupId, PhoneHash, Seq, UserId};
use tern_wire::report::Report;
use tern_wire::request::{GetMedium, Lookup, Refresh, Subscribe};
use tern_wire::story::StoryRequest;

use super::conns::{Conns, Pause, Waiter, Why};
use super::searching::Wanted;
use super::{Cx, Front};
use crate::asks::AskId;
use crate::entry::{Author, KIND_GROUP, log_of, peer_of};
use crate::limits::SEARCH_LOGS_MAX;
use crate::media::cites::PICTURE;
use crate::message::{
    Attach, GlanceFor, Glancer, InboxAsk, Issued, LogOp, Looker, MediumWanted, Message, Pull, ReadHistory,
    Search, Send, Shown, StoryOp, Subscribing, UserOp, Want, Watermarks,
};
use crate::mutations::{Mutation, is};
use crate::reply::{ConnId, Origin, Reply, UNKNOWN};
use crate::slots::Taken;

const UNANSWERED: Farewell = Farewell::new(Reason::Unavailable, "no answer came in time: ask again");

/// Something that was asked of an owner.
#[derive(Debug)]
pub(super) struct Asked {
    conn: ConnId,
    /// The request, or 0: nobody but the front waits for it.
    request: u64,
    /// Bytes of the request's frame.
    bytes: u32,
    /// It was asked before, of an owner that is gone.
    again: bool,
    /// Whose owner is asked.
    slot: Slot,
    ask: Ask,
}

// A core has many of them under way.
const _: () = assert!(size_of::<Asked>() <= 96);

/// What is asked, as far as it takes to ask again.
pub(super) enum Ask {
    /// Append an entry.
    Send(tern_wire::message::Send),
    /// Make a group.
    CreateGroup(ClientMessageId, Bytes),
    /// What a group is.
    AboutGroup(GroupId, Option<Box<InvitationHash>>),
    /// Move the device's position and its user's watermarks.
    Acknowledge { chat: ChatId, upto: Watermarks },
    /// A page of history.
    History { chat: ChatId, from: Seq, forwards: bool, limit: usize },
    /// Tell the operators.
    Report(Box<Report>),
    /// A link to a medium.
    GetMedium(Box<GetMedium>),
    /// Something that the device carries elsewhere: where media are uploaded and by which token; which push services there are, and which
    /// one tells it.
    About(Issued),
    /// Something of stories.
    Story(Box<StoryRequest>),
    /// Who is it?
    Lookup(Box<Lookup>),
    /// Who of an address book is here?
    Discover(Box<[PhoneHash]>),
    /// What the device shows.
    Subscribe(Box<Subscribe>),
    /// The user's devices.
    Devices,
    /// End a device of the user.
    EndDevice(DeviceId),
    /// Have a device of the user ring. Twice is no harm.
    RingDevice(DeviceId),
    /// Exchange a refresh token of this device.
    Refresh(Box<(Author, Refresh)>),
    /// May the connection stand for its device, or go on to?
    Attach,
    /// The connection follows its user: has all come that it was told?
    Leave,
    /// A step of the device's inbox, behind this log.
    Inbox(Option<LogId>),
    /// Entries that the device lacks.
    Pull { log: LogId, want: Want, marked: bool },
    /// A part of the user's logs, behind this one: so many.
    Logs(Option<LogId>, usize),
    /// A part of the user's logs, behind this one, to search in them.
    SearchLogs(Option<LogId>),
    /// What is found in a log; it counts if it was asked for alone.
    Search { log: LogId, alone: bool, search: Box<Wanted> },
    /// A log at a glance.
    Glance(LogId),
    /// Something that is not to be asked again; whoever is asked may pass it on to this slot's owner.
    Once(Option<Slot>),
}

/// Shows no content.
impl std::fmt::Debug for Ask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ask").finish_non_exhaustive()
    }
}

impl Asked {
    /// What is wanted of a log that is searched in.
    pub(super) fn search(&self) -> Option<&Wanted> {
        match &self.ask {
            Ask::Search { search, .. } => Some(search),
            _ => None,
        }
    }

    /// Whether it asks for logs to be searched in.
    pub(super) fn is_for_search(&self) -> bool {
        matches!(self.ask, Ask::SearchLogs(_))
    }

    /// Whether it is on its way by a slot of which this is true, or may be. By which slots a `Lookup` goes, only those know who carry it
    /// out; and of a connection that has gone nobody knows whose chats it spoke of.
    fn passes(&self, by: Option<Author>, is_so: impl Fn(Slot) -> bool) -> bool {
        is_so(self.slot)
            || match self.ask {
                Ask::Send(ref send) => by.is_none_or(|by| is_so(Slot::of_log(log_of(by.user, send.chat)))),
                // The peer's owner adds who that is.
                Ask::Glance(log) => {
                    by.is_none_or(|by| peer_of(log, by.user).is_some_and(|peer| is_so(slot_of(peer))))
                }
                Ask::Search { log, .. } => is_so(Slot::of_log(log)),
                // A page goes by way of the user's owner.
                Ask::Pull { .. } => by.is_none_or(|by| is_so(slot_of(by.user))),
                // In which slot a group comes to lie, its maker's owner finds.
                Ask::Lookup(_) | Ask::Report(_) | Ask::CreateGroup(..) => true,
                Ask::Once(then) => then.is_some_and(is_so),
                // Whoever posted it is told.
                Ask::Story(ref asked) => {
                    matches!(**asked, StoryRequest::See(story) if is_so(slot_of(story.author)))
                }
                Ask::Acknowledge { .. }
                | Ask::History { .. }
                | Ask::GetMedium(_)
                | Ask::About(_)
                | Ask::AboutGroup(..)
                | Ask::Discover(_)
                | Ask::Subscribe(_)
                | Ask::Devices
                | Ask::EndDevice(_)
                | Ask::RingDevice(_)
                | Ask::Refresh(_)
                | Ask::Attach
                | Ask::Leave
                | Ask::Inbox(_)
                | Ask::Logs(..)
                | Ask::SearchLogs(_) => false,
            }
    }

    /// Whoever asks for a code, or tries one, has until the login: a code may wait for the way to the deliverer.
    fn has_deadline(&self) -> bool {
        !matches!(self.ask, Ask::Once(Some(_)))
    }

    fn waiter(&self) -> Waiter {
        Waiter { conn: self.conn, request: self.request, bytes: self.bytes }
    }
}

impl Ask {
    /// The slot whose owner is asked.
    fn slot(&self, by: Author) -> Slot {
        match self {
            Self::Acknowledge { chat, .. } | Self::History { chat, .. } => {
                Slot::of_log(log_of(by.user, *chat))
            }
            Self::GetMedium(wanted) => match pictured(by.user, wanted) {
                Some(user) => slot_of(user),
                None => Slot::of_log(log_of(by.user, wanted.chat)),
            },
            Self::Pull { log, .. } | Self::Glance(log) => Slot::of_log(*log),
            Self::Search { log, alone: false, .. } => Slot::of_log(*log),
            Self::AboutGroup(group, _) => Slot::of_log(LogId::Group(group.get())),
            Self::CreateGroup(..)
            | Self::About(_)
            | Self::Story(_)
            | Self::Send(_)
            | Self::Lookup(_)
            | Self::Discover(_)
            | Self::Report(_)
            | Self::Subscribe(_)
            | Self::Devices
            | Self::EndDevice(_)
            | Self::RingDevice(_)
            | Self::Refresh(_)
            | Self::Attach
            | Self::Leave
            | Self::Inbox(_)
            | Self::Logs(..)
            | Self::SearchLogs(_)
            | Self::Search { .. }
            | Self::Once(_) => slot_of(by.user),
        }
    }

    /// Whether it may be refused before it has left, for too much is under way. What is not is answered in another way than with a
    /// refusal, and bounded by other means.
    fn is_refusable(&self) -> bool {
        !matches!(
            self,
            Self::Attach
                | Self::Leave
                | Self::Inbox(_)
                | Self::Pull { .. }
                | Self::Logs(..)
                | Self::SearchLogs(_)
                | Self::Search { .. }
                | Self::Glance(_)
        )
    }

    /// Whether, carried out, it leaves something in the store.
    fn writes(&self) -> bool {
        matches!(
            self,
            Self::Send(_)
                | Self::CreateGroup(..)
                | Self::Acknowledge { .. }
                | Self::EndDevice(_)
                | Self::Refresh(_)
                | Self::Report(_)
                | Self::Story(_)
                | Self::Once(..)
        )
    }
}

impl Front {
    /// Asks for a request of a device that is logged in.
    pub(super) fn ask(&mut self, cx: &mut Cx, waiter: Waiter, by: Author, ask: Ask) {
        let Waiter { conn, request, bytes } = waiter;
        let slot = ask.slot(by);
        self.send_ask(cx, by, Asked { conn, request, bytes, again: false, slot, ask });
    }

    /// Asks for a session itself.
    pub(super) fn ask_for(&mut self, cx: &mut Cx, conn: ConnId, by: Author, ask: Ask) {
        self.ask(cx, Waiter { conn, request: 0, bytes: 0 }, by, ask);
    }

    /// Asks the user's owner whether a connection may stand for its device, or, when that owner has come to be another one, may go
    /// on to.
    pub(super) fn ask_to_attach(&mut self, cx: &mut Cx, conn: ConnId, author: Author, session: Option<u64>) {
        let number = self.conns.get(conn).expect("it has just been looked at").number;
        let slot = slot_of(author.user);
        let asked = Asked { conn, request: 0, bytes: 0, again: false, slot, ask: Ask::Attach };
        let origin = self.note(cx, asked);
        let attach = Attach { origin, author, session, number };
        cx.tell_user(author.user, UserOp::Attach(Box::new(attach)));
        if session.is_some() {
            // `Welcome` and `LoggedIn` are one send.
            cx.fx().hold(conn);
        }
    }

    /// Notes something that is not to be asked again, of a slot's owner, who may pass it on to another's.
    pub(super) fn note_once(&mut self, cx: &Cx, waiter: Waiter, slot: Slot, then: Option<Slot>) -> Origin {
        let Waiter { conn, request, bytes } = waiter;
        self.note(cx, Asked { conn, request, bytes, again: false, slot, ask: Ask::Once(then) })
    }

    /// What an answer is to; `None`: it came too late, or once more, or after its asker.
    pub(super) fn asked(&mut self, conn: ConnId, ask: AskId) -> Option<Asked> {
        self.asks.answered(ask, |asked| asked.conn == conn)
    }

    /// The answer to a request has come.
    pub(super) fn answered(&mut self, cx: &mut Cx, conn: ConnId, ask: AskId, reply: Reply) {
        let Some(asked) = self.asked(conn, ask) else { return };
        let is_refused_for_now = matches!(&reply, Reply::Refused(refusal) if refusal.retry_after_ms > 0);
        // The owner that is gone may have done it.
        let is_unknown = asked.again && asked.ask.writes() && is_refused_for_now;
        if let (Ask::Subscribe(shows), Reply::Subscribed) = (&asked.ask, &reply) {
            self.subscribed(cx, conn, Subscribe::clone(shows));
        }
        self.respond(cx, asked.waiter(), if is_unknown { Reply::Unknown } else { reply });
    }

    /// Owners are gone with what they were asked: it is asked again of those in their place, and their users' devices attach there.
    pub(crate) fn owners_gone(&mut self, cx: &mut Cx, taken: &Taken) {
        let conns = &mut self.conns;
        let mut again = self.asks.extract(|asked| {
            let by = author_of(conns, asked.conn);
            asked.passes(by, |slot| taken.has(slot))
        });
        if is(Mutation::AskOutOfOrder) {
            again.reverse();
        }
        for asked in again {
            self.ask_again(cx, asked);
        }
        self.lookers_lost(cx, taken);
        for conn in self.conns.ids() {
            let author = self.conns.session(conn).map(|session| session.author());
            if let Some(author) = author.filter(|author| taken.has(slot_of(author.user))) {
                self.attach_again(cx, conn, author);
            }
        }
    }

    fn ask_again(&mut self, cx: &mut Cx, asked: Asked) {
        let conn = asked.conn;
        // Whoever is gone, or is going, waits for nothing.
        if self.conns.get(conn).is_none_or(|conn| conn.closing) || is(Mutation::LoseAsk) {
            return;
        }
        match asked.ask {
            Ask::Once(..) => self.farewell(cx, conn, UNKNOWN),
            Ask::Attach => {
                // One that has attached before begins anew, with its inbox.
                let pause = self.conns.get(conn).and_then(|conn| conn.pause.as_deref());
                if let Some(&Pause { why: Why::LogsIn(access, _), .. }) = pause {
                    self.ask_to_attach(cx, conn, access.author, Some(access.session));
                }
            }
            // One that was about to follow its user attaches where it is.
            Ask::Inbox(_) | Ask::Leave => {}
            Ask::Refresh(ref refresh) => {
                let by = refresh.0;
                self.send_ask(cx, by, Asked { again: true, ..asked });
            }
            _ => {
                let by = author_of(&mut self.conns, conn).expect("whoever is logged in asks for these");
                self.send_ask(cx, by, Asked { again: true, ..asked });
            }
        }
    }

    /// The owner of a session's user is gone, and with it whatever was on its way to the device: it attaches to the next one, and
    /// what it has not acknowledged is pushed again.
    fn attach_again(&mut self, cx: &mut Cx, conn: ConnId, author: Author) {
        self.ask_to_attach(cx, conn, author, None);
        if let Some(pause) = self.conns.get(conn).and_then(|conn| conn.pause.as_deref_mut()) {
            pause.why = Why::Arrives;
        }
        let session = self.conns.session(conn).expect("it has just been looked at");
        if !session.is_silent() {
            session.begin_again();
            self.advance(cx, conn);
        }
    }

    /// Ends connections that have waited too long: a client that asks again may be luckier, and an operator must know.
    pub(super) fn end_unanswered(&mut self, cx: &mut Cx) {
        let timeout_ms = cx.limits().answer_timeout_ms;
        while let Some(asked) = self.asks.overdue(cx.now_ms, timeout_ms, Asked::has_deadline) {
            cx.unanswered(asked.slot);
            self.farewell(cx, asked.conn, UNANSWERED);
        }
    }

    /// Notes something that is asked of an owner, and gives where its answer goes.
    fn note(&mut self, cx: &Cx, asked: Asked) -> Origin {
        let place = cx.place(asked.conn);
        Origin { place, ask: self.asks.insert(cx.now_ms, asked) }
    }

    fn send_ask(&mut self, cx: &mut Cx, by: Author, asked: Asked) {
        let more = match &asked.ask {
            Ask::Subscribe(shows) => self.not_shown(asked.conn, shows),
            _ => Default::default(),
        };
        let origin = self.note(cx, asked);
        let Asked { again, slot, ask, .. } = self.asks.get(origin.ask).expect("it has just been noted");
        let message = match ask {
            Ask::Subscribe(_) => {
                let looker = Looker { device: by, place: origin.place };
                let more = Subscribing { looker, users: more.0, groups: more.1 };
                Message::User(by.user, UserOp::Subscribe(Some(origin), Box::new(more)))
            }
            ask => message(cx, origin, by, *again, ask),
        };
        // What is asked again is bounded by what was asked.
        if ask.is_refusable() && !again {
            cx.ask_in(*slot, origin, message);
        } else {
            cx.tell_owner(*slot, message);
        }
    }
}

/// Who asks for a connection that is logged in, or about to be, and does not end.
fn author_of(conns: &mut Conns, conn: ConnId) -> Option<Author> {
    let conn = conns.get(conn).filter(|conn| !conn.closing)?;
    let session = conn.session.as_deref().map(|session| session.author());
    session.or(conn.pause.as_deref().and_then(Pause::logs_in))
}

pub(super) fn slot_of(user: UserId) -> Slot {
    Slot::of_user(user.get())
}

/// Whose picture somebody wants, if it is a person's.
fn pictured(reader: UserId, wanted: &GetMedium) -> Option<UserId> {
    match wanted.chat {
        ChatId::With(user) if wanted.seq == PICTURE => Some(user),
        ChatId::Private if wanted.seq == PICTURE => Some(reader),
        ChatId::With(_) | ChatId::Private | ChatId::Group(_) => None,
    }
}

/// Who sees an entry, or a group's picture, knows its log's owner; who sees a person's, that person's.
fn medium_wanted(origin: Origin, reader: UserId, wanted: &GetMedium) -> Message {
    let GetMedium { chat, seq, medium } = *wanted;
    match pictured(reader, wanted) {
        Some(user) => {
            let shown = Shown { to: reader, name: false, phone: false, picture: Some(medium) };
            Message::User(user, UserOp::Describe(origin, shown))
        }
        None => {
            let wanted = Box::new(MediumWanted { origin, reader, seq, medium });
            Message::Log(log_of(reader, chat), LogOp::GetMedium(wanted))
        }
    }
}

/// What somebody asks of stories.
fn of_stories(origin: Origin, device: DeviceId, asked: &StoryRequest) -> UserOp {
    UserOp::Story(Box::new(StoryOp::Asked(origin, device, asked.clone())))
}

/// What goes to the owner.
fn message(cx: &Cx, origin: Origin, by @ Author { user, device }: Author, again: bool, ask: &Ask) -> Message {
    let of_user = |op| Message::User(user, op);
    let of_chat = |chat, op| Message::Log(log_of(user, chat), op);
    match *ask {
        Ask::Send(ref send) => {
            let tern_wire::message::Send { chat, client_id, kind, body, envelope } = send.clone();
            let log = log_of(user, chat);
            let epoch = cx.epoch(Slot::of_log(log));
            let send = Send { epoch, again, envelope, ..Send::new(origin, by, client_id, kind, body) };
            of_user(UserOp::Send(log, Box::new(send)))
        }
        Ask::CreateGroup(client_id, ref body) => {
            let send = Send { again, ..Send::new(origin, by, client_id, KIND_GROUP, body.clone()) };
            of_user(UserOp::CreateGroup(Box::new(send)))
        }
        Ask::AboutGroup(group, ref hash) => {
            let about = LogOp::About(origin, user, hash.as_deref().copied());
            Message::Log(LogId::Group(group.get()), about)
        }
        Ask::Acknowledge { chat, upto } => of_chat(chat, LogOp::Acknowledge { origin, author: by, upto }),
        Ask::History { chat, from, forwards, limit } => {
            of_chat(chat, LogOp::History(ReadHistory { origin, reader: user, from, forwards, limit }))
        }
        Ask::Story(ref asked) => of_user(of_stories(origin, device, asked)),
        Ask::About(what) => of_user(UserOp::Issue(origin, device, what)),
        Ask::GetMedium(ref wanted) => medium_wanted(origin, user, wanted),
        Ask::Report(ref report) => of_user(UserOp::Report(origin, report.clone())),
        Ask::Lookup(ref lookup) => of_user(UserOp::LookUp(origin, Lookup::clone(lookup))),
        Ask::Discover(ref hashes) => of_user(UserOp::Discover(origin, hashes.clone())),
        Ask::Devices => of_user(UserOp::ListDevices(origin)),
        Ask::EndDevice(ended) => of_user(UserOp::EndDevice(origin, device, ended)),
        Ask::RingDevice(rung) => of_user(UserOp::RingDevice(origin, device, rung)),
        Ask::Refresh(ref refresh) => {
            let (Author { user, device }, ref refresh) = **refresh;
            Message::User(user, UserOp::Refresh(origin, device, Box::new(refresh.clone())))
        }
        Ask::Leave => of_user(UserOp::Leave(origin, device)),
        Ask::Inbox(after) => of_user(UserOp::Inbox(InboxAsk { origin, device, after })),
        Ask::Pull { log, want, marked } => {
            let pull =
                Pull { origin, author: by, want, marked, writes_mark: true, flushed: false, met: false };
            Message::Log(log, LogOp::Pull(Box::new(pull)))
        }
        Ask::Logs(after, rows) => of_user(UserOp::ListLogs(origin, after, rows)),
        Ask::SearchLogs(after) => of_user(UserOp::SearchLogs(origin, after, SEARCH_LOGS_MAX)),
        Ask::Search { log, alone, ref search } => {
            let Wanted { query, after, floor_ms, limit, .. } = (**search).clone();
            let search = Box::new(Search { origin, reader: user, query, after, floor_ms, limit });
            if alone {
                of_user(UserOp::Search(log, search))
            } else {
                Message::Log(log, LogOp::Search(search))
            }
        }
        Ask::Glance(log) => {
            Message::Log(log, LogOp::Glance(Glancer { asker: GlanceFor::List(origin), reader: user }))
        }
        Ask::Attach | Ask::Subscribe(_) | Ask::Once(..) => {
            unreachable!("sent by those who know more than is noted")
        }
    }
}
