//! The tables in plain memory: for simulations of many devices, and tests. What was not committed is undone as by a crash.

use std::cell::Cell;
use std::collections::BTreeMap;

use tern_proto::v1;
use tern_search::{Needed, Term};
use tern_wire::ids::PRIVATE;

use super::rows::{DeviceRow, EntryRow, GoneRow, KeyRow, LogState, Outgoing, Person};
use super::tables::{Change, KEYS_MAX, Moment, Tables, Which};
use crate::error::Error;

/// See the module. A crash of a device is [`Tables::roll_back`] of what its machine gives back.
#[derive(Clone, Default, Debug)]
pub struct Memory {
    now: Content,
    /// How to come back to what is committed: the newest last.
    undo: Vec<Undo>,
    /// So many more changes and commits succeed. `None`: all.
    fails_after: Cell<Option<u32>>,
}

/// What the tables hold.
#[derive(Clone, Default, PartialEq, Debug)]
struct Content {
    device: Option<DeviceRow>,
    generations: Vec<u64>,
    logs: BTreeMap<u64, LogState>,
    entries: BTreeMap<(u64, u64), EntryRow>,
    /// Each with whether it is gone for good.
    gone: BTreeMap<u64, (GoneRow, bool)>,
    gone_last: u64,
    people: BTreeMap<u64, Person>,
    outbox: BTreeMap<u64, Outgoing>,
    keys: BTreeMap<u64, KeyRow>,
    keys_last: u64,
    private: BTreeMap<String, u64>,
    /// Of messages that are found: when they were committed, and by what they are found.
    terms: BTreeMap<(u64, u64), (u64, Vec<Term>)>,
}

/// What stood at a place before it was changed.
#[derive(Clone, Debug)]
enum Undo {
    Device(Option<DeviceRow>),
    Generations(Vec<u64>),
    Log(u64, Option<LogState>),
    Entry((u64, u64), Option<EntryRow>),
    Gone(u64, Option<(GoneRow, bool)>),
    GoneLast(u64),
    Person(u64, Option<Person>),
    Outgoing(u64, Option<Outgoing>),
    Key(u64, Option<KeyRow>),
    KeysLast(u64),
    Private(String, Option<u64>),
    Terms((u64, u64), Option<(u64, Vec<Term>)>),
}

fn restore<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}

impl Undo {
    fn apply(self, content: &mut Content) {
        match self {
            Self::Device(device) => content.device = device,
            Self::Generations(generations) => content.generations = generations,
            Self::Log(chat, log) => restore(&mut content.logs, chat, log),
            Self::Entry(place, entry) => restore(&mut content.entries, place, entry),
            Self::Gone(id, gone) => restore(&mut content.gone, id, gone),
            Self::GoneLast(id) => content.gone_last = id,
            Self::Person(user, person) => restore(&mut content.people, user, person),
            Self::Outgoing(id, outgoing) => restore(&mut content.outbox, id, outgoing),
            Self::Key(id, key) => restore(&mut content.keys, id, key),
            Self::KeysLast(id) => content.keys_last = id,
            Self::Private(key, seq) => restore(&mut content.private, key, seq),
            Self::Terms(place, terms) => restore(&mut content.terms, place, terms),
        }
    }
}

impl Memory {
    /// The tables of a device that has just been registered.
    pub fn registered(device: DeviceRow) -> Self {
        let now = Content { device: Some(device), ..Content::default() };
        Self { now, ..Self::default() }
    }

    /// So many more changes and commits succeed, and then none, as on a disk that is full. `None`: all succeed again.
    pub fn fail_after(&self, changes: Option<u32>) {
        self.fails_after.set(changes);
    }

    /// Has the next key be one so much later.
    #[cfg(test)]
    pub(crate) fn skip_keys(&mut self, count: u64) {
        self.now.keys_last += count;
    }

    /// How many terms messages are found by, in all.
    #[cfg(test)]
    pub(crate) fn count_terms(&self) -> usize {
        self.now.terms.values().map(|(_, terms)| terms.len()).sum()
    }

