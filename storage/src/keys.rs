//! The key layout: one table a letter, then the slot, so that a slot's rows of a table lie together.
//!
//! Numbers are big-endian, so that keys sort as their numbers do. docs/STORAGE.md has the table of tables; a change
//! here is a new layout version there.

use std::fmt;

use smallvec::SmallVec;

use crate::slots::Slot;

/// The layout of keys and records that this code reads and writes. docs/STORAGE.md has the table of versions.
pub const LAYOUT: u64 = 8;

/// A log's identity: 17 bytes in keys.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum LogId {
    /// The direct chat of two users, the lower id first. One user may have one with themselves.
    Direct(u64, u64),
    /// A group, by its number.
    Group(u64),
    /// A user's private log.
    Private(u64),
}

/// Bytes of a [`LogId`] in a key.
pub const LOG_ID_BYTES: usize = 17;

const DIRECT: u8 = b'd';
const GROUP: u8 = b'g';
const PRIVATE: u8 = b'p';

impl LogId {
    /// The direct chat of two users, whichever is named first.
    pub fn direct(one: u64, other: u64) -> Self {
        Self::Direct(one.min(other), one.max(other))
    }

    /// As it stands in keys.
    pub fn to_bytes(self) -> [u8; LOG_ID_BYTES] {
        let (kind, low, high) = match self {
            Self::Direct(low, high) => (DIRECT, low, high),
            Self::Group(group) => (GROUP, group, 0),
            Self::Private(user) => (PRIVATE, user, 0),
        };
        let mut bytes = [0; LOG_ID_BYTES];
        bytes[0] = kind;
        bytes[1..9].copy_from_slice(&low.to_be_bytes());
        bytes[9..].copy_from_slice(&high.to_be_bytes());
        bytes
    }

    /// `None` for bytes that are no log's identity.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; LOG_ID_BYTES] = bytes.try_into().ok()?;
        let low = u64::from_be_bytes(bytes[1..9].try_into().ok()?);
        let high = u64::from_be_bytes(bytes[9..].try_into().ok()?);
        match bytes[0] {
            DIRECT if low <= high => Some(Self::Direct(low, high)),
            GROUP if high == 0 => Some(Self::Group(low)),
            PRIVATE if high == 0 => Some(Self::Private(low)),
            _ => None,
        }
    }
}

/// One key. Those of this module take no allocation, but for long names of the whole store's.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(SmallVec<[u8; KEY_BYTES]>);

/// Bytes of the longest key, a client message's.
const KEY_BYTES: usize = 3 + LOG_ID_BYTES + 8 + 4 + 8;

impl Key {
    /// A key of these bytes: for engines and tests, all others use the functions of this module.
    pub fn from_raw(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl Key {
    /// The slot that the key lies in; `None` in the tables of the whole store.
    pub fn slot(&self) -> Option<Slot> {
        let [table, high, low, ..] = self.0[..] else { return None };
        if table == b'm' { None } else { Slot::new(u16::from_be_bytes([high, low])) }
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Shows the table and the length alone: keys hold phone numbers.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.0.first().map_or('?', |b| char::from(*b));
        write!(f, "Key({table}, {} bytes)", self.0.len())
    }
}

/// The keys from `start` up to, but without, `end`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyRange {
    /// The first key.
    pub start: Key,
    /// Beyond the last.
    pub end: Key,
}

impl KeyRange {
    /// One key.
    pub fn of_key(key: &Key) -> Self {
        let mut end = key.0.clone();
        end.push(0);
        Self { start: key.clone(), end: Key(end) }
    }

    /// The part of it from just after one of its keys on.
    fn behind(self, key: Option<&Key>) -> Self {
        let start = key.map_or(self.start, |key| Self::of_key(key).end);
        Self { start, end: self.end }
    }

