//! `ternctl backup`: what ternd does of it is asked for and shown; keys are made, and backups gone through, without ternd.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::{Value, json};
use tern_storage::embedded::backup::{
    BackupError, BaseReport, ChainReport, Key, Keys, Point, RestoreOptions, VerifyOptions, VerifyReport,
    restore, verify,
};
use tern_storage::embedded::check;

use crate::socket::{AskError, ask};
use crate::status::number;
use crate::watch;

/// How often it is looked whether a backup has ended, and for how long.
const ENDING_EVERY: Duration = Duration::from_millis(50);
const ENDING_TIMES: u32 = 600;

/// Columns of the bar.
const BAR: usize = 12;

/// What a status ends with when the first base is not complete yet, or what was asked for is not over.
const NOT_YET: u8 = 3;

#[derive(Subcommand)]
pub enum BackupCommand {
    /// Begin a backup into a directory, or go on with other settings: a copy of the tables, and the log from there on, until it is stopped
    Start(Start),
    /// Show what it is doing. Exit codes: 0 in order, 1 in trouble or off, 3 its first base is not complete yet
    Status {
        /// Show it until a base is complete. Ending this changes nothing
        #[arg(long)]
        watch: bool,
    },
    /// Change how fast it copies
    Rate {
        /// Bytes a second at most: 32M
        #[arg(value_parser = parse_bytes)]
        rate: u64,
    },
    /// Archive what is durable now, and end it. The next start begins a new chain
    Stop,
    /// Make a key for backups, in a file for its owner alone
    Key {
        /// The file, which must not be there yet
        file: PathBuf,
    },
    /// Go through a backup, and say what is not as it was written and what can be restored. It may be written to meanwhile
    Verify(Verify),
}

#[derive(Args)]
pub struct Start {
    /// Where it is to lie: better not on the store's own disk
    dir: PathBuf,
    /// Encrypt it under the key in this file, which ternd reads at each start
    #[arg(long, value_name = "FILE", conflicts_with = "plain")]
    key_file: Option<PathBuf>,
    /// Do not encrypt it, though it was before
    #[arg(long)]
    plain: bool,
    /// Bytes a second at most [default: 32M]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    rate: Option<u64>,
    /// Bases that are kept [default: 2]
    #[arg(long, value_name = "N")]
    keep: Option<u32>,
    /// Make a new base now: of the tables' files only those are copied that are new
    #[arg(long)]
    base: bool,
    /// Show it until a base is complete. Ending this changes nothing
    #[arg(long)]
    watch: bool,
}

#[derive(Args)]
pub struct Verify {
    /// The backup's directory
    dir: PathBuf,
    /// The file of a key under which it is encrypted. May be repeated
    #[arg(long, value_name = "FILE")]
    key_file: Vec<PathBuf>,
    /// This chain alone
    #[arg(long, value_name = "N", conflicts_with = "newest")]
    chain: Option<u32>,
    /// The newest chain alone
    #[arg(long)]
    newest: bool,
    /// Also restore it into this directory, which must not be there yet, go through that, and remove it
    #[arg(long, value_name = "DIR")]
    restore_to: Option<PathBuf>,
}

/// A number of bytes, which may end with K, M or G.
fn parse_bytes(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.strip_suffix(['K', 'M', 'G']) {
        Some(digits) => (
            digits,
            match text.as_bytes().last() {
                Some(b'K') => 10,
                Some(b'M') => 20,
                _ => 30,
            },
        ),
        None => (text, 0),
    };
    let number: u64 = digits.parse().map_err(|_| "a number of bytes, like 33554432 or 32M".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "that is too much".to_owned())
}

/// `ternctl backup`.
pub fn run(socket: &Path, command: BackupCommand, json: bool) -> ExitCode {
    let done = match command {
        BackupCommand::Start(start) => begin(socket, &start, json),
        BackupCommand::Status { watch: true } => watch(socket, json),
        BackupCommand::Status { watch: false } => {
            asked(socket, &json!({ "ask": "backup_status" })).map(|status| {
                show(&status, json);
                code_of(&status)
            })
        }
        BackupCommand::Rate { rate } => {
            asked(socket, &json!({ "ask": "backup_rate", "rate": rate })).map(|status| {
                show(&status, json);
                ExitCode::SUCCESS
            })
        }
        BackupCommand::Stop => stop(socket, json),
        BackupCommand::Key { file } => make_key(&file, json),
        BackupCommand::Verify(how) => return verified(&how, json),
    };
    done.unwrap_or_else(|why| {
        crate::complain(&why);
        ExitCode::FAILURE
    })
}

