//! What was promised, and whether it is so: kept beside the world, which knows nothing of it.

use std::collections::{BTreeMap, BTreeSet};

use tern_proto::v1::Kind;
use tern_storage::LogId;
use tern_storage::records::EntryRecord;
use tern_wire::ids::{GROUPS_FROM, PRIVATE};

use crate::books::Books;
use crate::node::Token;
use crate::pins::Pins;
use crate::reports::Reports;
use crate::talk::has_text;

/// The log of a chat, as a user names it.
pub(crate) fn place_of(user: u64, chat: u64) -> LogId {
    match chat {
        PRIVATE => LogId::Private(user),
        GROUPS_FROM.. => LogId::Group(chat),
        _ => LogId::direct(user, chat),
    }
}

/// As what a user names a log: the other way round. `None`: it is no chat of theirs. Who is in a group its entries say.
pub(crate) fn chat_in(user: u64, log: LogId) -> Option<u64> {
    match log {
        LogId::Direct(lower, higher) if lower == user => Some(higher),
        LogId::Direct(lower, higher) => (higher == user).then_some(lower),
        LogId::Group(group) => Some(group),
        LogId::Private(whose) => (whose == user).then_some(PRIVATE),
    }
}

/// The number that a text begins with: every text is said once.
pub(crate) fn number_of(text: &[u8]) -> Option<u64> {
    let end = text.iter().position(|byte| *byte == b' ')?;
    std::str::from_utf8(&text[..end]).ok()?.parse().ok()
}

/// The text of a number, of a length.
pub(crate) fn text(number: u64, length: usize) -> Vec<u8> {
    format!("{number} {}", "x".repeat(length)).into_bytes()
}

/// What became of what was said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// Its device may have it, or not.
    Asked,
    /// Its device keeps it until it is sent: it is owed.
    Kept,
    /// It was refused, or its device's session ended before it was sent: it may be there or not.
    GivenUp,
}

/// Something that was said.
#[derive(Debug)]
struct Said {
    by: u64,
    place: LogId,
    /// What it is about or replies to, and whether it edits that.
    about: (u64, bool),
    device: usize,
    bytes: usize,
    fate: Fate,
    /// Where it stands, says whoever was told.
    seq: Option<u64>,
}

/// An entry that is no text of anybody's: its kind, what it is about, and its body.
pub(crate) type NoText = (i32, u64, Vec<u8>);

/// Entries that were erased before anybody was told of them: in which log, by whom, about what and whether as its edits, how many.
type Erased = BTreeMap<(LogId, u64, (u64, bool)), u64>;

/// Whether what was said may be one of these, which is then taken.
fn is_one_of(erased: &mut Erased, said: &Said) -> bool {
    let left = erased.get_mut(&(said.place, said.by, said.about)).filter(|left| **left > 0);
    left.map(|left| *left -= 1).is_some()
}

/// See the module.
#[derive(Default, Debug)]
pub(crate) struct Record {
    said: BTreeMap<u64, Said>,
    /// What was acknowledged as durable, and where.
    acknowledged: BTreeMap<u64, (LogId, u64)>,
    /// What anybody was ever told to stand at a place.
    places: BTreeMap<(LogId, u64), u64>,
    /// What anybody was ever told to stand at a place that is no text: its kind, what it is about, its body.
    changes: BTreeMap<(LogId, u64), NoText>,
    /// How often an account was told that it ends.
    pub(crate) ends: u64,
    /// Groups that were made.
    pub(crate) groups: Vec<u64>,
    /// Secrets of invitations that may have been made, with their groups.
    pub(crate) secrets: Vec<(u64, Vec<u8>)>,
    /// Devices whose end was asked for, and those whose end was acknowledged.
    may_end: BTreeSet<(u64, u32)>,
    ended: BTreeSet<(u64, u32)>,
    /// How many sessions each phone may have asked for.
    sessions: BTreeMap<String, u32>,
    /// Refresh tokens: whose each is, and how many exchanges it comes after.
    tokens: BTreeMap<String, (u64, u32, u32)>,
    /// The newest token of each device that was presented.
    presented: BTreeMap<(u64, u32), u32>,
    pub(crate) pins: Pins,
    pub(crate) reports: Reports,
    /// Up to where some device of somebody has had a log whose session is over since.
    had: BTreeMap<(LogId, u64), u64>,
    /// What was cut off: sent again, it is a new message.
    cut: BTreeSet<u64>,
}

impl Record {
    /// A text is about to be asked to be sent.
    pub(crate) fn asked(
        &mut self,
        number: u64,
        device: usize,
        bytes: usize,
        (by, to): (u64, u64),
        about: (u64, bool),
    ) {
        let said = Said { by, place: place_of(by, to), about, device, bytes, fate: Fate::Asked, seq: None };
        assert!(self.said.insert(number, said).is_none(), "every text is said once");
    }

    /// Its device keeps a text: it is owed.
    pub(crate) fn kept(&mut self, text: &[u8]) {
        let said = number_of(text).and_then(|number| self.said.get_mut(&number)).expect("it was asked for");
        if said.fate == Fate::Asked {
            said.fate = Fate::Kept;
        }
    }