    #[cfg(test)]
    pub(crate) fn is_found(&self, chat: u64, seq: u64) -> bool {
        self.now.terms.contains_key(&(chat, seq))
    }

    #[cfg(test)]
    pub(crate) fn has_same(&self, other: &Self) -> bool {
        self.now == other.now
    }

    fn may_fail(&self) -> Result<(), Error> {
        match self.fails_after.get() {
            None => Ok(()),
            Some(0) => Err(Error::Store("it was made to fail".to_owned())),
            Some(left) => {
                self.fails_after.set(Some(left - 1));
                Ok(())
            }
        }
    }

    fn set_log(&mut self, log: LogState) {
        let before = self.now.logs.insert(log.chat, log);
        self.undo.push(Undo::Log(log.chat, before));
    }

    fn forget_marks(&mut self) {
        for log in self.now.logs.values().copied().collect::<Vec<_>>() {
            self.set_log(LogState { acked: 0, read_acked: 0, others_delivered: 0, others_read: 0, ..log });
        }
    }

    fn set_private(&mut self, key: &str, seq: u64) {
        let before = self.now.private.insert(key.to_owned(), seq);
        self.undo.push(Undo::Private(key.to_owned(), before));
    }

    fn add_terms(&mut self, place: (u64, u64), time_ms: u64, terms: &[Term]) {
        let before = self.now.terms.insert(place, (time_ms, terms.to_vec()));
        assert!(before.is_none(), "{place:?} was found");
        self.undo.push(Undo::Terms(place, None));
    }

    fn remove_terms(&mut self, place: (u64, u64), terms: &[Term]) {
        let before = self.now.terms.remove(&place);
        assert_eq!(before.as_ref().map(|(_, terms)| &terms[..]), Some(terms), "by what {place:?} was found");
        self.undo.push(Undo::Terms(place, before));
    }

    fn set_outgoing(&mut self, client_id: u64, outgoing: Option<Outgoing>) {
        let before = self.now.outbox.remove(&client_id);
        restore(&mut self.now.outbox, client_id, outgoing);
        self.undo.push(Undo::Outgoing(client_id, before));
    }

    fn erase(&mut self, chat: u64, seq: u64) {
        let edit = i32::from(v1::Kind::Edit);
        let entries = self.now.entries.range_mut((chat, seq)..=(chat, u64::MAX));
        for (place, entry) in entries {
            if entry.seq == seq || (seq > 0 && entry.kind == edit && entry.envelope.about == seq) {
                self.undo.push(Undo::Entry(*place, Some(entry.clone())));
                entry.erase();
            }
        }
    }

    fn doubt(&mut self, chat: u64, above: u64, told: u64) {
        let places: Vec<_> =
            self.now.entries.range((chat, above + 1)..=(chat, u64::MAX)).map(|(place, _)| *place).collect();
        if chat == PRIVATE {
            for (key, seq) in self.now.private.extract_if(.., |_, seq| *seq > above) {
                self.undo.push(Undo::Private(key, Some(seq)));
            }
        }
        self.undo.push(Undo::GoneLast(self.now.gone_last));
        for place in places {
            let mut entry = self.now.entries.remove(&place).expect("its place was just listed");
            self.undo.push(Undo::Entry(place, Some(entry.clone())));
            entry.seen |= entry.seq <= told;
            self.now.gone_last += 1;
            let id = self.now.gone_last;
            self.now.gone.insert(id, (GoneRow { id, chat, entry, told: false }, false));
            self.undo.push(Undo::Gone(id, None));
        }
    }

    /// Changes what is gone, where `which` says so.
    fn change_gone(
        &mut self,
        which: impl Fn(&(GoneRow, bool)) -> bool,
        change: impl Fn(&mut (GoneRow, bool)),
    ) {
        for (id, gone) in &mut self.now.gone {
            if which(gone) {
                self.undo.push(Undo::Gone(*id, Some(gone.clone())));
                change(gone);
            }
        }
    }

