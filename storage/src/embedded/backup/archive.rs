//! The log of a chain: what was durable is appended to files, and the chain's head says how far they go.
//!
//! The head is replaced after what it names was synced, and the store lets go of a segment after the head was. A file is written
//! from its beginning to its end by one process; after a failure another one begins behind the last that the head names.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use xxhash_rust::xxh3::xxh3_64;

use super::format::{self, BackupId, CHUNK_BYTES_MAX, Kind, Salt, Writer};
use super::key::Key;
use super::records::{HEAD, HeadRecord, Item, LogPlace, log_path};
use crate::medium::Medium;
use crate::mutations::{self, Mutation};

/// Bytes that gather before they are appended, though it is not time yet.
const GATHERED_BYTES: usize = 8 << 20;

/// Bytes of a file of the log, and for how long it is appended to.
const FILE_BYTES: u64 = 64 << 20;
const FILE_TIME: Duration = Duration::from_secs(3600);

/// How often what has gathered is appended.
const EVERY: Duration = Duration::from_secs(2);

/// How often the head is replaced though nothing is new, for what it covers.
const EVERY_QUIET: Duration = Duration::from_secs(10);

/// How often it is noted which group is the newest, and how many notes wait for their groups.
const NOTE_EVERY: Duration = Duration::from_secs(1);
const NOTES_MAX: usize = 64;

/// Where a chain lies, and under which key.
#[derive(Clone, Debug)]
pub(super) struct Place<M> {
    pub(super) medium: M,
    /// The chain's directory.
    pub(super) dir: PathBuf,
    pub(super) backup: BackupId,
    pub(super) key: Option<Key>,
}

/// See the module.
pub(super) struct Archive<M: Medium> {
    place: Place<M>,
    /// As it was last written.
    pub(super) head: HeadRecord,
    file: Option<File<M>>,
    /// What is not appended yet, and up to which group it goes, with the sum of that one.
    gathered: Vec<u8>,
    last: u64,
    last_sum: u64,
    /// What was noted, of groups that have not gathered yet.
    notes: VecDeque<Note>,
    noted: Option<Duration>,
    note_ms: u64,
    /// The newest group of the store, when it was last looked at.
    newest: Option<u64>,
    /// The newest group whose time is in the log, or gathered to be.
    timed: u64,
    covers_ms: u64,
    appended: Duration,
}

/// What a look at the store has told.
struct Note {
    time_ms: u64,
    /// The newest group, of a look after this time: all that was durable then is in the log up to it.
    newest: u64,
    /// The same, of a look before this time, if there was one: up to here nothing is later.
    before: Option<u64>,
}

struct File<M: Medium> {
    writer: Writer<M>,
    place: LogPlace,
    begun: Duration,
}

impl<M: Medium> Archive<M> {
    /// Of a chain that goes on behind its head.
    pub(super) fn new(place: Place<M>, head: HeadRecord, now: Duration) -> Self {
        let (last, last_sum) = (head.last, head.last_sum);
        let (note_ms, covers_ms) = (head.time_ms, head.covers_ms);
        Self {
            place,
            head,
            file: None,
            gathered: Vec::new(),
            last,
            last_sum,
            notes: VecDeque::new(),
            noted: None,
            note_ms,
            newest: None,
            timed: last,
            covers_ms,
            appended: now,
        }
    }

    /// Whether it has gathered so much that it is to be appended first.
    pub(super) fn is_full(&self) -> bool {
        self.gathered.len() >= GATHERED_BYTES
    }

    /// Whether there are groups that the head does not name yet.
    pub(super) fn has_gathered(&self) -> bool {
        self.last > self.head.last
    }

    /// Notes that this group is the newest now, if it is time to. The clock was looked at before the store was.
    pub(super) fn note(&mut self, newest: u64, now: Duration, now_ms: u64) {
        let before = self.newest.replace(newest);
        if self.noted.is_some_and(|noted| now < noted + NOTE_EVERY) || self.notes.len() >= NOTES_MAX {
            return;
        }
        self.noted = Some(now);
        let time_ms = self.time(now_ms);
        self.notes.push_back(Note { time_ms, newest, before });
        self.take_notes();
    }

