//! What the program answers, in bytes. All numbers are big-endian:
//!
//! | bytes | what |
//! | --- | --- |
//! | 4 | `TPV1`: tern's previews, version 1 |
//! | 4 | how many bytes follow |
//! | 1 | 0: a preview; else, a refusal, and nothing follows |
//! | 4, 4, 8, 4 | width, height, duration in ms, pages; 0: none |
//! | 2 and as many | the wave form |
//! | 2 and as many | the thumbnail |
//! | 2 and as many | the BlurHash |
//!
//! It is read as bytes of a stranger, for that is what the process is once it has read a file: nothing that can't be true is taken.

use crate::limits::{
    ANSWER_BYTES_MAX, BLUR_HASH_BYTES_MAX, DURATION_MS_MAX, SIDE_PX_MAX, THUMBNAIL_BYTES_MAX, WAVE_PARTS,
};
use crate::preview::{Malformed, Preview, Refusal, TooLarge};

const MAGIC: &[u8; 4] = b"TPV1";

/// How a preview is told from a refusal.
const PREVIEW: u8 = 0;

/// The refusals that there are, each with its number.
const REFUSALS: &[(u8, Refusal)] = &[
    (1, Refusal::Unsupported),
    (2, Refusal::Malformed(Malformed::Head)),
    (3, Refusal::Malformed(Malformed::Body)),
    (4, Refusal::Malformed(Malformed::Nothing)),
    (5, Refusal::TooLarge(TooLarge::Bytes)),
    (6, Refusal::TooLarge(TooLarge::Pixels)),
    (7, Refusal::TooLarge(TooLarge::Memory)),
    (8, Refusal::TooLarge(TooLarge::Computing)),
];

/// The bytes are no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoAnswer;

/// The bytes of an answer.
pub fn write(answer: &Result<Preview, Refusal>) -> Vec<u8> {
    let mut body = Vec::new();
    match answer {
        Ok(preview) => write_preview(&mut body, preview),
        Err(refusal) => {
            let known = REFUSALS.iter().find(|(_, other)| other == refusal);
            body.push(known.expect("every refusal has a number").0);
        }
    }
    let length = u32::try_from(body.len()).expect("an answer is short");
    [MAGIC.as_slice(), &length.to_be_bytes(), &body].concat()
}

fn write_preview(body: &mut Vec<u8>, preview: &Preview) {
    body.push(PREVIEW);
    body.extend(preview.width.unwrap_or(0).to_be_bytes());
    body.extend(preview.height.unwrap_or(0).to_be_bytes());
    body.extend(preview.duration_ms.unwrap_or(0).to_be_bytes());
    body.extend(preview.pages.unwrap_or(0).to_be_bytes());
    for part in [&preview.wave, &preview.thumbnail, preview.blur_hash.as_bytes()] {
        let length = u16::try_from(part.len()).expect("each is bounded");
        body.extend(length.to_be_bytes());
        body.extend(part);
    }
}

/// The answer that bytes are, all of them and no others.
pub fn read(bytes: &[u8]) -> Result<Result<Preview, Refusal>, NoAnswer> {
    if bytes.len() > ANSWER_BYTES_MAX {
        return Err(NoAnswer);
    }
    let mut rest = bytes.strip_prefix(MAGIC).ok_or(NoAnswer)?;
    if u32::from_be_bytes(take(&mut rest)?) as usize != rest.len() {
        return Err(NoAnswer);
    }
    let [kind] = take(&mut rest)?;
    let answer = if kind == PREVIEW {
        Ok(read_preview(&mut rest)?)
    } else {
        Err(REFUSALS.iter().find(|(number, _)| *number == kind).ok_or(NoAnswer)?.1)
    };
    rest.is_empty().then_some(answer).ok_or(NoAnswer)
}

fn read_preview(rest: &mut &[u8]) -> Result<Preview, NoAnswer> {
    let preview = Preview {
        width: some(u32::from_be_bytes(take(rest)?)),
        height: some(u32::from_be_bytes(take(rest)?)),
        duration_ms: some(u64::from_be_bytes(take(rest)?)),
        pages: some(u32::from_be_bytes(take(rest)?)),
        wave: take_part(rest)?.to_vec(),
        thumbnail: take_part(rest)?.to_vec(),
        blur_hash: std::str::from_utf8(take_part(rest)?).map_err(|_| NoAnswer)?.to_owned(),
    };
    may_be(&preview).then_some(preview).ok_or(NoAnswer)
}

