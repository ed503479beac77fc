//! The users of a core that are in memory. One that something happens to is there as it is worked with; a silent one is packed
//! into one piece of bytes, a third as long, until something happens to it again: of the connected users most are silent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use prost::Message;
use prost::encoding::{decode_varint, encode_varint, encoded_len_varint};
use tern_storage::records::{DeviceRecord, UserRecord};
use tern_storage::{LogId, Slot};
use tern_wire::ids::{DeviceId, Seq, UserId};

use super::Cx;
use super::links::Linking;
use super::presence::Being;
use super::users::Ask;
use crate::by_slot::BySlot;
use crate::circle::Circle;
use crate::held::{Held, Load};
use crate::limits::{INBOX_LOGS_MAX, INBOX_PACKED_LOGS_MAX};
use crate::maps::{Few, Hashing};
use crate::message::{FrontOp, Missed};
use crate::mutations::{Mutation, is};
use crate::reply::{ConnId, Place};
use crate::slots::{CoreId, ProcessId};

#[derive(Debug)]
pub(super) struct User {
    /// `None`: there is no such user, or no more.
    pub(super) record: Option<UserRecord>,
    pub(super) devices: Few<DeviceId, Device>,
    /// Logs of this user that their owners have in memory: they must know of every change of the devices.
    pub(super) watched: BTreeSet<LogId>,
    /// By which another device is added, if that was asked for.
    pub(super) linking: Option<Linking>,
    /// What it has said of others.
    pub(super) circle: Circle,
    /// Whether it is here.
    pub(super) being: Being,
    /// Where it stands, and what waits for it to be known.
    pub(super) held: Held<Ask>,
    /// Changes of its devices that are not durable: nobody hears of its devices before they are.
    pub(super) changing: u32,
    /// Something has happened to it since it was looked at.
    pub(super) touched: bool,
}

