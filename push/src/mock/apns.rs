//! APNs, as far as it can be seen from outside (Apple, "Sending notification requests to APNs", "Handling notification responses").

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::Method;
use serde_json::Value;

use super::jwt::{Signed, checked};
use super::keys::{Identity, p256};
use super::script::{Book, Reply};
use super::serve::{Answers, Asked, Listener};
use crate::apns::{Config, Texts};
use crate::service::Doing;
use crate::wall::Wall;

/// How old a token may be, in s.
const AGE_MAX_S: u64 = 3600;

/// How far a clock may be ahead, in s.
const AHEAD_MAX_S: u64 = 60;

const TOPIC: &str = "org.example.tern";
const TEAM_ID: &str = "TEAM567890";
const KEY_ID: &str = "KEY4567890";

/// See the module.
pub struct ApnsMock {
    desk: Arc<Desk>,
    listener: Listener,
    key_pem: String,
    identity: Arc<Identity>,
}

struct Desk {
    book: Book,
    key: Vec<u8>,
    wall: Wall,
    /// When tokens were issued whose signatures have been checked: once for each, as Apple says one is to be used again.
    issued: Mutex<HashMap<String, u64>>,
}

impl ApnsMock {
    /// Listens.
    pub async fn start(identity: Arc<Identity>, wall: Wall) -> Self {
        let (key_pem, key) = p256();
        let desk = Arc::new(Desk { book: Book::default(), key, wall, issued: Mutex::default() });
        let listener = Listener::start(desk.clone(), &identity, &[b"h2"]).await;
        Self { desk, listener, key_pem, identity }
    }

    /// What it is to say, and what it has heard.
    pub fn book(&self) -> &Book {
        &self.desk.book
    }

    /// What sends to it.
    pub fn config(&self) -> Config {
        Config {
            url: format!("https://{}", self.listener.address),
            roots: self.identity.roots(),
            timeout: Duration::from_secs(10),
            topic: TOPIC.to_owned(),
            team_id: TEAM_ID.to_owned(),
            key_id: KEY_ID.to_owned(),
            key_pem: self.key_pem.clone(),
            texts: Texts::default(),
        }
    }
}

impl Answers for Desk {
    fn answer(&self, asked: Asked) -> Doing<'_, Reply> {
        let token = asked.path.strip_prefix("/3/device/").unwrap_or_default();
        let reply = self
            .checked(&asked, token)
            .err()
            .unwrap_or_else(|| self.book.reply(token).unwrap_or_else(|| Reply::status(200)));
        self.book.heard(token, &asked.headers, &asked.body, reply.status);
        Box::pin(async move { reply })
    }
}

impl Desk {
    /// What APNs looks at before it looks at the device.
    fn checked(&self, asked: &Asked, token: &str) -> Result<(), Reply> {
        let refuse = |status, reason| Err(Reply::apns(status, reason));
        if asked.method != Method::POST {
            return refuse(405, "MethodNotAllowed");
        }
        if token.is_empty() {
            return refuse(404, "BadPath");
        }
        self.checked_provider(asked)?;
        if !token.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return refuse(400, "BadDeviceToken");
        }
        checked_headers(asked).or_else(|reason| refuse(400, reason))?;
        checked_payload(asked)
    }

    fn checked_provider(&self, asked: &Asked) -> Result<(), Reply> {
        let refuse = |reason| Err(Reply::apns(403, reason));
        let Some(token) = asked.says("authorization").and_then(|text| text.strip_prefix("bearer ")) else {
            return refuse("MissingProviderToken");
        };
        let Some(issued_s) = self.issued_s(token) else { return refuse("InvalidProviderToken") };
        let now_s = self.wall.now_s();
        if issued_s > now_s + AHEAD_MAX_S || issued_s + AGE_MAX_S < now_s {
            return refuse("ExpiredProviderToken");
        }
        Ok(())
    }

    /// When a token was issued, if it is the team's.
    fn issued_s(&self, token: &str) -> Option<u64> {
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(issued_s) = issued.get(token) {
            return Some(*issued_s);
        }
        let (header, claims) = checked(token, Signed::Es256, &self.key)?;
        let issued_s = claims["iat"].as_u64()?;
        let is_one = header["kid"] == KEY_ID && claims["iss"] == TEAM_ID;
        is_one.then(|| *issued.entry(token.to_owned()).or_insert(issued_s))
    }
}

fn checked_headers(asked: &Asked) -> Result<(), &'static str> {
    let kind = asked.says("apns-push-type").ok_or("InvalidPushType")?;
    let topic = asked.says("apns-topic").ok_or("MissingTopic")?;
    match (kind, topic) {
        ("alert" | "background", TOPIC) => {}
        ("voip", topic) if topic.strip_suffix(".voip") == Some(TOPIC) => {}
        ("alert" | "background" | "voip", _) => return Err("TopicDisallowed"),
        _ => return Err("InvalidPushType"),
    }
    match (kind, asked.says("apns-priority")) {
        ("background", Some("5")) | ("alert" | "voip", Some("5" | "10")) => {}
        _ => return Err("BadPriority"),
    }
    if asked.says("apns-expiration").is_none_or(|text| text.parse::<u64>().is_err()) {
        return Err("BadExpirationDate");
    }
    if asked.says("apns-collapse-id").is_some_and(|id| id.len() > 64) {
        return Err("BadCollapseId");
    }
    let is_uuid = |id: &str| {
        let lengths = id.split('-').map(str::len);
        let is_hex = id.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
        is_hex && lengths.eq([8, 4, 4, 4, 12])
    };
    if asked.says("apns-id").is_some_and(|id| !is_uuid(id)) { Err("BadMessageId") } else { Ok(()) }
}

fn checked_payload(asked: &Asked) -> Result<(), Reply> {
    let kind = asked.says("apns-push-type").unwrap_or_default();
    let bytes_max = if kind == "voip" { 5120 } else { 4096 };
    if asked.body.len() > bytes_max {
        return Err(Reply::apns(413, "PayloadTooLarge"));
    }
    let payload = serde_json::from_slice::<Value>(&asked.body).unwrap_or_default();
    let Some(aps) = payload["aps"].as_object() else { return Err(Reply::apns(400, "PayloadEmpty")) };
    let is_shown = ["alert", "badge", "sound"].iter().any(|key| aps.contains_key(*key));
    // APNs takes a background push that shows something, and devices drop it: a test is to see it.
    let is_sound = match kind {
        "background" => !is_shown && aps.get("content-available") == Some(&Value::from(1)),
        "alert" => is_shown,
        _ => true,
    };
    if is_sound { Ok(()) } else { Err(Reply::apns(400, "InvalidPushType")) }
}
