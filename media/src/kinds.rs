//! What media may be: a list of types, each of a kind that bounds its size; and what type bytes are, by what they begin with and not by
//! what somebody calls them.

use crate::limits::Limits;

/// What a medium is, as far as limits go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A picture.
    Image,
    /// A recording, or music.
    Audio,
    /// A film.
    Video,
    /// Anything to be read, or kept.
    Document,
    /// Bytes that only devices can read.
    Encrypted,
}

/// What is told of bytes that are encrypted.
pub const ENCRYPTED: &str = "application/octet-stream";

/// How a type is known by its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Known {
    /// They begin as bytes of this type do.
    ByBytes,
    /// They begin as those of every archive do: what is in it is known by what stands first in it, which others may have put elsewhere.
    AsArchive,
    /// They are text.
    AsText,
}

/// The types that there are, each under the names that are usual, the first of which is its own.
const TYPES: &[(Kind, Known, &[&str])] = &[
    (Kind::Image, Known::ByBytes, &["image/jpeg", "image/jpg"]),
    (Kind::Image, Known::ByBytes, &["image/png"]),
    (Kind::Image, Known::ByBytes, &["image/gif"]),
    (Kind::Image, Known::ByBytes, &["image/webp"]),
    (Kind::Audio, Known::ByBytes, &["audio/ogg", "audio/opus", "application/ogg"]),
    (Kind::Audio, Known::ByBytes, &["audio/mpeg", "audio/mp3"]),
    (Kind::Audio, Known::ByBytes, &["audio/mp4", "audio/m4a", "audio/x-m4a"]),
    (Kind::Audio, Known::ByBytes, &["audio/aac"]),
    (Kind::Audio, Known::ByBytes, &["audio/amr"]),
    (Kind::Video, Known::ByBytes, &["video/mp4", "video/x-m4v"]),
    (Kind::Video, Known::ByBytes, &["video/webm", "video/x-matroska"]),
    (Kind::Video, Known::ByBytes, &["video/quicktime"]),
    (Kind::Document, Known::ByBytes, &["application/pdf"]),
    (Kind::Document, Known::AsArchive, &["application/zip"]),
    (
        Kind::Document,
        Known::AsArchive,
        &["application/vnd.openxmlformats-officedocument.wordprocessingml.document"],
    ),
    (
        Kind::Document,
        Known::AsArchive,
        &["application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"],
    ),
    (
        Kind::Document,
        Known::AsArchive,
        &["application/vnd.openxmlformats-officedocument.presentationml.presentation"],
    ),
    (Kind::Document, Known::AsArchive, &["application/vnd.oasis.opendocument.text"]),
    (Kind::Document, Known::AsArchive, &["application/vnd.oasis.opendocument.spreadsheet"]),
    (Kind::Document, Known::AsArchive, &["application/vnd.oasis.opendocument.presentation"]),
    (Kind::Document, Known::AsArchive, &["application/epub+zip"]),
    (Kind::Document, Known::ByBytes, &["application/msword"]),
    (Kind::Document, Known::ByBytes, &["application/rtf", "text/rtf"]),
    (Kind::Document, Known::AsText, &["text/plain"]),
    (Kind::Document, Known::AsText, &["text/csv"]),
    (Kind::Document, Known::AsText, &["text/markdown"]),
    (Kind::Document, Known::AsText, &["text/vcard", "text/x-vcard"]),
];

/// A type on the list, or of encrypted bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Type {
    kind: Kind,
    known: Known,
    name: &'static str,
}

impl Type {
    /// Of bytes that are encrypted: nothing is known of them.
    pub const ENCRYPTED: Self = Self { kind: Kind::Encrypted, known: Known::ByBytes, name: ENCRYPTED };

    /// The type of this name, whatever its case and what follows it (`; charset=utf-8`); `None`: it is not on the list.
    pub fn named(name: &str) -> Option<Self> {
        let name = name.split(';').next().unwrap_or(name).trim();
        let is_called = |names: &&[&str]| names.iter().any(|other| other.eq_ignore_ascii_case(name));
        let (kind, known, names) = TYPES.iter().find(|(_, _, names)| is_called(names))?;
        Some(Self { kind: *kind, known: *known, name: names[0] })
    }

