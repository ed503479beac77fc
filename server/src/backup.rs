//! Backups of the store, as operators ask for them and are told of them.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};
use tern_storage::embedded::backup::{self as storage, BackupPhase, BackupStatus, Backups, Key, RATE_MIN};

use crate::audit::Audit;

/// Where there is nothing to ask.
pub(crate) const NONE: &str = "this store makes no backups of its own: FoundationDB has fdbbackup, and memory forgets everything anyway";

/// Bytes a second at most: more than disks do.
const RATE_MAX: u64 = 16 << 30;

/// Bases that may be kept.
const KEEP_MAX: u32 = 1000;

/// A backup that has covered nothing new for so long is behind.
const BEHIND_MS: u64 = 120_000;

/// What `backup_start` says.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct Start {
    dir: PathBuf,
    key_file: Option<PathBuf>,
    /// One that was encrypted goes on in plain.
    #[serde(default)]
    plain: bool,
    rate: Option<u64>,
    keep: Option<u32>,
    /// A new base is made though there is one.
    #[serde(default)]
    base: bool,
}

/// Who answers.
pub(crate) struct Desk<'a> {
    pub(crate) backups: &'a Backups,
    pub(crate) audit: &'a Audit,
}

impl Desk<'_> {
    pub(crate) fn start(&self, start: &Start, operator: &str) -> Result<Value, String> {
        let what =
            json!({ "dir": start.dir, "key_file": start.key_file, "rate": start.rate, "base": start.base });
        self.acts(operator, "backup start", &what, || {
            let key = start.key_file.as_deref().map(key_of).transpose()?;
            let rate = start.rate.unwrap_or(storage::RATE);
            let keep = start.keep.unwrap_or(storage::KEEP);
            check_rate(rate)?;
            if !(1..=KEEP_MAX).contains(&keep) {
                return Err(format!("1 to {KEEP_MAX} bases can be kept"));
            }
            let (dir, plain, base) = (start.dir.clone(), start.plain, start.base);
            self.backups.start(storage::Start { dir, key, plain, rate, keep, base })
        })
    }

    pub(crate) fn stop(&self, operator: &str) -> Result<Value, String> {
        self.acts(operator, "backup stop", &json!({}), || self.backups.stop())
    }

    pub(crate) fn set_rate(&self, rate: u64, operator: &str) -> Result<Value, String> {
        self.acts(operator, "backup rate", &json!({ "rate": rate }), || {
            check_rate(rate)?;
            self.backups.set_rate(rate)
        })
    }

    pub(crate) fn status(&self) -> Value {
        to_json(&self.backups.status())
    }

    fn acts(
        &self,
        operator: &str,
        act: &str,
        what: &Value,
        acts: impl FnOnce() -> Result<(), String>,
    ) -> Result<Value, String> {
        let done = acts();
        self.audit.note(operator, act, what, done.as_ref().err().map_or("done", String::as_str));
        done.map(|()| self.status())
    }
}

fn check_rate(rate: u64) -> Result<(), String> {
    if (RATE_MIN..=RATE_MAX).contains(&rate) {
        return Ok(());
    }
    Err(format!("a backup may take {RATE_MIN} to {RATE_MAX} bytes a second"))
}

fn key_of(path: &Path) -> Result<(Key, PathBuf), String> {
    if !path.is_absolute() {
        return Err("the key's file is an absolute path".to_owned());
    }
    let key = Key::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok((key, path.to_owned()))
}

/// What an operator should know at once of a backup.
pub(crate) fn alarm(status: &BackupStatus, now_ms: u64) -> Option<String> {
    if let Some(trouble) = &status.trouble {
        return Some(format!("the backup is in trouble: {trouble}"));
    }
    let behind = status.newest.saturating_sub(status.archived);
    let covers_ms = status.covers_ms;
    let is_behind = behind > 0 && covers_ms > 0 && now_ms.saturating_sub(covers_ms) > BEHIND_MS;
    let seconds = now_ms.saturating_sub(covers_ms) / 1000;
    (is_behind && status.phase != BackupPhase::Off).then(|| format!("the backup is {seconds} s behind"))
}

/// What is told of it.
pub(crate) fn to_json(status: &BackupStatus) -> Value {
    let phase = match status.phase {
        BackupPhase::Off => "off",
        BackupPhase::Opening => "opening",
        BackupPhase::Base => "base",
        BackupPhase::Following => "following",
        BackupPhase::Waiting => "waiting",
        BackupPhase::Stopping => "stopping",
    };
    let copying = status.copying.map(|copying| {
        json!({
            "number": copying.number, "files": copying.files, "files_done": copying.files_done,
            "bytes": copying.bytes, "bytes_done": copying.bytes_done, "bytes_reused": copying.bytes_reused,
        })
    });
    let base = status.base.map(|base| {
        json!({ "number": base.number, "time_ms": base.time_ms, "whole_at": base.whole_at, "bytes": base.bytes })
    });
    json!({
        "phase": phase,
        "dir": status.dir,
        "chain": status.chain,
        "encrypted": status.key_id != 0,
        "key_id": (status.key_id != 0).then(|| format!("{:016x}", status.key_id)),
        "rate": status.rate,
        "archived": status.archived,
        "newest": status.newest,
        "covers_ms": status.covers_ms,
        "kept_bytes": status.kept_bytes,
        "copying": copying,
        "base": base,
        "trouble": status.trouble,
        "failures": status.failures,
        "chains_broken": status.broken,
        "bytes": status.bytes,
    })
}
