//! A load that lies on one core, before and after the server has dealt it out.

use std::thread;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use tern_storage::{LogId, Slot};
use tern_testkit::{Ternd, TestUser};

use super::slow::slow_down;
use super::{LOOK, RebalanceArgs, WARMUP, beside, load, wait_until};
use crate::stop;
use crate::target::Target;

/// How long connections have to follow their users.
const FOLLOWING: Duration = Duration::from_secs(4);

/// Moves a second: what is looked at is not their pace.
const RATE: f64 = 200.0;

/// What was found.
#[derive(Debug, Serialize)]
pub(super) struct Skew {
    /// Messages a second of a closed loop of people whose slots, and those of whose chats, one core has.
    skewed_per_s: f64,
    /// The same when the server has moved what it has planned.
    balanced_per_s: f64,
    /// The busiest core by the mean, before and as planned.
    skew_before: f64,
    skew_planned: f64,
    skew_moves: u64,
    /// Hundredths of a CPU that each core had; 0: all of it.
    core_percent: u32,
    /// Why it is not right; empty: it is.
    #[serde(skip)]
    wrong: String,
}

impl Skew {
    /// Whether nothing was lost, doubled, reordered or refused.
    pub(super) fn is_correct(&self) -> bool {
        self.wrong.is_empty()
    }

    /// Lines for people.
    pub(super) fn line(&self) -> String {
        let share = match self.core_percent {
            0 => String::new(),
            percent => format!(" (each core with {percent} % of a CPU)"),
        };
        format!(
            "\non one core {:.0}/s, dealt out by {} moves {:.0}/s: {:.2} times{share}\n{}",
            self.skewed_per_s,
            self.skew_moves,
            self.balanced_per_s,
            self.balanced_per_s / self.skewed_per_s.max(1.0),
            self.wrong,
        )
    }
}

/// How many people it takes for so many pairs to lie on one core of so many, about.
fn people(pairs: u32, cores: u32) -> u32 {
    (2 * pairs + 40) * cores
}

/// Pairs of people who, with their chats, lie on core 0. The first of each two writes to the second.
fn on_one_core(users: &[TestUser], owners: &Value, pairs: usize) -> Result<Vec<TestUser>, String> {
    let is_there = |slot: Slot| owners[usize::from(slot.number())].as_u64() == Some(0);
    let mut left: Vec<&TestUser> = users.iter().filter(|user| is_there(Slot::of_user(user.id))).collect();
    let mut found = Vec::new();
    while let Some(one) = left.pop() {
        let with = |other: &&TestUser| is_there(Slot::of_log(LogId::direct(one.id, other.id)));
        if let Some(place) = left.iter().position(with) {
            found.extend([one.clone(), left.swap_remove(place).clone()]);
        }
    }
    found.truncate(2 * pairs);
    if found.len() < 2 * pairs {
        Err(format!("{} pairs lie on core 0, of {pairs}", found.len() / 2))
    } else {
        Ok(found)
    }
}

/// Runs it, with a server of its own.
pub(super) fn run(arguments: &RebalanceArgs) -> Result<Skew, String> {
    let cores = arguments.own.cores(2 * arguments.pairs);
    if cores < 2 {
        return Err("slots move between cores: --cores 2 at least".to_owned());
    }
    let target = Target::start(&arguments.own, people(arguments.pairs, cores.into()), &[])?;
    let server = target.own().expect("it was just started");
    let owners = asked(server, &json!({ "ask": "shards" }))?["owners"].take();
    let users = on_one_core(&target.users, &owners, arguments.pairs as usize)?;
    crate::progress(&format!("{} pairs lie on one core", users.len() / 2));
    let core_percent = match arguments.core_percent {
        0 => 0,
        percent => match slow_down(server.pid(), percent) {
            Ok(()) => percent,
            Err(why) => {
                crate::progress(&format!(
                    "the cores are not slowed down, and the generator may be what limits: {why}"
                ));
                0
            }
        },
    };
    let looked_at = Duration::from_secs(arguments.skew_seconds);
    let skewed = WARMUP..WARMUP + looked_at;
    let load = load(arguments, &target, &users, None, WARMUP..Duration::MAX);
    let (tally, (status, balanced)) = beside(&load, |begun| {
        wait_until(begun, skewed.end);
        let status = rebalance(server)?;
        thread::sleep(FOLLOWING);
        // Whole seconds, for so fine is what is counted.
        let from = Duration::from_secs(begun.elapsed().as_secs() + 1);
        thread::sleep((from + looked_at).saturating_sub(begun.elapsed()));
        Ok((status, from..from + looked_at))
    })?;
    let per_s = |range| tally.ack.within(range).len() as f64 / looked_at.as_secs_f64();
    Ok(Skew {
        skewed_per_s: per_s(skewed),
        balanced_per_s: per_s(balanced),
        skew_before: status["skew_before"].as_f64().unwrap_or(0.0),
        skew_planned: status["skew_planned"].as_f64().unwrap_or(0.0),
        core_percent,
        skew_moves: status["done"].as_u64().unwrap_or(0),
        wrong: if tally.is_correct() { String::new() } else { tally.wrong() },
    })
}

/// Has the server move what it plans, and gives its status when that is done.
fn rebalance(server: &Ternd) -> Result<Value, String> {
    let plan = asked(server, &json!({ "ask": "plan_moves" }))?["plan"].take();
    asked(server, &json!({ "ask": "apply_plan", "plan": plan, "rate": RATE }))?;
    loop {
        let status = asked(server, &json!({ "ask": "rebalance" }))?;
        if status["state"] == "done" || stop::asked() {
            return Ok(status);
        }
        thread::sleep(LOOK);
    }
}

fn asked(server: &Ternd, question: &Value) -> Result<Value, String> {
    let mut answer = server.admin(question).remove(0);
    match answer["ok"].take() {
        Value::Null => Err(format!("{question}: {answer}")),
        ok => Ok(ok),
    }
}
