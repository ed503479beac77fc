//! Requests, parsed at the boundary: what comes out of [`parse`] is well-formed and within the protocol's limits, so
//! nothing behind it checks again. What depends on the session's state or on an operator's lower limit is not checked
//! here.

use std::cmp::Reverse;

use bytes::Bytes;
use prost::Message;
pub use tern_proto::v1::Doing;
use tern_proto::v1::{self, client_frame, group_change, lookup};
use tern_search::{BadQuery, Query};

use crate::errors::{Farewell, Reason, Refusal};
use crate::group::{self, InvitationHash};
use crate::ids::{
    CardSecret, ChatId, ClientMessageId, DeviceId, GroupId, MediaId, Name, Phone, PhoneHash, Seq, UserId,
    is_plain,
};
use crate::limits::{
    ABOUT_CHARS_MAX, CHATS_MAX, DISCOVERED_MAX, GENERATIONS_MAX, LABEL_BYTES_MAX, NONCE_BYTES, NUMBERS_END,
    PICTURE_BYTES_MAX, PIN_BYTES, POSITIONS_MAX, SECRET_BYTES, SUBSCRIBED_GROUPS_MAX, SUBSCRIBED_USERS_MAX,
    TOKEN_BYTES_MAX,
};
use crate::message::{self, Send};
use crate::push::SetPush;
use crate::report::Report;
use crate::story::{self, StoryId, StoryRequest};

/// The protocol versions that this crate speaks.
pub const VERSIONS: std::ops::RangeInclusive<u32> = 1..=1;

/// One frame from a client.
#[derive(Clone, PartialEq, Debug)]
pub struct Incoming {
    /// What the response repeats; 0 for a request that wants none.
    pub id: u64,
    /// The request, or why it can't be carried out by anybody.
    pub request: Result<Request, Refusal>,
}

/// A well-formed request.
#[derive(Clone, PartialEq, Debug)]
pub enum Request {
    /// Opens the connection.
    Hello(Hello),
    /// Asks for a one-time code.
    Register(Phone),
    /// Proves a phone by its code.
    Verify(Verify),
    /// Exchanges a refresh token.
    Refresh(Refresh),
    /// Authenticates the connection with an access token.
    Login(String),
    /// Finds a person.
    Lookup(Lookup),
    /// Finds those of an address book who are here: each number once.
    Discover(Vec<PhoneHash>),
    /// Appends to a chat.
    Send(Send),
    /// Moves this device's position and the person's watermarks.
    Acknowledge(Acknowledge),
    /// Starts the pushes.
    Resume(Resume),
    /// Reads a log by pages.
    History(History),
    /// Finds messages.
    Search(Box<Search>),
    /// Lists the user's chats by pages.
    Chats(Chats),
    /// Lists the user's devices.
    Devices,
    /// Ends a device of the user.
    EndDevice(DeviceId),
    /// Asks for a code by which another device is added.
    NewLink,
    /// Asks for the user's card: for another one, or the one that there is.
    NewCard(bool),
    /// Adds this device to an account, by such a code.
    Link(Link),
    /// Has a device of the user ring.
    RingDevice(DeviceId),
    /// Makes a group.
    CreateGroup(CreateGroup),
    /// Asks what a group is; with the hash of an invitation's secret.
    AboutGroup(GroupId, Option<InvitationHash>),
    /// Changes the user's name, or the device's.
    Rename(Rename),
    /// Sets the account's PIN.
    SetPin(Pin),
    /// Has the account end, with its PIN.
    DeleteAccount(Pin),
    /// Says what the device shows.
    Subscribe(Subscribe),
    /// Says what the user does in a chat just now.
    Activity(ChatId, Doing),
    /// Tells the operators of a person, or of messages.
    Report(Report),
    /// Asks for a link to a medium.
    GetMedium(GetMedium),
    /// Asks where media are uploaded.
    AboutMedia,
    /// Says where the device is told that something has come.
    SetPush(SetPush),
    /// Asks where it could be, and is.
    AboutPush,
    /// Asks something of stories.
    Story(StoryRequest),
    /// Confirms pushes.
    Credit(Credit),
    /// Asks for a sign of life.
    Ping,
}

