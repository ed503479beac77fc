//! The values behind the keys: protobuf messages, so that a later version can add fields. docs/STORAGE.md lists them.

use bytes::Bytes;
use prost::Message;

/// `p`: what is known of a phone.
#[derive(Clone, PartialEq, Message)]
pub struct PhoneRecord {
    /// The account; 0 if there is none yet.
    #[prost(uint64, tag = "1")]
    pub user: u64,
    /// Codes that have been sent and not been used. (2 to 5 were the one code of the first version.)
    #[prost(message, repeated, tag = "6")]
    pub codes: Vec<CodeRecord>,
    /// Requests for a code in the last hour, oldest first.
    #[prost(message, repeated, tag = "7")]
    pub asked: Vec<AskedRecord>,
    /// Networks from which the phone was proven, as keyed hashes, the last one last.
    #[prost(fixed64, repeated, tag = "8")]
    pub proven: Vec<u64>,
}

/// `h`: who is found by the hash of a phone.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct PhoneHashRecord {
    /// The account.
    #[prost(uint64, tag = "1")]
    pub user: u64,
}

/// Within [`PhoneRecord`]: a one-time code.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct CodeRecord {
    /// The request that it was sent for; never 0.
    #[prost(fixed64, tag = "1")]
    pub registration: u64,
    /// HMAC-SHA-256 of phone and code.
    #[prost(bytes = "bytes", tag = "2")]
    pub mac: Bytes,
    /// When it ends, in ms since the Unix epoch.
    #[prost(uint64, tag = "3")]
    pub expires_ms: u64,
    /// How often a wrong one may still be tried.
    #[prost(uint32, tag = "4")]
    pub attempts_left: u32,
    /// From which network it was asked for, as a keyed hash; 0 if that is not known.
    #[prost(fixed64, tag = "5")]
    pub network: u64,
}

/// Within [`PhoneRecord`]: a request for a code.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct AskedRecord {
    /// When, in ms since the Unix epoch.
    #[prost(uint64, tag = "1")]
    pub at_ms: u64,
    /// From which network, as a keyed hash; 0 if that is not known.
    #[prost(fixed64, tag = "2")]
    pub network: u64,
}

/// `u`: a user.
#[derive(Clone, PartialEq, Message)]
pub struct UserRecord {
    /// E.164, with the plus sign. Empty once deleted.
    #[prost(string, tag = "1")]
    pub phone: String,
    /// The display name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// When the account was made, in ms since the Unix epoch.
    #[prost(uint64, tag = "3")]
    pub created_ms: u64,
    /// When it was deleted; 0 if it lives.
    #[prost(uint64, tag = "4")]
    pub deleted_ms: u64,
    /// The highest device number given out.
    #[prost(uint32, tag = "5")]
    pub devices_made: u32,
    /// HMAC-SHA-256 of user and PIN; empty if there is none.
    #[prost(bytes = "bytes", tag = "6")]
    pub pin_mac: Bytes,
    /// How often a wrong PIN was tried within a day.
    #[prost(uint32, tag = "7")]
    pub pin_tries: u32,
    /// When the first of them was, in ms since the Unix epoch.
    #[prost(uint64, tag = "8")]
    pub pin_tried_ms: u64,
    /// There is an `h` row of its phone. Accounts of before there were such rows get theirs when a device of them comes.
    #[prost(bool, tag = "9")]
    pub is_hashed: bool,
    /// What the user says of themselves.
    #[prost(string, tag = "10")]
    pub about: String,
    /// What names the user's picture.
    #[prost(bytes = "bytes", tag = "11")]
    pub picture: Bytes,
    /// How often the name, what they say of themselves, and the picture have become another.
    #[prost(uint64, tag = "12")]
    pub names: u64,
    /// See there.
    #[prost(uint64, tag = "13")]
    pub abouts: u64,
    /// See there.
    #[prost(uint64, tag = "14")]
    pub pictures: u64,
    /// The secret of the user's card; empty if there is none.
    #[prost(bytes = "bytes", tag = "15")]
    pub card: Bytes,
    /// When operators suspended it last, in ms since the Unix epoch; 0: never.
    #[prost(uint64, tag = "16")]
    pub suspended_ms: u64,
    /// Until when it is, or was; 0: until it is freed.
    #[prost(uint64, tag = "17")]
    pub suspended_until_ms: u64,
    /// Why, for operators.
    #[prost(string, tag = "18")]
    pub suspended_why: String,
    /// It is not any more, by whatever clock: operators freed it, or its time was seen to be over.
    #[prost(bool, tag = "19")]
    pub suspended_over: bool,
    /// When it ends, as its person has said, in ms since the Unix epoch; 0: it does not.
    #[prost(uint64, tag = "20")]
    pub ends_ms: u64,
}

