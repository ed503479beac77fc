//! Lanes, without clock and network: whatever comes in whatever order.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use proptest::prelude::*;

use super::backoff::Backoff;
use super::breaker::{Breaker, BreakerState, Pauses};
use super::lane::{Bounds, Lane, Number, Sending};
use super::outcome::{Order, Outcome, Report};
use crate::notice::{CollapseKey, DeviceId, Kind, Notice, NoticeId, Priority};
use crate::service::{Answer, Reason, Trouble};
use crate::token::{Address, Token};

const IN_FLIGHT_MAX: usize = 4;
const FAR_MS: u64 = 1_000_000_000;

fn lane() -> Lane {
    let (base, cap) = (Duration::from_millis(500), Duration::from_secs(60));
    let backoff = Backoff { base, cap, asked_max: Duration::from_secs(3600) };
    let pauses = Pauses { first: Duration::from_secs(1), max: Duration::from_secs(60) };
    Lane::new(Bounds { in_flight_max: IN_FLIGHT_MAX, tries_max: 5, backoff }, Breaker::new(3, pauses))
}

fn order(id: u128, device: u128, key: Option<u8>, priority: Priority) -> Order {
    let notice = Notice {
        id: NoticeId(id),
        kind: Kind::Message,
        badge: None,
        collapse: key.map(|key| CollapseKey::new([key]).expect("it is short")),
        priority,
        expires_s: 0,
        preview: None,
        chat: None,
    };
    Order { device: DeviceId(device), token: Token::Webhook(Address::new("x").expect("it is one")), notice }
}

/// A lane with what it has said.
struct Trial {
    lane: Lane,
    now_ms: u64,
    reports: Vec<Report>,
}

impl Trial {
    fn new() -> Self {
        Self { lane: lane(), now_ms: 0, reports: Vec::new() }
    }

    fn offer(&mut self, id: u128, device: u128, key: Option<u8>) {
        self.lane.offer(order(id, device, key, Priority::Normal), FAR_MS, self.now_ms, &mut self.reports);
    }

    fn next(&mut self) -> Option<Sending> {
        self.lane.next(self.now_ms, &mut self.reports)
    }

    /// What is sent now: its ids.
    fn send(&mut self) -> Vec<(Number, u128)> {
        std::iter::from_fn(|| self.next())
            .map(|sending| (sending.number, sending.order.notice.id.0))
            .collect()
    }

    fn answer(&mut self, number: Number, answer: Answer) {
        self.lane.answered(number, answer, self.now_ms, u64::MAX, &mut self.reports);
    }

    /// What was reported since.
    fn told(&mut self) -> Vec<(u128, Outcome)> {
        self.reports.drain(..).map(|report| (report.id.0, report.outcome)).collect()
    }
}

fn later(trouble: Trouble, after_s: Option<u64>) -> Answer {
    Answer::Later { trouble, after: after_s.map(Duration::from_secs) }
}

#[test]
fn a_newer_notice_takes_the_place_of_one_that_waits_and_waits_for_one_in_flight() {
    let mut trial = Trial::new();
    trial.offer(1, 7, Some(0));
    trial.offer(2, 7, Some(0));
    trial.offer(3, 7, Some(1));
    trial.offer(4, 8, Some(0));
    assert_eq!(trial.told(), [(1, Outcome::Replaced)]);
    let sent = trial.send();
    assert_eq!(sent.iter().map(|(_, id)| *id).collect::<Vec<_>>(), [2, 3, 4]);

    trial.offer(5, 7, Some(0));
    trial.offer(6, 7, Some(0));
    assert_eq!(trial.told(), [(5, Outcome::Replaced)]);
    assert!(trial.send().is_empty(), "the older one is on its way");
    trial.answer(sent[0].0, Answer::Delivered);
    assert_eq!(trial.told(), [(2, Outcome::Delivered)]);
    let [(number, 6)] = trial.send()[..] else { panic!("the newer one is next") };

    trial.offer(7, 7, Some(0));
    trial.answer(number, later(Trouble::Down, None));
    assert_eq!(trial.told(), [(6, Outcome::Replaced)], "it would be late");
    trial.now_ms = 499;
    assert!(trial.send().is_empty());
    trial.now_ms = 500;
    assert_eq!(trial.send()[0].1, 7);
}

#[test]
fn notices_without_a_key_are_all_sent() {
    let mut trial = Trial::new();
    (0..3).for_each(|id| trial.offer(id, 7, None));
    assert_eq!(trial.send().len(), 3);
    assert_eq!(trial.told(), []);
}

