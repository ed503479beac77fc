//! What must agree: entries are dense and their chat has its records, watermarks and numbers of clients do not go beyond the
//! head, what is to be erased stands among what is due, phones and devices have their user. Records must be ones.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;

use super::Report;
use crate::keys::{self, Key, LogId, MEDIUM_BYTES, Relation, StoryRow};
use crate::records::{
    ChatSettingsRecord, ClientMessageRecord, CountsRecord, DeviceRecord, EndRecord, EntryRecord, FeedRecord,
    GroupRecord, KeptRecord, LastSeenRecord, LogRecord, MediumRecord, MemberRecord, MembersRecord,
    NumberRecord, OutboxRecord, PhoneHashRecord, PhoneRecord, PrivacyRecord, PushTokenRecord, ReportRecord,
    StoryRecord, StoryToldRecord, UnreadRecord, UserRecord, ViewerRecord,
};

/// Bytes of a key before the identity: the table's letter and the slot.
const PREFIX: usize = 3;

/// Entries that are put in the place of lost ones, in one row.
const FILLED_MAX: usize = 1_000_000;

/// What was seen of a chat.
#[derive(Default)]
struct Seen {
    /// The newest entry, and which are missing before it: first, last, and the time of the entry
    /// before them.
    head: u64,
    holes: Vec<(u64, u64, u64)>,
    last_ms: u64,
    first_ms: u64,
    has_record: bool,
    members: BTreeSet<u64>,
    /// The highest seq that anything else names, and what does.
    named: u64,
    /// Entries that are to be erased, each at its time, and of which no row says so.
    ending: BTreeSet<(u64, u64)>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Relations {
    logs: BTreeMap<LogId, Seen>,
    users: BTreeSet<u64>,
    /// Users that phones and devices name.
    named_users: BTreeSet<u64>,
    /// Media that there are, and that entries, people and groups have as rows say.
    media: BTreeSet<Medium>,
    cited: BTreeSet<Medium>,
    /// What may be media, and whose pictures they are: as records say, and as rows beside media say.
    pictures: BTreeSet<(Medium, LogId)>,
    pictured: BTreeSet<(Medium, LogId)>,
    /// Entries, and stories, that have media of which no row says so.
    uncited: BTreeSet<(Medium, LogId, u64)>,
    /// Stories, each at its time, of which no row says that they end: whose row it is, the author, and the number.
    stories: BTreeSet<(u64, u64, u64, u64)>,
}

type Medium = [u8; MEDIUM_BYTES];

/// What a user says of others.
fn read_relation(key: &[u8], value: &[u8]) -> Option<()> {
    match Relation::of(key)? {
        Relation::Privacy => PrivacyRecord::decode(value).ok().map(drop),
        Relation::LastSeen => LastSeenRecord::decode(value).ok().map(drop),
        Relation::Blocked(_) | Relation::Contact(_) | Relation::Muted(_) => Some(()),
    }
}

impl Relations {
    /// A whole row. Entries come before all others.
    pub(super) fn saw(&mut self, key: &[u8], value: &[u8], report: &mut Report) {
        let Some(letter) = key.first().map(|letter| char::from(*letter)) else { return };
        *report.rows.entry(letter).or_default() += 1;
        *report.bytes.entry(letter).or_default() += (key.len() + value.len()) as u64;
        if self.read(letter, key, value).is_none() {
            report.find(format!("{}: its record is damaged", keys::describe(key)));
        }
    }

