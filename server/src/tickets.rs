//! The keys of TLS session tickets: kept in the store, so that whoever has a ticket resumes on every core, on every node of the
//! store, and after a start. They follow each other day by day, and each is forgotten when no ticket under it can be good
//! any more. What a ticket is, [`Tickets`] alone knows.
//!
//! The next key is made long before it seals. Nodes look at the store more often than that, so each has it before a client
//! can come with a ticket under it; and of two that nodes make at the same moment all take the one that stays.

use std::sync::{Arc, Mutex, PoisonError};

use prost::Message as _;
use tern_storage::records::{TicketKeyRecord, TicketKeysRecord};
use tern_storage::{Batch, Engine, StoreError, keys};
use tern_wire::tls::{TICKET_KEY_BYTES, TICKET_VALID_S_MAX, TicketKey, Tickets};

use crate::core::{self, Clock};

/// How long tickets are sealed with one key.
const PERIOD_S: u64 = 24 * 3600;

/// How long a key is there before it seals, at least: many looks at the store.
const LEAD_S: u64 = 3600;

/// Keys that are kept; beyond, the oldest go. Tickets are good for seven days at most, so there are never more by themselves.
const KEYS_MAX: usize = 16;

const _: () = assert!((TICKET_VALID_S_MAX as u64).div_ceil(PERIOD_S) + 3 <= KEYS_MAX as u64);

/// See the module.
pub struct TicketKeys {
    engine: Arc<dyn Engine>,
    clock: Clock,
    /// How long a ticket is good; 0: none is given.
    valid_s: u64,
    /// The keys in force.
    known: Mutex<TicketKeysRecord>,
}

impl TicketKeys {
    /// Loads the keys, or makes the first. If tickets are not to be given, those that are there are forgotten.
    pub fn load(engine: Arc<dyn Engine>, clock: Clock, valid_ms: u64) -> Result<Self, StoreError> {
        let loaded = Self { engine, clock, valid_s: valid_ms / 1000, known: Mutex::default() };
        if loaded.valid_s > 0 {
            loaded.renew()?;
        } else if loaded.engine.get_blocking(&keys::ticket_keys())?.is_some() {
            let mut batch = Batch::default();
            batch.delete(&keys::ticket_keys());
            loaded.engine.commit_blocking(batch)?;
            tracing::info!("no session tickets are given: their keys were removed");
        }
        Ok(loaded)
    }

    /// What seals and opens tickets now; `None` if there are to be none.
    pub fn tickets(&self) -> Option<Tickets> {
        if self.valid_s == 0 {
            return None;
        }
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let ready = known.keys.iter().filter_map(|key| {
            let bytes = key.key.first_chunk::<TICKET_KEY_BYTES>()?;
            Some(TicketKey::new(key.id, key.from_s, bytes))
        });
        let clock = self.clock.clone();
        Some(Tickets::new(ready.collect(), self.valid_s as u32, Arc::new(move || clock.now_ms() / 1000)))
    }

    /// Looks at the store: makes the next key if that is due. Gives what seals and opens from now on, if that is something else.
    pub fn look(&self) -> Option<Tickets> {
        if self.valid_s == 0 {
            return None;
        }
        match self.renew() {
            Ok(true) => self.tickets(),
            Ok(false) => None,
            Err(error) => {
                tracing::warn!(%error, "the keys of session tickets can't be read or renewed: they stay as they are");
                None
            }
        }
    }

