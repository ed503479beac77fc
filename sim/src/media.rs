//! Media of a world, as far as there are any: who uploads what, which bytes lie where media lie, and whether all are there that a message,
//! a person or a group has. The listener is no part of it; what it asks of the cores is.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message as _;
use tern_shard::admin::{AdminRequest, AdminResponse, NoUpload, UploadAsk};
use tern_storage::medium::stream::Stream;
use tern_storage::records::{EntryRecord, MediumRecord};
use tern_storage::{LogId, Slot, keys};
use tern_wire::ids::{MediaId, UserId};
use tern_wire::private::Private;

/// Bytes of each.
const BYTES: u64 = 1000;

/// Media that nobody has been told to be gone are sent by people, at most.
const KNOWN_MAX: usize = 12;

/// How far an upload is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// Whether it may begin is asked.
    Begins,
    /// Its bytes lie there, and that is to be said.
    Came,
    /// It is said.
    Told,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Media {
    stream: Stream,
    /// There are media in this world.
    pub(crate) are: bool,
    /// What lies where media lie, whatever becomes of processes.
    bytes: BTreeSet<MediaId>,
    uploads: BTreeMap<MediaId, (UserId, Step)>,
    /// Questions of this process, by number.
    questions: BTreeMap<u64, MediaId>,
    asked: u64,
    /// What people know to be there, or to have been there.
    known: Vec<MediaId>,
}

/// A question to the owner of a slot.
pub(crate) struct Question {
    pub(crate) number: u64,
    pub(crate) slot: Slot,
    pub(crate) request: AdminRequest,
}

/// Numbers of questions of media are from here on.
pub(crate) const NUMBERS_FROM: u64 = 1 << 32;

impl Media {
    /// In one of three worlds there are media.
    pub(crate) fn new(seed: u64) -> Self {
        let mut stream = Stream::named(seed, "media");
        let are = stream.below(3) == 0;
        let (bytes, uploads, questions, known) = Default::default();
        Self { stream, are, bytes, uploads, questions, asked: NUMBERS_FROM, known }
    }

    /// Somebody uploads something, or goes on with what was begun.
    pub(crate) fn goes_on(&mut self, users: &[u64]) -> Vec<Question> {
        let mut asked = Vec::new();
        let came: Vec<_> = self
            .uploads
            .iter()
            .filter(|(_, (_, step))| *step == Step::Came)
            .map(|(id, (user, _))| (*id, *user))
            .collect();
        for (medium, user) in came {
            self.uploads.insert(medium, (user, Step::Told));
            asked.push(self.ask(medium, user, UploadAsk::Whole { medium, bytes: BYTES }));
        }
        let users: Vec<_> = users.iter().filter_map(|user| UserId::new(*user)).collect();
        if !users.is_empty() && self.stream.below(3) == 0 {
            let user = users[self.stream.below(users.len() as u64) as usize];
            let medium = MediaId::from_bytes(*self.stream.seed().first_chunk().expect("32 bytes"));
            self.uploads.insert(medium, (user, Step::Begins));
            asked.push(self.ask(medium, user, UploadAsk::Begin { medium, bytes: BYTES }));
        }
        asked
    }

    fn ask(&mut self, medium: MediaId, user: UserId, ask: UploadAsk) -> Question {
        self.asked += 1;
        self.questions.insert(self.asked, medium);
        let request = AdminRequest::Upload(user, ask);
        Question { number: self.asked, slot: Slot::of_user(user.get()), request }
    }

    /// A question is answered. `Err`: by something that it must not be.
    pub(crate) fn answered(&mut self, number: u64, answer: &AdminResponse) -> Result<(), String> {
        let Some(medium) = self.questions.remove(&number) else { return Ok(()) };
        let Some((user, step)) = self.uploads.get(&medium).copied() else { return Ok(()) };
        match (step, answer) {
            (Step::Begins, AdminResponse::Upload(Ok(()))) => {
                self.bytes.insert(medium);
                self.uploads.insert(medium, (user, Step::Came));
            }
            (Step::Told, AdminResponse::Upload(Ok(()))) => {
                self.uploads.remove(&medium);
                if self.known.len() >= KNOWN_MAX {
                    self.known.remove(0);
                }
                self.known.push(medium);
            }
            // Of an account that has ended nobody takes them.
            (Step::Told, AdminResponse::Upload(Err(NoUpload::Ended))) | (Step::Begins, _) => {
                self.uploads.remove(&medium);
                self.bytes.remove(&medium);
            }
            (Step::Told, _) => drop(self.uploads.insert(medium, (user, Step::Came))),
            (Step::Came, answer) => {
                return Err(format!("an upload is answered with {answer:?}, and nothing was asked"));
            }
        }
        Ok(())
    }

