//! Going through a backup: whether each file is what was written, and what can be restored from it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use prost::Message as _;

use super::chain::{Backups, Chain};
use super::error::BackupError;
use super::key::Keys;
use super::records::{BaseRecord, HEAD, Item, StoredFile};
use super::restore::read_file;
use crate::batch::all_ops;
use crate::medium::{Disk, Medium, SimulatedMedium};

/// How often the log is read anew because a backup that goes on has let its beginning go meanwhile.
const READINGS_MAX: usize = 3;

/// What is gone through.
#[derive(Clone, Debug)]
pub struct VerifyOptions {
    /// The backup's directory.
    pub dir: PathBuf,
    /// The keys that there are.
    pub keys: Keys,
    /// This chain alone; `None`: all of them.
    pub chain: Option<u32>,
    /// The newest chain alone.
    pub newest: bool,
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct VerifyReport {
    /// What is not as it was written, a sentence each.
    pub findings: Vec<String>,
    /// What there is.
    pub chains: Vec<ChainReport>,
    /// Bytes and files that were read.
    pub bytes: u64,
    /// See `bytes`.
    pub files: usize,
}

/// A chain.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ChainReport {
    /// Its number.
    pub chain: u32,
    /// What names its key; 0 if it is not encrypted.
    pub key_id: u64,
    /// The groups of its log that are there and whole: the first and the last. The last is less than the first if there are none.
    pub groups: (u64, u64),
    /// Its newest group, as its head says.
    pub last: u64,
    /// It holds all that was durable at this time, in ms since the Unix epoch.
    pub covers_ms: u64,
    /// Its bases.
    pub bases: Vec<BaseReport>,
}

/// A base.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BaseReport {
    /// Its number.
    pub base: u32,
    /// When it was begun, in ms since the Unix epoch.
    pub time_ms: u64,
    /// The groups to which the store can be restored from it; `None`: to none.
    pub restores: Option<(u64, u64)>,
    /// Bytes of its files.
    pub bytes: u64,
}

/// Goes through a backup on this machine's disk. One that goes on may be gone through meanwhile.
///
/// # Errors
/// If it can't be read at all.
pub fn verify(options: &VerifyOptions) -> Result<VerifyReport, BackupError> {
    verify_on(&Disk, options)
}

/// The same, on a simulated medium.
pub fn verify_simulated(
    medium: &SimulatedMedium,
    options: &VerifyOptions,
) -> Result<VerifyReport, BackupError> {
    verify_on(medium, options)
}

fn verify_on<M: Medium>(medium: &M, options: &VerifyOptions) -> Result<VerifyReport, BackupError> {
    let backups = Backups::open(medium, &options.dir, &options.keys)?;
    let mut chains = backups.chains()?;
    if let Some(chain) = options.chain {
        chains.retain(|number| *number == chain);
    } else if options.newest {
        chains.drain(..chains.len().saturating_sub(1));
    }
    if chains.is_empty() {
        return Err(BackupError::Refused(format!("{} has no such chain", options.dir.display())));
    }
    let mut report = VerifyReport::default();
    let newest = chains.last().copied();
    for number in chains {
        let dir = super::chain::chain_path(&options.dir, number);
        let has_no_base = has_no_base(medium, &dir)?;
        match backups.chain(number) {
            // A chain before the newest that is being removed.
            Ok(_) if has_no_base && Some(number) != newest => {}
            Ok(chain) => Verifying { medium, chain, report: &mut report }.run(),
            // One that did not come to its beginning.
            Err(_) if has_no_base && !medium.exists(&dir.join(HEAD)) => {}
            Err(error) => report.findings.push(error.to_string()),
        }
    }
    Ok(report)
}

fn has_no_base<M: Medium>(medium: &M, chain: &Path) -> Result<bool, BackupError> {
    let bases = super::chain::base_numbers(medium, chain, false);
    bases.map(|bases| bases.is_empty()).map_err(|error| BackupError::io(chain, error))
}

struct Verifying<'a, M: Medium> {
    medium: &'a M,
    chain: Chain<'a, M>,
    report: &'a mut VerifyReport,
}