/// `b`: an account that is to end, or has ended and of which something is left.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct EndRecord {
    /// When its end is due, in ms since the Unix epoch.
    #[prost(uint64, tag = "1")]
    pub due_ms: u64,
    /// When the account ended; 0: it has not.
    #[prost(uint64, tag = "2")]
    pub ended_ms: u64,
    /// Chats that it has been taken out of since.
    #[prost(uint64, tag = "3")]
    pub chats: u64,
    /// Rows that were removed since, but for those of chats.
    #[prost(uint64, tag = "4")]
    pub rows: u64,
}

/// `q`: what somebody has told the operators of a user.
#[derive(Clone, PartialEq, Message)]
pub struct ReportRecord {
    /// When, in ms since the Unix epoch.
    #[prost(uint64, tag = "1")]
    pub created_ms: u64,
    /// `Category` of the protocol.
    #[prost(int32, tag = "2")]
    pub category: i32,
    /// What the reporter has said of it.
    #[prost(string, tag = "3")]
    pub comment: String,
    /// The group that the messages stand in; 0: the direct chat of the two, or there are none.
    #[prost(uint64, tag = "4")]
    pub group: u64,
    /// Messages, as the reporter saw them.
    #[prost(message, repeated, tag = "5")]
    pub messages: Vec<ReportedMessage>,
    /// When an operator was done with it; 0: none is.
    #[prost(uint64, tag = "6")]
    pub resolved_ms: u64,
    /// How, for operators.
    #[prost(string, tag = "7")]
    pub resolved_as: String,
    /// To how many strangers a text went; 0 in all other reports.
    #[prost(uint32, tag = "8")]
    pub strangers: u32,
}

/// Within [`ReportRecord`]: a message.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ReportedMessage {
    /// Its place.
    #[prost(uint64, tag = "1")]
    pub seq: u64,
    /// When, in ms since the Unix epoch.
    #[prost(uint64, tag = "2")]
    pub time_ms: u64,
    /// `Kind` of the protocol.
    #[prost(int32, tag = "3")]
    pub kind: i32,
    /// Its body, or the beginning of it.
    #[prost(bytes = "bytes", tag = "4")]
    pub body: Bytes,
    /// How long the body is.
    #[prost(uint32, tag = "5")]
    pub bytes: u32,
    /// The message that it is about, as an edit is.
    #[prost(uint64, tag = "6")]
    pub about: u64,
}

/// `n`: what was counted of a day, or a part of it. Never who.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct CountsRecord {
    /// Accounts that were here, by how many days before they had been here last, 1 to 29; the first: longer ago, or never. Each counts once.
    #[prost(uint64, repeated, tag = "1")]
    pub active: Vec<u64>,
    /// Accounts that were made.
    #[prost(uint64, tag = "2")]
    pub registered: u64,
    /// Accounts that ended.
    #[prost(uint64, tag = "3")]
    pub deleted: u64,
    /// Devices that were here.
    #[prost(uint64, tag = "4")]
    pub devices: u64,
    /// Messages in direct chats.
    #[prost(uint64, tag = "5")]
    pub direct: u64,
    /// Messages in groups.
    #[prost(uint64, tag = "6")]
    pub group: u64,
    /// Groups that were made.
    #[prost(uint64, tag = "7")]
    pub groups: u64,
    /// Accounts that were here and had been made 1, 7 and 30 days before.
    #[prost(uint64, repeated, tag = "8")]
    pub returned: Vec<u64>,
}

