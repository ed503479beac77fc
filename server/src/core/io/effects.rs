//! What the brain does to the world.

use std::time::Instant;

use tern_proto::v1::{self, server_frame::Message};
use tern_shard::admin::AdminResponse;
use tern_shard::effects::{Gone, MoveStep, Push, Question, Stage};
use tern_shard::entry::Author;
use tern_shard::message::Message as CoresMessage;
use tern_shard::reply::ConnId;
use tern_shard::slots::CoreId;
use tern_shard::{Arrival, Effects};
use tern_storage::{
    Batch, Busy, CommitId, Direction, Fence, Key, KeyRange, Lane, ReadId, ScanLimit, Slot, StoreError,
};
use tern_uring::TransferId;
use tern_wire::frame;
use tern_wire::ids::{ClientMessageId, MediaId, Phone};

use super::super::conn::Moving;
use super::super::life::Event;
use super::super::{AnswerTo, CoreMessage, PushedTo};
use super::Io;

impl Effects for Io {
    fn send(&mut self, id: ConnId, frame: &v1::ServerFrame) -> usize {
        self.queue(id, frame, None, false)
    }

    fn send_lazily(&mut self, id: ConnId, frame: &v1::ServerFrame) -> usize {
        self.queue(id, frame, None, true)
    }

    fn send_encoded(&mut self, id: ConnId, frame: &v1::ServerFrame, bytes: &[u8]) -> usize {
        self.queue(id, frame, Some(bytes), false)
    }

    fn hold(&mut self, id: ConnId) {
        let conn = self.conns.get(id).filter(|conn| conn.life.takes_frames());
        let queue = conn.and_then(|conn| conn.queue.as_deref_mut());
        if let Some(queue) = queue.filter(|queue| !queue.lazy && queue.has_some()) {
            queue.lazy = true;
            self.wait_lazily(id);
        }
    }

    fn backlog(&mut self, id: ConnId) -> usize {
        self.conns.get(id).map_or(0, |conn| conn.backlog())
    }

    fn notify_drained(&mut self, id: ConnId) {
        self.on(id, Event::NotifyDrained);
    }

    fn close(&mut self, id: ConnId) {
        self.on(id, Event::End);
    }

    fn move_to(&mut self, id: ConnId, core: CoreId, arrival: Arrival) {
        self.transfers = self.transfers.wrapping_add(1);
        let transfer = TransferId { from: self.core.0, number: self.transfers };
        match self.conns.get(id).filter(|conn| conn.life.takes_frames()) {
            Some(conn) => conn.moving = Some(Box::new(Moving { to: core, arrival, transfer })),
            // It ends already, here.
            None => self.lost.push(arrival),
        }
        self.on(id, Event::Move);
    }

    fn greeted(&mut self, id: ConnId, client: &str) {
        if let Some(stranger) = self.strangers.get_mut(&id) {
            stranger.client = client.into();
        }
    }

    fn authenticated(&mut self, id: ConnId, Author { user, device }: Author) {
        let (core, conn) = (self.core.0, id.index);
        tracing::debug!(core, conn, user = user.get(), device = device.get(), "logged in");
        if let Some(conn) = self.conns.get(id) {
            conn.stranger = false;
            let slot = conn.slot;
            self.ring.let_grow(slot);
        }
        if let Some(stranger) = self.is_no_stranger(id) {
            self.metrics().clients.count(&stranger.client);
            if stranger.proxied {
                self.proxied.insert(id, stranger.address);
            }
        }
        self.resume_reading(id);
    }

    fn peer_address(&mut self, id: ConnId) -> [u8; 16] {
        if self.shared.shared_addresses {
            return [0; 16];
        }
        if let Some(stranger) = self.strangers.get(&id) {
            return stranger.address;
        }
        if let Some(address) = self.proxied.get(&id) {
            return *address;
        }
        let Some(slot) = self.conns.get(id).map(|conn| conn.slot) else { return [0; 16] };
        // A connection that has failed meanwhile has no address; it is counted with others of its kind.
        self.ring.peer_address(slot, self.shared.is_ipv6).unwrap_or_default()
    }

    fn tell(&mut self, core: CoreId, message: CoresMessage) {
        self.metrics().mesh_messages.add(1);
        self.mesh.send(core, CoreMessage::Brain(message));
    }

    fn congested(&self, core: CoreId) -> bool {
        self.mesh.backlog(core) >= self.shared.mesh_backlog_max
    }

    fn submit(
        &mut self,
        lane: Lane,
        batch: Batch,
        deciding: Fence,
    ) -> Result<CommitId, Busy<(Batch, Fence)>> {
        let ops = batch.len() as u64;
        let commit = self.port.submit_in(lane, batch, deciding)?;
        self.submitted.push_back(Instant::now());
        self.tracer.submitted();
        self.metrics().batch_operations.record(ops);
        Ok(commit)
    }

