//! Whoever may see a story has it, exactly those that are there, whatever crashes, moves or fails in between, and nobody else does; all devices
//! agree on what was seen, and whoever posted it knows of those who do not hide it. When its time has come nothing is left of it.

#![allow(clippy::print_stdout, reason = "it says how a fault was found")]

#[allow(dead_code, reason = "the node serves other tests as well")]
mod node;

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use node::{Link, Node, Weather};
use prost::Message as _;
use tern_proto::v1::{
    self, Kind, Reason, StoryAudience, client_frame::Request, private::What, server_frame::Message,
};
use tern_shard::admin::{AdminRequest, AdminResponse, Provisioned, UploadAsk};
use tern_shard::limits::Limits;
use tern_storage::faults::Faults;
use tern_storage::memory::Memory;
use tern_storage::{Slot, keys};
use tern_wire::ids::MediaId;

const PRIVATE: u64 = 1 << 43;
const VALID_MS: u64 = 3_000_000;
const REMOVED_AFTER_MS: u64 = 10_000;
const PHONES: [&str; 5] = ["+15550001", "+15550002", "+15550003", "+15550004", "+15550005"];
/// These have a direct chat, whatever else they are to each other.
const CHATS: [(usize, usize); 2] = [(0, 3), (1, 4)];
/// Devices: the last is another one of the first person's.
const DEVICES: usize = PHONES.len() + 1;
/// Who has no account any more, in the end.
const LEAVES: usize = 2;

/// Which story: by whom, and its number.
type Story = (usize, u64);

struct Device {
    /// Whose it is.
    of: usize,
    who: Provisioned,
    link: Option<Link>,
    requests: u64,
    /// What it has asked and is not answered, by the number of the request.
    asked: BTreeMap<u64, usize>,
    /// The stories of others that it shows: those of the last list, as was told since. `None`: it must read the list again.
    shows: Option<BTreeSet<Story>>,
}

