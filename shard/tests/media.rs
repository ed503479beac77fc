//! A medium stays for as long as anything has it, a message, a person or a group, whatever crashes, moves or fails in between; and when
//! nothing has it any more, it goes, with all that was said of it. Whoever does not see a message, or a picture, gets no link to it.

#![allow(clippy::print_stdout, reason = "it says how a fault was found")]

#[allow(dead_code, reason = "the node serves other tests as well")]
mod node;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use node::{Link, Node};
use prost::Message as _;
use tern_proto::v1::{
    self, Kind, Reason, client_frame::Request, group_change::Change, lookup::By, private::What,
    server_frame::Message,
};
use tern_shard::admin::{AdminRequest, AdminResponse, NoUpload, Provisioned, UploadAsk};
use tern_shard::limits::Limits;
use tern_storage::Slot;
use tern_storage::memory::Memory;
use tern_storage::records::KeptRecord;
use tern_wire::ids::MediaId;

const PRIVATE: u64 = 1 << 43;
const REMOVED_AFTER_MS: u64 = 60_000;
const UNSENT_MS: u64 = 300_000;
/// As few as that: the others wait for their turn.
const WAITING_MAX: usize = 4;
const BYTES: u64 = 100;
const QUOTA: u64 = 9 * BYTES;
const GROUPS_MAX: usize = 3;
const PHONES: [&str; 4] = ["+15550001", "+15550002", "+15550003", "+15550004"];
/// Who is in no group.
const ALONE: usize = 3;

struct Person {
    who: Provisioned,
    link: Link,
    requests: u64,
    /// What was asked and not answered, and what it was.
    asked: BTreeMap<u64, Asked>,
    /// Its messages that may be deleted: in which chat, and where.
    sent: Vec<(u64, u64)>,
    blocks: bool,
}

#[derive(Clone, Debug)]
enum Asked {
    Send {
        chat: u64,
        media: Vec<MediaId>,
    },
    /// A person's picture, or a group's.
    Picture(Option<MediaId>),
    /// A group of this number, with a picture.
    Group(u64, Option<MediaId>),
    Other,
}

/// How far an upload is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Begins(u64),
    /// The bytes are there, and it is being told, or is to be again.
    Told(Option<u64>),
    Known,
}

struct World {
    rng: Rng,
    store: Memory,
    node: Node,
    limits: Limits,
    cores: u16,
    people: Vec<Person>,
    groups: Vec<u64>,
    client_ids: u64,
    uploads: BTreeMap<MediaId, (usize, Step)>,
    /// The bytes that lie where media lie.
    bytes: BTreeSet<MediaId>,
    /// Those that are to be removed.
    removing: BTreeSet<MediaId>,
    /// Those of which it is said once more that they are whole, as the answer may have been lost. Their bytes stay meanwhile.
    again: BTreeMap<MediaId, u64>,
    /// Those of which it is said that their bytes are gone.
    saying: BTreeMap<MediaId, u64>,
    /// Those of which it was answered that they were there until then.
    gone: BTreeSet<MediaId>,
    /// Nothing is sent any more.
    is_over: bool,
}