    /// A text will not be sent.
    pub(crate) fn refused(&mut self, text: &[u8]) {
        let said = number_of(text).and_then(|number| self.said.get_mut(&number)).expect("it was asked for");
        said.fate = Fate::GivenUp;
    }

    /// A message of an earlier run will not be sent: a text, or a change of a group.
    pub(crate) fn refused_late(&mut self, body: &[u8]) {
        if let Some(said) = number_of(body).and_then(|number| self.said.get_mut(&number)) {
            said.fate = Fate::GivenUp;
        }
    }

    /// There is this group.
    pub(crate) fn group_is(&mut self, group: u64) {
        if !self.groups.contains(&group) {
            self.groups.push(group);
        }
    }

    /// A device's session has ended: what it has not sent is lost.
    pub(crate) fn device_ended(&mut self, device: usize) {
        for said in self.said.values_mut().filter(|said| said.device == device && said.fate == Fate::Kept) {
            said.fate = Fate::GivenUp;
        }
    }

    /// Somebody was told of an entry that is no text.
    pub(crate) fn changed(&mut self, place: LogId, seq: u64, what: NoText) -> Result<(), String> {
        let before = self.changes.entry((place, seq)).or_insert_with(|| what.clone());
        if *before != what {
            return Err(format!("two changes were told to stand at {seq} of {place:?}"));
        }
        Ok(())
    }

    /// A text was acknowledged.
    pub(crate) fn acknowledged(&mut self, text: &[u8], place: LogId, seq: u64) -> Result<(), String> {
        let number = self.stands(place, seq, text)?;
        let told = self.acknowledged.insert(number, (place, seq));
        if told.is_some_and(|told| told != (place, seq)) && !self.cut.contains(&number) {
            return Err(format!("a retry got another place: {told:?} and {seq} of {place:?}"));
        }
        Ok(())
    }

    /// An entry is being cut off: what it says may be said again.
    pub(crate) fn is_cut(&mut self, place: LogId, entry: &EntryRecord) {
        self.cut.extend(self.number_in(place, entry));
    }

    /// Whether a text may stand in the books more than once.
    pub(crate) fn may_be_twice(&self, number: u64) -> bool {
        self.cut.contains(&number)
    }

    /// How many entries say what others say too.
    pub(crate) fn again(&self, books: &Books) -> u64 {
        let logs = books.logs.iter();
        let entries = logs.flat_map(|(id, log)| log.entries.iter().map(|entry| (*id, entry)));
        let texts = entries.filter(|(_, entry)| has_text(entry.kind));
        let numbers: Vec<_> = texts.filter_map(|(id, entry)| self.number_in(id, entry)).collect();
        (numbers.len() - numbers.iter().collect::<BTreeSet<_>>().len()) as u64
    }

    /// A device had a log up to an entry.
    pub(crate) fn had(&mut self, place: LogId, user: u64, upto: u64) {
        let had = self.had.entry((place, user)).or_default();
        *had = upto.max(*had);
    }

    /// Up to where those devices of somebody have had a log whose sessions are over.
    pub(crate) fn had_upto(&self, place: LogId, user: u64) -> u64 {
        self.had.get(&(place, user)).copied().unwrap_or(0)
    }

    /// Somebody was told that a text stands at a place. Gives its number.
    pub(crate) fn stands(&mut self, place: LogId, seq: u64, text: &[u8]) -> Result<u64, String> {
        let number = self.is_said(place, seq, text)?;
        let before = *self.places.entry((place, seq)).or_insert(number);
        if before != number {
            return Err(format!("{before} and {number} were told to stand at {seq} of {place:?}"));
        }
        let said = self.said.get_mut(&number).expect("it was just found");
        let before = *said.seq.get_or_insert(seq);
        if before != seq && !self.cut.contains(&number) {
            return Err(format!("{number} was told to stand at {before} and at {seq} of {place:?}"));
        }
        Ok(number)
    }

    fn is_said(&self, place: LogId, seq: u64, text: &[u8]) -> Result<u64, String> {
        let found = number_of(text).and_then(|number| Some((number, self.said.get(&number)?)));
        match found {
            Some((number, said)) if said.place == place && said.bytes == text.len() => Ok(number),
            Some((number, said)) => {
                Err(format!("{number}, said in {:?}, stands otherwise at {seq} of {place:?}", said.place))
            }
            None => Err(format!("nobody has said what stands at {seq} of {place:?}")),
        }
    }

    /// Who has said in a log what begins so, of so many bytes.
    pub(crate) fn said_by(&self, place: LogId, beginning: &[u8], bytes: usize) -> Option<u64> {
        let said = self.said.get(&number_of(beginning)?)?;
        (said.place == place && said.bytes == bytes).then_some(said.by)
    }

    /// How much was acknowledged.
    pub(crate) fn count(&self) -> u64 {
        self.acknowledged.len() as u64
    }

