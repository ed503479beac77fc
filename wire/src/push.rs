//! Where and how a device is told that something has come while it is not connected, as its client says so.

use tern_proto::v1;
pub use tern_proto::v1::PushService;
pub use tern_proto::v1::set_push::Address;

use crate::errors::{Reason, Refusal};
use crate::limits::{
    PUSH_ADDRESS_CHARS_MAX, PUSH_APNS_CHARS_MAX, PUSH_AUTH_BYTES, PUSH_ENDPOINT_CHARS_MAX,
    PUSH_FCM_CHARS_MAX, PUSH_POINT_BYTES, PUSH_ZONE_CHARS_MAX,
};

/// Minutes of a day.
const DAY_MIN: u32 = 24 * 60;

/// See `SetPush` in the schema.
#[derive(Clone, PartialEq)]
pub struct SetPush {
    /// Where; `None`: nowhere any more.
    pub address: Option<Address>,
    /// How.
    pub settings: v1::PushSettings,
}

/// Shows no address.
impl std::fmt::Debug for SetPush {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SetPush({:?})", self.service())
    }
}

const fn invalid(detail: &'static str) -> Refusal {
    Refusal::new(Reason::InvalidArgument, detail)
}

impl SetPush {
    /// # Errors
    /// If it is no address of the service that it is said to be of, or there are no such hours. Whether there is such a time zone is not
    /// looked at here.
    pub fn parse(raw: v1::SetPush) -> Result<Self, Refusal> {
        let settings = raw.settings.unwrap_or_default();
        if let Some(why) = raw.address.as_ref().and_then(why_none) {
            return Err(invalid(why));
        }
        if let Some(quiet) = &settings.quiet {
            if quiet.from_min >= DAY_MIN || quiet.to_min >= DAY_MIN {
                return Err(invalid("quiet hours are from and to a minute of the day, below 1,440"));
            }
            if !is_visible(&quiet.time_zone, PUSH_ZONE_CHARS_MAX) {
                return Err(invalid("quiet hours have a time zone, as the IANA database names it"));
            }
        }
        Ok(Self { address: raw.address, settings })
    }

    /// Of which service the address is.
    pub fn service(&self) -> PushService {
        match self.address {
            None => PushService::Unknown,
            Some(Address::Apns(_)) => PushService::Apns,
            Some(Address::Fcm(_)) => PushService::Fcm,
            Some(Address::WebPush(_)) => PushService::WebPush,
            Some(Address::Webhook(_)) => PushService::Webhook,
        }
    }
}

/// Why something is no address of its service.
fn why_none(address: &Address) -> Option<&'static str> {
    match address {
        Address::Apns(apns) => {
            let is_one = is_hexadecimal(&apns.token)
                && (apns.calls_token.is_empty() || is_hexadecimal(&apns.calls_token));
            (!is_one).then_some("a token of APNs is hexadecimal, of 200 characters at most")
        }
        Address::Fcm(fcm) => {
            let is_one = is_visible(&fcm.token, PUSH_FCM_CHARS_MAX);
            (!is_one).then_some("a token of FCM has 4,096 visible characters at most")
        }
        Address::WebPush(browser) if !is_endpoint(&browser.endpoint) => {
            Some("an endpoint of Web Push is a URL with https, of 2,048 characters at most")
        }
        Address::WebPush(browser) => {
            let is_point = browser.p256dh.len() == PUSH_POINT_BYTES && browser.p256dh[0] == 4;
            let are_keys = is_point && browser.auth.len() == PUSH_AUTH_BYTES;
            (!are_keys).then_some("the keys of Web Push are a point of 65 bytes, uncompressed, and 16 bytes")
        }
        Address::Webhook(hook) => {
            let is_one = is_visible(&hook.address, PUSH_ADDRESS_CHARS_MAX);
            (!is_one).then_some("an address of a webhook has 256 visible characters at most")
        }
    }
}

