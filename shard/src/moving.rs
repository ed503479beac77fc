//! Slots on their way from core to core, as one core sees it. Pure: what is to be sent is given back.
//!
//! The old owner **drains**: what comes for the slot waits, but for answers to what is under way, and what the slot says to itself; when nothing is, it has every core
//! say that all that it has said has come (**flush**), and hands over all that it holds of the slot, and behind that, in order, what
//! waited. So what is said about a slot arrives in order too, whoever says it. The new owner has what comes before that **arriving**: it
//! waits too. Everybody else who speaks to the slot sends a **marker** behind what they have sent to the old owner, and holds what
//! they have to say until the marker has passed to the new one, who says so. So what one core says to a slot arrives in order, once,
//! whoever owns it, and a slot is never served from two copies.
//!
//! ```text
//!   asker                 old owner                      new owner
//!     | a, b                 |                               |
//!     |--------------------->| (a decided)                   |
//!     | [table]  marker      | [table] drains; b waits       | [table] arriving
//!     |--------------------->|  ... commits end ...          |
//!     |  c is held           | hand-over, b, marker          |
//!     |                      |------------------------------>| takes up; b decided
//!     |                      |                       passed  |
//!     |<-----------------------------------------------------|
//!     |  c                                                   |
//!     |----------------------------------------------------->|
//! ```
//!
//! One slot moves at a time, and the next one when that is over on every core: whoever makes the tables sees to that
//! ([`Moving::count`]). What one slot says to another stays in order because the other does not move meanwhile.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tern_storage::Slot;

use crate::limits::MOVING_WAITING_MAX;
use crate::message::Message;
use crate::mutations::{Mutation, is};
use crate::slots::{CoreId, SlotTable};

/// See the module.
#[derive(Debug)]
pub(crate) struct Moving {
    core: CoreId,
    table: SlotTable,
    /// Slots that this core lets go.
    draining: BTreeMap<Slot, Draining>,
    /// Slots that this core takes up, and what waits for them.
    arriving: BTreeMap<Slot, VecDeque<Message>>,
    /// Slots that were handed over to this core before it has got the table that says so.
    early: BTreeSet<Slot>,
    /// Markers of those who know a newer table than this core: they wait for it.
    ahead: BTreeMap<Slot, Vec<Message>>,
    /// Slots that others let go and take up, and what this core has to say to them.
    held: BTreeMap<Slot, HeldBack>,
}

/// A slot that this core lets go.
#[derive(Debug)]
struct Draining {
    /// Cores that have not said that all has come; 0 also before they were asked.
    flushing: usize,
    /// What waits for the new owner.
    waiting: VecDeque<Message>,
}

/// What a core has to say to a slot, until its markers have passed.
#[derive(Debug)]
struct HeldBack {
    /// To whom the markers went.
    last_owner: CoreId,
    /// Those that have not passed.
    markers: u32,
    waiting: VecDeque<Message>,
}

/// What becomes of a message for a slot.
#[derive(Debug)]
pub(crate) enum Way {
    /// It goes to this core.
    To(CoreId, Message),
    /// It goes to this core, which let the slot go or is about to, with a marker behind it.
    ToLast(CoreId, Message),
    /// It waits.
    Waits,
    /// As much waits as may.
    Full(Message),
}

impl Moving {
    /// Nothing moves.
    pub(crate) fn new(core: CoreId, table: SlotTable) -> Self {
        Self {
            core,
            table,
            draining: BTreeMap::new(),
            arriving: BTreeMap::new(),
            early: BTreeSet::new(),
            ahead: BTreeMap::new(),
            held: BTreeMap::new(),
        }
    }

    /// The newest table.
    pub(crate) fn table(&self) -> &SlotTable {
        &self.table
    }

    /// Slots that are on their way, as far as this core has to do with them.
    pub(crate) fn count(&self) -> usize {
        self.draining.len() + self.arriving.len() + self.early.len() + self.ahead.len() + self.held.len()
    }