/// Whether this can be a preview that the program makes.
fn may_be(preview: &Preview) -> bool {
    let Preview { width, height, duration_ms, pages: _, wave, thumbnail, blur_hash } = preview;
    width.is_none_or(|width| width <= SIDE_PX_MAX)
        && height.is_none_or(|height| height <= SIDE_PX_MAX)
        && width.is_some() == height.is_some()
        && duration_ms.is_none_or(|duration| duration <= DURATION_MS_MAX)
        && (wave.is_empty() || wave.len() == WAVE_PARTS)
        && (thumbnail.is_empty() || is_thumbnail(thumbnail))
        && blur_hash.len() <= BLUR_HASH_BYTES_MAX
        && blur_hash.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whether bytes begin and end as a JPEG does.
fn is_thumbnail(bytes: &[u8]) -> bool {
    bytes.len() <= THUMBNAIL_BYTES_MAX && bytes.starts_with(b"\xff\xd8\xff") && bytes.ends_with(b"\xff\xd9")
}

fn some<T: Default + PartialEq>(number: T) -> Option<T> {
    (number != T::default()).then_some(number)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], NoAnswer> {
    let (taken, after) = rest.split_first_chunk().ok_or(NoAnswer)?;
    *rest = after;
    Ok(*taken)
}

fn take_part<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], NoAnswer> {
    let length = u16::from_be_bytes(take(rest)?);
    let (taken, after) = rest.split_at_checked(length.into()).ok_or(NoAnswer)?;
    *rest = after;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A preview that has all that one can have.
    fn full() -> Preview {
        Preview {
            width: Some(4_000),
            height: Some(3_000),
            duration_ms: Some(1_234),
            pages: Some(7),
            wave: vec![9; WAVE_PARTS],
            thumbnail: b"\xff\xd8\xff\xe0 and so on \xff\xd9".to_vec(),
            blur_hash: "LNAdAqj[00aymkj[TKay9}ay-Sj[".to_owned(),
        }
    }

    proptest! {
        #[test]
        fn whatever_bytes_come_nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
            let length = u32::try_from(bytes.len()).expect("it is short").to_be_bytes();
            let _ = read(&[MAGIC, length.as_slice(), &bytes].concat());
        }

        #[test]
        fn what_is_read_of_a_damaged_answer_is_written_the_same(at in 0..150_usize, byte in any::<u8>()) {
            let mut bytes = write(&Ok(full()));
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(answer) = read(&bytes) {
                prop_assert_eq!(write(&answer), bytes);
            }
        }
    }

    #[test]
    fn what_is_written_is_read_and_no_part_of_it() {
        let previews = [Preview::default(), full()].map(Ok);
        let answers = previews.into_iter().chain(REFUSALS.iter().map(|(_, refusal)| Err(*refusal)));
        for answer in answers {
            let bytes = write(&answer);
            assert_eq!(read(&bytes), Ok(answer));
            for length in 0..bytes.len() {
                assert_eq!(read(&bytes[..length]), Err(NoAnswer), "{length} bytes");
            }
            assert_eq!(read(&[bytes.as_slice(), &[0]].concat()), Err(NoAnswer));
        }
    }

    #[test]
    fn what_can_not_be_true_is_not_taken() {
        let check = |change: fn(&mut Preview)| {
            let mut preview = full();
            change(&mut preview);
            assert_eq!(read(&write(&Ok(preview.clone()))), Err(NoAnswer), "{preview:?}");
        };
        check(|preview| preview.width = Some(SIDE_PX_MAX + 1));
        check(|preview| preview.height = Some(u32::MAX));
        check(|preview| preview.height = None);
        check(|preview| preview.duration_ms = Some(DURATION_MS_MAX + 1));
        check(|preview| preview.wave.truncate(1));
        check(|preview| preview.thumbnail = b"GIF89a".to_vec());
        check(|preview| preview.thumbnail = vec![0xff; 3]);
        check(|preview| {
            preview.thumbnail.splice(3..3, vec![0; THUMBNAIL_BYTES_MAX]);
        });
        check(|preview| preview.blur_hash = "<\n>".to_owned());
        check(|preview| preview.blur_hash = "a".repeat(BLUR_HASH_BYTES_MAX + 1));
    }
}
