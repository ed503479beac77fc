//! What networks may ask for, all phones together.

use tern_wire::errors::{Reason, Refusal};

use super::addresses::Asked;
use super::{Accounts, Cx, has_room};
use crate::limits::Limits;
use crate::message::{FrontOp, NetworkOp, PhoneOp};
use crate::network::Network;
use crate::reply::Origin;

impl NetworkOp {
    /// Whether it goes on to a phone's owner, who writes.
    fn is_of_phone(&self) -> bool {
        matches!(self, Self::Register(..) | Self::Verify(..))
    }
}

impl Accounts {
    /// May this network ask for a code, or try one? If so, the phone's owner goes on. It has as many tries as its codes have.
    pub(crate) fn network_told(&mut self, cx: &mut Cx, network: Network, op: NetworkOp) {
        if !has_room(cx) && op.is_of_phone() {
            let refusal = cx.overloaded();
            return Self::refuse_network(cx, network, op, refusal);
        }
        let Limits { address_code_requests_per_hour_max: max, code_attempts_max, .. } = *cx.limits();
        match op {
            NetworkOp::Register(origin, phone) => {
                if self.may(cx, origin, Asked::ForCode, network, max) {
                    cx.ask_phone(origin, phone, PhoneOp::Register(origin, network));
                }
            }
            NetworkOp::Verify(origin, verify) => {
                if self.may(cx, origin, Asked::ToVerify, network, max.saturating_mul(code_attempts_max)) {
                    let phone = verify.phone.clone();
                    cx.ask_phone(origin, phone, PhoneOp::Verify(origin, network, verify));
                }
            }
            NetworkOp::Lease(place, wanted) => {
                let granted = self.addresses.lease(network, wanted, cx.now_ms);
                cx.tell_front(place, FrontOp::Leased(network, granted));
            }
            NetworkOp::GiveBack(unused) => self.addresses.give_back(network, unused),
        }
    }

    /// It can't be looked at for now.
    pub(crate) fn refuse_network(cx: &mut Cx, network: Network, op: NetworkOp, refusal: Refusal) {
        match op {
            NetworkOp::Register(origin, _) | NetworkOp::Verify(origin, _) => cx.refuse(origin, refusal),
            // A limit that nobody can look at is none.
            NetworkOp::Lease(place, wanted) => cx.tell_front(place, FrontOp::Leased(network, Ok(wanted))),
            NetworkOp::GiveBack(_) => {}
        }
    }

    fn may(&mut self, cx: &mut Cx, origin: Origin, asked: Asked, network: Network, max: u32) -> bool {
        let counted = self.addresses.count(asked, network, max, cx.now_ms);
        if let Err(wait_ms) = counted {
            let detail = "too much was asked for from this network address";
            cx.refuse(origin, Refusal::after(Reason::RateLimited, wait_ms, detail));
        }
        counted.is_ok()
    }
}
