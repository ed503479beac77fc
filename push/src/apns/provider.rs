//! The token that says who sends (Apple, "Establishing a token-based connection to APNs"). Apple refuses one that is older than an hour, and
//! one that comes sooner than 20 minutes after another.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;

use crate::error::Invalid;
use crate::jwt::Signer;

/// The age at which a token is made anew, in s.
const AGE_MAX_S: u64 = 50 * 60;

/// The age before which no new one is made, whatever APNs says, in s.
const AGE_MIN_S: u64 = 20 * 60;

pub(super) struct Provider {
    signer: Signer,
    key_id: String,
    team_id: String,
    token: Mutex<Option<Token>>,
}

#[derive(Clone)]
struct Token {
    text: Arc<str>,
    issued_s: u64,
}

impl Provider {
    /// # Errors
    /// The key can't be read.
    pub fn new(key_pem: &str, key_id: &str, team_id: &str) -> Result<Self, Invalid> {
        let signer = Signer::es256(key_pem)?;
        Ok(Self { signer, key_id: key_id.to_owned(), team_id: team_id.to_owned(), token: Mutex::new(None) })
    }

    /// One that is good now.
    pub fn token(&self, now_s: u64) -> Arc<str> {
        let mut token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        // One from the future was made before the clock was set right.
        let is_good = |token: &&Token| (token.issued_s..token.issued_s + AGE_MAX_S).contains(&now_s);
        if let Some(token) = token.as_ref().filter(is_good) {
            return token.text.clone();
        }
        let new = self.sign(now_s);
        token.insert(new).text.clone()
    }

    /// Another one than this, of which APNs says that it is over; if there may be one.
    pub fn token_instead_of(&self, old: &str, now_s: u64) -> Option<Arc<str>> {
        let mut token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        match token.as_ref() {
            Some(other) if &*other.text != old => return Some(other.text.clone()),
            Some(same) if (same.issued_s..same.issued_s + AGE_MIN_S).contains(&now_s) => return None,
            _ => {}
        }
        let new = self.sign(now_s);
        Some(token.insert(new).text.clone())
    }

    fn sign(&self, now_s: u64) -> Token {
        let claims = json!({ "iss": self.team_id, "iat": now_s });
        Token { text: self.signer.sign(Some(&self.key_id), &claims).into(), issued_s: now_s }
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;

    use super::*;

    const NOW_S: u64 = 1_800_000_000;

    fn provider() -> Provider {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
        let der = BASE64_STANDARD.encode(key.to_pkcs8v1().expect("it is written").as_ref());
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{der}\n-----END PRIVATE KEY-----\n");
        Provider::new(&pem, "KEY", "TEAM").expect("it is one")
    }

    #[test]
    fn a_token_is_kept_for_less_than_an_hour_and_made_anew_no_sooner_than_apple_allows() {
        let provider = provider();
        let first = provider.token(NOW_S);
        assert_eq!(provider.token(NOW_S + AGE_MAX_S - 1), first);
        assert_eq!(provider.token_instead_of(&first, NOW_S + AGE_MIN_S - 1), None);
        let second = provider.token_instead_of(&first, NOW_S + AGE_MIN_S).expect("it may be");
        assert_ne!(second, first);
        assert_eq!(
            provider.token_instead_of(&first, NOW_S + AGE_MIN_S),
            Some(second.clone()),
            "once is enough"
        );
        assert_ne!(provider.token(NOW_S + AGE_MIN_S + AGE_MAX_S), second);
    }

    #[test]
    fn a_clock_that_is_set_back_leaves_no_token_from_the_future() {
        let provider = provider();
        let first = provider.token(NOW_S);
        assert_ne!(provider.token(NOW_S - 1), first);
    }
}
