//! The task behind a client: gives the machine a socket, time and a thread for its store, and carries out what it wants.
//!
//! The store waits for the disk, so each of the machine's turns is made on a thread that may wait
//! ([`spawn_blocking`](tokio::task::spawn_blocking)), one after the other: what one has stored is stored before the next begins.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::ClientConfig;
use tern_proto::v1::{self, client_frame, lookup, server_frame};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use crate::client::{Delays, HistoryPage, Sent};
use crate::error::Error;
use crate::event::{Event, Shared, Status};
use crate::machine::rows::Person;
use crate::machine::{Action, Ask, Input, Machine, Now, Reply, Ticket};
use crate::message::NewMessage;
use crate::profile::StoreHandle;
use crate::store::Store;
use crate::wire::Wire;

pub(crate) type Answer<T> = oneshot::Sender<Result<T, Error>>;

/// What the application wants.
pub(crate) enum Call {
    Send {
        message: NewMessage,
        kept: Answer<()>,
        sent: Answer<Sent>,
    },
    Lookup {
        by: lookup::By,
        answer: Answer<Person>,
    },
    MarkRead {
        chat: u64,
        upto: u64,
        answer: Answer<()>,
    },
    Ask {
        request: client_frame::Request,
        answer: Answer<server_frame::Message>,
    },
    /// The same, of a person.
    LookUpMember {
        request: client_frame::Request,
        answer: Answer<Person>,
    },
    History {
        request: v1::History,
        answer: Answer<HistoryPage>,
    },
    /// What needs no server.
    Local(Local),
    Show {
        shows: v1::Subscribe,
        answer: Answer<()>,
    },
    Flush {
        answer: Answer<()>,
    },
    Close {
        answer: Answer<()>,
    },
}

pub(crate) type Local = Box<dyn FnOnce(&Store) + Send>;

/// What the machine's next turn is about.
enum Turn {
    Input(Input),
    /// Something that the store is asked or told beside the machine.
    Local(Local),
}

/// Where what the application is told goes.
pub(crate) struct Telling {
    pub(crate) events: mpsc::UnboundedSender<(Event, Option<u64>)>,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) delays: Delays,
}

/// See the module.
pub(crate) struct Driver {
    server: String,
    tls: Arc<ClientConfig>,
    /// Away while it makes a turn.
    machine: Option<Machine<StoreHandle>>,
    wire: Wire,
    /// The machine's time runs from here.
    begin: Instant,
    calls: mpsc::Receiver<Call>,
    waiters: Waiters,
    telling: Telling,
    /// What the application has taken and dealt with.
    shared: Arc<Shared>,
    /// Who waits for the end.
    closing: Option<Answer<()>>,
}

impl Driver {
    pub(crate) fn new(
        (server, tls): (String, Arc<ClientConfig>),
        machine: Machine<StoreHandle>,
        calls: mpsc::Receiver<Call>,
        (telling, shared): (Telling, Arc<Shared>),
    ) -> Self {
        Self {
            server,
            tls,
            machine: Some(machine),
            wire: Wire::Down,
            begin: Instant::now(),
            calls,
            waiters: Waiters::default(),
            telling,
            shared,
            closing: None,
        }
    }

    pub(crate) async fn run(mut self) {
        // Without a runtime to make turns on there is nothing left to do.
        while let Some(actions) = self.turn().await {
            for action in actions {
                if self.perform(action).await {
                    return self.end().await;
                }
            }
        }
    }

    /// The end of the store may wait for the disk as well.
    async fn end(mut self) {
        let machine = self.machine.take();
        // It ends all the same.
        let _ = tokio::task::spawn_blocking(move || drop(machine)).await;
        let closing = self.closing.take();
        // Whoever waits for the end may use the store then, and is told nothing more.
        drop(self);
        if let Some(closing) = closing {
            let _ = closing.send(Ok(()));
        }
    }

    /// Waits for something to happen, and has the machine say what follows. `None`: the runtime has ended.
    async fn turn(&mut self) -> Option<Vec<Action>> {
        let turn = self.next().await;
        let mut machine = self.machine.take().expect("it comes back from each turn");
        machine.note(self.shared.progress());
        let now = Now { monotonic: self.begin.elapsed(), unix_ms: now_ms() };
        let made = tokio::task::spawn_blocking(move || {
            let mut out = Vec::new();
            match turn {
                Turn::Input(input) => machine.handle(now, input, &mut out),
                Turn::Local(local) => local(machine.tables()),
            }
            (machine, out)
        });
        match made.await {
            Ok((machine, actions)) => {
                self.machine = Some(machine);
                Some(actions)
            }
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => None,
        }
    }

    async fn next(&mut self) -> Turn {
        loop {
            let machine = self.machine.as_mut().expect("it comes back from each turn");
            let wake_at = machine.wake_at().map(|at| self.begin + at);
            tokio::select! {
                input = self.wire.next() => return Turn::Input(input),
                call = self.calls.recv(), if machine.takes_asks() => return self.called(call),
                () = self.shared.notify.notified() => {
                    machine.note(self.shared.progress());
                    if machine.minds() {
                        return Turn::Input(Input::Due);
                    }
                }
                () = at(wake_at) => return Turn::Input(Input::Due),
            }
        }
    }

