//! The task behind a client: connects, logs in, has a connection run, and goes on until it is closed or its session has
//! ended. What happens within one connection is [`crate::connection`]'s.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::ClientConfig;
use tern_proto::v1::{self, client_frame, lookup, server_frame};
use tern_wire::errors::Reason;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::client::{HistoryPage, Sent, StoreHandle};
use crate::connection::Connection;
use crate::error::Error;
use crate::event::{Cause, Event, Progress};
use crate::link::Link;
use crate::store::{Account, Enqueued, Person, Store};
use crate::teller::Teller;

/// The longest wait before the first reconnect, doubled with every failure.
const BACKOFF_MIN: Duration = Duration::from_millis(100);

/// The longest wait before any reconnect.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// A token that ends within this is exchanged before it is used.
const TOKEN_SPARE_MS: u64 = 60_000;

/// Calls that wait for a connection that is being made. Beyond, no more are taken and callers wait.
const WAITING_MAX: usize = 1024;

/// How soon a person whose name or phone the server did not tell is looked up again.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// People of whom is remembered when they were looked up. Beyond, that is forgotten, and some are asked for too soon.
const ASKED_MAX: usize = 4096;

pub(crate) type Answer<T> = oneshot::Sender<Result<T, Error>>;

/// A message to be kept and sent.
pub(crate) struct NewMessage {
    pub(crate) peer: u64,
    pub(crate) body: Vec<u8>,
    /// By which it is known again.
    pub(crate) key: Option<String>,
}

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
        peer: u64,
        upto: u64,
        answer: Answer<()>,
    },
    Ask {
        request: client_frame::Request,
        answer: Answer<server_frame::Message>,
    },
    History {
        request: v1::History,
        answer: Answer<HistoryPage>,
    },
    /// What needs no server.
    Local(Box<dyn FnOnce(&Store) + Send>),
    Flush {
        answer: Answer<()>,
    },
    Close {
        answer: Answer<()>,
    },
}

/// Why a connection ended.
pub(crate) enum Ended {
    /// It is to be made again, not before so long.
    Lost(Error, Duration),
    /// The session is over.
    Final(Reason),
    /// The store is not the one that the session is of.
    OtherStore,
    /// The application wants no more.
    Closed,
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        match &error {
            Error::Refused { reason: reason @ (Reason::TokenReused | Reason::TokenInvalid), .. }
            | Error::Refused { reason: reason @ (Reason::SessionRevoked | Reason::Replaced), .. } => {
                Self::Final(*reason)
            }
            Error::Refused { retry_after_ms, .. } => {
                let wait = Duration::from_millis((*retry_after_ms).into());
                Self::Lost(error, wait)
            }
            Error::OtherStore { .. } => Self::OtherStore,
            _ => Self::Lost(error, Duration::ZERO),
        }
    }
}

/// See the module.
pub(crate) struct Driver {
    pub(crate) server: String,
    pub(crate) tls: Arc<ClientConfig>,
    /// Whether pushes are asked for.
    pub(crate) receive: bool,
    pub(crate) store: StoreHandle,
    pub(crate) account: Account,
    pub(crate) calls: mpsc::Receiver<Call>,
    pub(crate) teller: Teller,
    /// What the application has dealt with.
    pub(crate) progress: Arc<Progress>,
    /// Who waits for which message.
    pub(crate) senders: HashMap<u64, Vec<Answer<Sent>>>,
    /// Calls that need a connection, while one is being made.
    pub(crate) waiting: VecDeque<Call>,
    /// People whom the server did not tell all of: when they were looked up, and whether both had written then.
    pub(crate) asked: HashMap<u64, (Instant, bool)>,
    /// The connection has been of use: it has caught up, or answered.
    pub(crate) worked: bool,
    /// Who waits for the end. The last field, so that everything else is gone when it is dropped.
    pub(crate) closing: Option<Answer<()>>,
}