    /// Every key that begins with `prefix`, which is neither empty nor all 255.
    pub(crate) fn of_prefix(prefix: Key) -> Self {
        let mut end = prefix.0.clone();
        while end.last() == Some(&u8::MAX) {
            end.pop();
        }
        let last = end.last_mut().expect("a table's letter is below 255");
        *last += 1;
        Self { start: prefix, end: Key(end) }
    }
}

fn key(table: u8, slot: Slot, parts: &[&[u8]]) -> Key {
    let mut bytes = SmallVec::new();
    bytes.push(table);
    bytes.extend_from_slice(&slot.number().to_be_bytes());
    for part in parts {
        bytes.extend_from_slice(part);
    }
    Key(bytes)
}

/// `m`: what holds for the whole store, by name (layout version, the installation's keys).
pub fn meta(name: &str) -> Key {
    let mut bytes = SmallVec::new();
    bytes.push(b'm');
    bytes.extend_from_slice(name.as_bytes());
    Key(bytes)
}

/// `m store`: the store's identity and its starts.
pub fn store_identity() -> Key {
    meta("store")
}

/// `m layout`: the version of the layout of a shared store.
pub fn layout() -> Key {
    meta("layout")
}

/// `m owner`: the process that has a shared store.
pub fn owner() -> Key {
    meta("owner")
}

/// `m epochs`: how often epochs were raised in a shared store.
pub fn epochs_version() -> Key {
    meta("epochs")
}

/// `m lane`: what a process has committed last in one of the places of a lane, in a shared store.
pub fn lane_record(process: u32, lane: u16, place: u8) -> Key {
    let mut key = meta("lane");
    key.0.extend_from_slice(&process.to_be_bytes());
    key.0.extend_from_slice(&lane.to_be_bytes());
    key.0.push(place);
    key
}

/// `m lane`: all of the processes before this one.
pub fn lane_records_before(process: u32) -> KeyRange {
    KeyRange { start: lane_record(0, 0, 0), end: lane_record(process, 0, 0) }
}

/// `s`: the epochs of all slots.
pub fn epochs() -> KeyRange {
    KeyRange::of_prefix(Key(SmallVec::from_slice(b"s")))
}

/// `m tickets`: the keys of TLS session tickets.
pub fn ticket_keys() -> Key {
    meta("tickets")
}

/// `s`: a slot's epoch.
pub fn epoch(slot: Slot) -> Key {
    key(b's', slot, &[])
}

/// `p`: a phone, by its digits.
pub fn phone(digits: &str) -> Key {
    key(b'p', Slot::of_phone(digits), &[digits.as_bytes()])
}

/// `h`: who has a phone, by the hash of its number.
pub fn phone_hash(hash: &[u8; 32]) -> Key {
    key(b'h', Slot::of_phone_hash(hash), &[hash])
}

/// `u`: a user.
pub fn user(user: u64) -> Key {
    key(b'u', Slot::of_user(user), &[&user.to_be_bytes()])
}

/// `d`: a device of a user.
pub fn device(user: u64, device: u32) -> Key {
    key(b'd', Slot::of_user(user), &[&user.to_be_bytes(), &device.to_be_bytes()])
}

/// `d`: all devices of a user.
pub fn devices(user: u64) -> KeyRange {
    KeyRange::of_prefix(key(b'd', Slot::of_user(user), &[&user.to_be_bytes()]))
}

/// `g`: that a user is a member of a log.
pub fn membership(user: u64, log: LogId) -> Key {
    key(b'g', Slot::of_user(user), &[&user.to_be_bytes(), &log.to_bytes()])
}

/// `g`: the logs of a user, from just after `after` on.
pub fn memberships(user: u64, after: Option<LogId>) -> KeyRange {
    after_within(KeyRange::of_prefix(key(b'g', Slot::of_user(user), &[&user.to_be_bytes()])), after)
}

/// `a`: how a user has a chat.
pub fn chat_settings(user: u64, log: LogId) -> Key {
    key(b'a', Slot::of_user(user), &[&user.to_be_bytes(), &log.to_bytes()])
}

/// `a`: how a user has chats, from `first` up to `last`.
pub fn all_chat_settings(user: u64, first: LogId, last: LogId) -> KeyRange {
    let end = KeyRange::of_prefix(chat_settings(user, last)).end;
    KeyRange { start: chat_settings(user, first), end }
}

/// What a user has said of others, or of what others may see: what an `r` key is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Relation {
    /// What others may see and do.
    Privacy,
    /// When the user was here last.
    LastSeen,
    /// This one is blocked.
    Blocked(u64),
    /// This one is a contact.
    Contact(u64),
    /// This one's stories are muted.
    Muted(u64),
}

impl Relation {
    /// What the end of an `r` key says, behind its user; `None` for any other key.
    pub fn of(key: &[u8]) -> Option<Self> {
        let (kind, rest) = key.get(3 + 8..)?.split_first()?;
        let other = <[u8; 8]>::try_from(rest).ok().map(u64::from_be_bytes);
        match (kind, other) {
            (0, None) if rest.is_empty() => Some(Self::Privacy),
            (1, None) if rest.is_empty() => Some(Self::LastSeen),
            (2, Some(other)) => Some(Self::Blocked(other)),
            (3, Some(other)) => Some(Self::Contact(other)),
            (4, Some(other)) => Some(Self::Muted(other)),
            _ => None,
        }
    }

    fn parts(self) -> (u8, Option<u64>) {
        match self {
            Self::Privacy => (0, None),
            Self::LastSeen => (1, None),
            Self::Blocked(other) => (2, Some(other)),
            Self::Contact(other) => (3, Some(other)),
            Self::Muted(other) => (4, Some(other)),
        }
    }
}

/// `r`: what a user has said of another one, or of what others may see.
pub fn relation(user: u64, relation: Relation) -> Key {
    let (kind, other) = relation.parts();
    let mut key = key(b'r', Slot::of_user(user), &[&user.to_be_bytes(), &[kind]]);
    if let Some(other) = other {
        key.0.extend_from_slice(&other.to_be_bytes());
    }
    key
}

/// `r`: all of a user's but for the contacts, which may be many, and for whose stories are muted.
pub fn circle(user: u64) -> KeyRange {
    KeyRange { start: relation(user, Relation::Privacy), end: contacts(user).start }
}

/// `r`: the contacts of a user.
pub fn contacts(user: u64) -> KeyRange {
    KeyRange::of_prefix(key(b'r', Slot::of_user(user), &[&user.to_be_bytes(), &[3]]))
}

/// `r`: the contacts of a user behind one of them.
pub fn contacts_behind(user: u64, after: Option<u64>) -> KeyRange {
    let after = after.map(|after| relation(user, Relation::Contact(after)));
    contacts(user).behind(after.as_ref())
}

/// `r`: the contacts of a user behind this one, up to that one.
pub fn contacts_between(user: u64, after: u64, last: u64) -> KeyRange {
    let end = KeyRange::of_key(&relation(user, Relation::Contact(last))).end;
    KeyRange { start: contacts_behind(user, Some(after)).start, end }
}

