//! A search in what a profile has kept: also in what only its own devices can read, and without a server. What is kept and found is in
//! [`crate::machine`]'s records.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use tern_proto::v1::{self, client_frame, server_frame};
use tern_search::{BadQuery, Query};
use tern_wire::message::text_of;

use crate::account::WRONG_KIND;
use crate::client::Client;
use crate::driver::now_ms;
use crate::error::Error;
use crate::machine::search;
use crate::machine::tables::{Moment, Tables};
use crate::message::Message;
use crate::store::Store;

/// Messages of a page. More are not found at once.
const PAGE_MAX: u32 = 1000;

/// A page of messages that were found.
#[derive(Clone, PartialEq, Debug)]
pub struct Found {
    /// As they read now, the newest first.
    pub messages: Vec<Message>,
    /// There are more, before the last of these.
    pub more: bool,
}

/// A page of messages that only the server has.
#[derive(Clone, PartialEq, Debug)]
pub struct FoundOnServer {
    /// As they read now, the newest first. A page may have none, and others behind it.
    pub messages: Vec<Message>,
    /// From where the next page goes on: time in ms since the Unix epoch, chat, seq. `None`: this is the last one.
    pub next: Option<(u64, u64, u64)>,
}

impl From<BadQuery> for Error {
    fn from(bad: BadQuery) -> Self {
        Self::Config(format!("this can't be searched for: {bad}"))
    }
}

impl Message {
    /// What it says in words, by which it is found: a text, a caption, the name of a place or person, a poll's question. `None` if it
    /// is nothing of that, or encrypted, or erased.
    pub fn text(&self) -> Option<String> {
        if self.erased { None } else { text_of(self.kind.number(), &self.body) }
    }
}

impl Client {
    /// Finds messages that this profile has received, by what they say now, in one chat or in all: those that have all words of a query,
    /// the last of which may go on, unless a space follows it. Case and marks above letters make no difference. What is hidden for
    /// oneself is left out. The newest `limit` (1 to 1,000) that are before a moment (time in ms since the Unix epoch, chat, seq), which
    /// of a next page is that of the last message of the one before. [`Error::Config`] says what is wrong with a query: a word with fewer
    /// than two characters.
    pub async fn search_kept(
        &self,
        query: &str,
        chat: Option<u64>,
        before: Option<(u64, u64, u64)>,
        limit: u32,
    ) -> Result<Found, Error> {
        let query = Query::parse(query)?;
        self.local(move |store| store.search(&query, chat, before, limit, now_ms())).await
    }

    /// Finds messages that the server has and this profile has not: what was said before this device was added, or in a group of which
    /// it reads back. By the same words as [`Client::search_kept`], and without what is hidden for oneself; a page of at most `limit`
    /// (0: as many as the server gives) from `after` on. What only devices can read the server does not find. A server that does not
    /// search refuses: `UNIMPLEMENTED`.
    pub async fn search_server(
        &self,
        query: &str,
        chat: Option<u64>,
        after: Option<(u64, u64, u64)>,
        limit: u32,
    ) -> Result<FoundOnServer, Error> {
        Query::parse(query)?;
        let after = after.map(|(time_ms, chat, seq)| v1::FoundUpTo { time_ms, chat, seq });
        let search = v1::Search { query: query.to_owned(), chat: chat.unwrap_or_default(), after, limit };
        // The server has one of a connection under way at a time.
        let turn = self.searching.lock().await;
        let asked = self.ask(client_frame::Request::Search(search)).await?;
        drop(turn);
        let server_frame::Message::Found(v1::Found { hits, next }) = asked else { return Err(WRONG_KIND) };
        let me = self.account().user_id;
        let found: Vec<Message> = hits.into_iter().filter_map(|hit| message_of(hit, me)).collect();
        let messages = self.local(move |store| store.without_kept(found)).await?;
        let next = next.map(|v1::FoundUpTo { time_ms, chat, seq }| (time_ms, chat, seq));
        Ok(FoundOnServer { messages, next })
    }
}

/// A message that was found, as it reads now.
fn message_of(hit: v1::Hit, me: u64) -> Option<Message> {
    let entry = hit.message?;
    let mut message = Message::of_page(entry.chat, entry, me);
    if let Some(edit) = hit.edit {
        (message.body, message.edited_by) = (edit.body.into(), edit.seq);
    }
    Some(message)
}

impl Store {
    /// Those that the profile does not have, and that are not hidden for oneself.
    fn without_kept(&self, found: Vec<Message>) -> Result<Vec<Message>, Error> {
        let mut messages = Vec::with_capacity(found.len());
        for message in found {
            let is_kept = Tables::entry(self, message.chat, message.seq)?.is_some();
            if !is_kept && !self.hidden(message.chat)?.has(message.seq) {
                messages.push(message);
            }
        }
        Ok(messages)
    }

    fn search(
        &self,
        query: &Query,
        chat: Option<u64>,
        before: Option<Moment>,
        limit: u32,
        now_ms: u64,
    ) -> Result<Found, Error> {
        let me = self.account()?.map_or(0, |account| account.user_id);
        let limit = limit.clamp(1, PAGE_MAX) as usize;
        let mut hidden = BTreeMap::new();
        let (found, more) = search(self, query, chat, before, limit, |chat, message| {
            let is_over = message.expires_ms > 0 && message.expires_ms <= now_ms;
            if let Entry::Vacant(vacant) = hidden.entry(chat) {
                vacant.insert(self.hidden(chat)?);
            }
            Ok(!is_over && !hidden[&chat].has(message.seq))
        })?;
        let messages = found.into_iter().map(|(chat, message)| message.into_message(chat, me)).collect();
        Ok(Found { messages, more })
    }
}