    /// `None` if the key or the record is none.
    fn read(&mut self, letter: char, key: &[u8], value: &[u8]) -> Option<()> {
        let user = || Some(u64::from_be_bytes(*key.get(PREFIX..)?.first_chunk()?));
        let log = || LogId::from_bytes(key.get(PREFIX..PREFIX + 17)?);
        match letter {
            'e' => self.entry(log()?, keys::number_of(key)?, EntryRecord::decode(value).ok()?),
            'l' => {
                let LogRecord { first, group, .. } = LogRecord::decode(value).ok()?;
                let seen = self.logs.entry(log()?).or_default();
                seen.has_record = true;
                // What is before the beginning was kept no longer.
                seen.holes.retain(|(_, last, _)| *last >= first);
                group.map_or(Some(()), |group| self.picture(log()?, &group.picture))
            }
            'x' => {
                let record = ClientMessageRecord::decode(value).ok()?;
                self.name(log()?, record.seq)
            }
            'w' => {
                let log = log()?;
                self.name(log, reached(log, value)?)
            }
            'j' => self.story(key, value),
            't' if let Some(story) = keys::story_due_of(key) => {
                self.stories.remove(&story);
                Some(())
            }
            't' => {
                let (at_ms, log, seq) = keys::due_of(key)?;
                self.logs.entry(log).or_default().ending.remove(&(at_ms, seq));
                self.name(log, seq)
            }
            'g' => {
                self.logs.entry(keys::log_of(key)?).or_default().members.insert(user()?);
                Some(())
            }
            'i' => keys::log_of(key).map(drop),
            // What its pages say of words, who searches sees.
            'f' => keys::run_of_words(key).map(drop),
            'a' => {
                ChatSettingsRecord::decode(value).ok()?;
                keys::log_of(key).map(drop)
            }
            'r' => read_relation(key, value).and_then(|_| self.name_user(user()?)),
            'b' => {
                EndRecord::decode(value).ok()?;
                self.name_user(keys::user_of_end(key)?)
            }
            'o' => self.medium(key, value),
            'v' => keys::look_of(key).map(drop),
            'k' => KeptRecord::decode(value).ok().and_then(|_| self.name_user(user()?)),
            'y' | 'z' => push_row(key, value).and_then(|user| self.name_user(user)),
            'q' => self.report(key, ReportRecord::decode(value).ok()?),
            'n' => {
                CountsRecord::decode(value).ok()?;
                keys::day_of_counts(key).map(drop)
            }
            'u' | 'd' | 'p' | 'h' => self.account(letter, key, value),
            's' => NumberRecord::decode(value).ok().map(drop),
            'm' => Some(()),
            _ => None,
        }
    }

    /// A user, or what names one.
    fn account(&mut self, letter: char, key: &[u8], value: &[u8]) -> Option<()> {
        let user = || Some(u64::from_be_bytes(*key.get(PREFIX..)?.first_chunk()?));
        let named = match letter {
            'u' => {
                let record = UserRecord::decode(value).ok()?;
                self.users.insert(user()?);
                return self.picture(LogId::Private(user()?), &record.picture);
            }
            'd' => {
                DeviceRecord::decode(value).ok()?;
                user()?
            }
            'p' => PhoneRecord::decode(value).ok()?.user,
            _ => PhoneHashRecord::decode(value).ok()?.user,
        };
        // A phone of which codes were asked for has none yet.
        if named != 0 {
            self.named_users.insert(named);
        }
        Some(())
    }

    fn entry(&mut self, log: LogId, seq: u64, record: EntryRecord) -> Option<()> {
        let seen = self.logs.entry(log).or_default();
        if seq != seen.head + 1 {
            seen.holes.push((seen.head + 1, seq - 1, seen.last_ms));
        }
        if seen.head == 0 {
            seen.first_ms = record.time_ms;
        }
        (seen.head, seen.last_ms) = (seq, record.time_ms);
        if record.expires_ms > 0 && !record.erased {
            seen.ending.insert((record.expires_ms, seq));
        }
        for medium in &record.media {
            self.uncited.insert(((**medium).try_into().ok()?, log, seq));
        }
        (record.seq == seq).then_some(())
    }

    /// Whose picture something is.
    fn picture(&mut self, of: LogId, picture: &[u8]) -> Option<()> {
        self.pictures.extend(picture.try_into().ok().map(|medium: Medium| (medium, of)));
        Some(())
    }