/// `r`: those whose stories a user has muted.
pub fn muted(user: u64) -> KeyRange {
    KeyRange::of_prefix(key(b'r', Slot::of_user(user), &[&user.to_be_bytes(), &[4]]))
}

/// `q`: a report of a user by another one, under the reporter's number.
pub fn report(reported: u64, reporter: u64, number: u64) -> Key {
    let parts = [reported.to_be_bytes(), reporter.to_be_bytes(), number.to_be_bytes()];
    key(b'q', Slot::of_user(reported), &[&parts[0], &parts[1], &parts[2]])
}

/// `q`: all reports of a user.
pub fn reports_of(reported: u64) -> KeyRange {
    KeyRange::of_prefix(key(b'q', Slot::of_user(reported), &[&reported.to_be_bytes()]))
}

/// `q`: all reports of all users, from just after one of them on.
pub fn all_reports(after: Option<&Key>) -> KeyRange {
    let mut range = KeyRange::of_prefix(Key(SmallVec::from_slice(b"q")));
    if let Some(after) = after {
        range.start = after.clone();
        range.start.0.push(0);
    }
    range
}

/// Of whom, by whom and under which number a `q` key is; `None` for any other key.
pub fn report_of(key: &[u8]) -> Option<(u64, u64, u64)> {
    const AT: usize = 3;
    let number = |at: usize| Some(u64::from_be_bytes(*key.get(at..)?.first_chunk()?));
    let is_one = key.first() == Some(&b'q') && key.len() == AT + 3 * 8;
    is_one.then_some(())?;
    Some((number(AT)?, number(AT + 8)?, number(AT + 16)?))
}

/// `n`: what was counted of a day, by its number since the Unix epoch: of part 0 all that is added up, of any other what is still to be
/// added. Nothing in it says of whom it is.
pub fn counts(day: u32, part: u64) -> Key {
    key(b'n', Slot::of_day(day), &[&day.to_be_bytes(), &part.to_be_bytes()])
}

/// `n`: all parts of a day, first what is added up.
pub fn counts_of(day: u32) -> KeyRange {
    KeyRange::of_prefix(key(b'n', Slot::of_day(day), &[&day.to_be_bytes()]))
}

/// `n`: all parts of all days, from just after one of them on.
pub fn all_counts(after: Option<&Key>) -> KeyRange {
    KeyRange::of_prefix(Key(SmallVec::from_slice(b"n"))).behind(after)
}

/// The day and the part of an `n` key; `None` for any other key.
pub fn day_of_counts(key: &[u8]) -> Option<(u32, u64)> {
    const DAY: usize = 3;
    const PART: usize = DAY + 4;
    (key.first() == Some(&b'n') && key.len() == PART + 8).then_some(())?;
    let day = u32::from_be_bytes(*key.get(DAY..)?.first_chunk()?);
    Some((day, u64::from_be_bytes(*key.get(PART..)?.first_chunk()?)))
}

/// `b`: that an account is to end, or what is left of one that has.
pub fn end(user: u64) -> Key {
    key(b'b', Slot::of_user(user), &[&user.to_be_bytes()])
}

/// `b`: all accounts that are to end, from just after one of them on.
pub fn all_ends(after: Option<&Key>) -> KeyRange {
    KeyRange::of_prefix(Key(SmallVec::from_slice(b"b"))).behind(after)
}

/// Whose a `b` key is; `None` for any other key.
pub fn user_of_end(key: &[u8]) -> Option<u64> {
    const AT: usize = 3;
    (key.first() == Some(&b'b') && key.len() == AT + 8).then_some(())?;
    Some(u64::from_be_bytes(*key.get(AT..)?.first_chunk()?))
}

/// What a user has, in one table: the user's own rows but for the account's, the devices' and those of chats.
pub fn rest_of(user: u64, table: RestTable) -> KeyRange {
    KeyRange::of_prefix(key(table as u8, Slot::of_user(user), &[&user.to_be_bytes()]))
}

/// A table of [`rest_of`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum RestTable {
    /// `a`: how the user has chats.
    ChatSettings = b'a',
    /// `i`: what the user's devices lack.
    Inbox = b'i',
    /// `r`: what the user has said of others.
    Relations = b'r',
    /// `k`: which media the user has uploaded.
    Media = b'k',
    /// `y`: where the user's devices are told that something has come, and how much is unread.
    Pushes = b'y',
    /// `z`: of which chats they are to be told.
    Outbox = b'z',
    /// `j`: the user's stories, and those of others that they may see.
    Stories = b'j',
}

/// What of stories a user has, behind the user in a `j` key.
const OWN_STORY: u8 = 0;
const IN_FEED: u8 = 1;
const OF_STORY: u8 = 2;

/// Of a story in a feed, the last byte of a `j` key: that it was seen stands before the story, so that who reads on behind a story has all of
/// it.
const IS_SEEN: u8 = 0;
const IS_IN_FEED: u8 = 1;

/// What there is of one's own story, behind its number in a `j` key.
const TOLD: u8 = 0;
const VIEWER: u8 = 1;

fn story_key(user: u64, kind: u8, parts: &[&[u8]]) -> Key {
    let mut key = key(b'j', Slot::of_user(user), &[&user.to_be_bytes(), &[kind]]);
    for part in parts {
        key.0.extend_from_slice(part);
    }
    key
}

