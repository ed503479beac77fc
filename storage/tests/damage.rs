//! What becomes of a store whose files are cut, rotten, torn or gone: what is damaged is told at the opening, or by the
//! read of just what it covers, or does no harm. What was acknowledged is never missing, old or wrong in silence.

#![allow(clippy::print_stdout, reason = "a failed run is repeated with the seed that it printed")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prost::Message as _;
use tern_storage::embedded::check::{check, salvage};
use tern_storage::embedded::{Embedded, EmbeddedOptions, OpenError};
use tern_storage::records::{ClientMessageRecord, EntryRecord, LogRecord, MemberRecord, UserRecord};
use tern_storage::{
    Batch, Completion, Direction, Engine, KeyRange, LogId, ScanLimit, StoreError, Wake, keys,
};

/// A directory in memory, if the system has one: hundreds of stores are synced again and again, and no power fails here.
fn directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a temporary directory")
}

/// Parts so small that little data makes many files.
fn options() -> EmbeddedOptions {
    EmbeddedOptions {
        flush_bytes: 192 << 10,
        segment_bytes: 256 << 10,
        free_bytes_min: 0,
        cache_bytes: 1 << 20,
        ..EmbeddedOptions::default()
    }
}

fn open(path: &Path) -> Result<Embedded, OpenError> {
    Embedded::open(path, options())
}

/// What a store must hold: by key; `None` for what was removed.
type Model = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

fn commit(store: &Embedded, model: &mut Model, ops: Vec<(tern_storage::Key, Option<Vec<u8>>)>) {
    let mut batch = Batch::default();
    for (key, value) in ops {
        model.insert(key.as_ref().to_vec(), value.clone());
        match value {
            Some(value) => batch.put(&key, value),
            None => batch.delete(&key),
        }
    }
    store.commit_blocking(batch).expect("committed");
}

const LOGS: u64 = 8;

fn log(number: u64) -> LogId {
    LogId::direct(number % LOGS + 1, number % LOGS + 100)
}

fn user(number: u64) -> UserRecord {
    UserRecord { name: format!("user, for the {number}th time"), ..UserRecord::default() }
}

/// Chats: entries of `body_bytes`, with marks that come and go and records that are written again and again.
fn converse(store: &Embedded, model: &mut Model, messages: std::ops::Range<u64>, body_bytes: usize) {
    for number in messages {
        let (log, seq, sender) = (log(number), number / LOGS + 1, number % LOGS + 1);
        let body = format!("message {number} ")
            .into_bytes()
            .into_iter()
            .cycle()
            .take(body_bytes)
            .collect::<Vec<_>>();
        let entry = EntryRecord { seq, sender, body: body.into(), ..EntryRecord::default() };
        let message = ClientMessageRecord { seq, fingerprint: number, ..ClientMessageRecord::default() };
        let member = MemberRecord { read_upto: seq, ..MemberRecord::default() };
        let mut ops = vec![
            (keys::entry(log, seq), Some(entry.encode_to_vec())),
            (keys::client_message(log, sender, 1, seq), Some(message.encode_to_vec())),
            (keys::inbox_mark(sender + 99, 1, log), seq.is_multiple_of(2).then(Vec::new)),
            (keys::member(log, sender), Some(member.encode_to_vec())),
            (keys::user(number % 50 + 1), Some(user(number).encode_to_vec())),
        ];
        if seq == 1 {
            ops.push((keys::log(log), Some(LogRecord::default().encode_to_vec())));
            for member in [sender, sender + 99] {
                ops.push((keys::membership(member, log), Some(Vec::new())));
            }
        }
        commit(store, model, ops);
    }
}

/// The files of a directory with their lengths and times of change, but for those that say nothing of what is stored.
fn files(dir: &Path) -> Vec<(PathBuf, u64, std::time::SystemTime)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("listed") {
        let entry = entry.expect("listed");
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            found.extend(files(&entry.path()));
        } else if entry.file_name() != "lock" {
            found.push((entry.path(), metadata.len(), metadata.modified().expect("a time")));
        }
    }
    found.sort();
    found
}

