//! Tokens: signed access tokens that any node can check, refresh tokens that only the user's owner can exchange.
//!
//! An access token is a JWT (RFC 7519) signed with Ed25519 (RFC 8037). A refresh token is its user, device, generation,
//! end and nonce under an HMAC-SHA-256: nobody can forge one, and the same exchange repeated gives the same token, so
//! a retry needs no memory. The store keeps only its SHA-256.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use aws_lc_rs::{constant_time, digest, hmac};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use prost::Message;
use serde::{Deserialize, Serialize};
use tern_wire::errors::{Reason, Refusal};
use tern_wire::ids::{DeviceId, Phone, UserId};
use tern_wire::limits::NONCE_BYTES;

use crate::entry::Author;

/// The keys of an installation, as the store holds them under `m` + `keys`.
#[derive(Clone, PartialEq, Message)]
pub struct KeysRecord {
    /// An Ed25519 key pair, PKCS #8.
    #[prost(bytes = "vec", tag = "1")]
    pub access: Vec<u8>,
    /// A key for HMAC-SHA-256: refresh tokens.
    #[prost(bytes = "vec", tag = "2")]
    pub refresh: Vec<u8>,
    /// A key for HMAC-SHA-256: one-time codes.
    #[prost(bytes = "vec", tag = "3")]
    pub codes: Vec<u8>,
}

/// The keys of an installation, ready to use.
pub struct Keys {
    signing: EncodingKey,
    verifying: DecodingKey,
    validation: Validation,
    refresh: hmac::Key,
    codes: hmac::Key,
}

/// Shows no key.
impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

/// Stored keys that are none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadKeys;

impl std::fmt::Display for BadKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the store's signing keys are damaged: restore the store from a backup")
    }
}

impl std::error::Error for BadKeys {}

#[derive(Serialize, Deserialize)]
struct Claims {
    sub: String,
    dev: u32,
    exp: u64,
}

/// A refresh token's content.
#[derive(Clone, PartialEq, Message)]
struct RefreshClaims {
    #[prost(uint64, tag = "1")]
    user: u64,
    #[prost(uint32, tag = "2")]
    device: u32,
    #[prost(uint32, tag = "3")]
    generation: u32,
    #[prost(uint64, tag = "4")]
    expires_ms: u64,
    #[prost(bytes = "vec", tag = "5")]
    nonce: Vec<u8>,
}

/// A refresh token that this installation made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RefreshToken {
    /// Whose it is.
    pub author: Author,
    /// How many exchanges came before it.
    pub generation: u32,
    /// When it ends, in ms since the Unix epoch.
    pub expires_ms: u64,
}

const TOKEN_INVALID: Refusal = Refusal::new(Reason::TokenInvalid, "that is no token of this server");
const TOKEN_EXPIRED: Refusal = Refusal::new(Reason::TokenExpired, "the token has ended");

/// Bytes of an HMAC-SHA-256.
const MAC_BYTES: usize = 32;

impl KeysRecord {
    /// New keys out of 32 bytes of entropy each.
    pub fn generate(access: [u8; 32], refresh: [u8; 32], codes: [u8; 32]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&access).expect("any 32 bytes are an Ed25519 seed");
        let access = pair.to_pkcs8().expect("a key pair has a PKCS #8 form").as_ref().to_vec();
        Self { access, refresh: refresh.to_vec(), codes: codes.to_vec() }
    }
}

impl Keys {
    /// The keys of a record.
    pub fn new(record: &KeysRecord) -> Result<Self, BadKeys> {
        let pair = Ed25519KeyPair::from_pkcs8(&record.access).map_err(|_| BadKeys)?;
        if record.refresh.len() != 32 || record.codes.len() != 32 {
            return Err(BadKeys);
        }
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.validate_exp = false; // Checked here, against the caller's clock.
        validation.validate_aud = false; // There is no audience but this server.
        Ok(Self {
            signing: EncodingKey::from_ed_der(&record.access),
            verifying: DecodingKey::from_ed_der(pair.public_key().as_ref()),
            validation,
            refresh: hmac::Key::new(hmac::HMAC_SHA256, &record.refresh),
            codes: hmac::Key::new(hmac::HMAC_SHA256, &record.codes),
        })
    }

