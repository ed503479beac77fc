//! A server as it should be, small: one account, one peer, one chat. The cases do what a server may do at its worst around it. It
//! notes what a client must never do, whatever the case.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use tern_proto::v1::{self, client_frame::Request, server_frame::Message};

/// The account, and who it chats with.
pub const ME: u64 = 2_908_166_648_099;
pub const PEER: u64 = 2_168_533_830_314;
pub const DEVICE: u32 = 1;
/// Another device of the account.
const OTHER_DEVICE: u32 = 2;
pub const PHONE: &str = "+15550001";
pub const CODE: &str = "471147";

const HOUR_MS: u64 = 3_600_000;

/// An entry of the chat.
#[derive(Clone)]
pub struct Stored {
    /// If it is the account's own: which device sent it, and its number.
    pub own: Option<(u32, u64)>,
    pub body: Vec<u8>,
    pub time_ms: u64,
    pub kind: i32,
    /// The message that it edits or deletes; 0: none.
    pub about: u64,
    /// When it ends, in ms since the Unix epoch; 0: never. This server erases nothing by itself.
    pub expires_ms: u64,
}

/// See the module.
pub struct World {
    pub limits: v1::Limits,
    pub store: Vec<u8>,
    pub generations: Vec<u64>,
    /// The chat, by seq from 1.
    pub log: Vec<Stored>,
    /// What the client has acknowledged.
    pub position: u64,
    /// The peer's watermarks.
    pub marks: (u64, u64),
    /// Access tokens end so soon.
    pub access_valid_ms: u64,
    /// Of each exchanged refresh token, the nonce and what it was exchanged for.
    refreshed: BTreeMap<String, (Vec<u8>, v1::Session)>,
    current_refresh: String,
    made: u64,
    /// What the client was given of the chat, of this past of the store.
    given: BTreeSet<u64>,
    /// Pushes of this connection that count.
    pushed: u64,
    pub connection: Connection,
    /// The bodies by the client's numbers.
    bodies: BTreeMap<u64, Vec<u8>>,
    pub highest_client_id: u64,
    /// What must never be, by duty.
    pub broken: Vec<(u8, String)>,
}

/// Of the connection that is open.
#[derive(Default)]
pub struct Connection {
    pub hello: bool,
    pub login: bool,
    pub resumed: bool,
    pub unanswered: BTreeSet<u64>,
}

fn code_sent() -> v1::CodeSent {
    v1::CodeSent { digits: 6, expires_in_ms: 300_000, attempts: 3, registration: 77 }
}

fn nobody(asked: &v1::Discover) -> Message {
    Message::Discovered(v1::Discovered { user_ids: vec![0; asked.hashes.len()] })
}

pub fn peer() -> v1::Person {
    v1::Person {
        user_id: PEER,
        name: "Bob".to_owned(),
        phone: "+15550002".to_owned(),
        version: 1,
        ..v1::Person::default()
    }
}

pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

pub fn response(id: u64, message: Message) -> v1::ServerFrame {
    v1::ServerFrame { id, message: Some(message) }
}

pub fn push(message: Message) -> v1::ServerFrame {
    response(0, message)
}

pub fn refused(id: u64, reason: i32, retry_after_ms: u32) -> v1::ServerFrame {
    let detail = "as a case has it".to_owned();
    response(id, Message::Refused(v1::Refused { reason, retry_after_ms, detail, ..Default::default() }))
}

pub fn go_away(reason: i32, reconnect_after_ms: u32) -> v1::ServerFrame {
    push(Message::GoAway(v1::GoAway { reason, reconnect_after_ms, detail: "as a case has it".to_owned() }))
}

impl World {
    pub fn new() -> Self {
        Self {
            limits: v1::Limits {
                body_bytes_max: 65_536,
                frame_bytes_max: 131_072,
                frame_bytes_max_before_login: 4096,
                requests_in_flight_max: 256,
                request_bytes_in_flight_max: 1 << 20,
                history_entries_max: 256,
                positions_max: 1024,
                idle_timeout_ms: 300_000,
                edit_window_ms: 900_000,
                deletion_window_ms: 3_600_000,
                call_rings_ms: 60_000,
            },
            store: b"0123456789abcdef".to_vec(),
            generations: vec![1001],
            log: Vec::new(),
            position: 0,
            marks: (0, 0),
            access_valid_ms: HOUR_MS,
            refreshed: BTreeMap::new(),
            current_refresh: String::new(),
            made: 0,
            given: BTreeSet::new(),
            pushed: 0,
            connection: Connection::default(),
            bodies: BTreeMap::new(),
            highest_client_id: 0,
            broken: Vec::new(),
        }
    }