/// `d`: a device.
#[derive(Clone, PartialEq, Message)]
pub struct DeviceRecord {
    /// For the list of one's devices.
    #[prost(string, tag = "1")]
    pub name: String,
    /// When it was added, in ms since the Unix epoch.
    #[prost(uint64, tag = "2")]
    pub created_ms: u64,
    /// SHA-256 of the refresh token that is good now.
    #[prost(bytes = "bytes", tag = "3")]
    pub refresh_hash: Bytes,
    /// When that token ends, in ms since the Unix epoch.
    #[prost(uint64, tag = "4")]
    pub refresh_expires_ms: u64,
    /// How many times the token was exchanged.
    #[prost(uint32, tag = "6")]
    pub generation: u32,
    /// When the session was ended; 0 if it lives.
    #[prost(uint64, tag = "7")]
    pub revoked_ms: u64,
    /// The device has not yet caught up for the first time: every log of the user is as good as marked.
    #[prost(bool, tag = "8")]
    pub new: bool,
    /// Drawn when the device was added; its tokens carry it. A token of another session of the same number, from a future
    /// that the store was put back from, is worth nothing. 0 in the first stores, and in their tokens.
    #[prost(fixed64, tag = "9")]
    pub session: u64,
    /// When the device was last here, in days since the Unix epoch; 0 in the first stores.
    #[prost(uint32, tag = "10")]
    pub seen_day: u32,
    /// Since when it is told by a push service that something has come, in ms since the Unix epoch; 0: it is not.
    #[prost(uint64, tag = "11")]
    pub pushed_since_ms: u64,
}

/// `l`: a log.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct LogRecord {
    /// When it was made, in ms since the Unix epoch.
    #[prost(uint64, tag = "1")]
    pub created_ms: u64,
    /// A group's own.
    #[prost(message, optional, tag = "2")]
    pub group: Option<GroupRecord>,
    /// Messages are erased so long after they were sent, in ms; 0: never.
    #[prost(uint64, tag = "3")]
    pub timer_ms: u64,
    /// Where it begins: entries before this one were kept no longer. 0: it begins with the first.
    #[prost(uint64, tag = "4")]
    pub first: u64,
    /// How far its full-text index goes; absent: it has none.
    #[prost(message, optional, tag = "5")]
    pub indexed: Option<IndexedRecord>,
}

/// Within [`LogRecord`]: how far its full-text index goes.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct IndexedRecord {
    /// Entries before this one are in it.
    #[prost(uint64, tag = "1")]
    pub upto: u64,
    /// How many entries the shortest of its runs have.
    #[prost(uint32, tag = "2")]
    pub run: u32,
}

/// Within [`LogRecord`]: what a group is, as the entries of its log have made it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct GroupRecord {
    /// What it is called.
    #[prost(string, tag = "1")]
    pub name: String,
    /// What it is about.
    #[prost(string, tag = "2")]
    pub description: String,
    /// Names a picture; the server does not know what it means.
    #[prost(bytes = "bytes", tag = "3")]
    pub picture: Bytes,
    /// Who may send: the protocol's number.
    #[prost(int32, tag = "4")]
    pub senders: i32,
    /// Who may change name, description and picture.
    #[prost(int32, tag = "5")]
    pub editors: i32,
    /// Who may add members.
    #[prost(int32, tag = "6")]
    pub adders: i32,
    /// New members see all that was said before.
    #[prost(bool, tag = "7")]
    pub shows_history: bool,
    /// The number of the next member: 64 of them share a `w` row.
    #[prost(uint32, tag = "8")]
    pub members_made: u32,
    /// Invitations that nobody has ended.
    #[prost(message, repeated, tag = "9")]
    pub invitations: Vec<InvitationRecord>,
    /// Who asks to be let in.
    #[prost(uint64, repeated, tag = "10")]
    pub asking: Vec<u64>,
}

