//! The sender, with a service that does as the test says, and a clock that goes as fast as nothing else is to do: bounds, waits, order, and an
//! outcome for each.

#[allow(dead_code, reason = "it serves other tests as well")]
mod common;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{NOW_S, later, notice, outcomes_of, webhook};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;
use tern_push::{
    Answer, BreakerState, CollapseKey, DeviceId, Doing, NotTaken, Notice, Order, Outcome, Outcomes, Reason,
    Sender, Service, Settings, Token, TokenKind, Trouble, Wall,
};
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Does as the test says.
struct Scripted {
    began: Instant,
    answers: Mutex<VecDeque<Answer>>,
    otherwise: Answer,
    /// How long an answer takes.
    takes: Duration,
    in_flight: AtomicUsize,
    most: AtomicUsize,
    /// What was sent when, in ms.
    sent: Mutex<Vec<(u128, u64)>>,
    /// Answers are given as these are.
    may_answer: Semaphore,
}

impl Default for Scripted {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            answers: Mutex::default(),
            otherwise: Answer::Delivered,
            takes: Duration::ZERO,
            in_flight: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            sent: Mutex::default(),
            may_answer: Semaphore::new(Semaphore::MAX_PERMITS),
        }
    }
}

impl Scripted {
    fn sent(&self) -> Vec<(u128, u64)> {
        self.sent.lock().expect("no panic").clone()
    }

    fn ids(&self) -> Vec<u128> {
        self.sent().into_iter().map(|(id, _)| id).collect()
    }
}

impl Service for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    fn kind(&self) -> TokenKind {
        TokenKind::Webhook
    }

    fn send<'a>(&'a self, _: &'a Token, notice: &'a Notice) -> Doing<'a, Answer> {
        Box::pin(async move {
            let at_ms = self.began.elapsed().as_millis() as u64;
            self.sent.lock().expect("no panic").push((notice.id.0, at_ms));
            self.most.fetch_max(self.in_flight.fetch_add(1, Ordering::AcqRel) + 1, Ordering::AcqRel);
            self.may_answer.acquire().await.expect("nobody closes it").forget();
            tokio::time::sleep(self.takes).await;
            self.in_flight.fetch_sub(1, Ordering::AcqRel);
            let answer = self.answers.lock().expect("no panic").pop_front();
            answer.unwrap_or_else(|| self.otherwise.clone())
        })
    }
}

/// The time of day goes as tokio's.
fn wall() -> Wall {
    let began = Instant::now();
    Wall::new(move || NOW_S + began.elapsed().as_secs())
}

fn start(settings: Settings, service: Scripted) -> (Arc<Scripted>, Sender, Outcomes) {
    let service = Arc::new(service);
    let (sender, outcomes) =
        Sender::start(settings, vec![service.clone()], &wall(), ChaCha8Rng::seed_from_u64(1));
    (service, sender, outcomes)
}

fn order(id: u128, device: u128, key: u8) -> Order {
    let notice = Notice { collapse: CollapseKey::new([key]).ok(), ..notice(id) };
    Order { device: DeviceId(device), token: webhook("a"), notice }
}

/// Until all that can be done without an answer and without time is done.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_are_in_flight_than_the_bound_and_none_is_lost() {
    let settings = Settings { in_flight_max: 7, ..Settings::default() };
    let (service, sender, mut outcomes) =
        start(settings, Scripted { takes: Duration::from_millis(10), ..Scripted::default() });
    (0..500).for_each(|id| sender.offer(order(id, id, 0)).expect("there is room"));
    let all = outcomes_of(&mut outcomes, 500).await;
    assert!(all.values().all(|outcome| *outcome == Outcome::Delivered));
    assert_eq!((service.most.load(Ordering::Acquire), service.sent().len()), (7, 500));
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_says_so_until_outcomes_are_taken() {
    let settings = Settings { held_max: 3, ..Settings::default() };
    let (_, sender, mut outcomes) = start(settings, Scripted::default());
    (0..3).for_each(|id| sender.offer(order(id, id, 0)).expect("there is room"));
    assert_eq!(sender.offer(order(3, 3, 0)), Err(NotTaken::Full));
    settle().await;
    assert_eq!(sender.snapshot()[0].counters.delivered, 3);
    assert_eq!(sender.offer(order(3, 3, 0)), Err(NotTaken::Full), "nobody has taken the outcomes");
    outcomes.next().await.expect("there is one");
    sender.offer(order(3, 3, 0)).expect("there is room");
    assert_eq!(sender.offer(order(4, 4, 0)), Err(NotTaken::Full));
    assert_eq!(outcomes_of(&mut outcomes, 3).await.len(), 3);
    assert_eq!(sender.snapshot()[0].held, 0);
    let elsewhere = Order { token: common::fcm("a:b"), ..order(5, 5, 0) };
    assert_eq!(sender.offer(elsewhere), Err(NotTaken::NoService(TokenKind::Fcm)));
}

