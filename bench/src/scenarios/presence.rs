//! `presence`: many are connected, some of them are looked at: how long until their typing, and that they have come or gone, is told, and
//! what a subscription takes of memory.
//!
//! Who is looked at, and who looks, are different people. Somebody who does neither pings the server meanwhile: a core that tells very many
//! something must not stand still for the others.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde::Serialize;
use tern_proto::v1::{self, client_frame::Request, server_frame::Message};

use crate::arguments;
use crate::latency::{Latencies, Percentiles, table};
use crate::load::{Arrivals, Fleet, Happened, Schedule, WAIT};
use crate::target::{Target, TargetArgs};
use crate::{measure, stop};

/// How long nothing may happen while something is waited for.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// A client says as often at most that its user types, in one chat (docs/PROTOCOL.md, section 21).
const TYPES_EVERY: Duration = Duration::from_secs(3);

/// How long who has gone still counts as here, at the bench's own server.
const GRACE: Duration = Duration::from_secs(2);

/// People whose presence one device shows at most, by the protocol.
const SHOWN_MAX: u32 = 256;

/// Subscriptions that are being made at once.
const SUBSCRIBING: u32 = 256;

/// Between two pings.
const PINGS_EVERY: Duration = Duration::from_millis(10);

#[derive(Clone, Debug, clap::Args)]
pub struct PresenceArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Devices that are connected
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(4..))]
    connections: u32,
    /// Of these, people who are looked at
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    people: u32,
    /// Devices that look at each of them
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    lookers: u32,
    /// How often somebody begins to type, a second, all together [default: a tenth of the people]
    #[arg(long, value_parser = arguments::positive)]
    rate: Option<f64>,
    /// Seconds in which they type
    #[arg(long, default_value_t = 10.0, value_parser = arguments::positive)]
    seconds: f64,
    /// How many of them go, and come back
    #[arg(long, default_value_t = 200)]
    goings: u32,
    /// Repeats the schedule of a run
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl PresenceArgs {
    fn rate(&self) -> f64 {
        self.rate.unwrap_or(f64::from(self.people) / 10.0)
    }

    fn subscriptions(&self) -> u64 {
        u64::from(self.people) * u64::from(self.lookers)
    }

    /// Why this can't be.
    fn refused(&self) -> Option<String> {
        // The last one pings.
        let looking = self.connections.saturating_sub(self.people + 1);
        let shown = self.subscriptions().div_ceil(u64::from(looking.max(1)));
        if looking < self.lookers {
            return Some(format!(
                "{looking} devices are left to look, and {} are to look at each",
                self.lookers
            ));
        }
        if shown > u64::from(SHOWN_MAX) {
            return Some(format!("a device would show {shown} people, and {SHOWN_MAX} are the most"));
        }
        let fastest = f64::from(self.people) * f64::from(self.lookers) / TYPES_EVERY.as_secs_f64();
        (self.rate() > fastest).then(|| {
            format!(
                "in one chat somebody types every {} s at most: so many can {fastest:.0} times a second",
                TYPES_EVERY.as_secs()
            )
        })
    }
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct PresenceReport {
    scenario: &'static str,
    seed: u64,
    seconds: f64,
    errors: u64,
    connections: u32,
    people: u32,
    subscriptions: u64,
    /// From the intended moment of telling to who looks being told.
    typing_ms: Percentiles,
    /// From the moment at which who comes hears that it is logged in, to each that looks being told; 0 for who was told before.
    online_ms: Percentiles,
    /// From the end of a connection to each that looks being told, beyond the time that it counts as here.
    offline_ms: Percentiles,
    /// Of somebody who has nothing to do with it, meanwhile.
    ping_ms: Percentiles,
    /// Of the bench's own server: how much its private memory has grown when all had subscribed.
    server_bytes_per_subscription: Option<f64>,
    server_cpu_us_per_typing: Option<f64>,
    /// Tellings that never came.
    missing: u64,
    /// Tellings to somebody who was not to have them.
    leaked: u64,
    #[serde(skip)]
    first_error: Option<String>,
}

impl PresenceReport {
    /// Whether all was told to whom it was to be, and to nobody else.
    pub fn is_correct(&self) -> bool {
        self.errors + self.missing + self.leaked == 0
    }

    /// A line for people.
    pub fn line(&self) -> String {
        let Self { connections, people, subscriptions, errors, missing, leaked, .. } = self;
        let first = self.first_error.as_deref().map(|why| format!("; first: {why}")).unwrap_or_default();
        let figure = |figure: Option<f64>| figure.map_or("-".to_owned(), |figure| format!("{figure:.1}"));
        format!(
            "{connections} connections, {people} people who are looked at, {subscriptions} subscriptions; {errors} errors, {missing} \
             missing, {leaked} leaked{first}\n{} bytes a subscription, {} us of server CPU each time that somebody types\n\n{}",
            figure(self.server_bytes_per_subscription),
            figure(self.server_cpu_us_per_typing),
            table(&[
                ("typing", &self.typing_ms),
                ("has come", &self.online_ms),
                ("has gone", &self.offline_ms),
                ("pings beside it", &self.ping_ms),
            ])
        )
    }
}

/// What is waited for of one person.
#[derive(Clone, Default)]
struct Watched {
    /// How often they have typed.
    typed: u32,
    /// They come, or go: how many have not heard so.
    turns: Option<(bool, u32)>,
    /// When they came or went; `None`: not yet.
    turned_at: Option<Duration>,
}

struct Scene<'a> {
    arguments: &'a PresenceArgs,
    fleet: Fleet<'a>,
    target: &'a Target,
    index_of: HashMap<u64, u32>,
    people: Vec<Watched>,
    /// Who types to whom, and since when, of those of whom that was not heard.
    types: HashMap<(u32, u32), Duration>,
    begin: Instant,
    heard_at: Instant,
    typing: Latencies,
    online: Latencies,
    offline: Latencies,
    pings: Latencies,
    pinged_at: Option<Duration>,
    /// The last ping was not answered.
    pings_now: bool,
    subscribed: u32,
    errors: u64,
    leaked: u64,
    missing: u64,
    first_error: Option<String>,
}

