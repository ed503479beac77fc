//! The loop of a core.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use tern_shard::reply::ConnId;
use tern_shard::{Arrival, Input, Shard};
use tern_storage::Completion;
use tern_wire::errors::{Farewell, Reason};
use tern_wire::frame::{FrameBuffer, FrameError};
use tern_wire::proxy;
use tern_wire::tls::{Established, Opened, Progress, Records, TlsServer};

use super::CoreMessage;
use super::conn::{Conn, End, Heading, Moved, Shaking, Tls, Unread, token};
use super::io::Io;
use super::link::{Call, CoreLink};
use super::strangers::STRANGER_FRAMES_AT_ONCE;
use super::trace::CpuTime;
use crate::trouble;
use tern_uring::{Ended, Event, Lease, TransferId};

/// How often the brain is told that time passes.
const TICK: Duration = Duration::from_millis(100);

/// Messages taken from each other core in one turn.
const MESSAGES_PER_TURN_MAX: usize = 1024;

/// Bytes of answers to key updates that wait behind a send. Beyond, the connection is ended.
const KEY_ANSWERS_BYTES_MAX: usize = 4096;

/// How long a draining core waits for its connections to close.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Frames that one connection has read in a turn, if others wait.
const FRAMES_PER_TURN: u32 = 256;

/// Frames that a turn reads from those who have had theirs already, of 1 to 2 us each: so long waits everybody else.
const QUEUED_FRAMES_PER_TURN: u64 = 256;

/// Handshakes that a turn begins, of 0.1 ms each: so long waits everybody else. A turn that is long for other reasons begins
/// more, for a fourth of its time, so that newcomers do not wait for many such turns.
const HELLOS_PER_TURN: usize = 2;

/// Bytes of a first flight that waits: far more than any client sends.
const HELLO_BYTES_MAX: usize = 8 << 10;

/// First flights that wait to be taken up. From here on nothing more is accepted until half of them are: other cores do, or
/// connections wait in the kernel's queue, in order. (What an accept has taken already is not given back.)
const HELLOS_MAX: usize = 16;

/// One core.
pub(super) struct Worker {
    shard: Shard,
    io: Io,
    link: CoreLink,
    /// Of the newest certificate.
    tls: TlsServer,
    accepting: bool,
    /// Accepting has failed: it waits for a descriptor to be closed, or for the next tick.
    accept_waits: bool,
    /// Accepting has been asked to end.
    accept_stopped: bool,
    /// Connections whose first flight waits, in the order in which they came, and what each has sent.
    hellos: VecDeque<ConnId>,
    hello_bytes: HashMap<ConnId, Vec<u8>>,
    /// TLS handshakes under way, oldest first, with their deadlines.
    handshakes: VecDeque<(Instant, ConnId)>,
    /// Connections of which one half has come: the descriptor or all else.
    arriving: HashMap<TransferId, Half>,
    questions_asked: u64,
    next_tick: Instant,
    draining: Option<Instant>,
    completions: Vec<Completion>,
    /// Received bytes at work, for a leased buffer keeps the ring borrowed.
    scratch: Vec<u8>,
}

enum Half {
    Slot(u32),
    Rest(Box<Moved>),
}

