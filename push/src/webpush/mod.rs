//! Browsers' services: Web Push (RFC 8030), encrypted for the browser (RFC 8188, RFC 8291), and signed by the server (RFC 8292). Where it goes,
//! the browser says: so a user chooses the host, and what a host does must do nothing to others.

mod encrypt;
mod hosts;
mod vapid;

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request};
use serde_json::{Value, json};

pub use self::encrypt::Padding;
use self::encrypt::{PLAIN_BYTES_MAX, encrypt};
use self::hosts::Hosts;
use self::vapid::Vapid;
use crate::error::Invalid;
use crate::http::{About, Http, Lost, Reach, Reply, Roots, Schemes, Speaks, retry_after};
use crate::notice::{Notice, Preview, Priority};
use crate::service::{Answer, Doing, Reason, Service, Trouble};
use crate::text::fit;
use crate::token::{Subscription, Token, TokenKind};
use crate::wall::Wall;

/// Hosts of the browsers' services that there are: Chrome's and those made of it, Firefox's, Edge's, Safari's.
pub const KNOWN_HOSTS: [&str; 4] =
    ["fcm.googleapis.com", "push.services.mozilla.com", "notify.windows.com", "push.apple.com"];

/// What the operator says. It has no `Debug`: there is a key in it.
#[derive(Clone)]
pub struct Config {
    /// Whom certificates are to come from.
    pub roots: Roots,
    /// Which addresses may be reached.
    pub reach: Reach,
    /// Which hosts are told, and those below them: `push.services.mozilla.com` is `updates.push.services.mozilla.com` as well. Empty: all. See
    /// [`KNOWN_HOSTS`].
    pub hosts: Vec<String>,
    /// How long an answer may take.
    pub timeout: Duration,
    /// The key: PKCS#8 in PEM, of P-256. Browsers subscribe to its public part, so it must stay.
    pub key_pem: String,
    /// Whom a push service asks if something is wrong: `mailto:` or `https:`.
    pub contact: String,
    /// How the length of what is said is hidden.
    pub padding: Padding,
}

/// Sends to the services of browsers.
pub struct WebPush {
    http: Http,
    vapid: Vapid,
    padding: Padding,
    hosts: Hosts,
    may: Vec<String>,
    wall: Wall,
}

impl WebPush {
    /// # Errors
    /// The key, the contact or the roots can't be used.
    pub fn new(config: Config, wall: Wall) -> Result<Self, Invalid> {
        let about = About {
            roots: config.roots,
            reach: config.reach,
            speaks: Speaks::Both,
            schemes: Schemes::Https,
            timeout: config.timeout,
        };
        let vapid = Vapid::new(&config.key_pem, &config.contact)?;
        Ok(Self {
            http: Http::new(about)?,
            vapid,
            padding: config.padding,
            hosts: Hosts::default(),
            may: config.hosts,
            wall,
        })
    }

    /// The public key in base64url, to which a browser subscribes (`applicationServerKey`).
    pub fn public_key(&self) -> &str {
        self.vapid.public_key()
    }

    /// The same as a point of P-256, uncompressed.
    pub fn public_point(&self) -> &[u8] {
        self.vapid.public_point()
    }

    async fn push(&self, to: &Subscription, notice: &Notice) -> Answer {
        if !may_tell(&self.may, to.endpoint.host().unwrap_or_default()) {
            return Answer::Refused(Reason::of("the endpoint's host is not among those that are told"));
        }
        let origin = to.origin();
        let place = match self.hosts.enter(&origin) {
            Ok(place) => place,
            Err(wait) => return Answer::Wait(wait),
        };
        let Some(body) = self.body(to, notice) else {
            return Answer::Refused(Reason::of("the subscription's key is no point of P-256"));
        };
        let answer = match self.http.send(self.request(to, &origin, notice, body)).await {
            Ok(reply) => self.read(&reply),
            Err(Lost::NotReachable) => Answer::Refused(Reason::of("the endpoint is not a public host")),
            Err(Lost::Unanswered) => Answer::DOWN,
        };
        // Of others a host that is down says nothing.
        match answer {
            Answer::Later { trouble: Trouble::Down, after } => {
                place.failed();
                Answer::Later { trouble: Trouble::Device, after }
            }
            answer => {
                place.answered();
                answer
            }
        }
    }

