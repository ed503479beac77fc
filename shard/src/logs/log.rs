//! One log in memory: who is a member, where the head is, what its newest entries are. No message leaves here.
//!
//! `head` counts what has been appended, `durable` what is proven. What is not durable is never shown.

use std::collections::VecDeque;
use std::sync::Arc;

use tern_storage::records::{DevicePosition, LogRecord, MemberRecord, ToldRecord};
use tern_storage::{LogId, Slot};
use tern_wire::ids::{ClientMessageId, DeviceId, Seq, UserId};
use tern_wire::message::{Deed, is_message};

use super::group::{Group, Part};
use super::room;
use super::words::Index;
use crate::durable::DurableHead;
use crate::entry::{Author, Entry, Fate, members_of, peer_of};
use crate::held::{Held, Load};
use crate::limits::{AHEAD_MS_MAX, QUIET_TIMES_MAX};
use crate::message::{LogOp, Send, Terms, Watermarks};
use crate::mutations::{Mutation, is};

/// One log.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) slot: Slot,
    /// Where it stands, and what waits for it to be known.
    pub(super) held: Held<LogOp>,
    /// The load that brought it into memory.
    pub(super) born: Load,
    /// Reads of its entries under way.
    pub(super) reading: usize,
    /// Messages that wait for the first of them to be told from a retry.
    pub(super) sends: VecDeque<Box<Send>>,
    /// It has been made: its record is in the store or in a batch.
    pub(super) exists: bool,
    pub(super) created_ms: u64,
    /// Messages are erased so long after they were sent, in ms; 0: never.
    pub(super) timer_ms: u64,
    /// The newest entry that changed what the log is.
    pub(super) changed: Seq,
    /// Where it begins: what was before is kept no longer.
    pub(super) first: Seq,
    /// The same, durably.
    pub(super) first_durable: Seq,
    /// Its tail, as it was read, is all of it.
    pub(super) tail_is_all: bool,
    pub(super) head: Seq,
    pub(super) durable: DurableHead,
    pub(super) last_time_ms: u64,
    pub(super) members: Vec<Member>,
    /// The newest entries, those that are not durable included.
    pub(super) tail: VecDeque<Arc<Entry>>,
    pub(super) tail_bytes: usize,
    /// How much had been written at some entries before the tail, rising.
    pub(super) checkpoints: VecDeque<room::Checkpoint>,
    pub(super) appended_ms: u64,
    pub(super) in_quiet: bool,
    pub(super) used: bool,
    /// Messages, up to the head.
    pub(super) messages: u64,
    /// Entries as later ones have made them, with the seq of that: those that are not durable, in the order in which they were written.
    pub(super) rewritten: Vec<(Seq, Arc<Entry>)>,
    /// What a group has beside; `None` in a direct chat.
    pub(super) group: Option<Box<Group>>,
    /// Its full-text index.
    pub(super) index: Index,
    /// Nobody has it any more, and it is being erased: nothing else is done for it.
    pub(super) goes: bool,
}

/// A member of a log.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) user: UserId,
    /// There is such a user.
    pub(super) lives: bool,
    /// Its owner has told the devices.
    pub(super) devices_known: bool,
    pub(super) marks: Watermarks,
    /// How far it has got durably: nothing else is shown.
    pub(super) shown: Watermarks,
    /// In a direct chat: how far the peer may know that it has got.
    pub(super) told: Watermarks,
    /// The same, durably.
    pub(super) told_shown: Watermarks,
    /// In a direct chat: what it has said of the peer.
    pub(super) terms: Terms,
    /// The first entry known to be the member's, 0 if the store says that there is one; `None`: it has written nothing.
    pub(super) wrote: Option<Seq>,
    /// Bytes of all its bodies in the log.
    pub(super) written: u64,
    /// How many messages of a direct chat are its own.
    pub(super) messages: u64,
    /// Bytes of the others' bodies up to its delivered watermark, or to an entry before it.
    pub(super) delivered_bytes: u64,
    /// How many bytes may wait for it, where its owner was asked.
    pub(super) reserved: u64,
    /// Its `g` row may say that some are reserved.
    pub(super) may_be_reserved: bool,
    pub(super) devices: Vec<Device>,
    /// Positions as stored, of devices that may not be known yet.
    pub(super) stored: Vec<DevicePosition>,
    /// Its part in a group; `None` in a direct chat.
    pub(super) part: Option<Box<Part>>,
}

