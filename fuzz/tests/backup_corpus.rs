//! Makes the corpus of backups anew: of a small store, after it was begun, with a log behind the base, and with a second base.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tern_storage::embedded::backup::{BackupPhase, Start};
use tern_storage::embedded::{EmbeddedOptions, Step, SteppedEngine};
use tern_storage::medium::SimulatedMedium;
use tern_storage::medium::simulated::Odds;
use tern_storage::records::StoreRecord;
use tern_storage::{Batch, Engine as _, LogId, keys};

struct Store {
    engine: SteppedEngine,
    target: SimulatedMedium,
    now: Duration,
    number: u64,
}

impl Store {
    fn write(&mut self, count: u64) {
        for _ in 0..count {
            self.number += 1;
            let mut batch = Batch::default();
            batch.put(&keys::entry(LogId::direct(1, 2), self.number), b"what was said");
            self.engine.commit_blocking(batch).expect("nothing fails");
        }
        for step in [Step::Apply, Step::Flush, Step::Merge] {
            self.engine.step(step, self.now);
        }
    }

    /// Until it has this base, and all that was written.
    fn back_up(&mut self, base: u32) {
        for _ in 0..1000 {
            let status = self.engine.backup_status();
            let is_there = status.base.is_some_and(|found| found.number == base) && status.copying.is_none();
            if is_there && status.archived == status.newest && status.phase == BackupPhase::Following {
                return;
            }
            self.now += Duration::from_secs(1);
            self.engine.step_backup(self.now, 1_000_000 + self.now.as_millis() as u64);
        }
        panic!("it comes to no end: {:#?}", self.engine.backup_status());
    }

    fn start(&self) {
        let (dir, rate) = ("/backup".into(), 1 << 30);
        let start = Start { dir, key: None, plain: false, rate, keep: 2, base: true };
        self.engine.start_backup(start).expect("it begins");
    }

    fn save(&self, name: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/backup").join(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        fs::write(path, tern_fuzz::backup_input(&self.target)).expect("written");
    }
}

#[test]
#[ignore = "makes the corpus anew"]
fn make_the_corpus() {
    let (source, target) = (SimulatedMedium::new(1, Odds::NONE), SimulatedMedium::new(2, Odds::NONE));
    let options = EmbeddedOptions { flush_bytes: 1, free_bytes_min: 0, ..EmbeddedOptions::default() };
    let engine = SteppedEngine::open(&source, Path::new("store"), options, 1).expect("it opens");
    let mut salts = 0;
    let random = move || {
        salts += 1;
        [salts; 32]
    };
    let mut batch = Batch::default();
    let record = StoreRecord { id: vec![9; 16].into(), generations: vec![1, 2] };
    batch.put(&keys::store_identity(), prost::Message::encode_to_vec(&record));
    engine.commit_blocking(batch).expect("nothing fails");
    engine.serve_backups(&target, Box::new(random), &|_| Err(std::io::ErrorKind::NotFound.into()));
    let mut store = Store { engine, target, now: Duration::ZERO, number: 0 };
    store.write(2);
    store.start();
    store.back_up(1);
    store.save("real-base");
    store.write(3);
    store.back_up(1);
    store.save("real-log");
    store.write(2);
    store.start();
    store.back_up(2);
    store.write(1);
    store.back_up(2);
    store.save("real-two-bases");
}
