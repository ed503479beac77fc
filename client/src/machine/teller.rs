//! What the application is told, and when: as much as it takes, in an order that makes sense to it.
//!
//! Messages are told out of the store, after they have been stored, so a slow application costs no memory and no event is
//! lost with the process. Of things of which only the newest counts (watermarks, a person's name) one is kept.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::io::{Action, Progress};
use super::limits::{EVENTS_WAITING_FEW, EVENTS_WAITING_MAX};
use super::records::Records;
use super::rows::Person;
use super::tables::{Tables, Which};
use crate::error::Error;
use crate::event::{Event, Status};
use crate::message::Message;

/// Something that was told, and is noted when the application has dealt with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum What {
    /// A message. At that place there may stand another one by then.
    Message { chat: u64, seq: u64, time_ms: u64 },
    /// The record of a message that is gone.
    Gone { id: u64 },
}

/// What the application has dealt with, and is not stored.
#[derive(Debug)]
pub(crate) struct DealtWith {
    /// It is all up to this number.
    pub(crate) upto: u64,
    /// Chats, up to a seq.
    pub(crate) messages: Vec<(u64, u64)>,
    /// Messages apart from those, because a chat was put back: chat, seq and time.
    pub(crate) seen: Vec<(u64, u64, u64)>,
    /// The record of what is gone, up to an id; 0: none.
    pub(crate) gone: u64,
}

/// Everything that was missing has come from the server; the application is told so when it has been told all of it.
#[derive(Debug)]
enum CaughtUp {
    /// Which chats have more than was told is not looked up yet.
    JustNow,
    /// What is untold of these chats, up to a seq, comes first.
    After(BTreeMap<u64, u64>),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Teller {
    /// Whether messages and receipts are told.
    receive: bool,
    /// How many events were told.
    events: u64,
    progress: Progress,
    /// What was told and is not dealt with, in the order of its numbers. No more than are not taken, and what the
    /// application holds.
    undone: VecDeque<(u64, What)>,
    last_number: u64,
    /// Up to which seq a chat was told. Absent: as the store has it.
    told: BTreeMap<u64, u64>,
    /// Chats that were put back in this run.
    put_back: BTreeSet<u64>,
    /// Chats that have more than was told.
    behind: BTreeSet<u64>,
    /// Chats of which it is not told yet that they were put back, and to where.
    rewound: BTreeMap<u64, u64>,
    /// Watermarks that have moved: (chat, one's own).
    marks: BTreeSet<(u64, bool)>,
    people: BTreeMap<u64, Person>,
    /// The newest record of what is gone that was told; `None` when there is nothing more.
    gone: Option<u64>,
    gone_told: u64,
    caught_up: Option<CaughtUp>,
}

impl Teller {
    pub(crate) fn new<S: Tables>(receive: bool, records: &Records<S>) -> Result<Self, Error> {
        let behind = records.logs(Which::Untold)?.into_iter().map(|log| log.chat).collect();
        Ok(Self {
            receive,
            events: 0,
            progress: Progress::default(),
            undone: VecDeque::new(),
            last_number: 0,
            told: BTreeMap::new(),
            put_back: BTreeSet::new(),
            behind,
            rewound: BTreeMap::new(),
            marks: BTreeSet::new(),
            people: BTreeMap::new(),
            gone: Some(0),
            gone_told: 0,
            caught_up: None,
        })
    }

    /// Tells something at once.
    pub(crate) fn tell(&mut self, event: Event, out: &mut Vec<Action>) {
        let status = match &event {
            Event::Connected => Some(Status::Connected),
            Event::Disconnected { why, cause, .. } => {
                Some(Status::Lost { why: why.clone(), cause: cause.clone() })
            }
            Event::SessionEnded(reason) => Some(Status::Ended(*reason)),
            Event::OtherStore => Some(Status::OtherStore),
            _ => None,
        };
        out.extend(status.map(Action::Status));
        // Whoever takes nothing can ask how it is; nothing piles up for them.
        let is_status = matches!(event, Event::Connected | Event::Disconnected { .. });
        if !(is_status && self.is_full()) {
            self.send(event, None, out);
        }
    }

    fn tell_noted(&mut self, event: Event, what: What, out: &mut Vec<Action>) {
        self.last_number += 1;
        self.undone.push_back((self.last_number, what));
        self.send(event, Some(self.last_number), out);
    }

    fn send(&mut self, event: Event, number: Option<u64>, out: &mut Vec<Action>) {
        self.events += 1;
        out.push(Action::Tell { event, number });
    }

    /// A chat has grown.
    pub(crate) fn grown(&mut self, chat: u64) {
        self.behind.insert(chat);
    }

