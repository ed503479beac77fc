//! A device: its machine, its tables in memory, and an application that talks.

use std::collections::BTreeMap;

use tern_client::Event;
use tern_client::machine::tables::{Tables as _, Which};
use tern_client::machine::{Action, Ask, Input, Machine, Memory, Now, Progress, Reply, Settings, Ticket};
use tern_storage::medium::stream::Stream;

use crate::network::LinkId;
use crate::record::{Record, chat};

/// See the module.
pub(crate) struct Device {
    pub(crate) user: u64,
    pub(crate) machine: Option<Machine<Memory>>,
    /// Counts its runs.
    pub(crate) run: u64,
    /// Its connection, if it has one.
    pub(crate) link: Option<LinkId>,
    /// It is woken at this moment already.
    pub(crate) wakes_at: Option<std::time::Duration>,
    /// It does not read before this.
    pub(crate) reads_from: std::time::Duration,
    progress: Progress,
    tickets: Ticket,
    /// Messages that were asked to be sent and are not answered.
    sending: BTreeMap<Ticket, (u64, Vec<u8>)>,
    pub(crate) is_caught_up: bool,
}

fn start(tables: Memory, stream: &mut Stream) -> Machine<Memory> {
    let settings = Settings { server: "sim".to_owned(), receive: true };
    Machine::start(settings, tables, stream.seed()).expect("it is registered, and its tables work")
}

impl Device {
    pub(crate) fn new(user: u64, tables: Memory, stream: &mut Stream) -> Self {
        Self {
            user,
            machine: Some(start(tables, stream)),
            run: 1,
            link: None,
            wakes_at: None,
            reads_from: std::time::Duration::ZERO,
            progress: Progress::default(),
            tickets: 0,
            sending: BTreeMap::new(),
            is_caught_up: false,
        }
    }

    pub(crate) fn machine(&self) -> &Machine<Memory> {
        self.machine.as_ref().expect("it is there but while it starts again")
    }

    /// Its process dies, and starts again on what is stored.
    pub(crate) fn crash(&mut self, stream: &mut Stream) {
        let mut tables = self.machine.take().expect("it is there").into_tables();
        tables.roll_back();
        tables.fail_after(None);
        *self = Self { run: self.run + 1, ..Self::new(self.user, tables, stream) };
    }

    /// The application wants something.
    pub(crate) fn ask(&mut self, ask: Ask) -> Input {
        self.tickets += 1;
        if let Ask::Send { peer, body, .. } = &ask {
            self.sending.insert(self.tickets, (*peer, body.clone()));
        }
        Input::Ask(self.tickets, ask)
    }

    /// One turn of the machine. The application deals with what it is told at once.
    pub(crate) fn turn(
        &mut self,
        now: Now,
        input: Input,
        record: &mut Record,
    ) -> Result<Vec<Action>, String> {
        let machine = self.machine.as_mut().expect("it is there");
        machine.note(self.progress);
        let mut actions = Vec::new();
        machine.handle(now, input, &mut actions);
        for action in &actions {
            match action {
                Action::Tell { event, number } => {
                    self.progress.taken += 1;
                    self.progress.dealt_with = number.unwrap_or(self.progress.dealt_with);
                    self.told(event, record)?;
                }
                Action::Answer(ticket, Ok(Reply::Sent(sent))) => {
                    let (peer, text) = self.sending.remove(ticket).ok_or("an answer to nothing")?;
                    record.acknowledged(&text, chat(self.user, peer), sent.seq)?;
                }
                Action::Answer(_, Ok(_)) | Action::Status(_) | Action::Send(..) => {}
                Action::Answer(ticket, Err(_)) => drop(self.sending.remove(ticket)),
                Action::Connect(_) | Action::Close { .. } => self.is_caught_up = false,
                Action::Over => return Err(format!("the session of {} is over", self.user)),
            }
        }
        Ok(actions)
    }

    fn told(&mut self, event: &Event, record: &mut Record) -> Result<(), String> {
        match event {
            Event::Message(message) => {
                record.stands(chat(self.user, message.peer), message.seq, &message.body)?;
            }
            Event::CaughtUp => self.is_caught_up = true,
            Event::Gone(message) => {
                return Err(format!("{} of the chat with {} is gone", message.seq, message.peer));
            }
            Event::Rewound { peer, upto } => {
                return Err(format!("the chat with {peer} was put back to {upto}"));
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether nothing is under way: it has caught up, and all that it was to send is sent.
    pub(crate) fn is_done(&self) -> bool {
        self.is_caught_up && self.machine().tables().outbox().expect("memory is read").is_empty()
    }

    /// What it has of each chat.
    pub(crate) fn chats(&self) -> BTreeMap<u64, Vec<Vec<u8>>> {
        let tables = self.machine().tables();
        let logs = tables.logs(Which::All(None), u32::MAX).expect("memory is read");
        let texts = |peer, upto| {
            let entries = tables.entries(peer, 0, upto, u32::MAX).expect("memory is read");
            entries.into_iter().map(|entry| entry.body.to_vec()).collect()
        };
        logs.into_iter().map(|log| (log.peer, texts(log.peer, log.position))).collect()
    }
}
