//! `group`: groups of many, in which some talk: how long until the last member has a message, and what it costs the server.
//!
//! A message carries the moment at which it was to be sent; whoever gets it counts from there. In the middle of the run a member of each
//! group that talks is removed: what it gets behind that has leaked.

mod beside;
mod rivals;
mod speakers;

use std::time::{Duration, Instant};

use fastrand::Rng;
use prost::Message as _;
use serde::Serialize;
use tern_proto::v1::{self, client_frame::Request, group_change::Change, server_frame::Message};

use self::beside::BesideReport;
use self::rivals::Rival;
use super::LogArgs;
use crate::arguments;
use crate::latency::{Latencies, Percentiles, table};
use crate::load::{Arrivals, Fleet, Happened, Schedule, WAIT};
use crate::target::{Target, TargetArgs};
use crate::{measure, stop};

/// How long nothing may happen while something is waited for.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// How long a device gathers what it acknowledges.
const ACKNOWLEDGE_AFTER: Duration = Duration::from_millis(50);

/// Groups that are being made at once.
const MAKING: usize = 4;

#[derive(Clone, Debug, clap::Args)]
pub struct GroupArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Groups; nobody is in two of them
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    groups: u32,
    /// Members of each, all connected
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(3..=1024))]
    members: u32,
    /// Groups in a hundred that talk, at least one
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100))]
    talking: u32,
    /// Messages a second, in all groups together
    #[arg(long, default_value_t = 5.0, value_parser = arguments::positive)]
    rate: f64,
    /// Bytes of a message
    #[arg(long, default_value_t = 200, value_parser = arguments::message_size)]
    size: usize,
    /// Seconds in which they talk
    #[arg(long, default_value_t = 30.0, value_parser = arguments::positive)]
    seconds: f64,
    /// Then the same through other servers, which must be on PATH; several by commas
    #[arg(long, value_name = "SERVER", value_enum, value_delimiter = ',')]
    beside: Vec<Rival>,
    #[command(flatten)]
    log: LogArgs,
    /// Repeats the schedule of a run
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl GroupArgs {
    /// How many groups talk.
    fn talking(&self) -> u32 {
        (self.groups * self.talking / 100).max(1)
    }
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct GroupReport {
    scenario: &'static str,
    seed: u64,
    seconds: f64,
    errors: u64,
    groups: u32,
    members: u32,
    messages: u64,
    #[serde(flatten)]
    times: Times,
    /// Of the bench's own server.
    row_ops_per_message: Option<f64>,
    server_cpu_us_per_message: Option<f64>,
    /// How much its private memory has grown with making the groups, for each member.
    server_bytes_per_member: Option<f64>,
    missing: u64,
    duplicates: u64,
    out_of_order: u64,
    leaked: u64,
    /// The same through other servers.
    beside: Vec<BesideReport>,
    #[serde(skip)]
    first_error: Option<String>,
}

impl GroupReport {
    /// Whether everybody who should got everything, once and in order, and nobody else.
    pub fn is_correct(&self) -> bool {
        self.errors + self.missing + self.duplicates + self.out_of_order + self.leaked == 0
    }

    /// A line for people.
    pub fn line(&self) -> String {
        let Self { errors, missing, duplicates, out_of_order, leaked, .. } = self;
        let first = self.first_error.as_deref().map(|why| format!("; first: {why}")).unwrap_or_default();
        let figure = |figure: Option<f64>| figure.map_or("-".to_owned(), |figure| format!("{figure:.1}"));
        format!(
            "{} groups of {}, {} messages; {errors} errors, {missing} missing, {duplicates} duplicates, {out_of_order} out of \
             order, {leaked} leaked{first}\n{} row operations and {} us of server CPU a message, {} bytes a member\n\n{}",
            self.groups,
            self.members,
            self.messages,
            figure(self.row_ops_per_message),
            figure(self.server_cpu_us_per_message),
            figure(self.server_bytes_per_member),
            self.times.table(),
        ) + &self.beside.iter().map(BesideReport::line).collect::<String>()
    }
}

/// The group, and the device, whose turn it is to talk.
fn speaker(rng: &mut Rng, arguments: &GroupArgs) -> (u32, u32) {
    let group = rng.u32(..arguments.talking());
    // The last one is to be removed, and the first removes it.
    (group, group * arguments.members + rng.u32(1..arguments.members - 1))
}

/// How messages come to the members, each from its intended moment of sending.
#[derive(Default)]
struct Spread {
    sent: Latencies,
    first: Latencies,
    last: Latencies,
}

/// What is said of that.
#[derive(Debug, Serialize)]
struct Times {
    /// Until the server says to the sender that it has it; of nothing where it does not.
    ack_ms: Percentiles,
    /// Until the first and the last member gets it.
    first_ms: Percentiles,
    fanout_ms: Percentiles,
}

impl Spread {
    /// A member has got what was to be sent at `intended`, as the `heard`th of so many.
    fn heard(&mut self, now: Duration, intended: Duration, heard: u32, members: u32) {
        let after = now.saturating_sub(intended);
        if heard == 1 {
            self.first.record(now, after);
        }
        if heard == members {
            self.last.record(now, after);
        }
    }

    fn times(&self) -> Times {
        let [ack_ms, first_ms, fanout_ms] =
            [&self.sent, &self.first, &self.last].map(|latencies| Percentiles::of(&latencies.all()));
        Times { ack_ms, first_ms, fanout_ms }
    }
}

impl Times {
    fn table(&self) -> String {
        table(&[
            ("acknowledged", &self.ack_ms),
            ("first member", &self.first_ms),
            ("last member", &self.fanout_ms),
        ])
    }
}

/// A group.
#[derive(Clone, Default)]
struct Group {
    chat: u64,
    /// The entry by which a member was removed.
    removed_at: Option<u64>,
    /// How many have got each message, by its seq.
    heard: Vec<u32>,
}

/// A member's device.
#[derive(Clone, Default)]
struct Member {
    newest_seq: u64,
    acknowledged: u64,
    /// Its next number.
    client_id: u64,
}

struct Talk<'a> {
    fleet: Fleet<'a>,
    arguments: &'a GroupArgs,
    /// The users' ids, group by group.
    ids: Vec<u64>,
    groups: Vec<Group>,
    members: Vec<Member>,
    begin: Instant,
    spread: Spread,
    messages: u64,
    unanswered: u64,
    errors: u64,
    duplicates: u64,
    out_of_order: u64,
    first_error: Option<String>,
    heard_at: Instant,
    /// The intended moments of messages that are not answered, by device.
    intended: std::collections::BTreeMap<u32, std::collections::VecDeque<Duration>>,
}