/// See `Hello` in the schema.
#[derive(Clone, PartialEq, Debug)]
pub struct Hello {
    /// The version to speak, or `None` if there is no common one.
    pub version: Option<u32>,
    /// Name and version of the client program, as it says: at most so many bytes as a label has, of any kind.
    pub client: String,
    /// The window for pushes.
    pub window: PushWindow,
}

/// How far pushes may run ahead of the client's credit. 0: without end.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct PushWindow {
    /// In frames.
    pub frames: u32,
    /// In bytes.
    pub bytes: u32,
}

/// See `Verify` in the schema.
#[derive(Clone, PartialEq)]
pub struct Verify {
    /// The phone to prove.
    pub phone: Phone,
    /// The one-time code.
    pub code: String,
    /// The display name; may be empty.
    pub name: Name,
    /// The device's name; may be empty.
    pub device_name: String,
    /// Which request for a code it answers.
    pub registration: u64,
    /// The account's, if it is known to have one.
    pub pin: Pin,
}

/// Shows no code and no name.
impl std::fmt::Debug for Verify {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verify").field("phone", &self.phone).finish_non_exhaustive()
    }
}

/// See `Link` in the schema.
#[derive(Clone, PartialEq)]
pub struct Link {
    /// Whose account.
    pub user: UserId,
    /// The code.
    pub secret: [u8; SECRET_BYTES],
    /// The device's name; may be empty.
    pub device_name: String,
}

/// Shows no code.
impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("user", &self.user).finish_non_exhaustive()
    }
}

/// See `Refresh` in the schema.
#[derive(Clone, PartialEq)]
pub struct Refresh {
    /// The refresh token.
    pub token: String,
    /// The same when the request is retried.
    pub nonce: [u8; NONCE_BYTES],
}

/// Shows no token.
impl std::fmt::Debug for Refresh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Refresh").finish_non_exhaustive()
    }
}

/// See `Lookup` in the schema.
#[derive(Clone, PartialEq, Debug)]
pub enum Lookup {
    /// By phone.
    Phone(Phone),
    /// By user, for those with a direct chat.
    User(UserId),
    /// By user, for those who are members of the same group.
    InGroup(UserId, GroupId),
    /// By the user's card.
    Card(UserId, CardSecret),
}

/// See `CreateGroup` in the schema.
#[derive(Clone, PartialEq)]
pub struct CreateGroup {
    /// The device's number of it.
    pub client_id: ClientMessageId,
    /// What it begins as: a `GroupChange`, well-formed.
    pub body: Bytes,
}

/// Shows no content.
impl std::fmt::Debug for CreateGroup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CreateGroup {{ {:?}, {} bytes }}", self.client_id, self.body.len())
    }
}

/// See `Acknowledge` in the schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Acknowledge {
    /// Which chat.
    pub chat: ChatId,
    /// The device has everything up to here.
    pub delivered_upto: Seq,
    /// The person has read up to here.
    pub read_upto: Seq,
}

/// See `Resume` in the schema.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Resume {
    /// Where the device is in some logs.
    pub positions: Vec<Position>,
    /// The starts of the server under which it stored what it has.
    pub generations: Vec<u64>,
}

/// See `Position` in the schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    /// Which chat.
    pub chat: ChatId,
    /// The device has everything up to here.
    pub upto: Seq,
    /// The peer's watermark as the device knows it.
    pub delivered_upto: Seq,
    /// The peer's watermark as the device knows it.
    pub read_upto: Seq,
}

/// See `History` in the schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct History {
    /// Which chat.
    pub chat: ChatId,
    /// Entries before (0: from the end) or after this one.
    pub from: Seq,
    /// Which way.
    pub forwards: bool,
    /// How many; 0 for as many as the server gives.
    pub limit: u32,
}

/// See `GetMedium` in the schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GetMedium {
    /// In which chat.
    pub chat: ChatId,
    /// With which entry it goes; 0: it is the picture of the person, or of the group.
    pub seq: Seq,
    /// Which.
    pub medium: MediaId,
}

