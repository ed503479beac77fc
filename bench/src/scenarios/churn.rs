//! `churn`: devices come and go without end: how long a login takes, and whether anything is left behind.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde::Serialize;
use tern_proto::v1::{self, client_frame::Request, server_frame::Message};
use tern_testkit::TestUser;

use super::LogArgs;
use crate::arguments;
use crate::latency::{Latencies, Percentiles, table};
use crate::load::{Arrivals, Fleet, Happened, Schedule, WAIT, exponential};
use crate::target::{Target, TargetArgs};
use crate::{measure, stop};

#[derive(Clone, Debug, clap::Args)]
pub struct ChurnArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Devices that come in a second
    #[arg(long, default_value_t = 300.0, value_parser = arguments::positive)]
    rate: f64,
    /// Seconds that one stays, on average
    #[arg(long, default_value_t = 5.0, value_parser = arguments::positive)]
    stay: f64,
    /// Seconds of it all
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    #[command(flatten)]
    log: LogArgs,
    /// Repeats the schedule of a run
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct ChurnReport {
    scenario: &'static str,
    seed: u64,
    seconds: f64,
    errors: u64,
    offered_per_s: f64,
    came_per_s: f64,
    /// Devices that should have come, but all were there already.
    without_device: u64,
    login_ms: Percentiles,
    ping_ms: Percentiles,
    server_cpu_us_per_login: Option<f64>,
    /// What the server's private memory grew by from a third of the time to the end, when as many are connected.
    server_user_bytes_grown: Option<i64>,
    #[serde(skip)]
    first_error: Option<String>,
}

impl ChurnReport {
    /// Whether all that came was taken.
    pub fn is_correct(&self) -> bool {
        self.errors == 0
    }

    /// A line for people.
    pub fn line(&self) -> String {
        let cpu = self.server_cpu_us_per_login.map_or("?".to_owned(), |cpu| format!("{cpu:.0}"));
        let grown = self.server_user_bytes_grown.map_or("?".to_owned(), |bytes| (bytes / 1024).to_string());
        let first = self.first_error.as_deref().map(|why| format!("; first: {why}")).unwrap_or_default();
        format!(
            "{:.0}/s offered, {:.0}/s came; server CPU {cpu} us a login; its memory grew by {grown} KiB; {} errors{first}\n\n{}",
            self.offered_per_s,
            self.came_per_s,
            self.errors,
            table(&[("login", &self.login_ms), ("ping", &self.ping_ms)]),
        )
    }
}

/// Runs it.
pub fn run(arguments: &ChurnArgs) -> Result<ChurnReport, String> {
    // So many that hardly ever all are there.
    let users = (arguments.rate * arguments.stay * 1.5) as u32 + 100;
    let target = Target::new(&arguments.target, users, &[])?;
    let mut churn = Churn::new(&target, &target.users, arguments.rate, arguments.stay, arguments.seed, 10)?;
    let memory = || target.pid().map(measure::anonymous_bytes);
    let cpu = target.cpu_s_since(None);
    let end = Duration::from_secs(arguments.seconds);
    churn.go_on_until(end / 3)?;
    let memory_then = memory();
    churn.go_on_until(end)?;
    let grown = memory().zip(memory_then).map(|(now, then)| now as i64 - then as i64);
    let cpu_s = target.cpu_s_since(cpu);
    let seconds = churn.elapsed().as_secs_f64();
    let begun = churn.begin;
    let Came { came, offered, without_device, errors, first_error, login, ping } = churn.came;
    arguments.log.write(begun, &[("login", &login), ("ping", &ping)])?;
    Ok(ChurnReport {
        scenario: "churn",
        seed: arguments.seed,
        seconds,
        errors,
        offered_per_s: offered as f64 / seconds,
        came_per_s: came as f64 / seconds,
        without_device,
        login_ms: Percentiles::of(&login.all()),
        ping_ms: Percentiles::of(&ping.all()),
        server_cpu_us_per_login: cpu_s.map(|cpu_s| cpu_s * 1e6 / came.max(1) as f64),
        server_user_bytes_grown: grown,
        first_error,
    })
}

