//! Phones: one-time codes asked for, delivered and checked; which user a phone belongs to.
//!
//! A phone's record is decided on in memory and written in the same turn, so its operations need no queue once it has
//! been read; their answers wait for the commit. A code is kept in the store as a MAC, so that a restart forgives no
//! wrong attempt. A refusal leaves the record as it was, wrong attempts apart.

use std::collections::VecDeque;

use bytes::Bytes;
use prost::Message as _;
use tern_proto::v1;
use tern_storage::records::{CodeRecord, PhoneRecord};
use tern_storage::{LogId, Slot, keys};
use tern_wire::errors::{Reason, Refusal};
use tern_wire::ids::{Phone, UserId};
use tern_wire::request::Verify;

use super::{After, GetFor};
use crate::Cx;
use crate::accounts::addresses::{Asked, UNKNOWN_ADDRESS};
use crate::accounts::codes::{self, Network, Proof, Tried, UNKNOWN_NETWORK};
use crate::accounts::report_damage;
use crate::accounts::users::AddDevice;
use crate::admin::{AdminResponse, CodeView};
use crate::limits::{CODES_WAITING_MAX, Limits, PHONE_WAITING_MAX, PHONES_CACHED_MAX};
use crate::maps::{Hashing, Map};
use crate::message::{LogOp, PhoneOp, PhoneQuestion, Shown, UserAsk, UserOp};
use crate::reply::{Origin, Reply, Undone};
use crate::shard::Shard;

/// What was decided on of a phone is not in the store.
const FORGOTTEN: Refusal =
    Refusal::for_now(Reason::Unavailable, 1000, "the phone's record has to be read again");

/// The phones of a core's slots that are in memory, and what is under way with them.
#[derive(Debug)]
pub struct Phones {
    phones: Map<Phone, State>,
    /// New users: the store is asked whether somebody has had the id.
    making: Map<UserId, AddDevice>,
    /// Codes whose phone's record is being written.
    writing: usize,
    /// Codes that wait for room in the way to the deliverer, oldest first.
    undelivered: VecDeque<Box<Delivery>>,
    /// When those that nobody needs were last let go.
    swept_ms: u64,
}

#[derive(Debug, Default)]
struct State {
    record: PhoneRecord,
    known: bool,
    waiting: Vec<PhoneOp>,
    /// Writes of it under way.
    unsettled: i32,
    /// Devices under way for which it was proven.
    proofs: u32,
    /// In development: the code that was sent last, and its registration.
    shown: Option<(u64, String)>,
}

/// A one-time code on its way to the deliverer.
pub struct Delivery {
    /// Who waits for the answer.
    pub origin: Origin,
    /// Whose phone.
    pub phone: Phone,
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

impl State {
    /// Whether nothing is lost by letting it go.
    fn is_spare(&self, now_ms: u64) -> bool {
        let is_shown = self.shown.as_ref().is_some_and(|(registration, _)| {
            self.record
                .codes
                .iter()
                .any(|code| code.registration == *registration && code.expires_ms > now_ms)
        });
        self.known && self.unsettled <= 0 && self.proofs == 0 && !is_shown
    }
}

impl Phones {
    /// None.
    pub fn new(hashing: Hashing) -> Self {
        Self {
            phones: Map::with_hasher(hashing),
            making: Map::with_hasher(hashing),
            writing: 0,
            undelivered: VecDeque::new(),
            swept_ms: 0,
        }
    }

    /// Notes that writes of a phone have been made (1) or have ended (-1).
    pub fn count_unsettled(&mut self, phone: &Phone, change: i32) {
        if let Some(state) = self.phones.get_mut(phone) {
            state.unsettled += change;
        }
    }

    /// Whether the phone is in memory or may come. To make room, those leave that nobody needs.
    fn has_room_for(&mut self, phone: &Phone, now_ms: u64) -> bool {
        if self.phones.len() < PHONES_CACHED_MAX || self.phones.contains_key(phone) {
            return true;
        }
        // Looking through all of them for each newcomer would cost more than it frees.
        if self.swept_ms != now_ms {
            self.swept_ms = now_ms;
            self.phones.retain(|_, state| !state.is_spare(now_ms));
        }
        self.phones.len() < PHONES_CACHED_MAX
    }