    /// A clock that is set back makes no time fall.
    fn time(&mut self, now_ms: u64) -> u64 {
        self.note_ms =
            if mutations::is(Mutation::ForgetTimeOrder) { now_ms } else { now_ms.max(self.note_ms) };
        self.note_ms
    }

    /// Takes a group, the next one.
    pub(super) fn take(&mut self, number: u64, payload: Vec<u8>) {
        (self.last, self.last_sum) = (number, xxh3_64(&payload));
        Item::Group { number, payload }.encode(&mut self.gathered);
        self.take_notes();
    }

    fn take_notes(&mut self) {
        while let Some(note) = self.notes.pop_front_if(|note| note.newest <= self.last) {
            self.covers_ms = note.time_ms;
            if let Some(group) = note.before {
                self.times(group, note.time_ms);
            }
        }
    }

    fn times(&mut self, group: u64, time_ms: u64) {
        if group > self.timed {
            Item::Time { group, time_ms }.encode(&mut self.gathered);
            self.timed = group;
        }
    }

    /// When the next append is due.
    pub(super) fn due(&self) -> Duration {
        self.appended + if self.has_gathered() { EVERY } else { EVERY_QUIET }
    }

    /// Appends what has gathered, and has the head say so, durably. Gives how many bytes were written. After a failure it is not to
    /// be used on: what it has gathered begins again behind the head.
    pub(super) fn append(
        &mut self,
        (now, now_ms): (Duration, u64),
        random: &mut dyn FnMut() -> Salt,
    ) -> io::Result<u64> {
        self.appended = now;
        let (mut bytes, time_ms) = (0, self.time(now_ms));
        if self.newest.is_some_and(|newest| self.last >= newest) {
            self.covers_ms = time_ms;
        }
        if self.has_gathered() {
            // Notes that wait for their groups are of earlier times.
            if self.notes.is_empty() {
                self.times(self.last, time_ms);
            }
            bytes = self.append_gathered(now, random)?;
            (self.head.last, self.head.last_sum) = (self.last, self.last_sum);
            self.head.log_bytes += bytes;
        }
        Ok(bytes + self.write_head(random())?)
    }

    fn append_gathered(&mut self, now: Duration, random: &mut dyn FnMut() -> Salt) -> io::Result<u64> {
        let is_old = |file: &File<M>| file.writer.bytes() >= FILE_BYTES || now >= file.begun + FILE_TIME;
        if self.file.as_ref().is_none_or(is_old) {
            self.file = Some(self.begin_file(now, random())?);
        }
        let file = self.file.as_mut().expect("it was begun");
        let before = file.writer.bytes();
        for chunk in self.gathered.chunks(CHUNK_BYTES_MAX) {
            file.writer.append(chunk, false)?;
        }
        self.head.log = Some(LogPlace { chunks: file.writer.chunks(), ..file.place.clone() });
        if !mutations::is(Mutation::HeadBeforeSync) {
            file.writer.sync()?;
        }
        self.gathered.clear();
        Ok(file.writer.bytes() - before)
    }

    /// Puts the head in its place. It names what is durable.
    pub(super) fn write_head(&mut self, salt: Salt) -> io::Result<u64> {
        if !self.has_gathered() {
            (self.head.covers_ms, self.head.time_ms) = (self.covers_ms, self.note_ms);
        }
        let Place { medium, dir, backup, key } = &self.place;
        let content = self.head.encode_to_vec();
        format::replace(medium, &dir.join(HEAD), Kind::Head, (*backup, salt), key.as_ref(), &content)
    }

