//! The application's side of a running client.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tern_proto::v1;
use tern_wire::errors::Reason;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::driver::{Call, Driver, Telling};
use crate::error::Error;
use crate::event::{Events, Shared, Status};
use crate::machine::{Machine, Settings};
use crate::message::{Kind, Message, NewMessage};
use crate::profile::with_store;
use crate::store::{Account, Person, Store};
use crate::trust::Trust;

/// Calls that wait for the connection's task. Beyond, callers wait.
const CALLS_MAX: usize = 1024;

/// People to whom the server takes no messages for now: why, and when it is tried again.
pub(crate) type Delays = Arc<Mutex<BTreeMap<u64, (Reason, Instant)>>>;

/// Where a client keeps its state.
#[derive(Clone, Debug)]
pub enum State {
    /// In this directory.
    Dir(PathBuf),
    /// In memory, shared by the clones of these options: for bots and tests.
    Memory(Arc<Mutex<Option<Store>>>),
}

impl State {
    /// A new state in memory.
    pub fn memory() -> Self {
        Self::Memory(Arc::default())
    }
}

/// What a client is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// HOST:PORT.
    pub server: String,
    /// Whom to trust.
    pub trust: Trust,
    /// Where the state is kept.
    pub state: State,
    /// Whether messages and receipts are wanted. Without, the client asks and sends alone, and what comes meanwhile stays
    /// undelivered on the server.
    pub receive: bool,
}

impl Options {
    /// These three, and everything that comes.
    pub fn new(server: impl Into<String>, trust: Trust, state: State) -> Self {
        Self { server: server.into(), trust, state, receive: true }
    }
}

/// A durable message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sent {
    /// The chat.
    pub chat: u64,
    /// Its place in the chat.
    pub seq: u64,
    /// When the server committed it, in ms since the Unix epoch.
    pub time_ms: u64,
}

/// A message that is kept, and on its way.
#[derive(Debug)]
pub struct Kept {
    sending: oneshot::Receiver<Result<Sent, Error>>,
}

impl Kept {
    /// Waits until it is durable on the server. After an error it is not kept any more.
    pub async fn sent(self) -> Result<Sent, Error> {
        self.sending.await.map_err(|_| Error::Closed)?
    }
}

/// A page of history.
#[derive(Clone, PartialEq, Debug)]
pub struct HistoryPage {
    /// Rising by seq.
    pub messages: Vec<Message>,
    /// There are more in the direction asked for.
    pub more: bool,
    /// The newest seq of the chat.
    pub head: u64,
    /// The peer has everything up to here.
    pub delivered_upto: u64,
    /// The peer has read up to here.
    pub read_upto: u64,
}

/// A running client. Clones share the connection; it ends with [`Client::close`], or when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Client {
    account: Account,
    calls: mpsc::Sender<Call>,
    status: watch::Receiver<Status>,
    delays: Delays,
    /// Held while a page of chats is asked for.
    pub(crate) listing: Arc<tokio::sync::Mutex<()>>,
    /// The same for a search.
    pub(crate) searching: Arc<tokio::sync::Mutex<()>>,
    /// TLS to where media are: those trusted who are trusted to be the server.
    pub(crate) https: Arc<rustls::ClientConfig>,
}

