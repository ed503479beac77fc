//! Phones: one-time codes asked for, delivered and checked; which user a phone belongs to.
//!
//! A phone's record is decided on in memory and written in the same turn, so its operations need no queue once it has
//! been read; their answers wait for the commit. A code is kept in the store as a MAC, so that a restart forgives no
//! wrong attempt.

use bytes::Bytes;
use prost::Message as _;
use tern_proto::v1;
use tern_storage::records::PhoneRecord;
use tern_storage::{Slot, keys};
use tern_wire::errors::{Reason, Refusal};
use tern_wire::ids::{Phone, UserId};
use tern_wire::request::Verify;

use crate::Cx;
use crate::accounts::addresses::Asked;
use crate::accounts::report_damage;
use crate::accounts::users::{AddDevice, Asker};
use crate::admin::{AdminResponse, CodeView};
use crate::commits::After;
use crate::limits::{HOUR_MS, Limits, PHONES_CACHED_MAX};
use crate::maps::Map;
use crate::message::{PhoneOp, PhoneQuestion, UserAsk, UserOp};
use crate::reads::ReadFor;
use crate::reply::{Origin, Reply};
use crate::shard::Shard;

/// What was decided on of a phone is not in the store.
const FORGOTTEN: Refusal =
    Refusal::for_now(Reason::Unavailable, 1000, "the phone's record has to be read again");

/// The phones of a core's slots that are in memory, and the ids that new users are about to get.
#[derive(Debug, Default)]
pub struct Phones {
    phones: Map<Phone, State>,
    /// The store is asked whether somebody has had the id.
    making: Map<UserId, AddDevice>,
}

#[derive(Debug, Default)]
struct State {
    record: PhoneRecord,
    known: bool,
    waiting: Vec<PhoneOp>,
    /// Writes of it under way.
    unsettled: i32,
    /// The code itself, until it has been delivered; in development as long as it is good.
    code: Option<String>,
}

impl Phones {
    /// Notes that writes of a phone have been made (1) or have ended (-1).
    pub fn count_unsettled(&mut self, phone: &Phone, change: i32) {
        if let Some(state) = self.phones.get_mut(phone) {
            state.unsettled += change;
        }
    }
}

impl Shard {
    /// May this network address ask for a code? If so, the phone's owner goes on.
    pub(crate) fn register(&mut self, cx: &mut Cx, origin: Origin, address: [u8; 16], phone: Phone) {
        let max = self.limits.address_code_requests_per_hour_max;
        match self.addresses.count(Asked::ForCode, address, max, cx.now_ms) {
            Ok(()) => self.ask_phone(cx, origin, phone, PhoneOp::Register(origin)),
            Err(wait_ms) => self.refuse_address(cx, origin, wait_ms),
        }
    }

    /// May this network address try a code? If so, the phone's owner goes on. It has as many tries as its codes have.
    pub(crate) fn verify_from(
        &mut self,
        cx: &mut Cx,
        origin: Origin,
        address: [u8; 16],
        verify: Box<Verify>,
    ) {
        let Limits { address_code_requests_per_hour_max, code_attempts_max, .. } = self.limits;
        let max = address_code_requests_per_hour_max.saturating_mul(code_attempts_max);
        match self.addresses.count(Asked::ToVerify, address, max, cx.now_ms) {
            Ok(()) => self.ask_phone(cx, origin, verify.phone.clone(), PhoneOp::Verify(origin, verify)),
            Err(wait_ms) => self.refuse_address(cx, origin, wait_ms),
        }
    }

    fn refuse_address(&mut self, cx: &mut Cx, origin: Origin, wait_ms: u64) {
        let wait_ms = wait_ms.try_into().unwrap_or(u32::MAX);
        let detail = "too much was asked for from this network address";
        self.refuse(cx, origin, Refusal::for_now(Reason::RateLimited, wait_ms, detail));
    }

