//! The list of a user's chats, by pages: the user's owner says which logs it has, each log's owner gives it at a
//! glance, the peer's owner adds who that is, and when all have come the page is answered.
//!
//! A connection has one page under way at a time, so what it can have loaded at once is bounded.

use prost::Message as _;
use tern_proto::v1;
use tern_storage::LogId;
use tern_wire::errors::{Reason, Refusal};
use tern_wire::ids::{Seq, UserId};
use tern_wire::limits::{CHATS_MAX, NUMBERS_END, PAGE_BYTES_MAX};
use tern_wire::request::Chats;
use xxhash_rust::xxh3::xxh3_64;

use super::{Cx, Front};
use crate::entry::peer_of;
use crate::maps::{Hashing, Map};
use crate::message::{Glance, Glancer, LogOp, LogsPage, Unreadable, UserOp};
use crate::reply::{ConnId, Origin, Reply};

const UNREADABLE: Refusal = Refusal::for_now(Reason::Unavailable, 1000, "the list of chats can't be read");

/// The pages under way, by their connections.
#[derive(Debug)]
pub(super) struct Listings {
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
    pub(super) fn new(hashing: Hashing) -> Self {
        Self { pages: Map::with_hasher(hashing), made: 0 }
    }

    /// The connection has gone.
    pub(super) fn forget(&mut self, conn: ConnId) {
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
            if glance.failed.is_none() && glance.head == Seq(0) {
                // Its first entry is in the store, and its owner has not heard so: nothing of it was told to anybody.
                continue;
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

impl Front {
    pub(super) fn chats(&mut self, cx: &mut Cx, origin: Origin, reader: UserId, chats: Chats) {
        let id = origin.place.conn;
        if self.listings.pages.contains_key(&id) {
            let refusal = cx.overloaded();
            return self.turn_down(cx, origin, refusal);
        }
        let Chats { after, limit, known } = chats;
        let rows = if limit == 0 { CHATS_MAX } else { CHATS_MAX.min(limit as usize) };
        let after = after.map(|peer| LogId::direct(reader.get(), peer.get()));
        self.listings.made += 1;
        let number = self.listings.made;
        let page = Page { number, origin, reader, known, chats: Vec::new(), missing: 0, more: false };
        self.listings.pages.insert(id, Box::new(page));
        cx.tell_user(reader, UserOp::ListLogs(origin, number, after, rows));
    }

    /// Which logs a page is of is known. The connection, or the page, may have gone.
    pub(super) fn logs_came(
        &mut self,
        cx: &mut Cx,
        id: ConnId,
        number: u64,
        logs: Result<LogsPage, Refusal>,
    ) {
        let Some(page) = self.listings.page(id, number) else { return };
        let LogsPage { logs, more } = match logs {
            Ok(logs) => logs,
            Err(refusal) => {
                let origin = page.origin;
                self.listings.forget(id);
                return self.turn_down(cx, origin, refusal);
            }
        };
        let reader = page.reader;
        (page.missing, page.more) = (logs.len(), more);
        page.chats = logs.iter().map(|log| (peer_of(*log, reader), None)).collect();
        let place = cx.place(id);
        for log in logs {
            cx.tell_log(log, LogOp::Glance(Glancer { place, number, reader }));
        }
        self.answer_chats(cx, id, number);
    }

    /// A chat of a page has come. The connection, or the page, may have gone.
    pub(super) fn glance_came(&mut self, cx: &mut Cx, id: ConnId, glance: Box<Glance>) {
        let Glancer { number, reader, .. } = glance.asker;
        let Some(page) = self.listings.page(id, number) else { return };
        let peer = peer_of(glance.log, reader);
        let place = page.chats.binary_search_by_key(&peer, |(peer, _)| *peer);
        let place = place.expect("what was asked for is in the page, and peers rise as their logs' keys do");
        if page.chats[place].1.replace(glance).is_none() {
            page.missing -= 1;
        }
        self.answer_chats(cx, id, number);
    }

    fn answer_chats(&mut self, cx: &mut Cx, id: ConnId, number: u64) {
        if self.listings.page(id, number).is_some_and(|page| page.missing == 0)
            && let Some(page) = self.listings.pages.remove(&id)
        {
            let origin = page.origin;
            self.respond(cx, origin, page.answer());
        }
    }
}
