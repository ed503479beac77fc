//! A backup of which each file is well-formed, and says anything: it is gone through, restored, and what came of it opened.

use std::path::{Path, PathBuf};

use tern_storage::embedded::backup::{
    BackupError, Forged, Keys, Point, RestoreOptions, VerifyOptions, contents, forge, restore_simulated,
    verify_simulated,
};
use tern_storage::embedded::{EmbeddedOptions, SteppedEngine};
use tern_storage::medium::SimulatedMedium;
use tern_storage::medium::simulated::Odds;

const DIR: &str = "/backup";
const STORE: &str = "store";

/// A file in its directory: bytes of its path (u8), the path, its kind (u8), its salt (32 bytes), how many chunks (u8), and of each its
/// bytes (u16, little-endian), and those.
pub fn backup(data: &[u8]) {
    let medium = SimulatedMedium::new(1, Odds::NONE);
    let mut rest = data;
    while let Some(file) = file(&mut rest) {
        // One that can't be there is not.
        let _ = forge(&medium, &file);
    }
    let options = VerifyOptions { dir: DIR.into(), keys: Keys::default(), chain: None, newest: false };
    let verified = verify_simulated(&medium, &options);
    let newest = restored(&medium, Point::Newest);
    if let Ok(report) = &verified
        && report.findings.is_empty()
    {
        assert!(!is_unreadable(&newest), "{newest:?}, and nothing was found: {report:#?}");
        let points = report.chains.iter().flat_map(|chain| &chain.bases).filter_map(|base| base.restores);
        for (first, last) in points.take(2) {
            for group in [first, last] {
                let restored = restored(&medium, Point::Group(group));
                assert!(!is_unreadable(&restored), "{restored:?} at {group}: {report:#?}");
            }
        }
    }
    let _ = restored(&medium, Point::Time(1_000_500));
}

/// Whether a restore says that the backup is damaged. What its tables say, only the store that they are of can tell.
fn is_unreadable(restored: &Result<u64, BackupError>) -> bool {
    matches!(restored, Err(BackupError::Damaged { path, .. }) if path.starts_with(DIR))
}

/// Restores, and opens what came of it.
fn restored(medium: &SimulatedMedium, point: Point) -> Result<u64, BackupError> {
    let to = SimulatedMedium::new(2, Odds::NONE);
    let (from, store, keys) = (DIR.into(), STORE.into(), Keys::default());
    let options = RestoreOptions { from, store, point, chain: None, keys, free_bytes_min: 0 };
    let group = restore_simulated(medium, &to, &options)?.group;
    // It may say why not.
    if let Ok(engine) = SteppedEngine::open(&to, Path::new(STORE), EmbeddedOptions::default(), 1) {
        assert_eq!(engine.newest(), group);
    }
    Ok(group)
}

fn file(rest: &mut &[u8]) -> Option<Forged> {
    let length = u8::from_le_bytes(*take(rest)?);
    let path = some(rest, length.into())?;
    let path = PathBuf::from(DIR).join(std::str::from_utf8(path).ok()?);
    let [kind, salt @ ..] = *take::<33>(rest)?;
    let [count] = *take(rest)?;
    let chunk = |rest: &mut &[u8]| {
        let length = u16::from_le_bytes(*take(rest)?);
        some(rest, length.into()).map(<[u8]>::to_vec)
    };
    let chunks = (0..count).map_while(|_| chunk(rest)).collect();
    Some(Forged { path, kind, salt, chunks })
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (taken, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(taken)
}

fn some<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

/// The input that is a backup that lies on a medium.
pub fn backup_input(medium: &SimulatedMedium) -> Vec<u8> {
    let mut input = Vec::new();
    for Forged { path, kind, salt, chunks } in contents(medium, Path::new(DIR)) {
        let path = path.strip_prefix(DIR).expect("it lies there").to_str().expect("plain").as_bytes();
        input.push(u8::try_from(path.len()).expect("short"));
        input.extend_from_slice(path);
        input.push(kind);
        input.extend_from_slice(&salt);
        input.push(u8::try_from(chunks.len()).expect("few"));
        for chunk in chunks {
            input.extend_from_slice(&u16::try_from(chunk.len()).expect("small").to_le_bytes());
            input.extend_from_slice(&chunk);
        }
    }
    input
}
