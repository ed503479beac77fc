//! Users in memory: what is asked of them, read once, and read again when it is in doubt.

use bytes::Bytes;
use prost::Message as _;
use tern_storage::records::{DeviceRecord, ReportRecord, UserRecord};
use tern_storage::{Direction, LogId, Rows, ScanLimit, Slot, keys};
use tern_wire::errors::{Farewell, Reason, Refusal};
use tern_wire::ids::{DeviceId, Phone, UserId};

use super::adding::AddDevice;
use super::attach::REVOKED;
use super::barred::for_a_message;
use super::kept::{Device, User};
use super::pictures::Renaming;
use super::{Accounts, Cx, GetFor, ScanFor, has_room};
use crate::admin::{AdminResponse, NoUpload, ReportId, UploadAsk};
use crate::circle::Circle;
use crate::cx::Later;
use crate::entry::Author;
use crate::held::{Admitted, Doubt, Held, Load};
use crate::limits::USER_WAITING_MAX;
use crate::message::{
    Filed, FrontOp, InboxAsk, Issued, LogOp, Looker, Message, Said, Send, Setting, Subject, Unreadable,
    UserOp, VolatileOp, found, tell_glance,
};
use crate::mutations::{Mutation, is, unless_garbage};
use crate::reply::Origin;

/// What is asked of a user who must be known for it.
#[derive(Debug)]
pub(super) enum Ask {
    /// By a message.
    Told(UserOp),
    /// By the owner of the user's private log.
    Said(Box<Said>),
    /// By the owner of a proven phone.
    AddDevice(Box<AddDevice>),
    /// By an operator: who is it?
    View(u64),
    /// By an operator: end a device.
    EndDevice(u64, DeviceId),
    /// By an operator: suspend it for this reason, for so many ms, or (0) until it is freed.
    Suspend(u64, String, u64),
    /// By an operator: free it.
    Free(u64),
    /// By an operator: it does not end.
    Keep(u64),
    /// By the job, its work of this number: its end is due.
    EndDue(u64),
    /// The same: its phone is known.
    EndNow(Phone, u64),
    /// By somebody: note what they tell the operators of it.
    File(Origin, Box<Filed>),
    /// By the server: it has written the same to so many strangers. Under this number.
    Flag(u64, u32),
    /// By an operator: note that a report of it is done with.
    Resolve(u64, ReportId, Box<ReportRecord>),
    /// By a push service: the address that a device has had since then is no more.
    EndAddress(DeviceId, u64),
    /// By the listener for media.
    Upload(u64, UploadAsk),
    /// By an operator: delete the user of this phone.
    Delete(u64, Phone),
}

pub(super) const UNREADABLE: Refusal =
    Refusal::for_now(Reason::Unavailable, 1000, "the account can't be read");

const CHANGING: Refusal = Refusal::for_now(Reason::Unavailable, 1000, "the account is just being changed");

/// The record, the devices, and what was said of others.
const PARTS: u32 = 3;

/// Whether something would write, or read, while there is no place for that.
fn has_no_place(cx: &mut Cx, op: &UserOp) -> bool {
    let is_of_story = matches!(op, UserOp::Story(op) if op.needs_room());
    let writes = matches!(
        op,
        UserOp::Refresh(..)
            | UserOp::Describe(..)
            | UserOp::EndDevice(..)
            | UserOp::Issue(..)
            | UserOp::NewCard(..)
            | UserOp::Link(..)
            | UserOp::Rename(..)
            | UserOp::Set(..)
            | UserOp::File(..)
            | UserOp::ListDevices(_)
    );
    let reads = matches!(
        op,
        UserOp::Attach(_)
            | UserOp::Inbox(_)
            | UserOp::RingDevice(..)
            | UserOp::MayName(..)
            | UserOp::MayCome(..)
            | UserOp::MayFlag(..)
            | UserOp::Subscribe(..)
            | UserOp::LookedAt(_)
            | UserOp::LookUp(..)
            | UserOp::Discover(..)
    );
    (writes || is_of_story) && !has_room(cx) || reads && !cx.may_read()
}

