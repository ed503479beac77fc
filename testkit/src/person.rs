//! A user with a connection, who says things and notes what is pushed.

use std::collections::BTreeMap;

use prost::Message as _;
use tern_proto::v1::{self, Reason, client_frame::Request, group_change::Change, server_frame::Message};

use crate::{Raw, Ternd, TestUser};

/// A user with a connection that is told everything.
#[derive(Debug)]
pub struct Person {
    /// Who.
    pub user: TestUser,
    /// The connection.
    pub raw: Raw,
    /// How many messages were numbered.
    pub sent: u64,
    /// What was pushed, by chat: entries by their seqs, and the last receipt of the others.
    pub entries: BTreeMap<u64, Vec<v1::Entry>>,
    /// Receipts, as they came.
    pub receipts: Vec<v1::Receipt>,
    /// From where on groups show something.
    pub begins: BTreeMap<u64, u64>,
}

impl Person {
    /// A user who has logged in and is told everything from here on.
    pub fn new(server: &Ternd, user: TestUser) -> Self {
        let mut raw = Raw::logged_in(server, &user.token);
        let resumed = raw.ask(Request::Resume(v1::Resume::default()));
        assert!(matches!(resumed, Some(Message::Resumed(_))));
        let (entries, begins) = (BTreeMap::new(), BTreeMap::new());
        Self { user, raw, sent: 0, entries, receipts: Vec::new(), begins }
    }

    fn note(&mut self, message: Message) {
        match message {
            Message::Entry(entry) => self.entries.entry(entry.chat).or_default().push(entry),
            Message::Receipt(receipt) => self.receipts.push(receipt),
            Message::Begins(begins) => drop(self.begins.insert(begins.chat, begins.from)),
            _ => {}
        }
    }

    /// Asks, and notes what is pushed until the answer.
    pub fn ask(&mut self, request: Request) -> Message {
        let id = self.raw.send(request);
        loop {
            let frame = self.raw.receive().expect("the connection stands");
            let message = frame.message.expect("no kind that this does not know");
            if frame.id == id {
                return message;
            }
            self.note(message);
        }
    }

    /// Something about a message, or anything else that is to be sent under the next number.
    pub fn new_send(&mut self, chat: u64, kind: v1::Kind, about: u64, body: &[u8]) -> Request {
        let (client_id, body) = (self.next_id(), body.to_vec().into());
        Request::Send(v1::Send { chat, client_id, body, kind: kind.into(), about, ..Default::default() })
    }

    /// Says or does something, and gives its seq.
    pub fn sends(&mut self, chat: u64, kind: v1::Kind, about: u64, body: &[u8]) -> u64 {
        let send = self.new_send(chat, kind, about, body);
        seq_of(self.ask(send))
    }

    /// Tries to say or do something, and gives why that was refused.
    pub fn may_not_send(&mut self, chat: u64, kind: v1::Kind, about: u64, body: &[u8]) -> Reason {
        let send = self.new_send(chat, kind, about, body);
        self.refused(send)
    }

    /// Asks, and gives why that was refused.
    pub fn refused(&mut self, request: Request) -> Reason {
        match self.ask(request) {
            Message::Refused(refused) => refused.reason(),
            other => panic!("{other:?} and no refusal"),
        }
    }

    /// The next number of a message.
    pub fn next_id(&mut self) -> u64 {
        self.sent += 1;
        self.sent
    }

    /// A text that is to be sent.
    pub fn text(&mut self, chat: u64, text: &str) -> Request {
        self.new_send(chat, v1::Kind::Text, 0, text.as_bytes())
    }

    /// Says something, and gives its seq.
    pub fn say(&mut self, chat: u64, text: &str) -> u64 {
        let send = self.text(chat, text);
        seq_of(self.ask(send))
    }

    /// A change of a group that is to be sent.
    pub fn change(&mut self, chat: u64, change: Change) -> Request {
        let body = v1::GroupChange { change: Some(change) }.encode_to_vec();
        self.new_send(chat, v1::Kind::Group, 0, &body)
    }

    /// Changes a group, and gives the seq of that.
    pub fn changes(&mut self, chat: u64, change: Change) -> u64 {
        let send = self.change(chat, change);
        seq_of(self.ask(send))
    }

