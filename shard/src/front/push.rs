//! What is pushed to a device, and the pages by which it catches up.

use std::sync::Arc;

use prost::Message as _;
use tern_proto::v1::{self, server_frame};
use tern_storage::LogId;
use tern_wire::errors::{Farewell, Reason};
use tern_wire::ids::{Seq, UserId};
use tern_wire::request::Credit;

use super::asking::Ask;
use super::lag::{Behind, UNREAD};
use super::session::Next;
use super::{Cx, Encoded, Front};
use crate::asks::AskId;
use crate::effects::Stage;
use crate::entry::{Author, Entry, chat_of, peer_of};
use crate::limits::LAG_LOGS_MAX;
use crate::load::Work;
use crate::message::{InboxStep, Notice, Page, Subject, Unreadable, UserOp, Want, Watermarks};
use crate::reply::ConnId;

const INBOX_UNREADABLE: Farewell = Farewell::new(Reason::Unavailable, "the device's inbox can't be read");

const HERE: &str = "its session was looked at just before, and nothing ended it since";

impl Front {
    /// A step of the device's inbox has come.
    pub(super) fn inbox_came(
        &mut self,
        cx: &mut Cx,
        id: ConnId,
        ask: AskId,
        step: Result<Box<InboxStep>, Unreadable>,
    ) {
        let Some(session) = self.asked(id, ask).and_then(|_| self.conns.session(id)) else { return };
        match step {
            Ok(step) => {
                session.inbox_came(&step.logs, step.marked, step.upto);
                self.advance(cx, id);
            }
            Err(_) => self.farewell(cx, id, INBOX_UNREADABLE),
        }
    }

    /// Pushes an entry to a device, or notes that it is behind.
    pub(super) fn push_entry(&mut self, cx: &mut Cx, id: ConnId, entry: &Arc<Entry>) {
        let Some(session) = self.conns.session(id).filter(|session| !session.is_silent()) else { return };
        let reader = session.author().user;
        if session.is_behind(entry.log) || !session.is_scanned(entry.log) {
            // Of a log that the inbox has not been read past it is not known what the device has.
            let is_stuck = session.is_stuck(entry.log);
            session.behind(entry.log, UNREAD).add_entry(entry.seq);
            if is_stuck {
                self.advance(cx, id);
            }
            self.bound_lag(cx, id);
        } else if self.may_push(cx, id) {
            if peer_of(entry.log, reader).is_none() && entry.author.user != reader {
                self.push_to_many(cx, id, entry);
            } else {
                self.push(cx, id, server_frame::Message::Entry(entry.view(reader, false)));
            }
            cx.passed(entry.author, entry.client_id, Stage::Delivered);
        } else {
            let session = self.conns.session(id).expect(HERE);
            session.behind(entry.log, Want::from_entry(entry.seq));
            self.bound_lag(cx, id);
        }
    }

    /// Pushes an entry of a group, of which one frame serves all but its author.
    fn push_to_many(&mut self, cx: &mut Cx, id: ConnId, entry: &Arc<Entry>) {
        if !self.pushed.as_ref().is_some_and(|pushed| Arc::ptr_eq(&pushed.entry, entry)) {
            let reader = self.conns.session(id).expect(HERE).author().user;
            let message = Some(server_frame::Message::Entry(entry.view(reader, false)));
            let frame = v1::ServerFrame { id: 0, message };
            let bytes = frame.encode_length_delimited_to_vec();
            self.pushed = Some(Encoded { entry: entry.clone(), frame, bytes });
        }
        let Encoded { frame, bytes, .. } = self.pushed.as_ref().expect("it was just made");
        let bytes = cx.fx().send_encoded(id, frame, bytes);
        self.was_pushed(cx, id, bytes);
    }

    fn was_pushed(&mut self, cx: &mut Cx, id: ConnId, bytes: usize) {
        let session = self.conns.session(id).expect(HERE);
        session.pushed(bytes);
        cx.count(session.author().user, Work::Sent);
    }

    /// Pushes a member's watermarks, or those of all others together, or notes that the device is behind.
    pub(super) fn push_receipt(
        &mut self,
        cx: &mut Cx,
        id: ConnId,
        log: LogId,
        member: Option<UserId>,
        marks: Watermarks,
    ) {
        let Some(session) = self.conns.session(id).filter(|session| !session.is_silent()) else { return };
        let is_own = member.is_some();
        if session.is_behind(log) {
            // The last page brings them.
            session.behind(log, UNREAD).owes_own |= is_own;
        } else if self.may_push(cx, id) {
            let message = self.watermarks(id, log, member, marks);
            let bytes = cx.fx().send_lazily(id, &v1::ServerFrame { id: 0, message: Some(message) });
            self.was_pushed(cx, id, bytes);
        } else {
            let session = self.conns.session(id).expect(HERE);
            session.lacks_marks(log).owes_own |= is_own;
            self.bound_lag(cx, id);
        }
    }

