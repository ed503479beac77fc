//! The order of what comes in: each entry once, without holes. Pure, so that it can be tested without a server.

use std::collections::{BTreeMap, HashMap};

use tern_proto::v1;

/// Entries held of one chat while those before them are missing. Beyond, the newest are dropped and read again.
const HELD_MAX: usize = 4096;

/// Entries that came before their turn.
#[derive(Debug, Default)]
pub(crate) struct Inbound {
    held: HashMap<u64, BTreeMap<u64, v1::Entry>>,
}

impl Inbound {
    /// Takes an entry of a chat that is stored up to `position`. Gives all that can be stored now, in order.
    pub(crate) fn take(&mut self, position: u64, entry: v1::Entry) -> Vec<v1::Entry> {
        let peer = entry.peer;
        if entry.seq > position {
            let held = self.held.entry(peer).or_default();
            held.insert(entry.seq, entry);
            if held.len() > HELD_MAX {
                held.pop_last();
            }
        }
        self.ready(peer, position)
    }

    fn ready(&mut self, peer: u64, position: u64) -> Vec<v1::Entry> {
        let mut ready = Vec::new();
        let Some(held) = self.held.get_mut(&peer) else { return ready };
        while let Some(first) = held.first_entry()
            && *first.key() <= position + ready.len() as u64 + 1
        {
            let entry = first.remove();
            if entry.seq > position + ready.len() as u64 {
                ready.push(entry);
            }
        }
        if held.is_empty() {
            self.held.remove(&peer);
        }
        ready
    }

    /// The chats in which something is missing before what came.
    pub(crate) fn gaps(&self) -> Vec<u64> {
        let mut peers: Vec<_> = self.held.keys().copied().collect();
        peers.sort_unstable();
        peers
    }

    /// Whether something is missing in a chat.
    pub(crate) fn has_gap(&self, peer: u64) -> bool {
        self.held.contains_key(&peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small generator: the order of arrival is the test's only randomness.
    fn shuffled(seed: u64, mut seqs: Vec<u64>) -> Vec<u64> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        for at in (1..seqs.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            seqs.swap(at, (state >> 33) as usize % (at + 1));
        }
        seqs
    }

    #[test]
    fn every_entry_comes_once_and_in_order_whatever_the_arrival() {
        for seed in 0..200 {
            let doubled = (1..=40).chain(5..=20).collect();
            let (mut inbound, mut position, mut seen) = (Inbound::default(), 0, Vec::new());
            for seq in shuffled(seed, doubled) {
                for entry in inbound.take(position, v1::Entry { peer: 9, seq, ..Default::default() }) {
                    position += 1;
                    seen.push(entry.seq);
                }
                assert_eq!(seen.len() as u64, position);
            }
            assert_eq!(seen, (1..=40).collect::<Vec<_>>(), "seed {seed}");
            assert!(inbound.gaps().is_empty(), "seed {seed}");
        }
    }

    #[test]
    fn a_hole_is_known_until_it_is_filled() {
        let mut inbound = Inbound::default();
        let entry = |seq| v1::Entry { peer: 9, seq, ..Default::default() };
        assert!(inbound.take(1, entry(3)).is_empty());
        assert!(inbound.has_gap(9));
        assert_eq!(inbound.take(1, entry(2)).len(), 2);
        assert!(!inbound.has_gap(9));
    }
}
