//! `idle`: connections that are logged in and silent, what they take of memory, and whether they live.

use std::time::{Duration, Instant};

use serde::Serialize;
use tern_proto::v1::{self, client_frame::Request, server_frame::Message};

use crate::load::{Addresses, Happened, Pool, PoolOptions};
use crate::measure;
use crate::target::{Target, TargetArgs};

/// Connections of one ring: the limit of open files bounds it, usually to 20,000.
const POOL_LINKS: u32 = 16_000;

/// Handshakes under way at once.
const HANDSHAKES: usize = 128;

/// How long a connection may take to be logged in, or to answer a ping.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, clap::Args)]
pub struct IdleArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// How many
    #[arg(long, default_value_t = 30_000)]
    connections: u32,
    /// Seconds of silence before memory is measured
    #[arg(long, default_value_t = 6)]
    settle: u64,
    /// Repeats the order of a run
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print no progress
    #[arg(long)]
    quiet: bool,
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct IdleReport {
    scenario: &'static str,
    seed: u64,
    seconds: f64,
    pub errors: u64,
    pub connections: u32,
    connected_per_s: f64,
    /// Null if the server is not the bench's own.
    pub server_user_bytes_per_connection: Option<f64>,
    /// Half of what both ends take of the kernel's small objects, which are alike: sockets of one machine.
    server_kernel_bytes_per_connection: f64,
    pub pings_answered: u32,
}

impl IdleReport {
    /// A line for people.
    pub fn line(&self) -> String {
        let user =
            self.server_user_bytes_per_connection.map_or("?".to_owned(), |bytes| format!("{bytes:.0}"));
        format!(
            "{} connections, {:.0}/s; the server's bytes a connection: {user} in user space, {:.0} in the kernel; \
             {} answered a ping; {} errors",
            self.connections,
            self.connected_per_s,
            self.server_kernel_bytes_per_connection,
            self.pings_answered,
            self.errors,
        )
    }
}

/// Memory at one moment.
struct Memory {
    user: Option<u64>,
    kernel: u64,
}

impl Memory {
    fn now(target: &Target) -> Self {
        let kernel = measure::slab_bytes() + measure::socket_bytes();
        Self { user: target.pid().map(measure::anonymous_bytes), kernel }
    }
}

/// Runs it.
pub fn run(arguments: &IdleArgs) -> Result<IdleReport, String> {
    let count = arguments.connections.max(2);
    let limits = ["idle_timeout_ms=3600000".to_owned()];
    let target = Target::new(&arguments.target, count, &limits)?;
    let mut idle = Idle { pools: Vec::new(), answered: 0, errors: 0, first_error: None };
    let mut addresses = Addresses::new(target.address, 0);
    for from in (0..count).step_by(POOL_LINKS as usize) {
        let options = PoolOptions { links: POOL_LINKS.min(count - from), ring_entries: 1024 };
        idle.pools.push(Pool::new(&options, target.tls.clone()).map_err(|missing| missing.to_string())?);
    }
    // The first connections bring what all share: buffers, tables, code.
    let warm = (count / 10).clamp(1, 1000);
    idle.connect(&target, &mut addresses, 0..warm, true)?;
    let settle = || std::thread::sleep(Duration::from_secs(arguments.settle));
    settle();
    let (before, begin) = (Memory::now(&target), Instant::now());
    idle.connect(&target, &mut addresses, warm..count, arguments.quiet)?;
    let seconds = begin.elapsed().as_secs_f64();
    settle();
    let after = Memory::now(&target);
    idle.ping_all(count)?;
    let made = f64::from(count - warm);
    let per_connection = |before: u64, after: u64| (after as f64 - before as f64) / made;
    if let Some(why) = &idle.first_error {
        crate::progress(&format!("first error: {why}"));
    }
    Ok(IdleReport {
        scenario: "idle",
        seed: arguments.seed,
        seconds,
        errors: idle.errors,
        connections: count,
        connected_per_s: made / seconds,
        server_user_bytes_per_connection: before.user.zip(after.user).map(|(b, a)| per_connection(b, a)),
        server_kernel_bytes_per_connection: per_connection(before.kernel, after.kernel) / 2.0,
        pings_answered: idle.answered,
    })
}

struct Idle {
    pools: Vec<Pool>,
    answered: u32,
    errors: u64,
    first_error: Option<String>,
}

impl Idle {
    fn pool_of(number: u32) -> usize {
        (number / POOL_LINKS) as usize
    }

    /// Connects users, a number of them at once.
    fn connect(
        &mut self,
        target: &Target,
        addresses: &mut Addresses,
        numbers: std::ops::Range<u32>,
        quiet: bool,
    ) -> Result<(), String> {
        let (mut under_way, begin) = (0, Instant::now());
        let mut told = begin;
        for number in numbers.clone() {
            let pool = Self::pool_of(number);
            let token = &target.users[number as usize].token;
            let dialled = self.pools[pool].dial(addresses.next(), token, false);
            dialled.map_err(|error| format!("connection {number}: {error}"))?;
            under_way += 1;
            while under_way >= HANDSHAKES || (number + 1 == numbers.end && under_way > 0) {
                let settled = self.turn(pool)?;
                under_way = under_way.saturating_sub(settled);
                if settled == 0 && begin.elapsed() > ANSWER_TIMEOUT * (1 + number / 10_000) {
                    return Err(format!("{under_way} connections are not ready"));
                }
            }
            // The next pool's connections are turned by another ring.
            if Self::pool_of(number + 1) != pool {
                while under_way > 0 {
                    under_way = under_way.saturating_sub(self.turn(pool)?);
                }
            }
            if !quiet && told.elapsed() > Duration::from_secs(2) {
                told = Instant::now();
                crate::progress(&format!("{} of {} connected", number + 1, numbers.end));
            }
        }
        Ok(())
    }

    /// Gives how many connections have become ready, or were lost.
    fn turn(&mut self, pool: usize) -> Result<usize, String> {
        let mut settled = 0;
        let Self { pools, answered, errors, first_error } = self;
        let mut happen = |_, happened| match happened {
            Happened::Ready => settled += 1,
            Happened::Frame(v1::ServerFrame { message: Some(Message::Pong(_)), .. }) => *answered += 1,
            Happened::Frame(_) => {}
            Happened::Lost(why) => {
                settled += 1;
                *errors += 1;
                first_error.get_or_insert(why);
            }
        };
        let turned = pools[pool].turn(Duration::from_millis(100), &mut happen);
        turned.map_err(|error| format!("the ring has failed: {error}"))?;
        Ok(settled)
    }

    /// Pings each in turn.
    fn ping_all(&mut self, count: u32) -> Result<(), String> {
        for number in 0..count {
            let pool = Self::pool_of(number);
            self.pools[pool].request(number % POOL_LINKS, Request::Ping(v1::Ping {}));
            // A few hundred on their way at once.
            let last = number + 1 == count || Self::pool_of(number + 1) != pool;
            let begin = Instant::now();
            while u64::from(number + 1 - self.answered) > self.errors + if last { 0 } else { 256 } {
                self.turn(pool)?;
                if begin.elapsed() > ANSWER_TIMEOUT {
                    self.errors += u64::from(number + 1 - self.answered) - self.errors;
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