    /// `None`: it can't be encrypted for this subscription.
    fn body(&self, to: &Subscription, notice: &Notice) -> Option<Vec<u8>> {
        let plain = fit(notice.preview.as_ref(), PLAIN_BYTES_MAX, |preview| payload(notice, preview));
        encrypt(&plain, self.padding, to)
    }

    fn request(
        &self,
        to: &Subscription,
        origin: &str,
        notice: &Notice,
        body: Vec<u8>,
    ) -> Request<Full<Bytes>> {
        let now_s = self.wall.now_s();
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(to.endpoint.clone())
            .header("authorization", &*self.vapid.authorization(origin, now_s))
            .header("content-type", "application/octet-stream")
            .header("content-encoding", "aes128gcm")
            .header("ttl", notice.ttl_s(now_s))
            .header("urgency", urgency(notice));
        if let Some(collapse) = &notice.collapse {
            request = request.header("topic", collapse.digest());
        }
        request.body(Full::new(body.into())).expect("all of it was looked at")
    }

    fn read(&self, reply: &Reply) -> Answer {
        read(reply.status.as_u16(), retry_after(&reply.headers, self.wall.now_s()))
    }
}

/// Whether a host is one of these, or below one.
fn may_tell(hosts: &[String], host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let is_of =
        |name: &String| host.strip_suffix(&**name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    hosts.is_empty() || hosts.iter().any(is_of)
}

/// What a status says (RFC 8030, sections 5 and 8.4).
fn read(status: u16, after: Option<Duration>) -> Answer {
    match status {
        200..300 => Answer::Delivered,
        404 | 410 => Answer::Dead,
        429 => Answer::Later { trouble: Trouble::Device, after },
        500.. => Answer::Later { trouble: Trouble::Down, after },
        status => Answer::Refused(Reason::status(status)),
    }
}

/// RFC 8030, section 5.3.
fn urgency(notice: &Notice) -> &'static str {
    match notice.priority {
        Priority::High if notice.kind.is_shown() => "high",
        Priority::High | Priority::Normal => "normal",
    }
}

/// What the page's service worker gets: `{"kind", "badge", "chat", "title", "body"}`.
fn payload(notice: &Notice, preview: Option<&Preview>) -> Vec<u8> {
    let mut payload: Value = json!({ "kind": notice.kind.name() });
    if let Some(badge) = notice.badge {
        payload["badge"] = badge.into();
    }
    if let Some(chat) = &notice.chat {
        payload["chat"] = chat.to_text().into();
    }
    if let Some(preview) = preview {
        payload["title"] = preview.title.as_str().into();
        payload["body"] = preview.body.as_str().into();
    }
    payload.to_string().into_bytes()
}

impl Service for WebPush {
    fn name(&self) -> &'static str {
        "webpush"
    }

    fn kind(&self) -> TokenKind {
        TokenKind::WebPush
    }

    fn send<'a>(&'a self, token: &'a Token, notice: &'a Notice) -> Doing<'a, Answer> {
        Box::pin(async move {
            match token {
                Token::WebPush(to) => self.push(to, notice).await,
                _ => Answer::NOT_ITS_TOKEN,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_told_that_are_named_and_those_below_them() {
        let hosts = KNOWN_HOSTS.map(str::to_owned);
        let check = |host, expect| assert_eq!(may_tell(&hosts, host), expect, "{host}");
        check("fcm.googleapis.com", true);
        check("FCM.googleapis.com", true);
        check("updates.push.services.mozilla.com", true);
        check("evilfcm.googleapis.com", false);
        check("fcm.googleapis.com.example.org", false);
        check("127.0.0.1", false);
        assert!(may_tell(&[], "push.example.org"));
    }

    #[test]
    fn each_status_means_one_thing() {
        let after = Some(Duration::from_secs(7));
        let refused = |status| Answer::Refused(Reason::status(status));
        for status in [200, 201, 202, 204] {
            assert_eq!(read(status, None), Answer::Delivered);
        }
        assert_eq!([404, 410].map(|status| read(status, None)), [Answer::Dead, Answer::Dead]);
        for status in [301, 302, 307, 308, 400, 401, 403, 413] {
            assert_eq!(read(status, after), refused(status));
        }
        assert_eq!(read(429, after), Answer::Later { trouble: Trouble::Device, after });
        for status in [500, 502, 503] {
            assert_eq!(read(status, after), Answer::Later { trouble: Trouble::Down, after });
        }
    }
}
