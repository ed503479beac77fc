//! What accounts wait for from the store, and what they do when it has come, was undone, or can't be had.

use bytes::Bytes;
use tern_storage::{LogId, Rows, Slot};
use tern_wire::ids::{DeviceId, MediaId, Phone, UserId};

use super::cards::Carded;
use super::delivery::Delivery;
use super::profiles::{Changed, Parts, Telling};
use super::relations::IfContact;
use super::seeking::Seeking;
use super::stories::{StoryGet, StoryScan, StoryThen};
use super::uploads::{Beginning, Come};
use super::{Accounts, Cx, slot_of, slot_of_phone};
use crate::admin::{AdminResponse, NoUpload, ReportId};
use crate::held::Load;
use crate::media::cites::link_picture;
use crate::message::{Filed, InboxAsk, LogsPage, Named, Subscribing, Unreadable};
use crate::reply::{Origin, Reply, Undone};

/// What follows when a write of an account is durable; if it fails, the account is read again.
#[derive(Debug)]
pub(crate) struct After {
    /// The user whose state in memory is ahead of the store until this happens.
    pub(super) user: Option<UserId>,
    /// The phone of which the same holds.
    pub(super) phone: Option<Phone>,
    pub(super) then: Then,
}

/// See [`After`].
#[derive(Debug)]
pub(super) enum Then {
    /// Deliver a one-time code, and say that it was.
    Deliver(Box<Delivery>),
    /// Answer a request.
    Reply(Origin, Reply),
    /// Answer an operator's question.
    Answer(u64, AdminResponse),
    /// Tell whoever uploads something of the user's that it may begin.
    UploadBegun(UserId, u64),
    /// Tell them that what they uploaded is whole.
    UploadWhole(UserId, u64),
    /// The devices of the user have changed.
    Devices,
    /// A device was added to the user.
    Joined(DeviceId),
    /// These of the user are others.
    Renamed(Parts),
    /// The user is deleted.
    Deleted,
    /// The user is out of use.
    Barred,
    /// A step of the work on what is left of the user's account.
    Erased(UserId, u64),
    /// Parts of what was counted of a day are added up; and whether there are more.
    AddedUp(u32, bool),
    /// Something of stories.
    Story(Box<StoryThen>),
    /// A record, of no interest to anybody else, was written.
    Noted,
}

/// What a get of an account's is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum GetFor {
    /// A user's record.
    User(UserId, Load),
    /// A phone's record.
    Phone(Phone, Load),
    /// Whether anybody has, or has had, the id that a new user would get.
    NewUser(UserId),
    /// A report, for an operator, who may be done with it.
    Report(u64, ReportId, Option<String>),
    /// A medium of a user's that is said to be whole: its record, if that was said before.
    Whole(Box<Come>),
    /// A medium that is to be a user's picture, asked for at this time.
    NewPicture(UserId, MediaId, u64),
    /// Whether a medium is had as a user's picture, of which somebody wants a link.
    Picture(Origin, MediaId),
    /// How a user has a chat, for the look of this number.
    PushSettings(UserId, LogId, u64),
    /// The same: whether the other one is a contact.
    PushContact(UserId, LogId, u64),
    /// Where a device is told by a push service, which asks.
    AboutPush(Origin),
    /// Something of stories.
    Story(StoryGet),
}