/// Within [`GroupRecord`]: an invitation.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct InvitationRecord {
    /// SHA-256 of its secret.
    #[prost(bytes = "bytes", tag = "1")]
    pub hash: Bytes,
    /// When it ends, in ms since the Unix epoch; 0: never by itself.
    #[prost(uint64, tag = "2")]
    pub expires_ms: u64,
    /// How many may come by it; 0: any number.
    #[prost(uint32, tag = "3")]
    pub uses_max: u32,
    /// How many have.
    #[prost(uint32, tag = "4")]
    pub uses: u32,
    /// Whoever has it is let in by those who may add members.
    #[prost(bool, tag = "5")]
    pub wants_approval: bool,
}

/// `e`: an entry.
#[derive(Clone, PartialEq, Message)]
pub struct EntryRecord {
    /// The seq that the key names, to be checked against it.
    #[prost(uint64, tag = "1")]
    pub seq: u64,
    /// Who sent it.
    #[prost(uint64, tag = "2")]
    pub sender: u64,
    /// From which device.
    #[prost(uint32, tag = "3")]
    pub device: u32,
    /// Under which number of the device's own.
    #[prost(uint64, tag = "4")]
    pub client_id: u64,
    /// When it was committed, in ms since the Unix epoch.
    #[prost(uint64, tag = "5")]
    pub time_ms: u64,
    /// What the body is: the protocol's kind.
    #[prost(int32, tag = "6")]
    pub kind: i32,
    /// What was sent.
    #[prost(bytes = "bytes", tag = "7")]
    pub body: Bytes,
    /// Bytes of all bodies of the sender in the log, this one included. (Both count from 0 anew where a store of before goes on.)
    #[prost(uint64, tag = "8")]
    pub sender_bytes: u64,
    /// Bytes of all bodies of the others in the log up to here.
    #[prost(uint64, tag = "9")]
    pub other_bytes: u64,
    /// How many messages of the sender there are in the log, up to this entry. A direct chat's alone.
    #[prost(uint64, tag = "10")]
    pub sender_messages: u64,
    /// How many messages there are in the log, up to this entry.
    #[prost(uint64, tag = "11")]
    pub messages: u64,
    /// The entry that it is about; 0: none.
    #[prost(uint64, tag = "12")]
    pub about: u64,
    /// How often it was forwarded.
    #[prost(uint32, tag = "13")]
    pub forwards: u32,
    /// Whom it mentions.
    #[prost(uint64, repeated, tag = "14")]
    pub mentions: Vec<u64>,
    /// Its edits, rising.
    #[prost(uint64, repeated, tag = "15")]
    pub edits: Vec<u64>,
    /// Its body is erased.
    #[prost(bool, tag = "16")]
    pub erased: bool,
    /// When it is erased by itself, in ms since the Unix epoch; 0: never. Then a `t` row says so.
    #[prost(uint64, tag = "17")]
    pub expires_ms: u64,
    /// The peer in the direct chat blocked its author: nobody else sees it.
    #[prost(bool, tag = "18")]
    pub withheld: bool,
    /// The media that go with it, each by its 16 bytes; an `o` row of each says so.
    #[prost(bytes = "bytes", repeated, tag = "19")]
    pub media: Vec<Bytes>,
    /// The story that it replies to.
    #[prost(message, optional, tag = "20")]
    pub story: Option<StoryIdRecord>,
}

/// Within [`EntryRecord`]: a story.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct StoryIdRecord {
    /// Who posted it.
    #[prost(uint64, tag = "1")]
    pub author: u64,
    /// Which of theirs.
    #[prost(uint64, tag = "2")]
    pub number: u64,
}