    fn end(&mut self, by_ms: u64) {
        let ends = |entry: &EntryRow| entry.expires_ms > 0 && !entry.erased && entry.expires_ms <= by_ms;
        for (place, entry) in self.now.entries.iter_mut().filter(|(_, entry)| ends(entry)) {
            self.undo.push(Undo::Entry(*place, Some(entry.clone())));
            entry.erase();
        }
        self.change_gone(|(gone, _)| ends(&gone.entry), |(gone, _)| gone.entry.erase());
    }

    fn see(&mut self, chat: u64, seq: u64, time_ms: u64) {
        if let Some(entry) = self.now.entries.get_mut(&(chat, seq)).filter(|entry| entry.time_ms == time_ms) {
            self.undo.push(Undo::Entry((chat, seq), Some(entry.clone())));
            entry.seen = true;
        }
        self.change_gone(
            |(gone, _)| (gone.chat, gone.entry.seq, gone.entry.time_ms) == (chat, seq, time_ms),
            |(gone, _)| gone.entry.seen = true,
        );
    }

    fn add_key(&mut self, key: &KeyRow) {
        self.undo.push(Undo::KeysLast(self.now.keys_last));
        self.now.keys_last += 1;
        let id = self.now.keys_last;
        self.now.keys.insert(id, key.clone());
        self.undo.push(Undo::Key(id, None));
        let old = self.now.keys.range(..=id.saturating_sub(KEYS_MAX));
        let old: Vec<_> = old.filter(|(_, key)| key.sent.is_some()).map(|(id, _)| *id).collect();
        for id in old {
            let before = self.now.keys.remove(&id);
            self.undo.push(Undo::Key(id, before));
        }
    }

    /// Changes the key of the message with this number, or forgets it.
    fn change_key(&mut self, client_id: u64, change: impl FnOnce(KeyRow) -> Option<KeyRow>) {
        let found = self.now.keys.iter().find(|(_, key)| key.client_id == client_id);
        if let Some((id, key)) = found.map(|(id, key)| (*id, key.clone())) {
            self.undo.push(Undo::Key(id, Some(key.clone())));
            restore(&mut self.now.keys, id, change(key));
        }
    }
}

impl Tables for Memory {
    fn device(&self) -> Result<Option<DeviceRow>, Error> {
        Ok(self.now.device.clone())
    }

    fn generations(&self) -> Result<Vec<u64>, Error> {
        Ok(self.now.generations.clone())
    }

    fn log(&self, chat: u64) -> Result<Option<LogState>, Error> {
        Ok(self.now.logs.get(&chat).copied())
    }

    fn logs(&self, which: Which, limit: u32) -> Result<Vec<LogState>, Error> {
        let mut logs: Vec<_> = self.now.logs.values().filter(|log| which.matches(log)).copied().collect();
        if which == Which::ToResume {
            logs.sort_by_key(|log| std::cmp::Reverse((log.position > log.acked, log.last_own)));
        }
        logs.truncate(limit as usize);
        Ok(logs)
    }

    fn entry(&self, chat: u64, seq: u64) -> Result<Option<EntryRow>, Error> {
        Ok(self.now.entries.get(&(chat, seq)).cloned())
    }

    fn entries(&self, chat: u64, after: u64, upto: u64, limit: u32) -> Result<Vec<EntryRow>, Error> {
        if upto <= after {
            return Ok(Vec::new());
        }
        let entries = self.now.entries.range((chat, after + 1)..=(chat, upto));
        Ok(entries.take(limit as usize).map(|(_, entry)| entry.clone()).collect())
    }

    fn joined(&self, chat: u64, after: u64) -> Result<u64, Error> {
        let mut upto = after;
        for (_, seq) in self.now.entries.range((chat, after + 1)..=(chat, u64::MAX)).map(|(place, _)| *place)
        {
            if seq != upto + 1 {
                break;
            }
            upto = seq;
        }
        Ok(upto)
    }

