//! The books: what the store holds, row by row, and whether it adds up.
//!
//! They are read through a port of the engine, as the brain reads, at each start of a process and at the end. What each promise says of
//! them, [`Books::audit`] lists.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tern_proto::v1;
use tern_search::{Page, Segment};
use tern_shard::limits::GROUP_TAIL_MIN;
use tern_storage::LogId;
use tern_storage::keys::{self, Relation};
use tern_storage::records::{
    ClientMessageRecord, DeviceRecord, EntryRecord, LogRecord, MemberRecord, MembersRecord, OutboxRecord,
    PhoneHashRecord, PrivacyRecord, PushTokenRecord, ReportRecord, UnreadRecord, UserRecord,
};
use tern_wire::ids::{Phone, PhoneHash};

use crate::census::Census;
use crate::kept::Kept;
use crate::media;
use crate::model::{Group, Stay};
use crate::record::{Record, place_of};
use crate::reports::Stored;
use crate::store::Store;
use crate::talk::{Speaker, Talk, is_private, says};

/// Bytes of a key before the identity: the table's letter and the slot.
const PREFIX: usize = 3;

/// Bytes of a log's identity in a key.
const LOG_BYTES: usize = 17;

/// The clock was wrong by more than this, where the times of a log fall.
const AHEAD_MS_MAX: u64 = 60_000;

/// What the store says of a log.
#[derive(Default, Debug)]
pub(crate) struct Log {
    exists: bool,
    /// Of a group: what names its picture.
    picture: Bytes,
    /// All that were ever in it: those before the first one that is left as they were written last.
    pub(crate) entries: Vec<EntryRecord>,
    /// Where what is left begins.
    pub(crate) first: u64,
    pub(crate) members: BTreeMap<u64, MemberRecord>,
    /// What a group's entries say of it.
    pub(crate) group: Option<Group>,
    memberships: BTreeSet<u64>,
    /// Of a direct chat or a private log: whose it is.
    people: BTreeSet<u64>,
    /// What is due: when, and of which entry.
    due: BTreeSet<(u64, u64)>,
    /// Its full-text index, and the entries whose words are to be taken out of it.
    pages: Vec<Page>,
    leaving: BTreeSet<u64>,
    /// By user, device and number: the seq.
    clients: BTreeMap<(u64, u32, u64), u64>,
}

/// See the module.
#[derive(Default, Debug)]
pub(crate) struct Books {
    pub(crate) logs: BTreeMap<LogId, Log>,
    pub(crate) users: BTreeMap<u64, UserRecord>,
    pub(crate) devices: BTreeMap<(u64, u32), DeviceRecord>,
    marks: BTreeSet<(u64, u32, LogId)>,
    /// Who blocks whom.
    pub(crate) blocked: BTreeSet<(u64, u64)>,
    pub(crate) privacy: BTreeMap<u64, PrivacyRecord>,
    /// Who has whom as a contact.
    contacts: BTreeSet<(u64, u64)>,
    /// Who is found by the hash of a phone.
    hashes: BTreeMap<Vec<u8>, u64>,
    /// What was counted of days.
    census: Census,
    pub(crate) reports: Stored,
    media: media::Stored,
    /// Chats of users of which devices are still to be told.
    pub(crate) outbox: BTreeSet<(u64, LogId)>,
    /// Who blocks whom, and is to have that one's feed emptied of their stories.
    pub(crate) hiding: BTreeSet<(u64, u64)>,
}

/// All logs together.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Sums {
    /// Entries in the store.
    pub committed: u64,
    /// Of each entry, for each living device of each member: the device has said that it has it.
    pub delivered: u64,
    /// Or it has not, and it is known from the store alone that it is to get it.
    pub pending: u64,
}

impl Log {
    pub(crate) fn head(&self) -> u64 {
        self.entries.len() as u64
    }

    fn stay(&self, user: u64) -> Option<Stay> {
        Some(self.group.as_ref()?.people.get(&user)?.last())
    }

