//! The hands of one core: the ring, the connections' bytes, the mesh, the store's port. It does what the brain says
//! ([`Effects`]) and knows nothing of why.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use tern_proto::v1::{self, server_frame::Message};
use tern_shard::admin::AdminResponse;
use tern_shard::effects::Stage;
use tern_shard::entry::Author;
use tern_shard::message::Message as CoresMessage;
use tern_shard::reply::ConnId;
use tern_shard::slots::CoreId;
use tern_shard::{Arrival, Effects};
use tern_storage::{
    Batch, Busy, CommitId, Direction, Fence, Key, KeyRange, Port, ReadId, ScanLimit, StoreError,
};
use tern_wire::frame;
use tern_wire::ids::{ClientMessageId, Phone};
use tern_wire::tls::Records;

use super::conn::{Conn, End, Moved, Moving, Queue, Table, Tls, Unread, token};
use super::strangers::{
    Crowded, STRANGER_FRAMES_AT_ONCE, STRANGER_FRAMES_MAX, STRANGER_UNSENT_BYTES_MAX, Stranger,
};
use super::trace::Tracer;
use super::{CoreMessage, Shared};
use crate::mesh::MeshEnd;
use crate::metrics::CoreMetrics;
use tern_uring::{Ring, RingHandle, TransferId};

/// How long what is queued to a connection that ends, or moves, may take to leave.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection that sends no more waits for its peer to close.
const LINGER: Duration = Duration::from_secs(2);

/// Connections of a core with expanded keys: over 1 KB each. Beyond, those that were silent for the longest let go first, and
/// make them again when they need them (some 2 us).
const AWAKE_MAX: usize = 1024;

/// Send buffers kept for the next send.
const SPARE_BUFFERS_MAX: usize = 64;

/// Bytes of a send buffer that is kept.
const SPARE_BUFFER_BYTES_MAX: usize = 64 << 10;

/// See the module.
pub(super) struct Io {
    pub(super) core: CoreId,
    pub(super) ring: Ring,
    pub(super) rings: Vec<RingHandle>,
    pub(super) conns: Table,
    pub(super) mesh: MeshEnd<CoreMessage>,
    pub(super) port: Box<dyn Port>,
    pub(super) shared: Arc<Shared>,
    /// Operators' questions under way.
    pub(super) questions: HashMap<u64, SyncSender<AdminResponse>>,
    /// Connections with something to send.
    pub(super) dirty: Vec<ConnId>,
    /// Connections whose queue has emptied, as the brain wants to know.
    pub(super) drained: Vec<ConnId>,
    /// Connections that have gone, and the brain has not been told.
    pub(super) gone: Vec<ConnId>,
    /// Connections that wait for a receive buffer.
    pub(super) starved: Vec<ConnId>,
    /// When connections that end or move must have sent what was queued.
    flushing: VecDeque<(Instant, ConnId)>,
    /// When lingering connections have lingered enough.
    lingering: VecDeque<(Instant, ConnId)>,
    /// Connections whose keys are expanded, the longest unseen first.
    awake: VecDeque<ConnId>,
    /// Connections that let go of their keys to make room, and are received from until they are silent.
    drowsy: VecDeque<ConnId>,
    spare: Vec<Vec<u8>>,
    /// Those who have not logged in, and the order in which they came.
    pub(super) strangers: HashMap<ConnId, Stranger>,
    strangers_in_order: VecDeque<ConnId>,
    /// Where those who have logged in through a balancer are.
    proxied: HashMap<ConnId, [u8; 16]>,
    /// What was received from connections that are not read from now.
    pub(super) unread: HashMap<ConnId, Unread>,
    /// Connections that may be read from again.
    pub(super) resumable: Vec<ConnId>,
    /// Connections that have had their turn, in the order in which they have the next one.
    queue: VecDeque<ConnId>,
    /// Frames that were read since the core began.
    pub(super) frames_read: u64,
    transfers: u32,
    /// When each commit under way was submitted.
    submitted: VecDeque<Instant>,
    pub(super) tracer: Tracer,
}