    /// A chat was put back to `upto`. What comes again of it that was told and is not dealt with yet is not told twice.
    pub(crate) fn put_back(&mut self, chat: u64, upto: u64) {
        // Where it is not known here, the store has gone back with the chat.
        if let Some(told) = self.told.get_mut(&chat) {
            *told = upto.min(*told);
        }
        self.put_back.insert(chat);
        let earlier = self.rewound.entry(chat).or_insert(upto);
        *earlier = upto.min(*earlier);
    }

    /// Something may be gone for good.
    pub(crate) fn something_is_gone(&mut self) {
        self.gone = Some(self.gone_told);
    }

    /// Watermarks have moved: the peer's, or one's own.
    pub(crate) fn marks_moved(&mut self, chat: u64, own: bool) {
        self.marks.insert((chat, own));
    }

    pub(crate) fn person_changed(&mut self, person: Person) {
        self.people.insert(person.user_id, person);
    }

    /// The server has pushed everything that was missing.
    pub(crate) fn caught_up(&mut self) {
        self.caught_up = Some(CaughtUp::JustNow);
    }

    /// The connection has ended: what comes later belongs to the next.
    pub(crate) fn disconnected(&mut self) {
        self.caught_up = None;
    }

    /// The application is so far.
    pub(crate) fn note(&mut self, progress: Progress) {
        self.progress = progress;
    }

    /// Whether the application has dealt with something since it was noted last.
    pub(crate) fn is_news(&self) -> bool {
        self.undone.front().is_some_and(|(number, _)| *number <= self.progress.dealt_with)
    }

    /// Whether there is something to tell, and the application takes a good part of it.
    pub(crate) fn has_more(&self) -> bool {
        let has_more = !self.rewound.is_empty()
            || !self.behind.is_empty()
            || self.gone.is_some()
            || !self.marks.is_empty()
            || !self.people.is_empty()
            || self.caught_up.is_some();
        has_more && self.waiting() <= EVENTS_WAITING_FEW
    }

    /// What the application has dealt with since that was noted last.
    pub(crate) fn dealt_with<S: Tables>(&self, records: &Records<S>) -> Result<DealtWith, Error> {
        let upto = self.progress.dealt_with;
        let (mut messages, mut seen, mut gone) = (BTreeMap::new(), Vec::new(), 0);
        for (_, what) in self.undone.iter().take_while(|(number, _)| *number <= upto) {
            match *what {
                What::Message { chat, seq, time_ms } => {
                    let in_order =
                        records.is_there(chat, seq, time_ms)? && seq <= self.in_order(records, chat)?;
                    if in_order {
                        let highest = messages.entry(chat).or_insert(seq);
                        *highest = seq.max(*highest);
                    } else {
                        seen.push((chat, seq, time_ms));
                    }
                }
                What::Gone { id } => gone = id,
            }
        }
        Ok(DealtWith { upto, messages: messages.into_iter().collect(), seen, gone })
    }

    /// Up to which seq a message that is dealt with says the same of all before it. Where a chat was put back they may have come again, and
    /// be told or dealt with later than what was told before.
    fn in_order<S: Tables>(&self, records: &Records<S>, chat: u64) -> Result<u64, Error> {
        if !self.put_back.contains(&chat) {
            return Ok(u64::MAX);
        }
        let undone = self.undone.iter().filter(|(number, _)| *number > self.progress.dealt_with);
        let of_peer = undone.filter_map(|(_, what)| match what {
            What::Message { chat: of, seq, .. } if *of == chat => Some(*seq - 1),
            What::Message { .. } | What::Gone { .. } => None,
        });
        let told =
            self.told.get(&chat).map_or_else(|| Ok(records.log(chat)?.told), |told| Ok::<_, Error>(*told))?;
        Ok(of_peer.min().unwrap_or(u64::MAX).min(told))
    }

    /// That what is dealt with up to a number is stored.
    pub(crate) fn noted(&mut self, upto: u64) {
        while self.undone.pop_front_if(|(number, _)| *number <= upto).is_some() {}
    }

    /// That the application knew these chats was not stored: it is looked up again.
    pub(crate) fn not_noted(&mut self, known: &[(u64, u64)]) {
        for (chat, _) in known {
            self.told.remove(chat);
            self.behind.insert(*chat);
        }
    }

    /// Events that have been told and not taken.
    fn waiting(&self) -> u64 {
        self.events - self.progress.taken
    }

    fn is_full(&self) -> bool {
        self.waiting() >= EVENTS_WAITING_MAX
    }

    fn room(&self) -> u32 {
        EVENTS_WAITING_MAX.saturating_sub(self.waiting()).max(1) as u32
    }