    /// Whether somebody is one of its people, or was.
    pub(crate) fn is_or_was_in(&self, user: u64) -> bool {
        self.memberships.contains(&user)
    }

    pub(crate) fn is_in(&self, user: u64) -> bool {
        self.stay(user).is_none_or(|stay| stay.until == 0)
    }

    /// Whether somebody may see an entry, or might once.
    pub(crate) fn may_see(&self, user: u64, seq: u64) -> bool {
        let Some(group) = &self.group else { return true };
        let stays = group.people.get(&user).map(|person| &person.stays);
        stays.into_iter().flatten().any(|stay| stay.from <= seq && (stay.until == 0 || seq <= stay.until))
    }

    /// What is left.
    fn left(&self) -> &[EntryRecord] {
        &self.entries[self.first.max(1) as usize - 1..]
    }

    /// What has outlived its time, or is to be erased and nothing says so; or was erased before this.
    fn ends_in_time(&self, kept: &Kept, latest_ms: u64) -> Result<(), String> {
        for EntryRecord { seq, expires_ms, erased, time_ms, .. } in self.left() {
            if *expires_ms > 0 && !erased && !self.due.contains(&(*expires_ms, *seq)) {
                return Err(format!("{seq} ends at {expires_ms}, and nothing says so"));
            }
            // That its words are to go may stand in the place of its end, if both are due at the same moment.
            let by_deed = self.due.contains(&(*expires_ms, *seq)) || self.leaving.contains(seq);
            if *erased && *expires_ms > latest_ms && !by_deed && !kept.is_old(*time_ms, latest_ms) {
                return Err(format!("{seq} ends at {expires_ms}, and was erased before"));
            }
        }
        let left = self.first..=self.head();
        match self.due.iter().find(|(_, seq)| !left.contains(seq)) {
            Some((_, seq)) => Err(format!("something is due of {seq}, which is not there")),
            None => Ok(()),
        }
    }

    /// Words of an entry that is gone, which nothing says are to be taken out of the index.
    fn leaves_the_index(&self) -> Result<(), String> {
        for page in &self.pages {
            let run = page.run();
            let segment =
                Segment::of_pages(run, vec![page.clone()]).map_err(|damaged| damaged.to_string())?;
            for seq in segment.postings().flat_map(|(_, seqs)| seqs) {
                let place = seq.checked_sub(1).and_then(|place| self.entries.get(place as usize));
                let is_gone = seq < self.first || place.is_none_or(|entry| entry.erased);
                let leaves = if seq < self.first {
                    self.leaving.iter().any(|leaving| run.contains(*leaving))
                } else {
                    self.leaving.contains(&seq)
                };
                if is_gone && !leaves {
                    return Err(format!("{seq} is gone, and words of it are in the index: {run:?}"));
                }
            }
        }
        Ok(())
    }

    /// The first entry that has outlived its time, at this time.
    pub(crate) fn outlived(&self, now_ms: u64) -> Option<u64> {
        let outlived =
            |entry: &&EntryRecord| entry.expires_ms > 0 && entry.expires_ms <= now_ms && !entry.erased;
        self.left().iter().find(outlived).map(|entry| entry.seq)
    }

    /// What is left of what was to be cut off before this: all have it, and it is not what always stays.
    pub(crate) fn stays_too_long(&self, kept: &Kept, now_ms: u64) -> Option<u64> {
        let always = if self.group.is_some() { 2 * GROUP_TAIL_MIN.0 as u64 } else { 1 };
        let oldest = self.left().first().filter(|oldest| oldest.seq + always <= self.head())?;
        let have_all = self.memberships.iter().all(|user| {
            let delivered = self.members.get(user).map_or(0, |member| member.delivered_upto);
            *user == oldest.sender || !self.is_in(*user) || delivered >= oldest.seq
        });
        (have_all && kept.is_old(oldest.time_ms, now_ms)).then_some(oldest.seq)
    }

