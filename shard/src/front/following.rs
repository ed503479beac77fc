//! Connections follow their users, when a slot has moved to another core: with their sessions, at leisure, and unnoticed.
//!
//! A connection is served well from any core, but what it asks for and what it is pushed crosses to its user's owner and back.
//! So it goes there in steps:
//!
//! ```text
//!   front, old core              user's owner               front, the owner's core
//!     | (requests wait, those before are answered)             |
//!     | Leave                         |                        |
//!     |------------------------------>| (what comes for the    |
//!     |                        MayGo  |  device is noted)      |
//!     |<------------------------------|                        |
//!     | the connection, its session, what waits                |
//!     |------------------------------------------------------->|
//!     |                               |                 Attach |
//!     |                               |<-----------------------|
//!     |                               | Attached, and what     |
//!     |                               | was noted              |
//!     |                               |----------------------->| (what waits is asked,
//!     |                               |                        |  what was noted is pulled)
//! ```
//!
//! What was told before the `MayGo` has come before it, so nothing is lost, and what comes behind it was not pushed, so nothing is doubled.
//! What was noted makes the device one that is behind in a few logs, and it catches up like all others that are.

use tern_wire::request::Request;

use super::asking::{Ask, slot_of};
use super::conns::{Conn, Pause, Waiter, Why};
use super::lag::UNREAD;
use super::{Cx, Front};
use crate::asks::AskId;
use crate::entry::Author;
use crate::limits::FOLLOWING_PER_TICK;
use crate::message::{Looker, Missed, UserOp};
use crate::mutations::{Mutation, is};
use crate::reply::{ConnId, Place};

/// In so many ticks each connection is looked at twice.
const ROUNDS: u32 = 22;

/// A connection on its way to its user's core, as its brain has it: whoever carries it there looks at nothing of it.
#[derive(Debug)]
pub struct Arrival {
    conn: Conn,
    /// From where.
    from: Place,
}

/// Which connections may have to follow their users.
#[derive(Debug, Default)]
pub(super) struct Strays {
    /// For so many ticks they are looked for.
    rounds: u32,
}

impl Strays {
    /// A slot has moved.
    pub(super) fn look(&mut self) {
        self.rounds = ROUNDS;
    }

    /// A tick: how many may set out in it.
    pub(super) fn tick(&mut self) -> usize {
        let looks = self.rounds > 0;
        self.rounds = self.rounds.saturating_sub(1);
        if looks { FOLLOWING_PER_TICK } else { 0 }
    }
}

impl Front {
    /// A connection goes to its user's core with all that is known of it.
    pub(super) fn move_to_owner(&mut self, cx: &mut Cx, id: ConnId, author: Author) {
        let conn = self.conns.remove(id).expect("whoever sends it away has just looked at it");
        let owner = cx.owner(slot_of(author.user));
        let arrival = Arrival { conn, from: cx.place(id) };
        cx.fx().move_to(id, owner, arrival);
    }

    /// A connection has moved here, to the core of its user.
    pub(crate) fn arrived(&mut self, cx: &mut Cx, id: ConnId, arrival: Arrival) {
        let Arrival { mut conn, .. } = arrival;
        conn.received_ms = cx.now_ms;
        let pause = conn.pause.as_deref_mut().expect("the requests of one that moves wait");
        pause.waiting.iter_mut().for_each(|(waiter, _)| waiter.conn = id);
        if let Why::LogsIn(_, waiter) = &mut pause.why {
            waiter.conn = id;
        }
        let why = pause.why;
        let author = conn.session.as_deref().map(|session| session.author());
        self.conns.insert(id, conn);
        match (why, author) {
            (Why::LogsIn(access, _), _) => {
                self.ask_to_attach(cx, id, access.author, Some(access.session));
            }
            (_, author) => self.arrive(cx, id, author.expect("whoever follows its user has logged in")),
        }
    }

    /// A connection that was on its way has gone: who waits for it is told.
    pub(crate) fn lost(cx: &mut Cx, arrival: &Arrival) {
        if let Some(session) = arrival.conn.session.as_deref() {
            let Author { user, device } = session.author();
            let looker = Looker { device: session.author(), place: arrival.from };
            Self::shows_no_more(cx, looker, session.shows().cloned().unwrap_or_default());
            cx.tell_user(user, UserOp::Detach(device, arrival.from));
        }
    }

