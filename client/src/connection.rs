//! One logged-in connection: what is pushed is stored and told, what waits is sent, what was dealt with is acknowledged.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use tern_proto::v1::{self, client_frame, server_frame};
use tern_wire::errors::Reason;
use tern_wire::limits::GENERATIONS_MAX;
use tokio::time::{Instant, sleep_until};

use crate::client::{HistoryPage, Sent};
use crate::driver::{Answer, Call, Driver, Ended, NewMessage, answer_all, jitter_within, not_connected};
use crate::error::Error;
use crate::event::{Event, Message};
use crate::link::{Link, PUSH_BYTES_MAX, PUSH_FRAMES_MAX, RESPONSE_TIMEOUT, went_away};
use crate::store::{LogState, Outgoing, Person};

/// How long acknowledgements gather before they are sent.
const ACKNOWLEDGE_DELAY: Duration = Duration::from_millis(25);

/// Messages sent and not yet acknowledged; the rest of the outbox waits.
const SENDS_IN_FLIGHT_MAX: usize = 64;

/// Frames that are stored with one transaction, if they have come together.
const BURST_MAX: usize = 256;

/// The least time until a request that was refused for now is made again.
const RETRY_MIN: Duration = Duration::from_millis(100);

/// What a request under way is for.
enum Pending {
    Send(u64),
    /// What is known of the person, should the server say no.
    Lookup(Option<Person>, Answer<Person>),
    /// The server says that a person is not as before.
    Changed(u64),
    History(u64, Answer<HistoryPage>),
    /// Something that changes nothing here.
    Ask(Answer<server_frame::Message>),
    /// A read of what is missing in a chat.
    Fill(u64),
    Acknowledge {
        peer: u64,
        delivered: u64,
        read: u64,
    },
    Resume(v1::Resume),
    Ping,
}

/// A request of the client's own that was refused for now.
enum Again {
    Changed(u64),
    Fill(u64),
    Resume(v1::Resume),
}

/// Whether the logs' positions are those of the server's store.
enum Trust {
    /// The server has not said yet.
    Unknown,
    /// They are.
    Settled,
    /// They are not: it is told every log, after this one, and says of each how much of it is there. `None`: all are told.
    Listing(Option<After>),
}

/// A place among the logs: after this peer, or before the first.
type After = Option<u64>;

/// See the module.
pub(crate) struct Connection<'a> {
    driver: &'a mut Driver,
    link: Link,
    /// Requests that are not answered, with the bytes of their frames.
    pending: HashMap<u64, (Pending, u64)>,
    /// Requests beyond the server's window.
    to_ask: VecDeque<(client_frame::Request, Pending)>,
    trust: Trust,
    /// CaughtUp was pushed.
    caught_up_pushed: bool,
    /// That holds for everything that this device has, too.
    caught_up: bool,
    /// Chats that the first Resume has listed: they are not listed again.
    listed: HashSet<u64>,
    /// Chats whose watermarks were forgotten because the store went back.
    unmarked: Vec<u64>,
    /// Messages of the outbox that have not been sent on this connection.
    unsent: VecDeque<Outgoing>,
    sends_in_flight: usize,
    /// How many may be in flight: halved when the server has too much to do, one more with each acknowledgement.
    sends_max: usize,
    /// The server has too much to do: nothing is sent before this.
    send_after: Option<Instant>,
    /// People to whom nothing more may be sent for now: nothing is before this, and others are not held up.
    held: HashMap<u64, Instant>,
    /// Who waits until nothing is unsent.
    flushes: Vec<Answer<()>>,
    again: Vec<(Instant, Again)>,
    /// Chats to acknowledge, and when.
    to_acknowledge: BTreeSet<u64>,
    acknowledge_at: Option<Instant>,
    ping_every: Duration,
    ping_at: Instant,
    /// When the oldest request must have been answered.
    answer_by: Option<Instant>,
    /// Pushes that are stored, with their bytes, and those that the server knows of.
    stored: (u64, u64),
    credited: (u64, u64),
}