    /// Whether a device may be added for a proven phone, which must still be the user's.
    pub(super) fn may_add(&self, add: &AddDevice, user: UserId) -> Result<(), Refusal> {
        let state = self.phones.get(&add.phone).filter(|state| state.known).ok_or(FORGOTTEN)?;
        let owner = UserId::new(state.record.user);
        if owner.is_some_and(|owner| owner != user && add.instead != Some(owner)) {
            return Err(FORGOTTEN);
        }
        add.proof.map_or(Ok(()), |proof| codes::is_good(&state.record, proof))
    }

    /// A device is added: the code is used up, and the phone is the user's.
    pub(super) fn device_added(&mut self, add: &AddDevice, user: UserId) {
        let Some(state) = self.phones.get_mut(&add.phone) else { return };
        state.record.user = user.get();
        if let Some(proof) = add.proof {
            codes::use_up(&mut state.record, proof);
        }
    }

    /// A device was added, or was refused.
    pub(super) fn proof_ended(&mut self, phone: &Phone) {
        if let Some(state) = self.phones.get_mut(phone) {
            state.proofs = state.proofs.saturating_sub(1);
        }
    }
}

impl Shard {
    /// May this network ask for a code? If so, the phone's owner goes on.
    pub(crate) fn register(&mut self, cx: &mut Cx, origin: Origin, address: [u8; 16], phone: Phone) {
        let max = self.limits.address_code_requests_per_hour_max;
        match self.addresses.count(Asked::ForCode, address, max, cx.now_ms) {
            Ok(()) => self.ask_phone(cx, origin, phone, PhoneOp::Register(origin, address)),
            Err(wait_ms) => self.refuse_address(cx, origin, wait_ms),
        }
    }

