//! What the screen shows, and how events and keys change it. No terminal here, so that it can be tested without one.

use std::collections::BTreeMap;

use tern_client::{Error, Event, HistoryPage, Message, Person, Sent};

use super::keys::Action;
use crate::shown;

/// Bytes of a message, as the server has it.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// A message on its way.
#[derive(Clone, Debug)]
pub struct Pending {
    number: u64,
    pub text: String,
    /// Why the server did not take it.
    pub failed: Option<String>,
}

/// A chat with one person.
#[derive(Debug)]
pub struct Chat {
    peer: Person,
    pub messages: BTreeMap<u64, Message>,
    /// What the server has no more, by seq and time.
    pub gone: BTreeMap<(u64, u64), Message>,
    pub pending: Vec<Pending>,
    next_number: u64,
    pub delivered_upto: u64,
    pub read_upto: u64,
    /// There are older messages on the server.
    more: bool,
    pub connected: bool,
    pub notice: Option<String>,
    /// What the person must not miss, whatever else happens.
    pub warning: Option<String>,
    /// Messages from others that came meanwhile.
    pub elsewhere: u64,
    seen_upto: u64,
    pub input: String,
    /// A byte of the input, at the edge of a character.
    pub cursor: usize,
    /// Lines below the screen.
    pub scroll: usize,
    /// Lines that a page has, and lines above the screen: as drawn last.
    pub page_lines: usize,
    pub lines_above: usize,
}

impl Chat {
    pub fn new(peer: Person) -> Self {
        Self {
            peer,
            messages: BTreeMap::new(),
            gone: BTreeMap::new(),
            pending: Vec::new(),
            next_number: 0,
            delivered_upto: 0,
            read_upto: 0,
            more: true,
            connected: false,
            notice: None,
            warning: None,
            elsewhere: 0,
            seen_upto: 0,
            input: String::new(),
            cursor: 0,
            scroll: 0,
            page_lines: 1,
            lines_above: 0,
        }
    }

    pub fn peer(&self) -> &Person {
        &self.peer
    }

    /// Whether something of the peer is not known yet.
    pub fn wants_name(&self) -> bool {
        self.peer.name.is_empty() || self.peer.phone.is_empty()
    }

    /// Takes what is known of the peer now.
    pub fn know(&mut self, person: Person) {
        let Person { user_id, name, phone } = person;
        if user_id == self.peer.user_id {
            self.peer.name = if name.is_empty() { std::mem::take(&mut self.peer.name) } else { name };
            self.peer.phone = if phone.is_empty() { std::mem::take(&mut self.peer.phone) } else { phone };
        }
    }

    /// A message that the server has no more.
    pub fn lose(&mut self, message: Message) {
        if self.messages.get(&message.seq) == Some(&message) {
            self.messages.remove(&message.seq);
        }
        self.gone.insert((message.seq, message.time_ms), message);
    }

    /// Whether a page of history should be read: the first one, or when the user is near the oldest message.
    pub fn wants_older(&self) -> bool {
        self.connected && self.more && self.lines_above < self.page_lines
    }

    /// The seq of the oldest message here; 0 without any.
    pub fn oldest(&self) -> u64 {
        self.messages.keys().next().copied().unwrap_or(0)
    }

    /// Takes an event.
    pub fn take(&mut self, event: Event) {
        match event {
            Event::Connected => (self.connected, self.notice) = (true, None),
            Event::CaughtUp => {}
            Event::Disconnected { why, .. } => {
                (self.connected, self.notice) = (false, Some(shown::clean_line(&why)));
            }
            Event::Message(message) if message.peer == self.peer.user_id => self.insert(message),
            Event::Message(message) => self.elsewhere += u64::from(!message.own),
            Event::Receipt { peer, delivered_upto, read_upto, own: false } if peer == self.peer.user_id => {
                (self.delivered_upto, self.read_upto) = (delivered_upto, read_upto);
            }
            Event::Rewound { peer, upto } if peer == self.peer.user_id => {
                self.delivered_upto = self.delivered_upto.min(upto);
                self.read_upto = self.read_upto.min(upto);
                self.seen_upto = self.seen_upto.min(upto);
                self.notice = Some("the server went back to an older state".to_owned());
            }
            Event::Gone(message) if message.peer == self.peer.user_id => self.lose(message),
            Event::NotSent { peer, reason, body, .. } if peer == self.peer.user_id => {
                let text = String::from_utf8_lossy(&body).into_owned();
                let failed = Some(reason.as_str_name().to_owned());
                self.pending.push(Pending { number: self.next_number, text, failed });
                self.next_number += 1;
            }
            Event::Delayed { peer, reason, retry_in } if peer == self.peer.user_id => {
                self.notice = Some(shown::delayed(reason, retry_in));
            }
            Event::PersonChanged(person) if person.user_id == self.peer.user_id => {
                if person.name.is_empty() && person.phone.is_empty() {
                    self.notice = Some("this person has no account any more".to_owned());
                }
                self.know(person);
            }
            Event::DeviceAdded { device_id, device_name, .. } => {
                self.warning = Some(shown::device_added(device_id, &device_name));
            }
            Event::Receipt { .. }
            | Event::Rewound { .. }
            | Event::Gone(_)
            | Event::NotSent { .. }
            | Event::Delayed { .. }
            | Event::PersonChanged(_)
            | Event::SessionEnded(_)
            | Event::OtherStore => {}
        }
    }