/// See `Search` in the schema.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Search {
    /// What is searched for.
    pub query: Query,
    /// In which chat; `None`: in all of the user's.
    pub chat: Option<ChatId>,
    /// What is found comes behind this.
    pub after: Option<FoundUpTo>,
    /// How many; 0 for as many as the server gives.
    pub limit: u32,
}

/// A place among what is found, which is in the order of these: from the newest to the oldest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FoundUpTo {
    /// When what the message says now was sent, in ms since the Unix epoch; the later the sooner.
    pub time_ms: Reverse<u64>,
    /// Where.
    pub chat: ChatId,
    /// The entry that says so.
    pub seq: Reverse<Seq>,
}

impl FoundUpTo {
    /// As it goes over the wire.
    pub fn to_raw(self) -> v1::FoundUpTo {
        v1::FoundUpTo { time_ms: self.time_ms.0, chat: self.chat.get(), seq: self.seq.0.0 }
    }
}

/// See `Credit` in the schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Credit {
    /// Push frames received in all.
    pub frames: u64,
    /// Bytes of them in all.
    pub bytes: u64,
}

/// See `Subscribe` in the schema.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Subscribe {
    /// People, rising.
    pub users: Vec<UserId>,
    /// Groups, rising.
    pub groups: Vec<GroupId>,
    /// Nobody looks at the device.
    pub away: bool,
}

/// See `Chats` in the schema.
#[derive(Clone, PartialEq, Debug)]
pub struct Chats {
    /// Behind this chat.
    pub after: Option<ChatId>,
    /// At most so many; 0: as many as there may be.
    pub limit: u32,
    /// The versions of chats that the client knows, by their numbers, rising.
    pub known: Vec<(u64, u64)>,
}

/// See `Rename` in the schema.
#[derive(Clone, PartialEq)]
pub struct Rename {
    /// The display name; `None` leaves it.
    pub name: Option<Name>,
    /// The device's name; `None` leaves it.
    pub device_name: Option<String>,
    /// What the user says of themselves; `None` leaves it.
    pub about: Option<String>,
    /// What names the user's picture; `None` leaves it.
    pub picture: Option<Bytes>,
}

/// Shows no name.
impl std::fmt::Debug for Rename {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, device_name, about, picture } = self;
        let is_there = (name.is_some(), device_name.is_some(), about.is_some(), picture.is_some());
        write!(f, "Rename {{ name, device_name, about, picture: {is_there:?} }}")
    }
}

/// An account's PIN; empty: none.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Pin(String);

impl Pin {
    /// As it was typed; `None`: there is none.
    pub fn get(&self) -> Option<&str> {
        (!self.0.is_empty()).then_some(&*self.0)
    }
}

/// Shows nothing of it.
impl std::fmt::Debug for Pin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pin")
    }
}

/// Parses one frame's bytes. An error ends the connection.
pub fn parse(frame: &[u8]) -> Result<Incoming, Farewell> {
    let frame = v1::ClientFrame::decode(frame)
        .map_err(|_| Farewell::new(Reason::Malformed, "a frame is not a ClientFrame message"))?;
    let Some(request) = frame.request else {
        let refusal = Refusal::new(Reason::Unimplemented, "this server does not know that kind of request");
        return Ok(Incoming { id: frame.id, request: Err(refusal) });
    };
    let silent = matches!(
        request,
        client_frame::Request::Acknowledge(_)
            | client_frame::Request::Activity(_)
            | client_frame::Request::Credit(_)
    );
    if frame.id == 0 && !silent {
        return Err(Farewell::new(Reason::Malformed, "a request that is answered has no id"));
    }
    Ok(Incoming { id: frame.id, request: validate(request) })
}

