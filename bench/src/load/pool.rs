//! Connections on one ring. A thread has one or several of these, and turns them.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tern_proto::v1::{self, client_frame::Request};
use tern_uring::{ConnToken, Ended, Event, Missing, Ring, RingOptions, eventfd_waker, socket_from};
use tern_wire::tls::TlsClient;

use super::link::{Link, Said, Speaker};

/// How long a connection may take to be logged in.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// A connection of a pool, by its index.
pub type LinkId = u32;

/// Sizes of a pool.
#[derive(Clone, Debug)]
pub struct PoolOptions {
    /// Connections at once. The limit of open files bounds it.
    pub links: u32,
    /// Submissions of its ring.
    pub ring_entries: u32,
    /// Connections are watched once they are logged in, and not received from until something comes: as the server does with
    /// silent ones, so that both ends take as much of the kernel's memory.
    pub silent: bool,
}

/// What has happened to a connection.
#[derive(Debug)]
pub enum Happened<Frame = v1::ServerFrame> {
    /// It is logged in.
    Ready,
    /// A frame has come.
    Frame(Frame),
    /// It has ended, or could not be made.
    Lost(String),
}

struct Place<L> {
    generation: u32,
    link: Option<Box<L>>,
    sending: bool,
    dirty: bool,
}

/// See the module.
pub struct Pool<L = Link> {
    ring: Ring,
    places: Vec<Place<L>>,
    free: Vec<LinkId>,
    /// Links whose descriptors are being closed: free when the ring has been told.
    closing: Vec<LinkId>,
    dirty: Vec<LinkId>,
    events: Vec<Event>,
    silent: bool,
    resumed: u64,
}

impl Pool {
    /// Connects a device, and logs it in; [`Happened`] tells how it goes.
    pub fn dial(
        &mut self,
        addresses: (Option<SocketAddr>, SocketAddr),
        tls: &TlsClient,
        token: &str,
        resumes: bool,
    ) -> io::Result<LinkId> {
        self.connect(addresses, Link::new(tls, token, resumes).map_err(io::Error::other)?)
    }

    /// Queues a request of a connection, and gives its id; 0 if the connection has gone.
    pub fn request(&mut self, id: LinkId, request: Request) -> u64 {
        self.with(id, |link| link.request(request)).unwrap_or(0)
    }
}

impl<L: Speaker> Pool<L> {
    /// A pool on this thread.
    pub fn new(options: &PoolOptions) -> Result<Self, Missing> {
        let ring = Ring::new(
            &RingOptions {
                entries: options.ring_entries,
                completions: options.ring_entries * 8,
                files: options.links,
                receive_buffers: 1024,
                receive_buffer_bytes: 4096,
            },
            eventfd_waker().map_err(Missing::Ring)?,
        )?;
        let place = |_| Place { generation: 0, link: None, sending: false, dirty: false };
        Ok(Self {
            ring,
            places: (0..options.links).map(place).collect(),
            free: (0..options.links).rev().collect(),
            closing: Vec::new(),
            dirty: Vec::new(),
            events: Vec::new(),
            silent: options.silent,
            resumed: 0,
        })
    }

    /// How many connections became ready whose TLS handshake resumed the session of an earlier one.
    pub fn resumed(&self) -> u64 {
        self.resumed
    }

    /// Makes a connection for a speaker; [`Happened`] tells how it goes.
    pub fn connect(
        &mut self,
        (source, server): (Option<SocketAddr>, SocketAddr),
        link: L,
    ) -> io::Result<LinkId> {
        let socket = socket_from(source, server)?;
        let id = self.free.pop().ok_or(io::ErrorKind::QuotaExceeded)?;
        self.ring.adopt(id, &socket)?;
        let place = &mut self.places[id as usize];
        place.generation += 1;
        (place.link, place.sending) = (Some(Box::new(link)), true);
        self.ring.connect(ConnToken::new(id, place.generation), id, server);
        Ok(id)
    }

    /// Lets a connection's speaker say something; `None` if the connection has gone.
    pub fn with<T>(&mut self, id: LinkId, what: impl FnOnce(&mut L) -> T) -> Option<T> {
        let said = what(self.places[id as usize].link.as_deref_mut()?);
        self.mark(id);
        Some(said)
    }

    fn mark(&mut self, id: LinkId) {
        if !std::mem::replace(&mut self.places[id as usize].dirty, true) {
            self.dirty.push(id);
        }
    }

    /// Ends a connection, abruptly.
    pub fn hang_up(&mut self, id: LinkId) {
        let place = &mut self.places[id as usize];
        if place.link.take().is_some() {
            self.ring.hang_up(ConnToken::new(id, place.generation), id, place.sending);
            place.generation += 1;
            self.closing.push(id);
        }
    }

