//! What the application is told, and when: as much as it takes, in an order that makes sense to it.
//!
//! Messages are told out of the store, after they have been stored, so a slow application costs no memory and no event is
//! lost with the process. Of things of which only the newest counts (watermarks, a person's name) one is kept.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use tern_wire::errors::Reason;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::error::Error;
use crate::event::{Event, Message, Progress, Status};
use crate::store::{Person, Store};

/// Events that the application has not taken. Beyond, the store keeps what it would be told.
const WAITING_MAX: usize = 256;

/// People to whom the server takes no messages for now: why, and when it is tried again.
pub(crate) type Delays = Arc<Mutex<BTreeMap<u64, (Reason, Instant)>>>;

/// Something that was told, and is noted when the application has dealt with it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    /// A message. At that place there may stand another one by then.
    Message { peer: u64, seq: u64, time_ms: u64 },
    /// The record of a message that is gone.
    Gone { id: u64 },
}

/// See the module.
pub(crate) struct Teller {
    events: mpsc::UnboundedSender<(Event, Option<u64>)>,
    status: watch::Sender<Status>,
    delays: Delays,
    progress: Arc<Progress>,
    /// Whether messages and receipts are told.
    receive: bool,
    /// What was told and is not dealt with, in the order of its numbers. No more than are not taken, and what the
    /// application holds.
    undone: VecDeque<(u64, What)>,
    last_number: u64,
    /// Up to which seq a chat was told. Absent: as the store has it.
    told: HashMap<u64, u64>,
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
    /// The server has told everything: what is untold of these chats comes first.
    caught_up: Option<BTreeMap<u64, u64>>,
}