    /// The application has called; `None`: it never will again.
    fn called(&mut self, call: Option<Call>) -> Turn {
        let (waiter, ask) = match call {
            Some(Call::Send { message, kept, sent }) => (Waiter::Kept { kept, sent }, Ask::Send(message)),
            Some(Call::Lookup { by, answer }) => (Waiter::Person(answer), Ask::Lookup(by)),
            Some(Call::MarkRead { chat, upto, answer }) => {
                (Waiter::Done(answer), Ask::MarkRead { chat, upto })
            }
            Some(Call::Ask { request, answer }) => (Waiter::Message(answer), Ask::Request(request)),
            Some(Call::LookUpMember { request, answer }) => (Waiter::Person(answer), Ask::Request(request)),
            Some(Call::History { request, answer }) => (Waiter::Page(answer), Ask::History(request)),
            Some(Call::Show { shows, answer }) => (Waiter::Done(answer), Ask::Show(shows)),
            Some(Call::Flush { answer }) => (Waiter::Done(answer), Ask::Flush),
            Some(Call::Local(local)) => return Turn::Local(local),
            Some(Call::Close { answer }) => {
                self.closing = Some(answer);
                return Turn::Input(Input::Close);
            }
            None => return Turn::Input(Input::Close),
        };
        Turn::Input(Input::Ask(self.waiters.add(waiter), ask))
    }

    /// Does what the machine wants. `true` if that was the last.
    async fn perform(&mut self, action: Action) -> bool {
        match action {
            Action::Connect(connection) => {
                self.wire = Wire::connecting(connection, self.server.clone(), self.tls.clone());
            }
            Action::Send(connection, bytes) => self.wire.queue(connection, bytes),
            Action::Close { cleanly: true, .. } => self.wire.close().await,
            Action::Close { cleanly: false, .. } => self.wire = Wire::Down,
            Action::Tell { event, number } => self.telling.tell(event, number),
            Action::Status(status) => drop(self.telling.status.send_replace(status)),
            Action::Answer(ticket, answer) => self.waiters.answer(ticket, answer),
            Action::Over => return true,
        }
        false
    }
}

impl Telling {
    fn tell(&self, event: Event, number: Option<u64>) {
        if let Event::Delayed { chat, reason, retry_in } = &event {
            let now = Instant::now();
            let mut delays = self.delays.lock().expect("nothing panics while it holds this");
            delays.retain(|_, (_, until)| *until > now);
            delays.insert(*chat, (*reason, now + *retry_in));
        }
        // An application that has dropped its events is told nothing, and has dealt with nothing.
        let _ = self.events.send((event, number));
    }
}

/// Who waits for an answer, and of which kind it is.
enum Waiter {
    Kept { kept: Answer<()>, sent: Answer<Sent> },
    Sent(Answer<Sent>),
    Done(Answer<()>),
    Person(Answer<Person>),
    Page(Answer<HistoryPage>),
    Message(Answer<server_frame::Message>),
}

/// Those who wait, by their tickets.
#[derive(Default)]
struct Waiters {
    waiting: HashMap<Ticket, Waiter>,
    last: Ticket,
}

impl Waiters {
    fn add(&mut self, waiter: Waiter) -> Ticket {
        self.last += 1;
        self.waiting.insert(self.last, waiter);
        self.last
    }

    /// Those that do not wait any more are not told.
    fn answer(&mut self, ticket: Ticket, answer: Result<Reply, Error>) {
        let waiter = self.waiting.remove(&ticket).expect("the machine answers once what it was asked");
        match (waiter, answer) {
            (Waiter::Kept { kept, sent }, Ok(Reply::Kept)) => {
                self.waiting.insert(ticket, Waiter::Sent(sent));
                let _ = kept.send(Ok(()));
            }
            (Waiter::Sent(answer), Ok(Reply::Sent(sent))) => drop(answer.send(Ok(sent))),
            (Waiter::Done(answer), Ok(Reply::Done)) => drop(answer.send(Ok(()))),
            (Waiter::Person(answer), Ok(Reply::Person(person))) => drop(answer.send(Ok(person))),
            (Waiter::Page(answer), Ok(Reply::Page(page))) => drop(answer.send(Ok(page))),
            (Waiter::Message(answer), Ok(Reply::Message(message))) => drop(answer.send(Ok(message))),
            (Waiter::Kept { kept: answer, .. } | Waiter::Done(answer), Err(error)) => {
                let _ = answer.send(Err(error));
            }
            (Waiter::Sent(answer), Err(error)) => drop(answer.send(Err(error))),
            (Waiter::Person(answer), Err(error)) => drop(answer.send(Err(error))),
            (Waiter::Page(answer), Err(error)) => drop(answer.send(Err(error))),
            (Waiter::Message(answer), Err(error)) => drop(answer.send(Err(error))),
            (_, Ok(reply)) => unreachable!("an ask is answered by its own kind, and not by {reply:?}"),
        }
    }
}

/// In ms since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}
