//! What must hold of what a core says to a connection, looked at as it says it: each answer is to a request that was made and not
//! answered; nothing is told that is not durable; the entries of a chat are pushed in order, each once; watermarks never fall.
//!
//! What is durable it knows from the completions of the cores' own ports, and from the books that a start has read, not from the
//! brain.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use prost::Message as _;
use tern_proto::v1::{self, client_frame, server_frame};
use tern_search::Query;
use tern_storage::records::{MemberRecord, MembersRecord};
use tern_storage::{Batch, CommitId, LogId, Op, keys};
use tern_wire::message::text_of;

use crate::books::Books;
use crate::model::Stay;
use crate::record::place_of;

/// Where a member has got: delivered, read.
type Marks = (u64, u64);

/// What is durable, as all cores of a process know it.
#[derive(Clone, Default, Debug)]
pub(super) struct Proven(Rc<RefCell<Facts>>);

#[derive(Default, Debug)]
struct Facts {
    heads: BTreeMap<LogId, u64>,
    marks: BTreeMap<(LogId, u64), Marks>,
    /// When those who are, or were, in a group have seen it: from where, by which entry they came, up to where (0: on and on).
    stays: BTreeMap<LogId, BTreeMap<u64, Vec<Stay>>>,
    /// The store could not be read when the process started: nothing is known of what it held.
    is_blind: bool,
}

/// What follows from a batch that is not durable yet.
#[derive(Debug)]
enum Fact {
    Head(LogId, u64),
    Marks(LogId, u64, Marks),
    Stay(LogId, u64, Stay),
}

impl Proven {
    /// A process starts on this store. `None`: it could not be read.
    pub(super) fn begin(books: Option<&Books>) -> Self {
        let mut facts = Facts { is_blind: books.is_none(), ..Facts::default() };
        for (id, log) in books.into_iter().flat_map(|books| &books.logs) {
            facts.heads.insert(*id, log.head());
            for (user, member) in &log.members {
                facts.marks.insert((*id, *user), (member.delivered_upto, member.read_upto));
            }
            if let Some(group) = &log.group {
                let stays = group.people.iter().map(|(user, person)| (*user, person.stays.clone()));
                facts.stays.insert(*id, stays.collect());
            }
        }
        Self(Rc::new(RefCell::new(facts)))
    }

    fn prove(&self, fact: &Fact) {
        let mut facts = self.0.borrow_mut();
        match fact {
            Fact::Head(log, seq) => {
                let head = facts.heads.entry(*log).or_default();
                *head = (*head).max(*seq);
            }
            Fact::Stay(log, user, stay) => {
                let stays = facts.stays.entry(*log).or_default().entry(*user).or_default();
                match stays.last_mut().filter(|last| last.joined == stay.joined) {
                    Some(last) => *last = *stay,
                    None => stays.push(*stay),
                }
            }
            Fact::Marks(log, user, (delivered, read)) => {
                let marks = facts.marks.entry((*log, *user)).or_default();
                *marks = (marks.0.max(*delivered), marks.1.max(*read));
            }
        }
    }

    /// Whether somebody sees an entry of a group, or has.
    fn may_see(&self, log: LogId, user: u64, seq: u64) -> bool {
        let facts = self.0.borrow();
        let stays = facts.stays.get(&log).and_then(|people| people.get(&user));
        let sees = |stay: &Stay| stay.from <= seq && (stay.until == 0 || seq <= stay.until);
        facts.is_blind
            || matches!(log, LogId::Direct(..))
            || log == LogId::Private(user)
            || stays.is_some_and(|stays| stays.iter().any(sees))
    }

    /// Whether all others in a group have got so far.
    fn have_others(&self, log: LogId, user: u64, marks: Marks) -> bool {
        let facts = self.0.borrow();
        let is_in = |stays: &Vec<Stay>| stays.last().is_some_and(|stay| stay.until == 0);
        let people = facts.stays.get(&log).into_iter().flatten();
        let mut others =
            people.filter(|(other, stays)| **other != user && is_in(stays)).map(|(other, _)| *other);
        facts.is_blind
            || others.all(|other| {
                let known = facts.marks.get(&(log, other)).copied().unwrap_or_default();
                known.0 >= marks.0 && known.1 >= marks.1
            })
    }

    /// What is durable of who is in a group, and how far they have got.
    fn says_of(&self, log: LogId) -> String {
        let facts = self.0.borrow();
        let marks: Vec<_> = facts.marks.iter().filter(|((of, _), _)| *of == log).collect();
        format!("{:?}, {marks:?}", facts.stays.get(&log))
    }

    fn has_entry(&self, log: LogId, seq: u64) -> bool {
        let facts = self.0.borrow();
        facts.is_blind || facts.heads.get(&log).is_some_and(|head| *head >= seq)
    }

    fn has_marks(&self, log: LogId, user: u64, marks: Marks) -> bool {
        let facts = self.0.borrow();
        let known = facts.marks.get(&(log, user)).copied().unwrap_or_default();
        facts.is_blind || known.0 >= marks.0 && known.1 >= marks.1
    }
}

