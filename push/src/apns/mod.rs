//! Apple's service (Apple, "Sending notification requests to APNs"): HTTP/2, one connection with many requests on it, and a token that
//! says who sends.

mod answer;
mod payload;
mod provider;

use std::time::Duration;

use http_body_util::Full;
use hyper::{Method, Request};
use serde::Deserialize;

use self::answer::{Said, read};
use self::payload::Push;
pub use self::payload::Texts;
use self::provider::Provider;
use crate::error::Invalid;
use crate::http::{About, BaseUrl, Http, Reach, Reply, Roots, Schemes, Speaks, retry_after, setting};
use crate::notice::Notice;
use crate::service::{Answer, Doing, Reason, Service};
use crate::token::{ApnsToken, Token, TokenKind};
use crate::wall::Wall;

/// Where devices of apps from the App Store and TestFlight are told.
pub const PRODUCTION: &str = "https://api.push.apple.com";

/// Where devices of apps from Xcode are told.
pub const SANDBOX: &str = "https://api.sandbox.push.apple.com";

/// What the operator says. It has no `Debug`: there is a key in it.
#[derive(Clone)]
pub struct Config {
    /// [`PRODUCTION`], [`SANDBOX`], or another one.
    pub url: String,
    /// Whom its certificate is to come from.
    pub roots: Roots,
    /// How long an answer may take.
    pub timeout: Duration,
    /// The app's bundle id. Calls go to it with `.voip` behind.
    pub topic: String,
    /// The team's id.
    pub team_id: String,
    /// The key's id.
    pub key_id: String,
    /// The key: the `.p8` file that Apple gives.
    pub key_pem: String,
    /// What the app says in the user's language.
    pub texts: Texts,
}

/// Sends to APNs.
pub struct Apns {
    http: Http,
    url: BaseUrl,
    topics: Topics,
    provider: Provider,
    texts: Texts,
    wall: Wall,
}

/// What the header `apns-topic` says.
struct Topics {
    notices: String,
    calls: String,
}

/// The body of a refusal.
#[derive(Deserialize, Default)]
struct Refusal {
    #[serde(default)]
    reason: String,
    /// When the token was last known to be none, in ms since the Unix epoch: with status 410 alone.
    timestamp: Option<u64>,
}

impl Apns {
    /// # Errors
    /// The key, the URL, a setting or the roots can't be used.
    pub fn new(config: Config, wall: Wall) -> Result<Self, Invalid> {
        let about = About {
            roots: config.roots,
            reach: Reach::Anywhere,
            speaks: Speaks::Two,
            schemes: Schemes::Https,
            timeout: config.timeout,
        };
        let topic = setting(&config.topic)?;
        Ok(Self {
            http: Http::new(about)?,
            url: BaseUrl::new(&config.url)?,
            topics: Topics { notices: topic.to_owned(), calls: format!("{topic}.voip") },
            provider: Provider::new(&config.key_pem, setting(&config.key_id)?, setting(&config.team_id)?)?,
            texts: config.texts,
            wall,
        })
    }

    async fn push(&self, token: &ApnsToken, notice: &Notice) -> Answer {
        let Some(push) = Push::of(token, notice, &self.texts) else {
            return Answer::Refused(Reason::of("a token for calls takes calls alone"));
        };
        let authorization = self.provider.token(self.wall.now_s());
        let said = match self.try_once(token, notice, &push, &authorization).await {
            Some(Said::ExpiredProviderToken) => {
                match self.provider.token_instead_of(&authorization, self.wall.now_s()) {
                    Some(new) => self.try_once(token, notice, &push, &new).await,
                    None => None,
                }
            }
            said => said,
        };
        match said {
            Some(Said::Answer(answer)) => answer,
            // A token that is new, and over all the same: a clock is wrong, Apple's or this machine's.
            Some(Said::ExpiredProviderToken) | None => Answer::DOWN,
        }
    }

    /// Sends it. `None`: there is no answer.
    async fn try_once(
        &self,
        token: &ApnsToken,
        notice: &Notice,
        push: &Push,
        authorization: &str,
    ) -> Option<Said> {
        let topic = if push.is_call { &self.topics.calls } else { &self.topics.notices };
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(self.url.of(format_args!("/3/device/{}", token.hex)))
            .header("authorization", format!("bearer {authorization}"))
            .header("apns-topic", topic)
            .header("apns-push-type", push.kind)
            .header("apns-priority", push.priority)
            .header("apns-expiration", notice.expires_s)
            .header("apns-id", notice.id.to_uuid());
        if let Some(collapse) = &notice.collapse {
            request = request.header("apns-collapse-id", collapse.digest());
        }
        let request = request.body(Full::new(push.payload.clone())).expect("all of it was looked at");
        let reply = self.http.send(request).await.ok()?;
        Some(self.read(&reply, token))
    }

    fn read(&self, reply: &Reply, token: &ApnsToken) -> Said {
        let refusal: Refusal = serde_json::from_slice(&reply.body).unwrap_or_default();
        let after = retry_after(&reply.headers, self.wall.now_s());
        let said = read(reply.status.as_u16(), &refusal.reason, after);
        let is_over = |at_ms: u64| token.registered_s.saturating_mul(1000) > at_ms;
        match said {
            // It was none then, and is one again: the device has registered since.
            Said::Answer(Answer::Dead) if refusal.timestamp.is_some_and(is_over) => {
                Said::Answer(answer::REGISTERED_SINCE)
            }
            said => said,
        }
    }
}

impl Service for Apns {
    fn name(&self) -> &'static str {
        "apns"
    }

    fn kind(&self) -> TokenKind {
        TokenKind::Apns
    }

    fn send<'a>(&'a self, token: &'a Token, notice: &'a Notice) -> Doing<'a, Answer> {
        Box::pin(async move {
            match token {
                Token::Apns(token) => self.push(token, notice).await,
                _ => Answer::NOT_ITS_TOKEN,
            }
        })
    }
}
