//! How devices that are asleep are told that something has come: notices in, one outcome for each out.
//!
//! ```text
//! offer -> lane of APNs     -> requests in flight -> api.push.apple.com
//!          lane of FCM      -> ...                -> fcm.googleapis.com
//!          lane of Web Push -> ...                -> where the browser says
//!          lane of webhooks -> ...                -> the operator's program
//!                                |
//!                                +-> Outcomes
//! ```
//!
//! What always holds:
//! - Each notice that was taken has exactly one outcome.
//! - Of the notices for one device and collapse key, an older one is never sent after a newer one has been.
//! - No more requests are in flight to a service than its lane's bound, and no more notices are held than its queue's.
//! - Keys, tokens and what a notice says are in no log and no `Debug`.
//!
//! It refuses to know: chats, accounts and storage. What is to survive a crash is the caller's, who keeps it until the outcome is there.

#![cfg_attr(not(test), warn(clippy::too_many_lines))]
#![forbid(unsafe_code)]

pub mod apns;
mod error;
pub mod fcm;
mod http;
mod jwt;
pub mod limits;
#[cfg(feature = "mock")]
pub mod mock;
mod notice;
mod sender;
mod service;
mod text;
mod token;
mod wall;
pub mod webhook;
pub mod webpush;

pub use error::Invalid;
pub use http::{Reach, Roots};
pub use notice::{ChatRef, CollapseKey, DeviceId, Kind, Notice, NoticeId, Preview, Priority};
pub use sender::{
    Backoff, BreakerState, Counters, LaneSnapshot, NotTaken, Order, Outcome, Outcomes, Pauses, Report,
    Sender, Settings,
};
pub use service::{Answer, Doing, Reason, Service, Trouble};
pub use token::{Address, ApnsToken, ApnsUse, FcmToken, Subscription, Token, TokenKind};
pub use wall::Wall;
