//! The loop of a core.

mod accepting;
mod handshakes;
mod reading;

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use tern_shard::reply::ConnId;
use tern_shard::{Input, Shard};
use tern_storage::Completion;
use tern_wire::tls::TlsServer;

use super::CoreMessage;
use super::conn::Moved;
use super::io::Io;
use super::life::{Event as Life, Moment};
use super::link::{Call, CoreLink};
use super::trace::{CpuTime, thread_cpu_ns};
use crate::control::CoreLoad;
use tern_uring::{Event, TransferId};

/// How often the brain is told that time passes.
const TICK: Duration = Duration::from_millis(100);

/// Messages taken from each other core in one turn.
const MESSAGES_PER_TURN_MAX: usize = 1024;

/// Handshakes between two ticks from which on many newcomers come: a few percent of a core's time.
const MANY_COME: u64 = 32;

/// How long a draining core waits for its connections to close.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// One core.
pub(super) struct Worker {
    shard: Shard,
    io: Io,
    link: CoreLink,
    /// Of the newest certificate, and the newest keys of tickets.
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
    handshakes: VecDeque<(Moment, ConnId)>,
    /// How many handshakes there had been at the last tick.
    handshakes_before: u64,
    /// Connections of which one half has come: the descriptor or all else.
    arriving: HashMap<TransferId, Half>,
    questions_asked: u64,
    next_tick: Instant,
    draining: Option<Instant>,
    /// The newest table whose move is over here.
    settled: u64,
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
            handshakes_before: 0,
            arriving: HashMap::new(),
            questions_asked: 0,
            next_tick: Instant::now() + TICK,
            draining: None,
            settled: 0,
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
            self.io.turn_begins(began);
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
            self.io.end_waits();
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
            || !self.io.queue.is_empty()
            || !self.hellos.is_empty();
        let backlog = self.backlog() > 0;
        Some(if has_work {
            Duration::ZERO
        } else if backlog {
            // Another core's ring is full, and nobody tells when it has room.
            Duration::from_micros(50)
        } else {
            self.until_due()
        })
    }

    /// How long until something is to be done though nothing comes.
    fn until_due(&self) -> Duration {
        let now = Instant::now();
        let until_tick = self.next_tick.saturating_duration_since(now);
        let frames = self.io.lazy_until(self.io.moment(now));
        let writes = self.shard.lazy_for_ms(self.io.shared.clock.now_ms()).map(Duration::from_millis);
        [frames, writes].into_iter().flatten().fold(until_tick, Duration::min)
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
            Event::AcceptEnded { error } => self.accept_ended(&error),
            Event::Peer { conn, address } => self.peer_known(self.io.id_of(conn), address.ok()),
            Event::Received { conn, lease, armed } => self.received(self.io.id_of(conn), lease, armed),
            Event::ReceiveEnded { conn, why } => self.receive_ended(self.io.id_of(conn), &why),
            Event::Sent { conn, buffer, upto, error } => {
                self.io.sent(self.io.id_of(conn), buffer, upto, error.is_some());
            }
            Event::ShutDown { conn } => self.io.on(self.io.id_of(conn), Life::ShutDown),
            Event::Given { conn, result } => {
                self.io.on(self.io.id_of(conn), Life::Given { arrived: result.is_ok() });
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
        while let Some((log, number, verdict)) = self.link.next_seen() {
            self.input(Input::Seen(log, number, verdict));
        }
        while let Some(pushed) = self.link.next_pushed() {
            self.input(Input::Pushed(pushed));
        }
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
                    for id in self.io.conns.ids() {
                        self.io.on(id, Life::Drain);
                    }
                }
                Call::Drain => {}
                Call::Tls(tls) => self.tls = tls,
                Call::Slots(table) => self.input(Input::Slots(table)),
                Call::Load(asker) => {
                    let metrics = self.io.metrics();
                    let load = CoreLoad {
                        cpu_ns: thread_cpu_ns(),
                        slots: self.shard.loads().into(),
                        commits_us: metrics.commit_us.read().0,
                        turns_us: metrics.turn_us.read().0,
                    };
                    // Who has given up is not told.
                    let _ = asker.try_send(load);
                }
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
        let handshakes = self.io.metrics().handshakes.get();
        let came = handshakes - std::mem::replace(&mut self.handshakes_before, handshakes);
        self.io.hibernate_some(came >= MANY_COME);
        let (users, logs) = self.shard.in_memory();
        self.io.metrics().users_in_memory.set(users as u64);
        self.io.metrics().logs_in_memory.set(logs as u64);
        let (asks, late) = self.shard.asks();
        self.io.metrics().asks.set(asks as u64);
        self.io.metrics().answers_dropped.set(late);
        let Io { tracer, shared, .. } = &mut self.io;
        tracer.hand_over(&shared.traces);
        self.end_slow_handshakes();
    }

    fn end_turn(&mut self) {
        for id in std::mem::take(&mut self.io.starved) {
            self.io.on(id, Life::BuffersBack);
        }
        while self.has_news() {
            self.tell_news();
            self.io.flush();
        }
        let now_ms = self.io.shared.clock.now_ms();
        self.shard.end_turn(now_ms, &mut self.io);
        self.io.tracer.flushed();
        let Io { mesh, ring, rings, shared, core, .. } = &mut self.io;
        mesh.flush(|to| {
            shared.metrics.core(core.0).mesh_wakes.add(1);
            ring.wake(rings[usize::from(to.0)]);
        });
        self.accept_or_not();
        self.tell_of_moves();
    }

    /// Says when the move of a slot is over here.
    fn tell_of_moves(&mut self) {
        let version = self.shard.slots_version();
        if version != self.settled && self.shard.slots_moving() == 0 {
            self.settled = version;
            self.io.shared.moves.is_settled(self.io.core.0, version);
        }
    }

    /// Whether the brain is to be told of connections, or some are read on, or have something to send.
    fn has_news(&self) -> bool {
        let io = &self.io;
        let lists = [&io.resumable, &io.gone, &io.finished, &io.drained, &io.dirty];
        lists.into_iter().any(|list| !list.is_empty()) || !io.stayed.is_empty() || !io.lost.is_empty()
    }

    fn tell_news(&mut self) {
        for (id, arrival) in std::mem::take(&mut self.io.stayed) {
            self.arrived(id, arrival);
        }
        for arrival in std::mem::take(&mut self.io.lost) {
            self.input(Input::Lost(arrival));
        }
        for id in std::mem::take(&mut self.io.resumable) {
            self.go_on_reading(id, Life::Resumed);
        }
        for id in std::mem::take(&mut self.io.gone) {
            tracing::debug!(core = self.io.core.0, conn = id.index, "closed");
            self.input(Input::Closed(id));
            self.io.conns.release(id);
        }
        for id in std::mem::take(&mut self.io.finished) {
            self.input(Input::Finished(id));
        }
        for id in std::mem::take(&mut self.io.drained) {
            self.input(Input::Drained(id));
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
        // What devices were told leaves the outbox, which its core writes: who was told is not told again after the next start.
        let all_told =
            shared.pushes.as_ref().is_none_or(|pushes| pushes.is_quiet()) && !self.link.has_calls();
        let empty = self.io.conns.is_empty() && self.shard.is_quiet() && nothing_comes && all_told;
        shared.done[usize::from(self.io.core.0)]
            .store(empty || Instant::now() >= deadline, Ordering::Release);
        shared.done.iter().all(|done| done.load(Ordering::Acquire))
    }
}
