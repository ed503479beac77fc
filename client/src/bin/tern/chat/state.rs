//! What the screen shows, and how events and keys change it. No terminal here, so that it can be tested without one.

use std::collections::{BTreeMap, BTreeSet};

use tern_client::{
    Doing, Error, Event, Hidden, HistoryPage, Kind, Message, NewMessage, PRIVATE, Person, Private, Progress,
    Sent, is_group,
};

use super::about::{self, Writing};
use super::dropped::Offer;
use super::input::Input;
use super::keys::Action;
use super::pictures::Album;
use crate::shown::{self, TEXT_BYTES_MAX};

/// A message on its way.
#[derive(Clone, Debug)]
pub struct Pending {
    pub(super) number: u64,
    pub text: String,
    /// Why the server did not take it.
    pub failed: Option<String>,
}

/// A search in what is loaded.
#[derive(Debug, Default)]
pub struct Search {
    pub text: Input,
    /// The message that was found.
    pub at: Option<u64>,
}

/// What the profile has kept of a chat beside its messages.
pub struct Kept {
    /// What the server has no more.
    pub gone: Vec<Message>,
    /// What was being written.
    pub draft: String,
    /// The same, as one's own devices know it.
    pub told: String,
    /// What is deleted for oneself.
    pub hidden: Hidden,
}

/// A chat with one person, or a group.
#[derive(Debug)]
pub struct Chat {
    /// With whom; of a group its number, and what it is called.
    peer: Person,
    /// What people of a group are called, as far as that is known.
    people: BTreeMap<u64, String>,
    pub messages: BTreeMap<u64, Message>,
    /// What the server has no more, by seq and time.
    pub gone: BTreeMap<(u64, u64), Message>,
    pub pending: Vec<Pending>,
    pub(super) next_number: u64,
    pub delivered_upto: u64,
    pub read_upto: u64,
    /// There are older messages on the server.
    more: bool,
    pub connected: bool,
    pub notice: Option<String>,
    /// What the person must not miss, whatever else happens.
    pub warning: Option<String>,
    /// Whether the peer is here, and when it was, as far as it lets one know.
    pub presence: (Option<bool>, u64),
    /// Who does something just now, and until when that holds if nothing more is heard, in ms since the Unix epoch.
    pub acting: BTreeMap<u64, (Doing, u64)>,
    /// What came from others meanwhile.
    pub elsewhere: String,
    pub search: Option<Search>,
    /// What is deleted for oneself.
    pub hidden: Hidden,
    /// What is about which message: its seq, and its own.
    pub(super) about: BTreeSet<(u64, u64)>,
    /// The message that something is to be done to.
    pub marked: Option<u64>,
    /// It is to be deleted, if that is meant.
    pub(super) confirming: bool,
    pub(super) writing: Writing,
    /// What was being written when something about a message began to be.
    pub(super) put_aside: String,
    /// A file that what is written names.
    pub offer: Offer,
    /// Files that are being uploaded, by the number of what is pending.
    pub(super) uploads: BTreeMap<u64, Progress>,
    pub pictures: Album,
    /// The first and the last message on the screen, as drawn last.
    pub in_view: (u64, u64),
    /// The message that is to be on the screen.
    pub jump: Option<u64>,
    seen_upto: u64,
    pub input: Input,
    /// The draft as the profile keeps it, and as one's own devices know it.
    kept: String,
    told: String,
    /// Lines below the screen.
    pub scroll: usize,
    /// Lines that a page has, lines above the screen, and all of them: as drawn last.
    pub page_lines: usize,
    pub lines_above: usize,
    pub lines: usize,
    /// Something was added or taken below the screen since: what is read stays where it is.
    pub(super) grown: bool,
    /// The newest of the peer's messages that was on the screen as a whole.
    pub shown_upto: u64,
}

impl Chat {
    pub fn new(peer: Person) -> Self {
        Self {
            peer,
            people: BTreeMap::new(),
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
            presence: (None, 0),
            acting: BTreeMap::new(),
            elsewhere: String::new(),
            search: None,
            hidden: Hidden::default(),
            about: BTreeSet::new(),
            marked: None,
            confirming: false,
            writing: Writing::New,
            put_aside: String::new(),
            offer: Offer::default(),
            uploads: BTreeMap::new(),
            pictures: Album::default(),
            in_view: (0, 0),
            jump: None,
            seen_upto: 0,
            input: Input::default(),
            kept: String::new(),
            told: String::new(),
            scroll: 0,
            page_lines: 1,
            lines_above: 0,
            lines: 0,
            grown: false,
            shown_upto: 0,
        }
    }