    /// May this network try a code? If so, the phone's owner goes on. It has as many tries as its codes have.
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
            Ok(()) => {
                let phone = verify.phone.clone();
                self.ask_phone(cx, origin, phone, PhoneOp::Verify(origin, address, verify));
            }
            Err(wait_ms) => self.refuse_address(cx, origin, wait_ms),
        }
    }

    fn refuse_address(&mut self, cx: &mut Cx, origin: Origin, wait_ms: u64) {
        let detail = "too much was asked for from this network address";
        self.refuse(cx, origin, Refusal::after(Reason::RateLimited, wait_ms, detail));
    }

    pub(crate) fn phone_op(&mut self, cx: &mut Cx, phone: Phone, op: PhoneOp) {
        if !self.phones.has_room_for(&phone, cx.now_ms) {
            let refusal = self.overloaded();
            return self.refuse_phone_op(cx, op, refusal);
        }
        let state = self.phones.phones.entry(phone.clone()).or_default();
        if state.known {
            return self.phone_known(cx, phone, op);
        }
        if state.waiting.len() >= PHONE_WAITING_MAX {
            let refusal = self.overloaded();
            return self.refuse_phone_op(cx, op, refusal);
        }
        state.waiting.push(op);
        if state.waiting.len() == 1 {
            self.reads.get(cx.fx, keys::phone(phone.digits()), GetFor::Phone(phone));
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
        let refusal = Refusal::for_now(Reason::Unavailable, 1000, "the phone's record can't be read");
        for op in state.waiting {
            self.refuse_phone_op(cx, op, refusal);
        }
    }

    fn refuse_phone_op(&mut self, cx: &mut Cx, op: PhoneOp, refusal: Refusal) {
        match op {
            PhoneOp::Register(origin, _) | PhoneOp::Verify(origin, ..) | PhoneOp::Lookup(origin, _) => {
                self.refuse(cx, origin, refusal);
            }
            PhoneOp::Admin(question, _) => {
                cx.fx.answer(question, AdminResponse::Refused(refusal.detail.to_owned()));
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
            (state.record, state.shown) = (PhoneRecord::default(), None);
        }
        self.commits.delete(keys::phone(phone.digits()));
    }

    fn phone_known(&mut self, cx: &mut Cx, phone: Phone, op: PhoneOp) {
        match op {
            PhoneOp::Register(origin, address) => self.make_code(cx, origin, address, phone),
            PhoneOp::Verify(origin, address, verify) => self.verify(cx, origin, address, *verify),
            PhoneOp::Lookup(origin, asker) => self.find(cx, origin, asker, &phone),
            PhoneOp::Admin(question, ask) => self.phone_question(cx, question, phone, ask),
        }
    }

    /// How a phone's record names a network.
    fn network(&self, phone: &Phone, address: [u8; 16]) -> Network {
        if address == UNKNOWN_ADDRESS { UNKNOWN_NETWORK } else { self.keys.network_hash(phone, &address) }
    }

    fn make_code(&mut self, cx: &mut Cx, origin: Origin, address: [u8; 16], phone: Phone) {
        let network = self.network(&phone, address);
        let Some(state) = self.phones.phones.get_mut(&phone) else { return };
        if self.phones.writing + self.phones.undelivered.len() >= CODES_WAITING_MAX {
            let refusal = self.overloaded();
            return self.refuse(cx, origin, refusal);
        }
        let record = &mut state.record;
        if let Err(wait_ms) = codes::may_ask(record, network, cx.now_ms, &self.limits) {
            let detail = "too many codes were asked for by this phone";
            return self.refuse(cx, origin, Refusal::after(Reason::RateLimited, wait_ms, detail));
        }
        let (code, registration) = (self.entropy.code(), self.entropy.registration());
        let expires_ms = cx.now_ms + self.limits.code_valid_ms;
        let issued = CodeRecord {
            registration,
            mac: self.keys.code_mac(&phone, &code),
            expires_ms,
            attempts_left: self.limits.code_attempts_max,
            network,
        };
        codes::issue(record, issued, cx.now_ms);
        self.commits.put(keys::phone(phone.digits()), record);
        self.phones.writing += 1;
        self.then(After::Deliver(Box::new(Delivery { origin, phone, registration, code, expires_ms })));
    }

    /// The code's record is durable: have the code delivered, after those that wait already.
    pub(crate) fn deliver_code(&mut self, cx: &mut Cx, delivery: Box<Delivery>) {
        self.phones.writing -= 1;
        if !self.phones.undelivered.is_empty() || !self.try_to_deliver(cx, &delivery) {
            self.phones.undelivered.push_back(delivery);
        }
    }

    /// The code's record is not in the store.
    pub(crate) fn code_undone(&mut self, cx: &mut Cx, delivery: &Delivery, undone: Undone) {
        self.phones.writing -= 1;
        self.forget_phone(&delivery.phone);
        self.reply(cx, delivery.origin, undone.into());
    }

    /// Tries again what found the way to the deliverer full. What has ended meanwhile was never asked for.
    pub(crate) fn deliver_waiting(&mut self, cx: &mut Cx) {
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
        if !cx.fx.deliver_code(phone, code, *expires_ms) {
            return false;
        }
        if self.development
            && let Some(state) = self.phones.phones.get_mut(phone)
        {
            state.shown = Some((*registration, code.clone()));
        }
        let sent = v1::CodeSent {
            digits: 6,
            expires_in_ms: expires_ms.saturating_sub(cx.now_ms).try_into().unwrap_or(u32::MAX),
            attempts: self.limits.code_attempts_max,
            registration: *registration,
        };
        self.reply(cx, *origin, Reply::CodeSent(sent));
        true
    }

    fn retract_code(&mut self, cx: &mut Cx, delivery: Delivery) {
        let refusal = self.overloaded();
        let Delivery { origin, phone, registration, .. } = delivery;
        match self.phones.phones.get_mut(&phone).filter(|state| state.known) {
            Some(state) => {
                codes::retract(&mut state.record, registration);
                self.write_phone(&phone);
                self.then(After::Account(origin, phone, None, Reply::Refused(refusal)));
            }
            // It has ended: what is left of it in the store is the count of an hour.
            None => self.refuse(cx, origin, refusal),
        }
    }

    fn verify(&mut self, cx: &mut Cx, origin: Origin, address: [u8; 16], verify: Verify) {
        let network = self.network(&verify.phone, address);
        let Some(state) = self.phones.phones.get_mut(&verify.phone) else { return };
        let is_right = |mac: &Bytes| self.keys.is_code(&verify.phone, &verify.code, mac);
        let registration = verify.registration;
        match codes::try_code(&mut state.record, registration, cx.now_ms, &self.limits, is_right) {
            Tried::Refused(refusal) => self.refuse(cx, origin, refusal),
            Tried::Wrong => {
                self.write_phone(&verify.phone);
                let refusal = Refusal::new(Reason::CodeWrong, "that is not the code that was sent");
                self.then(After::Account(origin, verify.phone, None, Reply::Refused(refusal)));
            }
            Tried::Right => {
                state.proofs += 1;
                let proof = Proof { registration, network };
                self.phone_proven(cx, AddDevice::verified(origin, verify, proof));
            }
        }
    }

    /// Adds a device to the user of a proven phone, who is made if there is none.
    fn phone_proven(&mut self, cx: &mut Cx, add: AddDevice) {
        let Some(state) = self.phones.phones.get(&add.phone).filter(|state| state.known) else {
            return self.refuse_device(cx, add, FORGOTTEN);
        };
        match UserId::new(state.record.user) {
            Some(user) => self.add_device(cx, user, add),
            None => self.draw_id(cx, add),
        }
    }

    /// Draws an id for a new user, and asks the store whether somebody has, or has had, it.
    pub(super) fn draw_id(&mut self, cx: &mut Cx, add: AddDevice) {
        let slot = Slot::of_phone(add.phone.digits());
        let id = loop {
            let id = self.entropy.user(slot);
            if !self.users.is_known(id) && !self.phones.making.contains_key(&id) {
                break id;
            }
        };
        self.phones.making.insert(id, add);
        self.reads.get(cx.fx, keys::user(id.get()), GetFor::NewUser(id));
    }

    /// Whether an id is free is known. Somebody may have asked for that user meanwhile: then another one is drawn.
    pub(crate) fn new_user_read(&mut self, cx: &mut Cx, id: UserId, free: bool) {
        let Some(add) = self.phones.making.remove(&id) else { return };
        let Some(state) = self.phones.phones.get(&add.phone).filter(|state| state.known) else {
            return self.refuse_device(cx, add, FORGOTTEN);
        };
        let free = free && !self.users.is_known(id);
        match UserId::new(state.record.user) {
            // Two proofs of one phone came together, and the first has made the user.
            Some(user) if add.instead != Some(user) => {
                self.add_device(cx, user, AddDevice { instead: None, ..add });
            }
            _ if !free => self.draw_id(cx, add),
            Some(user) => self.add_device(cx, user, AddDevice { anew: Some(id), ..add }),
            None => self.make_user(cx, id, add),
        }
    }

    /// Whether an id is free can't be read: nobody is made.
    pub(crate) fn new_user_unreadable(&mut self, cx: &mut Cx, id: UserId) {
        if let Some(add) = self.phones.making.remove(&id) {
            let refusal = Refusal::for_now(Reason::Unavailable, 1000, "the store can't be read");
            self.refuse_device(cx, add, refusal);
        }
    }

    /// Who has a phone. The log of the two knows whether the name may be shown.
    fn find(&mut self, cx: &mut Cx, origin: Origin, asker: UserId, phone: &Phone) {
        let user = self.phones.phones.get(phone).and_then(|state| UserId::new(state.record.user));
        match user {
            Some(user) if user == asker => {
                let shown = Shown { name: true, phone: true };
                self.user_op(cx, UserOp { user, ask: UserAsk::Describe(origin, shown) });
            }
            Some(user) => {
                let log = LogId::direct(asker.get(), user.get());
                self.tell_log(cx, log, LogOp::Describe { origin, reader: asker, by_phone: true });
            }
            None => {
                let refusal = Refusal::new(Reason::UnknownUser, "nobody is registered with that phone");
                self.refuse(cx, origin, refusal);
            }
        }
    }

    fn phone_question(&mut self, cx: &mut Cx, question: u64, phone: Phone, ask: PhoneQuestion) {
        let Some(state) = self.phones.phones.get_mut(&phone) else { return };
        let user = UserId::new(state.record.user);
        match ask {
            PhoneQuestion::Code if !self.development => {
                let why = "codes are shown in development mode only".to_owned();
                cx.fx.answer(question, AdminResponse::Refused(why));
            }
            PhoneQuestion::Code => {
                let code = state.shown.as_ref().and_then(|(registration, code)| {
                    let same = |record: &&CodeRecord| record.registration == *registration;
                    let record = state.record.codes.iter().find(same)?;
                    (record.expires_ms > cx.now_ms).then(|| CodeView {
                        registration: *registration,
                        code: code.clone(),
                        expires_ms: record.expires_ms,
                        attempts_left: record.attempts_left,
                    })
                });
                cx.fx.answer(question, AdminResponse::Code(code));
            }
            PhoneQuestion::ResetCodes => {
                let forgotten = std::mem::take(&mut state.record.asked).len();
                if state.record != PhoneRecord::default() || forgotten > 0 {
                    self.write_phone(&phone);
                }
                self.then(After::Answer(question, phone, None, AdminResponse::CodesReset(forgotten)));
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
                state.proofs += 1;
                let add = AddDevice::provisioned(question, phone, name);
                self.phone_proven(cx, add);
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