    fn begin_file(&self, now: Duration, salt: Salt) -> io::Result<File<M>> {
        let Place { medium, dir, backup, key } = &self.place;
        let place = LogPlace { first: self.head.last + 1, salt: Bytes::copy_from_slice(&salt), chunks: 0 };
        let path = log_path(dir, &place);
        let mut writer = Writer::create(medium, &path, Kind::Log, (*backup, salt), key.as_ref())?;
        let mut link = Vec::new();
        Item::Link { before: self.head.log.clone(), first: place.first }.encode(&mut link);
        writer.append(&link, false)?;
        // Its name is durable before the head says it.
        writer.sync()?;
        medium.sync_dir(path.parent().expect("it lies in a directory"))?;
        Ok(File { writer, place, begun: now })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::backup::key::Keys;
    use crate::embedded::backup::records::{Items, LOG};
    use crate::medium::SimulatedMedium;
    use crate::medium::simulated::Odds;

    struct Store {
        archive: Archive<SimulatedMedium>,
        salts: u8,
        now_ms: u64,
    }

    impl Store {
        fn new() -> Self {
            let (medium, dir) = (SimulatedMedium::new(1, Odds::NONE), PathBuf::from("/backup/0001"));
            medium.make_dir(&dir.join(LOG)).expect("made");
            let place = Place { medium, dir, backup: [7; 16], key: None };
            let head = HeadRecord { chain: 1, first: 1, ..HeadRecord::default() };
            Self { archive: Archive::new(place, head, Duration::ZERO), salts: 0, now_ms: 0 }
        }

        /// The clock says this, and then the newest group is this one.
        fn looks(&mut self, now_ms: u64, newest: u64) {
            self.now_ms = now_ms;
            self.archive.note(newest, Duration::from_millis(now_ms), now_ms);
        }

        fn take(&mut self, groups: std::ops::RangeInclusive<u64>) {
            groups.for_each(|group| self.archive.take(group, vec![1]));
        }

        fn append(&mut self) {
            let salts = &mut self.salts;
            let mut random = || {
                *salts += 1;
                [*salts; 32]
            };
            let now = Duration::from_millis(self.now_ms);
            self.archive.append((now, self.now_ms), &mut random).expect("nothing fails");
        }

        /// The times of groups that are in the log.
        fn times(&self) -> Vec<(u64, u64)> {
            let Place { medium, dir, backup, .. } = &self.archive.place;
            let newest = self.archive.head.log.as_ref().expect("it has one");
            let mut items =
                Items::open(medium, dir, (*backup, 0), newest, &Keys::default()).expect("it is whole");
            let mut times = Vec::new();
            while let Some(item) = items.next().expect("it is whole") {
                if let Item::Time { group, time_ms } = item {
                    times.push((group, time_ms));
                }
            }
            times
        }
    }

    /// A backup that lagged behind the store noted when a group was the newest before it had that group, and appended the ones before with
    /// a later time: `ternctl backup verify` took that for damage.
    #[test]
    fn times_rise_though_the_log_is_behind_the_store() {
        let mut store = Store::new();
        store.looks(1000, 80);
        store.looks(2000, 100);
        store.take(1..=50);
        store.looks(5000, 200);
        store.append();
        store.take(51..=150);
        store.looks(9000, 200);
        store.append();
        store.take(151..=200);
        store.append();
        let times = store.times();
        assert!(times.is_sorted_by_key(|(_, time_ms)| *time_ms), "{times:?}");
        assert!(times.is_sorted_by_key(|(group, _)| *group), "{times:?}");
        assert_eq!(store.archive.head.covers_ms, 9000);
    }

    /// The clock was looked at before the store: what came between the two was told to have been there earlier, and a restore to that time
    /// had it.
    #[test]
    fn no_group_is_of_a_time_at_which_it_was_not_there_yet() {
        let mut store = Store::new();
        store.looks(1000, 10);
        store.take(1..=10);
        store.looks(2000, 20);
        store.take(11..=20);
        store.looks(3000, 30);
        store.take(21..=30);
        // An append is a step of its own, after another look.
        store.looks(3100, 31);
        store.append();
        assert_eq!(store.times(), [(10, 2000), (20, 3000), (30, 3100)]);
    }
}
