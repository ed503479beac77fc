//! Media that nothing has: who owns a medium's slot looks whether any entry has it when a row (`v`) says so, and has it removed if not.
//!
//! Rows are written with what makes them so: with a medium that nothing has yet, and with each entry that has it no more. A medium that
//! nothing has is to be removed from then on, and no message may have it any more. That stands for a while before it is: whoever had seen
//! the medium before has written by then that it has it, and then it stays. When its bytes are gone, so are its rows; a crash between
//! leaves rows that have it done again ([decision 58](../../../docs/decisions/0058-what-has-a-medium-says-so-beside-it.md)).

pub(crate) mod cites;

use std::collections::BTreeMap;

use prost::Message as _;
use tern_storage::records::MediumRecord;
use tern_storage::{Direction, Key, KeyRange, Rows, SLOTS, ScanLimit, Slot, keys};
use tern_wire::errors::{Reason, Refusal};
use tern_wire::ids::{MediaId, UserId};
use tern_wire::links::Links;

use crate::admin::AdminResponse;
use crate::cx::{AnswersQuestions, Cx as AnyCx, Department, KnowsMedia, Never};
use crate::limits::{MEDIA_LOOKS_AT_ONCE, MEDIA_ROWS_AT_ONCE};
use crate::message::Unreadable;
use crate::mutations::{Mutation, is};
use crate::rounds::Round;

/// A server without a listener for media.
pub(crate) const NO_MEDIA: Refusal = Refusal::new(Reason::Unimplemented, "this server takes no media");

const NOT_NOW: &str = "the medium can't be read, or written, now";

/// Where media are had.
#[derive(Clone, Debug)]
pub struct MediaDoor {
    /// The URL under which the listener is, without a path.
    pub url: String,
    /// What signs the links to them.
    pub links: Links,
}

/// The job of a core.
#[derive(Debug, Default)]
pub(crate) struct Media {
    round: Round,
    /// The round goes on with this row; `None`: there is none.
    at: Option<Key>,
    /// Rows are being read for it.
    is_reading: bool,
    /// Media that are being looked at.
    looks: usize,
    /// How long this core has lived, in ms, and what the clock said last: however far the clock is set ahead, that counts little.
    lived: (u64, u64),
    /// Media that are due to be removed: since when, by how long the core has lived. Whatever was on its way to have one is there when it
    /// has waited for long enough.
    waiting: BTreeMap<MediaId, u64>,
}

/// A medium is forgotten whose bytes are gone: who is answered.
#[derive(Debug)]
pub(crate) struct Forgotten(u64);

/// What a scan is for.
#[derive(Debug)]
pub(crate) enum ScanFor {
    /// Some rows of what is to be looked at.
    Looks,
    /// A medium that is looked at as this row says, with what has it.
    Medium(Key, MediaId),
    /// A medium whose bytes are gone, for whoever has removed them.
    Gone(u64, MediaId),
    /// A medium, for whoever asks whether there is one.
    Is(u64),
}

impl Department for Media {
    type After = Forgotten;
    type Get = Never;
    type Scan = ScanFor;
}

impl KnowsMedia for Media {}
impl AnswersQuestions for Media {}

type Cx<'a> = AnyCx<'a, Media>;

/// A medium as it was read: its record, and whether anything has it.
struct Read {
    record: Option<MediumRecord>,
    is_cited: bool,
}

impl Read {
    /// `None`: it is not what was written.
    fn of(rows: &Rows) -> Option<Self> {
        let mut read = Self { record: None, is_cited: false };
        for (key, value) in &rows.rows {
            match keys::medium_of(key)? {
                (_, None) => read.record = Some(MediumRecord::decode(&value[..]).ok()?),
                (_, Some(_)) => read.is_cited = true,
            }
        }
        Some(read)
    }
}

fn slot_of(medium: MediaId) -> Slot {
    Slot::of_medium(medium.as_bytes())
}