    /// Whether a slot is this core's, and does not move.
    pub(crate) fn is_here(&self, slot: Slot) -> bool {
        self.table.owner(slot) == self.core && !self.arriving.contains_key(&slot)
    }

    /// Where this core sends a message for a slot. An answer to what is under way there does not wait: who lets the slot go waits
    /// for it.
    pub(crate) fn way(&mut self, slot: Slot, message: Message) -> Way {
        if self.count() > 0 {
            if self.draining.contains_key(&slot) {
                return self.came(slot, message);
            }
            if let Some(held) = self.held.get_mut(&slot).filter(|_| !is(Mutation::SkipMarker)) {
                if !is_answer(&message) {
                    return wait(&mut held.waiting, message);
                }
                held.markers += 1;
                return Way::ToLast(held.last_owner, message);
            }
        }
        Way::To(self.table.owner(slot), message)
    }

    /// Whether what this core has to say to a slot goes to its owner, and nowhere else.
    pub(crate) fn is_settled(&self, slot: Slot) -> bool {
        !self.draining.contains_key(&slot) && !self.held.contains_key(&slot)
    }

    /// What becomes of a message for a slot that has come to this core: to itself means that it is decided on here. One for another
    /// core's slot was sent by somebody who has an older table, and goes on to its owner.
    pub(crate) fn came(&mut self, slot: Slot, message: Message) -> Way {
        if self.count() > 0 {
            if let Some(draining) = self.draining.get_mut(&slot) {
                if is_answer(&message) || is_said_in(slot, &message) {
                    return Way::To(self.core, message);
                }
                return wait(&mut draining.waiting, message);
            }
            if let Some(waiting) = self.arriving.get_mut(&slot) {
                return wait(waiting, message);
            }
            if self.early.contains(&slot) {
                return Way::To(self.core, message);
            }
        }
        if let Message::Marker { version, .. } = message
            && version > self.table.version()
        {
            self.ahead.entry(slot).or_default().push(message);
            return Way::Waits;
        }
        if is(Mutation::AnswerAsLastOwner) && !matches!(message, Message::Marker { .. }) {
            return Way::To(self.core, message);
        }
        Way::To(self.table.owner(slot), message)
    }

    /// A newer table has come. Gives the markers to be sent. An older one changes nothing.
    ///
    /// # Panics
    /// If a slot moves while another one does.
    pub(crate) fn change(&mut self, table: SlotTable) -> Vec<(CoreId, Message)> {
        if table.version() <= self.table.version() {
            return Vec::new();
        }
        let slots = self.table.moved(&table);
        let under_way = self.draining.len() + self.arriving.len() + self.held.len();
        assert!(slots.len() + under_way <= 1, "a slot moves only when the last move is over");
        let mut moved = Vec::new();
        for slot in slots {
            let (from, to) = (self.table.owner(slot), table.owner(slot));
            if from == self.core {
                let waiting = self.ahead.remove(&slot).unwrap_or_default().into();
                self.draining.insert(slot, Draining { flushing: 0, waiting });
                continue;
            }
            if to == self.core && !self.early.remove(&slot) {
                self.arriving.insert(slot, VecDeque::new());
            }
            let held = HeldBack { last_owner: from, markers: 1, waiting: VecDeque::new() };
            self.held.insert(slot, held);
            moved.push((slot, from));
        }
        self.table = table;
        moved.into_iter().map(|(slot, from)| (from, self.marker(slot))).collect()
    }

    /// Whether this core is to let go of slots.
    pub(crate) fn is_draining(&self) -> bool {
        !self.draining.is_empty()
    }