/// Runs it.
pub fn run(arguments: &GroupArgs) -> Result<GroupReport, String> {
    let versions = arguments.beside.iter().map(|rival| rival.version());
    let versions = versions.collect::<Result<Vec<_>, String>>()?;
    let mut report = through_tern(arguments)?;
    // Tern's own server has ended: each has the machine to itself.
    for (rival, version) in arguments.beside.iter().zip(versions) {
        report.beside.push(beside::run(*rival, version, arguments)?);
    }
    Ok(report)
}

fn through_tern(arguments: &GroupArgs) -> Result<GroupReport, String> {
    let run = Instant::now();
    let count = arguments.groups * arguments.members;
    let free = ["--limit", "sends_per_minute_max=0", "--limit", "strangers_per_hour_max=0"];
    let target = Target::new(&arguments.target, count, &free)?;
    let mut talk = Talk::new(arguments, &target)?;
    let connected = talk.fleet.connect(0..count)?;
    if let Some(why) = connected.first_error {
        return Err(format!("a connection was lost: {why}"));
    }
    let before = target.pid().map(measure::anonymous_bytes);
    talk.make()?;
    // Before they talk: elsewhere not all members of all groups have something to acknowledge at one moment.
    talk.acknowledge_and_wait()?;
    let grown = target.pid().map(measure::anonymous_bytes).zip(before);
    let rows =
        |target: &Target| target.own().map(|server| server.metric("tern_store_commit_operations_total"));
    let (rows_before, cpu_before) = (rows(&target), target.cpu_s_since(None));
    talk.talk()?;
    let (rows_after, cpu) = (rows(&target), target.cpu_s_since(cpu_before));
    let messages = talk.messages.max(1) as f64;
    arguments.log.write(run, &[("acknowledged", &talk.spread.sent), ("last-member", &talk.spread.last)])?;
    Ok(GroupReport {
        scenario: "group",
        seed: arguments.seed,
        seconds: run.elapsed().as_secs_f64(),
        errors: talk.errors,
        groups: arguments.groups,
        members: arguments.members,
        messages: talk.messages,
        times: talk.spread.times(),
        row_ops_per_message: rows_after
            .zip(rows_before)
            .map(|(after, before)| (after - before) as f64 / messages),
        server_cpu_us_per_message: cpu.map(|seconds| seconds * 1e6 / messages),
        server_bytes_per_member: grown
            .map(|(after, before)| after.saturating_sub(before) as f64 / f64::from(count)),
        missing: if stop::asked() { 0 } else { talk.missing() },
        duplicates: talk.duplicates,
        out_of_order: talk.out_of_order,
        leaked: talk.leaked(),
        beside: Vec::new(),
        first_error: talk.first_error,
    })
}