/// What is not told the peer of a member.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Hush {
    /// Anything.
    all: bool,
    /// How far it has read.
    reads: bool,
}

/// A device of a member.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) id: DeviceId,
    /// It has everything up to here.
    pub(super) position: Seq,
    /// It has not said that it knows what the member has read on another device.
    pub(super) lacks_read: bool,
    /// Its inbox is known to hold the mark of this log. A mark may be there without being known: it is then written
    /// once more, or found when the device asks for what it lacks.
    pub(super) marked: bool,
    /// Its inbox may hold a mark that is not known: to be removed when the log is quiet and nothing is missing.
    pub(super) stale: bool,
    pub(super) highest: Highest,
    /// In a group: that it is known there is durable.
    pub(super) saved: bool,
}

impl Device {
    /// Whether it has all up to a head, and knows what was read.
    pub(super) fn has_all(&self, head: Seq) -> bool {
        self.position == head && !self.lacks_read
    }
}

/// What a device has not acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lacked {
    /// Entries of others among them. Its inbox has had a mark since before the first of those, unless the device is new.
    Others,
    /// Nothing but what it wrote itself, which leaves no mark.
    Own,
}

/// The highest client id that a device has used in a log: any above it is new, without a look into the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Highest {
    Unknown,
    None,
    Id(ClientMessageId),
}

impl Log {
    pub(super) fn new(log: LogId, held: Held<LogOp>) -> Self {
        Self {
            slot: Slot::of_log(log),
            born: held.load(),
            held,
            reading: 0,
            sends: VecDeque::new(),
            exists: false,
            created_ms: 0,
            timer_ms: 0,
            changed: Seq(0),
            first: Seq(1),
            first_durable: Seq(1),
            tail_is_all: false,
            head: Seq(0),
            durable: DurableHead::recovered(Seq(0)),
            last_time_ms: 0,
            members: members_of(log).map(Member::new).collect(),
            tail: VecDeque::new(),
            tail_bytes: 0,
            checkpoints: VecDeque::new(),
            appended_ms: 0,
            in_quiet: false,
            used: true,
            messages: 0,
            rewritten: Vec::new(),
            group: matches!(log, LogId::Group(_)).then(Box::default),
            index: Index::default(),
            goes: false,
        }
    }

    /// A member, or one that was a member of the group.
    pub(super) fn member(&mut self, user: UserId) -> Option<&mut Member> {
        let place = self.members.binary_search_by_key(&user, |member| member.user).ok()?;
        Some(&mut self.members[place])
    }

    /// The same, to be looked at.
    pub(super) fn seen_member(&self, user: UserId) -> Option<&Member> {
        let place = self.members.binary_search_by_key(&user, |member| member.user).ok()?;
        Some(&self.members[place])
    }

    /// The entry by which somebody has come into a group; the first of a direct chat.
    pub(super) fn joined(&self, user: UserId) -> Seq {
        let part = self.seen_member(user).and_then(|member| member.part.as_deref());
        part.map_or(Seq(1), |part| part.joined)
    }

    /// Something becomes of the log itself that is not durable yet.
    pub(super) fn is_changing(&self) -> bool {
        self.changed > self.durable.seq()
    }

    /// What was before its beginning is gone, and that is not durable yet.
    pub(super) fn is_being_cut(&self) -> bool {
        self.first > self.first_durable && !is(Mutation::TellOfCutEarly)
    }

    /// Takes over what was stored; `None` if it is not what was written.
    pub(super) fn take_record(&mut self, record: LogRecord) -> Option<()> {
        (self.created_ms, self.timer_ms) = (record.created_ms, record.timer_ms);
        self.first = Seq(record.first.max(1));
        self.first_durable = self.first;
        self.index = Index::take_record(record.indexed);
        match self.group.as_deref_mut() {
            Some(group) => group.take_record(record.group?),
            None => Some(()),
        }
    }