    /// Up to where a member sees it.
    pub(crate) fn visible_to(&self, user: u64) -> u64 {
        self.stay(user).filter(|stay| stay.until > 0).map_or(self.head(), |stay| stay.until)
    }

    /// The first entry that is pushed to a member.
    pub(crate) fn joined(&self, user: u64) -> u64 {
        self.stay(user).map_or(1, |stay| stay.joined)
    }

    /// Whether another one keeps back how far they have got.
    pub(crate) fn keeps_back(&self, user: u64) -> bool {
        self.members.iter().any(|(other, member)| *other != user && member.told.is_some())
    }

    /// One's own last message up to a mark; 0: none.
    pub(crate) fn own_upto(&self, user: u64, mark: u64) -> u64 {
        let own = self.entries.iter().filter(|entry| entry.sender == user && entry.seq <= mark);
        own.map(|entry| entry.seq).max().unwrap_or(0)
    }

    /// How far all but one of those who are in it have got, as the one may know; in a chat with oneself, one has.
    pub(crate) fn others(&self, user: u64) -> (u64, u64) {
        let is_alone = self.people.len() == 1;
        let is_in = |other: &u64| self.stay(*other).is_none_or(|stay| stay.until == 0);
        let all = if self.people.is_empty() { &self.memberships } else { &self.people };
        let others = all.iter().filter(|other| (**other != user || is_alone) && is_in(other));
        let marks = others.map(|other| {
            let member = self.members.get(other).cloned().unwrap_or_default();
            match member.told.filter(|_| *other != user) {
                Some(told) => (told.delivered_upto, told.read_upto),
                None => (member.delivered_upto, member.read_upto),
            }
        });
        marks.fold((self.head(), self.head()), |one, other| (one.0.min(other.0), one.1.min(other.1)))
    }
}

impl Books {
    /// Reads all there is. `None`: the store can't be read now.
    pub(crate) fn read(store: &Store, now: Duration, kept: &Kept) -> Result<Option<Self>, String> {
        if !store.is_readable() {
            return Ok(None);
        }
        let mut books = Self::default();
        for table in [
            b'l', b'e', b'w', b'g', b'x', b't', b'u', b'd', b'i', b'r', b'f', b'h', b'n', b'q', b'o', b'v',
            b'y', b'z',
        ] {
            let Some(rows) = store.table(table, now) else { return Ok(None) };
            for (key, value) in rows {
                books
                    .row(table, &key, &value, kept)
                    .ok_or_else(|| format!("{}: no record", keys::describe(&key)))?;
            }
        }
        for (id, log) in &mut books.logs {
            log.people = match *id {
                LogId::Direct(lower, higher) => BTreeSet::from([lower, higher]),
                LogId::Private(user) => BTreeSet::from([user]),
                LogId::Group(_) => BTreeSet::new(),
            };
            if let LogId::Group(_) = id {
                let group =
                    kept.group_of(*id, log.entries.iter()).map_err(|what| format!("{id:?}: {what}"))?;
                log.group = Some(group).filter(|group| !group.people.is_empty());
            }
        }
        Ok(Some(books))
    }

    /// What is due: something of an entry, or that its words are to be taken out of the index.
    fn due_row(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        if let Some((_, user, other, _)) = keys::story_due_of(key).filter(|_| value == keys::TO_HIDE) {
            self.hiding.insert((user, other));
            return Some(());
        }
        let (at_ms, log, seq) = keys::due_of(key)?;
        let log = self.logs.entry(log).or_default();
        if value.is_empty() {
            log.due.insert((at_ms, seq));
        } else {
            log.leaving.insert(seq);
        }
        Some(())
    }

    /// A page of a full-text index, under its own run; or that a run has none.
    fn words_row(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let (log, run) = keys::run_of_words(key)?;
        if value.is_empty() {
            return Some(());
        }
        let page = Page::decode(value).ok()?;
        (page.run().first() == run.0 && page.run().count() == u64::from(run.1)).then_some(())?;
        self.logs.entry(log).or_default().pages.push(page);
        Some(())
    }