#[test]
fn a_notice_is_tried_five_times_with_growing_waits_and_is_then_a_dead_letter() {
    let mut trial = Trial::new();
    trial.offer(1, 7, Some(0));
    for wait_ms in [500, 1000, 2000, 4000] {
        let [(number, 1)] = trial.send()[..] else { panic!("it is tried") };
        trial.answer(number, later(Trouble::Device, None));
        assert_eq!(trial.lane.wake_ms(), Some(trial.now_ms + wait_ms));
        trial.now_ms += wait_ms;
    }
    let [(number, 1)] = trial.send()[..] else { panic!("it is tried") };
    trial.answer(number, later(Trouble::Device, None));
    assert_eq!(trial.told(), [(1, Outcome::GaveUp)]);
    let counters = trial.lane.counters();
    assert_eq!((counters.sent, counters.retried, counters.dead_letters), (5, 4, 1));
}

#[test]
fn what_was_not_sent_is_no_try() {
    let mut trial = Trial::new();
    trial.offer(1, 7, None);
    for _ in 0..20 {
        let [(number, 1)] = trial.send()[..] else { panic!("it is tried") };
        trial.answer(number, Answer::Wait(Duration::from_secs(1)));
        trial.now_ms += 1000;
    }
    assert_eq!((trial.told(), trial.lane.counters().sent), (vec![], 0));
}

#[test]
fn a_device_that_is_sent_too_much_waits_alone_and_a_service_with_all_its_notices() {
    let mut trial = Trial::new();
    trial.offer(1, 7, Some(0));
    let [(number, 1)] = trial.send()[..] else { panic!("it is sent") };
    trial.answer(number, later(Trouble::Device, Some(30)));
    trial.offer(2, 7, Some(1));
    trial.offer(3, 8, Some(0));
    let [(number, 3)] = trial.send()[..] else { panic!("the other device's is sent") };
    trial.answer(number, later(Trouble::Busy, Some(60)));
    trial.now_ms = 30_000;
    trial.offer(4, 9, Some(0));
    assert!(trial.send().is_empty());
    assert_eq!(trial.lane.wake_ms(), Some(60_000));
    trial.now_ms = 60_000;
    assert_eq!(trial.send().len(), 4);
}

#[test]
fn a_notice_whose_time_is_over_is_not_sent_wherever_it_waits() {
    let mut trial = Trial::new();
    let offer = |trial: &mut Trial, id, key, expires_ms| {
        let order = order(id, 7, Some(key), Priority::Normal);
        trial.lane.offer(order, expires_ms, trial.now_ms, &mut trial.reports);
    };
    offer(&mut trial, 1, 0, 0);
    assert_eq!(trial.told(), [(1, Outcome::Expired)]);
    offer(&mut trial, 2, 0, 100);
    let [(number, 2)] = trial.send()[..] else { panic!("it is sent") };
    offer(&mut trial, 3, 0, 50);
    assert_eq!(trial.lane.wake_ms(), Some(50));
    trial.now_ms = 50;
    assert!(trial.send().is_empty());
    assert_eq!(trial.told(), [(3, Outcome::Expired)], "though it was behind another one");
    trial.answer(number, later(Trouble::Device, Some(60)));
    assert_eq!(trial.lane.wake_ms(), Some(100));
    trial.now_ms = 100;
    assert!(trial.send().is_empty());
    assert_eq!(trial.told(), [(2, Outcome::Expired)], "though its service asked for more time");
}

#[test]
fn while_a_service_is_down_notices_wait_and_lose_no_tries() {
    let mut trial = Trial::new();
    (0..3).for_each(|id| trial.offer(id, id, None));
    for (number, _) in trial.send() {
        trial.answer(number, later(Trouble::Down, None));
    }
    assert_eq!(trial.lane.breaker().state(), BreakerState::Open);
    let mut probes = Vec::new();
    for pause_ms in [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000, 60_000] {
        assert!(trial.send().is_empty());
        trial.now_ms += pause_ms;
        let [(number, id)] = trial.send()[..] else { panic!("one tries") };
        probes.push(id);
        trial.answer(number, later(Trouble::Down, None));
    }
    assert_eq!(trial.told(), [], "none has given up");
    assert_eq!(probes.iter().collect::<HashSet<_>>().len(), 3, "each was the probe");
    trial.now_ms += 60_000;
    let [(number, id)] = trial.send()[..] else { panic!("one tries") };
    trial.answer(number, Answer::Delivered);
    assert_eq!(trial.told(), [(id, Outcome::Delivered)]);
    assert_eq!(trial.send().len(), 2);
    assert_eq!(trial.lane.counters().opened, 1);
}

#[test]
fn what_is_urgent_is_sent_first() {
    let mut trial = Trial::new();
    (0..6).for_each(|id| trial.offer(id, id, None));
    trial.lane.offer(order(9, 9, None, Priority::High), FAR_MS, 0, &mut trial.reports);
    assert_eq!(trial.send()[0].1, 9);
}