/// What follows from a core's batches, until they have ended.
#[derive(Default, Debug)]
pub(super) struct Unproven(VecDeque<(CommitId, Vec<Fact>)>);

impl Unproven {
    /// What a batch says.
    pub(super) fn read(batch: &Batch) -> Says {
        Says(batch.ops().flat_map(facts).collect())
    }

    /// It was submitted.
    pub(super) fn submitted(&mut self, commit: CommitId, says: Says) {
        self.0.push_back((commit, says.0));
    }

    /// It has ended: durable, or not.
    pub(super) fn ended(&mut self, commit: CommitId, proven: Option<&Proven>) {
        let (oldest, facts) = self.0.pop_front().expect("only what was submitted ends");
        assert_eq!(oldest, commit, "a port's commits end in order");
        if let Some(proven) = proven {
            facts.iter().for_each(|fact| proven.prove(fact));
        }
    }

    /// How many have not ended.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }
}

/// See [`Unproven::read`].
pub(super) struct Says(Vec<Fact>);

fn facts(op: Op<'_>) -> Vec<Fact> {
    let (key, Some(value)) = op else { return Vec::new() };
    let log = key.get(3..20).and_then(LogId::from_bytes);
    let (Some(b'w'), Some(log @ LogId::Group(_))) = (key.first(), log) else {
        return fact(op).into_iter().collect();
    };
    let members = MembersRecord::decode(value).expect("the brain writes good records").members;
    let of_member = |member: MemberRecord| {
        let (from, joined, until) = (member.from, member.joined, member.until);
        let marks = (member.delivered_upto, member.read_upto);
        [Fact::Marks(log, member.user, marks), Fact::Stay(log, member.user, Stay { from, joined, until })]
    };
    members.into_iter().flat_map(of_member).collect()
}

fn fact((key, value): Op<'_>) -> Option<Fact> {
    let value = value?;
    let log = || Some(LogId::from_bytes(key.get(3..20)?).expect("the brain writes good keys"));
    match key.first()? {
        b'e' => Some(Fact::Head(log()?, keys::number_of(key)?)),
        b'w' => {
            let record = MemberRecord::decode(value).expect("the brain writes good records");
            Some(Fact::Marks(log()?, keys::number_of(key)?, (record.delivered_upto, record.read_upto)))
        }
        _ => None,
    }
}

/// A request that is not answered.
#[derive(Default, Debug)]
struct Asked {
    /// The chat that it is about; 0: none.
    chat: u64,
    /// The token that is to be exchanged.
    token: Option<String>,
    /// What is searched for.
    query: Option<Query>,
}

/// A refresh token that comes or goes.
#[derive(Debug)]
pub(crate) enum Token {
    /// It is to be exchanged.
    Presented(String),
    /// It is given to a device of a user, in exchange for another one if it is not the first.
    Issued { user: u64, device: u32, token: String, parent: Option<String> },
}

/// What was asked and said on a connection.
#[derive(Default, Debug)]
pub(super) struct Talk {
    /// Whose it is, once it is logged in.
    user: u64,
    asked: BTreeMap<u64, Asked>,
    pushed: BTreeMap<u64, u64>,
    /// Watermarks told of a member of a chat.
    told: BTreeMap<(u64, u64), Marks>,
}

impl Talk {
    /// It stands for a device of a user.
    pub(super) fn logged_in(&mut self, user: u64) {
        self.user = user;
    }

    /// How many requests are not answered.
    pub(super) fn unanswered(&self) -> usize {
        self.asked.len()
    }

    /// A frame has come. What is none, and what asks for nothing, is not noted. Gives the token that it presents.
    pub(super) fn came(&mut self, frame: &[u8]) -> Option<Token> {
        use client_frame::Request as R;
        let Ok(v1::ClientFrame { id, request: Some(request) }) = v1::ClientFrame::decode(frame) else {
            return None;
        };
        if let R::Resume(resume) = &request {
            // It asks for these again.
            for position in &resume.positions {
                self.pushed.remove(&position.chat);
            }
        }
        let asked = match request {
            R::Send(send) => Asked { chat: send.chat, ..Asked::default() },
            R::History(history) => Asked { chat: history.chat, ..Asked::default() },
            R::Search(search) => Asked { query: Query::parse(&search.query).ok(), ..Asked::default() },
            R::Refresh(refresh) => Asked { token: Some(refresh.refresh_token), ..Asked::default() },
            _ => Asked::default(),
        };
        let token = asked.token.clone().map(Token::Presented);
        if id != 0 {
            self.asked.insert(id, asked);
        }
        token
    }

