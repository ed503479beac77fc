//! Opening: what the manifest says must be there is looked for, then what the log holds beyond the tables' files is brought
//! into their memory.
//!
//! Nothing is changed on the disk before it is known that nothing is missing, and little after: an opening needs no room.
//! Absence is never taken for "never was": a store is new when there is no trace of an older one.

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use prost::Message as _;

use super::log::{self, Replay};
use super::manifest::{self, Finding, Found, Manifest};
use super::tables::{self, TREES, Tables};
use super::{EmbeddedOptions, LAYOUT, LOG, OpenError, files};
use crate::engine::{Direction, ScanLimit};
use crate::keys::{Key, KeyRange};
use crate::records::NumberRecord;
use crate::slots::{Epoch, SLOTS};

/// What stores of the layouts before this one have: another engine's files.
const OLD_TABLES: &str = "fjall";

/// Layout of those.
const OLD_LAYOUT: u64 = 2;

/// An opened store.
pub(super) struct Recovered {
    pub(super) tables: Tables,
    /// The newest group.
    pub(super) newest: u64,
    /// Groups up to this one are in files.
    pub(super) flushed: u64,
    /// Segments of the log with groups beyond.
    pub(super) segments: usize,
    pub(super) epochs: Vec<Epoch>,
}

/// See the module. `acknowledged`: groups up to this one were promised to be there.
pub(super) fn recover(
    store: &Path,
    options: &EmbeddedOptions,
    acknowledged: u64,
) -> Result<Recovered, OpenError> {
    let io = |error| OpenError::Io { path: store.to_owned(), error };
    if store.join(OLD_TABLES).exists() {
        return Err(OpenError::Layout { path: store.to_owned(), found: OLD_LAYOUT });
    }
    let flushed = match Manifest::read(store).map_err(io)? {
        Found::Whole(manifest) => {
            check(store, &manifest)?;
            manifest.flushed
        }
        Found::Damaged(what) => return Err(lost(store, vec![manifest_finding(store, &what)])),
        Found::Absent if is_new(store, acknowledged).map_err(io)? => {
            begin(store, options)?;
            0
        }
        Found::Absent => return Err(lost(store, vec![manifest_finding(store, "it is missing")])),
    };
    let tables = open_tables(store, options)?;
    let newest = replay(store, &tables, flushed, acknowledged)?;
    let segments = log::count(&store.join(LOG)).map_err(io)?;
    let epochs = read_epochs(store, &tables)?;
    Ok(Recovered { tables, newest, flushed, segments, epochs })
}

fn manifest_finding(store: &Path, what: &str) -> Finding {
    Finding {
        file: store.join(manifest::FILE),
        what: what.to_owned(),
        covers: "without it nobody knows whether the tables are whole".to_owned(),
    }
}

fn lost(store: &Path, findings: Vec<Finding>) -> OpenError {
    OpenError::Damaged { path: store.to_owned(), findings: findings.iter().map(Finding::to_string).collect() }
}

fn check(store: &Path, manifest: &Manifest) -> Result<(), OpenError> {
    if manifest.layout != LAYOUT {
        return Err(OpenError::Layout { path: store.to_owned(), found: manifest.layout });
    }
    let mut findings = Vec::new();
    for tree in &manifest.trees {
        let found = manifest::check_tree(store, tree);
        findings.extend(found.map_err(|error| OpenError::Io { path: store.to_owned(), error })?);
    }
    if findings.is_empty() { Ok(()) } else { Err(lost(store, findings)) }
}

/// Whether there is no trace of an older store but, perhaps, what a first start leaves that did not come to its end:
/// trees without tables.
fn is_new(store: &Path, acknowledged: u64) -> io::Result<bool> {
    let has_log = log::count(&store.join(LOG))? > 0;
    let mut has_tables = false;
    for name in TREES {
        for part in ["tables", "blobs"] {
            has_tables |= !files::paths_in(&tables::tree_path(store, name).join(part))?.is_empty();
        }
    }
    Ok(acknowledged == 0 && !has_log && !has_tables)
}