    fn row(&mut self, table: u8, key: &[u8], value: &[u8], kept: &Kept) -> Option<()> {
        let number = |at: usize| Some(u64::from_be_bytes(*key.get(at..)?.first_chunk()?));
        let device = |at: usize| Some(u32::from_be_bytes(*key.get(at..)?.first_chunk()?));
        let log = || log_in(key);
        let behind = PREFIX + LOG_BYTES;
        match table {
            b'e' => {
                let (record, log) = (EntryRecord::decode(value).ok()?, self.logs.entry(log()?).or_default());
                // Dense, and under the seq that it names.
                log.entries.push(record);
                let (seq, record) = (log.head(), log.entries.last().expect("it was just pushed"));
                (keys::number_of(key) == Some(seq) && record.seq == seq).then_some(())?;
            }
            b'l' => {
                let (id, record) = (log()?, LogRecord::decode(value).ok()?);
                let (first, log) = (record.first.max(1), self.logs.entry(id).or_default());
                log.picture = record.group.map(|group| group.picture).unwrap_or_default();
                (log.exists, log.first, log.entries) = (true, first, kept.before(id, first)?);
            }
            b'w' => {
                let id = log()?;
                let members = &mut self.logs.entry(id).or_default().members;
                match id {
                    LogId::Direct(..) | LogId::Private(_) => {
                        drop(members.insert(number(behind)?, MemberRecord::decode(value).ok()?));
                    }
                    LogId::Group(_) => {
                        let rows = MembersRecord::decode(value).ok()?.members;
                        members.extend(rows.into_iter().map(|record| (record.user, record)));
                    }
                }
            }
            b'x' => {
                let record = ClientMessageRecord::decode(value).ok()?;
                let client = (number(behind)?, device(behind + 8)?, number(behind + 12)?);
                self.logs.entry(log()?).or_default().clients.insert(client, record.seq);
            }
            b't' => self.due_row(key, value)?,
            b'f' => self.words_row(key, value)?,
            b'n' => self.census.row(key, value)?,
            b'o' | b'v' => self.media.row(key, value)?,
            b'q' => drop(self.reports.insert(keys::report_of(key)?, ReportRecord::decode(value).ok()?)),
            b'g' => {
                self.logs.entry(keys::log_of(key)?).or_default().memberships.insert(number(PREFIX)?);
            }
            b'y' => match keys::PushRow::of(key)? {
                keys::PushRow::Device(_) => PushTokenRecord::decode(value).map(drop).ok()?,
                keys::PushRow::Unread(_) => UnreadRecord::decode(value).map(drop).ok()?,
            },
            b'z' => {
                OutboxRecord::decode(value).ok()?;
                let (user, log, _) = keys::outbox_of(key)?;
                self.outbox.insert((user, log));
            }
            b'r' | b'h' | b'u' | b'd' | b'i' => self.row_of_people(table, key, value)?,
            _ => unreachable!("no other table is read"),
        }
        Some(())
    }

    /// Who people are, what they say of others, and by what they are found.
    fn row_of_people(&mut self, table: u8, key: &[u8], value: &[u8]) -> Option<()> {
        if table == b'h' {
            let user = PhoneHashRecord::decode(value).ok()?.user;
            self.hashes.insert(key.get(PREFIX..)?.to_vec(), user);
            return Some(());
        }
        let user = u64::from_be_bytes(*key.get(PREFIX..)?.first_chunk()?);
        match table {
            b'u' => drop(self.users.insert(user, UserRecord::decode(value).ok()?)),
            b'd' => {
                let device = (user, keys::device_of(key)?);
                self.devices.insert(device, DeviceRecord::decode(value).ok()?);
            }
            b'i' => {
                let device = u32::from_be_bytes(*key.get(PREFIX + 8..)?.first_chunk()?);
                self.marks.insert((user, device, keys::log_of(key)?));
            }
            _ => match Relation::of(key)? {
                Relation::Privacy => drop(self.privacy.insert(user, PrivacyRecord::decode(value).ok()?)),
                Relation::Blocked(other) => drop(self.blocked.insert((user, other))),
                Relation::Contact(other) => drop(self.contacts.insert((user, other))),
                Relation::LastSeen | Relation::Muted(_) => {}
            },
        }
        Some(())
    }