    fn insert(&mut self, message: Message) {
        if self.gone.get(&(message.seq, message.time_ms)) == Some(&message) {
            self.gone.remove(&(message.seq, message.time_ms));
        }
        self.messages.insert(message.seq, message);
    }

    fn marks(&mut self, delivered_upto: u64, read_upto: u64) {
        self.delivered_upto = self.delivered_upto.max(delivered_upto);
        self.read_upto = self.read_upto.max(read_upto);
    }

    /// What the user has seen since this was asked last, if the newest of it is from the peer.
    pub fn newly_seen(&mut self) -> Option<u64> {
        let newest = self.messages.values().rev().find(|message| !message.own)?.seq;
        (newest > self.seen_upto).then(|| self.seen_upto = newest)?;
        Some(newest)
    }

    /// Takes a page of history.
    pub fn page(&mut self, page: Result<HistoryPage, Error>) {
        match page {
            Ok(page) => {
                self.more = page.more;
                self.marks(page.delivered_upto, page.read_upto);
                for message in page.messages {
                    self.insert(message);
                }
            }
            // The connection says it, and asks again when it is back.
            Err(Error::Connection(_)) => {}
            Err(error) => {
                self.more = false;
                self.notice = Some(shown::clean_line(&error.to_string()));
            }
        }
    }

    /// Takes what has been typed, to send it.
    pub fn send(&mut self) -> Option<(u64, String)> {
        if self.input.trim().is_empty() {
            return None;
        }
        if self.input.len() > TEXT_BYTES_MAX {
            self.notice = Some(format!("too long: {} bytes of at most {TEXT_BYTES_MAX}", self.input.len()));
            return None;
        }
        let text = std::mem::take(&mut self.input);
        (self.cursor, self.scroll) = (0, 0);
        let number = self.next_number;
        self.next_number += 1;
        self.pending.push(Pending { number, text: text.clone(), failed: None });
        Some((number, text))
    }

    /// The server has acknowledged a message, or refused it.
    pub fn sent(&mut self, number: u64, result: Result<Sent, Error>) {
        let Some(at) = self.pending.iter().position(|pending| pending.number == number) else { return };
        match result {
            // The message itself comes as an event.
            Ok(_) => drop(self.pending.remove(at)),
            Err(error) => self.pending[at].failed = Some(shown::clean_line(&error.to_string())),
        }
    }

    /// Changes the input, or what part of the chat is shown.
    pub fn edit(&mut self, action: Action) {
        let (before, after) = self.input.split_at(self.cursor);
        let previous = before.chars().next_back().map_or(0, char::len_utf8);
        let next = after.chars().next().map_or(0, char::len_utf8);
        match action {
            Action::Insert(text) => {
                let text: String = text.chars().filter(|c| *c == '\n' || !c.is_control()).collect();
                self.input.insert_str(self.cursor, &text);
                self.cursor += text.len();
            }
            Action::Backspace => {
                self.cursor -= previous;
                self.input.drain(self.cursor..self.cursor + previous);
            }
            Action::Delete => drop(self.input.drain(self.cursor..self.cursor + next)),
            Action::Left => self.cursor -= previous,
            Action::Right => self.cursor += next,
            Action::Home => self.cursor = 0,
            Action::End => self.cursor = self.input.len(),
            Action::Clear => drop(self.input.drain(..std::mem::take(&mut self.cursor))),
            Action::Scroll(lines) => self.scroll_by(lines as isize),
            Action::ScrollPages(pages) => {
                self.scroll_by(pages as isize * self.page_lines.saturating_sub(1).max(1) as isize);
            }
            Action::Send | Action::Leave | Action::Nothing => {}
        }
    }

    fn scroll_by(&mut self, lines: isize) {
        let highest = self.scroll + self.lines_above;
        self.scroll = self.scroll.saturating_add_signed(lines).min(highest);
    }
}
