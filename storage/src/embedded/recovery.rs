//! Opening: what the manifest says must be there is looked for, then what the log holds beyond the tables' files is brought
//! into their memory.
//!
//! Nothing is changed on the disk before it is known that nothing is missing, and little after: an opening needs no room. What
//! it found is made durable then, for the process that wrote it may have ended before it did that: what is read must stay.
//! Absence is never taken for "never was": a store is new when there is no trace of an older one.

use std::io;
use std::path::Path;

use prost::Message as _;

use super::log::{self, Replay};
use super::manifest::{self, Finding, Found, Manifest};
use super::tables::{self, TREES, Tables, TablesError};
use super::{EmbeddedOptions, LAYOUT, LOG, OpenError, RESTORING};
use crate::engine::{Direction, ScanLimit};
use crate::keys::{Key, KeyRange};
use crate::medium::Medium;
use crate::mutations::{self, Mutation};
use crate::records::NumberRecord;
use crate::slots::{Epoch, SLOTS};

/// What stores of the layouts before this one have: another engine's files.
const OLD_TABLES: &str = "fjall";

/// Layout of those.
const OLD_LAYOUT: u64 = 2;

/// An opened store.
pub(super) struct Recovered<T> {
    pub(super) tables: T,
    /// The newest group.
    pub(super) newest: u64,
    /// Groups up to this one are in files.
    pub(super) flushed: u64,
    /// Segments of the log with groups beyond.
    pub(super) segments: usize,
    pub(super) epochs: Vec<Epoch>,
}

/// See the module. `acknowledged`: groups up to this one were promised to be there.
pub(super) fn recover<T: Tables>(
    medium: &T::Medium,
    store: &Path,
    options: &EmbeddedOptions,
    acknowledged: u64,
) -> Result<Recovered<T>, OpenError> {
    let io = |error| OpenError::Io { path: store.to_owned(), error };
    if medium.exists(&store.join(RESTORING)) {
        return Err(OpenError::Unfinished { path: store.to_owned() });
    }
    if medium.exists(&store.join(OLD_TABLES)) {
        return Err(OpenError::Layout { path: store.to_owned(), found: OLD_LAYOUT });
    }
    let flushed = match Manifest::read(medium, store).map_err(io)? {
        Found::Whole(manifest) => {
            // Before the trees remove what `current` does not name any more: it might be the one before again.
            if !mutations::is(Mutation::OpenBeforeSync) {
                sync_names(medium, store).map_err(io)?;
            }
            check(medium, store, &manifest)?;
            manifest.flushed
        }
        Found::Damaged(what) => return Err(lost(store, vec![manifest_finding(store, &what)])),
        Found::Absent if is_new(medium, store, acknowledged).map_err(io)? => {
            begin::<T>(medium, store, options)?;
            0
        }
        Found::Absent => return Err(lost(store, vec![manifest_finding(store, "it is missing")])),
    };
    let tables: T = open_tables(medium, store, options)?;
    let newest = replay(medium, store, &tables, flushed, acknowledged)?;
    if mutations::is(Mutation::OpenBeforeSync) {
        sync_names(medium, store).map_err(io)?;
    }
    // Those before are there for a backup alone.
    let segments = log::beyond(&log::list(medium, &store.join(LOG)).map_err(io)?, flushed);
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

fn check<M: Medium>(medium: &M, store: &Path, manifest: &Manifest) -> Result<(), OpenError> {
    if manifest.layout != LAYOUT {
        return Err(OpenError::Layout { path: store.to_owned(), found: manifest.layout });
    }
    let mut findings = Vec::new();
    for tree in &manifest.trees {
        let found = manifest::check_tree(medium, store, tree);
        findings.extend(found.map_err(|error| OpenError::Io { path: store.to_owned(), error })?);
    }
    if findings.is_empty() { Ok(()) } else { Err(lost(store, findings)) }
}

/// Whether there is no trace of an older store but, perhaps, what a first start leaves that did not come to its end:
/// trees without tables.
fn is_new<M: Medium>(medium: &M, store: &Path, acknowledged: u64) -> io::Result<bool> {
    let has_log = !log::list(medium, &store.join(LOG))?.is_empty();
    let mut has_tables = false;
    for name in TREES {
        for part in tables::PARTS {
            has_tables |= !medium.list(&tables::tree_path(store, name).join(part))?.is_empty();
        }
    }
    Ok(acknowledged == 0 && !has_log && !has_tables)
}

/// Makes empty trees, and the manifest that says that they are there.
fn begin<T: Tables>(medium: &T::Medium, store: &Path, options: &EmbeddedOptions) -> Result<(), OpenError> {
    let io = |error| OpenError::Io { path: store.to_owned(), error };
    let path = store.join(tables::DIRECTORY);
    medium.remove_dir(&path).map_err(io)?;
    medium.make_dir(&path).map_err(io)?;
    let tables: T = open_tables(medium, store, options)?;
    Manifest::of(LAYOUT, 0, &tables).and_then(|manifest| manifest.write(medium, store)).map_err(io)
}

fn open_tables<T: Tables>(
    medium: &T::Medium,
    store: &Path,
    options: &EmbeddedOptions,
) -> Result<T, OpenError> {
    T::open(medium, store, options.cache_bytes).map_err(|error| match error {
        error if error.is_damage() => {
            let finding = Finding {
                file: store.join(tables::DIRECTORY),
                what: error.to_string(),
                covers: "all that its tables hold".to_owned(),
            };
            lost(store, vec![finding])
        }
        TablesError::Io(error) => OpenError::Io { path: store.join(tables::DIRECTORY), error },
        TablesError::Damaged(_) => unreachable!("that is damage"),
    })
}

/// Brings what is in the log beyond the tables' files into their memory. Gives the number of the newest group.
fn replay<T: Tables>(
    medium: &T::Medium,
    store: &Path,
    tables: &T,
    flushed: u64,
    acknowledged: u64,
) -> Result<u64, OpenError> {
    let io = |error| OpenError::Io { path: store.to_owned(), error };
    let mut replay = Replay::open(medium, &store.join(LOG), flushed).map_err(io)?;
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
    if newest < promised && !mutations::is(Mutation::TakeDamageForEnd) {
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
    replay.make_durable().map_err(io)?;
    Ok(newest)
}

/// Has the names that were found be there after a power cut too: the process that gave them may have ended before it synced
/// their directories, and what comes builds on them.
fn sync_names<M: Medium>(medium: &M, store: &Path) -> io::Result<()> {
    if mutations::is(Mutation::TrustWhatIsRead) {
        return Ok(());
    }
    let trees = TREES.map(|name| tables::tree_path(store, name));
    let parts = trees.iter().flat_map(|tree| tables::PARTS.map(|part| tree.join(part)));
    let dirs = [store.to_owned(), store.join(LOG), store.join(tables::DIRECTORY)];
    let dirs = dirs.into_iter().chain(parts).chain(trees.iter().cloned());
    dirs.filter(|dir| medium.exists(dir)).try_for_each(|dir| medium.sync_dir(&dir))
}

fn log_finding(store: &Path, what: &str, covers: String) -> Finding {
    Finding { file: store.join(LOG), what: what.to_owned(), covers }
}

fn read_epochs<T: Tables>(store: &Path, tables: &T) -> Result<Vec<Epoch>, OpenError> {
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
