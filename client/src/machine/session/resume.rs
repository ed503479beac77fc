//! Coming back: positions and generations, the list of all logs if the store went back, and when everything has come.

use std::collections::BTreeSet;
use std::time::Duration;

use tern_proto::v1::{self, client_frame};
use tern_wire::limits::GENERATIONS_MAX;

use super::{Pending, Session};
use crate::error::Error;
use crate::machine::device::{Device, News};
use crate::machine::ended::Ended;
use crate::machine::rows::LogState;
use crate::machine::tables::{Tables, Which};

/// Whether the logs' positions are those of the server's store.
#[derive(Debug, Default)]
enum Trust {
    /// The server has not said yet.
    #[default]
    Unknown,
    /// They are.
    Settled,
    /// They are not: it is told every log, after this one, and says of each how much of it is there. `None`: all are told.
    Listing(Option<After>),
}

/// A place among the logs: after this peer, or before the first.
type After = Option<u64>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Resuming {
    trust: Trust,
    /// CaughtUp was pushed.
    pub(super) caught_up_pushed: bool,
    /// That holds for everything that this device has, too.
    pub(super) caught_up: bool,
    /// Chats that the first Resume has listed: they are not listed again.
    listed: BTreeSet<u64>,
    /// Chats whose watermarks were forgotten because the store went back.
    unmarked: Vec<u64>,
}

impl Resuming {
    pub(super) fn is_settled(&self) -> bool {
        matches!(self.trust, Trust::Settled)
    }

    pub(super) fn is_listing(&self) -> bool {
        matches!(self.trust, Trust::Listing(_))
    }
}

impl Session {
    pub(super) fn begin_to_resume<S: Tables>(&mut self, device: &mut Device<S>) -> Result<(), Error> {
        let generations = device.records.generations()?;
        if self.link.generation == 0 || generations == [self.link.generation] {
            self.resuming.trust = Trust::Settled;
        }
        match device.receive {
            true => self.resume(device, generations),
            false => Ok(()),
        }
    }

    /// Asks for the pushes, for what has become of own messages that were not read yet, and whether the store is still
    /// one that has what this device has.
    fn resume<S: Tables>(&mut self, device: &mut Device<S>, mut generations: Vec<u64>) -> Result<(), Error> {
        if generations.len() > GENERATIONS_MAX {
            generations.clear();
        }
        let tables = device.records.tables();
        let mut logs = tables.logs(Which::ToResume, self.link.limits.positions_max)?;
        if logs.is_empty() && generations.is_empty() {
            // Without either the server could not know that this device has anything.
            logs = tables.logs(Which::All(None), 1)?;
        }
        let position = |log: LogState| v1::Position {
            chat: log.chat,
            upto: log.position,
            delivered_upto: log.others_delivered,
            read_upto: log.others_read,
        };
        let positions = logs.into_iter().map(position).collect();
        self.send_resume(device.now.monotonic, v1::Resume { positions, generations });
        Ok(())
    }

    pub(super) fn send_resume(&mut self, now: Duration, resume: v1::Resume) {
        self.request(now, client_frame::Request::Resume(resume.clone()), Pending::Resume(resume));
    }

    pub(super) fn resumed<S: Tables>(
        &mut self,
        device: &mut Device<S>,
        asked: v1::Resume,
        rewound: bool,
    ) -> Result<(), Ended> {
        // Another one follows, for what this one has asked for.
        self.resuming.caught_up_pushed = false;
        match self.resuming.trust {
            Trust::Unknown if !rewound => self.settled(device),
            Trust::Unknown | Trust::Settled if rewound => self.begin_to_list(device, &asked)?,
            Trust::Unknown | Trust::Settled | Trust::Listing(_) => {}
        }
        if let Trust::Listing(Some(after)) = self.resuming.trust {
            self.list_logs(device, after, asked.generations)?;
        }
        self.catch_up(device)
    }

    /// The store went back: it is told every log.
    fn begin_to_list<S: Tables>(&mut self, device: &mut Device<S>, asked: &v1::Resume) -> Result<(), Error> {
        let records = &mut device.records;
        self.resuming.unmarked = records.logs(Which::Marked)?.into_iter().map(|log| log.chat).collect();
        records.forget_marks()?;
        // A position may be believed and no `Rewound` come for it: what stands beyond its gap is of another past all the same.
        // The application was told nothing of it.
        for log in records.logs(Which::Gaps)? {
            records.rewind(log.chat, log.position)?;
        }
        // Of those that it has listed it hears when they are not so.
        for v1::Position { chat, delivered_upto, read_upto, .. } in &asked.positions {
            records.others_marks(*chat, *delivered_upto, *read_upto, 0)?;
        }
        self.resuming.listed = asked.positions.iter().map(|position| position.chat).collect();
        self.resuming.trust = Trust::Listing(Some(None));
        Ok(())
    }

    /// Tells the server of the next logs that this device has. The peers' watermarks are asked for from their start.
    fn list_logs<S: Tables>(
        &mut self,
        device: &mut Device<S>,
        after: After,
        generations: Vec<u64>,
    ) -> Result<(), Error> {
        let mut logs = Vec::new();
        let mut after = Some(after);
        while logs.is_empty()
            && let Some(chat) = after
        {
            logs = device.records.tables().logs(Which::All(chat), self.link.limits.positions_max)?;
            after = logs.last().map(|log| Some(log.chat));
            logs.retain(|log| !self.resuming.listed.contains(&log.chat));
        }
        self.resuming.trust = Trust::Listing(after);
        if !logs.is_empty() {
            let position =
                |log: LogState| v1::Position { chat: log.chat, upto: log.position, ..Default::default() };
            let positions = logs.into_iter().map(position).collect();
            self.send_resume(device.now.monotonic, v1::Resume { positions, generations });
        }
        Ok(())
    }

    /// The positions are those of the store: what was stored may be acknowledged.
    fn settled<S>(&mut self, device: &Device<S>) {
        self.resuming.trust = Trust::Settled;
        self.acknowledging.at = Some(device.now.monotonic);
    }

    /// Has everything come that was missing? Then what is still in doubt is gone.
    pub(super) fn catch_up<S: Tables>(&mut self, device: &mut Device<S>) -> Result<(), Ended> {
        let listing = matches!(self.resuming.trust, Trust::Listing(Some(_)));
        let Resuming { caught_up, caught_up_pushed, .. } = self.resuming;
        if caught_up || !caught_up_pushed || self.requests.is_resuming() || listing {
            return Ok(());
        }
        (self.resuming.caught_up, device.worked) = (true, true);
        if device.records.caught_up(self.link.generation)? {
            device.news.push(News::SomethingIsGone);
        }
        for chat in std::mem::take(&mut self.resuming.unmarked) {
            device.news.push(News::MarksMoved { chat, own: false });
        }
        self.acknowledge_what_is_not(device)?;
        self.settled(device);
        device.news.push(News::CaughtUp);
        self.fill_gaps(device)
    }
}
