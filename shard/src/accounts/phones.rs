//! Phones in memory: which user a phone belongs to, and which of its one-time codes are good.
//!
//! A phone's record is decided on in memory and written in the same turn, so its operations need no queue once it has
//! been read; their answers wait for the commit. A refusal leaves the record as it was, wrong attempts apart.

use std::collections::VecDeque;

use bytes::Bytes;
use prost::Message as _;
use tern_storage::keys;
use tern_storage::records::PhoneRecord;
use tern_wire::errors::{Reason, Refusal};
use tern_wire::ids::{Phone, UserId};

use super::adding::AddDevice;
use super::delivery::Delivery;
use super::{Accounts, Cx, GetFor, has_room, slot_of_phone};
use crate::admin::AdminResponse;
use crate::by_slot::BySlot;
use crate::held::{Admitted, Doubt, Held, Load};
use crate::limits::{PHONE_WAITING_MAX, PHONES_CACHED_MAX};
use crate::maps::{Hashing, Map};
use crate::message::{PhoneOp, Unreadable};
use crate::mutations::unless_garbage;

const UNREADABLE: Refusal = Refusal::for_now(Reason::Unavailable, 1000, "the phone's record can't be read");

/// The phones of a core's slots that are in memory, and what is under way with them.
#[derive(Debug)]
pub(super) struct Phones {
    pub(super) phones: BySlot<Phone, State>,
    /// New users: the store is asked whether somebody has had the id.
    pub(super) making: Map<UserId, AddDevice>,
    /// Codes whose phone's record is being written.
    pub(super) writing: usize,
    /// Codes that wait for room in the way to the deliverer, oldest first.
    pub(super) undelivered: VecDeque<Box<Delivery>>,
    /// When those that nobody needs were last let go.
    swept_ms: u64,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) record: PhoneRecord,
    /// Where it stands, and what waits for it to be known.
    pub(super) held: Held<PhoneOp>,
    /// Devices under way for which it was proven.
    pub(super) proofs: u32,
    /// In development: the code that was sent last, and its registration.
    pub(super) shown: Option<(u64, String)>,
}

impl State {
    /// Whether nothing is lost by letting it go.
    fn is_spare(&self, now_ms: u64) -> bool {
        let is_shown = self.shown.as_ref().is_some_and(|(registration, _)| {
            self.record
                .codes
                .iter()
                .any(|code| code.registration == *registration && code.expires_ms > now_ms)
        });
        self.held.is_still() && self.proofs == 0 && !is_shown
    }
}

impl Phones {
    /// None.
    pub(super) fn new(hashing: Hashing) -> Self {
        Self {
            phones: BySlot::new(hashing),
            making: Map::with_hasher(hashing),
            writing: 0,
            undelivered: VecDeque::new(),
            swept_ms: 0,
        }
    }

    /// Whether one more may come into memory. To make room, those leave that nobody needs.
    fn has_room(&mut self, now_ms: u64) -> bool {
        // Looking through all of them for each newcomer would cost more than it frees.
        if self.phones.len() >= PHONES_CACHED_MAX && self.swept_ms != now_ms {
            self.swept_ms = now_ms;
            self.phones.retain(|_, state| !state.is_spare(now_ms));
        }
        self.phones.len() < PHONES_CACHED_MAX
    }

    /// A phone that is known, or of which a write is under way.
    pub(super) fn state(&mut self, phone: &Phone) -> &mut State {
        self.phones.get_mut(phone).expect("a phone stays in memory while something of it is under way")
    }

    /// A phone, if it is known. One that was proven may have come into doubt, and been forgotten, before its device was added.
    pub(super) fn known(&mut self, phone: &Phone) -> Option<&mut State> {
        self.phones.get_mut(phone).filter(|state| state.held.is_known())
    }

    /// A device was added, or was refused.
    pub(super) fn proof_ended(&mut self, phone: &Phone) {
        // One that was forgotten since counts none, or those of later.
        if let Some(state) = self.phones.get_mut(phone) {
            state.proofs = state.proofs.saturating_sub(1);
        }
    }
}

impl Accounts {
    /// Something is asked of a phone.
    pub(crate) fn phone_told(&mut self, cx: &mut Cx, phone: Phone, op: PhoneOp) {
        if !matches!(op, PhoneOp::Admin(..)) && !has_room(cx) {
            let refusal = cx.overloaded();
            return Self::refuse_phone(cx, op, refusal);
        }
        let Some(state) = self.phones.phones.get_mut(&phone) else { return self.load_phone(cx, phone, op) };
        match state.held.admit(op, PHONE_WAITING_MAX) {
            Admitted::Now(op) => self.phone_known(cx, phone, op),
            Admitted::Waits => {}
            Admitted::Full(op) => {
                let refusal = cx.overloaded();
                Self::refuse_phone(cx, op, refusal);
            }
        }
    }