impl Driver {
    pub(crate) async fn run(mut self) {
        let mut failures = 0;
        loop {
            self.worked = false;
            let ended = self.connection().await;
            self.teller.disconnected();
            for call in std::mem::take(&mut self.waiting) {
                self.offline(call);
            }
            match ended {
                Ended::Closed => {
                    // What is not noted is told again by the next run.
                    let _ = self.note_progress();
                    return;
                }
                Ended::Final(reason) => {
                    // Another copy of this device goes on with what is kept.
                    let over = reason != Reason::Replaced;
                    self.end(over, || Error::SessionEnded(reason));
                    self.teller.tell(Event::SessionEnded(reason));
                    return;
                }
                Ended::OtherStore => {
                    let server = self.server.clone();
                    self.end(true, || Error::OtherStore { server: server.clone() });
                    self.teller.tell(Event::OtherStore);
                    return;
                }
                Ended::Lost(error, at_least) => {
                    // A connection that breaks each time before it is of use is no reason to hurry.
                    failures = if self.worked { 1 } else { failures + 1 };
                    let retry_in = at_least + jitter(failures);
                    let cause = Cause::from(&error);
                    let why = match error {
                        Error::Tls { why, .. } => why,
                        error => error.to_string(),
                    };
                    self.teller.tell(Event::Disconnected { why, cause, retry_in });
                    if !self.wait(Instant::now() + retry_in).await {
                        return;
                    }
                }
            }
        }
    }

    /// Tells everybody who waits why nothing more is sent. If it is `over`, what they wait for is not kept either.
    fn end(&mut self, over: bool, why: impl Fn() -> Error) {
        for (client_id, answers) in std::mem::take(&mut self.senders) {
            if over {
                // If that fails it is only kept for longer than it is of use.
                let _ = self.store.dequeue(client_id).and_then(|_| self.store.note_not_sent(client_id));
            }
            answer_all(answers, &Err(why()));
        }
        let _ = self.note_progress();
    }

    /// Tells the application what it takes, and notes what it has dealt with.
    pub(crate) fn pump(&mut self) -> Result<(), Error> {
        let known = self.teller.pump(&self.store)?;
        self.store.told(&known, 0)
    }

    /// Notes what the application has dealt with. Gives the chats.
    pub(crate) fn note_progress(&mut self) -> Result<Vec<u64>, Error> {
        let (messages, gone) = self.teller.dealt_with(&self.store)?;
        self.store.told(&messages, gone)?;
        Ok(messages.into_iter().map(|(peer, _)| peer).collect())
    }

    /// Takes calls while there is no connection. `false` if the client was closed.
    async fn wait(&mut self, until: Instant) -> bool {
        let pause = async {
            sleep_until(until).await;
            Ok(())
        };
        let go_on = match self.during(pause, false).await {
            Ok(_) => true,
            // The store can't be read: the next connection says so.
            Err(Ended::Lost(..)) => true,
            Err(Ended::Final(_) | Ended::OtherStore | Ended::Closed) => false,
        };
        let _ = self.note_progress();
        go_on
    }

    /// Does something that takes time, and takes calls meanwhile. Those that need a connection wait for it if one is
    /// `coming`.
    async fn during<T>(
        &mut self,
        work: impl Future<Output = Result<T, Error>>,
        coming: bool,
    ) -> Result<Result<T, Error>, Ended> {
        let mut work = std::pin::pin!(work);
        let progress = self.progress.clone();
        loop {
            self.pump()?;
            tokio::select! {
                done = &mut work => return Ok(done),
                call = self.calls.recv(), if self.waiting.len() < WAITING_MAX => match call {
                    Some(Call::Close { answer }) => {
                        self.closing = Some(answer);
                        return Err(Ended::Closed);
                    }
                    Some(call @ (Call::History { .. } | Call::Ask { .. } | Call::Flush { .. })) if coming => {
                        self.waiting.push_back(call);
                    }
                    Some(Call::Lookup { by, answer }) if coming && !self.is_known(&by) => {
                        self.waiting.push_back(Call::Lookup { by, answer });
                    }
                    Some(call) => self.offline(call),
                    None => return Err(Ended::Closed),
                },
                () = progress.notify.notified() => {}
            }
        }
    }

