//! The list of a user's chats, by pages: the user's owner says which logs it has, each log's owner gives it at a
//! glance, the peer's owner adds who that is, and when all have come the page is answered.
//!
//! A connection has one page under way at a time, so what it can have loaded at once is bounded.

use prost::Message as _;
use tern_proto::v1;
use tern_storage::records::ChatSettingsRecord;
use tern_wire::errors::{Reason, Refusal};
use tern_wire::ids::{ChatId, Seq, UserId};
use tern_wire::limits::{CHATS_MAX, NUMBERS_END, PAGE_BYTES_MAX};
use tern_wire::request::Chats;
use xxhash_rust::xxh3::xxh3_64;

use super::asking::Ask;
use super::conns::Waiter;
use super::{Cx, Front};
use crate::asks::AskId;
use crate::entry::{Author, chat_of, log_of};
use crate::maps::{Hashing, Map};
use crate::message::{Glance, GlanceFor, Glancer, LogsPage, Unreadable};
use crate::reply::{ConnId, Reply};

const UNREADABLE: Refusal = Refusal::for_now(Reason::Unavailable, 1000, "the list of chats can't be read");

/// The pages under way, by their connections.
#[derive(Debug)]
pub(super) struct Listings {
    pages: Map<ConnId, Box<Page>>,
}

#[derive(Debug)]
struct Page {
    waiter: Waiter,
    reader: Author,
    /// The versions that the client knows, by the chats' numbers, rising.
    known: Vec<(u64, u64)>,
    /// The chats of the page, rising, as far as they have come.
    chats: Vec<(ChatId, Option<ChatSettingsRecord>, Option<Box<Glance>>)>,
    missing: usize,
    /// There are chats behind these.
    more: bool,
}

impl Listings {
    pub(super) fn new(hashing: Hashing) -> Self {
        Self { pages: Map::with_hasher(hashing) }
    }

    /// The connection has gone.
    pub(super) fn forget(&mut self, conn: ConnId) {
        self.pages.remove(&conn);
    }

    /// The page that a connection waits for. It ends with what was asked for it, or with the connection.
    fn page(&mut self, conn: ConnId) -> &mut Page {
        self.pages.get_mut(&conn).expect("what is asked for a page is answered before the page ends")
    }
}

impl Page {
    /// The answer, when all have come.
    fn answer(self) -> Reply {
        let mut page = v1::ChatsPage::default();
        let mut bytes = 0;
        let last = self.chats.last().filter(|_| self.more).map_or(0, |(chat, ..)| chat.get());
        let mut chats = self.chats.into_iter().peekable();
        while let Some((id, settings, glance)) = chats.next() {
            let glance = glance.expect("all have come");
            if glance.failed == Some(Unreadable::ForNow) {
                return Reply::Refused(UNREADABLE);
            }
            if glance.failed.is_none() && glance.head == Seq(0) {
                // Its first entry is in the store, and its owner has not heard so: nothing of it was told to anybody.
                continue;
            }
            let chat = shown(self.reader.user, *glance, settings);
            let known = self.known.binary_search_by_key(&id.get(), |(known, _)| *known);
            if known.is_ok_and(|place| self.known[place].1 == chat.version) {
                continue;
            }
            bytes += chat.last.as_ref().map_or(0, |last| last.body.len());
            page.chats.push(chat);
            if bytes >= PAGE_BYTES_MAX && chats.peek().is_some() {
                page.next = id.get();
                return Reply::ChatsPage(page);
            }
        }
        page.next = last;
        Reply::ChatsPage(page)
    }
}

fn shown(reader: UserId, glance: Glance, settings: Option<ChatSettingsRecord>) -> v1::Chat {
    let id = chat_of(glance.log, reader).get();
    if glance.failed.is_some() {
        return v1::Chat { id, unavailable: true, ..Default::default() };
    }
    let mut chat = v1::Chat {
        id,
        name: glance.name,
        phone: glance.phone,
        head: glance.head.0,
        unread: glance.unread,
        last: glance.last.map(|entry| entry.view(reader, true)),
        delivered_upto: glance.others.delivered.0,
        read_upto: glance.others.read.0,
        own_read_upto: glance.own.read.0,
        version: 0,
        unavailable: false,
        left: glance.left,
        settings: settings.map(settings_of),
        timer_ms: glance.timer_ms,
    };
    // Never 0, which stands for no version.
    chat.version = xxh3_64(&chat.encode_to_vec()) % (NUMBERS_END - 1) + 1;
    chat
}

fn settings_of(record: ChatSettingsRecord) -> v1::ChatSettings {
    let ChatSettingsRecord { archived, muted_until_ms, marked_unread, on_top, notify } = record;
    v1::ChatSettings { chat: 0, archived, muted_until_ms, marked_unread, on_top, notify }
}

impl Front {
    pub(super) fn chats(&mut self, cx: &mut Cx, waiter: Waiter, reader: Author, chats: Chats) {
        let id = waiter.conn;
        if self.listings.pages.contains_key(&id) {
            let refusal = cx.overloaded();
            return self.turn_down(cx, waiter, refusal);
        }
        let Chats { after, limit, known } = chats;
        let rows = if limit == 0 { CHATS_MAX } else { CHATS_MAX.min(limit as usize) };
        let after = after.map(|chat| log_of(reader.user, chat));
        let page = Page { waiter, reader, known, chats: Vec::new(), missing: 0, more: false };
        self.listings.pages.insert(id, Box::new(page));
        self.ask_for(cx, id, reader, Ask::Logs(after, rows));
    }

    /// Which logs a page is of is known. The connection may have gone.
    pub(super) fn logs_came(&mut self, cx: &mut Cx, id: ConnId, ask: AskId, logs: Result<LogsPage, Refusal>) {
        let asked = self.asked(id, ask);
        let Some(asked) = asked.filter(|_| self.conns.get(id).is_some()) else { return };
        if asked.is_for_search() {
            return self.searched_logs_came(cx, id, logs);
        }
        let page = self.listings.page(id);
        let LogsPage { logs, more } = match logs {
            Ok(logs) => logs,
            Err(refusal) => {
                let waiter = page.waiter;
                self.listings.forget(id);
                return self.turn_down(cx, waiter, refusal);
            }
        };
        let reader = page.reader;
        (page.missing, page.more) = (logs.len(), more);
        page.chats =
            logs.iter().map(|(log, settings)| (chat_of(*log, reader.user), *settings, None)).collect();
        for (log, _) in logs {
            self.ask_for(cx, id, reader, Ask::Glance(log));
        }
        self.answer_chats(cx, id);
    }

    /// A chat of a page has come. The connection may have gone.
    pub(super) fn glance_came(&mut self, cx: &mut Cx, id: ConnId, glance: Box<Glance>) {
        let Glancer { asker: GlanceFor::List(origin), reader } = glance.asker else { return };
        if self.asked(id, origin.ask).is_none() || self.conns.get(id).is_none() {
            return;
        }
        let page = self.listings.page(id);
        let chat = chat_of(glance.log, reader);
        let place = page.chats.binary_search_by_key(&chat, |(chat, ..)| *chat);
        let place = place.expect("what was asked for is in the page, and chats rise as their logs' keys do");
        page.chats[place].2 = Some(glance);
        page.missing -= 1;
        self.answer_chats(cx, id);
    }

    fn answer_chats(&mut self, cx: &mut Cx, id: ConnId) {
        if self.listings.page(id).missing == 0
            && let Some(page) = self.listings.pages.remove(&id)
        {
            let waiter = page.waiter;
            self.respond(cx, waiter, page.answer());
        }
    }
}