/// What may happen.
#[derive(Clone, Debug)]
enum Step {
    Offer { device: u8, key: Option<u8>, is_high: bool, valid_ms: u64 },
    Answer { which: prop::sample::Index, answer: u8, after_s: Option<u64>, random: u64 },
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let key = prop::option::weighted(0.9, 0..2_u8);
    let offer = (0..3_u8, key, any::<bool>(), 0..100_000_u64)
        .prop_map(|(device, key, is_high, valid_ms)| Step::Offer { device, key, is_high, valid_ms });
    let answer = (any::<prop::sample::Index>(), 0..8_u8, prop::option::of(0..100_u64), any::<u64>())
        .prop_map(|(which, answer, after_s, random)| Step::Answer { which, answer, after_s, random });
    prop_oneof![3 => offer, 3 => answer, 1 => (0..20_000_u64).prop_map(Step::Pass)]
}

fn answer_of(number: u8, after_s: Option<u64>) -> Answer {
    match number {
        0 | 1 => Answer::Delivered,
        2 => Answer::Dead,
        3 => Answer::Refused(Reason::of("no")),
        4 => later(Trouble::Device, after_s),
        5 => later(Trouble::Busy, after_s),
        6 => later(Trouble::Down, after_s),
        _ => Answer::Wait(Duration::from_secs(after_s.unwrap_or(1))),
    }
}

/// What is checked of a lane from outside.
#[derive(Default)]
struct Seen {
    flying: Vec<(Number, Order)>,
    offered: u128,
    ended: HashSet<u128>,
    /// The newest that was sent, of each device and key.
    newest: HashMap<(DeviceId, CollapseKey), u128>,
}

impl Seen {
    fn send(&mut self, trial: &mut Trial) {
        while let Some(Sending { number, order }) = trial.next() {
            let id = order.notice.id.0;
            assert!(!self.ended.contains(&id), "{id} has an outcome, and is sent");
            if let Some(key) = &order.notice.collapse {
                let newest = self.newest.entry((order.device, key.clone())).or_default();
                assert!(id >= *newest, "{id} is sent after {newest}");
                *newest = id;
                let has_turn = |(_, other): &(Number, Order)| {
                    other.device == order.device && other.notice.collapse.as_ref() == Some(key)
                };
                assert!(!self.flying.iter().any(has_turn), "two of a turn are in flight");
            }
            self.flying.push((number, (*order).clone()));
            assert!(self.flying.len() <= IN_FLIGHT_MAX);
        }
        for report in trial.reports.drain(..) {
            assert!(self.ended.insert(report.id.0), "{:?} has two outcomes", report.id);
        }
        assert_eq!(trial.lane.in_flight(), self.flying.len());
        let wake_ms = trial.lane.wake_ms();
        assert!(wake_ms.is_none_or(|wake_ms| wake_ms > trial.now_ms), "{wake_ms:?}: it would spin");
    }

    fn step(&mut self, trial: &mut Trial, step: Step) {
        match step {
            Step::Offer { device, key, is_high, valid_ms } => {
                self.offered += 1;
                let priority = if is_high { Priority::High } else { Priority::Normal };
                let order = order(self.offered, device.into(), key, priority);
                trial.lane.offer(order, trial.now_ms + valid_ms, trial.now_ms, &mut trial.reports);
            }
            Step::Answer { which, answer, after_s, random } if !self.flying.is_empty() => {
                let (number, _) = self.flying.remove(which.index(self.flying.len()));
                let answer = answer_of(answer, after_s);
                trial.lane.answered(number, answer, trial.now_ms, random, &mut trial.reports);
            }
            Step::Answer { .. } => {}
            Step::Pass(ms) => trial.now_ms += ms,
        }
        self.send(trial);
    }
}

proptest! {
    #[test]
    fn each_notice_has_one_outcome_and_none_is_sent_after_a_newer_one(
        steps in prop::collection::vec(step(), 0..300),
        is_stopped: bool,
    ) {
        let (mut trial, mut seen) = (Trial::new(), Seen::default());
        for step in steps {
            seen.step(&mut trial, step);
        }
        if is_stopped {
            trial.lane.stop(&mut trial.reports);
            for (number, _) in std::mem::take(&mut seen.flying) {
                trial.answer(number, later(Trouble::Down, None));
                trial.lane.stop(&mut trial.reports);
            }
            seen.send(&mut trial);
        }
        // All is answered, and time goes to where it is waited for.
        while trial.lane.waiting() + trial.lane.in_flight() > 0 {
            if let Some((number, _)) = seen.flying.pop() {
                trial.answer(number, Answer::Delivered);
            } else {
                trial.now_ms = trial.lane.wake_ms().expect("what waits is waited for");
            }
            seen.send(&mut trial);
        }
        prop_assert_eq!(seen.ended.len() as u128, seen.offered);
    }
}
