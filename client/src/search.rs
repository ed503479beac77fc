//! A search in what a profile has kept: also in what only its own devices can read, and without a server. What is kept and found is in
//! [`crate::machine`]'s records.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use tern_search::{BadQuery, Query};
use tern_wire::message::text_of;

use crate::client::Client;
use crate::driver::now_ms;
use crate::error::Error;
use crate::machine::search;
use crate::machine::tables::Moment;
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
}

impl Store {
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