    /// Who of the users has a phone and lets somebody find them by it; 0: nobody.
    pub(crate) fn found(&self, asker: u64, phone: &str) -> u64 {
        let has_it = |(_, record): &(&u64, &UserRecord)| record.deleted_ms == 0 && record.phone == phone;
        let Some((user, _)) = self.users.iter().find(has_it) else { return 0 };
        let audience = self.privacy.get(user).map_or(0, |privacy| privacy.found_by_phone);
        let wrote = |log: &Log| log.members.get(user).is_some_and(|member| member.wrote);
        let has_written = self.logs.get(&LogId::direct(asker, *user)).is_some_and(wrote);
        let is_let = match audience {
            0 => true,
            1 => self.contacts.contains(&(*user, asker)),
            _ => false,
        };
        if *user == asker || is_let || has_written { *user } else { 0 }
    }

    /// Whoever is to be found by the hash of their phone is, and nobody else.
    fn hashes_are_whole(&self) -> Result<(), String> {
        let living = self.users.iter().filter(|(_, record)| record.deleted_ms == 0);
        let hash = |phone: &str| PhoneHash::of(&Phone::parse(phone).expect("a phone")).as_bytes().to_vec();
        let due: BTreeMap<_, _> = living.map(|(user, record)| (hash(&record.phone), *user)).collect();
        if due == self.hashes {
            return Ok(());
        }
        Err(format!("{} are found by hashes of their phones, and {} are to be", self.hashes.len(), due.len()))
    }

    /// The devices of a user whose sessions have not ended.
    fn living(&self, user: u64) -> impl Iterator<Item = (u32, &DeviceRecord)> {
        let devices = self.devices.range((user, 0)..=(user, u32::MAX));
        devices.filter(|(_, device)| device.revoked_ms == 0).map(|((_, number), device)| (*number, device))
    }

    fn lives(&self, user: u64, device: u32) -> bool {
        self.devices.get(&(user, device)).is_some_and(|device| device.revoked_ms == 0)
    }

    /// Whether the books add up, and hold what was promised:
    /// - whoever lives is found by the hash of their phone, and nobody else;
    /// - what was counted of days is what the accounts say, each once;
    /// - a log has its records, its entries are dense from 1, and their times do not fall but where the clock was set right;
    /// - each entry was said, once, by its author in this chat, and is the one under its author's number;
    /// - what its entries say of the sums of entries and bytes before them is so;
    /// - what was acknowledged stands at its place;
    /// - what operators are told of is what was told, as its reporter saw it, and all that was acknowledged;
    /// - what goes with a message is there, and what goes with none is found;
    /// - what is to be erased stands among what is due, and is not erased before any process's clock has said so;
    /// - nobody is beyond the head, nothing is read that is not delivered, and nothing a device has is not delivered;
    /// - an entry that a living device has not said that it has, and has not written itself, is marked in its inbox, or the device is
    ///   new and asks for all.
    pub(crate) fn audit(
        &self,
        record: &Record,
        kept: &Kept,
        media: &media::Media,
        latest_ms: u64,
    ) -> Result<Sums, String> {
        let logs = self.logs.iter();
        let left = logs.clone().flat_map(|(id, log)| log.left().iter().map(|entry| (*id, entry)));
        let of_users = self.users.iter().map(|(user, record)| (LogId::Private(*user), &record.picture));
        self.media.hold(media, left, logs.map(|(id, log)| (*id, &log.picture)).chain(of_users))?;
        self.hashes_are_whole()?;
        self.census.holds(&self.users, &self.devices, &self.logs)?;
        let (mut sums, mut stand) = (Sums::default(), BTreeSet::new());
        let is_old = |entry: &EntryRecord| kept.is_old(entry.time_ms, latest_ms);
        for (id, log) in &self.logs {
            match id {
                LogId::Direct(..) | LogId::Private(_) => self.audit_log(*id, log, kept, is_old),
                LogId::Group(_) => audit_group(log, is_old),
            }
            .and_then(|()| log.ends_in_time(kept, latest_ms))
            .and_then(|()| log.leaves_the_index())
            .map_err(|what| format!("{id:?}: {what}"))?;
            for entry in &log.entries {
                // What was erased, and nobody was told of before, has no number.
                let Some(number) = record.stands_in(*id, entry)? else { continue };
                if !stand.insert(number) && !record.may_be_twice(number) {
                    return Err(format!("message {number} stands twice, the second time in {id:?}"));
                }
            }
            sums.committed += log.head();
            let (delivered, pending) =
                self.audit_devices(*id, log).map_err(|what| format!("{id:?}: {what}"))?;
            sums.delivered += delivered;
            sums.pending += pending;
        }
        record.acknowledged_stand(self)?;
        record.reports.stand(self, record)?;
        Ok(sums)
    }