/// Whether it says who looks at whom: nobody waits for it, but whoever looks would never hear of what they want to see.
fn is_of_looking(op: &UserOp) -> bool {
    matches!(
        op,
        UserOp::Subscribe(None, _) | UserOp::LookedAt(_) | UserOp::IsLookedAt(_) | UserOp::LookAgain(..)
    )
}

/// Has whoever looks ask again: their connection, which may show others by then, or have gone.
pub(super) fn look_later(cx: &mut Cx, id: UserId, op: UserOp) {
    let again = |looker: Looker, at| Later::Front(looker.place, FrontOp::LookAgain(at));
    cx.put_off(match op {
        UserOp::LookedAt(asked) => again(asked.looker, Some(Subject::User(id))),
        UserOp::LookAgain(looker, at) => again(looker, Some(Subject::User(at))),
        UserOp::Subscribe(None, more) => again(more.looker, None),
        _ => Later::Owner(Message::Volatile(Subject::User(id), VolatileOp::WhoLooks)),
    });
}

/// What a log has to say to a connection of the user comes by way of the user's owner, behind what that one has said before.
fn pass_to_connection(cx: &mut Cx, op: UserOp) {
    match op {
        UserOp::Page(Origin { place, ask }, page) => cx.tell_front(place, FrontOp::Page(ask, page)),
        UserOp::SentAgain(to, again) => cx.tell_front(to.place, FrontOp::SentAgain(to.ask, again)),
        _ => unreachable!("nothing else is passed on"),
    }
}

/// Answers a log that has asked whether a user may.
pub(super) fn permit(cx: &mut Cx, log: LogId, ask: u64, taken: Result<(), Refusal>) {
    cx.tell_log(log, LogOp::Permit(ask, taken.map(|()| None)));
}

impl Accounts {
    /// Something is asked of a user, or told to its owner.
    pub(crate) fn user_told(&mut self, cx: &mut Cx, id: UserId, op: UserOp) {
        if has_no_place(cx, &op) {
            let refusal = cx.overloaded();
            return Self::refuse_user(cx, id, op, refusal);
        }
        self.user_told_with_place(cx, id, op);
    }