/// `j`: a story of a user's.
pub fn story(author: u64, number: u64) -> Key {
    story_key(author, OWN_STORY, &[&number.to_be_bytes()])
}

/// `j`: all stories of a user's, from just after one of them on.
pub fn stories_of(author: u64, after: Option<&Key>) -> KeyRange {
    KeyRange::of_prefix(story_key(author, OWN_STORY, &[])).behind(after)
}

/// `j`: a story that a user may see.
pub fn in_feed(reader: u64, author: u64, number: u64) -> Key {
    story_key(reader, IN_FEED, &[&author.to_be_bytes(), &number.to_be_bytes(), &[IS_IN_FEED]])
}

/// `j`: that a user has seen a story.
pub fn story_seen(reader: u64, author: u64, number: u64) -> Key {
    story_key(reader, IN_FEED, &[&author.to_be_bytes(), &number.to_be_bytes(), &[IS_SEEN]])
}

/// `j`: both of one story.
pub fn in_feed_and_seen(reader: u64, author: u64, number: u64) -> KeyRange {
    KeyRange::of_prefix(story_key(reader, IN_FEED, &[&author.to_be_bytes(), &number.to_be_bytes()]))
}

/// `j`: all of one author's that a user may see.
pub fn in_feed_of(reader: u64, author: u64) -> KeyRange {
    KeyRange::of_prefix(story_key(reader, IN_FEED, &[&author.to_be_bytes()]))
}

/// `j`: a user's stories, and behind them all that the user may see; from just after one of these on, by its author.
pub fn all_stories(user: u64, after: Option<(u64, u64)>) -> KeyRange {
    let end = KeyRange::of_prefix(story_key(user, IN_FEED, &[])).end;
    let after = after.map(|(author, number)| match author == user {
        true => story(user, number),
        false => in_feed(user, author, number),
    });
    KeyRange { start: story_key(user, OWN_STORY, &[]), end }.behind(after.as_ref())
}

/// `j`: who is told of a story together, by the number of the step.
pub fn story_told(author: u64, number: u64, step: u32) -> Key {
    story_key(author, OF_STORY, &[&number.to_be_bytes(), &[TOLD], &step.to_be_bytes()])
}

/// `j`: all who are told of a story, in the steps behind one of them.
pub fn story_told_behind(author: u64, number: u64, step: Option<u32>) -> KeyRange {
    let step = step.map(|step| story_told(author, number, step));
    KeyRange::of_prefix(story_key(author, OF_STORY, &[&number.to_be_bytes(), &[TOLD]])).behind(step.as_ref())
}

/// `j`: that somebody has seen a story, for whoever posted it.
pub fn story_viewer(author: u64, number: u64, viewer: u64) -> Key {
    story_key(author, OF_STORY, &[&number.to_be_bytes(), &[VIEWER], &viewer.to_be_bytes()])
}

/// `j`: all who have seen a story, from just after one of them on.
pub fn story_viewers(author: u64, number: u64, after: Option<u64>) -> KeyRange {
    let after = after.map(|after| story_viewer(author, number, after));
    KeyRange::of_prefix(story_key(author, OF_STORY, &[&number.to_be_bytes(), &[VIEWER]]))
        .behind(after.as_ref())
}

/// `j`: what there is of a story of a user's beside it: who is told, and who has seen it.
pub fn all_of_story(author: u64, number: u64) -> KeyRange {
    KeyRange::of_prefix(story_key(author, OF_STORY, &[&number.to_be_bytes()]))
}

/// `j`: the same of all stories of a user's that are told to somebody or were seen.
pub fn all_of_stories(author: u64) -> KeyRange {
    KeyRange::of_prefix(story_key(author, OF_STORY, &[]))
}

/// What a `j` key says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoryRow {
    /// A story of the user's, by its number.
    Own(u64),
    /// The user may see a story: its author, and its number.
    InFeed(u64, u64),
    /// The user has seen it.
    Seen(u64, u64),
    /// Some are told of the user's story of this number, in this step.
    Told(u64, u32),
    /// Somebody has seen the user's story of this number.
    Viewer(u64, u64),
}

/// Whose a `j` key is, and what it says; `None` for any other key.
pub fn story_row(key: &[u8]) -> Option<(u64, StoryRow)> {
    (key.first() == Some(&b'j')).then_some(())?;
    let (user, rest) = key.get(3..)?.split_first_chunk()?;
    let (kind, rest) = rest.split_first()?;
    let (first, rest) = rest.split_first_chunk()?;
    let (user, first) = (u64::from_be_bytes(*user), u64::from_be_bytes(*first));
    let number = || Some(u64::from_be_bytes(*rest.first_chunk()?));
    let row = match (*kind, rest.len()) {
        (OWN_STORY, 0) => StoryRow::Own(first),
        (IN_FEED, 9) if rest[8] == IS_SEEN => StoryRow::Seen(first, number()?),
        (IN_FEED, 9) if rest[8] == IS_IN_FEED => StoryRow::InFeed(first, number()?),
        (OF_STORY, 5) if rest[0] == TOLD => {
            StoryRow::Told(first, u32::from_be_bytes(*rest[1..].first_chunk()?))
        }
        (OF_STORY, 9) if rest[0] == VIEWER => {
            StoryRow::Viewer(first, u64::from_be_bytes(*rest[1..].first_chunk()?))
        }
        _ => return None,
    };
    Some((user, row))
}

