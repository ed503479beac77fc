//! Uploads that are under way: `ID.json` says what was declared, and `ID.part` has what has come. How much that is, the file's length says:
//! nothing else is to be kept in step with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use crate::gate::Declared;
use crate::id::MediaId;
use crate::kinds::{ENCRYPTED, Type};
use crate::limits::PIECE_BYTES;
use crate::metadata::DIGEST_BYTES;
use crate::store::StoreError;
use crate::store::files::{remove_if_there, sync_folder_of, write_whole};

/// What was declared of an upload, as it is stored.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Stored {
    of: String,
    bytes: u64,
    owner: u64,
    sha256: Option<[u8; DIGEST_BYTES]>,
}

/// An upload as it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Upload {
    pub(crate) declared: Declared,
    pub(crate) owner: u64,
    /// What its SHA-256 is to be, if that was declared.
    pub(crate) sha256: Option<[u8; DIGEST_BYTES]>,
    /// Bytes that have come.
    pub(crate) offset: u64,
    /// When the last of them came.
    pub(crate) touched: SystemTime,
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Uploads {
    folder: PathBuf,
    /// Those to which somebody writes.
    held: Arc<Mutex<BTreeSet<MediaId>>>,
}

/// Nobody else writes to an upload while this lives.
#[derive(Debug)]
pub(crate) struct Held {
    id: MediaId,
    held: Arc<Mutex<BTreeSet<MediaId>>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

impl Uploads {
    pub(crate) fn open(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self { folder, held: Arc::default() })
    }

    /// Where the bytes of an upload are.
    pub(crate) fn part(&self, id: MediaId) -> PathBuf {
        self.folder.join(format!("{id}.part"))
    }

    fn declared_at(&self, id: MediaId) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }

    /// Takes an upload for whoever is about to write to it; `None`: somebody does.
    pub(crate) fn hold(&self, id: MediaId) -> Option<Held> {
        let is_free = self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        is_free.then(|| Held { id, held: self.held.clone() })
    }

    /// Begins an upload, durably.
    pub(crate) fn begin(
        &self,
        Declared { id, of, bytes }: Declared,
        owner: u64,
        sha256: Option<[u8; DIGEST_BYTES]>,
    ) -> Result<(), StoreError> {
        let stored = Stored { of: of.name().to_owned(), bytes, owner, sha256 };
        File::create(self.part(id))?.sync_all()?;
        let json = serde_json::to_vec(&stored).expect("it is text and numbers");
        Ok(write_whole(&self.declared_at(id), &json)?)
    }

    /// An upload as it stands; `None`: there is none.
    pub(crate) fn get(&self, id: MediaId) -> Result<Option<Upload>, StoreError> {
        let path = self.declared_at(id);
        let json = match fs::read(&path) {
            Ok(json) => json,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let damaged = || StoreError::Damaged(format!("{} is no upload", path.display()));
        let Stored { of, bytes, owner, sha256 } = serde_json::from_slice(&json).map_err(|_| damaged())?;
        let of = if of == ENCRYPTED { Some(Type::ENCRYPTED) } else { Type::named(&of) };
        let declared = Declared { id, of: of.ok_or_else(damaged)?, bytes };
        // What has its place already is whole.
        let (offset, touched) = match fs::metadata(self.part(id)) {
            Ok(part) => (part.len().min(bytes), part.modified()?),
            Err(error) if error.kind() == ErrorKind::NotFound => (bytes, fs::metadata(&path)?.modified()?),
            Err(error) => return Err(error.into()),
        };
        Ok(Some(Upload { declared, owner, sha256, offset, touched }))
    }

    /// The upload is no more, nor what has come of it.
    pub(crate) fn remove(&self, id: MediaId) -> Result<(), StoreError> {
        remove_if_there(&self.declared_at(id))?;
        remove_if_there(&self.part(id))?;
        Ok(sync_folder_of(&self.part(id))?)
    }

    /// The file to which an upload's next bytes go, cut to what counts.
    pub(crate) fn append(&self, id: MediaId, offset: u64) -> Result<File, StoreError> {
        let file = OpenOptions::new().append(true).open(self.part(id))?;
        file.set_len(offset)?;
        Ok(file)
    }

    /// The first bytes that have come, at most so many.
    pub(crate) fn beginning(&self, id: MediaId, bytes: usize) -> Result<Vec<u8>, StoreError> {
        let mut beginning = Vec::with_capacity(bytes);
        File::open(self.part(id))?.take(bytes as u64).read_to_end(&mut beginning)?;
        Ok(beginning)
    }

    /// Removes uploads to which nothing has come for so long, but for those to which somebody writes now. Gives those of which all has come,
    /// and whose end was cut off: they are whole.
    pub(crate) fn sweep(&self, valid: Duration) -> Result<Vec<Upload>, StoreError> {
        // When anything of an upload was written last: what was declared of it, or its bytes.
        let mut touched = BTreeMap::<MediaId, SystemTime>::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let id = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
            let modified = fs::metadata(&path).and_then(|metadata| metadata.modified());
            if let (Some(id), Ok(at)) = (id, modified) {
                let latest = touched.entry(id).or_insert(at);
                *latest = at.max(*latest);
            }
        }
        let mut whole = Vec::new();
        let is_old = |at: SystemTime| at.elapsed().is_ok_and(|age| age >= valid);
        // Only those are held, however short: whoever goes on with one meanwhile is to find it free.
        for (id, _) in touched.into_iter().filter(|(_, at)| is_old(*at)) {
            let Some(_held) = self.hold(id) else { continue };
            match self.get(id)?.filter(|upload| is_old(upload.touched)) {
                Some(upload) if upload.offset == upload.declared.bytes => whole.push(upload),
                Some(_) => self.remove(id)?,
                // It never began, or has ended meanwhile, or goes on.
                None if !self.declared_at(id).exists() => self.remove(id)?,
                None => {}
            }
        }
        Ok(whole)
    }
}

/// The SHA-256 of a file.
pub(crate) fn sha256_of(path: &Path) -> Result<[u8; DIGEST_BYTES], StoreError> {
    let (mut file, mut context) = (File::open(path)?, Context::new(&SHA256));
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            read => context.update(&piece[..read]),
        }
    }
    Ok(context.finish().as_ref().try_into().expect("it is as long as every SHA-256"))
}