impl Worker {
    pub(super) fn new(shard: Shard, io: Io, link: CoreLink) -> Self {
        Self {
            shard,
            tls: io.shared.tls.clone(),
            io,
            link,
            accepting: false,
            accept_waits: false,
            accept_stopped: false,
            hellos: VecDeque::new(),
            hello_bytes: HashMap::new(),
            handshakes: VecDeque::new(),
            arriving: HashMap::new(),
            questions_asked: 0,
            next_tick: Instant::now() + TICK,
            draining: None,
            completions: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Runs until the core is told to drain and has done so, or the node must stop. `false` if the ring has failed.
    pub(super) fn run(mut self) -> bool {
        let mut events = Vec::new();
        self.io.metrics().places.set(self.io.shared.accept_max as u64);
        let mut cpu = CpuTime::default();
        self.io.tracer.hand_over(&self.io.shared.traces);
        // Accepts, before it waits for the first time.
        self.end_turn();
        while !self.is_done() {
            let timeout = self.prepare_to_wait();
            if let Err(error) = self.io.ring.turn(timeout, &mut events) {
                tracing::error!(core = self.io.core.0, %error, "the ring has failed");
                return false;
            }
            self.io.mesh.sleeper().retract();
            let began = Instant::now();
            cpu.turn(self.io.tracer.is_on());
            self.io.metrics().cpu_ring_ns.add(cpu.lap());
            for event in events.drain(..) {
                self.event(event);
            }
            self.io.metrics().cpu_events_ns.add(cpu.lap());
            self.take_messages();
            self.io.metrics().cpu_mesh_ns.add(cpu.lap());
            self.take_completions();
            self.io.metrics().cpu_store_ns.add(cpu.lap());
            self.take_calls();
            self.take_queue();
            self.take_hellos(began.elapsed() / 4);
            self.tick(began);
            self.end_turn();
            self.io.metrics().cpu_flush_ns.add(cpu.lap());
            self.count(began);
        }
        true
    }

    /// How long to wait: not at all if there is work already. Whoever brings some after the announcement wakes the ring.
    fn prepare_to_wait(&mut self) -> Option<Duration> {
        self.io.mesh.sleeper().announce();
        let has_work = self.io.mesh.has_messages()
            || self.io.port.has_completions()
            || self.link.has_calls()
            || self.io.has_queue()
            || !self.hellos.is_empty();
        let backlog = self.backlog() > 0;
        let until_tick = self.next_tick.saturating_duration_since(Instant::now());
        Some(if has_work {
            Duration::ZERO
        } else if backlog {
            // Another core's ring is full, and nobody tells when it has room.
            Duration::from_micros(50)
        } else {
            until_tick
        })
    }

    fn backlog(&self) -> usize {
        let cores = self.io.rings.len() as u16;
        (0..cores).map(|core| self.io.mesh.backlog(tern_shard::slots::CoreId(core))).sum()
    }

    fn input(&mut self, input: Input<'_>) {
        let now_ms = self.io.shared.clock.now_ms();
        self.shard.handle(now_ms, input, &mut self.io);
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Accepted { slot } => self.accepted(slot),
            Event::AcceptEnded { error } => {
                self.accepting = false;
                if !self.accept_stopped {
                    self.accept_waits = true;
                    self.io.metrics().accept_failures.add(1);
                    let core = self.io.core.0;
                    match trouble::of_accepting(&error) {
                        Some(advice) => {
                            tracing::warn!(core, %error, advice, "no connection can be accepted for now")
                        }
                        None => tracing::debug!(core, %error, "accepting ended"),
                    }
                }
            }
            Event::Peer { conn, address } => {
                if let Some(id) = self.io.conns.id_of(conn) {
                    self.peer_known(id, address.ok());
                }
            }
            Event::Received { conn, lease, armed } => match self.io.conns.id_of(conn) {
                Some(id) => self.received(id, lease, armed),
                None => self.io.ring.recycle(lease),
            },
            Event::ReceiveEnded { conn, why } => {
                if let Some(id) = self.io.conns.id_of(conn) {
                    self.receive_ended(id, &why);
                }
            }
            Event::Sent { conn, buffer, upto, error } => {
                if let Some(id) = self.io.conns.id_of(conn) {
                    self.io.sent(id, buffer, upto, error.is_some());
                }
            }
            Event::ShutDown { conn } => {
                if let Some(id) = self.io.conns.id_of(conn) {
                    self.io.shut_down(id);
                }
            }
            Event::Given { conn, result } => {
                if let Some(id) = self.io.conns.id_of(conn) {
                    self.io.given(id, result.is_ok());
                }
            }
            Event::Taken { transfer, slot } => match self.arriving.remove(&transfer) {
                Some(Half::Rest(moved)) => self.moved_here(slot, *moved),
                Some(Half::Slot(_)) => unreachable!("a transfer has one descriptor"),
                None => drop(self.arriving.insert(transfer, Half::Slot(slot))),
            },
            Event::Closed => self.accept_waits = false,
            // Only clients connect.
            Event::Woken | Event::Connected { .. } => {}
        }
    }

    fn accepted(&mut self, slot: u32) {
        self.io.metrics().accepts.add(1);
        if self.draining.is_some() {
            return self.io.ring.close(slot);
        }
        if self.io.conns.len() >= self.io.shared.accept_max {
            // No core has a place: who is told at once tries again elsewhere, or later.
            self.io.metrics().connections_refused.add(1);
            return self.io.ring.close(slot);
        }
        let Ok(handshake) = self.tls.handshake() else { return self.io.ring.close(slot) };
        let shaking = Shaking { accepted: Instant::now(), handshake };
        let id = self.io.conns.insert(Conn::new(slot, Tls::Handshake(Box::new(shaking))));
        self.handshakes.push_back((Instant::now() + self.io.shared.handshake_timeout, id));
        self.io.ring.keep_small(slot);
        self.io.ring.ask_peer(token(id), slot, self.io.shared.is_ipv6);
    }

    /// It is known where a newcomer is: it has a place, or goes.
    fn peer_known(&mut self, id: ConnId, address: Option<[u8; 16]>) {
        let Some(address) = address else { return self.io.abort(id) };
        let is_proxy = self.io.shared.proxies.iter().any(|range| range.holds(address));
        if !self.io.admit(id, address, false, !is_proxy) {
            return;
        }
        if is_proxy && let Some(conn) = self.io.conns.get(id) {
            conn.tls = match std::mem::replace(&mut conn.tls, Tls::Gone) {
                Tls::Handshake(shaking) => {
                    Tls::Heading(Box::new(Heading { bytes: Vec::new(), shaking: *shaking }))
                }
                tls => tls,
            };
        }
        self.io.arm_receive(id);
    }

    /// What a balancer says before its client does.
    fn heading(&mut self, id: ConnId, bytes: &[u8]) {
        let Some(conn) = self.io.conns.get(id) else { return };
        let Tls::Heading(mut heading) = std::mem::replace(&mut conn.tls, Tls::Gone) else { return };
        heading.bytes.extend_from_slice(bytes);
        let header = match proxy::parse(&heading.bytes) {
            Ok(Some(header)) => header,
            Ok(None) => {
                conn.tls = Tls::Heading(heading);
                return;
            }
            Err(error) => {
                tracing::debug!(core = self.io.core.0, %error, "a balancer's connection was ended");
                self.io.metrics().proxy_failures.add(1);
                return self.io.abort(id);
            }
        };
        let Heading { bytes, shaking } = *heading;
        conn.tls = Tls::Handshake(Box::new(shaking));
        if let Some(source) = header.source {
            self.io.is_no_stranger(id);
            if !self.io.admit(id, source, true, true) {
                return;
            }
        }
        if bytes.len() > header.bytes {
            self.hello(id, &bytes[header.bytes..]);
        }
    }

    fn received(&mut self, id: ConnId, lease: Lease, armed: bool) {
        if let Some(conn) = self.io.conns.get(id) {
            conn.receiving = armed;
            // If a cancel found nothing, it is tried again.
            conn.dozing = false;
        }
        self.io.touch(id);
        self.io.tracer.received();
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        bytes.extend_from_slice(self.io.ring.leased(&lease));
        self.io.ring.recycle(lease);
        self.io.shared.metrics.core(self.io.core.0).bytes_in.add(bytes.len() as u64);
        if self.io.waits_its_turn(id) {
            self.io.queue_up(id);
        }
        match self.io.conns.get(id) {
            Some(Conn { moving: Some(moving), .. }) => moving.ciphertext.extend_from_slice(&bytes),
            Some(conn) if conn.end == End::None && conn.paused => {
                // It was received before the receive had ended, or waits its turn: at most what one turn takes.
                self.io.unread.entry(id).or_default().ciphertext.extend_from_slice(&bytes);
            }
            Some(conn) if conn.end == End::None && matches!(conn.tls, Tls::Heading(_)) => {
                self.heading(id, &bytes);
            }
            // Those who are there go before those who come; what was begun is finished.
            Some(conn) if conn.end == End::None && matches!(conn.tls, Tls::Handshake(_)) && !conn.greeted => {
                self.hello(id, &bytes);
            }
            Some(conn) if conn.end == End::None => match std::mem::replace(&mut conn.tls, Tls::Gone) {
                Tls::Handshake(shaking) => self.shake_hands(id, *shaking, &bytes),
                Tls::Open(records) => {
                    let Self { shard, io, .. } = self;
                    let mut open = Open::new(shard, io, id);
                    open.receive(records, &mut bytes);
                }
                Tls::Heading(_) | Tls::Gone => {}
            },
            _ => {}
        }
        self.scratch = bytes;
        self.after_reading(id);
    }

    /// What reading has led to: a move, an end, or a receive to be armed again.
    fn after_reading(&mut self, id: ConnId) {
        let Some(conn) = self.io.conns.get(id) else { return };
        if conn.moving.is_some() {
            self.io.go_on_moving(id);
        } else if conn.end == End::None && conn.paused {
            self.io.stop_if_paused(id);
        } else if conn.end == End::None || conn.end == End::Lingering {
            self.io.arm_receive(id);
        } else {
            self.io.finish_if_still(id);
        }
    }

    /// Has a first flight, or more of it, wait.
    fn hello(&mut self, id: ConnId, bytes: &[u8]) {
        let waiting = self.hello_bytes.entry(id).or_insert_with(|| {
            self.hellos.push_back(id);
            Vec::new()
        });
        waiting.extend_from_slice(bytes);
        if waiting.len() > HELLO_BYTES_MAX {
            self.io.metrics().handshake_failures.add(1);
            self.io.abort(id);
        }
    }

    /// Goes on with those who have had a turn.
    fn take_queue(&mut self) {
        let upto = self.io.frames_read + QUEUED_FRAMES_PER_TURN;
        while self.io.frames_read < upto
            && let Some(id) = self.io.next_in_queue()
        {
            self.go_on_reading(id);
        }
    }

    /// Takes up first flights that wait.
    fn take_hellos(&mut self, time: Duration) {
        let (mut begun, begin) = (0, Instant::now());
        while (begun < HELLOS_PER_TURN || begin.elapsed() < time)
            && let Some(id) = self.hellos.pop_front()
        {
            let bytes = self.hello_bytes.remove(&id).unwrap_or_default();
            let Some(conn) = self.io.conns.get(id).filter(|conn| conn.end == End::None) else { continue };
            begun += 1;
            if let Tls::Handshake(shaking) = std::mem::replace(&mut conn.tls, Tls::Gone) {
                self.shake_hands(id, *shaking, &bytes);
                self.after_reading(id);
            }
        }
    }

    fn shake_hands(&mut self, id: ConnId, shaking: Shaking, bytes: &[u8]) {
        let Shaking { accepted, handshake } = shaking;
        let mut out = Vec::new();
        let progress = handshake.receive(bytes, &mut out);
        let answered = !out.is_empty();
        let Some(conn) = self.io.conns.get(id) else { return };
        if !out.is_empty() {
            conn.queue().sealed.append(&mut out);
        }
        self.io.mark_dirty(id);
        match progress {
            Ok(Progress::Continue(handshake)) => {
                if let Some(conn) = self.io.conns.get(id) {
                    // Until its first flight is whole, what follows waits in the queue as well.
                    conn.greeted |= answered;
                    conn.tls = Tls::Handshake(Box::new(Shaking { accepted, handshake }));
                }
            }
            Ok(Progress::Done(established)) => {
                self.io.metrics().handshake_us.record(accepted.elapsed().as_micros() as u64);
                self.established(id, established);
            }
            Err(error) => {
                let (conn, peer) = (id.index, self.io.peer(id));
                tracing::debug!(core = self.io.core.0, conn, ?peer, %error, "a TLS handshake failed");
                self.io.metrics().handshake_failures.add(1);
                self.io.end(id);
            }
        }
    }

    fn established(&mut self, id: ConnId, established: Established) {
        let Some(conn) = self.io.conns.get(id) else { return };
        conn.known = true;
        self.io.metrics().handshakes.add(1);
        self.input(Input::Opened(id));
        let Established { records, plaintext, ciphertext } = established;
        self.read_on(id, records, &plaintext, ciphertext);
    }

    /// Reads what came before, first opened, then sealed.
    fn read_on(&mut self, id: ConnId, records: Box<Records>, plaintext: &[u8], mut ciphertext: Vec<u8>) {
        let Self { shard, io, .. } = self;
        let mut open = Open::new(shard, io, id);
        open.frames(plaintext);
        open.receive(records, &mut ciphertext);
    }

    /// Goes on with a connection to which enough has been sent, or whose turn it is.
    fn go_on_reading(&mut self, id: ConnId) {
        let Some(conn) = self.io.conns.get(id).filter(|conn| conn.paused && conn.goes_on()) else { return };
        conn.paused = false;
        let Tls::Open(records) = std::mem::replace(&mut conn.tls, Tls::Gone) else { return };
        let Unread { plaintext, ciphertext } = self.io.unread.remove(&id).unwrap_or_default();
        self.read_on(id, records, &plaintext, ciphertext);
        if self.io.conns.get(id).is_some_and(|conn| conn.eof && !conn.paused) {
            self.received_all(id);
        }
        self.after_reading(id);
    }

    fn receive_ended(&mut self, id: ConnId, why: &Ended) {
        let Some(conn) = self.io.conns.get(id) else { return };
        conn.receiving = false;
        match why {
            Ended::NoBuffers => {
                self.io.metrics().buffers_exhausted.add(1);
                if self.io.conns.get(id).is_some_and(|conn| conn.moving.is_some()) {
                    self.io.go_on_moving(id);
                } else {
                    self.io.starved.push(id);
                }
            }
            Ended::Cancelled if conn.moving.is_some() => self.io.go_on_moving(id),
            Ended::Cancelled => self.io.doze(id),
            Ended::Readable => self.io.wake_up(id),
            Ended::Eof => {
                conn.eof = true;
                self.received_all(id);
            }
            Ended::Failed(_) => self.io.abort(id),
        }
    }

    /// The peer sends no more.
    fn received_all(&mut self, id: ConnId) {
        let Some(conn) = self.io.conns.get(id) else { return };
        match conn.end {
            // First what it has sent before is read.
            End::None if conn.paused => {}
            End::None if conn.moving.is_none() => finished(&mut self.shard, &mut self.io, id),
            End::None => self.io.abort(id),
            End::Flushing => {}
            End::Lingering | End::Aborting => self.io.finish_if_still(id),
        }
    }

    fn moved_here(&mut self, slot: u32, moved: Moved) {
        let Moved { records, frames, plaintext, ciphertext, arrival, stranger, .. } = moved;
        let mut conn = Conn::new(slot, Tls::Gone);
        conn.frames = frames;
        conn.known = true;
        conn.stranger = true;
        let id = self.io.conns.insert(conn);
        if let Some(stranger) = stranger {
            self.io.take_over(id, stranger);
        }
        self.io.metrics().connections_taken.add(1);
        self.arrived(id, arrival);
        if self.draining.is_some() {
            let farewell = Farewell::new(Reason::ShuttingDown, "this server is stopping");
            self.input(Input::Broken(id, farewell));
        }
        self.read_on(id, records, &plaintext, ciphertext);
        self.io.arm_receive(id);
    }

    fn arrived(&mut self, id: ConnId, arrival: Arrival) {
        self.input(Input::Arrived(id, arrival));
    }

    fn take_messages(&mut self) {
        let now_ms = self.io.shared.clock.now_ms();
        let mut messages = Vec::new();
        self.io.mesh.drain(MESSAGES_PER_TURN_MAX, |message| messages.push(message));
        for message in messages {
            match message {
                CoreMessage::Brain(message) => self.shard.handle(now_ms, Input::Told(message), &mut self.io),
                CoreMessage::Moved(moved) => match self.arriving.remove(&moved.transfer) {
                    Some(Half::Slot(slot)) => self.moved_here(slot, *moved),
                    Some(Half::Rest(_)) => unreachable!("a connection moves once"),
                    None => drop(self.arriving.insert(moved.transfer, Half::Rest(moved))),
                },
            }
        }
    }

    fn take_completions(&mut self) {
        self.io.port.poll(&mut self.completions);
        for completion in std::mem::take(&mut self.completions) {
            match &completion {
                Completion::Committed(_) => self.io.commit_ended(true),
                Completion::CommitFailed { .. } => self.io.commit_ended(false),
                Completion::Value { .. } | Completion::Rows { .. } => {}
            }
            self.input(Input::Completed(completion));
        }
    }

    fn take_calls(&mut self) {
        while let Some(call) = self.link.next_call() {
            match call {
                Call::Ask(request, asker) => {
                    self.questions_asked += 1;
                    self.io.questions.insert(self.questions_asked, asker);
                    self.input(Input::Asked(self.questions_asked, request));
                }
                Call::Drain if self.draining.is_none() => {
                    self.draining = Some(Instant::now() + DRAIN_TIMEOUT);
                    self.input(Input::Drain);
                    // What is in its handshake has nothing to lose.
                    for id in self.io.conns.ids() {
                        if self.io.conns.get(id).is_some_and(|conn| !conn.known && conn.moving.is_none()) {
                            self.io.abort(id);
                        }
                    }
                }
                Call::Drain => {}
                Call::Certificate(tls) => self.tls = tls,
            }
        }
    }

    fn tick(&mut self, now: Instant) {
        if now < self.next_tick {
            return;
        }
        self.next_tick = now + TICK;
        self.accept_waits = false;
        self.input(Input::Tick);
        self.io.end_overdue();
        self.io.tidy();
        self.tidy();
        self.io.hibernate_some();
        let (users, logs) = self.shard.in_memory();
        self.io.metrics().users_in_memory.set(users as u64);
        self.io.metrics().logs_in_memory.set(logs as u64);
        let Io { tracer, shared, .. } = &mut self.io;
        tracer.hand_over(&shared.traces);
        while let Some((deadline, id)) = self.handshakes.front().copied() {
            let under_way = self.io.conns.get(id).is_some_and(|conn| !conn.known && conn.moving.is_none());
            let over = under_way && self.io.conns.get(id).is_some_and(|conn| conn.is_shaking());
            if over && deadline > now {
                break;
            }
            self.handshakes.pop_front();
            if over {
                self.io.metrics().handshake_failures.add(1);
                self.io.abort(id);
            }
        }
    }

    /// Gives back what a crowd of newcomers has left.
    fn tidy(&mut self) {
        if self.hello_bytes.is_empty() && self.hello_bytes.capacity() > HELLOS_MAX * 4 {
            self.hello_bytes.shrink_to_fit();
            self.hellos.shrink_to_fit();
        }
        if self.handshakes.capacity() > 64 && self.handshakes.len() * 8 < self.handshakes.capacity() {
            self.handshakes.shrink_to_fit();
        }
    }

    fn end_turn(&mut self) {
        for id in std::mem::take(&mut self.io.starved) {
            self.after_reading(id);
        }
        while !self.io.gone.is_empty()
            || !self.io.drained.is_empty()
            || !self.io.dirty.is_empty()
            || !self.io.resumable.is_empty()
        {
            for id in std::mem::take(&mut self.io.resumable) {
                self.go_on_reading(id);
            }
            for id in std::mem::take(&mut self.io.gone) {
                tracing::debug!(core = self.io.core.0, conn = id.index, "closed");
                self.input(Input::Closed(id));
                self.io.conns.release(id);
            }
            for id in std::mem::take(&mut self.io.drained) {
                self.input(Input::Drained(id));
            }
            self.io.flush();
        }
        self.shard.end_turn(&mut self.io);
        self.io.tracer.flushed();
        let Io { mesh, ring, rings, shared, core, .. } = &mut self.io;
        mesh.flush(|to| {
            shared.metrics.core(core.0).mesh_wakes.add(1);
            ring.wake(rings[usize::from(to.0)]);
        });
        let hellos_max = if self.accepting { HELLOS_MAX } else { HELLOS_MAX / 2 };
        let no_place = self.io.conns.len() + self.arriving.len() >= self.io.shared.accept_max;
        self.io.shared.full[usize::from(self.io.core.0)].store(no_place, Ordering::Release);
        // When no core has a place, newcomers are told so.
        let others_have = no_place && !self.io.shared.full.iter().all(|full| full.load(Ordering::Acquire));
        let full = others_have || self.hellos.len() >= hellos_max;
        if self.accepting && full && !self.accept_stopped {
            // What is accepted without room would be lost; other cores have some, perhaps.
            self.accept_stopped = true;
            self.io.ring.stop_accepting();
        } else if !self.accepting && !self.accept_waits && !full && self.draining.is_none() {
            (self.accepting, self.accept_stopped) = (true, false);
            let Io { ring, shared, .. } = &mut self.io;
            ring.accept(&shared.listener);
        }
    }

    fn count(&mut self, began: Instant) {
        let (connections, backlog) = (self.io.conns.len() as u64, self.backlog() as u64);
        let now_ms = self.io.shared.clock.now_ms();
        let strangers = self.io.strangers.len() as u64;
        let metrics = self.io.metrics();
        metrics.turns.add(1);
        metrics.turn_us.record(began.elapsed().as_micros() as u64);
        metrics.connections.set(connections);
        metrics.strangers.set(strangers);
        metrics.sessions.set(connections.saturating_sub(strangers));
        metrics.handshaking.set(self.handshakes.len() as u64);
        metrics.commits_in_flight.set(self.shard.commits_in_flight() as u64);
        metrics.mesh_backlog.set(backlog);
        metrics.last_turn_timestamp_ms.set(now_ms);
    }

    /// Whether the core may stop: at once when the store or another core has failed, with all others when draining.
    fn is_done(&self) -> bool {
        let shared = &self.io.shared;
        if shared.store.failed().is_some() || shared.core_failed.load(Ordering::Acquire) {
            return true;
        }
        let Some(deadline) = self.draining else { return false };
        let nothing_comes = self.arriving.is_empty() && !self.io.mesh.has_messages() && self.backlog() == 0;
        let empty = self.io.conns.len() == 0 && self.shard.is_quiet() && nothing_comes;
        shared.done[usize::from(self.io.core.0)]
            .store(empty || Instant::now() >= deadline, Ordering::Release);
        shared.done.iter().all(|done| done.load(Ordering::Acquire))
    }
}

/// The peer sends no more: the connection ends when all that was asked for has been answered.
fn finished(shard: &mut Shard, io: &mut Io, id: ConnId) {
    let Some(conn) = io.conns.get(id).filter(|conn| conn.end == End::None) else { return };
    if !conn.known {
        return io.end(id);
    }
    if !std::mem::replace(&mut conn.finished, true) {
        io.end_in_time(id);
        let now_ms = io.shared.clock.now_ms();
        shard.handle(now_ms, Input::Finished(id), io);
    }
}

/// The work of opening what one connection has sent. Its record layer is out of the connection meanwhile, so that the
/// brain can queue answers to it.
struct Open<'a> {
    shard: &'a mut Shard,
    io: &'a mut Io,
    id: ConnId,
    /// Frames that it may still have read in this turn.
    left: u32,
    /// Plaintext behind a frame after which the connection is not read any more.
    rest: Vec<u8>,
}