/// What a scan of an account's is for.
#[derive(Clone, Debug)]
pub(crate) enum ScanFor {
    /// A user's devices.
    Devices(UserId, Load),
    /// What a user has said of others.
    Circle(UserId, Load),
    /// How many contacts a user has, or has muted, for an ask of this number of a log: to name so many more.
    Contacts(UserId, LogId, u64, Named),
    /// Whether somebody is a contact of a user's.
    IsContact(UserId, IfContact),
    /// Something of whoever has a phone, for a user who looks for them.
    Seek(Box<Seeking>),
    /// The record of somebody of whom a user has a card, or says so.
    Card(Box<Carded>),
    /// Whether the other in a chat with a user has written, whom the user looks up.
    Peer(UserId, Origin, UserId),
    /// The contacts of a user, for what a device of theirs is to show.
    Subscribing(UserId, Option<Origin>, Box<Subscribing>),
    /// A user's logs, whose other members are told that these of the user are not as before.
    Peers(UserId, Changed),
    /// The contacts of a user, for such logs.
    PeersKnown(UserId, Box<Telling>),
    /// The groups of a user whose devices are not as before.
    Groups(UserId),
    /// What the logs of a user have reserved.
    Reserved(UserId),
    /// A step of the inbox of a user's device: of its marks, or of all the user's logs.
    Inbox(UserId, InboxAsk, bool),
    /// The reports of a user, of whom there is another one.
    Reports(UserId, Origin, Box<Filed>),
    /// The reports of a user, for an ask of this number of a log: of one more.
    Flags(UserId, LogId, u64),
    /// Reports, for an operator; those alone that nobody is done with?
    AllReports(u64, bool),
    /// Reports, for the job that removes those that are kept no longer.
    OldReports,
    /// Accounts that are to end.
    Ends,
    /// The same, for an operator.
    EndsFor(u64),
    /// What a user has uploaded, who is about to upload more.
    Kept(Box<Beginning>),
    /// Chats of a user whose account has ended, for the work of this number.
    ChatsOfEnded(UserId, u64),
    /// What else there is of such a user.
    RestOfEnded(UserId, u64),
    /// What was counted, for an operator.
    Counts(u64),
    /// What was counted of a day, to be added up.
    Day(u32),
    /// What was counted of all days, for those that are to be added up.
    AllDays,
    /// Where a user's devices are told by push services, and what is unread, for the look of this number at a chat.
    Pushes(UserId, LogId, u64),
    /// Chats of a user whose device is told by a push service, the first one.
    PushChats(UserId),
    /// What devices are still to be told.
    Outbox,
    /// A user's logs, for a page of chats.
    Logs(UserId, Origin),
    /// How a user has the chats of a page.
    ChatSettings(UserId, Origin, LogsPage),
    /// Something of stories.
    Story(StoryScan),
}

impl ScanFor {
    /// The slot whose owner answers somebody with what is read; `None`: nobody waits for it.
    pub(crate) fn answers_of(&self) -> Option<Slot> {
        match self {
            Self::Inbox(user, ..)
            | Self::Logs(user, _)
            | Self::ChatSettings(user, ..)
            | Self::Contacts(user, ..)
            | Self::Subscribing(user, ..)
            | Self::Peer(user, ..)
            | Self::Reports(user, ..)
            | Self::Flags(user, ..)
            | Self::IsContact(user, _) => Some(slot_of(*user)),
            Self::Kept(beginning) => Some(slot_of(beginning.user())),
            Self::Seek(seeking) => Some(slot_of(seeking.asker())),
            Self::Card(carded) => Some(slot_of(carded.asker)),
            // What is read of a user who is held is told of by that.
            Self::Devices(..) | Self::Circle(..) | Self::Reserved(_) => None,
            // Hints, which are harmless to lose.
            Self::Peers(..) | Self::PeersKnown(..) | Self::Groups(_) => None,
            // It is known while it is under way.
            Self::Day(_) | Self::Pushes(..) => None,
            // Whoever has the slot begins again.
            Self::PushChats(_) => None,
            Self::Outbox => None,
            // Of no slot.
            Self::AllReports(..) | Self::OldReports | Self::Counts(_) | Self::AllDays => None,
            Self::Ends | Self::EndsFor(_) => None,
            Self::Story(scan) => scan.answers_of(),
            // Whoever has the slot begins again.
            Self::ChatsOfEnded(..) | Self::RestOfEnded(..) => None,
        }
    }
}

impl Then {
    /// Whether the devices of the user are others than before.
    fn changes_devices(&self) -> bool {
        matches!(self, Self::Devices | Self::Joined(_) | Self::Deleted)
    }
}

impl After {
    /// A write of a user's.
    pub(super) fn of_user(user: UserId, then: Then) -> Self {
        Self { user: Some(user), phone: None, then }
    }

    /// A write of a phone's.
    pub(super) fn of_phone(phone: Phone, then: Then) -> Self {
        Self { user: None, phone: Some(phone), then }
    }

    /// Whose owner has decided so: a user lies in the slot of the first phone, so who writes both has one.
    fn slot(&self) -> Slot {
        debug_assert!(
            self.user
                .zip(self.phone.as_ref())
                .is_none_or(|(user, phone)| slot_of(user) == slot_of_phone(phone))
        );
        match self.then {
            Then::AddedUp(day, _) => return Slot::of_day(day),
            Then::Erased(user, _) | Then::UploadBegun(user, _) | Then::UploadWhole(user, _) => {
                return slot_of(user);
            }
            Then::Story(ref then) => return slot_of(then.user()),
            _ => {}
        }
        let of_user = self.user.map(slot_of);
        of_user
            .or_else(|| self.phone.as_ref().map(slot_of_phone))
            .expect("a write is of a user, of a phone or of a day")
    }
}

impl Accounts {
    /// Has `after` happen when what was written so far is durable. What it is about stays in memory until then.
    pub(super) fn after(&mut self, cx: &mut Cx, after: After) {
        if let Some(user) = after.user {
            let user = self.user(user);
            user.held.unsettle();
            user.changing += u32::from(after.then.changes_devices());
        }
        if let Some(phone) = &after.phone {
            self.phones.state(phone).held.unsettle();
        }
        cx.after(after.slot(), after);
    }

