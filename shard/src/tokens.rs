//! Tokens: access tokens that any node of the installation can check, refresh tokens that only the user's owner can exchange.
//!
//! Both are their content under an HMAC-SHA-256 with a key of the installation, in base64url: nobody can forge one. That of an
//! access token is its user, device, session and end. That of a refresh token is its user, device, session, generation, end and
//! nonce: the same exchange repeated gives the same token, so a retry needs no memory. The store keeps only its SHA-256.
//!
//! A device's session is drawn at random when the device is added, and its record holds it. So a token from a future that
//! the store was put back from never opens the account of whoever has got the same ids since.

use aws_lc_rs::{constant_time, digest, hmac};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use prost::Message;
use tern_wire::errors::{Reason, Refusal};
use tern_wire::ids::{ClientMessageId, DeviceId, GROUPS_END, GROUPS_FROM, GroupId, Phone, UserId};
use tern_wire::limits::NONCE_BYTES;

use crate::entry::Author;

/// The keys of an installation, as the store holds them under `m` + `keys`.
#[derive(Clone, PartialEq, Message)]
pub struct KeysRecord {
    /// A key for HMAC-SHA-256: access tokens. (In the first stores an Ed25519 key pair, whose bytes are a key as good as
    /// any.)
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
    access: hmac::Key,
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
        write!(f, "the store's keys are damaged: restore the store from a backup")
    }
}

impl std::error::Error for BadKeys {}

/// An access token's content.
#[derive(Clone, PartialEq, Message)]
struct AccessClaims {
    #[prost(uint64, tag = "1")]
    user: u64,
    #[prost(uint32, tag = "2")]
    device: u32,
    #[prost(uint64, tag = "3")]
    expires_ms: u64,
    #[prost(fixed64, tag = "4")]
    session: u64,
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
    #[prost(fixed64, tag = "6")]
    session: u64,
}

/// What an access token proves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    /// Whose it is.
    pub author: Author,
    /// The device's session, to be compared with its record.
    pub session: u64,
}

/// A refresh token that this installation made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RefreshToken {
    /// Whose it is.
    pub author: Author,
    /// The device's session, to be compared with its record.
    pub session: u64,
    /// How many exchanges came before it.
    pub generation: u32,
    /// When it ends, in ms since the Unix epoch.
    pub expires_ms: u64,
}

const TOKEN_INVALID: Refusal = Refusal::new(Reason::TokenInvalid, "that is no token of this server");
const TOKEN_EXPIRED: Refusal = Refusal::new(Reason::TokenExpired, "the token has ended");

/// Bytes of an HMAC-SHA-256.
const MAC_BYTES: usize = 32;

/// Bytes of a key.
const KEY_BYTES: usize = 32;

/// What the first access tokens began with, which were JWTs: a JSON object in base64url.
const JWT_BEGIN: &str = "eyJ";

impl KeysRecord {
    /// New keys out of 32 bytes of entropy each.
    pub fn generate(access: [u8; KEY_BYTES], refresh: [u8; KEY_BYTES], codes: [u8; KEY_BYTES]) -> Self {
        Self { access: access.to_vec(), refresh: refresh.to_vec(), codes: codes.to_vec() }
    }
}

impl Keys {
    /// The keys of a record.
    pub fn new(record: &KeysRecord) -> Result<Self, BadKeys> {
        let KeysRecord { access, refresh, codes } = record;
        if access.len() < KEY_BYTES || refresh.len() != KEY_BYTES || codes.len() != KEY_BYTES {
            return Err(BadKeys);
        }
        let key = |bytes| hmac::Key::new(hmac::HMAC_SHA256, bytes);
        Ok(Self { access: key(access), refresh: key(refresh), codes: key(codes) })
    }

    /// An access token.
    pub fn access_token(&self, access: Access, expires_ms: u64) -> String {
        let Access { author: Author { user, device }, session } = access;
        sealed(&self.access, &AccessClaims { user: user.get(), device: device.get(), expires_ms, session })
    }

    /// What an access token proves, if it is one of this installation and has not ended.
    pub fn verify_access_token(&self, token: &str, now_ms: u64) -> Result<Access, Refusal> {
        if token.starts_with(JWT_BEGIN) {
            // Its device has a refresh token, which is still good.
            return Err(TOKEN_EXPIRED);
        }
        let claims: AccessClaims = opened(&self.access, token)?;
        if now_ms >= claims.expires_ms {
            return Err(TOKEN_EXPIRED);
        }
        Ok(Access { author: author(claims.user, claims.device)?, session: claims.session })
    }

    /// A refresh token: the same for the same arguments.
    pub fn refresh_token(&self, token: RefreshToken, nonce: &[u8; NONCE_BYTES]) -> String {
        let claims = RefreshClaims {
            user: token.author.user.get(),
            device: token.author.device.get(),
            generation: token.generation,
            expires_ms: token.expires_ms,
            nonce: nonce.to_vec(),
            session: token.session,
        };
        sealed(&self.refresh, &claims)
    }