impl<'a> Connection<'a> {
    pub(crate) fn new(driver: &'a mut Driver, link: Link) -> Self {
        let ping_every = Duration::from_millis(u64::from(link.limits.idle_timeout_ms.max(3)) / 3);
        Self {
            driver,
            link,
            pending: HashMap::new(),
            to_ask: VecDeque::new(),
            trust: Trust::Unknown,
            caught_up_pushed: false,
            caught_up: false,
            listed: HashSet::new(),
            unmarked: Vec::new(),
            unsent: VecDeque::new(),
            sends_in_flight: 0,
            sends_max: SENDS_IN_FLIGHT_MAX,
            send_after: None,
            held: HashMap::new(),
            flushes: Vec::new(),
            again: Vec::new(),
            to_acknowledge: BTreeSet::new(),
            acknowledge_at: None,
            ping_every,
            ping_at: Instant::now() + ping_every,
            answer_by: None,
            stored: (0, 0),
            credited: (0, 0),
        }
    }

    /// Runs until the connection is lost or the client is closed.
    pub(crate) async fn run(&mut self) -> Result<(), Ended> {
        self.driver.teller.tell(Event::Connected);
        let generations = self.driver.store.generations()?;
        if self.link.generation == 0 || generations == [self.link.generation] {
            self.trust = Trust::Settled;
        }
        if self.driver.receive {
            self.resume(generations)?;
        }
        self.unsent = self.driver.store.outbox()?.into();
        for log in self.driver.store.unacknowledged()? {
            self.to_acknowledge.insert(log.peer);
        }
        self.acknowledge_at = Some(Instant::now());
        for call in std::mem::take(&mut self.driver.waiting) {
            self.call(call)?;
        }
        let progress = self.driver.progress.clone();
        loop {
            self.driver.pump()?;
            self.ask_waiting();
            self.send_unsent()?;
            self.answer_flushes();
            self.credit();
            self.link.flush().await?;
            let (acknowledge_at, send_after) = (self.acknowledge_at, self.send_after);
            let answer_by = self.answer_by;
            let again_at = self.again.iter().map(|(when, _)| *when).min();
            let held_until = self.held.values().min().copied();
            tokio::select! {
                frame = self.link.receive() => {
                    let (frame, bytes) = frame?;
                    self.burst(frame, bytes)?;
                }
                call = self.driver.calls.recv() => match call {
                    Some(Call::Close { answer }) => {
                        self.driver.closing = Some(answer);
                        return self.acknowledge();
                    }
                    Some(call) => self.call(call)?,
                    None => return self.acknowledge(),
                },
                () = progress.notify.notified() => if self.driver.teller.is_news() {
                    self.acknowledge_soon();
                },
                () = at(acknowledge_at) => self.acknowledge()?,
                () = at(send_after) => self.send_after = None,
                // The next turn sends.
                () = at(held_until) => {}
                () = at(again_at) => self.ask_again()?,
                () = sleep_until(self.ping_at) => {
                    self.ping_at = Instant::now() + self.ping_every;
                    self.request(client_frame::Request::Ping(v1::Ping {}), Pending::Ping);
                    self.fill_gaps()?;
                }
                () = at(answer_by) => return Err(Error::TimedOut.into()),
            }
        }
    }

    /// Tells those who wait that there is no connection. If it is whole, it ends cleanly.
    pub(crate) async fn end(self, whole: bool) {
        let asked = self.pending.into_values().map(|(pending, _)| pending);
        for pending in asked.chain(self.to_ask.into_iter().map(|(_, pending)| pending)) {
            match pending {
                Pending::Lookup(Some(known), answer) => drop(answer.send(Ok(known))),
                Pending::Lookup(None, answer) => drop(answer.send(Err(not_connected()))),
                Pending::History(_, answer) => drop(answer.send(Err(not_connected()))),
                Pending::Ask(answer) => drop(answer.send(Err(not_connected()))),
                // These are the client's own, and come again with the next connection.
                Pending::Send(_)
                | Pending::Changed(_)
                | Pending::Fill(_)
                | Pending::Acknowledge { .. }
                | Pending::Resume(_)
                | Pending::Ping => {}
            }
        }
        for answer in self.flushes {
            let _ = answer.send(Err(not_connected()));
        }
        if whole {
            self.link.close().await;
        }
    }