    fn first_unseen(&self, chat: u64, after: u64) -> Result<Option<u64>, Error> {
        let mut entries = self.now.entries.range((chat, after + 1)..=(chat, u64::MAX));
        Ok(entries.find(|(_, entry)| !entry.seen).map(|((_, seq), _)| *seq))
    }

    fn has_written(&self, chat: u64) -> Result<bool, Error> {
        let mut entries = self.now.entries.range((chat, 0)..=(chat, u64::MAX));
        Ok(entries.any(|(_, entry)| entry.sender == chat))
    }

    fn is_deleted(&self, chat: u64, seq: u64) -> Result<bool, Error> {
        let mut later = self.now.entries.range((chat, seq + 1)..=(chat, u64::MAX));
        let erases = [v1::Kind::Deletion, v1::Kind::Private].map(i32::from);
        Ok(seq > 0 && later.any(|(_, entry)| erases.contains(&entry.kind) && entry.envelope.about == seq))
    }

    fn newest_edit(&self, chat: u64, seq: u64) -> Result<Option<EntryRow>, Error> {
        let edit = i32::from(v1::Kind::Edit);
        let mut later = self.now.entries.range((chat, seq + 1)..=(chat, u64::MAX)).rev();
        let is_edit = |entry: &EntryRow| entry.kind == edit && entry.envelope.about == seq && !entry.erased;
        Ok(later.find(|(_, entry)| is_edit(entry)).map(|(_, entry)| entry.clone()))
    }

    fn places(
        &self,
        needed: &[Needed],
        chat: Option<u64>,
        before: Option<Moment>,
        limit: u32,
    ) -> Result<Vec<Moment>, Error> {
        let has = |terms: &[Term], needed: &Needed| match needed {
            Needed::Term(term) => terms.contains(term),
            Needed::Prefix(prefix) => terms.iter().any(|term| term.starts_with(prefix)),
        };
        let found = self.now.terms.iter().filter(|(_, (_, terms))| needed.iter().all(|one| has(terms, one)));
        let places = found.map(|((chat, seq), (time_ms, _))| (*time_ms, *chat, *seq));
        let in_chat = |place: &Moment| chat.is_none_or(|chat| chat == place.1);
        let mut places: Vec<_> =
            places.filter(in_chat).filter(|place| before.is_none_or(|before| *place < before)).collect();
        places.sort_unstable_by(|one, other| other.cmp(one));
        places.truncate(limit as usize);
        Ok(places)
    }

    fn next_end(&self) -> Result<Option<u64>, Error> {
        let all = self.now.entries.values().chain(self.now.gone.values().map(|(gone, _)| &gone.entry));
        let ending = all.filter(|entry| entry.expires_ms > 0 && !entry.erased);
        Ok(ending.map(|entry| entry.expires_ms).min())
    }

    fn ending(&self, by_ms: u64) -> Result<Vec<(u64, EntryRow)>, Error> {
        let ends = |entry: &EntryRow| entry.expires_ms > 0 && !entry.erased && entry.expires_ms <= by_ms;
        let ending = self.now.entries.iter().filter(|(_, entry)| ends(entry));
        Ok(ending.map(|((chat, _), entry)| (*chat, entry.clone())).collect())
    }

    fn private_seq(&self, key: &str) -> Result<Option<u64>, Error> {
        Ok(self.now.private.get(key).copied())
    }

    fn gone_like(&self, chat: u64, entry: &EntryRow) -> Result<Vec<GoneRow>, Error> {
        let is_like =
            |gone: &GoneRow| gone.chat == chat && gone.entry.seq == entry.seq && gone.entry.is_same(entry);
        Ok(self.now.gone.values().map(|(gone, _)| gone).filter(|gone| is_like(gone)).cloned().collect())
    }

    fn gone_untold(&self, after: u64, limit: u32) -> Result<Vec<GoneRow>, Error> {
        let gone = self.now.gone.range(after + 1..).map(|(_, gone)| gone);
        let untold = gone.filter(|(gone, for_good)| *for_good && !gone.told);
        Ok(untold.take(limit as usize).map(|(gone, _)| gone.clone()).collect())
    }