/// `i`: that a log has grown beyond what a device has.
pub fn inbox_mark(user: u64, device: u32, log: LogId) -> Key {
    key(b'i', Slot::of_user(user), &[&user.to_be_bytes(), &device.to_be_bytes(), &log.to_bytes()])
}

/// `i`: the marked logs of a device, from just after `after` on.
pub fn inbox_marks(user: u64, device: u32, after: Option<LogId>) -> KeyRange {
    let prefix = key(b'i', Slot::of_user(user), &[&user.to_be_bytes(), &device.to_be_bytes()]);
    after_within(KeyRange::of_prefix(prefix), after)
}

/// `l`: a log.
pub fn log(log: LogId) -> Key {
    key(b'l', Slot::of_log(log), &[&log.to_bytes()])
}

/// `l`: the logs of a slot from just after `after` on, and of the slots behind it.
pub fn all_logs_from(slot: Slot, after: Option<LogId>) -> KeyRange {
    let end = KeyRange::of_prefix(Key(SmallVec::from_slice(b"l"))).end;
    after_within(KeyRange { start: key(b'l', slot, &[]), end }, after)
}

/// `e`: an entry of a log.
pub fn entry(log: LogId, seq: u64) -> Key {
    key(b'e', Slot::of_log(log), &[&log.to_bytes(), &seq.to_be_bytes()])
}

/// `e`: the entries of a log from `first` up to, but without, `end`.
pub fn entries(log: LogId, first: u64, end: u64) -> KeyRange {
    KeyRange { start: entry(log, first), end: entry(log, end) }
}

/// `x`: the entry that a device's message became.
pub fn client_message(log: LogId, user: u64, device: u32, client_id: u64) -> Key {
    let (user, device, client_id) = (user.to_be_bytes(), device.to_be_bytes(), client_id.to_be_bytes());
    key(b'x', Slot::of_log(log), &[&log.to_bytes(), &user, &device, &client_id])
}

/// `x`: all of a device's messages in a log, by their client ids.
pub fn client_messages(log: LogId, user: u64, device: u32) -> KeyRange {
    let (user, device) = (user.to_be_bytes(), device.to_be_bytes());
    KeyRange::of_prefix(key(b'x', Slot::of_log(log), &[&log.to_bytes(), &user, &device]))
}

/// `x`: all of a user's messages in a log.
pub fn client_messages_of(log: LogId, user: u64) -> KeyRange {
    KeyRange::of_prefix(key(b'x', Slot::of_log(log), &[&log.to_bytes(), &user.to_be_bytes()]))
}

/// `x`: all messages of a log.
pub fn all_client_messages(log: LogId) -> KeyRange {
    KeyRange::of_prefix(key(b'x', Slot::of_log(log), &[&log.to_bytes()]))
}

/// `t`: that something is to be done about an entry of a log, from a time on.
pub fn due(at_ms: u64, log: LogId, seq: u64) -> Key {
    key(b't', Slot::of_log(log), &[&at_ms.to_be_bytes(), &log.to_bytes(), &seq.to_be_bytes()])
}

/// `t`: all of a slot's, the first due first; from just after one of them on.
pub fn all_due(slot: Slot, after: Option<&Key>) -> KeyRange {
    KeyRange::of_prefix(key(b't', slot, &[])).behind(after)
}

/// `t`: all of this slot's, and of those behind it.
pub fn all_due_from(slot: Slot) -> KeyRange {
    let end = KeyRange::of_prefix(Key(SmallVec::from_slice(b"t"))).end;
    KeyRange { start: key(b't', slot, &[]), end }
}

/// When, in ms since the Unix epoch, and of which entry a `t` key is; `None` for any other key.
pub fn due_of(key: &[u8]) -> Option<(u64, LogId, u64)> {
    const AT: usize = 3;
    const LOG: usize = AT + 8;
    const SEQ: usize = LOG + LOG_ID_BYTES;
    let number = |at: usize| Some(u64::from_be_bytes(*key.get(at..)?.first_chunk()?));
    let is_one = key.first() == Some(&b't') && key.len() == SEQ + 8;
    is_one.then_some(())?;
    Some((number(AT)?, LogId::from_bytes(&key[LOG..SEQ])?, number(SEQ)?))
}

/// The value of a `t` row of a story: those are to be told who are to know what has become of it. Of any other one: it ends.
pub const TO_TELL: &[u8] = &[1];

/// The value of a `t` row of a user and another one: the user blocks the other, who is to have none of the user's stories any more.
pub const TO_HIDE: &[u8] = &[2];

/// In place of a story's number in such a key; no story has it.
const NO_STORY: u64 = u64::MAX;

/// With a story's number in a key of [`story_to_tell`].
const TELLS: u64 = 1 << 63;

/// In place of a log's identity in a `t` key: something is due about a story.
const STORY: u8 = b's';

/// `t`: that something is to be done about a story, from a time on: of one's own, or of one that a user may see.
pub fn story_due(at_ms: u64, user: u64, author: u64, number: u64) -> Key {
    let parts = [at_ms.to_be_bytes(), user.to_be_bytes(), author.to_be_bytes(), number.to_be_bytes()];
    key(b't', Slot::of_user(user), &[&parts[0], &[STORY], &parts[1], &parts[2], &parts[3]])
}