/// What has been counted.
#[derive(Debug, Default)]
pub struct Came {
    pub came: u64,
    pub offered: u64,
    pub without_device: u64,
    pub errors: u64,
    pub first_error: Option<String>,
    pub login: Latencies,
    pub ping: Latencies,
}

/// Devices that come by a schedule, ping once, and go when they have stayed enough.
pub struct Churn<'a> {
    fleet: Fleet<'a>,
    schedule: Schedule,
    rng: Rng,
    stay_s: f64,
    away: Vec<u32>,
    /// Devices that are logged in, until they go.
    there: Vec<bool>,
    /// When each device was to come, and when it was asked for an answer.
    intended: Vec<Duration>,
    pinged: Vec<Duration>,
    /// When who goes.
    goes: BTreeSet<(Duration, u32)>,
    begin: Instant,
    pub came: Came,
}

impl<'a> Churn<'a> {
    /// None is there yet.
    pub fn new(
        target: &Target,
        users: &'a [TestUser],
        rate: f64,
        stay_s: f64,
        seed: u64,
        block: u32,
    ) -> Result<Self, String> {
        let fleet = Fleet::new(target, users, block, true)?;
        let count = fleet.len();
        Ok(Self {
            fleet,
            schedule: Schedule::new(Arrivals::Poisson, rate, seed),
            rng: Rng::with_seed(seed ^ 3),
            stay_s,
            away: (0..count).rev().collect(),
            there: vec![false; count as usize],
            intended: vec![Duration::ZERO; count as usize],
            pinged: vec![Duration::ZERO; count as usize],
            goes: BTreeSet::new(),
            begin: Instant::now(),
            came: Came::default(),
        })
    }

    /// How long it has gone on.
    pub fn elapsed(&self) -> Duration {
        self.begin.elapsed()
    }

    /// Goes on until a moment of the run, or until the user stops it.
    pub fn go_on_until(&mut self, end: Duration) -> Result<(), String> {
        while self.begin.elapsed() < end && !stop::asked() {
            let now = self.begin.elapsed();
            while let Some(intended) = self.schedule.due(now) {
                self.come(intended)?;
            }
            while self.goes.first().is_some_and(|(when, _)| *when <= now)
                && let Some((_, device)) = self.goes.pop_first()
            {
                self.fleet.hang_up(device);
                self.there[device as usize] = false;
                self.away.push(device);
            }
            self.take()?;
        }
        Ok(())
    }

    fn come(&mut self, intended: Duration) -> Result<(), String> {
        self.came.offered += 1;
        if self.away.is_empty() {
            self.came.without_device += 1;
            return Ok(());
        }
        // Any of them, so that none comes again at once.
        let device = self.away.swap_remove(self.rng.usize(..self.away.len()));
        self.intended[device as usize] = intended;
        self.fleet.dial(device)
    }

    fn take(&mut self) -> Result<(), String> {
        let Self { fleet, came, intended, pinged, begin, away, there, schedule, .. } = self;
        let since = |then: Duration| begin.elapsed().saturating_sub(then);
        let mut ready = Vec::new();
        fleet.turn(schedule.peek().saturating_sub(begin.elapsed()).min(WAIT), &mut |device, happened| {
            match happened {
                Happened::Ready => {
                    came.came += 1;
                    let intended = intended[device as usize];
                    came.login.record(intended, since(intended));
                    ready.push(device);
                }
                Happened::Frame(v1::ServerFrame { message: Some(Message::Pong(_)), .. }) => {
                    let asked = pinged[device as usize];
                    came.ping.record(asked, since(asked));
                }
                Happened::Frame(_) => {}
                Happened::Lost(why) => {
                    came.errors += 1;
                    came.first_error.get_or_insert(why);
                    if !there[device as usize] {
                        away.push(device);
                    }
                }
            }
        })?;
        for device in ready {
            let now = self.begin.elapsed();
            self.there[device as usize] = true;
            self.pinged[device as usize] = now;
            self.fleet.request(device, Request::Ping(v1::Ping {}));
            let stay_s = exponential(&mut self.rng, self.stay_s);
            self.goes.insert((now + Duration::from_secs_f64(stay_s), device));
        }
        Ok(())
    }
}
