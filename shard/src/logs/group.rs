//! What a group is, who its members are, and what they may. Pure: decided at the head of its log, written with the entry that says so.

use std::collections::VecDeque;

use tern_proto::v1;
use tern_storage::records::{GroupRecord, MEMBERS_PER_ROW, MemberRecord, MembersRecord};
use tern_wire::errors::{Reason, Refusal};
use tern_wire::group::{Change, InvitationHash, Made, Role, Settings, Who};
use tern_wire::ids::{DeviceId, Seq, UserId};
use tern_wire::limits::GROUP_MEMBERS_MAX;

use super::invitations::Invitations;
use super::log::{Log, Member};
use super::waits::Acknowledged;
use crate::entry::Author;
use crate::limits::{GROUP_OWN_MAX, GROUP_PEOPLE_MAX};
use crate::message::{Pull, Watermarks};
use crate::mutations::{Mutation, is};
use crate::reply::Origin;

/// What a group has beside what every log has.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) description: String,
    pub(super) picture: bytes::Bytes,
    pub(super) settings: Settings,
    pub(super) invitations: Invitations,
    /// The number of the next member.
    pub(super) members_made: u32,
    /// While it is being read: up to which entry rows of members have what follows.
    pub(super) rows_upto: Vec<(u32, Seq)>,
    /// Rows of members that are not as in the store.
    pub(super) unwritten: Vec<u32>,
    /// Entries, and bytes of them, since all that follows from them was written with the members.
    pub(super) since_written: (usize, usize),
    /// Acknowledgements that leave with the rows.
    pub(super) acknowledged: Vec<Acknowledged>,
    /// It is among those whose rows are to be written.
    pub(super) is_gathering: bool,
    /// It is among them twice: so much was acknowledged that they are written with the next tick.
    pub(super) is_hastened: bool,
    /// Users who were asked for their devices, and have not been told that it is over.
    pub(super) watched: Vec<UserId>,
    /// Those of them whose owner has not answered.
    pub(super) awaited: Vec<UserId>,
    /// Answers of those who are no members yet; `None`: there is no such user.
    pub(super) guests: Vec<(UserId, Option<Vec<DeviceId>>)>,
    /// Who is asked whether they come, each by whom: their owners have not answered.
    pub(super) consents: Vec<(UserId, UserId)>,
    /// Somebody of them does not.
    pub(super) is_declined: bool,
    /// What devices want that are not known yet.
    pub(super) newcomers: Vec<Newcomer>,
}

/// What a device wants that is not known in a group yet.
#[derive(Debug)]
pub(super) enum Newcomer {
    /// What it lacks.
    Pull(Box<Pull>),
    /// To acknowledge.
    Acknowledge(Origin, Author, Watermarks),
}

impl Newcomer {
    pub(super) fn user(&self) -> UserId {
        match self {
            Self::Pull(pull) => pull.author.user,
            Self::Acknowledge(_, author, _) => author.user,
        }
    }
}

/// A member's part in a group.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) role: Role,
    /// The first entry that it may see.
    pub(super) from: Seq,
    /// The entry by which it has come, last.
    pub(super) joined: Seq,
    /// The entry by which it has gone: the last that it may see.
    pub(super) until: Option<Seq>,
    /// Its place among all who ever came.
    pub(super) number: u32,
    /// How many entries that count as unread there are before the one by which it came.
    pub(super) counted_before: u64,
    /// Its own entries beyond its read watermark that would count as unread if they were not its own.
    pub(super) own: VecDeque<Seq>,
    /// Its newest entry.
    pub(super) last_own: Seq,
    /// What it was told of the others' watermarks.
    pub(super) told: Watermarks,
}

const fn refusal(reason: Reason, detail: &'static str) -> Refusal {
    Refusal::new(reason, detail)
}

pub(super) const UNKNOWN_GROUP: Refusal = refusal(Reason::UnknownGroup, "there is no such group for you");
pub(super) const NOT_A_MEMBER: Refusal =
    refusal(Reason::NotAMember, "you are not a member of the group any more");