    /// Tries to change a group, and gives why that was refused.
    pub fn may_not(&mut self, chat: u64, change: Change) -> Reason {
        let send = self.change(chat, change);
        self.refused(send)
    }

    /// Makes a group, and gives its number.
    pub fn make(&mut self, name: &str, members: Vec<u64>, settings: v1::GroupSettings) -> u64 {
        let create = create(self.next_id(), name, members, settings);
        match self.ask(create) {
            Message::GroupCreated(created) => {
                assert_eq!(created.seq, 1);
                created.chat
            }
            other => panic!("{other:?} and no group"),
        }
    }

    /// What a group is.
    pub fn about(&mut self, chat: u64) -> v1::Group {
        match self.ask(Request::AboutGroup(v1::AboutGroup { chat, ..Default::default() })) {
            Message::Group(group) => *group,
            other => panic!("{other:?} and no group"),
        }
    }

    /// Takes pushes until an entry of a chat has come.
    pub fn hears(&mut self, chat: u64, seq: u64) {
        while !self.seqs(chat).contains(&seq) {
            let frame = self.raw.receive().expect("the connection stands");
            self.note(frame.message.expect("a push"));
        }
    }

    /// The seqs of what was pushed of a chat, in the order in which they came.
    pub fn seqs(&self, chat: u64) -> Vec<u64> {
        self.entries.get(&chat).map_or_else(Vec::new, |all| all.iter().map(|entry| entry.seq).collect())
    }

    /// Acknowledges.
    pub fn acknowledges(&mut self, chat: u64, delivered_upto: u64, read_upto: u64) {
        let acknowledge = v1::Acknowledge { chat, delivered_upto, read_upto };
        assert!(matches!(self.ask(Request::Acknowledge(acknowledge)), Message::Acknowledged(_)));
    }

    /// Takes pushes until a receipt says so much of the others.
    pub fn is_told(&mut self, chat: u64, delivered_upto: u64, read_upto: u64) {
        let says = |receipt: &v1::Receipt| {
            let marks = (receipt.delivered_upto, receipt.read_upto);
            receipt.chat == chat && receipt.member == 0 && marks == (delivered_upto, read_upto)
        };
        while !self.receipts.iter().any(says) {
            let frame = self.raw.receive().expect("the connection stands");
            self.note(frame.message.expect("a push"));
        }
    }

    /// The newest page of a chat.
    pub fn history(&mut self, chat: u64) -> v1::HistoryPage {
        match self.ask(Request::History(v1::History { chat, from: 0, forwards: false, limit: 0 })) {
            Message::HistoryPage(page) => page,
            other => panic!("{other:?} and no page"),
        }
    }

    /// A chat in the list of chats.
    pub fn listed(&mut self, chat: u64) -> Option<v1::Chat> {
        match self.ask(Request::Chats(v1::Chats::default())) {
            Message::ChatsPage(page) => page.chats.into_iter().find(|listed| listed.id == chat),
            other => panic!("{other:?} and no list"),
        }
    }
}

/// Makes a group.
pub fn create(client_id: u64, name: &str, members: Vec<u64>, settings: v1::GroupSettings) -> Request {
    let (name, settings) = (name.to_owned(), Some(settings));
    let group = v1::GroupMade { name, settings, members, ..v1::GroupMade::default() };
    Request::CreateGroup(v1::CreateGroup { client_id, group: Some(group) })
}

/// The seq of what was sent.
pub fn seq_of(answer: Message) -> u64 {
    match answer {
        Message::Sent(sent) => sent.seq,
        other => panic!("{other:?}, and not sent"),
    }
}

/// So many users, each with a connection.
pub fn people<const N: usize>(server: &Ternd) -> [Person; N] {
    let users: [TestUser; N] = server.provision(N as u32).try_into().expect("so many");
    users.map(|user| Person::new(server, user))
}

/// These come into a group.
pub fn added(users: &[&Person]) -> Change {
    Change::Added(v1::Members { user_ids: users.iter().map(|person| person.user.id).collect() })
}

/// Somebody gets a role in a group.
pub fn role(person: &Person, role: v1::Role) -> Change {
    Change::Role(v1::RoleGiven { user_id: person.user.id, role: role.into() })
}
