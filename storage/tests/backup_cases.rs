//! What becomes of a backup in situations that worlds seldom come into: disks without room, chains that come to no base, another directory.

#[path = "world/backup.rs"]
#[allow(dead_code, reason = "it serves the worlds as well")]
mod world;

use std::path::PathBuf;

use tern_storage::embedded::Step;
use tern_storage::embedded::backup::{BackupPhase, BackupStatus, Key, Start};
use tern_storage::medium::Medium as _;
use tern_storage::medium::simulated::{Fault, Odds};
use world::{Kind, World};

const SEEDS: std::ops::Range<u64> = 0..24;

/// A world in which nothing goes wrong by itself, with a backup that has a base.
fn backed_up(seed: u64, kind: Kind) -> World {
    let mut world = World::new(seed);
    world.kind = kind;
    back_up(&mut world);
    world
}

/// A store begins, and its backup, until that has a base.
fn back_up(world: &mut World) {
    world.open();
    world.identify();
    world.start(false);
    write(world);
    world.settle();
}

/// Whether there is another base than before.
fn has_another_base(before: &BackupStatus) -> impl Fn(&BackupStatus) -> bool + use<> {
    let number = before.base.expect("it has one").number;
    move |status| status.base.is_some_and(|base| base.number > number)
}

/// Writes something, and has it be in tables.
fn write(world: &mut World) {
    for _ in 0..40 {
        world.submit();
        world.complete();
    }
    for _ in 0..10 {
        for step in [Step::Apply, Step::Flush, Step::Merge] {
            world.step(step);
        }
    }
}

fn status(world: &World) -> BackupStatus {
    world.engine().backup_status()
}

/// Steps of the backup until something is so.
fn until(world: &mut World, what: &str, is_so: impl Fn(&BackupStatus) -> bool) -> BackupStatus {
    for _ in 0..3000 {
        let status = status(world);
        if is_so(&status) {
            return status;
        }
        world.step_backup();
    }
    panic!("{what}: {:#?}", status(world));
}

/// How many bytes the backup's files have.
fn used(world: &World) -> u64 {
    world.target.files().into_iter().map(|(_, bytes)| bytes).sum()
}

/// How many files of trees a chain has.
fn files_of(world: &World, chain: u32) -> usize {
    files_in(world, &format!("/backup/{chain:04}/files"))
}

fn files_in(world: &World, dir: &str) -> usize {
    world.target.files().into_iter().filter(|(path, _)| path.starts_with(dir)).count()
}

/// The disk takes nothing until the chain, which is the one of this number, is given up.
fn give_up(world: &mut World, number: u64) {
    world.set_odds(Odds::POWER_CUTS.with(Fault::NoRoom, 1_000_000));
    for _ in 0..6 {
        write(world);
        world.step_backup();
    }
    until(world, "it is given up", |status| status.broken == number);
    world.set_odds(Odds::POWER_CUTS);
}

fn start_in(world: &World, dir: &str, key: Option<u8>, plain: bool) {
    let key = key.map(|number| (Key::new([number; 32]), PathBuf::from(format!("/key-{number}"))));
    let start = Start { dir: dir.into(), key, plain, rate: 64 << 20, keep: 2, base: false };
    world.engine().start_backup(start).expect("it begins");
}

/// The whole backup was opened anew each time, the log stood still meanwhile, and the chain could be given up for it.
#[test]
fn a_base_for_which_there_is_no_room_does_not_hold_up_the_log() {
    let mut refused = 0;
    for seed in SEEDS {
        let mut world = backed_up(seed, Kind::Crashes);
        let before = status(&world);
        (0..3).for_each(|_| write(&mut world));
        until(&mut world, "the log is archived", |status| status.archived == status.newest);
        world.target.set_capacity_bytes(used(&world) + (10 << 10));
        world.start(true);
        let is_there = has_another_base(&before);
        let told = until(&mut world, "it begins", |status| status.trouble.is_some() || is_there(status));
        if is_there(&told) {
            continue;
        }
        let why = told.trouble.expect("there is some");
        assert!(why.contains("bytes free, and a base waits for"), "{why}");
        refused += 1;
        for _ in 0..4 {
            world.target.set_capacity_bytes(used(&world) + (10 << 10));
            world.submit();
            world.complete();
            let told = until(&mut world, "the log goes on", |status| status.archived == status.newest);
            assert_eq!((told.chain, told.broken, told.phase), (before.chain, 0, BackupPhase::Following));
        }
        world.target.set_capacity_bytes(u64::MAX);
        let told = until(&mut world, "there is room again", is_there);
        assert_eq!((told.trouble, told.chain), (None, before.chain));
        world.check();
    }
    assert!(refused > 12, "there was room for most");
}

