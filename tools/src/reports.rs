//! `ternctl reports`: what users have told of others.

use std::path::Path;
use std::time::Duration;

use clap::Subcommand;
use serde_json::{Value, json};

use crate::commands::{clean, duration, list, time};
use crate::socket::{AskError, ask};

#[derive(Subcommand)]
pub enum ReportsCommand {
    /// List reports, those of one user together
    List {
        /// Only those that nobody is done with
        #[arg(long)]
        open: bool,
    },
    /// Print all of a report: who, what, and the messages as the reporter saw them. That you looked is noted
    Show {
        /// The report, as `list` names it
        id: String,
    },
    /// Be done with a report. It is removed some time later: limits.reports_kept_ms
    Resolve {
        /// The report, as `list` names it
        id: String,
        /// What came of it, for operators who come after you
        #[arg(long = "as", value_name = "TEXT")]
        how: String,
        /// Suspend who is reported
        #[arg(long)]
        suspend: bool,
        /// For how long: 90s, 30m, 12h, 7d [default: until the user is freed]
        #[arg(long = "for", value_name = "DURATION", requires = "suspend", value_parser = duration)]
        duration: Option<Duration>,
    },
}

/// Does one of these.
pub fn run(socket: &Path, command: ReportsCommand, json: bool) -> Result<(), AskError> {
    match command {
        ReportsCommand::List { open } => {
            let none = if open { "nothing waits for you" } else { "nobody has told anything" };
            list(socket, &json!({ "ask": "reports", "open": open }), json, none, line)
        }
        ReportsCommand::Show { id } => {
            let report = ask(socket, &json!({ "ask": "report", "id": id }))?.next()?;
            if json {
                say!("{report}");
            } else {
                show(&report);
            }
            Ok(())
        }
        ReportsCommand::Resolve { id, how, suspend, duration } => {
            let for_ms = duration.map_or(0, |duration| duration.as_millis() as u64);
            let question = json!({
                "ask": "resolve_report", "id": id, "how": how, "suspend": suspend, "for_ms": for_ms,
            });
            let report = ask(socket, &question)?.next()?;
            let done = if suspend { "suspended, and done with" } else { "done with" };
            say!("{}", if json { report.to_string() } else { done.to_owned() });
            Ok(())
        }
    }
}

fn line(report: &Value) -> String {
    let state = match report["resolved_ms"].as_u64() {
        Some(0) | None => "open".to_owned(),
        Some(_) => format!("done: {}", clean(&report["resolved_as"])),
    };
    let what = match report["strangers"].as_u64() {
        Some(0) | None => format!("{} messages", report["messages"]),
        Some(strangers) => format!("{strangers} strangers"),
    };
    format!(
        "{}  {}  {}, {what}, {state}",
        report["id"].as_str().unwrap_or("?"),
        time(&report["time_ms"]),
        clean(&report["category"])
    )
}

fn show(report: &Value) {
    say!("report {}, {}", report["id"].as_str().unwrap_or("?"), time(&report["time_ms"]));
    say!("user {}, told by {}: {}", report["user_id"], report["by_user_id"], clean(&report["category"]));
    if report["strangers"] != 0 {
        say!("the same text went to {} strangers", report["strangers"]);
    }
    if report["comment"] != "" {
        say!("comment: {}", clean(&report["comment"]));
    }
    if report["group"] != 0 {
        say!("in the group {}", report["group"]);
    }
    for message in report["messages"].as_array().into_iter().flatten() {
        let body = match (&message["text"], &message["hex"]) {
            (Value::String(_), _) => clean(&message["text"]),
            (_, hex) => clean(hex),
        };
        say!("{} {} {}: {body}", message["seq"], time(&message["time_ms"]), clean(&message["kind"]));
    }
    if report["resolved_ms"] != 0 {
        say!("done {}: {}", time(&report["resolved_ms"]), clean(&report["resolved_as"]));
    }
}