impl Io {
    pub(super) fn new(
        core: CoreId,
        ring: Ring,
        rings: Vec<RingHandle>,
        mesh: MeshEnd<CoreMessage>,
        port: Box<dyn Port>,
        shared: Arc<Shared>,
    ) -> Self {
        let tracer = Tracer::default();
        Self {
            core,
            ring,
            rings,
            conns: Table::default(),
            mesh,
            port,
            shared,
            questions: HashMap::new(),
            dirty: Vec::new(),
            drained: Vec::new(),
            gone: Vec::new(),
            starved: Vec::new(),
            flushing: VecDeque::new(),
            lingering: VecDeque::new(),
            awake: VecDeque::new(),
            drowsy: VecDeque::new(),
            spare: Vec::new(),
            strangers: HashMap::new(),
            strangers_in_order: VecDeque::new(),
            proxied: HashMap::new(),
            unread: HashMap::new(),
            resumable: Vec::new(),
            queue: VecDeque::new(),
            frames_read: 0,
            transfers: 0,
            submitted: VecDeque::new(),
            tracer,
        }
    }

    pub(super) fn metrics(&self) -> &CoreMetrics {
        self.shared.metrics.core(self.core.0)
    }

    /// Whether frames of a connection go to the brain now. Not if it does not take what is sent to it: then nothing more is
    /// read until that has left.
    pub(super) fn reads(&mut self, id: ConnId) -> bool {
        let unsent_max = self.shared.unsent_bytes_max;
        let Some(conn) = self.conns.get(id).filter(|conn| conn.reads()) else { return false };
        if conn.backlog() <= if conn.stranger { STRANGER_UNSENT_BYTES_MAX } else { unsent_max } {
            return true;
        }
        conn.paused = true;
        self.metrics().reading_paused.add(1);
        false
    }

    /// Enough has left, so that a connection is read from again.
    fn resume_reading(&mut self, id: ConnId) {
        let unsent_max = self.shared.unsent_bytes_max;
        if let Some(conn) = self.conns.get(id)
            && conn.paused
            && !conn.queues
            && conn.backlog() <= if conn.stranger { STRANGER_UNSENT_BYTES_MAX } else { unsent_max }
        {
            self.resumable.push(id);
        }
    }

    /// A connection has had its turn: what else it asks waits until others have had theirs.
    pub(super) fn queue_up(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get(id) {
            conn.paused = true;
            if !std::mem::replace(&mut conn.queues, true) {
                self.queue.push_back(id);
                self.metrics().reading_queued.add(1);
            }
        }
    }

    /// The connection whose turn it is.
    pub(super) fn next_in_queue(&mut self) -> Option<ConnId> {
        let id = self.queue.pop_front()?;
        if let Some(conn) = self.conns.get(id) {
            conn.queues = false;
        }
        Some(id)
    }

