//! The record layer of an established connection: a peer with the right keys says anything, and others change it on its way.

use std::cell::RefCell;

use tern_wire::tls::{Opened, Records, TlsError};

use crate::handshake::connected;
use crate::script::{Cuts, Script};

/// Bytes of the longest record, its header included (RFC 8446, section 5.2).
const RECORD_BYTES_MAX: usize = 5 + (1 << 14) + 256;

/// What a script may make of one stream, so that a run takes no time to speak of.
const STREAM_BYTES_MAX: usize = 256 << 10;

/// Bytes of the longest content: one more than may be, to see it refused.
const CONTENT_BYTES_MAX: usize = (1 << 14) + 2;

const APPLICATION_DATA: u8 = 23;

thread_local! {
    /// The ends of a connection, the client's first, as they were after the handshake.
    static ENDS: RefCell<(Records, Records)> = RefCell::new(connected());
}

/// What a peer sends.
#[derive(Default)]
struct Said {
    stream: Vec<u8>,
    /// All content of type application data, in order.
    data: Vec<u8>,
    /// Nobody has changed the stream, and nothing that is not to be said was said.
    clean: bool,
}

/// What came of it.
#[derive(PartialEq, Debug)]
struct Heard {
    data: Vec<u8>,
    result: Result<Opened, TlsError>,
}

/// Script: who speaks; cuts; then what is sealed, and how the stream is changed.
pub fn records(data: &[u8]) {
    let mut script = Script::new(data);
    let from_client = script.byte().is_multiple_of(2);
    let (client, server) = ENDS.with_borrow(|(client, server)| (client.again(), server.again()));
    let (mut speaker, listener) = if from_client { (client, server) } else { (server, client) };
    let cuts = Cuts::read(&mut script);
    let said = say(&mut speaker, &mut script);
    let whole = hear(listener.again(), &mut speaker.again(), &[&said.stream]);
    let cut = hear(listener, &mut speaker, &cuts.of(&said.stream));
    assert_eq!(cut, whole, "the cuts matter");
    assert!(said.data.starts_with(&whole.data), "data came that was not said in this order");
    if said.clean {
        assert_eq!(whole.result, Ok(Opened::Open), "what may be said was refused");
        assert_eq!(whole.data, said.data, "data was lost");
    }
}

fn say(speaker: &mut Records, script: &mut Script) -> Said {
    let mut said = Said { clean: true, ..Said::default() };
    // Those without data may not be too many.
    let mut idle = 0;
    while !script.is_done() && said.stream.len() < STREAM_BYTES_MAX {
        match script.byte() % 8 {
            0 | 1 => {
                let data = script.piece();
                speaker.seal(data, &mut said.stream).expect("sealed");
                said.data.extend_from_slice(data);
            }
            2 => {
                let (kind, content) = (script.byte(), script.piece());
                said.clean = false;
                speaker.seal_any(kind, content, script.byte().into(), &mut said.stream);
                said.data.extend_from_slice(data_of(kind, content));
            }
            3 => {
                speaker.seal_key_update(script.byte() % 2 == 1, &mut said.stream);
                idle += 1;
                said.clean &= idle < 32;
            }
            4 => {
                // Long ones: a piece repeated.
                let (piece, bytes) = (script.piece(), script.below(CONTENT_BYTES_MAX));
                let content: Vec<u8> = piece.iter().copied().cycle().take(bytes).collect();
                let padding = script.byte().into();
                said.clean &= !content.is_empty() && content.len() + padding <= 1 << 14;
                speaker.seal_any(APPLICATION_DATA, &content, padding, &mut said.stream);
                said.data.extend(content);
            }
            5 => {
                speaker.close(&mut said.stream);
                said.clean = false;
            }
            6 => {
                let at = script.below(said.stream.len() + 1);
                let bytes = script.piece();
                for (byte, change) in said.stream[at..].iter_mut().zip(bytes) {
                    *byte ^= change;
                    said.clean &= *change == 0;
                }
            }
            _ => {
                let bytes = script.piece();
                said.clean &= bytes.is_empty();
                said.stream.extend_from_slice(bytes);
            }
        }
    }
    said
}

/// What of a record's content is data. A type of 0 is padding, and the content's own last byte that is not the type.
fn data_of(kind: u8, content: &[u8]) -> &[u8] {
    let (kind, data) = match kind {
        0 => match content.iter().rposition(|byte| *byte != 0) {
            Some(end) => (content[end], &content[..end]),
            None => (0, &[][..]),
        },
        _ => (kind, content),
    };
    if kind == APPLICATION_DATA { data } else { &[] }
}

fn hear(mut listener: Records, speaker: &mut Records, pieces: &[&[u8]]) -> Heard {
    let mut heard = Heard { data: Vec::new(), result: Ok(Opened::Open) };
    for piece in pieces {
        let mut answer = Vec::new();
        let sink = &mut |data: &[u8]| heard.data.extend_from_slice(data);
        let result = listener.open(&mut piece.to_vec(), &mut answer, sink);
        assert!(listener.partial_bytes() <= RECORD_BYTES_MAX, "more than a record is held");
        let mut said = Vec::new();
        let opened = speaker.open(&mut answer, &mut Vec::new(), &mut |data| said.extend_from_slice(data));
        // A listener may answer more of them than the speaker, who hears no data, has to bear.
        let bears =
            matches!(opened, Ok(_) | Err(TlsError::PeerMisbehaved("too many records came without data")));
        assert!(bears && said.is_empty(), "the answer to a key update is not readable: {opened:?}");
        if heard.result == Ok(Opened::Open) {
            heard.result = result;
        } else {
            assert!(result.is_ok(), "an end came twice");
        }
        listener.hibernate();
    }
    if heard.result != Ok(Opened::Open) {
        let before = heard.data.len();
        let mut more = Vec::new();
        speaker.seal(b"more", &mut more).expect("sealed");
        let sink = &mut |data: &[u8]| heard.data.extend_from_slice(data);
        let _ = listener.open(&mut more, &mut Vec::new(), sink);
        assert_eq!(heard.data.len(), before, "data came behind the end");
    }
    let mut farewell = Vec::new();
    listener.close(&mut farewell);
    assert!(farewell.len() <= 64);
    heard
}