impl User {
    /// One of whom nothing is known but where it stands.
    pub(super) fn new(held: Held<Ask>) -> Self {
        Self {
            record: None,
            devices: Few::default(),
            watched: BTreeSet::new(),
            linking: None,
            circle: Circle::default(),
            being: Being::default(),
            held,
            changing: 0,
            touched: false,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Device {
    pub(super) record: DeviceRecord,
    /// The connection that stands for it.
    pub(super) place: Option<Place>,
    /// The number of that connection in its process.
    pub(super) opened: u64,
    /// Since when it stands for it, in ms since the Unix epoch; 0: for so long that the user has been packed since.
    pub(super) attached_ms: u64,
    /// Nobody looks at it: its user is not here by it.
    pub(super) away: bool,
    /// That connection is on its way to the user's core, and is not told what happens: this it has not been told.
    pub(super) missed: Option<Box<Missed>>,
    pub(super) inbox: Inbox,
}

impl Device {
    /// Whether a token of this session is one of the device, and the session has not been ended.
    pub(super) fn stands_for(&self, session: u64) -> bool {
        self.record.session == session && self.lives()
    }

    /// Tells its connection something, or notes it for when that has followed its user.
    pub(super) fn tell(&mut self, cx: &mut Cx, op: FrontOp) {
        let Some(place) = self.place else { return };
        match &mut self.missed {
            None => cx.tell_front(place, op),
            Some(missed) => {
                if !missed.note(op) {
                    // Whoever comes and is not known begins anew.
                    self.detach();
                }
            }
        }
    }

    /// No connection stands for it.
    pub(super) fn detach(&mut self) {
        (self.place, self.missed, self.away) = (None, None, false);
        if matches!(self.inbox, Inbox::Learning(_)) {
            self.inbox = Inbox::Unknown;
        }
    }

    /// Whether its session has not been ended.
    pub(super) fn lives(&self) -> bool {
        self.record.revoked_ms == 0
    }
}

/// The logs with entries that a device has not acknowledged, with the newest.
#[derive(Debug, Default)]
pub(super) enum Inbox {
    /// The store knows.
    #[default]
    Unknown,
    /// It is being read for the connected device; these are known already.
    Learning(BTreeMap<LogId, Seq>),
    /// These are all.
    Known(BTreeMap<LogId, Seq>),
}

impl Inbox {
    pub(super) fn logs(&mut self) -> Option<&mut BTreeMap<LogId, Seq>> {
        match self {
            Self::Unknown => None,
            Self::Learning(logs) | Self::Known(logs) => Some(logs),
        }
    }

    /// The device lacks something of a log that is no entry of it.
    pub(super) fn holds(&mut self, log: LogId, upto: Seq) {
        if self.logs().is_some_and(|logs| !logs.contains_key(&log)) {
            self.insert(log, upto);
        }
    }

    pub(super) fn insert(&mut self, log: LogId, newest: Seq) {
        let Some(logs) = self.logs() else { return };
        logs.insert(log, newest);
        if logs.len() > INBOX_LOGS_MAX {
            *self = Self::Unknown;
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Kept {
    users: BySlot<UserId, Form>,
    /// The users that are not packed, in the order in which they are looked at.
    awake: VecDeque<UserId>,
    /// Users that nobody needs, by the numbers under which they were packed, whatever has become of them since.
    spare: VecDeque<(UserId, u32)>,
    /// The last such number.
    spares: u32,
    /// Where most connections are, of which a packed user need not say so.
    here: (ProcessId, CoreId),
}

/// 16 bytes for each user.
#[derive(Debug)]
enum Form {
    /// Boxed, so that room for more costs little.
    Awake(Box<User>),
    Packed(Packed),
}

const _: () = assert!(size_of::<Form>() == 16);

/// The number of a spare one, or [`NEEDED`], as a varint; then a [`PackedUser`].
type Packed = Box<[u8]>;

/// The number of a user that somebody is attached to, or watches.
const NEEDED: u32 = 0;

impl Kept {
    /// Nobody.
    pub(super) fn new(here: (ProcessId, CoreId), hashing: Hashing) -> Self {
        Self { users: BySlot::new(hashing), awake: VecDeque::new(), spare: VecDeque::new(), spares: 0, here }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether a user is there, as somebody or as nobody.
    pub(super) fn contains(&self, id: UserId) -> bool {
        self.users.contains_key(&id)
    }

    /// A user, to be worked with.
    pub(super) fn get(&mut self, id: UserId) -> Option<&mut User> {
        let form = self.users.get_mut(&id)?;
        if let Form::Packed(packed) = form {
            *form = Form::Awake(Box::new(unpack(packed, self.here)));
            self.awake.push_back(id);
        }
        let Form::Awake(user) = form else { unreachable!("it was unpacked") };
        user.touched = true;
        Some(user)
    }

    /// Adds a user that is not there.
    pub(super) fn insert(&mut self, id: UserId, user: User) {
        self.users.insert(id, Form::Awake(Box::new(User { touched: true, ..user })));
        self.awake.push_back(id);
    }

    /// Lets a user go.
    pub(super) fn remove(&mut self, id: UserId) -> Option<User> {
        match self.users.remove(&id)? {
            Form::Awake(user) => Some(*user),
            Form::Packed(packed) => Some(unpack(&packed, self.here)),
        }
    }

    /// Whether nothing of a slot's users is under way.
    pub(super) fn is_still(&self, slot: Slot) -> bool {
        self.users.all_of(slot, |form| match form {
            Form::Awake(user) => user.held.is_still(),
            Form::Packed(_) => true,
        })
    }

    /// Takes out all users of a slot: gives those that somebody needs.
    pub(super) fn take(&mut self, slot: Slot) -> Vec<(UserId, User)> {
        let here = self.here;
        let user = |form| match form {
            Form::Awake(user) => *user,
            Form::Packed(packed) => unpack(&packed, here),
        };
        let users = self.users.take(slot).into_iter().map(|(id, form)| (id, user(form)));
        users.filter(|(_, user)| user.is_needed() && !is(Mutation::ForgetConnected)).collect()
    }

    /// Packs users to whom nothing has happened since they were looked at last: in ten calls each is looked at once. Of those that
    /// nobody needs, the ones packed last stay, up to `spare_max`.
    pub(super) fn pack_some(&mut self, spare_max: usize) {
        for _ in 0..self.awake.len().div_ceil(10) {
            let Some(id) = self.awake.pop_front() else { break };
            let Some(form) = self.users.get_mut(&id) else { continue };
            let Form::Awake(user) = form else { continue };
            if std::mem::take(&mut user.touched) || !user.is_still() {
                self.awake.push_back(id);
            } else if user.is_needed() {
                *form = Form::Packed(pack(user, NEEDED, self.here));
            } else if user.record.is_none() {
                // Nobody: the store says so as quickly.
                self.users.remove(&id);
            } else {
                self.spares = self.spares.checked_add(1).unwrap_or(NEEDED + 1);
                *form = Form::Packed(pack(user, self.spares, self.here));
                self.spare.push_back((id, self.spares));
            }
        }
        while self.spare.len() > spare_max {
            let Some((id, number)) = self.spare.pop_front() else { break };
            if let Some(Form::Packed(packed)) = self.users.get(&id)
                && number_of(packed) == number
            {
                self.users.remove(&id);
            }
        }
    }
}

impl User {
    /// Whether nothing of it is under way.
    fn is_still(&self) -> bool {
        let is_busy = |device: &Device| matches!(device.inbox, Inbox::Learning(_)) || device.missed.is_some();
        self.held.is_still() && !self.devices.values().any(is_busy)
    }

    /// Whether a device is connected that somebody looks at.
    pub(super) fn is_here(&self) -> bool {
        let is_seen = |device: &Device| device.place.is_some() && !device.away && device.lives();
        self.record.is_some() && self.devices.values().any(is_seen)
    }

    /// Whether somebody is attached to it, watches it, or looks at it.
    pub(super) fn is_needed(&self) -> bool {
        !self.watched.is_empty()
            || self.being.is_looked_at
            || self.devices.values().any(|device| device.place.is_some())
    }
}

/// A user, packed.
#[derive(Clone, PartialEq, Message)]
struct PackedUser {
    #[prost(message, optional, tag = "1")]
    record: Option<UserRecord>,
    #[prost(message, repeated, tag = "2")]
    devices: Vec<PackedDevice>,
    #[prost(message, repeated, tag = "3")]
    watched: Vec<PackedLog>,
    #[prost(message, optional, tag = "4")]
    linking: Option<Linking>,
    #[prost(message, optional, tag = "5")]
    circle: Option<Circle>,
    #[prost(bool, tag = "6")]
    online: bool,
    #[prost(uint64, tag = "7")]
    left_ms: u64,
    #[prost(bool, tag = "8")]
    is_looked_at: bool,
}

#[derive(Clone, PartialEq, Message)]
struct PackedDevice {
    #[prost(uint32, tag = "1")]
    number: u32,
    #[prost(message, required, tag = "2")]
    record: DeviceRecord,
    #[prost(uint32, optional, tag = "3")]
    conn_index: Option<u32>,
    #[prost(uint32, tag = "6")]
    conn_generation: u32,
    /// Where the connection is, if not here.
    #[prost(uint32, optional, tag = "7")]
    elsewhere_core: Option<u32>,
    #[prost(uint32, tag = "8")]
    elsewhere_process: u32,
    #[prost(uint64, tag = "9")]
    opened: u64,
    #[prost(bool, tag = "10")]
    away: bool,
    #[prost(bool, tag = "4")]
    inbox_known: bool,
    #[prost(message, repeated, tag = "5")]
    inbox: Vec<PackedLog>,
}

/// A log, and of an inbox its newest entry.
#[derive(Clone, PartialEq, Message)]
struct PackedLog {
    #[prost(bytes = "vec", tag = "1")]
    log: Vec<u8>,
    #[prost(uint64, tag = "2")]
    newest: u64,
}

impl PackedLog {
    fn new(log: LogId, newest: u64) -> Self {
        Self { log: log.to_bytes().to_vec(), newest }
    }

    fn log(&self) -> LogId {
        LogId::from_bytes(&self.log).expect("it was packed here")
    }
}

/// Packs a user that is still. Of a long inbox the store knows as much.
fn pack(user: &mut User, number: u32, here: (ProcessId, CoreId)) -> Packed {
    for (_, device) in user.devices.iter_mut() {
        if device.inbox.logs().is_some_and(|logs| logs.len() > INBOX_PACKED_LOGS_MAX) {
            device.inbox = Inbox::Unknown;
        }
    }
    let elsewhere = |device: &Device| device.place.filter(|place| (place.process, place.core) != here);
    let device = |(number, device): (&DeviceId, &mut Device)| PackedDevice {
        number: number.get(),
        record: std::mem::take(&mut device.record),
        conn_index: device.place.map(|place| place.conn.index),
        conn_generation: device.place.map_or(0, |place| place.conn.generation),
        elsewhere_core: elsewhere(device).map(|place| u32::from(place.core.0)),
        elsewhere_process: elsewhere(device).map_or(0, |place| place.process.0),
        opened: if device.place.is_some() { device.opened } else { 0 },
        away: device.away,
        inbox_known: matches!(device.inbox, Inbox::Known(_)),
        inbox: device.inbox.logs().map_or_else(Vec::new, |logs| {
            logs.iter().map(|(log, newest)| PackedLog::new(*log, newest.0)).collect()
        }),
    };
    let packed = PackedUser {
        record: user.record.take(),
        devices: user.devices.iter_mut().map(device).collect(),
        watched: user.watched.iter().map(|log| PackedLog::new(*log, 0)).collect(),
        linking: user.linking.take(),
        circle: Some(std::mem::take(&mut user.circle)).filter(|circle| *circle != Circle::default()),
        online: user.being.online,
        left_ms: user.being.left_ms,
        is_looked_at: user.being.is_looked_at,
    };
    let number = u64::from(number);
    let mut bytes = Vec::with_capacity(encoded_len_varint(number) + packed.encoded_len());
    encode_varint(number, &mut bytes);
    packed.encode(&mut bytes).expect("a Vec takes any length");
    bytes.into()
}

fn number_of(packed: &Packed) -> u32 {
    decode_varint(&mut &packed[..]).expect("it was packed here") as u32
}

fn unpack(packed: &Packed, here: (ProcessId, CoreId)) -> User {
    let mut bytes = &packed[..];
    let packed =
        decode_varint(&mut bytes).and_then(|_| PackedUser::decode(bytes)).expect("it was packed here");
    let mut devices = Few::default();
    for packed in packed.devices {
        let PackedDevice { number, record, conn_index, conn_generation, away, inbox_known, inbox, .. } =
            packed;
        let (process, core) = match packed.elsewhere_core {
            Some(core) => (ProcessId(packed.elsewhere_process), CoreId(core as u16)),
            None => here,
        };
        let logs = || inbox.iter().map(|packed| (packed.log(), Seq(packed.newest))).collect();
        let inbox = if inbox_known { Inbox::Known(logs()) } else { Inbox::Unknown };
        let place = conn_index.map(|index| {
            let conn = ConnId { index, generation: conn_generation };
            Place { process, core, conn }
        });
        let number = DeviceId::new(number).expect("it was packed here");
        let (opened, attached_ms) = (packed.opened, 0);
        devices.insert(number, Device { record, place, opened, attached_ms, away, missed: None, inbox });
    }
    let watched = packed.watched.iter().map(PackedLog::log).collect();
    let (linking, circle) = (packed.linking, packed.circle.unwrap_or_default());
    let being = Being { online: packed.online, left_ms: packed.left_ms, is_looked_at: packed.is_looked_at };
    User {
        record: packed.record,
        devices,
        watched,
        linking,
        circle,
        being,
        ..User::new(Held::made(Load::default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: (ProcessId, CoreId) = (ProcessId(3), CoreId(1));

    fn id(number: u64) -> UserId {
        UserId::new(number).expect("not 0")
    }

    fn made() -> User {
        User::new(Held::made(Load::default()))
    }

    fn place(index: u32, generation: u32, core: u16) -> Place {
        Place { process: HERE.0, core: CoreId(core), conn: ConnId { index, generation } }
    }

    fn user(place: Option<Place>) -> User {
        let mut user = User {
            record: Some(UserRecord {
                name: "somebody".to_owned(),
                devices_made: 3,
                ..UserRecord::default()
            }),
            ..made()
        };
        let record = DeviceRecord { refresh_hash: vec![7; 32].into(), new: true, ..DeviceRecord::default() };
        let marks = [(LogId::direct(1, 2), Seq(9)), (LogId::direct(2, 3), Seq(u64::MAX))];
        let devices = [(place, Inbox::Known(marks.into_iter().collect())), (None, Inbox::Unknown)];
        for (number, (place, inbox)) in (1..).zip(devices) {
            let number = DeviceId::new(number).expect("not 0");
            user.devices.insert(
                number,
                Device {
                    record: record.clone(),
                    place,
                    opened: 7,
                    attached_ms: 0,
                    away: true,
                    missed: None,
                    inbox,
                },
            );
        }
        user.watched.insert(LogId::direct(2, 4));
        user
    }

    /// Everything of a user, in words; a map's order is its own.
    fn words(user: &mut User) -> String {
        let mut words = format!("{:?} {:?}", user.record, user.watched);
        for (number, device) in user.devices.iter_mut() {
            let mut logs: Vec<_> = device.inbox.logs().into_iter().flatten().collect();
            logs.sort();
            words += &format!(
                " {number:?} {:?} {:?} {logs:?}",
                device.record,
                device.place.map(|place| (place, device.opened))
            );
        }
        words
    }

    #[test]
    fn a_silent_user_is_packed_and_comes_back_whole() {
        for core in [HERE.1.0, HERE.1.0 + 1] {
            is_packed_and_comes_back(place(70_000, 2, core));
        }
    }

    fn is_packed_and_comes_back(place: Place) {
        let mut kept = Kept::new(HERE, Hashing::new(1, 2));
        kept.insert(id(5), user(Some(place)));
        let before = words(kept.get(id(5)).expect("there"));
        kept.pack_some(0);
        assert!(
            matches!(*kept.users.get(&id(5)).expect("there"), Form::Awake(_)),
            "something has just happened to it"
        );
        kept.pack_some(0);
        assert!(matches!(*kept.users.get(&id(5)).expect("there"), Form::Packed(_)));
        assert_eq!(words(kept.get(id(5)).expect("there")), before);
        assert!(matches!(*kept.users.get(&id(5)).expect("there"), Form::Awake(_)));
        assert_eq!(words(&mut kept.remove(id(5)).expect("there")), before);
    }

    #[test]
    fn a_user_with_something_under_way_is_not_packed() {
        for change in [
            |user: &mut User| user.held = Held::loading(Load::default(), 1),
            |user: &mut User| user.held.unsettle(),
            |user: &mut User| {
                user.devices.or_default(DeviceId::new(1).expect("not 0")).inbox =
                    Inbox::Learning(BTreeMap::new())
            },
        ] {
            let mut kept = Kept::new(HERE, Hashing::new(1, 2));
            kept.insert(id(5), user(None));
            change(kept.get(id(5)).expect("there"));
            (0..3).for_each(|_| kept.pack_some(9));
            assert!(matches!(*kept.users.get(&id(5)).expect("there"), Form::Awake(_)));
        }
    }

    #[test]
    fn those_leave_that_are_silent_and_that_nobody_needs_first_those_that_were_silent_first() {
        let mut kept = Kept::new(HERE, Hashing::new(1, 2));
        let alone = || User { watched: BTreeSet::new(), ..user(None) };
        let all = |kept: &Kept| (1..=5).filter(|number| kept.contains(id(*number))).collect::<BTreeSet<_>>();
        kept.insert(id(1), alone());
        kept.insert(id(2), user(None));
        kept.insert(id(3), User { watched: BTreeSet::new(), ..user(Some(place(1, 1, HERE.1.0))) });
        kept.insert(id(4), alone());
        (0..10).for_each(|_| kept.pack_some(2));
        assert_eq!(all(&kept), BTreeSet::from([1, 2, 3, 4]));
        kept.get(id(1));
        kept.insert(id(5), alone());
        (0..10).for_each(|_| kept.pack_some(2));
        assert_eq!(all(&kept), BTreeSet::from([1, 2, 3, 5]));
        (0..10).for_each(|_| kept.pack_some(0));
        assert_eq!(all(&kept), BTreeSet::from([2, 3]));
    }

    /// Whoever names people who do not exist fills no memory with them.
    #[test]
    fn nobody_leaves_when_nobody_asks_for_them_any_more() {
        let mut kept = Kept::new(HERE, Hashing::new(1, 2));
        for number in 1..100 {
            kept.insert(id(number), made());
        }
        (0..100).for_each(|_| kept.pack_some(1000));
        assert_eq!(kept.len(), 0);
    }

    #[test]
    fn a_long_inbox_is_left_to_the_store() {
        let mut kept = Kept::new(HERE, Hashing::new(1, 2));
        let mut long = user(None);
        let device = long.devices.or_default(DeviceId::new(1).expect("not 0"));
        let logs = 1..=INBOX_PACKED_LOGS_MAX as u64 + 1;
        device.inbox = Inbox::Known(logs.map(|other| (LogId::direct(1, other), Seq(1))).collect());
        kept.insert(id(5), long);
        (0..2).for_each(|_| kept.pack_some(9));
        let device =
            kept.get(id(5)).and_then(|user| user.devices.get_mut(&DeviceId::new(1)?)).expect("there");
        assert!(matches!(device.inbox, Inbox::Unknown));
    }
}
