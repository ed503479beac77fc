//! What real programs left: keys, tokens and a log of a store that was made for this. README.md says how.

use prost::Message as _;
use tern_shard::tokens::{Keys, KeysRecord};

/// The store's keys, as its record holds them.
pub(crate) const KEYS: &[u8] = include_bytes!("../fixtures/keys.bin");

/// Tokens that were given out by the server with those keys, one a line.
const TOKENS: &str = include_str!("../fixtures/tokens.txt");

/// The segments of the log that a server left which was killed between them, in order and without the zeros at their ends.
pub(crate) const SEGMENTS: [&[u8]; 3] = [
    include_bytes!("../fixtures/log/0.bin"),
    include_bytes!("../fixtures/log/1.bin"),
    include_bytes!("../fixtures/log/2.bin"),
];

/// The number of the group that a segment's bytes begin with, behind its salt; its name has it as well.
pub(crate) fn first_of(segment: &[u8]) -> u64 {
    let number = segment.get(16..).and_then(|rest| rest.first_chunk());
    number.map_or(1, |number| u64::from_le_bytes(*number))
}

/// The keys, ready to use.
pub(crate) fn keys() -> Keys {
    let record = KeysRecord::decode(KEYS).expect("the fixture is a record of keys");
    Keys::new(&record).expect("the fixture's keys are whole")
}

/// The tokens.
pub(crate) fn tokens() -> Vec<&'static str> {
    TOKENS.lines().collect()
}