impl<'a> Talk<'a> {
    fn new(arguments: &'a GroupArgs, target: &'a Target) -> Result<Self, String> {
        let first = Member { client_id: target.first_number(), ..Member::default() };
        Ok(Self {
            fleet: Fleet::new(target, &target.users, 0, true)?,
            arguments,
            ids: target.users.iter().map(|user| user.id).collect(),
            groups: vec![Group::default(); arguments.groups as usize],
            members: vec![first; target.users.len()],
            begin: Instant::now(),
            spread: Spread::default(),
            messages: 0,
            unanswered: 0,
            errors: 0,
            duplicates: 0,
            out_of_order: 0,
            first_error: None,
            heard_at: Instant::now(),
            intended: Default::default(),
        })
    }

    fn next_id(&mut self, device: u32) -> u64 {
        let member = &mut self.members[device as usize];
        member.client_id += 1;
        member.client_id
    }

    /// The first of each group makes it; all others hear so.
    fn make(&mut self) -> Result<(), String> {
        let size = self.arguments.members as usize;
        let (mut next, mut made) = (0, 0);
        self.heard_at = Instant::now();
        while made < self.groups.len() || self.members.iter().any(|member| member.newest_seq == 0) {
            while next < self.groups.len() && next < made + MAKING {
                let (device, members) = ((next * size) as u32, self.ids[next * size..][..size].to_vec());
                let group =
                    v1::GroupMade { name: format!("group {next}"), members, ..v1::GroupMade::default() };
                let create = v1::CreateGroup { client_id: self.next_id(device), group: Some(group) };
                self.fleet.request(device, Request::CreateGroup(create));
                next += 1;
            }
            made += self.turn(WAIT)?.made;
            if self.heard_at.elapsed() > SILENCE_MAX || stop::asked() {
                return Err(format!(
                    "{made} of {} groups are made, and not all have heard so",
                    self.groups.len()
                ));
            }
        }
        Ok(())
    }

    /// Some talk, by a schedule; all acknowledge what they get.
    fn talk(&mut self) -> Result<(), String> {
        let GroupArgs { rate, size, seconds, seed, .. } = *self.arguments;
        let (mut rng, time) = (Rng::with_seed(seed), Duration::from_secs_f64(seconds));
        let mut schedule = Schedule::new(Arrivals::Poisson, rate, seed);
        let (mut acknowledge_at, mut removed) = (ACKNOWLEDGE_AFTER, false);
        self.begin = Instant::now();
        self.heard_at = Instant::now();
        loop {
            let now = self.begin.elapsed();
            while let Some(intended) = schedule.due(now.min(time)) {
                let (group, device) = speaker(&mut rng, self.arguments);
                let mut body = (intended.as_nanos() as u64).to_be_bytes().to_vec();
                body.resize(size.max(8), b'x');
                self.send(device, self.groups[group as usize].chat, v1::Kind::Text, body);
                self.intended.entry(device).or_default().push_back(intended);
                self.messages += 1;
            }
            if !removed && now > time / 2 {
                removed = true;
                (0..self.arguments.talking()).for_each(|group| self.remove_last(group));
            }
            if now > acknowledge_at {
                acknowledge_at = now + ACKNOWLEDGE_AFTER;
                self.acknowledge();
            }
            let is_over = now > time && self.unanswered == 0 && self.missing() == 0;
            if is_over || self.heard_at.elapsed() > SILENCE_MAX || stop::asked() {
                break;
            }
            let wait = if now < time { schedule.peek().saturating_sub(now).min(WAIT) } else { WAIT };
            self.turn(wait)?;
        }
        self.acknowledge_and_wait()
    }

    /// All acknowledge what they have. What is gathered of it is written within two seconds.
    fn acknowledge_and_wait(&mut self) -> Result<(), String> {
        self.acknowledge();
        let end = Instant::now();
        while end.elapsed() < Duration::from_secs(3) && !stop::asked() {
            self.turn(WAIT)?;
        }
        Ok(())
    }

    fn send(&mut self, device: u32, chat: u64, kind: v1::Kind, body: Vec<u8>) {
        let client_id = self.next_id(device);
        let send = v1::Send { chat, client_id, body: body.into(), kind: kind.into(), ..Default::default() };
        self.unanswered += u64::from(self.fleet.request(device, Request::Send(send)));
    }

    fn remove_last(&mut self, group: u32) {
        let members = self.arguments.members;
        let last = self.ids[((group + 1) * members - 1) as usize];
        let body = v1::GroupChange { change: Some(Change::Removed(last)) }.encode_to_vec();
        self.send(group * members, self.groups[group as usize].chat, v1::Kind::Group, body);
    }