    fn user_told_with_place(&mut self, cx: &mut Cx, id: UserId, op: UserOp) {
        match op {
            UserOp::Stands(standing) => self.log_stands(cx, id, &standing),
            UserOp::Page(..) | UserOp::SentAgain(..) => pass_to_connection(cx, op),
            UserOp::Appended(entry) => self.appended(cx, id, &entry),
            UserOp::Grown(entry, from) => self.grown(cx, id, &entry, from),
            UserOp::Said(said) => self.said(cx, id, said),
            UserOp::OthersAdvanced(log, marks) => self.others_advanced(cx, id, log, marks),
            UserOp::Acknowledged(device, log, upto) => self.acknowledged(id, device, log, upto),
            UserOp::Advanced(log, by, marks, is_read) => self.advanced(cx, id, log, by, (marks, is_read)),
            UserOp::Pushed(device, log, upto) => self.pushed(id, device, log, upto),
            UserOp::LackedNothing(device, log, upto) => self.lacked_nothing(id, device, log, upto),
            UserOp::PeerActs(peer, doing) => self.peer_acts_if_here(cx, id, peer, doing),
            UserOp::Detach(..) | UserOp::Appears(..) | UserOp::LookAgain(..) | UserOp::Leave(..) => {
                self.of_connection(cx, id, op);
            }
            UserOp::Unwatch(log) => self.unwatch(id, log),
            UserOp::Send(..)
            | UserOp::CreateGroup(_)
            | UserOp::LookUp(..)
            | UserOp::Discover(..)
            | UserOp::Report(..)
            | UserOp::ListLogs(..)
            | UserOp::SearchLogs(..)
            | UserOp::Search(..)
            | UserOp::MayWriteToStranger(..)
            | UserOp::MayMakeGroup(..) => self.limited(cx, id, op),
            UserOp::MayFlag(log, number) => Self::may_flag(cx, id, log, number),
            UserOp::Reserve(ask) => self.reserve(cx, id, ask),
            UserOp::Released(log) => self.released(id, log),
            UserOp::Parted(parting, has) => self.parted(cx, parting, has),
            UserOp::PeerChanged(log, version) => self.peer_changed(cx, id, log, version),
            UserOp::PersonChanged(changed, version) => self.tell_of_person(cx, id, changed, version),
            UserOp::OfPushes(what) => self.of_pushes(cx, id, *what),
            UserOp::Story(op) => self.story_told(cx, id, *op),
            UserOp::Attach(_)
            | UserOp::Inbox(_)
            | UserOp::CaughtUp(..)
            | UserOp::Seen(_)
            | UserOp::Refresh(..)
            | UserOp::ListDevices(_)
            | UserOp::EndDevice(..)
            | UserOp::Issue(..)
            | UserOp::NewCard(..)
            | UserOp::Link(..)
            | UserOp::RingDevice(..)
            | UserOp::Rename(..)
            | UserOp::Set(..)
            | UserOp::Watch(_)
            | UserOp::MayName(..)
            | UserOp::MayCome(..)
            | UserOp::Subscribe(..)
            | UserOp::LookedAt(_)
            | UserOp::IsLookedAt(_)
            | UserOp::Act(..)
            | UserOp::TellDevices(_)
            | UserOp::Dispatch(..)
            | UserOp::File(..)
            | UserOp::Describe(..)
            | UserOp::Introduce(_) => self.ask_user(cx, id, Ask::Told(op)),
        }
    }

    /// What a connection says of the device that it stands for.
    fn of_connection(&mut self, cx: &mut Cx, id: UserId, op: UserOp) {
        match op {
            UserOp::Detach(device, place) => self.detach(cx, id, device, place),
            UserOp::Appears(device, place, away) => self.appears(cx, id, device, place, away),
            UserOp::LookAgain(looker, at) => self.look_again(cx, id, looker, at),
            UserOp::Leave(origin, device) => self.leave(cx, id, origin, device),
            _ => unreachable!("nothing else is of a connection"),
        }
    }

    /// What an account may do so often.
    fn limited(&mut self, cx: &mut Cx, id: UserId, op: UserOp) {
        let (now_ms, budgets) = (cx.now_ms, &mut self.budgets);
        match op {
            UserOp::Send(log, send) => self.pass_on(cx, id, log, send),
            UserOp::CreateGroup(send) => self.create_group(cx, id, send),
            UserOp::LookUp(origin, lookup) => self.look_up(cx, id, origin, lookup),
            UserOp::Report(origin, report) => self.report(cx, id, origin, *report),
            UserOp::Discover(origin, hashes) => self.discover(cx, id, origin, hashes),
            UserOp::ListLogs(origin, after, rows) => {
                let may = budgets.look_up(id, now_ms);
                self.list_logs(cx, id, origin, may, (after, rows));
            }
            UserOp::SearchLogs(origin, after, rows) => {
                let may = budgets.search(id, now_ms);
                self.list_logs(cx, id, origin, may, (after, rows));
            }
            UserOp::Search(log, search) => self.search(cx, id, log, search),
            UserOp::MayWriteToStranger(log, ask, text) => {
                self.may_write_to_stranger(cx, id, (log, ask), text);
            }
            UserOp::MayMakeGroup(log, ask) => permit(cx, log, ask, budgets.make_group(id, now_ms)),
            _ => unreachable!("done without a limit, or limited where the user is known"),
        }
    }