    /// Makes a request, or has it wait until the server's window has room for it.
    fn request(&mut self, request: client_frame::Request, pending: Pending) {
        let bytes = Link::bytes_of(&request);
        if !self.to_ask.is_empty() || !self.has_room(bytes) {
            return self.to_ask.push_back((request, pending));
        }
        let id = self.link.queue(request);
        if self.pending.is_empty() {
            self.answer_by = Some(Instant::now() + RESPONSE_TIMEOUT);
        }
        self.pending.insert(id, (pending, bytes));
    }

    /// Whether the server takes one more request of so many bytes.
    fn has_room(&self, bytes: u64) -> bool {
        let limits = &self.link.limits;
        let under_way: u64 = self.pending.values().map(|(_, bytes)| bytes).sum();
        self.pending.is_empty()
            || (self.pending.len() < limits.requests_in_flight_max as usize
                && under_way + bytes <= u64::from(limits.request_bytes_in_flight_max))
    }

    /// Makes the requests that have waited, as far as there is room now.
    fn ask_waiting(&mut self) {
        for (request, pending) in std::mem::take(&mut self.to_ask) {
            // Those behind one that waits wait too.
            self.request(request, pending);
        }
    }

    /// Whether a request is under way, or waits to be.
    fn is_asking(&self, what: impl Fn(&Pending) -> bool) -> bool {
        let waiting = self.to_ask.iter().map(|(_, pending)| pending);
        self.pending.values().map(|(pending, _)| pending).chain(waiting).any(what)
    }

    /// Asks for the pushes, for what has become of own messages that were not read yet, and whether the store is still
    /// one that has what this device has.
    fn resume(&mut self, mut generations: Vec<u64>) -> Result<(), Error> {
        if generations.len() > GENERATIONS_MAX {
            generations.clear();
        }
        let store = &self.driver.store;
        let mut logs = store.to_resume(self.link.limits.positions_max)?;
        if logs.is_empty() && generations.is_empty() {
            // Without either the server could not know that this device has anything.
            logs = store.all_logs(None, 1)?;
        }
        let position = |log: LogState| v1::Position {
            peer: log.peer,
            upto: log.position,
            delivered_upto: log.peer_delivered,
            read_upto: log.peer_read,
        };
        let positions = logs.into_iter().map(position).collect();
        self.send_resume(v1::Resume { positions, generations });
        Ok(())
    }

    fn send_resume(&mut self, resume: v1::Resume) {
        self.request(client_frame::Request::Resume(resume.clone()), Pending::Resume(resume));
    }

    fn resumed(&mut self, asked: v1::Resume, rewound: bool) -> Result<(), Ended> {
        // Another one follows, for what this one has asked for.
        self.caught_up_pushed = false;
        match self.trust {
            Trust::Unknown if !rewound => self.settled(),
            Trust::Unknown | Trust::Settled if rewound => {
                let store = &self.driver.store;
                self.unmarked = store.marked()?.into_iter().map(|log| log.peer).collect();
                store.forget_marks()?;
                // Of those that it has listed it hears when they are not so.
                for v1::Position { peer, delivered_upto, read_upto, .. } in &asked.positions {
                    store.peer_marks(*peer, *delivered_upto, *read_upto, 0)?;
                }
                self.listed = asked.positions.iter().map(|position| position.peer).collect();
                self.trust = Trust::Listing(Some(None));
            }
            _ => {}
        }
        if let Trust::Listing(Some(after)) = self.trust {
            self.list_logs(after, asked.generations)?;
        }
        self.catch_up()
    }

    /// Tells the server of the next logs that this device has. The peers' watermarks are asked for from their start.
    fn list_logs(&mut self, after: After, generations: Vec<u64>) -> Result<(), Error> {
        let mut logs = Vec::new();
        let mut after = Some(after);
        while logs.is_empty()
            && let Some(peer) = after
        {
            logs = self.driver.store.all_logs(peer, self.link.limits.positions_max)?;
            after = logs.last().map(|log| Some(log.peer));
            logs.retain(|log| !self.listed.contains(&log.peer));
        }
        self.trust = Trust::Listing(after);
        if !logs.is_empty() {
            let position =
                |log: LogState| v1::Position { peer: log.peer, upto: log.position, ..Default::default() };
            let positions = logs.into_iter().map(position).collect();
            self.send_resume(v1::Resume { positions, generations });
        }
        Ok(())
    }

