//! A logged-in device: how far its pushes have come, and what is to be done next. Pure.

use tern_storage::LogId;
use tern_wire::ids::Seq;
use tern_wire::request::{Credit, PushWindow, Subscribe};

use super::lag::{Behind, Lag, NO_ENTRY, UNREAD};
use crate::entry::Author;
use crate::limits::PULLS_MAX;
use crate::message::{Claim, Page, Want, Watermarks};
use crate::mutations::{Mutation, is};
use crate::network::Network;

/// The state of one logged-in connection.
#[derive(Debug)]
pub(super) struct Session {
    author: Author,
    /// From where it has come.
    network: Network,
    window: PushWindow,
    /// Totals of pushed frames and bytes, and of those that the client has confirmed.
    pushed: (u64, u64),
    credited: (u64, u64),
    progress: Progress,
    /// What the device lacks; there only while it lacks something.
    lag: Option<Box<Lag>>,
    pulls: u32,
    /// Something that it lacked was pushed without a mark in its inbox.
    unmarked: bool,
    /// Whom the device shows; there only while it shows somebody.
    shows: Option<Box<Subscribe>>,
    /// It was not told of somebody whom it shows, for it read too slowly.
    misses_presence: bool,
}

/// How far the pushes have come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Progress {
    /// `Resume` has not come: nothing is pushed.
    Silent,
    /// The inbox is being read.
    ReadingInbox,
    /// What the device lacks is known, and on its way.
    CatchingUp,
    /// `CaughtUp` has been pushed.
    CaughtUp,
}

/// What is to be done next for a device.
#[derive(Debug)]
pub(super) enum Next {
    /// Nothing, or something must come first.
    Wait,
    /// A step of its inbox is to be read, behind this log.
    ReadInbox(Option<LogId>),
    /// A log is to be pulled.
    Pull(LogId, Behind),
    /// It is to be told that it has caught up: with everything, or with all but logs that are damaged, or were pushed without a mark.
    CaughtUp { is_whole: bool },
}

impl Session {
    /// A session that pushes nothing yet.
    pub(super) fn new(author: Author, window: PushWindow, network: Network) -> Self {
        Self {
            author,
            network,
            window,
            pushed: (0, 0),
            credited: (0, 0),
            progress: Progress::Silent,
            lag: None,
            pulls: 0,
            unmarked: false,
            shows: None,
            misses_presence: false,
        }
    }

    /// The device that it stands for.
    pub(super) fn author(&self) -> Author {
        self.author
    }

    /// From where its connection has come.
    pub(super) fn network(&self) -> Network {
        self.network
    }

    /// Whom the device shows.
    pub(super) fn shows(&self) -> Option<&Subscribe> {
        self.shows.as_deref()
    }

    /// It was not told of somebody whom it shows, or is about to be. Gives whether it was not before.
    pub(super) fn misses_presence(&mut self, misses: bool) -> bool {
        std::mem::replace(&mut self.misses_presence, misses)
    }

    /// It shows these from now on. Gives whom it showed before.
    pub(super) fn show(&mut self, shows: Subscribe) -> Subscribe {
        let shows = Some(Box::new(shows)).filter(|shows| **shows != Subscribe::default());
        std::mem::replace(&mut self.shows, shows).map_or_else(Subscribe::default, |before| *before)
    }

    /// `Resume` has not come.
    pub(super) fn is_silent(&self) -> bool {
        self.progress == Progress::Silent
    }

    /// Nothing was asked for it that is not answered.
    pub(super) fn is_still(&self) -> bool {
        self.pulls == 0 && !self.lag.as_deref().is_some_and(Lag::is_scanning)
    }

    /// What the device lacks of a log is not known, or is on its way: nothing of it is pushed beside that.
    pub(super) fn is_behind(&self, log: LogId) -> bool {
        self.lag.as_deref().is_some_and(|lag| lag.holds(log))
    }

    /// Whether a log is left out, for it is damaged.
    pub(super) fn is_stuck(&self, log: LogId) -> bool {
        self.lag.as_deref().is_some_and(|lag| lag.is_stuck(log))
    }

    pub(super) fn logs_behind(&self) -> usize {
        self.lag.as_deref().map_or(0, |lag| lag.behind.len())
    }

    /// Whether the inbox has been read past a log.
    pub(super) fn is_scanned(&self, log: LogId) -> bool {
        self.progress != Progress::ReadingInbox
            || self.lag.as_deref().is_some_and(|lag| lag.is_past(log))
            || is(Mutation::PullBeforeInbox)
    }

    pub(super) fn has_credit(&self) -> bool {
        let within = |max: u32, pushed: u64, credited: u64| max == 0 || pushed - credited < u64::from(max);
        within(self.window.frames, self.pushed.0, self.credited.0)
            && within(self.window.bytes, self.pushed.1, self.credited.1)
    }

    /// A frame of so many bytes was pushed.
    pub(super) fn pushed(&mut self, bytes: usize) {
        self.pushed = (self.pushed.0 + 1, self.pushed.1 + bytes as u64);
    }

    /// The client has confirmed pushes.
    pub(super) fn credit(&mut self, credit: Credit) {
        let (frames, bytes) = self.pushed;
        let (had_frames, had_bytes) = self.credited;
        self.credited = (credit.frames.clamp(had_frames, frames), credit.bytes.clamp(had_bytes, bytes));
    }

