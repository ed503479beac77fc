//! Adding a device by another one of the account: it shows a link, and the new one follows it.

use std::str::FromStr;

use tern_proto::v1::{self, client_frame, server_frame};
use tern_wire::ids::GROUPS_FROM;
use tern_wire::limits::SECRET_BYTES;

use crate::account::WRONG_KIND;
use crate::client::Client;
use crate::error::Error;
use crate::link_text;

/// What a link begins with, as text.
const SCHEME: &str = "tern:link/";

/// A link by which one device is added to an account, once. As text it is `tern:link/` and 32 characters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DeviceLink {
    pub(crate) user: u64,
    pub(crate) secret: [u8; SECRET_BYTES],
    /// How long it is good, in milliseconds. 0: that is not known.
    pub expires_in_ms: u32,
}

/// Shows no secret.
impl std::fmt::Debug for DeviceLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DeviceLink {{ of {} }}", self.user)
    }
}

impl std::fmt::Display for DeviceLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&link_text::write(SCHEME, self.user, &self.secret))
    }
}

impl FromStr for DeviceLink {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const NONE: &str = "a link to an account is tern:link/ and 32 characters";
        let (user, secret) = link_text::read(SCHEME, text).ok_or(NONE)?;
        if !(1..GROUPS_FROM).contains(&user) {
            return Err(NONE);
        }
        Ok(Self { user, secret, expires_in_ms: 0 })
    }
}

impl Client {
    /// A link by which another device is added to one's account: good once, for a short time. The one before is good no more.
    pub async fn new_link(&self) -> Result<DeviceLink, Error> {
        let answer = self.ask(client_frame::Request::NewLink(v1::NewLink {})).await?;
        let server_frame::Message::LinkCode(code) = answer else { return Err(WRONG_KIND) };
        let secret = code.secret[..].try_into().map_err(|_| WRONG_KIND)?;
        Ok(DeviceLink { user: self.account().user_id, secret, expires_in_ms: code.expires_in_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_what_its_text_says_and_nothing_else_is_one() {
        let link = DeviceLink { user: 4096, secret: [7; SECRET_BYTES], expires_in_ms: 0 };
        let text = link.to_string();
        assert_eq!((text.parse(), text.len()), (Ok(link), SCHEME.len() + 32));
        assert!(!format!("{link:?}").contains(&text[SCHEME.len()..]), "no secret is shown");
        let group = DeviceLink { user: 1 << 42, ..link }.to_string();
        for bad in ["", "tern:link/", &text[1..], &text[..text.len() - 1], &format!("{text}A"), &group] {
            assert!(bad.parse::<DeviceLink>().is_err(), "{bad}");
        }
    }
}