    /// The positions are those of the store: what was stored may be acknowledged.
    fn settled(&mut self) {
        self.trust = Trust::Settled;
        self.acknowledge_at = Some(Instant::now());
    }

    fn is_settled(&self) -> bool {
        matches!(self.trust, Trust::Settled)
    }

    /// Has everything come that was missing? Then what is still in doubt is gone.
    fn catch_up(&mut self) -> Result<(), Ended> {
        let resuming = self.is_asking(|pending| matches!(pending, Pending::Resume(_)))
            || self.again.iter().any(|(_, again)| matches!(again, Again::Resume(_)));
        let listing = matches!(self.trust, Trust::Listing(Some(_)));
        if self.caught_up || !self.caught_up_pushed || resuming || listing {
            return Ok(());
        }
        (self.caught_up, self.driver.worked) = (true, true);
        if self.driver.store.caught_up(self.link.generation)? {
            self.driver.teller.something_is_gone();
        }
        for peer in std::mem::take(&mut self.unmarked) {
            self.driver.teller.marks_moved(peer, false);
        }
        for log in self.driver.store.unacknowledged()? {
            self.to_acknowledge.insert(log.peer);
        }
        self.settled();
        let store = &self.driver.store;
        self.driver.teller.caught_up(store)?;
        self.fill_gaps()
    }

    /// Reads what is missing before what is there. What is on its way comes sooner; this is for what is not.
    fn fill_gaps(&mut self) -> Result<(), Ended> {
        if self.caught_up {
            for log in self.driver.store.gaps()? {
                self.fill(log.peer)?;
            }
        }
        Ok(())
    }

    fn call(&mut self, call: Call) -> Result<(), Ended> {
        match call {
            Call::Send { message, kept, sent } => {
                if let Some(client_id) = self.driver.keep(&message, kept, sent) {
                    let NewMessage { peer, body, .. } = message;
                    self.unsent.push_back(Outgoing { client_id, peer, body });
                }
            }
            Call::Lookup { by, answer } => {
                let known = match self.driver.known(&by) {
                    Ok(known) => known,
                    Err(error) => {
                        let _ = answer.send(Err(error));
                        return Ok(());
                    }
                };
                match known {
                    Some(person) if !self.driver.is_to_be_asked(&person)? => drop(answer.send(Ok(person))),
                    known => {
                        let request = client_frame::Request::Lookup(v1::Lookup { by: Some(by) });
                        self.request(request, Pending::Lookup(known, answer));
                    }
                }
            }
            Call::MarkRead { peer, upto, answer } => {
                let marked = self.driver.store.mark_read(peer, upto);
                if matches!(marked, Ok(true)) {
                    self.to_acknowledge.insert(peer);
                    self.acknowledge_soon();
                }
                let _ = answer.send(marked.map(drop));
            }
            Call::Ask { request, answer } => self.request(request, Pending::Ask(answer)),
            Call::History { request, answer } => {
                let pending = Pending::History(request.peer, answer);
                self.request(client_frame::Request::History(request), pending);
            }
            Call::Local(work) => work(&self.driver.store),
            Call::Flush { answer } => self.flushes.push(answer),
            Call::Close { .. } => unreachable!("taken before"),
        }
        Ok(())
    }

    fn send_unsent(&mut self) -> Result<(), Ended> {
        let now = Instant::now();
        self.held.retain(|_, until| *until > now);
        while self.send_after.is_none()
            && self.to_ask.is_empty()
            && self.sends_in_flight < self.sends_max
            && let Some(at) = self.unsent.iter().position(|next| !self.held.contains_key(&next.peer))
            && let Some(Outgoing { client_id, peer, body }) = self.unsent.remove(at)
        {
            let longest = self.link.limits.body_bytes_max as usize;
            if body.len() > longest {
                let detail = format!("this server takes at most {longest} bytes");
                let reason = Reason::BodyTooLarge.into();
                self.send_refused(client_id, v1::Refused { reason, detail, ..v1::Refused::default() })?;
                continue;
            }
            let kind = v1::Kind::Text.into();
            let send = client_frame::Request::Send(v1::Send { peer, client_id, body: body.into(), kind });
            self.sends_in_flight += 1;
            self.request(send, Pending::Send(client_id));
        }
        Ok(())
    }