/// Something that a device asks until it is answered for good.
#[derive(Clone, Debug)]
struct Task {
    by: usize,
    request: Request,
    deed: Deed,
    is_asked: bool,
    is_done: bool,
    /// What the two are to each other, of whom it is, has changed meanwhile.
    is_unsure: bool,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Deed {
    Post(Story),
    Delete(Story),
    See(Story),
    Say,
    /// Something of another one.
    Relate(usize, usize),
}

/// What there is to a story.
#[derive(Clone, Debug)]
struct Posted {
    text: String,
    media: Vec<MediaId>,
    /// Once it is there.
    expires_ms: Option<u64>,
    is_deleted: bool,
    /// Who has it.
    readers: BTreeSet<usize>,
    /// Who may have it: what they are to its author changed while they were being told, or they were blocked and are not any more.
    may_have: BTreeSet<usize>,
    /// All have been told.
    is_told: bool,
    seen: BTreeSet<usize>,
    /// Who has seen it and did not hide that, nor did its author.
    viewers: BTreeSet<usize>,
    /// Who may have hidden it.
    may_have_seen: BTreeSet<usize>,
}

impl Posted {
    /// It had ended, of which who posted it had not heard when they posted it again.
    fn is_anew(&mut self) {
        (self.is_deleted, self.is_told) = (false, false);
        self.readers.clear();
        self.seen.clear();
        self.viewers.clear();
        self.may_have = (0..PHONES.len()).collect();
        self.may_have_seen = (0..PHONES.len()).collect();
    }
}

struct World {
    seed: u64,
    rng: Rng,
    store: Memory,
    node: Node,
    limits: Limits,
    faults: Faults,
    crashes: u64,
    cores: u16,
    /// The process dies and starts again; in other worlds cores are lost, and others take their slots over.
    starts_again: bool,
    devices: Vec<Device>,
    tasks: Vec<Task>,
    numbers: u64,
    stories: BTreeMap<Story, Posted>,
    media: Vec<(usize, MediaId)>,
    contacts: BTreeSet<(usize, usize)>,
    blocks: BTreeSet<(usize, usize)>,
    mutes: BTreeSet<(usize, usize)>,
    hides: BTreeSet<usize>,
    gone: BTreeSet<usize>,
    /// Numbers of stories that have ended.
    free: Vec<Story>,
}

fn limits() -> Limits {
    Limits {
        logs_cached_max: 0,
        users_cached_max: 0,
        lazy_ms: 5,
        lookups_per_minute_max: 0,
        sends_per_minute_max: 0,
        stories_per_hour_max: 0,
        uploads_per_hour_max: 0,
        story_valid_ms: VALID_MS,
        access_token_valid_ms: 86_400_000,
        idle_timeout_ms: 86_400_000,
        media_unsent_ms: 100_000_000,
        media_removed_after_ms: REMOVED_AFTER_MS,
        media_round_ms: 100,
        deletion_round_ms: 500,
        deletion_delay_ms: 0,
        ..Limits::default()
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let (store, mut limits) = (Memory::faulty(Faults::default()), limits());
        if rng.u8(..4) == 0 {
            // They end while they are told, seen, and deleted.
            limits.story_valid_ms = rng.u64(1_000..4_000);
        }
        let cores = rng.u16(1..4);
        let mut node = Node::start(&store, cores, &limits, 1_000_000);
        let mut device = |at: usize| {
            let of = at % PHONES.len();
            let who = node.provision(PHONES[of], &mut rng);
            Device { of, who, link: None, requests: 10, asked: BTreeMap::new(), shows: None }
        };
        let devices = (0..DEVICES).map(&mut device).collect();
        let starts_again = rng.u8(..3) > 0;
        let broken_per_mille = if starts_again { 4 } else { 0 };
        let mut world = Self {
            seed,
            rng,
            store,
            node,
            limits,
            faults: Faults { seed, full_per_mille: 20, broken_per_mille },
            crashes: 0,
            cores,
            starts_again,
            devices,
            tasks: Vec::new(),
            numbers: 0,
            stories: BTreeMap::new(),
            media: Vec::new(),
            contacts: BTreeSet::new(),
            blocks: BTreeSet::new(),
            mutes: BTreeSet::new(),
            hides: BTreeSet::new(),
            gone: BTreeSet::new(),
            free: Vec::new(),
        };
        for (one, other) in CHATS {
            let chat = world.user(other);
            let send = v1::Send { chat, client_id: 1, body: "hi".into(), ..v1::Send::default() };
            world.task(one, Request::Send(send), Deed::Say);
        }
        world.quiet();
        for _ in 0..8 {
            world.relate();
        }
        world
    }

    fn user(&self, at: usize) -> u64 {
        self.devices[at].who.user.get()
    }

    /// The process dies; another one starts on what is on the medium.
    fn crash(&mut self, faults: Faults) {
        self.crashes += 1;
        self.store = self.store.recover(Faults { seed: self.seed ^ self.crashes << 32, ..faults });
        if self.rng.bool() {
            self.store.hold();
        }
        self.cores = self.rng.u16(1..4);
        self.node = Node::start(&self.store, self.cores, &self.limits, self.node.now_ms);
        self.node.weather(Weather { busy_per_mille: self.rng.u16(..200), ..Weather::default() });
        for at in 0..self.devices.len() {
            self.lost(at);
        }
    }

    /// A device's connection is gone: what it has asked it asks again.
    fn lost(&mut self, at: usize) {
        self.devices[at].link = None;
        self.devices[at].shows = None;
        for (_, task) in std::mem::take(&mut self.devices[at].asked) {
            self.tasks[task].is_asked = false;
        }
    }

    fn connect(&mut self, at: usize) {
        if self.devices[at].link.is_none() && !self.gone.contains(&self.devices[at].of) {
            let core = self.rng.u16(..self.cores);
            let link = self.node.log_in(core, &self.devices[at].who.access_token);
            self.node.request(link, 3, Request::Resume(v1::Resume::default()));
            self.devices[at].link = Some(link);
        }
    }

    fn task(&mut self, by: usize, request: Request, deed: Deed) {
        let is_unsure = match deed {
            Deed::See(story) => self.is_changing(self.devices[by].of, story.0),
            _ => false,
        };
        self.tasks.push(Task { by, request, deed, is_asked: false, is_done: false, is_unsure });
    }

    fn ask_tasks(&mut self) {
        for number in 0..self.tasks.len() {
            let Task { by, is_asked, is_done, .. } = self.tasks[number];
            let device = &mut self.devices[by];
            let (Some(link), false, false) = (device.link, is_asked, is_done) else { continue };
            device.requests += 1;
            device.asked.insert(device.requests, number);
            let (id, request) = (device.requests, self.tasks[number].request.clone());
            self.tasks[number].is_asked = true;
            self.node.request(link, id, request);
        }
    }

    fn receive(&mut self) {
        for at in 0..self.devices.len() {
            let Some(link) = self.devices[at].link else { continue };
            match self.node.receive(link) {
                Some(frames) => frames.into_iter().for_each(|frame| self.take(at, frame)),
                None => self.lost(at),
            }
            if !self.node.stands(link) {
                self.lost(at);
            }
        }
    }

    fn take(&mut self, at: usize, frame: v1::ServerFrame) {
        let Some(number) = self.devices[at].asked.remove(&frame.id) else {
            return self.hear(at, frame.message);
        };
        let by = self.devices[at].of;
        let task = &mut self.tasks[number];
        task.is_asked = false;
        task.is_done = true;
        let is_unsure = task.is_unsure;
        match (task.deed, frame.message.expect("an answer")) {
            (_, Message::Refused(refused)) if refused.retry_after_ms > 0 => task.is_done = false,
            (_, Message::Refused(refused)) if refused.reason() == Reason::StorageFull => task.is_done = false,
            (Deed::Post(story), Message::StoryMade(made)) => {
                let posted = self.stories.get_mut(&story).expect("it was to be posted");
                let known = posted.expires_ms.replace(made.expires_ms);
                if known.is_some_and(|known| known != made.expires_ms) {
                    let ended = known.is_some_and(|known| known <= made.time_ms);
                    assert!(ended, "a retry is the same story until it ends");
                    posted.is_anew();
                }
            }
            // The one before it, of this number, has not ended yet.
            (Deed::Post(story), Message::Refused(refused)) if refused.reason() == Reason::ClientIdReused => {
                self.stories.remove(&story);
            }
            (Deed::Post(story), Message::Refused(refused)) => {
                let has_media = !self.stories[&story].media.is_empty();
                assert!(refused.reason() == Reason::NoSuchMedium && has_media, "{refused:?}");
                self.stories.remove(&story);
            }
            (Deed::Delete(story), Message::StoryDeleted(_)) => {
                if let Some(posted) = self.stories.get_mut(&story) {
                    posted.is_deleted = true;
                }
            }
            (Deed::See(story), Message::StoryMarked(_)) => {
                let hides = [by, story.0].iter().any(|at| self.hides.contains(at));
                let hides = hides || self.blocks.contains(&(story.0, by));
                let Some(posted) = self.stories.get_mut(&story) else { return };
                // Whoever has seen it before is not told of again.
                let is_first = posted.seen.insert(by);
                if is_unsure {
                    posted.may_have_seen.insert(by);
                } else if is_first && !hides && by != story.0 {
                    posted.viewers.insert(by);
                }
            }
            // It was deleted meanwhile, or its time had come; or it was not there yet.
            (Deed::Delete(_) | Deed::See(_), Message::Refused(refused)) => {
                assert_eq!(refused.reason(), Reason::NoSuchStory);
            }
            (Deed::Say | Deed::Relate(..), Message::Sent(_)) => {}
            (deed, other) => panic!("{deed:?} was answered with {other:?}"),
        }
    }

    /// A device hears what it has not asked for.
    fn hear(&mut self, at: usize, message: Option<Message>) {
        let Device { of, shows, .. } = &mut self.devices[at];
        let people = |user: u64, who: &World| (0..PHONES.len()).find(|at| who.user(*at) == user);
        let (of, mut shown) = (*of, shows.take());
        match message {
            Some(Message::StoryPosted(posted)) => {
                let told = posted.story.expect("a story");
                let story = (people(told.user_id, self).expect("somebody"), told.number);
                let known = &self.stories[&story];
                let may = of == story.0 || known.readers.contains(&of) || known.may_have.contains(&of);
                assert!(may, "{of} hears of {story:?}: {known:?}");
                let shows_text =
                    told.body.windows(known.text.len()).any(|part| part == known.text.as_bytes());
                assert!(shows_text || known.expires_ms.is_none_or(|ends| ends <= self.node.now_ms));
                shown = shown.map(|shown| shown.into_iter().chain([story]).collect());
            }
            Some(Message::StoryGone(gone)) => {
                let gone = gone.story.expect("a story");
                let story = (people(gone.user_id, self).expect("somebody"), gone.number);
                if let Some(shown) = &mut shown {
                    shown.remove(&story);
                }
            }
            // Its user has another owner: what was to be told by the one before may be lost.
            Some(Message::CaughtUp(_)) => shown = None,
            Some(Message::StorySeen(seen)) => {
                let seen = seen.story.expect("a story");
                let story = (people(seen.user_id, self).expect("somebody"), seen.number);
                assert!(of != story.0, "{of} has seen a story of their own: {story:?}");
            }
            _ => {}
        }
        self.devices[at].shows = shown;
    }

    /// Whether what two are to each other is just being changed by one of them.
    fn is_changing(&self, one: usize, other: usize) -> bool {
        let is_of = |task: &Task| match task.deed {
            Deed::Relate(at, of) => (at, of) == (one, other) || (at, of) == (other, one),
            _ => false,
        };
        self.tasks.iter().any(|task| !task.is_done && is_of(task))
    }

    /// Whether somebody is still to be told of a story, or to lose some.
    fn is_told(&self) -> bool {
        let is_to_tell = |(key, value): &(Vec<u8>, bytes::Bytes)| {
            keys::story_due_of(key).is_some() && (value[..] == *keys::TO_TELL || value[..] == *keys::TO_HIDE)
        };
        !self.store.rows().iter().any(is_to_tell)
    }

    /// The weather clears: all is answered, and told.
    fn quiet(&mut self) {
        self.node.settle(&mut self.rng);
        if self.node.has_failed() {
            self.crash(Faults::default());
        }
        self.store.heal();
        self.node.weather(Weather::default());
        for _ in 0..400 {
            (0..self.devices.len()).for_each(|at| self.connect(at));
            self.node.settle(&mut self.rng);
            self.ask_tasks();
            self.node.settle(&mut self.rng);
            self.receive();
            let is_here = |device: &Device| device.link.is_some() || self.gone.contains(&device.of);
            let all_are_here = self.devices.iter().all(is_here);
            if all_are_here && self.tasks.iter().all(|task| task.is_done) && self.is_told() {
                self.stories.values_mut().for_each(|posted| posted.is_told = true);
                return self.tasks.clear();
            }
            self.node.tick(600);
        }
        let open: Vec<_> = self.tasks.iter().filter(|task| !task.is_done).map(|task| task.deed).collect();
        panic!("something is never done: {open:?}, told: {}", self.is_told());
    }

    fn say_in_private(&mut self, at: usize, what: What, deed: Deed) {
        self.numbers += 1;
        let body = v1::Private { what: Some(what) }.encode_to_vec().into();
        let (client_id, kind) = (self.numbers, Kind::Private.into());
        let send = v1::Send { chat: PRIVATE, client_id, body, kind, ..v1::Send::default() };
        self.task(at, Request::Send(send), deed);
    }

    /// Somebody says something else of another one than before.
    fn relate(&mut self) {
        let people: Vec<_> = (0..PHONES.len()).filter(|at| !self.gone.contains(at)).collect();
        let (at, other) = (self.rng.usize(..people.len()), self.rng.usize(..people.len()));
        let (at, other) = (people[at], people[other]);
        if at == other {
            return;
        }
        let (user_id, pair) = (self.user(other), (at, other));
        let turn = |set: &mut BTreeSet<(usize, usize)>| set.insert(pair) || !set.remove(&pair);
        let which = self.rng.u8(..12);
        // These are said when nothing is under way.
        if matches!(which, 1 | 2) || self.rng.u8(..3) == 0 || self.is_changing(at, other) {
            self.quiet();
        } else {
            self.all_is_unsure(at, other);
        }
        let what = match which {
            0 | 3 => {
                let is_blocked = turn(&mut self.blocks);
                self.devices
                    .iter_mut()
                    .filter(|device| device.of == at)
                    .for_each(|device| device.shows = None);
                let theirs = self.stories.iter_mut().filter(|((author, _), _)| is_blocked && *author == at);
                for (_, posted) in theirs {
                    // Those that the other has, they have no more; unless they are blocked no more before that.
                    if posted.readers.remove(&other) {
                        posted.may_have.insert(other);
                    }
                }
                What::Blocked(v1::Blocked { user_id, off: !is_blocked })
            }
            1 => {
                let is_muted = turn(&mut self.mutes);
                What::StoriesMuted(v1::StoriesMuted { user_id, off: !is_muted })
            }
            2 => {
                let hides_reads = self.hides.insert(at) || !self.hides.remove(&at);
                What::Privacy(v1::Privacy { hides_reads, ..v1::Privacy::default() })
            }
            _ => {
                let is_one = self.contacts.insert(pair) || self.rng.bool() || !self.contacts.remove(&pair);
                let contact = v1::Contact { user_id, off: !is_one, ..v1::Contact::default() };
                What::Contacts(v1::Contacts { contacts: vec![contact] })
            }
        };
        self.say_in_private(at, what, Deed::Relate(at, other));
        if matches!(which, 1 | 2) {
            self.quiet();
        }
    }

    /// What two are to each other changes while stories of theirs are being told, and seen.
    fn all_is_unsure(&mut self, one: usize, two: usize) {
        for ((author, _), posted) in &mut self.stories {
            let other = match *author {
                author if author == one => two,
                author if author == two => one,
                _ => continue,
            };
            if !posted.is_told {
                posted.readers.remove(&other);
                posted.may_have.insert(other);
            }
        }
        for task in &mut self.tasks {
            let by = self.devices[task.by].of;
            if let Deed::See((author, _)) = task.deed {
                task.is_unsure |= (by, author) == (one, two) || (by, author) == (two, one);
            }
        }
    }

    fn has_chat(one: usize, other: usize) -> bool {
        CHATS.contains(&(one, other)) || CHATS.contains(&(other, one))
    }

    /// Who gets a story, as all are to each other now.
    fn readers(&self, at: usize, audience: StoryAudience, named: &[usize]) -> BTreeSet<usize> {
        let is_meant = |other: &usize| {
            let is_contact = self.contacts.contains(&(at, *other));
            match audience {
                StoryAudience::Contacts => is_contact,
                StoryAudience::ContactsExcept => is_contact && !named.contains(other),
                StoryAudience::Only => is_contact && named.contains(other),
                StoryAudience::Everyone => is_contact || Self::has_chat(at, *other),
            }
        };
        let wants = |other: &usize| self.contacts.contains(&(*other, at)) || Self::has_chat(at, *other);
        let blocks =
            |other: &usize| self.blocks.contains(&(at, *other)) || self.blocks.contains(&(*other, at));
        let others = (0..PHONES.len()).filter(|other| *other != at && !self.gone.contains(other));
        others.filter(|other| is_meant(other) && wants(other) && !blocks(other)).collect()
    }

    fn some_device(&mut self) -> usize {
        let devices: Vec<_> = (0..DEVICES).filter(|at| !self.gone.contains(&self.devices[*at].of)).collect();
        devices[self.rng.usize(..devices.len())]
    }

    fn post(&mut self) {
        let by = self.some_device();
        let at = self.devices[by].of;
        let audiences = [
            StoryAudience::Contacts,
            StoryAudience::ContactsExcept,
            StoryAudience::Only,
            StoryAudience::Everyone,
            StoryAudience::Everyone,
        ];
        let audience = *self.rng.choice(&audiences).expect("there are some");
        let names = matches!(audience, StoryAudience::ContactsExcept | StoryAudience::Only);
        let named: Vec<_> = (0..PHONES.len()).filter(|_| names && self.rng.bool()).collect();
        self.numbers += 1;
        let text = format!("story {}.", self.numbers);
        let freed = self.free.iter().position(|(of, _)| *of == at).filter(|_| self.rng.bool());
        let story = freed.map_or((at, self.numbers), |freed| self.free.swap_remove(freed));
        let own: Vec<_> = self.media.iter().filter(|(of, _)| *of == at).map(|(_, medium)| *medium).collect();
        let media: Vec<_> = self.rng.choice(own).into_iter().filter(|_| self.rng.bool()).collect();
        let kind = if media.is_empty() { Kind::Text } else { Kind::Media };
        let body = match kind {
            Kind::Text => v1::StoryText { text: text.clone(), ..Default::default() }.encode_to_vec(),
            _ => v1::Media { caption: text.clone(), ..Default::default() }.encode_to_vec(),
        };
        let post = v1::PostStory {
            number: story.1,
            kind: kind.into(),
            body: body.into(),
            media: media.iter().map(MediaId::to_bytes).collect(),
            audience: audience.into(),
            user_ids: named.iter().map(|at| self.user(*at)).collect(),
        };
        let mut readers = self.readers(at, audience, &named);
        let may_have: BTreeSet<_> = (0..PHONES.len()).filter(|other| self.is_changing(at, *other)).collect();
        readers.retain(|reader| !may_have.contains(reader));
        let (seen, viewers, may_have_seen) = Default::default();
        let (expires_ms, is_deleted, is_told) = (None, false, false);
        let posted = Posted {
            text,
            media,
            expires_ms,
            is_deleted,
            readers,
            may_have,
            is_told,
            seen,
            viewers,
            may_have_seen,
        };
        self.stories.insert(story, posted);
        self.task(by, Request::PostStory(post), Deed::Post(story));
    }

    fn some_story(&mut self) -> Option<Story> {
        let there: Vec<_> = self.stories.keys().copied().collect();
        self.rng.choice(there)
    }

    fn delete(&mut self) {
        let Some(story) = self.some_story() else { return };
        if self.stories[&story].expires_ms.is_none() || self.gone.contains(&story.0) {
            return;
        }
        let by: Vec<_> = (0..DEVICES).filter(|at| self.devices[*at].of == story.0).collect();
        let by = by[self.rng.usize(..by.len())];
        let delete = v1::DeleteStory { number: story.1 };
        self.task(by, Request::DeleteStory(delete), Deed::Delete(story));
    }

    fn see(&mut self) {
        let (Some(story), by) = (self.some_story(), self.some_device()) else { return };
        let id = v1::StoryId { user_id: self.user(story.0), number: story.1 };
        let (posted, of) = (&self.stories[&story], self.devices[by].of);
        if posted.readers.contains(&of) || posted.may_have.contains(&of) {
            self.task(by, Request::SeeStory(v1::SeeStory { story: Some(id) }), Deed::See(story));
        }
    }

    /// Somebody uploads something. What fails is given up.
    fn upload(&mut self) {
        let at = self.rng.usize(..PHONES.len());
        let medium = MediaId::from_bytes(std::array::from_fn(|_| self.rng.u8(..)));
        let user = self.devices[at].who.user;
        for ask in [UploadAsk::Begin { medium, bytes: 100 }, UploadAsk::Whole { medium, bytes: 100 }] {
            let number = self.node.ask_owner(Slot::of_user(user.get()), AdminRequest::Upload(user, ask));
            self.node.settle(&mut self.rng);
            if !matches!(self.node.answer(number), Some(AdminResponse::Upload(Ok(())))) {
                return;
            }
        }
        self.media.push((at, medium));
    }

    /// Asks, when nothing else is under way, and waits for the answer.
    fn ask_for(&mut self, at: usize, request: Request) -> Message {
        let link = self.devices[at].link.expect("it is quiet");
        self.devices[at].requests += 1;
        let id = self.devices[at].requests;
        self.node.request(link, id, request);
        self.node.settle(&mut self.rng);
        let frames = self.node.receive(link).expect("it stands");
        let mut answer = None;
        for frame in frames {
            match frame.id == id {
                true => answer = frame.message,
                false => self.take(at, frame),
            }
        }
        answer.expect("an answer")
    }

    /// All stories that a device is shown, page by page.
    fn feed(&mut self, at: usize) -> Vec<v1::Story> {
        let (mut stories, mut after) = (Vec::new(), None);
        loop {
            let list = v1::ListStories { after, limit: self.rng.u32(..4) };
            match self.ask_for(at, Request::ListStories(list)) {
                Message::StoriesPage(page) => {
                    stories.extend(page.stories);
                    after = page.next;
                }
                other => panic!("{other:?}"),
            }
            if after.is_none() {
                return stories;
            }
        }
    }

    /// Whoever may see a story has it, and nobody else does.
    fn check(&mut self) {
        self.quiet();
        for by in 0..DEVICES {
            let at = self.devices[by].of;
            if self.gone.contains(&at) {
                continue;
            }
            let mut shown = self.feed(by);
            let now_ms = self.node.now_ms;
            self.check_shown(by, &shown);
            let people: BTreeMap<_, _> = (0..PHONES.len()).map(|at| (self.user(at), at)).collect();
            for (story @ (author, number), posted) in &self.stories {
                let blocks = [(at, *author), (*author, at)].iter().any(|pair| self.blocks.contains(pair));
                let may = *author == at || posted.readers.contains(&at) && !blocks;
                let is_gone = posted.is_deleted || self.gone.contains(author);
                let expires_ms = posted.expires_ms.expect("it is posted");
                let is_it = |shown: &v1::Story| (people[&shown.user_id], shown.number) == *story;
                let found = shown.iter().position(is_it).map(|place| shown.swap_remove(place));
                let is_unsure = posted.may_have.contains(&at) && !blocks && !is_gone && now_ms < expires_ms;
                if now_ms.abs_diff(expires_ms) < 1_000 || is_unsure {
                    continue;
                }
                let expected = may && !is_gone && now_ms < expires_ms;
                assert_eq!(found.is_some(), expected, "{story:?} for {by}: {posted:?}, {now_ms}");
                let Some(found) = found else { continue };
                assert_eq!(found.expires_ms, expires_ms);
                assert_eq!(found.seen, posted.seen.contains(&at) && at != *author, "{number} for {by}");
                assert_eq!(found.muted, self.mutes.contains(&(at, *author)), "{number} for {by}");
                assert!(found.body.windows(posted.text.len()).any(|part| part == posted.text.as_bytes()));
                assert_eq!((found.media.len(), found.links.len()), (posted.media.len(), posted.media.len()));
            }
            assert!(shown.is_empty(), "nobody has posted {shown:?}");
        }
        self.check_viewers();
        for ((author, _), posted) in &mut self.stories {
            // What they had is gone by now, and does not come again.
            posted.may_have.retain(|other| !self.blocks.contains(&(*author, *other)));
        }
        let (now_ms, mut ended) = (self.node.now_ms, Vec::new());
        let has_ended = |posted: &Posted| posted.expires_ms.is_some_and(|ends| ends + 5_000 < now_ms);
        self.stories.retain(|story, posted| {
            ended.extend(has_ended(posted).then_some(*story));
            !has_ended(posted)
        });
        self.free.extend(ended.into_iter().filter(|(author, _)| !self.gone.contains(author)));
    }

    /// What a device shows, by what it was told since it last read the list, is what the list says.
    fn check_shown(&mut self, by: usize, list: &[v1::Story]) {
        let now_ms = self.node.now_ms;
        let people: BTreeMap<_, _> = (0..PHONES.len()).map(|at| (self.user(at), at)).collect();
        let of = self.devices[by].of;
        let listed = list.iter().map(|story| (people[&story.user_id], story.number));
        let listed: BTreeSet<_> = listed.filter(|(author, _)| *author != of).collect();
        let ends = |story: &&Story| match self.stories.get(story) {
            Some(posted) => posted.expires_ms.is_none_or(|ends| ends <= now_ms + 1_000),
            None => true,
        };
        if let Some(shows) = &self.devices[by].shows {
            let shown: Vec<_> = shows.iter().filter(|story| story.0 != of && !ends(story)).collect();
            let listed: Vec<_> = listed.iter().filter(|story| !ends(story)).collect();
            assert_eq!(shown, listed, "what {by} shows, and what the list says");
        }
        self.devices[by].shows = Some(listed);
    }

    /// Whoever posted a story knows who has seen it, but for those who hide that.
    fn check_viewers(&mut self) {
        for (story, posted) in self.stories.clone() {
            let expires_ms = posted.expires_ms.expect("it is posted");
            if self.gone.contains(&story.0) || self.node.now_ms.abs_diff(expires_ms) < 1_000 {
                continue;
            }
            let (mut viewers, mut after) = (BTreeSet::new(), 0);
            loop {
                let list = v1::ListViewers { number: story.1, after, limit: self.rng.u32(..3) };
                match self.ask_for(story.0, Request::ListViewers(list)) {
                    Message::ViewersPage(page) => {
                        viewers.extend(page.viewers.iter().map(|viewer| viewer.user_id));
                        after = page.next;
                    }
                    Message::Refused(refused) => {
                        assert_eq!(refused.reason(), Reason::NoSuchStory);
                        assert!(posted.is_deleted || expires_ms <= self.node.now_ms, "{story:?}");
                        break;
                    }
                    other => panic!("{other:?}"),
                }
                if after == 0 {
                    let hides = self.hides.contains(&story.0);
                    let known = posted.viewers.iter().map(|at| self.user(*at));
                    let known: BTreeSet<_> = known.filter(|_| !hides).collect();
                    let unsure: BTreeSet<_> = posted.may_have_seen.iter().map(|at| self.user(*at)).collect();
                    let different = viewers.symmetric_difference(&known);
                    assert!(different.clone().all(|user| unsure.contains(user)), "{story:?}: {posted:?}");
                    break;
                }
            }
        }
    }

    fn live(&mut self) {
        for _ in 0..120 {
            match self.rng.u8(..40) {
                0..9 => self.post(),
                9..12 => self.delete(),
                12..18 => self.see(),
                18 => self.relate(),
                19 => self.check(),
                20..22 => self.upload(),
                22..25 if self.starts_again => self.crash(self.faults),
                22 => _ = self.node.lose_brain(self.rng.u16(..), &mut self.rng),
                23..25 => {
                    let busy_per_mille = self.rng.u16(..200);
                    self.node.weather(Weather { busy_per_mille, ..Weather::default() });
                }
                25..28 => {
                    let at = self.rng.usize(..PHONES.len());
                    self.node.move_slot(Slot::of_user(self.user(at)), self.rng.u16(..));
                }
                28..30 => self.node.tick(300),
                30 => {
                    let ms = self.rng.u64(..self.limits.story_valid_ms / 2);
                    self.node.tick(ms);
                }
                _ => self.node.settle(&mut self.rng),
            }
            self.step();
        }
        self.end();
    }

    fn step(&mut self) {
        for at in 0..self.devices.len() {
            self.connect(at);
        }
        for _ in 0..self.rng.usize(..30) {
            self.node.step(&mut self.rng);
        }
        self.ask_tasks();
        for _ in 0..self.rng.usize(..40) {
            self.node.step(&mut self.rng);
        }
        self.receive();
        if self.node.has_failed() {
            self.crash(self.faults);
        }
    }

    fn end(&mut self) {
        self.check();
        self.leaves();
        self.pass(self.limits.story_valid_ms);
        self.check();
        // All that anybody has said of a story is of one whose time has come.
        let left: Vec<_> = self.story_rows();
        assert!(left.is_empty(), "what is left: {left:?}");
        self.pass(40 * REMOVED_AFTER_MS);
        let has_medium = |key: &[u8]| keys::medium_of(key).is_some_and(|(_, by)| by.is_some());
        assert!(!self.store.rows().iter().any(|(key, _)| has_medium(key)), "a medium is had by nothing");
    }

    /// Somebody's account ends: nobody has stories of theirs any more, nor they of others.
    fn leaves(&mut self) {
        let answer = self.node.delete(PHONES[LEAVES], &mut self.rng);
        assert!(matches!(answer, AdminResponse::Deleted(true)), "{answer:?}");
        self.gone.insert(LEAVES);
        for posted in self.stories.values_mut() {
            posted.readers.remove(&LEAVES);
        }
        self.pass(20_000);
        self.check();
        let of_gone = |row: &(u64, String)| row.0 == self.user(LEAVES) && row.1.starts_with('j');
        let left: Vec<_> = self.story_rows().into_iter().filter(of_gone).collect();
        assert!(left.is_empty(), "what is left of the account: {left:?}");
    }

    /// So much time passes, while all that is to be done is.
    fn pass(&mut self, ms: u64) {
        for _ in 0..40 {
            self.node.tick(ms / 40 + 600);
            self.node.settle(&mut self.rng);
        }
    }

    /// What there is of stories: whose, and what.
    fn story_rows(&self) -> Vec<(u64, String)> {
        let row = |(key, _): (Vec<u8>, bytes::Bytes)| {
            let of_story = keys::story_row(&key).map(|(user, row)| (user, format!("j {row:?}")));
            let due = || keys::story_due_of(&key).map(|(at_ms, user, ..)| (user, format!("t {at_ms}")));
            of_story.or_else(due)
        };
        self.store.rows().into_iter().filter_map(row).collect()
    }
}

fn live(seed: u64) {
    World::new(seed).live();
}

#[test]
fn whoever_may_see_a_story_has_it_and_nobody_else_and_nothing_is_left_of_it_in_the_end() {
    node::live_with_seeds("stories", 100, live);
}

/// An author on one core, and many who may see what they post: some of them on a core of their own.
struct Crowd {
    rng: Rng,
    store: Memory,
    node: Node,
    who: Provisioned,
    author: Link,
    readers: Vec<(Provisioned, Link)>,
    requests: u64,
}

/// How many there are, and how many of them are on the other core.
const CROWD: usize = 150;
const APART: usize = 70;
const SILENT: u16 = 1;

impl Crowd {
    fn new(count: usize) -> Self {
        let mut rng = Rng::with_seed(1);
        let store = Memory::new();
        let mut node = Node::start(&store, 2, &limits(), 1_000_000);
        let author = node.provision(PHONES[0], &mut rng);
        let of_author = Slot::of_user(author.user.get());
        let mut readers: Vec<Provisioned> = Vec::new();
        for number in 0..count {
            let reader = node.provision(&format!("+1555100{number:04}"), &mut rng);
            let slot = Slot::of_user(reader.user.get());
            let others = || readers[..APART.min(readers.len())].iter().map(|other| other.user);
            let is_taken = slot == of_author || others().any(|other| Slot::of_user(other.get()) == slot);
            assert!(!is_taken, "another number makes other users");
            readers.push(reader);
        }
        let links = readers.into_iter().map(|reader| {
            let link = node.log_in(0, &reader.access_token);
            (reader, link)
        });
        let readers: Vec<_> = links.collect();
        let link = node.log_in(0, &author.access_token);
        let who = author.clone();
        let mut crowd = Self { rng, store, node, who, author: link, readers, requests: 10 };
        let all: Vec<_> = crowd.readers.iter().map(|(reader, _)| reader.user.get()).collect();
        for some in all.chunks(50) {
            crowd.knows(link, some);
        }
        for at in 0..count {
            crowd.knows(crowd.readers[at].1, &[author.user.get()]);
        }
        crowd.keep_apart();
        crowd
    }