    /// Carries out a call without a connection.
    fn offline(&mut self, call: Call) {
        match call {
            Call::Send { message, kept, sent } => drop(self.keep(&message, kept, sent)),
            Call::MarkRead { peer, upto, answer } => {
                let _ = answer.send(self.store.mark_read(peer, upto).map(drop));
            }
            Call::Lookup { by, answer } => {
                let known = self.known(&by);
                let _ = answer.send(known.and_then(|known| known.ok_or_else(not_connected)));
            }
            Call::Local(work) => work(&self.store),
            Call::Ask { answer, .. } => drop(answer.send(Err(not_connected()))),
            Call::History { answer, .. } => drop(answer.send(Err(not_connected()))),
            Call::Flush { answer } => drop(answer.send(Err(not_connected()))),
            Call::Close { .. } => unreachable!("taken before"),
        }
    }

    /// Keeps a message to be sent, and gives its number if it is to be sent now.
    pub(crate) fn keep(&mut self, message: &NewMessage, kept: Answer<()>, sent: Answer<Sent>) -> Option<u64> {
        let NewMessage { peer, body, key } = message;
        match self.store.enqueue(*peer, body, key.as_deref()) {
            // Who does not wait any more has it kept all the same.
            Ok(Enqueued::New(client_id)) => {
                self.senders.insert(client_id, vec![sent]);
                let _ = kept.send(Ok(()));
                Some(client_id)
            }
            Ok(Enqueued::Waiting(client_id)) => {
                self.senders.entry(client_id).or_default().push(sent);
                let _ = kept.send(Ok(()));
                None
            }
            Ok(Enqueued::Sent(before)) => {
                let _ = kept.send(Ok(()));
                let _ = sent.send(Ok(before));
                None
            }
            Err(error) => {
                let _ = kept.send(Err(error));
                None
            }
        }
    }

    pub(crate) fn known(&self, by: &lookup::By) -> Result<Option<Person>, Error> {
        match by {
            lookup::By::Phone(phone) => self.store.person_by_phone(phone),
            lookup::By::UserId(user) => self.store.person(*user),
        }
    }

    fn is_known(&self, by: &lookup::By) -> bool {
        self.known(by).is_ok_and(|known| known.is_some())
    }

    /// Whether to ask the server for a person whom it did not tell all of: not often, but as soon as both have written.
    pub(crate) fn is_to_be_asked(&mut self, person: &Person) -> Result<bool, Error> {
        if !person.name.is_empty() && !person.phone.is_empty() {
            return Ok(false);
        }
        let both = self.store.both_have_written(person.user_id)?;
        if let Some((when, both_had)) = self.asked.get(&person.user_id)
            && when.elapsed() < ASK_AGAIN
            && *both_had >= both
        {
            return Ok(false);
        }
        if self.asked.len() >= ASKED_MAX {
            self.asked.clear();
        }
        self.asked.insert(person.user_id, (Instant::now(), both));
        Ok(true)
    }

    async fn connection(&mut self) -> Ended {
        let link = match self.log_in().await {
            Ok(link) => link,
            Err(ended) => return ended,
        };
        let mut connection = Connection::new(self, link);
        let ended = match connection.run().await {
            Ok(()) => Ended::Closed,
            Err(ended) => ended,
        };
        connection.end(matches!(ended, Ended::Closed)).await;
        ended
    }