    pub(super) fn has_queue(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Takes a newcomer in, or shows it out if there is no place. Whether it was taken.
    pub(super) fn admit(&mut self, id: ConnId, address: [u8; 16], proxied: bool, has_network: bool) -> bool {
        let enter = |io: &Self| io.shared.strangers.enter(address, proxied, has_network);
        let entered = match enter(self) {
            Err(Crowded::Node) if self.make_room() => enter(self),
            entered => entered,
        };
        let Some(conn) = self.conns.get(id) else {
            entered.iter().for_each(|stranger| self.shared.strangers.leave(stranger));
            return false;
        };
        match entered {
            Ok(stranger) => {
                conn.stranger = true;
                self.strangers.insert(id, stranger);
                self.strangers_in_order.push_back(id);
                true
            }
            Err(_) => {
                self.metrics().strangers_refused.add(1);
                self.abort(id);
                false
            }
        }
    }

    /// A stranger has come from another core, with its place.
    pub(super) fn take_over(&mut self, id: ConnId, stranger: Stranger) {
        self.strangers.insert(id, stranger);
        self.strangers_in_order.push_back(id);
    }

    /// Shows the oldest stranger of this core out, if it has had its time.
    fn make_room(&mut self) -> bool {
        while let Some(oldest) = self.strangers_in_order.front().copied() {
            match self.strangers.get(&oldest) {
                Some(stranger) if !stranger.may_go() => return false,
                Some(_) => {
                    self.strangers_in_order.pop_front();
                    self.is_no_stranger(oldest);
                    self.metrics().strangers_shown_out.add(1);
                    self.abort(oldest);
                    return true;
                }
                None => drop(self.strangers_in_order.pop_front()),
            }
        }
        false
    }

    /// Whether all that a connection sends waits for its turn: it is a stranger who has asked for more than others do.
    pub(super) fn waits_its_turn(&mut self, id: ConnId) -> bool {
        let asks = |conn: &mut Conn| conn.stranger && matches!(conn.tls, Tls::Open(_)) && conn.goes_on();
        self.conns.get(id).is_some_and(asks)
            && self.strangers.get(&id).is_some_and(|stranger| stranger.frames >= STRANGER_FRAMES_AT_ONCE)
    }

    /// Counts a frame of a stranger. Whether it has asked for too much.
    pub(super) fn asks_too_much(&mut self, id: ConnId) -> bool {
        let Some(stranger) = self.strangers.get_mut(&id) else { return false };
        stranger.frames += 1;
        stranger.frames > STRANGER_FRAMES_MAX
    }

    /// A stranger's place is free again.
    pub(super) fn is_no_stranger(&mut self, id: ConnId) -> Option<Stranger> {
        let stranger = self.strangers.remove(&id)?;
        self.shared.strangers.leave(&stranger);
        Some(stranger)
    }

    /// Forgets what is kept of some connections alone.
    fn forget(&mut self, id: ConnId) {
        self.is_no_stranger(id);
        self.proxied.remove(&id);
        self.unread.remove(&id);
    }

    /// Gives back what a crowd that came or went at once has left.
    pub(super) fn tidy(&mut self) {
        while self.strangers_in_order.front().is_some_and(|oldest| !self.strangers.contains_key(oldest)) {
            self.strangers_in_order.pop_front();
        }
        if self.strangers.capacity() > 64 && self.strangers.len() * 8 < self.strangers.capacity() {
            self.strangers.shrink_to_fit();
            self.strangers_in_order.retain(|id| self.strangers.contains_key(id));
            self.strangers_in_order.shrink_to_fit();
        }
        if self.flushing.capacity() > 64 {
            // Most have long gone when their time is over.
            let Self { flushing, conns, .. } = self;
            flushing.retain(|(_, id)| conns.get(*id).is_some());
            if flushing.len() * 8 < flushing.capacity() {
                flushing.shrink_to_fit();
            }
        }
        if self.unread.is_empty() && self.unread.capacity() > 0 {
            self.unread = HashMap::new();
        }
        if self.queue.is_empty() && self.queue.capacity() > 64 {
            self.queue = VecDeque::new();
        }
    }

    pub(super) fn mark_dirty(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get(id)
            && !std::mem::replace(&mut conn.dirty, true)
        {
            self.dirty.push(id);
        }
    }

    pub(super) fn arm_receive(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get(id)
            && !conn.receiving
            && !conn.paused
            && !conn.eof
            && conn.end != End::Aborting
            && conn.moving.is_none()
        {
            (conn.receiving, conn.dozing) = (true, false);
            self.ring.receive(token(id), conn.slot);
        }
    }

    /// Sends what connections have queued.
    pub(super) fn flush(&mut self) {
        while let Some(id) = self.dirty.pop() {
            if let Some(conn) = self.conns.get(id) {
                conn.dirty = false;
                self.flush_one(id);
            }
        }
    }

    fn flush_one(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id).filter(|conn| conn.sending == 0 && conn.end != End::Aborting)
        else {
            return;
        };
        let queue = conn.queue.take().filter(|queue| !queue.plain.is_empty() || !queue.sealed.is_empty());
        let Some(queue) = queue else { return self.flushed(id) };
        let Queue { plain, mut sealed } = *queue;
        if !plain.is_empty() {
            if sealed.capacity() == 0 {
                sealed = self.spare.pop().unwrap_or_default();
            }
            let Tls::Open(records) = &mut conn.tls else {
                conn.queue = Some(Box::new(Queue { plain, sealed }));
                return;
            };
            if records.seal(&plain, &mut sealed).is_err() {
                return self.abort(id);
            }
        }
        conn.sending = sealed.len() as u32;
        let (slot, is_stranger) = (conn.slot, conn.stranger);
        keep(&mut self.spare, plain);
        self.metrics().bytes_out.add(sealed.len() as u64);
        if is_stranger {
            self.ring.send_small(token(id), slot, sealed, 0);
        } else {
            self.ring.send(token(id), slot, sealed, 0);
        }
        self.touch(id);
    }

    /// Something has come or gone: the connection's keys are expanded, and stay so for a while.
    pub(super) fn touch(&mut self, id: ConnId) {
        // A handshake is about to be over, and has no keys of its own yet.
        let established = |conn: &&mut Conn| !conn.is_shaking();
        let Some(conn) = self.conns.get(id).filter(established) else { return };
        conn.active = true;
        if !std::mem::replace(&mut conn.awake, true) {
            self.awake.push_back(id);
            if self.awake.len() > AWAKE_MAX {
                self.look_at_oldest();
            }
        }
    }

