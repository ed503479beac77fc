//! The mesh: a lock-free ring for every ordered pair of cores, and the way a core that sleeps is woken.
//!
//! Messages of a pair arrive in order. What finds its ring full waits with the sender, in order too; how much that is
//! tells the brain when to refuse new work. A turn's messages wake their receiver once, at [`MeshEnd::flush`].

mod atomics;
mod sleep;

use std::collections::VecDeque;
use std::sync::Arc;

use rtrb::{Consumer, Producer, RingBuffer};
use tern_shard::slots::CoreId;

pub use sleep::Sleeper;

/// One core's end of the mesh.
#[derive(Debug)]
pub struct MeshEnd<T> {
    core: CoreId,
    to: Vec<Option<Outgoing<T>>>,
    from: Vec<Option<Consumer<T>>>,
    sleepers: Arc<[Sleeper]>,
}

#[derive(Debug)]
struct Outgoing<T> {
    ring: Producer<T>,
    waiting: VecDeque<T>,
    /// Something was pushed since the receiver was last told.
    untold: bool,
}

/// The ends of a mesh of `cores`, with rings of `capacity` messages.
pub fn mesh<T>(cores: u16, capacity: usize) -> Vec<MeshEnd<T>> {
    let sleepers: Arc<[Sleeper]> = (0..cores).map(|_| Sleeper::default()).collect();
    let count = usize::from(cores);
    let mut ends: Vec<_> = (0..cores)
        .map(|core| MeshEnd {
            core: CoreId(core),
            to: Vec::new(),
            from: (0..count).map(|_| None).collect(),
            sleepers: sleepers.clone(),
        })
        .collect();
    for sender in 0..count {
        for receiver in 0..count {
            let outgoing = (sender != receiver).then(|| {
                let (producer, consumer) = RingBuffer::new(capacity);
                ends[receiver].from[sender] = Some(consumer);
                Outgoing { ring: producer, waiting: VecDeque::new(), untold: false }
            });
            ends[sender].to.push(outgoing);
        }
    }
    ends
}

impl<T> MeshEnd<T> {
    /// Which core's end it is.
    pub fn core(&self) -> CoreId {
        self.core
    }

    /// What tells whether a core sleeps; shared with the plain threads that wake it.
    pub fn sleepers(&self) -> Arc<[Sleeper]> {
        self.sleepers.clone()
    }

    /// Sends a message. It leaves at once if there is room, and with a later [`MeshEnd::flush`] if not.
    ///
    /// # Panics
    /// If `to` is this core.
    pub fn send(&mut self, to: CoreId, message: T) {
        let outgoing = self.to[usize::from(to.0)].as_mut().expect("a core does not send to itself");
        outgoing.untold = true;
        if !outgoing.waiting.is_empty() {
            outgoing.waiting.push_back(message);
        } else if let Err(rtrb::PushError::Full(message)) = outgoing.ring.push(message) {
            outgoing.waiting.push_back(message);
        }
    }

    /// Messages to a core that found no room.
    pub fn backlog(&self, to: CoreId) -> usize {
        self.to[usize::from(to.0)].as_ref().map_or(0, |outgoing| outgoing.waiting.len())
    }

    /// Sends what waits as far as there is room, and calls `wake` for each receiver that sleeps. `true` if something
    /// still waits: the caller must not sleep for long.
    pub fn flush(&mut self, mut wake: impl FnMut(CoreId)) -> bool {
        let mut waits = false;
        for (core, outgoing) in self.to.iter_mut().enumerate() {
            let Some(outgoing) = outgoing else { continue };
            while let Some(message) = outgoing.waiting.pop_front() {
                if let Err(rtrb::PushError::Full(message)) = outgoing.ring.push(message) {
                    outgoing.waiting.push_front(message);
                    waits = true;
                    outgoing.untold = true;
                    break;
                }
            }
            if std::mem::take(&mut outgoing.untold) && self.sleepers[core].claim() {
                wake(CoreId(core as u16));
            }
        }
        waits
    }

    /// Takes the next message, from the cores in turn: up to `max` of each.
    pub fn drain(&mut self, max: usize, mut take: impl FnMut(T)) {
        for ring in self.from.iter_mut().flatten() {
            for _ in 0..max {
                match ring.pop() {
                    Ok(message) => take(message),
                    Err(rtrb::PopError::Empty) => break,
                }
            }
        }
    }

    /// Whether messages wait to be taken.
    pub fn has_messages(&self) -> bool {
        self.from.iter().flatten().any(|ring| !ring.is_empty())
    }

    /// This core's sleeper.
    pub fn sleeper(&self) -> &Sleeper {
        &self.sleepers[usize::from(self.core.0)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_arrives_whole_and_in_order_for_every_pair() {
        const CORES: u16 = 4;
        const EACH: u64 = 20_000;
        let ends = mesh::<(u16, u64)>(CORES, 64);
        std::thread::scope(|scope| {
            for mut end in ends {
                scope.spawn(move || {
                    let me = end.core();
                    let others: Vec<_> = (0..CORES).map(CoreId).filter(|core| *core != me).collect();
                    let mut next = [0u64; CORES as usize];
                    let mut sent = 0;
                    loop {
                        if sent < EACH {
                            others.iter().for_each(|to| end.send(*to, (me.0, sent)));
                            sent += 1;
                        }
                        let waits = end.flush(|_| {});
                        end.drain(100, |(from, number)| {
                            assert_eq!(number, next[usize::from(from)], "from {from} to {me:?}");
                            next[usize::from(from)] += 1;
                        });
                        let all_here = others.iter().all(|core| next[usize::from(core.0)] == EACH);
                        if sent == EACH && !waits && all_here {
                            return;
                        }
                        std::thread::yield_now();
                    }
                });
            }
        });
    }

    #[test]
    fn what_finds_no_room_keeps_its_place() {
        let mut ends = mesh::<u64>(2, 2);
        let mut receiver = ends.pop().expect("two ends");
        let mut sender = ends.pop().expect("two ends");
        for number in 0..5 {
            sender.send(CoreId(1), number);
        }
        assert_eq!(sender.backlog(CoreId(1)), 3);
        let mut taken = Vec::new();
        for _ in 0..3 {
            receiver.drain(usize::MAX, |number| taken.push(number));
            sender.flush(|_| {});
        }
        receiver.drain(usize::MAX, |number| taken.push(number));
        assert_eq!(taken, [0, 1, 2, 3, 4]);
        assert_eq!(sender.backlog(CoreId(1)), 0);
    }
}
