//! Acknowledgements of what is stored and dealt with, and credit for what is stored.

use std::collections::BTreeSet;
use std::time::Duration;

use tern_proto::v1::{self, client_frame};

use super::{Pending, Session};
use crate::error::Error;
use crate::machine::device::Device;
use crate::machine::ended::Ended;
use crate::machine::limits::ACKNOWLEDGE_DELAY;
use crate::machine::link::{PUSH_BYTES_MAX, PUSH_FRAMES_MAX};
use crate::machine::tables::{Tables, Which};

/// Pushes, in totals since the connection began.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Pushes {
    frames: u64,
    bytes: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Acknowledging {
    /// Chats to acknowledge, and when.
    chats: BTreeSet<u64>,
    pub(super) at: Option<Duration>,
    /// Those that are stored, and those that the server knows of.
    stored: Pushes,
    credited: Pushes,
}

impl Acknowledging {
    pub(super) fn new(now: Duration) -> Self {
        Self { chats: BTreeSet::new(), at: Some(now), stored: Pushes::default(), credited: Pushes::default() }
    }

    pub(super) fn add(&mut self, chat: u64) {
        self.chats.insert(chat);
    }

    pub(super) fn soon(&mut self, now: Duration) {
        self.at.get_or_insert(now + ACKNOWLEDGE_DELAY);
    }

    /// Counts a push that counts in the window.
    pub(super) fn count(&mut self, bytes: u64) {
        self.stored.frames += 1;
        self.stored.bytes += bytes;
    }
}

impl Session {
    /// What the server does not know is to be acknowledged.
    pub(super) fn acknowledge_what_is_not<S: Tables>(&mut self, device: &Device<S>) -> Result<(), Error> {
        let logs = device.records.logs(Which::Unacknowledged)?;
        self.acknowledging.chats.extend(logs.into_iter().map(|log| log.chat));
        Ok(())
    }

    /// These chats are to be acknowledged with what comes within a moment.
    pub(crate) fn acknowledge_soon(&mut self, chats: Vec<u64>, now: Duration) {
        if !chats.is_empty() {
            self.acknowledging.chats.extend(chats);
            self.acknowledging.soon(now);
        }
    }

    /// Acknowledges what is stored and dealt with, once it is sure that the store has it too.
    pub(crate) fn acknowledge<S: Tables>(&mut self, device: &mut Device<S>) -> Result<(), Ended> {
        self.acknowledging.at = None;
        let dealt_with = device.note_progress()?;
        self.acknowledging.chats.extend(dealt_with);
        if !self.resuming.is_settled() {
            return Ok(());
        }
        for chat in std::mem::take(&mut self.acknowledging.chats) {
            let log = device.records.log(chat)?;
            let (delivered, read) = (log.position.min(log.told), log.read_upto);
            if delivered > log.acked || read > log.read_acked {
                let request = v1::Acknowledge { chat, delivered_upto: delivered, read_upto: read };
                let pending = Pending::Acknowledge { chat, delivered, read };
                self.request(device.now.monotonic, client_frame::Request::Acknowledge(request), pending);
            }
        }
        Ok(())
    }

    /// The server has too much to do to take an acknowledgement.
    pub(super) fn acknowledge_later<S>(&mut self, device: &mut Device<S>, chat: u64, refused: &v1::Refused) {
        let wait = Duration::from_millis(refused.retry_after_ms.into());
        self.acknowledging.chats.insert(chat);
        self.acknowledging.at = Some(device.now.monotonic + wait + device.entropy.jitter(wait));
    }

    /// Confirms pushes when a good part of the window is used. They are stored when this leaves; how fast the application takes
    /// them is nothing to the server.
    pub(super) fn credit(&mut self) {
        let Pushes { frames, bytes } = self.acknowledging.stored;
        let credited = self.acknowledging.credited;
        if frames - credited.frames >= u64::from(PUSH_FRAMES_MAX / 2)
            || bytes - credited.bytes >= u64::from(PUSH_BYTES_MAX / 2)
        {
            self.acknowledging.credited = self.acknowledging.stored;
            self.link.queue_silent(client_frame::Request::Credit(v1::Credit { frames, bytes }));
        }
    }
}
