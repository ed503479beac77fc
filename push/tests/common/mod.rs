//! What tests against the mocks have in common: a time of day that they set, notices, and a sender that is quick to try again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;
use tern_push::mock::Identity;
use tern_push::{
    Address, Answer, ApnsToken, ApnsUse, Backoff, ChatRef, CollapseKey, DeviceId, FcmToken, Kind, Notice,
    NoticeId, Order, Outcome, Outcomes, Pauses, Preview, Priority, Reason, Sender, Service, Settings, Token,
    Trouble, Wall,
};

pub const NOW_S: u64 = 1_800_000_000;

/// What a test has to begin with.
pub struct World {
    pub identity: Arc<Identity>,
    now_s: Arc<AtomicU64>,
}

impl Default for World {
    fn default() -> Self {
        Self { identity: Arc::default(), now_s: Arc::new(AtomicU64::new(NOW_S)) }
    }
}

impl World {
    pub fn wall(&self) -> Wall {
        let now_s = self.now_s.clone();
        Wall::new(move || now_s.load(Ordering::Acquire))
    }

    /// So many seconds pass.
    pub fn pass(&self, seconds: u64) {
        self.now_s.fetch_add(seconds, Ordering::AcqRel);
    }

    /// A sender that waits for milliseconds where others wait for seconds, and tries more often than tests have connections end.
    pub fn sender(&self, service: impl Service) -> (Sender, Outcomes) {
        let backoff =
            Backoff { base: Duration::from_millis(1), cap: Duration::from_millis(4), ..Backoff::default() };
        let pauses = Pauses { first: Duration::from_millis(1), max: Duration::from_millis(4) };
        let settings = Settings { backoff, pauses, tries_max: 50, ..Settings::default() };
        Sender::start(settings, vec![Arc::new(service)], &self.wall(), ChaCha8Rng::seed_from_u64(1))
    }
}

/// A notice of a message, with all that there may be but a preview.
pub fn notice(id: u128) -> Notice {
    Notice {
        id: NoticeId(id),
        kind: Kind::Message,
        badge: Some(3),
        collapse: CollapseKey::new("chat 7").ok(),
        priority: Priority::High,
        expires_s: NOW_S + 3600,
        preview: None,
        chat: ChatRef::new([1, 2, 3]).ok(),
    }
}

/// One that says something, at length.
pub fn long_notice(id: u128) -> Notice {
    let preview = Preview { title: "Ada \"L\"".to_owned(), body: "a word äöü \n".repeat(20_000) };
    Notice { preview: Some(preview), ..notice(id) }
}

pub fn apns(hex: &str) -> Token {
    Token::Apns(ApnsToken::new(hex, ApnsUse::Notices, NOW_S - 1000).expect("it is one"))
}

pub fn fcm(token: &str) -> Token {
    Token::Fcm(FcmToken::new(token).expect("it is one"))
}

pub fn webhook(to: &str) -> Token {
    Token::Webhook(Address::new(to).expect("it is one"))
}

pub fn order(id: u128, token: &Token) -> Order {
    Order { device: DeviceId(id), token: token.clone(), notice: notice(id) }
}

pub fn later(trouble: Trouble, after_s: Option<u64>) -> Answer {
    Answer::Later { trouble, after: after_s.map(Duration::from_secs) }
}

pub fn refused(reason: &'static str) -> Answer {
    Answer::Refused(Reason::of(reason))
}

/// The outcomes of so many notices, by their ids. One that has two fails.
pub async fn outcomes_of(outcomes: &mut Outcomes, count: usize) -> BTreeMap<u128, Outcome> {
    let mut all = BTreeMap::new();
    while all.len() < count {
        let report = outcomes.next().await.expect("there are some left");
        let former = all.insert(report.id.0, report.outcome);
        assert_eq!(former, None, "{:?} has two outcomes", report.id);
    }
    all
}
