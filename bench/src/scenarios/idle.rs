//! `idle`: connections that are logged in and silent, what they take of memory, and whether they live.

use std::time::{Duration, Instant};

use serde::Serialize;
use tern_proto::v1::{self, client_frame::Request, server_frame::Message};

use crate::load::{Fleet, Happened, WAIT};
use crate::measure::Memory;
use crate::stop;
use crate::target::{Target, TargetArgs};

/// How long a connection may take to answer a ping.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Pings under way at once.
const PINGS: u32 = 256;

#[derive(Clone, Debug, clap::Args)]
pub struct IdleArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// How many
    #[arg(long, default_value_t = 30_000, value_parser = clap::value_parser!(u32).range(2..))]
    connections: u32,
    /// Seconds of silence before memory is measured
    #[arg(long, default_value_t = 6)]
    settle: u64,
    /// Connect them without a stop, and measure no memory
    #[arg(long)]
    all_at_once: bool,
    /// Repeats the order of a run
    #[arg(long, default_value_t = 1)]
    seed: u64,
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
    /// Whether all have come and live. Who was stopped has not asked all of them.
    pub fn is_correct(&self) -> bool {
        self.errors == 0 && (stop::asked() || self.pings_answered == self.connections)
    }

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

/// Runs it.
pub fn run(arguments: &IdleArgs) -> Result<IdleReport, String> {
    let count = arguments.connections;
    let mut target = Target::new(&arguments.target, count, &["--limit", "idle_timeout_ms=3600000"])?;
    target.start_again();
    let mut fleet = Fleet::silent(&target, &target.users[..count as usize], 0)?;
    // The first connections bring what all share: buffers, tables, code, and keys of those that were active a moment ago.
    let warm = if arguments.all_at_once { 0 } else { (count / 4).max(1) };
    let warmed = fleet.connect(0..warm)?;
    let settle = Duration::from_secs(arguments.settle);
    if warm > 0 {
        fleet.be_silent(settle)?;
    }
    let (before, begin) = (Memory::now(target.pid()), Instant::now());
    let connected = fleet.connect(warm..count)?;
    let seconds = begin.elapsed().as_secs_f64();
    fleet.be_silent(settle)?;
    let after = Memory::now(target.pid());
    let pings_answered = ping_all(&mut fleet)?;
    let made = connected.ready.max(1) as f64;
    let per_connection = |before: u64, after: u64| (after as f64 - before as f64) / made;
    if let Some(why) = warmed.first_error.or(connected.first_error) {
        crate::progress(&format!("first error: {why}"));
    }
    Ok(IdleReport {
        scenario: "idle",
        seed: arguments.seed,
        seconds,
        errors: warmed.lost + connected.lost,
        connections: (warmed.ready + connected.ready) as u32,
        connected_per_s: made / seconds,
        server_user_bytes_per_connection: before.user.zip(after.user).map(|(b, a)| per_connection(b, a)),
        server_kernel_bytes_per_connection: per_connection(before.kernel, after.kernel) / 2.0,
        pings_answered,
    })
}

/// Pings each in turn. Gives how many answer.
fn ping_all(fleet: &mut Fleet) -> Result<u32, String> {
    let (mut asked, mut answered, mut lost) = (0, 0, 0);
    let mut heard = Instant::now();
    let mut next = 0..fleet.len();
    while (asked > answered + lost || !next.is_empty()) && heard.elapsed() < ANSWER_TIMEOUT && !stop::asked()
    {
        while asked - answered < PINGS + lost
            && let Some(device) = next.next()
        {
            asked += u32::from(fleet.request(device, Request::Ping(v1::Ping {})));
        }
        fleet.turn(WAIT, &mut |_, happened| match happened {
            Happened::Frame(v1::ServerFrame { message: Some(Message::Pong(_)), .. }) => {
                answered += 1;
                heard = Instant::now();
            }
            Happened::Lost(_) => lost += 1,
            Happened::Frame(_) | Happened::Ready => {}
        })?;
    }
    Ok(answered)
}