    pub fn peer(&self) -> &Person {
        &self.peer
    }

    /// Whether something of the peer is not known yet.
    pub fn wants_name(&self) -> bool {
        self.peer.name.is_empty() || (self.peer.phone.is_empty() && !self.is_group())
    }

    pub fn is_group(&self) -> bool {
        is_group(self.peer.user_id)
    }

    /// Whose names are wanted: of those who have written in a group, or were named in a change, and are not known.
    pub fn strangers(&self) -> Vec<u64> {
        if !self.is_group() {
            return Vec::new();
        }
        let mut named: Vec<_> = self.messages.values().flat_map(shown::people_of).collect();
        named.sort_unstable();
        named.dedup();
        named.retain(|user| !self.people.contains_key(user));
        named
    }

    /// Takes what somebody of a group is called; nothing, if nobody tells.
    pub fn meet(&mut self, user: u64, name: String) {
        self.people.insert(user, name);
    }

    /// What somebody of a group is called.
    pub fn name_of(&self, user: u64) -> String {
        match self.people.get(&user) {
            Some(name) if !name.is_empty() => name.clone(),
            _ => format!("@{user}"),
        }
    }

    /// Takes what is known of the peer now.
    pub fn know(&mut self, person: Person) {
        let Person { user_id, name, phone, .. } = person;
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
            Event::Connected => {
                (self.connected, self.notice) = (true, None);
                self.pictures.try_again();
            }
            Event::CaughtUp => {}
            Event::Disconnected { why, .. } => {
                (self.connected, self.notice) = (false, Some(shown::clean_line(&why)));
                (self.presence, self.acting) = ((None, 0), BTreeMap::new());
            }
            Event::Message(message) if message.chat == self.peer.user_id => {
                // Who has said it, does not write it any more.
                self.acting.remove(&message.sender);
                self.insert(message);
            }
            Event::Presence { user_id, online, last_seen_ms } if user_id == self.peer.user_id => {
                self.presence = (online, last_seen_ms);
            }
            Event::Activity { chat, sender, doing } if chat == self.peer.user_id => self.acts(sender, doing),
            Event::Message(message) if message.chat == PRIVATE => self.hear_own(&message),
            Event::Receipt { chat, delivered_upto, read_upto, own: false } if chat == self.peer.user_id => {
                (self.delivered_upto, self.read_upto) = (delivered_upto, read_upto);
            }
            Event::Rewound { chat, upto } if chat == self.peer.user_id => self.rewind(upto),
            Event::Gone(message) if message.chat == self.peer.user_id => self.lose(message),
            Event::NotSent { chat, reason, body, .. } if chat == self.peer.user_id => {
                let text = String::from_utf8_lossy(&body).into_owned();
                let failed = Some(reason.name().to_owned());
                self.pending.push(Pending { number: self.next_number, text, failed });
                self.grown = true;
                self.next_number += 1;
            }
            Event::Delayed { chat, reason, retry_in } if chat == self.peer.user_id => {
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
            Event::Ring { device_id, device_name } => {
                self.warning = Some(shown::rings(device_id, &device_name));
            }
            Event::Message(_)
            | Event::Receipt { .. }
            | Event::Rewound { .. }
            | Event::Gone(_)
            | Event::NotSent { .. }
            | Event::Delayed { .. }
            | Event::PersonChanged(_)
            | Event::Presence { .. }
            | Event::Activity { .. }
            | Event::Story(_)
            | Event::SessionEnded(_)
            | Event::OtherStore => {}
        }
    }

    /// Somebody does something in this chat, for a while.
    fn acts(&mut self, sender: u64, doing: Doing) {
        if doing == Doing::Nothing {
            self.acting.remove(&sender);
        } else {
            let until_ms = crate::private::now_ms() + shown::ACTIVITY_MS;
            self.acting.insert(sender, (doing, until_ms));
        }
    }

    /// The server went back to where this message was the newest.
    fn rewind(&mut self, upto: u64) {
        self.delivered_upto = self.delivered_upto.min(upto);
        self.read_upto = self.read_upto.min(upto);
        self.seen_upto = self.seen_upto.min(upto);
        self.shown_upto = self.shown_upto.min(upto);
        // What it still has comes again.
        for message in self.messages.split_off(&(upto + 1)).into_values() {
            self.gone.insert((message.seq, message.time_ms), message);
        }
        self.notice = Some("the server went back to an older state".to_owned());
    }

