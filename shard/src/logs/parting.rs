//! A log does without a user whose account has ended: what it keeps of them alone goes, and if nobody is left who could see it, all of it.
//!
//! In a direct chat that the other still has, and in a group, what was said stays: it is the others' too. Of the user's own go the
//! numbers of their messages (`x`), and in a direct chat how far they had got (`w`). A log that nobody has any more is erased piece by
//! piece, its entries last and from the first on, so that a crash leaves one that is whole.

use tern_storage::records::MEMBERS_PER_ROW;
use tern_storage::{Direction, Key, KeyRange, LogId, Rows, ScanLimit, keys};
use tern_wire::ids::Seq;

use super::load::entry_of;
use super::log::Log;
use super::media::uncite_picture_of;
use super::retention::remove;
use super::{After, Cx, Logs, ScanFor};
use crate::held::Load;
use crate::limits::{CUT_ENTRIES_MAX, ENDED_ROWS_AT_ONCE};
use crate::message::{Unreadable, UserOp};
use crate::mutations::{Mutation, is};
use crate::reply::Parting;

/// What is to be removed next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Piece {
    /// The numbers of the user's messages.
    Numbers,
    /// The user is no more in what the log keeps of its members; whether it is to be erased follows.
    Member,
    /// The index.
    Words,
    /// What is due, from just after this on.
    Due(Option<Key>),
    /// The numbers of all messages.
    AllNumbers,
    /// The entries.
    Entries,
    /// The same: those before this one are gone.
    EntriesFrom(Seq),
    /// Nothing.
    Nothing,
}

impl Log {
    /// Whether nobody who is or was in it has an account any more.
    fn is_left(&self) -> bool {
        // A member of a group whose account has ended as well is about to leave it.
        self.members.iter().all(|member| !member.lives && (self.group.is_none() || !member.is_present()))
    }

    /// Whether all of it may be erased now: nobody reads it, decides on it, or cuts it.
    fn may_go(&self) -> bool {
        self.may_be_cut() && !self.is_gathering()
    }
}

fn range(log: &Log, id: LogId, user: u64, piece: &Piece) -> Option<KeyRange> {
    Some(match piece {
        Piece::Numbers => keys::client_messages_of(id, user),
        Piece::Words => keys::all_words(id),
        Piece::Due(after) => keys::all_due(log.slot, after.as_ref()),
        Piece::AllNumbers => keys::all_client_messages(id),
        Piece::Entries => keys::entries(id, log.first.0, log.head.0 + 1),
        Piece::Member | Piece::EntriesFrom(_) | Piece::Nothing => return None,
    })
}

impl Logs {
    /// A log is to do without a user. Whoever asks is told when it does, or that it can't now.
    pub(super) fn part(&mut self, cx: &mut Cx, id: LogId, parting: Parting) {
        let log = self.known(id);
        let is_member =
            log.group.is_some() && log.seen_member(parting.user).is_some_and(|member| member.is_present());
        if !log.exists || is_member {
            return parted(cx, parting, !is_member);
        }
        if let Some(member) = log.member(parting.user) {
            member.lives = false;
            member.set_devices(&[], true);
        }
        self.part_on(cx, id, parting, Piece::Numbers);
    }

    /// Goes on with a piece.
    fn part_on(&mut self, cx: &mut Cx, id: LogId, parting: Parting, piece: Piece) {
        let may_read = cx.may_read();
        let is_indexing = self.words.works_on(id);
        let log = self.known(id);
        if piece == Piece::Member {
            return self.forget_member(cx, id, parting);
        }
        let Some(range) = range(log, id, parting.user.get(), &piece) else {
            return parted(cx, parting, true);
        };
        if !may_read || piece != Piece::Numbers && (!log.may_go() || is_indexing) {
            return parted(cx, parting, false);
        }
        log.goes |= piece != Piece::Numbers;
        log.reading += 1;
        let rows = if piece == Piece::Entries { CUT_ENTRIES_MAX } else { ENDED_ROWS_AT_ONCE };
        let purpose = ScanFor::Parting(id, log.held.load(), parting, piece);
        cx.scan(range, Direction::Forwards, ScanLimit { rows, bytes: usize::MAX }, purpose);
    }