    fn post(&mut self, audience: StoryAudience) {
        let body = v1::StoryText { text: "hello".into(), ..Default::default() }.encode_to_vec().into();
        let (number, kind, audience) = (1, Kind::Text.into(), audience.into());
        let post = v1::PostStory { number, kind, body, audience, ..Default::default() };
        self.request(self.author, Request::PostStory(post));
    }

    /// All that was in memory is lost.
    fn restart(&mut self) {
        self.node = Node::start(&self.store, 2, &limits(), self.node.now_ms);
    }

    fn request(&mut self, link: Link, request: Request) -> u64 {
        self.requests += 1;
        self.node.request(link, self.requests, request);
        self.requests
    }

    fn answer(&mut self, link: Link, id: u64) -> Message {
        let frames = self.node.receive(link).expect("it stands");
        frames.into_iter().find(|frame| frame.id == id).and_then(|frame| frame.message).expect("an answer")
    }

    fn knows(&mut self, link: Link, people: &[u64]) {
        let contact = |user_id: &u64| v1::Contact { user_id: *user_id, ..v1::Contact::default() };
        let what = What::Contacts(v1::Contacts { contacts: people.iter().map(contact).collect() });
        let body = v1::Private { what: Some(what) }.encode_to_vec().into();
        let (client_id, kind) = (self.requests, Kind::Private.into());
        let send = v1::Send { chat: PRIVATE, client_id, body, kind, ..v1::Send::default() };
        let id = self.request(link, Request::Send(send));
        self.node.settle(&mut self.rng);
        let answer = self.answer(link, id);
        assert!(matches!(answer, Message::Sent(_)), "{answer:?}");
    }

