//! What has become of a notice, and the way on which the caller hears it.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::counters::Tally;
use crate::notice::{DeviceId, Notice, NoticeId};
use crate::service::Reason;
use crate::token::{Token, TokenKind};

/// A notice, and for whom it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Order {
    /// Whose it is: what is collapsed, and what is slowed down, is so by device.
    pub device: DeviceId,
    /// Where it goes.
    pub token: Token,
    /// What it says.
    pub notice: Notice,
}

/// What has become of a notice.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The service has it.
    Delivered,
    /// A newer one for the same device and collapse key has taken its place.
    Replaced,
    /// This token is no more: unless the device has registered another one since, it is told nothing until it does.
    Dead(Token),
    /// Its time was over before it could be sent.
    Expired,
    /// The service will never take it.
    Refused(Reason),
    /// It was tried as often as it may be: a dead letter.
    GaveUp,
    /// The sender was stopped before. Whoever keeps it hands it in again at the next start.
    Stopped,
}

/// The outcome of one notice.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Which one.
    pub id: NoticeId,
    /// Whose.
    pub device: DeviceId,
    /// Of which service.
    pub service: TokenKind,
    /// What has become of it.
    pub outcome: Outcome,
}

/// Where outcomes come out. A notice has its place in the queue until its outcome is taken: whoever takes none can hand in no more.
pub struct Outcomes {
    pub(super) reports: mpsc::UnboundedReceiver<Reported>,
}

/// A report, and whose place it frees.
pub(super) struct Reported {
    pub report: Report,
    pub tally: Arc<Tally>,
}

impl Outcomes {
    /// The next outcome. `None`: the sender has stopped, and all have been given.
    pub async fn next(&mut self) -> Option<Report> {
        Some(self.reports.recv().await?.into_report())
    }

    /// The next outcome, if one is there.
    pub fn try_next(&mut self) -> Option<Report> {
        Some(self.reports.try_recv().ok()?.into_report())
    }
}

impl Reported {
    fn into_report(self) -> Report {
        self.tally.let_go();
        self.report
    }
}