fn asked(socket: &Path, question: &Value) -> Result<Value, AskError> {
    ask(socket, question)?.next()
}

fn absolute(path: &Path) -> Result<PathBuf, AskError> {
    std::path::absolute(path).map_err(|error| AskError::File(path.to_owned(), error))
}

fn begin(socket: &Path, start: &Start, json: bool) -> Result<ExitCode, AskError> {
    let key_file = start.key_file.as_deref().map(absolute).transpose()?;
    let question = json!({
        "ask": "backup_start", "dir": absolute(&start.dir)?, "key_file": key_file, "plain": start.plain,
        "rate": start.rate, "keep": start.keep, "base": start.base,
    });
    let status = asked(socket, &question)?;
    if status["encrypted"] != true && !json {
        say!("it is not encrypted: whoever reads {} reads the messages in it", text(&status["dir"]));
    }
    if start.watch {
        return watch(socket, json);
    }
    show(&status, json);
    Ok(ExitCode::SUCCESS)
}

fn stop(socket: &Path, json: bool) -> Result<ExitCode, AskError> {
    let mut status = asked(socket, &json!({ "ask": "backup_stop" }))?;
    for _ in 0..ENDING_TIMES {
        if status["phase"] == "off" {
            break;
        }
        thread::sleep(ENDING_EVERY);
        status = asked(socket, &json!({ "ask": "backup_status" }))?;
    }
    show(&status, json);
    Ok(if status["phase"] == "off" { ExitCode::SUCCESS } else { ExitCode::from(NOT_YET) })
}

