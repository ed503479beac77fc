//! A device of the world: a machine over tables in memory, the application on it, and what must hold of both after each of its turns.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use prost::Message as _;
use tern_client::machine::tables::{Tables as _, Which};
use tern_client::machine::{Action, Ask, Input, Machine, Memory, Now, Progress, Reply, Settings, Ticket};
use tern_client::{Error, Event, Message};
use tern_proto::v1::{self, client_frame::Request};
use tern_wire::frame::FrameBuffer;

use crate::server::{DeviceId, Server};

/// No turn of a machine does more than this.
const ACTIONS_MAX: usize = 2000;

/// What the application waits for.
#[derive(Clone, Debug)]
pub enum Asked {
    /// A message, and whether it is kept yet.
    Send {
        chat: u64,
        text: Vec<u8>,
        kept: bool,
    },
    Other,
}

pub struct Device {
    pub id: DeviceId,
    pub machine: Machine<Memory>,
    /// Distinguishes this run from those before it.
    pub run: u64,
    /// The machine's connection, and its number in the world.
    pub connection: Option<(u64, u64)>,
    pub is_over: bool,
    /// When it was woken last, and how often at that very moment.
    woken: (Duration, u32),
    pub wakes: u32,
    /// What it was told and the application has not taken.
    pub untaken: Vec<Option<u64>>,
    pub progress: Progress,
    pub asked: BTreeMap<Ticket, Asked>,
    tickets: Ticket,
    /// Texts that were kept, and to whom they are.
    pub kept: BTreeMap<Vec<u8>, u64>,
    pub refused: BTreeSet<Vec<u8>>,
    /// Messages that this run was told: by chat, seq, time and text.
    told: BTreeSet<(u64, u64, u64, Vec<u8>)>,
    last_told: BTreeMap<u64, u64>,
    pub is_caught_up: bool,
    positions: BTreeMap<u64, u64>,
    /// How often the server had been put back when this device was in order last.
    put_backs: u32,
    /// And when the present connection was begun.
    put_backs_then: u32,
    sent: FrameBuffer,
}

pub fn start(memory: Memory, random: &mut fastrand::Rng) -> Machine<Memory> {
    let mut seed = [0; 32];
    random.fill(&mut seed);
    let settings = Settings { server: "the model".to_owned(), receive: true };
    Machine::start(settings, memory, seed).expect("it is registered, and its store works")
}

impl Device {
    pub fn new(id: DeviceId, machine: Machine<Memory>, run: u64) -> Self {
        Self {
            id,
            machine,
            run,
            connection: None,
            is_over: false,
            woken: (Duration::ZERO, 0),
            wakes: 0,
            untaken: Vec::new(),
            progress: Progress::default(),
            asked: BTreeMap::new(),
            tickets: 0,
            kept: BTreeMap::new(),
            refused: BTreeSet::new(),
            told: BTreeSet::new(),
            last_told: BTreeMap::new(),
            is_caught_up: false,
            positions: BTreeMap::new(),
            put_backs: 0,
            put_backs_then: 0,
            sent: FrameBuffer::default(),
        }
    }

    /// The device after a crash: what is stored is all that it has.
    pub fn restarted(self, random: &mut fastrand::Rng, run: u64) -> Self {
        let (kept, refused, positions, put_backs) = (self.kept, self.refused, self.positions, self.put_backs);
        let mut memory = self.machine.into_tables();
        memory.roll_back();
        memory.fail_after(None);
        Self { kept, refused, positions, put_backs, ..Self::new(self.id, start(memory, random), run) }
    }

    /// The same device once more, from a copy of its store.
    pub fn copied(&self, random: &mut fastrand::Rng, run: u64) -> Self {
        let memory = self.machine.tables().clone();
        memory.fail_after(None);
        Self {
            kept: self.kept.clone(),
            refused: self.refused.clone(),
            positions: self.positions.clone(),
            put_backs: self.put_backs,
            ..Self::new(self.id, start(memory, random), run)
        }
    }

