//! Positions and watermarks of a group: what its members acknowledge in a while is written, and told, together. The more rows of
//! members there are, the longer the while, so that a message costs about two writes of each row, however many acknowledge it.

use tern_storage::records::MEMBERS_PER_ROW;
use tern_storage::{LogId, keys};
use tern_wire::ids::{Seq, UserId};

use super::acknowledge::{NO_SUCH_ENTRY, mark};
use super::group::{NOT_A_MEMBER, Newcomer, UNKNOWN_GROUP};
use super::log::{Advance, Log, Member};
use super::waits::Acknowledged;
use super::{After, Cx, Logs};
use crate::entry::Author;
use crate::limits::{GATHER_MS, GROUP_ACKNOWLEDGED_MAX, GROUP_GATHERED_MIN};
use crate::message::{UserOp, Watermarks};
use crate::mutations::{Mutation, is};
use crate::reply::{Origin, Reply};

impl Logs {
    /// A device of a member acknowledges.
    pub(super) fn acknowledge_in_group(
        &mut self,
        cx: &mut Cx,
        id: LogId,
        origin: Origin,
        author: Author,
        told: Watermarks,
    ) {
        let log = self.known(id);
        let durable = log.durable.seq();
        if log.group().acknowledged.len() >= GROUP_ACKNOWLEDGED_MAX {
            let refusal = cx.overloaded();
            return cx.refuse(origin, refusal);
        }
        let head = log.head;
        let Some(member) = log.member(author.user) else { return cx.refuse(origin, UNKNOWN_GROUP) };
        if told.of_person().delivered > member.visible(durable) {
            let refusal = if member.is_present() { NO_SUCH_ENTRY } else { NOT_A_MEMBER };
            return cx.refuse(origin, refusal);
        }
        let visible = member.visible(head);
        let Some(advance) = member.advance(author.device, told, visible, true) else {
            return self.meet_newcomer(cx, id, Newcomer::Acknowledge(origin, author, told));
        };
        if is(Mutation::TellUndurable) {
            member.shown = member.marks;
        }
        let part = member.part.as_deref_mut().expect("it is a member of a group");
        part.read(member.marks.read);
        let number = part.number;
        let Advance { position, marks: advanced, .. } = advance;
        let slot = log.slot;
        let group = log.group();
        if advance.changed {
            group.touch(number);
        }
        group.acknowledged.push(Acknowledged {
            origin,
            log: id,
            author,
            position,
            advanced,
            told: Watermarks::default(),
        });
        // When each member has acknowledged twice, it is time.
        let is_time = group.acknowledged.len() >= GROUP_GATHERED_MIN.max(2 * group.members_made as usize);
        if !advance.unmarked.is_empty() {
            mark(cx, slot, id, author.user, advance.unmarked);
            self.after_lazily(cx, After::Marked(id));
        }
        self.gather(cx, id, is_time);
        if advance.caught_up {
            self.look_when_quiet(cx, id);
        }
    }

    /// Something of a group is to be written, and told: before long, or with the next tick.
    pub(super) fn gather(&mut self, cx: &Cx, id: LogId, is_time: bool) {
        let group = self.known(id).group();
        let wait_ms = if is_time { 0 } else { gather_ms(group.members_made) };
        let is_hastened = is_time && !std::mem::replace(&mut group.is_hastened, true);
        if !std::mem::replace(&mut group.is_gathering, true) || is_hastened {
            self.gathering.push((cx.now_ms + wait_ms, id));
        }
    }

    /// Writes what was gathered and is due.
    pub(super) fn write_gathered(&mut self, cx: &mut Cx) {
        let max_ms = gather_ms(crate::limits::GROUP_PEOPLE_MAX as u32);
        // The clock may have been set back: then it is due as well.
        let is_due = |due_ms: u64| due_ms <= cx.now_ms || due_ms - cx.now_ms > max_ms;
        let due: Vec<_> = self.gathering.extract_if(.., |(due_ms, _)| is_due(*due_ms)).collect();
        for (due_ms, id) in due {
            // One that was forgotten, or was read again, has nothing left of it.
            let is_known = |log: &&mut Box<Log>| {
                log.held.is_known() && log.group.as_ref().is_some_and(|group| group.is_gathering)
            };
            let Some(log) = self.logs.get_mut(&id).filter(is_known) else { continue };
            if !cx.may_write(0) || !cx.is_here(log.slot) {
                self.gathering.push((due_ms, id));
                continue;
            }
            let (slot, head) = (log.slot, log.head);
            let group = log.group();
            (group.is_gathering, group.is_hastened, group.since_written) = (false, false, (0, 0));
            let acknowledged = std::mem::take(&mut group.acknowledged);
            for row in std::mem::take(&mut group.unwritten) {
                cx.put_lazily(slot, keys::members_row(id, row), &log.members_row(row, head));
            }
            self.after_lazily(cx, After::Gathered(id, acknowledged));
        }
    }