    pub fn head(&self) -> u64 {
        self.log.len() as u64
    }

    /// The peer says something.
    pub fn peer_says(&mut self, body: &str) -> u64 {
        self.store(None, v1::Kind::Text, body, 0)
    }

    /// The peer says something that ends after a while. Gives its seq, and when it ends.
    pub fn peer_says_for(&mut self, body: &str, after_ms: u64) -> (u64, u64) {
        let seq = self.peer_says(body);
        let stored = &mut self.log[seq as usize - 1];
        stored.expires_ms = stored.time_ms + after_ms;
        (seq, stored.expires_ms)
    }

    /// The peer gives a message of its own other words.
    pub fn peer_edits(&mut self, message: u64, body: &str) -> u64 {
        self.store(None, v1::Kind::Edit, body, message)
    }

    /// Whose the message is deletes it for everyone: the peer, or the account, from another device.
    pub fn is_deleted(&mut self, message: u64) -> u64 {
        let own = self.log[message as usize - 1].own.map(|_| (OTHER_DEVICE, 1));
        self.store(own, v1::Kind::Deletion, "", message)
    }

    fn store(&mut self, own: Option<(u32, u64)>, kind: v1::Kind, body: &str, about: u64) -> u64 {
        let (body, time_ms, kind) = (body.into(), now_ms(), kind.into());
        self.log.push(Stored { own, body, time_ms, kind, about, expires_ms: 0 });
        self.head()
    }

    /// Whether the body of an entry is erased: it was deleted for everyone, or is an edit of what was.
    fn is_erased(&self, seq: u64) -> bool {
        let stored = &self.log[seq as usize - 1];
        let message = if stored.kind == v1::Kind::Edit as i32 { stored.about } else { seq };
        self.log.iter().any(|other| other.kind == v1::Kind::Deletion as i32 && other.about == message)
    }

    /// An entry as it is pushed.
    pub fn entry(&mut self, seq: u64) -> v1::ServerFrame {
        self.given.insert(seq);
        self.pushed += 1;
        push(Message::Entry(self.view(seq, true)))
    }

    pub fn receipt(&mut self, delivered_upto: u64, read_upto: u64) -> v1::ServerFrame {
        self.pushed += 1;
        push(Message::Receipt(v1::Receipt { chat: PEER, delivered_upto, read_upto, member: 0 }))
    }

    pub fn rewound(&mut self, upto: u64) -> v1::ServerFrame {
        self.pushed += 1;
        self.given.split_off(&(upto + 1));
        push(Message::Rewound(v1::Rewound { chat: PEER, upto, head: self.head() }))
    }

    fn view(&self, seq: u64, with_peer: bool) -> v1::Entry {
        let Stored { own, body, time_ms, kind, about, expires_ms } = self.log[seq as usize - 1].clone();
        let (sender_device, client_id) = own.unwrap_or_default();
        let erased = self.is_erased(seq);
        v1::Entry {
            chat: if with_peer { PEER } else { 0 },
            seq,
            time_ms,
            body: if erased { Vec::new() } else { body }.into(),
            kind,
            sender: if own.is_some() { ME } else { 0 },
            sender_device,
            client_id,
            about,
            expires_ms,
            erased,
            ..v1::Entry::default()
        }
    }

    /// The store is put back from a copy: what is behind `upto` has never been, and another generation begins.
    pub fn put_back(&mut self, upto: u64) {
        self.log.truncate(upto as usize);
        self.position = self.position.min(upto);
        self.generations =
            vec![*self.generations.first().unwrap_or(&1), self.generations.len() as u64 + 5000];
        self.bodies.clear();
    }

    pub fn connected(&mut self) {
        (self.connection, self.pushed) = (Connection::default(), 0);
    }

    pub fn breaks(&mut self, duty: u8, why: impl Into<String>) {
        self.broken.push((duty, why.into()));
    }