    fn audit_log(
        &self,
        id: LogId,
        log: &Log,
        kept: &Kept,
        is_old: impl Fn(&EntryRecord) -> bool,
    ) -> Result<(), String> {
        if log.entries.iter().any(|entry| is_private(entry) != matches!(id, LogId::Private(_))) {
            return Err(
                "what is told to one's own devices stands in a chat, or the other way round".to_owned()
            );
        }
        if log.exists != (log.head() > 0) {
            return Err(format!("its record is there: {}, its entries are {}", log.exists, log.head()));
        }
        let sees = |user: &&u64| log.entries.iter().any(|entry| is_seen(entry, **user));
        if log.exists && !log.memberships.iter().eq(log.people.iter().filter(sees)) {
            return Err(format!("its members are {:?}", log.memberships));
        }
        times_rise(log)?;
        let mut written = BTreeMap::<u64, (u64, u64)>::new();
        let (mut talk, mut messages) = (Talk::default(), 0);
        for entry in &log.entries {
            let EntryRecord { seq, sender, .. } = *entry;
            talk.take(&kept.whole(id, entry), Speaker { first: 1, is_admin: false })
                .map_err(|what| format!("entry {seq} of {sender}: {what}"))?;
            let counts = u64::from(says(entry.kind) && !entry.withheld);
            messages += counts;
            let (count, bytes) = written.entry(sender).or_default();
            // Of what was erased only the sums know how long it was.
            let length = if entry.erased {
                entry.sender_bytes.saturating_sub(*bytes)
            } else if entry.withheld {
                0
            } else {
                entry.body.len() as u64
            };
            (*count, *bytes) = (*count + counts, *bytes + length);
            let (count, bytes) = (*count, *bytes);
            let others: u64 =
                written.iter().filter(|(by, _)| **by != sender).map(|(_, (_, bytes))| bytes).sum();
            let sums = (entry.messages, entry.sender_messages, entry.sender_bytes, entry.other_bytes);
            let are = (messages, count, bytes, others);
            if sums != are {
                return Err(format!("its sums at {seq} are {sums:?}, and not {are:?}"));
            }
            let client = (sender, entry.device, entry.client_id);
            if seq >= log.first && log.clients.get(&client) != Some(&seq) {
                return Err(format!("under the number of {seq} stands {:?}", log.clients.get(&client)));
            }
        }
        talk.is_kept_by(log.left(), is_old)?;
        if log.clients.len() != log.left().len() {
            return Err(format!("{} numbers are used for {} entries", log.clients.len(), log.head()));
        }
        Ok(())
    }