#[tokio::test(start_paused = true)]
async fn an_older_notice_is_never_sent_after_a_newer_one() {
    let may_answer = Semaphore::new(0);
    let (service, sender, mut outcomes) =
        start(Settings::default(), Scripted { may_answer, ..Scripted::default() });
    for id in 1..=4 {
        sender.offer(order(id, 7, 0)).expect("there is room");
        settle().await;
    }
    assert_eq!(service.ids(), [1], "it is on its way");
    service.may_answer.add_permits(2);
    let all = outcomes_of(&mut outcomes, 4).await;
    let expect = [Outcome::Delivered, Outcome::Replaced, Outcome::Replaced, Outcome::Delivered];
    assert_eq!(all.into_values().collect::<Vec<_>>(), expect);
    assert_eq!(service.ids(), [1, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_notice_is_tried_five_times_and_is_then_a_dead_letter() {
    let otherwise = later(Trouble::Device, None);
    let (service, sender, mut outcomes) =
        start(Settings::default(), Scripted { otherwise, ..Scripted::default() });
    sender.offer(order(1, 7, 0)).expect("there is room");
    assert_eq!(outcomes_of(&mut outcomes, 1).await[&1], Outcome::GaveUp);
    let times: Vec<u64> = service.sent().into_iter().map(|(_, at_ms)| at_ms).collect();
    let waits: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(waits.len(), 4);
    // Full jitter: anything up to the longest, and tokio's clock goes by whole milliseconds.
    for (wait_ms, longest_ms) in waits.iter().zip([500, 1000, 2000, 4000]) {
        assert!(*wait_ms <= longest_ms + 1, "{waits:?}");
    }
    let lane = sender.snapshot()[0];
    assert_eq!((lane.counters.sent, lane.counters.retried, lane.counters.dead_letters), (5, 4, 1));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_no_more_is_named() {
    let answers = Mutex::new([Answer::Dead, Answer::Refused(Reason::of("no"))].into());
    let (_, sender, mut outcomes) = start(Settings::default(), Scripted { answers, ..Scripted::default() });
    sender.offer(order(1, 7, 0)).expect("there is room");
    assert_eq!(outcomes_of(&mut outcomes, 1).await[&1], Outcome::Dead(webhook("a")));
    sender.offer(order(2, 7, 0)).expect("there is room");
    assert_eq!(outcomes_of(&mut outcomes, 1).await[&2], Outcome::Refused(Reason::of("no")));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_asks_for_time_gets_it() {
    let answers = Mutex::new([later(Trouble::Busy, Some(90))].into());
    let (service, sender, mut outcomes) =
        start(Settings::default(), Scripted { answers, ..Scripted::default() });
    sender.offer(order(1, 1, 0)).expect("there is room");
    settle().await;
    sender.offer(order(2, 2, 0)).expect("there is room");
    let all = outcomes_of(&mut outcomes, 2).await;
    assert!(all.values().all(|outcome| *outcome == Outcome::Delivered));
    let sent = service.sent();
    assert_eq!(sent[0], (1, 0));
    assert!(sent[1..].iter().all(|(_, at_ms)| (90_000..90_010).contains(at_ms)), "{sent:?}");
}

#[tokio::test(start_paused = true)]
async fn a_notice_whose_time_is_over_is_not_sent() {
    let answers = Mutex::new([later(Trouble::Device, Some(3000))].into());
    let (service, sender, mut outcomes) =
        start(Settings::default(), Scripted { answers, ..Scripted::default() });
    let mut over = order(1, 1, 0);
    over.notice.expires_s = NOW_S;
    sender.offer(over).expect("there is room");
    let mut soon = order(2, 2, 0);
    soon.notice.expires_s = NOW_S + 60;
    sender.offer(soon).expect("there is room");
    let all = outcomes_of(&mut outcomes, 2).await;
    assert_eq!(all.into_values().collect::<Vec<_>>(), [Outcome::Expired, Outcome::Expired]);
    assert_eq!(service.ids(), [2], "once, in its time");
}

#[tokio::test(start_paused = true)]
async fn while_a_service_is_down_notices_wait_and_all_are_sent_when_it_is_back() {
    // Down for the first 10, and for six probes.
    let answers = Mutex::new(vec![later(Trouble::Down, None); 16].into());
    let settings = Settings { in_flight_max: 10, tries_max: 2, ..Settings::default() };
    let (service, sender, mut outcomes) = start(settings, Scripted { answers, ..Scripted::default() });
    (0..50).for_each(|id| sender.offer(order(id, id, 0)).expect("there is room"));
    settle().await;
    assert_eq!(sender.snapshot()[0].breaker, BreakerState::Open);
    let all = outcomes_of(&mut outcomes, 50).await;
    assert!(all.values().all(|outcome| *outcome == Outcome::Delivered));
    assert_eq!(service.sent().len(), 66);
    // 1 + 2 + 4 + 8 + 16 + 32 + 60 s of pauses.
    let last_ms = service.sent()[16].1;
    assert!((123_000..123_100).contains(&last_ms), "{last_ms}");
    let lane = sender.snapshot()[0];
    assert_eq!((lane.breaker, lane.counters.opened), (BreakerState::Closed, 1));
}

#[tokio::test(start_paused = true)]
async fn what_has_no_outcome_when_it_is_stopped_is_said_to_have_none() {
    let settings = Settings { in_flight_max: 2, ..Settings::default() };
    let answers = Mutex::new([Answer::Delivered, later(Trouble::Down, None)].into());
    let may_answer = Semaphore::new(0);
    let (service, sender, mut outcomes) =
        start(settings, Scripted { answers, may_answer, ..Scripted::default() });
    (0..5).for_each(|id| sender.offer(order(id, id, 0)).expect("there is room"));
    settle().await;
    sender.stop();
    settle().await;
    assert_eq!(sender.offer(order(9, 9, 0)), Err(NotTaken::Stopped));
    service.may_answer.add_permits(2);
    let all = outcomes_of(&mut outcomes, 5).await;
    assert_eq!(all.values().filter(|outcome| **outcome == Outcome::Delivered).count(), 1);
    assert_eq!(all.values().filter(|outcome| **outcome == Outcome::Stopped).count(), 4);
    assert_eq!(outcomes.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_is_dropped_stops() {
    let otherwise = later(Trouble::Device, Some(3600));
    let (_, sender, mut outcomes) = start(Settings::default(), Scripted { otherwise, ..Scripted::default() });
    sender.offer(order(1, 1, 0)).expect("there is room");
    settle().await;
    drop(sender);
    assert_eq!(outcomes_of(&mut outcomes, 1).await[&1], Outcome::Stopped);
    assert_eq!(outcomes.next().await, None);
}

/// A lane that does not sleep keeps the clock from going on, and this test from ending.
#[tokio::test(start_paused = true)]
async fn a_sender_with_nothing_to_do_sleeps_after_days_as_well() {
    let otherwise = later(Trouble::Device, Some(3600));
    let settings = Settings { in_flight_max: 1, ..Settings::default() };
    let (_, sender, mut outcomes) = start(settings, Scripted { otherwise, ..Scripted::default() });
    let days = Duration::from_secs(7 * 86_400);
    tokio::time::sleep(days).await;
    let mut for_ever = order(1, 1, 0);
    for_ever.notice.expires_s = u64::MAX;
    sender.offer(for_ever).expect("there is room");
    assert_eq!(outcomes_of(&mut outcomes, 1).await[&1], Outcome::GaveUp);
    tokio::time::sleep(days).await;
}

/// A service with a fault.
struct Panics;

impl Service for Panics {
    fn name(&self) -> &'static str {
        "panics"
    }

    fn kind(&self) -> TokenKind {
        TokenKind::Webhook
    }

    fn send<'a>(&'a self, _: &'a Token, _: &'a Notice) -> Doing<'a, Answer> {
        Box::pin(async { panic!("a fault") })
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_panics_loses_no_notice() {
    let services: Vec<Arc<dyn Service>> = vec![Arc::new(Panics)];
    let (sender, mut outcomes) =
        Sender::start(Settings::default(), services, &wall(), ChaCha8Rng::seed_from_u64(1));
    sender.offer(order(1, 1, 0)).expect("there is room");
    assert_eq!(outcomes_of(&mut outcomes, 1).await[&1], Outcome::GaveUp);
}
