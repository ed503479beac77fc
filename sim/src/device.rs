//! A device: its machine, its tables in memory, its clocks, and an application that talks. Without a session it registers.

use std::collections::BTreeMap;
use std::time::Duration;

use tern_client::machine::tables::{Tables as _, Which};
use tern_client::machine::{Action, Ask, Input, Machine, Memory, Now, Progress, Reply, Settings, Ticket};
use tern_client::{Event, Kind};
use tern_proto::v1::{self, client_frame, server_frame};
use tern_storage::medium::stream::Stream;
use tern_wire::ids::{GROUPS_FROM, PRIVATE};

use crate::clocks::DeviceClock;
use crate::pins::Asked;
use crate::record::{Record, place_of};
use crate::registrar::Registrar;
use crate::talk::has_text;
use crate::work::{Tally, Work};
use crate::world::LinkId;

/// What a device is doing with the server.
#[derive(Debug)]
enum Life {
    /// It has no session.
    Registers(Box<Registrar>),
    Runs(Box<Machine<Memory>>),
}

/// What the application waits for.
#[derive(Debug)]
struct Wants {
    work: Work,
    /// The message that is to be sent: to whom, and its text.
    message: Option<(u64, Vec<u8>)>,
    /// A group is to be made or changed, or something is to be done to a message that is no text.
    is_change: bool,
    /// The device that is to be ended.
    ends: Option<u32>,
    /// The PIN that is to be set, or removed.
    pin: Option<Asked>,
    /// The report that is made.
    report: Option<u64>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Device {
    /// Its place among the devices.
    number: usize,
    pub(crate) phone: String,
    /// 0 until it has had a session.
    pub(crate) user: u64,
    life: Option<Life>,
    /// Counts its runs.
    pub(crate) run: u64,
    /// Its connection, if it has one.
    pub(crate) link: Option<LinkId>,
    /// It is woken at this moment already.
    pub(crate) wakes_at: Option<Duration>,
    /// It does not read before this.
    pub(crate) reads_from: Duration,
    pub(crate) clock: DeviceClock,
    progress: Progress,
    tickets: Ticket,
    wants: BTreeMap<Ticket, Wants>,
    /// Where its machine stands.
    opening: Option<Work>,
    is_closing: bool,
    /// The last message with a key.
    pub(crate) keyed: Option<Ask>,
    /// Up to where it has told the server, by chat, that something was read which its library does not know of.
    pub(crate) read_apart: BTreeMap<u64, u64>,
    /// Whom it shows, with what it was told last of whether they are here.
    shows: BTreeMap<u64, Option<bool>>,
    /// Nobody looks at it.
    is_away: bool,
    /// The last page of a list of chats.
    pub(crate) page: Option<v1::ChatsPage>,
    /// Whom it has found last, in the order of their phones.
    pub(crate) discovered: Option<Vec<u64>>,
    seed: Stream,
}

fn start(tables: Memory, stream: &mut Stream) -> Life {
    let settings = Settings { server: "sim".to_owned(), receive: true };
    let machine = Machine::start(settings, tables, stream.seed());
    Life::Runs(Box::new(machine.expect("it is registered, and its tables work")))
}

impl Device {
    /// A device of a phone, with a session if it has tables.
    pub(crate) fn new(
        number: usize,
        phone: String,
        session: Option<(u64, Memory)>,
        stream: &mut Stream,
    ) -> Self {
        let mut seed = Stream::named(stream.number(), "device");
        let (user, life) = match session {
            Some((user, tables)) => (user, start(tables, &mut seed)),
            None => {
                let registrar = Registrar::new(phone.clone(), Duration::ZERO, &mut seed);
                (0, Life::Registers(Box::new(registrar)))
            }
        };
        Self {
            number,
            phone,
            user,
            life: Some(life),
            run: 1,
            link: None,
            wakes_at: None,
            reads_from: Duration::ZERO,
            clock: DeviceClock::default(),
            progress: Progress::default(),
            tickets: 0,
            wants: BTreeMap::new(),
            opening: None,
            is_closing: false,
            keyed: None,
            read_apart: BTreeMap::new(),
            shows: BTreeMap::new(),
            is_away: false,
            page: None,
            discovered: None,
            seed,
        }
    }

    fn life(&self) -> &Life {
        self.life.as_ref().expect("it is there but while it starts again")
    }

    /// Its machine, if it has a session.
    pub(crate) fn machine(&self) -> Option<&Machine<Memory>> {
        match self.life() {
            Life::Runs(machine) => Some(machine),
            Life::Registers(_) => None,
        }
    }

