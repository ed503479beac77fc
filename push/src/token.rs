//! Tokens: where a device is reached. They are parsed where they come in, so that none can be more than a part of a path or a header.

use std::fmt;
use std::net::Ipv4Addr;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hyper::Uri;

use crate::error::Invalid;
use crate::limits::{ADDRESS_CHARS_MAX, APNS_TOKEN_CHARS_MAX, ENDPOINT_CHARS_MAX, FCM_TOKEN_CHARS_MAX};

/// Bytes of a point of P-256, uncompressed.
pub(crate) const POINT_BYTES: usize = 65;

/// Bytes of a subscription's secret (RFC 8291, section 3.2).
pub(crate) const AUTH_BYTES: usize = 16;

/// Where a device is reached, and by which service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Token {
    /// Apple's.
    Apns(ApnsToken),
    /// Google's.
    Fcm(FcmToken),
    /// A browser's.
    WebPush(Subscription),
    /// The operator's.
    Webhook(Address),
}

impl Token {
    /// Which service it is of.
    pub fn kind(&self) -> TokenKind {
        match self {
            Self::Apns(_) => TokenKind::Apns,
            Self::Fcm(_) => TokenKind::Fcm,
            Self::WebPush(_) => TokenKind::WebPush,
            Self::Webhook(_) => TokenKind::Webhook,
        }
    }
}

/// Which service a token is of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum TokenKind {
    /// Apple's.
    Apns,
    /// Google's.
    Fcm,
    /// A browser's.
    WebPush,
    /// The operator's.
    Webhook,
}

/// What a token of APNs is for: an app has one of each.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ApnsUse {
    /// Notices.
    Notices,
    /// Calls, by PushKit: an app that is woken by it and shows no call is ended by the system, so nothing else goes there.
    Calls,
}

/// A device's token of APNs.
#[derive(Clone, PartialEq, Eq)]
pub struct ApnsToken {
    /// In hexadecimal.
    pub(crate) hex: Box<str>,
    pub(crate) of: ApnsUse,
    pub(crate) registered_s: u64,
}

impl ApnsToken {
    /// A token in hexadecimal, what it is for, and when the device has registered it last, in s since the Unix epoch.
    ///
    /// # Errors
    /// It is none.
    pub fn new(hex: &str, of: ApnsUse, registered_s: u64) -> Result<Self, Invalid> {
        let is_one = (2..=APNS_TOKEN_CHARS_MAX).contains(&hex.len())
            && hex.len().is_multiple_of(2)
            && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_one {
            return Err(Invalid::Token);
        }
        Ok(Self { hex: hex.to_ascii_lowercase().into(), of, registered_s })
    }
}

/// Shows no token.
impl fmt::Debug for ApnsToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("ApnsToken");
        shown.field("of", &self.of).field("registered_s", &self.registered_s).finish_non_exhaustive()
    }
}

/// A device's registration token of FCM.
#[derive(Clone, PartialEq, Eq)]
pub struct FcmToken(pub(crate) Box<str>);

impl FcmToken {
    /// # Errors
    /// It is none.
    pub fn new(token: &str) -> Result<Self, Invalid> {
        visible(token, FCM_TOKEN_CHARS_MAX).map(Self)
    }
}

impl fmt::Debug for FcmToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FcmToken(..)")
    }
}

/// What the operator's program knows a device by.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(pub(crate) Box<str>);

impl Address {
    /// # Errors
    /// It is empty, too long, or has characters that are not visible.
    pub fn new(address: &str) -> Result<Self, Invalid> {
        visible(address, ADDRESS_CHARS_MAX).map(Self)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Address(..)")
    }
}

fn visible(text: &str, chars_max: usize) -> Result<Box<str>, Invalid> {
    let is_one = (1..=chars_max).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_one { Ok(text.into()) } else { Err(Invalid::Token) }
}

/// A browser's subscription (the Push API's `PushSubscription`).
#[derive(Clone, PartialEq, Eq)]
pub struct Subscription {
    pub(crate) endpoint: Uri,
    pub(crate) p256dh: [u8; POINT_BYTES],
    pub(crate) auth: [u8; AUTH_BYTES],
}

impl Subscription {
    /// What a browser gives: a URL, and two keys in base64url. Where its host is, is looked at when something is sent.
    ///
    /// # Errors
    /// The URL is not one with `https`, a host and nobody's name in it; or the keys are none.
    pub fn new(endpoint: &str, p256dh: &str, auth: &str) -> Result<Self, Invalid> {
        let key = |text: &str| {
            let key = BASE64_URL_SAFE_NO_PAD.decode(text.trim_end_matches('='));
            key.map_err(|_| Invalid::SubscriptionKeys)
        };
        Self::with_keys(endpoint, &key(p256dh)?, &key(auth)?)
    }

