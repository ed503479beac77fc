//! The operator's own program, told by HTTP: whatever service it then uses, or none.
//!
//! ```text
//! POST URL
//! Content-Type: application/json
//! Tern-Signature: k=KEY_ID,t=UNIX_S,v1=HEX
//!
//! {"id", "to", "kind", "priority", "expires_s", "badge", "collapse", "chat", "title", "body"}
//!
//! HEX        HMAC-SHA256 under the key of the text `UNIX_S.BODY`: the digits of `t`, a full stop, the body's bytes; in 64 lower-case digits
//! id         which notice, as a UUID: the same when it is tried again
//! to         the address that the device was registered by
//! kind       message, mention, call, badge or cleared
//! priority   high or normal
//! badge, collapse, chat, title and body are there where the notice has them
//! ```
//! Whoever checks it computes the same, compares in constant time, and refuses what is older than some minutes. Two keys, each by its id,
//! let one be replaced by another.

use std::time::Duration;

use aws_lc_rs::hmac;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, Uri};
use serde_json::json;

use crate::error::Invalid;
use crate::http::{About, Http, Reach, Roots, Schemes, Speaks, retry_after, setting, uri_of};
use crate::limits::WEBHOOK_BODY_BYTES_MAX;
use crate::notice::{Notice, Preview, Priority};
use crate::service::{Answer, Doing, Reason, Service, Trouble};
use crate::text::fit;
use crate::token::{Address, Token, TokenKind};
use crate::wall::Wall;

/// The header of the signature.
pub const SIGNATURE: &str = "tern-signature";

/// What the operator says. It has no `Debug`: there is a key in it.
#[derive(Clone)]
pub struct Config {
    /// Where the program listens: `https`, or `http` for one beside.
    pub url: String,
    /// Whom its certificate is to come from.
    pub roots: Roots,
    /// How long an answer may take.
    pub timeout: Duration,
    /// By which the program knows the key.
    pub key_id: String,
    /// The key: 32 random bytes, say.
    pub key: Vec<u8>,
}

/// Sends to a webhook.
pub struct Webhook {
    http: Http,
    url: Uri,
    key_id: String,
    key: hmac::Key,
    wall: Wall,
}

impl Webhook {
    /// # Errors
    /// The URL, the key's id or the roots can't be used; or the key is empty.
    pub fn new(config: Config, wall: Wall) -> Result<Self, Invalid> {
        let about = About {
            roots: config.roots,
            reach: Reach::Anywhere,
            speaks: Speaks::Both,
            schemes: Schemes::Either,
            timeout: config.timeout,
        };
        let key_id = setting(&config.key_id)?;
        if key_id.contains(',') || config.key.is_empty() {
            return Err(Invalid::Setting);
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, &config.key);
        let url = uri_of(&config.url, Schemes::Either)?;
        Ok(Self { http: Http::new(about)?, url, key_id: key_id.to_owned(), key, wall })
    }

    async fn push(&self, to: &Address, notice: &Notice) -> Answer {
        let body = fit(notice.preview.as_ref(), WEBHOOK_BODY_BYTES_MAX, |preview| body(to, notice, preview));
        let now_s = self.wall.now_s();
        let signature = format!("k={},t={now_s},v1={}", self.key_id, signature(&self.key, now_s, &body));
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.url.clone())
            .header("content-type", "application/json")
            .header(SIGNATURE, signature);
        let request = request.body(Full::new(Bytes::from(body))).expect("all of it was looked at");
        match self.http.send(request).await {
            Ok(reply) => read(reply.status.as_u16(), retry_after(&reply.headers, now_s)),
            Err(_) => Answer::DOWN,
        }
    }
}

/// The digits of a signature.
pub(crate) fn signature(key: &hmac::Key, now_s: u64, body: &[u8]) -> String {
    let tag = hmac::sign(key, &[now_s.to_string().as_bytes(), b".", body].concat());
    tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn body(to: &Address, notice: &Notice, preview: Option<&Preview>) -> Vec<u8> {
    let mut body = json!({
        "id": notice.id.to_uuid(),
        "to": &*to.0,
        "kind": notice.kind.name(),
        "priority": match notice.priority { Priority::High => "high", Priority::Normal => "normal" },
        "expires_s": notice.expires_s,
    });
    if let Some(badge) = notice.badge {
        body["badge"] = badge.into();
    }
    if let Some(collapse) = &notice.collapse {
        body["collapse"] = collapse.digest().into();
    }
    if let Some(chat) = &notice.chat {
        body["chat"] = chat.to_text().into();
    }
    if let Some(preview) = preview {
        body["title"] = preview.title.as_str().into();
        body["body"] = preview.body.as_str().into();
    }
    body.to_string().into_bytes()
}

/// What a status says.
fn read(status: u16, after: Option<Duration>) -> Answer {
    match status {
        200..300 => Answer::Delivered,
        410 => Answer::Dead,
        429 => Answer::Later { trouble: Trouble::Busy, after },
        500.. => Answer::Later { trouble: Trouble::Down, after },
        status => Answer::Refused(Reason::status(status)),
    }
}

impl Service for Webhook {
    fn name(&self) -> &'static str {
        "webhook"
    }

    fn kind(&self) -> TokenKind {
        TokenKind::Webhook
    }

    fn send<'a>(&'a self, token: &'a Token, notice: &'a Notice) -> Doing<'a, Answer> {
        Box::pin(async move {
            match token {
                Token::Webhook(to) => self.push(to, notice).await,
                _ => Answer::NOT_ITS_TOKEN,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_means_one_thing() {
        let after = Some(Duration::from_secs(7));
        assert_eq!([200, 204].map(|status| read(status, None)), [Answer::Delivered, Answer::Delivered]);
        assert_eq!(read(410, None), Answer::Dead);
        assert_eq!(read(429, after), Answer::Later { trouble: Trouble::Busy, after });
        assert_eq!(read(503, after), Answer::Later { trouble: Trouble::Down, after });
        for status in [302, 400, 401, 404, 413] {
            assert_eq!(read(status, after), Answer::Refused(Reason::status(status)));
        }
    }

    /// As computed by `printf '1800000000.{}' | openssl dgst -sha256 -hmac key`.
    #[test]
    fn a_signature_is_what_others_compute() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"key");
        assert_eq!(
            signature(&key, 1_800_000_000, b"{}"),
            "7321475872b03ff21bdc2dfd86ea2d99ec29c479fbe4a77aa6acf4509505493f"
        );
    }
}