/// Copies a store, as it is at one moment; files that are never written to again become links.
fn copy(from: &Path, to: &Path, links: bool) {
    loop {
        let before = files(from);
        let _ = fs::remove_dir_all(to);
        let whole = before.iter().try_for_each(|(path, ..)| {
            let target = to.join(path.strip_prefix(from).expect("a file of it"));
            fs::create_dir_all(target.parent().expect("within")).expect("made");
            let is_table = path.components().any(|part| part.as_os_str() == "tables");
            if links && is_table { fs::hard_link(path, target) } else { fs::copy(path, target).map(drop) }
        });
        // What merges and flushes meanwhile changes the list.
        if whole.is_ok() && before == files(from) {
            for dir in ["blobs", "tables"] {
                for tree in ["entries", "rows"] {
                    let _ = fs::create_dir_all(to.join("tables").join(tree).join(dir));
                }
            }
            return;
        }
    }
}

/// A store that was closed in order: everything is in its tables.
fn make_closed(path: &Path, messages: u64, body_bytes: usize) -> Model {
    let mut model = Model::new();
    converse(&open(path).expect("opens"), &mut model, 0..messages, body_bytes);
    model
}

/// A store as a crash leaves it: all of it in its log, or something in its tables.
fn make_killed(path: &Path, messages: u64, body_bytes: usize) -> Model {
    killed_when(path, messages, body_bytes, |_| true)
}

/// The same, when something of it is in its tables.
fn make_killed_with_tables(path: &Path, messages: u64, body_bytes: usize) -> Model {
    killed_when(path, messages, body_bytes, |store| {
        fs::read_dir(store.join("tables/entries/tables")).is_ok_and(|mut tables| tables.next().is_some())
    })
}

fn killed_when(path: &Path, messages: u64, body_bytes: usize, is_ready: fn(&Path) -> bool) -> Model {
    let running = path.with_extension("running");
    let store = open(&running).expect("opens");
    let mut model = Model::new();
    converse(&store, &mut model, 0..messages, body_bytes);
    while !is_ready(&running) {
        std::thread::yield_now();
    }
    copy(&running, path, false);
    model
}

struct Awake(std::thread::Thread);

impl Wake for Awake {
    fn wake(&self) {
        self.0.unpark();
    }
}

type Row = (Vec<u8>, Vec<u8>);

fn scan(store: &Embedded, range: KeyRange) -> Result<Vec<Row>, StoreError> {
    let mut port = store.port(Arc::new(Awake(std::thread::current())));
    let all = ScanLimit { rows: usize::MAX, bytes: usize::MAX };
    port.scan(range, Direction::Forwards, all).expect("taken");
    let mut completions = Vec::new();
    loop {
        port.poll(&mut completions);
        match completions.pop() {
            Some(Completion::Rows { result, .. }) => {
                let owned = |(key, value): (bytes::Bytes, bytes::Bytes)| (key.to_vec(), value.to_vec());
                return result.map(|rows| rows.rows.into_iter().map(owned).collect());
            }
            Some(other) => panic!("nothing else was asked for: {other:?}"),
            None => std::thread::park(),
        }
    }
}

/// How many keys can't be read; all others are as they must be.
///
/// # Panics
/// If anything is missing, old or wrong.
fn verify(store: &Embedded, model: &Model, place: &str) -> usize {
    let mut unreadable = 0;
    for (key, expected) in model {
        let key = tern_storage::Key::from_raw(key);
        match store.get_blocking(&key) {
            Ok(found) => {
                let found = found.map(|value| value.to_vec());
                assert!(
                    found == *expected,
                    "{place}: {} is not what was acknowledged",
                    keys::describe(key.as_ref())
                );
            }
            Err(StoreError::Corrupt { .. }) => unreadable += 1,
            Err(other) => panic!("{place}: a read can't end with {other}"),
        }
    }
    for number in 0..LOGS {
        let range = keys::entries(log(number), 0, u64::MAX);
        let within = |key: &Vec<u8>| key[..] >= *range.start.as_ref() && key[..] < *range.end.as_ref();
        let expected: Vec<_> = model
            .iter()
            .filter(|(key, _)| within(key))
            .filter_map(|(k, v)| Some((k.clone(), v.clone()?)))
            .collect();
        match scan(store, range) {
            Ok(rows) => assert!(rows == expected, "{place}: a chat is not what was acknowledged"),
            Err(StoreError::Corrupt { .. }) => unreadable += 1,
            Err(other) => panic!("{place}: a scan can't end with {other}"),
        }
    }
    unreadable
}