    pub fn asks(&mut self, ask: Ask) -> Input {
        self.tickets += 1;
        let asked = match &ask {
            Ask::Send(message) => Asked::Send { chat: message.chat, text: message.body.clone(), kept: false },
            _ => Asked::Other,
        };
        self.asked.insert(self.tickets, asked);
        Input::Ask(self.tickets, ask)
    }

    /// Has the machine make a turn, and looks at what it wants.
    pub fn turn(&mut self, now: Now, input: Input, server: &Server) -> Vec<Action> {
        if matches!(input, Input::Due) {
            self.wakes += 1;
            let (when, count) = self.woken;
            self.woken = (now.monotonic, if when == now.monotonic { count + 1 } else { 1 });
            assert!(self.woken.1 < 8, "it is awake all the time: {:?}", self.machine.wake_at());
        }
        // A message whose answer was lost may stand where this device still has one of before, which its retry tells.
        let is_sending = !self.machine.tables().outbox().expect("read").is_empty();
        let may_fall = server.put_backs > self.put_backs || server.put_backs > 0 && is_sending;
        let mut actions = Vec::new();
        self.machine.note(self.progress);
        self.machine.handle(now, input, &mut actions);
        assert!(actions.len() <= ACTIONS_MAX, "{} actions in one turn", actions.len());
        for action in &actions {
            assert!(!self.is_over, "it was over before {action:?}");
            self.look_at(action, server);
        }
        self.look_at_positions(may_fall);
        actions
    }

    fn look_at(&mut self, action: &Action, server: &Server) {
        match action {
            Action::Send(_, bytes) => self.look_at_frames(bytes, server),
            Action::Tell { event, number } => {
                self.untaken.push(*number);
                self.look_at_event(event);
            }
            Action::Answer(ticket, answer) => self.look_at_answer(*ticket, answer, server),
            Action::Connect(_) => {
                self.sent = FrameBuffer::default();
                self.put_backs_then = server.put_backs;
                self.is_caught_up = false;
            }
            Action::Close { .. } => self.is_caught_up = false,
            Action::Status(_) => {}
            Action::Over => self.is_over = true,
        }
    }

    /// What is acknowledged is stored, and dealt with.
    fn look_at_frames(&mut self, bytes: &[u8], server: &Server) {
        let mut frames = self.sent.read(bytes);
        while let Some(frame) = frames.next(64 * 1024).expect("short frames") {
            let frame = v1::ClientFrame::decode(frame).expect("whole frames");
            match frame.request.expect("requests") {
                Request::Acknowledge(v1::Acknowledge { chat, delivered_upto, read_upto }) => {
                    let log = self.machine.tables().log(chat).expect("read").unwrap_or_default();
                    let stored = log.position.min(log.told);
                    assert!(
                        delivered_upto <= stored,
                        "{chat}: {delivered_upto} acknowledged, of {stored} stored"
                    );
                    assert!(read_upto <= log.read_upto, "{chat}: acknowledged as read, and not stored");
                }
                Request::Send(v1::Send { client_id, body, .. }) => {
                    let is_kept = self.machine.tables().outgoing(client_id).expect("read").is_some();
                    // It may have come as an entry while it waited for the window.
                    let is_there = server.numbers.get(&(self.id, body.to_vec())) == Some(&client_id);
                    assert!(is_kept || is_there, "message {client_id} was sent, and is not kept");
                }
                Request::Refresh(refresh) => {
                    let row = self.machine.tables().device().expect("read").expect("registered");
                    assert_eq!(
                        row.nonce.as_deref(),
                        Some(&refresh.nonce[..]),
                        "a nonce is stored before its use"
                    );
                }
                Request::Login(login) => {
                    let row = self.machine.tables().device().expect("read").expect("registered");
                    assert_eq!(
                        row.account.access_token(),
                        login.access_token,
                        "tokens are stored before their use"
                    );
                }
                _ => {}
            }
        }
    }