impl Media {
    /// Time has passed.
    pub(crate) fn tick(&mut self, cx: &mut Cx) {
        let removed_after_ms = cx.limits().media_removed_after_ms;
        let passed_ms = cx.now_ms.saturating_sub(self.lived.1).min(removed_after_ms / 8);
        self.lived = (self.lived.0 + passed_ms, cx.now_ms);
        if !cx.has_media() || self.is_reading || self.looks > 0 || !cx.may_read() {
            return;
        }
        let mut range = keys::all_looks_from(Slot::new(0).expect("there is one"));
        if let Some(at) = &self.at {
            range.start = at.clone();
        } else if !self.round.begins(cx.now_ms, cx.limits().media_round_ms, true) {
            return;
        } else {
            self.at = Some(range.start.clone());
        }
        self.is_reading = true;
        let limit = ScanLimit { rows: MEDIA_ROWS_AT_ONCE, bytes: usize::MAX };
        cx.scan(range, Direction::Forwards, limit, ScanFor::Looks);
    }

    /// A scan has ended.
    pub(crate) fn scanned(&mut self, cx: &mut Cx, purpose: ScanFor, rows: Result<Rows, Unreadable>) {
        match purpose {
            ScanFor::Looks => self.looks_read(cx, rows),
            ScanFor::Medium(key, medium) => {
                self.looks -= 1;
                if let Ok(rows) = rows
                    && cx.is_here(slot_of(medium))
                    && cx.may_write(0)
                {
                    self.look(cx, key, medium, &rows);
                }
            }
            ScanFor::Is(question) => {
                let is = rows.map(|rows| !rows.rows.is_empty());
                let refused = |_| AdminResponse::Refused("the medium can't be read now".to_owned());
                cx.answer(question, is.map_or_else(refused, AdminResponse::IsMedium));
            }
            ScanFor::Gone(question, medium) => match rows {
                Ok(rows) if cx.is_here(slot_of(medium)) && cx.may_write(0) => {
                    self.waiting.remove(&medium);
                    gone(cx, question, medium, &rows);
                }
                _ => cx.answer(question, AdminResponse::Refused(NOT_NOW.to_owned())),
            },
        }
    }

    /// A write is durable.
    pub(crate) fn written(cx: &mut Cx, Forgotten(question): Forgotten) {
        cx.answer(question, AdminResponse::MediumGone(true));
    }

    /// A write did not become durable.
    pub(crate) fn undone(cx: &mut Cx, Forgotten(question): Forgotten) {
        cx.answer(question, AdminResponse::Refused(NOT_NOW.to_owned()));
    }

    /// Some rows have come: what they say is looked at, as far as it is due and this core's.
    fn looks_read(&mut self, cx: &mut Cx, rows: Result<Rows, Unreadable>) {
        self.is_reading = false;
        // What can't be read is tried again.
        let Ok(rows) = rows else { return };
        let last = rows.goes_on_behind();
        let (mut goes_on, mut is_due) = (None, true);
        for (key, _) in &rows.rows {
            let key = Key::from_raw(key);
            let (Some(slot), Some((at_ms, medium))) = (key.slot(), keys::look_of(key.as_ref())) else {
                cx.damaged("what is to be looked at of media", &key);
                continue;
            };
            is_due = at_ms <= cx.now_ms && cx.is_here(slot);
            if !is_due {
                continue;
            }
            if self.looks >= MEDIA_LOOKS_AT_ONCE {
                goes_on = Some(key);
                break;
            }
            self.looks += 1;
            let medium = MediaId::from_bytes(medium);
            read(cx, medium, ScanFor::Medium(key, medium));
        }
        self.at = goes_on.or_else(|| {
            let last = last?;
            if is_due {
                return Some(KeyRange::of_key(&last).end);
            }
            // What is behind it in its slot is not due either, or another core's.
            let slot = last.slot().map_or(0, Slot::number);
            let own = (slot + 1..SLOTS).filter_map(Slot::new).find(|slot| cx.owns(*slot))?;
            Some(keys::all_looks_from(own).start)
        });
        self.round.is_read(self.at.is_some());
    }

    /// The bytes of a medium are gone that was to be removed: that is said to the owner of its slot.
    pub(crate) fn removed(cx: &mut Cx, question: u64, medium: MediaId) {
        if !cx.is_here(slot_of(medium)) {
            return cx.answer(question, AdminResponse::Refused("another core has the medium".to_owned()));
        }
        read_for(cx, question, medium, ScanFor::Gone(question, medium));
    }

    /// Somebody asks whether there is a medium.
    pub(crate) fn is(cx: &mut Cx, question: u64, medium: MediaId) {
        read_for(cx, question, medium, ScanFor::Is(question));
    }
}