    /// Sends what is queued, waits for something to happen or for `timeout`, and says what has.
    pub fn turn(
        &mut self,
        timeout: Duration,
        happen: &mut dyn FnMut(LinkId, Happened<L::Frame>),
    ) -> io::Result<()> {
        while let Some(id) = self.dirty.pop() {
            self.places[id as usize].dirty = false;
            self.flush(id, happen);
        }
        let mut events = std::mem::take(&mut self.events);
        self.ring.turn(Some(timeout), &mut events)?;
        // Until here a new descriptor in the same place would have been the one that is closed.
        self.free.append(&mut self.closing);
        for event in events.drain(..) {
            self.event(event, happen);
        }
        self.events = events;
        Ok(())
    }

    /// Turns until so many connections are ready that were not before.
    pub fn until_ready(&mut self, mut count: usize) -> Result<(), String> {
        let begin = Instant::now();
        while count > 0 {
            let mut lost = None;
            let mut happen = |_: LinkId, happened: Happened<L::Frame>| match happened {
                Happened::Ready => count -= 1,
                Happened::Frame(_) => {}
                Happened::Lost(why) => lost = Some(why),
            };
            let turned = self.turn(Duration::from_millis(100), &mut happen);
            turned.map_err(|error| format!("the ring has failed: {error}"))?;
            if let Some(why) = lost {
                return Err(format!("a connection was lost: {why}"));
            }
            if begin.elapsed() > READY_TIMEOUT {
                return Err(format!("{count} connections are not ready after {} s", READY_TIMEOUT.as_secs()));
            }
        }
        Ok(())
    }

    fn flush(&mut self, id: LinkId, happen: &mut dyn FnMut(LinkId, Happened<L::Frame>)) {
        let place = &mut self.places[id as usize];
        let (Some(link), false) = (place.link.as_deref_mut(), place.sending) else { return };
        match link.take_outgoing() {
            Ok(bytes) if bytes.is_empty() => {}
            Ok(bytes) => {
                place.sending = true;
                self.ring.send(ConnToken::new(id, place.generation), id, bytes, 0);
            }
            Err(error) => self.lose(id, error.to_string(), happen),
        }
    }

    fn lose(&mut self, id: LinkId, why: String, happen: &mut dyn FnMut(LinkId, Happened<L::Frame>)) {
        self.hang_up(id);
        happen(id, Happened::Lost(why));
    }

    fn of(&self, conn: ConnToken) -> Option<LinkId> {
        let place = self.places.get(conn.index as usize)?;
        (place.link.is_some() && conn.is_of(place.generation)).then_some(conn.index)
    }

    fn event(&mut self, event: Event, happen: &mut dyn FnMut(LinkId, Happened<L::Frame>)) {
        match event {
            Event::Connected { conn, result } => {
                let Some(id) = self.of(conn) else { return };
                self.places[id as usize].sending = false;
                match result {
                    Ok(()) => {
                        self.ring.receive(conn, id);
                        self.flush(id, happen);
                    }
                    Err(error) => self.lose(id, format!("connecting: {error}"), happen),
                }
            }
            Event::Received { conn, lease, armed } => {
                if let Some(id) = self.of(conn) {
                    let place = &mut self.places[id as usize];
                    let link = place.link.as_deref_mut().expect("it is there");
                    let mut ready = false;
                    let received = link.receive(self.ring.leased(&lease), &mut |said| match said {
                        Said::Ready => {
                            ready = true;
                            happen(id, Happened::Ready);
                        }
                        Said::Frame(frame) => happen(id, Happened::Frame(frame)),
                        Said::Welcome(_) => {}
                    });
                    self.resumed += u64::from(ready && link.resumed());
                    match received {
                        Ok(()) => {
                            self.flush(id, happen);
                            if !armed {
                                self.ring.receive(conn, id);
                            }
                            if ready && self.silent {
                                self.ring.stop_receiving(conn);
                            }
                        }
                        Err(why) => self.lose(id, why, happen),
                    }
                }
                self.ring.recycle(lease);
            }
            Event::ReceiveEnded { conn, why } => {
                let Some(id) = self.of(conn) else { return };
                match why {
                    Ended::NoBuffers | Ended::Readable => self.ring.receive(conn, id),
                    Ended::Eof => self.lose(id, "the server closed the connection".to_owned(), happen),
                    Ended::Cancelled if self.silent => {
                        self.ring.watch(conn, id);
                        if let Some(link) = self.places[id as usize].link.as_deref_mut() {
                            link.hibernate();
                        }
                    }
                    Ended::Cancelled => self.lose(id, "cancelled".to_owned(), happen),
                    Ended::Failed(error) => self.lose(id, format!("receiving: {error}"), happen),
                }
            }
            Event::Sent { conn, buffer, upto, error } => {
                let Some(id) = self.of(conn) else { return };
                match error {
                    Some(error) => self.lose(id, format!("sending: {error}"), happen),
                    None if upto < buffer.len() => self.ring.send(conn, id, buffer, upto),
                    None => {
                        self.places[id as usize].sending = false;
                        self.flush(id, happen);
                    }
                }
            }
            Event::Accepted { .. }
            | Event::AcceptEnded { .. }
            | Event::Peer { .. }
            | Event::ShutDown { .. }
            | Event::Given { .. }
            | Event::Taken { .. }
            | Event::Closed
            | Event::Woken => {}
        }
    }
}
