//! Who is found by a phone: by whoever asks for it, or has it in an address book, of whose numbers hashes are asked.
//!
//! Somebody who may not be found is as one who is not there, to the last byte and the last step. So the owner of whoever asks finds out
//! by what is durable alone: of a phone that nobody has as much is read, and as much is said to others, namely nothing, as of one
//! that somebody has, and it makes no difference who is in memory. Nothing of what was asked stays in memory.

use prost::Message as _;
use tern_storage::keys::{self, Relation};
use tern_storage::records::{MemberRecord, PhoneHashRecord, PhoneRecord};
use tern_storage::{Direction, Key, KeyRange, LogId, Rows, ScanLimit};
use tern_wire::ids::{GROUPS_FROM, Phone, PhoneHash, UserId};

use super::relations::{UNKNOWN_USER, UNREADABLE};
use super::users::Ask;
use super::waits::{After, Then};
use super::{Accounts, Cx, ScanFor, slot_of};
use crate::circle::{Circle, Concern, Verdict};
use crate::message::{LogOp, Shown, Unreadable, UserOp};
use crate::mutations::{Mutation, is};
use crate::reply::{Origin, Reply};

/// Who looks for whom, and how far that is.
#[derive(Clone, Debug)]
pub(crate) struct Seeking {
    asker: UserId,
    origin: Origin,
    wanted: Wanted,
    /// Of the numbers that were gone through, who was found; 0: nobody.
    found: Vec<u64>,
    step: Step,
}

#[derive(Clone, Debug)]
enum Wanted {
    /// Who is it?
    Phone(Phone),
    /// Which of these are here?
    Hashes(Box<[PhoneHash]>),
}

/// What is read of one number, in this order, whatever was found before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// Whose it is.
    Owner,
    /// Whom that one lets find them.
    Privacy(Candidate),
    /// Whether whoever asks is a contact of theirs.
    Contact(Candidate, Verdict),
    /// Whether they have written to whoever asks; and whether they may be found otherwise.
    Wrote(Candidate, bool),
}

/// Who may have the number that is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Candidate {
    user: UserId,
    /// Nobody has it: the user stands in for one who has, and what is read of it means nothing.
    is_nobody: bool,
}

impl Seeking {
    /// For a user who has a phone.
    pub(super) fn of_phone(asker: UserId, origin: Origin, phone: Phone) -> Self {
        Self { asker, origin, wanted: Wanted::Phone(phone), found: Vec::new(), step: Step::Owner }
    }

    /// Who looks.
    pub(super) fn asker(&self) -> UserId {
        self.asker
    }

    fn hash(&self) -> PhoneHash {
        match &self.wanted {
            Wanted::Phone(phone) => PhoneHash::of(phone),
            Wanted::Hashes(hashes) => hashes[self.found.len()],
        }
    }

    /// What is to be read next.
    fn key(&self) -> Key {
        let asker = self.asker.get();
        match (self.step, &self.wanted) {
            (Step::Owner, Wanted::Phone(phone)) => keys::phone(phone.digits()),
            (Step::Owner, Wanted::Hashes(_)) => keys::phone_hash(self.hash().as_bytes()),
            (Step::Privacy(of), _) => keys::relation(of.user.get(), Relation::Privacy),
            (Step::Contact(of, _), _) => keys::relation(of.user.get(), Relation::Contact(asker)),
            (Step::Wrote(of, _), _) => wrote(asker, of.user),
        }
    }

    /// Who it may be, as its row says.
    fn candidate(&self, rows: &Rows) -> Result<Candidate, prost::DecodeError> {
        let user = match (rows.rows.first(), &self.wanted) {
            (None, _) => 0,
            (Some((_, value)), Wanted::Phone(_)) => PhoneRecord::decode(&value[..])?.user,
            (Some((_, value)), Wanted::Hashes(_)) => PhoneHashRecord::decode(&value[..])?.user,
        };
        let user = UserId::new(user);
        Ok(Candidate { user: user.unwrap_or_else(|| stand_in(&self.hash())), is_nobody: user.is_none() })
    }

    /// What was read is known: what is read next, or (`Err`) who has the number and may be found.
    fn take(&self, rows: Rows) -> Option<Result<Step, Option<UserId>>> {
        Some(match self.step {
            Step::Owner => match self.candidate(&rows).ok()? {
                of if of.is_nobody && is(Mutation::AnswerNobodyEarly) => Err(None),
                of => Ok(Step::Privacy(of)),
            },
            Step::Privacy(of) => {
                let circle = Circle::of_rows(rows.rows)?;
                let is_own = of.user == self.asker || is(Mutation::FindHidden);
                let lets = if is_own { Verdict::Yes } else { circle.lets(self.asker, Concern::FoundByPhone) };
                Ok(Step::Contact(of, lets))
            }
            Step::Contact(of, Verdict::IfContact) => Ok(Step::Wrote(of, !rows.rows.is_empty())),
            Step::Contact(of, lets) => Ok(Step::Wrote(of, lets == Verdict::Yes)),
            Step::Wrote(of, may_be_found) => {
                let may_be_found = has_written(&rows).ok()? || may_be_found;
                Err(Some(of.user).filter(|_| may_be_found && !of.is_nobody))
            }
        })
    }
}

/// Where it stands whether somebody has written in the direct chat with another.
fn wrote(reader: u64, writer: UserId) -> Key {
    keys::member(LogId::direct(reader, writer.get()), writer.get())
}

