//! What a preview is, and why there is none.

use std::fmt;

/// What is to be shown of a medium before it has come. What does not apply is `None` or empty.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Preview {
    /// Of a picture, as it is to be looked at: in pixels, at least 1, at most [`SIDE_PX_MAX`](crate::limits::SIDE_PX_MAX). Of a
    /// document's first page: in points (1/72 inch).
    pub width: Option<u32>,
    /// The same.
    pub height: Option<u32>,
    /// Of a recording; at least 1.
    pub duration_ms: Option<u64>,
    /// Of a document; at least 1.
    pub pages: Option<u32>,
    /// Of a recording in one or two channels: how loud each of [`WAVE_PARTS`](crate::limits::WAVE_PARTS) equal parts is, from 0 to
    /// 255. It is the root of the mean of the squared samples, in proportion to that of the loudest part, which has 255; all are 0 if
    /// nothing is to be heard.
    pub wave: Vec<u8>,
    /// Of a picture: a JPEG of at most [`THUMBNAIL_SIDE_PX`](crate::limits::THUMBNAIL_SIDE_PX) a side and
    /// [`THUMBNAIL_BYTES_MAX`](crate::limits::THUMBNAIL_BYTES_MAX) bytes, without metadata, over white where the picture is
    /// transparent; of one that moves, the first frame.
    pub thumbnail: Vec<u8>,
    /// Of a picture: the BlurHash of its thumbnail, of 4 by 3 components, or 3 by 4 if it is higher than wide.
    pub blur_hash: String,
}

/// Why there is no preview of a file: it will not be otherwise when it is tried again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// There are none of its type, or of what its type can have and this file has.
    Unsupported,
    /// It is not what its type says, or is damaged.
    Malformed(Malformed),
    /// It would take more than may be given.
    TooLarge(TooLarge),
}

/// What is wrong with a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Malformed {
    /// It does not begin as files of its type do.
    Head,
    /// It begins so, and what follows can't be read.
    Body,
    /// It can be read, and there is nothing in it.
    Nothing,
}

/// What of a file is too large.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TooLarge {
    /// The file itself.
    Bytes,
    /// The picture, in all or in one side.
    Pixels,
    /// What it takes to read it.
    Memory,
    /// How long that takes a processor.
    Computing,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unsupported => "there are no previews of such files",
            Self::Malformed(Malformed::Head) => "the file does not begin as its type does",
            Self::Malformed(Malformed::Body) => "the file is damaged",
            Self::Malformed(Malformed::Nothing) => "there is nothing in the file",
            Self::TooLarge(TooLarge::Bytes) => "the file has too many bytes for a preview",
            Self::TooLarge(TooLarge::Pixels) => "the picture has too many pixels for a preview",
            Self::TooLarge(TooLarge::Computing) => "a preview of the file takes too long to compute",
            Self::TooLarge(TooLarge::Memory) => "a preview of the file takes too much memory",
        })
    }
}

impl std::error::Error for Refusal {}