/// `j`: a story of the user's. Once it is deleted nothing of it is left but when it ends, and by what it is told from another one.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct StoryRecord {
    /// When it was posted, in ms since the Unix epoch. A `t` row of then says that those are to be told who are to know what has become of it.
    #[prost(uint64, tag = "1")]
    pub time_ms: u64,
    /// When it ends. A `t` row says so.
    #[prost(uint64, tag = "2")]
    pub expires_ms: u64,
    /// What the body is: the protocol's kind.
    #[prost(int32, tag = "3")]
    pub kind: i32,
    /// What it shows.
    #[prost(bytes = "bytes", tag = "4")]
    pub body: Bytes,
    /// The media that go with it, each by its 16 bytes; an `o` row of each says so.
    #[prost(bytes = "bytes", repeated, tag = "5")]
    pub media: Vec<Bytes>,
    /// For whom it is: the protocol's number.
    #[prost(int32, tag = "6")]
    pub audience: i32,
    /// Who is named as those for whom it is, or is not, rising.
    #[prost(uint64, repeated, tag = "7")]
    pub named: Vec<u64>,
    /// xxh3 of all that was posted, by which a number used twice is told from a retry.
    #[prost(fixed64, tag = "8")]
    pub fingerprint: u64,
    /// It is deleted; and when it was, in ms since the Unix epoch.
    #[prost(bool, tag = "9")]
    pub deleted: bool,
    /// See there.
    #[prost(uint64, tag = "10")]
    pub deleted_ms: u64,
}

/// `j`: a story that a user may see.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct FeedRecord {
    /// When it was posted, in ms since the Unix epoch.
    #[prost(uint64, tag = "1")]
    pub time_ms: u64,
    /// When it ends. A `t` row says so.
    #[prost(uint64, tag = "2")]
    pub expires_ms: u64,
    /// What the body is: the protocol's kind.
    #[prost(int32, tag = "3")]
    pub kind: i32,
    /// What it shows.
    #[prost(bytes = "bytes", tag = "4")]
    pub body: Bytes,
    /// The media that go with it, each by its 16 bytes. The author's row says that it has them.
    #[prost(bytes = "bytes", repeated, tag = "5")]
    pub media: Vec<Bytes>,
}

/// `j`: who is told of a story in one step: written before they are.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct StoryToldRecord {
    /// Who, rising.
    #[prost(uint64, repeated, tag = "1")]
    pub readers: Vec<u64>,
    /// The next step goes on behind this contact; 0: the contacts have been gone through.
    #[prost(uint64, tag = "2")]
    pub contact: u64,
    /// Then: behind the direct chat of these two.
    #[prost(uint64, tag = "3")]
    pub chat_low: u64,
    /// See there.
    #[prost(uint64, tag = "4")]
    pub chat_high: u64,
    /// Who of them could not be told so far, rising.
    #[prost(uint64, repeated, tag = "5")]
    pub late: Vec<u64>,
    /// All but those have been told.
    #[prost(bool, tag = "6")]
    pub has_heard: bool,
}

/// `j`: that somebody has seen a story.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct ViewerRecord {
    /// When, in ms since the Unix epoch.
    #[prost(uint64, tag = "1")]
    pub time_ms: u64,
}

/// `o`: a medium. Rows of this table that say that an entry has it are empty.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct MediumRecord {
    /// Who has uploaded it.
    #[prost(uint64, tag = "1")]
    pub owner: u64,
    /// Its bytes.
    #[prost(uint64, tag = "2")]
    pub bytes: u64,
    /// When it was there, in ms since the Unix epoch.
    #[prost(uint64, tag = "3")]
    pub made_ms: u64,
    /// When it is to be looked whether anything has it, since it was uploaded: a `v` row says so, until something does.
    #[prost(uint64, tag = "4")]
    pub look_ms: u64,
    /// Since when it is about to be removed, for nothing had it, in ms since the Unix epoch; 0: it is not.
    #[prost(uint64, tag = "5")]
    pub ends_ms: u64,
}

/// `k`: what somebody has uploaded.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct KeptRecord {
    /// Bytes, as they were declared.
    #[prost(uint64, tag = "1")]
    pub bytes: u64,
    /// When the upload began, in ms since the Unix epoch.
    #[prost(uint64, tag = "2")]
    pub begun_ms: u64,
    /// All of it has come.
    #[prost(bool, tag = "3")]
    pub whole: bool,
}

