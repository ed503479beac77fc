//! An operator's program, which checks who sends.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use hyper::Method;
use serde_json::Value;

use super::keys::Identity;
use super::script::{Book, Reply};
use super::serve::{Answers, Asked, Listener};
use crate::service::Doing;
use crate::wall::Wall;
use crate::webhook::Config;

const KEY_ID: &str = "key-1";
const KEY: &[u8] = b"a key that both of them have";

/// How old a signature may be, in s.
const AGE_MAX_S: u64 = 300;

/// See the module.
pub struct WebhookMock {
    desk: Arc<Desk>,
    listener: Listener,
    identity: Arc<Identity>,
}

struct Desk {
    book: Book,
    wall: Wall,
}

impl WebhookMock {
    /// Listens.
    pub async fn start(identity: Arc<Identity>, wall: Wall) -> Self {
        let desk = Arc::new(Desk { book: Book::default(), wall });
        let listener = Listener::start(desk.clone(), &identity, &[b"http/1.1"]).await;
        Self { desk, listener, identity }
    }

    /// What it is to say, and what it has heard.
    pub fn book(&self) -> &Book {
        &self.desk.book
    }

    /// What sends to it.
    pub fn config(&self) -> Config {
        Config {
            url: format!("https://{}/tern", self.listener.address),
            roots: self.identity.roots(),
            timeout: Duration::from_secs(10),
            key_id: KEY_ID.to_owned(),
            key: KEY.to_vec(),
        }
    }
}

impl Answers for Desk {
    fn answer(&self, asked: Asked) -> Doing<'_, Reply> {
        let body: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
        let to = body["to"].as_str().unwrap_or_default();
        let reply = if asked.method != Method::POST || asked.path != "/tern" {
            Reply::status(404)
        } else if !self.is_signed(&asked) {
            Reply::status(401)
        } else {
            self.book.reply(to).unwrap_or_else(|| Reply::status(204))
        };
        self.book.heard(to, &asked.headers, &asked.body, reply.status);
        Box::pin(async move { reply })
    }
}

impl Desk {
    fn is_signed(&self, asked: &Asked) -> bool {
        let said = asked.says("tern-signature").unwrap_or_default();
        let of = |name: &str| said.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        let (Some(KEY_ID), Some(at), Some(digits)) = (of("k"), of("t"), of("v1")) else { return false };
        let is_new = at.parse::<u64>().is_ok_and(|at_s| at_s.abs_diff(self.wall.now_s()) <= AGE_MAX_S);
        let signed = [at.as_bytes(), b".", &asked.body].concat();
        let tag = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
        let tag: Option<Vec<u8>> = (0..digits.len()).step_by(2).map(tag).collect();
        let key = hmac::Key::new(hmac::HMAC_SHA256, KEY);
        is_new && tag.is_some_and(|tag| hmac::verify(&key, &signed, &tag).is_ok())
    }
}