    /// How many of its entries the devices of its members have, and how many they are to get.
    fn audit_devices(&self, id: LogId, log: &Log) -> Result<(u64, u64), String> {
        let (mut delivered, mut pending) = (0, 0);
        for user in log.memberships.iter().copied() {
            let member = log.members.get(&user).cloned().unwrap_or_default();
            let MemberRecord { delivered_upto, read_upto, .. } = member;
            let furthest = member.positions.iter().map(|position| position.upto).max().unwrap_or(0);
            let head = log.visible_to(user);
            if delivered_upto > head || read_upto > delivered_upto || furthest > head {
                return Err(format!("{user} has read {read_upto} of {delivered_upto} of {}", log.head()));
            }
            for (device, record) in self.living(user) {
                let position = member.positions.iter().find(|position| position.device == device);
                // What was before a member came is not missing.
                let lacks_read = position.is_some_and(|position| position.lacks_read);
                let position = position.map_or(0, |position| position.upto).max(log.joined(user) - 1);
                let lacks = &log.entries[position as usize..head as usize];
                let is_foreign = |entry: &EntryRecord| {
                    (entry.sender, entry.device) != (user, device) && is_seen(entry, user)
                };
                let is_marked = record.new || self.marks.contains(&(user, device, id));
                if (lacks.iter().any(is_foreign) || lacks_read && log.is_in(user)) && !is_marked {
                    return Err(format!(
                        "device {device} of {user} is at {position} of {}, unmarked",
                        log.head()
                    ));
                }
                (delivered, pending) = (delivered + position, pending + lacks.len() as u64);
            }
        }
        Ok((delivered, pending))
    }

    /// Whether there is anything new in a log, or something is left no more, or anybody has come further in one.
    pub(crate) fn have_moved_since(&self, before: &Self) -> bool {
        let is_as_before = |id, log: &Log| {
            let before: Option<&Log> = before.logs.get(id);
            before.is_some_and(|before| {
                before.first == log.first && before.entries == log.entries && before.members == log.members
            })
        };
        !self.logs.iter().all(|(id, log)| is_as_before(id, log))
    }