const THEY_ARE_NONE: Refusal = refusal(Reason::NotAMember, "that person is no member of the group");
const ALREADY: Refusal = refusal(Reason::AlreadyAMember, "one of them is a member already");
const NOT_ALLOWED: Refusal = refusal(Reason::NotAllowed, "in this group that is not for you to do");
const TOO_MANY: Refusal = refusal(Reason::TooManyMembers, "the group has as many members as it may");
const MADE: Refusal = refusal(Reason::ClientIdReused, "that group is there already: take another client_id");

impl Group {
    /// Nobody is asked for anything. What is gathered moves with the log.
    pub(super) fn is_still(&self) -> bool {
        self.awaited.is_empty() && self.consents.is_empty() && self.newcomers.is_empty()
    }

    pub(super) fn record(&self) -> GroupRecord {
        let (invitations, asking) = self.invitations.records();
        GroupRecord {
            name: self.name.clone(),
            description: self.description.clone(),
            picture: self.picture.clone(),
            senders: self.settings.senders.number(),
            editors: self.settings.editors.number(),
            adders: self.settings.adders.number(),
            shows_history: self.settings.shows_history,
            members_made: self.members_made,
            invitations,
            asking,
        }
    }

    /// Takes over what was stored; `None` if it is not what was written.
    pub(super) fn take_record(&mut self, record: GroupRecord) -> Option<()> {
        self.settings = Settings {
            senders: Who::of_number(record.senders)?,
            editors: Who::of_number(record.editors)?,
            adders: Who::of_number(record.adders)?,
            shows_history: record.shows_history,
        };
        self.invitations = Invitations::of_records(&record.invitations, &record.asking)?;
        (self.name, self.description, self.picture) = (record.name, record.description, record.picture);
        self.members_made = record.members_made;
        Some(())
    }

    fn begin(&mut self, made: Made) {
        let Made { name, description, picture, settings, .. } = made;
        (self.name, self.description, self.picture, self.settings) = (name, description, picture, settings);
    }

    /// The row of a member is not as in the store.
    pub(super) fn touch(&mut self, number: u32) {
        let row = number / MEMBERS_PER_ROW;
        if !self.unwritten.contains(&row) {
            self.unwritten.push(row);
        }
    }
}

impl Part {
    fn new(role: Role, number: u32, joined: Seq, from: Seq, counted_before: u64) -> Self {
        Self {
            role,
            from,
            joined,
            until: None,
            number,
            counted_before,
            own: VecDeque::new(),
            last_own: Seq(0),
            told: Watermarks::default(),
        }
    }

    /// The member has read up to an entry.
    pub(super) fn read(&mut self, upto: Seq) {
        while self.own.front().is_some_and(|own| *own <= upto) {
            self.own.pop_front();
        }
    }
}

impl Member {
    /// Notes an entry of the member's. Who has written so much since it last said what it has read has read up to the first of it.
    pub(super) fn wrote_entry(&mut self, seq: Seq, counts: bool) {
        let Some(part) = self.part.as_deref_mut() else { return };
        part.last_own = part.last_own.max(seq);
        if counts && seq > self.marks.read {
            part.own.push_back(seq);
            if part.own.len() > GROUP_OWN_MAX {
                let first = part.own.pop_front().expect("it has just been looked at");
                self.marks = self.marks.max(Watermarks { delivered: first, read: first });
            }
        }
    }

    fn group_record(&self, part: &Part) -> MemberRecord {
        MemberRecord {
            user: self.user.get(),
            role: part.role.number(),
            from: part.from.0,
            joined: part.joined.0,
            until: part.until.map_or(0, |until| until.0),
            counted_before: part.counted_before,
            own: part.own.iter().map(|seq| seq.0).collect(),
            last_own: part.last_own.0,
            ..self.record()
        }
    }

    /// A member as it was stored; `None` if that is not what was written.
    fn stored(record: MemberRecord, number: u32) -> Option<Self> {
        let mut member = Self::new(UserId::new(record.user)?);
        member.marks = Watermarks { delivered: Seq(record.delivered_upto), read: Seq(record.read_upto) };
        member.shown = member.marks;
        member.lives = true;
        let mut part = Part::new(
            Role::of_number(record.role)?,
            number,
            Seq(record.joined),
            Seq(record.from),
            record.counted_before,
        );
        part.until = (record.until > 0).then_some(Seq(record.until));
        part.own = record.own.iter().map(|seq| Seq(*seq)).collect();
        part.last_own = Seq(record.last_own);
        member.part = Some(Box::new(part));
        member.stored = record.positions;
        let devices: Option<Vec<_>> =
            member.stored.iter().map(|position| DeviceId::new(position.device)).collect();
        member.set_devices(&devices?, true);
        member.devices.iter_mut().for_each(|device| device.saved = true);
        Some(member)
    }
}