    /// Has connections that were silent since the last time let go of what can be made again. In ten calls each is seen
    /// once.
    pub(super) fn hibernate_some(&mut self) {
        for _ in 0..self.awake.len().div_ceil(10) {
            self.look_at_oldest();
        }
        for _ in 0..self.drowsy.len().div_ceil(10) {
            let Some(id) = self.drowsy.pop_front() else { return };
            let Some(conn) = self.conns.get(id) else { continue };
            if std::mem::take(&mut conn.active) {
                self.drowsy.push_back(id);
            } else {
                conn.drowsy = false;
                self.watch(id);
            }
        }
    }

    fn look_at_oldest(&mut self) {
        let Some(id) = self.awake.pop_front() else { return };
        let full = self.awake.len() >= AWAKE_MAX;
        let Some(conn) = self.conns.get(id) else { return };
        let active = std::mem::take(&mut conn.active);
        if active && !full {
            return self.awake.push_back(id);
        }
        conn.awake = false;
        if let Tls::Open(records) = &mut conn.tls {
            records.hibernate();
        }
        if !active {
            self.watch(id);
        } else if !std::mem::replace(&mut conn.drowsy, true) {
            self.drowsy.push_back(id);
        }
    }

    /// Has a silent connection watched, and not received from.
    fn watch(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get(id)
            && matches!(conn.tls, Tls::Open(_))
            && conn.receiving
            && !conn.dozing
            && conn.reads()
        {
            conn.dozing = true;
            self.ring.stop_receiving(token(id));
        }
    }

    /// A silent connection's receive has ended: it is watched until something comes.
    pub(super) fn doze(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get(id)
            && !conn.receiving
            && !conn.paused
            && conn.end != End::Aborting
        {
            (conn.receiving, conn.dozing) = (true, true);
            self.ring.watch(token(id), conn.slot);
        }
        self.finish_if_still(id);
    }

    /// Something has come, or the peer sends no more.
    pub(super) fn wake_up(&mut self, id: ConnId) {
        if self.conns.get(id).is_some_and(|conn| conn.moving.is_some()) {
            return self.go_on_moving(id);
        }
        self.arm_receive(id);
        self.finish_if_still(id);
    }

    /// A send has ended.
    pub(super) fn sent(&mut self, id: ConnId, buffer: Vec<u8>, upto: usize, failed: bool) {
        let Some(conn) = self.conns.get(id) else { return };
        if failed || conn.end == End::Aborting {
            conn.sending = 0;
            return self.abort(id);
        }
        if upto < buffer.len() {
            let (slot, is_stranger) = (conn.slot, conn.stranger);
            self.metrics().short_sends.add(1);
            return if is_stranger {
                self.ring.send_small(token(id), slot, buffer, upto)
            } else {
                self.ring.send(token(id), slot, buffer, upto)
            };
        }
        conn.sending = 0;
        keep(&mut self.spare, buffer);
        self.flush_one(id);
        self.resume_reading(id);
    }

    /// Has nothing more received from a connection that is not read from now.
    pub(super) fn stop_if_paused(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get(id)
            && conn.paused
            && conn.receiving
            && !conn.dozing
        {
            conn.dozing = true;
            self.ring.stop_receiving(token(id));
        }
    }

    /// Everything that was queued has left.
    fn flushed(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        if std::mem::take(&mut conn.tell_drained) {
            self.drained.push(id);
        }
        if conn.moving.is_some() {
            self.go_on_moving(id);
        } else if conn.end == End::Flushing {
            conn.end = End::Lingering;
            if !conn.eof {
                self.arm_receive(id);
                self.shutdown(id, false);
                self.lingering.push_back((Instant::now() + LINGER, id));
            }
            self.finish_if_still(id);
        }
    }