    /// Whether what was scheduled was sent, once, and is said to have been; and nothing else was sent for anybody. What was due before this
    /// is not waited for any more.
    pub(crate) fn schedules_are_kept(&self, due_ms: u64) -> Result<(), String> {
        let by_server = |entry: &&EntryRecord| entry.device == u32::MAX;
        for (id, log) in self.logs.iter().filter(|(id, _)| !matches!(id, LogId::Private(_))) {
            for entry in log.entries.iter().filter(by_server) {
                let scheduled = self.logs.get(&LogId::Private(entry.sender));
                let by = scheduled.and_then(|log| log.entries.get(entry.client_id.checked_sub(1)? as usize));
                if !by.is_some_and(is_private) {
                    return Err(format!("{id:?}: nobody has scheduled {} of {}", entry.seq, entry.sender));
                }
            }
        }
        for (id, log) in &self.logs {
            let LogId::Private(user) = *id else { continue };
            for entry in &log.entries {
                let said = v1::Private::decode(&entry.body[..]).ok().and_then(|private| private.what);
                match said {
                    Some(v1::private::What::Scheduled(scheduled))
                        if (1..due_ms).contains(&scheduled.at_ms) && !entry.erased =>
                    {
                        let (seq, at_ms, due) = (entry.seq, scheduled.at_ms, &log.due);
                        return Err(format!("{id:?}: {seq} was to be sent at {at_ms} of {due_ms}: {due:?}"));
                    }
                    Some(v1::private::What::Dispatched(sent)) if sent.seq > 0 => {
                        let to = self.logs.get(&place_of(user, sent.chat));
                        let there = to.and_then(|log| log.entries.get(sent.seq as usize - 1));
                        let is_it = |there: &EntryRecord| {
                            (there.sender, there.device, there.client_id) == (user, u32::MAX, entry.about)
                        };
                        if !there.is_some_and(is_it) || entry.device != u32::MAX {
                            return Err(format!("{id:?}: {} says that it was sent", entry.seq));
                        }
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Nothing of what an earlier reading said has become less.
    pub(crate) fn goes_on_from(&self, earlier: &Self) -> Result<(), String> {
        for (id, before) in &earlier.logs {
            let now = self.logs.get(id).ok_or_else(|| format!("{id:?} is not there any more"))?;
            let pairs = before.entries.iter().zip(&now.entries);
            if now.head() < before.head() || !pairs.into_iter().all(|(was, is)| stays(was, is)) {
                return Err(format!("{id:?}: of {} entries not all are there", before.head()));
            }
            for (user, before) in &before.members {
                let now = now.members.get(user).ok_or_else(|| format!("{id:?}: {user} is no member"))?;
                let falls = now.delivered_upto < before.delivered_upto || now.read_upto < before.read_upto;
                let lost = before.positions.iter().any(|was| {
                    let is = now.positions.iter().find(|is| is.device == was.device);
                    is.is_none_or(|is| is.upto < was.upto) && self.lives(*user, was.device)
                });
                if falls || lost {
                    return Err(format!("{id:?}: {user} was at {before:?}, and is at {now:?}"));
                }
            }
        }
        for (device, before) in &earlier.devices {
            let now = self.devices.get(device);
            if now.is_some_and(|now| now.revoked_ms == 0 && before.revoked_ms != 0) {
                return Err(format!("{device:?} had ended, and lives"));
            }
        }
        Ok(())
    }
}

/// Whether somebody may see what an entry says.
pub(crate) fn is_seen(entry: &EntryRecord, user: u64) -> bool {
    !entry.withheld || entry.sender == user
}

/// The log that an entry's key names.
pub(crate) fn log_in(key: &[u8]) -> Option<LogId> {
    LogId::from_bytes(key.get(PREFIX..PREFIX + LOG_BYTES)?)
}

/// Whether an entry is what it was, but for what later ones have made of it.
fn stays(was: &EntryRecord, is: &EntryRecord) -> bool {
    let made = EntryRecord { edits: is.edits.clone(), ..was.clone() };
    let gone = EntryRecord {
        body: Bytes::new(),
        mentions: Vec::new(),
        media: Vec::new(),
        erased: true,
        ..made.clone()
    };
    is.edits.starts_with(&was.edits) && (*is == made || *is == gone)
}

/// Whether a group is what its entries say, and nobody has said or done anything in it who might not.
fn audit_group(log: &Log, is_old: impl Fn(&EntryRecord) -> bool) -> Result<(), String> {
    let Some(group) = &log.group else { return Err("it has no entries, or wrong ones".to_owned()) };
    if !log.exists {
        return Err("its record is not there".to_owned());
    }
    let people: BTreeSet<u64> = group.people.keys().copied().collect();
    if log.memberships != people || !log.members.keys().copied().eq(people) {
        return Err(format!("its members are {:?}", log.memberships));
    }
    for (user, person) in &group.people {
        let (is, stay) = (&log.members[user], person.last());
        let (role, said) = (i32::from(person.role), (stay.from, stay.joined, stay.until));
        if (is.from, is.joined, is.until) != said || is.role != role {
            return Err(format!("of {user} stands {is:?}, and {person:?} is said"));
        }
    }
    let clients = log.left().iter().map(|entry| ((entry.sender, entry.device, entry.client_id), entry.seq));
    if log.clients != clients.collect() {
        return Err("its entries do not stand under their authors' numbers".to_owned());
    }
    group.keeps(log.left(), is_old)?;
    times_rise(log)
}

fn times_rise(log: &Log) -> Result<(), String> {
    let falls = |pair: &&[EntryRecord]| {
        pair[1].time_ms < pair[0].time_ms && pair[0].time_ms - pair[1].time_ms <= AHEAD_MS_MAX
    };
    match log.entries.windows(2).find(falls) {
        Some(pair) => Err(format!("the time falls at {}", pair[1].seq)),
        None => Ok(()),
    }
}