impl Log {
    pub(super) fn group(&mut self) -> &mut Group {
        self.group.as_deref_mut().expect("it is a group")
    }

    /// How many members a group has.
    pub(super) fn present(&self) -> usize {
        self.members.iter().filter(|member| member.is_present()).count()
    }

    /// Whether a member may say something of this kind, with this change.
    pub(super) fn may(
        &self,
        user: UserId,
        kind: i32,
        change: Option<&Change>,
        now_ms: u64,
    ) -> Result<(), Refusal> {
        let group = self.group.as_deref().expect("it is a group");
        if let Some(Change::Joined(hash) | Change::Asked(hash)) = change {
            let joins = matches!(change, Some(Change::Joined(_)));
            return self.may_come(user, joins, hash, self.next_time_ms(now_ms));
        }
        let Some(member) = self.seen_member(user) else {
            // Whoever retries has been told from others before: this number stands for somebody else's group.
            return Err(if matches!(change, Some(Change::Made(_))) { MADE } else { UNKNOWN_GROUP });
        };
        let part = member.part.as_deref().filter(|part| part.until.is_none()).ok_or(NOT_A_MEMBER)?;
        if is(Mutation::SkipRights)
            && !matches!(change, Some(Change::Made(_) | Change::Added(_) | Change::Removed(_)))
        {
            return Ok(());
        }
        let settings = group.settings;
        let by = |who: Who| if who.has(part.role) { Ok(()) } else { Err(NOT_ALLOWED) };
        let present = |user: UserId| self.seen_member(user).filter(|member| member.is_present());
        match change {
            None => match v1::Kind::try_from(kind) {
                Ok(v1::Kind::Reaction | v1::Kind::Vote | v1::Kind::Deletion) => Ok(()),
                Ok(v1::Kind::Pin | v1::Kind::Unpin | v1::Kind::Timer) => by(settings.editors),
                _ => by(settings.senders),
            },
            Some(Change::Made(_)) => Err(MADE),
            Some(Change::Added(users)) => {
                by(settings.adders)?;
                if users.iter().any(|user| present(*user).is_some()) {
                    return Err(ALREADY);
                }
                let new = users.iter().filter(|user| self.seen_member(**user).is_none()).count();
                let is_full = self.present() + users.len() > GROUP_MEMBERS_MAX
                    || self.members.len() + new > GROUP_PEOPLE_MAX;
                if is_full { Err(TOO_MANY) } else { Ok(()) }
            }
            Some(Change::Left) => Ok(()),
            Some(Change::Removed(other) | Change::Role(other, _)) => {
                by(Who::Admins)?;
                let other = present(*other).and_then(|member| member.part.as_deref()).ok_or(THEY_ARE_NONE)?;
                if other.role == Role::Creator { Err(NOT_ALLOWED) } else { Ok(()) }
            }
            Some(Change::Name(_) | Change::Description(_) | Change::Picture(_)) => by(settings.editors),
            Some(Change::Settings(_)) => by(Who::Admins),
            Some(Change::Invitation(invitation)) => {
                by(settings.adders)?;
                group.invitations.may_make(invitation, self.next_time_ms(now_ms))
            }
            Some(Change::InvitationEnded(hash)) => {
                by(settings.adders)?;
                group.invitations.may_end(hash)
            }
            Some(Change::Declined(user)) => {
                by(settings.adders)?;
                group.invitations.may_decline(*user)
            }
            Some(Change::Joined(_) | Change::Asked(_)) => unreachable!("dealt with before"),
        }
    }

