//! The task behind a client: connects, logs in, resumes, and goes on until it is closed or its session has ended.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::ClientConfig;
use tern_proto::v1::{self, client_frame, lookup, server_frame};
use tern_wire::errors::Reason;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::client::{HistoryPage, Sent, StoreHandle};
use crate::error::Error;
use crate::event::{Charge, Event, Message, Taken};
use crate::inbound::Inbound;
use crate::link::{Link, PUSH_BYTES_MAX, PUSH_FRAMES_MAX, RESPONSE_TIMEOUT, went_away};
use crate::store::{Account, Outgoing, Person};

/// The longest wait before the first reconnect, doubled with every failure.
const BACKOFF_MIN: Duration = Duration::from_millis(100);

/// The longest wait before any reconnect.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// How long acknowledgements gather before they are sent.
const ACKNOWLEDGE_DELAY: Duration = Duration::from_millis(25);

/// A token that ends within this is exchanged before it is used.
const TOKEN_SPARE_MS: u64 = 60_000;

/// Messages sent and not yet acknowledged; the rest of the outbox waits.
const SENDS_IN_FLIGHT_MAX: usize = 64;

type Answer<T> = oneshot::Sender<Result<T, Error>>;

/// What the application wants.
pub(crate) enum Call {
    Send { peer: u64, body: Vec<u8>, answer: Answer<Sent> },
    Lookup { by: lookup::By, answer: Answer<Person> },
    MarkRead { peer: u64, upto: u64, answer: Answer<()> },
    History { request: v1::History, answer: Answer<HistoryPage> },
    Close { answer: Answer<()> },
}

/// What a request under way is for.
enum Pending {
    Send(u64),
    Lookup(Answer<Person>),
    History(u64, Answer<HistoryPage>),
    /// A read of what is missing in a chat.
    Fill(u64),
    Acknowledge {
        peer: u64,
        delivered: u64,
        read: u64,
    },
    Resume,
    Ping,
}

