//! Adding a device by another one of the account: by a code that is good once, for a short time, and is kept in memory alone.

use aws_lc_rs::constant_time;
use bytes::Bytes;
use prost::Message;
use tern_proto::v1;
use tern_wire::errors::{Reason, Refusal};
use tern_wire::ids::UserId;
use tern_wire::limits::SECRET_BYTES;
use tern_wire::request::Link;

use super::barred::bar;
use super::waits::{After, Then};
use super::{Accounts, Cx};
use crate::entry::Author;
use crate::reply::{Origin, Reply};

const UNKNOWN: Refusal = Refusal::new(Reason::LinkUnknown, "that is no code of this account, or no more");
const EXPIRED: Refusal = Refusal::new(Reason::LinkExpired, "that code has expired: ask for another one");
const USED: Refusal = Refusal::new(Reason::LinkUsed, "a device was linked by that code: ask for another one");
const TOO_MANY: Refusal =
    Refusal::new(Reason::TooManyDevices, "the account has as many devices as it may: end one");

/// A code by which a device is added. It is packed with its user.
#[derive(Clone, PartialEq, Eq, Message)]
#[prost(skip_debug)]
pub(super) struct Linking {
    #[prost(bytes = "vec", tag = "1")]
    secret: Vec<u8>,
    #[prost(uint64, tag = "2")]
    expires_ms: u64,
    #[prost(bool, tag = "3")]
    is_used: bool,
    /// The device that has asked for it: when that has ended, the code is good no more.
    #[prost(uint32, tag = "4")]
    by: u32,
}

/// Shows no code.
impl std::fmt::Debug for Linking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Linking {{ until {}, used {} }}", self.expires_ms, self.is_used)
    }
}

impl Linking {
    fn is_good(&self, secret: &[u8; SECRET_BYTES], now_ms: u64) -> Result<(), Refusal> {
        if constant_time::verify_slices_are_equal(&self.secret, secret).is_err() {
            return Err(UNKNOWN);
        }
        if self.is_used {
            return Err(USED);
        }
        if now_ms >= self.expires_ms { Err(EXPIRED) } else { Ok(()) }
    }
}

impl Accounts {
    /// Gives a user a code by which another device is added. The one before is good no more.
    pub(super) fn new_link(&mut self, cx: &mut Cx, by: Author, origin: Origin) {
        let id = by.user;
        if let Err(refusal) = self.budgets.link(id, cx.now_ms) {
            return cx.refuse(origin, refusal);
        }
        let (secret, valid_ms) = (cx.entropy().nonce(), cx.limits().link_valid_ms);
        let expires_ms = cx.now_ms + valid_ms;
        let linking = Linking { secret: secret.to_vec(), expires_ms, is_used: false, by: by.device.get() };
        self.user(id).linking = Some(linking);
        let expires_in_ms = u32::try_from(valid_ms).unwrap_or(u32::MAX);
        cx.reply(
            origin,
            Reply::LinkCode(v1::LinkCode { secret: Bytes::copy_from_slice(&secret), expires_in_ms }),
        );
    }

    /// Adds a device to an account by a code. Whatever is refused, nothing has changed.
    pub(super) fn link(&mut self, cx: &mut Cx, id: UserId, origin: Origin, link: Link) {
        let (now_ms, devices_max) = (cx.now_ms, cx.limits().devices_max);
        let user = self.user(id);
        let lives = |by: u32| user.devices.iter().any(|(id, device)| id.get() == by && device.lives());
        let is_from_one_that_lives = user.linking.as_ref().is_some_and(|linking| lives(linking.by));
        let linking = user.linking.as_mut().filter(|_| user.record.is_some() && is_from_one_that_lives);
        let good = linking.ok_or(UNKNOWN).and_then(|linking| {
            linking.is_good(&link.secret, now_ms)?;
            Ok(linking)
        });
        let linking = match good {
            Ok(linking) => linking,
            Err(refusal) => return cx.refuse(origin, refusal),
        };
        if let Some(refusal) = user.record.as_ref().and_then(|record| bar(record, now_ms)) {
            return cx.refuse(origin, refusal);
        }
        let ended = user.devices.iter().find(|(_, device)| !device.lives()).map(|(device, _)| *device);
        if user.devices.len() >= devices_max && ended.is_none() {
            return cx.refuse(origin, TOO_MANY);
        }
        linking.is_used = true;
        let phone = user.record.as_ref().map_or_else(String::new, |record| record.phone.clone());
        let replaced = ended.filter(|_| user.devices.len() >= devices_max);
        let (_, session) = self.make_device(cx, id, replaced, link.device_name);
        let session = v1::Session { phone, ..session };
        self.after(cx, After::of_user(id, Then::Reply(origin, Reply::Session(Box::new(session)))));
    }
}