fn has_written(rows: &Rows) -> Result<bool, prost::DecodeError> {
    let record = rows.rows.first().map(|(_, value)| MemberRecord::decode(&value[..])).transpose()?;
    Ok(record.is_some_and(|record| record.wrote))
}

/// An id in place of somebody's who is not there.
fn stand_in(hash: &PhoneHash) -> UserId {
    let number = u64::from_le_bytes(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes"));
    UserId::new(number % (GROUPS_FROM - 1) + 1).expect("it is one of the numbers of users")
}

fn read(cx: &mut Cx, key: &Key, purpose: ScanFor) {
    let one = ScanLimit { rows: 1, bytes: usize::MAX };
    cx.scan(KeyRange::of_key(key), Direction::Forwards, one, purpose);
}

impl Accounts {
    /// Who of a user's address book is here.
    pub(super) fn discover(&mut self, cx: &mut Cx, asker: UserId, origin: Origin, hashes: Box<[PhoneHash]>) {
        if let Err(refusal) = self.budgets.discover(asker, hashes.len(), cx.now_ms) {
            return cx.refuse(origin, refusal);
        }
        let wanted = Wanted::Hashes(hashes);
        Self::seek(cx, Seeking { asker, origin, wanted, found: Vec::new(), step: Step::Owner });
    }

    pub(super) fn seek(cx: &mut Cx, seeking: Seeking) {
        read(cx, &seeking.key(), ScanFor::Seek(Box::new(seeking)));
    }

    /// A step of it has been read.
    pub(super) fn sought(&mut self, cx: &mut Cx, mut seeking: Seeking, rows: Result<Rows, Unreadable>) {
        let Ok(rows) = rows else { return cx.refuse(seeking.origin, UNREADABLE) };
        match seeking.take(rows) {
            None => {
                cx.damaged("what is known of who has a phone", &seeking.key());
                cx.refuse(seeking.origin, UNREADABLE);
            }
            Some(Ok(step)) => Self::seek(cx, Seeking { step, ..seeking }),
            Some(Err(found)) => match seeking.wanted {
                Wanted::Phone(_) => self.phone_sought(cx, seeking.asker, seeking.origin, found),
                Wanted::Hashes(ref hashes) => {
                    seeking.found.push(found.map_or(0, UserId::get));
                    if seeking.found.len() < hashes.len() {
                        return Self::seek(cx, Seeking { step: Step::Owner, ..seeking });
                    }
                    cx.reply(seeking.origin, Reply::Discovered(seeking.found));
                }
            },
        }
    }

    /// Who has a phone is known. The log of the two knows whether the name may be shown.
    fn phone_sought(&mut self, cx: &mut Cx, asker: UserId, origin: Origin, found: Option<UserId>) {
        match found {
            Some(user) if user == asker => {
                let shown = Shown { to: asker, name: true, phone: true, picture: None };
                self.ask_user(cx, user, Ask::Told(UserOp::Describe(origin, shown)));
            }
            Some(user) => {
                let log = LogId::direct(asker.get(), user.get());
                cx.ask_log(origin, log, LogOp::Describe { origin, reader: asker, by_phone: true });
            }
            None => cx.refuse(origin, UNKNOWN_USER),
        }
    }

    /// Whom a user looks up by a number that anybody can make up: first it is asked whether they have written to the user.
    pub(super) fn look_up_peer(cx: &mut Cx, asker: UserId, origin: Origin, peer: UserId) {
        read(cx, &wrote(asker.get(), peer), ScanFor::Peer(asker, origin, peer));
    }

    /// Whether they have is known.
    pub(super) fn peer_read(
        cx: &mut Cx,
        asker: UserId,
        origin: Origin,
        peer: UserId,
        rows: Result<Rows, Unreadable>,
    ) {
        let has_written = rows.map(|rows| has_written(&rows));
        match has_written {
            Ok(Ok(true)) => {
                let log = LogId::direct(asker.get(), peer.get());
                cx.ask_log(origin, log, LogOp::Describe { origin, reader: asker, by_phone: false });
            }
            Ok(Ok(false)) => cx.refuse(origin, UNKNOWN_USER),
            Ok(Err(_)) => {
                cx.damaged("a member of a chat", &wrote(asker.get(), peer));
                cx.refuse(origin, UNREADABLE);
            }
            Err(_) => cx.refuse(origin, UNREADABLE),
        }
    }

    /// Has a user be found by the hash of the phone. The user's record, which says so, is to be written then; `false`: that is so already.
    pub(super) fn note_hash(&mut self, cx: &mut Cx, id: UserId) -> bool {
        let Some(record) = self.record(id).filter(|record| !record.is_hashed) else { return false };
        let Some(phone) = Phone::parse(&record.phone) else { return false };
        record.is_hashed = true;
        let found = PhoneHashRecord { user: id.get() };
        cx.put(slot_of(id), keys::phone_hash(PhoneHash::of(&phone).as_bytes()), &found);
        true
    }

    /// A device of a user has come: an account of before there were hashes is found by its one from now on.
    pub(super) fn be_found(&mut self, cx: &mut Cx, id: UserId) {
        if self.note_hash(cx, id)
            && let Some(record) = self.record(id)
        {
            cx.put(slot_of(id), keys::user(id.get()), record);
            self.after(cx, After::of_user(id, Then::Noted));
        }
    }

    /// A user is found by the hash of the phone no more.
    pub(super) fn forget_hash(cx: &mut Cx, id: UserId, phone: &str) {
        if let Some(phone) = Phone::parse(phone) {
            cx.delete(slot_of(id), keys::phone_hash(PhoneHash::of(&phone).as_bytes()));
        }
    }
}