/// `t`: that a user, since this time, blocks another one, whose feed is to have none of the user's stories any more.
pub fn story_hidden(at_ms: u64, user: u64, other: u64) -> Key {
    story_due(at_ms, user, other, NO_STORY)
}

/// `t`: that those are to be told, from a time on, who are to know what has become of a story. Of that time the story may end as well: no
/// story has such a number.
pub fn story_to_tell(at_ms: u64, author: u64, number: u64) -> Key {
    story_due(at_ms, author, author, number | TELLS)
}

/// The number of a story, as one of these keys has it.
pub fn number_of_story(number: u64) -> u64 {
    number & !TELLS
}

/// When, in ms since the Unix epoch, and of whose row of which story a `t` key is: the user, the author, and the number, as the key has it;
/// `None` for any other key.
pub fn story_due_of(key: &[u8]) -> Option<(u64, u64, u64, u64)> {
    const AT: usize = 3;
    const KIND: usize = AT + 8;
    let number = |at: usize| Some(u64::from_be_bytes(*key.get(at..)?.first_chunk()?));
    let is_one = key.first() == Some(&b't') && key.get(KIND) == Some(&STORY) && key.len() == KIND + 1 + 3 * 8;
    is_one.then_some(())?;
    Some((number(AT)?, number(KIND + 1)?, number(KIND + 9)?, number(KIND + 17)?))
}

/// `f`: a page of the full-text index of a log: of the run of so many entries from `first` on, by the first of its terms.
pub fn words(log: LogId, (first, entries): (u64, u32), term: &[u8]) -> Key {
    let run = (first.to_be_bytes(), entries.to_be_bytes());
    key(b'f', Slot::of_log(log), &[&log.to_bytes(), &run.0, &run.1, term])
}

/// `f`: all pages of a log's index.
pub fn all_words(log: LogId) -> KeyRange {
    KeyRange::of_prefix(key(b'f', Slot::of_log(log), &[&log.to_bytes()]))
}

/// `f`: all pages of a run; from just after one of them on.
pub fn words_of_run(log: LogId, run: (u64, u32), after: Option<&Key>) -> KeyRange {
    KeyRange::of_prefix(words(log, run, &[])).behind(after)
}

/// `f`: the pages of a run up to the one that has a term, which is the last of them.
pub fn words_upto(log: LogId, run: (u64, u32), term: &[u8]) -> KeyRange {
    KeyRange { start: words(log, run, &[]), end: KeyRange::of_key(&words(log, run, term)).end }
}

/// `f`: the pages of a run, and of all behind it up to another one.
pub fn words_of_runs(log: LogId, first: (u64, u32), last: (u64, u32)) -> KeyRange {
    KeyRange { start: words(log, first, &[]), end: words_of_run(log, last, None).end }
}

/// `f`: the pages of a run behind that whose first terms begin so.
pub fn words_beginning(log: LogId, run: (u64, u32), prefix: &[u8]) -> KeyRange {
    let begin = words(log, run, prefix);
    KeyRange { start: KeyRange::of_key(&begin).end, end: KeyRange::of_prefix(begin).end }
}

/// Where the run stands in an `f` key: its first entry, and the number of its entries.
const RUN_OF_WORDS: usize = 3 + LOG_ID_BYTES;

/// The term under which the page of an `f` key lies; empty where there is none.
pub fn term_of_words(key: &[u8]) -> &[u8] {
    key.get(RUN_OF_WORDS + 8 + 4..).unwrap_or_default()
}

/// The log, and the first entry and the number of entries of the run that an `f` key is of; `None` for any other key.
pub fn run_of_words(key: &[u8]) -> Option<(LogId, (u64, u32))> {
    (key.first() == Some(&b'f')).then_some(())?;
    let log = LogId::from_bytes(key.get(3..RUN_OF_WORDS)?)?;
    let first = u64::from_be_bytes(*key.get(RUN_OF_WORDS..)?.first_chunk()?);
    let entries = u32::from_be_bytes(*key.get(RUN_OF_WORDS + 8..)?.first_chunk()?);
    Some((log, (first, entries)))
}

/// `w`: how far a member of a direct chat has got, with all devices.
pub fn member(log: LogId, user: u64) -> Key {
    key(b'w', Slot::of_log(log), &[&log.to_bytes(), &user.to_be_bytes()])
}

/// `w` of a group: how far some of its members have got, by the number of the row.
pub fn members_row(log: LogId, row: u32) -> Key {
    member(log, row.into())
}

/// `w`: all of a log's.
pub fn members(log: LogId) -> KeyRange {
    KeyRange::of_prefix(key(b'w', Slot::of_log(log), &[&log.to_bytes()]))
}

/// Bytes of a medium's id.
pub const MEDIUM_BYTES: usize = 16;

/// `o`: a medium.
pub fn medium(medium: &[u8; MEDIUM_BYTES]) -> Key {
    key(b'o', Slot::of_medium(medium), &[medium])
}

/// In place of an entry's seq: the medium is the picture of the group, or of the user whose private log it is.
pub const PICTURE: u64 = 0;

/// In place of an entry's seq, above the number of a story: the medium is of a story of the user whose private log it is.
pub const STORY_FROM: u64 = 1 << 62;

/// `o`: that an entry of a log has a medium, or (see [`PICTURE`]) a user or a group.
pub fn cite(medium: &[u8; MEDIUM_BYTES], log: LogId, seq: u64) -> Key {
    key(b'o', Slot::of_medium(medium), &[medium, &log.to_bytes(), &seq.to_be_bytes()])
}

