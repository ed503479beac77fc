//! Delivery of one-time codes: by webhook, or in development mode on the console. Plain threads behind a bounded queue, so
//! that no core waits for the network.
//!
//! Deliveries go side by side, and one that has failed waits for its next try without a thread, so one slow phone or
//! receiver holds up nobody else. A code has an end: beyond it, it is not sent, and not tried again.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;
use tern_wire::ids::Phone;

use crate::config::SmsConfig;
use crate::core::{Clock, CodeDelivery};
use crate::logging;
use crate::metrics::NodeMetrics;
use crate::threads;
use crate::webhook::{Webhook, agent_config};

/// Codes that wait for delivery, those between two tries included. Beyond: the request is refused as overloaded.
const QUEUE_MAX: usize = 10_000;

/// Deliveries at once: 200 codes a second when the receiver takes 160 ms for each.
const WORKERS: usize = 32;

/// How often a delivery is tried, as far as the code's life allows.
const TRIES: u32 = 5;

/// How long one try may take.
const TRY_TIMEOUT: Duration = Duration::from_secs(5);

/// The wait before the second try; it doubles with each.
const RETRY_WAIT: Duration = Duration::from_millis(500);

/// How long the end of the process waits for codes that are to be delivered.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// One code on its way.
struct Delivery {
    phone: Phone,
    code: String,
    expires_ms: u64,
    made: Instant,
    tries: u32,
}

/// The way to the delivering threads.
#[derive(Clone)]
pub struct Codes(Arc<Desk>);

struct Desk {
    /// From the cores, which must not wait.
    coming: ArrayQueue<Delivery>,
    ready: Mutex<VecDeque<Delivery>>,
    is_ready: Condvar,
    failed: Mutex<Vec<(Instant, Delivery)>>,
    /// Codes that wait or are being delivered.
    waiting: AtomicUsize,
    sorter: std::sync::OnceLock<Thread>,
    stopped: AtomicBool,
    clock: Clock,
    metrics: Arc<NodeMetrics>,
}

impl CodeDelivery for Codes {
    fn deliver(&self, phone: &Phone, code: &str, expires_ms: u64) -> bool {
        let desk = &*self.0;
        if desk.waiting.fetch_add(1, Ordering::AcqRel) >= QUEUE_MAX {
            desk.waiting.fetch_sub(1, Ordering::AcqRel);
            return false;
        }
        let delivery = Delivery {
            phone: phone.clone(),
            code: code.to_owned(),
            expires_ms,
            made: Instant::now(),
            tries: 0,
        };
        if desk.coming.push(delivery).is_err() {
            desk.settled();
            return false;
        }
        desk.metrics.codes_waiting.set(desk.waiting.load(Ordering::Acquire) as u64);
        desk.wake();
        true
    }
}

impl Codes {
    /// Starts the delivering threads: they POST to the webhook, or print if there is none.
    pub fn start(sms: &SmsConfig, clock: Clock, metrics: Arc<NodeMetrics>) -> std::io::Result<Self> {
        let webhook =
            sms.webhook.clone().map(|url| Webhook { url, authorization: sms.authorization.clone() });
        let desk = Arc::new(Desk {
            coming: ArrayQueue::new(QUEUE_MAX),
            ready: Mutex::default(),
            is_ready: Condvar::new(),
            failed: Mutex::default(),
            waiting: AtomicUsize::new(0),
            sorter: std::sync::OnceLock::new(),
            stopped: AtomicBool::new(false),
            clock,
            metrics,
        });
        let sorting = desk.clone();
        let sorter = threads::spawn("tern-codes", move || sorting.sort_all())?;
        let _ = desk.sorter.set(sorter.thread().clone());
        let agent = agent();
        let workers = if webhook.is_some() { WORKERS } else { 1 };
        for worker in 0..workers {
            let (desk, agent, webhook) = (desk.clone(), agent.clone(), webhook.clone());
            threads::spawn(&format!("tern-codes-{worker}"), move || {
                desk.deliver_all(&agent, webhook.as_ref())
            })?;
        }
        Ok(Self(desk))
    }

    /// Waits a little for codes that are to be delivered, at the end of the process, and says how many were not.
    pub fn stop(&self) {
        let desk = &*self.0;
        let until = Instant::now() + STOP_TIMEOUT;
        while desk.waiting.load(Ordering::Acquire) > 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        desk.stopped.store(true, Ordering::Release);
        let codes = desk.waiting.load(Ordering::Acquire);
        if codes > 0 {
            tracing::warn!(
                codes,
                "one-time codes were not delivered before the end: whoever waits asks again"
            );
        }
    }
}