/// What it had copied was copied again, and lay there until the next base was complete.
#[test]
fn a_base_that_fails_leaves_nothing_but_what_the_next_one_need_not_copy() {
    let mut reused = 0;
    for seed in SEEDS {
        let mut world = backed_up(seed, Kind::Crashes);
        let before = status(&world);
        write(&mut world);
        world.start(true);
        let copies = |status: &BackupStatus| status.copying.is_some_and(|copying| copying.bytes_done > 0);
        let has_base = has_another_base(&before);
        let began = until(&mut world, "a base is copied", |status| copies(status) || has_base(status));
        if !copies(&began) {
            continue;
        }
        world.target.set_capacity_bytes(used(&world) + 2000);
        let fails = |status: &BackupStatus| status.copying.is_none();
        let told = until(&mut world, "it fails", fails);
        world.target.set_capacity_bytes(u64::MAX);
        if !has_base(&told) {
            assert!(told.trouble.is_some());
            let left = files_of(&world, before.chain);
            world.kill();
            world.open();
            until(&mut world, "it goes on", |status| status.phase == BackupPhase::Following);
            assert_eq!(files_of(&world, before.chain), left, "there was nothing to be removed");
            let again = until(&mut world, "it begins again", |status| copies(status) || has_base(status));
            reused += again.copying.map_or(0, |copying| copying.bytes_reused);
        }
        world.settle();
        assert_eq!(status(&world).broken, 0);
        assert!(world.verify().findings.is_empty());
    }
    assert!(reused > 0, "no base had anything of one that failed");
}

/// It was noticed at each attempt, and each was counted as another chain and made the next wait for ten minutes.
#[test]
fn a_chain_that_is_given_up_while_its_disk_is_dead_is_given_up_once() {
    for seed in SEEDS {
        let mut world = backed_up(seed, Kind::Dead);
        let before = status(&world);
        give_up(&mut world, 1);
        world.set_odds(Odds::POWER_CUTS.with(Fault::NoRoom, 1_000_000));
        for _ in 0..50 {
            world.step_backup();
        }
        assert_eq!(status(&world).broken, 1, "there is one chain");
        world.set_odds(Odds::POWER_CUTS);
        world.settle();
        let after = status(&world);
        assert!(after.broken == 1 && after.chain > before.chain);
        assert_eq!(after.base.map(|base| base.number), Some(1), "one base is enough");
        let chains = world.verify().chains;
        let bases: Vec<_> = chains.iter().map(|chain| chain.bases.len()).collect();
        assert!(bases.iter().all(|bases| *bases == 1), "of both pasts there is one: {bases:?}");
    }
}

/// They lay there until a base was complete, which may have been for want of the room that they took; and what they had of the log was said
/// to be covered.
#[test]
fn chains_without_a_base_cover_nothing_and_go_before_another_one_begins() {
    for seed in SEEDS {
        let mut world = backed_up(seed, Kind::Dead);
        let first = status(&world);
        give_up(&mut world, 1);
        // It has room for a chain's beginning, and for no base.
        world.target.set_capacity_bytes(used(&world) + 3000);
        let next = until(&mut world, "another one begins", |status| status.chain > first.chain);
        assert!(next.base.is_none() && next.covers_ms >= first.covers_ms && next.covers_ms > 0);
        for _ in 0..20 {
            world.step_backup();
            assert_eq!(status(&world).covers_ms, next.covers_ms, "nothing more can be restored");
        }
        world.target.set_capacity_bytes(u64::MAX);
        give_up(&mut world, 2);
        let last = until(&mut world, "a third one begins", |status| status.chain > next.chain);
        assert_eq!(
            files_in(&world, &format!("/backup/{:04}", next.chain)),
            0,
            "nothing can be restored from it"
        );
        assert_eq!(last.covers_ms, next.covers_ms);
        let report =
            until(&mut world, "it has a base", |status| status.copying.is_none() && status.base.is_some());
        assert!(report.covers_ms > next.covers_ms);
        world.settle();
        let chains: Vec<_> = world.verify().chains.iter().map(|chain| chain.chain).collect();
        assert!(chains.ends_with(&[last.chain]) && !chains.contains(&next.chain), "{chains:?}");
    }
}