    fn answer_flushes(&mut self) {
        if self.unsent.is_empty() && self.sends_in_flight == 0 {
            for answer in self.flushes.drain(..) {
                let _ = answer.send(Ok(()));
            }
        }
    }

    /// Confirms pushes when a good part of the window is used. They are stored; how fast the application takes them is
    /// nothing to the server.
    fn credit(&mut self) {
        let ((frames, bytes), (had_frames, had_bytes)) = (self.stored, self.credited);
        if frames - had_frames >= u64::from(PUSH_FRAMES_MAX / 2)
            || bytes - had_bytes >= u64::from(PUSH_BYTES_MAX / 2)
        {
            self.credited = (frames, bytes);
            self.link.queue_silent(client_frame::Request::Credit(v1::Credit { frames, bytes }));
        }
    }

    /// Takes a frame and those that came with it, with one transaction.
    fn burst(&mut self, first: v1::ServerFrame, bytes: usize) -> Result<(), Ended> {
        self.driver.store.begin()?;
        let mut done = self.frame(first, bytes as u64);
        for _ in 1..BURST_MAX {
            if done.is_err() {
                break;
            }
            let Some((frame, bytes)) = self.link.ready() else { break };
            done = self.frame(frame, bytes as u64);
        }
        if let Err(Ended::Lost(Error::Store(_), _)) = done {
            // Half of what a frame is about may be written.
            self.driver.store.roll_back();
            return done;
        }
        // What came before a frame that ends the connection is stored.
        self.driver.store.commit()?;
        done
    }

    fn frame(&mut self, frame: v1::ServerFrame, bytes: u64) -> Result<(), Ended> {
        use server_frame::Message as M;
        // A push that this version does not know.
        let Some(message) = frame.message else { return Ok(()) };
        match message {
            M::Entry(entry) => {
                self.count(bytes);
                self.pushed(entry)
            }
            M::Receipt(receipt) => {
                self.count(bytes);
                self.receipt(&receipt)
            }
            M::Rewound(rewound) => {
                self.count(bytes);
                self.put_back(rewound.peer, rewound.upto)?;
                Ok(self.driver.store.forget_marks_of(rewound.peer)?)
            }
            M::CaughtUp(_) => {
                self.caught_up_pushed = true;
                self.catch_up()
            }
            M::DeviceAdded(v1::DeviceAdded { device_id, device_name, time_ms }) => {
                self.driver.teller.tell(Event::DeviceAdded { device_id, device_name, time_ms });
                Ok(self.driver.store.set_newest_device(device_id)?)
            }
            M::PersonChanged(v1::PersonChanged { user_id }) => {
                self.look_up_changed(user_id);
                Ok(())
            }
            M::GoAway(bye) => Err(went_away(bye).into()),
            message => {
                let Some((pending, _)) = self.pending.remove(&frame.id) else { return Ok(()) };
                // Each response gives the others time; without any request under way nothing is waited for.
                let waits = !self.pending.is_empty();
                self.answer_by = waits.then(|| Instant::now() + RESPONSE_TIMEOUT);
                self.driver.worked |= !self.driver.receive;
                self.answered(pending, message)
            }
        }
    }

    /// Counts a push that counts in the window.
    fn count(&mut self, bytes: u64) {
        self.stored = (self.stored.0 + 1, self.stored.1 + bytes);
    }

    fn pushed(&mut self, entry: v1::Entry) -> Result<(), Ended> {
        let seq = entry.seq;
        let log = self.entry(entry)?;
        // What is missing below may be on its way as one's own `Sent`.
        if self.caught_up && log.position < seq && self.sends_in_flight == 0 {
            self.fill(log.peer)?;
        }
        Ok(())
    }