    /// Reads the keys, and makes and forgets what is due. `true` if others are in force after that.
    fn renew(&self) -> Result<bool, StoreError> {
        let stored = self.engine.get_blocking(&keys::ticket_keys())?;
        let stored = stored.map_or(Ok(TicketKeysRecord::default()), TicketKeysRecord::decode);
        let stored = stored.unwrap_or_else(|_| {
            tracing::error!("the keys of session tickets (m tickets) are unreadable: others are made, and clients that come back make full handshakes");
            TicketKeysRecord::default()
        });
        let now_s = self.clock.now_ms() / 1000;
        let next = renewed(stored.clone(), now_s, self.valid_s, &mut draw);
        if next != stored {
            let mut batch = Batch::default();
            batch.put_record(&keys::ticket_keys(), &next);
            match self.engine.commit_blocking(batch) {
                Ok(()) => tracing::info!(keys = next.keys.len(), "the keys of session tickets were renewed"),
                // Reading goes on without room, and so does what was.
                Err(error @ (StoreError::Full | StoreError::Unreachable { .. })) => {
                    tracing::warn!(%error, "the keys of session tickets are not renewed, for the store takes nothing now");
                    return Ok(self.take(stored));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(self.take(next))
    }

    fn take(&self, keys: TicketKeysRecord) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let differs = *known != keys;
        *known = keys;
        differs
    }
}

/// A key of random bytes; `None` if the system gives no entropy.
fn draw() -> Option<(u64, [u8; TICKET_KEY_BYTES])> {
    let id = core::seed().ok()?;
    Some((u64::from_le_bytes(*id.first_chunk()?), core::seed().ok()?))
}

/// The keys as they are to be at this time: without those under which no ticket can be good, and with one that seals next.
fn renewed(
    record: TicketKeysRecord,
    now_s: u64,
    valid_s: u64,
    draw: &mut dyn FnMut() -> Option<(u64, [u8; TICKET_KEY_BYTES])>,
) -> TicketKeysRecord {
    let mut keys = record.keys;
    // A clock that was far ahead has made keys that would seal in years.
    keys.retain(|key| key.key.len() == TICKET_KEY_BYTES && key.from_s <= now_s + 2 * PERIOD_S);
    keys.sort_by_key(|key| key.from_s);
    // Since the next one seals, none was made under it.
    let ended = keys.iter().skip(1).filter(|next| next.from_s + valid_s <= now_s).count();
    keys.drain(..ended.max(keys.len().saturating_sub(KEYS_MAX)));
    let mut add = |keys: &mut Vec<TicketKeyRecord>, from_s| {
        keys.extend(draw().map(|(id, key)| TicketKeyRecord { id, from_s, key: key.to_vec() }));
    };
    if keys.is_empty() {
        add(&mut keys, now_s);
    }
    if let Some(last) = keys.last().filter(|last| last.from_s <= now_s) {
        let from_s = (last.from_s + PERIOD_S).max(now_s + LEAD_S);
        add(&mut keys, from_s);
    }
    TicketKeysRecord { keys }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rustls::server::ProducesTickets as _;
    use tern_storage::memory::Memory;

    use super::*;

    const DAY_S: u64 = 24 * 3600;

    /// Renews with keys of which none is another.
    fn renew(record: TicketKeysRecord, now_s: u64, valid_s: u64) -> TicketKeysRecord {
        renew_by(1, record, now_s, valid_s)
    }

    /// The same by one of up to ten nodes.
    fn renew_by(node: u64, record: TicketKeysRecord, now_s: u64, valid_s: u64) -> TicketKeysRecord {
        let mut last = record.keys.iter().map(|key| key.id).max().unwrap_or(now_s) / 10 * 10 + node;
        renewed(record, now_s, valid_s, &mut || {
            last += 10;
            Some((last, [last as u8; TICKET_KEY_BYTES]))
        })
    }

    /// The key that seals.
    fn sealing(record: &TicketKeysRecord, now_s: u64) -> u64 {
        let key = record.keys.iter().rfind(|key| key.from_s <= now_s).or(record.keys.first());
        key.expect("there is always one").id
    }

    fn has(record: &TicketKeysRecord, id: u64) -> bool {
        record.keys.iter().any(|key| key.id == id)
    }

    proptest! {
        #[test]
        fn a_ticket_is_good_for_its_time_and_its_key_is_gone_a_day_after(
            steps in prop::collection::vec(1u64..3 * DAY_S, 1..60), valid_s in 1..=u64::from(TICKET_VALID_S_MAX),
        ) {
            let (mut record, mut now_s) = (TicketKeysRecord::default(), 1_000_000_000);
            // Which key has sealed, and when that was last.
            let mut sealed: Vec<(u64, u64)> = Vec::new();
            for step in steps {
                record = renew(record, now_s, valid_s);
                prop_assert!(record.keys.len() <= KEYS_MAX);
                let next = record.keys.last().expect("there is always one").from_s;
                prop_assert!((now_s + 1..=now_s + 2 * PERIOD_S).contains(&next), "one that seals next is there");
                prop_assert_eq!(&renew(record.clone(), now_s, valid_s), &record, "nothing more is due");
                let id = sealing(&record, now_s);
                sealed.retain(|(other, _)| *other != id);
                sealed.push((id, now_s));
                now_s += step;
                let after = renew(record.clone(), now_s, valid_s);
                for (id, last_s) in &sealed {
                    prop_assert!(has(&after, *id) || now_s - last_s >= valid_s, "{id} is needed");
                }
            }
            let until_s = now_s + 3 * PERIOD_S + valid_s;
            let later = (now_s..until_s).step_by(LEAD_S as usize).fold(record, |record, at| renew(record, at, valid_s));
            prop_assert!(!later.keys.iter().any(|key| sealed.iter().any(|(id, _)| *id == key.id)), "all have gone");
        }

        #[test]
        fn nodes_that_look_in_turns_know_each_key_before_it_seals(looks in prop::collection::vec((0usize..3, 1u64..300), 1..200)) {
            let (mut store, mut now_s) = (renew(TicketKeysRecord::default(), 0, DAY_S), DAY_S - 600);
            let mut nodes = vec![store.clone(); 3];
            for (node, step) in looks {
                // All look within five minutes, and here and there two see that it is time before either has written.
                now_s += step;
                let other = (node + 1) % 3;
                nodes[other] = renew_by(other as u64, store.clone(), now_s, DAY_S);
                nodes[node] = renew_by(node as u64, store.clone(), now_s, DAY_S);
                store = nodes[node].clone();
                nodes[(node + 2) % 3] = store.clone();
                for of in &nodes {
                    prop_assert!(has(&store, sealing(of, now_s)), "all know what one seals with");
                }
            }
        }

        #[test]
        fn keys_of_a_clock_that_was_wrong_go(ahead_s in 3 * DAY_S..1000 * DAY_S) {
            let wrong = renew(TicketKeysRecord::default(), 1_000_000_000 + ahead_s, DAY_S);
            let right = renew(wrong.clone(), 1_000_000_000, DAY_S);
            prop_assert!(wrong.keys.iter().all(|key| !has(&right, key.id)));
            prop_assert_eq!(right.keys.len(), 2);
        }
    }

    fn load(store: &Arc<Memory>, valid_ms: u64) -> TicketKeys {
        TicketKeys::load(store.clone(), Clock::start(), valid_ms).expect("the store works")
    }

    #[test]
    fn a_ticket_opens_after_a_start_and_not_in_another_store() {
        let (store, other) = (Arc::new(Memory::new()), Arc::new(Memory::new()));
        let tickets = |store| load(store, 1_000_000).tickets().expect("some");
        let ticket = tickets(&store).encrypt(b"session").expect("sealed");
        assert_eq!(tickets(&store).decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        assert_eq!(tickets(&other).decrypt(&ticket), None);
        assert!(load(&store, 1_000_000).look().is_none(), "nothing is due");
    }

    #[test]
    fn what_another_node_has_written_is_taken_at_the_next_look() {
        let (store, elsewhere) = (Arc::new(Memory::new()), Arc::new(Memory::new()));
        let (node, other) = (load(&store, 1_000_000), load(&elsewhere, 1_000_000));
        let ticket = other.tickets().expect("some").encrypt(b"session").expect("sealed");
        let written = elsewhere.get_blocking(&keys::ticket_keys()).expect("read").expect("written");
        let mut batch = Batch::default();
        batch.put(&keys::ticket_keys(), written);
        store.commit_blocking(batch).expect("stored");
        assert_eq!(node.tickets().expect("some").decrypt(&ticket), None);
        let tickets = node.look().expect("others are in force");
        assert_eq!(tickets.decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        assert!(node.look().is_none(), "once");
    }

    #[test]
    fn without_tickets_their_keys_are_forgotten() {
        let store = Arc::new(Memory::new());
        let ticket = load(&store, 1_000_000).tickets().expect("some").encrypt(b"session").expect("sealed");
        assert!(load(&store, 0).tickets().is_none());
        assert_eq!(store.get_blocking(&keys::ticket_keys()), Ok(None));
        assert_eq!(load(&store, 1_000_000).tickets().expect("some").decrypt(&ticket), None);
    }

    #[test]
    fn keys_that_can_not_be_read_are_made_anew() {
        let store = Arc::new(Memory::new());
        for bytes in [&b"\xff"[..], b"\x0a\x02\x09\x01"] {
            let mut batch = Batch::default();
            batch.put(&keys::ticket_keys(), bytes);
            store.commit_blocking(batch).expect("stored");
            let tickets = load(&store, 1_000_000).tickets().expect("some");
            let ticket = tickets.encrypt(b"session").expect("sealed");
            assert_eq!(
                load(&store, 1_000_000).tickets().expect("some").decrypt(&ticket).as_deref(),
                Some(&b"session"[..])
            );
        }
    }

    #[test]
    fn no_key_is_shown() {
        let record = renew(TicketKeysRecord::default(), 1_000_000_000, DAY_S);
        let bytes = format!("{:?}", record.keys[0].key);
        assert!(!format!("{record:?}").contains(&bytes));
    }
}