    /// Which of the readers have a story now, as their rows say.
    fn have(&self) -> BTreeSet<usize> {
        let rows = self.store.rows();
        let of_row = |(key, _): &(Vec<u8>, bytes::Bytes)| match keys::story_row(key) {
            Some((user, keys::StoryRow::InFeed(..))) => Some(user),
            _ => None,
        };
        let users: BTreeSet<_> = rows.iter().filter_map(of_row).collect();
        (0..self.readers.len()).filter(|at| users.contains(&self.readers[*at].0.user.get())).collect()
    }

    /// The author and most readers are on one core, and some on the other.
    fn keep_apart(&mut self) {
        let apart =
            self.readers[..APART.min(self.readers.len())].iter().map(|(reader, _)| (reader.user, SILENT));
        let others = self.readers[APART.min(self.readers.len())..].iter().map(|(reader, _)| (reader.user, 0));
        for (user, core) in apart.chain(others).chain([(self.who.user, 0)]).collect::<Vec<_>>() {
            self.node.move_slot(Slot::of_user(user.get()), core);
            self.node.settle(&mut self.rng);
        }
        // Its connection goes where the author is.
        self.author = self.node.log_in(0, &self.who.access_token);
        self.node.settle(&mut self.rng);
    }

    /// Ten seconds pass, in which a core does nothing: two and a half for each step.
    fn seconds_without_core(&mut self) {
        for _ in 0..20 {
            self.node.tick(500);
            self.node.settle_without_core(SILENT, &mut self.rng);
        }
    }