/// `a`: how a user has a chat; the protocol's numbers.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct ChatSettingsRecord {
    /// It is put aside.
    #[prost(bool, tag = "1")]
    pub archived: bool,
    /// Nothing is made known of it before this, in ms since the Unix epoch.
    #[prost(uint64, tag = "2")]
    pub muted_until_ms: u64,
    /// The user wants to see it as unread.
    #[prost(bool, tag = "3")]
    pub marked_unread: bool,
    /// It stands above others.
    #[prost(bool, tag = "4")]
    pub on_top: bool,
    /// What is made known of it.
    #[prost(int32, tag = "5")]
    pub notify: i32,
}

/// `r`: what others may see of a user, and do; the protocol's numbers. All rows of this table that say something of one other person are
/// empty.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct PrivacyRecord {
    /// Who sees when the user was here last.
    #[prost(int32, tag = "1")]
    pub last_seen: i32,
    /// Who sees that the user is here.
    #[prost(int32, tag = "2")]
    pub online: i32,
    /// Who sees the picture.
    #[prost(int32, tag = "3")]
    pub picture: i32,
    /// Who sees what the user says of themselves.
    #[prost(int32, tag = "4")]
    pub about: i32,
    /// Who may take the user into a group.
    #[prost(int32, tag = "5")]
    pub groups: i32,
    /// Who finds the user by the phone.
    #[prost(int32, tag = "6")]
    pub found_by_phone: i32,
    /// Nobody is told in direct chats what the user has read, nor is the user told of others.
    #[prost(bool, tag = "7")]
    pub hides_reads: bool,
}

/// `r`: when a user was here last.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct LastSeenRecord {
    /// When the last connection ended, in ms since the Unix epoch.
    #[prost(uint64, tag = "1")]
    pub time_ms: u64,
}

/// `g`: that a user is a member of a log; mostly empty.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct MembershipRecord {
    /// How many bytes may wait for the member in the log, where that is more than is free.
    #[prost(uint64, tag = "1")]
    pub reserved_bytes: u64,
}

impl EntryRecord {
    /// The kind of an entry that stands where one was lost, as the protocol has it.
    pub const LOST: i32 = 1;

    /// An entry that stands where one was lost: `member` of the log is named as its author, for somebody must be.
    pub fn lost(seq: u64, member: u64, time_ms: u64) -> Self {
        Self { seq, sender: member, device: u32::MAX, time_ms, kind: Self::LOST, ..Self::default() }
    }
}

/// `x`: the entry that a device's message became.
#[derive(Clone, PartialEq, Message)]
pub struct ClientMessageRecord {
    /// Its seq.
    #[prost(uint64, tag = "1")]
    pub seq: u64,
    /// xxh3 of kind, body and envelope, by which a number used twice is told from a retry. 0: the entry is erased.
    #[prost(fixed64, tag = "2")]
    pub fingerprint: u64,
    /// When it was committed, in ms since the Unix epoch.
    #[prost(uint64, tag = "3")]
    pub time_ms: u64,
    /// When the entry is erased by itself, in ms since the Unix epoch; 0: never.
    #[prost(uint64, tag = "4")]
    pub expires_ms: u64,
}

/// `w` of a group: how far so many of its members have got, as of an entry.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct MembersRecord {
    /// What follows from entries up to this one is in it.
    #[prost(uint64, tag = "1")]
    pub upto: u64,
    /// In the order in which they came.
    #[prost(message, repeated, tag = "2")]
    pub members: Vec<MemberRecord>,
}

/// Members that share a `w` row of a group.
pub const MEMBERS_PER_ROW: u32 = 64;