    /// Takes what another device of one's own has said of this chat.
    fn hear_own(&mut self, message: &Message) {
        match message.private() {
            Some(Private::Hidden(chat, seqs, upto)) if chat == self.peer.user_id => {
                self.hidden.add(seqs, upto);
            }
            Some(Private::Draft(chat, text, _)) if chat == self.peer.user_id => {
                self.hear_draft(String::from_utf8_lossy(&text).into_owned());
            }
            _ => {}
        }
    }

    /// What is told of the peer, or of who does something in a group.
    pub fn presence_text(&self) -> String {
        let doing = |(sender, (doing, _)): (&u64, &(Doing, u64))| {
            let what = if *doing == Doing::Recording { "recording" } else { "typing" };
            if self.is_group() {
                format!("{} is {what}…", self.name_of(*sender))
            } else {
                format!("{what}…")
            }
        };
        let acting: Vec<_> = self.acting.iter().take(3).map(doing).collect();
        match self.presence {
            _ if !acting.is_empty() => acting.join(", "),
            (Some(true), _) => "online".to_owned(),
            (_, last_seen_ms) if last_seen_ms > 0 => format!("last seen {}", shown::time_of(last_seen_ms)),
            _ => String::new(),
        }
    }

    /// Takes from the screen what has ended by now. Gives when the next message ends, in ms since the Unix epoch.
    pub fn end(&mut self, now_ms: u64) -> Option<u64> {
        self.acting.retain(|_, (_, until_ms)| *until_ms > now_ms);
        self.messages.retain(|_, message| !message.is_over(now_ms));
        self.gone.retain(|_, message| !message.is_over(now_ms));
        if self.marked.is_some_and(|marked| !self.messages.contains_key(&marked)) {
            self.marked = None;
        }
        let ends = self.messages.values().map(|message| message.expires_ms);
        let ends = ends.chain(self.acting.values().map(|(_, until_ms)| *until_ms));
        ends.filter(|expires_ms| *expires_ms > 0).min()
    }

    fn insert(&mut self, message: Message) {
        let is_newest = self.messages.last_key_value().is_none_or(|(newest, _)| message.seq > *newest);
        self.grown |= is_newest;
        if is_newest && let Some(name) = shown::group_name(&message) {
            self.peer.name = name;
        }
        if self.gone.get(&(message.seq, message.time_ms)) == Some(&message) {
            self.gone.remove(&(message.seq, message.time_ms));
        }
        self.index(&message);
        self.messages.insert(message.seq, message);
    }

    fn marks(&mut self, delivered_upto: u64, read_upto: u64) {
        self.delivered_upto = self.delivered_upto.max(delivered_upto);
        self.read_upto = self.read_upto.max(read_upto);
    }

    /// What of the peer's messages has been on the screen since this was asked last.
    pub fn newly_seen(&mut self) -> Option<u64> {
        (self.shown_upto > self.seen_upto).then(|| {
            self.seen_upto = self.shown_upto;
            self.seen_upto
        })
    }

    /// The peer's messages that lie below the screen, and were never on it.
    pub fn unseen(&self) -> usize {
        let below = self.messages.range(self.seen_upto.max(self.shown_upto) + 1..);
        let is_new =
            |message: &Message| !message.own && (message.kind.is_message() || message.kind == Kind::Group);
        if self.scroll == 0 { 0 } else { below.filter(|(_, message)| is_new(message)).count() }
    }

