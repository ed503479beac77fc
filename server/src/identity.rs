//! The store's identity and its starts, and the installation's keys: made at the first start, together, so that one of them
//! without the other is damage and never a first start.

use prost::Message as _;
use tern_shard::identity::StoreIdentity;
use tern_shard::tokens::{BadKeys, Keys, KeysRecord};
use tern_storage::records::StoreRecord;
use tern_storage::{Batch, Engine, StoreError, keys};

use crate::core;
use crate::run::RunError;

/// Begins a run of the store: its generation is durable when this returns. `restored` says that the store was put back from
/// a copy that could not know what it is.
pub(crate) fn begin_run(
    engine: &dyn Engine,
    restored: bool,
) -> Result<(StoreIdentity, KeysRecord), RunError> {
    let mut batch = Batch::default();
    let record = engine.get_blocking(&keys::store_identity()).map_err(RunError::Store)?;
    let known_keys = engine.get_blocking(&keys::meta("keys")).map_err(RunError::Store)?;
    let keys_record = match (known_keys, &record) {
        (Some(value), _) => KeysRecord::decode(value).map_err(|_| RunError::Keys(BadKeys))?,
        (None, Some(_)) => return Err(damaged("the keys of the installation (m keys) are missing")),
        (None, None) => {
            let record = KeysRecord::generate(random()?, random()?, random()?);
            batch.put_record(&keys::meta("keys"), &record);
            record
        }
    };
    Keys::new(&keys_record).map_err(RunError::Keys)?;
    let is_known = record.is_some();
    let record = match record {
        Some(value) => {
            StoreRecord::decode(value).map_err(|_| damaged("the store's identity (m store) is unreadable"))?
        }
        // A store without one is from before stores had identities, or new. To its clients both are new.
        None => StoreIdentity::new_store(random()?),
    };
    let record = StoreIdentity::started(record, restored, random()?);
    let identity =
        StoreIdentity::from_record(&record).ok_or(damaged("the store's identity (m store) is wrong"))?;
    batch.put_record(&keys::store_identity(), &record);
    match engine.commit_blocking(batch) {
        Ok(()) => {}
        // Reading goes on without room. A start that the store does not know of takes its clients back at the next one, which
        // costs them a look at what they have, and no more.
        Err(error @ (StoreError::Full | StoreError::Unreachable { .. })) if is_known && !restored => {
            tracing::warn!(%error, "this start is not written down, for the store takes nothing now");
        }
        Err(error) => return Err(RunError::Store(error)),
    }
    if restored {
        tracing::warn!("the store was put back: every client goes back to what it had acknowledged in it");
    }
    Ok((identity, keys_record))
}

fn damaged(place: &str) -> RunError {
    RunError::Store(StoreError::Corrupt { place: place.to_owned() })
}

/// Entropy from the system.
fn random() -> Result<[u8; 32], RunError> {
    core::seed().map_err(|error| RunError::System("the system gives no entropy", error))
}

#[cfg(test)]
mod tests {
    use tern_storage::memory::Memory;

    use super::*;

    #[test]
    fn every_start_is_another_generation_of_one_store_under_the_same_keys() {
        let store = Memory::new();
        let (first, keys) = begin_run(&store, false).expect("a first start");
        let (second, same_keys) = begin_run(&store, false).expect("a second start");
        assert_eq!((first.id(), keys.encode_to_vec()), (second.id(), same_keys.encode_to_vec()));
        assert!(second.knows(&[first.generation(), second.generation()]));
        assert!(!first.knows(&[second.generation()]));
        let (restored, _) = begin_run(&store, true).expect("a start after a copy was put back");
        assert!(!restored.knows(&[second.generation()]));
    }

    #[test]
    fn keys_that_are_missing_from_a_known_store_are_damage_and_are_not_made_anew() {
        let store = Memory::new();
        begin_run(&store, false).expect("a first start");
        let mut batch = Batch::default();
        batch.delete(&keys::meta("keys"));
        store.commit_blocking(batch).expect("stored");
        let error = begin_run(&store, false).expect_err("nothing to start with").to_string();
        assert!(error.contains("m keys"), "{error}");
    }

    #[test]
    fn an_identity_that_can_not_be_read_is_damage_and_not_a_new_store() {
        let store = Memory::new();
        begin_run(&store, false).expect("a first start");
        for bytes in [&b"\xff"[..], b""] {
            let mut batch = Batch::default();
            batch.put(&keys::store_identity(), bytes);
            store.commit_blocking(batch).expect("stored");
            let error = begin_run(&store, false).expect_err("nothing to start with").to_string();
            assert!(error.contains("m store"), "{error}");
        }
    }
}