    fn acknowledge(&mut self) {
        for device in 0..self.fleet.len() {
            let chat = self.groups[(device / self.arguments.members) as usize].chat;
            let member = &mut self.members[device as usize];
            let upto = member.newest_seq;
            if std::mem::replace(&mut member.acknowledged, upto) < upto {
                let acknowledge = v1::Acknowledge { chat, delivered_upto: upto, read_upto: upto };
                self.fleet.request(device, Request::Acknowledge(acknowledge));
            }
        }
    }

    /// How many have got something that was said behind their removal.
    fn leaked(&self) -> u64 {
        let size = self.arguments.members as usize;
        let lasts = self.members.iter().skip(size - 1).step_by(size);
        let leaked =
            |(group, last): (&Group, &Member)| group.removed_at.is_some_and(|at| last.newest_seq > at);
        self.groups.iter().zip(lasts).filter(|pair| leaked(*pair)).count() as u64
    }

    /// How many times somebody has not got a message.
    fn missing(&self) -> u64 {
        let of_group = |group: &Group| {
            // All but its author get it, and all but who is removed what comes behind that.
            let due = |seq: u64| {
                let gone = group.removed_at.is_some_and(|removed| seq > removed);
                self.arguments.members - 1 - u32::from(gone)
            };
            let heard = group.heard.iter().zip(1..);
            heard.skip(1).map(|(heard, seq)| u64::from(due(seq).saturating_sub(*heard))).sum::<u64>()
        };
        self.groups.iter().map(of_group).sum()
    }

    /// Takes what has come.
    fn turn(&mut self, wait: Duration) -> Result<Turned, String> {
        let mut came = Vec::new();
        self.fleet.turn(wait, &mut |device, happened| came.push((device, happened)))?;
        let mut turned = Turned::default();
        if !came.is_empty() {
            self.heard_at = Instant::now();
        }
        for (device, happened) in came {
            match happened {
                Happened::Frame(v1::ServerFrame { message: Some(message), .. }) => {
                    turned.made += usize::from(self.frame(device, message));
                }
                Happened::Lost(why) => self.failed(why),
                Happened::Frame(_) | Happened::Ready => {}
            }
        }
        Ok(turned)
    }

    fn failed(&mut self, why: String) {
        self.errors += 1;
        self.first_error.get_or_insert(why);
    }

    /// Takes a frame; `true` if a group is made.
    fn frame(&mut self, device: u32, message: Message) -> bool {
        let group = (device / self.arguments.members) as usize;
        match message {
            Message::GroupCreated(created) => {
                self.groups[group].chat = created.chat;
                self.members[device as usize].newest_seq = 1;
                self.groups[group].heard.resize(1, 0);
                return true;
            }
            Message::Sent(sent) => {
                self.unanswered = self.unanswered.saturating_sub(1);
                let of_group = &mut self.groups[group];
                let places = of_group.heard.len().max(sent.seq as usize);
                of_group.heard.resize(places, 0);
                if device.is_multiple_of(self.arguments.members) {
                    of_group.removed_at = Some(sent.seq);
                } else if let Some(intended) = self.intended.get_mut(&device).and_then(|all| all.pop_front())
                {
                    let now = self.begin.elapsed();
                    self.spread.sent.record(now, now.saturating_sub(intended));
                }
                let member = &mut self.members[device as usize];
                // What lies between is on its way.
                if member.newest_seq + 1 == sent.seq {
                    member.newest_seq = sent.seq;
                }
            }
            Message::Entry(entry) => self.entry(device, group, &entry),
            Message::Refused(refused) => {
                self.unanswered = self.unanswered.saturating_sub(1);
                self.failed(format!("{}: {}", refused.reason().name(), refused.detail));
            }
            _ => {}
        }
        false
    }

    fn entry(&mut self, device: u32, group: usize, entry: &v1::Entry) {
        let of_group = &mut self.groups[group];
        let member = &mut self.members[device as usize];
        if entry.seq <= member.newest_seq {
            self.duplicates += 1;
            return;
        }
        // Own entries come as answers, which may overtake what is pushed.
        self.out_of_order += u64::from(entry.seq < member.newest_seq);
        member.newest_seq = entry.seq;
        let places = of_group.heard.len().max(entry.seq as usize);
        of_group.heard.resize(places, 0);
        let heard = &mut of_group.heard[entry.seq as usize - 1];
        *heard += 1;
        if entry.kind() != v1::Kind::Text {
            return;
        }
        let now = self.begin.elapsed();
        let sent =
            entry.body.first_chunk().map_or(now, |nanos| Duration::from_nanos(u64::from_be_bytes(*nanos)));
        let gone = of_group.removed_at.is_some_and(|removed| entry.seq > removed);
        let members = self.arguments.members - 1 - u32::from(gone);
        self.spread.heard(now, sent, *heard, members);
    }
}

#[derive(Default)]
struct Turned {
    made: usize,
}