    /// A frame is said. `Err`: it must not be.
    pub(super) fn says(&mut self, frame: &v1::ServerFrame, proven: &Proven) -> Result<Option<Token>, String> {
        use server_frame::Message as M;
        let asked = match frame.id {
            0 => None,
            id => {
                Some(self.asked.remove(&id).ok_or_else(|| format!("{id} is answered, and nobody asks it"))?)
            }
        };
        let Asked { chat, token: parent, query } = asked.unwrap_or_default();
        if let Some(M::Session(session)) = &frame.message {
            let v1::Session { user_id: user, device_id: device, refresh_token, .. } = session;
            let token = refresh_token.clone();
            return Ok(Some(Token::Issued { user: *user, device: *device, token, parent }));
        }
        if let Some(M::Found(found)) = &frame.message {
            self.finds(query.as_ref(), found, proven)?;
        }
        self.tells_truth(chat, &frame.message, proven)?;
        Ok(None)
    }

    /// What a frame tells is durable, in order, and no less than before.
    fn tells_truth(
        &mut self,
        chat: u64,
        message: &Option<server_frame::Message>,
        proven: &Proven,
    ) -> Result<(), String> {
        use server_frame::Message as M;
        match message {
            // Where one's own entry stands one may know, though one may not see it: of a group that one asks to be let into.
            Some(M::Sent(sent)) => self.stands(chat, sent.seq, proven),
            Some(M::GroupCreated(created)) => self.shows(created.chat, created.seq, proven),
            Some(M::Entry(entry)) => {
                let last = self.pushed.insert(entry.chat, entry.seq);
                // What is withheld is told of when something follows; whoever came meanwhile has it, and is told again.
                let is_withheld = entry.kind == v1::Kind::Withheld as i32;
                if last.is_some_and(|last| last >= entry.seq) && !is_withheld {
                    return Err(format!("{} is pushed after {last:?} of {}", entry.seq, entry.chat));
                }
                self.shows(entry.chat, entry.seq, proven)
            }
            Some(M::Receipt(receipt)) => {
                let v1::Receipt { chat, delivered_upto, read_upto, member } = *receipt;
                let member = if member == 0 { chat } else { member };
                let marks = (delivered_upto, read_upto);
                let told = self.told.insert((chat, member), marks).unwrap_or_default();
                if told.0 > marks.0 || told.1 > marks.1 {
                    return Err(format!("{member} of the chat with {chat} falls from {told:?} to {marks:?}"));
                }
                self.tells(chat, member, marks, proven)
            }
            Some(M::HistoryPage(page)) => {
                self.shows(chat, page.head, proven)?;
                page.entries.iter().try_for_each(|entry| self.shows(chat, entry.seq, proven))?;
                self.tells(chat, chat, (page.delivered_upto, page.read_upto), proven)
            }
            Some(M::ChatsPage(page)) => page.chats.iter().try_for_each(|chat| {
                self.shows(chat.id, chat.head, proven)?;
                self.tells(chat.id, chat.id, (chat.delivered_upto, chat.read_upto), proven)?;
                self.tells(chat.id, self.user, (0, chat.own_read_upto), proven)
            }),
            _ => Ok(()),
        }
    }

    /// What is found is there to be seen, and says what was searched for.
    fn finds(&self, query: Option<&Query>, found: &v1::Found, proven: &Proven) -> Result<(), String> {
        for v1::Hit { message, edit } in &found.hits {
            let message = message.as_ref().ok_or("a hit is no message")?;
            let says = edit.as_ref().unwrap_or(message);
            self.shows(message.chat, message.seq, proven)?;
            self.shows(message.chat, says.seq, proven)?;
            let text = text_of(message.kind, &says.body).unwrap_or_default();
            let is_found = query.is_some_and(|query| query.matches(&text)) && !message.erased && !says.erased;
            if !is_found || edit.as_ref().is_some_and(|edit| edit.about != message.seq) {
                return Err(format!("{} of {} is found, and does not say so", message.seq, message.chat));
            }
        }
        Ok(())
    }

    fn shows(&self, chat: u64, seq: u64, proven: &Proven) -> Result<(), String> {
        let log = place_of(self.user, chat);
        if seq > 0 && !proven.may_see(log, self.user, seq) {
            return Err(format!("{seq} of {chat} is told to {}, who may not see it", self.user));
        }
        self.stands(chat, seq, proven)
    }

    fn stands(&self, chat: u64, seq: u64, proven: &Proven) -> Result<(), String> {
        let log = place_of(self.user, chat);
        if seq == 0 || proven.has_entry(log, seq) {
            return Ok(());
        }
        Err(format!("{seq} of the chat of {} and {chat} is told, and not durable", self.user))
    }

    fn tells(&self, chat: u64, member: u64, marks: Marks, proven: &Proven) -> Result<(), String> {
        let log = place_of(self.user, chat);
        let is_so = match log {
            LogId::Group(_) if member == chat => proven.have_others(log, self.user, marks),
            LogId::Private(user) => proven.has_marks(log, user, marks),
            _ => proven.has_marks(log, member, marks),
        };
        if marks == (0, 0) || is_so {
            return Ok(());
        }
        Err(format!(
            "that {member} of the chat of {} and {chat} is at {marks:?} is told, and not durable: {}",
            self.user,
            proven.says_of(log)
        ))
    }
}
