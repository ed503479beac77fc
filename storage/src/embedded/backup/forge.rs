//! Backups that nobody has made, for fuzzing: each file is well-formed as a file, and says anything.

use std::io;
use std::path::{Path, PathBuf};

use super::format::{BackupId, Kind, Reader, Salt, Writer};
use super::key::Keys;
use crate::medium::{Medium as _, SimulatedMedium};

/// All of them are of this one.
const ID: BackupId = [7; 16];

const KINDS: [Kind; 5] = [Kind::Backup, Kind::Base, Kind::Table, Kind::Log, Kind::Head];

/// A file of a backup that is not encrypted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Forged {
    /// Where it lies.
    pub path: PathBuf,
    /// What its header says it is; counted round.
    pub kind: u8,
    /// What its header says is its identity.
    pub salt: Salt,
    /// What its chunks hold.
    pub chunks: Vec<Vec<u8>>,
}

/// Puts a file on a simulated medium.
///
/// # Errors
/// If the medium does not take it, by that name say.
pub fn forge(medium: &SimulatedMedium, file: &Forged) -> io::Result<()> {
    let kind = KINDS[usize::from(file.kind) % KINDS.len()];
    if let Some(dir) = file.path.parent() {
        medium.make_dir(dir)?;
    }
    let mut writer = Writer::create(medium, &file.path, kind, (ID, file.salt), None)?;
    for (index, chunk) in file.chunks.iter().enumerate() {
        // Whoever names a file of the log says where it ends.
        writer.append(chunk, kind != Kind::Log && index + 1 == file.chunks.len())?;
    }
    writer.sync()
}

/// The files of a backup that lies on a simulated medium and is whole, as they can be forged.
pub fn contents(medium: &SimulatedMedium, dir: &Path) -> Vec<Forged> {
    let paths = medium.files().into_iter().map(|(path, _)| path).filter(|path| path.starts_with(dir));
    paths.filter_map(|path| contents_of(medium, path)).collect()
}

fn contents_of(medium: &SimulatedMedium, path: PathBuf) -> Option<Forged> {
    KINDS.into_iter().find_map(|kind| {
        let mut reader = Reader::open(medium, &path, kind, None, &Keys::default()).ok()?;
        let (mut chunks, mut chunk) = (Vec::new(), Vec::new());
        while let Ok(last) = reader.next(&mut chunk) {
            chunks.push(chunk.clone());
            if last {
                break;
            }
        }
        Some(Forged { path: path.clone(), kind: kind as u8, salt: reader.header().salt, chunks })
    })
}