    /// `Resume` has come. A further one asks again for the logs that it lists; each is followed by `CaughtUp`.
    pub(super) fn resume(&mut self) {
        self.progress = match self.progress {
            Progress::Silent => Progress::ReadingInbox,
            Progress::CaughtUp => Progress::CatchingUp,
            other => other,
        };
    }

    /// What was on its way to the device may be lost: what its inbox holds is read anew.
    pub(super) fn begin_again(&mut self) {
        self.progress = Progress::ReadingInbox;
        if let Some(lag) = &mut self.lag {
            lag.begin_again();
        }
    }

    /// The log among those that the device is behind in; if it is not there, it is added with this want.
    pub(super) fn behind(&mut self, log: LogId, want: Want) -> &mut Behind {
        let is_scanned = self.is_scanned(log);
        self.lag.get_or_insert_default().behind(log, want, is_scanned)
    }

    /// The device was not pushed a log from this entry on. Of a log that the inbox has not been read past it is not known what it has.
    pub(super) fn lacks(&mut self, log: LogId, from: Seq) {
        let is_known = self.is_behind(log) || !self.is_scanned(log);
        let want = if is_known { UNREAD } else { Want::from_entry(from) };
        self.behind(log, want).add_entry(from);
    }

    /// The watermarks of a log can't be pushed now: a page brings them. Of a log that the inbox has not been read past, entries may be
    /// missing too.
    pub(super) fn lacks_marks(&mut self, log: LogId) -> &mut Behind {
        let want = if self.is_scanned(log) { Want::from_entry(NO_ENTRY) } else { UNREAD };
        self.behind(log, want)
    }

    /// The device says what it has of a log.
    pub(super) fn add_position(&mut self, log: LogId, claim: Claim, known: Watermarks) {
        let mut want = UNREAD;
        want.add_position(claim);
        self.behind(log, want).add_position(claim, known);
    }

    /// A step of the inbox has come: these logs are behind, and up to `upto`, or if there is none at all, no others.
    pub(super) fn inbox_came(&mut self, logs: &[LogId], marked: bool, upto: Option<LogId>) {
        for log in logs {
            self.behind(*log, UNREAD).marked |= marked;
        }
        self.lag.get_or_insert_default().scanned(upto);
        if upto.is_none() {
            self.progress = Progress::CatchingUp;
        }
    }

    /// A page of a log has come, whatever becomes of it.
    pub(super) fn page_came(&mut self, page: &Page) -> &mut Lag {
        self.unmarked |= page.unmarked;
        self.pulls = self.pulls.checked_sub(1).expect("a pull is answered once");
        self.lag()
    }

    /// The device is told of a message of its own. It goes beside the pages, and may pass them.
    pub(super) fn sent(&mut self) {
        if let Some(lag) = &mut self.lag {
            lag.sent();
        }
    }

    /// What the device lacks, while it lacks something.
    pub(super) fn lag(&mut self) -> &mut Lag {
        self.lag.as_deref_mut().expect("a log stays behind until its page has come")
    }

    /// What is to be done next, if `may_push` says whether a push may leave now. Inbox steps are of `step_rows` logs.
    pub(super) fn next(&mut self, may_push: bool, step_rows: usize) -> Next {
        if self.progress == Progress::ReadingInbox
            && let Some(after) = self.lag.get_or_insert_default().next_scan(step_rows)
        {
            return Next::ReadInbox(after);
        }
        let is_done = self.lag.as_deref().is_none_or(Lag::is_done);
        if is_done && self.progress != Progress::ReadingInbox {
            self.lag = self.lag.take().filter(|lag| !lag.is_whole());
            if self.progress != Progress::CatchingUp || !may_push {
                return Next::Wait;
            }
            self.progress = Progress::CaughtUp;
            return Next::CaughtUp { is_whole: self.lag.is_none() && !self.unmarked };
        }
        if !may_push || self.pulls >= PULLS_MAX {
            return Next::Wait;
        }
        match self.lag.as_deref_mut().and_then(Lag::next_pull) {
            Some((log, behind)) => {
                self.pulls += 1;
                Next::Pull(log, behind)
            }
            None => Next::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use tern_wire::ids::{DeviceId, UserId};

    use super::*;

    /// Watermarks moved while the device read slowly and its inbox was being read.
    #[test]
    fn what_brings_watermarks_brings_what_the_inbox_says_is_missing() {
        let author =
            Author { user: UserId::new(1).expect("a user"), device: DeviceId::new(1).expect("a device") };
        let log = LogId::direct(1, 2);
        let mut session = Session::new(author, PushWindow::default(), Network::UNKNOWN);
        session.resume();
        assert!(matches!(session.next(false, 1000), Next::ReadInbox(None)));
        session.lacks_marks(log).owes_own |= true;
        session.inbox_came(&[log], true, None);
        let Next::Pull(pulled, behind) = session.next(true, 1000) else { panic!("it is behind in a log") };
        assert_eq!((pulled, behind.want), (log, UNREAD), "and lacks entries of it");
        assert!(behind.marked && behind.owes_own);
        // Once the inbox has been read past a log, nothing is missing of it but what is noted.
        session.lag().caught_up(log);
        assert_eq!(session.lacks_marks(log).want, Want::from_entry(NO_ENTRY));
    }
}