fn limits() -> Limits {
    Limits {
        logs_cached_max: 0,
        users_cached_max: 0,
        mark_quiet_ms: 500,
        lazy_ms: 5,
        sends_per_minute_max: 0,
        strangers_per_hour_max: 0,
        same_text_per_hour_max: 0,
        lookups_per_minute_max: 0,
        uploads_per_hour_max: 0,
        uploaded_bytes_max: QUOTA,
        access_token_valid_ms: 86_400_000,
        idle_timeout_ms: 86_400_000,
        media_unsent_ms: UNSENT_MS,
        media_removed_after_ms: REMOVED_AFTER_MS,
        media_round_ms: 100,
        media_waiting_max: WAITING_MAX,
        ..Limits::default()
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let (store, limits, cores) = (Memory::new(), limits(), rng.u16(1..4));
        let mut node = Node::start(&store, cores, &limits, 1_000_000);
        let mut person = |phone: &str| {
            let who = node.provision(phone, &mut rng);
            let link = node.log_in(0, &who.access_token);
            let (asked, sent) = Default::default();
            Person { who, link, requests: 10, asked, sent, blocks: false }
        };
        let people = PHONES.map(&mut person).into();
        let (uploads, bytes, removing) = Default::default();
        let (again, saying, gone) = Default::default();
        let mut world = Self {
            rng,
            store,
            node,
            limits,
            cores,
            people,
            groups: Vec::new(),
            client_ids: 1,
            uploads,
            bytes,
            removing,
            again,
            saying,
            gone,
            is_over: false,
        };
        world.resume();
        world.make_group(None);
        world.settle();
        assert_eq!(world.groups.len(), 1);
        world
    }

    fn resume(&mut self) {
        for at in 0..self.people.len() {
            self.node.request(self.people[at].link, 3, Request::Resume(v1::Resume::default()));
        }
        self.settle();
    }

    /// Makes a group of all but one, with a picture if there is to be one.
    fn make_group(&mut self, picture: Option<MediaId>) {
        self.client_ids += 1;
        self.make_group_as(self.client_ids, picture);
    }

    fn make_group_as(&mut self, client_id: u64, picture: Option<MediaId>) {
        let members = self.people[..ALONE].iter().map(|person| person.who.user.get()).collect();
        let said = picture.map(|medium| medium.to_bytes()).unwrap_or_default();
        let made = v1::GroupMade { name: "three".into(), members, picture: said, ..Default::default() };
        let create = v1::CreateGroup { client_id, group: Some(made) };
        self.ask(0, Request::CreateGroup(create), Asked::Group(client_id, picture));
    }

    /// Somebody has another picture, or a group has.
    fn set_picture(&mut self) {
        let picture = self.some_media().pop();
        self.set_picture_to(picture);
    }

    fn set_picture_to(&mut self, picture: Option<MediaId>) {
        let said = picture.map(|medium| medium.to_bytes()).unwrap_or_default();
        let group = *self.rng.choice(&self.groups).expect("there is one");
        match self.rng.u8(..8) {
            0 if self.groups.len() < GROUPS_MAX => self.make_group(picture),
            0..4 => {
                let change = v1::GroupChange { change: Some(Change::Picture(said)) };
                let at = self.rng.usize(..ALONE);
                self.client_ids += 1;
                let (client_id, kind) = (self.client_ids, Kind::Group.into());
                let body = change.encode_to_vec().into();
                let send = v1::Send { chat: group, client_id, kind, body, ..v1::Send::default() };
                self.ask(at, Request::Send(send), Asked::Picture(picture));
            }
            _ => {
                let rename = v1::Rename { picture: Some(said), ..v1::Rename::default() };
                let at = self.rng.usize(..self.people.len());
                self.ask(at, Request::Rename(rename), Asked::Picture(picture));
            }
        }
    }

    /// Somebody lets others see their picture, or contacts alone, or nobody.
    fn set_privacy(&mut self) {
        let (at, picture) = (self.rng.usize(..self.people.len()), self.rng.i32(0..3));
        self.say_in_private(at, What::Privacy(v1::Privacy { picture, ..v1::Privacy::default() }));
        let other = self.rng.usize(..self.people.len());
        let user_id = self.user(other);
        let contacts = vec![v1::Contact { user_id, off: self.rng.bool(), ..v1::Contact::default() }];
        self.say_in_private(at, What::Contacts(v1::Contacts { contacts }));
    }

    fn settle(&mut self) {
        self.node.settle(&mut self.rng);
        self.receive();
    }

    fn ask(&mut self, at: usize, request: Request, asked: Asked) -> u64 {
        let person = &mut self.people[at];
        person.requests += 1;
        person.asked.insert(person.requests, asked);
        self.node.request(person.link, person.requests, request);
        person.requests
    }

    /// Asks, and waits for the answer.
    fn ask_for(&mut self, at: usize, request: Request) -> Message {
        let id = self.ask(at, request, Asked::Other);
        self.node.settle(&mut self.rng);
        let mut answer = None;
        for frame in self.node.receive(self.people[at].link).expect("it stands") {
            if frame.id == id { answer = frame.message } else { self.take(at, frame) }
        }
        answer.expect("it is answered")
    }

    fn user(&self, at: usize) -> u64 {
        self.people[at].who.user.get()
    }

    /// The chats of somebody with others.
    fn chats(&self, at: usize) -> Vec<u64> {
        let others = (0..self.people.len()).filter(|other| *other != at);
        let groups = self.groups.iter().filter(|_| at != ALONE).copied();
        others.map(|other| self.user(other)).chain(groups).collect()
    }

    fn begin_upload(&mut self) {
        let at = self.rng.usize(..self.people.len());
        let medium = MediaId::from_bytes(std::array::from_fn(|_| self.rng.u8(..)));
        let begin = UploadAsk::Begin { medium, bytes: BYTES };
        let request = AdminRequest::Upload(self.people[at].who.user, begin);
        let number = self.node.ask_owner(Slot::of_user(self.user(at)), request);
        self.uploads.insert(medium, (at, Step::Begins(number)));
    }

    /// What the listener for media does: goes on with uploads, and removes bytes.
    fn shell(&mut self) {
        for (medium, (at, step)) in std::mem::take(&mut self.uploads) {
            let answered = |node: &mut Node, number| node.answer(number);
            let next = match step {
                Step::Known => Some(step),
                Step::Begins(number) => match answered(&mut self.node, number) {
                    Some(AdminResponse::Upload(Ok(()))) => {
                        self.bytes.insert(medium);
                        Some(Step::Told(None))
                    }
                    Some(AdminResponse::Upload(Err(NoUpload::NoRoom | NoUpload::Unavailable)))
                    | Some(AdminResponse::Refused(_)) => None,
                    Some(other) => panic!("{other:?}"),
                    None => Some(step),
                },
                Step::Told(None) => {
                    let whole = AdminRequest::Upload(
                        self.people[at].who.user,
                        UploadAsk::Whole { medium, bytes: BYTES },
                    );
                    Some(Step::Told(Some(self.node.ask_owner(Slot::of_user(self.user(at)), whole))))
                }
                Step::Told(Some(number)) => match answered(&mut self.node, number) {
                    Some(AdminResponse::Upload(Ok(()))) => Some(Step::Known),
                    Some(_) => Some(Step::Told(None)),
                    None => Some(step),
                },
            };
            if let Some(next) = next {
                self.uploads.insert(medium, (at, next));
            }
        }
        self.again.retain(|_, number| self.node.answer(*number).is_none());
        for (medium, number) in std::mem::take(&mut self.saying) {
            match self.node.answer(number) {
                Some(AdminResponse::MediumGone(true)) => {
                    assert!(self.gone.insert(medium), "{medium:?} is gone twice");
                }
                Some(AdminResponse::MediumGone(false) | AdminResponse::Refused(_)) => {}
                Some(other) => panic!("{other:?}"),
                None => _ = self.saying.insert(medium, number),
            }
        }
        self.removing.extend(self.node.removals());
        for medium in std::mem::take(&mut self.removing) {
            if self.again.contains_key(&medium) || self.rng.u8(..4) > 0 {
                self.removing.insert(medium);
                continue;
            }
            self.bytes.remove(&medium);
            if let Entry::Vacant(saying) = self.saying.entry(medium) {
                let request = AdminRequest::MediumRemoved(medium);
                saying.insert(self.node.ask_owner(Slot::of_medium(medium.as_bytes()), request));
            }
        }
    }

    /// It is said once more of a medium that it is whole, if its bytes are there.
    fn say_again(&mut self, medium: MediaId) {
        let Some((at, Step::Known)) = self.uploads.get(&medium).copied() else { return };
        if !self.bytes.contains(&medium) || self.again.contains_key(&medium) {
            return;
        }
        let whole = UploadAsk::Whole { medium, bytes: BYTES };
        let request = AdminRequest::Upload(self.people[at].who.user, whole);
        let number = self.node.ask_owner(Slot::of_user(self.user(at)), request);
        self.again.insert(medium, number);
    }

    /// Some media of which a client knows, gone or not.
    fn some_media(&mut self) -> Vec<MediaId> {
        let known =
            |(medium, (_, step)): (&MediaId, &(usize, Step))| (*step == Step::Known).then_some(*medium);
        let known: Vec<_> = self.uploads.iter().filter_map(known).collect();
        let many = self.rng.usize(..3);
        let mut some = self.rng.choose_multiple(known, many);
        some.dedup();
        some
    }

    fn send(&mut self) {
        let media = self.some_media();
        self.send_with(media);
    }

    fn send_with(&mut self, media: Vec<MediaId>) {
        let at = self.rng.usize(..self.people.len());
        let chats = self.chats(at);
        let chat = *self.rng.choice(&chats).expect("there are some");
        self.client_ids += 1;
        let ids = media.iter().map(MediaId::to_bytes).collect();
        let send = v1::Send {
            chat,
            client_id: self.client_ids,
            body: "see".into(),
            media: ids,
            ..v1::Send::default()
        };
        if self.rng.u8(..6) > 0 {
            self.ask(at, Request::Send(send), Asked::Send { chat, media });
            return;
        }
        let at_ms = self.node.now_ms + self.rng.u64(..100_000);
        let what = What::Scheduled(v1::Scheduled { at_ms, send: Some(send) });
        self.say_in_private(at, what);
    }

    fn say_in_private(&mut self, at: usize, what: What) {
        self.client_ids += 1;
        let body = v1::Private { what: Some(what) }.encode_to_vec().into();
        let (client_id, kind) = (self.client_ids, Kind::Private.into());
        let send = v1::Send { chat: PRIVATE, client_id, body, kind, ..v1::Send::default() };
        self.ask(at, Request::Send(send), Asked::Other);
    }

    fn delete(&mut self) {
        let at = self.rng.usize(..self.people.len());
        let sent = &mut self.people[at].sent;
        if sent.is_empty() {
            return;
        }
        let (chat, about) = sent.swap_remove(self.rng.usize(..sent.len()));
        self.client_ids += 1;
        let (client_id, kind) = (self.client_ids, Kind::Deletion.into());
        let send = v1::Send { chat, client_id, kind, about, ..v1::Send::default() };
        self.ask(at, Request::Send(send), Asked::Other);
    }

    /// Messages of a chat disappear from here on, or not any more.
    fn set_timer(&mut self) {
        let at = self.rng.usize(..self.people.len());
        let after_ms = if self.rng.bool() { 0 } else { self.rng.u64(1_000..50_000) };
        let chats = self.chats(at);
        let chat = *self.rng.choice(&chats).expect("there are some");
        self.client_ids += 1;
        let body = v1::Timer { after_ms }.encode_to_vec().into();
        let (client_id, kind) = (self.client_ids, Kind::Timer.into());
        let send = v1::Send { chat, client_id, body, kind, ..v1::Send::default() };
        self.ask(at, Request::Send(send), Asked::Other);
    }

    fn block(&mut self) {
        self.settle();
        let blocks = !self.people[0].blocks;
        self.people[0].blocks = blocks;
        self.say_in_private(0, What::Blocked(v1::Blocked { user_id: self.user(1), off: !blocks }));
        self.settle();
    }

    fn receive(&mut self) {
        for at in 0..self.people.len() {
            for frame in self.node.receive(self.people[at].link).expect("it stands") {
                self.take(at, frame);
            }
        }
    }

    fn take(&mut self, at: usize, frame: v1::ServerFrame) {
        let person = &mut self.people[at];
        let Some(asked) = person.asked.remove(&frame.id) else { return };
        match (asked, frame.message) {
            (Asked::Send { chat, .. }, Some(Message::Sent(sent))) => person.sent.push((chat, sent.seq)),
            (Asked::Send { media, .. }, Some(Message::Refused(refused))) => match refused.reason() {
                Reason::NoSuchMedium => assert!(!media.is_empty(), "it was to have none"),
                Reason::Blocked | Reason::Unavailable | Reason::Overloaded => {}
                other => panic!("{other:?}"),
            },
            (Asked::Group(..), Some(Message::GroupCreated(created))) => self.groups.push(created.chat),
            (Asked::Picture(_), Some(Message::Renamed(_) | Message::Sent(_))) => {}
            (Asked::Picture(picture) | Asked::Group(_, picture), Some(Message::Refused(refused))) => {
                match refused.reason() {
                    Reason::NoSuchMedium => assert!(picture.is_some(), "there was to be none"),
                    Reason::RateLimited | Reason::Unavailable | Reason::Overloaded => {}
                    // Of two that take people into groups one may be blocked.
                    Reason::NotAllowed if self.people[0].blocks => {}
                    other => panic!("{other:?}"),
                }
            }
            (Asked::Other, _) => {}
            (asked, other) => panic!("{asked:?} was answered with {other:?}"),
        }
    }

    fn history(&mut self, at: usize, chat: u64) -> Vec<v1::Entry> {
        let (mut entries, mut from) = (Vec::new(), 0);
        loop {
            let history = v1::History { chat, from, forwards: true, ..v1::History::default() };
            let Message::HistoryPage(page) = self.ask_for(at, Request::History(history)) else {
                panic!("there is a page");
            };
            from = page.entries.last().map_or(from, |last| last.seq);
            entries.extend(page.entries);
            if !page.more {
                return entries;
            }
        }
    }

    /// What is had by an entry that somebody sees is there. Gives all of it.
    fn check(&mut self) -> BTreeSet<MediaId> {
        self.settle();
        self.shell();
        let mut had = BTreeSet::new();
        for at in 0..self.people.len() {
            for chat in self.chats(at) {
                for entry in self.history(at, chat) {
                    let media: Vec<_> =
                        entry.media.iter().map(|id| MediaId::from_slice(id).expect("16 bytes")).collect();
                    let hides = entry.kind == i32::from(Kind::Withheld) || entry.erased;
                    assert!(media.is_empty() || !hides, "nothing is told of what is not shown");
                    had.extend(&media);
                    for medium in media {
                        assert!(self.bytes.contains(&medium), "{medium:?} is lost: {chat} has it, {entry:?}");
                        let is_over = entry.expires_ms > 0 && entry.expires_ms <= self.node.now_ms;
                        self.link_is_got(at, (chat, entry.seq), medium, !is_over);
                    }
                }
            }
        }
        self.pictures_are_had(&mut had);
        had
    }

    /// Whoever sees a picture gets a link to it, and nobody else does, though they know all that it takes to ask.
    fn pictures_are_had(&mut self, had: &mut BTreeSet<MediaId>) {
        for of in 0..self.people.len() {
            let Some(medium) = self.seen_picture(of, of) else { continue };
            assert!(self.bytes.contains(&medium), "{medium:?} is lost: {of} has it as a picture");
            had.insert(medium);
            for at in 0..self.people.len() {
                let sees = self.seen_picture(at, of);
                assert!(sees.is_none_or(|seen| seen == medium));
                self.picture_is_got(at, self.user(of), medium, sees.is_some());
                let other = self.rng.u128(..).to_le_bytes();
                self.picture_is_got(at, self.user(of), MediaId::from_bytes(other), false);
            }
        }
        for group in self.groups.clone() {
            let about = Request::AboutGroup(v1::AboutGroup { chat: group, ..v1::AboutGroup::default() });
            let Message::Group(about) = self.ask_for(0, about) else { panic!("it is a member") };
            let Some(medium) = MediaId::from_slice(&about.picture) else { continue };
            assert!(self.bytes.contains(&medium), "{medium:?} is lost: {group} has it as a picture");
            had.insert(medium);
            for at in 0..self.people.len() {
                self.picture_is_got(at, group, medium, at != ALONE);
            }
        }
    }

    /// The picture of somebody, as somebody sees it.
    fn seen_picture(&mut self, at: usize, of: usize) -> Option<MediaId> {
        let by = if at == of { By::UserId(self.user(of)) } else { By::Phone(PHONES[of].to_owned()) };
        let lookup = v1::Lookup { by: Some(by), ..v1::Lookup::default() };
        match self.ask_for(at, Request::Lookup(lookup)) {
            Message::Person(person) => MediaId::from_slice(&person.picture),
            other => panic!("{other:?}"),
        }
    }

    fn picture_is_got(&mut self, at: usize, chat: u64, medium: MediaId, sees: bool) {
        let get = Request::GetMedium(v1::GetMedium { chat, seq: 0, medium: medium.to_bytes() });
        match self.ask_for(at, get) {
            Message::MediumLink(_) => assert!(sees, "{at} gets a link to a picture that they do not see"),
            Message::Refused(refused) => {
                assert!(!sees, "{at} sees it, and gets no link: {refused:?}");
                let is_for_none = matches!(refused.reason(), Reason::NoSuchMessage | Reason::UnknownGroup);
                assert!(is_for_none, "{refused:?}");
            }
            other => panic!("{other:?}"),
        }
    }

    /// Whoever sees an entry gets a link to its media, and whoever does not, none, though they know all that it takes to ask.
    fn link_is_got(&mut self, at: usize, (chat, seq): (u64, u64), medium: MediaId, is_seen: bool) {
        let get = |chat| Request::GetMedium(v1::GetMedium { chat, seq, medium: medium.to_bytes() });
        match self.ask_for(at, get(chat)) {
            Message::MediumLink(link) => {
                assert!(is_seen, "its time has come");
                assert!(link.url.starts_with("https://media/media/") && link.until_ms > self.node.now_ms);
            }
            Message::Refused(refused) => assert!(!is_seen, "{refused:?}"),
            other => panic!("{other:?}"),
        }
        // The other end of a direct chat may not see it, and then gets nothing.
        let Some(other) = (0..self.people.len()).find(|other| self.user(*other) == chat) else { return };
        let chat = self.user(at);
        let seen = self.history(other, chat).into_iter().find(|entry| entry.seq == seq).expect("its place");
        let answer = self.ask_for(other, get(chat));
        let shows = !seen.media.is_empty();
        assert!(shows || matches!(answer, Message::Refused(_)), "a link to what is not shown: {answer:?}");
    }

    /// Nobody has more than there may be.
    fn check_quota(&mut self) {
        for at in 0..self.people.len() {
            let user = self.user(at);
            let uploads = self.uploads.iter();
            let theirs = uploads.filter(|(medium, (by, _))| *by == at && self.bytes.contains(medium)).count();
            assert!(theirs as u64 * BYTES <= QUOTA, "{user} has {theirs} media");
        }
    }

    fn restart(&mut self) {
        let now_ms = self.node.now_ms;
        self.node = Node::start(&self.store, self.cores, &self.limits, now_ms);
        for (_, step) in self.uploads.values_mut() {
            // Whoever was not answered says it again.
            *step = match *step {
                Step::Told(_) => Step::Told(None),
                step => step,
            };
        }
        self.uploads.retain(|_, (_, step)| !matches!(step, Step::Begins(_)));
        self.again.clear();
        self.saying.clear();
        let is_made = |asked: &Asked| match asked {
            Asked::Group(client_id, picture) => Some((*client_id, *picture)),
            _ => None,
        };
        let made: Vec<_> = self.people[0].asked.values().filter_map(is_made).collect();
        for at in 0..self.people.len() {
            let core = self.rng.u16(..self.cores);
            let person = &mut self.people[at];
            person.asked.clear();
            person.link = self.node.log_in(core, &person.who.access_token);
        }
        self.resume();
        for (client_id, picture) in made {
            self.make_group_as(client_id, picture);
        }
    }

    /// So much time passes, while all that is to be done is.
    fn pass(&mut self, ms: u64) {
        for _ in 0..10 {
            self.settle();
            self.shell();
            self.node.tick(ms / 10);
            if !self.is_over
                && let Some(medium) = self.removing.first().copied()
            {
                if self.rng.bool() {
                    self.say_again(medium);
                    self.settle();
                }
                // Somebody still has it, and sends it once more, or has it as their picture.
                match self.rng.bool() {
                    true => self.send_with(vec![medium]),
                    false => self.set_picture_to(Some(medium)),
                }
            }
        }
        while !self.removing.is_empty() {
            self.shell();
        }
        self.settle();
        self.shell();
    }

    fn live(&mut self) {
        for _ in 0..150 {
            match self.rng.u8(..40) {
                0..7 => self.begin_upload(),
                7..17 => self.send(),
                17..20 => self.set_picture(),
                20..25 => self.delete(),
                25 => self.set_privacy(),
                26..29 => self.node.tick(300),
                29..31 => {
                    let slot = match self.uploads.keys().next() {
                        Some(medium) if self.rng.bool() => Slot::of_medium(medium.as_bytes()),
                        _ => Slot::of_user(self.user(0)),
                    };
                    self.node.move_slot(slot, self.rng.u16(..));
                }
                31 => self.set_timer(),
                32 => self.block(),
                33 => self.restart(),
                34 => drop(self.check()),
                36 => {
                    let media: Vec<_> = self.bytes.iter().copied().collect();
                    self.rng.choice(media).into_iter().for_each(|medium| self.say_again(medium));
                }
                35 => {
                    let ms = *self.rng.choice(&[10_000, REMOVED_AFTER_MS, UNSENT_MS]).expect("one");
                    self.pass(ms);
                }
                _ => self.settle(),
            }
            self.shell();
            for _ in 0..self.rng.usize(..30) {
                self.node.step(&mut self.rng);
            }
            self.receive();
            self.check_quota();
        }
        self.end();
    }

    /// All that nothing has is removed, of each core some at a time.
    fn all_have_their_turn(&mut self) {
        // Those that were forgotten give their places up after four of these.
        for _ in 0..self.bytes.len() / WAITING_MAX + 8 {
            self.pass(REMOVED_AFTER_MS);
        }
    }

    /// When all is deleted, nothing is left.
    fn end(&mut self) {
        self.is_over = true;
        self.settle();
        // What was scheduled is sent, and what was on its way is there.
        self.pass(2 * UNSENT_MS);
        let had = self.check();
        self.pass(2 * UNSENT_MS);
        self.all_have_their_turn();
        assert_eq!(self.check(), had);
        assert!(self.bytes.iter().all(|medium| had.contains(medium)), "what nothing has stays");
        for at in 0..self.people.len() {
            for (chat, about) in std::mem::take(&mut self.people[at].sent) {
                self.client_ids += 1;
                let (client_id, kind) = (self.client_ids, Kind::Deletion.into());
                let send = v1::Send { chat, client_id, kind, about, ..v1::Send::default() };
                self.ask(at, Request::Send(send), Asked::Other);
            }
        }
        // What was scheduled, or of which no answer came, is still there.
        self.pass(2 * UNSENT_MS);
        self.all_have_their_turn();
        let had = self.check();
        assert_eq!(self.bytes, had, "nothing but what is had stays");
        let rows = self.rows();
        assert_eq!((rows[&'v'], rows[&'k']), (0, had.len()), "what is said of media goes with them");
        self.all_leave();
    }

    /// When nobody is there any more, nothing has a picture.
    fn all_leave(&mut self) {
        for phone in PHONES {
            let answer = self.node.delete(phone, &mut self.rng);
            assert!(matches!(answer, AdminResponse::Deleted(true)), "{answer:?}");
        }
        // Each of these counts for an eighth of it.
        for _ in 0..80 + 2 * self.bytes.len() {
            self.node.settle(&mut self.rng);
            self.shell();
            self.node.tick(REMOVED_AFTER_MS / 2);
        }
        while !self.removing.is_empty() {
            self.shell();
        }
        self.node.settle(&mut self.rng);
        assert!(self.bytes.is_empty(), "{:?} stay, and nobody is there", self.bytes);
        assert_eq!(self.rows()[&'o'], 0, "what is said of media goes with them");
    }

    /// How many rows there are, by table.
    fn rows(&self) -> BTreeMap<char, usize> {
        let mut rows: BTreeMap<_, _> = "ovk".chars().map(|table| (table, 0)).collect();
        // Of uploads that never came to their end nothing is left but how much they were to be, for two days.
        let is_begun = |key: &[u8], value: &[u8]| {
            key[0] == b'k' && !KeptRecord::decode(value).expect("what was written").whole
        };
        for (key, _) in self.store.rows().into_iter().filter(|(key, value)| !is_begun(key, value)) {
            *rows.entry(char::from(key[0])).or_default() += 1;
        }
        rows
    }
}

fn live(seed: u64) {
    World::new(seed).live();
}

#[test]
fn a_medium_stays_for_as_long_as_anything_has_it_and_no_longer() {
    node::live_with_seeds("media", 200, live);
}

#[cfg(feature = "mutations")]
#[test]
fn each_fault_is_found() {
    node::find_each_fault("shard/tests/media.rs", live);
}
