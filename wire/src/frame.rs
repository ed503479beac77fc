//! Frames: a varint length, then that many bytes of one protobuf message.
//!
//! [`FrameBuffer`] holds bytes only while a frame is partial: a frame that arrives whole is read in place, and an idle
//! connection's buffer owns no memory. This module refuses to know what a frame's bytes mean.

use std::fmt;

use prost::Message;

/// A length prefix of more bytes than this is over every limit (a varint carries 7 bits a byte).
const PREFIX_BYTES_MAX: usize = 4;

/// Why the byte stream can't be split into frames any further.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameError {
    /// A frame is longer than the connection may send now.
    TooLarge {
        /// The longest frame allowed, in bytes.
        max: usize,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { max } => write!(f, "a frame is longer than the {max} bytes allowed now"),
        }
    }
}

impl std::error::Error for FrameError {}

/// Appends `message` to `out` as one frame. Gives its bytes without the length prefix.
pub fn encode(message: &impl Message, out: &mut Vec<u8>) -> usize {
    let begin = out.len();
    message.encode_length_delimited(out).expect("a Vec grows as needed");
    bytes_of(&out[begin..])
}

/// The bytes of a frame without its length prefix, each byte of which says whether another one follows.
fn bytes_of(frame: &[u8]) -> usize {
    let prefix = 1 + frame.iter().take_while(|byte| **byte >= 0x80).count();
    frame.len() - prefix
}

/// Appends a frame that was encoded before, length prefix included. Gives its bytes without the prefix.
pub fn append(frame: &[u8], out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(frame);
    bytes_of(frame)
}

/// The bytes of a frame that has not arrived whole.
#[derive(Default, Debug)]
pub struct FrameBuffer {
    partial: Vec<u8>,
}

impl FrameBuffer {
    /// Splits what arrived, after what was left over from before, into frames.
    ///
    /// Read until [`Frames::next`] gives `None`, or take the unread rest with [`Frames::into_rest`].
    pub fn read<'a>(&'a mut self, input: &'a [u8]) -> Frames<'a> {
        Frames { buffer: self, input, whole: false }
    }

    /// Bytes held for a partial frame.
    pub fn len(&self) -> usize {
        self.partial.len()
    }

    /// Whether no partial frame is held.
    pub fn is_empty(&self) -> bool {
        self.partial.is_empty()
    }
}

/// The frames of one piece of input: a lending iterator.
#[derive(Debug)]
pub struct Frames<'a> {
    buffer: &'a mut FrameBuffer,
    input: &'a [u8],
    /// `buffer.partial` holds a whole frame, lent by the last `next`.
    whole: bool,
}

impl Frames<'_> {
    /// The next whole frame, without its length prefix; `None` when the rest is partial, and then kept.
    ///
    /// `bytes_max` is asked at each step because it grows when the connection logs in.
    #[allow(clippy::should_implement_trait, reason = "it lends from itself and takes the limit")]
    pub fn next(&mut self, bytes_max: usize) -> Result<Option<&[u8]>, FrameError> {
        if self.whole {
            // Freed, not cleared: an idle connection keeps no buffer.
            self.buffer.partial = Vec::new();
            self.whole = false;
        }
        if self.buffer.partial.is_empty() {
            self.next_in_place(bytes_max)
        } else {
            self.next_joined(bytes_max)
        }
    }

    /// Whether all input has been read.
    pub fn is_empty(&self) -> bool {
        self.input.is_empty()
    }

    /// What has not been read as frames yet, for a connection that goes on elsewhere.
    pub fn into_rest(self) -> Vec<u8> {
        let mut rest = if self.whole { Vec::new() } else { std::mem::take(&mut self.buffer.partial) };
        self.buffer.partial = Vec::new();
        rest.extend_from_slice(self.input);
        rest
    }

    fn next_in_place(&mut self, bytes_max: usize) -> Result<Option<&[u8]>, FrameError> {
        let whole = match prefix(self.input, bytes_max)? {
            Some((prefix, length)) if self.input.len() - prefix >= length => prefix..prefix + length,
            _ => {
                self.buffer.partial.extend_from_slice(self.input);
                self.input = &[];
                return Ok(None);
            }
        };
        let (frame, rest) = (&self.input[whole.clone()], &self.input[whole.end..]);
        self.input = rest;
        Ok(Some(frame))
    }

    fn next_joined(&mut self, bytes_max: usize) -> Result<Option<&[u8]>, FrameError> {
        let partial = &mut self.buffer.partial;
        let (prefix_bytes, length) = loop {
            if let Some(found) = prefix(partial, bytes_max)? {
                break found;
            }
            let Some((first, rest)) = self.input.split_first() else { return Ok(None) };
            partial.push(*first);
            self.input = rest;
        };
        let missing = (prefix_bytes + length).saturating_sub(partial.len());
        let (taken, rest) = self.input.split_at(missing.min(self.input.len()));
        partial.extend_from_slice(taken);
        self.input = rest;
        if taken.len() < missing {
            return Ok(None);
        }
        self.whole = true;
        Ok(Some(&self.buffer.partial[prefix_bytes..]))
    }
}