    /// Tells what there is, as far as the application takes it. Gives chats of which it knew all the rest already, with
    /// up to where: they are dealt with.
    pub(crate) fn pump<S: Tables>(
        &mut self,
        records: &Records<S>,
        out: &mut Vec<Action>,
    ) -> Result<Vec<(u64, u64)>, Error> {
        let mut known = Vec::new();
        if !self.receive {
            self.forget_what_nobody_wants();
        }
        self.look_up_what_comes_first(records)?;
        while !self.is_full()
            && let Some((chat, upto)) = self.rewound.pop_first()
        {
            self.tell(Event::Rewound { chat, upto }, out);
        }
        while !self.is_full()
            && let Some(chat) = self.next_behind()
        {
            known.extend(self.tell_messages(records, chat, out)?);
        }
        while !self.is_full()
            && let Some(after) = self.gone
        {
            self.tell_gone(records, after, out)?;
        }
        while !self.is_full()
            && let Some((chat, own)) = self.marks.first().copied()
        {
            let log = records.log(chat)?;
            self.marks.pop_first();
            let (delivered_upto, read_upto) = match own {
                true => (0, log.read_upto),
                false => (log.others_delivered, log.others_read),
            };
            self.tell(Event::Receipt { chat, delivered_upto, read_upto, own }, out);
        }
        while !self.is_full()
            && let Some((_, person)) = self.people.pop_first()
        {
            self.tell(Event::PersonChanged(person), out);
        }
        if self.gone.is_none() && matches!(&self.caught_up, Some(CaughtUp::After(chats)) if chats.is_empty())
        {
            self.caught_up = None;
            self.tell(Event::CaughtUp, out);
        }
        Ok(known)
    }

    /// The application wants neither messages nor receipts: the next run that does is told.
    fn forget_what_nobody_wants(&mut self) {
        self.rewound.clear();
        self.behind.clear();
        self.marks.clear();
        self.people.clear();
        self.gone = None;
    }

    /// Up to where each chat must be told before the application has caught up.
    fn look_up_what_comes_first<S: Tables>(&mut self, records: &Records<S>) -> Result<(), Error> {
        if matches!(self.caught_up, Some(CaughtUp::JustNow)) {
            let mut upto = BTreeMap::new();
            for chat in &self.behind {
                upto.insert(*chat, records.log(*chat)?.position);
            }
            self.caught_up = Some(CaughtUp::After(upto));
        }
        Ok(())
    }

    /// Those first without which the application has not caught up.
    fn next_behind(&self) -> Option<u64> {
        let first = match &self.caught_up {
            Some(CaughtUp::After(chats)) => chats.keys().next().copied(),
            Some(CaughtUp::JustNow) | None => None,
        };
        first.or_else(|| self.behind.first().copied())
    }

    /// Tells a page of a chat. Gives how far the application knew it already, if nothing of it was new.
    fn tell_messages<S: Tables>(
        &mut self,
        records: &Records<S>,
        chat: u64,
        out: &mut Vec<Action>,
    ) -> Result<Option<(u64, u64)>, Error> {
        let log = records.log(chat)?;
        // What was told before the chat was put back, came again, and was dealt with meanwhile, is known.
        let before = self.told.get(&chat).map_or(log.told, |told| log.told.max(*told));
        let page = records.kept_and_seen(chat, before, log.position, self.room())?;
        let upto = page.last().map_or(log.position, |(message, _)| message.seq);
        let known = upto > before && before == log.told && page.iter().all(|(_, seen)| *seen);
        for (message, seen) in page {
            let Message { seq, time_ms, .. } = message;
            let what = What::Message { chat, seq, time_ms };
            let told = || self.put_back.contains(&chat) && self.undone.iter().any(|(_, told)| *told == what);
            if !seen && !told() {
                self.tell_noted(Event::Message(message), what, out);
            }
        }
        self.told.insert(chat, upto);
        if upto >= log.position {
            self.behind.remove(&chat);
        }
        if let Some(CaughtUp::After(chats)) = &mut self.caught_up
            // A chat that was put back since has no more than its position.
            && chats.get(&chat).is_some_and(|wanted| upto >= log.position.min(*wanted))
        {
            chats.remove(&chat);
        }
        Ok(known.then_some((chat, upto)))
    }

    fn tell_gone<S: Tables>(
        &mut self,
        records: &Records<S>,
        after: u64,
        out: &mut Vec<Action>,
    ) -> Result<(), Error> {
        let page = records.gone_untold(after, self.room())?;
        self.gone = page.last().map(|(id, _)| *id);
        for (id, message) in page {
            self.gone_told = id;
            self.tell_noted(Event::Gone(message), What::Gone { id }, out);
        }
        Ok(())
    }
}