/// Makes empty trees, and the manifest that says that they are there.
fn begin(store: &Path, options: &EmbeddedOptions) -> Result<(), OpenError> {
    let io = |error| OpenError::Io { path: store.to_owned(), error };
    let path = store.join(tables::DIRECTORY);
    match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
        Ok(()) | Err(_) => {}
    }
    files::make_dir(&path).map_err(io)?;
    let tables = open_tables(store, options)?;
    Manifest::of(store, LAYOUT, 0, &tables).and_then(|manifest| manifest.write(store)).map_err(io)
}

pub(super) fn open_tables(store: &Path, options: &EmbeddedOptions) -> Result<Tables, OpenError> {
    let damaged = |what: String| {
        let finding = Finding {
            file: store.join(tables::DIRECTORY),
            what,
            covers: "all that its tables hold".to_owned(),
        };
        lost(store, vec![finding])
    };
    // The trees assert some of what they read.
    match catch_unwind(AssertUnwindSafe(|| Tables::open(store, options.cache_bytes))) {
        Ok(Ok(tables)) => Ok(tables),
        Ok(Err(lsm_tree::Error::Io(error)))
            if !matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData) =>
        {
            Err(OpenError::Io { path: store.join(tables::DIRECTORY), error })
        }
        Ok(Err(error)) => Err(damaged(tables::reason(&error))),
        Err(_) => Err(damaged("its files contradict themselves".to_owned())),
    }
}

/// Brings what is in the log beyond the tables' files into their memory. Gives the number of the newest group.
fn replay(store: &Path, tables: &Tables, flushed: u64, acknowledged: u64) -> Result<u64, OpenError> {
    let io = |error| OpenError::Io { path: store.to_owned(), error };
    let mut replay = Replay::open(&store.join(LOG), flushed).map_err(io)?;
    let begins = replay.first().unwrap_or(flushed + 1);
    if begins > flushed + 1 {
        let covers = format!("what was acknowledged in the groups {} to {}", flushed + 1, begins - 1);
        return Err(lost(store, vec![log_finding(store, "its first segment is missing", covers)]));
    }
    loop {
        match replay.next_group() {
            Ok(Some((number, ops))) => {
                if number > flushed {
                    tables.write(ops.into_iter());
                }
            }
            Ok(None) => break,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                let covers = "what was acknowledged in that group and later".to_owned();
                return Err(lost(store, vec![log_finding(store, &error.to_string(), covers)]));
            }
            Err(error) => return Err(io(error)),
        }
    }
    let newest = replay.last().unwrap_or(flushed).max(flushed);
    let promised = acknowledged.max(replay.promised().unwrap_or(0));
    if newest < promised {
        let covers = format!(
            "the groups {} to {promised}, which were acknowledged, are not readable from there on",
            newest + 1
        );
        let finding = match replay.place() {
            Some((file, at)) => Finding {
                file: file.to_owned(),
                what: format!("group {} is not whole at byte {at}", newest + 1),
                covers,
            },
            None => log_finding(store, "its segments are missing", covers),
        };
        return Err(lost(store, vec![finding]));
    }
    Ok(newest)
}

fn log_finding(store: &Path, what: &str, covers: String) -> Finding {
    Finding { file: store.join(LOG), what: what.to_owned(), covers }
}

fn read_epochs(store: &Path, tables: &Tables) -> Result<Vec<Epoch>, OpenError> {
    let damaged = |what: String| {
        let file = tables::tree_path(store, TREES[1]);
        lost(store, vec![Finding { file, what, covers: "who owns which slots".to_owned() }])
    };
    let mut epochs = vec![Epoch::default(); usize::from(SLOTS)];
    let all = ScanLimit { rows: usize::MAX, bytes: usize::MAX };
    let range = KeyRange::of_prefix(Key::from_raw(b"s"));
    let rows = tables.scan(&range, Direction::Forwards, all).map_err(|error| damaged(error.to_string()))?;
    for (key, value) in rows.rows {
        let record = NumberRecord::decode(value).map_err(|_| damaged("an epoch's record".to_owned()))?;
        let slot = Key::from_raw(&key).slot().ok_or_else(|| damaged("an epoch's key".to_owned()))?;
        epochs[usize::from(slot.number())] = Epoch(record.number);
    }
    Ok(epochs)
}
