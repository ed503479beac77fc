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

fn journal(store: &Path) -> PathBuf {
    let mut found = Vec::new();
    files(store, &mut found);
    found.retain(|path| path.extension().is_some_and(|extension| extension == "jnl"));
    assert_eq!(found.len(), 1, "one journal: {found:?}");
    found.remove(0)
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

fn make(path: &Path) {
    let store = open(path).expect("opens");
    (1..=GROUPS).for_each(|group| commit(&store, group));
}

#[test]
fn a_byte_that_rots_anywhere_loses_nothing_silently() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let original = dir.path().join("original");
    make(&original);
    let mut found = Vec::new();
    files(&original, &mut found);
    found.sort();
    let seed = std::env::var("TERN_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    println!("repeat with TERN_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let (mut refused, mut whole) = (0, 0);
    for round in 0..120 {
        let rotten = dir.path().join(round.to_string());
        copy(&original, &rotten);
        // Most of it lies in the journal.
        let path = if round % 3 == 0 { found[rng.usize(..found.len())].clone() } else { journal(&original) };
        let mut bytes = content(&path);
        if bytes.is_empty() {
            continue;
        }
        let at = rng.usize(..bytes.len());
        bytes[at] ^= 1 << rng.u8(..8);
        let inside = path.strip_prefix(&original).expect("a file of it");
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
    assert!(refused > 20, "hardly any damage was found");
}

#[test]
fn a_write_torn_anywhere_leaves_the_groups_before_it() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let original = dir.path().join("original");
    make(&original);
    let acknowledged = fs::read(original.join("acknowledged")).expect("read");
    let begin = content(&journal(&original)).len();
    commit(&open(&original).expect("opens"), GROUPS + 1);
    let (whole, length) =
        (content(&journal(&original)), fs::metadata(journal(&original)).expect("there").len());
    let end = whole.len();
    assert!(end > begin, "the journal grows with each group");
    for (number, cut) in (begin..=end).step_by(7).chain([end]).enumerate() {
        let torn = dir.path().join(number.to_string());
        copy(&original, &torn);
        fs::write(torn.join("acknowledged"), &acknowledged).expect("written");
        // The rest was never written, or the file was not even made so long, or all but a few bytes reached the disk.
        let mut hole = whole.clone();
        hole[cut.min(end - 1)..(cut + 16).min(end)].fill(0);
        match number % 3 {
            0 => write(&journal(&torn), &whole[..cut], length),
            1 => write(&journal(&torn), &whole[..cut], cut as u64),
            _ if cut < end => write(&journal(&torn), &hole, length),
            _ => {}
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
fn a_journal_that_lost_acknowledged_groups_is_said_to_be_damaged() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    make(dir.path());
    let path = journal(dir.path());
    let (whole, length) = (content(&path), fs::metadata(&path).expect("there").len());
    write(&path, &whole[..whole.len() - 10], length);
    let error = open(dir.path()).expect_err("refused").to_string();
    assert!(
        error.contains("damaged") && error.contains("newest 1 groups that were acknowledged are missing"),
        "{error}"
    );
}