fn validate(request: client_frame::Request) -> Result<Request, Refusal> {
    use client_frame::Request as Raw;
    Ok(match request {
        Raw::Send(raw) => Request::Send(message::send(raw)?),
        Raw::Acknowledge(raw) => Request::Acknowledge(acknowledge(&raw)?),
        Raw::Credit(raw) => Request::Credit(Credit { frames: raw.frames, bytes: raw.bytes }),
        Raw::Ping(_) => Request::Ping,
        Raw::Resume(raw) => Request::Resume(resume(raw)?),
        Raw::History(raw) => Request::History(history(&raw)?),
        Raw::Search(raw) => Request::Search(Box::new(search(&raw)?)),
        Raw::Chats(raw) => Request::Chats(chats(&raw)?),
        Raw::Devices(_) => Request::Devices,
        Raw::NewLink(_) => Request::NewLink,
        Raw::NewCard(raw) => Request::NewCard(raw.renew),
        Raw::Link(raw) => Request::Link(link(raw)?),
        Raw::EndDevice(raw) => Request::EndDevice(device(raw.device_id)?),
        Raw::RingDevice(raw) => Request::RingDevice(device(raw.device_id)?),
        Raw::CreateGroup(raw) => Request::CreateGroup(create_group(raw)?),
        Raw::AboutGroup(raw) => Request::AboutGroup(group_of(raw.chat)?, invitation(&raw.secret)?),
        Raw::Rename(raw) => Request::Rename(rename(raw)?),
        Raw::SetPin(raw) => Request::SetPin(pin(raw.pin)?),
        Raw::DeleteAccount(raw) => Request::DeleteAccount(pin(raw.pin)?),
        Raw::Subscribe(raw) => Request::Subscribe(subscribe(&raw)?),
        Raw::Activity(raw) => activity(&raw)?,
        Raw::Report(raw) => Request::Report(Report::parse(raw)?),
        Raw::Lookup(raw) => Request::Lookup(lookup(raw)?),
        Raw::AboutMedia(_) => Request::AboutMedia,
        Raw::SetPush(raw) => Request::SetPush(SetPush::parse(raw)?),
        Raw::AboutPush(_) => Request::AboutPush,
        Raw::GetMedium(raw) => Request::GetMedium(get_medium(&raw)?),
        Raw::PostStory(raw) => Request::Story(StoryRequest::Post(Box::new(story::post(raw)?))),
        Raw::DeleteStory(raw) => Request::Story(StoryRequest::Delete(story::number(raw.number)?)),
        Raw::ListStories(raw) => {
            let after = raw.after.map(StoryId::parse).transpose()?;
            Request::Story(StoryRequest::List(after, raw.limit))
        }
        Raw::SeeStory(raw) => {
            let story = raw.story.ok_or(invalid("no story is named"))?;
            Request::Story(StoryRequest::See(StoryId::parse(story)?))
        }
        Raw::ListViewers(raw) => {
            let after = UserId::new(raw.after);
            Request::Story(StoryRequest::Viewers(story::number(raw.number)?, after, raw.limit))
        }
        Raw::Discover(raw) => Request::Discover(discover(&raw)?),
        Raw::Hello(raw) => Request::Hello(hello(&raw)?),
        Raw::Login(raw) => Request::Login(token(raw.access_token)?),
        Raw::Refresh(raw) => Request::Refresh(refresh(raw)?),
        Raw::Register(raw) => Request::Register(phone(&raw.phone)?),
        Raw::Verify(raw) => Request::Verify(verify(raw)?),
    })
}

const fn invalid(detail: &'static str) -> Refusal {
    Refusal::new(Reason::InvalidArgument, detail)
}

fn get_medium(raw: &v1::GetMedium) -> Result<GetMedium, Refusal> {
    let chat = ChatId::new(raw.chat).ok_or(invalid("no chat is named"))?;
    if raw.seq >= NUMBERS_END {
        return Err(invalid("no entry is named"));
    }
    let medium = MediaId::from_slice(&raw.medium).ok_or(invalid("a medium's id has 16 bytes"))?;
    Ok(GetMedium { chat, seq: Seq(raw.seq), medium })
}

const NOT_PLAIN: Refusal = invalid("a name is too long, or has characters that control or turn what follows");

fn check_device_name(name: &str) -> Result<(), Refusal> {
    if name.len() > LABEL_BYTES_MAX || !is_plain(name) { Err(NOT_PLAIN) } else { Ok(()) }
}

fn hello(raw: &v1::Hello) -> Result<Hello, Refusal> {
    if raw.client.len() > LABEL_BYTES_MAX {
        return Err(invalid("the client's name is too long"));
    }
    let common = raw.version_min.max(*VERSIONS.start())..=raw.version_max.min(*VERSIONS.end());
    let version = (!common.is_empty()).then_some(*common.end());
    let window = PushWindow { frames: raw.push_frames_max, bytes: raw.push_bytes_max };
    Ok(Hello { version, client: raw.client.clone(), window })
}