/// `w`: how far a member of a log has got. In a group there are many of them in a row, and they say who they are.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct MemberRecord {
    /// Some device of the member has everything up to this seq.
    #[prost(uint64, tag = "1")]
    pub delivered_upto: u64,
    /// The member has read up to this seq.
    #[prost(uint64, tag = "2")]
    pub read_upto: u64,
    /// How far each device has the log.
    #[prost(message, repeated, tag = "3")]
    pub positions: Vec<DevicePosition>,
    /// The member has written in the log. (In the first stores only what was written since says so.)
    #[prost(bool, tag = "4")]
    pub wrote: bool,
    /// Bytes of the others' bodies up to `delivered_upto`, or to an entry before it.
    #[prost(uint64, tag = "5")]
    pub delivered_bytes: u64,
    /// Who it is. In a group alone, as all that follows.
    #[prost(uint64, tag = "6")]
    pub user: u64,
    /// What the member may do: the protocol's number.
    #[prost(int32, tag = "7")]
    pub role: i32,
    /// The first entry that it may see.
    #[prost(uint64, tag = "8")]
    pub from: u64,
    /// The entry by which it has left or was removed: the last that it may see. 0: it is a member.
    #[prost(uint64, tag = "9")]
    pub until: u64,
    /// How many entries that count as unread there are before `from`.
    #[prost(uint64, tag = "10")]
    pub counted_before: u64,
    /// Its own entries beyond `read_upto` that would count as unread if they were not its own.
    #[prost(uint64, repeated, tag = "11")]
    pub own: Vec<u64>,
    /// Its newest entry.
    #[prost(uint64, tag = "12")]
    pub last_own: u64,
    /// The entry by which it has come, last.
    #[prost(uint64, tag = "13")]
    pub joined: u64,
    /// How far the peer in the direct chat was told that it has got, where that is not as far.
    #[prost(message, optional, tag = "14")]
    pub told: Option<ToldRecord>,
}

/// Within [`MemberRecord`]: watermarks as somebody else was told them.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct ToldRecord {
    /// Some device of the member has everything up to this seq.
    #[prost(uint64, tag = "1")]
    pub delivered_upto: u64,
    /// The member has read up to this seq.
    #[prost(uint64, tag = "2")]
    pub read_upto: u64,
}

/// Within [`MemberRecord`]: a device has everything up to a seq.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct DevicePosition {
    /// The device.
    #[prost(uint32, tag = "1")]
    pub device: u32,
    /// The seq.
    #[prost(uint64, tag = "2")]
    pub upto: u64,
    /// It has not said that it knows what the member has read on another device.
    #[prost(bool, tag = "3")]
    pub lacks_read: bool,
}

/// `m store`: which store this is, and which of its runs.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct StoreRecord {
    /// 16 random bytes, made with the store.
    #[prost(bytes = "bytes", tag = "1")]
    pub id: Bytes,
    /// A random number for each start, the newest last: at most [`STARTS_KEPT_MAX`].
    #[prost(fixed64, repeated, tag = "2")]
    pub generations: Vec<u64>,
}

/// Starts that a store remembers. Beyond, the oldest is forgotten: a client that was away for so many starts is taken for
/// one of another past, and its positions for unknown.
pub const STARTS_KEPT_MAX: usize = 4096;

/// `m owner`: the process that has a shared store. Whoever starts counts on, and what processes before it have under way lands no more.
#[derive(Clone, PartialEq, Eq, Copy, Message)]
pub struct OwnerRecord {
    /// Its number, never given out again.
    #[prost(uint32, tag = "1")]
    pub process: u32,
    /// Drawn by it: two that count on at once are told apart.
    #[prost(fixed64, tag = "2")]
    pub nonce: u64,
}

/// `m lane`: the newest transaction of a place of a lane that is there.
#[derive(Clone, PartialEq, Eq, Copy, Message)]
pub struct LaneRecord {
    /// Its number in the lane, from 1.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// Which of the attempts to commit it, from 1.
    #[prost(uint32, tag = "2")]
    pub attempt: u32,
}

/// `m tickets`: the keys of TLS session tickets.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TicketKeysRecord {
    /// In the order in which they seal.
    #[prost(message, repeated, tag = "1")]
    pub keys: Vec<TicketKeyRecord>,
}