    /// Does something with a user as soon as it is known.
    pub(super) fn ask_user(&mut self, cx: &mut Cx, id: UserId, ask: Ask) {
        let Some(user) = self.users.get(id) else {
            let load = self.loads.next();
            let mut held = Held::loading(load, PARTS);
            held.admit(ask, USER_WAITING_MAX);
            self.users.insert(id, User::new(held));
            return Self::read_user(cx, id, load);
        };
        match user.held.admit(ask, USER_WAITING_MAX) {
            Admitted::Now(ask) => self.user_known(cx, id, ask),
            Admitted::Waits => {}
            Admitted::Full(ask) => {
                let refusal = cx.overloaded();
                self.refuse_ask(cx, id, ask, refusal);
            }
        }
    }

    /// Passes a message of a user on to its log, if there may be one more. One that was asked before has been counted then.
    pub(super) fn pass_on(&mut self, cx: &mut Cx, id: UserId, log: LogId, send: Box<Send>) {
        let slot = Slot::of_log(log);
        if send.epoch < cx.epoch(slot) && !is(Mutation::SkipEpoch) {
            // Messages before it may be lost with the log's last owner. Its core does not know yet, and will ask again for all of them.
            return;
        }
        if let Err(refusal) = self.barred.bars(id, cx.now_ms) {
            return cx.refuse(send.asker, for_a_message(refusal));
        }
        match if send.again { Ok(()) } else { self.budgets.send(id, cx.now_ms) } {
            Ok(()) => cx.ask_in(slot, send.asker, Message::Log(log, LogOp::Send(send))),
            Err(refusal) => cx.refuse(send.asker, refusal),
        }
    }

    fn user_known(&mut self, cx: &mut Cx, id: UserId, ask: Ask) {
        match ask {
            Ask::Told(op) => self.told_known(cx, id, op),
            Ask::Said(said) => self.hear(cx, id, *said),
            Ask::AddDevice(add) => self.add_device(cx, id, *add),
            Ask::View(question) => self.answer_view(cx, question, id),
            Ask::EndDevice(question, device) => self.end_for_operator(cx, question, id, device),
            Ask::Suspend(question, why, for_ms) => self.suspend(cx, question, id, why, for_ms),
            Ask::Free(question) => self.free(cx, question, id),
            Ask::File(origin, filed) => self.note_report(cx, id, origin, &filed),
            Ask::Flag(number, strangers) => self.note_same_text(cx, id, number, strangers),
            Ask::Resolve(question, report, record) => self.note_resolved(cx, question, report, *record),
            Ask::Delete(question, phone) => self.delete(cx, question, id, phone),
            Ask::Keep(question) => self.keep(cx, question, id),
            Ask::Upload(question, ask) => self.upload(cx, id, question, ask),
            Ask::EndAddress(device, since_ms) => {
                self.end_address_of(cx, Author { user: id, device }, since_ms);
            }
            Ask::EndDue(number) => self.end_due(cx, id, number),
            Ask::EndNow(phone, number) => self.end_now(cx, id, phone, number),
        }
    }