    pub(crate) fn phone_op(&mut self, cx: &mut Cx, phone: Phone, op: PhoneOp) {
        if self.phones.phones.len() >= PHONES_CACHED_MAX && !self.phones.phones.contains_key(&phone) {
            self.phones.phones.retain(|_, state| !state.known || state.code.is_some() || state.unsettled > 0);
        }
        let state = self.phones.phones.entry(phone.clone()).or_default();
        if state.known {
            return self.phone_known(cx, phone, op);
        }
        state.waiting.push(op);
        if state.waiting.len() == 1 {
            self.reads.get(cx.fx, keys::phone(phone.digits()), ReadFor::Phone(phone));
        }
    }

    pub(crate) fn phone_read(&mut self, cx: &mut Cx, phone: Phone, value: Option<Bytes>) {
        let Some(state) = self.phones.phones.get_mut(&phone) else { return };
        let Ok(record) = value.map_or(Ok(PhoneRecord::default()), PhoneRecord::decode) else {
            report_damage(cx, "a phone", Slot::of_phone(phone.digits()));
            return self.phone_unreadable(cx, &phone);
        };
        (state.record, state.known) = (record, true);
        for op in std::mem::take(&mut state.waiting) {
            self.phone_known(cx, phone.clone(), op);
        }
    }

    /// A phone can't be read: whoever waits is refused, and the next one tries again.
    pub(crate) fn phone_unreadable(&mut self, cx: &mut Cx, phone: &Phone) {
        let Some(state) = self.phones.phones.remove(phone) else { return };
        let refusal = Refusal::new(Reason::Unavailable, "the phone's record can't be read");
        for op in state.waiting {
            match op {
                PhoneOp::Register(origin) | PhoneOp::Verify(origin, _) | PhoneOp::Lookup(origin) => {
                    self.refuse(cx, origin, refusal);
                }
                PhoneOp::Admin(question, _) => {
                    cx.fx.answer(question, AdminResponse::Refused(refusal.detail.to_owned()));
                }
            }
        }
    }

    /// What is in memory of a phone may not be durable: it is read again when it is needed.
    pub(crate) fn forget_phone(&mut self, phone: &Phone) {
        if self.phones.phones.get(phone).is_some_and(|state| state.known) {
            self.phones.phones.remove(phone);
        }
    }

    /// Writes what is in memory of a phone.
    pub(crate) fn write_phone(&mut self, phone: &Phone) {
        if let Some(state) = self.phones.phones.get(phone) {
            self.commits.put(keys::phone(phone.digits()), &state.record);
        }
    }

    /// A phone belongs to nobody any more. It stays in memory until that is durable: read again before, it would still
    /// lead to the deleted user.
    pub(crate) fn free_phone(&mut self, phone: &Phone) {
        if let Some(state) = self.phones.phones.get_mut(phone) {
            (state.record, state.code) = (PhoneRecord::default(), None);
        }
        self.commits.delete(keys::phone(phone.digits()));
    }

    fn phone_known(&mut self, cx: &mut Cx, phone: Phone, op: PhoneOp) {
        match op {
            PhoneOp::Register(origin) => self.make_code(cx, origin, phone),
            PhoneOp::Verify(origin, verify) => self.verify(cx, origin, *verify),
            PhoneOp::Lookup(origin) => self.find(cx, origin, &phone),
            PhoneOp::Admin(question, ask) => self.phone_question(cx, question, phone, ask),
        }
    }

