//! The token by which FCM knows who sends: a service account's (Google, "Using OAuth 2.0 for Server to Server Applications"; RFC 7523). It is
//! had for a JWT that the account's key has signed, kept until shortly before it is over, and fetched by one at a time.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::{Method, Request, StatusCode};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::Account;
use crate::error::Invalid;
use crate::http::{Http, Reply, Schemes, retry_after, uri_of};
use crate::jwt::Signer;
use crate::service::{Answer, Reason, Trouble};

/// What the token is good for.
const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";

/// How long the JWT is good: as long as Google allows.
const ASSERTION_VALID_S: u64 = 3600;

/// How long before its end a token is not used any more, in s.
const MARGIN_S: u64 = 300;

/// How long nobody asks again after the account's token could not be had: those who waited for it are told the same.
const FAILURE_KEPT: Duration = Duration::from_secs(5);

/// The grant type of RFC 7523, in the form that a form has.
const GRANT: &str = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=";

pub(super) struct Access {
    signer: Signer,
    key_id: Option<String>,
    email: String,
    token_uri: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    token: Option<Token>,
    failed: Option<(Instant, Answer)>,
}

struct Token {
    text: Arc<str>,
    /// Until when it is used, in s since the Unix epoch.
    until_s: u64,
}

/// What the token endpoint gives.
#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: u64,
}

/// What it says where it does not (RFC 6749, section 5.2).
#[derive(Deserialize, Default)]
struct Denied {
    #[serde(default)]
    error: String,
}

impl Access {
    /// # Errors
    /// The account's key can't be read, or its `token_uri` is none.
    pub fn new(account: &Account) -> Result<Self, Invalid> {
        uri_of(&account.token_uri, Schemes::Https).map_err(|_| Invalid::ServiceAccount)?;
        Ok(Self {
            signer: Signer::rs256(&account.private_key)?,
            key_id: account.private_key_id.clone(),
            email: account.client_email.clone(),
            token_uri: account.token_uri.clone(),
            state: Mutex::default(),
        })
    }

    /// A token that is good now, and another one than `not`.
    ///
    /// # Errors
    /// What becomes of a notice that there is no token for.
    pub async fn token(&self, http: &Http, not: Option<&str>, now_s: u64) -> Result<Arc<str>, Answer> {
        // Whoever else needs one waits here, and finds it.
        let mut state = self.state.lock().await;
        let is_good = |token: &&Token| now_s < token.until_s && not != Some(&*token.text);
        if let Some(token) = state.token.as_ref().filter(is_good) {
            return Ok(token.text.clone());
        }
        if let Some((at, answer)) = &state.failed
            && at.elapsed() < FAILURE_KEPT
        {
            return Err(answer.clone());
        }
        match self.fetch(http, now_s).await {
            Ok(token) => {
                let text = token.text.clone();
                *state = State { token: Some(token), failed: None };
                Ok(text)
            }
            Err(answer) => {
                *state = State { token: None, failed: Some((Instant::now(), answer.clone())) };
                Err(answer)
            }
        }
    }

    async fn fetch(&self, http: &Http, now_s: u64) -> Result<Token, Answer> {
        let claims = json!({
            "iss": self.email,
            "scope": SCOPE,
            "aud": self.token_uri,
            "iat": now_s,
            "exp": now_s + ASSERTION_VALID_S,
        });
        let assertion = self.signer.sign(self.key_id.as_deref(), &claims);
        let request = Request::builder()
            .method(Method::POST)
            .uri(&self.token_uri)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Full::new(format!("{GRANT}{assertion}").into()))
            .expect("all of it was looked at");
        let reply = http.send(request).await.map_err(|_| Answer::DOWN)?;
        match (reply.status, serde_json::from_slice::<Granted>(&reply.body)) {
            (StatusCode::OK, Ok(granted)) if !granted.access_token.is_empty() => Ok(Token {
                text: granted.access_token.into(),
                until_s: now_s + granted.expires_in.saturating_sub(MARGIN_S),
            }),
            _ => Err(denied(&reply, now_s)),
        }
    }
}

/// What becomes of a notice: where Google knows the account no more, the operator is to look, and the notice waits for that.
fn denied(reply: &Reply, now_s: u64) -> Answer {
    let denied: Denied = serde_json::from_slice(&reply.body).unwrap_or_default();
    let after = retry_after(&reply.headers, now_s);
    let trouble = if reply.status == StatusCode::TOO_MANY_REQUESTS { Trouble::Busy } else { Trouble::Down };
    if reply.status.is_client_error() && trouble == Trouble::Down {
        let reason = Reason::coded(&denied.error, "no reason");
        tracing::warn!(%reason, status = reply.status.as_u16(), "Google gives no access token: look at the service account and the clock");
    }
    Answer::Later { trouble, after }
}