    /// A device was not told of a log from this entry on.
    pub(super) fn lacks(&mut self, cx: &mut Cx, id: ConnId, log: LogId, from: Seq) {
        let Some(session) = self.conns.session(id).filter(|session| !session.is_silent()) else { return };
        session.lacks(log, from);
        self.advance(cx, id);
        self.bound_lag(cx, id);
    }

    /// The device has not acknowledged a log up to this entry, and what it was told of it may be lost.
    pub(super) fn is_behind(&mut self, cx: &mut Cx, id: ConnId, log: LogId, newest: Seq) {
        let Some(session) = self.conns.session(id).filter(|session| !session.is_silent()) else { return };
        let behind = session.behind(log, UNREAD);
        behind.begin_again();
        behind.add_entry(newest);
        self.advance(cx, id);
        self.bound_lag(cx, id);
    }

    /// Tells a device something that it can find out otherwise, or that is of the moment: if it reads slowly, it is not told.
    pub(super) fn notify(&mut self, cx: &mut Cx, id: ConnId, notice: Notice) {
        if self.conns.session(id).is_none() {
            return;
        }
        if cx.fx().backlog(id) > cx.limits().send_queue_bytes_max {
            // Who is here it is told when it has read on.
            if let Notice::Presence { .. } = notice {
                self.conns.session(id).expect(HERE).misses_presence(true);
                cx.fx().notify_drained(id);
            }
            return;
        }
        if let Notice::Activity { subject, .. } = notice
            && !self.does_show(id, subject)
        {
            return;
        }
        let message = Some(match notice {
            Notice::Presence { user, online, last_seen_ms } => {
                server_frame::Message::Presence(v1::Presence { user_id: user.get(), online, last_seen_ms })
            }
            Notice::Activity { subject, user, doing } => {
                let (chat, sender) = match subject {
                    Subject::User(peer) => (peer.get(), 0),
                    Subject::Group(group) => (group.get(), user.get()),
                };
                server_frame::Message::Activity(v1::Activity { chat, doing: doing.into(), sender })
            }
            Notice::DeviceAdded { device, name, time_ms } => {
                server_frame::Message::DeviceAdded(v1::DeviceAdded {
                    device_id: device.get(),
                    device_name: name,
                    time_ms,
                })
            }
            Notice::PersonChanged(user, version) => {
                server_frame::Message::PersonChanged(v1::PersonChanged { user_id: user.get(), version })
            }
            Notice::StoryPosted(posted) => {
                server_frame::Message::StoryPosted(v1::StoryPosted { story: Some(posted.to_raw()) })
            }
            Notice::StoryGone(story) => {
                server_frame::Message::StoryGone(v1::StoryGone { story: Some(story.to_raw()) })
            }
            Notice::StorySeen(story) => {
                server_frame::Message::StorySeen(v1::StorySeen { story: Some(story.to_raw()) })
            }
            Notice::Ring { by, name } => {
                server_frame::Message::Ring(v1::Ring { device_id: by.get(), device_name: name })
            }
        });
        cx.fx().send(id, &v1::ServerFrame { id: 0, message });
    }

    /// A device that is behind in so many chats is shown out: it comes back for what its inbox says, step by step.
    pub(super) fn bound_lag(&mut self, cx: &mut Cx, id: ConnId) {
        if self.conns.session(id).is_some_and(|session| session.logs_behind() > LAG_LOGS_MAX) {
            let farewell = Farewell::new(Reason::TooSlow, "the pushes of too many chats wait");
            self.farewell(cx, id, farewell);
        }
    }

    /// A page has come: push what it holds as far as may be, and go on from there.
    pub(super) fn page_came(&mut self, cx: &mut Cx, id: ConnId, ask: AskId, page: &Page) {
        let Some(session) = self.asked(id, ask).and_then(|_| self.conns.session(id)) else { return };
        let (Author { user, device }, log) = (session.author(), page.log);
        let lag = session.page_came(page);
        match page.failed {
            Some(Unreadable::ForNow) => {
                let farewell = Farewell::new(Reason::Unavailable, "a log can't be read now");
                return self.farewell(cx, id, farewell);
            }
            Some(Unreadable::Damaged) => {
                lag.damaged(log);
                return self.advance(cx, id);
            }
            None => {}
        }
        if let Some(mut behind) = lag.page_came(log) {
            let is_done = self.push_page(cx, id, user, page, &mut behind);
            let lag = self.conns.session(id).expect(HERE).lag();
            if is_done {
                lag.caught_up(log);
                // What was pushed stays in the inbox until it is acknowledged; a mark may have stood for nothing.
                let op = if behind.clean { UserOp::LackedNothing } else { UserOp::Pushed };
                cx.tell_user(user, op(device, log, page.head));
            } else {
                lag.left(log, behind);
            }
        }
        self.advance(cx, id);
    }