    /// Notes what a client must never do.
    pub fn watch(&mut self, frame: &v1::ClientFrame) {
        let Some(request) = &frame.request else {
            return self.breaks(1, "it sent a frame without a request");
        };
        let silent = matches!(request, Request::Acknowledge(_) | Request::Activity(_) | Request::Credit(_));
        if frame.id == 0 && !silent {
            self.breaks(1, "it sent a request without an id");
        }
        if frame.id != 0 && !self.connection.unanswered.insert(frame.id) {
            self.breaks(1, "it used an id twice at a time");
        }
        let unanswered = self.connection.unanswered.len();
        if self.connection.login && unanswered > self.limits.requests_in_flight_max as usize {
            let max = self.limits.requests_in_flight_max;
            self.breaks(2, format!("{unanswered} requests were unanswered at a time, and Limits say {max}"));
        }
        if !self.connection.hello && !matches!(request, Request::Hello(_)) {
            self.breaks(1, "its first request was not Hello");
        }
        match request {
            Request::Send(send) => self.watch_send(send),
            Request::Acknowledge(acknowledge) => {
                let upto = acknowledge.delivered_upto.max(acknowledge.read_upto);
                let has = (1..).take_while(|seq| self.given.contains(seq)).last().unwrap_or(0);
                if upto > has {
                    self.breaks(6, format!("it acknowledged {upto}, and was given all only up to {has}"));
                }
            }
            Request::Credit(credit) if credit.frames > self.pushed => {
                let pushed = self.pushed;
                self.breaks(5, format!("it confirmed {} pushes of {pushed}", credit.frames));
            }
            Request::Resume(resume) if resume.generations.len() > 16 => {
                self.breaks(13, "it named more than 16 generations");
            }
            _ => {}
        }
    }

    fn watch_send(&mut self, send: &v1::Send) {
        if send.body.len() > self.limits.body_bytes_max as usize {
            let max = self.limits.body_bytes_max;
            self.breaks(2, format!("it sent a body of {} bytes, and Limits say {max}", send.body.len()));
        }
        match self.bodies.get(&send.client_id) {
            Some(body) if *body != send.body => {
                self.breaks(3, format!("it used the client_id {} for two messages", send.client_id));
            }
            Some(_) => {}
            None => drop(self.bodies.insert(send.client_id, send.body.to_vec())),
        }
        self.highest_client_id = self.highest_client_id.max(send.client_id);
    }

    /// What a server as it should be answers. What it takes is taken, also if the answer never leaves.
    pub fn answer(&mut self, frame: &v1::ClientFrame) -> Vec<v1::ServerFrame> {
        let Some(request) = frame.request.clone() else { return Vec::new() };
        let answers = self.answer_to(frame.id, request);
        // What was not given a number is not answered.
        if frame.id == 0 { Vec::new() } else { answers }
    }

    fn answer_to(&mut self, id: u64, request: Request) -> Vec<v1::ServerFrame> {
        let message = match request {
            Request::Hello(_) => {
                self.connection.hello = true;
                Message::Welcome(self.welcome())
            }
            Request::Register(_) => Message::CodeSent(code_sent()),
            Request::Verify(verify) if verify.code != CODE || verify.registration != 77 => {
                return vec![refused(id, v1::Reason::CodeWrong.into(), 0)];
            }
            Request::Verify(_) => Message::Session(self.session()),
            Request::Refresh(refresh) => return vec![self.refresh(id, &refresh)],
            Request::Login(_) => {
                self.connection.login = true;
                Message::LoggedIn(v1::LoggedIn {
                    user_id: ME,
                    device_id: DEVICE,
                    name: "Ann".to_owned(),
                    newest_device_id: DEVICE,
                })
            }
            Request::Lookup(_) => Message::Person(peer()),
            Request::Discover(asked) => nobody(&asked),
            Request::Send(send) => Message::Sent(self.append(&send)),
            Request::Acknowledge(acknowledge) => {
                self.position = self.position.max(acknowledge.delivered_upto).min(self.head());
                Message::Acknowledged(v1::Acknowledged {})
            }
            Request::Resume(resume) => return self.resume(id, &resume),
            Request::History(history) => Message::HistoryPage(self.history(&history)),
            Request::Credit(_) => return Vec::new(),
            Request::Ping(_) => Message::Pong(v1::Pong { time_ms: now_ms() }),
            Request::Chats(_) => Message::ChatsPage(v1::ChatsPage::default()),
            Request::Devices(_)
            | Request::EndDevice(_)
            | Request::NewLink(_)
            | Request::NewCard(_)
            | Request::Link(_)
            | Request::RingDevice(_)
            | Request::Rename(_)
            | Request::SetPin(_)
            | Request::SetPush(_)
            | Request::AboutPush(_)
            | Request::DeleteAccount(_)
            | Request::Subscribe(_)
            | Request::Activity(_)
            | Request::Report(_)
            | Request::AboutMedia(_)
            | Request::GetMedium(_)
            | Request::PostStory(_)
            | Request::DeleteStory(_)
            | Request::ListStories(_)
            | Request::SeeStory(_)
            | Request::ListViewers(_)
            | Request::CreateGroup(_)
            | Request::Search(_)
            | Request::AboutGroup(_) => {
                return vec![refused(id, v1::Reason::Unimplemented.into(), 0)];
            }
        };
        vec![response(id, message)]
    }

