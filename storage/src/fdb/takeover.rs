//! How a process takes a store over: it becomes the owner, in one transaction. Every other process's transactions rest on the owner's
//! row, so that what they have under way lands no more, and they end.

use std::time::Duration;

use prost::Message as _;

use super::client::{Caller, Found, Outcome, Request, Transaction, Want};
use super::codes::{Meaning, meaning};
use super::driver::number;
use crate::engine::StoreError;
use crate::keys::{self, KeyRange, LAYOUT};
use crate::records::{NumberRecord, OwnerRecord};

/// Takes the store over: gives the number of this process. `nonce` is drawn for it.
///
/// # Errors
/// [`StoreError::Unreachable`] if FoundationDB has not done it within `patience`; [`StoreError::Failed`] if it never will.
pub(super) fn take_over(
    caller: &mut dyn Caller,
    nonce: u64,
    patience: Duration,
    silence: impl Fn() -> String,
) -> Result<u32, StoreError> {
    let mut ask = |request| {
        ask(caller, request, patience).ok_or_else(|| StoreError::Unreachable {
            reason: format!("FoundationDB does not answer: {}", silence()),
        })
    };
    let mut tried = 0;
    loop {
        let wants = vec![Want::Value(keys::owner()), Want::Value(keys::layout())];
        let (at, found) = match ask(Request::Read { at: None, wants })? {
            Outcome::Read(version, found) => (version, found),
            Outcome::Failed(code) => match meaning(code) {
                Meaning::Locked => return Err(locked()),
                Meaning::Broken => return Err(broken(code.0)),
                Meaning::Conflict | Meaning::Unknown | Meaning::Again => {
                    return Err(StoreError::Unreachable {
                        reason: format!("FoundationDB does not answer: {}", silence()),
                    });
                }
            },
            Outcome::Committed(_) => unreachable!("a read commits nothing"),
        };
        let owner = owner_of(found)?;
        if tried > 0 && (owner.process, owner.nonce) == (tried, nonce) {
            return Ok(tried);
        }
        tried = owner.process + 1;
        match ask(Request::Commit(Box::new(taking(at, OwnerRecord { process: tried, nonce }))))? {
            Outcome::Committed(_) => return Ok(tried),
            Outcome::Failed(code) => match meaning(code) {
                // Whether it is there, the next look says.
                Meaning::Conflict | Meaning::Unknown | Meaning::Again => {}
                Meaning::Locked => return Err(locked()),
                Meaning::Broken => return Err(broken(code.0)),
            },
            Outcome::Read(..) => unreachable!("a commit reads nothing"),
        }
    }
}

/// Who has the store, in a layout that this code knows.
fn owner_of(found: Vec<Found>) -> Result<OwnerRecord, StoreError> {
    let [owner, layout] =
        <[Found; 2]>::try_from(found).expect("all that was asked for is found").map(Found::value);
    let corrupt = |place: &str| StoreError::Corrupt { place: place.to_owned() };
    match (&owner, number(layout).ok_or_else(|| corrupt("m layout"))?) {
        (None, _) | (Some(_), LAYOUT) => {}
        (Some(_), other) => {
            let reason = format!(
                "the store has layout {other}, and this ternd knows {LAYOUT} alone: use the ternd that wrote it"
            );
            return Err(StoreError::Failed { reason });
        }
    }
    owner.map_or(Ok(OwnerRecord::default()), OwnerRecord::decode).map_err(|_| corrupt("m owner"))
}

fn taking(at: super::client::Version, owner: OwnerRecord) -> Transaction {
    let layout = NumberRecord { number: LAYOUT };
    Transaction {
        at,
        unchanged: vec![KeyRange::of_key(&keys::owner())],
        guarded: vec![
            (keys::owner(), owner.encode_to_vec().into()),
            (keys::layout(), layout.encode_to_vec().into()),
        ],
        batches: Vec::new(),
    }
}

fn locked() -> StoreError {
    StoreError::Unreachable {
        reason: "FoundationDB is locked: a restore or a switch to another cluster runs".to_owned(),
    }
}

fn broken(code: i32) -> StoreError {
    StoreError::Failed { reason: format!("FoundationDB's client says error {code}, which ends everything") }
}

/// Asks, and waits for the answer. `None`: it has not come in time.
pub(super) fn ask(caller: &mut dyn Caller, request: Request, patience: Duration) -> Option<Outcome> {
    let token = caller.start(request);
    let mut outcomes = Vec::new();
    loop {
        caller.poll(&mut outcomes);
        // Of what was given up before, an outcome may come as well.
        if let Some((_, outcome)) = outcomes.drain(..).find(|(of, _)| *of == token) {
            return Some(outcome);
        }
        if !caller.wait(patience) {
            return None;
        }
    }
}