    /// Whether somebody may come by an invitation, or ask to be let in.
    fn may_come(&self, user: UserId, joins: bool, hash: &InvitationHash, now_ms: u64) -> Result<(), Refusal> {
        let group = self.group.as_deref().expect("it is a group");
        if joins {
            group.invitations.may_join(hash, now_ms)?;
        } else {
            group.invitations.may_ask(user, hash, now_ms)?;
        }
        if self.seen_member(user).is_some_and(Member::is_present) {
            return Err(ALREADY);
        }
        let is_full = self.present() >= GROUP_MEMBERS_MAX
            || (self.seen_member(user).is_none() && self.members.len() >= GROUP_PEOPLE_MAX);
        if joins && is_full { Err(TOO_MANY) } else { Ok(()) }
    }

    /// Does what an entry says that is about to get this seq, and may. `devices` are those of the users who come.
    pub(super) fn change(&mut self, author: UserId, change: Change, seq: Seq, time_ms: u64) {
        match change {
            Change::Made(made) => {
                let others: Vec<_> = made.members.iter().copied().filter(|user| *user != author).collect();
                self.group().begin(made);
                self.come(author, Role::Creator, seq);
                for user in others {
                    self.come(user, Role::Member, seq);
                }
            }
            Change::Added(users) => {
                for user in users {
                    self.group().invitations.answered(user);
                    self.come(user, Role::Member, seq);
                }
            }
            Change::Joined(hash) => {
                self.group().invitations.used(&hash);
                self.group().invitations.answered(author);
                self.come(author, Role::Member, seq);
            }
            Change::Invitation(invitation) => self.group().invitations.make(invitation, time_ms),
            Change::InvitationEnded(hash) => self.group().invitations.end(&hash),
            Change::Asked(hash) => self.group().invitations.asked(author, &hash),
            Change::Declined(user) => self.group().invitations.answered(user),
            Change::Removed(user) => self.go(user, seq),
            Change::Left => {
                self.go(author, seq);
                self.succeed();
            }
            Change::Role(user, role) => self.give_role(user, role),
            Change::Name(name) => self.group().name = name,
            Change::Description(text) => self.group().description = text,
            Change::Picture(picture) => self.group().picture = picture,
            Change::Settings(settings) => self.group().settings = settings,
        }
    }

    /// Somebody becomes a member, or again one.
    fn come(&mut self, user: UserId, role: Role, seq: Seq) {
        let counted = self.messages;
        let group = self.group();
        let next = group.members_made;
        let from = if group.settings.shows_history { Seq(1) } else { seq };
        let guest = group.guests.iter().position(|(guest, _)| *guest == user);
        let devices = guest.and_then(|place| group.guests.swap_remove(place).1).unwrap_or_default();
        let before = Seq(seq.0 - 1);
        let place = match self.members.binary_search_by_key(&user, |member| member.user) {
            Ok(place) => place,
            Err(place) => {
                self.members.insert(place, Member::new(user));
                self.group().members_made += 1;
                place
            }
        };
        let member = &mut self.members[place];
        let number = member.part.as_deref().map_or(next, |part| part.number);
        // It may still wait to hear of what it said when it was here before.
        let (last_own, told) =
            member.part.as_deref().map_or_else(Default::default, |part| (part.last_own, part.told));
        let marks = Watermarks { delivered: before, read: before };
        (member.marks, member.shown) = (member.marks.max(marks), member.shown.max(marks));
        (member.lives, member.devices_known) = (true, true);
        member.part = Some(Box::new(Part { last_own, told, ..Part::new(role, number, seq, from, counted) }));
        member.set_devices(&devices, true);
        member.begins_behind(before);
        self.group().touch(number);
    }

    fn go(&mut self, user: UserId, seq: Seq) {
        let part = self.member(user).and_then(|member| member.part.as_deref_mut()).expect("it is a member");
        (part.until, part.role) = (Some(seq), Role::Member);
        let number = part.number;
        self.group().touch(number);
    }

    fn give_role(&mut self, user: UserId, role: Role) {
        let part = self.member(user).and_then(|member| member.part.as_deref_mut()).expect("it is a member");
        part.role = role;
        let number = part.number;
        self.group().touch(number);
    }