    /// What the store has of it, beside entries and members.
    pub(super) fn record(&self) -> LogRecord {
        let group = self.group.as_deref().map(Group::record);
        let first = if self.first > Seq(1) { self.first.0 } else { 0 };
        LogRecord {
            created_ms: self.created_ms,
            group,
            timer_ms: self.timer_ms,
            first,
            indexed: self.index.record(),
        }
    }

    /// Up to where somebody may see the log with this head: nowhere, if not as a member.
    pub(super) fn visible_to(&self, user: UserId, head: Seq) -> Seq {
        self.seen_member(user).map_or(Seq(0), |member| member.visible(head))
    }

    pub(super) fn device(&mut self, author: Author) -> Option<&mut Device> {
        self.member(author.user)?.devices.iter_mut().find(|device| device.id == author.device)
    }

    /// Whether a member has written in the log, durably.
    pub(super) fn has_written(&self, user: UserId) -> bool {
        let member = self.seen_member(user);
        member.and_then(|member| member.wrote).is_some_and(|seq| seq <= self.durable.seq())
    }

    /// An entry, if it is in memory.
    pub(super) fn in_tail(&self, seq: Seq) -> Option<&Arc<Entry>> {
        let first = self.tail.front()?.seq;
        self.tail.get(seq.0.checked_sub(first.0)? as usize)
    }

    /// What a device has not acknowledged, as far as is known in memory.
    pub(super) fn lacked_by(&mut self, author: Author) -> Option<Lacked> {
        let position = self.device(author)?.position;
        let head = self.visible_to(author.user, self.head);
        let visible = || self.tail.iter().rev().skip_while(|entry| entry.seq > head);
        // What it is not shown leaves no mark.
        let lacked = || {
            let beyond = visible().take_while(|entry| entry.seq > position);
            beyond.filter(|entry| !entry.is_withheld_from(author.user))
        };
        if lacked().any(|entry| entry.author != author) {
            return Some(Lacked::Others);
        }
        let is_whole =
            position >= head || self.tail.front().is_some_and(|oldest| oldest.seq <= position.next());
        is_whole.then_some(Lacked::Own)
    }

    /// How far a member has got, durably.
    pub(super) fn shown_of(&self, user: UserId) -> Watermarks {
        self.seen_member(user).map(|member| member.shown).unwrap_or_default()
    }

    /// How far all but one have got, durably: the peer, or all others who are members of the group.
    pub(super) fn shown_of_others(&self, id: LogId, user: UserId) -> Watermarks {
        match peer_of(id, user) {
            Some(peer) if peer == user => self.shown_of(user),
            Some(peer) => self.seen_member(peer).map(|peer| peer.told_shown).unwrap_or_default(),
            None => {
                let head = self.durable.seq();
                let others = self.members.iter().filter(|member| member.user != user && member.is_present());
                let all = Watermarks { delivered: head, read: head };
                others.map(|member| member.shown).fold(all, Watermarks::min)
            }
        }
    }

    /// What the members of a direct chat are not told of each other.
    pub(super) fn hush(&self, id: LogId, author: UserId) -> Hush {
        let Some(member) = self.seen_member(author) else { return Hush::default() };
        let peer = peer_of(id, author).and_then(|peer| self.seen_member(peer));
        let hides = |member: &Member| member.terms.hides_reads;
        Hush { all: member.terms.blocks, reads: hides(member) || peer.is_some_and(hides) }
    }

    /// Whether the peer in a direct chat is not to see what somebody sends. What erases it may erase.
    fn withholds(&self, id: LogId, author: UserId, kind: i32) -> bool {
        let peer = peer_of(id, author).and_then(|peer| self.seen_member(peer));
        let blocks = peer.is_some_and(|peer| peer.terms.blocks) && !is(Mutation::ShowBlocked);
        blocks && Deed::of(kind) != Some(Deed::Delete)
    }

