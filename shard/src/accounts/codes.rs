//! One-time codes of a phone: who may ask for one, which are good, and when one is used up. Pure: a phone's record, the time and the
//! limits are arguments.
//!
//! Each request for a code is a **registration** of its own, with its own code and its own wrong attempts, so nobody's asking or
//! guessing touches another's. What strangers ask for is counted for all networks together; a network from which the phone was
//! proven before is counted by itself, so that no stranger keeps the owner out. A code is used up by the batch that adds its
//! device, and by nothing else.

use bytes::Bytes;
use tern_storage::records::{AskedRecord, CodeRecord, PhoneRecord};
use tern_wire::errors::{Reason, Refusal};

use crate::limits::{
    ASKED_KEPT_MAX, HOUR_MS, Limits, NETWORK_CODES_MAX, PROVEN_NETWORKS_MAX, STRANGERS_CODES_MAX,
};

/// A network as a phone's record names it: a keyed hash, or [`UNKNOWN_NETWORK`].
pub(super) type NetworkHash = u64;

/// The network of a connection is not known: it is nobody's, and is counted with those of strangers alone.
pub(super) const UNKNOWN_NETWORK: NetworkHash = 0;

/// A right code, on its way to the batch that adds the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Proof {
    /// The registration that it was sent for.
    pub(super) registration: u64,
    /// From where it came back.
    pub(super) network: NetworkHash,
}

/// What becomes of a code that somebody tries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tried {
    /// It is the one that was sent. Nothing has changed.
    Right,
    /// It is another one, and the registration has one attempt less: to be written.
    Wrong,
    /// It was not looked at. Nothing has changed.
    Refused(Refusal),
}

const EXPIRED: Refusal =
    Refusal::new(Reason::CodeExpired, "no code of that registration is good for this phone now: ask for one");
const TRIED_TOO_OFTEN: Refusal =
    Refusal::new(Reason::TooManyAttempts, "the code was tried too often: ask for a new one");

/// Drops what is over. A time ahead of the clock, which was once ahead itself, counts as now.
fn settle(record: &mut PhoneRecord, now_ms: u64, limits: &Limits) {
    for asked in &mut record.asked {
        asked.at_ms = asked.at_ms.min(now_ms);
    }
    for code in &mut record.codes {
        code.expires_ms = code.expires_ms.min(now_ms.saturating_add(limits.code_valid_ms));
    }
    record.asked.retain(|asked| now_ms - asked.at_ms < HOUR_MS);
    record.codes.retain(|code| code.expires_ms > now_ms);
}

/// Whether a network may ask for a code now; if not, after how many milliseconds.
pub(super) fn may_ask(
    record: &mut PhoneRecord,
    network: NetworkHash,
    now_ms: u64,
    limits: &Limits,
) -> Result<(), u64> {
    settle(record, now_ms, limits);
    let PhoneRecord { asked, codes, proven, .. } = record;
    let is_proven = |network: NetworkHash| network != UNKNOWN_NETWORK && proven.contains(&network);
    if network != UNKNOWN_NETWORK {
        let own = asked.iter().filter(|asked| asked.network == network).map(|asked| asked.at_ms + HOUR_MS);
        room(own, limits.code_requests_per_hour_max, now_ms)?;
        let own = codes.iter().filter(|code| code.network == network).map(|code| code.expires_ms);
        room(own, NETWORK_CODES_MAX, now_ms)?;
    }
    if !is_proven(network) {
        let all = asked.iter().filter(|asked| !is_proven(asked.network)).map(|asked| asked.at_ms + HOUR_MS);
        room(all, limits.phone_code_requests_per_hour_max, now_ms)?;
        let all = codes.iter().filter(|code| !is_proven(code.network)).map(|code| code.expires_ms);
        room(all, STRANGERS_CODES_MAX, now_ms)?;
    }
    Ok(())
}

/// Whether there is room for one more beside those that end at these times, of `max` (0: any number).
fn room(ends_ms: impl Iterator<Item = u64>, max: u32, now_ms: u64) -> Result<(), u64> {
    if max == 0 {
        return Ok(());
    }
    let mut ends_ms: Vec<u64> = ends_ms.collect();
    let Some(too_many) = ends_ms.len().checked_sub(max as usize) else { return Ok(()) };
    ends_ms.sort_unstable();
    Err(ends_ms[too_many].saturating_sub(now_ms).max(1))
}

