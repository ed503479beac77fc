//! Uploads that are under way: `ID.json` says what was declared, and `ID.part` has what has come. How much that is, the file's length says:
//! nothing else is to be kept in step with it. While bytes come that are yet to be checked, `ID.checked` says where they begin: only what is
//! before that counts.
//!
//! It rests on what file systems do for a file that grows and is synced: after a power cut it is not longer than what was written of it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::time::timeout;

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use crate::gate::Declared;
use crate::id::MediaId;
use crate::kinds::{ENCRYPTED, Type};
use crate::limits::{PIECE_BYTES, TAKE_OVER_TIMEOUT};
use crate::metadata::DIGEST_BYTES;
use crate::store::StoreError;
use crate::store::files::{if_not_there, remove_if_there, sync_folder_of, write_whole};

/// What was declared of an upload, as it is stored.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Stored {
    of: String,
    bytes: u64,
    owner: u64,
    sha256: Option<[u8; DIGEST_BYTES]>,
    /// As it came, for whoever asks.
    metadata: String,
}

/// An upload as it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Upload {
    pub(crate) declared: Declared,
    pub(crate) owner: u64,
    /// What its SHA-256 is to be, if that was declared.
    pub(crate) sha256: Option<[u8; DIGEST_BYTES]>,
    /// What was said of it, as it was said.
    pub(crate) metadata: String,
    /// Bytes that have come.
    pub(crate) offset: u64,
    /// When the last of them came.
    pub(crate) touched: SystemTime,
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Uploads {
    folder: PathBuf,
    holders: Arc<Holders>,
}

/// The uploads of which somebody does something, each with the way to tell them to stop.
#[derive(Default, Debug)]
struct Holders {
    held: Mutex<BTreeMap<MediaId, Arc<Notify>>>,
    /// One is free.
    freed: Notify,
}

/// Nobody else does anything of an upload while this lives.
#[derive(Debug)]
pub(crate) struct Held {
    id: MediaId,
    holders: Arc<Holders>,
    stop: Arc<Notify>,
}

impl Held {
    /// Somebody else waits for the upload, whoever sent what is coming may be gone.
    pub(crate) async fn is_to_stop(&self) {
        self.stop.notified().await;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.holders.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
        self.holders.freed.notify_waiters();
    }
}