fn is_visible(text: &str, chars_max: usize) -> bool {
    (1..=chars_max).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_hexadecimal(text: &str) -> bool {
    (2..=PUSH_APNS_CHARS_MAX).contains(&text.len())
        && text.len().is_multiple_of(2)
        && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether it is a URL that could be one. Where its host is, whoever goes there looks at.
fn is_endpoint(text: &str) -> bool {
    let authority = text.strip_prefix("https://").and_then(|rest| rest.split(['/', '?', '#']).next());
    is_visible(text, PUSH_ENDPOINT_CHARS_MAX)
        && authority.is_some_and(|authority| !authority.is_empty() && !authority.contains('@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(address: Address) -> Result<SetPush, Refusal> {
        SetPush::parse(v1::SetPush { address: Some(address), settings: None })
    }

    fn browser(endpoint: &str) -> v1::WebPushAddress {
        let mut point = vec![7; PUSH_POINT_BYTES];
        point[0] = 4;
        let (endpoint, auth) = (endpoint.to_owned(), vec![1; PUSH_AUTH_BYTES].into());
        v1::WebPushAddress { endpoint, p256dh: point.into(), auth }
    }

    #[test]
    fn what_is_no_address_of_its_service_is_refused() {
        let apns = |token: &str, calls_token: &str| {
            let (token, calls_token) = (token.to_owned(), calls_token.to_owned());
            set(Address::Apns(v1::ApnsAddress { token, calls_token }))
        };
        assert!(apns("abCD12", "").is_ok() && apns("abcd", "ef01").is_ok());
        for wrong in ["", "abc", "ab/../cd", "zz", "ab cd", &"ab".repeat(101)] {
            assert!(apns(wrong, "").is_err(), "{wrong:?}");
        }
        assert!(apns("abcd", "x").is_err());
        let fcm = |token: String| set(Address::Fcm(v1::FcmAddress { token }));
        assert!(fcm("a:b_c-d".to_owned()).is_ok());
        assert!(
            fcm(String::new()).is_err() && fcm("a b".to_owned()).is_err() && fcm("x".repeat(4097)).is_err()
        );
        let web = |endpoint: &str| set(Address::WebPush(browser(endpoint)));
        assert!(web("https://push.example.org/x?y").is_ok());
        for wrong in
            ["", "http://push.example.org/x", "https://", "https:///x", "https://a@b/x", "https://a b/x"]
        {
            assert!(web(wrong).is_err(), "{wrong:?}");
        }
        let bare = browser("https://push.example.org/x");
        let short = v1::WebPushAddress { auth: vec![1; 15].into(), ..bare.clone() };
        let compressed = v1::WebPushAddress { p256dh: vec![2; 33].into(), ..bare };
        assert!(set(Address::WebPush(short)).is_err() && set(Address::WebPush(compressed)).is_err());
        let hook = |address: &str| set(Address::Webhook(v1::WebhookAddress { address: address.to_owned() }));
        assert!(hook("device-7").is_ok() && hook("").is_err() && hook("a\nb").is_err());
    }

    #[test]
    fn quiet_hours_are_minutes_of_a_day_somewhere() {
        let quiet = |from_min, to_min, zone: &str| {
            let quiet = Some(v1::QuietHours { from_min, to_min, time_zone: zone.to_owned() });
            let settings = Some(v1::PushSettings { previews: false, quiet });
            SetPush::parse(v1::SetPush { address: None, settings })
        };
        assert!(quiet(0, 1439, "Europe/Berlin").is_ok() && quiet(600, 600, "UTC").is_ok());
        assert!(quiet(1440, 0, "UTC").is_err() && quiet(0, 1440, "UTC").is_err());
        assert!(quiet(0, 1, "").is_err() && quiet(0, 1, &"x".repeat(65)).is_err());
    }

    #[test]
    fn an_address_is_in_no_debug_output() {
        let set = set(Address::Fcm(v1::FcmAddress { token: "secret".to_owned() })).expect("it is one");
        assert!(!format!("{set:?}").contains("secret"));
    }
}