    fn told_known(&mut self, cx: &mut Cx, id: UserId, op: UserOp) {
        match op {
            UserOp::Attach(attach) => self.attach(cx, id, &attach),
            UserOp::Inbox(ask) => self.inbox(cx, id, ask),
            UserOp::CaughtUp(device, place) => self.caught_up(cx, Author { user: id, device }, place),
            UserOp::Seen(device) => self.note_seen(cx, Author { user: id, device }),
            UserOp::Refresh(origin, device, refresh) => {
                self.refresh(cx, origin, Author { user: id, device }, &refresh);
            }
            UserOp::ListDevices(origin) => self.list_devices(cx, origin, id),
            UserOp::EndDevice(origin, by, _)
            | UserOp::Issue(origin, by, _)
            | UserOp::NewCard(origin, by, _)
            | UserOp::Rename(origin, by, _)
            | UserOp::Set(origin, by, _)
                if !self.device(Author { user: id, device: by }).is_some_and(|device| device.lives()) =>
            {
                // Its end may be on its way to the connection that still stands for it.
                let refusal = self.ended(id);
                cx.refuse(origin, refusal);
            }
            UserOp::EndDevice(origin, _, device) => self.end_device(cx, origin, id, device),
            UserOp::Issue(origin, device, Issued::AboutMedia) => {
                self.about_media(cx, Author { user: id, device }, origin);
            }
            UserOp::Issue(origin, device, Issued::AboutPush) => {
                Self::about_push(cx, origin, Author { user: id, device });
            }
            UserOp::Issue(origin, device, Issued::Link) => {
                self.new_link(cx, Author { user: id, device }, origin);
            }
            UserOp::NewCard(origin, _, renew) => self.new_card(cx, id, origin, renew),
            UserOp::Link(origin, link) => self.link(cx, id, origin, *link),
            UserOp::RingDevice(origin, device, rung) => {
                self.ring_device(cx, origin, Author { user: id, device }, rung);
            }
            UserOp::Rename(origin, device, rename) => {
                self.want_rename(cx, Renaming { origin, author: Author { user: id, device }, rename });
            }
            UserOp::Set(origin, device, setting) => {
                self.set(cx, origin, Author { user: id, device }, &setting)
            }
            UserOp::Watch(log) => self.watch(cx, id, log),
            UserOp::MayName(log, number, named) => self.may_name(cx, id, log, number, named),
            UserOp::MayCome(log, by) => self.may_come(cx, id, log, by),
            UserOp::Subscribe(origin, more) => self.subscribe(cx, id, origin, *more),
            UserOp::LookedAt(asked) => self.looked_at(cx, id, *asked),
            UserOp::IsLookedAt(is_so) => self.is_looked_at(cx, id, is_so),
            UserOp::Act(origin, log, doing) => self.act(cx, id, origin, (log, doing)),
            UserOp::PeerActs(peer, doing) => self.peer_acts(cx, id, peer, doing),
            UserOp::TellDevices(logs) => self.tell_devices(cx, id, &logs),
            UserOp::Describe(origin, shown) => self.describe(cx, origin, id, shown),
            UserOp::Introduce(glance) => self.introduce(cx, id, glance),
            UserOp::Dispatch(log, send) => self.dispatch(cx, id, log, send),
            UserOp::File(origin, filed) => self.file(cx, id, origin, filed),
            UserOp::Story(op) => self.story_of_known(cx, id, *op),
            _ => unreachable!("done without the user's record"),
        }
    }

    /// A device wants the account otherwise.
    fn set(&mut self, cx: &mut Cx, origin: Origin, by: Author, setting: &Setting) {
        match setting {
            Setting::Pin(pin) => self.set_pin(cx, origin, by.user, pin),
            Setting::Push(set) => self.set_push(cx, origin, by, set),
            Setting::End(pin) => self.ask_to_end(cx, origin, by.user, pin),
        }
    }

    /// Something can't be done for now: whoever waits is told.
    pub(crate) fn refuse_user(cx: &mut Cx, id: UserId, op: UserOp, refusal: Refusal) {
        match op {
            UserOp::Attach(_)
            | UserOp::Inbox(_)
            | UserOp::Search(..)
            | UserOp::ListLogs(..)
            | UserOp::SearchLogs(..)
            | UserOp::Introduce(_) => Self::refuse_front(cx, op, refusal),
            UserOp::Send(_, send) | UserOp::CreateGroup(send) | UserOp::Dispatch(_, send) => {
                cx.refuse(send.asker, refusal);
            }
            UserOp::Refresh(origin, ..)
            | UserOp::LookUp(origin, _)
            | UserOp::Discover(origin, _)
            | UserOp::Report(origin, _)
            | UserOp::File(origin, _)
            | UserOp::ListDevices(origin)
            | UserOp::EndDevice(origin, ..)
            | UserOp::Issue(origin, ..)
            | UserOp::NewCard(origin, ..)
            | UserOp::Link(origin, _)
            | UserOp::RingDevice(origin, ..)
            | UserOp::Rename(origin, ..)
            | UserOp::Set(origin, ..)
            | UserOp::Describe(origin, _) => cx.refuse(origin, refusal),
            UserOp::Watch(log) => cx.tell_log(log, LogOp::Unreadable(id, Unreadable::ForNow)),
            UserOp::MayWriteToStranger(log, number, _)
            | UserOp::MayMakeGroup(log, number)
            | UserOp::MayFlag(log, number)
            | UserOp::MayName(log, number, _) => permit(cx, log, number, Err(refusal)),
            UserOp::Reserve(ask) => permit(cx, ask.log, ask.number, Err(refusal)),
            UserOp::MayCome(log, by) => cx.tell_log(log, LogOp::Comes(id, by, Err(()))),
            UserOp::Subscribe(Some(origin), _) | UserOp::Act(Some(origin), ..) => cx.refuse(origin, refusal),
            UserOp::Story(op) => Self::refuse_story(cx, id, *op, refusal),
            // It is durable, and found when the user is read.
            UserOp::Said(said) => cx.reply(said.asker, said.reply),
            op if is_of_looking(&op) => look_later(cx, id, op),
            // Nobody waits for the others. What they say is in the store, or is found out when somebody looks.
            op => debug_assert!(!op.is_request(), "whoever waits is told"),
        }
    }

