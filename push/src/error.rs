//! What the caller, or the operator, gave and can't be.

use std::fmt;

/// Why not. None of it says what was given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Invalid {
    /// A collapse key or a reference to a chat is longer than [`OPAQUE_BYTES_MAX`](crate::limits::OPAQUE_BYTES_MAX).
    TooLong,
    /// A device's token is none: the client has sent nonsense.
    Token,
    /// An endpoint is no URL with `https`, a host and nobody's name in it: the client has sent nonsense.
    Endpoint,
    /// The keys of a subscription are none: a point of P-256 in 65 bytes, and 16 bytes.
    SubscriptionKeys,
    /// A private key can't be read: it is to be PKCS#8 in PEM, of P-256, or RSA for a service account. The operator gives another one.
    PrivateKey,
    /// A service account's file can't be read: it is to be JSON with `project_id`, `client_email`, `private_key` and `token_uri`.
    ServiceAccount,
    /// A setting can't be in a header: a topic, a team, a key's name, a contact. The operator gives another one.
    Setting,
    /// A base URL is none with `https`, or with `http` for a webhook, and a host.
    BaseUrl,
    /// The certificates to be trusted can't be used.
    Roots,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "a collapse key or a reference to a chat is too long: give 64 bytes at most",
            Self::Token => "a device's token is malformed: have the device register again",
            Self::Endpoint => {
                "a subscription's endpoint must be an https URL with a host and without credentials"
            }
            Self::SubscriptionKeys => "a subscription's keys are malformed: have the browser subscribe again",
            Self::PrivateKey => {
                "the private key can't be read: give PKCS#8 in PEM, of P-256 or, for FCM, RSA"
            }
            Self::ServiceAccount => {
                "the service account can't be read: give the JSON file that Google has made"
            }
            Self::Setting => "a setting of a push service is empty or has characters that no header may have",
            Self::BaseUrl => "a push service's URL must begin with https:// and name a host",
            Self::Roots => "the certificates to be trusted can't be used",
        })
    }
}

impl std::error::Error for Invalid {}