    /// Stores an entry, wherever it comes from. Gives its log.
    fn entry(&mut self, entry: v1::Entry) -> Result<LogState, Ended> {
        let v1::Entry { peer, seq, sender, sender_device, client_id, time_ms, .. } = entry;
        if peer == 0 || seq == 0 {
            return Err(Error::Protocol("an entry has no place").into());
        }
        let account = &self.driver.account;
        let own = sender == account.user_id && sender_device == account.device_id;
        let took = self.driver.store.take(&entry, account, self.link.generation)?;
        if took.rewound {
            self.was_put_back(peer, seq - 1)?;
        }
        if own {
            // It may have come before its acknowledgement, which a lost connection has taken along.
            if self.driver.store.dequeue(client_id)?.is_some() {
                let sent = Sent { seq, time_ms };
                self.driver.store.note_sent(client_id, sent)?;
                answer_all(self.driver.senders.remove(&client_id).unwrap_or_default(), &Ok(sent));
            }
            if self.is_settled() && took.log.acked + 1 == seq && took.log.position >= seq {
                // The server knows that whoever has sent it has it.
                self.driver.store.acknowledged(peer, seq, 0)?;
            }
        }
        self.driver.teller.grown(peer);
        Ok(took.log)
    }

    /// The server says that what is beyond `upto` may not be in its store.
    fn put_back(&mut self, peer: u64, upto: u64) -> Result<(), Ended> {
        if self.driver.store.log(peer)?.top > upto {
            self.driver.store.rewind(peer, upto)?;
            self.was_put_back(peer, upto)?;
        }
        Ok(())
    }

    fn was_put_back(&mut self, peer: u64, upto: u64) -> Result<(), Ended> {
        self.driver.teller.put_back(&self.driver.store, peer, upto)?;
        if self.caught_up && self.driver.store.settle()? {
            self.driver.teller.something_is_gone();
        }
        Ok(())
    }

    /// Reads what is missing in a chat, unless that is under way.
    fn fill(&mut self, peer: u64) -> Result<(), Ended> {
        if !self.is_asking(|pending| matches!(pending, Pending::Fill(filling) if *filling == peer)) {
            let from = self.driver.store.log(peer)?.position;
            let request = v1::History { peer, from, forwards: true, limit: 0 };
            self.request(client_frame::Request::History(request), Pending::Fill(peer));
        }
        Ok(())
    }

    fn filled(&mut self, peer: u64, page: v1::HistoryPage) -> Result<(), Ended> {
        for entry in page.entries {
            self.entry(v1::Entry { peer, ..entry })?;
        }
        let log = self.driver.store.log(peer)?;
        if log.top > page.head && !page.more {
            // What would have to be read does not exist, and neither does what stands beyond it.
            self.put_back(peer, page.head)?;
        } else if log.top > log.position && page.more {
            self.fill(peer)?;
        }
        Ok(())
    }

    fn receipt(&mut self, receipt: &v1::Receipt) -> Result<(), Ended> {
        let v1::Receipt { peer, delivered_upto, read_upto, member } = *receipt;
        let own = member == self.driver.account.user_id;
        let store = &self.driver.store;
        let news = if own {
            let news = store.mark_read(peer, read_upto)?;
            store.acknowledged(peer, 0, read_upto)?;
            news
        } else {
            if matches!(self.trust, Trust::Listing(_)) {
                // What the store has is less than what it had.
                store.forget_marks_of(peer)?;
            }
            store.peer_marks(peer, delivered_upto, read_upto, self.link.generation)?
        };
        if news {
            self.driver.teller.marks_moved(peer, own);
        }
        Ok(())
    }

    fn look_up_changed(&mut self, user: u64) {
        let asking = |pending: &Pending| matches!(pending, Pending::Changed(asked) if *asked == user);
        if !self.is_asking(asking) {
            let by = Some(v1::lookup::By::UserId(user));
            self.request(client_frame::Request::Lookup(v1::Lookup { by }), Pending::Changed(user));
        }
    }