fn verify(raw: v1::Verify) -> Result<Verify, Refusal> {
    let name = Name::parse(&raw.name).ok_or(NOT_PLAIN)?;
    check_device_name(&raw.device_name)?;
    if raw.code.len() != 6 || !raw.code.bytes().all(|b| b.is_ascii_digit()) {
        return Err(invalid("a one-time code is six digits"));
    }
    let v1::Verify { phone: text, code, name: _, device_name, registration, pin: typed } = raw;
    Ok(Verify { phone: phone(&text)?, code, name, device_name, registration, pin: pin(typed)? })
}

fn link(raw: v1::Link) -> Result<Link, Refusal> {
    check_device_name(&raw.device_name)?;
    let secret = raw.secret[..].try_into().map_err(|_| invalid("the secret of a link has 16 bytes"))?;
    Ok(Link { user: user(raw.user_id)?, secret, device_name: raw.device_name })
}

fn refresh(raw: v1::Refresh) -> Result<Refresh, Refusal> {
    let nonce = raw.nonce.as_ref().try_into().map_err(|_| invalid("the nonce is not 16 bytes"))?;
    Ok(Refresh { token: token(raw.refresh_token)?, nonce })
}

fn lookup(raw: v1::Lookup) -> Result<Lookup, Refusal> {
    match raw.by {
        Some(lookup::By::Phone(text)) => Ok(Lookup::Phone(phone(&text)?)),
        Some(lookup::By::UserId(id)) if raw.group != 0 => {
            Ok(Lookup::InGroup(user(id)?, group_of(raw.group)?))
        }
        Some(lookup::By::UserId(id)) => Ok(Lookup::User(user(id)?)),
        Some(lookup::By::Card(card)) => {
            let secret =
                card.secret[..].try_into().map_err(|_| invalid("the secret of a card has 16 bytes"))?;
            Ok(Lookup::Card(user(card.user_id)?, CardSecret(secret)))
        }
        None => Err(invalid("a lookup names neither phone nor user")),
    }
}

fn discover(raw: &v1::Discover) -> Result<Vec<PhoneHash>, Refusal> {
    if !(1..=DISCOVERED_MAX).contains(&raw.hashes.len()) {
        return Err(invalid("1 to 64 numbers are asked for at once"));
    }
    let hashes: Option<Vec<_>> = raw.hashes.iter().map(|hash| PhoneHash::from_bytes(hash)).collect();
    let hashes = hashes.ok_or(invalid("the hash of a number has 32 bytes"))?;
    let mut sorted = hashes.clone();
    sorted.sort_unstable();
    if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(invalid("a number is asked for twice"));
    }
    Ok(hashes)
}

fn subscribe(raw: &v1::Subscribe) -> Result<Subscribe, Refusal> {
    if raw.user_ids.len() > SUBSCRIBED_USERS_MAX || raw.groups.len() > SUBSCRIBED_GROUPS_MAX {
        return Err(invalid("a device shows at most 256 people and 16 groups"));
    }
    let users: Result<Vec<_>, _> = raw.user_ids.iter().map(|id| user(*id)).collect();
    let groups: Result<Vec<_>, _> = raw.groups.iter().map(|id| group_of(*id)).collect();
    let (mut users, mut groups) = (users?, groups?);
    users.sort_unstable();
    groups.sort_unstable();
    if users.windows(2).any(|pair| pair[0] == pair[1]) || groups.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(invalid("a person or a group is named twice"));
    }
    Ok(Subscribe { users, groups, away: raw.away })
}

fn activity(raw: &v1::Activity) -> Result<Request, Refusal> {
    let doing =
        Doing::try_from(raw.doing).map_err(|_| invalid("what is done has a value that is not known"))?;
    match chat(raw.chat)? {
        ChatId::Private => Err(invalid("what is done in the private log nobody is told")),
        chat => Ok(Request::Activity(chat, doing)),
    }
}