    /// Some of a piece has come.
    pub(super) fn parting_read(
        &mut self,
        cx: &mut Cx,
        (id, load): (LogId, Load),
        parting: Parting,
        piece: Piece,
        rows: Result<Rows, Unreadable>,
    ) {
        let is_indexing = self.words.works_on(id);
        let Some(log) = self.logs.get_mut(&id).filter(|log| log.held.load() == load) else {
            return parted(cx, parting, false);
        };
        log.reading -= 1;
        let may_go = piece == Piece::Numbers || log.may_go() && !is_indexing;
        let may = log.held.is_known() && cx.may_write(0) && may_go;
        // Since the last of its entries were read, there may be more.
        let has_all = |rows: &Rows| {
            rows.more || rows.rows.last().and_then(|(key, _)| keys::number_of(key)) == Some(log.head.0)
        };
        let may = may && (piece != Piece::Entries || rows.as_ref().is_ok_and(has_all));
        let (Ok(rows), true) = (rows, may) else { return parted(cx, parting, false) };
        let (removed, next) = match piece {
            Piece::Entries => remove_entries(cx, log, id, &rows),
            piece => remove_rows(cx, log, id, piece, &rows),
        };
        match next {
            // The head is known from it alone.
            None => {
                cx.damaged("a log", &keys::log(id));
                parted(cx, parting, false);
            }
            Some(next) if removed => self.after(cx, After::Parting(id, parting, next)),
            Some(next) => self.part_on(cx, id, parting, next),
        }
    }

    /// What a log keeps of a member goes. If nobody is left who has the log, all else does.
    fn forget_member(&mut self, cx: &mut Cx, id: LogId, parting: Parting) {
        let log = self.known(id);
        let next = if log.is_left() && !is(Mutation::KeepLeftLog) { Piece::Words } else { Piece::Nothing };
        if log.group.is_none() {
            cx.delete(log.slot, keys::member(id, parting.user.get()));
        }
        // Also if nothing was written: what the log wrote for the user before is in the store by then.
        self.after(cx, After::Parting(id, parting, next));
    }

    /// A piece is gone, durably.
    pub(super) fn part_gone(&mut self, cx: &mut Cx, id: LogId, parting: Parting, next: Piece) {
        let log = self.pinned(id);
        if !log.held.is_known() {
            return parted(cx, parting, false);
        }
        let next = match next {
            Piece::EntriesFrom(first) => {
                log.was_cut(first);
                Piece::Entries
            }
            next => next,
        };
        if !log.exists {
            self.empty.push(id);
        }
        self.part_on(cx, id, parting, next);
    }
}

/// Whoever has asked is told.
pub(super) fn parted(cx: &mut Cx, parting: Parting, has: bool) {
    cx.tell_user(parting.user, UserOp::Parted(parting, has));
}

/// Removes some rows. Gives whether there were any, and what comes next.
fn remove_rows(cx: &mut Cx, log: &Log, id: LogId, piece: Piece, rows: &Rows) -> (bool, Option<Piece>) {
    let is_of_log = |key: &[u8]| {
        keys::story_due_of(key).is_none() && keys::due_of(key).is_none_or(|(_, log, _)| log == id)
    };
    let mut removed = false;
    for (key, _) in rows.rows.iter().filter(|(key, _)| is_of_log(key)) {
        if piece == Piece::Numbers && is(Mutation::KeepNumbers) {
            continue;
        }
        removed = true;
        cx.delete(log.slot, Key::from_raw(key));
    }
    let next = match (piece, rows.more) {
        (Piece::Due(_), true) => Piece::Due(rows.goes_on_behind()),
        (Piece::Numbers, true) if !removed => Piece::Member,
        (piece, true) => piece,
        (Piece::Numbers, false) => Piece::Member,
        (Piece::Words, false) => Piece::Due(None),
        (Piece::Due(_), false) => Piece::AllNumbers,
        (_, false) => Piece::Entries,
    };
    (removed, Some(next))
}

/// Removes the oldest entries; with the last of them, what makes the log one. `None` as what comes next: one of them is damaged.
fn remove_entries(cx: &mut Cx, log: &mut Log, id: LogId, rows: &Rows) -> (bool, Option<Piece>) {
    let entries: Vec<_> = rows.rows.iter().map_while(|row| entry_of(id, row.clone())).collect();
    if entries.len() < rows.rows.len() {
        return (false, None);
    }
    for entry in &entries {
        remove(cx, log, entry);
    }
    if let Some(last) = entries.last().filter(|_| rows.more) {
        log.begin_at(last.seq.next());
        cx.put(log.slot, keys::log(id), &log.record());
        return (true, Some(Piece::EntriesFrom(log.first)));
    }
    match log.group.as_deref() {
        Some(group) => {
            let rows = 0..group.members_made.div_ceil(MEMBERS_PER_ROW);
            rows.for_each(|row| cx.delete(log.slot, keys::members_row(id, row)));
            uncite_picture_of(cx, log, id, &group.picture, log.head.next());
        }
        None => {
            let members = log.members.iter();
            members.for_each(|member| cx.delete(log.slot, keys::member(id, member.user.get())));
        }
    }
    cx.delete(log.slot, keys::log(id));
    log.exists = false;
    (true, Some(Piece::Nothing))
}