    fn answered(&mut self, pending: Pending, message: server_frame::Message) -> Result<(), Ended> {
        use server_frame::Message as M;
        match (pending, message) {
            (Pending::Send(client_id), M::Sent(sent)) => {
                self.sends_in_flight -= 1;
                self.sends_max = SENDS_IN_FLIGHT_MAX.min(self.sends_max + 1);
                self.sent(client_id, sent)?;
            }
            (Pending::Send(client_id), M::Refused(refused)) => {
                self.sends_in_flight -= 1;
                self.send_refused(client_id, refused)?;
            }
            (Pending::Lookup(_, answer), M::Person(person)) => {
                let _ = answer.send(self.person(person));
            }
            (Pending::Changed(_), M::Person(person)) => {
                let person = self.person(person)?;
                self.driver.teller.person_changed(person);
            }
            (Pending::History(peer, answer), M::HistoryPage(page)) => {
                drop(answer.send(Ok(self.page(peer, page))))
            }
            (Pending::Lookup(Some(known), answer), M::Refused(_)) => drop(answer.send(Ok(known))),
            (Pending::Lookup(None, answer), M::Refused(refused)) => drop(answer.send(Err(refused.into()))),
            (Pending::Changed(user), M::Refused(refused)) if refused.retry_after_ms > 0 => {
                self.later(&refused, Again::Changed(user));
            }
            (Pending::Changed(user_id), M::Refused(_)) => {
                self.driver.store.forget_phone_of(user_id)?;
                let (name, phone) = (String::new(), String::new());
                self.driver.teller.person_changed(Person { user_id, name, phone });
            }
            (Pending::History(_, answer), M::Refused(refused)) => drop(answer.send(Err(refused.into()))),
            (Pending::Ask(answer), M::Refused(refused)) => drop(answer.send(Err(refused.into()))),
            (Pending::Ask(answer), M::ChatsPage(page)) => drop(answer.send(self.known_chats(page))),
            (Pending::Ask(answer), message) => drop(answer.send(Ok(message))),
            (Pending::Fill(peer), M::HistoryPage(page)) => self.filled(peer, page)?,
            (Pending::Acknowledge { peer, delivered, read }, M::Acknowledged(_)) => {
                self.driver.store.acknowledged(peer, delivered, read)?;
            }
            (Pending::Resume(asked), M::Resumed(resumed)) => self.resumed(asked, resumed.rewound)?,
            (Pending::Ping, M::Pong(_)) => {}
            // The server has too much to do; the next one comes in its time.
            (Pending::Ping, M::Refused(refused)) if refused.retry_after_ms > 0 => {}
            (Pending::Resume(asked), M::Refused(refused)) if refused.retry_after_ms > 0 => {
                self.later(&refused, Again::Resume(asked));
            }
            (Pending::Fill(peer), M::Refused(refused)) if refused.retry_after_ms > 0 => {
                self.later(&refused, Again::Fill(peer));
            }
            (Pending::Acknowledge { peer, .. }, M::Refused(refused)) if refused.retry_after_ms > 0 => {
                let wait = Duration::from_millis(refused.retry_after_ms.into());
                self.to_acknowledge.insert(peer);
                self.acknowledge_at = Some(Instant::now() + wait + jitter_within(wait));
            }
            (Pending::Acknowledge { .. }, M::Refused(refused))
                if refused.reason() == Reason::InvalidArgument =>
            {
                // This device has what the server never had: on the next connection it says from where on.
                self.driver.store.distrust()?;
                return Err(Error::from(refused).into());
            }
            (
                Pending::Resume(_) | Pending::Ping | Pending::Fill(_) | Pending::Acknowledge { .. },
                M::Refused(refused),
            ) => return Err(Error::from(refused).into()),
            _ => return Err(Error::Protocol("a response is not of its request's kind").into()),
        }
        Ok(())
    }

    /// Remembers what the server tells of a person. Gives what is known then.
    fn person(&self, person: v1::Person) -> Result<Person, Error> {
        let v1::Person { user_id, name, phone } = person;
        let person = Person { user_id, name, phone };
        let store = &self.driver.store;
        store.atomically(|| {
            store.put_person(&person)?;
            // Where a name may be seen, one that is empty is not one that is not told.
            if user_id == self.driver.account.user_id || store.both_have_written(user_id)? {
                store.set_name(user_id, &person.name)?;
            }
            Ok(store.person(user_id)?.unwrap_or(person))
        })
    }

    /// Remembers whom a page of chats is with, and adds whom one knows already.
    fn known_chats(&self, mut page: v1::ChatsPage) -> Result<server_frame::Message, Error> {
        self.driver.store.atomically(|| {
            for chat in &mut page.chats {
                let (user_id, name, phone) = (chat.peer, chat.name.clone(), chat.phone.clone());
                let told = !name.is_empty() || !phone.is_empty();
                let known = match told {
                    true => Some(self.person(v1::Person { user_id, name, phone })?),
                    false => self.driver.store.person(user_id)?,
                };
                if let Some(known) = known {
                    (chat.name, chat.phone) = (known.name, known.phone);
                }
            }
            Ok(())
        })?;
        Ok(server_frame::Message::ChatsPage(page))
    }

