//! What is counted of push services, beside what tern-push counts.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tern_proto::v1::PushService;
use tern_push::{BreakerState, LaneSnapshot, TokenKind};

use crate::metrics::Shared as Count;

/// Reasons of a service that are counted by themselves; all further ones are counted together.
const REASONS_MAX: usize = 32;

/// All reasons that are not counted by themselves.
const OTHERS: &str = "others";

/// See the module.
#[derive(Default)]
pub struct Told {
    /// By service: notices that found no room.
    unsent: [Count; 5],
    /// By service and reason: notices that the service will never take.
    refused: Mutex<BTreeMap<TokenKind, BTreeMap<String, u64>>>,
}

/// How a service does.
#[derive(Debug)]
pub struct Lane {
    /// What it has done.
    pub seen: LaneSnapshot,
    /// Notices that found no room.
    pub unsent: u64,
    /// Notices that the service will never take, by its reason.
    pub reasons: BTreeMap<String, u64>,
    /// Notices that may be held.
    pub held_max: u32,
}

impl Told {
    /// There was no room for a notice of this service, by its number in the protocol.
    pub(super) fn no_room(&self, service: i32) {
        let place = usize::try_from(service).ok().and_then(|place| self.unsent.get(place));
        place.unwrap_or(&self.unsent[0]).add(1);
    }

    /// A service has refused a notice.
    pub(super) fn refused(&self, service: TokenKind, reason: &str) {
        let mut refused = self.lock();
        let reasons = refused.entry(service).or_default();
        let has_place = reasons.contains_key(reason) || reasons.len() + 1 < REASONS_MAX;
        *reasons.entry(if has_place { reason } else { OTHERS }.to_owned()).or_default() += 1;
    }

    /// All of a service.
    pub(super) fn lane(&self, seen: LaneSnapshot, held_max: u32) -> Lane {
        let unsent = self.unsent[number_of(seen.service) as usize].get();
        let reasons = self.lock().get(&seen.service).cloned().unwrap_or_default();
        Lane { seen, unsent, reasons, held_max }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TokenKind, BTreeMap<String, u64>>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a service is called, as tern-push calls it.
pub(super) fn name_of(service: TokenKind) -> &'static str {
    match service {
        TokenKind::Apns => "apns",
        TokenKind::Fcm => "fcm",
        TokenKind::WebPush => "webpush",
        TokenKind::Webhook => "webhook",
    }
}

/// A service's number in the protocol.
fn number_of(service: TokenKind) -> i32 {
    let service = match service {
        TokenKind::Apns => PushService::Apns,
        TokenKind::Fcm => PushService::Fcm,
        TokenKind::WebPush => PushService::WebPush,
        TokenKind::Webhook => PushService::Webhook,
    };
    service.into()
}

impl Lane {
    /// Whether the service is asked.
    pub fn state(&self) -> &'static str {
        match self.seen.breaker {
            BreakerState::Closed => "in order",
            BreakerState::Open => "down",
            BreakerState::HalfOpen => "trying",
        }
    }

    /// Whether the service is taken for down.
    pub fn is_away(&self) -> bool {
        self.seen.breaker != BreakerState::Closed
    }

    /// What operators' tools get.
    pub fn to_json(&self) -> Value {
        let LaneSnapshot { name, counters, waiting, in_flight, held, .. } = self.seen;
        json!({
            "service": name,
            "state": self.state(),
            "held": held,
            "held_max": self.held_max,
            "waiting": waiting,
            "in_flight": in_flight,
            "sent": counters.sent,
            "retried": counters.retried,
            "delivered": counters.delivered,
            "replaced": counters.replaced,
            "expired": counters.expired,
            "dead": counters.dead,
            "refused": counters.refused,
            "reasons": self.reasons,
            "dead_letters": counters.dead_letters,
            "unsent": self.unsent,
            "opened": counters.opened,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_many_reasons_there_are_few_are_kept_and_all_are_counted() {
        let told = Told::default();
        for number in 0..1000 {
            told.refused(TokenKind::Apns, &format!("Reason{number}"));
        }
        let kept = told.lock();
        assert_eq!(kept[&TokenKind::Apns].len(), REASONS_MAX);
        assert_eq!(kept[&TokenKind::Apns].values().sum::<u64>(), 1000);
    }

    #[test]
    fn a_service_of_a_number_that_is_none_is_counted_all_the_same() {
        let told = Told::default();
        [-1, 0, 5, 2].into_iter().for_each(|service| told.no_room(service));
        let counts: Vec<_> = told.unsent.iter().map(Count::get).collect();
        assert_eq!(counts, [3, 0, 1, 0, 0]);
    }
}
