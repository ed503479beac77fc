//! Servers that answer as the services do: their protocols over TLS, in this process, by script. For tests and benches.
//!
//! Each checks what its service checks, answers what it would, writes down what came in the order in which it came, and says by script what
//! a test wants to hear: for one device or all, once or always, late, with a connection that ends, or not at all.
//!
//! It refuses to know: the crate's own payloads, signatures and encryption. It checks them as another would, by the standards.

mod apns;
mod browser;
mod fcm;
mod jwt;
mod keys;
mod script;
mod serve;
mod webhook;
mod webpush;

pub use self::apns::ApnsMock;
pub use self::browser::Subscriber;
pub use self::fcm::FcmMock;
pub use self::keys::Identity;
pub use self::script::{Book, End, Push, Reply};
pub use self::webhook::WebhookMock;
pub use self::webpush::WebPushMock;