    /// An access token. Its end is cut to whole seconds.
    pub fn access_token(&self, author: Author, expires_ms: u64) -> String {
        let Author { user, device } = author;
        let claims = Claims { sub: user.get().to_string(), dev: device.get(), exp: expires_ms / 1000 };
        jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &self.signing)
            .expect("an Ed25519 key signs anything")
    }

    /// Whose access token that is, if it is one of this installation and has not ended.
    pub fn verify_access_token(&self, token: &str, now_ms: u64) -> Result<Author, Refusal> {
        let claims = jsonwebtoken::decode::<Claims>(token, &self.verifying, &self.validation)
            .map_err(|_| TOKEN_INVALID)?
            .claims;
        let user = claims.sub.parse().ok().and_then(UserId::new).ok_or(TOKEN_INVALID)?;
        let device = DeviceId::new(claims.dev).ok_or(TOKEN_INVALID)?;
        if now_ms / 1000 >= claims.exp {
            return Err(TOKEN_EXPIRED);
        }
        Ok(Author { user, device })
    }

    /// A refresh token: the same for the same arguments.
    pub fn refresh_token(&self, token: RefreshToken, nonce: &[u8; NONCE_BYTES]) -> String {
        let claims = RefreshClaims {
            user: token.author.user.get(),
            device: token.author.device.get(),
            generation: token.generation,
            expires_ms: token.expires_ms,
            nonce: nonce.to_vec(),
        };
        let mut bytes = claims.encode_to_vec();
        let mac = hmac::sign(&self.refresh, &bytes);
        bytes.extend_from_slice(mac.as_ref());
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What a refresh token says, if it is one of this installation, ended or not.
    pub fn read_refresh_token(&self, token: &str) -> Result<RefreshToken, Refusal> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).map_err(|_| TOKEN_INVALID)?;
        let content = bytes.len().checked_sub(MAC_BYTES).ok_or(TOKEN_INVALID)?;
        let (content, mac) = bytes.split_at(content);
        hmac::verify(&self.refresh, content, mac).map_err(|_| TOKEN_INVALID)?;
        let claims = RefreshClaims::decode(content).map_err(|_| TOKEN_INVALID)?;
        let user = UserId::new(claims.user).ok_or(TOKEN_INVALID)?;
        let device = DeviceId::new(claims.device).ok_or(TOKEN_INVALID)?;
        Ok(RefreshToken {
            author: Author { user, device },
            generation: claims.generation,
            expires_ms: claims.expires_ms,
        })
    }

    /// Whose refresh token that is: where to send it.
    pub fn refresh_token_owner(&self, token: &str) -> Result<Author, Refusal> {
        self.read_refresh_token(token).map(|token| token.author)
    }

    /// What the store keeps of a one-time code.
    pub fn code_mac(&self, phone: &Phone, code: &str) -> Bytes {
        let mac = hmac::sign(&self.codes, &[phone.as_str().as_bytes(), b" ", code.as_bytes()].concat());
        Bytes::copy_from_slice(mac.as_ref())
    }

    /// Whether `code` is the one that `mac` was made of. In constant time.
    pub fn is_code(&self, phone: &Phone, code: &str, mac: &[u8]) -> bool {
        constant_time::verify_slices_are_equal(&self.code_mac(phone, code), mac).is_ok()
    }
}

/// What the store keeps of a refresh token.
pub fn token_hash(token: &str) -> Bytes {
    Bytes::copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(seed: u8) -> Keys {
        Keys::new(&KeysRecord::generate([seed; 32], [seed + 1; 32], [seed + 2; 32]))
            .expect("keys of its own making")
    }

    fn author() -> Author {
        Author { user: UserId::new(4097).expect("not 0"), device: DeviceId::new(2).expect("not 0") }
    }

    #[test]
    fn an_access_token_ends_and_is_bound_to_its_installation() {
        let token = keys(1).access_token(author(), 10_000_000);
        assert_eq!(keys(1).verify_access_token(&token, 9_999_999), Ok(author()));
        let reason = |keys: Keys, token: &str, now_ms| {
            keys.verify_access_token(token, now_ms).expect_err("must be refused").reason
        };
        assert_eq!(reason(keys(1), &token, 10_000_000), Reason::TokenExpired);
        assert_eq!(reason(keys(9), &token, 0), Reason::TokenInvalid);
        assert_eq!(reason(keys(1), "", 0), Reason::TokenInvalid);
        let unsigned =
            "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiI0MDk3IiwiZGV2IjoyLCJleHAiOjk5OTk5OTk5OTl9.";
        assert_eq!(reason(keys(1), unsigned, 0), Reason::TokenInvalid);
    }

    #[test]
    fn a_refresh_token_can_be_made_again_but_not_changed() {
        let content = RefreshToken { author: author(), generation: 3, expires_ms: 77 };
        let token = keys(1).refresh_token(content, &[5; NONCE_BYTES]);
        assert_eq!(token, keys(1).refresh_token(content, &[5; NONCE_BYTES]));
        assert_ne!(token, keys(1).refresh_token(content, &[6; NONCE_BYTES]));
        assert_eq!(keys(1).read_refresh_token(&token), Ok(content));
        assert_eq!(keys(9).read_refresh_token(&token), Err(TOKEN_INVALID));
        for i in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[i] = if changed[i] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).expect("ASCII");
            assert!(keys(1).read_refresh_token(&changed).is_err(), "byte {i} changed");
        }
    }

    #[test]
    fn a_code_is_bound_to_its_phone() {
        let [one, other] = ["+15550001", "+15550002"].map(|text| Phone::parse(text).expect("E.164"));
        let mac = keys(1).code_mac(&one, "123456");
        assert!(keys(1).is_code(&one, "123456", &mac));
        assert!(!keys(1).is_code(&one, "123457", &mac));
        assert!(!keys(1).is_code(&other, "123456", &mac));
    }
}
