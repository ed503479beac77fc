//! The front: connections, their opening and their windows, sessions, what is pushed to them, and the lists that they ask for.
//!
//! It is the only department that knows frames. It keeps nothing that could be lost with a connection and asks the store nothing:
//! what a device's inbox holds, how often an account may do something, and what a log says, their owners know.

mod asking;
mod connection;
mod conns;
mod counted;
mod ending;
mod following;
mod lag;
mod listing;
mod opening;
mod push;
mod requests;
mod searching;
mod session;
mod shows;

use std::sync::Arc;

use tern_proto::v1;

use tern_wire::opening::Opening;

use self::asking::Asked;
use self::conns::{Conn, Conns};
use self::counted::Leases;
pub use self::following::Arrival;
use self::following::Strays;
use self::listing::Listings;
use self::searching::Searches;
use crate::asks::Ledger;
use crate::cx::{Cx as AnyCx, Department, KnowsFrames, Never};
use crate::entry::Entry;
use crate::identity::StoreIdentity;
use crate::maps::Hashing;
use crate::message::FrontOp;
use crate::reply::ConnId;
use crate::tokens::Keys;

/// See the module.
#[derive(Debug)]
pub(crate) struct Front {
    conns: Conns,
    asks: Ledger<Asked>,
    listings: Listings,
    searches: Searches,
    strays: Strays,
    leases: Leases,
    /// The last entry that was pushed to many, as its frame.
    pushed: Option<Encoded>,
    identity: StoreIdentity,
    keys: Arc<Keys>,
}

/// An entry of a group, as all but its author are pushed it.
#[derive(Debug)]
struct Encoded {
    entry: Arc<Entry>,
    frame: v1::ServerFrame,
    /// With the length prefix.
    bytes: Vec<u8>,
}

/// It asks the store nothing.
impl Department for Front {
    type After = Never;
    type Get = Never;
    type Scan = Never;
}

impl KnowsFrames for Front {}

type Cx<'a> = AnyCx<'a, Front>;

impl Front {
    /// Nobody is here.
    pub(crate) fn new(identity: StoreIdentity, keys: Arc<Keys>, hashing: Hashing) -> Self {
        Self {
            conns: Conns::default(),
            asks: Ledger::default(),
            listings: Listings::new(hashing),
            searches: Searches::new(hashing),
            strays: Strays::default(),
            leases: Leases::new(hashing),
            pushed: None,
            identity,
            keys,
        }
    }

    /// Something is told to a connection. It may have gone.
    pub(crate) fn told(&mut self, cx: &mut Cx, conn: ConnId, op: FrontOp) {
        match op {
            FrontOp::Reply(ask, reply) => self.answered(cx, conn, ask, reply),
            FrontOp::SentAgain(ask, again) => {
                let (reply, log, marks) = *again;
                self.answered(cx, conn, ask, reply);
                self.push_receipt(cx, conn, log, None, marks);
            }
            FrontOp::Attached(ask, attached) => self.attached(cx, conn, ask, *attached),
            FrontOp::MayGo(ask) => self.may_go(cx, conn, ask),
            FrontOp::NotAttached(ask, refusal) => self.not_attached(cx, conn, ask, refusal),
            FrontOp::Inbox(ask, step) => self.inbox_came(cx, conn, ask, step),
            FrontOp::Logs(ask, logs) => self.logs_came(cx, conn, ask, logs),
            FrontOp::Found(ask, found) => self.found(cx, conn, ask, found),
            FrontOp::Page(ask, page) => self.page_came(cx, conn, ask, &page),
            FrontOp::Glance(glance) => self.glance_came(cx, conn, glance),
            FrontOp::Entry(entry) => self.push_entry(cx, conn, &entry),
            FrontOp::Lacks(log, from) => self.lacks(cx, conn, log, from),
            FrontOp::Behind(log, newest) => self.is_behind(cx, conn, log, newest),
            FrontOp::Watermarks(log, member, marks) => self.push_receipt(cx, conn, log, member, marks),
            FrontOp::Notice(notice) => self.notify(cx, conn, notice),
            FrontOp::LookAgain(at) => self.look_again(cx, conn, at),
            FrontOp::Leased(network, granted) => self.leased(cx, conn, network, granted),
            FrontOp::End(farewell) => self.farewell(cx, conn, farewell),
        }
    }

    /// A slot has moved: connections may have to follow their users.
    pub(crate) fn slot_moved(&mut self) {
        self.strays.look();
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, cx: &mut Cx) {
        self.sweep(cx);
        self.end_unanswered(cx);
        self.sweep_leases(cx);
    }

    /// What was asked of owners and is not answered, and how many answers nobody waited for.
    pub(crate) fn asks(&self) -> (usize, u64) {
        (self.asks.len(), self.asks.late())
    }

    /// Connections, logged in or not.
    pub(crate) fn connections(&self) -> usize {
        self.conns.count()
    }

    /// Connections that are logged in, and have not been told to go.
    pub(crate) fn sessions(&self) -> usize {
        self.conns.sessions()
    }

    /// The longest frame that a connection may send now, in bytes without the length prefix. Pipelined behind a Login
    /// that is being checked, the larger limit holds already.
    pub(crate) fn frame_bytes_max(&mut self, id: ConnId) -> usize {
        match self.conns.get(id) {
            Some(Conn { pause: Some(_), .. }) => Opening::LoggedIn.frame_bytes_max(),
            Some(conn) => conn.opening.frame_bytes_max(),
            None => 0,
        }
    }
}
