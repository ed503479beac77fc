//! What a mock is to say, and what it has heard.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hyper::HeaderMap;
use tokio::sync::watch;

/// What is said instead of what the service would.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: String,
    /// How long it takes. `None`: it never comes.
    pub delay: Option<Duration>,
    /// What becomes of the connection.
    pub end: End,
}

/// What becomes of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// It stays.
    Stays,
    /// It takes no further requests, and ends when all are answered: GOAWAY.
    GoesAway,
    /// It is gone, with no answer to any.
    IsReset,
}

impl Reply {
    /// One of this status.
    pub fn status(status: u16) -> Self {
        let (headers, body, delay) = (Vec::new(), String::new(), Some(Duration::ZERO));
        Self { status, headers, body, delay, end: End::Stays }
    }

    /// A refusal of APNs.
    pub fn apns(status: u16, reason: &str) -> Self {
        Self { body: format!("{{\"reason\":\"{reason}\"}}"), ..Self::status(status) }
    }

    /// APNs's status 410: since when the token is none, in ms since the Unix epoch.
    pub fn apns_gone(reason: &str, timestamp_ms: u64) -> Self {
        Self {
            body: format!("{{\"reason\":\"{reason}\",\"timestamp\":{timestamp_ms}}}"),
            ..Self::status(410)
        }
    }

    /// A refusal of FCM: the general status, FCM's own code, and which field is wrong.
    pub fn fcm(status: u16, general: &str, code: Option<&str>, field: Option<&str>) -> Self {
        let of = "type.googleapis.com/google.firebase.fcm.v1.FcmError";
        let code = code.map(|code| serde_json::json!({ "@type": of, "errorCode": code }));
        let of = "type.googleapis.com/google.rpc.BadRequest";
        let field =
            field.map(|field| serde_json::json!({ "@type": of, "fieldViolations": [{ "field": field }] }));
        let details: Vec<_> = [code, field].into_iter().flatten().collect();
        let error =
            serde_json::json!({ "code": status, "status": general, "message": "no", "details": details });
        Self { body: serde_json::json!({ "error": error }).to_string(), ..Self::status(status) }
    }

    /// A connection that is gone.
    pub fn reset() -> Self {
        Self { end: End::IsReset, ..Self::status(500) }
    }

    /// None at all.
    pub fn never() -> Self {
        Self { delay: None, ..Self::status(500) }
    }

    /// With a header.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// After so long.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self { delay: Some(delay), ..self }
    }

    /// With the last answer of its connection.
    #[must_use]
    pub fn going_away(self) -> Self {
        Self { end: End::GoesAway, ..self }
    }
}

/// A request that came, whatever was answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Push {
    /// For which device: its token, or its name in an endpoint.
    pub to: String,
    /// Its headers, with names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: Bytes,
    /// The status that it was answered with.
    pub status: u16,
}

/// What a mock is to say, and what it has heard.
#[derive(Default)]
pub struct Book {
    scripts: Mutex<Scripts>,
    pushes: Mutex<Vec<Push>>,
    /// How often each device was told, with success.
    told: Mutex<HashMap<String, u32>>,
    count: watch::Sender<u64>,
}

#[derive(Default)]
struct Scripts {
    once: HashMap<String, VecDeque<Reply>>,
    always: HashMap<String, Reply>,
    all: Option<Reply>,
}

/// Requests that a mock keeps: more than a test sends. A bench's are counted.
const KEPT_MAX: usize = 10_000;

impl Book {
    /// Says this to a device, once: what is said first comes first.
    pub fn say_once(&self, to: &str, reply: Reply) {
        lock(&self.scripts).once.entry(to.to_owned()).or_default().push_back(reply);
    }

    /// Says this to a device, from now on.
    pub fn say_always(&self, to: &str, reply: Reply) {
        lock(&self.scripts).always.insert(to.to_owned(), reply);
    }

    /// Says this to all from now on; or again what the service would.
    pub fn say_to_all(&self, reply: Option<Reply>) {
        lock(&self.scripts).all = reply;
    }

    /// What came, in its order; of very many the first.
    pub fn pushes(&self) -> Vec<Push> {
        lock(&self.pushes).clone()
    }

    /// How often each device was told: those of which the service has taken something.
    pub fn told(&self) -> HashMap<String, u32> {
        lock(&self.told).clone()
    }

    /// How many came.
    pub fn count(&self) -> u64 {
        *self.count.borrow()
    }

    /// Waits until so many have come.
    pub async fn count_is(&self, count: u64) {
        let reached = self.count.subscribe().wait_for(|came| *came >= count).await.map(drop);
        reached.expect("the book is there for as long as it is asked");
    }

    /// What is to be said to a device, if not what the service would.
    pub(super) fn reply(&self, to: &str) -> Option<Reply> {
        let mut scripts = lock(&self.scripts);
        let once = scripts.once.get_mut(to).and_then(VecDeque::pop_front);
        once.or_else(|| scripts.always.get(to).cloned()).or_else(|| scripts.all.clone())
    }

    pub(super) fn heard(&self, to: &str, headers: &HeaderMap, body: &Bytes, status: u16) {
        let mut pushes = lock(&self.pushes);
        if pushes.len() < KEPT_MAX {
            let text =
                |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
            let headers = headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
            pushes.push(Push { to: to.to_owned(), headers, body: body.clone(), status });
        }
        drop(pushes);
        if (200..300).contains(&status) {
            *lock(&self.told).entry(to.to_owned()).or_default() += 1;
        }
        self.count.send_modify(|count| *count += 1);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