    fn later(&mut self, refused: &v1::Refused, again: Again) {
        let wait = Duration::from_millis(refused.retry_after_ms.into()).max(RETRY_MIN);
        self.again.push((Instant::now() + wait + jitter_within(wait), again));
    }

    fn ask_again(&mut self) -> Result<(), Ended> {
        let now = Instant::now();
        let due = self.again.extract_if(.., |(when, _)| *when <= now);
        for (_, again) in due.collect::<Vec<_>>() {
            match again {
                Again::Changed(user) => self.look_up_changed(user),
                Again::Fill(peer) => self.fill(peer)?,
                Again::Resume(resume) => self.send_resume(resume),
            }
        }
        Ok(())
    }

    /// A message of one's own is durable: it takes its place in the chat.
    fn sent(&mut self, client_id: u64, sent: v1::Sent) -> Result<(), Ended> {
        let Some(Outgoing { peer, body, .. }) = self.driver.store.outgoing(client_id)? else { return Ok(()) };
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
        self.entry(entry)?;
        Ok(())
    }

    fn send_refused(&mut self, client_id: u64, refused: v1::Refused) -> Result<(), Ended> {
        if refused.retry_after_ms > 0 || refused.reason() == Reason::Unavailable {
            let wait = Duration::from_millis(refused.retry_after_ms.into()).max(RETRY_MIN);
            let until = Instant::now() + wait + jitter_within(wait);
            let outgoing = self.driver.store.outgoing(client_id)?;
            match (refused.reason(), &outgoing) {
                // That is about this person: what waits for them, or how many strangers one may write to.
                (reason @ (Reason::InboxFull | Reason::RateLimited), Some(outgoing)) => {
                    let (peer, retry_in) = (outgoing.peer, until - Instant::now());
                    if self.held.insert(peer, until).is_none() {
                        self.driver.teller.tell(Event::Delayed { peer, reason, retry_in });
                    }
                }
                _ => {
                    self.send_after = Some(until);
                    self.sends_max = (self.sends_max / 2).max(1);
                }
            }
            // The oldest goes first again.
            let at = self.unsent.partition_point(|other| other.client_id < client_id);
            if let Some(outgoing) = outgoing {
                self.unsent.insert(at, outgoing);
            }
            return Ok(());
        }
        let given_up = self.driver.store.atomically(|| {
            let outgoing = self.driver.store.dequeue(client_id)?;
            self.driver.store.note_not_sent(client_id)?;
            Ok(outgoing)
        })?;
        let Some(Outgoing { peer, body, .. }) = given_up else { return Ok(()) };
        if refused.reason() == Reason::UnknownUser {
            // Whose phone that is now, the server is asked when it matters next.
            self.driver.store.forget_phone_of(peer)?;
        }
        match self.driver.senders.remove(&client_id) {
            Some(answers) => answer_all(answers, &Err(refused.into())),
            None => {
                let (reason, detail) = (refused.reason(), refused.detail);
                self.driver.teller.tell(Event::NotSent { peer, body, reason, detail });
            }
        }
        Ok(())
    }

    fn page(&self, peer: u64, page: v1::HistoryPage) -> HistoryPage {
        let me = self.driver.account.user_id;
        HistoryPage {
            messages: page.entries.into_iter().map(|entry| Message::of_page(peer, entry, me)).collect(),
            more: page.more,
            head: page.head,
            delivered_upto: page.delivered_upto,
            read_upto: page.read_upto,
        }
    }

    fn acknowledge_soon(&mut self) {
        self.acknowledge_at.get_or_insert(Instant::now() + ACKNOWLEDGE_DELAY);
    }

    /// Acknowledges what is stored and dealt with, once it is sure that the store has it too.
    fn acknowledge(&mut self) -> Result<(), Ended> {
        self.acknowledge_at = None;
        self.to_acknowledge.extend(self.driver.note_progress()?);
        if !self.is_settled() {
            return Ok(());
        }
        for peer in std::mem::take(&mut self.to_acknowledge) {
            let log = self.driver.store.log(peer)?;
            let (delivered, read) = (log.position.min(log.told), log.read_upto);
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
