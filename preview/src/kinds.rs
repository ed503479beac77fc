//! Of what there are previews.

use image::ImageFormat;

/// How a preview of a type is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// A picture.
    Picture(ImageFormat),
    /// Opus in Ogg.
    Sound,
    /// A PDF.
    Document,
}

/// The types of which there are previews, under the names that are usual.
const KINDS: &[(Kind, &[&str])] = &[
    (Kind::Picture(ImageFormat::Jpeg), &["image/jpeg", "image/jpg"]),
    (Kind::Picture(ImageFormat::Png), &["image/png"]),
    (Kind::Picture(ImageFormat::Gif), &["image/gif"]),
    (Kind::Picture(ImageFormat::WebP), &["image/webp"]),
    (Kind::Sound, &["audio/ogg", "audio/opus", "application/ogg"]),
    (Kind::Document, &["application/pdf"]),
];

impl Kind {
    /// The kind of a type, whatever its case and what follows it (`; codecs=opus`); `None`: there are no previews of it.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let name = name.split(';').next().unwrap_or(name).trim();
        let is_called = |names: &[&str]| names.iter().any(|other| other.eq_ignore_ascii_case(name));
        KINDS.iter().find(|(_, names)| is_called(names)).map(|(kind, _)| *kind)
    }
}

/// Whether there are previews of a type, as RFC 6838 names it: of a JPEG, PNG, GIF, WebP, Ogg or PDF.
pub fn has_previews(of: &str) -> bool {
    Kind::named(of).is_some()
}
