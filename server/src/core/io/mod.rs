//! The hands of one core: the ring, the connections' bytes, the mesh, the store's port. It does what the brain and the
//! connections' lives say, and knows nothing of why.

mod effects;
mod lazy;
mod places;
mod reading;
mod resting;
mod sending;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use hashbrown::HashMap;
use tern_shard::Arrival;
use tern_shard::admin::AdminResponse;
use tern_shard::reply::ConnId;
use tern_shard::slots::CoreId;
use tern_storage::Port;

use super::conn::{Conn, Moved, Moving, Unread, token};
use super::life::{Action, Actions, Event, FLUSH_TIMEOUT, LINGER, Moment, Places};
use super::strangers::Stranger;
use super::trace::Tracer;
use super::{CoreMessage, Shared};
use crate::mesh::MeshEnd;
use crate::metrics::CoreMetrics;
use tern_uring::{ConnToken, Ring, RingHandle};

/// See the module.
pub(super) struct Io {
    pub(super) core: CoreId,
    pub(super) ring: Ring,
    pub(super) rings: Vec<RingHandle>,
    pub(super) conns: Places<Conn>,
    pub(super) mesh: MeshEnd<CoreMessage>,
    pub(super) port: Box<dyn Port>,
    pub(super) shared: Arc<Shared>,
    began: Instant,
    /// When the turn began, for the deadlines of connections.
    pub(super) now: Moment,
    /// Operators' questions under way.
    pub(super) questions: HashMap<u64, SyncSender<AdminResponse>>,
    /// Connections with something to send. As in the other lists, some have gone meanwhile, or need it no more.
    pub(super) dirty: Vec<ConnId>,
    /// Connections all of whose queue may wait, and until when.
    lazy: VecDeque<(Moment, ConnId)>,
    /// Connections whose queue has emptied, as the brain wants to know.
    pub(super) drained: Vec<ConnId>,
    /// Connections whose peer sends no more, and the brain has not been told.
    pub(super) finished: Vec<ConnId>,
    /// Connections that have gone, and the brain has not been told.
    pub(super) gone: Vec<ConnId>,
    /// Connections that could not move, and the brain has not been told that they are here.
    pub(super) stayed: Vec<(ConnId, Arrival)>,
    /// Connections that have gone on their way, and the brain has not been told.
    pub(super) lost: Vec<Arrival>,
    /// Connections that wait for a receive buffer.
    pub(super) starved: Vec<ConnId>,
    /// When connections that end or move must have sent what was queued.
    flushing: VecDeque<(Moment, ConnId)>,
    /// When lingering connections have lingered enough.
    lingering: VecDeque<(Moment, ConnId)>,
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
    pub(super) queue: VecDeque<ConnId>,
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
        Self {
            core,
            ring,
            rings,
            conns: Places::default(),
            mesh,
            port,
            shared,
            began: Instant::now(),
            now: Moment::default(),
            questions: HashMap::new(),
            dirty: Vec::new(),
            lazy: VecDeque::new(),
            drained: Vec::new(),
            finished: Vec::new(),
            gone: Vec::new(),
            stayed: Vec::new(),
            lost: Vec::new(),
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
            tracer: Tracer::default(),
        }
    }

    pub(super) fn metrics(&self) -> &CoreMetrics {
        self.shared.metrics.core(self.core.0)
    }

    /// A turn begins.
    pub(super) fn turn_begins(&mut self, now: Instant) {
        self.now = self.moment(now);
    }

    /// A time, as deadlines of connections have it.
    pub(super) fn moment(&self, now: Instant) -> Moment {
        Moment::since_start(now.saturating_duration_since(self.began))
    }

    /// The connection of which an operation has ended.
    ///
    /// # Panics
    /// If it has gone: a descriptor is closed only after its last operation.
    pub(super) fn id_of(&self, token: ConnToken) -> ConnId {
        let generation = self.conns.generation(token.index).filter(|generation| token.is_of(*generation));
        let generation = generation.expect("a connection outlives its operations");
        ConnId { index: token.index, generation }
    }

    /// Something has happened to a connection; nothing does to those that have gone.
    #[inline]
    pub(super) fn on(&mut self, id: ConnId, event: Event) {
        if let Some(conn) = self.conns.get(id) {
            let actions = conn.life.on(self.now, event);
            self.act(id, actions);
        }
    }

    /// Does what a connection's life says.
    fn act(&mut self, id: ConnId, actions: Actions) {
        if actions.is_none() {
            return;
        }
        let slot = self.conns.get(id).expect("it goes with the last of its actions").slot;
        for action in actions {
            match action {
                Action::Arm => self.ring.receive(token(id), slot),
                Action::Watch => self.ring.watch(token(id), slot),
                Action::Stop => self.ring.stop_receiving(token(id)),
                // Whoever has its buffer in hand has done it.
                Action::SendRest => {}
                Action::ShutHalf => self.ring.shutdown(token(id), slot, false),
                Action::ShutBoth => self.ring.shutdown(token(id), slot, true),
                Action::Give => self.give(id, slot),
                Action::StayHere => self.stay_here(id),
                Action::HandOver => self.hand_over(id),
                Action::Close => self.close(id),
                Action::Release => self.conns.release(id),
                Action::TellFinished => self.finished.push(id),
                Action::TellDrained => self.drained.push(id),
                Action::TellClosed => self.gone.push(id),
                Action::List => self.dirty.push(id),
                Action::Flush => self.flush_one(id),
                Action::WaitFlush => self.flushing.push_back((self.now.after(FLUSH_TIMEOUT), id)),
                Action::WaitLinger => self.lingering.push_back((self.now.after(LINGER), id)),
                Action::Starve => self.starved.push(id),
                Action::Queue => {
                    self.queue.push_back(id);
                    self.metrics().reading_queued.add(1);
                }
                Action::Resume => self.resumable.push(id),
            }
        }
    }

    fn close(&mut self, id: ConnId) {
        let conn = self.conns.vacate(id).expect("a connection is closed once");
        self.ring.close(conn.slot);
        self.lost.extend(conn.moving.map(|moving| moving.arrival));
        // What is kept of some connections alone.
        self.is_no_stranger(id);
        self.proxied.remove(&id);
        self.unread.remove(&id);
    }

    fn give(&mut self, id: ConnId, slot: u32) {
        let conn = self.conns.get(id).expect("it moves, and has not gone");
        let Moving { to, transfer, .. } = **conn.moving.as_ref().expect("what moves knows where to");
        self.ring.give(token(id), slot, self.rings[usize::from(to.0)], transfer);
    }

    /// The descriptor has reached the other core: all else follows through the mesh.
    fn hand_over(&mut self, id: ConnId) {
        let conn = self.conns.get(id).expect("it moves, and has not gone");
        let Moving { to, arrival, transfer } = *conn.moving.take().expect("what moves knows where to");
        let (records, frames, is_stranger) = (conn.take_records(), conn.frames.take(), conn.stranger);
        let queue = conn.queue.take();
        let unread = self.unread.remove(&id).unwrap_or_default();
        // It keeps its place: elsewhere it is as much a stranger.
        let stranger = self.strangers.remove(&id);
        self.metrics().connections_given.add(1);
        let proxied = self.proxied.remove(&id);
        let moved =
            Moved { transfer, records, frames, queue, unread, arrival, is_stranger, stranger, proxied };
        self.mesh.send(to, CoreMessage::Moved(Box::new(moved)));
    }

    /// The other core has no room.
    fn stay_here(&mut self, id: ConnId) {
        let conn = self.conns.get(id).expect("it has not moved, and not gone");
        let moving = conn.moving.take().expect("what was to move knows where to");
        self.stayed.push((id, moving.arrival));
    }

    /// A connection that has logged in has come from another core.
    pub(super) fn welcome(&mut self, id: ConnId, slot: u32, proxied: Option<[u8; 16]>) {
        self.ring.let_grow(slot);
        if let Some(address) = proxied {
            self.proxied.insert(id, address);
        }
    }

    /// Ends connections whose peers do not take what is queued, or do not close.
    pub(super) fn end_overdue(&mut self) {
        while let Some(id) = next_overdue(&mut self.flushing, self.now) {
            self.on(id, Event::Deadline);
        }
        while let Some(id) = next_overdue(&mut self.lingering, self.now) {
            self.on(id, Event::Deadline);
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

    /// Gives back what a crowd that came or went at once has left.
    pub(super) fn tidy(&mut self) {
        self.tidy_strangers();
        for queue in [&mut self.flushing, &mut self.lingering] {
            if queue.capacity() > 64 {
                // Most have long gone when their time is over.
                queue.retain(|(_, id)| self.conns.get(*id).is_some());
                if queue.len() * 8 < queue.capacity() {
                    queue.shrink_to_fit();
                }
            }
        }
        if self.unread.is_empty() && self.unread.capacity() > 0 {
            self.unread = HashMap::new();
        }
        if self.queue.is_empty() && self.queue.capacity() > 64 {
            self.queue = VecDeque::new();
        }
        if self.lazy.is_empty() && self.lazy.capacity() > 64 {
            self.lazy = VecDeque::new();
        }
    }
}

/// The next whose time is over.
fn next_overdue(queue: &mut VecDeque<(Moment, ConnId)>, now: Moment) -> Option<ConnId> {
    let (_, id) = queue.pop_front_if(|(until, _)| now.has_reached(*until))?;
    Some(id)
}