    fn look_at_event(&mut self, event: &Event) {
        match event {
            Event::Message(message) => self.look_at_message(message),
            Event::Rewound { chat, upto } => {
                let last = self.last_told.entry(*chat).or_default();
                *last = upto.min(last).to_owned();
            }
            Event::Gone(Message { chat, seq, time_ms, body, .. }) => {
                self.told.remove(&(*chat, *seq, *time_ms, body.clone()));
            }
            Event::CaughtUp => {
                self.is_caught_up = true;
                self.put_backs = self.put_backs_then;
            }
            Event::NotSent { body, .. } => {
                self.refused.insert(body.clone());
            }
            Event::SessionEnded(reason) => {
                assert_eq!(*reason, tern_client::Reason::Replaced, "a session ends for no other reason here");
            }
            Event::OtherStore => panic!("there is one store"),
            _ => {}
        }
    }

    /// What is told is stored, in order and once.
    fn look_at_message(&mut self, message: &Message) {
        let Message { chat, seq, sender, time_ms, body, .. } = message;
        let entry = self.machine.tables().entry(*chat, *seq).expect("read");
        let entry = entry.unwrap_or_else(|| panic!("{message:?} was told, and is not stored"));
        let stored = (entry.sender, entry.time_ms, &entry.body[..]);
        assert_eq!(stored, (*sender, *time_ms, &body[..]), "{message:?} was told, and another one is stored");
        let log = self.machine.tables().log(*chat).expect("read").unwrap_or_default();
        assert!(*seq <= log.position, "{message:?} was told beyond a gap");
        assert!(*seq > log.told, "{message:?} was told after it had been dealt with");
        let last = self.last_told.insert(*chat, *seq).unwrap_or(0);
        assert!(*seq > last, "{message:?} was told after {last}");
        let is_new = self.told.insert((*chat, *seq, *time_ms, body.clone()));
        assert!(is_new, "{message:?} was told twice");
    }

    fn look_at_answer(&mut self, ticket: Ticket, answer: &Result<Reply, Error>, server: &Server) {
        let asked = self.asked.remove(&ticket).expect("what is answered was asked, and once");
        let Asked::Send { chat, text, kept } = asked else { return };
        let tables = self.machine.tables();
        match answer {
            Ok(Reply::Kept) => {
                assert!(!kept, "kept twice");
                let outbox = tables.outbox().expect("read");
                let mut texts = outbox.iter().filter_map(|(id, _)| tables.outgoing(*id).expect("read"));
                assert!(texts.any(|outgoing| outgoing.body == text), "told as kept, and not stored");
                self.kept.insert(text.clone(), chat);
                self.asked.insert(ticket, Asked::Send { chat, text, kept: true });
            }
            Ok(Reply::Sent(sent)) => {
                assert!(kept, "sent before it was kept");
                assert!(
                    server.was_at(self.id.0, chat, sent.seq, &text),
                    "told as sent, and never was: {sent:?}"
                );
            }
            Ok(reply) => panic!("a message was answered by {reply:?}"),
            Err(Error::Refused { .. }) => {
                self.refused.insert(text);
            }
            Err(error) => assert!(!kept || self.is_over || error.to_string().contains("ended"), "{error}"),
        }
    }

    /// Positions never fall, but where the server was put back.
    fn look_at_positions(&mut self, may_fall: bool) {
        for log in self.machine.tables().logs(Which::All(None), u32::MAX).expect("read") {
            let before = self.positions.insert(log.chat, log.position).unwrap_or(0);
            let (id, chat, position) = (self.id, log.chat, log.position);
            assert!(position >= before || may_fall, "{id:?} with {chat}: {before} fell to {position}");
            assert!(log.told <= log.position && log.acked <= log.position, "{log:?}");
        }
    }
}