fn make_key(file: &Path, json: bool) -> Result<ExitCode, AskError> {
    let io = |error| AskError::File(file.to_owned(), error);
    let key = Key::generate().map_err(io)?;
    key.write_new(file).map_err(io)?;
    let id = format!("{:016x}", key.id());
    if json {
        say!("{}", json!({ "file": file, "key_id": id }));
    } else {
        say!("{}: key {id}. Keep a copy elsewhere: without it the backup is worth nothing", file.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

fn code_of(status: &Value) -> ExitCode {
    let is_bad = status["phase"] == "off" || !status["trouble"].is_null();
    match (is_bad, status["base"].is_null()) {
        (true, _) => ExitCode::FAILURE,
        (false, true) => ExitCode::from(NOT_YET),
        (false, false) => ExitCode::SUCCESS,
    }
}

fn bytes(value: &Value) -> String {
    human(number(value))
}

fn human(bytes: f64) -> String {
    let units = [("GiB", f64::from(1 << 30)), ("MiB", f64::from(1 << 20)), ("KiB", 1024.0)];
    let unit = units.iter().find(|(_, unit)| bytes >= *unit);
    unit.map_or_else(|| format!("{bytes:.0} B"), |(name, unit)| format!("{:.1} {name}", bytes / unit))
}

/// A time; `None` if there is none yet.
fn time(ms: &Value) -> Option<String> {
    let at = ms.as_i64().filter(|ms| *ms > 0).and_then(|ms| Timestamp::from_millisecond(ms).ok());
    at.map(|at| format!("{at:.0}"))
}

/// What a chain covers, behind other words.
fn covering(ms: &Value) -> String {
    time(ms).map_or_else(String::new, |at| format!(", with all that was durable at {at}"))
}

fn show(status: &Value, json: bool) {
    if json {
        say!("{status}");
        return;
    }
    lines(status).iter().for_each(|line| say!("{line}"));
}

/// Up to when a store can be restored: without a base a chain restores nothing, and the one before counts.
fn restorable(status: &Value) -> String {
    let covering = covering(&status["covers_ms"]);
    match (status["base"].is_null(), covering.is_empty()) {
        (false, _) => covering,
        (true, true) => ", nothing can be restored yet".to_owned(),
        (true, false) => format!(", restorable from the chain before{covering}"),
    }
}

fn lines(status: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    match text(&status["phase"]) {
        "off" => lines.push("no backup goes on".to_owned()),
        phase => {
            let key = status["key_id"]
                .as_str()
                .map_or_else(|| "not encrypted".to_owned(), |id| format!("key {id}"));
            lines.push(format!("{phase}: {}, chain {}, {key}", text(&status["dir"]), status["chain"]));
            let behind = number(&status["newest"]) - number(&status["archived"]);
            lines.push(format!(
                "log: group {} of {} ({behind:.0} behind){}; {} written",
                status["archived"],
                status["newest"],
                restorable(status),
                bytes(&status["bytes"])
            ));
        }
    }
    if !status["copying"].is_null() {
        lines.push(copying(status));
    }
    if let Some(base) = Some(&status["base"]).filter(|base| !base.is_null()) {
        let (number, size) = (&base["number"], bytes(&base["bytes"]));
        let began = time(&base["time_ms"]).unwrap_or_default();
        lines.push(format!("base {number} of {began}: {size}, restores from group {} on", base["whole_at"]));
    }
    if let Some(trouble) = status["trouble"].as_str() {
        lines.push(format!("in trouble: {trouble}"));
    }
    lines
}

/// How far a base is.
fn copying(status: &Value) -> String {
    let copying = &status["copying"];
    let (all, done) = (number(&copying["bytes"]), number(&copying["bytes_done"]));
    let share = if all > 0.0 { done / all } else { 1.0 };
    let filled = (share * BAR as f64) as usize;
    let left_s = (all - done) / number(&status["rate"]).max(1.0);
    format!(
        "[{}{}] base {} {}/{} files {}/{} {left_s:.0} s left",
        "#".repeat(filled),
        "-".repeat(BAR - filled),
        copying["number"],
        copying["files_done"],
        copying["files"],
        human(done),
        human(all),
    )
}

/// What it is doing, in a terminal's line.
fn short_line(status: &Value) -> String {
    let line = match status["trouble"].as_str() {
        Some(trouble) => format!("in trouble: {trouble}"),
        None if status["copying"].is_null() => lines(status).pop().unwrap_or_default(),
        None => copying(status),
    };
    watch::fitted(&line)
}

/// Shows it until no base is being copied and there is one.
fn watch(socket: &Path, json: bool) -> Result<ExitCode, AskError> {
    let ask = || asked(socket, &json!({ "ask": "backup_status" }));
    let is_over = |status: &Value| {
        status["phase"] == "off"
            || status["phase"] == "following" && status["copying"].is_null() && !status["base"].is_null()
    };
    watch::watch(json, ask, is_over, (short_line, short_line)).map(|status| code_of(&status))
}

/// Goes through a backup, and restores it if that is wanted.
fn verified(how: &Verify, json: bool) -> ExitCode {
    let report = keys(&how.key_file).and_then(|keys| {
        let options =
            VerifyOptions { dir: how.dir.clone(), keys: keys.clone(), chain: how.chain, newest: how.newest };
        let report = verify(&options)?;
        let restored = how.restore_to.as_deref().map(|to| try_restore(how, keys, to)).transpose()?;
        Ok((report, restored))
    });
    match report {
        Ok((report, restored)) => {
            let is_whole = report.findings.is_empty() && restored.as_ref().is_none_or(|found| found.is_ok());
            match json {
                true => say!("{}", as_json(&report, restored.as_ref(), is_whole)),
                false => as_text(&report, restored.as_ref(), is_whole).iter().for_each(|line| say!("{line}")),
            }
            if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            crate::complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn keys(files: &[PathBuf]) -> Result<Keys, BackupError> {
    let read =
        |path: &PathBuf| Key::read(path).map_err(|error| BackupError::Io { path: path.clone(), error });
    files.iter().map(read).collect()
}

/// Restores into a directory, goes through the store there, and removes it. Gives what was found of it, if it is not whole.
fn try_restore(how: &Verify, keys: Keys, to: &Path) -> Result<Result<u64, String>, BackupError> {
    if to.exists() {
        return Err(BackupError::Refused(format!(
            "{} is there already: a restore makes a new one",
            to.display()
        )));
    }
    let options = RestoreOptions {
        from: how.dir.clone(),
        store: to.to_owned(),
        point: Point::Newest,
        chain: how.chain,
        keys,
        free_bytes_min: 0,
    };
    let found = match restore(&options, &mut |_| {}) {
        Err(error @ (BackupError::Refused(_) | BackupError::NoKey { .. })) => return Err(error),
        Err(error) => Err(error.to_string()),
        Ok(restored) => match check::check(to) {
            Ok(report) if report.is_whole() => Ok(restored.group),
            Ok(report) => Err(format!("what is restored of it is not whole: {}", report.findings.join("; "))),
            Err(error) => Err(error.to_string()),
        },
    };
    if to.exists() {
        std::fs::remove_dir_all(to).map_err(|error| BackupError::Io { path: to.to_owned(), error })?;
    }
    Ok(found)
}

fn as_json(report: &VerifyReport, restored: Option<&Result<u64, String>>, is_whole: bool) -> Value {
    let of_chain = |chain: &ChainReport| {
        let base = |base: &BaseReport| json!({ "base": base.base, "time_ms": base.time_ms, "restores": base.restores, "bytes": base.bytes });
        let bases: Vec<_> = chain.bases.iter().map(base).collect();
        json!({
            "chain": chain.chain, "groups": chain.groups, "last": chain.last, "covers_ms": chain.covers_ms,
            "key_id": (chain.key_id != 0).then(|| format!("{:016x}", chain.key_id)), "bases": bases,
        })
    };
    json!({
        "whole": is_whole,
        "findings": report.findings,
        "chains": report.chains.iter().map(of_chain).collect::<Vec<_>>(),
        "bytes": report.bytes,
        "files": report.files,
        "restored_group": restored.and_then(|found| found.as_ref().ok()),
        "restore_failed": restored.and_then(|found| found.as_ref().err()),
    })
}

fn as_text(report: &VerifyReport, restored: Option<&Result<u64, String>>, is_whole: bool) -> Vec<String> {
    let mut lines = report.findings.clone();
    for chain in &report.chains {
        let key =
            if chain.key_id == 0 { "not encrypted".to_owned() } else { format!("key {:016x}", chain.key_id) };
        lines.push(format!(
            "chain {} ({key}): groups up to {}{}",
            chain.chain,
            chain.last,
            covering(&json!(chain.covers_ms))
        ));
        for base in &chain.bases {
            let restores = base.restores.map_or_else(
                || "restores nothing".to_owned(),
                |(first, last)| format!("restores to any group from {first} to {last}"),
            );
            let (number, began) = (base.base, time(&json!(base.time_ms)).unwrap_or_default());
            lines.push(format!("  base {number} of {began}, {}: {restores}", human(base.bytes as f64)));
        }
    }
    match restored {
        Some(Ok(group)) => lines.push(format!("restored to group {group}, and that store is whole")),
        Some(Err(why)) => lines.push(format!("it can't be restored: {why}")),
        None => {}
    }
    lines.push(format!("{} files, {} read", report.files, human(report.bytes as f64)));
    lines.push(
        if is_whole { "nothing is damaged or missing" } else { "not all of it is whole, or could be read" }
            .to_owned(),
    );
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_bytes_are_read_with_their_units() {
        assert_eq!(parse_bytes("512"), Ok(512));
        assert_eq!(parse_bytes("32M"), Ok(32 << 20));
        assert_eq!(parse_bytes("2G"), Ok(2 << 30));
        for bad in ["", "M", "-1", "1T", "99999999999G"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_written_over_again_and_again_fits_in_a_line() {
        let copying = json!({
            "number": 4_000_000, "files": 999_999, "files_done": 999_998, "bytes": u64::MAX, "bytes_done": u64::MAX / 2,
        });
        for (copying, trouble) in [(copying, Value::Null), (Value::Null, json!("x".repeat(300)))] {
            let status = json!({
                "phase": "base", "dir": "/mnt/backup", "chain": 1, "rate": 1_048_576, "archived": 1, "newest": 2,
                "covers_ms": 0, "bytes": 0, "copying": copying, "base": null, "trouble": trouble,
            });
            assert!(short_line(&status).chars().count() <= watch::LINE_MAX);
        }
    }
}