    fn make_code(&mut self, cx: &mut Cx, origin: Origin, phone: Phone) {
        let Some(state) = self.phones.phones.get_mut(&phone) else { return };
        let record = &mut state.record;
        record.requests_ms.retain(|at_ms| cx.now_ms.saturating_sub(*at_ms) < HOUR_MS);
        if record.requests_ms.len() >= self.limits.code_requests_per_hour_max as usize {
            let oldest_ms = record.requests_ms.iter().min().copied().unwrap_or(cx.now_ms);
            let wait_ms = (oldest_ms + HOUR_MS).saturating_sub(cx.now_ms).max(1);
            let detail = "too many codes were asked for by this phone";
            let refusal = Refusal::for_now(Reason::RateLimited, wait_ms as u32, detail);
            return self.refuse(cx, origin, refusal);
        }
        let code = self.entropy.code();
        record.requests_ms.push(cx.now_ms);
        record.code_mac = self.keys.code_mac(&phone, &code);
        record.code_expires_ms = cx.now_ms + self.limits.code_valid_ms;
        record.attempts_left = self.limits.code_attempts_max;
        state.code = Some(code);
        self.commits.put(keys::phone(phone.digits()), record);
        self.then(After::Deliver(origin, phone));
    }

    /// The code's record is durable: have the code delivered.
    pub(crate) fn deliver_code(&mut self, cx: &mut Cx, origin: Origin, phone: &Phone) {
        let code = self
            .phones
            .phones
            .get(phone)
            .and_then(|state| Some((state.code.clone()?, state.record.code_expires_ms)));
        let Some((code, expires_ms)) = code else { return self.refuse_code(cx, origin) };
        if !cx.fx.deliver_code(phone, &code, expires_ms) {
            return self.refuse_code(cx, origin);
        }
        if !self.development {
            self.forget_code(phone);
        }
        let sent = v1::CodeSent {
            digits: 6,
            expires_in_ms: expires_ms.saturating_sub(cx.now_ms) as u32,
            attempts: self.limits.code_attempts_max,
            ..v1::CodeSent::default()
        };
        self.reply(cx, origin, Reply::CodeSent(sent));
    }

    fn refuse_code(&mut self, cx: &mut Cx, origin: Origin) {
        let refusal = self.overloaded();
        self.refuse(cx, origin, refusal);
    }

    fn forget_code(&mut self, phone: &Phone) {
        if let Some(state) = self.phones.phones.get_mut(phone) {
            state.code = None;
        }
    }

    fn verify(&mut self, cx: &mut Cx, origin: Origin, verify: Verify) {
        let Some(state) = self.phones.phones.get_mut(&verify.phone) else { return };
        let record = &mut state.record;
        let refused = if record.code_mac.is_empty() || cx.now_ms >= record.code_expires_ms {
            Some(Refusal::new(Reason::CodeExpired, "no code is good for this phone now: ask for one"))
        } else if record.attempts_left == 0 {
            Some(Refusal::new(Reason::TooManyAttempts, "the code was tried too often: ask for a new one"))
        } else {
            None
        };
        if let Some(refusal) = refused {
            return self.refuse(cx, origin, refusal);
        }
        if !self.keys.is_code(&verify.phone, &verify.code, &record.code_mac) {
            record.attempts_left -= 1;
            self.commits.put(keys::phone(verify.phone.digits()), record);
            let refusal = Refusal::new(Reason::CodeWrong, "that is not the code that was sent");
            return self.then(After::Account(origin, verify.phone, None, Reply::Refused(refusal)));
        }
        record.code_mac = Bytes::new();
        record.attempts_left = 0;
        state.code = None;
        self.phone_proven(cx, AddDevice::verified(origin, verify));
    }

    /// Adds a device to the user of a proven phone, who is made if there is none.
    fn phone_proven(&mut self, cx: &mut Cx, add: AddDevice) {
        let Some(state) = self.phones.phones.get(&add.phone) else { return };
        if let Some(user) = UserId::new(state.record.user) {
            return self.add_device(cx, user, add);
        }
        self.draw_id(cx, add);
    }