    /// Some pass in which all do what they can.
    fn minutes(&mut self) {
        for _ in 0..5 {
            self.node.tick(31_000);
            self.node.settle(&mut self.rng);
        }
    }
}

#[test]
fn nobody_waits_for_a_story_or_its_end_because_some_others_cannot_be_told() {
    let mut crowd = Crowd::new(CROWD);
    let all: BTreeSet<_> = (0..CROWD).collect();
    let apart: BTreeSet<_> = (0..APART).collect();
    crowd.post(StoryAudience::Contacts);
    crowd.node.settle_without_core(SILENT, &mut crowd.rng);
    crowd.seconds_without_core();
    assert_eq!(crowd.have(), &all - &apart);
    // Who could not be told so far is known to whatever starts next.
    crowd.restart();
    crowd.minutes();
    assert_eq!(crowd.have(), all);
    crowd.keep_apart();
    let id = crowd.request(crowd.author, Request::DeleteStory(v1::DeleteStory { number: 1 }));
    crowd.node.settle_without_core(SILENT, &mut crowd.rng);
    assert!(matches!(crowd.answer(crowd.author, id), Message::StoryDeleted(_)));
    crowd.seconds_without_core();
    assert_eq!(crowd.have(), apart);
    crowd.minutes();
    assert_eq!(crowd.have(), BTreeSet::new());
    let says = |(key, _): &(Vec<u8>, bytes::Bytes)| {
        matches!(keys::story_row(key), Some((_, keys::StoryRow::Told(..))))
    };
    assert!(!crowd.store.rows().iter().any(says), "all have heard");
}

/// What there is of stories: rows, and what is due.
fn rows_of_stories(store: &Memory) -> Vec<String> {
    let is_one = |key: &[u8]| keys::story_row(key).is_some() || keys::story_due_of(key).is_some();
    let rows = store.rows().into_iter().filter(|(key, _)| is_one(key));
    rows.map(|(key, _)| keys::describe(&key)).collect()
}

#[test]
fn nothing_is_left_of_a_story_that_ends_while_it_is_written_that_it_was_seen() {
    let mut crowd = Crowd::new(1);
    let reader = crowd.readers[0].1;
    crowd.post(StoryAudience::Contacts);
    crowd.node.settle(&mut crowd.rng);
    assert_eq!(crowd.have().len(), 1);
    crowd.node.tick(VALID_MS - 1);
    crowd.node.settle(&mut crowd.rng);
    crowd.store.hold();
    let story = Some(v1::StoryId { user_id: crowd.who.user.get(), number: 1 });
    crowd.request(reader, Request::SeeStory(v1::SeeStory { story }));
    crowd.node.settle_without_store(&mut crowd.rng);
    // What is read from here on does not show it.
    crowd.node.tick(1_000);
    crowd.node.settle_without_store(&mut crowd.rng);
    // All that was decided is there before anybody looks again.
    crowd.node.settle(&mut crowd.rng);
    crowd.minutes();
    assert_eq!(rows_of_stories(&crowd.store), Vec::<String>::new());
}

#[test]
fn nothing_is_left_of_a_story_that_ends_while_somebody_gets_it() {
    let mut crowd = Crowd::new(1);
    let reader = crowd.readers[0].0.user.get();
    let send = v1::Send { chat: reader, client_id: 99, body: "hi".into(), ..v1::Send::default() };
    crowd.request(crowd.author, Request::Send(send));
    crowd.node.settle(&mut crowd.rng);
    crowd.store.hold();
    // As a contact, and then by the chat.
    crowd.post(StoryAudience::Everyone);
    let is_told = |(key, _): &&(Vec<u8>, bytes::Bytes)| {
        matches!(keys::story_row(key), Some((_, keys::StoryRow::Told(..))))
    };
    while crowd.store.rows().iter().filter(is_told).count() < 2 {
        crowd.node.settle_without_store(&mut crowd.rng);
        assert!(crowd.store.step(), "both are told");
    }
    crowd.node.settle_without_store(&mut crowd.rng);
    crowd.node.tick(VALID_MS);
    crowd.node.settle_without_store(&mut crowd.rng);
    // All that was decided is there before anybody looks again.
    crowd.node.settle(&mut crowd.rng);
    crowd.minutes();
    assert_eq!(rows_of_stories(&crowd.store), Vec::<String>::new());
}

#[cfg(feature = "mutations")]
#[test]
fn each_fault_is_found() {
    node::find_each_fault("shard/tests/stories.rs", live);
}
