//! What an operator may ask of a core.

use tern_storage::records::{CountsRecord, EndRecord, ReportRecord};
use tern_storage::{Key, keys};
use tern_wire::ids::{DeviceId, MediaId, Name, Phone, UserId};

/// A question to one core: the owner of the phone's slot, or any core for [`AdminRequest::Status`].
#[derive(Clone, Debug)]
pub enum AdminRequest {
    /// What the core holds.
    Status,
    /// The one-time code that a phone was sent last. Answered in development mode only.
    Code(Phone),
    /// Forgets how often codes were asked for by a phone, so that they may be asked for again at once.
    ResetCodes(Phone),
    /// The account of a phone.
    User(Phone),
    /// The account of a user.
    UserById(UserId),
    /// Ends a device of a user: its session ends, its tokens die.
    EndDevice(UserId, DeviceId),
    /// Suspends an account, for a reason: for so many milliseconds, or (0) until it is freed.
    Suspend(UserId, String, u64),
    /// Frees an account that is suspended.
    Free(UserId),
    /// A page of reports, from just after this one on; those alone that nobody is done with?
    Reports(Option<Key>, bool),
    /// A report.
    Report(ReportId),
    /// An operator is done with a report: so.
    Resolve(ReportId, String),
    /// A page of what was counted of all days, from just after this row on.
    Counts(Option<Key>),
    /// Forgets what an account has used up of its limits: messages, lookups, people written to, names.
    ResetLimits(UserId),
    /// An account that is to end, as its person has said, does not.
    Keep(UserId),
    /// A page of the accounts that are to end, or of which something is left, from just after this row on.
    Ends(Option<Key>),
    /// Deletes the account of a phone: its sessions end, its tokens die, the phone is free again.
    DeleteUser(Phone),
    /// The listener for media asks this of an account.
    Upload(UserId, UploadAsk),
    /// The bytes of a medium are gone that was to be removed.
    MediumRemoved(MediaId),
    /// Whether there is this medium: any core reads that. For the job that looks for bytes of which nobody knows.
    IsMedium(MediaId),
    /// Makes an account for a phone that is verified by the operator's word, or adds a device to it.
    Provision {
        /// The account's phone.
        phone: Phone,
        /// Its display name.
        name: Name,
    },
}

/// What is asked of an account that uploads something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UploadAsk {
    /// Whether a device of it lives, in the session of this access token.
    Who(DeviceId, u64),
    /// Whether so many bytes may be uploaded as this medium: then they count.
    Begin {
        /// What it is to be called.
        medium: MediaId,
        /// How many.
        bytes: u64,
    },
    /// All of a medium has come, and lies where media lie. It may be said more than once.
    Whole {
        /// What it is called.
        medium: MediaId,
        /// How many bytes it has.
        bytes: u64,
    },
}

/// Why somebody may not upload something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoUpload {
    /// The session or the account has ended.
    Ended,
    /// The account is suspended, or about to end.
    Barred,
    /// It has uploaded too much of late: try after so many ms.
    TooMany(u64),
    /// It has as many bytes as it may.
    NoRoom,
    /// It can't be known now.
    Unavailable,
}

/// A core's answer.
#[derive(Clone, Debug)]
pub enum AdminResponse {
    /// To [`AdminRequest::Status`].
    Status(CoreStatus),
    /// To [`AdminRequest::Code`]; `None` if none is good.
    Code(Option<CodeView>),
    /// To [`AdminRequest::ResetCodes`]: how many requests are forgotten. Durable.
    CodesReset(usize),
    /// To [`AdminRequest::User`] and [`AdminRequest::UserById`]; `None` if there is no such account.
    User(Option<UserView>),
    /// To [`AdminRequest::EndDevice`]: whether there was such a device that had not ended. Durable.
    DeviceEnded(bool),
    /// To [`AdminRequest::Suspend`]. Durable.
    Suspended {
        /// Who.
        user: UserId,
        /// Until when, in ms since the Unix epoch; 0: until it is freed.
        until_ms: u64,
    },
    /// To [`AdminRequest::Free`]: whether it was suspended. Durable.
    Freed(bool),
    /// To [`AdminRequest::Reports`].
    Reports {
        /// By the users who are reported.
        reports: Vec<ReportView>,
        /// There are more, behind this one.
        next: Option<Key>,
    },
    /// To [`AdminRequest::Report`] and [`AdminRequest::Resolve`], which is durable; `None` if there is no such report.
    Report(Option<Box<ReportView>>),
    /// To [`AdminRequest::Counts`]: parts, which [`crate::counts::Counts`] adds up.
    Counts {
        /// Each with its day, since the Unix epoch.
        days: Vec<(u32, CountsRecord)>,
        /// There are more, behind this one.
        next: Option<Key>,
    },
    /// To [`AdminRequest::ResetLimits`].
    LimitsReset,
    /// To [`AdminRequest::DeleteUser`]: whether there was an account. Durable.
    Deleted(bool),
    /// To [`AdminRequest::Keep`]: whether it was to end. Durable.
    Kept(bool),
    /// To [`AdminRequest::Ends`].
    Ends {
        /// By their owners' slots.
        ends: Vec<(UserId, EndRecord)>,
        /// There are more, behind this one.
        next: Option<Key>,
    },
    /// To [`AdminRequest::Upload`]. Durable.
    Upload(Result<(), NoUpload>),
    /// To [`AdminRequest::MediumRemoved`]: whether it was there until now. Durable.
    MediumGone(bool),
    /// To [`AdminRequest::IsMedium`].
    IsMedium(bool),
    /// To [`AdminRequest::Provision`]. Durable.
    Provisioned(Provisioned),
    /// Not done, and why: a sentence for the operator.
    Refused(String),
}