    /// What was gathered is durable: who has acknowledged is told so, and authors hear how far all others have got.
    pub(super) fn gathered(&mut self, cx: &mut Cx, id: LogId, all: Vec<Acknowledged>) {
        let log = self.pinned(id);
        let mut told = Vec::with_capacity(2 * all.len());
        for Acknowledged { author, position, advanced, .. } in &all {
            if let Some(position) = *position {
                told.push((author.user, UserOp::Acknowledged(author.device, id, position)));
            }
            // It may have been forgotten since that it was a member.
            let Some(member) = log.member(author.user) else { continue };
            if let Some((marks, is_read)) = *advanced {
                member.shown = member.shown.max(marks);
                // What is read is told to those, too, who have no other device: what is unread is counted there.
                let has_others = member.devices.iter().any(|device| device.id != author.device);
                if has_others || is_read && cx.has_pushes() {
                    told.push((author.user, UserOp::Advanced(id, *author, marks, is_read)));
                }
            }
        }
        // Nobody counts as gone, or come, before that is durable.
        let is_changing = log.is_changing();
        let lowest = Lowest::of(log);
        let present = log.members.iter_mut().filter(|member| member.is_present() && !is_changing);
        for member in present {
            let user = member.user;
            let Some(part) = member.part.as_deref_mut() else { continue };
            let marks = lowest.without(user);
            let is_news = |told, now, own| told < own && now > told;
            let news = is_news(part.told.delivered, marks.delivered, part.last_own)
                || is_news(part.told.read, marks.read, part.last_own);
            if news {
                part.told = part.told.max(marks);
                told.push((user, UserOp::OthersAdvanced(id, part.told)));
            }
        }
        cx.tell_users(told.into_iter());
        for acknowledged in all {
            cx.reply(acknowledged.origin, Reply::Acknowledged);
        }
    }
}

/// How long a group of so many gathers.
fn gather_ms(members: u32) -> u64 {
    GATHER_MS * u64::from(members.div_ceil(MEMBERS_PER_ROW).max(1))
}

/// The two lowest of the watermarks of a group's members, each for itself, and whose they are: so that for each member it is known how
/// far all others have got.
struct Lowest {
    head: Seq,
    delivered: [Option<(Seq, UserId)>; 2],
    read: [Option<(Seq, UserId)>; 2],
}

impl Lowest {
    fn of(log: &Log) -> Self {
        let head = log.durable.seq();
        let present = || log.members.iter().filter(|member| member.is_present());
        Self {
            head,
            delivered: two_lowest(present().map(|member: &Member| (member.shown.delivered, member.user))),
            read: two_lowest(present().map(|member| (member.shown.read, member.user))),
        }
    }

    fn without(&self, user: UserId) -> Watermarks {
        let of = |lowest: &[Option<(Seq, UserId)>; 2]| {
            let others = lowest.iter().flatten().find(|(_, whose)| *whose != user);
            others.map_or(self.head, |(seq, _)| *seq)
        };
        Watermarks { delivered: of(&self.delivered), read: of(&self.read) }
    }
}

fn two_lowest(marks: impl Iterator<Item = (Seq, UserId)>) -> [Option<(Seq, UserId)>; 2] {
    marks.fold([None, None], |[first, second], mark| match (first, second) {
        (None, _) => [Some(mark), None],
        (Some(lowest), _) if mark < lowest => [Some(mark), first],
        (_, Some(next)) if mark >= next => [first, second],
        _ => [first, Some(mark)],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_of_all_but_one_is_that_of_the_others() {
        let user = |id| UserId::new(id).expect("a user");
        for marks in [vec![5, 3, 9], vec![1, 2, 3], vec![3, 2, 1], vec![4, 4, 2], vec![7, 7, 7]] {
            let of = |place: usize| (Seq(marks[place]), user(place as u64 + 1));
            let lowest = two_lowest((0..3).map(of));
            for place in 0..3 {
                let others = (0..3).filter(|other| *other != place).map(|other| Seq(marks[other]));
                let found = lowest.iter().flatten().find(|(_, whose)| *whose != of(place).1);
                assert_eq!(found.map(|(seq, _)| *seq), others.min(), "of {marks:?} without {place}");
            }
        }
        assert_eq!(two_lowest(std::iter::empty()), [None, None]);
    }
}