    /// Draws an id for a new user, and asks the store whether somebody has, or has had, it.
    fn draw_id(&mut self, cx: &mut Cx, add: AddDevice) {
        let slot = Slot::of_phone(add.phone.digits());
        let id = loop {
            let id = self.entropy.user(slot);
            if !self.users.is_known(id) && !self.phones.making.contains_key(&id) {
                break id;
            }
        };
        self.phones.making.insert(id, add);
        self.reads.get(cx.fx, keys::user(id.get()), ReadFor::NewUser(id));
    }

    /// Whether an id is free is known. Somebody may have asked for that user meanwhile: then another one is drawn.
    pub(crate) fn new_user_read(&mut self, cx: &mut Cx, id: UserId, free: bool) {
        let Some(add) = self.phones.making.remove(&id) else { return };
        let Some(state) = self.phones.phones.get_mut(&add.phone).filter(|state| state.known) else {
            return self.refuse_device(cx, add.by, FORGOTTEN);
        };
        if let Some(user) = UserId::new(state.record.user) {
            // Two proofs of one phone came together, and the first has made the user.
            return self.add_device(cx, user, add);
        }
        if !free || self.users.is_known(id) {
            return self.draw_id(cx, add);
        }
        state.record.user = id.get();
        self.make_user(cx, id, add);
    }

    /// Whether an id is free can't be read: nobody is made.
    pub(crate) fn new_user_unreadable(&mut self, cx: &mut Cx, id: UserId) {
        if let Some(add) = self.phones.making.remove(&id) {
            let refusal = Refusal::for_now(Reason::Unavailable, 1000, "the store can't be read");
            self.refuse_device(cx, add.by, refusal);
        }
    }

    fn find(&mut self, cx: &mut Cx, origin: Origin, phone: &Phone) {
        let user = self.phones.phones.get(phone).and_then(|state| UserId::new(state.record.user));
        match user {
            Some(user) => self.user_op(cx, UserOp { user, ask: UserAsk::Describe(origin) }),
            None => {
                let refusal = Refusal::new(Reason::UnknownUser, "nobody is registered with that phone");
                self.refuse(cx, origin, refusal);
            }
        }
    }

    fn phone_question(&mut self, cx: &mut Cx, question: u64, phone: Phone, ask: PhoneQuestion) {
        let Some(state) = self.phones.phones.get(&phone) else { return };
        let user = UserId::new(state.record.user);
        match ask {
            PhoneQuestion::Code if !self.development => {
                let why = "codes are shown in development mode only".to_owned();
                cx.fx.answer(question, AdminResponse::Refused(why));
            }
            PhoneQuestion::Code => {
                let good = state.record.code_expires_ms > cx.now_ms;
                let code = state.code.clone().filter(|_| good).map(|code| CodeView {
                    code,
                    expires_ms: state.record.code_expires_ms,
                    attempts_left: state.record.attempts_left,
                });
                cx.fx.answer(question, AdminResponse::Code(code));
            }
            PhoneQuestion::User => match user {
                Some(user) => self.view_user(cx, user, question),
                None => cx.fx.answer(question, AdminResponse::User(None)),
            },
            PhoneQuestion::Delete => match user {
                Some(user) => self.delete_user(cx, user, question, phone),
                None => cx.fx.answer(question, AdminResponse::Deleted(false)),
            },
            PhoneQuestion::Provision(name) => {
                let by = Asker::Operator(question);
                self.phone_proven(
                    cx,
                    AddDevice { by, phone, name, device_name: "provisioned".to_owned(), fresh: false },
                );
            }
        }
    }

    /// Sends an operator's question about a phone to its owner, which is this core if the shell has asked rightly.
    pub(crate) fn ask_about_phone(&mut self, cx: &mut Cx, question: u64, phone: Phone, ask: PhoneQuestion) {
        let owner = self.slots.owner(Slot::of_phone(phone.digits()));
        if owner == self.core {
            self.phone_op(cx, phone, PhoneOp::Admin(question, ask));
        } else {
            let why = "that phone belongs to another core".to_owned();
            cx.fx.answer(question, AdminResponse::Refused(why));
        }
    }
}