    /// The slots that other processes have taken over in a table that has come. A message for one of them is from somebody who has that
    /// table, or is lost with whom it was sent to: nothing of it waits here.
    ///
    /// # Panics
    /// If one of them is on its way, or was this core's: a process that has lost a slot against its will has ended.
    pub(crate) fn taken(&self, table: &SlotTable) -> Vec<Slot> {
        if table.version() <= self.table.version() {
            return Vec::new();
        }
        let taken = self.table.taken(table);
        for slot in &taken {
            let is_on_its_way = self.draining.contains_key(slot)
                || self.arriving.contains_key(slot)
                || self.early.contains(slot)
                || self.ahead.contains_key(slot)
                || self.held.contains_key(slot);
            assert!(!is_on_its_way, "a slot is taken over when its last move is over");
            assert!(self.table.owner(*slot) != self.core, "a process that has lost a slot has ended");
        }
        taken
    }

    /// The slots that this core is about to let go, and whose word does not have to be flushed first.
    pub(crate) fn draining(&self) -> Vec<Slot> {
        let draining = self.draining.iter().filter(|(_, draining)| draining.flushing == 0);
        draining.map(|(slot, _)| *slot).collect()
    }

    /// Nothing of a slot is under way: all others are to say that what was said of it has come. Gives who they are.
    pub(crate) fn flush(&mut self, slot: Slot) -> Vec<CoreId> {
        let others: Vec<_> = self.table.cores().filter(|core| *core != self.core).collect();
        self.draining.get_mut(&slot).expect(DRAINS).flushing = others.len();
        others
    }

    /// One of them has said so. `true` if it was the last.
    pub(crate) fn flushed(&mut self, slot: Slot) -> bool {
        let draining = self.draining.get_mut(&slot).expect(DRAINS);
        draining.flushing = draining.flushing.checked_sub(1).expect("each core says so once");
        draining.flushing == 0
    }

    /// This core has let go of a slot: what waited goes behind the hand-over to the owner.
    pub(crate) fn let_go(&mut self, slot: Slot) -> (CoreId, VecDeque<Message>) {
        let draining = self.draining.remove(&slot).expect(DRAINS);
        let waited = if is(Mutation::LoseAtMove) { VecDeque::new() } else { draining.waiting };
        (self.table.owner(slot), waited)
    }

    /// This core has taken a slot up. What waited is decided on now.
    pub(crate) fn taken_up(&mut self, slot: Slot) -> VecDeque<Message> {
        let waited = self.arriving.remove(&slot);
        if waited.is_none() {
            self.early.insert(slot);
        }
        waited.unwrap_or_default()
    }

    /// What goes behind all that this core has said to the last owner of a slot.
    pub(crate) fn marker(&self, slot: Slot) -> Message {
        Message::Marker { slot, version: self.table.version(), from: self.core }
    }

    /// A marker of this core has passed to the new owner of a slot. When all have, what was held goes there.
    pub(crate) fn passed(&mut self, slot: Slot) -> (CoreId, VecDeque<Message>) {
        let held = self.held.get_mut(&slot).expect("what is held back waits for its markers");
        held.markers = held.markers.checked_sub(1).expect("a marker passes once");
        let is_over = held.markers == 0;
        let over = if is_over { self.held.remove(&slot) } else { None };
        (self.table.owner(slot), over.map_or_else(VecDeque::new, |held| held.waiting))
    }
}

const DRAINS: &str = "only what drains is flushed and let go";

fn is_answer(message: &Message) -> bool {
    matches!(message, Message::Log(_, op) if op.is_answer())
}

/// What a slot's log says to a user of the same slot belongs to what is under way there: the log may wait for the answer.
fn is_said_in(slot: Slot, message: &Message) -> bool {
    let Message::User(_, op) = message else { return false };
    op.said_by().is_some_and(|log| Slot::of_log(log) == slot) && !is(Mutation::WaitForItself)
}

/// What nobody waits for is not bounded here: it follows from commits, which are.
fn wait(waiting: &mut VecDeque<Message>, message: Message) -> Way {
    if waiting.len() >= MOVING_WAITING_MAX && message.is_request() {
        return Way::Full(message);
    }
    waiting.push_back(message);
    Way::Waits
}
