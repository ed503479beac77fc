//! Session tickets (RFC 8446, section 4.6.1): what the server wants to know of a session when its client comes back, sealed and
//! given to the client to keep.
//!
//! A ticket is the number of its key, a nonce, and sealed with AES-256-GCM-SIV (RFC 8452) the time at which that was done and
//! what rustls wants to know. Nonces are random, and many nodes seal with one key; so it is the cipher of which a nonce that
//! comes twice tells no more than that the same was sealed twice.
//!
//! Which keys there are is decided elsewhere. A set of them never changes: another one is another [`Tickets`].

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand;
use rustls::server::ProducesTickets;

/// Bytes of a ticket key.
pub const TICKET_KEY_BYTES: usize = 32;

/// How long a ticket may be good, in seconds (RFC 8446, section 4.6.1).
pub const TICKET_VALID_S_MAX: u32 = 7 * 24 * 3600;

const ID_BYTES: usize = 8;
const TIME_BYTES: usize = 8;
const HEAD_BYTES: usize = ID_BYTES + NONCE_LEN;

/// The time, in seconds since the Unix epoch.
pub type Now = Arc<dyn Fn() -> u64 + Send + Sync>;

/// A key, ready to use.
pub struct TicketKey {
    id: [u8; ID_BYTES],
    /// From when on it seals.
    from_s: u64,
    key: LessSafeKey,
}

/// What seals tickets, and opens them.
#[derive(Clone)]
pub struct Tickets {
    /// In the order in which they seal.
    keys: Arc<[TicketKey]>,
    valid_s: u32,
    now: Now,
}

/// Shows no key.
impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketKey").field("from_s", &self.from_s).finish_non_exhaustive()
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { keys, valid_s, now: _ } = self;
        f.debug_struct("Tickets").field("keys", keys).field("valid_s", valid_s).finish_non_exhaustive()
    }
}

impl TicketKey {
    /// A key that seals from this time on, until a later one does.
    pub fn new(id: u64, from_s: u64, key: &[u8; TICKET_KEY_BYTES]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM_SIV, key).expect("a key of the algorithm's own length");
        Self { id: id.to_be_bytes(), from_s, key: LessSafeKey::new(key) }
    }
}

impl Tickets {
    /// Tickets under these keys, each good for so long: at most [`TICKET_VALID_S_MAX`].
    pub fn new(mut keys: Vec<TicketKey>, valid_s: u32, now: Now) -> Self {
        keys.sort_by_key(|key| key.from_s);
        Self { keys: keys.into(), valid_s: valid_s.min(TICKET_VALID_S_MAX), now }
    }

    /// Seals what is to be known again. `None` without a key.
    fn seal(&self, plain: &[u8], now_s: u64, nonce: [u8; NONCE_LEN]) -> Option<Vec<u8>> {
        // A clock that was set back is before all of them.
        let key = self.keys.iter().rfind(|key| key.from_s <= now_s).or(self.keys.first())?;
        let mut ticket =
            Vec::with_capacity(HEAD_BYTES + TIME_BYTES + plain.len() + AES_256_GCM_SIV.tag_len());
        ticket.extend_from_slice(&key.id);
        ticket.extend_from_slice(&nonce);
        ticket.extend_from_slice(&now_s.to_be_bytes());
        ticket.extend_from_slice(plain);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let sealed = &mut ticket[HEAD_BYTES..];
        let tag = key.key.seal_in_place_separate_tag(nonce, Aad::from(key.id), sealed).ok()?;
        ticket.extend_from_slice(tag.as_ref());
        Some(ticket)
    }

    /// What was sealed, if it was with one of these keys, and not too long ago.
    fn open(&self, ticket: &[u8], now_s: u64) -> Option<Vec<u8>> {
        let (id, rest) = ticket.split_first_chunk::<ID_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let key = self.keys.iter().find(|key| key.id == *id)?;
        let mut bytes = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = key.key.open_in_place(nonce, Aad::from(*id), &mut bytes).ok()?;
        let (sealed_s, plain) = opened.split_first_chunk::<TIME_BYTES>()?;
        // Of a node whose clock is ahead it is from the future.
        let is_good = u64::from_be_bytes(*sealed_s).abs_diff(now_s) < u64::from(self.valid_s);
        is_good.then(|| plain.to_vec())
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.valid_s
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        self.seal(plain, (self.now)(), nonce)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.open(cipher, (self.now)())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VALID_S: u32 = 1000;

    /// Keys that follow each other every 100 s, from this number on.
    fn tickets(numbers: std::ops::Range<u64>) -> Tickets {
        let key = |number: u64| TicketKey::new(number, number * 100, &[number as u8; TICKET_KEY_BYTES]);
        Tickets::new(numbers.map(key).rev().collect(), VALID_S, Arc::new(|| 0))
    }

    fn id_of(ticket: &[u8]) -> u64 {
        u64::from_be_bytes(ticket[..ID_BYTES].try_into().expect("a ticket begins with it"))
    }

    #[test]
    fn the_newest_key_whose_time_has_come_seals() {
        for (now_s, id) in [(0, 3), (299, 3), (300, 3), (399, 3), (400, 4), (599, 5), (100_000, 6)] {
            let ticket = tickets(3..7).seal(b"session", now_s, [0; NONCE_LEN]).expect("a key");
            assert_eq!(id_of(&ticket), id, "at {now_s}");
        }
        assert_eq!(tickets(0..0).seal(b"session", 0, [0; NONCE_LEN]), None);
    }

    #[test]
    fn neither_a_key_nor_a_session_is_shown() {
        let tickets = tickets(7..8);
        let shown = format!("{tickets:?}");
        assert!(!shown.contains("7, 7"), "{shown}");
    }

    proptest! {
        #[test]
        fn a_ticket_opens_within_its_time_as_long_as_its_key_is_there(
            plain: Vec<u8>, sealed_s in 0u64..2000, later_s in 0u64..2000, first in 0u64..20, nonce: [u8; NONCE_LEN],
        ) {
            let ticket = tickets(0..20).seal(&plain, sealed_s, nonce).expect("a key");
            let opened = tickets(first..30).open(&ticket, sealed_s + later_s);
            let is_good = later_s < u64::from(VALID_S) && id_of(&ticket) >= first;
            prop_assert_eq!(opened, is_good.then_some(plain));
        }

        #[test]
        fn what_was_changed_does_not_open(
            plain: Vec<u8>, nonce: [u8; NONCE_LEN], at: prop::sample::Index, bit in 0u32..8, cut: prop::sample::Index,
        ) {
            let tickets = tickets(0..20);
            let ticket = tickets.seal(&plain, 500, nonce).expect("a key");
            let mut changed = ticket.clone();
            *at.get_mut(&mut changed) ^= 1 << bit;
            prop_assert_eq!(tickets.open(&changed, 500), None);
            prop_assert_eq!(tickets.open(&ticket[..cut.index(ticket.len())], 500), None);
            prop_assert_eq!(tickets.open(&[ticket, vec![0]].concat(), 500), None);
        }

        #[test]
        fn any_bytes_are_a_ticket_or_none(bytes: Vec<u8>, number in 0u64..20) {
            let tickets = tickets(0..20);
            prop_assert_eq!(tickets.open(&bytes, 500), None);
            let named = [&number.to_be_bytes()[..], &bytes].concat();
            prop_assert_eq!(tickets.open(&named, 500), None);
        }
    }
}