    /// An entry stands in the store. Gives the number of what it says; `None`: it says nothing, or it is erased and nobody was told of it.
    pub(crate) fn stands_in(&self, log: LogId, entry: &EntryRecord) -> Result<Option<u64>, String> {
        let place = (log, entry.seq);
        if !has_text(entry.kind) {
            let is = (entry.kind, entry.about, entry.body.to_vec());
            let differs = |told: &NoText| {
                let says_other = told.2 != is.2 && !entry.erased;
                (told.0, told.1) != (is.0, is.1) || says_other
            };
            return match self.changes.get(&place).is_some_and(differs) {
                true => Err(format!("at {} of {log:?} stands another change than was told", entry.seq)),
                false => Ok(None),
            };
        }
        if entry.erased {
            return Ok(self.places.get(&place).copied());
        }
        let number = self.is_said(log, entry.seq, &entry.body)?;
        if self.said[&number].by != entry.sender {
            return Err(format!("{number} stands in {log:?} as said by {}", entry.sender));
        }
        if self.places.get(&(log, entry.seq)).is_some_and(|told| *told != number) {
            return Err(format!("at {} of {log:?} stands {number}, and another one was told to", entry.seq));
        }
        Ok(Some(number))
    }

    /// What was acknowledged stands in the store, at its place.
    pub(crate) fn acknowledged_stand(&self, books: &Books) -> Result<(), String> {
        for (number, (id, seq)) in &self.acknowledged {
            let log = books.logs.get(id);
            let entry = log.and_then(|log| log.entries.get(*seq as usize - 1));
            let stands = entry.and_then(|entry| self.number_in(*id, entry));
            if stands != Some(*number) {
                return Err(format!(
                    "{number} was acknowledged at {seq} of {id:?}, and does not stand there: {} do",
                    log.map_or(0, |log| log.entries.len())
                ));
            }
        }
        Ok(())
    }

    /// The number of what an entry says. Of one that is erased, if anybody was told of it.
    fn number_in(&self, log: LogId, entry: &EntryRecord) -> Option<u64> {
        if entry.erased { self.places.get(&(log, entry.seq)).copied() } else { number_of(&entry.body) }
    }

    /// At the end: all that is owed stands in the store. Gives how much was owed, and how much was not and may stand or not.
    pub(crate) fn is_paid(&self, books: &Books) -> Result<(u64, u64), String> {
        let (mut stand, mut erased) = (BTreeSet::new(), Erased::new());
        for (id, log) in &books.logs {
            for entry in log.entries.iter().filter(|entry| has_text(entry.kind)) {
                let number = self.number_in(*id, entry);
                let is_edit = entry.kind == i32::from(Kind::Edit);
                match number {
                    Some(number) => _ = stand.insert(number),
                    None => *erased.entry((*id, entry.sender, (entry.about, is_edit))).or_default() += 1,
                }
            }
        }
        let (mut owed, mut free) = (0, 0);
        for (number, said) in &self.said {
            match said.fate {
                // It may be one of those that were erased before anybody was told of them.
                Fate::Kept if !stand.contains(number) && !is_one_of(&mut erased, said) => {
                    return Err(format!(
                        "{number} of {:?} was kept by device {}, and is not in the store",
                        said.place, said.device
                    ));
                }
                Fate::Kept => owed += 1,
                Fate::Asked | Fate::GivenUp => free += 1,
            }
        }
        Ok((owed, free))
    }

    /// A refresh token comes or goes. One that comes after a later one of its device ends the session: a thief can't be told from
    /// what a process has sent before it died, and the network was slow with.
    pub(crate) fn token(&mut self, token: Token) {
        match token {
            Token::Issued { user, device, token, parent } => {
                let before = parent.and_then(|parent| self.tokens.get(&parent));
                let exchanges = before.map_or(0, |(_, _, exchanges)| exchanges + 1);
                self.tokens.insert(token, (user, device, exchanges));
            }
            Token::Presented(token) => {
                let Some((user, device, exchanges)) = self.tokens.get(&token).copied() else { return };
                let newest = self.presented.entry((user, device)).or_default();
                if exchanges < *newest {
                    self.may_end.insert((user, device));
                }
                *newest = exchanges.max(*newest);
            }
        }
    }

    /// The end of a device is about to be asked for.
    pub(crate) fn may_end(&mut self, user: u64, device: u32) {
        self.may_end.insert((user, device));
    }

    /// A device has ended, says the server.
    pub(crate) fn ended(&mut self, user: u64, device: u32) {
        self.ended.insert((user, device));
    }

    /// A session may be made for a phone: perhaps nobody hears of it.
    pub(crate) fn asks_for_session(&mut self, phone: &str) {
        *self.sessions.entry(phone.to_owned()).or_default() += 1;
    }

    /// Whether a device's session may be over.
    pub(crate) fn is_to_end(&self, phone: &str, user: u64, device: u32) -> bool {
        // One of too many goes for a new one.
        let made = self.sessions.get(phone).copied().unwrap_or(0);
        self.may_end.contains(&(user, device)) || made as usize > crate::shape::DEVICES_MAX
    }

    /// Whether a device's session must be over.
    pub(crate) fn is_ended(&self, user: u64, device: u32) -> bool {
        self.ended.contains(&(user, device))
    }
}
