//! Notices: what a device is told.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::error::Invalid;
use crate::limits::OPAQUE_BYTES_MAX;

/// Bytes of a collapse key's digest that are sent: 32 characters, as many as a topic of Web Push may have (RFC 8030, section 5.4).
const COLLAPSE_DIGEST_BYTES: usize = 24;

/// Which notice. The caller's; services see it as the id of the push, so that it is the same when it is tried again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NoticeId(pub u128);

impl NoticeId {
    /// As UUIDs are written: 36 characters.
    pub fn to_uuid(self) -> String {
        let hex = format!("{:032x}", self.0);
        [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
    }
}

/// Which device. The caller's; nobody else sees it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DeviceId(pub u128);

/// What has come.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// A message.
    Message,
    /// A message that names the user.
    Mention,
    /// A call that rings.
    Call,
    /// Nothing: the number on the app is another one.
    Badge,
    /// Nothing: what was told of the chat has been read elsewhere, and is to go.
    Cleared,
}

impl Kind {
    /// What it is called in payloads.
    pub fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Mention => "mention",
            Self::Call => "call",
            Self::Badge => "badge",
            Self::Cleared => "cleared",
        }
    }

    /// Whether a user sees a text.
    pub(crate) fn is_shown(self) -> bool {
        matches!(self, Self::Message | Self::Mention | Self::Call)
    }
}

/// How soon.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Priority {
    /// At once, though it wakes the device.
    High,
    /// When it suits the device.
    Normal,
}

/// Notices of one device with the same key are of one thing: the newest is enough. 64 bytes at most; services see a digest.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CollapseKey(Box<[u8]>);

impl CollapseKey {
    /// # Errors
    /// It is too long.
    pub fn new(key: impl AsRef<[u8]>) -> Result<Self, Invalid> {
        opaque(key.as_ref()).map(Self)
    }

    /// What services see: 32 characters of base64url, the first 24 bytes of its SHA-256.
    pub fn digest(&self) -> String {
        let digest = digest(&SHA256, &self.0);
        BASE64_URL_SAFE_NO_PAD.encode(&digest.as_ref()[..COLLAPSE_DIGEST_BYTES])
    }
}

impl fmt::Debug for CollapseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CollapseKey(..)")
    }
}

/// Which chat, in the app's own words: 64 bytes at most. Services see it in base64url.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ChatRef(Box<[u8]>);

impl ChatRef {
    /// # Errors
    /// It is too long.
    pub fn new(chat: impl AsRef<[u8]>) -> Result<Self, Invalid> {
        opaque(chat.as_ref()).map(Self)
    }

    /// In base64url, without padding.
    pub fn to_text(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(&self.0)
    }
}

impl fmt::Debug for ChatRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChatRef(..)")
    }
}

fn opaque(bytes: &[u8]) -> Result<Box<[u8]>, Invalid> {
    if bytes.len() > OPAQUE_BYTES_MAX { Err(Invalid::TooLong) } else { Ok(bytes.into()) }
}

/// What the user may see of it. Only there if the caller gives it: services see it, but for Web Push, which is encrypted.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Preview {
    /// Who, or where.
    pub title: String,
    /// What. It is shortened as the service wants it.
    pub body: String,
}

impl fmt::Debug for Preview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Preview(..)")
    }
}

/// What is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notice {
    /// Which one.
    pub id: NoticeId,
    /// What has come.
    pub kind: Kind,
    /// The number on the app. `None` leaves it as it is; 0 takes it away.
    pub badge: Option<u32>,
    /// What it replaces. `None`: nothing, nothing replaces it, and in its order to others it may be sent at any time.
    pub collapse: Option<CollapseKey>,
    /// How soon.
    pub priority: Priority,
    /// From when on nobody is to be told, in s since the Unix epoch.
    pub expires_s: u64,
    /// What the user may see of it. `None`: that something has come.
    pub preview: Option<Preview>,
    /// Which chat.
    pub chat: Option<ChatRef>,
}

impl Notice {
    /// What is left of its time, in s; of a time that no service takes, what they do.
    pub(crate) fn ttl_s(&self, now_s: u64) -> u64 {
        self.expires_s.saturating_sub(now_s).min(crate::limits::TTL_MAX.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_uuid_and_a_key_is_as_short_as_the_shortest_limit() {
        assert_eq!(NoticeId(0x0123_4567).to_uuid(), "00000000-0000-0000-0000-000001234567");
        let key = CollapseKey::new([7; 64]).expect("it is short enough");
        assert_eq!(key.digest().len(), 32);
        assert_eq!(CollapseKey::new([7; 65]), Err(Invalid::TooLong));
        assert_eq!(ChatRef::new([7; 65]), Err(Invalid::TooLong));
    }

    #[test]
    fn what_is_told_is_in_no_debug_output() {
        let notice = Notice {
            id: NoticeId(1),
            kind: Kind::Message,
            badge: None,
            collapse: CollapseKey::new("secret").ok(),
            priority: Priority::High,
            expires_s: 0,
            preview: Some(Preview { title: "secret".to_owned(), body: "secret".to_owned() }),
            chat: ChatRef::new("secret").ok(),
        };
        assert!(!format!("{notice:?}").contains("secret"));
    }
}
