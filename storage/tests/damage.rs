//! What becomes of a store whose files are cut, rotten or torn: it opens with everything that was acknowledged, or it
//! says that it is damaged. It never opens with less.

#![allow(clippy::print_stdout, reason = "a failed run is repeated with the seed that it printed")]

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use tern_storage::embedded::{Embedded, EmbeddedOptions, OpenError};
use tern_storage::{Batch, Engine, StoreError, keys};

const GROUPS: u64 = 40;

fn open(path: &Path) -> Result<Embedded, OpenError> {
    Embedded::open(path, EmbeddedOptions::default())
}

fn value(group: u64) -> Vec<u8> {
    format!("value {group} ").into_bytes().repeat(10)
}

/// One group: a batch of two rows.
fn commit(store: &Embedded, group: u64) {
    let mut batch = Batch::default();
    batch.put(keys::user(group), value(group));
    batch.put(keys::user(group + 1_000_000), value(group));
    store.commit_blocking(batch).expect("committed");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("listed") {
        let entry = entry.expect("listed");
        let to = to.join(entry.file_name());
        if entry.file_type().expect("listed").is_dir() {
            copy(&entry.path(), &to);
        } else {
            write(&to, &content(&entry.path()), entry.metadata().expect("there").len());
        }
    }
}

/// A file without the zeros at its end: journals are made longer than what is in them.
fn content(path: &Path) -> Vec<u8> {
    let mut bytes = fs::read(path).expect("read");
    while let Some(end) = bytes.len().checked_sub(4096).filter(|end| bytes[*end..] == [0; 4096]) {
        bytes.truncate(end);
    }
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(end);
    bytes
}

/// Writes a file with so many zeros at its end that it has its length.
fn write(path: &Path, content: &[u8], length: u64) {
    fs::write(path, content).expect("written");
    fs::OpenOptions::new().write(true).open(path).expect("opened").set_len(length).expect("set");
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("listed") {
        let entry = entry.expect("listed");
        if entry.file_type().expect("listed").is_dir() {
            files(&entry.path(), found);
        } else if entry.file_name() != "lock" {
            found.push(entry.path());
        }
    }
}

/// The one file with this ending.
fn only(store: &Path, ending: &str) -> PathBuf {
    let mut found = Vec::new();
    files(store, &mut found);
    found.retain(|path| path.extension().is_some_and(|extension| extension == ending));
    assert_eq!(found.len(), 1, "one .{ending}: {found:?}");
    found.remove(0)
}

fn segment(store: &Path) -> PathBuf {
    only(store, "log")
}

fn journal(store: &Path) -> PathBuf {
    only(store, "jnl")
}

/// How many groups are there, from the first on; each whole or not at all. `None` if a read says that it is damaged.
fn groups(store: &Embedded) -> Option<u64> {
    let get = |user| match store.get_blocking(&keys::user(user)) {
        Ok(value) => Ok(value),
        Err(StoreError::Corrupt { .. } | StoreError::Failed { .. }) => Err(()),
        Err(other) => panic!("a read can't end with {other}"),
    };
    let mut there = 0;
    for group in 1..=GROUPS + 1 {
        let (one, two) = (get(group).ok()?, get(group + 1_000_000).ok()?);
        assert_eq!(one, two, "group {group} is there in part");
        if let Some(found) = one {
            assert_eq!(found, value(group));
            assert_eq!(there, group - 1, "group {group} is there, but not the one before it");
            there = group;
        }
    }
    Some(there)
}

/// A store that was closed in order: everything is in its tables.
fn make_closed(path: &Path) {
    let store = open(path).expect("opens");
    (1..=GROUPS).for_each(|group| commit(&store, group));
}

/// A store as a crash leaves it: everything is in its log, and something in its tables.
fn make_crashed(path: &Path) {
    let running = path.with_extension("running");
    let store = open(&running).expect("opens");
    (1..=GROUPS).for_each(|group| commit(&store, group));
    copy(&running, path);
}

/// Flips a bit anywhere, again and again. Gives how often the damage was told.
fn rot(original: &Path, mostly: &Path, rounds: usize) -> usize {
    let mut found = Vec::new();
    files(original, &mut found);
    found.sort();
    let seed = std::env::var("TERN_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    println!("repeat with TERN_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let (mut refused, mut whole) = (0, 0);
    for round in 0..rounds {
        let rotten = original.with_extension(round.to_string());
        copy(original, &rotten);
        let path = if round % 3 == 0 { found[rng.usize(..found.len())].clone() } else { mostly.to_owned() };
        let mut bytes = content(&path);
        if bytes.is_empty() {
            continue;
        }
        let at = rng.usize(..bytes.len());
        bytes[at] ^= 1 << rng.u8(..8);
        let inside = path.strip_prefix(original).expect("a file of it");
        write(&rotten.join(inside), &bytes, fs::metadata(&path).expect("there").len());
        let place = format!("byte {at} of {}", inside.display());
        match catch_unwind(|| open(&rotten)) {
            Err(_) => panic!("{place}: opening panicked"),
            Ok(Err(error)) => {
                assert!(
                    matches!(error, OpenError::Damaged { .. } | OpenError::Io { .. }),
                    "{place}: {error}"
                );
                refused += 1;
            }
            Ok(Ok(store)) => match groups(&store) {
                Some(there) => {
                    assert_eq!(there, GROUPS, "{place}: acknowledged groups are gone, and nothing was said");
                    whole += 1;
                }
                None => refused += 1,
            },
        }
        fs::remove_dir_all(&rotten).expect("removed");
    }
    println!("{refused} refused, {whole} whole");
    refused
}

#[test]
fn a_byte_that_rots_in_a_closed_store_loses_nothing_silently() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let original = dir.path().join("original");
    make_closed(&original);
    let refused = rot(&original, &journal(&original), 60);
    assert!(refused > 10, "hardly any damage was found");
}

