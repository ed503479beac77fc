//! `ternd restore`: a data directory of a backup.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use jiff::Timestamp;
use serde_json::json;
use tern_storage::embedded::backup::{
    BackupError, Key, Keys, Point, Progress, RestoreOptions, Restored, restore,
};

use crate::files;

/// How often it is said how far it is: on a terminal, and elsewhere.
const SAY_EVERY: Duration = Duration::from_secs(1);
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Make a data directory of a backup, for ternd to be started with
///
/// The new store is what the old one was at the end of the backup, or at the time or group that is named. Clients that were ahead of it
/// take their positions anew, and show what is gone as not delivered. Devices stay logged in; TLS sessions begin anew. Certificates,
/// configuration and audit.jsonl are in no backup.
///
/// Exit codes: 0 done, 1 it could not be restored, 2 the command line is wrong.
#[derive(Args, Clone, Debug)]
pub struct RestoreFlags {
    /// The backup's directory
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// The data directory to be made: it must not be there, or be empty
    #[arg(long, value_name = "NEW")]
    data_dir: PathBuf,
    /// Nothing later than this: a time with its zone (2026-07-30T12:00:00Z), or group:N as `ternctl backup verify` counts them [default: all
    /// that there is]
    #[arg(long, value_name = "TIME|group:N", value_parser = parse_point)]
    to: Option<Point>,
    /// Of this chain [default: the newest with a base]
    #[arg(long, value_name = "N")]
    chain: Option<u32>,
    /// The file of a key under which the backup is encrypted. May be repeated
    #[arg(long, value_name = "FILE")]
    key_file: Vec<PathBuf>,
    /// Disk space that must be free afterwards, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 256 << 20)]
    free_bytes_min: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn parse_point(text: &str) -> Result<Point, String> {
    if let Some(number) = text.strip_prefix("group:") {
        return number.parse().map(Point::Group).map_err(|_| "groups are numbers".to_owned());
    }
    let at: Timestamp =
        text.parse().map_err(|_| "that is no time with its zone, like 2026-07-30T12:00:00Z".to_owned())?;
    u64::try_from(at.as_millisecond()).map(Point::Time).map_err(|_| "that is before 1970".to_owned())
}

/// Why a restore was not done.
#[derive(Debug)]
pub struct RestoreError(String);

impl std::fmt::Display for RestoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl From<BackupError> for RestoreError {
    fn from(error: BackupError) -> Self {
        Self(error.to_string())
    }
}

/// Restores as it is asked for, and says so.
///
/// # Errors
/// Why not. A directory that was begun is not opened by ternd then.
pub fn run(flags: &RestoreFlags) -> Result<(), RestoreError> {
    let dir = &flags.data_dir;
    let io = |path: &Path, error: std::io::Error| RestoreError(format!("{}: {error}", path.display()));
    files::keep_to_owner();
    let keys = flags.key_file.iter().map(|path| Key::read(path).map_err(|error| io(path, error)));
    let keys = keys.collect::<Result<Keys, _>>()?;
    let is_empty = match std::fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
        Err(error) => return Err(io(dir, error)),
    };
    if !is_empty {
        let why = format!("{} is not empty: a restore makes a new one, and touches no other", dir.display());
        return Err(RestoreError(why));
    }
    let options = RestoreOptions {
        from: flags.from.clone(),
        store: dir.join("store"),
        point: flags.to.unwrap_or(Point::Newest),
        chain: flags.chain,
        keys,
        free_bytes_min: flags.free_bytes_min,
    };
    let mut shown = Shown { said: Instant::now(), on_terminal: std::io::stderr().is_terminal() };
    let restored = restore(&options, &mut |progress| shown.note(progress));
    shown.end();
    let restored = restored?;
    let line = if flags.json { as_json(&restored).to_string() } else { as_text(&restored, dir) };
    // Who does not read it has the exit code.
    let _ = writeln!(std::io::stdout(), "{line}");
    Ok(())
}

fn as_json(restored: &Restored) -> serde_json::Value {
    json!({
        "chain": restored.chain, "base": restored.base, "group": restored.group, "time_ms": restored.time_ms,
        "bytes": restored.bytes, "groups": restored.groups,
    })
}

fn as_text(restored: &Restored, dir: &Path) -> String {
    let at = i64::try_from(restored.time_ms).ok().filter(|ms| *ms > 0);
    let at = at.and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let at = at.map_or_else(String::new, |at| format!(", with all that was durable at {at:.3}"));
    format!(
        "restored to group {}{at}: start ternd with --data-dir {}; clients that were ahead go back to what it has",
        restored.group,
        dir.display()
    )
}

/// How far it is, for those who wait.
struct Shown {
    said: Instant,
    on_terminal: bool,
}

impl Shown {
    fn note(&mut self, progress: Progress) {
        let every = if self.on_terminal { SAY_EVERY } else { LOG_EVERY };
        if self.said.elapsed() < every {
            return;
        }
        self.said = Instant::now();
        let mib = |bytes: u64| bytes >> 20;
        let line = format!(
            "files {} of {}, {} of {} MiB, groups {} of {}",
            progress.files.0,
            progress.files.1,
            mib(progress.bytes.0),
            mib(progress.bytes.1),
            progress.groups.0,
            progress.groups.1
        );
        let begin = if self.on_terminal { "\r\x1b[K" } else { "" };
        let end = if self.on_terminal { "" } else { "\n" };
        let _ = write!(std::io::stderr(), "{begin}{line}{end}");
    }

    fn end(&self) {
        if self.on_terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
