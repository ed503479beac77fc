//! `ternctl shards` and `ternctl cores`: which core has which slot, what that costs, and what moves. All of it is ternd's: this program only
//! asks, and may be ended at any time.

use std::path::Path;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::socket::{AskError, ask};
use crate::status::number;
use crate::watch;

/// Columns of the bar.
const BAR: usize = 30;

/// Moves that a plan is shown with; the rest is counted.
const MOVES_SHOWN: usize = 20;

#[derive(Subcommand)]
pub enum ShardsCommand {
    /// Show how many slots each core has, and what they take
    List {
        /// Of this core alone, slot by slot
        #[arg(long)]
        core: Option<u16>,
    },
    /// Show the slots that take most, with what is done for them
    Top {
        /// How many
        #[arg(long, short = 'n', value_name = "N", default_value_t = 20)]
        count: usize,
    },
    /// Say what a slot takes, and why it is where it is
    Explain {
        /// The slot's number
        slot: u16,
    },
    /// Move a slot to another core now
    Move {
        /// The slot's number
        slot: u16,
        /// The core's number
        #[arg(long, value_name = "CORE")]
        to: u16,
    },
    /// Plan moves so that no core has much more to do than others, carry a plan out, and see how far it is
    Rebalance(Rebalance),
}

#[derive(Args)]
#[group(required = true, multiple = true)]
pub struct Rebalance {
    /// Print what would move, and move nothing
    #[arg(long, conflicts_with_all = ["apply", "status", "pause", "resume", "cancel", "watch"])]
    plan: bool,
    /// Carry out the plan of this name
    #[arg(long, value_name = "PLAN", conflicts_with_all = ["status", "pause", "resume", "cancel"])]
    apply: Option<String>,
    /// Show what is being carried out, or was last
    #[arg(long, conflicts_with_all = ["pause", "resume", "cancel", "rate"])]
    status: bool,
    /// Show it until it is done. Ending this changes nothing
    #[arg(long)]
    watch: bool,
    /// Let nothing more move until it is resumed
    #[arg(long, conflicts_with_all = ["resume", "cancel", "rate"])]
    pause: bool,
    /// Go on
    #[arg(long, conflicts_with_all = ["cancel", "rate"])]
    resume: bool,
    /// So many moves a second [default: 10]
    #[arg(long, value_name = "PER SECOND")]
    rate: Option<f64>,
    /// Leave the rest of it
    #[arg(long, conflicts_with = "rate")]
    cancel: bool,
}

#[derive(Subcommand)]
pub enum CoresCommand {
    /// Show what each core has and uses
    List,
    /// Have all slots of a core move to others, and none move there. Connections stay
    Drain {
        /// The core's number
        core: u16,
    },
    /// Let a core take slots again
    Undrain {
        /// The core's number
        core: u16,
    },
}

fn asked(socket: &Path, question: &Value) -> Result<Value, AskError> {
    ask(socket, question)?.next()
}

/// `ternctl shards`.
pub fn shards(socket: &Path, command: ShardsCommand, json: bool) -> Result<(), AskError> {
    match command {
        ShardsCommand::List { core: None } => cores_list(socket, json),
        ShardsCommand::List { core: Some(core) } => slots(socket, Some(core), usize::MAX, json),
        ShardsCommand::Top { count } => slots(socket, None, count, json),
        ShardsCommand::Explain { slot } => {
            let slot = asked(socket, &json!({ "ask": "explain_slot", "slot": slot }))?;
            show(&slot, json, explained)
        }
        ShardsCommand::Move { slot, to } => {
            let moved = asked(socket, &json!({ "ask": "move_slot", "slot": slot, "to": to }))?;
            show(&moved, json, |moved| {
                let pause = milliseconds(&moved["pause_us"]);
                vec![format!(
                    "slot {} has moved from core {} to core {}: what was asked of it waited {pause}",
                    moved["slot"], moved["from"], moved["to"]
                )]
            })
        }
        ShardsCommand::Rebalance(rebalance) => rebalance_as(socket, &rebalance, json),
    }
}

/// `ternctl cores`.
pub fn cores(socket: &Path, command: &CoresCommand, json: bool) -> Result<(), AskError> {
    match command {
        CoresCommand::List => cores_list(socket, json),
        CoresCommand::Drain { core } => {
            let status = asked(socket, &json!({ "ask": "drain_core", "core": core }))?;
            show(&status, json, |status| vec![line(status)])
        }
        CoresCommand::Undrain { core } => {
            let all = asked(socket, &json!({ "ask": "undrain_core", "core": core }))?;
            show(&all, json, core_lines)
        }
    }
}

fn show(value: &Value, json: bool, lines: impl Fn(&Value) -> Vec<String>) -> Result<(), AskError> {
    match json {
        true => say!("{value}"),
        false => lines(value).iter().for_each(|line| say!("{line}")),
    }
    Ok(())
}

fn milliseconds(us: &Value) -> String {
    format!("{:.1} ms", number(us) / 1000.0)
}