    /// Its session: the user and the device.
    pub(crate) fn session(&self) -> Option<(u64, u32)> {
        self.machine().map(|machine| (machine.account().user_id, machine.account().device_id))
    }

    /// When it is to be woken, by its own clock.
    pub(crate) fn wake_at(&self) -> Option<Duration> {
        match self.life() {
            Life::Registers(registrar) => Some(registrar.wake_at()),
            Life::Runs(machine) if machine.minds() => Some(Duration::ZERO),
            Life::Runs(machine) => machine.wake_at(),
        }
    }

    /// Whether its application may ask for something.
    pub(crate) fn takes_asks(&self) -> bool {
        !self.is_closing && self.machine().is_some_and(Machine::takes_asks)
    }

    /// What is under way here.
    pub(crate) fn under_way(&self) -> Vec<Work> {
        let mut kinds: Vec<_> = self.wants.values().map(|wants| wants.work).chain(self.opening).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    /// Its process dies, and starts again on what is stored. Of a registration nothing is.
    pub(crate) fn crash(&mut self, now: Duration) {
        let life = match self.life.take().expect("it is there") {
            Life::Registers(_) => self.registers(now),
            Life::Runs(machine) => {
                let mut tables = machine.into_tables();
                tables.roll_back();
                tables.fail_after(None);
                start(tables, &mut self.seed)
            }
        };
        self.begins(life);
    }

    fn registers(&mut self, now: Duration) -> Life {
        let monotonic = self.clock.monotonic(now);
        Life::Registers(Box::new(Registrar::new(self.phone.clone(), monotonic, &mut self.seed)))
    }

    /// Another run begins.
    fn begins(&mut self, life: Life) {
        self.run += 1;
        (self.life, self.link, self.wakes_at) = (Some(life), None, None);
        (self.progress, self.opening, self.is_closing) = (Progress::default(), None, false);
        (self.shows, self.is_away) = (BTreeMap::new(), false);
        self.wants.clear();
    }

    /// The application wants something. A message is one that the record knows.
    pub(crate) fn ask(&mut self, work: Work, ask: Ask, record: &mut Record) -> Input {
        self.tickets += 1;
        let message = match &ask {
            Ask::Send(message) if has_text(message.kind.number()) => {
                Some((message.chat, message.body.clone()))
            }
            _ => None,
        };
        let is_change = matches!(&ask, Ask::Send(message) if !has_text(message.kind.number()));
        let ends = match &ask {
            Ask::Request(client_frame::Request::EndDevice(ended)) => Some(ended.device_id),
            _ => None,
        };
        let pin = match &ask {
            Ask::Request(client_frame::Request::SetPin(set)) => {
                Some(record.pins.asks(&self.phone, set.pin.is_empty()))
            }
            _ => None,
        };
        let report = match &ask {
            Ask::Request(client_frame::Request::Report(report)) => Some(report.client_id),
            _ => None,
        };
        if let Ask::Show(shows) = &ask {
            // Of those whom it has shown, it keeps what it knows.
            let known = |user: &u64| self.shows.get(user).copied().flatten();
            self.shows = shows.user_ids.iter().map(|user| (*user, known(user))).collect();
            self.is_away = shows.away;
        }
        self.wants.insert(self.tickets, Wants { work, message, is_change, ends, pin, report });
        Input::Ask(self.tickets, ask)
    }

    /// The application ends, and starts again.
    pub(crate) fn close(&mut self) -> Input {
        self.is_closing = true;
        Input::Close
    }

    /// A code was delivered to its phone.
    pub(crate) fn code_came(&mut self, code: &str, now: Duration, record: &mut Record) -> Vec<Action> {
        let (monotonic, mut actions) = (self.clock.monotonic(now), Vec::new());
        if let Some(Life::Registers(registrar)) = &mut self.life {
            registrar.code_came(code, monotonic, &mut record.pins, &mut actions);
            (0..registrar.take_proofs()).for_each(|_| record.asks_for_session(&self.phone));
        }
        actions
    }

    /// What comes in at a moment of the world. The application deals with what it is told at once.
    pub(crate) fn turn(
        &mut self,
        now: Duration,
        input: Input,
        record: &mut Record,
        tally: &mut Tally,
    ) -> Result<Vec<Action>, String> {
        let actions = match self.life.as_mut().expect("it is there") {
            Life::Registers(_) => return self.registering(now, input, record, tally),
            Life::Runs(machine) => {
                let now = Now {
                    monotonic: self.clock.monotonic(now),
                    unix_ms: self.clock.wall.ms(now).max(0) as u64,
                };
                machine.note(self.progress);
                let mut actions = Vec::new();
                machine.handle(now, input, &mut actions);
                actions
            }
        };
        let mut is_over = false;
        for action in &actions {
            match action {
                Action::Tell { event, number } => {
                    self.progress.taken += 1;
                    self.progress.dealt_with = number.unwrap_or(self.progress.dealt_with);
                    self.told(event, record, tally)?;
                }
                Action::Answer(ticket, answer) => self.answered(*ticket, answer, record, tally)?,
                Action::Connect(_) => self.goes_on(Some(Work::Login), tally),
                Action::Close { .. } => self.goes_on(None, tally),
                Action::Status(_) | Action::Send(..) => {}
                Action::Over => is_over = true,
            }
        }
        if is_over {
            self.over(now, record)?;
        }
        Ok(actions)
    }

    fn registering(
        &mut self,
        now: Duration,
        input: Input,
        record: &mut Record,
        tally: &mut Tally,
    ) -> Result<Vec<Action>, String> {
        let Some(Life::Registers(registrar)) = &mut self.life else {
            unreachable!("its caller has just looked")
        };
        let (monotonic, mut actions, was_busy) = (self.clock.monotonic(now), Vec::new(), registrar.is_busy());
        let mut session = None;
        match input {
            Input::Due => registrar.due(monotonic, &mut record.pins, &mut actions),
            Input::Connected(connection) => registrar.connected(connection, monotonic, &mut actions),
            Input::Lost(connection, _) => registrar.lost(connection, monotonic),
            Input::Received(connection, bytes) => {
                session =
                    registrar.received(connection, &bytes, monotonic, &mut record.pins, &mut actions)?;
            }
            Input::Ask(..) | Input::Close => unreachable!("only a device with a session is asked"),
        }
        (0..registrar.take_proofs()).for_each(|_| record.asks_for_session(&self.phone));
        if !was_busy && registrar.is_busy() {
            self.goes_on(Some(Work::Register), tally);
        }
        if let Some((user, tables)) = session {
            if self.user != 0 && self.user != user {
                return Err(format!("the phone of {} leads to {user}", self.user));
            }
            tally.done(Work::Register);
            self.user = user;
            let life = start(tables, &mut self.seed);
            let link = self.link;
            self.begins(life);
            // Its connection is still to be closed.
            self.link = link;
        }
        Ok(actions)
    }

    /// It begins something with the server, or ends.
    fn goes_on(&mut self, opening: Option<Work>, tally: &mut Tally) {
        opening.into_iter().for_each(|work| tally.begun(work));
        self.opening = opening;
    }

    /// The machine has ended: as it was asked to, or with its session.
    fn over(&mut self, now: Duration, record: &mut Record) -> Result<(), String> {
        let Some(Life::Runs(machine)) = self.life.take() else { unreachable!("it has just run") };
        let link = self.link;
        let life = if self.is_closing {
            let mut tables = machine.into_tables();
            tables.roll_back();
            tables.fail_after(None);
            start(tables, &mut self.seed)
        } else {
            let (user, device) = (machine.account().user_id, machine.account().device_id);
            if !record.is_to_end(&self.phone, user, device) {
                return Err(format!("the session of device {device} of {user} is over"));
            }
            record.device_ended(self.number);
            for log in machine.tables().logs(Which::All(None), u32::MAX).expect("memory is read") {
                record.had(place_of(user, log.chat), user, log.position);
            }
            self.keyed = None;
            self.registers(now)
        };
        self.begins(life);
        self.link = link;
        Ok(())
    }

    fn answered(
        &mut self,
        ticket: Ticket,
        answer: &Result<Reply, tern_client::Error>,
        record: &mut Record,
        tally: &mut Tally,
    ) -> Result<(), String> {
        if let Ok(Reply::Kept) = answer {
            let wants = self.wants.get(&ticket).ok_or("an answer to nothing")?;
            if !wants.is_change {
                let (_, text) = wants.message.as_ref().ok_or("what is no message is kept")?;
                record.kept(text);
            }
            return Ok(());
        }
        let Wants { work, message, is_change, ends, pin, report } =
            self.wants.remove(&ticket).ok_or("a second answer, or one to nothing")?;
        match (answer, message, ends) {
            (Ok(Reply::Sent(sent)), Some((chat, text)), _) => {
                record.acknowledged(&text, place_of(self.user, chat), sent.seq)?;
            }
            (Ok(Reply::Sent(sent)), None, _) if is_change && (GROUPS_FROM..PRIVATE).contains(&sent.chat) => {
                record.group_is(sent.chat);
            }
            (Err(_), Some((_, text)), _) => record.refused(&text),
            (Ok(Reply::Message(server_frame::Message::DeviceEnded(_))), _, Some(device)) => {
                record.ended(self.user, device);
            }
            (Ok(Reply::Message(server_frame::Message::PinSet(_))), ..) => {
                record.pins.is_done(&self.phone, pin.ok_or("a PIN is set that nobody has asked for")?);
            }
            (Ok(Reply::Message(server_frame::Message::AccountEnds(_))), ..) => record.ends += 1,
            (Ok(Reply::Message(server_frame::Message::Reported(_))), ..) => {
                record.reports.is_durable(report.ok_or("a report is noted that nobody has made")?);
            }
            (Ok(Reply::Message(server_frame::Message::ChatsPage(page))), ..) => {
                self.page = Some(page.clone())
            }
            (Ok(Reply::Message(server_frame::Message::Discovered(found))), ..) => {
                self.discovered = Some(found.user_ids.clone());
            }
            _ => {}
        }
        if answer.is_ok() {
            tally.done(work);
        }
        Ok(())
    }

    fn told(&mut self, event: &Event, record: &mut Record, tally: &mut Tally) -> Result<(), String> {
        match event {
            // Of what was deleted there is nothing to say; that it was, the books say.
            Event::Message(message) if message.erased || message.kind == Kind::Withheld => {}
            Event::Presence { user_id, online, .. } => {
                if let Some(known) = self.shows.get_mut(user_id) {
                    *known = *online;
                }
            }
            // Who is here is told anew on the next connection.
            Event::Disconnected { .. } => self.shows.values_mut().for_each(|known| *known = None),
            Event::Message(message) if !has_text(message.kind.number()) => {
                let what = (message.kind.number(), message.envelope.about, message.body.clone());
                record.changed(place_of(self.user, message.chat), message.seq, what)?;
                if message.kind == Kind::Group {
                    record.group_is(message.chat);
                }
            }
            Event::Message(message) => {
                record.stands(place_of(self.user, message.chat), message.seq, &message.body)?;
            }
            Event::Connected => {
                tally.done(Work::Login);
                self.goes_on(Some(Work::CatchUp), tally);
            }
            Event::CaughtUp => {
                let was_open = self.opening.take() == Some(Work::CatchUp);
                (0..u32::from(was_open)).for_each(|_| tally.done(Work::CatchUp));
            }
            Event::NotSent { body, .. } => record.refused_late(body),
            Event::Gone(message) => {
                return Err(format!("{} of the chat with {} is gone", message.seq, message.chat));
            }
            Event::Rewound { chat, upto } => {
                return Err(format!("the chat with {chat} was put back to {upto}"));
            }
            _ => {}
        }
        Ok(())
    }

    /// Whom it shows, with what it knows of whether they are here.
    pub(crate) fn shown(&self) -> impl Iterator<Item = (u64, Option<bool>)> {
        self.shows.iter().map(|(user, known)| (*user, *known))
    }

    /// Whether nobody looks at it.
    pub(crate) fn is_away(&self) -> bool {
        self.is_away
    }

    /// Whether nothing is under way: it has a session and has caught up, and all that it was to send is sent.
    pub(crate) fn is_done(&self) -> bool {
        let is_empty =
            |machine: &Machine<Memory>| machine.tables().outbox().expect("memory is read").is_empty();
        self.link.is_some() && self.opening.is_none() && self.machine().is_some_and(is_empty)
    }

    /// What it has of each chat, by seq.
    pub(crate) fn chats(&self) -> BTreeMap<u64, BTreeMap<u64, Vec<u8>>> {
        let Some(machine) = self.machine() else { return BTreeMap::new() };
        let tables = machine.tables();
        let logs = tables.logs(Which::All(None), u32::MAX).expect("memory is read");
        let texts = |chat, upto| {
            let entries = tables.entries(chat, 0, upto, u32::MAX).expect("memory is read");
            entries.into_iter().map(|entry| (entry.seq, entry.body.to_vec())).collect()
        };
        logs.into_iter().map(|log| (log.chat, texts(log.chat, log.position))).collect()
    }
}