/// Within [`TicketKeysRecord`]: a key.
#[derive(Clone, PartialEq, Eq, Message)]
#[prost(skip_debug)]
pub struct TicketKeyRecord {
    /// A random number, by which a ticket names it.
    #[prost(fixed64, tag = "1")]
    pub id: u64,
    /// From when on tickets are sealed with it, in s since the Unix epoch.
    #[prost(uint64, tag = "2")]
    pub from_s: u64,
    /// 32 random bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub key: Vec<u8>,
}

/// Shows no key.
impl std::fmt::Debug for TicketKeyRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { id, from_s, key: _ } = self;
        f.debug_struct("TicketKeyRecord").field("id", id).field("from_s", from_s).finish_non_exhaustive()
    }
}

/// `s`, `m epochs`, `m layout`: one number.
#[derive(Clone, PartialEq, Eq, Copy, Message)]
pub struct NumberRecord {
    /// The number.
    #[prost(uint64, tag = "1")]
    pub number: u64,
}

/// The store's record, without the generations that it knows. One that is damaged is made anew at the next start.
#[cfg(feature = "embedded")]
pub(crate) fn forget_generations(value: &[u8]) -> Option<Vec<u8>> {
    let record = StoreRecord::decode(value).ok()?;
    Some(StoreRecord { generations: Vec::new(), ..record }.encode_to_vec())
}

/// `y`, of a device: where it is told that something has come, and how.
#[derive(Clone, PartialEq, Eq, Message)]
#[prost(skip_debug)]
pub struct PushTokenRecord {
    /// `PushService` of the protocol.
    #[prost(int32, tag = "1")]
    pub service: i32,
    /// The token; of Web Push the endpoint, of a webhook the address.
    #[prost(string, tag = "2")]
    pub token: String,
    /// Of APNs: the token by which calls come; empty: there is none.
    #[prost(string, tag = "3")]
    pub calls_token: String,
    /// Of Web Push: the browser's key.
    #[prost(bytes = "bytes", tag = "4")]
    pub p256dh: Bytes,
    /// Of Web Push: the secret.
    #[prost(bytes = "bytes", tag = "5")]
    pub auth: Bytes,
    /// When the device has said so last, in ms since the Unix epoch.
    #[prost(uint64, tag = "6")]
    pub since_ms: u64,
    /// What is said is shown.
    #[prost(bool, tag = "7")]
    pub previews: bool,
    /// When nothing makes a sound.
    #[prost(message, optional, tag = "8")]
    pub quiet: Option<QuietRecord>,
}

/// Shows no address.
impl std::fmt::Debug for PushTokenRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("PushTokenRecord");
        shown.field("service", &self.service).field("since_ms", &self.since_ms).finish_non_exhaustive()
    }
}

/// Within [`PushTokenRecord`]: every day from one minute of it up to another one.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct QuietRecord {
    /// From this minute.
    #[prost(uint32, tag = "1")]
    pub from_min: u32,
    /// Up to this one.
    #[prost(uint32, tag = "2")]
    pub to_min: u32,
    /// Where, as the IANA database names it.
    #[prost(string, tag = "3")]
    pub time_zone: String,
}

/// `y`, of a log: how much its user has not read, as devices that are asleep were told.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct UnreadRecord {
    /// How many messages.
    #[prost(uint32, tag = "1")]
    pub unread: u32,
    /// The devices were told of what came up to this entry.
    #[prost(uint64, tag = "2")]
    pub told: u64,
    /// They show something of the log.
    #[prost(bool, tag = "3")]
    pub shown: bool,
}

/// `z`: of what devices are still to be told.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct OutboxRecord {
    /// Of a message: the newest entry that is one; 0: of how much is unread.
    #[prost(uint64, tag = "1")]
    pub upto: u64,
    /// One of those that have come mentions the user.
    #[prost(bool, tag = "2")]
    pub mentioned: bool,
    /// The newest of them that is a call, and until when it rings, in ms since the Unix epoch; 0: none is.
    #[prost(uint64, tag = "3")]
    pub call: u64,
    /// See there.
    #[prost(uint64, tag = "4")]
    pub rings_until_ms: u64,
}