/// A part of one CPU.
fn cpu(us_per_s: &Value) -> String {
    format!("{:.2}%", number(us_per_s).max(0.0) / 10_000.0)
}

fn cores_list(socket: &Path, json: bool) -> Result<(), AskError> {
    show(&asked(socket, &json!({ "ask": "cores" }))?, json, core_lines)
}

fn core_lines(all: &Value) -> Vec<String> {
    let mut lines = vec!["core  slots      cpu  of that slots".to_owned()];
    for core in all["cores"].as_array().into_iter().flatten() {
        let (used, slots) = (cpu(&core["cpu_us_per_s"]), cpu(&core["slots_us_per_s"]));
        let drained = if core["drained"] == true { "  drained" } else { "" };
        let (number, count) = (core["core"].to_string(), core["slots"].to_string());
        lines.push(format!("{number:>4}  {count:>5}  {used:>7}  {slots:>13}{drained}"));
    }
    lines
}

/// The slots that take most.
fn slots(socket: &Path, core: Option<u16>, count: usize, json: bool) -> Result<(), AskError> {
    let all = asked(socket, &json!({ "ask": "shards" }))?;
    let of_core = |slot: &&Value| core.is_none_or(|core| slot["core"] == core);
    let mut used: Vec<&Value> = all["used"].as_array().into_iter().flatten().filter(of_core).collect();
    used.sort_by(|one, other| number(&other["cpu_us_per_s"]).total_cmp(&number(&one["cpu_us_per_s"])));
    let shown = &used[..used.len().min(count)];
    if json {
        say!("{}", json!({ "version": all["version"], "slots": shown }));
        return Ok(());
    }
    say!("slot  core      cpu  frames in/s  frames out/s  decided/s   rows/s  bytes/s");
    for slot in shown {
        let rate = |key: &str| format!("{:.0}", number(&slot[key]));
        say!(
            "{:>4}  {:>4}  {:>7}  {:>11}  {:>12}  {:>9}  {:>7}  {:>7}",
            slot["slot"].to_string(),
            slot["core"].to_string(),
            cpu(&slot["cpu_us_per_s"]),
            rate("frames_in_per_s"),
            rate("frames_out_per_s"),
            rate("decided_per_s"),
            rate("rows_per_s"),
            rate("bytes_per_s")
        );
    }
    let owners = all["owners"].as_array().into_iter().flatten();
    let have = owners.filter(|owner| core.is_none_or(|core| **owner == core)).count();
    say!("{} of {have} slots are used", used.len());
    Ok(())
}

fn explained(slot: &Value) -> Vec<String> {
    let rate = |key: &str| format!("{:.1}", number(&slot[key]));
    let mut lines = vec![
        format!(
            "slot {} is core {}'s, and takes {} of a CPU: {:.0}% of what that core's slots take",
            slot["slot"],
            slot["core"],
            cpu(&slot["cpu_us_per_s"]),
            100.0 * number(&slot["share_of_core"])
        ),
        format!(
            "a second: {} frames in, {} out, {} decided on, {} rows and {} bytes written",
            rate("frames_in_per_s"),
            rate("frames_out_per_s"),
            rate("decided_per_s"),
            rate("rows_per_s"),
            rate("bytes_per_s")
        ),
    ];
    let last = &slot["last_move"];
    if !last.is_null() {
        let (from, ago, pause) = (&last["from"], &last["seconds_ago"], milliseconds(&last["pause_us"]));
        lines.push(format!("it came from core {from} {ago} s ago; what was asked of it waited {pause}"));
    }
    lines.push(slot["why"].as_str().unwrap_or("?").to_owned());
    lines
}

fn rebalance_as(socket: &Path, how: &Rebalance, json: bool) -> Result<(), AskError> {
    if how.plan {
        return show(&asked(socket, &json!({ "ask": "plan_moves" }))?, json, plan_lines);
    }
    let question = match how {
        Rebalance { apply: Some(plan), rate, .. } => {
            json!({ "ask": "apply_plan", "plan": plan, "rate": rate })
        }
        Rebalance { pause: true, .. } => json!({ "ask": "pause_moves" }),
        Rebalance { resume: true, .. } => json!({ "ask": "resume_moves" }),
        Rebalance { cancel: true, .. } => json!({ "ask": "cancel_moves" }),
        Rebalance { rate: Some(rate), .. } => json!({ "ask": "rate_of_moves", "rate": rate }),
        _ => json!({ "ask": "rebalance" }),
    };
    let status = asked(socket, &question)?;
    if how.watch { watch(socket, json) } else { show(&status, json, |status| vec![line(status)]) }
}