    /// Pushes a page as far as may be, and notes what is left. `true` if nothing is.
    fn push_page(&mut self, cx: &mut Cx, id: ConnId, user: UserId, page: &Page, behind: &mut Behind) -> bool {
        let log = page.log;
        if let Some(upto) = page.rewound {
            if !self.may_push(cx, id) {
                return false;
            }
            let rewound = v1::Rewound { chat: chat_of(log, user).get(), upto: upto.0, head: page.head.0 };
            self.push(cx, id, server_frame::Message::Rewound(rewound));
            // What it knew of the watermarks may never have been so in this store.
            behind.known = None;
            behind.owes_own = true;
        }
        if let Some(from) = page.begins {
            if !self.may_push(cx, id) {
                return false;
            }
            let begins = v1::Begins { chat: chat_of(log, user).get(), from: from.0 };
            self.push(cx, id, server_frame::Message::Begins(begins));
        }
        behind.clean &= page.entries.is_empty();
        behind.want = Want::from_entry(page.next);
        for entry in &page.entries {
            if !self.may_push(cx, id) {
                behind.want.from = Some(entry.seq);
                return false;
            }
            self.push(cx, id, server_frame::Message::Entry(entry.view(user, false)));
        }
        // What is beyond the head and the device has heard of already, it has given up with what it had of another past.
        let gave_up_more = page.rewound.is_some() && behind.passed;
        if page.next <= page.head || gave_up_more {
            return false;
        }
        if page.others != behind.known.unwrap_or_default() {
            if !self.may_push(cx, id) {
                return false;
            }
            self.push_watermarks(cx, id, log, None, page.others);
            behind.known = Some(page.others);
        }
        let owes_own = behind.owes_own || page.lacks_read;
        if owes_own && peer_of(log, user) != Some(user) && page.own != Watermarks::default() {
            if !self.may_push(cx, id) {
                return false;
            }
            self.push_watermarks(cx, id, log, Some(user), page.own);
            behind.clean = false;
        }
        true
    }

    /// The client has confirmed pushes.
    pub(super) fn credit(&mut self, cx: &mut Cx, id: ConnId, credit: Credit) {
        if let Some(session) = self.conns.session(id) {
            session.credit(credit);
            self.advance(cx, id);
        }
    }

    /// The connection's queue is empty.
    pub(crate) fn drained(&mut self, cx: &mut Cx, id: ConnId) {
        if self.conns.session(id).is_some_and(|session| session.misses_presence(false)) {
            self.look_again(cx, id, None);
        }
        self.advance(cx, id);
    }

    /// Goes on with what a device lacks, as far as its queue and credit allow.
    pub(super) fn advance(&mut self, cx: &mut Cx, id: ConnId) {
        if self.is_following(cx, id) {
            return;
        }
        loop {
            let may_push = self.may_push(cx, id);
            let Some(session) = self.conns.session(id) else { return };
            let author = session.author();
            match session.next(may_push, cx.limits().inbox_step_rows) {
                Next::Wait => return,
                Next::ReadInbox(after) => self.ask_for(cx, id, author, Ask::Inbox(after)),
                Next::Pull(log, Behind { want, marked, .. }) => {
                    self.ask_for(cx, id, author, Ask::Pull { log, want, marked });
                }
                Next::CaughtUp { is_whole } => {
                    let message = Some(server_frame::Message::CaughtUp(v1::CaughtUp {}));
                    cx.fx().send(id, &v1::ServerFrame { id: 0, message });
                    if is_whole {
                        cx.tell_user(author.user, UserOp::CaughtUp(author.device, cx.place(id)));
                    }
                    return;
                }
            }
        }
    }

    /// Whether a push may leave now. If the queue forbids it, it goes on when the queue is empty; if the credit does,
    /// when the client confirms.
    fn may_push(&mut self, cx: &mut Cx, id: ConnId) -> bool {
        let full = cx.fx().backlog(id) > cx.limits().send_queue_bytes_max;
        if full {
            cx.fx().notify_drained(id);
        }
        !full && self.conns.session(id).is_some_and(|session| session.has_credit())
    }

    fn push_watermarks(
        &mut self,
        cx: &mut Cx,
        id: ConnId,
        log: LogId,
        member: Option<UserId>,
        marks: Watermarks,
    ) {
        let message = self.watermarks(id, log, member, marks);
        self.push(cx, id, message);
    }

    fn watermarks(
        &mut self,
        id: ConnId,
        log: LogId,
        member: Option<UserId>,
        marks: Watermarks,
    ) -> server_frame::Message {
        let session = self.conns.session(id).expect(HERE);
        let receipt = v1::Receipt {
            chat: chat_of(log, session.author().user).get(),
            delivered_upto: marks.delivered.0,
            read_upto: marks.read.0,
            member: member.map_or(0, UserId::get),
        };
        server_frame::Message::Receipt(receipt)
    }

    fn push(&mut self, cx: &mut Cx, id: ConnId, message: server_frame::Message) {
        let bytes = cx.fx().send(id, &v1::ServerFrame { id: 0, message: Some(message) });
        self.was_pushed(cx, id, bytes);
    }
}
