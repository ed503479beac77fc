//! A group as its entries say it is: nothing but the rules of docs/PROTOCOL.md, section 17, and none of the brain's code.

use std::collections::BTreeMap;

use prost::Message as _;
use tern_proto::v1::{self, group_change::Change};
use tern_storage::records::EntryRecord;

use crate::talk::{Speaker, Talk, says};

/// Somebody who is, or was, a member.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) role: v1::Role,
    /// From which entry to which they see the group (0: on and on), and by which entry they came: each time.
    pub(crate) stays: Vec<Stay>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stay {
    pub(crate) from: u64,
    pub(crate) joined: u64,
    pub(crate) until: u64,
}

/// A group, after some of its entries.
#[derive(Default, Debug)]
pub(crate) struct Group {
    pub(crate) name: String,
    settings: v1::GroupSettings,
    pub(crate) people: BTreeMap<u64, Person>,
    /// Messages, as opposed to changes and to what is about messages.
    pub(crate) counted: u64,
    seq: u64,
    talk: Talk,
}

impl Person {
    pub(crate) fn is_member(&self) -> bool {
        self.last().until == 0
    }

    pub(crate) fn last(&self) -> Stay {
        *self.stays.last().expect("whoever was never in it is not here")
    }
}

impl Group {
    /// All that these entries say. `Err`: one of them is not one that its author might have made.
    pub(crate) fn of(entries: &[EntryRecord]) -> Result<Self, String> {
        let mut group = Self::default();
        for entry in entries {
            group.take(entry).map_err(|what| format!("entry {} of {}: {what}", entry.seq, entry.sender))?;
        }
        group.talk.is_kept_by(entries)?;
        Ok(group)
    }

    fn take(&mut self, entry: &EntryRecord) -> Result<(), String> {
        self.seq = entry.seq;
        let change = if entry.kind == v1::Kind::Group as i32 {
            let change = v1::GroupChange::decode(&entry.body[..]).ok().and_then(|change| change.change);
            Some(change.ok_or("it says nothing")?)
        } else {
            None
        };
        if let Some(Change::Made(made)) = change {
            return self.made(entry, made);
        }
        let author = self.people.get(&entry.sender).filter(|person| person.is_member());
        let author = author.ok_or("its author is no member")?;
        let is_admin = author.role != v1::Role::Member;
        self.talk.take(entry, Speaker { first: author.last().from, is_admin })?;
        let of_admins = |who: v1::Who| is_admin || who == v1::Who::All;
        let settings = self.settings;
        let allowed = match &change {
            None => match v1::Kind::try_from(entry.kind).unwrap_or_default() {
                v1::Kind::Reaction | v1::Kind::Vote | v1::Kind::Deletion => true,
                v1::Kind::Pin | v1::Kind::Unpin => of_admins(settings.editors()),
                _ => of_admins(settings.senders()),
            },
            Some(Change::Added(_)) => of_admins(settings.adders()),
            Some(Change::Name(_) | Change::Description(_) | Change::Picture(_)) => {
                of_admins(settings.editors())
            }
            Some(Change::Left(_)) => true,
            Some(Change::Removed(_) | Change::Role(_) | Change::Settings(_)) => is_admin,
            Some(Change::Made(_)) => unreachable!("dealt with before"),
        };
        if !allowed {
            return Err("its author may not do that".to_owned());
        }
        match change {
            None => self.counted += u64::from(says(entry.kind)),
            Some(change) => self.change(entry.sender, change)?,
        }
        if entry.messages != self.counted {
            return Err(format!("it counts {} messages, and there are {}", entry.messages, self.counted));
        }
        Ok(())
    }

    fn made(&mut self, entry: &EntryRecord, made: v1::GroupMade) -> Result<(), String> {
        if entry.seq != 1 {
            return Err("a group is made by its first entry".to_owned());
        }
        (self.name, self.settings) = (made.name, made.settings.unwrap_or_default());
        self.come(entry.sender, v1::Role::Creator)?;
        made.members
            .into_iter()
            .filter(|user| *user != entry.sender)
            .try_for_each(|user| self.come(user, v1::Role::Member))
    }

    fn change(&mut self, author: u64, change: Change) -> Result<(), String> {
        match change {
            Change::Made(_) => unreachable!("dealt with before"),
            Change::Added(added) => {
                added.user_ids.into_iter().try_for_each(|user| self.come(user, v1::Role::Member))
            }
            Change::Removed(user) => self.go(user),
            Change::Left(_) => {
                self.go(author)?;
                self.succeed();
                Ok(())
            }
            Change::Role(given) => {
                let person = self.member(given.user_id)?;
                if person.role == v1::Role::Creator || given.role() == v1::Role::Creator {
                    return Err("the creator is the creator".to_owned());
                }
                person.role = given.role();
                Ok(())
            }
            Change::Name(name) => {
                self.name = name;
                Ok(())
            }
            Change::Settings(settings) => {
                self.settings = settings;
                Ok(())
            }
            Change::Description(_) | Change::Picture(_) => Ok(()),
        }
    }

    fn member(&mut self, user: u64) -> Result<&mut Person, String> {
        self.people.get_mut(&user).filter(|person| person.is_member()).ok_or(format!("{user} is no member"))
    }

    fn come(&mut self, user: u64, role: v1::Role) -> Result<(), String> {
        let stay =
            Stay { from: if self.settings.shows_history { 1 } else { self.seq }, joined: self.seq, until: 0 };
        let person = self.people.entry(user).or_insert(Person { role, stays: Vec::new() });
        if person.stays.last().is_some_and(|stay| stay.until == 0) {
            return Err(format!("{user} is a member already"));
        }
        person.role = role;
        person.stays.push(stay);
        Ok(())
    }

    fn go(&mut self, user: u64) -> Result<(), String> {
        let seq = self.seq;
        let person = self.member(user)?;
        person.role = v1::Role::Member;
        person.stays.last_mut().expect("a member has come").until = seq;
        Ok(())
    }

    /// If nobody who may do what admins may is left, the member who came first may.
    fn succeed(&mut self) {
        let mut members: Vec<_> = self.people.iter_mut().filter(|(_, person)| person.is_member()).collect();
        if members.iter().all(|(_, person)| person.role == v1::Role::Member) {
            // By their numbers, if they came together.
            members.sort_by_key(|(user, person)| (person.last().joined, **user));
            members.into_iter().take(1).for_each(|(_, person)| person.role = v1::Role::Admin);
        }
    }
}
