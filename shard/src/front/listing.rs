//! The list of a user's chats, by pages: the logs of the user are read from the store, each log's owner gives it at a
//! glance, the peer's owner adds who that is, and when all have come the page is answered.
//!
//! A connection has one page under way at a time, so what it can have loaded at once is bounded.

use prost::Message as _;
use tern_proto::v1;
use tern_storage::{Direction, LogId, Rows, ScanLimit, Slot, StoreError, keys};
use tern_wire::errors::{Reason, Refusal};
use tern_wire::ids::UserId;
use tern_wire::limits::{CHATS_MAX, NUMBERS_END, PAGE_BYTES_MAX};
use tern_wire::request::Chats;
use xxhash_rust::xxh3::xxh3_64;

use super::ScanFor;
use crate::Cx;
use crate::entry::peer_of;
use crate::maps::{Hashing, Map};
use crate::message::{Glance, Glancer, LogOp, Unreadable};
use crate::reply::{ConnId, Origin, Reply};
use crate::shard::Shard;

const UNREADABLE: Refusal = Refusal::for_now(Reason::Unavailable, 1000, "the list of chats can't be read");

/// The pages under way, by their connections.
#[derive(Debug)]
pub(crate) struct Listings {
    pages: Map<ConnId, Box<Page>>,
    made: u64,
}

#[derive(Debug)]
struct Page {
    /// An answer to an earlier page of the connection is none to this one.
    number: u64,
    origin: Origin,
    reader: UserId,
    /// The versions that the client knows, by peer, rising.
    known: Vec<(u64, u64)>,
    /// The chats of the page, rising by peer, as far as they have come.
    chats: Vec<(UserId, Option<Box<Glance>>)>,
    missing: usize,
    /// There are chats behind these.
    more: bool,
}

impl Listings {
    pub(crate) fn new(hashing: Hashing) -> Self {
        Self { pages: Map::with_hasher(hashing), made: 0 }
    }

    /// The connection has gone.
    pub(crate) fn forget(&mut self, conn: ConnId) {
        self.pages.remove(&conn);
    }

    fn page(&mut self, conn: ConnId, number: u64) -> Option<&mut Page> {
        self.pages.get_mut(&conn).filter(|page| page.number == number).map(|page| &mut **page)
    }
}

impl Page {
    /// The answer, when all have come.
    fn answer(self) -> Reply {
        let mut page = v1::ChatsPage::default();
        let mut bytes = 0;
        let last = self.chats.last().filter(|_| self.more).map_or(0, |(peer, _)| peer.get());
        let mut chats = self.chats.into_iter().peekable();
        while let Some((peer, glance)) = chats.next() {
            let glance = glance.expect("all have come");
            if glance.failed == Some(Unreadable::ForNow) {
                return Reply::Refused(UNREADABLE);
            }
            let chat = chat_of(self.reader, *glance);
            let known = self.known.binary_search_by_key(&peer.get(), |(known, _)| *known);
            if known.is_ok_and(|place| self.known[place].1 == chat.version) {
                continue;
            }
            bytes += chat.last.as_ref().map_or(0, |last| last.body.len());
            page.chats.push(chat);
            if bytes >= PAGE_BYTES_MAX && chats.peek().is_some() {
                page.next = peer.get();
                return Reply::ChatsPage(page);
            }
        }
        page.next = last;
        Reply::ChatsPage(page)
    }
}

fn chat_of(reader: UserId, glance: Glance) -> v1::Chat {
    let peer = peer_of(glance.log, reader).get();
    if glance.failed.is_some() {
        return v1::Chat { peer, unavailable: true, ..Default::default() };
    }
    let mut chat = v1::Chat {
        peer,
        name: glance.name,
        phone: glance.phone,
        head: glance.head.0,
        unread: glance.unread,
        last: glance.last.map(|entry| entry.view(reader, true)),
        delivered_upto: glance.peer.delivered.0,
        read_upto: glance.peer.read.0,
        own_read_upto: glance.own.read.0,
        version: 0,
        unavailable: false,
    };
    // Never 0, which stands for no version.
    chat.version = xxh3_64(&chat.encode_to_vec()) % (NUMBERS_END - 1) + 1;
    chat
}

impl Shard {
    pub(crate) fn chats(&mut self, cx: &mut Cx, origin: Origin, reader: UserId, chats: Chats) {
        if let Err(refusal) = self.budgets.look_up(reader, cx.now_ms) {
            return self.respond(cx, origin, Reply::Refused(refusal));
        }
        if !self.reads.has_room() || self.listings.pages.contains_key(&origin.conn) {
            let refusal = self.overloaded();
            return self.respond(cx, origin, Reply::Refused(refusal));
        }
        let Chats { after, limit, known } = chats;
        let rows = if limit == 0 { CHATS_MAX } else { CHATS_MAX.min(limit as usize) };
        let after = after.map(|peer| LogId::direct(reader.get(), peer.get()));
        self.listings.made += 1;
        let number = self.listings.made;
        let page = Page { number, origin, reader, known, chats: Vec::new(), missing: 0, more: false };
        self.listings.pages.insert(origin.conn, Box::new(page));
        let range = keys::memberships(reader.get(), after);
        let limit = ScanLimit { rows, bytes: usize::MAX };
        self.reads.scan(cx.fx, range, Direction::Forwards, limit, ScanFor::Chats(origin.conn, number));
    }

    /// Which logs a page is of has been read.
    pub(crate) fn chats_read(
        &mut self,
        cx: &mut Cx,
        conn: ConnId,
        number: u64,
        rows: Result<Rows, Unreadable>,
    ) {
        let Some(page) = self.listings.page(conn, number) else { return };
        let (origin, reader) = (page.origin, page.reader);
        let logs_of = |rows: &Rows| rows.rows.iter().map(|(key, _)| keys::log_of(key)).collect();
        let logs: Option<Vec<_>> = rows.as_ref().ok().and_then(logs_of);
        let (Ok(Rows { more, .. }), Some(logs)) = (&rows, logs) else {
            self.listings.forget(conn);
            if rows.is_ok() {
                let place = format!("a key of chats in slot {}", Slot::of_user(reader.get()).number());
                self.trouble.read_failed(cx, &StoreError::Corrupt { place });
            }
            return self.respond(cx, origin, Reply::Refused(UNREADABLE));
        };
        (page.missing, page.more) = (logs.len(), *more);
        page.chats = logs.iter().map(|log| (peer_of(*log, reader), None)).collect();
        let core = self.core;
        for log in logs {
            self.tell_log(cx, log, LogOp::Glance(Glancer { core, conn, number, reader }));
        }
        self.answer_chats(cx, conn, number);
    }

    /// A chat of a page has come.
    pub(crate) fn glance_came(&mut self, cx: &mut Cx, glance: Box<Glance>) {
        let Glancer { conn, number, reader, .. } = glance.asker;
        let Some(page) = self.listings.page(conn, number) else { return };
        let peer = peer_of(glance.log, reader);
        let place = page.chats.binary_search_by_key(&peer, |(peer, _)| *peer);
        let place = place.expect("what was asked for is in the page, and peers rise as their logs' keys do");
        if page.chats[place].1.replace(glance).is_none() {
            page.missing -= 1;
        }
        self.answer_chats(cx, conn, number);
    }

    fn answer_chats(&mut self, cx: &mut Cx, conn: ConnId, number: u64) {
        if self.listings.page(conn, number).is_some_and(|page| page.missing == 0)
            && let Some(page) = self.listings.pages.remove(&conn)
        {
            let origin = page.origin;
            self.respond(cx, origin, page.answer());
        }
    }
}