    /// A write is durable.
    pub(crate) fn written(&mut self, cx: &mut Cx, After { user, phone, then }: After) {
        self.settle(user, phone.as_ref(), &then);
        const WHOSE: &str = "what is done with a user's record names the user";
        match then {
            Then::Deliver(delivery) => self.deliver_code(cx, delivery),
            Then::Reply(origin, reply) => cx.reply(origin, reply),
            Then::Answer(question, response) => cx.answer(question, response),
            Then::UploadBegun(user, question) => self.upload_begun(cx, (user, question), Ok(())),
            Then::UploadWhole(_, question) => cx.answer(question, AdminResponse::Upload(Ok(()))),
            Then::Devices => self.devices_changed(cx, user.expect(WHOSE)),
            Then::Joined(device) => self.device_joined(cx, user.expect(WHOSE), device),
            Then::Renamed(changed) => {
                let user = user.expect(WHOSE);
                self.person_changed(cx, user, changed);
                self.tell_own_of_person(cx, user);
            }
            Then::Deleted => {
                self.erasing.look_soon();
                self.devices_changed(cx, user.expect(WHOSE));
                self.person_changed(cx, user.expect(WHOSE), Parts::NAME);
            }
            Then::Barred => self.bar_holds(cx, user.expect(WHOSE)),
            Then::Erased(user, number) => self.erased(cx, user, number),
            Then::AddedUp(day, more) => self.added_up(cx, more.then_some(day)),
            Then::Story(then) => self.story_written(cx, *then),
            Then::Noted => {}
        }
        self.settled(cx, user, phone.as_ref());
    }

    /// A write did not become durable.
    pub(crate) fn undone(&mut self, cx: &mut Cx, After { user, phone, then }: After, undone: Undone) {
        self.settle(user, phone.as_ref(), &then);
        if let Some(user) = user {
            self.user(user).held.doubt();
        }
        if let Some(phone) = &phone {
            self.phones.state(phone).held.doubt();
        }
        match then {
            Then::Deliver(delivery) => self.code_undone(cx, &delivery, undone),
            Then::Reply(origin, _) => cx.reply(origin, undone.into()),
            Then::UploadBegun(user, question) => {
                self.upload_begun(cx, (user, question), Err(NoUpload::Unavailable));
            }
            Then::UploadWhole(_, question) => {
                cx.answer(question, AdminResponse::Upload(Err(NoUpload::Unavailable)));
            }
            Then::Answer(question, _) => {
                let detail = match undone {
                    Undone::Refused(refusal) => refusal.detail,
                    Undone::Unknown => "whether it was written is not known: look again",
                };
                cx.answer(question, AdminResponse::Refused(detail.to_owned()));
            }
            Then::AddedUp(..) => self.added_up(cx, None),
            Then::Erased(user, number) => self.not_erased(cx, user, number),
            Then::Story(then) => self.story_undone(cx, *then, undone),
            Then::Devices
            | Then::Joined(_)
            | Then::Renamed(_)
            | Then::Deleted
            | Then::Barred
            | Then::Noted => {}
        }
        self.settled(cx, user, phone.as_ref());
    }

    fn settle(&mut self, user: Option<UserId>, phone: Option<&Phone>, then: &Then) {
        if let Some(user) = user {
            let user = self.user(user);
            user.held.settle();
            user.changing -= u32::from(then.changes_devices());
        }
        if let Some(phone) = phone {
            self.phones.state(phone).held.settle();
        }
    }

    fn settled(&mut self, cx: &mut Cx, user: Option<UserId>, phone: Option<&Phone>) {
        if let Some(user) = user {
            self.user_settled(cx, user);
        }
        if let Some(phone) = phone {
            self.phone_settled(cx, phone);
        }
    }

    /// A get has ended.
    pub(crate) fn got(&mut self, cx: &mut Cx, purpose: GetFor, result: Result<Option<Bytes>, Unreadable>) {
        match (purpose, result) {
            (GetFor::User(user, load), result) => self.record_read(cx, user, load, result),
            (GetFor::Phone(phone, load), result) => self.phone_read(cx, phone, load, result),
            (GetFor::Report(question, id, resolved_as), result) => {
                self.report_read(cx, (question, id, resolved_as), result);
            }
            (GetFor::NewUser(user), result) => self.new_user_read(cx, user, result),
            (GetFor::Whole(come), result) => self.whole_read(cx, &come, result),
            (GetFor::NewPicture(user, medium, asked_ms), result) => {
                self.new_picture_read(cx, user, (medium, asked_ms), result);
            }
            (GetFor::Picture(origin, medium), row) => link_picture(cx, origin, medium, row),
            (GetFor::PushSettings(user, log, number), result) => {
                self.push_settings_read(cx, (user, log, number), result);
            }
            (GetFor::PushContact(user, log, number), result) => {
                self.push_contact_read(cx, (user, log, number), result);
            }
            (GetFor::AboutPush(origin), result) => Self::about_push_read(cx, origin, result),
            (GetFor::Story(get), value) => self.story_got(cx, get, value),
        }
    }