    /// So many lines there are now. What was on the screen stays there, though lines have come below it.
    pub fn keep_in_place(&mut self, lines: usize) {
        if std::mem::take(&mut self.grown) && self.scroll > 0 {
            self.scroll = self.scroll.saturating_add_signed(lines as isize - self.lines as isize).max(1);
        }
        self.lines = lines;
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
    pub fn send(&mut self) -> Option<(u64, NewMessage)> {
        if self.input.text().trim().is_empty() {
            return None;
        }
        let bytes = self.input.text().len();
        if bytes > TEXT_BYTES_MAX {
            self.notice = Some(format!("too long: {bytes} bytes of at most {TEXT_BYTES_MAX}"));
            return None;
        }
        let text = self.input.take();
        self.scroll = 0;
        let number = self.pend(text.clone());
        Some((number, self.written(text)))
    }

    /// The server has acknowledged a message, or refused it.
    pub fn sent(&mut self, number: u64, result: Result<Sent, Error>) {
        let Some(at) = self.pending.iter().position(|pending| pending.number == number) else { return };
        self.grown = true;
        match result {
            // The message itself comes as an event.
            Ok(_) => drop(self.pending.remove(at)),
            Err(error) => self.pending[at].failed = Some(shown::clean_line(&error.to_string())),
        }
    }

    /// Does what a key means while something is searched for. `false` if it means nothing there.
    pub fn edit_search(&mut self, action: &Action) -> bool {
        let Some(search) = &mut self.search else { return false };
        match action {
            Action::Leave | Action::Send => self.search = None,
            Action::Search | Action::Up => self.find(false, false),
            Action::SearchDown | Action::Down => self.find(true, false),
            Action::ScrollPages(_) | Action::Scroll(_) | Action::ToNewest => return false,
            Action::Insert(text) if text.contains('\n') => {}
            action => {
                if search.text.edit(action) {
                    // What was found may still be it.
                    self.find(false, true);
                }
            }
        }
        true
    }

    /// Takes what the profile has kept.
    pub fn take_kept(&mut self, kept: Kept) {
        kept.gone.into_iter().for_each(|message| self.lose(message));
        self.told.clone_from(&kept.told);
        self.begin_with(if kept.draft.is_empty() { kept.told } else { kept.draft });
        self.hidden = kept.hidden;
    }

    /// Begins with what was being written when the chat was left, unless something is written already.
    pub fn begin_with(&mut self, draft: String) {
        if self.input.text().is_empty() {
            self.kept.clone_from(&draft);
            self.input.set(draft);
        }
    }

    /// What is being written, if it is not kept so.
    pub fn draft_to_keep(&mut self) -> Option<String> {
        let text = self.input.text();
        (self.kept != text).then(|| {
            self.kept = text.to_owned();
            self.kept.clone()
        })
    }

    /// What is being written, if one's own devices know it otherwise: they are told.
    pub fn draft_to_tell(&mut self) -> Option<String> {
        let text = self.input.text();
        (self.told != text).then(|| {
            self.told = text.to_owned();
            self.told.clone()
        })
    }

    /// Another device of one's own goes on with what is being written, unless it is written here.
    fn hear_draft(&mut self, draft: String) {
        if self.input.text() == self.told {
            self.input.set(draft.clone());
        }
        self.told = draft;
    }

    /// Begins to search.
    pub fn begin_search(&mut self) {
        self.search = Some(Search::default());
    }

    /// Looks for the text in the messages before what was found, or behind it; with what was found if `here`.
    fn find(&mut self, down: bool, here: bool) {
        let Some(search) = &self.search else { return };
        let wanted = search.text.text().to_lowercase();
        let is_it = |message: &Message| {
            let standing = self.standing(message.seq);
            standing.is_some_and(|standing| about::text_of(&standing).to_lowercase().contains(&wanted))
        };
        let at = search.at.filter(|_| !wanted.is_empty());
        let before = |seq: &u64| at.is_none_or(|at| *seq < at || (here && *seq == at));
        let found = match down {
            _ if wanted.is_empty() => None,
            false => self.messages.iter().rev().find(|(seq, message)| before(seq) && is_it(message)),
            true => {
                self.messages.iter().find(|(seq, message)| at.is_none_or(|at| **seq > at) && is_it(message))
            }
        };
        let at = match found.map(|(seq, _)| *seq) {
            Some(seq) => {
                self.jump = Some(seq);
                Some(seq)
            }
            None if here => None,
            // It stays where it is: there is no other.
            None => at,
        };
        self.search.iter_mut().for_each(|search| search.at = at);
    }

    /// Changes the input, or what part of the chat is shown.
    pub fn edit(&mut self, action: &Action) {
        if self.input.edit(action) {
            return;
        }
        match action {
            Action::Up => self.scroll_by(1),
            Action::Down => self.scroll_by(-1),
            Action::Scroll(lines) => self.scroll_by(*lines as isize),
            Action::ScrollPages(pages) => {
                self.scroll_by(*pages as isize * self.page_lines.saturating_sub(1).max(1) as isize);
            }
            Action::ToNewest => self.scroll = 0,
            _ => {}
        }
    }

    fn scroll_by(&mut self, lines: isize) {
        let highest = self.scroll + self.lines_above;
        self.scroll = self.scroll.saturating_add_signed(lines).min(highest);
    }
}
