//! Backups as operators see them: keys, a bit that flips, a restore that is refused or was interrupted, exit codes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tern_testkit::person::{Person, people};
use tern_testkit::{Ternd, TerndOptions, program};

fn ternctl(server: &Ternd, arguments: &[&str]) -> Output {
    let mut command = Command::new(program("ternctl"));
    command.arg("--data-dir").arg(server.data_dir()).arg("backup").args(arguments);
    command.output().expect("ternctl runs")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("no JSON: {}", String::from_utf8_lossy(&output.stderr)))
}

fn error_of(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr.clone()).expect("text")
}

/// A server whose backup, under a key if there is one, has a base and a log beyond it, and has ended.
struct World {
    server: Ternd,
    dir: PathBuf,
    keys: Vec<PathBuf>,
}

impl World {
    fn new(encrypted: bool) -> Self {
        let server = Ternd::start(2);
        let dir = server.data_dir().with_file_name("backup");
        let mut world = Self { server, dir, keys: Vec::new() };
        if encrypted {
            world.new_key();
        }
        let [mut ann, bob]: [Person; 2] = people(&world.server);
        // What was said before lies in the tables' files only after a start.
        for number in 0..50 {
            ann.say(bob.user.id, &format!("before {number}"));
        }
        world.server.terminate();
        world.server.start_again();
        world.start(&["--watch"]);
        let mut ann = Person::new(&world.server, ann.user.clone());
        ann.sent = 50;
        for number in 0..50 {
            ann.say(bob.user.id, &format!("after {number}"));
        }
        world
    }

