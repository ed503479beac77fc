//! The stream of frames: cuts do not matter, and nobody makes a connection hold more than a frame.

use tern_wire::frame::{FrameBuffer, FrameError};
use tern_wire::limits::{FRAME_BYTES_MAX, FRAME_BYTES_MAX_BEFORE_LOGIN};

use crate::requests::requests;
use crate::script::{Cuts, Script};

/// Bytes of a length prefix.
const PREFIX_BYTES_MAX: usize = 4;

/// The frames of a stream, and whether it ended in one that is too large.
type Split = (Vec<Vec<u8>>, Option<FrameError>);

/// Script: cuts; after how many frames the limit rises, and after how many the connection goes on elsewhere; then the stream.
pub fn frames(data: &[u8]) {
    let mut script = Script::new(data);
    let cuts = Cuts::read(&mut script);
    let (login, moves) = (usize::from(script.byte()), usize::from(script.byte()));
    let stream = script.rest();
    let whole = split(&[stream], login, usize::MAX);
    assert_eq!(split(&cuts.of(stream), login, usize::MAX), whole, "the cuts matter");
    assert_eq!(split(&cuts.of(stream), login, moves), whole, "the move matters");
    for frame in &whole.0 {
        requests(frame);
    }
}

/// Splits a stream that comes in pieces. After `moves` frames the connection goes on in another place, with what is unread.
fn split(pieces: &[&[u8]], login: usize, moves: usize) -> Split {
    let (mut buffer, mut found) = (FrameBuffer::default(), Vec::new());
    for piece in pieces {
        let read = read(&mut buffer, piece, login, moves, &mut found).and_then(|rest| match rest {
            Some(rest) => {
                buffer = FrameBuffer::default();
                self::read(&mut buffer, &rest, login, usize::MAX, &mut found)
            }
            None => Ok(None),
        });
        if let Err(error) = read {
            return (found, Some(error));
        }
        let held = buffer.len();
        assert!(held <= limit(found.len(), login) + PREFIX_BYTES_MAX, "{held} bytes are held for a frame");
    }
    (found, None)
}

/// Reads one piece, up to its end or to `frames_max` frames in all: then it gives what is unread.
fn read(
    buffer: &mut FrameBuffer,
    piece: &[u8],
    login: usize,
    frames_max: usize,
    found: &mut Vec<Vec<u8>>,
) -> Result<Option<Vec<u8>>, FrameError> {
    let mut frames = buffer.read(piece);
    while found.len() != frames_max {
        match frames.next(limit(found.len(), login))? {
            Some(frame) => found.push(frame.to_vec()),
            None => return Ok(None),
        }
    }
    Ok(Some(frames.into_rest()))
}

fn limit(frames: usize, login: usize) -> usize {
    if frames < login { FRAME_BYTES_MAX_BEFORE_LOGIN } else { FRAME_BYTES_MAX }
}