/// Why a connection ended.
enum Ended {
    /// It is to be made again, not before so long.
    Lost(Error, Duration),
    /// The session is over.
    Final(Reason),
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
    pub(crate) events: mpsc::UnboundedSender<(Event, Option<Charge>)>,
    /// Who waits for which message.
    pub(crate) senders: HashMap<u64, Answer<Sent>>,
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
            match self.connection().await {
                Ended::Closed => return,
                Ended::Final(reason) => {
                    for (_, answer) in self.senders.drain() {
                        // Who does not wait any more is not told.
                        let _ = answer.send(Err(Error::SessionEnded(reason)));
                    }
                    self.tell(Event::SessionEnded(reason), None);
                    return;
                }
                Ended::Lost(error, at_least) => {
                    // A connection that breaks each time before it is of use is no reason to hurry.
                    failures = if self.worked { 1 } else { failures + 1 };
                    let retry_in = at_least + jitter(failures);
                    self.tell(Event::Disconnected { why: error.to_string(), retry_in }, None);
                    if !self.wait(Instant::now() + retry_in).await {
                        return;
                    }
                }
            }
        }
    }

    fn tell(&self, event: Event, charge: Option<Charge>) {
        // An application that has dropped its events does not want them.
        let _ = self.events.send((event, charge));
    }

    /// Takes calls while there is no connection. `false` if the client was closed.
    async fn wait(&mut self, until: Instant) -> bool {
        while let Ok(call) = timeout_at(until, self.calls.recv()).await {
            match call {
                Some(Call::Send { peer, body, answer }) => self.enqueue(peer, &body, answer),
                Some(Call::MarkRead { peer, upto, answer }) => {
                    let _ = answer.send(self.store.mark_read(peer, upto).map(drop));
                }
                Some(Call::Lookup { by, answer }) => {
                    let known = self.known(&by);
                    let _ = answer.send(known.and_then(|known| known.ok_or_else(not_connected)));
                }
                Some(Call::History { answer, .. }) => drop(answer.send(Err(not_connected()))),
                Some(Call::Close { answer }) => {
                    self.closing = Some(answer);
                    return false;
                }
                None => return false,
            }
        }
        true
    }

    fn enqueue(&mut self, peer: u64, body: &[u8], answer: Answer<Sent>) {
        match self.store.enqueue(peer, body) {
            Ok(client_id) => drop(self.senders.insert(client_id, answer)),
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    fn known(&self, by: &lookup::By) -> Result<Option<Person>, Error> {
        let known = match by {
            lookup::By::Phone(phone) => self.store.person_by_phone(phone)?,
            lookup::By::UserId(user) => self.store.person(*user)?,
        };
        // A name is shown only when both have written: whoever has none here may have one by now.
        Ok(known.filter(|person| !person.name.is_empty()))
    }

    async fn connection(&mut self) -> Ended {
        let link = match self.log_in().await {
            Ok(link) => link,
            Err(error) => return error.into(),
        };
        let mut connection = Connection::new(self, link);
        let ended = match connection.run().await {
            Ok(()) => Ended::Closed,
            Err(ended) => ended,
        };
        for (_, pending) in connection.pending.drain() {
            match pending {
                Pending::Lookup(answer) => drop(answer.send(Err(not_connected()))),
                Pending::History(_, answer) => drop(answer.send(Err(not_connected()))),
                // These are the driver's own, and come again with the next connection.
                Pending::Send(_)
                | Pending::Fill(_)
                | Pending::Acknowledge { .. }
                | Pending::Resume
                | Pending::Ping => {}
            }
        }
        if matches!(ended, Ended::Closed) {
            connection.link.close().await;
        }
        ended
    }

    /// Connects and logs in, exchanging the token first if it has ended or is about to.
    async fn log_in(&mut self) -> Result<Link, Error> {
        let mut link = Link::connect(&self.server, self.tls.clone()).await?;
        if self.account.access_expires_ms < now_ms() + TOKEN_SPARE_MS {
            self.refresh(&mut link).await?;
        }
        let login = |token: &str| client_frame::Request::Login(v1::Login { access_token: token.to_owned() });
        let answer = match link.call(login(&self.account.access_token)).await {
            Err(Error::Refused { reason: Reason::TokenExpired, .. }) => {
                self.refresh(&mut link).await?;
                link.call(login(&self.account.access_token)).await
            }
            answer => answer,
        };
        match answer? {
            server_frame::Message::LoggedIn(_) => Ok(link),
            _ => Err(Error::Protocol("Login was answered by something else")),
        }
    }

    async fn refresh(&mut self, link: &mut Link) -> Result<(), Error> {
        let nonce = self.store.refresh_nonce()?.into();
        let refresh_token = self.account.refresh_token.clone();
        let request = client_frame::Request::Refresh(v1::Refresh { refresh_token, nonce });
        let session = match link.call(request).await {
            Ok(server_frame::Message::Session(session)) => session,
            Ok(_) => return Err(Error::Protocol("Refresh was answered by something else")),
            // The refresh token itself has ended: only registering helps.
            Err(Error::Refused { reason: Reason::TokenExpired, detail, .. }) => {
                return Err(Error::Refused { reason: Reason::SessionRevoked, retry_after_ms: 0, detail });
            }
            Err(error) => return Err(error),
        };
        self.store.refreshed(&session)?;
        self.account = self.store.account()?.ok_or(Error::NotRegistered)?;
        Ok(())
    }
}

/// One logged-in connection.
struct Connection<'a> {
    driver: &'a mut Driver,
    link: Link,
    pending: HashMap<u64, Pending>,
    inbound: Inbound,
    caught_up: bool,
    /// Messages of the outbox that have not been sent on this connection, oldest last.
    unsent: Vec<Outgoing>,
    sends_in_flight: usize,
    /// How many may be in flight: halved when the server has too much to do, one more with each acknowledgement.
    sends_max: usize,
    /// The server has too much to do: nothing is sent before this.
    send_after: Option<Instant>,
    /// Chats to acknowledge, and when.
    to_acknowledge: BTreeSet<u64>,
    acknowledge_at: Option<Instant>,
    ping_every: Duration,
    ping_at: Instant,
    /// When the oldest request must have been answered.
    answer_by: Option<Instant>,
    /// Pushes that have become no event, with their bytes: they are taken already.
    silent: (u64, u64),
    /// Pushes that the application has taken.
    taken: Arc<Taken>,
    /// Pushes that the server knows of.
    credited: (u64, u64),
}