/// What became of a try.
enum Tried {
    Delivered,
    /// The receiver refuses it: it would again.
    Refused(ureq::Error),
    /// It may be taken later.
    Failed(ureq::Error),
}

impl Desk {
    fn wake(&self) {
        if let Some(sorter) = self.sorter.get() {
            sorter.unpark();
        }
    }

    fn settled(&self) {
        let waiting = self.waiting.fetch_sub(1, Ordering::AcqRel) - 1;
        self.metrics.codes_waiting.set(waiting as u64);
    }

    /// Hands what has come, and what is due again, to the workers.
    fn sort_all(&self) {
        loop {
            let mut due: Vec<_> = std::iter::from_fn(|| self.coming.pop()).collect();
            let now = Instant::now();
            let next = {
                let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
                due.extend(failed.extract_if(.., |(at, _)| *at <= now).map(|(_, delivery)| delivery));
                failed.iter().map(|(at, _)| *at).min()
            };
            if !due.is_empty() {
                self.ready.lock().unwrap_or_else(PoisonError::into_inner).extend(due);
                self.is_ready.notify_all();
            }
            match next {
                Some(next) => std::thread::park_timeout(next.saturating_duration_since(Instant::now())),
                None => std::thread::park(),
            }
        }
    }

    fn next(&self) -> Delivery {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match ready.pop_front() {
                Some(delivery) => return delivery,
                None => ready = self.is_ready.wait(ready).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn deliver_all(&self, agent: &ureq::Agent, webhook: Option<&Webhook>) {
        loop {
            let mut delivery = self.next();
            if self.stopped.load(Ordering::Acquire) {
                continue;
            }
            let left_ms = delivery.expires_ms.saturating_sub(self.clock.now_ms());
            if left_ms == 0 {
                self.metrics.codes_expired.add(1);
                self.settled();
                tracing::warn!("a one-time code was not delivered within its life");
                continue;
            }
            let timeout = TRY_TIMEOUT.min(Duration::from_millis(left_ms));
            let Some(webhook) = webhook else {
                print(&delivery);
                self.delivered(&delivery);
                continue;
            };
            delivery.tries += 1;
            match post(agent, webhook, &delivery, timeout) {
                Tried::Delivered => self.delivered(&delivery),
                Tried::Failed(_) if delivery.tries < TRIES => {
                    let at = Instant::now() + RETRY_WAIT * 2u32.pow(delivery.tries - 1);
                    self.failed.lock().unwrap_or_else(PoisonError::into_inner).push((at, delivery));
                    self.wake();
                }
                // The error names the URL or the status, never what was sent.
                Tried::Failed(error) | Tried::Refused(error) => {
                    self.metrics.codes_failed.add(1);
                    self.settled();
                    tracing::error!(%error, tries = delivery.tries, "a one-time code was not delivered");
                }
            }
        }
    }

    fn delivered(&self, delivery: &Delivery) {
        self.metrics.code_delivery_us.record(delivery.made.elapsed().as_micros() as u64);
        self.metrics.codes_delivered.add(1);
        self.settled();
    }
}

/// On stderr, not in the log: the code is for the developer who sits there. The number is masked but for its end.
fn print(delivery: &Delivery) {
    let digits = delivery.phone.digits();
    let (hidden, shown) = digits.split_at(digits.len() - 4);
    let masked = "·".repeat(hidden.len());
    logging::say(format_args!("one-time code for +{masked}{shown}: {}", delivery.code));
}

fn agent() -> ureq::Agent {
    agent_config().build().into()
}

fn post(agent: &ureq::Agent, webhook: &Webhook, delivery: &Delivery, timeout: Duration) -> Tried {
    let body = serde_json::json!({
        "phone": delivery.phone.as_str(),
        "code": delivery.code,
        "expires_ms": delivery.expires_ms,
    });
    match webhook.post(agent, body.to_string(), timeout) {
        Ok(_) => Tried::Delivered,
        // Too early or too often is for now; all else that is the request's fault stays so.
        Err(error @ ureq::Error::StatusCode(400..=407 | 409..=424 | 426..=428 | 430..=499)) => {
            Tried::Refused(error)
        }
        Err(error) => Tried::Failed(error),
    }
}
