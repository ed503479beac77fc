//! `strangers`: a crowd that has not logged in asks for all that it can, and reads none of the answers; beside it people
//! log in. What the crowd takes of memory, and how long a login takes.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde::Serialize;
use tern_proto::v1::{self, client_frame::Request};
use tern_uring::socket_from;
use tern_wire::frame;
use tern_wire::tls::{ClientProgress, Records};

use super::LogArgs;
use crate::latency::{Latencies, Percentiles, table};
use crate::load::{Addresses, Link, Said, Speaker as _};
use crate::measure::Memory;
use crate::stop;
use crate::target::{Target, TargetArgs};

/// How often a crowd is looked at: as long as it asks on.
const LOOKS: usize = 20;

/// How long one looks away between.
const LOOK_AWAY: Duration = Duration::from_millis(100);

/// How long anything may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Plaintext of one record.
const RECORD_BYTES: usize = 16_000;

/// What the kernel holds for one of the crowd at its own end.
const OWN_BUFFER_BYTES: usize = 4 << 10;

/// Blocks of a thousand source addresses: those of the crowd, and of who logs in.
const CROWD_BLOCK: u32 = 0;
const LOGIN_BLOCK: u32 = 200;

#[derive(Clone, Debug, clap::Args)]
pub struct StrangersArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Hostile connections at once
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// How often such a crowd comes
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    #[command(flatten)]
    log: LogArgs,
    /// Repeats who of the crowd does what
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct StrangersReport {
    scenario: &'static str,
    seed: u64,
    seconds: f64,
    errors: u64,
    connections: u32,
    /// From connecting to `LoggedIn`, one after another, before the first crowd.
    login_ms_before: Percentiles,
    /// The same while crowds come, ask, and go.
    login_ms_during: Percentiles,
    logins: u64,
    /// The most that a crowd has taken. Null if the server is not the bench's own.
    server_user_bytes_per_connection: Option<f64>,
    /// Queues and small objects of both ends: the crowd's own are in it.
    kernel_bytes_per_connection: f64,
    /// Both together.
    bytes_per_connection: Option<f64>,
}

impl StrangersReport {
    /// Whether everybody who had a token has come in.
    pub fn is_correct(&self) -> bool {
        self.errors == 0 && self.logins > 0
    }

    /// Lines for people.
    pub fn line(&self) -> String {
        let user =
            self.server_user_bytes_per_connection.map_or("?".to_owned(), |bytes| format!("{bytes:.0}"));
        format!(
            "{} logins beside {} hostile connections, {} failed\neach of those takes {user} bytes of the server and {:.0} of the kernel, at both \
             ends together\n\n{}",
            self.logins,
            self.connections,
            self.errors,
            self.kernel_bytes_per_connection,
            table(&[("login before", &self.login_ms_before), ("login beside them", &self.login_ms_during)]),
        )
    }
}

/// Runs it.
pub fn run(arguments: &StrangersArgs) -> Result<StrangersReport, String> {
    let mut target = Target::new(&arguments.target, 1, &["--limit", "login_timeout_ms=600000"])?;
    target.start_again();
    let mut logins =
        Logins { target: &target, addresses: Addresses::new(target.address, LOGIN_BLOCK), failed: 0 };
    let (mut before, mut during) = (Latencies::default(), Latencies::default());
    let begin = Instant::now();
    // The first handshake of this process makes its random numbers' seed, for tens of ms.
    logins.log_in()?;
    for _ in 0..200 {
        logins.one(begin, &mut before);
    }
    let (mut rng, mut most) = (Rng::with_seed(arguments.seed), Memory::default());
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let (logins, during, over) = (&mut logins, &mut during, &over);
        let beside = scope.spawn(move || {
            while !over.load(Ordering::Acquire) {
                logins.one(begin, during);
            }
        });
        let came: Result<(), String> = (0..arguments.rounds).filter(|_| !stop::asked()).try_for_each(|_| {
            most = most_of(most, crowd(&target, arguments.connections, &mut rng)?);
            Ok(())
        });
        over.store(true, Ordering::Release);
        beside.join().map_err(|_| "who logs in has panicked".to_owned())?;
        came
    })?;
    arguments.log.write(begin, &[("login-before", &before), ("login-during", &during)])?;
    let each = |bytes: u64| bytes as f64 / f64::from(arguments.connections.max(1));
    Ok(StrangersReport {
        scenario: "strangers",
        seed: arguments.seed,
        seconds: begin.elapsed().as_secs_f64(),
        errors: logins.failed,
        connections: arguments.connections,
        login_ms_before: Percentiles::of(&before.all()),
        login_ms_during: Percentiles::of(&during.all()),
        logins: during.all().len(),
        server_user_bytes_per_connection: most.user.map(each),
        kernel_bytes_per_connection: each(most.kernel),
        bytes_per_connection: most.user.map(|user| each(user + most.kernel)),
    })
}

/// People who come in with their token, one after another.
struct Logins<'a> {
    target: &'a Target,
    addresses: Addresses,
    failed: u64,
}

