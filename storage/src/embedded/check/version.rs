//! The files that a tree names itself, where it has gone on since the manifest was written: a process that was killed in between has
//! left it so.

use std::io::{self, Read};
use std::path::Path;

use bytes::Bytes;

use crate::embedded::manifest::{CURRENT, FileManifest, decode_current};
use crate::embedded::tables::PARTS;
use crate::medium::{Disk, Medium as _};

/// The tables and the files of values of a tree's newest version, with their checksums. `None`: it is not written as we know it.
pub(super) fn files(tree: &Path) -> io::Result<Option<Vec<FileManifest>>> {
    let current = Disk.read_if_there(&tree.join(CURRENT))?;
    let Some((version, _)) = current.as_deref().and_then(decode_current) else { return Ok(None) };
    Ok(read(&tree.join(format!("v{version}"))).ok())
}

/// The layout of a version: <https://docs.rs/lsm-tree>, `version::recovery`.
fn read(path: &Path) -> io::Result<Vec<FileManifest>> {
    let archive = sfa::Reader::new(path).map_err(io::Error::other)?;
    let section = |name: &[u8]| match archive.toc().section(name) {
        Some(section) => section.buf_reader(path),
        None => Err(io::ErrorKind::InvalidData.into()),
    };
    let (mut files, mut tables) = (Vec::new(), section(b"tables")?);
    for _level in 0..number::<1>(&mut tables)? {
        for _run in 0..number::<1>(&mut tables)? {
            for _table in 0..number::<4>(&mut tables)? {
                files.push(file(PARTS[0], &mut tables)?);
                let _seqno = number::<8>(&mut tables)?;
            }
        }
    }
    let mut blobs = section(b"blob_files")?;
    for _file in 0..number::<4>(&mut blobs)? {
        files.push(file(PARTS[1], &mut blobs)?);
    }
    Ok(files)
}

fn file(part: &str, from: &mut impl Read) -> io::Result<FileManifest> {
    let id = number::<8>(from)?;
    let (kind, checksum) = (number::<1>(from)?, number::<16>(from)?);
    if kind != 0 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(FileManifest {
        path: format!("{part}/{id}"),
        bytes: 0,
        checksum: Bytes::copy_from_slice(&checksum.to_be_bytes()),
        covers: "which was written last: the log may have what it holds".to_owned(),
    })
}

/// A number of so many bytes, little-endian.
fn number<const BYTES: usize>(from: &mut impl Read) -> io::Result<u128> {
    let mut bytes = [0; 16];
    from.read_exact(&mut bytes[..BYTES])?;
    Ok(u128::from_le_bytes(bytes))
}