impl<'a> Connection<'a> {
    fn new(driver: &'a mut Driver, link: Link) -> Self {
        let ping_every = Duration::from_millis(u64::from(link.limits.idle_timeout_ms.max(3)) / 3);
        Self {
            driver,
            link,
            pending: HashMap::new(),
            inbound: Inbound::default(),
            caught_up: false,
            unsent: Vec::new(),
            sends_in_flight: 0,
            sends_max: SENDS_IN_FLIGHT_MAX,
            send_after: None,
            to_acknowledge: BTreeSet::new(),
            acknowledge_at: None,
            ping_every,
            ping_at: Instant::now() + ping_every,
            answer_by: None,
            silent: (0, 0),
            taken: Arc::default(),
            credited: (0, 0),
        }
    }

    /// Runs until the connection is lost or the client is closed.
    async fn run(&mut self) -> Result<(), Ended> {
        self.driver.tell(Event::Connected, None);
        if self.driver.receive {
            self.resume()?;
        }
        self.unsent = self.driver.store.outbox()?;
        self.unsent.reverse();
        for log in self.driver.store.unacknowledged()? {
            self.to_acknowledge.insert(log.peer);
        }
        self.acknowledge_at = Some(Instant::now());
        let taken = self.taken.clone();
        loop {
            self.send_unsent();
            self.credit();
            self.link.flush().await?;
            let (acknowledge_at, send_after) = (self.acknowledge_at, self.send_after);
            let answer_by = self.answer_by;
            tokio::select! {
                frame = self.link.receive() => {
                    let (frame, bytes) = frame?;
                    self.frame(frame, bytes as u64)?;
                }
                call = self.driver.calls.recv() => match call {
                    Some(Call::Close { answer }) => {
                        self.driver.closing = Some(answer);
                        return self.acknowledge();
                    }
                    Some(call) => self.call(call)?,
                    None => return self.acknowledge(),
                },
                () = taken.notify.notified() => {}
                () = at(acknowledge_at) => self.acknowledge()?,
                () = at(send_after) => self.send_after = None,
                () = sleep_until(self.ping_at) => {
                    self.ping_at = Instant::now() + self.ping_every;
                    self.request(client_frame::Request::Ping(v1::Ping {}), Pending::Ping);
                }
                () = at(answer_by) => return Err(Error::TimedOut.into()),
            }
        }
    }

    fn request(&mut self, request: client_frame::Request, pending: Pending) {
        let id = self.link.queue(request);
        if self.pending.is_empty() {
            self.answer_by = Some(Instant::now() + RESPONSE_TIMEOUT);
        }
        self.pending.insert(id, pending);
    }

    /// Asks for the pushes, and for what has become of own messages that were not read yet.
    fn resume(&mut self) -> Result<(), Error> {
        let positions = self.driver.store.awaiting_receipts(self.link.limits.positions_max)?;
        let positions = positions.into_iter().map(|log| v1::Position {
            peer: log.peer,
            upto: log.position,
            delivered_upto: log.peer_delivered,
            read_upto: log.peer_read,
        });
        let positions = positions.collect();
        self.request(
            client_frame::Request::Resume(v1::Resume { positions, ..v1::Resume::default() }),
            Pending::Resume,
        );
        Ok(())
    }

    fn call(&mut self, call: Call) -> Result<(), Ended> {
        match call {
            Call::Send { peer, body, answer } => match self.driver.store.enqueue(peer, &body) {
                Ok(client_id) => {
                    self.driver.senders.insert(client_id, answer);
                    self.unsent.insert(0, Outgoing { client_id, peer, body });
                }
                Err(error) => drop(answer.send(Err(error))),
            },
            Call::Lookup { by, answer } => match self.driver.known(&by) {
                Ok(None) => {
                    let request = client_frame::Request::Lookup(v1::Lookup { by: Some(by) });
                    self.request(request, Pending::Lookup(answer));
                }
                Ok(Some(person)) => drop(answer.send(Ok(person))),
                Err(error) => drop(answer.send(Err(error))),
            },
            Call::MarkRead { peer, upto, answer } => {
                let marked = self.driver.store.mark_read(peer, upto);
                if matches!(marked, Ok(true)) {
                    self.acknowledge_soon(peer);
                }
                let _ = answer.send(marked.map(drop));
            }
            Call::History { request, answer } => {
                let pending = Pending::History(request.peer, answer);
                self.request(client_frame::Request::History(request), pending);
            }
            Call::Close { .. } => unreachable!("taken before"),
        }
        Ok(())
    }