impl Client {
    /// Starts the connection of a registered profile. It is made, and made again, in the background.
    pub async fn start(options: Options) -> Result<(Self, Events), Error> {
        let tls = options.trust.tls()?;
        let mut https = tls.clone();
        https.alpn_protocols = vec![b"http/1.1".to_vec()];
        let https = Arc::new(https);
        let tls = Arc::new(tls);
        let Options { server, receive, .. } = options.clone();
        let settings = Settings { server: server.clone(), receive };
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| Error::Config(format!("no entropy: {error}")))?;
        let machine = with_store(&options, move |store| Machine::start(settings, store, seed)).await?;
        let account = machine.account().clone();
        let (calls, called) = mpsc::channel(CALLS_MAX);
        let (sender, events) = mpsc::unbounded_channel();
        let shared = Arc::<Shared>::default();
        let (status_sender, status) = watch::channel(Status::Connecting);
        let delays = Delays::default();
        let telling = Telling { events: sender, status: status_sender, delays: delays.clone() };
        let driver = Driver::new((server, tls), machine, called, (telling, shared.clone()));
        tokio::spawn(driver.run());
        Ok((
            Self {
                account,
                calls,
                status,
                delays,
                listing: Arc::default(),
                searching: Arc::default(),
                https,
            },
            Events::new(events, shared),
        ))
    }

    /// This device's session.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Whether there is a connection.
    pub fn status(&self) -> Status {
        // The sender goes with the client's task.
        if self.status.has_changed().is_err() && *self.status.borrow() == Status::Connected {
            return Status::Closed;
        }
        self.status.borrow().clone()
    }

    /// Waits until the first connection stands or has failed. Gives the status then.
    pub async fn tried(&self) -> Status {
        let mut status = self.status.clone();
        // Without a sender it stays as it is.
        let _ = status.wait_for(|status| *status != Status::Connecting).await;
        self.status()
    }

    /// Waits until there is no connection. Gives the status then.
    pub async fn lost(&self) -> Status {
        let mut status = self.status.clone();
        let is_lost = |status: &Status| !matches!(status, Status::Connecting | Status::Connected);
        let _ = status.wait_for(is_lost).await;
        self.status()
    }

    /// Waits until nothing follows any more: the session has ended, or the client was closed.
    pub async fn over(&self) {
        let mut status = self.status.clone();
        let is_over =
            |status: &Status| matches!(status, Status::Ended(_) | Status::OtherStore | Status::Closed);
        // Without a sender the client's task has ended.
        let _ = status.wait_for(is_over).await;
    }

    /// Why the server takes no messages to a person for now, and when it is tried again, if that is so.
    pub fn delayed(&self, chat: u64) -> Option<(Reason, Duration)> {
        let delays = self.delays.lock().expect("nothing panics while it holds this");
        let (reason, until) = delays.get(&chat)?;
        Some((*reason, until.checked_duration_since(Instant::now())?))
    }

    pub(crate) async fn call<T>(
        &self,
        make: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Call,
    ) -> Result<T, Error> {
        let (sender, answer) = oneshot::channel();
        self.calls.send(make(sender)).await.map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }

    /// Sends a message, and waits until it is durable. It is kept first, and then sent until the server has acknowledged
    /// or refused it, over any number of connections and restarts; dropping the future does not stop that.
    pub async fn send(&self, chat: u64, body: impl Into<Vec<u8>>) -> Result<Sent, Error> {
        self.keep(chat, body).await?.sent().await
    }

    /// Keeps a message, which is sent then as by [`Client::send`]; comes back when it is kept, connected or not.
    pub async fn keep(&self, chat: u64, body: impl Into<Vec<u8>>) -> Result<Kept, Error> {
        self.keep_message(NewMessage::text(chat, body)).await
    }

    /// The same, once for each key: a message of a key that was kept or sent before, in this run or an earlier one, is not kept
    /// again, and tells of the first. [`Error::KeyReused`] if that was another message. The newest
    /// [`KEYS_MAX`](crate::store::KEYS_MAX) keys are remembered; that of a message that was refused is not.
    pub async fn keep_once(
        &self,
        chat: u64,
        body: impl Into<Vec<u8>>,
        key: impl Into<String>,
    ) -> Result<Kept, Error> {
        self.keep_message(NewMessage { key: Some(key.into()), ..NewMessage::text(chat, body) }).await
    }

    /// Keeps a message of any kind, or something about one, which is sent then as by [`Client::send`]; with a key as by
    /// [`Client::keep_once`].
    /// What is kept may be sent much later, and a call would ring then: one is refused as `INVALID_ARGUMENT`.
    pub async fn keep_message(&self, message: NewMessage) -> Result<Kept, Error> {
        if message.kind == Kind::Call {
            let detail = "a call is not kept until it can be sent".to_owned();
            return Err(Error::Refused { reason: Reason::InvalidArgument, retry_after_ms: 0, detail });
        }
        let (sent, sending) = oneshot::channel();
        self.call(|kept| Call::Send { message, kept, sent }).await?;
        Ok(Kept { sending })
    }

    /// Waits until everything that was kept is sent or refused, and the server has confirmed that what has been dealt with is
    /// acknowledged. Fails at once without a connection.
    pub async fn flush(&self) -> Result<(), Error> {
        self.call(|answer| Call::Flush { answer }).await
    }

    /// The newest messages of a chat that the server had and has no more, in the order of their seqs: at most `limit`.
    pub async fn gone(&self, chat: u64, limit: u32) -> Result<Vec<Message>, Error> {
        self.local(move |store| store.gone(chat, limit)).await
    }

    /// The messages of a chat that this profile has received, after a seq, rising; what has not been dealt with among them. At most
    /// `limit`.
    pub async fn kept(&self, chat: u64, after: u64, limit: u32) -> Result<Vec<Message>, Error> {
        self.local(move |store| store.kept(chat, after, u64::MAX >> 1, limit)).await
    }

    /// What was being written to a person, and not sent; empty if nothing was.
    pub async fn draft(&self, chat: u64) -> Result<String, Error> {
        self.local(move |store| store.draft(chat)).await
    }

    /// Remembers what is being written to a person; empty: nothing is.
    pub async fn set_draft(&self, chat: u64, text: impl Into<String>) -> Result<(), Error> {
        let text = text.into();
        self.local(move |store| store.set_draft(chat, &text)).await
    }

    /// How many messages are kept, and not sent yet.
    pub async fn unsent(&self) -> Result<u64, Error> {
        self.local(Store::outbox_len).await
    }

    /// Does something with the profile's database that needs no server.
    pub(crate) async fn local<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.call(|answer| {
            Call::Local(Box::new(move |store| {
                // Who does not wait any more is not told.
                let _ = answer.send(work(store));
            }))
        })
        .await
    }

    /// Finds a person by phone; known ones without asking the server.
    pub async fn lookup_phone(&self, phone: &str) -> Result<Person, Error> {
        let by = v1::lookup::By::Phone(phone.to_owned());
        self.call(|answer| Call::Lookup { by, answer }).await
    }

    /// Finds a person whom one has a chat with; known ones without asking the server.
    pub async fn lookup_user(&self, user_id: u64) -> Result<Person, Error> {
        let by = v1::lookup::By::UserId(user_id);
        self.call(|answer| Call::Lookup { by, answer }).await
    }

    /// The person whom the profile knows to have a phone. No server is asked.
    pub async fn known_phone(&self, phone: &str) -> Result<Option<Person>, Error> {
        let phone = phone.to_owned();
        self.local(move |store| store.person_by_phone(&phone)).await
    }

    /// Says that everything up to a message was read.
    pub async fn mark_read(&self, chat: u64, upto: u64) -> Result<(), Error> {
        self.call(|answer| Call::MarkRead { chat, upto, answer }).await
    }

    /// Reads a chat from the server: the messages before `from` (0: the newest), or those after it.
    pub async fn history(
        &self,
        chat: u64,
        from: u64,
        forwards: bool,
        limit: u32,
    ) -> Result<HistoryPage, Error> {
        let request = v1::History { chat, from, forwards, limit };
        self.call(|answer| Call::History { request, answer }).await
    }

    /// Ends the connection; what has not been acknowledged is kept for the next start.
    pub async fn close(&self) {
        // An answer or none: either way it has ended.
        let _ = self.call(|answer| Call::Close { answer }).await;
    }
}