    /// Pictures that are media of which no row says so. What is no medium is as long as one's id by chance.
    fn pictures_without_row(&self) -> impl Iterator<Item = &(Medium, LogId)> {
        let pictures = self.pictures.difference(&self.pictured);
        pictures.filter(|(medium, _)| self.media.contains(medium))
    }

    /// A medium, or that an entry has one, or somebody as a picture.
    fn medium(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let (medium, by) = keys::medium_of(key)?;
        match by {
            None => {
                MediumRecord::decode(value).ok()?;
                self.media.insert(medium);
            }
            Some((log, seq)) => {
                self.cited.insert(medium);
                self.uncited.remove(&(medium, log, seq));
                if seq == keys::PICTURE {
                    self.pictured.insert((medium, log));
                }
            }
        }
        Some(())
    }

    /// A story, or what there is of one.
    fn story(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let (user, row) = keys::story_row(key)?;
        self.name_user(user);
        match row {
            StoryRow::Own(number) => {
                let record = StoryRecord::decode(value).ok()?;
                self.stories.insert((record.expires_ms, user, user, number));
                for medium in &record.media {
                    let story = (LogId::Private(user), keys::STORY_FROM | number);
                    self.uncited.insert(((**medium).try_into().ok()?, story.0, story.1));
                }
                Some(())
            }
            StoryRow::InFeed(author, number) => {
                let record = FeedRecord::decode(value).ok()?;
                self.stories.insert((record.expires_ms, user, author, number));
                Some(())
            }
            StoryRow::Told(..) => StoryToldRecord::decode(value).ok().map(drop),
            StoryRow::Viewer(..) => ViewerRecord::decode(value).ok().map(drop),
            StoryRow::Seen(..) => Some(()),
        }
    }

    fn report(&mut self, key: &[u8], _: ReportRecord) -> Option<()> {
        // Who is reported may have been deleted since: then there is a tombstone.
        self.name_user(keys::report_of(key)?.0)
    }

    fn name_user(&mut self, user: u64) -> Option<()> {
        self.named_users.insert(user);
        Some(())
    }

    fn name(&mut self, log: LogId, seq: u64) -> Option<()> {
        let seen = self.logs.entry(log).or_default();
        seen.named = seen.named.max(seq);
        Some(())
    }

    /// After all rows.
    pub(super) fn check(&self, report: &mut Report) {
        for (log, seen) in &self.logs {
            let place = keys::describe(keys::log(*log).as_ref());
            for (first, last, _) in &seen.holes {
                report.find(format!("{place}: the entries {first} to {last} are missing"));
            }
            if seen.named > seen.head {
                report.find(format!("{place}: the entries {} to {} are missing", seen.head + 1, seen.named));
            } else if seen.head == 0 {
                report.find(format!("{place}: it has no entries"));
            }
            if !seen.ending.is_empty() {
                let count = seen.ending.len();
                report.find(format!(
                    "{place}: {count} entries would outlive their time: their rows are missing"
                ));
            }
            if !seen.has_record || seen.members.is_empty() {
                report.find(format!("{place}: its record, or who its members are, is missing"));
            }
        }
        for (_, user, author, number) in &self.stories {
            let place = keys::describe(keys::story(*user, *number).as_ref());
            report.find(format!("{place}: a story of {author} would outlive its time: its row is missing"));
        }
        for (medium, log, seq) in &self.uncited {
            let place = match *log {
                LogId::Private(user) if *seq >= keys::STORY_FROM => {
                    keys::describe(keys::story(user, *seq).as_ref())
                }
                log => keys::describe(keys::entry(log, *seq).as_ref()),
            };
            let lies = keys::describe(keys::medium(medium).as_ref());
            report.find(format!("{place}: a medium goes with it, and no row says so ({lies})"));
        }
        for (medium, of) in self.pictures_without_row() {
            let place = keys::describe(keys::log(*of).as_ref());
            let lies = keys::describe(keys::medium(medium).as_ref());
            report.find(format!("{place}: its picture is a medium, and no row says so ({lies})"));
        }
        for medium in self.cited.difference(&self.media) {
            let lies = keys::describe(keys::medium(medium).as_ref());
            report.find(format!("{lies}: a medium is missing that something has"));
        }
        for user in self.named_users.difference(&self.users) {
            report.find(format!("{}: it is missing", keys::describe(keys::user(*user).as_ref())));
        }
    }

