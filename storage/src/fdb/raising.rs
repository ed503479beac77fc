//! Raising a slot's epoch, as whoever takes a slot over does.

use std::time::Duration;

use prost::Message as _;

use super::client::{Caller, Outcome, Request, Transaction, Want};
use super::codes::{Meaning, meaning};
use super::driver::number;
use super::takeover::ask;
use crate::engine::StoreError;
use crate::keys::{self, KeyRange};
use crate::records::NumberRecord;
use crate::slots::{Epoch, Slot};

/// Raises it, durably: in one transaction with the count of such changes, by which all processes learn of it.
pub(super) fn raise(
    caller: &mut dyn Caller,
    slot: Slot,
    epoch: Epoch,
    patience: Duration,
) -> Result<(), StoreError> {
    let silent = || StoreError::Unreachable { reason: "FoundationDB does not answer".to_owned() };
    loop {
        let wants = vec![Want::Value(keys::epochs_version())];
        let Some(Outcome::Read(at, mut found)) = ask(caller, Request::Read { at: None, wants }, patience)
        else {
            return Err(silent());
        };
        let count = number(found.pop().expect("it was asked for").value());
        let count = count.ok_or_else(|| StoreError::Corrupt { place: "m epochs".to_owned() })?;
        let value = |number| NumberRecord { number }.encode_to_vec().into();
        let transaction = Transaction {
            at,
            unchanged: vec![KeyRange::of_key(&keys::epochs_version())],
            guarded: vec![(keys::epoch(slot), value(epoch.0)), (keys::epochs_version(), value(count + 1))],
            batches: Vec::new(),
        };
        match ask(caller, Request::Commit(Box::new(transaction)), patience).ok_or_else(silent)? {
            Outcome::Committed(_) => return Ok(()),
            // To raise it once more changes nothing.
            Outcome::Failed(code) if !matches!(meaning(code), Meaning::Locked | Meaning::Broken) => {}
            Outcome::Failed(code) => {
                return Err(StoreError::Unreachable { reason: format!("FoundationDB: error {}", code.0) });
            }
            Outcome::Read(..) => unreachable!("a commit reads nothing"),
        }
    }
}