    /// If nobody is left who may do what admins may, the one is an admin who came first.
    fn succeed(&mut self) {
        let parts = self.members.iter().filter(|member| member.is_present());
        let parts = parts.filter_map(|member| Some((member.user, member.part.as_deref()?)));
        if parts.clone().any(|(_, part)| part.role >= Role::Admin) {
            return;
        }
        let next = parts.min_by_key(|(user, part)| (part.joined, *user)).map(|(user, _)| user);
        if let Some(user) = next {
            self.give_role(user, Role::Admin);
        }
    }

    /// The members of a row, with what follows from entries up to this one.
    pub(super) fn members_row(&self, row: u32, upto: Seq) -> MembersRecord {
        let parts = self.members.iter().filter_map(|member| Some((member, member.part.as_deref()?)));
        let mut members: Vec<_> = parts.filter(|(_, part)| part.number / MEMBERS_PER_ROW == row).collect();
        members.sort_unstable_by_key(|(_, part)| part.number);
        let members = members.into_iter().map(|(member, part)| member.group_record(part)).collect();
        MembersRecord { upto: upto.0, members }
    }

    /// Takes over a row of members; `None` if it is not what was written. Rows have all who ever came, so a number follows from the place.
    pub(super) fn take_members_row(&mut self, row: u32, record: MembersRecord) -> Option<()> {
        for (number, record) in (row * MEMBERS_PER_ROW..).zip(record.members) {
            let member = Member::stored(record, number)?;
            let place = self.members.binary_search_by_key(&member.user, |member| member.user).err()?;
            self.members.insert(place, member);
        }
        self.group().rows_upto.push((row, Seq(record.upto)));
        Some(())
    }

    /// A group has been read: what follows from entries that were not yet written with its members is made again. `false` if it is not
    /// whole.
    pub(super) fn recover_group(&mut self) -> bool {
        let Some(group) = self.group.as_deref_mut() else { return true };
        let rows = std::mem::take(&mut group.rows_upto);
        let made = group.members_made as usize;
        for entry in self.tail.clone() {
            let Some(member) = self.member(entry.author.user) else { continue };
            let row = member.part.as_ref().map_or(0, |part| part.number / MEMBERS_PER_ROW);
            if is(Mutation::ForgetTail) {
                continue;
            }
            if rows.iter().any(|(number, upto)| *number == row && *upto < entry.seq) {
                member.wrote_entry(entry.seq, entry.counts());
            }
        }
        self.members.len() == made
    }

    /// What is asked by whoever has an invitation.
    pub(super) fn about_by_invitation(
        &self,
        chat: u64,
        hash: &InvitationHash,
        now_ms: u64,
    ) -> Result<v1::Group, Refusal> {
        let group = self.group.as_deref().expect("it is a group");
        let invitation = group.invitations.shown_one(hash, self.next_time_ms(now_ms))?;
        Ok(v1::Group {
            chat,
            name: group.name.clone(),
            description: group.description.clone(),
            picture: group.picture.clone(),
            size: self.present() as u32,
            invitation: Some(invitation),
            ..v1::Group::default()
        })
    }

    /// What is asked by a member.
    pub(super) fn about(&self, chat: u64, reader: UserId, now_ms: u64) -> v1::Group {
        let group = self.group.as_deref().expect("it is a group");
        let part = self.seen_member(reader).and_then(|member| member.part.as_deref());
        let may_add = part.is_some_and(|part| group.settings.adders.has(part.role));
        let (invitations, asking) =
            if may_add { group.invitations.shown(self.next_time_ms(now_ms)) } else { Default::default() };
        let mut members: Vec<_> = self
            .members
            .iter()
            .filter(|member| member.is_present())
            .filter_map(|member| Some((member, member.part.as_deref()?)))
            .collect();
        members.sort_unstable_by_key(|(member, part)| (part.joined, member.user));
        let member = |(member, part): (&Member, &Part)| v1::Member {
            user_id: member.user.get(),
            role: part.role.number(),
            delivered_upto: member.shown.delivered.0,
            read_upto: member.shown.read.0,
        };
        v1::Group {
            chat,
            name: group.name.clone(),
            description: group.description.clone(),
            picture: group.picture.clone(),
            settings: Some(group.settings.to_wire()),
            size: members.len() as u32,
            members: members.into_iter().map(member).collect(),
            created_ms: self.created_ms,
            invitations,
            asking,
            invitation: None,
            timer_ms: self.timer_ms,
        }
    }
}
