//! The content filter: a webhook that looks at what is said before it is. Plain threads behind a bounded queue, as codes have them, so that
//! no core waits for the network. It knows nothing of what becomes of a message.
//!
//! Each question has a deadline, from when it was asked: beyond it, it is not sent, and an answer counts for nothing. After some failures in
//! a row nothing is asked for a while, then one question tries whether the filter is back.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;
use serde::Deserialize;
use tern_proto::v1::Kind;
use tern_shard::effects::{Question, Verdict};
use tern_shard::entry::chat_of;
use tern_storage::LogId;

use crate::config::FilterConfig;
use crate::core::{AnswerTo, ContentFilter};
use crate::metrics::NodeMetrics;
use crate::threads;
use crate::webhook::{Webhook, agent_config};

/// Questions that wait for a thread. Beyond: they are not asked.
const QUEUE_MAX: usize = 4096;

/// Failures in a row after which the filter is taken for down.
const FAILURES_MAX: u32 = 5;

/// How long it is asked nothing then.
const REST: Duration = Duration::from_secs(5);

/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: u64 = 4096;

/// One question on its way.
struct Asked {
    question: Question,
    to: AnswerTo,
    at: Instant,
}

/// The way to the asking threads.
#[derive(Clone)]
pub struct Filter(Arc<Desk>);

struct Desk {
    webhook: Webhook,
    timeout: Duration,
    agent: ureq::Agent,
    /// From the cores, which must not wait.
    coming: ArrayQueue<Asked>,
    ready: Mutex<VecDeque<Asked>>,
    is_ready: Condvar,
    sorter: OnceLock<Thread>,
    breaker: Breaker,
    metrics: Arc<NodeMetrics>,
}

/// Whether the filter is asked.
struct Breaker {
    began: Instant,
    failures: AtomicU32,
    /// Until when it is not, in ms since `began`; 0: it is.
    rests_until_ms: AtomicU64,
}

impl Breaker {
    fn new() -> Self {
        Self { began: Instant::now(), failures: AtomicU32::new(0), rests_until_ms: AtomicU64::new(0) }
    }

    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// Whether something may be asked now; after a rest it is one question that tries.
    fn may_ask(&self, now_ms: u64) -> bool {
        let until_ms = self.rests_until_ms.load(Ordering::Acquire);
        if until_ms == 0 {
            return true;
        }
        let next_ms = now_ms + REST.as_millis() as u64;
        now_ms >= until_ms
            && self
                .rests_until_ms
                .compare_exchange(until_ms, next_ms, Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
    }

    /// It has answered. `true`: it had been taken for down.
    fn answered(&self) -> bool {
        self.failures.store(0, Ordering::Release);
        self.rests_until_ms.swap(0, Ordering::AcqRel) > 0
    }

    /// It has not. `true`: it is taken for down from now on.
    fn failed(&self, now_ms: u64) -> bool {
        let failures = self.failures.fetch_add(1, Ordering::AcqRel) + 1;
        if failures < FAILURES_MAX {
            return false;
        }
        self.rests_until_ms.swap(now_ms + REST.as_millis() as u64, Ordering::AcqRel) == 0
    }
}

impl ContentFilter for Filter {
    fn ask(&self, question: Question, to: AnswerTo) -> bool {
        let desk = &*self.0;
        let may = desk.breaker.may_ask(desk.breaker.now_ms());
        let asked = Asked { question, to, at: Instant::now() };
        if !may || desk.coming.push(asked).is_err() {
            desk.metrics.filter_unasked.add(1);
            return false;
        }
        desk.metrics.filter_asked.add(1);
        if let Some(sorter) = desk.sorter.get() {
            sorter.unpark();
        }
        true
    }
}

/// What the filter answers.
#[derive(Deserialize)]
struct Answer {
    verdict: Said,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Said {
    Pass,
    Refuse,
    Report,
}

/// Why there is no answer.
enum Failed {
    /// In time.
    Late,
    /// That is one.
    Broken(String),
}

impl Filter {
    /// Starts the asking threads, if there is a filter.
    pub fn start(config: &FilterConfig, metrics: Arc<NodeMetrics>) -> std::io::Result<Option<Self>> {
        let Some(url) = config.webhook.clone() else { return Ok(None) };
        let threads = usize::from(config.in_flight_max);
        let agent = agent_config()
            // What is said goes nowhere else.
            .max_redirects(0)
            .max_idle_connections(threads)
            .max_idle_connections_per_host(threads)
            .build();
        let desk = Arc::new(Desk {
            webhook: Webhook { url, authorization: config.authorization.clone() },
            timeout: Duration::from_millis(config.timeout_ms),
            agent: agent.into(),
            coming: ArrayQueue::new(QUEUE_MAX),
            ready: Mutex::default(),
            is_ready: Condvar::new(),
            sorter: OnceLock::new(),
            breaker: Breaker::new(),
            metrics,
        });
        let sorting = desk.clone();
        let sorter = threads::spawn("tern-filter", move || sorting.sort_all())?;
        let _ = desk.sorter.set(sorter.thread().clone());
        for thread in 0..threads {
            let desk = desk.clone();
            threads::spawn(&format!("tern-filter-{thread}"), move || desk.ask_all())?;
        }
        Ok(Some(Self(desk)))
    }
}

impl Desk {
    /// Hands what has come to those who ask.
    fn sort_all(&self) {
        loop {
            let came: Vec<_> = std::iter::from_fn(|| self.coming.pop()).collect();
            if came.is_empty() {
                std::thread::park();
                continue;
            }
            let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
            // The cores are told when there is no room: what is here counts.
            let room = QUEUE_MAX.saturating_sub(ready.len()).min(came.len());
            let mut came = came.into_iter();
            ready.extend(came.by_ref().take(room));
            drop(ready);
            self.is_ready.notify_all();
            for asked in came {
                self.metrics.filter_timed_out.add(1);
                asked.to.is(Verdict::Unanswered);
            }
        }
    }