/// `o`: a medium, and which entries have it.
pub fn medium_and_cites(medium: &[u8; MEDIUM_BYTES]) -> KeyRange {
    KeyRange::of_prefix(self::medium(medium))
}

/// A medium, and the entry that has it.
pub type MediumRow = ([u8; MEDIUM_BYTES], Option<(LogId, u64)>);

/// What an `o` key says: the medium, and the entry that has it, if it says that one does; `None` for any other key.
pub fn medium_of(key: &[u8]) -> Option<MediumRow> {
    const AT: usize = 3;
    const LOG: usize = AT + MEDIUM_BYTES;
    const SEQ: usize = LOG + LOG_ID_BYTES;
    (key.first() == Some(&b'o')).then_some(())?;
    let medium = *key.get(AT..)?.first_chunk()?;
    match key.len() {
        LOG => Some((medium, None)),
        len if len == SEQ + 8 => {
            let seq = u64::from_be_bytes(*key[SEQ..].first_chunk()?);
            Some((medium, Some((LogId::from_bytes(&key[LOG..SEQ])?, seq))))
        }
        _ => None,
    }
}

/// `v`: that it is to be seen, from a time on, whether anything has a medium: since this entry has it no more, or since nothing had it.
pub fn look(at_ms: u64, medium: &[u8; MEDIUM_BYTES], since: Option<(LogId, u64)>) -> Key {
    let mut key = key(b'v', Slot::of_medium(medium), &[&at_ms.to_be_bytes(), medium]);
    if let Some((log, seq)) = since {
        key.0.extend_from_slice(&log.to_bytes());
        key.0.extend_from_slice(&seq.to_be_bytes());
    }
    key
}

/// `v`: all of this slot's, the first due first, and of those behind it.
pub fn all_looks_from(slot: Slot) -> KeyRange {
    let end = KeyRange::of_prefix(Key(SmallVec::from_slice(b"v"))).end;
    KeyRange { start: key(b'v', slot, &[]), end }
}

/// When, in ms since the Unix epoch, and of which medium a `v` key is; `None` for any other key.
pub fn look_of(key: &[u8]) -> Option<(u64, [u8; MEDIUM_BYTES])> {
    const AT: usize = 3;
    (key.first() == Some(&b'v')).then_some(())?;
    let at_ms = u64::from_be_bytes(*key.get(AT..)?.first_chunk()?);
    Some((at_ms, *key.get(AT + 8..)?.first_chunk()?))
}

/// `k`: that a user has uploaded a medium, or is about to.
pub fn kept(user: u64, medium: &[u8; MEDIUM_BYTES]) -> Key {
    key(b'k', Slot::of_user(user), &[&user.to_be_bytes(), medium])
}

/// `k`: all of a user's, from just after one of them on.
pub fn all_kept(user: u64, after: Option<&Key>) -> KeyRange {
    rest_of(user, RestTable::Media).behind(after)
}

/// What a `y` key is about, behind its user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PushRow {
    /// Where a device is told that something has come.
    Device(u32),
    /// How much is unread in a log.
    Unread(LogId),
}

impl PushRow {
    /// What the end of a `y` key says; `None` for any other key.
    pub fn of(key: &[u8]) -> Option<Self> {
        (key.first() == Some(&b'y')).then_some(())?;
        match key.get(3 + 8..)?.split_first()? {
            (0, device) => Some(Self::Device(u32::from_be_bytes(device.try_into().ok()?))),
            (1, log) => Some(Self::Unread(LogId::from_bytes(log)?)),
            _ => None,
        }
    }
}

/// `y`: where a device of a user is told that something has come.
pub fn push_token(user: u64, device: u32) -> Key {
    key(b'y', Slot::of_user(user), &[&user.to_be_bytes(), &[0], &device.to_be_bytes()])
}

/// `y`: how much a user has not read in a log, as far as it was of interest to devices that are asleep.
pub fn push_unread(user: u64, log: LogId) -> Key {
    key(b'y', Slot::of_user(user), &[&user.to_be_bytes(), &[1], &log.to_bytes()])
}

/// `y`: all of a user's, the devices first.
pub fn pushes(user: u64) -> KeyRange {
    rest_of(user, RestTable::Pushes)
}

/// `z`: that devices of a user are still to be told of a log.
pub fn outbox(user: u64, log: LogId) -> Key {
    key(b'z', Slot::of_user(user), &[&user.to_be_bytes(), &log.to_bytes()])
}

/// `z`: that it is to be seen how much is unread in a log of a user.
pub fn outbox_count(user: u64, log: LogId) -> Key {
    let mut key = outbox(user, log);
    key.0.push(1);
    key
}

/// `z`: all of all users, from just after one of them on.
pub fn all_outboxes(after: Option<&Key>) -> KeyRange {
    KeyRange::of_prefix(Key(SmallVec::from_slice(b"z"))).behind(after)
}

/// Whose, and of which log a `z` key is, and whether it is only to be seen how much is unread; `None` for any other key.
pub fn outbox_of(key: &[u8]) -> Option<(u64, LogId, bool)> {
    const AT: usize = 3;
    const LOG: usize = AT + 8;
    const END: usize = LOG + LOG_ID_BYTES;
    (key.first() == Some(&b'z')).then_some(())?;
    let counts = match key.get(END..)? {
        [] => false,
        [1] => true,
        _ => return None,
    };
    Some((u64::from_be_bytes(*key.get(AT..)?.first_chunk()?), LogId::from_bytes(&key[LOG..END])?, counts))
}

