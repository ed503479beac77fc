//! A bare echo on one ring, over TCP alone or in TLS records: what a message costs at least that comes in and goes out, and how long it
//! takes at a rate.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tern_bench::crypto::Pair;
use tern_uring::{ConnToken, Event, Missing, Ring, RingOptions, eventfd_waker, socket_from};
use tern_wire::tls::Records;

use crate::latency::{Micros, micros, record};
use crate::load::{Arrivals, Schedule};

/// An echo to be measured.
pub struct Echo<'a> {
    pub time: Duration,
    /// Bytes of a message.
    pub size: usize,
    pub connections: u32,
    pub tls: Option<&'a Pair>,
    /// Messages a second of all connections together, whatever comes back (open loop). Without one, each connection has one message
    /// on its way.
    pub rate: Option<f64>,
}

/// What was found.
pub struct Echoed {
    /// CPU time of the echoing thread a message, in microseconds.
    pub cpu_us: f64,
    /// From the intended moment until it is back; empty without a rate.
    pub latencies: Micros,
}

/// One end of each connection.
struct End {
    ring: Ring,
    records: Vec<Option<Box<Records>>>,
    size: usize,
    /// Opened bytes of a message that has not come whole.
    partial: Vec<usize>,
    messages: u64,
    pace: Option<Pace>,
}

/// The driving end of an open loop.
struct Pace {
    schedule: Schedule,
    begin: Instant,
    /// The connection whose turn it is.
    turn: u32,
    /// When what is on its way was to be sent, by connection.
    waiting: Vec<VecDeque<Duration>>,
    latencies: Micros,
}

fn ring(connections: u32) -> io::Result<Ring> {
    let options = RingOptions {
        entries: 1024,
        completions: 8192,
        files: connections + 1,
        receive_buffers: 256,
        receive_buffer_bytes: 4096,
    };
    Ring::new(&options, eventfd_waker()?).map_err(|missing| match missing {
        Missing::Ring(error) => error,
        Missing::Operation(name) => io::Error::other(name),
    })
}

/// CPU time of this thread.
pub fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Measures one.
pub fn run(echo: &Echo<'_>) -> io::Result<Echoed> {
    let Echo { time, size, connections, tls, rate } = *echo;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (mut servers, mut clients) = (Vec::new(), Vec::new());
    for _ in 0..connections {
        // Both ends agree on their keys beforehand: handshakes are measured elsewhere.
        let pair = tls.map(|tls| tls.connect().map_err(io::Error::other)).transpose()?;
        let (server, client) = pair.map_or((None, None), |(server, client, _)| (Some(server), Some(client)));
        servers.push(server);
        clients.push(client);
    }
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let (listener, stop) = (&listener, &stop);
        let echoing = scope.spawn(move || {
            let mut end = End::new(connections, servers, size)?;
            end.ring.accept(listener);
            end.turns(stop, None)
        });
        let driver = scope.spawn(move || {
            let mut end = End::new(connections, clients, size)?;
            let driven = end.drive(address, time, rate);
            stop.store(true, Ordering::Release);
            driven.map(|()| end.pace.map_or_else(micros, |pace| pace.latencies))
        });
        let latencies = driver.join().map_err(|_| io::Error::other("the driving thread has panicked"))??;
        let (messages, cpu) =
            echoing.join().map_err(|_| io::Error::other("the echoing thread has panicked"))??;
        Ok(Echoed { cpu_us: cpu.as_secs_f64() * 1e6 / messages.max(1) as f64, latencies })
    })
}

impl End {
    fn new(connections: u32, records: Vec<Option<Box<Records>>>, size: usize) -> io::Result<Self> {
        let partial = vec![0; connections as usize + 1];
        Ok(Self { ring: ring(connections)?, records, size, partial, messages: 0, pace: None })
    }

    fn drive(&mut self, server: SocketAddr, time: Duration, rate: Option<f64>) -> io::Result<()> {
        self.connect(server)?;
        // Connecting is not of the time: where others use the machine too it may take as long.
        let begin = Instant::now();
        let Some(rate) = rate else {
            for slot in 0..self.connections() {
                self.send(slot, self.size)?;
            }
            return self.turns(&AtomicBool::new(false), Some(begin + time)).map(drop);
        };
        self.pace = Some(Pace {
            schedule: Schedule::new(Arrivals::Poisson, rate, 1),
            begin,
            turn: 0,
            waiting: vec![VecDeque::new(); self.records.len()],
            latencies: micros(),
        });
        let mut events = Vec::new();
        while begin.elapsed() < time {
            let wait = self.send_what_is_due()?;
            self.ring.turn(Some(wait), &mut events)?;
            for event in events.drain(..) {
                self.event(event)?;
            }
        }
        Ok(())
    }