    fn send_unsent(&mut self) {
        while self.send_after.is_none()
            && self.sends_in_flight < self.sends_max
            && let Some(Outgoing { client_id, peer, body }) = self.unsent.pop()
        {
            let kind = v1::Kind::Text.into();
            let send = v1::Send { peer, client_id, body: body.into(), kind };
            self.sends_in_flight += 1;
            self.request(client_frame::Request::Send(send), Pending::Send(client_id));
        }
    }

    /// Confirms pushes when a good part of the window is used.
    fn credit(&mut self) {
        let frames = self.silent.0 + self.taken.frames.load(Ordering::Relaxed);
        let bytes = self.silent.1 + self.taken.bytes.load(Ordering::Relaxed);
        let (had_frames, had_bytes) = self.credited;
        if frames - had_frames >= u64::from(PUSH_FRAMES_MAX / 2)
            || bytes - had_bytes >= u64::from(PUSH_BYTES_MAX / 2)
        {
            self.credited = (frames, bytes);
            self.link.queue_silent(client_frame::Request::Credit(v1::Credit { frames, bytes }));
        }
    }

    fn frame(&mut self, frame: v1::ServerFrame, bytes: u64) -> Result<(), Ended> {
        let message = frame.message.ok_or(Error::Protocol("a frame has no message"))?;
        match message {
            server_frame::Message::Entry(entry) => self.pushed(entry, bytes),
            server_frame::Message::Receipt(receipt) => self.receipt(&receipt, bytes),
            server_frame::Message::CaughtUp(_) => {
                self.caught_up = true;
                self.driver.worked = true;
                self.driver.tell(Event::CaughtUp, None);
                for peer in self.inbound.gaps() {
                    self.fill(peer)?;
                }
                Ok(())
            }
            server_frame::Message::GoAway(bye) => Err(went_away(bye).into()),
            message => {
                let Some(pending) = self.pending.remove(&frame.id) else { return Ok(()) };
                // Each response gives the others time; without any request under way nothing is waited for.
                let waits = !self.pending.is_empty();
                self.answer_by = waits.then(|| Instant::now() + RESPONSE_TIMEOUT);
                self.driver.worked |= !self.driver.receive;
                self.answered(pending, message)
            }
        }
    }

    fn pushed(&mut self, entry: v1::Entry, bytes: u64) -> Result<(), Ended> {
        let peer = entry.peer;
        let position = self.driver.store.log(peer)?.position;
        let mut ready = self.inbound.take(position, entry);
        if ready.is_empty() {
            self.silent = (self.silent.0 + 1, self.silent.1 + bytes);
            if self.caught_up && self.inbound.has_gap(peer) {
                self.fill(peer)?;
            }
            return Ok(());
        }
        let last = ready.pop();
        for entry in ready {
            self.store_entry(entry, None)?;
        }
        let charge = Charge { taken: self.taken.clone(), bytes };
        last.map_or(Ok(()), |last| self.store_entry(last, Some(charge)))
    }