    fn is_in_doubt(&self) -> Result<bool, Error> {
        Ok(self.now.gone.values().any(|(_, for_good)| !for_good))
    }

    fn person(&self, user_id: u64) -> Result<Option<Person>, Error> {
        Ok(self.now.people.get(&user_id).cloned())
    }

    fn person_by_phone(&self, phone: &str) -> Result<Option<Person>, Error> {
        Ok(self.now.people.values().find(|person| person.phone == phone).cloned())
    }

    fn outgoing(&self, client_id: u64) -> Result<Option<Outgoing>, Error> {
        Ok(self.now.outbox.get(&client_id).cloned())
    }

    fn outbox(&self) -> Result<Vec<(u64, u64)>, Error> {
        Ok(self.now.outbox.values().map(|outgoing| (outgoing.client_id, outgoing.chat)).collect())
    }

    fn key(&self, key: &str) -> Result<Option<KeyRow>, Error> {
        Ok(self.now.keys.values().find(|row| row.key == key).cloned())
    }

    fn change(&mut self, change: Change<'_>) -> Result<(), Error> {
        self.may_fail()?;
        match change {
            Change::Device(device) => {
                let before = self.now.device.replace(device.clone());
                self.undo.push(Undo::Device(before));
            }
            Change::Generation(generation) => {
                if !self.now.generations.contains(&generation) {
                    self.undo.push(Undo::Generations(self.now.generations.clone()));
                    self.now.generations.push(generation);
                }
            }
            Change::ForgetGenerations(but) => {
                self.undo.push(Undo::Generations(self.now.generations.clone()));
                self.now.generations.retain(|generation| Some(*generation) == but);
            }
            Change::Log(log) => self.set_log(log),
            Change::ForgetMarks => self.forget_marks(),
            Change::Entry(chat, entry) => {
                let before = self.now.entries.insert((chat, entry.seq), entry.clone());
                self.undo.push(Undo::Entry((chat, entry.seq), before));
            }
            Change::Erase { chat, seq } => self.erase(chat, seq),
            Change::End(by_ms) => self.end(by_ms),
            Change::Private(key, seq) => self.set_private(key, seq),
            Change::Found { chat, seq, time_ms, terms } => self.add_terms((chat, seq), time_ms, terms),
            Change::NotFound { chat, seq, terms } => self.remove_terms((chat, seq), terms),
            Change::Doubt { chat, above, told } => self.doubt(chat, above, told),
            Change::NotGone(id) => {
                let before = self.now.gone.remove(&id);
                self.undo.push(Undo::Gone(id, before));
            }
            Change::GoneForGood => {
                self.change_gone(|(_, for_good)| !for_good, |(_, for_good)| *for_good = true)
            }
            Change::Seen { chat, seq, time_ms } => self.see(chat, seq, time_ms),
            Change::GoneTold(upto) => {
                self.change_gone(
                    |(gone, for_good)| *for_good && gone.id <= upto,
                    |(gone, _)| gone.told = true,
                );
            }
            Change::Person(person) => {
                let before = self.now.people.insert(person.user_id, person.clone());
                self.undo.push(Undo::Person(person.user_id, before));
            }
            Change::Outgoing(outgoing) => self.set_outgoing(outgoing.client_id, Some(outgoing.clone())),
            Change::Done(client_id) => self.set_outgoing(client_id, None),
            Change::Key(key) => self.add_key(key),
            Change::KeySent(client_id, sent) => {
                self.change_key(client_id, |key| Some(KeyRow { sent: Some(sent), ..key }))
            }
            Change::ForgetKey(client_id) => self.change_key(client_id, |_| None),
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), Error> {
        let may = self.may_fail();
        match may {
            Ok(()) => self.undo.clear(),
            Err(_) => self.roll_back(),
        }
        may
    }

    fn roll_back(&mut self) {
        while let Some(undo) = self.undo.pop() {
            undo.apply(&mut self.now);
        }
    }
}