    /// Sends what is due, and gives how long nothing else will be.
    fn send_what_is_due(&mut self) -> io::Result<Duration> {
        let connections = self.connections();
        let Some(pace) = &mut self.pace else { return Ok(Duration::ZERO) };
        let now = pace.begin.elapsed();
        let mut due = Vec::new();
        while let Some(intended) = pace.schedule.due(now) {
            pace.turn = (pace.turn + 1) % connections;
            pace.waiting[pace.turn as usize].push_back(intended);
            due.push(pace.turn);
        }
        let wait = pace.schedule.peek().saturating_sub(now);
        due.into_iter().try_for_each(|slot| self.send(slot, self.size))?;
        Ok(wait)
    }

    fn connections(&self) -> u32 {
        self.records.len() as u32
    }

    /// Connects one after another, so that each end counts them alike.
    fn connect(&mut self, server: SocketAddr) -> io::Result<()> {
        for slot in 0..self.connections() {
            let socket = socket_from(None, server)?;
            self.ring.adopt(slot, &socket)?;
            self.ring.connect(ConnToken::new(slot, 0), slot, server);
            let mut connected = false;
            while !connected {
                let mut events = Vec::new();
                self.ring.turn(Some(Duration::from_secs(1)), &mut events)?;
                for event in events {
                    match event {
                        Event::Connected { result, .. } => {
                            result?;
                            connected = true;
                        }
                        other => self.event(other)?,
                    }
                }
            }
            self.ring.receive(ConnToken::new(slot, 0), slot);
        }
        Ok(())
    }

    /// Turns until told to stop. Gives the messages, and the CPU time that they took.
    fn turns(&mut self, stop: &AtomicBool, until: Option<Instant>) -> io::Result<(u64, Duration)> {
        let mut events = Vec::new();
        let mut began = None;
        while !stop.load(Ordering::Acquire) && until.is_none_or(|until| Instant::now() < until) {
            self.ring.turn(Some(Duration::from_millis(50)), &mut events)?;
            if began.is_none() && self.messages > 1000 {
                began = Some((self.messages, cpu()));
            }
            for event in events.drain(..) {
                self.event(event)?;
            }
        }
        let (messages, before) = began.unwrap_or((0, Duration::ZERO));
        Ok((self.messages - messages, cpu() - before))
    }

    fn send(&mut self, slot: u32, bytes: usize) -> io::Result<()> {
        let plain = vec![b'x'; bytes];
        let buffer = match self.records.get_mut(slot as usize).and_then(Option::as_mut) {
            Some(records) => {
                let mut sealed = Vec::new();
                records.seal(&plain, &mut sealed).map_err(io::Error::other)?;
                sealed
            }
            None => plain,
        };
        self.ring.send(ConnToken::new(slot, 0), slot, buffer, 0);
        Ok(())
    }

    fn event(&mut self, event: Event) -> io::Result<()> {
        match event {
            Event::Accepted { slot } => self.ring.receive(ConnToken::new(slot, 0), slot),
            Event::Received { conn, lease, armed } => {
                let slot = conn.index;
                let bytes = self.ring.leased(&lease);
                let mut count = bytes.len();
                if let Some(records) = self.records.get_mut(slot as usize).and_then(Option::as_mut) {
                    count = 0;
                    let opened = records.open(bytes, &mut Vec::new(), &mut |piece| count += piece.len());
                    opened.map_err(io::Error::other)?;
                }
                self.ring.recycle(lease);
                if !armed {
                    self.ring.receive(conn, slot);
                }
                let partial = &mut self.partial[slot as usize];
                *partial += count;
                let whole = *partial / self.size;
                *partial %= self.size;
                self.messages += whole as u64;
                for _ in 0..whole {
                    match &mut self.pace {
                        None => self.send(slot, self.size)?,
                        Some(pace) => {
                            if let Some(intended) = pace.waiting[slot as usize].pop_front() {
                                record(&mut pace.latencies, pace.begin.elapsed().saturating_sub(intended));
                            }
                        }
                    }
                }
            }
            Event::ReceiveEnded { conn, why: tern_uring::Ended::NoBuffers } => {
                self.ring.receive(conn, conn.index)
            }
            _ => {}
        }
        Ok(())
    }
}