    /// Ends a connection when what is queued has left.
    pub(super) fn end(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id).filter(|conn| conn.end == End::None) else { return };
        conn.end = End::Flushing;
        if let Tls::Open(records) = &mut conn.tls {
            // Behind all frames: sealing them first keeps the order.
            let Queue { plain, sealed } = &mut **conn.queue.get_or_insert_default();
            if records.seal(plain, sealed).is_ok() {
                plain.clear();
                records.close(sealed);
            }
        }
        self.flushing.push_back((Instant::now() + FLUSH_TIMEOUT, id));
        self.mark_dirty(id);
    }

    /// Has a connection that only waits for answers end in time.
    pub(super) fn end_in_time(&mut self, id: ConnId) {
        self.flushing.push_back((Instant::now() + FLUSH_TIMEOUT, id));
    }

    /// Ends a connection now: what is queued is lost.
    pub(super) fn abort(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        if conn.end != End::Aborting {
            conn.end = End::Aborting;
            if !conn.is_still() {
                self.shutdown(id, true);
            }
        }
        self.finish_if_still(id);
    }

    fn shutdown(&mut self, id: ConnId, both: bool) {
        if let Some(conn) = self.conns.get(id) {
            conn.shutdowns += 1;
            self.ring.shutdown(token(id), conn.slot, both);
        }
    }

    /// A shutdown has ended.
    pub(super) fn shut_down(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get(id) {
            conn.shutdowns -= 1;
            self.finish_if_still(id);
        }
    }

    /// Closes a connection of which nothing is left to end.
    pub(super) fn finish_if_still(&mut self, id: ConnId) {
        let ends = |conn: &&mut Conn| matches!(conn.end, End::Lingering | End::Aborting) && conn.is_still();
        if self.conns.get(id).filter(ends).is_none() {
            return;
        }
        if let Some(conn) = self.conns.remove(id) {
            self.ring.close(conn.slot);
            self.forget(id);
            if conn.known {
                self.gone.push(id);
            } else {
                self.conns.release(id);
            }
        }
    }

    /// Ends connections whose peers do not take what is queued, or do not close.
    pub(super) fn end_overdue(&mut self) {
        while let Some((until, id)) = self.flushing.front().copied()
            && until <= Instant::now()
        {
            self.flushing.pop_front();
            let moves = |conn: &Conn| conn.moving.as_deref().is_some_and(|moving| !moving.given);
            if self.conns.get(id).is_some_and(|conn| conn.finished && conn.end == End::None) {
                // It has asked and gone half, and its answers take too long.
                self.end(id);
            } else if self.conns.get(id).is_some_and(|conn| conn.end == End::Flushing || moves(conn)) {
                self.abort(id);
            }
        }
        while let Some((until, id)) = self.lingering.front().copied()
            && until <= Instant::now()
        {
            self.lingering.pop_front();
            if self.conns.get(id).is_some_and(|conn| conn.end == End::Lingering) {
                self.abort(id);
            }
        }
    }

    /// Goes on with a connection's move: no receive, no send, then the descriptor.
    pub(super) fn go_on_moving(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        let (slot, receiving, still, empty) =
            (conn.slot, conn.receiving, conn.is_still(), conn.backlog() == 0);
        let ends = conn.end != End::None;
        let Some(moving) = conn.moving.as_deref_mut() else { return };
        if ends && !moving.given {
            // Nobody waits for it there, and the brain here has forgotten it.
            return self.abort(id);
        }
        if receiving && !moving.asked_to_stop {
            moving.asked_to_stop = true;
            self.ring.stop_receiving(token(id));
        } else if still && empty && !moving.given {
            moving.given = true;
            let (to, transfer) = (self.rings[usize::from(moving.to.0)], moving.transfer);
            self.ring.give(token(id), slot, to, transfer);
        }
    }

    /// The descriptor has reached the other core: all else follows through the mesh.
    pub(super) fn given(&mut self, id: ConnId, arrived: bool) {
        let Some(conn) = self.conns.get(id) else { return };
        let (Some(moving), Tls::Open(records)) =
            (conn.moving.take(), std::mem::replace(&mut conn.tls, Tls::Gone))
        else {
            return self.abort(id);
        };
        if !arrived && conn.end != End::None {
            return self.abort(id);
        }
        if !arrived {
            conn.tls = Tls::Open(records);
            let farewell = tern_wire::errors::Farewell {
                reason: tern_wire::errors::Reason::Overloaded,
                reconnect_after_ms: 1000,
                detail: "the user's core has no room for the connection",
            };
            let message = Some(Message::GoAway(farewell.into()));
            frame::encode(&v1::ServerFrame { id: 0, message }, &mut conn.queue().plain);
            return self.end(id);
        }
        let Moving { to, arrival, transfer, plaintext, ciphertext, .. } = *moving;
        let frames = conn.frames.take();
        // It keeps its place: elsewhere it is as much a stranger.
        let stranger = self.strangers.remove(&id);
        let moved = Moved { transfer, records, frames, plaintext, ciphertext, arrival, stranger };
        if let Some(conn) = self.conns.remove(id) {
            self.conns.release(id);
            self.ring.close(conn.slot);
            self.forget(id);
        }
        self.metrics().connections_given.add(1);
        self.mesh.send(to, CoreMessage::Moved(Box::new(moved)));
    }

    /// Puts a connection's record layer back after work on it.
    pub(super) fn put_back(&mut self, id: ConnId, records: Box<Records>) {
        if let Some(conn) = self.conns.get(id) {
            conn.tls = Tls::Open(records);
            if conn.end_when_put_back {
                self.end(id);
            }
        }
    }

    /// A commit has ended: how long it took.
    pub(super) fn commit_ended(&mut self, durable: bool) {
        let took = self.submitted.pop_front().map(|submitted| submitted.elapsed());
        let metrics = self.metrics();
        metrics.commit_us.record(took.unwrap_or_default().as_micros() as u64);
        if durable {
            metrics.commits.add(1)
        } else {
            metrics.commits_failed.add(1)
        }
        if durable {
            self.shared.store.wrote();
        } else {
            self.shared.store.refused(self.shared.clock.now_ms());
        }
    }
}

