//! Who sends, for the services of browsers: VAPID (RFC 8292).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::json;

use crate::error::Invalid;
use crate::http::setting;
use crate::jwt::Signer;
use crate::limits::HOSTS_MAX;

/// How long a token is good, in s: a day is the most that a service takes.
const VALID_S: u64 = 12 * 3600;

/// How long before its end it is made anew, in s.
const MARGIN_S: u64 = 3600;

pub(super) struct Vapid {
    signer: Signer,
    public_key: String,
    contact: String,
    /// By origin: what the header says, and until when it is used. Beyond [`HOSTS_MAX`], all are made anew.
    made: Mutex<HashMap<String, (Arc<str>, u64)>>,
}

impl Vapid {
    /// # Errors
    /// The key can't be read; or the contact is no URL of the two kinds that there may be.
    pub fn new(key_pem: &str, contact: &str) -> Result<Self, Invalid> {
        let signer = Signer::es256(key_pem)?;
        let is_contact = contact.starts_with("mailto:") || contact.starts_with("https:");
        let contact = setting(contact).ok().filter(|_| is_contact).ok_or(Invalid::Setting)?;
        let public_key = BASE64_URL_SAFE_NO_PAD.encode(signer.public());
        Ok(Self { signer, public_key, contact: contact.to_owned(), made: Mutex::default() })
    }

    pub fn public_key(&self) -> &str {
        &self.public_key
    }

    pub fn public_point(&self) -> &[u8] {
        self.signer.public()
    }

    /// What the header `Authorization` says to an origin.
    pub fn authorization(&self, origin: &str, now_s: u64) -> Arc<str> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        // One whose end is further away than it can be was made before the clock was set back.
        let is_good = |until_s: u64| (now_s + 1..=now_s + VALID_S - MARGIN_S).contains(&until_s);
        if let Some((header, _)) = made.get(origin).filter(|(_, until_s)| is_good(*until_s)) {
            return header.clone();
        }
        if made.len() >= HOSTS_MAX {
            made.clear();
        }
        let claims = json!({ "aud": origin, "exp": now_s + VALID_S, "sub": self.contact });
        let header = format!("vapid t={}, k={}", self.signer.sign(None, &claims), self.public_key);
        let header: Arc<str> = header.into();
        made.insert(origin.to_owned(), (header.clone(), now_s + VALID_S - MARGIN_S));
        header
    }
}