impl<'a> Open<'a> {
    fn new(shard: &'a mut Shard, io: &'a mut Io, id: ConnId) -> Self {
        let is_stranger = io.conns.get(id).is_some_and(|conn| conn.stranger);
        let left = if is_stranger { STRANGER_FRAMES_AT_ONCE } else { FRAMES_PER_TURN };
        Self { shard, io, id, left, rest: Vec::new() }
    }

    fn receive(&mut self, mut records: Box<Records>, bytes: &mut Vec<u8>) {
        let mut out = Vec::new();
        let opened = if !self.io.reads(self.id) && !bytes.is_empty() {
            // It moves on, or waits, from the frames before: what follows stays sealed.
            self.keep_sealed(bytes);
            Ok(Opened::Open)
        } else {
            records.open(bytes, &mut out, &mut |plaintext| self.frames(plaintext))
        };
        let rest = std::mem::take(&mut self.rest);
        if let Some(conn) = self.io.conns.get(self.id) {
            if !out.is_empty() {
                conn.queue().sealed.append(&mut out);
            }
            if let Some(moving) = &mut conn.moving {
                moving.plaintext = rest;
            } else if conn.paused {
                self.io.unread.entry(self.id).or_default().plaintext = rest;
            }
        }
        self.io.mark_dirty(self.id);
        self.io.put_back(self.id, records);
        let sealed = |conn: &Conn| conn.queue.as_deref().map_or(0, |queue| queue.sealed.len());
        let unsent = |conn: &mut Conn| conn.end == End::None && sealed(conn) > KEY_ANSWERS_BYTES_MAX;
        if self.io.conns.get(self.id).is_some_and(unsent) {
            // It updates its keys on and on, and takes none of the answers.
            return self.io.abort(self.id);
        }
        match opened {
            Ok(Opened::Open) => {}
            Ok(Opened::Closed) => self.closed(),
            Err(error) => {
                tracing::debug!(core = self.io.core.0, conn = self.id.index, %error, "a TLS connection failed");
                self.io.end(self.id);
            }
        }
    }