/// What a core holds now.
#[derive(Clone, Default, Debug)]
pub struct CoreStatus {
    /// Which core.
    pub core: u16,
    /// Slots that it owns.
    pub slots: usize,
    /// Connections, logged in or not.
    pub connections: usize,
    /// Logged-in devices.
    pub sessions: usize,
    /// Logs in memory.
    pub logs: usize,
    /// Users in memory.
    pub users: usize,
    /// Commits that the store has not completed.
    pub commits_in_flight: usize,
}

/// A one-time code that is good now.
#[derive(Clone, Debug)]
pub struct CodeView {
    /// The registration that it was sent for.
    pub registration: u64,
    /// Six digits.
    pub code: String,
    /// When it ends, in ms since the Unix epoch.
    pub expires_ms: u64,
    /// How often a wrong one may still be tried.
    pub attempts_left: u32,
}

/// An account.
#[derive(Clone, Debug)]
pub struct UserView {
    /// The user.
    pub user: UserId,
    /// The account's phone.
    pub phone: String,
    /// The display name.
    pub name: String,
    /// The slot that owns the user.
    pub slot: u16,
    /// The core that owns the slot.
    pub core: u16,
    /// When the account was made, in ms since the Unix epoch.
    pub created_ms: u64,
    /// When it ends, as its person has said, in ms since the Unix epoch; 0: it does not.
    pub ends_ms: u64,
    /// If it is suspended.
    pub suspended: Option<SuspensionView>,
    /// Its devices.
    pub devices: Vec<DeviceView>,
}

/// Names a report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReportId {
    /// Of whom it is.
    pub reported: UserId,
    /// By whom.
    pub reporter: UserId,
    /// Under which number of the reporter.
    pub number: u64,
}

impl ReportId {
    /// Where it lies.
    pub fn key(&self) -> Key {
        keys::report(self.reported.get(), self.reporter.get(), self.number)
    }
}

/// A report.
#[derive(Clone)]
pub struct ReportView {
    /// Which.
    pub id: ReportId,
    /// What it says.
    pub record: ReportRecord,
}

/// Shows nothing of what it says.
impl std::fmt::Debug for ReportView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReportView").field("id", &self.id).finish_non_exhaustive()
    }
}

/// That an account is suspended.
#[derive(Clone, Debug)]
pub struct SuspensionView {
    /// Since when, in ms since the Unix epoch.
    pub since_ms: u64,
    /// Until when; 0: until it is freed.
    pub until_ms: u64,
    /// Why, as an operator has said.
    pub why: String,
}

/// A device of an account.
#[derive(Clone, Debug)]
pub struct DeviceView {
    /// The device.
    pub device: DeviceId,
    /// Its name.
    pub name: String,
    /// When it was added, in ms since the Unix epoch.
    pub created_ms: u64,
    /// The first millisecond of the day, UTC, on which it was last here.
    pub seen_ms: u64,
    /// Whether it is connected now.
    pub connected: bool,
    /// Whether its session was ended.
    pub revoked: bool,
}

/// A provisioned device with its tokens.
#[derive(Clone)]
pub struct Provisioned {
    /// The account's phone.
    pub phone: Phone,
    /// The user.
    pub user: UserId,
    /// The new device.
    pub device: DeviceId,
    /// Its access token.
    pub access_token: String,
    /// When that ends, in ms since the Unix epoch.
    pub access_expires_ms: u64,
    /// Its refresh token.
    pub refresh_token: String,
    /// When that ends, in ms since the Unix epoch.
    pub refresh_expires_ms: u64,
}

/// Shows no token.
impl std::fmt::Debug for Provisioned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { phone, user, device, .. } = self;
        let mut shown = f.debug_struct("Provisioned");
        shown.field("phone", phone).field("user", user).field("device", device).finish_non_exhaustive()
    }
}