    /// A scan has ended.
    pub(crate) fn scanned(&mut self, cx: &mut Cx, purpose: ScanFor, result: Result<Rows, Unreadable>) {
        match (purpose, result) {
            (ScanFor::Devices(user, load), result) => self.devices_read(cx, user, load, result),
            (ScanFor::Circle(user, load), result) => self.circle_read(cx, user, load, result),
            (ScanFor::Contacts(_, log, number, named), result) => {
                let counted = result.map(|rows| rows.rows.len());
                Self::contacts_counted(cx, log, number, named, counted);
            }
            (ScanFor::Subscribing(user, origin, more), result) => {
                self.contacts_of_looker_read(cx, user, (origin, *more), result.map(|rows| rows.rows));
            }
            (ScanFor::IsContact(user, ask), result) => {
                self.if_contact(cx, user, ask, result.map(|rows| !rows.rows.is_empty()));
            }
            (ScanFor::Seek(seeking), result) => self.sought(cx, *seeking, result),
            (ScanFor::Card(carded), result) => Self::card_read(cx, *carded, result),
            (ScanFor::Peer(user, origin, peer), result) => Self::peer_read(cx, user, origin, peer, result),
            (ScanFor::Reports(user, origin, filed), result) => {
                self.reports_read(cx, user, (origin, filed), result);
            }
            (ScanFor::Flags(_, log, number), result) => Self::flags_read(cx, log, number, result),
            (ScanFor::AllReports(question, open), result) => Self::reports_listed(cx, question, open, result),
            (ScanFor::OldReports, result) => self.old_reports_read(cx, result),
            (ScanFor::Ends, result) => self.ends_read(cx, result),
            (ScanFor::EndsFor(question), result) => Self::ends_listed(cx, question, result),
            (ScanFor::Kept(beginning), result) => self.kept_read(cx, beginning, result),
            (ScanFor::ChatsOfEnded(user, number), result) => {
                self.chats_of_ended_read(cx, (user, number), result);
            }
            (ScanFor::RestOfEnded(user, number), result) => {
                self.rest_of_ended_read(cx, (user, number), result);
            }
            (ScanFor::Counts(question), result) => Self::counts_listed(cx, question, result),
            (ScanFor::Day(day), result) => self.day_read(cx, day, result),
            (ScanFor::AllDays, result) => self.all_days_read(cx, result),
            (ScanFor::Reserved(user), Ok(rows)) => self.reserved_read(cx, user, rows.rows, rows.more),
            (ScanFor::Reserved(user), Err(_)) => self.reserved_unreadable(cx, user),
            (ScanFor::Peers(user, changed), Ok(rows)) => {
                self.peers_read(cx, user, changed, &rows.rows, rows.more);
            }
            (ScanFor::PeersKnown(user, telling), result) => {
                self.peers_known(cx, user, &telling, result.map(|rows| rows.rows));
            }
            // Whoever is not told finds out when they look.
            (ScanFor::Peers(..) | ScanFor::Groups(_), Err(_)) => {}
            (ScanFor::Groups(user), Ok(rows)) => self.groups_read(cx, user, &rows.rows, rows.more),
            (ScanFor::Inbox(user, ask, marked), result) => self.inbox_read(cx, user, ask, marked, result),
            (ScanFor::Logs(user, origin), result) => self.logs_read(cx, user, origin, result),
            (ScanFor::Pushes(user, log, number), result) => self.pushes_read(cx, (user, log, number), result),
            (ScanFor::PushChats(user), result) => self.chats_for_pushes_read(cx, user, result),
            (ScanFor::Outbox, result) => self.outbox_read(cx, result),
            (ScanFor::Story(scan), result) => self.story_scanned(cx, scan, result),
            (ScanFor::ChatSettings(user, origin, page), result) => {
                Self::chat_settings_read(cx, user, origin, page, result);
            }
        }
    }
}

/// The logs of what a scan of a user's rows has found; `None` if a key is not what was written.
pub(super) fn logs_of(rows: &Rows) -> Option<Vec<LogId>> {
    rows.rows.iter().map(|(key, _)| tern_storage::keys::log_of(key)).collect()
}