    fn next(&self) -> Asked {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match ready.pop_front() {
                Some(asked) => return asked,
                None => ready = self.is_ready.wait(ready).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn ask_all(&self) {
        loop {
            let Asked { question, to, at } = self.next();
            let left = self.timeout.saturating_sub(at.elapsed());
            // A filter that is too slow is down for those who wait.
            let answer = if left.is_zero() { Err(Failed::Late) } else { self.post(&question, left) };
            to.is(match answer {
                Ok(said) => self.said(said, at),
                Err(failed) => self.failed(&failed),
            });
        }
    }

    fn said(&self, said: Said, at: Instant) -> Verdict {
        self.metrics.filter_us.record(at.elapsed().as_micros() as u64);
        if self.breaker.answered() {
            tracing::info!("the content filter answers again");
        }
        let (counter, verdict) = match said {
            Said::Pass => (&self.metrics.filter_passed, Verdict::Pass),
            Said::Refuse => (&self.metrics.filter_refused, Verdict::Refuse),
            Said::Report => (&self.metrics.filter_reported, Verdict::Report),
        };
        counter.add(1);
        verdict
    }

    fn failed(&self, failed: &Failed) -> Verdict {
        let (counter, why) = match failed {
            Failed::Late => (&self.metrics.filter_timed_out, "it does not answer in time"),
            Failed::Broken(why) => (&self.metrics.filter_failed, why.as_str()),
        };
        counter.add(1);
        if self.breaker.failed(self.breaker.now_ms()) {
            tracing::error!(why, "the content filter is down: it is asked nothing for some seconds");
        }
        Verdict::Unanswered
    }

    /// Neither the error nor its words say anything of what was sent.
    fn post(&self, question: &Question, left: Duration) -> Result<Said, Failed> {
        let failed = |error| match error {
            ureq::Error::Timeout(_) => Failed::Late,
            error => Failed::Broken(error.to_string()),
        };
        let mut response = self.webhook.post(&self.agent, body_of(question), left).map_err(failed)?;
        if !response.status().is_success() {
            return Err(Failed::Broken(format!("http status: {}", response.status().as_u16())));
        }
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec().map_err(failed)?;
        let answer: Result<Answer, _> = serde_json::from_slice(&body);
        answer.map(|answer| answer.verdict).map_err(|_| Failed::Broken("its answer is no verdict".to_owned()))
    }
}

/// What the filter is told: what is said, by whom, in which chat. No phone numbers.
fn body_of(question: &Question) -> String {
    let Question { log, id, sender, kind, text, .. } = question;
    let kind = Kind::try_from(*kind).map_or("unknown", |kind| kind.as_str_name());
    let kind = kind.strip_prefix("KIND_").unwrap_or(kind).to_ascii_lowercase();
    let body = serde_json::json!({
        "id": format!("{id:016x}"),
        "kind": kind,
        "chat_kind": if matches!(log, LogId::Group(_)) { "group" } else { "direct" },
        "chat": chat_of(*log, *sender).get(),
        "sender": sender.get(),
        "text": text,
    });
    body.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_fails_again_and_again_rests_and_is_tried_by_one_question() {
        let breaker = Breaker::new();
        let rest_ms = REST.as_millis() as u64;
        for _ in 1..FAILURES_MAX {
            assert!(!breaker.failed(10) && breaker.may_ask(10));
        }
        assert!(!breaker.answered());
        for _ in 1..FAILURES_MAX {
            assert!(!breaker.failed(20) && breaker.may_ask(20), "an answer in between, and it counts anew");
        }
        assert!(breaker.failed(20), "operators are told");
        assert!(!breaker.failed(21), "once");
        assert!(!breaker.may_ask(20 + rest_ms));
        assert!(breaker.may_ask(21 + rest_ms) && !breaker.may_ask(21 + rest_ms), "one tries");
        assert!(!breaker.failed(30 + rest_ms), "in vain");
        assert!(!breaker.may_ask(29 + 2 * rest_ms));
        assert!(breaker.may_ask(30 + 2 * rest_ms));
        assert!(breaker.answered(), "it is back");
        assert!(breaker.may_ask(31 + 2 * rest_ms) && breaker.may_ask(31 + 2 * rest_ms));
    }
}