    /// Connects and logs in, exchanging the token first if it has ended or is about to.
    async fn log_in(&mut self) -> Result<Link, Ended> {
        let (server, tls) = (self.server.clone(), self.tls.clone());
        let connect = async move { Link::connect(&server, tls).await };
        let mut link = self.during(connect, true).await??;
        self.check_store(&link)?;
        if self.account.access_expires_ms < now_ms() + TOKEN_SPARE_MS {
            self.refresh(&mut link).await?;
        }
        let login = |token: &str| client_frame::Request::Login(v1::Login { access_token: token.to_owned() });
        let request = login(&self.account.access_token);
        let answer = match self.during(link.call(request), true).await? {
            Err(Error::Refused { reason: Reason::TokenExpired, .. }) => {
                self.refresh(&mut link).await?;
                let request = login(&self.account.access_token);
                self.during(link.call(request), true).await?
            }
            answer => answer,
        };
        match answer? {
            server_frame::Message::LoggedIn(logged_in) => {
                self.look_at_devices(logged_in.newest_device_id)?;
                self.know_oneself(logged_in.name)?;
                Ok(link)
            }
            _ => Err(Error::Protocol("Login was answered by something else").into()),
        }
    }

    /// One's own name, as it is now.
    fn know_oneself(&self, name: String) -> Result<(), Error> {
        let (user_id, phone) = (self.account.user_id, self.account.phone.clone());
        self.store.put_person(&Person { user_id, name: name.clone(), phone })?;
        self.store.set_name(user_id, &name)
    }

    /// Nothing of another store's is sent to a server: not even a token.
    fn check_store(&mut self, link: &Link) -> Result<(), Error> {
        if link.store.is_empty() || link.store[..] == self.account.store[..] {
            return Ok(());
        }
        if !self.account.store.is_empty() {
            return Err(Error::OtherStore { server: self.server.clone() });
        }
        self.store.set_store_id(&link.store)?;
        self.account.store = link.store.to_vec();
        Ok(())
    }

    /// Tells of a device that was added while this one was away.
    fn look_at_devices(&mut self, newest: u32) -> Result<(), Error> {
        let before = self.store.newest_device()?;
        if !self.receive || newest <= before {
            return Ok(());
        }
        if before != 0 {
            let device_name = String::new();
            self.teller.tell(Event::DeviceAdded { device_id: newest, device_name, time_ms: 0 });
        }
        self.store.set_newest_device(newest)
    }

    async fn refresh(&mut self, link: &mut Link) -> Result<(), Ended> {
        let nonce = self.store.refresh_nonce()?.into();
        let refresh_token = self.account.refresh_token.clone();
        let request = client_frame::Request::Refresh(v1::Refresh { refresh_token, nonce });
        let session = match self.during(link.call(request), true).await? {
            Ok(server_frame::Message::Session(session)) => session,
            Ok(_) => return Err(Error::Protocol("Refresh was answered by something else").into()),
            // The refresh token itself has ended: only registering helps.
            Err(Error::Refused { reason: Reason::TokenExpired, .. }) => {
                return Err(Ended::Final(Reason::SessionRevoked));
            }
            Err(error) => return Err(error.into()),
        };
        self.store.refreshed(&session)?;
        self.account = self.store.account()?.ok_or(Error::NotRegistered)?;
        Ok(())
    }
}

/// Tells all who wait for a message. Those that do not wait any more are not told.
pub(crate) fn answer_all(answers: Vec<Answer<Sent>>, result: &Result<Sent, Error>) {
    for answer in answers {
        let _ = answer.send(result.clone());
    }
}

pub(crate) fn not_connected() -> Error {
    std::io::Error::from(std::io::ErrorKind::NotConnected).into()
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

/// Full jitter: anything up to a bound that doubles with every failure.
fn jitter(failures: u32) -> Duration {
    jitter_within(BACKOFF_MIN.saturating_mul(1 << failures.min(16)).min(BACKOFF_MAX))
}

pub(crate) fn jitter_within(bound: Duration) -> Duration {
    // Without entropy the bound itself is a backoff too.
    let share = getrandom::u32().map_or(1.0, |random| f64::from(random) / f64::from(u32::MAX));
    bound.mul_f64(share)
}