/// Notes a code that is about to be sent.
pub(super) fn issue(record: &mut PhoneRecord, code: CodeRecord, now_ms: u64) {
    if record.asked.len() >= ASKED_KEPT_MAX {
        record.asked.remove(0);
    }
    record.asked.push(AskedRecord { at_ms: now_ms, network: code.network });
    record.codes.push(code);
}

/// Takes back a code that could not be sent: it was never asked for.
pub(super) fn retract(record: &mut PhoneRecord, registration: u64) {
    let Some(place) = record.codes.iter().position(|code| code.registration == registration) else { return };
    let network = record.codes.remove(place).network;
    if let Some(place) = record.asked.iter().rposition(|asked| asked.network == network) {
        record.asked.remove(place);
    }
}

/// Tries a code. `is_right` compares it with a MAC.
pub(super) fn try_code(
    record: &mut PhoneRecord,
    registration: u64,
    now_ms: u64,
    limits: &Limits,
    is_right: impl Fn(&Bytes) -> bool,
) -> Tried {
    settle(record, now_ms, limits);
    let code = record.codes.iter_mut().find(|code| code.registration == registration && registration != 0);
    match code {
        None => Tried::Refused(EXPIRED),
        Some(code) if code.attempts_left == 0 => Tried::Refused(TRIED_TOO_OFTEN),
        Some(code) if is_right(&code.mac) => Tried::Right,
        Some(code) => {
            code.attempts_left -= 1;
            Tried::Wrong
        }
    }
}

/// Whether a proof is still worth something: its code has not been used meanwhile.
pub(super) fn is_good(record: &PhoneRecord, proof: Proof) -> Result<(), Refusal> {
    let good = record.codes.iter().any(|code| code.registration == proof.registration);
    if good { Ok(()) } else { Err(EXPIRED) }
}

