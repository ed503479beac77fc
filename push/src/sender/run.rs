//! A lane's task: gives the lane the time, sends what it says, and passes on what has become of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng as _;
use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::Settings;
use super::breaker::{Breaker, BreakerState};
use super::counters::{Seen, Tally};
use super::lane::{Lane, Number};
use super::outcome::{Order, Report, Reported};
use crate::service::{Answer, Service};
use crate::wall::Wall;

/// Orders that are taken before anything is sent again.
const ORDERS_AT_ONCE: usize = 256;

/// How long it is slept at most, also where nothing is waited for: tokio wants some moment.
const SLEEP_MAX: Duration = Duration::from_secs(24 * 3600);

type Sent = Result<(Id, Answer), JoinError>;

pub(super) struct Runner {
    service: Arc<dyn Service>,
    lane: Lane,
    began: Instant,
    wall: Wall,
    rng: ChaCha8Rng,
    flying: JoinSet<Answer>,
    numbers: HashMap<Id, Number>,
    reports: Vec<Report>,
    to_caller: mpsc::UnboundedSender<Reported>,
    tally: Arc<Tally>,
    breaker: BreakerState,
}

impl Runner {
    pub fn new(
        settings: &Settings,
        service: Arc<dyn Service>,
        wall: Wall,
        rng: ChaCha8Rng,
        tally: Arc<Tally>,
        to_caller: mpsc::UnboundedSender<Reported>,
    ) -> Self {
        let breaker = Breaker::new(settings.failures_max, settings.pauses);
        Self {
            service,
            lane: Lane::new(settings.bounds(), breaker),
            began: Instant::now(),
            wall,
            rng,
            flying: JoinSet::new(),
            numbers: HashMap::new(),
            reports: Vec::new(),
            to_caller,
            tally,
            breaker: BreakerState::Closed,
        }
    }

    /// Until it is stopped.
    pub async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>, mut stop: watch::Receiver<bool>) {
        let mut coming = Vec::with_capacity(ORDERS_AT_ONCE);
        loop {
            self.send();
            self.publish();
            let wake = self.wake();
            tokio::select! {
                // Whoever stops, and the last sender that is dropped, says it here.
                _ = stop.wait_for(|is_stopped| *is_stopped) => break,
                Some(sent) = self.flying.join_next_with_id(), if !self.flying.is_empty() => self.landed(sent),
                _ = orders.recv_many(&mut coming, ORDERS_AT_ONCE) => {
                    coming.drain(..).for_each(|order| self.take(order));
                }
                () = sleep_until(wake) => {}
            }
        }
        self.stop(orders).await;
    }

    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// When to look again, if nothing comes in.
    fn wake(&self) -> Instant {
        let latest = Instant::now() + SLEEP_MAX;
        let wake = self.lane.wake_ms().and_then(|at_ms| self.began.checked_add(Duration::from_millis(at_ms)));
        wake.map_or(latest, |wake| wake.min(latest))
    }

    fn take(&mut self, order: Order) {
        let now_ms = self.now_ms();
        let left_s = order.notice.expires_s.saturating_sub(self.wall.now_s());
        let expires_ms = now_ms.saturating_add(left_s.saturating_mul(1000));
        self.lane.offer(order, expires_ms, now_ms, &mut self.reports);
    }

    fn send(&mut self) {
        let now_ms = self.now_ms();
        while let Some(sending) = self.lane.next(now_ms, &mut self.reports) {
            let (service, order) = (self.service.clone(), sending.order);
            let flying = self.flying.spawn(async move { service.send(&order.token, &order.notice).await });
            self.numbers.insert(flying.id(), sending.number);
        }
    }

    /// A request has come back, and those that have besides.
    fn landed(&mut self, sent: Sent) {
        self.answered(sent);
        while let Some(sent) = self.flying.try_join_next_with_id() {
            self.answered(sent);
        }
    }

    fn answered(&mut self, sent: Sent) {
        let (id, answer) = sent.unwrap_or_else(|error| {
            // A service that panics is a fault of ours. The notice is tried again, as often as any.
            tracing::error!(
                service = self.service.name(),
                "sending a push has failed: this is a fault of the server"
            );
            (error.id(), Answer::DOWN)
        });
        let number = self.numbers.remove(&id).expect("it was sent");
        let (now_ms, random) = (self.now_ms(), self.rng.next_u64());
        self.lane.answered(number, answer, now_ms, random, &mut self.reports);
    }

    /// Tells the caller what there is to tell, and whoever looks how the lane is.
    fn publish(&mut self) {
        let breaker = self.lane.breaker().state();
        self.tally.set(Seen {
            counters: self.lane.counters(),
            breaker,
            waiting: self.lane.waiting(),
            in_flight: self.lane.in_flight(),
        });
        self.say(breaker);
        for report in self.reports.drain(..) {
            let reported = Reported { report, tally: self.tally.clone() };
            // Nobody wants to hear it any more: its place is free all the same.
            if self.to_caller.send(reported).is_err() {
                self.tally.let_go();
            }
        }
    }

    fn say(&mut self, breaker: BreakerState) {
        let service = self.service.name();
        match (self.breaker, breaker) {
            (BreakerState::Closed, BreakerState::Open) => {
                tracing::error!(service, "a push service is down: its notices wait");
            }
            (BreakerState::Open | BreakerState::HalfOpen, BreakerState::Closed) => {
                tracing::info!(service, "a push service is back");
            }
            _ => {}
        }
        self.breaker = breaker;
    }

    /// What is in flight is waited for; nothing is tried again.
    async fn stop(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        orders.close();
        while let Some(order) = orders.recv().await {
            self.take(order);
        }
        self.lane.stop(&mut self.reports);
        self.publish();
        while let Some(sent) = self.flying.join_next_with_id().await {
            self.answered(sent);
            self.lane.stop(&mut self.reports);
            self.publish();
        }
        debug_assert!(self.lane.waiting() == 0, "each has its outcome");
    }
}
