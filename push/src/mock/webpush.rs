//! A browser's push service, as far as it can be seen from outside (RFC 8030, RFC 8292), and browsers that subscribe to it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aws_lc_rs::agreement::{ECDH_P256, PrivateKey};
use aws_lc_rs::encoding::{AsBigEndian as _, EcPrivateKeyBin};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hyper::Method;

use super::jwt::{Signed, checked};
use super::keys::{Identity, p256};
use super::script::{Book, Push, Reply};
use super::serve::{Answers, Asked, Listener};
use crate::http::Reach;
use crate::service::Doing;
use crate::token::Subscription;
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

/// A browser that has subscribed.
pub struct Subscriber {
    private: PrivateKey,
    auth: [u8; 16],
    endpoint: String,
}

impl Subscriber {
    /// What it has given to the app.
    pub fn subscription(&self) -> Subscription {
        let point = self.private.compute_public_key().expect("a key has a public part");
        let key = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        Subscription::new(&self.endpoint, &key(point.as_ref()), &key(&self.auth)).expect("it is one")
    }

    /// Where it is told.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// What it decrypts with, in base64url: its private key, as a number of 32 bytes, and its secret.
    pub fn secrets(&self) -> (String, String) {
        let private: EcPrivateKeyBin<'_> = self.private.as_be_bytes().expect("it is a key of a curve");
        (BASE64_URL_SAFE_NO_PAD.encode(private.as_ref()), BASE64_URL_SAFE_NO_PAD.encode(self.auth))
    }
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

    /// What sends to it.
    pub fn config(&self) -> Config {
        Config {
            roots: self.identity.roots(),
            reach: Reach::Anywhere,
            timeout: Duration::from_secs(10),
            key_pem: self.key_pem.clone(),
            contact: "mailto:push@example.org".to_owned(),
            padding: Padding::default(),
        }
    }

    /// A browser of this name subscribes: letters and digits.
    pub fn subscribe(&self, name: &str) -> Subscriber {
        let mut auth = [0; 16];
        aws_lc_rs::rand::fill(&mut auth).expect("the system gives random bytes");
        let private = PrivateKey::generate(&ECDH_P256).expect("the system gives random bytes");
        Subscriber { private, auth, endpoint: format!("{}{ENDPOINTS}{name}", self.origin()) }
    }

    /// Where it listens: `https://host:port`.
    pub fn origin(&self) -> &str {
        self.desk.origin.get().expect("it is set at the start")
    }

    /// Says this to a browser, once.
    pub fn say_once(&self, name: &str, reply: Reply) {
        self.desk.book.say_once(name, reply);
    }

    /// Says this to a browser, from now on.
    pub fn say_always(&self, name: &str, reply: Reply) {
        self.desk.book.say_always(name, reply);
    }

    /// What came, in its order, as it was encrypted.
    pub fn pushes(&self) -> Vec<Push> {
        self.desk.book.pushes()
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
