//! Newcomers: accepted, asked where they are, and through their handshakes. Those who are there go before those who come.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tern_shard::Input;
use tern_shard::reply::ConnId;
use tern_wire::proxy;
use tern_wire::tls::{Established, Progress};

use super::super::conn::{Conn, Heading, Shaking, Tls, token};
use super::super::life::{Event, Life, Phase};
use super::Worker;

/// Handshakes that a turn begins, of 0.1 ms each: so long waits everybody else. A turn that is long for other reasons begins
/// more, for a fourth of its time, so that newcomers do not wait for many such turns.
const HELLOS_PER_TURN: usize = 2;

/// Bytes of a first flight that waits: far more than any client sends.
const HELLO_BYTES_MAX: usize = 8 << 10;

/// First flights that wait to be taken up. From here on nothing more is accepted until half of them are: other cores do, or
/// connections wait in the kernel's queue, in order. (What an accept has taken already is not given back.)
pub(super) const HELLOS_MAX: usize = 16;

impl Worker {
    pub(super) fn accepted(&mut self, slot: u32) {
        self.io.metrics().accepts.add(1);
        if self.draining.is_some() {
            return self.io.ring.close(slot);
        }
        if self.io.conns.len() >= self.io.shared.accept_max {
            // No core has a place: who is told at once tries again elsewhere, or later.
            self.io.metrics().connections_refused.add(1);
            return self.io.ring.close(slot);
        }
        let shaking = Shaking { accepted: Instant::now(), handshake: None };
        let until = self.io.now.after(self.io.shared.handshake_timeout);
        let conn = Conn::new(slot, Tls::Handshake(Box::new(shaking)), Life::accepted(until));
        let id = self.io.conns.insert(conn);
        self.handshakes.push_back((until, id));
        self.io.ring.keep_small(slot);
        self.io.ring.ask_peer(token(id), slot, self.io.shared.is_ipv6);
    }

    /// It is known where a newcomer is: it has a place, or goes.
    pub(super) fn peer_known(&mut self, id: ConnId, address: Option<[u8; 16]>) {
        let waits = self.io.conns.get(id).is_some_and(|conn| conn.life.is_accepting());
        let Some(address) = address.filter(|_| waits) else { return self.io.on(id, Event::Refused) };
        let by_balancer = self.io.shared.proxies.iter().any(|range| range.holds(address));
        if !self.io.admit(id, address, false, !by_balancer) {
            return self.io.on(id, Event::Refused);
        }
        if by_balancer {
            let conn = self.io.conns.get(id).expect("it has just been let in");
            let shaking = conn.take_handshake();
            conn.tls = Tls::Heading(Box::new(Heading { bytes: Vec::new(), shaking }));
        }
        self.io.on(id, Event::Admitted { by_balancer });
    }

    /// What a balancer says before its client does.
    pub(super) fn heading(&mut self, id: ConnId, bytes: &[u8]) {
        let conn = self.io.conns.get(id).expect("it has just received something");
        let Tls::Heading(mut heading) = std::mem::replace(&mut conn.tls, Tls::Gone) else {
            unreachable!("a balancer's connection has its heading until that is whole")
        };
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
                return self.io.on(id, Event::Abort);
            }
        };
        let Heading { bytes, shaking } = *heading;
        conn.tls = Tls::Handshake(Box::new(shaking));
        self.io.on(id, Event::Headed);
        if let Some(source) = header.source {
            self.io.is_no_stranger(id);
            if !self.io.admit(id, source, true, true) {
                return self.io.on(id, Event::Abort);
            }
        }
        if bytes.len() > header.bytes {
            self.hello(id, &bytes[header.bytes..]);
        }
    }

    /// Has a first flight, or more of it, wait.
    pub(super) fn hello(&mut self, id: ConnId, bytes: &[u8]) {
        let waiting = self.hello_bytes.entry(id).or_insert_with(|| {
            self.hellos.push_back(id);
            Vec::new()
        });
        waiting.extend_from_slice(bytes);
        if waiting.len() > HELLO_BYTES_MAX {
            self.io.metrics().handshake_failures.add(1);
            self.io.on(id, Event::Abort);
        }
    }

    /// Takes up first flights that wait.
    pub(super) fn take_hellos(&mut self, time: Duration) {
        let (mut begun, begin) = (0, Instant::now());
        while (begun < HELLOS_PER_TURN || begin.elapsed() < time)
            && let Some(id) = self.hellos.pop_front()
        {
            let bytes = self.hello_bytes.remove(&id).unwrap_or_default();
            if self.io.conns.get(id).is_some_and(|conn| conn.life.phase() == Phase::Greeting) {
                begun += 1;
                self.shake_hands(id, &bytes);
                self.io.on(id, Event::Read);
            }
        }
    }

    pub(super) fn shake_hands(&mut self, id: ConnId, bytes: &[u8]) {
        let conn = self.io.conns.get(id).expect("it has just received something");
        let Shaking { accepted, handshake } = conn.take_handshake();
        let mut out = Vec::new();
        let handshake = handshake.map_or_else(|| self.tls.handshake(), Ok);
        let progress = handshake.and_then(|handshake| handshake.receive(bytes, &mut out));
        let answered = !out.is_empty();
        if answered {
            conn.queue().sealed.append(&mut out);
            self.io.on(id, Event::Queued);
        }
        match progress {
            Ok(Progress::Continue(handshake)) => {
                let conn = self.io.conns.get(id).expect("nothing has ended it");
                conn.tls = Tls::Handshake(Box::new(Shaking { accepted, handshake: Some(handshake) }));
                if answered {
                    // Until its first flight is whole, what follows waits in the queue as well.
                    self.io.on(id, Event::Answered);
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
                self.io.on(id, Event::End);
            }
        }
    }

    fn established(&mut self, id: ConnId, established: Established) {
        self.io.metrics().handshakes.add(1);
        self.io.on(id, Event::Established);
        // Its keys are expanded.
        self.io.touch(id);
        let number = self.io.shared.opened.fetch_add(1, Ordering::Relaxed);
        self.input(Input::Opened(id, number));
        let Established { records, plaintext, ciphertext, resumed, tickets: _ } = established;
        self.io.metrics().handshakes_resumed.add(u64::from(resumed));
        self.read_on(id, records, &plaintext, ciphertext);
    }

    /// Ends handshakes that take too long.
    pub(super) fn end_slow_handshakes(&mut self) {
        while let Some((until, id)) = self.handshakes.front().copied() {
            let is_shaking = self.io.conns.get(id).is_some_and(|conn| conn.life.is_shaking());
            if is_shaking && !self.io.now.has_reached(until) {
                break;
            }
            self.handshakes.pop_front();
            if is_shaking {
                self.io.metrics().handshake_failures.add(1);
                self.io.on(id, Event::Deadline);
            }
        }
    }

    /// Gives back what a crowd of newcomers has left.
    pub(super) fn tidy(&mut self) {
        if self.hello_bytes.is_empty() && self.hello_bytes.capacity() > HELLOS_MAX * 4 {
            self.hello_bytes.shrink_to_fit();
            self.hellos.shrink_to_fit();
        }
        if self.handshakes.capacity() > 64 && self.handshakes.len() * 8 < self.handshakes.capacity() {
            self.handshakes.shrink_to_fit();
        }
    }
}