    fn get(&mut self, key: Key) -> Result<ReadId, Busy<Key>> {
        self.port.get(key)
    }

    fn scan(
        &mut self,
        range: KeyRange,
        direction: Direction,
        limit: ScanLimit,
    ) -> Result<ReadId, Busy<KeyRange>> {
        self.port.scan(range, direction, limit)
    }

    fn deliver_code(&mut self, phone: &Phone, code: &str, expires_ms: u64) -> bool {
        self.shared.codes.deliver(phone, code, expires_ms)
    }

    fn look_at(&mut self, question: Question) -> bool {
        let Some(filter) = &self.shared.filter else { return false };
        let link = self.shared.links[usize::from(self.core.0)].clone();
        let to = AnswerTo::new(link, &question);
        filter.ask(question, to)
    }

    fn remove_medium(&mut self, medium: MediaId) {
        if let Some(media) = &self.shared.media {
            media.remove(medium);
        }
    }

    fn push(&mut self, push: Push) -> bool {
        let Some(pushes) = &self.shared.pushes else { return false };
        let link = self.shared.links[usize::from(self.core.0)].clone();
        let to = PushedTo::new(link, &push);
        pushes.push(push, to)
    }

    fn answer(&mut self, question: u64, response: AdminResponse) {
        if let Some(asker) = self.questions.remove(&question) {
            // An asker that has given up is not told.
            let _ = asker.try_send(response);
        }
    }

    fn passed(&mut self, author: Author, client_id: ClientMessageId, stage: Stage) {
        self.tracer.passed(author, client_id, stage);
    }

    fn gone(&mut self, how: Gone, entries: u64) {
        let counter = match how {
            Gone::Ended => &self.metrics().entries_ended,
            Gone::Erased => &self.metrics().entries_erased,
            Gone::Removed => &self.metrics().entries_removed,
        };
        counter.add(entries);
    }

    fn store_trouble(&mut self, error: &StoreError) {
        self.shared.store_trouble(error);
    }

    fn slot_moves(&mut self, slot: Slot, step: MoveStep) {
        tracing::debug!(core = self.core.0, slot = slot.number(), ?step, "a slot moves");
        self.shared.moves.step(step);
    }

    fn unanswered(&mut self, owner: CoreId, slot: Slot) {
        let (core, slot) = (owner.0, slot.number());
        tracing::error!(
            core,
            slot,
            "a core has not answered in time what connections asked, and they were shown out: if the store is not stuck, this is a mistake in ternd, please report it"
        );
    }

    fn store_recovered(&mut self, refused: u64) {
        tracing::warn!(refused, "the store takes batches again");
    }
}

impl Io {
    /// Queues a frame to a connection, to leave at the end of the turn, or lazily.
    fn queue(&mut self, id: ConnId, frame: &v1::ServerFrame, encoded: Option<&[u8]>, lazily: bool) -> usize {
        let Some(conn) = self.conns.get(id).filter(|conn| conn.life.takes_frames()) else { return 0 };
        let queue = conn.queue.get_or_insert_default();
        if queue.plain.capacity() == 0 {
            queue.plain = self.spare.pop().unwrap_or_default();
        }
        let was_lazy = queue.lazy;
        queue.lazy = lazily && (was_lazy || queue.plain.is_empty());
        let is_lazy = queue.lazy;
        let bytes = match encoded {
            Some(encoded) => frame::append(encoded, &mut queue.plain),
            None => frame::encode(frame, &mut queue.plain),
        };
        let actions = conn.life.on(self.now, Event::Queued);
        match (was_lazy, is_lazy) {
            (false, false) => self.act(id, actions),
            (false, true) => self.wait_lazily(id),
            (true, false) => self.dirty.push(id),
            (true, true) => {}
        }
        self.metrics().frames_out.add(1);
        self.metrics().sent.count(frame);
        self.tell_of(id, frame);
        bytes
    }

    /// Has the log say, for whoever looks for it, what a connection was refused, and why it ends.
    fn tell_of(&self, id: ConnId, frame: &v1::ServerFrame) {
        let (core, conn) = (self.core.0, id.index);
        match &frame.message {
            Some(Message::Refused(refused)) => {
                let reason = refused.reason().name();
                tracing::debug!(core, conn, request = frame.id, reason, detail = refused.detail, "refused");
            }
            Some(Message::GoAway(farewell)) => {
                let reason = farewell.reason().name();
                tracing::debug!(core, conn, reason, detail = farewell.detail, "told to go");
            }
            _ => {}
        }
    }
}