/// Runs it.
pub fn run(arguments: &PresenceArgs) -> Result<PresenceReport, String> {
    if let Some(why) = arguments.refused() {
        return Err(why);
    }
    let run = Instant::now();
    let grace = format!("presence_grace_ms={}", GRACE.as_millis());
    let own = [
        "--limit",
        "idle_timeout_ms=3600000",
        "--limit",
        "subscriptions_per_minute_max=0",
        "--limit",
        &grace,
    ];
    let mut target = Target::new(&arguments.target, arguments.connections, &own)?;
    target.start_again();
    let mut scene = Scene::new(arguments, &target)?;
    let connected = scene.fleet.connect(0..arguments.connections)?;
    if let Some(why) = connected.first_error {
        return Err(format!("a connection was lost: {why}"));
    }
    let memory = |target: &Target| target.pid().map(measure::anonymous_bytes);
    // Saying that one shows nobody brings what a connection that has just spoken takes for a while.
    scene.subscribe(false)?;
    let before = memory(&target);
    scene.subscribe(true)?;
    // That all are here was told as they subscribed: nobody came.
    scene.online = Latencies::default();
    let grown = memory(&target).zip(before).map(|(after, before)| after as f64 - before as f64);
    let cpu_before = target.cpu_s_since(None);
    let typed = scene.type_on()?;
    let cpu = target.cpu_s_since(cpu_before);
    scene.come_and_go()?;
    let all = [&scene.typing, &scene.online, &scene.offline, &scene.pings];
    let [typing_ms, online_ms, offline_ms, ping_ms] = all.map(|latencies| Percentiles::of(&latencies.all()));
    Ok(PresenceReport {
        scenario: "presence",
        seed: arguments.seed,
        seconds: run.elapsed().as_secs_f64(),
        errors: scene.errors,
        connections: arguments.connections,
        people: arguments.people,
        subscriptions: arguments.subscriptions(),
        typing_ms,
        online_ms,
        offline_ms,
        ping_ms,
        server_bytes_per_subscription: grown.map(|bytes| bytes / arguments.subscriptions() as f64),
        server_cpu_us_per_typing: cpu.map(|seconds| seconds * 1e6 / typed.max(1) as f64),
        missing: if stop::asked() { 0 } else { scene.missing },
        leaked: scene.leaked,
        first_error: scene.first_error,
    })
}

impl<'a> Scene<'a> {
    fn new(arguments: &'a PresenceArgs, target: &'a Target) -> Result<Self, String> {
        let ids = target.users.iter().map(|user| user.id);
        Ok(Self {
            arguments,
            fleet: Fleet::new(target, &target.users, 0, false)?,
            target,
            index_of: ids.zip(0..).collect(),
            people: vec![Watched::default(); arguments.people as usize],
            types: HashMap::new(),
            begin: Instant::now(),
            heard_at: Instant::now(),
            typing: Latencies::default(),
            online: Latencies::default(),
            offline: Latencies::default(),
            pings: Latencies::default(),
            pinged_at: None,
            pings_now: false,
            subscribed: 0,
            errors: 0,
            leaked: 0,
            missing: 0,
            first_error: None,
        })
    }