    fn welcome(&self) -> v1::Welcome {
        v1::Welcome {
            version: 1,
            server: "tern-conform".to_owned(),
            features: 0,
            limits: Some(self.limits),
            time_ms: now_ms(),
            store: self.store.clone().into(),
            generation: self.generations.last().copied().unwrap_or(1),
        }
    }

    fn session(&mut self) -> v1::Session {
        self.made += 1;
        self.current_refresh = format!("refresh-token-{}", self.made);
        v1::Session {
            phone: String::new(),
            user_id: ME,
            device_id: DEVICE,
            access_token: format!("access-token-{}", self.made),
            access_expires_ms: now_ms() + self.access_valid_ms,
            refresh_token: self.current_refresh.clone(),
            refresh_expires_ms: now_ms() + 7 * 24 * HOUR_MS,
        }
    }

    fn refresh(&mut self, id: u64, refresh: &v1::Refresh) -> v1::ServerFrame {
        if refresh.nonce.len() != 16 {
            self.breaks(8, "a nonce is not 16 bytes");
        }
        if let Some((nonce, session)) = self.refreshed.get(&refresh.refresh_token) {
            if *nonce == refresh.nonce {
                return response(id, Message::Session(session.clone()));
            }
            self.breaks(
                8,
                "it exchanged a refresh token again, with another nonce: it takes itself for a thief",
            );
            return refused(id, v1::Reason::TokenReused.into(), 0);
        }
        if refresh.refresh_token != self.current_refresh {
            self.breaks(8, "it used a refresh token that it was never given");
        }
        let (used, nonce) = (refresh.refresh_token.clone(), refresh.nonce.to_vec());
        let session = self.session();
        self.refreshed.insert(used, (nonce, session.clone()));
        response(id, Message::Session(session))
    }

    /// Appends a message, once for each number.
    pub fn append(&mut self, send: &v1::Send) -> v1::Sent {
        let own = Some((DEVICE, send.client_id));
        let known = self.log.iter().position(|stored| stored.own == own);
        let at = known.unwrap_or_else(|| {
            let (body, time_ms) = (send.body.to_vec(), now_ms());
            self.log.push(Stored { own, body, time_ms, kind: send.kind, about: send.about, expires_ms: 0 });
            self.log.len() - 1
        });
        self.given.insert(at as u64 + 1);
        v1::Sent { seq: at as u64 + 1, time_ms: self.log[at].time_ms, expires_ms: 0 }
    }

    /// What a device lacks, and what it has said of itself.
    fn resume(&mut self, id: u64, resume: &v1::Resume) -> Vec<v1::ServerFrame> {
        let listed = resume.positions.iter().find(|position| position.chat == PEER);
        let named = !resume.generations.is_empty();
        let trusted = named && resume.generations.iter().all(|known| self.generations.contains(known));
        let rewound = !trusted && (named || !resume.positions.is_empty());
        let mut frames = vec![response(id, Message::Resumed(v1::Resumed { rewound }))];
        let claimed = listed.map_or(self.position, |position| position.upto);
        let believed = if rewound || claimed > self.head() { claimed.min(self.position) } else { claimed };
        if claimed > believed {
            frames.push(self.rewound(believed));
        }
        let first = if listed.is_some() { believed + 1 } else { self.position + 1 };
        for seq in first..=self.head() {
            frames.push(self.entry(seq));
        }
        let known = listed.map_or((0, 0), |position| (position.delivered_upto, position.read_upto));
        if self.marks != known && self.marks != (0, 0) {
            frames.push(self.receipt(self.marks.0, self.marks.1));
        }
        self.connection.resumed = true;
        frames.push(push(Message::CaughtUp(v1::CaughtUp {})));
        frames
    }

    fn history(&mut self, history: &v1::History) -> v1::HistoryPage {
        let limit = if history.limit == 0 { 256 } else { u64::from(history.limit.min(256)) };
        let head = self.head();
        let (first, last, more) = if history.forwards {
            let last = (history.from.saturating_add(limit)).min(head);
            (history.from + 1, last, last < head)
        } else {
            let end = if history.from == 0 { head } else { (history.from - 1).min(head) };
            let first = end.saturating_sub(limit) + 1;
            (first, end, first > 1)
        };
        let entries = (first..=last).map(|seq| self.view(seq, false)).collect();
        self.given.extend(first..=last);
        let (delivered_upto, read_upto) = self.marks;
        v1::HistoryPage { entries, more, head, delivered_upto, read_upto, first: 0 }
    }
}