    /// What it is called.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// What it is.
    pub fn kind(self) -> Kind {
        self.kind
    }

    /// How many bytes one may have.
    pub fn bytes_max(self, limits: &Limits) -> u64 {
        match self.kind {
            Kind::Image => limits.image_bytes_max,
            Kind::Audio => limits.audio_bytes_max,
            Kind::Video => limits.video_bytes_max,
            Kind::Document | Kind::Encrypted => limits.document_bytes_max,
        }
    }

    /// Whether bytes are of this type, of which these are the first.
    pub fn is_of(self, beginning: &[u8]) -> bool {
        if self.kind == Kind::Encrypted {
            return true;
        }
        let found = infer::get(beginning).and_then(|found| Self::named(found.mime_type()));
        match self.known {
            Known::AsText => found.is_none() && is_text(beginning),
            Known::AsArchive => beginning.starts_with(b"PK\x03\x04"),
            Known::ByBytes => found == Some(self),
        }
    }
}

/// Whether this may be how a text begins: UTF-8, perhaps cut within a character, without what no text has.
fn is_text(beginning: &[u8]) -> bool {
    let valid = match std::str::from_utf8(beginning) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&beginning[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    valid.chars().all(|c| !c.is_control() || matches!(c, '\t' | '\n' | '\r' | '\u{c}'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// How files of some types begin.
    const BEGINNINGS: &[&[u8]] = &[
        b"",
        b"\x89PNG",
        b"\xff\xd8\xff",
        b"RIFF",
        b"OggS",
        b"PK\x03\x04",
        b"\x1aE\xdf\xa3",
        b"\0\0\0\x18ftyp",
        b"%PDF",
        b"ID3",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
    ];

    proptest! {
        #[test]
        fn whatever_bytes_come_nothing_panics(
            begin in prop::sample::select(BEGINNINGS),
            rest in prop::collection::vec(any::<u8>(), 0..600),
            at in 0..TYPES.len(),
        ) {
            let bytes = [begin, &rest].concat();
            let of = Type::named(TYPES[at].2[0]).expect("it is on the list");
            let _ = of.is_of(&bytes);
        }
    }

    #[test]
    fn a_type_is_known_by_its_bytes_and_not_by_its_name() {
        let png = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR";
        let jpeg = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00";
        let webp = b"RIFF\x24\x00\x00\x00WEBPVP8 ";
        let ogg = b"OggS\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x13OpusHead";
        let mp4 = b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom";
        let check = |name: &str, bytes: &[u8], expect: bool| {
            let of = Type::named(name).unwrap_or_else(|| panic!("{name} is on the list"));
            assert_eq!(of.is_of(bytes), expect, "{name}: {bytes:?}");
        };
        for (name, bytes) in [
            ("image/png", &png[..]),
            ("IMAGE/JPEG", jpeg),
            ("image/webp", webp),
            ("audio/ogg; codecs=opus", ogg),
            ("video/mp4", mp4),
            ("application/pdf", b"%PDF-1.7\n"),
            ("text/plain", "größe\n".as_bytes()),
            ("text/plain", &"größe".as_bytes()[..3]),
            ("text/plain", b""),
            ("application/zip", b"PK\x03\x04\x14\x00"),
        ] {
            check(name, bytes, true);
            check("image/gif", bytes, false);
        }
        check("image/png", jpeg, false);
        check("image/png", b"", false);
        check("text/plain", png, false);
        check("text/plain", b"%PDF-1.7\n", false);
        check("text/plain", b"a\0b", false);
        check("text/plain", b"\xff\xfe", false);
        assert!(Type::ENCRYPTED.is_of(png));
        for name in [
            "text/html",
            "image/svg+xml",
            "application/x-msdownload",
            "application/octet-stream",
            "",
            "image/",
        ] {
            assert!(Type::named(name).is_none(), "{name}");
        }
    }
}