    /// A process has died: what it was asked is asked again, or forgotten.
    pub(crate) fn process_dies(&mut self) {
        self.questions.clear();
        for (_, step) in self.uploads.values_mut() {
            if *step == Step::Told {
                *step = Step::Came;
            }
        }
        self.uploads.retain(|_, (_, step)| *step != Step::Begins);
    }

    /// The bytes of a medium are removed. Gives what is to be said of that.
    pub(crate) fn removed(&mut self, medium: MediaId) -> Question {
        self.bytes.remove(&medium);
        self.asked += 1;
        let (slot, request) = (Slot::of_medium(medium.as_bytes()), AdminRequest::MediumRemoved(medium));
        Question { number: self.asked, slot, request }
    }

    /// How long it takes to remove a medium, in ms.
    pub(crate) fn takes_ms(&mut self) -> u64 {
        self.stream.below(800)
    }

    /// What goes with a message that somebody is about to send: now and then something that is there, or was.
    pub(crate) fn some(&mut self) -> Vec<MediaId> {
        if !self.are || self.known.is_empty() || self.stream.below(3) > 0 {
            return Vec::new();
        }
        vec![self.one_known()]
    }

    fn one_known(&mut self) -> MediaId {
        self.known[self.stream.below(self.known.len() as u64) as usize]
    }

    /// What names the picture that somebody is about to have, or a group; or, empty, that there is to be none. `None`: it stays as it is.
    pub(crate) fn picture(&mut self) -> Option<Bytes> {
        if !self.are || self.known.is_empty() {
            return None;
        }
        let is_none = self.stream.below(4) == 0;
        Some(if is_none { Bytes::new() } else { self.one_known().to_bytes() })
    }
}

/// What the store says of media.
#[derive(Default, Debug)]
pub(crate) struct Stored {
    media: BTreeMap<MediaId, MediumRecord>,
    cites: BTreeSet<(MediaId, LogId, u64)>,
    looks: BTreeSet<MediaId>,
}

/// The media that an entry has.
fn media_of(log: LogId, entry: &EntryRecord) -> Vec<MediaId> {
    if entry.erased {
        return Vec::new();
    }
    match (log, Private::parse(&entry.body)) {
        (LogId::Private(_), Ok(Private::Scheduled(_, send))) => {
            send.envelope.map_or(Vec::new(), |envelope| envelope.media)
        }
        _ => entry.media.iter().filter_map(|id| MediaId::from_slice(id)).collect(),
    }
}

impl Stored {
    /// A row of a table of media.
    pub(crate) fn row(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        if let Some((_, medium)) = keys::look_of(key) {
            self.looks.insert(MediaId::from_bytes(medium));
            return Some(());
        }
        let (medium, by) = keys::medium_of(key)?;
        let medium = MediaId::from_bytes(medium);
        match by {
            Some((log, seq)) => drop(self.cites.insert((medium, log, seq))),
            None => drop(self.media.insert(medium, MediumRecord::decode(value).ok()?)),
        }
        Some(())
    }

    /// - what an entry has, or is a picture, is there: its record, its bytes, and that the entry, the person or the group has it;
    /// - what says that something is had is so;
    /// - what nothing has is found.
    pub(crate) fn hold<'a>(
        &self,
        media: &Media,
        entries: impl Iterator<Item = (LogId, &'a EntryRecord)>,
        pictures: impl Iterator<Item = (LogId, &'a Bytes)>,
    ) -> Result<(), String> {
        let of_entries = entries
            .flat_map(|(log, entry)| media_of(log, entry).into_iter().map(move |id| (id, log, entry.seq)));
        let of_others =
            pictures.filter_map(|(log, picture)| Some((MediaId::from_slice(picture)?, log, keys::PICTURE)));
        let cites: BTreeSet<_> = of_entries.chain(of_others).collect();
        let is_lost = |(medium, ..): &&(MediaId, LogId, u64)| {
            !self.media.contains_key(medium) || !media.bytes.contains(medium)
        };
        if let Some((medium, log, seq)) = cites.iter().find(is_lost) {
            return Err(format!("{medium:?} is lost, which {seq} of {log:?} has"));
        }
        if let Some(cite) = cites.symmetric_difference(&self.cites).next() {
            let is_said = self.cites.contains(cite);
            return Err(format!("that {cite:?} has it is said: {is_said}, and that is not so"));
        }
        let cited: BTreeSet<_> = cites.iter().map(|(medium, ..)| *medium).collect();
        let is_lost = |medium: &&MediaId| !cited.contains(medium) && !self.looks.contains(medium);
        match self.media.keys().find(is_lost) {
            Some(medium) => Err(format!("nothing has {medium:?}, and nobody will find out")),
            None => Ok(()),
        }
    }
}
