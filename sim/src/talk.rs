//! What is about messages, as the entries of a log say it, and when they end: nothing but the rules of docs/PROTOCOL.md, section 18, and
//! none of the brain's code.

use std::collections::BTreeMap;

use prost::Message as _;
use tern_proto::v1::{self, Kind};
use tern_storage::records::EntryRecord;

/// How long a message may be edited, and deleted, in the simulations.
pub(crate) const EDIT_WINDOW_MS: u64 = 3_000;
pub(crate) const DELETION_WINDOW_MS: u64 = 6_000;

/// Edits of a message.
const EDITS_MAX: usize = 32;

/// Whether an entry of this kind is what somebody says: it counts as unread.
pub(crate) fn says(kind: i32) -> bool {
    let kind = Kind::try_from(kind);
    matches!(kind, Ok(Kind::Text | Kind::Location | Kind::Contact | Kind::Poll | Kind::Media | Kind::Call))
}

/// Whether an entry is what somebody tells their own devices.
pub(crate) fn is_private(entry: &EntryRecord) -> bool {
    entry.kind == i32::from(Kind::Private)
}

/// Whether an entry of this kind has a text of the simulations' people.
pub(crate) fn has_text(kind: i32) -> bool {
    says(kind) || matches!(Kind::try_from(kind), Ok(Kind::Edit | Kind::Reaction | Kind::Vote))
}

/// A message, after some entries.
#[derive(Debug)]
struct Message {
    sender: u64,
    time_ms: u64,
    kind: i32,
    edits: Vec<u64>,
    is_deleted: bool,
    expires_ms: u64,
}

/// What was said in a log, after some of its entries.
#[derive(Default, Debug)]
pub(crate) struct Talk {
    said: BTreeMap<u64, Message>,
    /// Entries of a private log that others have replaced.
    replaced: Vec<u64>,
    /// After how long what is said from here on is erased.
    timer_ms: u64,
}

/// Who says something, as the log knows them then.
#[derive(Clone, Copy)]
pub(crate) struct Speaker {
    /// The first entry that they may see.
    pub(crate) first: u64,
    pub(crate) is_admin: bool,
}

impl Talk {
    /// Takes an entry. `Err`: it is not one that its author might have made.
    pub(crate) fn take(&mut self, entry: &EntryRecord, by: Speaker) -> Result<(), String> {
        let kind = Kind::try_from(entry.kind).map_err(|_| "its kind is none".to_owned())?;
        if entry.about >= entry.seq || (entry.about > 0 && entry.about < by.first) {
            return Err(format!("it is about {}", entry.about));
        }
        let ends_ms = self.ends_ms(entry);
        if entry.expires_ms != ends_ms {
            return Err(format!("it ends at {} and not at {ends_ms}", entry.expires_ms));
        }
        if says(entry.kind) {
            let EntryRecord { seq, sender, time_ms, kind, expires_ms, .. } = *entry;
            let message = Message { sender, time_ms, kind, edits: Vec::new(), is_deleted: false, expires_ms };
            self.said.insert(seq, message);
            return Ok(());
        }
        if kind == Kind::Timer {
            self.timer_ms = v1::Timer::decode(&entry.body[..]).map_err(|_| "its body is none")?.after_ms;
            return Ok(());
        }
        if kind == Kind::Private {
            self.replaced.extend((entry.about > 0).then_some(entry.about));
            return Ok(());
        }
        if matches!(kind, Kind::Group | Kind::Lost | Kind::Withheld) {
            return Ok(());
        }
        let about = self.said.get_mut(&entry.about).ok_or("it is about no message")?;
        if about.is_deleted {
            return Err("it is about a message that was deleted".to_owned());
        }
        if about.expires_ms > 0 && about.expires_ms <= entry.time_ms {
            return Err("it is about a message that had ended".to_owned());
        }
        let age_ms = entry.time_ms.saturating_sub(about.time_ms);
        let is_own = about.sender == entry.sender;
        match kind {
            Kind::Edit => {
                let may = is_own && about.kind == i32::from(Kind::Text) && age_ms <= EDIT_WINDOW_MS;
                if !may || about.edits.len() >= EDITS_MAX {
                    return Err("its author may not edit that, or not any more".to_owned());
                }
                about.edits.push(entry.seq);
            }
            Kind::Deletion if (is_own || by.is_admin) && age_ms <= DELETION_WINDOW_MS => {
                about.is_deleted = true;
            }
            Kind::Deletion => return Err("its author may not delete that, or not any more".to_owned()),
            Kind::Vote if about.kind != i32::from(Kind::Poll) => return Err("that is no poll".to_owned()),
            _ => {}
        }
        Ok(())
    }

    /// When an entry is to be erased by itself; 0: never.
    fn ends_ms(&self, entry: &EntryRecord) -> u64 {
        if says(entry.kind) && self.timer_ms > 0 {
            return entry.time_ms + self.timer_ms;
        }
        // A reaction or a vote that was taken back says nothing. Of one that was erased nobody knows whether it did.
        let says_something = !entry.body.is_empty() || entry.erased;
        let ends_with = says_something && !says(entry.kind) && has_text(entry.kind);
        let about = self.said.get(&entry.about).filter(|_| ends_with);
        about.map_or(0, |message| message.expires_ms)
    }

    /// Whether the entries are what they have made of each other, but for those that were kept no longer.
    pub(crate) fn is_kept_by(
        &self,
        entries: &[EntryRecord],
        is_old: impl Fn(&EntryRecord) -> bool,
    ) -> Result<(), String> {
        let mut erased: BTreeMap<u64, ()> = self.replaced.iter().map(|seq| (*seq, ())).collect();
        for (seq, message) in self.said.iter().filter(|(_, message)| message.is_deleted) {
            erased.insert(*seq, ());
            erased.extend(message.edits.iter().map(|edit| (*edit, ())));
        }
        for entry in entries {
            let edits = self.said.get(&entry.seq).map_or(&[][..], |message| &message.edits);
            if entry.edits != edits {
                return Err(format!("{} says that its edits are {:?}: {edits:?}", entry.seq, entry.edits));
            }
            let is_erased = erased.contains_key(&entry.seq);
            let is_so = match entry.erased {
                true => {
                    let is_empty =
                        entry.body.is_empty() && entry.mentions.is_empty() && entry.media.is_empty();
                    is_empty && (is_erased || entry.expires_ms > 0 || is_old(entry))
                }
                false => !is_erased,
            };
            if !is_so {
                return Err(format!("of {} it is said that it is deleted: {is_erased}", entry.seq));
            }
        }
        Ok(())
    }
}