impl Teller {
    pub(crate) fn new(
        events: mpsc::UnboundedSender<(Event, Option<u64>)>,
        (status, delays): (watch::Sender<Status>, Delays),
        progress: Arc<Progress>,
        receive: bool,
        store: &Store,
    ) -> Result<Self, Error> {
        let behind = store.untold()?.into_iter().map(|log| log.peer).collect();
        Ok(Self {
            events,
            status,
            delays,
            progress,
            receive,
            undone: VecDeque::new(),
            last_number: 0,
            told: HashMap::new(),
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
    pub(crate) fn tell(&self, event: Event) {
        let status = match &event {
            Event::Connected => Some(Status::Connected),
            Event::Disconnected { why, cause, .. } => {
                Some(Status::Lost { why: why.clone(), cause: cause.clone() })
            }
            Event::SessionEnded(reason) => Some(Status::Ended(*reason)),
            Event::OtherStore => Some(Status::OtherStore),
            _ => None,
        };
        if let Event::Delayed { peer, reason, retry_in } = &event {
            let now = Instant::now();
            let mut delays = self.delays.lock().expect("nothing panics while it holds this");
            delays.retain(|_, (_, until)| *until > now);
            delays.insert(*peer, (*reason, now + *retry_in));
        }
        if let Some(status) = status {
            self.status.send_replace(status);
        }
        // Whoever takes nothing can ask how it is; nothing piles up for them.
        let is_status = matches!(event, Event::Connected | Event::Disconnected { .. });
        if !(is_status && self.is_full()) {
            self.send(event, None);
        }
    }

    fn tell_noted(&mut self, event: Event, what: What) {
        self.last_number += 1;
        self.undone.push_back((self.last_number, what));
        self.send(event, Some(self.last_number));
    }

    fn send(&self, event: Event, number: Option<u64>) {
        self.progress.told();
        // An application that has dropped its events is told nothing, and has dealt with nothing.
        let _ = self.events.send((event, number));
    }

    /// A chat has grown.
    pub(crate) fn grown(&mut self, peer: u64) {
        self.behind.insert(peer);
    }

    /// A chat was put back to `upto`. What comes again of it that was told and is not dealt with yet is not told twice.
    pub(crate) fn put_back(&mut self, store: &Store, peer: u64, upto: u64) -> Result<(), Error> {
        let told = self.told(store, peer)?;
        self.told.insert(peer, told.min(upto));
        self.put_back.insert(peer);
        let earlier = self.rewound.entry(peer).or_insert(upto);
        *earlier = upto.min(*earlier);
        Ok(())
    }

    /// Something may be gone for good.
    pub(crate) fn something_is_gone(&mut self) {
        self.gone = Some(self.gone_told);
    }

    /// Watermarks have moved: the peer's, or one's own.
    pub(crate) fn marks_moved(&mut self, peer: u64, own: bool) {
        self.marks.insert((peer, own));
    }

    pub(crate) fn person_changed(&mut self, person: Person) {
        self.people.insert(person.user_id, person);
    }

    /// The server has pushed everything that was missing.
    pub(crate) fn caught_up(&mut self, store: &Store) -> Result<(), Error> {
        let mut upto = BTreeMap::new();
        for peer in &self.behind {
            upto.insert(*peer, store.log(*peer)?.position);
        }
        self.caught_up = Some(upto);
        Ok(())
    }

    /// The connection has ended: what comes later belongs to the next.
    pub(crate) fn disconnected(&mut self) {
        self.caught_up = None;
    }

    /// Whether the application has dealt with something since it was noted last.
    pub(crate) fn is_news(&self) -> bool {
        self.undone.front().is_some_and(|(number, _)| *number <= self.progress.dealt_with())
    }

    /// What the application has dealt with since this was asked last: chats, up to a seq, and what is gone, up to an id.
    /// Of messages those count that are there still; where one is, all before it are as they were told.
    pub(crate) fn dealt_with(&mut self, store: &Store) -> Result<(Vec<(u64, u64)>, u64), Error> {
        let upto = self.progress.dealt_with();
        let (mut messages, mut gone) = (BTreeMap::new(), 0);
        while let Some((_, what)) = self.undone.pop_front_if(|(number, _)| *number <= upto) {
            match what {
                What::Message { peer, seq, time_ms } => {
                    if store.is_there(peer, seq, time_ms)? {
                        messages.insert(peer, seq);
                    }
                }
                What::Gone { id } => gone = id,
            }
        }
        Ok((messages.into_iter().collect(), gone))
    }

    fn told(&self, store: &Store, peer: u64) -> Result<u64, Error> {
        self.told.get(&peer).map_or_else(|| Ok(store.log(peer)?.told), |told| Ok(*told))
    }

    fn is_full(&self) -> bool {
        self.progress.waiting() >= WAITING_MAX
    }

    /// Tells what there is, as far as the application takes it. Gives chats of which it knew all the rest already, with
    /// up to where: they are dealt with.
    pub(crate) fn pump(&mut self, store: &Store) -> Result<Vec<(u64, u64)>, Error> {
        let mut known = Vec::new();
        if !self.receive {
            self.forget_what_nobody_wants();
        }
        while !self.is_full()
            && let Some((peer, upto)) = self.rewound.pop_first()
        {
            self.tell(Event::Rewound { peer, upto });
        }
        while !self.is_full()
            && let Some(peer) = self.next_behind()
        {
            known.extend(self.tell_messages(store, peer)?);
        }
        while !self.is_full()
            && let Some(after) = self.gone
        {
            self.tell_gone(store, after)?;
        }
        while !self.is_full()
            && let Some((peer, own)) = self.marks.pop_first()
        {
            let log = store.log(peer)?;
            let (delivered_upto, read_upto) = match own {
                true => (0, log.read_upto),
                false => (log.peer_delivered, log.peer_read),
            };
            self.tell(Event::Receipt { peer, delivered_upto, read_upto, own });
        }
        while !self.is_full()
            && let Some((_, person)) = self.people.pop_first()
        {
            self.tell(Event::PersonChanged(person));
        }
        if self.gone.is_none() && self.caught_up.as_ref().is_some_and(BTreeMap::is_empty) {
            self.caught_up = None;
            self.tell(Event::CaughtUp);
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
        if let Some(upto) = &mut self.caught_up {
            upto.clear();
        }
    }

    /// Those first without which the application has not caught up.
    fn next_behind(&self) -> Option<u64> {
        let first = self.caught_up.as_ref().and_then(|upto| upto.keys().next().copied());
        first.or_else(|| self.behind.first().copied())
    }

    /// Tells a page of a chat. Gives how far the application knew it already, if nothing of it was new.
    fn tell_messages(&mut self, store: &Store, peer: u64) -> Result<Option<(u64, u64)>, Error> {
        let (before, log) = (self.told(store, peer)?, store.log(peer)?);
        let page = store.kept_and_seen(peer, before, log.position, self.room())?;
        let upto = page.last().map_or(log.position, |(message, _)| message.seq);
        let known = upto > before && before == log.told && page.iter().all(|(_, seen)| *seen);
        for (message, seen) in page {
            let Message { seq, time_ms, .. } = message;
            let what = What::Message { peer, seq, time_ms };
            let told = || self.put_back.contains(&peer) && self.undone.iter().any(|(_, told)| *told == what);
            if !seen && !told() {
                self.tell_noted(Event::Message(message), what);
            }
        }
        self.told.insert(peer, upto);
        if upto >= log.position {
            self.behind.remove(&peer);
        }
        if let Some(caught_up) = &mut self.caught_up
            && caught_up.get(&peer).is_some_and(|wanted| upto >= *wanted)
        {
            caught_up.remove(&peer);
        }
        Ok(known.then_some((peer, upto)))
    }

    fn room(&self) -> u32 {
        WAITING_MAX.saturating_sub(self.progress.waiting()).max(1) as u32
    }

    fn tell_gone(&mut self, store: &Store, after: u64) -> Result<(), Error> {
        let page = store.gone_untold(after, self.room())?;
        self.gone = page.last().map(|(id, _)| *id);
        for (id, message) in page {
            self.gone_told = id;
            self.tell_noted(Event::Gone(message), What::Gone { id });
        }
        Ok(())
    }
}