impl Uploads {
    pub(crate) fn open(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self { folder, holders: Arc::default() })
    }

    /// Where the bytes of an upload are.
    pub(crate) fn part(&self, id: MediaId) -> PathBuf {
        self.folder.join(format!("{id}.part"))
    }

    fn declared_at(&self, id: MediaId) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }

    fn checked_at(&self, id: MediaId) -> PathBuf {
        self.folder.join(format!("{id}.checked"))
    }

    /// Takes an upload for whoever is about to do something of it; `None`: somebody does.
    pub(crate) fn hold(&self, id: MediaId) -> Option<Held> {
        let mut held = self.holders.held.lock().unwrap_or_else(PoisonError::into_inner);
        match held.entry(id) {
            Entry::Occupied(_) => None,
            Entry::Vacant(place) => {
                let stop = place.insert(Arc::default()).clone();
                Some(Held { id, holders: self.holders.clone(), stop })
            }
        }
    }

    /// The same, of an upload that somebody may have: they are told to stop, for a connection that was lost may not have noticed. `None`: they
    /// have not within [`TAKE_OVER_TIMEOUT`].
    pub(crate) async fn take_over(&self, id: MediaId) -> Option<Held> {
        let taking = async {
            loop {
                let freed = self.holders.freed.notified();
                let mut freed = std::pin::pin!(freed);
                // Before it is looked, so that nothing is missed between.
                freed.as_mut().enable();
                if let Some(held) = self.hold(id) {
                    return held;
                }
                self.tell_to_stop(id);
                freed.await;
            }
        };
        timeout(TAKE_OVER_TIMEOUT, taking).await.ok()
    }

    fn tell_to_stop(&self, id: MediaId) {
        let held = self.holders.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.get(&id).into_iter().for_each(|stop| stop.notify_one());
    }

    /// Begins an upload, durably.
    pub(crate) fn begin(
        &self,
        Declared { id, of, bytes }: Declared,
        owner: u64,
        sha256: Option<[u8; DIGEST_BYTES]>,
        metadata: String,
    ) -> Result<(), StoreError> {
        let stored = Stored { of: of.name().to_owned(), bytes, owner, sha256, metadata };
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
        let damaged = || StoreError::Damaged(format!("what was declared of {id:?} can't be read"));
        let Stored { of, bytes, owner, sha256, metadata } =
            serde_json::from_slice(&json).map_err(|_| damaged())?;
        let of = if of == ENCRYPTED { Some(Type::ENCRYPTED) } else { Type::named(&of) };
        let declared = Declared { id, of: of.ok_or_else(damaged)?, bytes };
        // What has its place already is whole.
        let (offset, touched) = match fs::metadata(self.part(id)) {
            Ok(part) => (part.len().min(bytes), part.modified()?),
            Err(error) if error.kind() == ErrorKind::NotFound => (bytes, fs::metadata(&path)?.modified()?),
            Err(error) => return Err(error.into()),
        };
        let offset = self.checked_from(id)?.map_or(offset, |from| offset.min(from));
        Ok(Some(Upload { declared, owner, sha256, metadata, offset, touched }))
    }

    /// The upload is no more, nor what has come of it.
    pub(crate) fn remove(&self, id: MediaId) -> Result<(), StoreError> {
        let of_it =
            ["json", "part", "checked", "new"].map(|extension| self.part(id).with_extension(extension));
        of_it.iter().try_for_each(|path| remove_if_there(path))?;
        Ok(sync_folder_of(&self.part(id))?)
    }

    /// The file to which an upload's next bytes go, cut to what counts. If they are to be checked, they do not count before
    /// [`count`](Self::count).
    pub(crate) fn append(&self, id: MediaId, offset: u64, are_checked: bool) -> Result<File, StoreError> {
        let file = OpenOptions::new().append(true).open(self.part(id))?;
        // What is cut off is so before it could count.
        if file.metadata()?.len() != offset {
            file.set_len(offset)?;
            file.sync_all()?;
        }
        self.count(id)?;
        if are_checked {
            write_whole(&self.checked_at(id), &offset.to_be_bytes())?;
        }
        Ok(file)
    }

    /// All that has come counts.
    pub(crate) fn count(&self, id: MediaId) -> Result<(), StoreError> {
        let path = self.checked_at(id);
        if path.exists() {
            remove_if_there(&path)?;
            sync_folder_of(&path)?;
        }
        Ok(())
    }

    /// From where on what has come is yet to be checked.
    fn checked_from(&self, id: MediaId) -> Result<Option<u64>, StoreError> {
        match fs::read(self.checked_at(id)) {
            Ok(bytes) => Ok(bytes.try_into().ok().map(u64::from_be_bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What has come is durable: before anybody is told how much that is.
    pub(crate) fn sync(&self, id: MediaId) -> Result<(), StoreError> {
        // What has its place is.
        Ok(File::open(self.part(id)).and_then(|part| part.sync_all()).or_else(if_not_there)?)
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
            match self.get(id) {
                Ok(Some(upload)) if !is_old(upload.touched) => {}
                Ok(Some(upload)) if upload.offset == upload.declared.bytes => whole.push(upload),
                // One that never began, or that can't be read and nobody can go on with, goes too.
                Ok(_) | Err(StoreError::Damaged(_)) => self.remove(id)?,
                Err(error) => return Err(error),
            }
        }
        Ok(whole)
    }
}

/// The SHA-256 of a file, which is durable and of this length.
pub(crate) fn sha256_of(path: &Path, bytes: u64) -> Result<[u8; DIGEST_BYTES], StoreError> {
    let (mut file, mut context) = (File::open(path)?, Context::new(&SHA256));
    file.sync_all()?;
    if file.metadata()?.len() != bytes {
        return Err(StoreError::Failed("an upload is not as long as it was declared".to_owned()));
    }
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            read => context.update(&piece[..read]),
        }
    }
    Ok(context.finish().as_ref().try_into().expect("it is as long as every SHA-256"))
}