/// Where a key lies, for operators: its table, its slot, and the ids in it; never a phone.
pub fn describe(key: &[u8]) -> String {
    let number = |at: usize| {
        let bytes = key.get(at..)?.first_chunk()?;
        Some(u64::from_be_bytes(*bytes))
    };
    let Some((table, rest)) = key.split_first() else { return "an empty key".to_owned() };
    if *table == b'm' {
        return format!("table m, {}", String::from_utf8_lossy(rest));
    }
    let slot =
        Key::from_raw(key).slot().map_or("no slot".to_owned(), |slot| format!("slot {}", slot.number()));
    let place = format!("table {}, {slot}", char::from(*table));
    match table {
        b'u' | b'd' | b'g' | b'i' | b'a' | b'r' | b'q' | b'b' | b'k' | b'j' | b'y' | b'z' => {
            number(3).map_or(place.clone(), |user| format!("{place}, user {user}"))
        }
        b'l' | b'e' | b'x' | b'w' | b'f' => match (number(4), number(12)) {
            (Some(lower), Some(higher)) => {
                let seq = number(20).filter(|_| *table == b'e').map(|seq| format!(", seq {seq}"));
                let chat = match key[3] {
                    GROUP => format!("group {lower}"),
                    PRIVATE => format!("private log of {lower}"),
                    _ => format!("chat of {lower} and {higher}"),
                };
                format!("{place}, {chat}{}", seq.unwrap_or_default())
            }
            _ => place,
        },
        _ => place,
    }
}

/// The log at the end of a `g`, `i`, `a` or `l` key; `None` for any other key.
pub fn log_of(key: &[u8]) -> Option<LogId> {
    LogId::from_bytes(key.get(key.len().checked_sub(LOG_ID_BYTES)?..)?)
}

/// The number at the end of a `d` key: the device; `None` for a key too short.
pub fn device_of(key: &[u8]) -> Option<u32> {
    key.last_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// The number at the end of an `e` or `x` key: the seq or client id; `None` for a key too short.
pub fn number_of(key: &[u8]) -> Option<u64> {
    key.last_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

/// The part of a range of keys that end with a log's identity which comes after `after`.
fn after_within(range: KeyRange, after: Option<LogId>) -> KeyRange {
    let Some(after) = after else { return range };
    let mut start = range.start.0;
    start.extend_from_slice(&after.to_bytes());
    start.push(0);
    KeyRange { start: Key(start), end: range.end }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_of_stories_says_what_it_is_and_lies_where_it_is_looked_for() {
        let (user, author, number) = (7 << 12, 9 << 12, 5);
        let rows = [
            (story(user, number), StoryRow::Own(number)),
            (story_seen(user, author, number), StoryRow::Seen(author, number)),
            (in_feed(user, author, number), StoryRow::InFeed(author, number)),
            (story_told(user, number, 3), StoryRow::Told(number, 3)),
            (story_viewer(user, number, author), StoryRow::Viewer(number, author)),
        ];
        assert!(rows.is_sorted_by_key(|(key, _)| key.clone()), "in this order they are read");
        for (key, row) in &rows {
            assert_eq!(story_row(key.as_ref()), Some((user, *row)));
            assert_eq!(key.slot(), Some(Slot::of_user(user)));
            let all = rest_of(user, RestTable::Stories);
            assert!(all.start <= *key && *key < all.end, "all of it goes with the account");
            for len in 0..key.as_ref().len() {
                assert_eq!(story_row(&key.as_ref()[..len]), None);
            }
        }
        let has = |range: &KeyRange, key: &Key| range.start <= *key && *key < range.end;
        let shown = all_stories(user, None);
        assert_eq!(rows.iter().filter(|(key, _)| has(&shown, key)).count(), 3);
        let behind_own = all_stories(user, Some((user, number)));
        assert!(!has(&behind_own, &rows[0].0) && has(&behind_own, &rows[1].0));
        let behind = all_stories(user, Some((author, number)));
        assert!(!has(&behind, &rows[2].0) && has(&behind, &story_seen(user, author, number + 1)));
        let both = in_feed_and_seen(user, author, number);
        assert!(has(&both, &rows[1].0) && has(&both, &rows[2].0));
        let of_story = all_of_story(user, number);
        assert!(has(&of_story, &rows[3].0) && has(&of_story, &rows[4].0));
    }

    #[test]
    fn what_is_due_of_a_story_is_told_from_what_is_due_of_an_entry() {
        let of_story = story_due(12, 7 << 12, 9 << 12, 5);
        assert_eq!(story_due_of(of_story.as_ref()), Some((12, 7 << 12, 9 << 12, 5)));
        let (tells, ends) = (story_to_tell(12, 7 << 12, 5), story_due(12, 7 << 12, 7 << 12, 5));
        let number = story_due_of(tells.as_ref()).map(|(.., number)| number_of_story(number));
        assert!(tells != ends && number == Some(5));
        assert_eq!(due_of(of_story.as_ref()), None);
        assert_eq!(of_story.slot(), Some(Slot::of_user(7 << 12)));
        for log in [LogId::Private(7), LogId::Group(7), LogId::Direct(7, 9)] {
            assert_eq!(story_due_of(due(12, log, 5).as_ref()), None);
        }
    }
}
