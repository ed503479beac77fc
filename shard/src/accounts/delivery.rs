//! One-time codes: asked for, written, delivered, tried.
//!
//! A code is kept in the store as a MAC, so that a restart forgives no wrong attempt.

use bytes::Bytes;
use tern_proto::v1;
use tern_storage::keys;
use tern_storage::records::CodeRecord;
use tern_wire::errors::{Reason, Refusal};
use tern_wire::ids::Phone;
use tern_wire::request::Verify;

use super::adding::AddDevice;
use super::codes::{self, NetworkHash, Proof, Tried, UNKNOWN_NETWORK};
use super::waits::{After, Then};
use super::{Accounts, Cx, slot_of_phone};
use crate::limits::CODES_WAITING_MAX;
use crate::network::Network;
use crate::reply::{Origin, Reply, Undone};

/// A one-time code on its way to the deliverer.
pub(super) struct Delivery {
    /// Who waits for the answer.
    origin: Origin,
    /// Whose phone.
    phone: Phone,
    /// The registration.
    registration: u64,
    /// Six digits.
    code: String,
    /// When it ends.
    expires_ms: u64,
}

/// Shows no code.
impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery").field("phone", &self.phone).finish_non_exhaustive()
    }
}

impl Delivery {
    /// Whose code it is.
    pub(super) fn phone(&self) -> &Phone {
        &self.phone
    }
}

impl Accounts {
    /// How a phone's record names a network.
    fn network_hash(&self, phone: &Phone, network: Network) -> NetworkHash {
        if network == Network::UNKNOWN {
            UNKNOWN_NETWORK
        } else {
            self.keys.network_hash(phone, network.bytes())
        }
    }

    pub(super) fn make_code(&mut self, cx: &mut Cx, origin: Origin, network: Network, phone: Phone) {
        let network = self.network_hash(&phone, network);
        if self.phones.writing + self.phones.undelivered.len() >= CODES_WAITING_MAX {
            let refusal = cx.overloaded();
            return cx.refuse(origin, refusal);
        }
        let record = &mut self.phones.state(&phone).record;
        if let Err(wait_ms) = codes::may_ask(record, network, cx.now_ms, cx.limits()) {
            let detail = "too many codes were asked for by this phone";
            return cx.refuse(origin, Refusal::after(Reason::RateLimited, wait_ms, detail));
        }
        let (code, registration) = (cx.entropy().code(), cx.entropy().registration());
        let expires_ms = cx.now_ms + cx.limits().code_valid_ms;
        let issued = CodeRecord {
            registration,
            mac: self.keys.code_mac(&phone, &code),
            expires_ms,
            attempts_left: cx.limits().code_attempts_max,
            network,
        };
        codes::issue(record, issued, cx.now_ms);
        cx.put(slot_of_phone(&phone), keys::phone(phone.digits()), record);
        self.phones.writing += 1;
        let delivery = Delivery { origin, phone: phone.clone(), registration, code, expires_ms };
        self.after(cx, After::of_phone(phone, Then::Deliver(Box::new(delivery))));
    }

    /// The code's record is durable: have the code delivered, after those that wait already.
    pub(super) fn deliver_code(&mut self, cx: &mut Cx, delivery: Box<Delivery>) {
        self.phones.writing -= 1;
        if !self.phones.undelivered.is_empty() || !self.try_to_deliver(cx, &delivery) {
            self.phones.undelivered.push_back(delivery);
        }
    }

    /// The code's record is not in the store.
    pub(super) fn code_undone(&mut self, cx: &mut Cx, delivery: &Delivery, undone: Undone) {
        self.phones.writing -= 1;
        cx.reply(delivery.origin, undone.into());
    }

    /// Tries again what found the way to the deliverer full. What has ended meanwhile was never asked for.
    pub(super) fn deliver_waiting(&mut self, cx: &mut Cx) {
        while let Some(delivery) = self.phones.undelivered.pop_front() {
            if delivery.expires_ms <= cx.now_ms {
                self.retract_code(cx, *delivery);
            } else if !self.try_to_deliver(cx, &delivery) {
                return self.phones.undelivered.push_front(delivery);
            }
        }
    }

    fn try_to_deliver(&mut self, cx: &mut Cx, delivery: &Delivery) -> bool {
        let Delivery { origin, phone, registration, code, expires_ms } = delivery;
        if !cx.deliver_code(phone, code, *expires_ms) {
            return false;
        }
        // It may have been forgotten since.
        if self.development
            && let Some(state) = self.phones.known(phone)
        {
            state.shown = Some((*registration, code.clone()));
        }
        let sent = v1::CodeSent {
            digits: 6,
            expires_in_ms: expires_ms.saturating_sub(cx.now_ms).try_into().unwrap_or(u32::MAX),
            attempts: cx.limits().code_attempts_max,
            registration: *registration,
        };
        cx.reply(*origin, Reply::CodeSent(sent));
        true
    }

    fn retract_code(&mut self, cx: &mut Cx, delivery: Delivery) {
        let refusal = cx.overloaded();
        let Delivery { origin, phone, registration, .. } = delivery;
        // If it was forgotten, what is left in the store of a code that has ended is the count of an hour.
        let Some(state) = self.phones.known(&phone) else { return cx.refuse(origin, refusal) };
        codes::retract(&mut state.record, registration);
        self.write_phone(cx, &phone);
        self.after(cx, After::of_phone(phone, Then::Reply(origin, Reply::Refused(refusal))));
    }

    pub(super) fn verify(&mut self, cx: &mut Cx, origin: Origin, network: Network, verify: Verify) {
        let network = self.network_hash(&verify.phone, network);
        let keys = self.keys.clone();
        let is_right = |mac: &Bytes| keys.is_code(&verify.phone, &verify.code, mac);
        let registration = verify.registration;
        let state = self.phones.state(&verify.phone);
        match codes::try_code(&mut state.record, registration, cx.now_ms, cx.limits(), is_right) {
            Tried::Refused(refusal) => cx.refuse(origin, refusal),
            Tried::Wrong => {
                self.write_phone(cx, &verify.phone);
                let refusal = Refusal::new(Reason::CodeWrong, "that is not the code that was sent");
                let then = Then::Reply(origin, Reply::Refused(refusal));
                self.after(cx, After::of_phone(verify.phone, then));
            }
            Tried::Right => {
                state.proofs += 1;
                let proof = Proof { registration, network };
                self.phone_proven(cx, AddDevice::verified(origin, verify, proof));
            }
        }
    }
}