    /// What a front has asked that knows more of it than of a request.
    fn refuse_front(cx: &mut Cx, op: UserOp, refusal: Refusal) {
        match op {
            UserOp::Attach(attach) => {
                let Origin { place, ask } = attach.origin;
                cx.tell_front(place, FrontOp::NotAttached(ask, refusal));
            }
            UserOp::Inbox(InboxAsk { origin: Origin { place, ask }, .. }) => {
                cx.tell_front(place, FrontOp::Inbox(ask, Err(Unreadable::ForNow)));
            }
            UserOp::Search(_, search) => found(cx, &search, Err(refusal)),
            UserOp::ListLogs(origin, ..) | UserOp::SearchLogs(origin, ..) => {
                cx.tell_front(origin.place, FrontOp::Logs(origin.ask, Err(refusal)));
            }
            // Who it is can be asked for later.
            UserOp::Introduce(glance) => tell_glance(cx, glance),
            _ => unreachable!("refused as a request is"),
        }
    }

    fn refuse_ask(&mut self, cx: &mut Cx, id: UserId, ask: Ask, refusal: Refusal) {
        match ask {
            Ask::Told(op) => Self::refuse_user(cx, id, op, refusal),
            Ask::Said(said) => cx.reply(said.asker, said.reply),
            Ask::AddDevice(add) => self.refuse_device(cx, *add, refusal),
            Ask::File(origin, _) => cx.refuse(origin, refusal),
            // It is said again when it goes on; and what is due is found again.
            Ask::Flag(..) | Ask::EndDue(_) | Ask::EndNow(..) | Ask::EndAddress(..) => {}
            Ask::Upload(question, _) => {
                cx.answer(question, AdminResponse::Upload(Err(NoUpload::Unavailable)));
            }
            Ask::View(question)
            | Ask::EndDevice(question, _)
            | Ask::Suspend(question, ..)
            | Ask::Free(question)
            | Ask::Keep(question)
            | Ask::Resolve(question, ..)
            | Ask::Delete(question, _) => {
                cx.answer(question, AdminResponse::Refused(refusal.detail.to_owned()));
            }
        }
    }

    /// A user that is known, or of whom a write is under way.
    pub(super) fn user(&mut self, id: UserId) -> &mut User {
        self.users.get(id).expect("a user stays in memory while something of it is under way")
    }

    /// The record of a user, if it lives.
    pub(super) fn record(&mut self, id: UserId) -> Option<&mut UserRecord> {
        self.users.get(id)?.record.as_mut()
    }

    /// A device of a user that lives.
    pub(super) fn device_record(&mut self, author: Author) -> Option<&mut DeviceRecord> {
        let user = self.users.get(author.user).filter(|user| user.record.is_some())?;
        Some(&mut user.devices.get_mut(&author.device)?.record)
    }

