//! The protocol part of the client: a state machine without sockets, clocks, threads or chance of its own.
//!
//! Its shell connects, carries bytes, keeps time, and has a place for [`Tables`]; everything that makes a client right is in here:
//! opening and login, tokens, positions and generations, the outbox and its retries, windows, acknowledgements, what the application
//! is told and when. The client of this library is one shell, a simulator of many devices may be another.
//!
//! ```text
//!             Waiting ----- its time has come -----> Opening (see `opening`)
//!                ^                                      |    |
//!                |<------------- lost ------------------+    | logged in
//!                |                                           v
//!                +<------------- lost ----------------- Open (see `session`)
//!             any ---- closed, or the session is over ----> Over
//! ```
//!
//! **What is stored comes first.** An [`Input`] is one transaction: what it changes is committed, and only then the [`Action`]s that
//! rest on it are given out: events, answers, acknowledgements, credit. If the store fails, none of them are, and the connection is made
//! anew from what is stored.

mod device;
mod ended;
mod entropy;
mod io;
mod limits;
pub(crate) mod link;
mod memory;
mod opening;
mod records;
pub mod rows;
mod session;
pub mod tables;
mod teller;

use std::time::Duration;

pub use io::{Action, Ask, ConnectionId, Input, Now, Progress, Reply, Ticket};
pub use memory::Memory;
pub(crate) use records::{end, index_all, search};
pub use tables::Tables;

use crate::error::Error;
use crate::event::{Cause, Event};
use device::Device;
use ended::Ended;
use entropy::Entropy;
use limits::{ASKS_WAITING_MAX, BACKOFF_MAX, BACKOFF_MIN};
use link::Link;
use opening::Opening;
use records::Records;
use rows::Account;
use session::Session;
use tern_wire::errors::Reason;

pub(crate) use limits::{CONNECT_TIMEOUT, RESPONSE_TIMEOUT};

/// What a machine is told of its place.
#[derive(Clone, Debug)]
pub struct Settings {
    /// HOST:PORT, for what people are told.
    pub server: String,
    /// Whether messages and receipts are wanted. Without, the client asks and sends alone, and what comes meanwhile stays
    /// undelivered on the server.
    pub receive: bool,
}

/// Where it stands with the server.
enum Life {
    /// The next connection is not made before this.
    Waiting(Duration),
    /// A connection is being made, up to and with the login.
    Opening(Opening),
    /// It is logged in.
    Open(Box<Session>),
    /// It is over.
    Over,
}

/// See the module.
pub struct Machine<S> {
    device: Device<S>,
    life: Life,
    connections: ConnectionId,
    /// Connections that were lost in a row, each before it was of use.
    failures: u32,
}

impl<S: Tables> Machine<S> {
    /// The machine of a registered device, which wants to be woken at once. The seed must be unpredictable to others: of it come the
    /// numbers of messages and nonces.
    pub fn start(settings: Settings, tables: S, seed: [u8; 32]) -> Result<Self, Error> {
        let mut entropy = Entropy::new(seed);
        let (mut records, account) = Records::open(tables)?;
        records.at_once(|records| records.raise_client_id(&mut entropy))?;
        let device = Device::new((settings.server, settings.receive), (records, account), entropy)?;
        Ok(Self { device, life: Life::Waiting(Duration::ZERO), connections: 0, failures: 0 })
    }

    /// This device's session.
    pub fn account(&self) -> &Account {
        &self.device.account
    }

    /// What is stored. Only a machine may change it.
    pub fn tables(&self) -> &S {
        self.device.records.tables()
    }

    /// Ends the machine as a crash does: what is stored is all that is left.
    pub fn into_tables(self) -> S {
        self.device.records.into_tables()
    }

    /// When it is to be given [`Input::Due`], if nothing else comes in before.
    pub fn wake_at(&self) -> Option<Duration> {
        let wake_at = match &self.life {
            // What ends meanwhile is erased then: a store that fails is not tried without a pause.
            Life::Waiting(until) => return Some(*until),
            Life::Opening(opening) => opening.by,
            Life::Open(session) => session.wake_at(),
            Life::Over => return None,
        };
        let Now { monotonic, unix_ms } = self.device.now;
        let ends_in_ms = self.device.records.ends_ms().saturating_sub(unix_ms);
        Some(wake_at.min(monotonic.saturating_add(Duration::from_millis(ends_in_ms))))
    }

    /// Whether it takes one more [`Input::Ask`]. If not, the application waits.
    pub fn takes_asks(&self) -> bool {
        let waiting = match &self.life {
            Life::Open(session) => session.asks_waiting(),
            Life::Waiting(_) | Life::Opening(_) | Life::Over => self.device.waiting.len(),
        };
        waiting < ASKS_WAITING_MAX
    }

