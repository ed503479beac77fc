//! A group as its entries say it is: nothing but the rules of docs/PROTOCOL.md, section 17, and none of the brain's code.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest;
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
    /// Invitations, and how many have come by each; and who asks to be let in.
    invitations: Vec<(v1::Invitation, u32)>,
    asking: BTreeSet<u64>,
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
        Ok(group)
    }

    /// Whether the entries are what they have made of each other: see [`Talk::is_kept_by`].
    pub(crate) fn keeps(
        &self,
        entries: &[EntryRecord],
        is_old: impl Fn(&EntryRecord) -> bool,
    ) -> Result<(), String> {
        self.talk.is_kept_by(entries, is_old)
    }

    fn take(&mut self, entry: &EntryRecord) -> Result<(), String> {
        self.seq = entry.seq;
        let change = if entry.kind == v1::Kind::Group as i32 {
            let change = v1::GroupChange::decode(&entry.body[..]).ok().and_then(|change| change.change);
            Some(change.ok_or("it says nothing")?)
        } else {
            None
        };
        match change {
            Some(Change::Made(made)) => return self.made(entry, made),
            Some(Change::Joined(secret)) => return self.joined(entry, &secret, true),
            Some(Change::Asked(secret)) => return self.joined(entry, &secret, false),
            _ => {}
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
                v1::Kind::Pin | v1::Kind::Unpin | v1::Kind::Timer => of_admins(settings.editors()),
                _ => of_admins(settings.senders()),
            },
            Some(
                Change::Added(_) | Change::Invitation(_) | Change::InvitationEnded(_) | Change::Declined(_),
            ) => of_admins(settings.adders()),
            Some(Change::Name(_) | Change::Description(_) | Change::Picture(_)) => {
                of_admins(settings.editors())
            }
            Some(Change::Left(_)) => true,
            Some(Change::Removed(_) | Change::Role(_) | Change::Settings(_)) => is_admin,
            Some(Change::Made(_) | Change::Joined(_) | Change::Asked(_)) => unreachable!("dealt with before"),
        };
        if !allowed {
            return Err("its author may not do that".to_owned());
        }
        match change {
            None => self.counted += u64::from(says(entry.kind)),
            Some(change) => self.change(entry, change)?,
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

    /// Somebody has come by an invitation, or asks to be let in.
    fn joined(&mut self, entry: &EntryRecord, secret: &[u8], joins: bool) -> Result<(), String> {
        let found = self.invitations.iter_mut().find(|(invitation, _)| invitation.hash == hash_of(secret));
        let (invitation, uses) = found.ok_or("there is no such invitation")?;
        let is_over = invitation.expires_ms > 0 && entry.time_ms >= invitation.expires_ms;
        if is_over || (invitation.uses_max > 0 && *uses >= invitation.uses_max) {
            return Err("its invitation is over".to_owned());
        }
        *uses += 1;
        match (joins, invitation.wants_approval) {
            (true, true) => Err("its invitation wants approval".to_owned()),
            (true, false) => {
                self.asking.remove(&entry.sender);
                self.come(entry.sender, v1::Role::Member)
            }
            (false, _) if !self.asking.insert(entry.sender) => Err("its author has asked before".to_owned()),
            (false, _) => Ok(()),
        }
    }

    fn change(&mut self, entry: &EntryRecord, change: Change) -> Result<(), String> {
        let author = entry.sender;
        match change {
            Change::Made(_) | Change::Joined(_) | Change::Asked(_) => unreachable!("dealt with before"),
            Change::Invitation(invitation) => {
                self.invitations.push((invitation, 0));
                Ok(())
            }
            Change::InvitationEnded(hash) => {
                let before = self.invitations.len();
                self.invitations.retain(|(invitation, _)| invitation.hash != hash);
                if self.invitations.len() < before { Ok(()) } else { Err("there was no such one".to_owned()) }
            }
            Change::Declined(user) => {
                if self.asking.remove(&user) {
                    Ok(())
                } else {
                    Err(format!("{user} had not asked"))
                }
            }
            Change::Added(added) => added.user_ids.into_iter().try_for_each(|user| {
                self.asking.remove(&user);
                self.come(user, v1::Role::Member)
            }),
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

/// The hash of a secret, as people of the simulations make it.
pub(crate) fn hash_of(secret: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, secret).as_ref().to_vec()
}