    /// The devices of a user whose sessions have not ended.
    pub(super) fn living(&mut self, id: UserId) -> impl Iterator<Item = (&DeviceId, &Device)> {
        let user = self.users.get(id).filter(|user| user.record.is_some());
        let devices = user.into_iter().flat_map(|user| user.devices.iter());
        devices.filter(|(_, device)| device.record.revoked_ms == 0)
    }

    pub(super) fn device(&mut self, author: Author) -> Option<&mut Device> {
        self.users.get(author.user)?.devices.get_mut(&author.device)
    }

    fn read_user(cx: &mut Cx, id: UserId, load: Load) {
        let all = ScanLimit { rows: usize::MAX, bytes: usize::MAX };
        cx.get(keys::user(id.get()), GetFor::User(id, load));
        cx.scan(keys::devices(id.get()), Direction::Forwards, all, ScanFor::Devices(id, load));
        cx.scan(keys::circle(id.get()), Direction::Forwards, all, ScanFor::Circle(id, load));
    }

    pub(super) fn record_read(
        &mut self,
        cx: &mut Cx,
        id: UserId,
        load: Load,
        result: Result<Option<Bytes>, Unreadable>,
    ) {
        let user = self.loading(id, load);
        let part = result.and_then(|value| {
            let value = unless_garbage::<UserRecord>(value);
            let record = value.map(UserRecord::decode).transpose().map_err(|_| damaged(cx, id))?;
            user.record = record.filter(|record| record.deleted_ms == 0);
            Ok(())
        });
        self.user_part_came(cx, id, part);
    }

    pub(super) fn devices_read(
        &mut self,
        cx: &mut Cx,
        id: UserId,
        load: Load,
        result: Result<Rows, Unreadable>,
    ) {
        let user = self.loading(id, load);
        let part = result.and_then(|rows| {
            for (key, value) in rows.rows {
                let device = keys::device_of(&key).and_then(DeviceId::new).ok_or_else(|| damaged(cx, id))?;
                let record = DeviceRecord::decode(value).map_err(|_| damaged(cx, id))?;
                user.devices.or_default(device).record = record;
            }
            Ok(())
        });
        self.user_part_came(cx, id, part);
    }

    pub(super) fn circle_read(
        &mut self,
        cx: &mut Cx,
        id: UserId,
        load: Load,
        result: Result<Rows, Unreadable>,
    ) {
        let user = self.loading(id, load);
        let part = result.and_then(|rows| {
            user.circle = Circle::of_rows(rows.rows).ok_or_else(|| damaged(cx, id))?;
            Ok(())
        });
        self.user_part_came(cx, id, part);
    }

    fn loading(&mut self, id: UserId, load: Load) -> &mut User {
        let user = self.user(id);
        assert!(user.held.is_loading_by(load), "a user that is being read is not forgotten, nor read again");
        user
    }

    fn user_part_came(&mut self, cx: &mut Cx, id: UserId, part: Result<(), Unreadable>) {
        let user = self.user(id);
        match user.held.part_came(part) {
            None => {}
            Some(Ok(())) => {
                let asks = user.held.now_known();
                self.note_bar(id);
                // Those of whom something was in doubt may have waited to hear of the devices.
                self.tell_watchers(cx, id);
                for ask in asks {
                    // One of them may have ended the user, or brought it into doubt.
                    self.ask_user(cx, id, ask);
                }
            }
            Some(Err(why)) => self.user_unreadable(cx, id, why),
        }
    }