    /// An entry is the next of its chat.
    fn store_entry(&mut self, entry: v1::Entry, charge: Option<Charge>) -> Result<(), Ended> {
        let me = (self.driver.account.user_id, self.driver.account.device_id);
        let own = entry.sender == me.0 || entry.peer == me.0;
        self.driver.store.add_entry(&entry, me.0)?;
        if own && entry.sender_device == me.1 {
            // It may have come before its acknowledgement, which a lost connection has taken along.
            self.sent(entry.client_id, Sent { seq: entry.seq, time_ms: entry.time_ms })?;
        }
        let log = self.driver.store.log(entry.peer)?;
        if own && entry.sender_device == me.1 && log.acked + 1 == entry.seq {
            self.driver.store.acknowledged(entry.peer, entry.seq, 0)?;
        } else {
            self.acknowledge_soon(entry.peer);
        }
        let sender = if entry.sender == 0 { entry.peer } else { entry.sender };
        let (peer, seq, time_ms) = (entry.peer, entry.seq, entry.time_ms);
        let message = Message { peer, seq, sender, time_ms, body: entry.body.into(), own };
        self.driver.tell(Event::Message(message), charge);
        Ok(())
    }

    /// Reads what is missing in a chat, unless that is under way.
    fn fill(&mut self, peer: u64) -> Result<(), Ended> {
        if !self.pending.values().any(|pending| matches!(pending, Pending::Fill(filling) if *filling == peer))
        {
            let from = self.driver.store.log(peer)?.position;
            let request = v1::History { peer, from, forwards: true, limit: 0 };
            self.request(client_frame::Request::History(request), Pending::Fill(peer));
        }
        Ok(())
    }

    fn receipt(&mut self, receipt: &v1::Receipt, bytes: u64) -> Result<(), Ended> {
        let v1::Receipt { peer, delivered_upto, read_upto, member } = *receipt;
        let own = member == self.driver.account.user_id;
        let news = if own {
            let news = self.driver.store.mark_read(peer, read_upto)?;
            self.driver.store.acknowledged(peer, 0, read_upto)?;
            news
        } else {
            self.driver.store.peer_marks(peer, delivered_upto, read_upto)?
        };
        if news {
            let charge = Charge { taken: self.taken.clone(), bytes };
            self.driver.tell(Event::Receipt { peer, delivered_upto, read_upto, own }, Some(charge));
        } else {
            self.silent = (self.silent.0 + 1, self.silent.1 + bytes);
        }
        Ok(())
    }

    fn answered(&mut self, pending: Pending, message: server_frame::Message) -> Result<(), Ended> {
        use server_frame::Message as M;
        match (pending, message) {
            (Pending::Send(client_id), M::Sent(sent)) => {
                self.sends_in_flight -= 1;
                self.sends_max = SENDS_IN_FLIGHT_MAX.min(self.sends_max + 1);
                self.sent(client_id, Sent { seq: sent.seq, time_ms: sent.time_ms })?;
            }
            (Pending::Send(client_id), M::Refused(refused)) => {
                self.sends_in_flight -= 1;
                self.send_refused(client_id, refused)?;
            }
            (Pending::Lookup(answer), M::Person(v1::Person { user_id, name, phone })) => {
                let person = Person { user_id, name, phone };
                self.driver.store.put_person(&person)?;
                let _ = answer.send(Ok(person));
            }
            (Pending::History(peer, answer), M::HistoryPage(page)) => {
                drop(answer.send(Ok(self.page(peer, page))))
            }
            (Pending::Lookup(answer), M::Refused(refused)) => drop(answer.send(Err(refused.into()))),
            (Pending::History(_, answer), M::Refused(refused)) => drop(answer.send(Err(refused.into()))),
            (Pending::Fill(peer), M::HistoryPage(page)) => {
                for entry in page.entries {
                    let position = self.driver.store.log(peer)?.position;
                    for entry in self.inbound.take(position, v1::Entry { peer, ..entry }) {
                        self.store_entry(entry, None)?;
                    }
                }
                if self.inbound.has_gap(peer) && page.more {
                    self.fill(peer)?;
                }
            }
            (Pending::Acknowledge { peer, delivered, read }, M::Acknowledged(_)) => {
                self.driver.store.acknowledged(peer, delivered, read)?;
            }
            (Pending::Resume, M::Resumed(_)) | (Pending::Ping, M::Pong(_)) => {}
            // The server has too much to do; the next one comes in its time.
            (Pending::Ping, M::Refused(refused)) if refused.retry_after_ms > 0 => {}
            (Pending::Acknowledge { peer, .. }, M::Refused(refused)) if refused.retry_after_ms > 0 => {
                self.acknowledge_soon(peer);
            }
            (
                Pending::Resume | Pending::Ping | Pending::Fill(_) | Pending::Acknowledge { .. },
                M::Refused(refused),
            ) => return Err(Error::from(refused).into()),
            _ => return Err(Error::Protocol("a response is not of its request's kind").into()),
        }
        Ok(())
    }