    /// Rows that make a chat whole of which anything was found: its records, and entries that stand for those that are lost.
    pub(super) fn repairs(&self) -> Vec<(Key, Vec<u8>)> {
        let mut rows = Vec::new();
        for (log, seen) in self.logs.iter().filter(|(_, seen)| seen.head.max(seen.named) > 0) {
            if !seen.has_record {
                let group = matches!(log, LogId::Group(_)).then(GroupRecord::default);
                let record = LogRecord { created_ms: seen.first_ms, group, ..LogRecord::default() };
                rows.push((keys::log(*log), record.encode_to_vec()));
            }
            let mut members = seen.members.clone();
            match *log {
                LogId::Direct(lower, higher) => members.extend([lower, higher]),
                LogId::Private(user) => members.extend([user]),
                LogId::Group(_) => {}
            }
            // Somebody must be named as the author of what is lost.
            let author = members.first().copied().unwrap_or(1);
            let tail = (seen.named > seen.head).then_some((seen.head + 1, seen.named, seen.last_ms));
            for (first, last, time_ms) in seen.holes.iter().copied().chain(tail) {
                // A number beyond all reason is damage itself, and nothing to be filled up to.
                for seq in (first..=last).take(FILLED_MAX) {
                    rows.push((
                        keys::entry(*log, seq),
                        EntryRecord::lost(seq, author, time_ms).encode_to_vec(),
                    ));
                }
            }
            rows.extend(seen.ending.iter().map(|(at_ms, seq)| (keys::due(*at_ms, *log, *seq), Vec::new())));
            for member in members {
                rows.push((keys::membership(member, *log), Vec::new()));
            }
        }
        rows.extend(
            self.uncited.iter().map(|(medium, log, seq)| (keys::cite(medium, *log, *seq), Vec::new())),
        );
        let due = |(at_ms, user, author, number): &(u64, u64, u64, u64)| {
            (keys::story_due(*at_ms, *user, *author, *number), Vec::new())
        };
        rows.extend(self.stories.iter().map(due));
        let pictures = self.pictures_without_row();
        rows.extend(pictures.map(|(medium, of)| (keys::cite(medium, *of, keys::PICTURE), Vec::new())));
        rows
    }
}

/// The highest seq that a record of members names; `None` if it is none.
fn reached(log: LogId, value: &[u8]) -> Option<u64> {
    let members = match log {
        LogId::Direct(..) | LogId::Private(_) => vec![MemberRecord::decode(value).ok()?],
        LogId::Group(_) => MembersRecord::decode(value).ok()?.members,
    };
    let of_member = |member: MemberRecord| {
        let positions = member.positions.iter().map(|position| position.upto).max().unwrap_or(0);
        member.delivered_upto.max(member.read_upto).max(member.until).max(positions)
    };
    Some(members.into_iter().map(of_member).max().unwrap_or(0))
}

/// Whose a row is that says where devices are told that something has come, how much is unread, or of what they are to be told.
fn push_row(key: &[u8], value: &[u8]) -> Option<u64> {
    if let Some((user, ..)) = keys::outbox_of(key) {
        return OutboxRecord::decode(value).ok().map(|_| user);
    }
    match keys::PushRow::of(key)? {
        keys::PushRow::Device(_) => PushTokenRecord::decode(value).map(drop).ok()?,
        keys::PushRow::Unread(_) => UnreadRecord::decode(value).map(drop).ok()?,
    }
    Some(u64::from_be_bytes(*key.get(PREFIX..)?.first_chunk()?))
}
