//! Google's service: Firebase Cloud Messaging, its HTTP v1 API.

mod access;
mod answer;
mod message;

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request};
use serde::Deserialize;

use self::access::Access;
use self::answer::{Said, read};
pub use self::message::Shown;
use self::message::body_of;
use crate::error::Invalid;
use crate::http::{About, BaseUrl, Http, Lost, Reach, Reply, Roots, Schemes, Speaks, retry_after, setting};
use crate::notice::Notice;
use crate::service::{Answer, Doing, Service};
use crate::token::{FcmToken, Token, TokenKind};
use crate::wall::Wall;

/// Where Google takes messages.
pub const PRODUCTION: &str = "https://fcm.googleapis.com";

/// What the operator says. It has no `Debug`: there is a key in it.
#[derive(Clone)]
pub struct Config {
    /// [`PRODUCTION`], or another one.
    pub url: String,
    /// Whom its certificate, and that of the account's `token_uri`, is to come from.
    pub roots: Roots,
    /// How long an answer may take.
    pub timeout: Duration,
    /// The service account: the JSON file that Google gives.
    pub account_json: String,
    /// What is shown without the app's doing.
    pub shown: Shown,
}

/// A service account, as far as it is used.
#[derive(Deserialize)]
struct Account {
    project_id: String,
    client_email: String,
    private_key: String,
    #[serde(default)]
    private_key_id: Option<String>,
    token_uri: String,
}

/// Sends to FCM.
pub struct Fcm {
    http: Http,
    url: String,
    access: Access,
    shown: Shown,
    wall: Wall,
}

impl Fcm {
    /// # Errors
    /// The account, its key, the URL or the roots can't be used.
    pub fn new(config: Config, wall: Wall) -> Result<Self, Invalid> {
        let account: Account =
            serde_json::from_str(&config.account_json).map_err(|_| Invalid::ServiceAccount)?;
        let about = About {
            roots: config.roots,
            reach: Reach::Anywhere,
            speaks: Speaks::Both,
            schemes: Schemes::Https,
            timeout: config.timeout,
        };
        let project = setting(&account.project_id)?;
        let url = BaseUrl::new(&config.url)?.of(format_args!("/v1/projects/{project}/messages:send"));
        crate::http::uri_of(&url, Schemes::Https)?;
        let access = Access::new(&account)?;
        Ok(Self { http: Http::new(about)?, url, access, shown: config.shown, wall })
    }

    async fn push(&self, token: &FcmToken, notice: &Notice) -> Answer {
        let body = body_of(token, notice, &self.shown, self.wall.now_s());
        match self.try_once(&body, None).await {
            Said::Answer(answer) => answer,
            Said::Unauthenticated(old) => match self.try_once(&body, Some(&old)).await {
                Said::Answer(answer) => answer,
                Said::Unauthenticated(_) => Answer::DOWN,
            },
        }
    }

    /// Sends it, with another access token than the one of which FCM said that it is none.
    async fn try_once(&self, body: &Bytes, not: Option<&str>) -> Said {
        let access = match self.access.token(&self.http, not, self.wall.now_s()).await {
            Ok(access) => access,
            Err(answer) => return Said::Answer(answer),
        };
        let request = Request::builder()
            .method(Method::POST)
            .uri(&self.url)
            .header("authorization", format!("Bearer {access}"))
            .header("content-type", "application/json");
        let request = request.body(Full::new(body.clone())).expect("all of it was looked at");
        match self.http.send(request).await {
            Ok(reply) => self.read(&reply, &access),
            Err(Lost::NotReachable | Lost::Unanswered) => Said::Answer(Answer::DOWN),
        }
    }

    fn read(&self, reply: &Reply, access: &str) -> Said {
        let after = retry_after(&reply.headers, self.wall.now_s());
        read(reply.status.as_u16(), &reply.body, after)
            .map_or_else(|| Said::Unauthenticated(access.into()), Said::Answer)
    }
}

impl Service for Fcm {
    fn name(&self) -> &'static str {
        "fcm"
    }

    fn kind(&self) -> TokenKind {
        TokenKind::Fcm
    }

    fn send<'a>(&'a self, token: &'a Token, notice: &'a Notice) -> Doing<'a, Answer> {
        Box::pin(async move {
            match token {
                Token::Fcm(token) => self.push(token, notice).await,
                _ => Answer::NOT_ITS_TOKEN,
            }
        })
    }
}