#[test]
fn what_was_said_of_a_backup_is_not_said_of_the_next_one() {
    for seed in SEEDS {
        let mut world = backed_up(seed, Kind::Operators);
        let before = status(&world);
        assert!(before.covers_ms > 0 && before.base.is_some(), "{before:#?}");
        start_in(&world, "/elsewhere", None, false);
        let after = status(&world);
        assert_eq!(
            (after.dir.to_str(), after.covers_ms, after.base, after.chain),
            (Some("/elsewhere"), 0, None, 0)
        );
        world.engine().stop_backup();
        until(&mut world, "it ends", |status| status.phase == BackupPhase::Off);
        start_in(&world, "/backup/0001", None, false);
        until(&mut world, "it is no directory for a backup", |status| status.trouble.is_some());
        world.engine().stop_backup();
        let ended = until(&mut world, "it ends", |status| status.phase == BackupPhase::Off);
        assert_eq!(ended.trouble, None, "who has ended has no trouble");
    }
}

/// A stop made the store forget that it had been encrypted.
#[test]
fn an_encrypted_backup_does_not_go_on_in_plain_after_a_stop_unless_somebody_says_so() {
    for seed in SEEDS {
        let mut world = World::new(seed);
        (world.kind, world.key) = (Kind::Operators, Some(Key::new([1; 32])));
        back_up(&mut world);
        world.engine().stop_backup();
        until(&mut world, "it ends", |status| status.phase == BackupPhase::Off);
        start_in(&world, "/backup", None, false);
        let told = until(&mut world, "it asks", |status| status.trouble.is_some());
        assert!(told.trouble.is_some_and(|why| why.contains("is encrypted: name its key's file")));
        assert_eq!(world.verify().chains.len(), 1);
        start_in(&world, "/backup", None, true);
        let told = until(&mut world, "it goes on in plain", |status| status.base.is_some());
        assert_eq!((told.key_id, told.chain, told.trouble), (0, 2, None));
    }
}

/// Each base that followed was to have it of an earlier one, and none came to its end.
#[test]
fn a_file_that_has_gone_from_a_backup_is_copied_again() {
    for seed in SEEDS {
        let mut world = backed_up(seed, Kind::Crashes);
        let before = status(&world);
        let dir = format!("/backup/{:04}/files", before.chain);
        let files =
            world.target.files().into_iter().map(|(path, _)| path).filter(|path| path.starts_with(&dir));
        files.for_each(|path| world.target.remove(&path).expect("it is there"));
        world.target.sync_dir(dir.as_ref()).expect("it is there");
        // The one that was told of is let go: nobody can say any more what it was.
        let key = world.key.clone().map(|key| (key, PathBuf::from("/key-1")));
        let start = Start { dir: "/backup".into(), key, plain: false, rate: 64 << 20, keep: 1, base: true };
        world.engine().start_backup(start).expect("it goes on");
        let is_there = has_another_base(&before);
        let after = until(&mut world, "another base is made", is_there);
        assert_eq!((after.trouble, after.broken), (None, 0));
        let report = world.verify();
        let newest = report.chains.last().and_then(|chain| chain.bases.last()).expect("it is there");
        assert!(newest.restores.is_some(), "{report:#?}");
    }
}

/// A backup on the store's own disk went on until commits were refused for want of room.
#[test]
fn where_neither_disk_has_room_the_log_waits_and_commits_do_not() {
    const MIN: u64 = 1 << 20;
    for seed in SEEDS {
        let mut world = World::new(seed);
        (world.kind, world.free_bytes_min) = (Kind::Dead, MIN);
        back_up(&mut world);
        let before = status(&world);
        let stored: u64 = world.source.files().into_iter().map(|(_, bytes)| bytes).sum();
        world.source.set_capacity_bytes(stored + 2 * MIN - 1000);
        world.target.set_capacity_bytes(used(&world) + 2 * MIN - 1000);
        world.submit();
        world.complete();
        let told = until(&mut world, "it says why", |status| status.trouble.is_some());
        assert!(told.trouble.as_ref().is_some_and(|why| why.contains("bytes free")), "{told:#?}");
        write(&mut world);
        until(&mut world, "what it keeps is let go", |status| status.broken == 1);
        for capacity in [&world.source, &world.target] {
            capacity.set_capacity_bytes(u64::MAX);
        }
        world.settle();
        assert!(status(&world).chain > before.chain);
    }
}