/// One way to damage a file of so many bytes.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Bit(u64),
    Zeros(u64, u64),
    Ones(u64, u64),
    Cut(u64),
    Missing,
}

/// The part of a file that is in use: segments are longer than what is in them.
fn used(path: &Path) -> u64 {
    let bytes = fs::read(path).expect("read");
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1)
}

fn damages(used: u64, rounds: usize, rng: &mut fastrand::Rng) -> Vec<Damage> {
    let mut damages = vec![Damage::Missing, Damage::Cut(0), Damage::Zeros(0, 2 << 20)];
    if used == 0 {
        return damages;
    }
    damages.extend([Damage::Cut(used - 1), Damage::Cut(used / 2), Damage::Bit(0), Damage::Bit(used - 1)]);
    damages.push(Damage::Zeros(used.min(1024), 2 << 20));
    for round in 0..rounds {
        let at = rng.u64(..used);
        let sector = at / 512 * 512;
        damages.push(match round % 6 {
            0 => Damage::Zeros(sector, 512),
            1 => Damage::Ones(sector, 512),
            2 => Damage::Cut(at),
            _ => Damage::Bit(at),
        });
    }
    damages
}

/// Damages a file, which may be a link to one that is to stay as it is.
fn damage(path: &Path, damage: Damage, rng: &mut fastrand::Rng) {
    let bytes = fs::read(path).expect("read");
    fs::remove_file(path).expect("removed");
    if matches!(damage, Damage::Missing) {
        return;
    }
    fs::write(path, &bytes).expect("written");
    let file = fs::OpenOptions::new().write(true).open(path).expect("opened");
    let length = bytes.len() as u64;
    let fill = |at: u64, bytes: u64, with: u8| {
        let bytes = bytes.min(length.saturating_sub(at));
        file.write_all_at(&vec![with; bytes as usize], at).expect("written");
    };
    match damage {
        Damage::Bit(at) => fill(at, 1, bytes.get(at as usize).copied().unwrap_or(0) ^ (1 << rng.u8(..8))),
        Damage::Zeros(at, bytes) => fill(at, bytes, 0),
        Damage::Ones(at, bytes) => fill(at, bytes, 0xff),
        Damage::Cut(at) => file.set_len(at).expect("cut"),
        Damage::Missing => {}
    }
}

#[derive(Default, Debug)]
struct Counts {
    cases: usize,
    /// The opening was refused.
    told: usize,
    /// Some reads were refused.
    covered: usize,
    harmless: usize,
}

