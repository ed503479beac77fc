//! What is due: entries of which something is to be done from a time on stand in a slot's `t` rows, written with what makes it so.
//!
//! The store knows them all; the memory of a slot's owner knows when to look next, where there is anything. So nothing is forgotten by a
//! crash, and a slot that moves takes nothing along: its next owner looks at once. A core that begins goes through the table, from slot to
//! slot that has something. What is due goes to its log, or, of stories, to the owner of the user, which does it in its turn, or lets it lie until
//! the agenda comes by again.

use std::collections::{BTreeMap, BTreeSet};

use tern_storage::{Direction, Key, LogId, Rows, SLOTS, ScanLimit, Slot, keys};
use tern_wire::ids::{Seq, UserId};
use tern_wire::story::StoryId;

use super::words::WORDS;
use super::{Cx, Logs, ScanFor};
use crate::limits::{DUE_AGAIN_MS, DUE_LOOKS_PER_TICK, DUE_ROWS_MAX};
use crate::message::{LogOp, StoryDue, StoryDuty, StoryOp, Unreadable, UserOp};
use crate::mutations::{Mutation, is};

/// Counts looks at slots.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Look(u64);

/// When to look at which slot.
#[derive(Debug)]
pub(super) struct Agenda {
    /// Those in which something is due at some time.
    slots: BTreeMap<Slot, Standing>,
    /// Of those that are not being looked at: when they are.
    due: BTreeSet<(u64, Slot)>,
    looks: Look,
    /// Up to where slots have been looked at in which more is due than is read at once.
    behind: BTreeMap<Slot, Behind>,
    /// The table has been gone through up to this slot; `None`: a row of it is being read, or all have been.
    gone_to: Option<u16>,
    /// The latest that the clock has said since it was set back.
    latest_ms: u64,
}

/// Where a look at a slot goes on, and what it has found so far.
#[derive(Debug)]
struct Behind {
    key: Key,
    /// Something was told to a log.
    told: bool,
    /// When what was put off is to be looked at; `u64::MAX`: nothing was.
    put_off_ms: u64,
}

#[derive(Clone, Copy, Debug)]
enum Standing {
    /// Nothing is due before this.
    Until(u64),
    /// The rows are being read; what has come meanwhile is not due before this.
    Looking(Look, u64),
}

impl Agenda {
    /// Nothing is known.
    pub(super) fn new() -> Self {
        let (slots, due, looks, behind) = Default::default();
        Self { slots, due, looks, behind, gone_to: Some(0), latest_ms: 0 }
    }

    /// There are slots of which nothing is known.
    pub(super) fn begin_anew(&mut self) {
        self.go_on_from(0);
    }

    /// The table is to be gone through from here on, if not from before.
    fn go_on_from(&mut self, from: u16) {
        self.gone_to = Some(self.gone_to.map_or(from, |gone_to| gone_to.min(from)));
    }

    /// Something is due in a slot at this time, or it is to be looked at then; `u64::MAX`: nothing is.
    pub(super) fn note(&mut self, slot: Slot, at_ms: u64) {
        if at_ms == u64::MAX {
            return;
        }
        match self.slots.entry(slot).or_insert(Standing::Until(u64::MAX)) {
            Standing::Until(next) if at_ms < *next => {
                self.due.remove(&(*next, slot));
                self.due.insert((at_ms, slot));
                *next = at_ms;
            }
            Standing::Until(_) => {}
            Standing::Looking(_, added) => *added = at_ms.min(*added),
        }
    }

    /// The slot is another core's.
    pub(super) fn forget(&mut self, slot: Slot) {
        self.behind.remove(&slot);
        if let Some(Standing::Until(next)) = self.slots.remove(&slot) {
            self.due.remove(&(next, slot));
        }
    }

    /// The clock says this now. If it was set back, what was to be looked at again after a while would wait until it has caught up: all are
    /// looked at now.
    fn clock(&mut self, now_ms: u64) {
        if now_ms + DUE_AGAIN_MS >= self.latest_ms || is(Mutation::WaitForClock) {
            self.latest_ms = self.latest_ms.max(now_ms);
            return;
        }
        self.latest_ms = now_ms;
        for slot in self.slots.keys().copied().collect::<Vec<_>>() {
            self.note(slot, now_ms);
        }
    }