    /// The device that looks at somebody as the `number`th.
    fn looker(&self, person: u32, number: u32) -> u32 {
        let PresenceArgs { connections, people, lookers, .. } = *self.arguments;
        let looking = u64::from(connections - people - 1);
        let place = (u64::from(person) * u64::from(lookers) + u64::from(number)) % looking;
        people + place as u32
    }

    fn looks(&self, device: u32, person: u32) -> bool {
        let PresenceArgs { connections, people, lookers, .. } = *self.arguments;
        let looking = u64::from(connections - people - 1);
        let first = u64::from(person) * u64::from(lookers) % looking;
        let place = u64::from(device.saturating_sub(people));
        device >= people && (place + looking - first) % looking < u64::from(lookers)
    }

    /// All that look say whom they show: nobody, or those people. Waits until all know whether those are here.
    fn subscribe(&mut self, people: bool) -> Result<(), String> {
        let PresenceArgs { connections, people: watched, lookers, .. } = *self.arguments;
        let mut shown: Vec<Vec<u64>> = vec![Vec::new(); connections as usize];
        for person in 0..watched {
            for number in 0..lookers {
                shown[self.looker(person, number) as usize].push(self.target.users[person as usize].id);
            }
            if people {
                self.people[person as usize].turns = Some((true, lookers));
            }
        }
        let all: Vec<u32> =
            (watched..connections).filter(|device| !shown[*device as usize].is_empty()).collect();
        (self.subscribed, self.heard_at) = (0, Instant::now());
        let mut next = 0;
        while (self.subscribed as usize) < all.len() || self.turning() > 0 {
            while next < all.len() && next < (self.subscribed + SUBSCRIBING) as usize {
                let device = all[next];
                let user_ids = if people { std::mem::take(&mut shown[device as usize]) } else { Vec::new() };
                let shows = v1::Subscribe { user_ids, ..v1::Subscribe::default() };
                self.request(device, Request::Subscribe(shows));
                next += 1;
            }
            self.turn(WAIT)?;
            if self.heard_at.elapsed() > SILENCE_MAX || stop::asked() {
                return Err(format!(
                    "{} of {} have subscribed, and {} have not heard who is here",
                    self.subscribed,
                    all.len(),
                    self.turning()
                ));
            }
        }
        Ok(())
    }

    /// How many have not heard of somebody who comes or goes.
    fn turning(&self) -> u64 {
        self.people.iter().filter_map(|watched| watched.turns).map(|(_, left)| u64::from(left)).sum()
    }

    /// People type, each in turn, to one after the other of those that look. Gives how often.
    fn type_on(&mut self) -> Result<u64, String> {
        let PresenceArgs { people, lookers, seconds, seed, .. } = *self.arguments;
        let mut schedule = Schedule::new(Arrivals::Poisson, self.arguments.rate(), seed);
        let (time, mut typed) = (Duration::from_secs_f64(seconds), 0);
        (self.begin, self.heard_at) = (Instant::now(), Instant::now());
        loop {
            let now = self.begin.elapsed();
            while let Some(intended) = schedule.due(now.min(time)) {
                let person = (typed % u64::from(people)) as u32;
                let number = self.people[person as usize].typed % lookers;
                let looker = self.looker(person, number);
                self.people[person as usize].typed += 1;
                self.missing += u64::from(self.types.insert((person, looker), intended).is_some());
                let chat = self.target.users[looker as usize].id;
                let types = v1::Activity { chat, doing: v1::Doing::Typing.into(), sender: 0 };
                self.request(person, Request::Activity(types));
                typed += 1;
            }
            self.ping(now);
            let is_over = now > time && (self.types.is_empty() || self.heard_at.elapsed() > SILENCE_MAX);
            if is_over || stop::asked() {
                self.missing += self.types.len() as u64;
                return Ok(typed);
            }
            let wait = if now < time { schedule.peek().saturating_sub(now).min(WAIT) } else { WAIT };
            self.turn(wait)?;
        }
    }

    /// Some of the people go, and come back.
    fn come_and_go(&mut self) -> Result<(), String> {
        let goings = self.arguments.goings.min(self.arguments.people);
        for person in 0..goings {
            self.fleet.hang_up(person);
            self.turns(person, false);
            self.people[person as usize].turned_at = Some(self.begin.elapsed());
        }
        self.until_told()?;
        for person in 0..goings {
            self.turns(person, true);
            self.fleet.dial(person)?;
        }
        self.until_told()
    }

    fn turns(&mut self, person: u32, online: bool) {
        let watched = &mut self.people[person as usize];
        (watched.turns, watched.turned_at) = (Some((online, self.arguments.lookers)), None);
    }