fn create_group(raw: v1::CreateGroup) -> Result<CreateGroup, Refusal> {
    let raw_group = raw.group.ok_or(invalid("what the group is to be is not said"))?;
    let body =
        v1::GroupChange { change: Some(group_change::Change::Made(raw_group.clone())) }.encode_to_vec();
    group::made(raw_group)?;
    Ok(CreateGroup { client_id: message::client_id(raw.client_id)?, body: body.into() })
}

fn invitation(secret: &[u8]) -> Result<Option<InvitationHash>, Refusal> {
    match secret {
        [] => Ok(None),
        secret => {
            let hash = group::invitation_hash(secret);
            hash.map(Some).ok_or(invalid("the secret of an invitation has 16 bytes"))
        }
    }
}

fn group_of(number: u64) -> Result<GroupId, Refusal> {
    GroupId::new(number).ok_or(invalid("no group is named"))
}

fn acknowledge(raw: &v1::Acknowledge) -> Result<Acknowledge, Refusal> {
    Ok(Acknowledge {
        chat: chat(raw.chat)?,
        delivered_upto: Seq(raw.delivered_upto),
        read_upto: Seq(raw.read_upto),
    })
}

fn resume(raw: v1::Resume) -> Result<Resume, Refusal> {
    if raw.positions.len() > POSITIONS_MAX {
        return Err(invalid("there are too many positions in one Resume"));
    }
    if raw.generations.len() > GENERATIONS_MAX {
        return Err(invalid("there are too many generations in one Resume: name none"));
    }
    let position = |raw: &v1::Position| {
        Ok(Position {
            chat: chat(raw.chat)?,
            upto: Seq(raw.upto),
            delivered_upto: Seq(raw.delivered_upto),
            read_upto: Seq(raw.read_upto),
        })
    };
    let positions = raw.positions.iter().map(position).collect::<Result<_, _>>()?;
    Ok(Resume { positions, generations: raw.generations })
}

fn history(raw: &v1::History) -> Result<History, Refusal> {
    Ok(History { chat: chat(raw.chat)?, from: Seq(raw.from), forwards: raw.forwards, limit: raw.limit })
}

fn search(raw: &v1::Search) -> Result<Search, Refusal> {
    let query = Query::parse(&raw.query).map_err(|bad| match bad {
        BadQuery::TooShort => invalid("each word of a query needs two letters or digits or more"),
        BadQuery::TooLong => invalid("a query has at most 256 bytes and 16 words"),
    })?;
    let in_chat = if raw.chat == 0 { None } else { Some(chat(raw.chat)?) };
    if in_chat == Some(ChatId::Private) {
        return Err(invalid("of one's private log one's own devices know all"));
    }
    let upto = |after: &v1::FoundUpTo| {
        let (time_ms, seq) = (Reverse(after.time_ms), Reverse(Seq(after.seq)));
        Ok(FoundUpTo { time_ms, chat: chat(after.chat)?, seq })
    };
    let after = raw.after.as_ref().map(upto).transpose()?;
    Ok(Search { query, chat: in_chat, after, limit: raw.limit })
}

fn chats(raw: &v1::Chats) -> Result<Chats, Refusal> {
    if raw.known.len() > CHATS_MAX {
        return Err(invalid("there are more known chats than a page has"));
    }
    if !raw.known.is_sorted_by(|one, next| one.id < next.id) {
        return Err(invalid("known chats are not in the order of their numbers"));
    }
    let known = raw.known.iter().map(|known| (known.id, known.version)).collect();
    Ok(Chats { after: ChatId::new(raw.after), limit: raw.limit, known })
}

fn pin(pin: String) -> Result<Pin, Refusal> {
    if !pin.is_empty() && !PIN_BYTES.contains(&pin.len()) {
        return Err(invalid("a PIN has 4 to 64 bytes"));
    }
    Ok(Pin(pin))
}

fn rename(raw: v1::Rename) -> Result<Rename, Refusal> {
    let v1::Rename { name, device_name, about, picture } = raw;
    let is_about = |about: &str| about.chars().count() <= ABOUT_CHARS_MAX && is_plain(about);
    if !about.as_deref().is_none_or(is_about) {
        return Err(invalid(
            "what one says of oneself has at most 140 characters, none of which control or turn others",
        ));
    }
    if picture.as_ref().is_some_and(|picture| picture.len() > PICTURE_BYTES_MAX) {
        return Err(invalid("what names a picture has at most 1024 bytes"));
    }
    device_name.as_deref().map_or(Ok(()), check_device_name)?;
    let name = name.map(|name| Name::parse(&name).ok_or(NOT_PLAIN)).transpose()?;
    Ok(Rename { name, device_name, about, picture })
}