impl Io {
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

    /// Where the other end of a connection is, for the log.
    pub(super) fn peer(&self, id: ConnId) -> Option<IpAddr> {
        self.strangers.get(&id).map(|stranger| Ipv6Addr::from(stranger.address).to_canonical())
    }
}

fn keep(spare: &mut Vec<Vec<u8>>, mut buffer: Vec<u8>) {
    if spare.len() < SPARE_BUFFERS_MAX && (1..=SPARE_BUFFER_BYTES_MAX).contains(&buffer.capacity()) {
        buffer.clear();
        spare.push(buffer);
    }
}

impl Effects for Io {
    fn send(&mut self, id: ConnId, frame: &v1::ServerFrame) -> usize {
        let Some(conn) = self.conns.get(id).filter(|conn| conn.end == End::None) else { return 0 };
        let plain = &mut conn.queue.get_or_insert_default().plain;
        if plain.capacity() == 0 {
            *plain = self.spare.pop().unwrap_or_default();
        }
        let bytes = frame::encode(frame, plain);
        self.mark_dirty(id);
        self.metrics().frames_out.add(1);
        self.metrics().sent.count(frame);
        self.tell_of(id, frame);
        bytes
    }

    fn backlog(&mut self, id: ConnId) -> usize {
        self.conns.get(id).map_or(0, |conn| conn.backlog())
    }

    fn notify_drained(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get(id) {
            conn.tell_drained = true;
        }
    }

    fn close(&mut self, id: ConnId) {
        // Its record layer may be at work just now: then the end comes when it is put back.
        if let Some(conn) = self.conns.get(id)
            && matches!(conn.tls, Tls::Gone)
        {
            conn.end_when_put_back = true;
            return;
        }
        self.end(id);
    }

    fn move_to(&mut self, id: ConnId, core: CoreId, arrival: Arrival) {
        self.transfers = self.transfers.wrapping_add(1);
        let transfer = TransferId { from: self.core.0, number: self.transfers };
        // While it is read there is none of this; it may also move when its login has waited for the store.
        let Unread { plaintext, ciphertext } = self.unread.remove(&id).unwrap_or_default();
        if let Some(conn) = self.conns.get(id) {
            conn.known = false;
            conn.moving = Some(Box::new(Moving {
                to: core,
                arrival,
                transfer,
                plaintext,
                ciphertext,
                asked_to_stop: false,
                given: false,
            }));
            self.flushing.push_back((Instant::now() + FLUSH_TIMEOUT, id));
        }
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

    fn submit(&mut self, batch: Batch, fence: Fence) -> Result<CommitId, Busy<(Batch, Fence)>> {
        let ops = batch.len() as u64;
        let commit = self.port.submit(batch, fence)?;
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

    fn answer(&mut self, question: u64, response: AdminResponse) {
        if let Some(asker) = self.questions.remove(&question) {
            // An asker that has given up is not told.
            let _ = asker.try_send(response);
        }
    }

    fn passed(&mut self, author: Author, client_id: ClientMessageId, stage: Stage) {
        self.tracer.passed(author, client_id, stage);
    }

    fn store_trouble(&mut self, error: &StoreError) {
        self.shared.store_trouble(error);
    }

    fn store_recovered(&mut self, refused: u64) {
        tracing::warn!(refused, "the store takes batches again");
    }
}