    /// What a refresh token says, if it is one of this installation, ended or not.
    pub fn read_refresh_token(&self, token: &str) -> Result<RefreshToken, Refusal> {
        let claims: RefreshClaims = opened(&self.refresh, token)?;
        Ok(RefreshToken {
            author: author(claims.user, claims.device)?,
            session: claims.session,
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

    /// How a phone's record names a network: nobody can tell which it is, nor whether two phones have the same. Never 0.
    pub fn network_hash(&self, phone: &Phone, network: &[u8; 16]) -> u64 {
        let mac = hmac::sign(&self.codes, &[b"network ", phone.as_str().as_bytes(), b" ", network].concat());
        let first = mac.as_ref().first_chunk().expect("an HMAC-SHA-256 has 32 bytes");
        u64::from_be_bytes(*first).max(1)
    }

    /// Which group a device makes by its message of this number: nobody can tell which beforehand, or have it be another's.
    pub fn group_id(&self, author: Author, client_id: ClientMessageId) -> GroupId {
        let Author { user, device } = author;
        let numbers = [user.get(), device.get().into(), client_id.0].map(u64::to_be_bytes).concat();
        let mac = hmac::sign(&self.codes, &[b"group ", &numbers[..]].concat());
        let first = mac.as_ref().first_chunk().expect("an HMAC-SHA-256 has 32 bytes");
        let number = GROUPS_FROM + u64::from_be_bytes(*first) % (GROUPS_END - GROUPS_FROM);
        GroupId::new(number).expect("it is within the bounds")
    }

    /// What the store keeps of an account's PIN.
    pub fn pin_mac(&self, user: UserId, pin: &str) -> Bytes {
        let mac = hmac::sign(&self.codes, &[b"pin ", &user.get().to_be_bytes()[..], pin.as_bytes()].concat());
        Bytes::copy_from_slice(mac.as_ref())
    }

    /// Whether `pin` is the one that `mac` was made of. In constant time.
    pub fn is_pin(&self, user: UserId, pin: &str, mac: &[u8]) -> bool {
        constant_time::verify_slices_are_equal(&self.pin_mac(user, pin), mac).is_ok()
    }

    /// Whether `code` is the one that `mac` was made of. In constant time.
    pub fn is_code(&self, phone: &Phone, code: &str, mac: &[u8]) -> bool {
        constant_time::verify_slices_are_equal(&self.code_mac(phone, code), mac).is_ok()
    }
}

/// A token with this content.
fn sealed(key: &hmac::Key, claims: &impl Message) -> String {
    let mut bytes = claims.encode_to_vec();
    let mac = hmac::sign(key, &bytes);
    bytes.extend_from_slice(mac.as_ref());
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// A token's content, if it was sealed with this key.
fn opened<C: Message + Default>(key: &hmac::Key, token: &str) -> Result<C, Refusal> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).map_err(|_| TOKEN_INVALID)?;
    let content = bytes.len().checked_sub(MAC_BYTES).ok_or(TOKEN_INVALID)?;
    let (content, mac) = bytes.split_at(content);
    hmac::verify(key, content, mac).map_err(|_| TOKEN_INVALID)?;
    C::decode(content).map_err(|_| TOKEN_INVALID)
}

fn author(user: u64, device: u32) -> Result<Author, Refusal> {
    let user = UserId::new(user).ok_or(TOKEN_INVALID)?;
    let device = DeviceId::new(device).ok_or(TOKEN_INVALID)?;
    Ok(Author { user, device })
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

    fn access() -> Access {
        Access { author: author(), session: 77 }
    }

    fn changed(token: &str, byte: usize) -> String {
        let mut changed = token.to_owned().into_bytes();
        changed[byte] = if changed[byte] == b'A' { b'B' } else { b'A' };
        String::from_utf8(changed).expect("ASCII")
    }

    #[test]
    fn an_access_token_ends_and_is_bound_to_its_installation() {
        let token = keys(1).access_token(access(), 10_000_000);
        assert_eq!(keys(1).verify_access_token(&token, 9_999_999), Ok(access()));
        let reason = |keys: Keys, token: &str, now_ms| {
            keys.verify_access_token(token, now_ms).expect_err("must be refused").reason
        };
        assert_eq!(reason(keys(1), &token, 10_000_000), Reason::TokenExpired);
        assert_eq!(reason(keys(9), &token, 0), Reason::TokenInvalid);
        assert_eq!(reason(keys(1), "", 0), Reason::TokenInvalid);
        let refresh = RefreshToken { author: author(), session: 77, generation: 0, expires_ms: 10_000_000 };
        let refresh = keys(1).refresh_token(refresh, &[5; NONCE_BYTES]);
        assert_eq!(reason(keys(1), &refresh, 0), Reason::TokenInvalid);
        for i in 0..token.len() {
            assert_ne!(keys(1).verify_access_token(&changed(&token, i), 0), Ok(access()), "byte {i} changed");
        }
    }

    /// Its device refreshes, and need not register again.
    #[test]
    fn an_access_token_of_the_first_form_has_ended() {
        let old = "eyJ0eXAiOiJKV1QiLCJhbGciOiJFZERTQSJ9.eyJzdWIiOiI0MDk3IiwiZGV2IjoyLCJleHAiOjk5OTk5OTk5OTl9.c2lnbmVk";
        assert_eq!(keys(1).verify_access_token(old, 0), Err(TOKEN_EXPIRED));
        for user in [1, 4097, GROUPS_FROM - 1] {
            let author = Author { user: UserId::new(user).expect("a user's"), ..author() };
            let token = keys(1).access_token(Access { author, session: u64::MAX }, u64::MAX);
            assert!(!token.starts_with(JWT_BEGIN));
        }
    }

    #[test]
    fn a_refresh_token_can_be_made_again_but_not_changed() {
        let content = RefreshToken { author: author(), session: 77, generation: 3, expires_ms: 77 };
        let token = keys(1).refresh_token(content, &[5; NONCE_BYTES]);
        assert_eq!(token, keys(1).refresh_token(content, &[5; NONCE_BYTES]));
        assert_ne!(token, keys(1).refresh_token(content, &[6; NONCE_BYTES]));
        assert_eq!(keys(1).read_refresh_token(&token), Ok(content));
        assert_eq!(keys(9).read_refresh_token(&token), Err(TOKEN_INVALID));
        for i in 0..token.len() {
            assert!(keys(1).read_refresh_token(&changed(&token, i)).is_err(), "byte {i} changed");
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