    /// The application is so far with what it was told. It counts from the next input on.
    pub fn note(&mut self, progress: Progress) {
        self.device.teller.note(progress);
    }

    /// Whether that is worth an [`Input::Due`] now. Otherwise it is dealt with when something comes in.
    pub fn minds(&self) -> bool {
        let minds_news = match &self.life {
            Life::Open(session) => session.minds_news(),
            Life::Waiting(_) | Life::Opening(_) | Life::Over => false,
        };
        minds_news && self.device.teller.is_news() || self.device.teller.has_more()
    }

    /// Takes what comes in, and adds to `out` what is to be done.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Action>) {
        self.device.now = now;
        let done = self.step(input);
        let done = self.store(done);
        if let Err(ended) = done.and_then(|()| self.tell()) {
            self.ended(ended);
        }
        out.append(&mut self.device.out);
    }

    /// Does what follows from an input, but for what must be stored first.
    fn step(&mut self, input: Input) -> Result<(), Ended> {
        // What is asked at the moment of the next connection waits for it.
        let is_due = matches!(self.life, Life::Waiting(until) if until <= self.device.now.monotonic);
        let connected = if is_due { self.connect() } else { Ok(()) };
        match input {
            Input::Due => {}
            Input::Close => self.close()?,
            // It is answered in any case.
            Input::Ask(ticket, ask) => self.ask(ticket, ask),
            Input::Connected(connection) => {
                if let Life::Opening(opening) = &mut self.life
                    && opening.link.id == connection
                {
                    opening.connected(self.device.now.monotonic)?;
                }
            }
            Input::Received(connection, bytes) => {
                if self.connection() == Some(connection) {
                    self.received(&bytes)?;
                }
            }
            Input::Lost(connection, error) => {
                if self.connection() == Some(connection) {
                    return Err(error.into());
                }
            }
        }
        connected?;
        self.turn()
    }

    /// The connection that stands, or is being made.
    fn connection(&self) -> Option<ConnectionId> {
        match &self.life {
            Life::Opening(opening) => Some(opening.link.id),
            Life::Open(session) => Some(session.link.id),
            Life::Waiting(_) | Life::Over => None,
        }
    }

    fn ask(&mut self, ticket: Ticket, ask: Ask) {
        match &mut self.life {
            Life::Open(session) => session.ask(&mut self.device, ticket, ask),
            Life::Opening(_) => self.device.ask_without_connection(ticket, ask, true),
            Life::Waiting(_) => self.device.ask_without_connection(ticket, ask, false),
            Life::Over => self.device.answer(ticket, Err(Error::Closed)),
        }
    }

    /// The application wants no more. What it has dealt with is acknowledged before the end.
    fn close(&mut self) -> Result<(), Ended> {
        match &mut self.life {
            Life::Over => return Ok(()),
            Life::Open(session) => session.acknowledge(&mut self.device)?,
            Life::Waiting(_) | Life::Opening(_) => {}
        }
        Err(Ended::Closed)
    }

    fn received(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        let (frames, rest) = match &mut self.life {
            Life::Opening(opening) => opening.link.read(bytes),
            Life::Open(session) => session.link.read(bytes),
            Life::Waiting(_) | Life::Over => return Ok(()),
        };
        for (frame, bytes) in frames {
            match &mut self.life {
                Life::Opening(opening) => {
                    if opening.frame(&mut self.device, frame)? {
                        let link = std::mem::take(&mut opening.link);
                        self.life = Life::Open(Box::new(Session::begin(&mut self.device, link)?));
                    }
                }
                Life::Open(session) => session.frame(&mut self.device, frame, bytes)?,
                Life::Waiting(_) | Life::Over => unreachable!("frames end no connection but by an error"),
            }
        }
        Ok(rest?)
    }

    /// Does what is due.
    fn turn(&mut self) -> Result<(), Ended> {
        let now = self.device.now.monotonic;
        if !matches!(self.life, Life::Over) {
            self.device.records.end(self.device.now.unix_ms)?;
        }
        match &mut self.life {
            Life::Open(session) => session.turn(&mut self.device),
            Life::Opening(opening) if opening.by <= now => Err(Error::TimedOut.into()),
            Life::Opening(_) | Life::Waiting(_) | Life::Over => Ok(()),
        }
    }

    fn connect(&mut self) -> Result<(), Error> {
        self.device.worked = false;
        self.connections += 1;
        self.life = Life::Opening(Opening::new(self.connections, self.device.now.monotonic));
        self.device.out.push(Action::Connect(self.connections));
        self.device.note_progress_at_once()
    }

    /// Makes durable what was changed. What came before a frame that ends the connection is, too; what half an input has changed before
    /// the store failed is not, and nothing that rests on it is sent.
    fn store(&mut self, done: Result<(), Ended>) -> Result<(), Ended> {
        let stored = match &done {
            Err(Ended::Lost(error @ Error::Store(_), _)) => {
                self.device.roll_back(error);
                Err(error.clone())
            }
            _ => self.device.commit(),
        };
        let Err(error) = stored else { return done };
        self.link().map(Link::take_out);
        match done {
            // The end is the same without what could not be stored.
            Err(Ended::Closed | Ended::Final(_) | Ended::OtherStore) => done,
            Ok(()) | Err(Ended::Lost(..)) => Err(error.into()),
        }
    }

    /// Tells the application what it takes, and sends what rests on what is stored now.
    fn tell(&mut self) -> Result<(), Ended> {
        if !matches!(self.life, Life::Over) {
            let known = self.device.pump()?;
            if let Life::Open(session) = &mut self.life {
                session.acknowledge_soon(known, self.device.now.monotonic);
            }
        }
        self.send();
        Ok(())
    }

    fn link(&mut self) -> Option<&mut Link> {
        match &mut self.life {
            Life::Opening(opening) => Some(&mut opening.link),
            Life::Open(session) => Some(&mut session.link),
            Life::Waiting(_) | Life::Over => None,
        }
    }

    fn send(&mut self) {
        if let Some(link) = self.link() {
            let (connection, bytes) = (link.id, link.take_out());
            if !bytes.is_empty() {
                self.device.out.push(Action::Send(connection, bytes));
            }
        }
    }

    /// A connection has ended, or all has.
    fn ended(&mut self, ended: Ended) {
        let cleanly = matches!(ended, Ended::Closed);
        if cleanly {
            self.send();
        }
        let connection = self.connection();
        match std::mem::replace(&mut self.life, Life::Over) {
            // The store can't be used: the next connection says so.
            Life::Waiting(until) if matches!(ended, Ended::Lost(..)) => {
                self.life = Life::Waiting(until);
                return;
            }
            Life::Open(session) => session.end(&mut self.device),
            Life::Opening(_) | Life::Waiting(_) | Life::Over => {}
        }
        self.device.out.extend(connection.map(|connection| Action::Close { connection, cleanly }));
        self.device.teller.disconnected();
        for (ticket, ask) in std::mem::take(&mut self.device.waiting) {
            self.device.ask_without_connection(ticket, ask, false);
        }
        match ended {
            Ended::Lost(error, at_least) => self.try_again(error, at_least),
            Ended::Closed => self.over(None),
            Ended::Final(reason) => {
                // Another copy of this device goes on with what is kept.
                let over = reason != Reason::Replaced;
                self.device.give_up(over, &Error::SessionEnded(reason));
                self.over(Some(Event::SessionEnded(reason)));
            }
            Ended::OtherStore => {
                let server = self.device.server.clone();
                self.device.give_up(true, &Error::OtherStore { server });
                self.over(Some(Event::OtherStore));
            }
        }
    }

    fn over(&mut self, why: Option<Event>) {
        // What can't be noted is told again by the next run.
        let _ = self.device.note_progress_at_once();
        if let Some(event) = why {
            self.device.tell(event);
        }
        self.device.out.push(Action::Over);
    }

    fn try_again(&mut self, error: Error, at_least: Duration) {
        // A connection that breaks each time before it is of use is no reason to hurry.
        self.failures = if self.device.worked { 1 } else { self.failures.saturating_add(1) };
        let bound = BACKOFF_MIN.saturating_mul(1 << self.failures.min(16)).min(BACKOFF_MAX);
        let retry_in = at_least + self.device.entropy.jitter(bound);
        self.life = Life::Waiting(self.device.now.monotonic + retry_in);
        let cause = Cause::from(&error);
        let why = match error {
            Error::Tls { why, .. } => why,
            error => error.to_string(),
        };
        self.device.tell(Event::Disconnected { why, cause, retry_in });
        // What came before the end is told. If the store can't be read, the next connection says so.
        let _ = self.device.pump();
    }
}

/// Shows neither content nor tokens.
impl<S> std::fmt::Debug for Machine<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let life = match &self.life {
            Life::Waiting(_) => "waiting",
            Life::Opening(_) => "opening",
            Life::Open(_) => "open",
            Life::Over => "over",
        };
        f.debug_struct("Machine")
            .field("life", &life)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}