/// The length prefix at the head of `bytes`: its own length and the frame's. `None` if it is cut off.
fn prefix(bytes: &[u8], bytes_max: usize) -> Result<Option<(usize, usize)>, FrameError> {
    let mut length = 0usize;
    for (i, byte) in bytes.iter().take(PREFIX_BYTES_MAX).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return if length > bytes_max {
                Err(FrameError::TooLarge { max: bytes_max })
            } else {
                Ok(Some((i + 1, length)))
            };
        }
    }
    if bytes.len() >= PREFIX_BYTES_MAX { Err(FrameError::TooLarge { max: bytes_max }) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stream(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        for frame in frames {
            prost::encode_length_delimiter(frame.len(), &mut out).expect("a Vec grows as needed");
            out.extend_from_slice(frame);
        }
        out
    }

    fn split(buffer: &mut FrameBuffer, piece: &[u8], bytes_max: usize) -> Result<Vec<Vec<u8>>, FrameError> {
        let mut found = Vec::new();
        let mut frames = buffer.read(piece);
        while let Some(frame) = frames.next(bytes_max)? {
            found.push(frame.to_vec());
        }
        Ok(found)
    }

    proptest! {
        #[test]
        fn frames_survive_any_cut(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 0..8),
            cuts in prop::collection::vec(1usize..200, 1..64),
        ) {
            let bytes = stream(&frames);
            let mut buffer = FrameBuffer::default();
            let mut found = Vec::new();
            let mut rest = &bytes[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break }
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                found.extend(split(&mut buffer, piece, 1000).expect("within the limit"));
                rest = after;
            }
            prop_assert_eq!(found, frames);
            prop_assert!(buffer.is_empty());
            prop_assert_eq!(buffer.partial.capacity(), 0);
        }

        #[test]
        fn the_unread_rest_is_the_stream_from_there(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 2..6),
            cut in 0usize..300,
            read in 0usize..4,
        ) {
            let bytes = stream(&frames);
            let cut = cut.min(bytes.len());
            let mut buffer = FrameBuffer::default();
            let mut found = Vec::new();
            let mut first = buffer.read(&bytes[..cut]);
            while found.len() < read && let Some(frame) = first.next(1000).expect("within the limit") {
                found.push(frame.to_vec());
            }
            let mut rest = first.into_rest();
            rest.extend_from_slice(&bytes[cut..]);
            found.extend(split(&mut FrameBuffer::default(), &rest, 1000).expect("within the limit"));
            prop_assert_eq!(found, frames);
        }

        #[test]
        fn any_bytes_are_frames_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let mut buffer = FrameBuffer::default();
            let _ = split(&mut buffer, &bytes, 100);
            prop_assert!(buffer.len() <= 100 + PREFIX_BYTES_MAX || split(&mut FrameBuffer::default(), &bytes, 100).is_err());
        }
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_at_its_prefix() {
        for bytes in [&[101u8][..], &[0xff, 0xff, 0xff, 0x7f], &[0xff, 0xff, 0xff, 0xff]] {
            let refused = split(&mut FrameBuffer::default(), bytes, 100);
            assert_eq!(refused, Err(FrameError::TooLarge { max: 100 }), "{bytes:?}");
        }
    }
}