    /// A message of one's own is durable: it takes its place in the chat.
    fn sent(&mut self, client_id: u64, sent: Sent) -> Result<(), Ended> {
        let Some(Outgoing { peer, body, .. }) = self.driver.store.dequeue(client_id)? else { return Ok(()) };
        if let Some(answer) = self.driver.senders.remove(&client_id) {
            let _ = answer.send(Ok(sent));
        }
        let account = &self.driver.account;
        let entry = v1::Entry {
            peer,
            seq: sent.seq,
            time_ms: sent.time_ms,
            body: body.into(),
            sender: account.user_id,
            sender_device: account.device_id,
            client_id,
            ..Default::default()
        };
        let position = self.driver.store.log(peer)?.position;
        for entry in self.inbound.take(position, entry) {
            self.store_entry(entry, None)?;
        }
        Ok(())
    }

    fn send_refused(&mut self, client_id: u64, refused: v1::Refused) -> Result<(), Ended> {
        if refused.retry_after_ms > 0 || refused.reason() == Reason::Unavailable {
            let wait = Duration::from_millis(u64::from(refused.retry_after_ms).max(100));
            self.send_after = Some(Instant::now() + wait + jitter_within(wait));
            self.sends_max = (self.sends_max / 2).max(1);
            // Oldest last: it goes first again.
            let at = self.unsent.partition_point(|later| later.client_id > client_id);
            if let Some(outgoing) = self.driver.store.outgoing(client_id)? {
                self.unsent.insert(at, outgoing);
            }
            return Ok(());
        }
        self.driver.store.dequeue(client_id)?;
        if let Some(answer) = self.driver.senders.remove(&client_id) {
            let _ = answer.send(Err(refused.into()));
        }
        Ok(())
    }

    fn page(&self, peer: u64, page: v1::HistoryPage) -> HistoryPage {
        let me = self.driver.account.user_id;
        let message = |entry: v1::Entry| {
            let sender = if entry.sender == 0 { peer } else { entry.sender };
            let (seq, time_ms) = (entry.seq, entry.time_ms);
            Message { peer, seq, sender, time_ms, body: entry.body.into(), own: sender == me }
        };
        HistoryPage {
            messages: page.entries.into_iter().map(message).collect(),
            more: page.more,
            head: page.head,
            delivered_upto: page.delivered_upto,
            read_upto: page.read_upto,
        }
    }

    fn acknowledge_soon(&mut self, peer: u64) {
        self.to_acknowledge.insert(peer);
        self.acknowledge_at.get_or_insert(Instant::now() + ACKNOWLEDGE_DELAY);
    }

    fn acknowledge(&mut self) -> Result<(), Ended> {
        self.acknowledge_at = None;
        for peer in std::mem::take(&mut self.to_acknowledge) {
            let log = self.driver.store.log(peer)?;
            let (delivered, read) = (log.position, log.read_upto);
            if delivered > log.acked || read > log.read_acked {
                let request = v1::Acknowledge { peer, delivered_upto: delivered, read_upto: read };
                let pending = Pending::Acknowledge { peer, delivered, read };
                self.request(client_frame::Request::Acknowledge(request), pending);
            }
        }
        Ok(())
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}

fn not_connected() -> Error {
    Error::Connection(std::io::ErrorKind::NotConnected.into())
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

/// Full jitter: anything up to a bound that doubles with every failure.
fn jitter(failures: u32) -> Duration {
    jitter_within(BACKOFF_MIN.saturating_mul(1 << failures.min(16)).min(BACKOFF_MAX))
}

fn jitter_within(bound: Duration) -> Duration {
    // Without entropy the bound itself is a backoff too.
    let share = getrandom::u32().map_or(1.0, |random| f64::from(random) / f64::from(u32::MAX));
    bound.mul_f64(share)
}