    fn until_told(&mut self) -> Result<(), String> {
        self.heard_at = Instant::now();
        while self.turning() > 0 && !stop::asked() {
            if self.heard_at.elapsed() > SILENCE_MAX {
                self.missing += self.turning();
                return Ok(());
            }
            self.ping(self.begin.elapsed());
            self.turn(WAIT)?;
        }
        Ok(())
    }

    /// Somebody else asks whether its core lives.
    fn ping(&mut self, now: Duration) {
        let device = self.arguments.connections - 1;
        if !self.pings_now && self.pinged_at.is_none_or(|at| now > at + PINGS_EVERY) {
            (self.pinged_at, self.pings_now) = (Some(now), true);
            self.request(device, Request::Ping(v1::Ping {}));
        }
    }

    fn request(&mut self, device: u32, request: Request) {
        if !self.fleet.request(device, request) {
            self.failed(format!("device {device} is not connected"));
        }
    }

    fn failed(&mut self, why: String) {
        self.errors += 1;
        self.first_error.get_or_insert(why);
    }

    /// Takes what has come.
    fn turn(&mut self, wait: Duration) -> Result<(), String> {
        let mut came = Vec::new();
        self.fleet.turn(wait, &mut |device, happened| came.push((device, happened)))?;
        let now = self.begin.elapsed();
        for (device, happened) in came {
            match happened {
                // Only those people connect meanwhile.
                Happened::Ready => self.people[device as usize].turned_at = Some(now),
                Happened::Frame(v1::ServerFrame { message: Some(message), .. }) => {
                    self.frame(device, now, message)
                }
                Happened::Frame(_) => {}
                Happened::Lost(why) => self.failed(why),
            }
        }
        Ok(())
    }

    fn frame(&mut self, device: u32, now: Duration, message: Message) {
        match message {
            Message::Subscribed(_) => self.subscribed += 1,
            Message::Pong(_) => {
                let pinged_at = self.pinged_at.unwrap_or(now);
                self.pings.record(pinged_at, now.saturating_sub(pinged_at));
                self.pings_now = false;
                // It says nothing of what is waited for.
                return;
            }
            Message::Presence(presence) => self.presence(device, now, presence),
            Message::Activity(activity) => self.activity(device, now, &activity),
            Message::Refused(refused) => {
                self.failed(format!("{}: {}", refused.reason().name(), refused.detail))
            }
            _ => {}
        }
        self.heard_at = Instant::now();
    }

    /// Who has to do with what was told to a device: somebody at whom it looks.
    fn seen(&mut self, device: u32, user_id: u64) -> Option<u32> {
        let person = self.index_of.get(&user_id).copied().filter(|person| *person < self.arguments.people);
        let seen = person.filter(|person| self.looks(device, *person));
        self.leaked += u64::from(seen.is_none());
        seen
    }

    fn presence(&mut self, device: u32, now: Duration, presence: v1::Presence) {
        let Some(person) = self.seen(device, presence.user_id) else { return };
        let watched = &mut self.people[person as usize];
        let Some((online, left)) = watched.turns.filter(|(turns, _)| presence.online == Some(*turns)) else {
            return;
        };
        watched.turns = (left > 1).then_some((online, left - 1));
        // Who looks may be told before the person hears that it is logged in.
        let after = watched.turned_at.map_or(Duration::ZERO, |at| now.saturating_sub(at));
        if online {
            self.online.record(now, after);
        } else {
            self.offline.record(now, after.saturating_sub(GRACE));
        }
    }

    fn activity(&mut self, device: u32, now: Duration, activity: &v1::Activity) {
        let Some(person) = self.seen(device, activity.chat) else { return };
        match self.types.remove(&(person, device)) {
            Some(intended) => self.typing.record(intended, now.saturating_sub(intended)),
            None => self.leaked += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: PresenceArgs,
    }

    fn refused(line: &str) -> Option<String> {
        Line::parse_from(format!("bench {line}").split(' ')).arguments.refused()
    }

    #[test]
    fn what_no_server_could_do_is_not_begun() {
        assert_eq!(refused("--connections 1000 --people 100"), None);
        assert_eq!(refused("--connections 10002 --people 1 --lookers 10000"), None);
        for (line, why) in [
            ("--connections 10 --people 10", "0 devices are left to look, and 1 are to look at each"),
            (
                "--connections 1001 --people 900 --lookers 99",
                "a device would show 891 people, and 256 are the most",
            ),
            (
                "--connections 1000 --people 30 --rate 11",
                "in one chat somebody types every 3 s at most: so many can 10 times a second",
            ),
        ] {
            assert_eq!(refused(line).as_deref(), Some(why), "{line}");
        }
    }
}