    /// The next slot in which something is due, to be looked at.
    fn pop_due(&mut self, now_ms: u64) -> Option<Slot> {
        let (_, slot) = self.due.first().copied().filter(|(at_ms, _)| *at_ms <= now_ms)?;
        self.due.pop_first();
        self.slots.remove(&slot);
        Some(slot)
    }

    fn look(&mut self, slot: Slot) -> Look {
        self.looks.0 += 1;
        self.slots.insert(slot, Standing::Looking(self.looks, u64::MAX));
        self.looks
    }

    /// What was looked for has come; `false` if it is nobody's.
    fn looked(&mut self, slot: Slot, look: Look) -> bool {
        let Some(Standing::Looking(last, added)) = self.slots.get(&slot).copied() else { return false };
        if last != look {
            return false;
        }
        self.slots.remove(&slot);
        self.note(slot, added);
        true
    }
}

impl Logs {
    /// Looks at slots in which something is due.
    pub(super) fn look_at_what_is_due(&mut self, cx: &mut Cx) {
        if is(Mutation::ForgetAgenda) {
            return;
        }
        self.agenda.clock(cx.now_ms);
        if cx.may_read()
            && let Some(slot) = self.agenda.gone_to.take()
        {
            go_through(cx, slot);
        }
        for _ in 0..DUE_LOOKS_PER_TICK {
            if !cx.may_read() {
                return;
            }
            let Some(slot) = self.agenda.pop_due(cx.now_ms) else { return };
            if is(Mutation::ForgetEarly) && !cx.owns(slot) {
                continue;
            }
            // It may have been handed over before this core has the table that says so; one that is let go is forgotten then.
            if !cx.is_here(slot) {
                self.agenda.note(slot, cx.now_ms + DUE_AGAIN_MS);
                continue;
            }
            let look = self.agenda.look(slot);
            let limit = ScanLimit { rows: DUE_ROWS_MAX, bytes: usize::MAX };
            let range = keys::all_due(slot, self.agenda.behind.get(&slot).map(|behind| &behind.key));
            cx.scan(range, Direction::Forwards, limit, ScanFor::Due(slot, look));
        }
    }

    /// The first rows of this slot, and of those behind it, have come. Of each slot the first one says when to look at it.
    pub(super) fn table_read(&mut self, cx: &mut Cx, from: u16, rows: Result<Rows, Unreadable>) {
        let Ok(rows) = rows else {
            return self.agenda.go_on_from(from);
        };
        let mut last = from;
        for (key, _) in &rows.rows {
            let at_ms =
                keys::due_of(key).map(|(at_ms, ..)| at_ms).or_else(|| Some(keys::story_due_of(key)?.0));
            let (Some(at_ms), Some(slot)) = (at_ms, Key::from_raw(key).slot()) else { continue };
            last = slot.number();
            if cx.owns(slot) {
                self.agenda.note(slot, at_ms);
            }
        }
        // The rest of the last one's rows say nothing new.
        if rows.more && last + 1 < SLOTS {
            if cx.may_read() { go_through(cx, last + 1) } else { self.agenda.go_on_from(last + 1) }
        }
    }

    /// The first rows of a slot have come: what is due is told to its logs.
    pub(super) fn due_read(&mut self, cx: &mut Cx, slot: Slot, look: Look, rows: Result<Rows, Unreadable>) {
        if !self.agenda.looked(slot, look) {
            return;
        }
        let again_ms = cx.now_ms + DUE_AGAIN_MS;
        let Ok(rows) = rows else { return self.agenda.note(slot, again_ms) };
        let mut by_log: BTreeMap<(LogId, bool), Vec<(u64, Seq)>> = BTreeMap::new();
        let before = self.agenda.behind.remove(&slot);
        let (told, mut put_off_ms) =
            before.map_or((false, u64::MAX), |behind| (behind.told, behind.put_off_ms));
        let mut next_ms = u64::MAX;
        let mut stories = Vec::new();
        for (key, value) in &rows.rows {
            if let Some((user, due)) = story_due(key, value) {
                if due.at_ms > cx.now_ms {
                    next_ms = due.at_ms;
                    break;
                }
                stories.push((user, UserOp::Story(Box::new(StoryOp::Due(due)))));
                continue;
            }
            let Some((at_ms, log, seq)) = keys::due_of(key) else {
                // It would come again and again.
                cx.damaged("what is due", &Key::from_raw(key));
                continue;
            };
            if at_ms > cx.now_ms {
                next_ms = at_ms;
                break;
            }
            if let Some(wait_ms) = self.dispatching.waits_ms((log, Seq(seq)), cx.now_ms) {
                put_off_ms = put_off_ms.min(cx.now_ms + wait_ms);
                continue;
            }
            by_log.entry((log, &value[..] == WORDS)).or_default().push((at_ms, Seq(seq)));
        }
        let goes_on = rows.more && next_ms == u64::MAX;
        let told = told || !by_log.is_empty() || !stories.is_empty();
        match rows.rows.last().filter(|_| goes_on) {
            Some((key, _)) => {
                // What is behind all these does not wait for them.
                self.agenda.behind.insert(slot, Behind { key: Key::from_raw(key), told, put_off_ms });
                next_ms = cx.now_ms;
            }
            // What was not done by then is told again.
            None if told => next_ms = next_ms.min(again_ms).min(put_off_ms),
            None => next_ms = next_ms.min(put_off_ms),
        }
        self.agenda.note(slot, next_ms);
        cx.tell_users(stories.into_iter());
        for ((log, is_words), due) in by_log {
            self.told(cx, log, if is_words { LogOp::CleanWords(due) } else { LogOp::Due(due) });
        }
    }
}

