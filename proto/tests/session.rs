//! proto/session.txt is what clients' authors run their codecs against: every frame in it is whole, and every kind of frame is in it.

use std::collections::BTreeSet;
use std::path::Path;

use prost::Message as _;
use tern_proto::v1;

const SESSION: &str = include_str!("../session.txt");

/// The numbers of the fields of a message's `oneof`, by the schema.
fn kinds(message: &str) -> BTreeSet<u32> {
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema");
    let descriptors = protox::compile([schema.join("tern.proto")], [&schema]).expect("the schema compiles");
    let messages = descriptors.file.iter().flat_map(|file| &file.message_type);
    let fields = messages.filter(|found| found.name() == message).flat_map(|found| &found.field);
    fields.filter(|field| field.oneof_index.is_some()).map(|field| field.number() as u32).collect()
}

#[test]
fn every_frame_says_itself_again_and_every_kind_of_frame_is_there() {
    let (mut said, mut heard) = (BTreeSet::new(), BTreeSet::new());
    let mut before = "";
    for line in SESSION.lines() {
        if let Some((who, hex)) = line.split_once(' ').filter(|(who, _)| who.ends_with(['>', '<'])) {
            let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("two digits");
            let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
            let (again, number, shown) = if who.ends_with('>') {
                let frame = v1::ClientFrame::decode_length_delimited(&bytes[..]).expect("a frame");
                let request = frame.request.clone().expect("a request");
                (
                    frame.encode_length_delimited_to_vec(),
                    tag_of(|out| request.encode(out)),
                    format!("# {request:?}"),
                )
            } else {
                let frame = v1::ServerFrame::decode_length_delimited(&bytes[..]).expect("a frame");
                let message = frame.message.clone().expect("a message");
                (
                    frame.encode_length_delimited_to_vec(),
                    tag_of(|out| message.encode(out)),
                    format!("# {message:?}"),
                )
            };
            assert_eq!(again, bytes, "{line}");
            assert_eq!(shown, before, "what stands above it is what it says");
            if who.ends_with('>') {
                said.insert(number)
            } else {
                heard.insert(number)
            };
        }
        before = line;
    }
    assert_eq!(said, kinds("ClientFrame"), "requests, by their field's number");
    assert_eq!(heard, kinds("ServerFrame"), "pushes and responses, by their field's number");
}

/// The number of the field that something is encoded as.
fn tag_of(encode: impl FnOnce(&mut Vec<u8>)) -> u32 {
    let mut bytes = Vec::new();
    encode(&mut bytes);
    prost::encoding::decode_key(&mut &bytes[..]).expect("a key").0
}