    fn keep_sealed(&mut self, bytes: &mut Vec<u8>) {
        match self.io.conns.get(self.id) {
            Some(Conn { moving: Some(moving), .. }) => moving.ciphertext.append(bytes),
            Some(conn) if conn.paused => {
                self.io.unread.entry(self.id).or_default().ciphertext.append(bytes);
            }
            _ => {}
        }
    }

    /// The peer has said that it sends no more.
    fn closed(&mut self) {
        match self.io.conns.get(self.id) {
            // First what it has sent before is read.
            Some(conn) if conn.paused => conn.eof = true,
            Some(conn) if conn.moving.is_some() => self.io.end(self.id),
            _ => finished(self.shard, self.io, self.id),
        }
    }

    /// Hands the frames of a piece of plaintext to the brain.
    fn frames(&mut self, plaintext: &[u8]) {
        if !self.io.reads(self.id) {
            return self.rest.extend_from_slice(plaintext);
        }
        let Some(conn) = self.io.conns.get(self.id) else { return };
        let mut buffer = conn.frames.take().map_or_else(FrameBuffer::default, |buffer| *buffer);
        let mut frames = buffer.read(plaintext);
        loop {
            if self.left == 0 && !frames.is_empty() {
                self.io.queue_up(self.id);
            }
            if !self.io.reads(self.id) {
                self.rest = frames.into_rest();
                break;
            }
            let now_ms = self.io.shared.clock.now_ms();
            match frames.next(self.shard.frame_bytes_max(self.id)) {
                Ok(Some(_))
                    if self.io.conns.get(self.id).is_some_and(|conn| conn.stranger)
                        && self.io.asks_too_much(self.id) =>
                {
                    let farewell = Farewell {
                        reconnect_after_ms: 1000,
                        ..Farewell::new(Reason::RateLimited, "too much was asked for without a Login")
                    };
                    self.shard.handle(now_ms, Input::Broken(self.id, farewell), self.io);
                    break;
                }
                Ok(Some(frame)) => {
                    self.left = self.left.saturating_sub(1);
                    self.io.frames_read += 1;
                    self.io.metrics().frames_in.add(1);
                    self.shard.handle(now_ms, Input::Frame(self.id, frame), self.io);
                }
                Ok(None) => break,
                Err(FrameError::TooLarge { .. }) => {
                    let farewell =
                        Farewell::new(Reason::FrameTooLarge, "a frame is longer than Limits allow");
                    self.shard.handle(now_ms, Input::Broken(self.id, farewell), self.io);
                    break;
                }
            }
        }
        if let Some(conn) = self.io.conns.get(self.id) {
            conn.frames = (!buffer.is_empty()).then(|| Box::new(buffer));
        }
    }
}