/// Damages each file of a store in each way, one at a time.
fn damage_everything(original: &Path, model: &Model, rounds: usize) -> Counts {
    let seed = std::env::var("TERN_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    println!("repeat with TERN_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut counts = Counts::default();
    let work = original.with_extension("damaged");
    for (path, ..) in files(original) {
        let inside = path.strip_prefix(original).expect("a file of it").to_owned();
        for way in damages(used(&path), rounds, &mut rng) {
            copy(original, &work, true);
            damage(&work.join(&inside), way, &mut rng);
            let place = format!("{way:?} of {}", inside.display());
            counts.cases += 1;
            // Going through everything takes its time; which cases it is done for, the seed decides.
            let found = rng.u8(..4) == 0;
            let found = found.then(|| check_and_salvage(&work, model, rng.u8(..4) == 0, &place));
            match catch_unwind(|| open(&work)) {
                Err(_) => panic!("{place}: opening panicked"),
                Ok(Err(OpenError::Damaged { findings, .. })) => {
                    assert!(!findings.is_empty(), "{place}: nothing is said of where");
                    assert!(found != Some(0), "{place}: a start is refused, and a check finds nothing");
                    counts.told += 1;
                }
                Ok(Err(error)) => panic!("{place}: damage is told as {error}"),
                Ok(Ok(store)) => match verify(&store, model, &place) {
                    0 => counts.harmless += 1,
                    _ => {
                        assert!(found != Some(0), "{place}: reads are refused, and a check finds nothing");
                        counts.covered += 1;
                    }
                },
            }
        }
    }
    fs::remove_dir_all(&work).expect("removed");
    println!("{counts:?}");
    counts
}

/// How much a check finds; a salvage finds as much.
fn check_and_salvage(store: &Path, model: &Model, salvages: bool, place: &str) -> usize {
    let report = check(store).unwrap_or_else(|error| panic!("{place}: check says {error}"));
    if salvages {
        check_salvage(store, model, report.findings.len(), place);
    }
    report.findings.len()
}

/// What is not in a salvaged store as it was acknowledged is on the list of what is not; all else is there.
fn check_salvage(damaged: &Path, model: &Model, findings: usize, place: &str) {
    let to = damaged.with_extension("salvaged");
    let report =
        salvage(damaged, &to, options()).unwrap_or_else(|error| panic!("{place}: salvage says {error}"));
    assert_eq!(report.findings.len(), findings, "{place}: check and salvage see the same");
    let store = open(&to).unwrap_or_else(|error| panic!("{place}: the salvaged store says {error}"));
    let differs = |(key, expected): &(&Vec<u8>, &Option<Vec<u8>>)| {
        let found = store.get_blocking(&tern_storage::Key::from_raw(key)).expect("readable");
        found.map(|value| value.to_vec()) != **expected
    };
    let different = model.iter().filter(differs).count();
    assert!(different == 0 || findings > 0, "{place}: {different} rows are not there, and nothing is said");
    drop(store);
    fs::remove_dir_all(&to).expect("removed");
}

/// How many damages of each file beside those that every file gets.
fn rounds() -> usize {
    std::env::var("TERN_DAMAGE_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(2)
}

fn check_damage(make: fn(&Path, u64, usize) -> Model, messages: u64, body_bytes: usize) {
    let dir = directory();
    let original = dir.path().join("original");
    let model = make(&original, messages, body_bytes);
    copy(&original, &dir.path().join("copy"), true);
    assert_eq!(check(&original).expect("checked").findings, [] as [String; 0]);
    check_salvage(&original, &model, 0, "undamaged");
    assert_eq!(verify(&open(&dir.path().join("copy")).expect("opens"), &model, "undamaged"), 0);
    let counts = damage_everything(&original, &model, rounds());
    assert!(counts.told > 0 && counts.covered > 0, "hardly any damage was found: {counts:?}");
}

#[test]
fn damage_to_a_closed_store_of_small_bodies_is_told_or_covered() {
    check_damage(make_closed, 1200, 150);
}

#[test]
fn damage_to_a_closed_store_of_large_bodies_is_told_or_covered() {
    check_damage(make_closed, 60, 60_000);
}

#[test]
fn damage_to_a_killed_store_of_small_bodies_is_told_or_covered() {
    check_damage(make_killed_with_tables, 1200, 150);
}

#[test]
fn damage_to_a_killed_store_of_large_bodies_is_told_or_covered() {
    check_damage(make_killed_with_tables, 60, 60_000);
}

/// A process was killed after its trees had written what is in the log, and before the manifest said so.
#[test]
fn what_a_start_misses_in_a_tree_that_has_gone_on_a_check_misses_too() {
    let dir = directory();
    let [running, store, work] = ["running", "store", "damaged"].map(|name| dir.path().join(name));
    let mut model = Model::new();
    let open_store = open(&running).expect("opens");
    converse(&open_store, &mut model, 0..20, 5_000);
    copy(&running, &store, false);
    drop(open_store);
    fs::remove_dir_all(store.join("tables")).expect("removed");
    copy(&running.join("tables"), &store.join("tables"), false);
    assert_eq!(check(&store).expect("checked").findings, [] as [String; 0]);
    let mut counts = (0, 0);
    for (path, ..) in files(&store.join("tables/entries")) {
        let inside = path.strip_prefix(&store).expect("within");
        let is_blob = inside.starts_with("tables/entries/blobs");
        if !is_blob && !inside.starts_with("tables/entries/tables") {
            continue;
        }
        counts = (counts.0 + u32::from(is_blob), counts.1 + u32::from(!is_blob));
        for way in [Damage::Missing, Damage::Cut(0)] {
            copy(&store, &work, false);
            damage(&work.join(inside), way, &mut fastrand::Rng::with_seed(1));
            let place = format!("{way:?} of {}", inside.display());
            let findings = check(&work).expect("checked").findings;
            assert!(
                findings.iter().any(|finding| finding.contains("tables/entries")),
                "{place}: {findings:?}"
            );
            assert!(matches!(open(&work), Err(OpenError::Damaged { .. })), "{place}: it is not told");
            check_salvage(&work, &model, findings.len(), &place);
        }
    }
    assert!(counts.0 > 0 && counts.1 > 0, "{counts:?}");
    assert_eq!(verify(&open(&store).expect("opens"), &model, "undamaged"), 0);
}

/// The only segment, or the newest.
fn segment(store: &Path) -> PathBuf {
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "log");
    files(store).into_iter().map(|(path, ..)| path).filter(is_segment).max().expect("a segment")
}

#[test]
fn a_write_torn_anywhere_leaves_the_groups_before_it() {
    let dir = directory();
    let [running, before, after] = ["running", "before", "after"].map(|name| dir.path().join(name));
    let mut model = Model::new();
    let store = open(&running).expect("opens");
    converse(&store, &mut model, 0..20, 150);
    copy(&running, &before, false);
    let mut with_last = model.clone();
    converse(&store, &mut with_last, 20..21, 150);
    copy(&running, &after, false);
    drop(store);
    let name = segment(&before).strip_prefix(&before).expect("within").to_owned();
    let (begin, end) = (used(&before.join(&name)), used(&after.join(&name)));
    assert!(end > begin, "the log grows with each group");
    let whole = fs::read(after.join(&name)).expect("read");
    for (number, cut) in (begin..=end).step_by(5).chain([end]).enumerate() {
        // The rest was never written, or the file is not even so long, or all but a few bytes reached the disk.
        let torn = dir.path().join(number.to_string());
        copy(&before, &torn, false);
        let mut bytes = whole.clone();
        match number % 3 {
            0 => bytes[cut as usize..].fill(0),
            1 => bytes.truncate(cut as usize),
            _ => bytes[cut.min(end - 1) as usize..(cut + 16).min(end) as usize].fill(0),
        }
        fs::write(torn.join(&name), &bytes).expect("written");
        let is_whole = bytes.get(..end as usize) == Some(&whole[..end as usize]);
        let place = format!("cut at {cut} of {begin} to {end}");
        let store = open(&torn).unwrap_or_else(|error| panic!("{place}: {error}"));
        let expected = if is_whole { &with_last } else { &model };
        assert_eq!(verify(&store, expected, &place), 0);
        let mut further = expected.clone();
        converse(&store, &mut further, 21..23, 150);
        drop(store);
        assert_eq!(
            verify(&open(&torn).expect("opens again"), &further, &place),
            0,
            "it goes on after the torn write"
        );
        fs::remove_dir_all(&torn).expect("removed");
    }
}

#[test]
fn a_log_that_lost_acknowledged_groups_is_said_to_be_damaged() {
    let dir = directory();
    let original = dir.path().join("original");
    make_killed(&original, 20, 150);
    let path = segment(&original);
    let used = used(&path);
    damage(&path, Damage::Zeros(used - 10, 10), &mut fastrand::Rng::with_seed(1));
    let error = open(&original).expect_err("refused").to_string();
    let name = path.file_name().expect("a name").to_string_lossy().into_owned();
    assert!(error.contains("damaged") && error.contains(&name), "{error}");
    assert!(error.contains("group 20 is not whole at byte") && error.contains("ternctl check"), "{error}");
}

#[test]
fn starts_that_end_at_once_again_and_again_lose_nothing() {
    let dir = directory();
    let mut store = dir.path().join("0");
    let mut model = Model::new();
    for round in 0..12 {
        let running = open(&store).expect("opens");
        assert_eq!(verify(&running, &model, "at the start"), 0);
        converse(&running, &mut model, round * 10..round * 10 + 10, 2000);
        let next = dir.path().join((round + 1).to_string());
        copy(&store, &next, false);
        store = next;
    }
    assert_eq!(verify(&open(&store).expect("opens"), &model, "at the end"), 0);
}

#[test]
fn a_first_start_that_ended_anywhere_is_taken_up_again() {
    let dir = directory();
    let original = dir.path().join("original");
    drop(open(&original).expect("opens"));
    // What a start makes before its manifest, less and less of it.
    fs::remove_file(original.join("manifest")).expect("there");
    let mut found = files(&original);
    while let Some((path, ..)) = found.pop() {
        let again = dir.path().join("again");
        copy(&original, &again, false);
        let mut model = Model::new();
        converse(&open(&again).expect("opens"), &mut model, 0..3, 10);
        assert_eq!(verify(&open(&again).expect("opens again"), &model, "taken up"), 0);
        fs::remove_file(path).expect("removed");
    }
}