impl Logins<'_> {
    fn one(&mut self, begin: Instant, latencies: &mut Latencies) {
        let at = Instant::now();
        match self.log_in() {
            Ok(()) => latencies.record(at - begin, at.elapsed()),
            Err(why) => {
                if self.failed == 0 {
                    crate::progress(&format!("a login failed: {why}"));
                }
                self.failed += 1;
            }
        }
    }

    fn log_in(&mut self) -> Result<(), String> {
        let text = |error: std::io::Error| error.to_string();
        let mut socket = connect(&mut self.addresses)?;
        let token = &self.target.users[0].token;
        let mut link = Link::new(&self.target.tls, token, false).map_err(|error| error.to_string())?;
        let (mut ready, mut bytes) = (false, [0; 4096]);
        while !ready {
            let out = link.take_outgoing().map_err(|error| error.to_string())?;
            socket.write_all(&out).map_err(text)?;
            let read = socket.read(&mut bytes).map_err(text)?;
            if read == 0 {
                return Err("the server closed the connection".to_owned());
            }
            link.receive(&mut bytes[..read], &mut |said| ready |= matches!(said, Said::Ready))?;
        }
        Ok(())
    }
}

fn connect(addresses: &mut Addresses) -> Result<TcpStream, String> {
    let (source, server) = addresses.next();
    let connected = || {
        let socket = socket_from(source, server)?;
        rustix::net::connect(&socket, &server)?;
        let socket = TcpStream::from(socket);
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        Ok(socket)
    };
    connected().map_err(|error: std::io::Error| format!("connecting: {error}"))
}

/// What memory has grown by.
fn grown(now: Memory, before: Memory) -> Memory {
    let user = now.user.zip(before.user).map(|(now, before)| now.saturating_sub(before));
    Memory { user, kernel: now.kernel.saturating_sub(before.kernel) }
}

/// The more of each.
fn most_of(one: Memory, other: Memory) -> Memory {
    Memory { user: one.user.max(other.user), kernel: one.kernel.max(other.kernel) }
}

/// Has a crowd come, ask for a while, all at once, and go. Gives the most that it has taken.
fn crowd(target: &Target, connections: u32, rng: &mut Rng) -> Result<Memory, String> {
    let (before, mut most) = (Memory::now(target.pid()), Memory::default());
    let mut addresses = Addresses::new(target.address, CROWD_BLOCK);
    let mut hostile = Vec::new();
    for _ in 0..connections {
        hostile.push(Hostile::new(target, &mut addresses, rng)?);
    }
    for _ in (0..LOOKS).take_while(|_| !stop::asked()) {
        let begin = Instant::now();
        while begin.elapsed() < LOOK_AWAY {
            hostile.iter_mut().for_each(Hostile::push);
            thread::sleep(Duration::from_millis(10));
        }
        most = most_of(most, grown(Memory::now(target.pid()), before));
    }
    Ok(most)
}

/// A connection that sends whatever it can, and reads nothing.
struct Hostile {
    socket: TcpStream,
    records: Box<Records>,
    /// What a record of it says, again and again.
    asks: Vec<u8>,
    /// Sealed, and not yet sent.
    out: Vec<u8>,
    sent: usize,
    /// The server has ended it.
    over: bool,
}

impl Hostile {
    fn new(target: &Target, addresses: &mut Addresses, rng: &mut Rng) -> Result<Self, String> {
        let text = |error: std::io::Error| error.to_string();
        let mut socket = connect(addresses)?;
        // So that what it sends lies at the server, and its own kernel holds little of it.
        rustix::net::sockopt::set_socket_send_buffer_size(&socket, OWN_BUFFER_BYTES)
            .map_err(|error| error.to_string())?;
        let mut out = Vec::new();
        let mut handshake = target.tls.handshake(&mut out).map_err(|error| error.to_string())?;
        let mut bytes = [0; 4096];
        let records = loop {
            socket.write_all(&out).map_err(text)?;
            out.clear();
            let read = socket.read(&mut bytes).map_err(text)?;
            if read == 0 {
                return Err("one of the crowd was not let in".to_owned());
            }
            match handshake.receive(&bytes[..read], &mut out).map_err(|error| error.to_string())? {
                ClientProgress::Continue(next) => handshake = next,
                ClientProgress::Done(done) => break done.records,
            }
        };
        socket.set_nonblocking(true).map_err(text)?;
        let mut one = Self { socket, records, asks: asks(rng), out, sent: 0, over: false };
        let hello = Request::Hello(v1::Hello { version_min: 1, version_max: 1, ..v1::Hello::default() });
        let mut plain = Vec::new();
        frame::encode(&v1::ClientFrame { id: 1, request: Some(hello) }, &mut plain);
        plain.extend_from_slice(&one.asks);
        one.seal(&plain);
        Ok(one)
    }

    fn seal(&mut self, plain: &[u8]) {
        // Keys that are used up end it, as an error of the socket does.
        self.over |= self.records.seal(plain, &mut self.out).is_err();
    }

    /// Sends until the socket takes no more.
    fn push(&mut self) {
        while !self.over {
            if self.sent == self.out.len() {
                self.out.clear();
                self.sent = 0;
                let asks = std::mem::take(&mut self.asks);
                self.seal(&asks);
                self.asks = asks;
            }
            match self.socket.write(&self.out[self.sent..]) {
                Ok(bytes) => self.sent += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.over = true,
            }
        }
    }
}

/// Frames that are small, and each is answered: one that holds no request, a login with a token that is none, a registration
/// without a phone.
fn asks(rng: &mut Rng) -> Vec<u8> {
    let request = match rng.u8(..3) {
        0 => None,
        1 => Some(Request::Login(v1::Login { access_token: "x".to_owned() })),
        _ => Some(Request::Register(v1::Register::default())),
    };
    let mut one = Vec::new();
    frame::encode(&v1::ClientFrame { id: 1, request }, &mut one);
    one.repeat(RECORD_BYTES / one.len())
}