/// The device is added: its code is used up, and the network known.
pub(super) fn use_up(record: &mut PhoneRecord, proof: Proof) {
    record.codes.retain(|code| code.registration != proof.registration);
    if proof.network == UNKNOWN_NETWORK {
        return;
    }
    record.proven.retain(|network| *network != proof.network);
    if record.proven.len() >= PROVEN_NETWORKS_MAX {
        record.proven.remove(0);
    }
    record.proven.push(proof.network);
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_000_000_000;

    fn limits() -> Limits {
        Limits::default()
    }

    fn ask(
        record: &mut PhoneRecord,
        network: NetworkHash,
        registration: u64,
        now_ms: u64,
    ) -> Result<(), u64> {
        may_ask(record, network, now_ms, &limits())?;
        let limits = limits();
        let code = CodeRecord {
            registration,
            mac: registration.to_string().into(),
            expires_ms: now_ms + limits.code_valid_ms,
            attempts_left: limits.code_attempts_max,
            network,
        };
        issue(record, code, now_ms);
        Ok(())
    }

    fn try_it(record: &mut PhoneRecord, registration: u64, code: &str, now_ms: u64) -> Tried {
        try_code(record, registration, now_ms, &limits(), |mac| mac == code.as_bytes())
    }

    /// S5: any number of strangers, and she still gets her code from where she has been before.
    #[test]
    fn strangers_neither_void_a_code_nor_keep_its_owner_out() {
        let mut record = PhoneRecord::default();
        ask(&mut record, 7, 1, NOW_MS).expect("the first");
        use_up(&mut record, Proof { registration: 1, network: 7 });
        ask(&mut record, 7, 2, NOW_MS).expect("hers");
        let taken = (100..200).filter(|network| ask(&mut record, *network, *network, NOW_MS).is_ok()).count();
        assert_eq!(taken, limits().phone_code_requests_per_hour_max as usize);
        for network in [100, 101, 300] {
            let guessed = (0..10).map(|_| try_it(&mut record, network, "wrong", NOW_MS)).collect::<Vec<_>>();
            assert!(guessed.iter().all(|tried| *tried != Tried::Right));
        }
        ask(&mut record, 7, 3, NOW_MS).expect("hers again");
        assert_eq!(try_it(&mut record, 2, "2", NOW_MS), Tried::Right);
        assert_eq!(try_it(&mut record, 3, "3", NOW_MS), Tried::Right);
    }

    #[test]
    fn the_wait_is_true() {
        let mut record = PhoneRecord::default();
        for minute in 0..3 {
            ask(&mut record, 7, minute + 1, NOW_MS + minute * 60_000).expect("within the limit");
        }
        let now_ms = NOW_MS + 10 * 60_000;
        let wait_ms = ask(&mut record, 7, 9, now_ms).expect_err("the fourth");
        assert_eq!(wait_ms, 50 * 60_000);
        assert_eq!(ask(&mut record.clone(), 7, 9, now_ms + wait_ms - 1), Err(1));
        assert_eq!(ask(&mut record, 7, 9, now_ms + wait_ms), Ok(()));
    }

    #[test]
    fn attempts_belong_to_the_registration() {
        let mut record = PhoneRecord::default();
        ask(&mut record, 7, 1, NOW_MS).expect("one");
        ask(&mut record, 8, 2, NOW_MS).expect("another");
        for _ in 0..3 {
            assert_eq!(
                try_it(&mut record, 1, "2", NOW_MS),
                Tried::Wrong,
                "a code is good with its own alone"
            );
        }
        assert_eq!(try_it(&mut record, 1, "1", NOW_MS), Tried::Refused(TRIED_TOO_OFTEN));
        assert_eq!(try_it(&mut record, 2, "2", NOW_MS), Tried::Right);
        assert_eq!(try_it(&mut record, 0, "", NOW_MS), Tried::Refused(EXPIRED));
        assert_eq!(try_it(&mut record, 2, "2", NOW_MS + limits().code_valid_ms), Tried::Refused(EXPIRED));
    }

    #[test]
    fn a_code_that_was_used_is_good_no_more_and_one_that_was_not_sent_never_was() {
        let mut record = PhoneRecord::default();
        ask(&mut record, 7, 1, NOW_MS).expect("one");
        let proof = Proof { registration: 1, network: 7 };
        assert_eq!(is_good(&record, proof), Ok(()));
        use_up(&mut record, proof);
        assert_eq!(is_good(&record, proof), Err(EXPIRED));
        let before = record.clone();
        ask(&mut record, 7, 2, NOW_MS).expect("another");
        retract(&mut record, 2);
        assert_eq!(record, before);
    }

    /// A server that was started with a clock that ran ahead has written such times.
    #[test]
    fn times_ahead_of_the_clock_count_as_now() {
        let mut record = PhoneRecord::default();
        for number in 1..=3 {
            ask(&mut record, 7, number, NOW_MS + 1000 * HOUR_MS).expect("within the limit");
        }
        assert_eq!(ask(&mut record, 7, 9, NOW_MS), Err(HOUR_MS));
        assert_eq!(ask(&mut record, 7, 9, NOW_MS + HOUR_MS), Ok(()));
        assert_eq!(record.codes.len(), 1, "the codes have ended too");
    }

    #[test]
    fn a_record_stays_small_whatever_is_asked() {
        let mut record = PhoneRecord::default();
        let limits = Limits {
            code_requests_per_hour_max: 0,
            phone_code_requests_per_hour_max: 0,
            ..Limits::default()
        };
        for number in 1..10_000 {
            let now_ms = NOW_MS + number * 10;
            if may_ask(&mut record, number % 3, now_ms, &limits).is_ok() {
                let code =
                    CodeRecord { registration: number, expires_ms: now_ms + 50, ..CodeRecord::default() };
                issue(&mut record, code, now_ms);
            }
            if number % 7 == 0 {
                use_up(&mut record, Proof { registration: number, network: number });
            }
        }
        assert!(record.codes.len() <= (STRANGERS_CODES_MAX + 4 * NETWORK_CODES_MAX) as usize);
        assert!(record.asked.len() <= ASKED_KEPT_MAX && record.proven.len() <= PROVEN_NETWORKS_MAX);
    }
}
