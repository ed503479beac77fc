//! Media in a folder: `XX/YY/ID` has the bytes, `XX/YY/ID.json` what is known of them, and `XX/YY/ID.preview` how they look, where XX and YY are the first two bytes of the id in
//! hexadecimal. What is known is there before the bytes are, and goes after them: bytes of which nothing is known are never seen.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::files::{blocking, if_not_there, remove_if_there, sync, sync_folder_of, write_whole};
use super::{About, Pieces, Store, StoreError};
use crate::gate::Doing;
use crate::id::MediaId;
use crate::limits::PIECE_BYTES;

/// Pieces that are read before they are taken.
const PIECES_AHEAD: usize = 1;

/// See the module.
#[derive(Clone, Debug)]
pub struct LocalStore {
    folder: PathBuf,
}

impl LocalStore {
    /// In a folder, which is made if it is not there. Uploads are to be in the same file system.
    ///
    /// # Errors
    /// It can't be made.
    pub fn open(folder: impl Into<PathBuf>) -> io::Result<Self> {
        let folder = folder.into();
        fs::create_dir_all(&folder)?;
        Ok(Self { folder })
    }

    fn place(&self, id: MediaId) -> PathBuf {
        let [one, two, ..] = id.as_bytes();
        self.folder.join(format!("{one:02x}")).join(format!("{two:02x}")).join(id.to_string())
    }
}

impl Store for LocalStore {
    fn keep<'a>(
        &'a self,
        id: MediaId,
        about: &'a About,
        file: &'a Path,
    ) -> Doing<'a, Result<(), StoreError>> {
        let (place, about, file) = (self.place(id), about.clone(), file.to_owned());
        Box::pin(blocking(move || keep(&place, &about, &file)))
    }

    fn about(&self, id: MediaId) -> Doing<'_, Result<Option<About>, StoreError>> {
        let place = self.place(id);
        Box::pin(blocking(move || about(id, &place)))
    }

    fn keep_preview<'a>(&'a self, id: MediaId, json: &'a [u8]) -> Doing<'a, Result<(), StoreError>> {
        let (place, json) = (self.place(id), json.to_owned());
        Box::pin(blocking(move || {
            make_folder_of(&place)?;
            Ok(write_whole(&preview_at(&place), &json)?)
        }))
    }

    fn preview(&self, id: MediaId) -> Doing<'_, Result<Option<Vec<u8>>, StoreError>> {
        let place = preview_at(&self.place(id));
        Box::pin(blocking(move || match fs::read(place) {
            Ok(json) => Ok(Some(json)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }))
    }

    fn read(&self, id: MediaId, bytes: Range<u64>) -> Doing<'_, Result<Pieces, StoreError>> {
        let place = self.place(id);
        Box::pin(async move {
            let file = blocking(move || {
                let mut file = File::open(place).map_err(|error| match error.kind() {
                    ErrorKind::NotFound => StoreError::Gone,
                    _ => error.into(),
                })?;
                file.seek(SeekFrom::Start(bytes.start))?;
                Ok(file)
            })
            .await?;
            let (sender, pieces) = mpsc::channel(PIECES_AHEAD);
            // It ends with whoever takes the pieces.
            drop(tokio::spawn(send_pieces(file, bytes.end - bytes.start, sender)));
            Ok(pieces)
        })
    }

    fn list(&self, first: u8) -> Doing<'_, Result<Vec<(MediaId, SystemTime)>, StoreError>> {
        let folder = self.folder.join(format!("{first:02x}"));
        Box::pin(blocking(move || list(&folder)))
    }

    fn remove(&self, id: MediaId) -> Doing<'_, Result<(), StoreError>> {
        let place = self.place(id);
        Box::pin(blocking(move || {
            // What was being written when somebody was killed, or had no room, too.
            for path in [&place, &preview_at(&place), &place.with_extension("new"), &known_at(&place)] {
                remove_if_there(path)?;
                sync_folder_of(path).or_else(if_not_there)?;
            }
            Ok(())
        }))
    }
}

fn known_at(place: &Path) -> PathBuf {
    place.with_extension("json")
}

fn preview_at(place: &Path) -> PathBuf {
    place.with_extension("preview")
}

/// The folder in which a medium lies is there after a crash.
fn make_folder_of(place: &Path) -> io::Result<()> {
    let folder = place.parent().expect("it lies in a folder");
    fs::create_dir_all(folder)?;
    // The folders that were made last.
    let parents = folder.ancestors().skip(1).take(2);
    parents.chain([folder]).try_for_each(sync)
}

fn keep(place: &Path, about: &About, file: &Path) -> Result<(), StoreError> {
    if place.exists() {
        remove_if_there(file)?;
        return Ok(());
    }
    make_folder_of(place)?;
    write_whole(&known_at(place), &serde_json::to_vec(about).expect("it is text and numbers"))?;
    fs::rename(file, place)?;
    Ok(sync_folder_of(place)?)
}

/// What is in the folders of a folder.
fn list(folder: &Path) -> Result<Vec<(MediaId, SystemTime)>, StoreError> {
    let mut found = BTreeMap::new();
    let folders = match fs::read_dir(folder) {
        Ok(folders) => folders,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    for folder in folders {
        for entry in fs::read_dir(folder?.path())? {
            let path = entry?.path();
            let id = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
            // It may have gone since.
            let modified = fs::metadata(&path).and_then(|metadata| metadata.modified());
            if let (Some(id), Ok(at)) = (id, modified) {
                let latest = found.entry(id).or_insert(at);
                *latest = at.max(*latest);
            }
        }
    }
    Ok(found.into_iter().collect())
}

fn about(id: MediaId, place: &Path) -> Result<Option<About>, StoreError> {
    let known = known_at(place);
    let (bytes, json) = match (fs::metadata(place), fs::read(&known)) {
        (Ok(metadata), Ok(json)) => (metadata.len(), json),
        (Err(error), _) | (_, Err(error)) if error.kind() == ErrorKind::NotFound => return Ok(None),
        (Err(error), _) | (_, Err(error)) => return Err(error.into()),
    };
    let about: About = serde_json::from_slice(&json)
        .map_err(|error| StoreError::Damaged(format!("what is known of {id:?}: {error}")))?;
    if about.bytes != bytes {
        let place = place.display();
        return Err(StoreError::Damaged(format!(
            "{place} has {bytes} bytes, and is to have {}",
            about.bytes
        )));
    }
    Ok(Some(about))
}

/// Reads a piece when there is room for one: whoever is slow to take them holds no thread.
async fn send_pieces(file: File, mut left: u64, to: mpsc::Sender<Result<Bytes, StoreError>>) {
    let mut file = Some(file);
    while left > 0
        && let Ok(room) = to.reserve().await
        && let Some(mut open) = file.take()
    {
        let length = left.min(PIECE_BYTES as u64) as usize;
        let read = blocking(move || {
            let mut piece = vec![0; length];
            open.read_exact(&mut piece)?;
            Ok((Bytes::from(piece), open))
        });
        room.send(read.await.map(|(piece, open)| {
            file = Some(open);
            left -= piece.len() as u64;
            piece
        }));
    }
}