    /// A user can't be read: whoever waits is refused, and the next one tries again.
    fn user_unreadable(&mut self, cx: &mut Cx, id: UserId, why: Unreadable) {
        let mut user = self.users.remove(id).expect("it was being read");
        if user.being.is_looked_at {
            cx.tell_volatile(Subject::User(id), VolatileOp::Is(None));
            if why == Unreadable::ForNow {
                look_later(cx, id, UserOp::IsLookedAt(true));
            }
        }
        for (_, device) in user.devices.iter_mut() {
            device.tell(cx, FrontOp::End(Farewell::new(UNREADABLE.reason, UNREADABLE.detail)));
        }
        for log in user.watched {
            self.watches.remove(log, id);
            cx.tell_log(log, LogOp::Unreadable(id, why));
        }
        for ask in user.held.give_up() {
            match ask {
                Ask::Told(UserOp::Watch(log)) => cx.tell_log(log, LogOp::Unreadable(id, why)),
                // What is damaged is not read again and again.
                Ask::Told(op) if why == Unreadable::Damaged && is_of_looking(&op) => {}
                ask => self.refuse_ask(cx, id, ask, UNREADABLE),
            }
        }
    }

    /// What is in memory of a user did not become durable: it is read again when its writes have ended, if somebody needs it. Those
    /// attached stay so.
    pub(super) fn user_settled(&mut self, cx: &mut Cx, id: UserId) {
        let user = self.users.get(id).expect("a user stays in memory while a write of it is under way");
        match user.held.doubted() {
            Doubt::None => {}
            Doubt::Idle if !user.is_needed() => drop(self.users.remove(id)),
            Doubt::Idle | Doubt::Wanted => {
                let load = self.loads.next();
                user.held.load_again(load, PARTS);
                user.devices.retain(|device| device.place.is_some());
                Self::read_user(cx, id, load);
            }
        }
    }

    /// A log of the user is in use: it must know of every change of the devices.
    fn watch(&mut self, cx: &mut Cx, id: UserId, log: LogId) {
        if !self.user(id).watched.insert(log) && is(Mutation::AnswerWatchOnce) {
            return;
        }
        self.watches.add(log, id);
        if let Some(devices) = self.durable_devices(id) {
            let terms = self.terms(id, log);
            cx.tell_log(log, LogOp::Devices(id, devices, terms));
        }
    }

    fn unwatch(&mut self, id: UserId, log: LogId) {
        if let Some(user) = self.users.get(id) {
            user.watched.remove(&log);
            self.watches.remove(log, id);
            let of_log = |ask: &Ask| matches!(ask, Ask::Told(UserOp::Watch(watched)) if *watched == log);
            user.held.withdraw(of_log);
        }
    }

    /// The devices of a user that may be pushed to; `None` if there is no such user.
    fn living_devices(&mut self, id: UserId) -> Option<Vec<DeviceId>> {
        self.record(id)?;
        Some(self.living(id).map(|(device, _)| *device).collect())
    }

    /// The same for those who write what a device lacks; `None` as long as a change of them is not durable: one that is undone must
    /// not lack what was written meanwhile. Whoever watches hears of them afterwards.
    pub(super) fn durable_devices(&mut self, id: UserId) -> Option<Option<Vec<DeviceId>>> {
        let is_durable = self.user(id).changing == 0 || is(Mutation::TellOfDevicesEarly);
        is_durable.then(|| self.living_devices(id))
    }

    /// Tells the logs of a user that are in memory which devices it has now.
    pub(super) fn tell_watchers(&mut self, cx: &mut Cx, id: UserId) {
        let Some(devices) = self.durable_devices(id) else { return };
        for log in self.user(id).watched.clone() {
            let terms = self.terms(id, log);
            cx.tell_log(log, LogOp::Devices(id, devices.clone(), terms));
        }
    }

    /// Why a device that has ended is not served: for now, if its end is not durable.
    pub(super) fn ended(&mut self, id: UserId) -> Refusal {
        let is_durable = self.user(id).changing == 0 || is(Mutation::TellOfDevicesEarly);
        if is_durable { REVOKED } else { CHANGING }
    }
}

/// A record of a user is not what was written. It is not taken for absent: nobody is logged out, made anew or joined by it.
fn damaged(cx: &mut Cx, id: UserId) -> Unreadable {
    cx.damaged("an account", &keys::user(id.get()));
    Unreadable::Damaged
}
