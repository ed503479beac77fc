//! How a process takes a store over: it becomes the owner, in one transaction. Every other process's transactions rest on the owner's
//! row, so that what they have under way lands no more, and they end.

use std::time::Duration;

use prost::Message as _;

use super::client::{Caller, Code, Found, Outcome, Request, Transaction, Want};
use super::codes::{Meaning, meaning};
use super::driver::number;
use super::options::BACKOFF_MAX;
use crate::engine::StoreError;
use crate::keys::{self, KeyRange, LAYOUT};
use crate::records::{NumberRecord, OwnerRecord};

/// How long it is before whoever waits is told that FoundationDB does not do it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Takes the store over: gives the number of this process. `nonce` is drawn for it. It takes as long as FoundationDB takes; `waits` is told
/// now and then why, and that is all.
///
/// # Errors
/// [`StoreError::Failed`] or [`StoreError::Corrupt`]: it never will.
pub(super) fn take_over(
    caller: &mut dyn Caller,
    nonce: u64,
    silence: &dyn Fn() -> String,
    waits: &mut dyn FnMut(&str),
) -> Result<u32, StoreError> {
    let mut ask = |caller: &mut dyn Caller, request| loop_until_answered(caller, request, silence, waits);
    let mut tried = 0;
    loop {
        let wants = vec![Want::Value(keys::owner()), Want::Value(keys::layout())];
        let (at, found) = match ask(caller, Request::Read { at: None, wants }) {
            Outcome::Read(version, found) => (version, found),
            Outcome::Failed(code) => {
                goes_on(code)?;
                continue;
            }
            Outcome::Committed(_) => unreachable!("a read commits nothing"),
        };
        let owner = owner_of(found)?;
        if tried > 0 && (owner.process, owner.nonce) == (tried, nonce) {
            return Ok(tried);
        }
        tried = owner.process + 1;
        match ask(caller, Request::Commit(Box::new(taking(at, OwnerRecord { process: tried, nonce })))) {
            Outcome::Committed(_) => return Ok(tried),
            // Whether it is there, the next look says.
            Outcome::Failed(code) => goes_on(code)?,
            Outcome::Read(..) => unreachable!("a commit reads nothing"),
        }
    }
}

/// Whether it may go well the next time.
fn goes_on(code: Code) -> Result<(), StoreError> {
    match meaning(code) {
        Meaning::Conflict | Meaning::Unknown | Meaning::Again | Meaning::Locked => Ok(()),
        Meaning::Broken => Err(StoreError::Failed {
            reason: format!("FoundationDB's client says error {}, which ends everything", code.0),
        }),
    }
}

/// Asks, and waits for the answer; after a silence it says so. Where the database is locked it has waited.
fn loop_until_answered(
    caller: &mut dyn Caller,
    request: Request,
    silence: &dyn Fn() -> String,
    waits: &mut dyn FnMut(&str),
) -> Outcome {
    let token = caller.start(request);
    let mut outcomes = Vec::new();
    loop {
        caller.poll(&mut outcomes);
        match outcomes.drain(..).find(|(of, _)| *of == token) {
            Some((_, Outcome::Failed(code))) => {
                let pause = match meaning(code) {
                    Meaning::Conflict | Meaning::Broken => None,
                    Meaning::Locked => {
                        waits("FoundationDB is locked: a restore or a switch to another cluster runs");
                        Some(PATIENCE)
                    }
                    Meaning::Unknown | Meaning::Again => {
                        waits(&format!(
                            "FoundationDB does not do what it is asked (error {}): {}",
                            code.0,
                            silence()
                        ));
                        Some(BACKOFF_MAX)
                    }
                };
                // Nothing comes: it is a pause.
                pause.map(|pause| caller.wait(pause));
                return Outcome::Failed(code);
            }
            Some((_, outcome)) => return outcome,
            None if caller.wait(PATIENCE) => {}
            None => waits(&format!("FoundationDB does not answer: {}", silence())),
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
