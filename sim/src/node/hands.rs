//! A core's hands: what its brain does to the world, until the turn ends.

use std::collections::BTreeMap;

use prost::Message as _;
use tern_proto::v1;
use tern_shard::admin::AdminResponse;
use tern_shard::effects::{Push, Stage};
use tern_shard::entry::Author;
use tern_shard::message::Message;
use tern_shard::reply::ConnId;
use tern_shard::slots::CoreId;
use tern_shard::{Arrival, Effects};
use tern_storage::embedded::Step;
use tern_storage::{
    Batch, Busy, CommitId, Completion, Direction, Fence, Key, KeyRange, Lane, Port, ReadId, ScanLimit,
    StoreError, Wake,
};
use tern_wire::frame;
use tern_wire::ids::{ClientMessageId, MediaId, Phone};

use super::gate::{Proven, Unproven};
use super::{Conn, Does};
use crate::kept;

pub(super) struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

/// One core's shell.
pub(super) struct Hands {
    pub(super) port: Box<dyn Port>,
    pub(super) conns: BTreeMap<ConnId, Conn>,
    /// Messages to others, until the turn ends.
    pub(super) tells: Vec<(CoreId, Message)>,
    pub(super) moves: Vec<(ConnId, CoreId, Arrival)>,
    pub(super) closing: Vec<ConnId>,
    /// Connections that have something to be sent.
    pub(super) written: Vec<ConnId>,
    pub(super) does: Vec<Does>,
    pub(super) unproven: Unproven,
    pub(super) proven: Proven,
    /// Cores of which no more is to be asked in this turn.
    pub(super) crowded: Vec<CoreId>,
    /// Messages are kept for ever.
    pub(super) is_for_ever: bool,
}

impl Hands {
    /// A frame has come on a connection.
    pub(super) fn frame_came(&mut self, conn: ConnId, frame: &[u8]) {
        let talk = self.conns.get_mut(&conn).and_then(|conn| conn.talk.as_mut());
        let token = talk.and_then(|talk| talk.came(frame));
        self.does.extend(token.map(Does::Token));
    }

    /// The store has completed something.
    pub(super) fn completed(&mut self, completion: &Completion) {
        match completion {
            Completion::Committed(proof) => self.unproven.ended(proof.commit(), Some(&self.proven)),
            Completion::CommitFailed { commit, .. } => self.unproven.ended(*commit, None),
            Completion::Value { .. } | Completion::Rows { .. } => {}
        }
    }
}

impl Effects for Hands {
    fn send(&mut self, id: ConnId, frame: &v1::ServerFrame) -> usize {
        let Some(conn) = self.conns.get_mut(&id) else { return frame.encoded_len() };
        if conn.out.is_empty() {
            self.written.push(id);
        }
        match conn.talk.as_mut().map_or(Ok(None), |talk| talk.says(frame, &self.proven)) {
            Ok(token) => self.does.extend(token.map(Does::Token)),
            Err(what) => self.does.push(Does::Wrong(format!("on {:?} {what}", conn.link))),
        }
        frame::encode(frame, &mut conn.out)
    }

    fn backlog(&mut self, conn: ConnId) -> usize {
        self.conns.get(&conn).map_or(0, |conn| conn.out.len() + conn.under_way)
    }

    fn notify_drained(&mut self, conn: ConnId) {
        if let Some(conn) = self.conns.get_mut(&conn) {
            conn.wants_drained = true;
        }
    }

    fn close(&mut self, conn: ConnId) {
        self.closing.push(conn);
    }

    fn move_to(&mut self, conn: ConnId, core: CoreId, arrival: Arrival) {
        self.moves.push((conn, core, arrival));
    }

    fn authenticated(&mut self, conn: ConnId, device: Author) {
        let Some(conn) = self.conns.get_mut(&conn) else { return };
        self.does.push(Does::LoggedIn(conn.link, device.user.get()));
        if let Some(talk) = conn.talk.as_mut() {
            talk.logged_in(device.user.get());
        }
    }

    fn peer_address(&mut self, _: ConnId) -> [u8; 16] {
        [0; 16]
    }

    fn tell(&mut self, core: CoreId, message: Message) {
        self.tells.push((core, message));
    }

    fn congested(&self, core: CoreId) -> bool {
        self.crowded.contains(&core)
    }

    fn submit(
        &mut self,
        lane: Lane,
        batch: Batch,
        deciding: Fence,
    ) -> Result<CommitId, Busy<(Batch, Fence)>> {
        self.does.push(Does::Store(Step::Commit));
        let says = Unproven::read(&batch);
        let wrote = if self.is_for_ever { Vec::new() } else { kept::wrote(&batch) };
        let commit = self.port.submit_in(lane, batch, deciding)?;
        self.unproven.submitted(commit, says);
        if !wrote.is_empty() {
            self.does.push(Does::Wrote(wrote));
        }
        Ok(commit)
    }

    fn get(&mut self, key: Key) -> Result<ReadId, Busy<Key>> {
        self.does.push(Does::Store(Step::Read));
        self.port.get(key)
    }

    fn scan(
        &mut self,
        range: KeyRange,
        direction: Direction,
        limit: ScanLimit,
    ) -> Result<ReadId, Busy<KeyRange>> {
        self.does.push(Does::Store(Step::Read));
        self.port.scan(range, direction, limit)
    }

    fn deliver_code(&mut self, phone: &Phone, code: &str, _: u64) -> bool {
        self.does.push(Does::Code(phone.as_str().to_owned(), code.to_owned()));
        true
    }

    fn push(&mut self, push: Push) -> bool {
        self.does.push(Does::Push(push));
        true
    }

    fn remove_medium(&mut self, medium: MediaId) {
        self.does.push(Does::Remove(medium));
    }

    fn answer(&mut self, question: u64, response: AdminResponse) {
        self.does.push(Does::Answer(question, response));
    }

    fn passed(&mut self, _: Author, _: ClientMessageId, _: Stage) {}

    fn store_trouble(&mut self, error: &StoreError) {
        if matches!(error, StoreError::Failed { .. }) {
            self.does.push(Does::Broken);
        }
    }

    fn store_recovered(&mut self, _: u64) {}
}
