//! A browser's push service, as far as it can be seen from outside (RFC 8030, RFC 8292), and browsers that subscribe to it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hyper::Method;

use super::browser::Subscriber;
use super::jwt::{Signed, checked};
use super::keys::{Identity, p256};
use super::script::{Book, Reply};
use super::serve::{Answers, Asked, Listener};
use crate::http::Reach;
use crate::service::Doing;
use crate::wall::Wall;
use crate::webpush::{Config, Padding};

/// Where endpoints lie.
const ENDPOINTS: &str = "/push/";

/// How long a token may be good, in s (RFC 8292, section 2).
const VALID_MAX_S: u64 = 24 * 3600;

/// See the module.
pub struct WebPushMock {
    desk: Arc<Desk>,
    /// Until it is dropped.
    _listener: Listener,
    key_pem: String,
    identity: Arc<Identity>,
}

struct Desk {
    book: Book,
    key: Vec<u8>,
    wall: Wall,
    origin: OnceLock<String>,
}

impl WebPushMock {
    /// Listens.
    pub async fn start(identity: Arc<Identity>, wall: Wall) -> Self {
        let (key_pem, key) = p256();
        let desk = Arc::new(Desk { book: Book::default(), key, wall, origin: OnceLock::new() });
        let listener = Listener::start(desk.clone(), &identity, &[b"h2", b"http/1.1"]).await;
        desk.origin.set(format!("https://{}", listener.address)).expect("it is set once");
        Self { desk, _listener: listener, key_pem, identity }
    }

    /// What it is to say, and what it has heard.
    pub fn book(&self) -> &Book {
        &self.desk.book
    }

    /// What sends to it.
    pub fn config(&self) -> Config {
        Config {
            roots: self.identity.roots(),
            reach: Reach::Anywhere,
            hosts: Vec::new(),
            timeout: Duration::from_secs(10),
            key_pem: self.key_pem.clone(),
            contact: "mailto:push@example.org".to_owned(),
            padding: Padding::default(),
        }
    }

    /// A browser of this name subscribes: letters and digits.
    pub fn subscribe(&self, name: &str) -> Subscriber {
        Subscriber::new(format!("{}{ENDPOINTS}{name}", self.origin()))
    }

    /// Where it listens: `https://host:port`.
    pub fn origin(&self) -> &str {
        self.desk.origin.get().expect("it is set at the start")
    }
}

impl Answers for Desk {
    fn answer(&self, asked: Asked) -> Doing<'_, Reply> {
        let name = asked.path.strip_prefix(ENDPOINTS).unwrap_or_default();
        let reply = self
            .refusal(&asked, name)
            .map_or_else(|| self.book.reply(name).unwrap_or_else(|| Reply::status(201)), Reply::status);
        self.book.heard(name, &asked.headers, &asked.body, reply.status);
        Box::pin(async move { reply })
    }
}

impl Desk {
    /// The status of what a push service refuses before it looks at the subscription.
    fn refusal(&self, asked: &Asked, name: &str) -> Option<u16> {
        let is_topic = |topic: &str| {
            let is_char = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            topic.len() <= 32 && topic.bytes().all(is_char)
        };
        let is_urgency = |urgency: &str| ["very-low", "low", "normal", "high"].contains(&urgency);
        if asked.method != Method::POST {
            return Some(405);
        }
        if name.is_empty() {
            return Some(404);
        }
        if asked.body.len() > 4096 {
            return Some(413);
        }
        if !self.is_signed(asked) {
            return Some(403);
        }
        let is_whole = asked.says("ttl").is_some_and(|ttl| ttl.parse::<u32>().is_ok())
            && asked.says("urgency").is_none_or(is_urgency)
            && asked.says("topic").is_none_or(is_topic)
            && asked.says("content-encoding") == Some("aes128gcm");
        (!is_whole).then_some(400)
    }

    fn is_signed(&self, asked: &Asked) -> bool {
        let said = asked.says("authorization").and_then(|text| text.strip_prefix("vapid t="));
        let Some((token, key)) = said.and_then(|said| said.split_once(", k=")) else { return false };
        let Some((_, claims)) = checked(token, Signed::Es256, &self.key) else { return false };
        let now_s = self.wall.now_s();
        let is_contact = |contact: &str| contact.starts_with("mailto:") || contact.starts_with("https:");
        BASE64_URL_SAFE_NO_PAD.decode(key).is_ok_and(|key| key == self.key)
            && claims["aud"].as_str() == self.origin.get().map(String::as_str)
            && claims["sub"].as_str().is_some_and(is_contact)
            && claims["exp"].as_u64().is_some_and(|ends_s| (now_s..=now_s + VALID_MAX_S).contains(&ends_s))
    }
}
