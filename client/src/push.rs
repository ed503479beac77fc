//! Where this device is told that something has come while it sleeps.

use tern_proto::v1::{self, client_frame, server_frame, set_push};
pub use tern_wire::push::PushService;

use crate::account::WRONG_KIND;
use crate::client::Client;
use crate::error::Error;

/// What a device's system gives it to be told by.
#[derive(Clone, PartialEq, Eq)]
pub enum PushAddress {
    /// Apple's.
    Apns {
        /// In hexadecimal.
        token: String,
        /// PushKit's, by which calls come; empty: there is none.
        calls_token: String,
    },
    /// Google's.
    Fcm {
        /// The registration token.
        token: String,
    },
    /// A browser's: what its `PushSubscription` has.
    WebPush {
        /// A URL with `https`.
        endpoint: String,
        /// A point of P-256, uncompressed: 65 bytes.
        p256dh: Vec<u8>,
        /// 16 bytes.
        auth: Vec<u8>,
    },
    /// Of a program of the operator's.
    Webhook {
        /// What it knows the device by.
        address: String,
    },
}

impl PushAddress {
    /// Whose it is.
    pub fn service(&self) -> PushService {
        match self {
            Self::Apns { .. } => PushService::Apns,
            Self::Fcm { .. } => PushService::Fcm,
            Self::WebPush { .. } => PushService::WebPush,
            Self::Webhook { .. } => PushService::Webhook,
        }
    }
}

/// Shows no address, which is a secret.
impl std::fmt::Debug for PushAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PushAddress({:?})", self.service())
    }
}

/// How a device is told.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct PushSettings {
    /// What is said is shown: the service sees it, but for Web Push, which is encrypted. Of people whom one has not answered nothing is.
    pub previews: bool,
    /// When nothing makes a sound.
    pub quiet: Option<QuietHours>,
}

/// Every day from one time up to another one; over midnight if the first is the later one, and the whole day if both are the same.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QuietHours {
    /// Minutes since midnight, below 1,440.
    pub from_min: u32,
    /// The same.
    pub to_min: u32,
    /// As the IANA database names it: Europe/Berlin.
    pub time_zone: String,
}

/// Where devices could be told, and where this one is.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct PushPlaces {
    /// By these services.
    pub services: Vec<PushService>,
    /// To what a browser subscribes (`applicationServerKey`): 65 bytes. Empty: there is no Web Push.
    pub web_push_key: Vec<u8>,
    /// By which service this device is told.
    pub service: Option<PushService>,
    /// Since when, in ms since the Unix epoch; 0: it is not.
    pub since_ms: u64,
    /// How.
    pub settings: PushSettings,
}

impl Client {
    /// Says where this device is told, in place of what it said before. `None`: nowhere, from now on. It ends with the device.
    ///
    /// # Errors
    /// `NO_SUCH_PUSH_SERVICE`: the server does not tell by that service. `INVALID_ARGUMENT`: it is no address of it, or there is no such
    /// time zone.
    pub async fn set_push(&self, to: Option<PushAddress>, settings: PushSettings) -> Result<(), Error> {
        let quiet = settings.quiet.map(|quiet| {
            let QuietHours { from_min, to_min, time_zone } = quiet;
            v1::QuietHours { from_min, to_min, time_zone }
        });
        let settings = Some(v1::PushSettings { previews: settings.previews, quiet });
        let set = v1::SetPush { settings, address: to.map(address_of) };
        match self.ask(client_frame::Request::SetPush(set)).await? {
            server_frame::Message::PushSet(_) => Ok(()),
            _ => Err(WRONG_KIND),
        }
    }

    /// Where devices could be told, and where this one is. Its address the server tells nobody.
    pub async fn about_push(&self) -> Result<PushPlaces, Error> {
        let answer = self.ask(client_frame::Request::AboutPush(v1::AboutPush {})).await?;
        let server_frame::Message::PushPlaces(places) = answer else { return Err(WRONG_KIND) };
        let known = |service: &i32| PushService::try_from(*service).ok();
        let is_one = |service: &PushService| *service != PushService::Unknown;
        let settings = places.settings.unwrap_or_default();
        let quiet = settings.quiet.map(|quiet| {
            let v1::QuietHours { from_min, to_min, time_zone } = quiet;
            QuietHours { from_min, to_min, time_zone }
        });
        Ok(PushPlaces {
            services: places.services.iter().filter_map(known).filter(is_one).collect(),
            web_push_key: places.web_push_key.to_vec(),
            service: known(&places.service).filter(is_one),
            since_ms: places.since_ms,
            settings: PushSettings { previews: settings.previews, quiet },
        })
    }
}

fn address_of(address: PushAddress) -> set_push::Address {
    match address {
        PushAddress::Apns { token, calls_token } => {
            set_push::Address::Apns(v1::ApnsAddress { token, calls_token })
        }
        PushAddress::Fcm { token } => set_push::Address::Fcm(v1::FcmAddress { token }),
        PushAddress::WebPush { endpoint, p256dh, auth } => set_push::Address::WebPush(v1::WebPushAddress {
            endpoint,
            p256dh: p256dh.into(),
            auth: auth.into(),
        }),
        PushAddress::Webhook { address } => set_push::Address::Webhook(v1::WebhookAddress { address }),
    }
}
