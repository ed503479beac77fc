//! The key of a backup: 32 random bytes in a file of its own. Whoever has the file can read the backup, and nobody else; without it
//! the backup is worth nothing.

use std::fmt;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use aws_lc_rs::{digest, hkdf, rand};

use super::format::{Kind, Salt};

/// What a key's file begins with; the key follows in hexadecimal digits.
const PREFIX: &str = "tern-backup-key 1 ";

const BYTES: usize = 32;

/// See the module.
#[derive(Clone)]
pub struct Key([u8; BYTES]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:016x})", self.id())
    }
}

/// Of keys for files, for the derivation.
struct FileKey;

impl hkdf::KeyType for FileKey {
    fn len(&self) -> usize {
        BYTES
    }
}

impl Key {
    /// Of random bytes.
    pub fn new(bytes: [u8; BYTES]) -> Self {
        Self(bytes)
    }

    /// A new one, of the system's random bytes.
    ///
    /// # Errors
    /// If the system gives none.
    pub fn generate() -> io::Result<Self> {
        let mut bytes = [0; BYTES];
        rand::fill(&mut bytes).map_err(|_| io::Error::other("the system gives no entropy"))?;
        Ok(Self(bytes))
    }

    /// What names it without telling it: the first bytes of a digest. Never 0.
    pub fn id(&self) -> u64 {
        let mut of = digest::Context::new(&digest::SHA256);
        of.update(b"tern backup key id");
        of.update(&self.0);
        let id = of.finish().as_ref().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        id.max(1)
    }

    /// The key of one file (HKDF-SHA-256, RFC 5869), known by its salt: no two files have the same.
    pub(super) fn of_file(&self, salt: &Salt, kind: Kind) -> LessSafeKey {
        let info = [&b"tern backup file"[..], &[kind as u8]];
        let derived = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(&self.0);
        let mut bytes = [0; BYTES];
        let filled = derived.expand(&info, FileKey).and_then(|key| key.fill(&mut bytes));
        filled.expect("the length is one that HKDF gives");
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &bytes).expect("32 bytes"))
    }

    /// As it stands in its file.
    pub fn to_text(&self) -> String {
        let digits: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{PREFIX}{digits}\n")
    }

    /// `None` if the text is no key.
    pub fn from_text(text: &str) -> Option<Self> {
        let digits = text.trim_end().strip_prefix(PREFIX)?;
        if digits.len() != 2 * BYTES || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut bytes = [0; BYTES];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// Reads a key's file.
    ///
    /// # Errors
    /// What the system says; and if others than its owner may read it, or it holds no key.
    pub fn read(path: &Path) -> io::Result<Self> {
        let other = |what: &str| io::Error::other(format!("{} {what}", path.display()));
        let mode = std::fs::metadata(path)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(other("may be read by others than its owner: chmod 600"));
        }
        Self::from_text(&std::fs::read_to_string(path)?).ok_or_else(|| other("holds no key of a backup"))
    }

    /// Makes a key's file, for its owner alone. One that is there stays as it is.
    ///
    /// # Errors
    /// What the system says.
    pub fn write_new(&self, path: &Path) -> io::Result<()> {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(self.to_text().as_bytes())?;
        file.sync_all()
    }
}

/// The keys that whoever reads a backup has.
#[derive(Clone, Default, Debug)]
pub struct Keys(Vec<Key>);

impl Keys {
    pub(super) fn find(&self, id: u64) -> Option<&Key> {
        self.0.iter().find(|key| key.id() == id)
    }
}

impl FromIterator<Key> for Keys {
    fn from_iter<I: IntoIterator<Item = Key>>(keys: I) -> Self {
        Self(keys.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_back_from_its_text_and_other_texts_are_none() {
        let key = Key::new(std::array::from_fn(|at| at as u8 * 7));
        let text = key.to_text();
        assert_eq!(Key::from_text(&text).map(|key| key.0), Some(key.0));
        for bad in
            ["", "tern-backup-key 1 ", &text[..70], &text.replace('0', "g"), &text.replace("key 1", "key 2")]
        {
            assert!(Key::from_text(bad).is_none(), "{bad}");
        }
        assert!(!format!("{key:?}").contains(&text[20..40]), "a key is never shown");
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("key");
        Key::new([1; 32]).write_new(&path).expect("made");
        assert!(Key::read(&path).is_ok());
        assert!(Key::new([2; 32]).write_new(&path).is_err(), "one that is there stays");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("set");
        let error = Key::read(&path).expect_err("others may read it");
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
}
