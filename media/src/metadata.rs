//! `Upload-Metadata` (tus 1.0.0, Creation): pairs of a key and a value in base64, separated by commas.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::kinds::Type;
use crate::limits::METADATA_BYTES_MAX;

/// Bytes of a SHA-256.
pub(crate) const DIGEST_BYTES: usize = 32;

/// What is said of an upload before it comes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Metadata {
    pub(crate) of: Type,
    /// What the SHA-256 of all bytes is, if that was said.
    pub(crate) sha256: Option<[u8; DIGEST_BYTES]>,
}

/// Why an upload is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BadMetadata {
    /// It can't be read.
    Malformed,
    /// No type is said, or one that is not on the list.
    Type,
}

impl Metadata {
    /// Reads `filetype` (or `type`), `encrypted` and `sha256` (in hexadecimal). What else there is, is nobody's concern here.
    pub(crate) fn parse(header: &str) -> Result<Self, BadMetadata> {
        if header.len() > METADATA_BYTES_MAX {
            return Err(BadMetadata::Malformed);
        }
        let (mut of, mut sha256) = (None, None);
        for pair in header.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once(' ').unwrap_or((pair, ""));
            let value = BASE64_STANDARD.decode(value.trim()).map_err(|_| BadMetadata::Malformed)?;
            let value = String::from_utf8(value).map_err(|_| BadMetadata::Malformed)?;
            match key {
                "encrypted" => of = Some(Type::ENCRYPTED),
                "filetype" | "type" if of.is_none() => of = Type::named(&value),
                "sha256" => sha256 = Some(digest_of(&value).ok_or(BadMetadata::Malformed)?),
                _ => {}
            }
        }
        Ok(Self { of: of.ok_or(BadMetadata::Type)?, sha256 })
    }
}

/// The digits of bytes.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A SHA-256 of its digits.
pub(crate) fn digest_of(hexadecimal: &str) -> Option<[u8; DIGEST_BYTES]> {
    let mut digest = [0; DIGEST_BYTES];
    if hexadecimal.len() != 2 * DIGEST_BYTES || !hexadecimal.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hexadecimal[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_an_upload_is_read_and_nonsense_is_refused() {
        let coded = |text: &str| BASE64_STANDARD.encode(text);
        let png = Type::named("image/png").expect("it is on the list");
        let header = format!("filename {},filetype {}", coded("größe.png"), coded("image/png"));
        assert_eq!(Metadata::parse(&header), Ok(Metadata { of: png, sha256: None }));
        let header = format!("encrypted, type {} , sha256 {}", coded("image/png"), coded(&"0a".repeat(32)));
        assert_eq!(Metadata::parse(&header), Ok(Metadata { of: Type::ENCRYPTED, sha256: Some([10; 32]) }));
        for (header, expect) in [
            (String::new(), BadMetadata::Type),
            (format!("type {}", coded("text/html")), BadMetadata::Type),
            ("type !!!".to_owned(), BadMetadata::Malformed),
            (format!("type {}, sha256 {}", coded("image/png"), coded("12")), BadMetadata::Malformed),
            (
                format!("type {}, sha256 {}", coded("image/png"), coded(&"+f".repeat(32))),
                BadMetadata::Malformed,
            ),
            (format!("type {}", BASE64_STANDARD.encode([255, 254])), BadMetadata::Malformed),
            ("a".repeat(METADATA_BYTES_MAX + 1), BadMetadata::Malformed),
        ] {
            assert_eq!(Metadata::parse(&header), Err(expect), "{header}");
        }
    }
}
