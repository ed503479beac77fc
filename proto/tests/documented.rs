//! docs/PROTOCOL.md is not behind the schema: it names everything there is, and its bytes are what the types give.

use std::path::Path;

use prost::Message as _;
use prost::bytes::Bytes;
use tern_proto::v1::{self, client_frame, server_frame};

const DOCUMENT: &str = include_str!("../../docs/PROTOCOL.md");

#[test]
fn every_name_of_the_schema_is_in_the_document() {
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema");
    let descriptors = protox::compile([schema.join("tern.proto")], [&schema]).expect("the schema compiles");
    let missing: Vec<_> = descriptors
        .file
        .iter()
        .flat_map(|file| {
            assert!(
                file.message_type.iter().all(|m| m.nested_type.is_empty() && m.enum_type.is_empty()),
                "nested types would escape this test"
            );
            let messages = file.message_type.iter().flat_map(|message| {
                let row = row_of(message.name());
                let fields = message.field.iter().map(move |field| (field.name().to_owned(), row));
                fields.chain([(message.name().to_owned(), DOCUMENT)])
            });
            let enums = file.enum_type.iter().flat_map(|enumeration| {
                // Values have their enum's name before theirs, so that they collide in no language; the page does without.
                let prefix = prefix_of(enumeration.name());
                let bare = move |name: &str| {
                    let bare = name.strip_prefix(&prefix);
                    bare.unwrap_or_else(|| panic!("{name} lacks the prefix {prefix}")).to_owned()
                };
                let values = enumeration.value.iter().map(move |value| bare(value.name()));
                values.chain([enumeration.name().to_owned()]).map(|name| (name, DOCUMENT))
            });
            messages.chain(enums).collect::<Vec<_>>()
        })
        .filter(|(name, text)| !text.contains(&format!("`{name}`")))
        .map(|(name, _)| name)
        .collect();
    assert!(missing.is_empty(), "docs/PROTOCOL.md does not name these in backticks: {missing:?}");
}

/// The name of an enum as its values begin: `STORY_AUDIENCE_` of `StoryAudience`.
fn prefix_of(name: &str) -> String {
    let mut prefix = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !prefix.is_empty() {
            prefix.push('_');
        }
        prefix.extend(letter.to_uppercase());
    }
    prefix + "_"
}

/// The line of the table of messages that lists a message's fields; empty if there is none.
fn row_of(message: &str) -> &'static str {
    let table = DOCUMENT.split("## 15 ").nth(1).expect("section 15 has the table of messages");
    table.lines().find(|line| line.starts_with(&format!("| `{message}` |"))).unwrap_or_default()
}

#[test]
fn every_reason_has_a_row_of_its_own() {
    let without: Vec<_> = (0..100)
        .filter_map(|number| v1::Reason::try_from(number).ok())
        .map(|reason| reason.name())
        .filter(|name| !DOCUMENT.contains(&format!("\n| `{name}` |")))
        .collect();
    assert!(without.is_empty(), "section 10 of docs/PROTOCOL.md has no row for these: {without:?}");
}

const ANN: u64 = 2_908_166_648_099;
const BOB: u64 = 2_168_533_830_314;
const TIME_MS: u64 = 1_800_000_000_000;

fn client(id: u64, request: client_frame::Request) -> Vec<u8> {
    v1::ClientFrame { id, request: Some(request) }.encode_length_delimited_to_vec()
}

fn server(id: u64, message: server_frame::Message) -> Vec<u8> {
    v1::ServerFrame { id, message: Some(message) }.encode_length_delimited_to_vec()
}

/// The hexadecimal examples of section 14, in order, as bytes.
fn examples() -> Vec<Vec<u8>> {
    let section = DOCUMENT.split("## 14 ").nth(1).and_then(|rest| rest.split("## 15 ").next());
    let mut examples = vec![Vec::new()];
    for line in section.expect("section 14 has the examples").lines() {
        let example = examples.last_mut().expect("there is always one");
        if line.starts_with("    ") {
            let bytes = line
                .split_whitespace()
                .map_while(|word| (word.len() == 2).then(|| u8::from_str_radix(word, 16).ok()).flatten());
            example.extend(bytes);
        } else if !example.is_empty() {
            examples.push(Vec::new());
        }
    }
    examples.retain(|example| !example.is_empty());
    examples
}

#[test]
fn the_worked_examples_are_what_the_types_give() {
    let body = Bytes::from_static(b"Hi Bob!");
    let hello = v1::Hello {
        version_min: 1,
        version_max: 1,
        client: "example/1".to_owned(),
        features: 0,
        push_frames_max: 256,
        push_bytes_max: 1 << 20,
    };
    let send = v1::Send {
        chat: BOB,
        client_id: 3,
        body: body.clone(),
        kind: v1::Kind::Text.into(),
        ..Default::default()
    };
    let entry = v1::Entry { chat: ANN, seq: 42, time_ms: TIME_MS, body, ..Default::default() };
    let acknowledge = v1::Acknowledge { chat: ANN, delivered_upto: 42, read_upto: 0 };
    let expected = [
        client(1, client_frame::Request::Hello(hello)),
        client(7, client_frame::Request::Send(send)),
        server(7, server_frame::Message::Sent(v1::Sent { seq: 42, time_ms: TIME_MS, expires_ms: 0 })),
        server(0, server_frame::Message::Entry(entry)),
        client(0, client_frame::Request::Acknowledge(acknowledge)),
        client(2, client_frame::Request::Ping(v1::Ping {})),
    ];
    assert_eq!(examples(), expected, "section 14 of docs/PROTOCOL.md");
    for example in &expected {
        assert!(
            DOCUMENT.contains(&format!("; {} bytes", example.len())),
            "section 14 tells the length of each example: {} bytes",
            example.len()
        );
    }
}

#[test]
fn the_count_of_framing_is_true() {
    let body = Bytes::from(vec![b'x'; 100]);
    // Ids have 42 bits.
    let chat = (1 << 42) - 1;
    let send = v1::Send {
        chat,
        client_id: 100_000,
        body: body.clone(),
        kind: v1::Kind::Text.into(),
        ..Default::default()
    };
    let entry = |seq| v1::Entry { chat, seq, time_ms: TIME_MS, body: body.clone(), ..Default::default() };
    let framing = |frame: Vec<u8>| frame.len() - body.len();
    let pushed = |seq| framing(server(0, server_frame::Message::Entry(entry(seq))));
    let sent = framing(client(10_000, client_frame::Request::Send(send)));
    assert_eq!((sent, pushed(10_000), pushed(16_384)), (19, 22, 23));
    for (message, bytes) in [("Send", sent), ("Entry", pushed(10_000))] {
        let row = DOCUMENT
            .lines()
            .find(|line| line.starts_with(&format!("| `{message}` | 1 |")))
            .expect("section 14 has a row of counts");
        assert!(row.ends_with(&format!("| {bytes} bytes |")), "{row}");
    }
}