fn plan_lines(plan: &Value) -> Vec<String> {
    let moves = plan["moves"].as_array().cloned().unwrap_or_default();
    let (before, after) = (number(&plan["skew_before"]), number(&plan["skew_after"]));
    if moves.is_empty() {
        return vec![format!("nothing to move: the busiest core has {before:.2} of the mean")];
    }
    let seconds = moves.len() as f64 / number(&plan["rate"]).max(0.1);
    let name = plan["plan"].as_str().unwrap_or("?");
    let mut lines = vec![format!(
        "plan {name}: the busiest core by the mean {before:.2} -> {after:.2}, {} moves, about {seconds:.0} s",
        moves.len()
    )];
    for step in moves.iter().take(MOVES_SHOWN) {
        let (slot, from, to) = (step["slot"].to_string(), &step["from"], &step["to"]);
        lines.push(format!("  slot {slot:>4}  core {from} -> {to}  {}", cpu(&step["cpu_us_per_s"])));
    }
    if moves.len() > MOVES_SHOWN {
        lines.push(format!("  and {} more (--json has all)", moves.len() - MOVES_SHOWN));
    }
    lines.push(format!("carry it out: ternctl shards rebalance --apply {name} --watch"));
    lines
}

/// Moves of a plan that have been made, or were left out.
fn gone(status: &Value) -> f64 {
    number(&status["done"]) + number(&status["left_out"])
}

/// How much of a plan is gone, in so many characters.
fn bar(status: &Value, width: usize) -> String {
    let all = number(&status["moves"]);
    let share = if all > 0.0 { gone(status) / all } else { 1.0 };
    let filled = (share * width as f64) as usize;
    format!("[{}{}]", "#".repeat(filled), "-".repeat(width - filled))
}

/// Seconds that what is left of a plan takes.
fn left_s(status: &Value) -> f64 {
    (number(&status["moves"]) - gone(status)) / number(&status["rate"]).max(0.1)
}

/// How far a plan has come; in these words while it moves.
fn state(status: &Value, moving: String) -> String {
    match status["state"].as_str().unwrap_or("?") {
        "moving" => moving,
        "done" => format!("done in {:.1} s", number(&status["seconds"])),
        other => other.to_owned(),
    }
}

/// A line for what is being carried out.
fn line(status: &Value) -> String {
    if status["state"] == "none" {
        return "nothing was carried out since ternd was started".to_owned();
    }
    let (done, left_out, all) =
        (number(&status["done"]), number(&status["left_out"]), number(&status["moves"]));
    let (bar, pauses, ack) = (bar(status, BAR), &status["pause_us"], &status["ack_p99_us"]);
    let state = match status["state"].as_str() {
        Some("held") => "waits: acknowledgements take long".to_owned(),
        _ => state(status, format!("{}/s  {:.0} s left", status["rate"], left_s(status))),
    };
    let left_out = if left_out > 0.0 { format!("  left out {left_out:.0}") } else { String::new() };
    format!(
        "{bar} {done:.0}/{all:.0}  {state}{left_out}  pause p50 {} p99 {} max {}  ack p99 {} (before {})",
        milliseconds(&pauses["p50"]),
        milliseconds(&pauses["p99"]),
        milliseconds(&pauses["max"]),
        milliseconds(&ack["now"]),
        milliseconds(&ack["before"]),
    )
}

/// The same within a terminal's line, which is written over again and again.
fn short_line(status: &Value) -> String {
    let Some(all) = status["moves"].as_f64() else { return line(status) };
    let (bar, gone) = (bar(status, SHORT_BAR), gone(status));
    let moving = format!("{:.0}/s {:.0} s left", number(&status["rate"]), left_s(status));
    let state = state(status, moving);
    let (pause, ack) = (milliseconds(&status["pause_us"]["p99"]), &status["ack_p99_us"]);
    let (now, before) = (milliseconds(&ack["now"]), milliseconds(&ack["before"]));
    let whole = format!("{bar} {gone:.0}/{all:.0} {state}  pause p99 {pause}  ack p99 {now} ({before})");
    watch::fitted(&whole)
}

/// Characters of the bar in it.
const SHORT_BAR: usize = 8;

/// Shows it until it is over.
fn watch(socket: &Path, json: bool) -> Result<(), AskError> {
    let ask = || asked(socket, &json!({ "ask": "rebalance" }));
    let is_over = |status: &Value| matches!(status["state"].as_str(), Some("done" | "cancelled" | "none"));
    watch::watch(json, ask, is_over, (short_line, line)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_over_again_and_again_fits_in_a_line() {
        for (state, done, ms) in [("moving", 2_047, 99_999_999), ("done", 4_096, 0), ("none", 0, 0)] {
            let moves = if state == "none" { Value::Null } else { json!(4_096) };
            let status = json!({
                "state": state, "moves": moves, "done": done, "left_out": 0, "rate": 1_000.0, "seconds": 409.6,
                "pause_us": { "p50": ms, "p99": ms, "max": ms }, "ack_p99_us": { "now": ms, "before": ms },
            });
            let line = short_line(&status);
            assert!(line.chars().count() <= watch::LINE_MAX, "{line}");
            assert!(state == "none" || line.contains(&format!("{done}/4096")), "{line}");
        }
    }
}