    fn new_key(&mut self) {
        let path = |number: u32| self.dir.with_file_name(format!("key-{number}"));
        let key = (0..).map(path).find(|path| !path.exists()).expect("there are enough numbers");
        let made = ternctl(&self.server, &["key", text(&key)]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        self.keys.push(key);
    }

    fn start(&self, more: &[&str]) {
        let mut arguments = vec!["start", text(&self.dir)];
        if let Some(key) = self.keys.last() {
            arguments.extend(["--key-file", text(key)]);
        }
        arguments.extend(more);
        let started = ternctl(&self.server, &arguments);
        assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
    }

    fn stop(&self) {
        let stopped = ternctl(&self.server, &["stop"]);
        assert!(stopped.status.success(), "{}", String::from_utf8_lossy(&stopped.stderr));
    }

    fn verify(&self, more: &[&str]) -> Output {
        let mut arguments = vec!["verify", text(&self.dir), "--json"];
        self.keys.iter().for_each(|key| arguments.extend(["--key-file", text(key)]));
        arguments.extend(more);
        ternctl(&self.server, &arguments)
    }

    fn restore(&self, to: &Path, more: &[&str]) -> Output {
        let mut restore = Command::new(program("ternd"));
        restore.args(["restore", "--from", text(&self.dir), "--data-dir", text(to)]).args(more);
        for key in &self.keys {
            restore.args(["--key-file", text(key)]);
        }
        restore.output().expect("ternd runs")
    }

    /// All files of the backup.
    fn files(&self) -> Vec<PathBuf> {
        fn all(dir: &Path, found: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(dir).expect("a directory") {
                let path = entry.expect("an entry").path();
                if path.is_dir() { all(&path, found) } else { found.push(path) }
            }
        }
        let mut found = Vec::new();
        all(&self.dir, &mut found);
        found.sort();
        found
    }
}

/// Each file at some places: wherever it is, somebody reads it.
fn a_bit_flipped_anywhere_is_told(encrypted: bool) {
    let world = World::new(encrypted);
    world.stop();
    assert_eq!(json(&world.verify(&[]))["whole"], true);
    let files: Vec<_> = world.files().into_iter().filter(|path| !path.ends_with("lock")).collect();
    assert!(files.len() >= 5, "{files:?}");
    let mut random = fastrand::Rng::with_seed(7);
    for path in files {
        let whole = fs::read(&path).expect("read");
        for round in 0..4 {
            let mut bytes = whole.clone();
            let at = if round == 0 { 0 } else { random.usize(..bytes.len()) };
            bytes[at] ^= 1 << random.u8(..8);
            fs::write(&path, &bytes).expect("written");
            let verified = world.verify(&[]);
            assert_eq!(verified.status.code(), Some(1), "byte {at} of {}", path.display());
        }
        fs::write(&path, &whole[..whole.len() - 1]).expect("written");
        assert_eq!(world.verify(&[]).status.code(), Some(1), "the end of {}", path.display());
        fs::write(&path, &whole).expect("written");
    }
    assert_eq!(json(&world.verify(&[]))["whole"], true);
}

#[test]
fn a_bit_flipped_anywhere_in_a_backup_is_told_by_verify() {
    a_bit_flipped_anywhere_is_told(false);
}

#[test]
fn a_bit_flipped_anywhere_in_an_encrypted_backup_is_told_by_verify() {
    a_bit_flipped_anywhere_is_told(true);
}

#[test]
fn an_encrypted_backup_says_nothing_of_what_was_said_and_a_wrong_key_is_no_damage() {
    let mut world = World::new(true);
    world.stop();
    for path in world.files() {
        let bytes = fs::read(&path).expect("read");
        let said = bytes.windows(6).any(|part| part == b"before" || part == b"after ");
        assert!(!said, "{} can be read", path.display());
    }
    let key = world.keys.pop().expect("a key");
    let without = world.verify(&[]);
    assert_eq!(without.status.code(), Some(1));
    let found = json(&without)["findings"].to_string();
    assert!(found.contains("--key-file") && !found.contains("damaged"), "{found}");
    let to = world.dir.with_file_name("restored");
    assert!(error_of(&world.restore(&to, &[])).contains("--key-file"));
    world.new_key();
    assert!(error_of(&world.restore(&to, &[])).contains("--key-file"));
    assert!(!to.join("store").exists(), "nothing was begun");
    world.keys.push(key);
    assert!(world.restore(&to, &[]).status.success());
}

#[test]
fn a_key_is_its_owners_alone_and_another_one_begins_a_chain() {
    let mut world = World::new(true);
    let mode = fs::metadata(&world.keys[0]).expect("made").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(error_of(&ternctl(&world.server, &["key", text(&world.keys[0])])).contains("exists"));
    let plain = ternctl(&world.server, &["start", text(&world.dir)]);
    assert!(error_of(&plain).contains("encrypted"), "it does not go on in plain by mistake");
    world.new_key();
    world.start(&["--watch"]);
    let status = json(&ternctl(&world.server, &["status", "--json"]));
    assert_eq!(status["chain"], 2);
    let verified = json(&world.verify(&[]));
    assert_eq!(verified["whole"], true, "{verified}");
    assert_eq!(verified["chains"].as_array().map(Vec::len), Some(2));
    fs::set_permissions(&world.keys[1], fs::Permissions::from_mode(0o644)).expect("set");
    assert!(String::from_utf8_lossy(&world.verify(&[]).stderr).contains("chmod 600"));
}

#[test]
fn a_restore_touches_no_directory_that_is_not_empty_and_one_that_was_interrupted_is_not_opened() {
    let world = World::new(false);
    world.stop();
    let to = world.dir.with_file_name("restored");
    fs::create_dir(&to).expect("made");
    fs::write(to.join("mine"), "mine").expect("written");
    assert!(error_of(&world.restore(&to, &[])).contains("is not empty"));
    assert_eq!(fs::read_dir(&to).expect("there").count(), 1);
    fs::remove_file(to.join("mine")).expect("removed");

    let log = world.files().into_iter().find(|path| path.parent().is_some_and(|dir| dir.ends_with("log")));
    let log = log.expect("there is a log");
    let whole = fs::read(&log).expect("read");
    fs::write(&log, &whole[..whole.len() / 2]).expect("written");
    assert!(error_of(&world.restore(&to, &[])).contains("is damaged"));
    let data = std::sync::Arc::new(tempfile::tempdir().expect("a directory"));
    fs::rename(&to, data.path().join("data")).expect("moved");
    let why = Ternd::fail_to_start(TerndOptions::default(), &data, "127.0.0.1:0");
    assert!(why.contains("did not come to its end"), "{why}");

    fs::write(&log, &whole).expect("written");
    for (point, why) in [
        ("group:99999999", "can't be restored"),
        ("2999-01-01T00:00:00Z", "later than what it holds"),
        ("1999-01-01T00:00:00Z", "earlier than all"),
    ] {
        let refused = world.restore(&to, &["--to", point]);
        assert!(error_of(&refused).contains(why), "{point}: {}", error_of(&refused));
    }
    assert_eq!(world.restore(&to, &["--to", "yesterday"]).status.code(), Some(2));
    let done = world.restore(&to, &[]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(String::from_utf8_lossy(&done.stdout).contains("start ternd with --data-dir"));
    let checked = Command::new(program("ternctl")).arg("check").arg(&to).output().expect("ternctl runs");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

#[test]
fn verify_restores_into_a_directory_that_it_leaves_as_it_was() {
    let world = World::new(false);
    let to = world.dir.with_file_name("scratch");
    let verified = world.verify(&["--newest", "--restore-to", text(&to)]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    let found = json(&verified);
    assert!(
        found["restored_group"].as_u64() >= found["chains"][0]["bases"][0]["restores"][0].as_u64(),
        "{found}"
    );
    assert!(!to.exists());
    fs::create_dir(&to).expect("made");
    assert_eq!(world.verify(&["--restore-to", text(&to)]).status.code(), Some(1));
    assert!(to.exists(), "what is there is not removed");
}

#[test]
fn status_and_stop_say_by_their_exit_codes_how_it_is() {
    let world = World::new(false);
    let status = ternctl(&world.server, &["status"]);
    assert_eq!(status.status.code(), Some(0));
    let shown = String::from_utf8_lossy(&status.stdout).into_owned();
    for part in ["following", "chain 1", "not encrypted", "base 1"] {
        assert!(shown.contains(part), "{shown}");
    }
    assert!(shown.lines().all(|line| !line.contains("trouble")), "{shown}");
    assert_eq!(ternctl(&world.server, &["rate", "64M"]).status.code(), Some(0));
    assert_eq!(json(&ternctl(&world.server, &["status", "--json"]))["rate"], 64 << 20);
    assert_eq!(ternctl(&world.server, &["rate", "1"]).status.code(), Some(1));
    assert_eq!(ternctl(&world.server, &["rate", "fast"]).status.code(), Some(2));
    world.stop();
    assert_eq!(ternctl(&world.server, &["status"]).status.code(), Some(1));
    let audit = fs::read_to_string(world.server.data_dir().join("audit.jsonl")).expect("kept");
    for act in ["backup start", "backup rate", "backup stop"] {
        assert!(audit.contains(act), "{audit}");
    }
}
