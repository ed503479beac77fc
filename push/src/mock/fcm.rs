//! FCM and Google's token endpoint, as far as they can be seen from outside.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};

use super::jwt::{Signed, checked};
use super::keys::{Identity, rsa};
use super::script::{Book, Reply};
use super::serve::{Answers, Asked, Listener};
use crate::fcm::{Config, Shown};
use crate::service::Doing;
use crate::wall::Wall;

const PROJECT: &str = "tern-test";
const EMAIL: &str = "tern@tern-test.iam.gserviceaccount.com";
const KEY_ID: &str = "key-1";
const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
const GRANT: &str = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=";

/// Whom a script names that is about the token endpoint.
const TOKEN_ENDPOINT: &str = "/token";

/// Bytes of a message's data and notification.
const MESSAGE_BYTES_MAX: usize = 4096;

/// See the module.
pub struct FcmMock {
    desk: Arc<Desk>,
    listener: Listener,
    key_pem: String,
    identity: Arc<Identity>,
}

struct Desk {
    book: Book,
    key: Vec<u8>,
    wall: Wall,
    token_uri: OnceLock<String>,
    /// Access tokens that are good.
    good: Mutex<HashSet<String>>,
    granted: AtomicU64,
    /// What it was granted for.
    assertions: Mutex<Vec<String>>,
}

impl FcmMock {
    /// Listens.
    pub async fn start(identity: Arc<Identity>, wall: Wall) -> Self {
        let (key_pem, key) = rsa();
        let desk = Arc::new(Desk {
            book: Book::default(),
            key,
            wall,
            token_uri: OnceLock::new(),
            good: Mutex::default(),
            granted: AtomicU64::new(0),
            assertions: Mutex::default(),
        });
        let listener = Listener::start(desk.clone(), &identity, &[b"h2", b"http/1.1"]).await;
        let token_uri = format!("https://{}{TOKEN_ENDPOINT}", listener.address);
        desk.token_uri.set(token_uri).expect("it is set once");
        Self { desk, listener, key_pem, identity }
    }

    /// What it is to say, and what it has heard.
    pub fn book(&self) -> &Book {
        &self.desk.book
    }

    /// What sends to it.
    pub fn config(&self) -> Config {
        let account = json!({
            "type": "service_account",
            "project_id": PROJECT,
            "client_email": EMAIL,
            "private_key": self.key_pem,
            "private_key_id": KEY_ID,
            "token_uri": self.desk.token_uri(),
        });
        Config {
            url: format!("https://{}", self.listener.address),
            roots: self.identity.roots(),
            timeout: Duration::from_secs(10),
            account_json: account.to_string(),
            shown: Shown::Nothing,
        }
    }

    /// Says this to whoever wants an access token, once.
    pub fn say_to_granted(&self, reply: Reply) {
        self.desk.book.say_once(TOKEN_ENDPOINT, reply);
    }

    /// Access tokens that were granted are good no more.
    pub fn revoke(&self) {
        self.desk.good().clear();
    }

    /// How many access tokens were granted.
    pub fn granted(&self) -> u64 {
        self.desk.granted.load(Ordering::Acquire)
    }

    /// The JWTs for which they were.
    pub fn assertions(&self) -> Vec<String> {
        self.desk.assertions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Answers for Desk {
    fn answer(&self, asked: Asked) -> Doing<'_, Reply> {
        let reply = if asked.path == TOKEN_ENDPOINT {
            self.book.reply(TOKEN_ENDPOINT).unwrap_or_else(|| self.grant(&asked))
        } else {
            self.send(&asked)
        };
        Box::pin(async move { reply })
    }
}

impl Desk {
    fn token_uri(&self) -> &str {
        self.token_uri.get().expect("it is set at the start")
    }

    fn good(&self) -> MutexGuard<'_, HashSet<String>> {
        self.good.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn grant(&self, asked: &Asked) -> Reply {
        let body = std::str::from_utf8(&asked.body).unwrap_or_default();
        let is_form = asked.says("content-type") == Some("application/x-www-form-urlencoded");
        let assertion = body.strip_prefix(GRANT).filter(|_| is_form && asked.method == Method::POST);
        let Some(assertion) = assertion.filter(|assertion| self.is_accounts(assertion)) else {
            return Reply { body: json!({ "error": "invalid_grant" }).to_string(), ..Reply::status(400) };
        };
        self.assertions.lock().unwrap_or_else(PoisonError::into_inner).push(assertion.to_owned());
        let number = self.granted.fetch_add(1, Ordering::AcqRel);
        let token = format!("ya29.granted-{number}");
        let granted = json!({ "access_token": token, "expires_in": 3600, "token_type": "Bearer" });
        self.good().insert(token);
        Reply { body: granted.to_string(), ..Reply::status(200) }
    }

    /// Whether an assertion is the account's, and is good now.
    fn is_accounts(&self, assertion: &str) -> bool {
        let Some((header, claims)) = checked(assertion, Signed::Rs256, &self.key) else { return false };
        let (Some(issued_s), Some(ends_s)) = (claims["iat"].as_u64(), claims["exp"].as_u64()) else {
            return false;
        };
        let now_s = self.wall.now_s();
        header["kid"] == KEY_ID
            && claims["iss"] == EMAIL
            && claims["scope"] == SCOPE
            && claims["aud"] == self.token_uri()
            && issued_s <= now_s + 60
            && (now_s..=issued_s + 3600).contains(&ends_s)
    }

    fn send(&self, asked: &Asked) -> Reply {
        let body: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
        let token = body["message"]["token"].as_str().unwrap_or_default();
        let reply = match self.checked(asked, &body["message"]) {
            Ok(()) => self.book.reply(token).unwrap_or_else(|| Reply {
                body: json!({ "name": format!("projects/{PROJECT}/messages/1") }).to_string(),
                ..Reply::status(200)
            }),
            Err(reply) => reply,
        };
        self.book.heard(token, &asked.headers, &asked.body, reply.status);
        reply
    }

    fn checked(&self, asked: &Asked, message: &Value) -> Result<(), Reply> {
        if asked.path != format!("/v1/projects/{PROJECT}/messages:send") || asked.method != Method::POST {
            return Err(Reply::fcm(404, "NOT_FOUND", None, None));
        }
        let access = asked.says("authorization").and_then(|text| text.strip_prefix("Bearer "));
        if !access.is_some_and(|access| self.good().contains(access)) {
            return Err(Reply::fcm(401, "UNAUTHENTICATED", None, None));
        }
        wrong_field(message).map_or(Ok(()), |field| {
            Err(Reply::fcm(400, "INVALID_ARGUMENT", Some("INVALID_ARGUMENT"), Some(field)))
        })
    }
}

/// Which field of a message is none that there may be.
fn wrong_field(message: &Value) -> Option<&'static str> {
    if !message["token"].is_string() {
        return Some("message.token");
    }
    if !message["data"].as_object().is_some_and(|data| data.values().all(Value::is_string)) {
        return Some("message.data");
    }
    let android = &message["android"];
    if !matches!(android["priority"].as_str(), Some("HIGH" | "NORMAL")) {
        return Some("message.android.priority");
    }
    let ttl = android["ttl"].as_str().and_then(|ttl| ttl.strip_suffix('s')?.parse::<u64>().ok());
    if ttl.is_none_or(|ttl_s| ttl_s > 28 * 24 * 3600) {
        return Some("message.android.ttl");
    }
    let bytes = message["data"].to_string().len() + android["notification"].to_string().len();
    (bytes > MESSAGE_BYTES_MAX).then_some("message")
}