    /// How far a member has got, durably or not.
    pub(super) fn marks_of(&self, user: UserId) -> Watermarks {
        self.seen_member(user).map(|member| member.marks).unwrap_or_default()
    }

    /// Whether what was read can't be all that was written. A log that was made has an entry, and nobody is further than
    /// its head: absence is not taken for "never was".
    pub(super) fn is_damaged(&self) -> bool {
        let beyond = |member: &Member| {
            let marks = member.marks.delivered.max(member.marks.read);
            let named =
                member.part.as_ref().map_or(Seq(0), |part| part.last_own.max(part.until.unwrap_or_default()));
            (member.wrote.is_some() && self.head == Seq(0))
                || named > self.head
                || marks > self.head
                || member.stored.iter().any(|position| position.upto > self.head.0)
        };
        // Entries are dense: the oldest one is where the log begins, or there are more before the tail.
        let oldest = self.tail.front().map_or(self.first, |oldest| oldest.seq);
        let begins_wrongly = if self.tail_is_all { oldest != self.first } else { oldest < self.first };
        (self.exists && begins_wrongly)
            || self.exists != (self.head > Seq(0))
            || self.members.iter().any(beyond)
    }

    /// How long the log is quiet before marks are cleared.
    pub(super) fn quiet_ms(&self, of_direct_ms: u64) -> u64 {
        let members = self.group.as_ref().map_or(0, |group| u64::from(group.members_made));
        of_direct_ms * (1 + members / 8).min(QUIET_TIMES_MAX)
    }

    /// Something of a group is gathered.
    pub(super) fn is_gathering(&self) -> bool {
        self.group.as_ref().is_some_and(|group| group.is_gathering)
    }

    /// Nothing waits, and everything is durable.
    pub(super) fn is_idle(&self) -> bool {
        let waits = self.group.as_ref().is_some_and(|group| !group.is_still());
        self.held.is_still()
            && self.reading == 0
            && self.sends.is_empty()
            && self.durable.seq() == self.head
            && !waits
    }

    /// The entry that a message becomes now, behind the head, and counted. It ends with the message that it is about, or as the log has
    /// its messages end.
    pub(super) fn next_entry(&mut self, id: LogId, send: Send, now_ms: u64, ends_ms: u64) -> Entry {
        let Send { author, client_id, kind, body, envelope, .. } = send;
        let (seq, time_ms) = (self.head.next(), self.next_time_ms(now_ms));
        let withheld = self.withholds(id, author.user, kind);
        let counts = is_message(kind) && !withheld;
        self.messages += u64::from(counts);
        let ends = is_message(kind) && self.timer_ms > 0;
        let by_timer = if ends { time_ms.saturating_add(self.timer_ms) } else { 0 };
        let fate = Fate { expires_ms: ends_ms.max(by_timer), withheld, ..Fate::default() };
        let (sender_bytes, other_bytes, sender_messages) = match self.group {
            Some(_) => (0, 0, 0),
            // What the peer does not see does not wait for it.
            None => self.count_written(author.user, if withheld { 0 } else { body.len() }, counts),
        };
        Entry {
            log: id,
            seq,
            author,
            client_id,
            time_ms,
            kind,
            body,
            sender_bytes,
            other_bytes,
            sender_messages,
            messages: self.messages,
            envelope,
            fate: fate.if_any(),
        }
    }

    /// When the next entry is committed, if that is now. Times of a log never fall, but for what a clock that was wrong has left:
    /// that counts as now.
    pub(super) fn next_time_ms(&self, now_ms: u64) -> u64 {
        let was_wrong = self.last_time_ms > now_ms.saturating_add(AHEAD_MS_MAX);
        if was_wrong { now_ms } else { now_ms.max(self.last_time_ms) }
    }

    /// An entry as later ones have made it, durably or not, if it is in memory.
    pub(super) fn newest_of(&self, seq: Seq) -> Option<&Arc<Entry>> {
        let rewritten = self.rewritten.iter().rev().find(|(_, entry)| entry.seq == seq);
        rewritten.map(|(_, entry)| entry).or_else(|| self.in_tail(seq))
    }