/// What is due of a story, and whose owner does it.
fn story_due(key: &[u8], value: &[u8]) -> Option<(UserId, StoryDue)> {
    let (at_ms, user, author, number) = keys::story_due_of(key)?;
    let story = StoryId { author: UserId::new(author)?, number: keys::number_of_story(number) };
    let what = match value {
        keys::TO_TELL => StoryDuty::Tell,
        keys::TO_HIDE => StoryDuty::Hide,
        _ => StoryDuty::End,
    };
    Some((UserId::new(user)?, StoryDue { story, at_ms, what }))
}

/// Reads when something is due in this slot, and those behind it.
fn go_through(cx: &mut Cx, from: u16) {
    let slot = Slot::new(from).expect("it is below the number of slots");
    let limit = ScanLimit { rows: DUE_ROWS_MAX, bytes: usize::MAX };
    cx.scan(keys::all_due_from(slot), Direction::Forwards, limit, ScanFor::AllDue(from));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(number: u16) -> Slot {
        Slot::new(number).expect("a slot")
    }

    #[test]
    fn what_comes_while_a_slot_is_looked_at_is_not_forgotten() {
        let mut agenda = Agenda::new();
        agenda.note(slot(1), 50);
        agenda.note(slot(1), 70);
        agenda.note(slot(2), 60);
        assert_eq!(agenda.pop_due(49), None);
        assert_eq!(agenda.pop_due(60), Some(slot(1)));
        let look = agenda.look(slot(1));
        agenda.note(slot(1), 80);
        assert_eq!((agenda.pop_due(90), agenda.pop_due(90)), (Some(slot(2)), None), "the first is looked at");
        assert!(agenda.looked(slot(1), look));
        agenda.note(slot(1), 100);
        assert_eq!((agenda.pop_due(79), agenda.pop_due(80)), (None, Some(slot(1))));
    }

    #[test]
    fn what_is_to_be_looked_at_again_does_not_wait_for_a_clock_that_was_set_back() {
        let mut agenda = Agenda::new();
        agenda.clock(1_000_000);
        agenda.note(slot(1), 1_000_000 + DUE_AGAIN_MS);
        agenda.clock(1_000_000 - DUE_AGAIN_MS);
        assert_eq!(agenda.pop_due(1_000_000), None, "so much it may wait in any case");
        agenda.clock(500_000);
        assert_eq!(agenda.pop_due(500_000), Some(slot(1)));
        agenda.note(slot(1), 600_000);
        agenda.clock(500_001);
        assert_eq!(agenda.pop_due(500_001), None, "once is enough");
    }

    #[test]
    fn what_was_looked_for_before_a_slot_went_and_came_back_is_nobodys() {
        let mut agenda = Agenda::new();
        let first = agenda.look(slot(1));
        agenda.forget(slot(1));
        assert!(!agenda.looked(slot(1), first));
        agenda.note(slot(1), 0);
        assert_eq!(agenda.pop_due(0), Some(slot(1)));
        let second = agenda.look(slot(1));
        assert!(!agenda.looked(slot(1), first));
        assert!(agenda.looked(slot(1), second));
        agenda.note(slot(3), 5);
        agenda.forget(slot(3));
        assert_eq!(agenda.pop_due(9), None);
    }
}