impl<M: Medium> Verifying<'_, M> {
    fn finds(&mut self, error: &BackupError) {
        self.report.findings.push(error.to_string());
    }

    fn run(mut self) {
        let bases = self.bases();
        let groups = self.log(&bases);
        let mut found = Vec::new();
        let mut seen = BTreeSet::new();
        for base in &bases {
            let is_whole = self.files(base, &mut seen);
            let restores = (base.whole_at.max(groups.0.saturating_sub(1)), groups.1);
            let follows = base.flushed + 1 >= groups.0 && restores.0 <= restores.1;
            if !follows {
                let (number, whole_at) = (base.number, base.whole_at);
                self.report.findings.push(format!(
                    "base {number} of chain {} is of no use: the log does not go on from group {} to {whole_at}",
                    self.chain.head.chain,
                    base.flushed + 1
                ));
            }
            found.push(BaseReport {
                base: base.number,
                time_ms: base.time_ms,
                restores: Some(restores).filter(|_| is_whole && follows),
                bytes: base.bytes(),
            });
        }
        let head = &self.chain.head;
        self.report.chains.push(ChainReport {
            chain: head.chain,
            key_id: self.chain.key_id,
            groups,
            last: head.last,
            covers_ms: head.covers_ms,
            bases: found,
        });
    }

    /// Its bases, rising, as far as their manifests can be read.
    fn bases(&mut self) -> Vec<BaseRecord> {
        let numbers = match self.chain.base_numbers(false) {
            Ok(numbers) => numbers,
            Err(error) => {
                self.finds(&error);
                return Vec::new();
            }
        };
        let mut bases = Vec::new();
        for number in &numbers {
            match self.chain.base(*number) {
                Ok(base) => bases.push(base),
                // A newer one was made meanwhile, and this one let go.
                Err(_) if !self.medium.exists(&super::base::path(&self.chain.dir, *number)) => {}
                Err(error) => self.finds(&error),
            }
        }
        let named = self.chain.head.base;
        if named != 0 && numbers.last().is_none_or(|newest| *newest < named) {
            let what = format!("base {named}, which its head names, is missing");
            self.report.findings.push(format!("{}: {what}", self.chain.dir.display()));
        }
        bases
    }

    /// Goes through the log. Gives which groups are there, without a gap, up to the chain's end or to damage.
    fn log(&mut self, bases: &[BaseRecord]) -> (u64, u64) {
        let mut from = bases.iter().map(|base| base.flushed + 1).min().unwrap_or(self.chain.head.first);
        for reading in 1.. {
            let (mut last, mut time) = (from - 1, 0);
            let read = self.read_log(from, &mut last, &mut time);
            let Err(error) = read else { return (from, last) };
            let oldest = self.bases_now().map(|base| base.flushed + 1);
            match oldest.filter(|oldest| *oldest > from && reading < READINGS_MAX) {
                Some(oldest) => from = oldest,
                None => {
                    self.finds(&error);
                    let head = &self.chain.head;
                    if last < head.last {
                        let lost =
                            format!("the groups {} to {} of chain {}", last + 1, head.last, head.chain);
                        self.report.findings.push(format!("{lost} can't be restored"));
                    }
                    return (from, last);
                }
            }
        }
        unreachable!("it ends after some readings")
    }

    fn bases_now(&self) -> Option<BaseRecord> {
        let numbers = self.chain.base_numbers(false).ok()?;
        numbers.into_iter().filter_map(|number| self.chain.base(number).ok()).next()
    }

    fn read_log(&mut self, from: u64, last: &mut u64, time: &mut u64) -> Result<(), BackupError> {
        let dir = self.chain.dir.clone();
        let mut bytes = 0;
        let read = self.chain.read(from, |item| {
            match item {
                Item::Group { number, payload } => {
                    if all_ops(&payload).is_none() {
                        return Err(BackupError::damaged(&dir, format!("group {number} can't be read")));
                    }
                    bytes += payload.len() as u64;
                    *last = number;
                }
                Item::Time { group, time_ms } => {
                    if time_ms < *time {
                        return Err(BackupError::damaged(&dir, format!("the time of group {group} falls")));
                    }
                    *time = time_ms;
                }
                Item::Link { .. } => {}
            }
            Ok(true)
        });
        self.report.bytes += bytes;
        self.report.files += self.chain.log(from).map_or(0, |files| files.len());
        read
    }

    /// Goes through a base's files. Gives whether all are whole.
    fn files(&mut self, base: &BaseRecord, seen: &mut BTreeSet<Vec<u8>>) -> bool {
        let mut is_whole = true;
        for file in base.files() {
            // Another base may say something else of a file that has the same name.
            if !seen.insert(file.encode_to_vec()) {
                continue;
            }
            if let Err(error) = self.file(file) {
                if !self.medium.exists(&super::base::path(&self.chain.dir, base.number)) {
                    return is_whole;
                }
                is_whole = false;
                let covers = format!("{error} (base {}: {}, {})", base.number, file.path, file.covers);
                self.report.findings.push(covers);
            }
        }
        is_whole
    }

    fn file(&mut self, file: &StoredFile) -> Result<(), BackupError> {
        read_file(self.medium, &self.chain, file, |_| Ok(()))?;
        self.report.bytes += file.bytes;
        self.report.files += 1;
        Ok(())
    }
}