    /// What later entries have made of others, up to the durable head, is shown from here on.
    pub(super) fn show_rewritten(&mut self) {
        let durable = self.durable.seq();
        self.show(|by, _| by <= durable);
    }

    /// Shows entries as they were rewritten, if this is true of what rewrote them.
    pub(super) fn show(&mut self, mut which: impl FnMut(Seq, &Entry) -> bool) {
        for (_, entry) in self.rewritten.extract_if(.., |(by, entry)| which(*by, entry)) {
            let Some(first) = self.tail.front().map(|oldest| oldest.seq) else { continue };
            let place = entry.seq.0.checked_sub(first.0);
            if let Some(shown) = place.and_then(|place| self.tail.get_mut(place as usize)) {
                self.tail_bytes = self.tail_bytes + entry.body.len() - shown.body.len();
                *shown = entry;
            }
        }
    }

    /// That it begins here is durable.
    pub(super) fn was_cut(&mut self, first: Seq) {
        self.first_durable = self.first_durable.max(first);
    }

    /// It begins here: what was before is forgotten.
    pub(super) fn begin_at(&mut self, first: Seq) {
        self.first = first;
        while let Some(oldest) = self.tail.pop_front_if(|oldest| oldest.seq < first) {
            self.tail_bytes -= oldest.body.len();
        }
    }

    pub(super) fn remember(&mut self, entry: Arc<Entry>) {
        self.tail_bytes += entry.body.len();
        self.tail.push_back(entry);
    }

    /// Drops the oldest durable entries of the tail beyond its bounds, but for the newest of them.
    pub(super) fn trim_tail(&mut self, entries_max: usize, bytes_max: usize) {
        while let Some(oldest) = self.tail.front()
            && (self.tail.len() > entries_max || self.tail_bytes > bytes_max)
            && oldest.seq < self.durable.seq()
        {
            self.tail_bytes -= oldest.body.len();
            self.tail.pop_front();
        }
    }
}

/// What a device has changed by saying how far it has got.
pub(super) struct Advance {
    /// The member's record.
    pub(super) changed: bool,
    /// The device has everything up to here, and knows what was read; `None`: it does not.
    pub(super) position: Option<Seq>,
    /// The member's watermarks, if they have risen, and whether there is more that its other devices are to know as read.
    pub(super) marks: Option<(Watermarks, bool)>,
    /// It lacks nothing, and its inbox may hold a mark.
    pub(super) caught_up: bool,
    /// Devices that must have a mark now.
    pub(super) unmarked: Vec<DeviceId>,
}

/// How far a device has got, as stored, and whether it lacks what was read up to its member's watermarks. One that is new lacks
/// everything.
fn stored_of(stored: &[DevicePosition], marks: Watermarks, id: DeviceId) -> (Seq, bool) {
    let stored = stored.iter().find(|position| position.device == id.get());
    stored.map_or((Seq(0), marks.read > Seq(0)), |position| (Seq(position.upto), position.lacks_read))
}

impl Member {
    /// Takes over how far its devices have got, as it was stored, once its watermarks are known.
    pub(super) fn take_stored(&mut self, stored: Vec<DevicePosition>) {
        for device in &mut self.devices {
            (device.position, device.lacks_read) = stored_of(&stored, self.marks, device.id);
        }
        self.stored = stored;
    }

    /// Of whom nothing is known.
    pub(super) fn new(user: UserId) -> Self {
        Self {
            user,
            lives: false,
            devices_known: false,
            marks: Watermarks::default(),
            shown: Watermarks::default(),
            told: Watermarks::default(),
            told_shown: Watermarks::default(),
            terms: Terms::default(),
            wrote: None,
            written: 0,
            messages: 0,
            delivered_bytes: 0,
            reserved: 0,
            may_be_reserved: false,
            devices: Vec::new(),
            stored: Vec::new(),
            part: None,
        }
    }

    /// It may say something, or has not left the group.
    pub(super) fn is_present(&self) -> bool {
        self.part.as_ref().is_none_or(|part| part.until.is_none())
    }

