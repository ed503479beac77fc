//! What operators ask and do.

use tern_storage::records::CodeRecord;
use tern_storage::records::PhoneRecord;
use tern_wire::ids::{DeviceId, Phone, UserId};

use super::adding::AddDevice;
use super::barred::suspension;
use super::kept::Device;
use super::users::Ask;
use super::waits::{After, Then};
use super::{Accounts, Cx, slot_of, slot_of_phone};
use crate::admin::{AdminRequest, AdminResponse, CodeView, DeviceView, SuspensionView, UserView};
use crate::entry::Author;
use crate::limits::DAY_MS;
use crate::message::{PhoneOp, PhoneQuestion};

impl Accounts {
    /// An operator's question about an account. The answer carries the number.
    pub(crate) fn asked(&mut self, cx: &mut Cx, question: u64, request: AdminRequest) {
        let (phone, ask) = match request {
            AdminRequest::Status | AdminRequest::MediumRemoved(_) | AdminRequest::IsMedium(_) => {
                unreachable!("the router has them answered")
            }
            AdminRequest::UserById(user)
            | AdminRequest::EndDevice(user, _)
            | AdminRequest::Suspend(user, ..)
            | AdminRequest::Free(user)
            | AdminRequest::Keep(user)
            | AdminRequest::ResetLimits(user)
            | AdminRequest::Upload(user, _)
                if !cx.is_here(slot_of(user)) =>
            {
                return refuse_elsewhere(cx, question);
            }
            AdminRequest::Reports(after, open) => {
                return Self::list_reports(cx, question, after.as_ref(), open);
            }
            AdminRequest::Keep(user) => return self.ask_user(cx, user, Ask::Keep(question)),
            AdminRequest::Upload(user, ask) => {
                return self.ask_user(cx, user, Ask::Upload(question, ask));
            }
            AdminRequest::Ends(after) => return Self::list_ends(cx, question, after.as_ref()),
            AdminRequest::Counts(after) => return Self::list_counts(cx, question, after.as_ref()),
            AdminRequest::Report(id) => return Self::read_report(cx, question, id, None),
            AdminRequest::Resolve(id, how) => return Self::read_report(cx, question, id, Some(how)),
            AdminRequest::UserById(user) => return self.ask_user(cx, user, Ask::View(question)),
            AdminRequest::EndDevice(user, device) => {
                return self.ask_user(cx, user, Ask::EndDevice(question, device));
            }
            AdminRequest::Suspend(user, why, for_ms) => {
                return self.ask_user(cx, user, Ask::Suspend(question, why, for_ms));
            }
            AdminRequest::Free(user) => return self.ask_user(cx, user, Ask::Free(question)),
            AdminRequest::ResetLimits(user) => {
                self.budgets.forget(user);
                self.texts.forget(user);
                return cx.answer(question, AdminResponse::LimitsReset);
            }
            AdminRequest::Code(phone) => (phone, PhoneQuestion::Code),
            AdminRequest::ResetCodes(phone) => (phone, PhoneQuestion::ResetCodes),
            AdminRequest::User(phone) => (phone, PhoneQuestion::User),
            AdminRequest::DeleteUser(phone) => (phone, PhoneQuestion::Delete),
            AdminRequest::Provision { phone, name } => (phone, PhoneQuestion::Provision(name)),
        };
        if cx.is_here(slot_of_phone(&phone)) {
            self.phone_told(cx, phone, PhoneOp::Admin(question, ask));
        } else {
            refuse_elsewhere(cx, question);
        }
    }

    /// A question about a phone that is known.
    pub(super) fn phone_question(&mut self, cx: &mut Cx, question: u64, phone: Phone, ask: PhoneQuestion) {
        let development = self.development;
        let state = self.phones.state(&phone);
        let user = UserId::new(state.record.user);
        match ask {
            PhoneQuestion::Code if !development => {
                let why = "codes are shown in development mode only".to_owned();
                cx.answer(question, AdminResponse::Refused(why));
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
                cx.answer(question, AdminResponse::Code(code));
            }
            PhoneQuestion::ResetCodes => {
                let forgotten = std::mem::take(&mut state.record.asked).len();
                if state.record != PhoneRecord::default() || forgotten > 0 {
                    self.write_phone(cx, &phone);
                }
                let then = Then::Answer(question, AdminResponse::CodesReset(forgotten));
                self.after(cx, After::of_phone(phone, then));
            }
            PhoneQuestion::User => match user {
                Some(user) => self.ask_user(cx, user, Ask::View(question)),
                None => cx.answer(question, AdminResponse::User(None)),
            },
            PhoneQuestion::Delete => match user {
                Some(user) => self.ask_user(cx, user, Ask::Delete(question, phone)),
                None => cx.answer(question, AdminResponse::Deleted(false)),
            },
            PhoneQuestion::Provision(name) => {
                state.proofs += 1;
                self.phone_proven(cx, AddDevice::provisioned(question, phone, name));
            }
        }
    }

    /// Ends a device because an operator says so.
    pub(super) fn end_for_operator(&mut self, cx: &mut Cx, question: u64, user: UserId, device: DeviceId) {
        if !self.end_session(cx, Author { user, device }) {
            return cx.answer(question, AdminResponse::DeviceEnded(false));
        }
        let then = Then::Answer(question, AdminResponse::DeviceEnded(true));
        self.after(cx, After::of_user(user, then));
    }

    pub(super) fn answer_view(&mut self, cx: &mut Cx, question: u64, id: UserId) {
        let slot = slot_of(id);
        let core = cx.owner(slot).0;
        let user = self.user(id);
        let device = |(device, state): (&DeviceId, &Device)| DeviceView {
            device: *device,
            name: state.record.name.clone(),
            created_ms: state.record.created_ms,
            seen_ms: u64::from(state.record.seen_day) * DAY_MS,
            connected: state.place.is_some(),
            revoked: state.record.revoked_ms != 0,
        };
        let view = user.record.as_ref().map(|record| UserView {
            user: id,
            phone: record.phone.clone(),
            name: record.name.clone(),
            slot: slot.number(),
            core,
            created_ms: record.created_ms,
            ends_ms: record.ends_ms,
            suspended: suspension(record, cx.now_ms).map(|_| SuspensionView {
                since_ms: record.suspended_ms,
                until_ms: record.suspended_until_ms,
                why: record.suspended_why.clone(),
            }),
            devices: user.devices.iter().map(device).collect(),
        });
        cx.answer(question, AdminResponse::User(view));
    }
}

/// Whether there is room to read what an operator asks for. If not, they are told so.
pub(super) fn may_read_for(cx: &mut Cx, question: u64) -> bool {
    let may = cx.may_read();
    if !may {
        cx.answer(question, AdminResponse::Refused("too much is under way: ask again".to_owned()));
    }
    may
}

/// The shell asks the owner that it knows of; a question does not wait for a slot that moves.
fn refuse_elsewhere(cx: &mut Cx, question: u64) {
    let why = "that account is another core's, or is just moving: ask again".to_owned();
    cx.answer(question, AdminResponse::Refused(why));
}