    /// A connection sets out to follow its user, if it is not there, and stays open. `true` if it does.
    pub(super) fn follow(&mut self, cx: &mut Cx, id: ConnId) -> bool {
        let conn = self.conns.get(id).filter(|conn| !conn.closing && !conn.finished && conn.pause.is_none());
        let Some(user) = conn.and_then(|conn| Some(conn.session.as_deref()?.author().user)) else {
            return false;
        };
        let slot = slot_of(user);
        if cx.owns(slot) {
            return false;
        }
        // Sooner or later it is, and it reads what it is sent.
        if !cx.is_settled(slot) || cx.fx().backlog(id) > 0 {
            self.strays.look();
            return false;
        }
        let conn = self.conns.get(id).expect("it was just looked at");
        conn.pause = Some(Pause::new(Why::FallsStill));
        self.go_on_following(cx, id);
        true
    }

    /// Whether what a connection lacks is to wait, for it is about to go or has just come. If it falls still by that, it goes on.
    pub(super) fn is_following(&mut self, cx: &mut Cx, id: ConnId) -> bool {
        let why = self.conns.get(id).and_then(|conn| Some(conn.pause.as_deref()?.why));
        match why {
            None | Some(Why::LogsIn(..)) => false,
            Some(Why::FallsStill) => {
                self.go_on_following(cx, id);
                true
            }
            Some(Why::SaysGoodbye | Why::Arrives) => true,
        }
    }

    /// A connection that is to fall still may have done so.
    pub(super) fn go_on_following(&mut self, cx: &mut Cx, id: ConnId) {
        let Some(conn) = self.conns.get(id).filter(|conn| !conn.closing) else { return };
        let (Some(pause), Some(session)) = (conn.pause.as_deref_mut(), conn.session.as_deref()) else {
            return;
        };
        let is_still = conn.in_flight as usize == pause.waiting.len() && session.is_still();
        if !matches!(pause.why, Why::FallsStill) || !is_still {
            return;
        }
        pause.why = if is(Mutation::LeaveUnheard) { Why::Arrives } else { Why::SaysGoodbye };
        let author = session.author();
        self.ask_for(cx, id, author, Ask::Leave);
        if is(Mutation::LeaveUnheard) {
            self.move_to_owner(cx, id, author);
        }
    }

    /// All that its user's owner has told a connection has come: it goes, unless the owner is here by now, or its peer is about to end.
    pub(super) fn may_go(&mut self, cx: &mut Cx, id: ConnId, ask: AskId) {
        let Some(conn) = self.asked(id, ask).and_then(|_| self.conns.get(id)) else { return };
        if conn.closing {
            return;
        }
        let is_finished = conn.finished;
        let pause = conn.pause.as_deref_mut().expect("it waits to go");
        pause.why = Why::Arrives;
        let author = conn.session.as_deref().expect("whoever follows its user has logged in").author();
        let slot = slot_of(author.user);
        if is_finished || !cx.is_settled(slot) || cx.owns(slot) {
            self.strays.look();
            return self.arrive(cx, id, author);
        }
        self.move_to_owner(cx, id, author);
    }

    fn arrive(&mut self, cx: &mut Cx, id: ConnId, author: Author) {
        self.ask_to_attach(cx, id, author, None);
    }

    /// The user's owner goes on to tell a connection what is to be told. `None`: nobody knows what it was not told meanwhile.
    pub(super) fn follows(&mut self, cx: &mut Cx, id: ConnId, missed: Option<Missed>) {
        let Some(conn) = self.conns.get(id).filter(|conn| !conn.closing) else { return };
        let is_expected = |pause: &mut Box<Pause>| matches!(pause.why, Why::Arrives);
        let Some(pause) = conn.pause.take_if(is_expected) else { return };
        let session = self.conns.session(id).expect("whoever follows its user has logged in");
        match missed {
            _ if session.is_silent() => {}
            None => session.begin_again(),
            Some(missed) => self.catch_up(cx, id, missed),
        }
        self.look_again(cx, id, None);
        self.advance(cx, id);
        self.go_on(cx, pause.waiting);
    }

    /// A device was not told this: it is behind in these logs.
    fn catch_up(&mut self, cx: &mut Cx, id: ConnId, missed: Missed) {
        for (log, of_log) in missed.logs {
            let session = self.conns.session(id).expect("nothing ends it here");
            if let Some(seq) = of_log.entry {
                session.lacks(log, seq);
            }
            if let Some(newest) = of_log.doubted {
                session.behind(log, UNREAD).begin_again();
                session.behind(log, UNREAD).add_entry(newest);
            }
            if of_log.marks {
                session.lacks_marks(log).owes_own |= of_log.own_marks;
            }
        }
        for notice in missed.notices {
            self.notify(cx, id, notice);
        }
        self.bound_lag(cx, id);
    }

    /// What has waited is asked for now.
    pub(super) fn go_on(&mut self, cx: &mut Cx, waiting: Vec<(Waiter, Request)>) {
        for (waiter, request) in waiting {
            // One of them may have ended the connection.
            if self.conns.get(waiter.conn).is_some() {
                self.request(cx, waiter, request);
            }
        }
    }
}