fn read_for(cx: &mut Cx, question: u64, medium: MediaId, purpose: ScanFor) {
    if !cx.may_read() {
        let why = "too much is under way: ask again".to_owned();
        return cx.answer(question, AdminResponse::Refused(why));
    }
    read(cx, medium, purpose);
}

/// Reads a medium's record, which comes before what has it, and the first that does.
fn read(cx: &mut Cx, medium: MediaId, purpose: ScanFor) {
    let limit = ScanLimit { rows: 2, bytes: usize::MAX };
    let range = keys::medium_and_cites(medium.as_bytes());
    cx.scan(range, Direction::Forwards, limit, purpose);
}

impl Media {
    /// Looks whether anything has a medium, as a row says.
    fn look(&mut self, cx: &mut Cx, row: Key, medium: MediaId, rows: &Rows) {
        let (slot, id) = (slot_of(medium), medium.as_bytes());
        let Some(read) = Read::of(rows) else { return cx.damaged("a medium", &keys::medium(id)) };
        // Of one that is gone already nothing is left but this.
        let Some(record) = read.record else { return cx.delete_lazily(slot, row) };
        let removed_after_ms = cx.limits().media_removed_after_ms;
        let is_cited = read.is_cited && !is(Mutation::RemoveCited);
        match (is_cited, record.ends_ms) {
            (true, 0) => cx.delete_lazily(slot, row),
            (true, _) => {
                self.waiting.remove(&medium);
                cx.put(slot, keys::medium(id), &MediumRecord { ends_ms: 0, ..record });
                cx.delete(slot, row);
            }
            (false, 0) => {
                let ends_ms = cx.now_ms.max(1);
                cx.put(slot, keys::medium(id), &MediumRecord { ends_ms, ..record });
                cx.put_bytes(slot, keys::look(ends_ms + removed_after_ms, id, None), &[]);
                cx.delete(slot, row);
            }
            (false, ends_ms) if cx.now_ms < ends_ms.saturating_add(removed_after_ms) => {
                // Another row says when.
                cx.delete_lazily(slot, row);
            }
            // The row stays until the bytes are gone.
            (false, _) if self.has_waited(cx, medium, removed_after_ms / 2) => cx.remove_medium(medium),
            (false, _) => {}
        }
    }

    /// Whether a medium that is due to be removed has waited for so long since this core found it so.
    fn has_waited(&mut self, cx: &Cx, medium: MediaId, wait_ms: u64) -> bool {
        let now_ms = self.lived.0;
        let waiting_max = cx.limits().media_waiting_max;
        if self.waiting.len() >= waiting_max && !self.waiting.contains_key(&medium) {
            // Those that went to other cores are forgotten, and those that are gone by the doing of others.
            let is_for_long = |since_ms: u64| now_ms - since_ms > wait_ms.saturating_mul(8);
            self.waiting.retain(|medium, since_ms| cx.is_here(slot_of(*medium)) && !is_for_long(*since_ms));
            // The others have their time before any newcomer's begins.
            if self.waiting.len() >= waiting_max {
                return false;
            }
        }
        let since_ms = *self.waiting.entry(medium).or_insert(now_ms);
        now_ms - since_ms >= wait_ms
    }
}

/// The bytes of a medium are gone: so are its rows, and whoever says so is answered then.
fn gone(cx: &mut Cx, question: u64, medium: MediaId, rows: &Rows) {
    let (slot, id) = (slot_of(medium), medium.as_bytes());
    let record = match Read::of(rows) {
        Some(Read { record: Some(record), is_cited: false }) if record.ends_ms > 0 => record,
        Some(Read { record: None, .. }) => return cx.answer(question, AdminResponse::MediumGone(false)),
        // It was to be there.
        _ => {
            cx.damaged("a medium", &keys::medium(id));
            let why = "the medium was not to be removed".to_owned();
            return cx.answer(question, AdminResponse::Refused(why));
        }
    };
    cx.delete(slot, keys::medium(id));
    if let Some(owner) = UserId::new(record.owner) {
        cx.delete(slot, keys::kept(owner.get(), id));
    }
    // Its row is found, and finds nothing.
    cx.after(slot, Forgotten(question));
}