    /// The same, of which the keys are bytes.
    ///
    /// # Errors
    /// As above.
    pub fn with_keys(endpoint: &str, p256dh: &[u8], auth: &[u8]) -> Result<Self, Invalid> {
        let p256dh: [u8; POINT_BYTES] = p256dh.try_into().map_err(|_| Invalid::SubscriptionKeys)?;
        let auth = auth.try_into().map_err(|_| Invalid::SubscriptionKeys)?;
        if p256dh[0] != 4 {
            return Err(Invalid::SubscriptionKeys);
        }
        Ok(Self { endpoint: endpoint_of(endpoint)?, p256dh, auth })
    }

    /// `https://host:port`, which knows the host again, and is who a token of VAPID is for (RFC 8292, section 2).
    pub(crate) fn origin(&self) -> String {
        let authority = self.endpoint.authority().expect("an endpoint has a host").as_str();
        format!("https://{}", authority.strip_suffix(":443").unwrap_or(authority).to_ascii_lowercase())
    }
}

fn endpoint_of(text: &str) -> Result<Uri, Invalid> {
    let uri: Uri = text.parse().map_err(|_| Invalid::Endpoint)?;
    let authority = uri.authority().ok_or(Invalid::Endpoint)?;
    let is_one = text.len() <= ENDPOINT_CHARS_MAX
        && text.bytes().all(|byte| byte.is_ascii_graphic())
        && uri.scheme() == Some(&hyper::http::uri::Scheme::HTTPS)
        && !authority.as_str().contains('@')
        && is_host(authority.host());
    if is_one { Ok(uri) } else { Err(Invalid::Endpoint) }
}

/// Whether a host is a name, or an address as all write it. Names that end with a number are none (WHATWG, "URL", host parsing): resolvers take
/// `127.1` and `0x7f000001` for addresses.
fn is_host(host: &str) -> bool {
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_hexadecimal = last.get(..2).is_some_and(|begin| begin.eq_ignore_ascii_case("0x"));
    if is_number(last) || is_hexadecimal { host.parse::<Ipv4Addr>().is_ok() } else { true }
}

/// Shows no endpoint, which is a secret, and no key.
impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subscription(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscribed(endpoint: &str) -> Result<Subscription, Invalid> {
        let mut point = [7; POINT_BYTES];
        point[0] = 4;
        let key = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        Subscription::new(endpoint, &key(&point), &key(&[1; AUTH_BYTES]))
    }

    #[test]
    fn an_endpoint_that_is_no_plain_https_url_is_refused() {
        for endpoint in [
            "http://push.example.org/x",
            "https://name@push.example.org/x",
            "https://name:word@push.example.org/x",
            "https:///x",
            "https://push.example.org/a b",
            "https://push.example.org/\r\nx: y",
            "file:///etc/passwd",
            "/x",
            "push.example.org",
            "https://127.1/x",
            "https://2130706433/x",
            "https://0x7f.1/x",
            "https://127.0.0.0x1/x",
            "https://0177.0.0.1/x",
            "https://127.0.0.1./x",
            "https://./x",
            "",
        ] {
            assert_eq!(subscribed(endpoint), Err(Invalid::Endpoint), "{endpoint:?}");
        }
        let long = format!("https://push.example.org/{}", "x".repeat(ENDPOINT_CHARS_MAX));
        assert_eq!(subscribed(&long), Err(Invalid::Endpoint));
        let origin = |endpoint| subscribed(endpoint).expect("it is one").origin();
        assert_eq!(origin("https://Push.example.org:443/x?y"), "https://push.example.org");
        assert_eq!(origin("https://push.example.org:8443/x"), "https://push.example.org:8443");
    }

    #[test]
    fn a_token_that_would_be_more_than_a_token_is_refused() {
        for hex in ["", "abc", "ab/../cd", "zz", "ab cd"] {
            assert_eq!(ApnsToken::new(hex, ApnsUse::Notices, 0), Err(Invalid::Token), "{hex:?}");
        }
        assert_eq!(FcmToken::new("a b"), Err(Invalid::Token));
        assert_eq!(Address::new(&"x".repeat(257)), Err(Invalid::Token));
        assert_eq!(Subscription::new("https://x", "BAAA", "AAAA"), Err(Invalid::SubscriptionKeys));
    }

    #[test]
    fn a_token_is_in_no_debug_output() {
        let tokens = [
            Token::Apns(ApnsToken::new("abcdef", ApnsUse::Calls, 0).expect("it is one")),
            Token::Fcm(FcmToken::new("abcdef").expect("it is one")),
            Token::WebPush(subscribed("https://push.example.org/abcdef").expect("it is one")),
            Token::Webhook(Address::new("abcdef").expect("it is one")),
        ];
        assert!(!format!("{tokens:?}").contains("abcdef"));
    }
}