fn device(id: u32) -> Result<DeviceId, Refusal> {
    DeviceId::new(id).ok_or(invalid("no device is named"))
}

fn phone(text: &str) -> Result<Phone, Refusal> {
    let refusal =
        Refusal::new(Reason::InvalidPhone, "a phone number is a plus sign and 8 to 15 digits (E.164)");
    Phone::parse(text).ok_or(refusal)
}

fn chat(number: u64) -> Result<ChatId, Refusal> {
    ChatId::new(number).ok_or(invalid("no chat is named"))
}

fn user(id: u64) -> Result<UserId, Refusal> {
    UserId::new(id).ok_or(invalid("no user is named"))
}

fn token(text: String) -> Result<String, Refusal> {
    if text.len() > TOKEN_BYTES_MAX {
        return Err(Refusal::new(Reason::TokenInvalid, "that is no token of this server"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(id: u64, request: client_frame::Request) -> Vec<u8> {
        v1::ClientFrame { id, request: Some(request) }.encode_to_vec()
    }

    fn check(request: client_frame::Request, expect: Result<(), Reason>) {
        let incoming = parse(&frame(7, request.clone())).expect("well-formed protobuf");
        assert_eq!(incoming.request.map(|_| ()).map_err(|refusal| refusal.reason), expect, "{request:?}");
    }

    #[test]
    fn what_is_out_of_range_is_refused_by_reason() {
        use client_frame::Request as Raw;
        let send = |chat, body: &'static [u8], kind| {
            Raw::Send(v1::Send {
                chat,
                client_id: 1,
                body: Bytes::from_static(body),
                kind,
                ..Default::default()
            })
        };
        check(send(4096, b"hi", 0), Ok(()));
        check(send(0, b"hi", 0), Err(Reason::InvalidArgument));
        check(send(4096, b"", 0), Err(Reason::InvalidArgument));
        check(send(4096, b"hi", 99), Err(Reason::InvalidArgument));
        let numbered = |client_id| {
            Raw::Send(v1::Send {
                chat: 4096,
                client_id,
                body: Bytes::from_static(b"hi"),
                kind: 0,
                ..Default::default()
            })
        };
        check(numbered(NUMBERS_END - 1), Ok(()));
        check(numbered(NUMBERS_END), Err(Reason::InvalidArgument));
        check(Raw::Register(v1::Register { phone: "+15550001".into() }), Ok(()));
        check(Raw::Register(v1::Register { phone: "15550001".into() }), Err(Reason::InvalidPhone));
        let verify = |code: &str, name: &str| {
            Raw::Verify(v1::Verify {
                phone: "+15550001".into(),
                code: code.into(),
                name: name.into(),
                device_name: String::new(),
                registration: 1,
                pin: String::new(),
            })
        };
        check(verify("123456", "Ann"), Ok(()));
        check(verify("12345", "Ann"), Err(Reason::InvalidArgument));
        check(verify("１２３４５６", "Ann"), Err(Reason::InvalidArgument));
        check(verify("123456", &"x".repeat(101)), Err(Reason::InvalidArgument));
        check(verify("123456", "\u{1b}[2J"), Err(Reason::InvalidArgument));
        check(verify("123456", "Ann\u{202e}"), Err(Reason::InvalidArgument));
        check(Raw::Login(v1::Login { access_token: "x".repeat(1025) }), Err(Reason::TokenInvalid));
        check(Raw::Lookup(v1::Lookup { by: None, group: 0 }), Err(Reason::InvalidArgument));
        let discover = |hashes: Vec<Vec<u8>>| {
            Raw::Discover(v1::Discover { hashes: hashes.into_iter().map(Bytes::from).collect() })
        };
        let hashes = |count: u8| (0..count).map(|first| vec![first; 32]).collect::<Vec<_>>();
        check(discover(hashes(1)), Ok(()));
        check(discover(hashes(64)), Ok(()));
        for bad in [hashes(0), hashes(65), vec![vec![1; 31]], vec![vec![1; 32], vec![1; 32]]] {
            check(discover(bad), Err(Reason::InvalidArgument));
        }
        let renamed = |about: &str, picture: usize| {
            let (about, picture) = (Some(about.to_owned()), Some(vec![0; picture].into()));
            Raw::Rename(v1::Rename { about, picture, ..v1::Rename::default() })
        };
        check(renamed("", 0), Ok(()));
        check(renamed(&"漢".repeat(140), 1024), Ok(()));
        for (about, picture) in [("x".repeat(141), 0), ("\u{1b}[2J".to_owned(), 0), (String::new(), 1025)] {
            check(renamed(&about, picture), Err(Reason::InvalidArgument));
        }
        let refresh = |nonce: usize| {
            Raw::Refresh(v1::Refresh { refresh_token: "t".into(), nonce: vec![0; nonce].into() })
        };
        check(refresh(16), Ok(()));
        check(refresh(15), Err(Reason::InvalidArgument));
        let positions = vec![v1::Position { chat: 1, ..Default::default() }; POSITIONS_MAX + 1];
        check(Raw::Resume(v1::Resume { positions, generations: Vec::new() }), Err(Reason::InvalidArgument));
        let naming = |count| Raw::Resume(v1::Resume { positions: Vec::new(), generations: vec![7; count] });
        check(naming(GENERATIONS_MAX), Ok(()));
        check(naming(GENERATIONS_MAX + 1), Err(Reason::InvalidArgument));
    }

    #[test]
    fn an_unknown_kind_of_request_keeps_its_id() {
        // Field 2047, a message of no bytes, behind id 9.
        let bytes = [0x08, 9, 0xfa, 0x7f, 0];
        let incoming = parse(&bytes).expect("well-formed protobuf");
        assert_eq!(incoming.id, 9);
        assert_eq!(incoming.request.expect_err("unknown").reason, Reason::Unimplemented);
    }

    #[test]
    fn only_silent_requests_may_lack_an_id() {
        use client_frame::Request as Raw;
        assert!(parse(&frame(0, Raw::Credit(v1::Credit::default()))).is_ok());
        assert!(parse(&frame(0, Raw::Acknowledge(v1::Acknowledge::default()))).is_ok());
        let refused = parse(&frame(0, Raw::Ping(v1::Ping {}))).expect_err("a ping is answered");
        assert_eq!(refused.reason, Reason::Malformed);
    }

    #[test]
    fn the_common_version_is_the_highest() {
        let version = |min, max| {
            hello(&v1::Hello { version_min: min, version_max: max, ..Default::default() })
                .expect("valid")
                .version
        };
        assert_eq!(version(1, 1), Some(1));
        assert_eq!(version(0, 9), Some(1));
        assert_eq!(version(2, 9), None);
        assert_eq!(version(3, 1), None);
    }

    /// 20 with ids of 28 bits; those that can't be walked through cost two more (docs/decisions/0016).
    #[test]
    fn a_text_of_100_bytes_costs_at_most_22_bytes_of_framing() {
        let (chat, body) = ((1u64 << 42) - 1, Bytes::from(vec![b'x'; 100]));
        let mut sent = Vec::new();
        let send = v1::Send { chat, client_id: 100_000, body: body.clone(), kind: 0, ..Default::default() };
        let request = v1::ClientFrame { id: 10_000, request: Some(client_frame::Request::Send(send)) };
        crate::frame::encode(&request, &mut sent);
        assert!(sent.len() <= 122, "a Send of 100 bytes takes {}", sent.len());

        let mut pushed = Vec::new();
        let time_ms = 1_800_000_000_000;
        let entry = v1::Entry { chat, seq: 10_000, time_ms, body, ..Default::default() };
        let push = v1::ServerFrame { id: 0, message: Some(v1::server_frame::Message::Entry(entry)) };
        crate::frame::encode(&push, &mut pushed);
        assert!(pushed.len() <= 122, "an Entry of 100 bytes takes {}", pushed.len());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_request_or_a_refusal(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }
    }
}