#[test]
fn a_byte_that_rots_after_a_crash_loses_nothing_silently() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let original = dir.path().join("original");
    make_crashed(&original);
    let refused = rot(&original, &segment(&original), 60);
    assert!(refused > 20, "hardly any damage was found");
}

#[test]
fn tables_that_a_crash_left_behind_are_made_whole_from_the_log() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let original = dir.path().join("original");
    make_crashed(&original);
    let (whole, length) =
        (content(&journal(&original)), fs::metadata(journal(&original)).expect("there").len());
    for cut in (0..whole.len()).step_by(whole.len() / 12 + 1) {
        let torn = dir.path().join(cut.to_string());
        copy(&original, &torn);
        write(&journal(&torn), &whole[..cut], length);
        let store = match open(&torn) {
            Ok(store) => store,
            // Its first batch, which was synced, says which layout it has.
            Err(error) if cut < 200 => {
                assert!(matches!(error, OpenError::Damaged { .. } | OpenError::Io { .. }), "{error}");
                continue;
            }
            Err(error) => panic!("cut at {cut}: {error}"),
        };
        assert_eq!(groups(&store), Some(GROUPS), "cut at {cut} of {}", whole.len());
        drop(store);
        assert_eq!(groups(&open(&torn).expect("opens again")), Some(GROUPS));
    }
}

#[test]
fn a_write_torn_anywhere_leaves_the_groups_before_it() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (running, before, original) =
        (dir.path().join("running"), dir.path().join("before"), dir.path().join("original"));
    let store = open(&running).expect("opens");
    (1..=GROUPS).for_each(|group| commit(&store, group));
    copy(&running, &before);
    commit(&store, GROUPS + 1);
    copy(&running, &original);
    drop(store);
    let begin = content(&segment(&before)).len();
    let (whole, length) =
        (content(&segment(&original)), fs::metadata(segment(&original)).expect("there").len());
    let end = whole.len();
    assert!(end > begin, "the log grows with each group");
    for (number, cut) in (begin..=end).step_by(7).chain([end]).enumerate() {
        // The tables, and what is known to be acknowledged, as they were before the last write.
        let torn = dir.path().join(number.to_string());
        copy(&before, &torn);
        // The rest was never written, or the file is not even so long, or all but a few bytes reached the disk.
        let mut hole = whole.clone();
        hole[cut.min(end - 1)..(cut + 16).min(end)].fill(0);
        match number % 3 {
            0 => write(&segment(&torn), &whole[..cut], length),
            1 => write(&segment(&torn), &whole[..cut], cut as u64),
            _ if cut < end => write(&segment(&torn), &hole, length),
            _ => write(&segment(&torn), &whole, length),
        }
        let store = open(&torn).unwrap_or_else(|error| panic!("cut at {cut} of {begin} to {end}: {error}"));
        let there = groups(&store).expect("readable");
        assert_eq!(there, if cut == end { GROUPS + 1 } else { GROUPS }, "cut at {cut} of {begin} to {end}");
        drop(store);
        let store = open(&torn).expect("opens again");
        if there == GROUPS {
            commit(&store, GROUPS + 1);
        }
        assert_eq!(groups(&store), Some(GROUPS + 1), "it goes on after the torn write");
        drop(store);
        fs::remove_dir_all(&torn).expect("removed");
    }
}

#[test]
fn a_log_that_lost_acknowledged_groups_is_said_to_be_damaged() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let original = dir.path().join("original");
    make_crashed(&original);
    let path = segment(&original);
    let (whole, length) = (content(&path), fs::metadata(&path).expect("there").len());
    write(&path, &whole[..whole.len() - 10], length);
    let error = open(&original).expect_err("refused").to_string();
    assert!(
        error.contains("damaged") && error.contains("newest 1 groups that were acknowledged are missing"),
        "{error}"
    );
}

#[test]
fn a_store_of_the_first_layout_is_taken_over() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    make_closed(dir.path());
    // A store of the first layout is one without a log, whose record says so.
    fs::remove_dir_all(dir.path().join("log")).expect("removed");
    {
        let database = fjall::Database::builder(dir.path().join("fjall")).open().expect("opens");
        let rows = database.keyspace("rows", fjall::KeyspaceCreateOptions::default).expect("there");
        // Protobuf: field 1, a varint, 1.
        rows.insert(keys::meta("layout").as_ref(), [8, 1]).expect("written");
        database.persist(fjall::PersistMode::SyncAll).expect("synced");
    }
    let store = open(dir.path()).expect("opens");
    assert_eq!(groups(&store), Some(GROUPS));
    commit(&store, GROUPS + 1);
    drop(store);
    assert_eq!(groups(&open(dir.path()).expect("opens again")), Some(GROUPS + 1));
}