    /// Reads a phone that is not in memory, for somebody.
    fn load_phone(&mut self, cx: &mut Cx, phone: Phone, op: PhoneOp) {
        if !self.phones.has_room(cx.now_ms) {
            let refusal = cx.overloaded();
            return Self::refuse_phone(cx, op, refusal);
        }
        let load = self.loads.next();
        let mut held = Held::loading(load, 1);
        held.admit(op, PHONE_WAITING_MAX);
        let state = State { record: PhoneRecord::default(), held, proofs: 0, shown: None };
        self.phones.phones.insert(phone.clone(), state);
        cx.get(keys::phone(phone.digits()), GetFor::Phone(phone, load));
    }

    pub(super) fn phone_read(
        &mut self,
        cx: &mut Cx,
        phone: Phone,
        load: Load,
        result: Result<Option<Bytes>, Unreadable>,
    ) {
        let state = self.phones.state(&phone);
        assert!(
            state.held.is_loading_by(load),
            "a phone that is being read is not forgotten, nor read again"
        );
        let key = keys::phone(phone.digits());
        let part = result.and_then(|value| {
            let value = unless_garbage::<PhoneRecord>(value);
            let decoded = value.map_or(Ok(PhoneRecord::default()), PhoneRecord::decode);
            state.record = decoded.map_err(|_| {
                cx.damaged("a phone", &key);
                Unreadable::Damaged
            })?;
            Ok(())
        });
        match state.held.part_came(part).expect("it has one part") {
            Ok(()) => {
                for op in state.held.now_known() {
                    // One of them may have brought it into doubt.
                    self.phone_told(cx, phone.clone(), op);
                }
            }
            Err(_) => {
                let state = self.phones.phones.remove(&phone).expect("it was being read");
                for op in state.held.give_up() {
                    Self::refuse_phone(cx, op, UNREADABLE);
                }
            }
        }
    }

    /// What is in memory of a phone did not become durable: when its writes have ended it is read again, if somebody needs it.
    pub(super) fn phone_settled(&mut self, cx: &mut Cx, phone: &Phone) {
        let state = self.phones.state(phone);
        match state.held.doubted() {
            Doubt::None => {}
            Doubt::Idle => drop(self.phones.phones.remove(phone)),
            Doubt::Wanted => {
                let load = self.loads.next();
                state.held.load_again(load, 1);
                cx.get(keys::phone(phone.digits()), GetFor::Phone(phone.clone(), load));
            }
        }
    }

    /// It can't be done for now: whoever waits is told.
    pub(crate) fn refuse_phone(cx: &mut Cx, op: PhoneOp, refusal: Refusal) {
        match op {
            PhoneOp::Register(origin, _) | PhoneOp::Verify(origin, ..) => cx.refuse(origin, refusal),
            // It is found again.
            PhoneOp::End(..) => {}
            PhoneOp::Admin(question, _) => {
                cx.answer(question, AdminResponse::Refused(refusal.detail.to_owned()));
            }
        }
    }

    /// Writes what is in memory of a phone.
    pub(super) fn write_phone(&mut self, cx: &mut Cx, phone: &Phone) {
        cx.put(slot_of_phone(phone), keys::phone(phone.digits()), &self.phones.state(phone).record);
    }

    /// A phone belongs to nobody any more. It stays in memory until that is durable: read again before, it would still
    /// lead to the deleted user.
    pub(super) fn free_phone(&mut self, cx: &mut Cx, phone: &Phone) {
        let state = self.phones.state(phone);
        (state.record, state.shown) = (PhoneRecord::default(), None);
        cx.delete(slot_of_phone(phone), keys::phone(phone.digits()));
    }

    fn phone_known(&mut self, cx: &mut Cx, phone: Phone, op: PhoneOp) {
        match op {
            PhoneOp::Register(origin, network) => self.make_code(cx, origin, network, phone),
            PhoneOp::Verify(origin, network, verify) => self.verify(cx, origin, network, *verify),
            PhoneOp::Admin(question, ask) => self.phone_question(cx, question, phone, ask),
            PhoneOp::End(user, number) => self.end_of_phone(cx, phone, user, number),
        }
    }
}