    /// Up to where it may see a log with this head.
    pub(super) fn visible(&self, head: Seq) -> Seq {
        let until = self.part.as_ref().and_then(|part| part.until);
        let until = until.map(|until| if is(Mutation::HearAfterRemoval) { until.next() } else { until });
        until.map_or(head, |until| until.min(head))
    }

    /// The first entry that it may see.
    pub(super) fn first(&self) -> Seq {
        self.part.as_ref().map_or(Seq(1), |part| part.from)
    }

    /// Whether an entry is pushed to it.
    pub(super) fn hears(&self, seq: Seq) -> bool {
        self.part.as_ref().is_none_or(|part| part.joined <= seq) && self.visible(seq) == seq
    }

    pub(super) fn record(&self) -> MemberRecord {
        let known = self.devices.iter().map(|device| DevicePosition {
            device: device.id.get(),
            upto: device.position.0,
            lacks_read: device.lacks_read,
        });
        MemberRecord {
            delivered_upto: self.marks.delivered.0,
            read_upto: self.marks.read.0,
            positions: known.collect(),
            wrote: self.wrote.is_some(),
            delivered_bytes: self.delivered_bytes,
            told: (self.part.is_none() && self.told != self.marks)
                .then_some(ToldRecord { delivered_upto: self.told.delivered.0, read_upto: self.told.read.0 }),
            ..MemberRecord::default()
        }
    }

    /// Has the peer know how far it has got, but for what it is not told.
    pub(super) fn tell(&mut self, hush: Hush) {
        let Watermarks { delivered, read } = self.marks;
        if !hush.all || is(Mutation::TellBlocked) {
            self.told.delivered = delivered;
            self.told.read = if hush.reads { self.told.read } else { read };
        }
    }

    /// What is up to an entry, no device of the member is to have, nor to know that it was read.
    pub(super) fn begins_behind(&mut self, before: Seq) {
        for device in &mut self.devices {
            device.position = device.position.max(before);
            device.lacks_read &= self.marks.read > before;
        }
    }

    /// A device has got further, in a log with this head for the member; `None`: it is none of the member's, and nothing has changed.
    ///
    /// Of what the member has read, all its devices are to know: one that has not said so has a mark in its inbox. Where nobody else
    /// writes (`has_others`), nothing is to be known.
    pub(super) fn advance(
        &mut self,
        by: DeviceId,
        told: Watermarks,
        head: Seq,
        has_others: bool,
    ) -> Option<Advance> {
        let at = self.devices.iter().position(|device| device.id == by)?;
        let (before, marks) = (self.marks, self.marks.max(told.of_person()));
        let is_read = marks.read > before.read && has_others;
        let mut unmarked = Vec::new();
        if is_read && !is(Mutation::ForgetReading) {
            for device in self.devices.iter_mut().filter(|device| device.id != by) {
                device.lacks_read = true;
                if !std::mem::replace(&mut device.marked, true) {
                    unmarked.push(device.id);
                }
            }
        }
        let device = &mut self.devices[at];
        let knows_all = told.read == marks.read || !has_others;
        let learns = knows_all && std::mem::take(&mut device.lacks_read);
        let moved = told.delivered > device.position;
        device.position = device.position.max(told.delivered);
        let advance = Advance {
            changed: moved || learns || marks != before,
            position: Some(device.position).filter(|_| !device.lacks_read),
            marks: (marks != before).then_some((marks, is_read)),
            caught_up: (device.marked || device.stale) && device.has_all(head),
            unmarked,
        };
        self.marks = marks;
        Some(advance)
    }

    /// Takes over the devices that the user has now. One that is new lacks everything.
    pub(super) fn set_devices(&mut self, ids: &[DeviceId], log_exists: bool) {
        self.devices.retain(|device| ids.contains(&device.id));
        for id in ids {
            if !self.devices.iter().any(|device| device.id == *id) {
                let (position, lacks_read) = stored_of(&self.stored, self.marks, *id);
                self.devices.push(Device {
                    id: *id,
                    position,
                    lacks_read,
                    marked: false,
                    stale: false,
                    highest: if log_exists { Highest::Unknown } else { Highest::None },
                    saved: false,
                });
            }
        }
    }
}
