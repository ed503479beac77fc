//! Tokens: what was not given out, bit for bit, is never accepted.

use std::sync::LazyLock;

use tern_shard::tokens::{Keys, KeysRecord, token_hash};

use crate::fixtures;
use crate::script::Script;

static KEYS: LazyLock<Keys> = LazyLock::new(fixtures::keys);
static TOKENS: LazyLock<Vec<&str>> = LazyLock::new(fixtures::tokens);

/// Script: a kind; then text that is taken for a token, or a real token's number and what is changed in it, or a record of
/// keys.
pub fn tokens(data: &[u8]) {
    let mut script = Script::new(data);
    match script.byte() % 4 {
        0 => verify(&String::from_utf8_lossy(script.rest())),
        1 => verify(&changed(script)),
        2 => verify(&encoded(&mut script)),
        _ => foreign(script.rest()),
    }
}

fn verify(text: &str) {
    let access = KEYS.verify_access_token(text, 0);
    let refresh = KEYS.read_refresh_token(text);
    assert!(access.is_err() || refresh.is_err(), "one text is both kinds of token");
    if access.is_ok() || refresh.is_ok() {
        assert!(TOKENS.contains(&text), "a token was accepted that was not given out: {text:?}");
    }
    assert!(KEYS.verify_access_token(text, u64::MAX).is_err(), "an access token has no end");
    assert_eq!(KEYS.refresh_token_owner(text).ok(), refresh.ok().map(|token| token.author));
    assert_eq!(token_hash(text).len(), 32);
}

/// A real token with changes: bytes replaced, inserted, removed, or those of another token.
fn changed(mut script: Script) -> String {
    let mut token = TOKENS[script.below(TOKENS.len())].as_bytes().to_vec();
    while !script.is_done() {
        let at = script.below(token.len() + 1);
        match script.byte() % 4 {
            0 => {
                if let Some(byte) = token.get_mut(at) {
                    *byte = script.byte();
                }
            }
            1 => token.insert(at, script.byte()),
            2 => drop(token.drain(at..(at + usize::from(script.byte())).min(token.len()))),
            _ => {
                let other = TOKENS[script.below(TOKENS.len())].as_bytes();
                token.truncate(at);
                token.extend(other.iter().skip(at));
            }
        }
    }
    String::from_utf8_lossy(&token).into_owned()
}

/// Content and MAC as the data has them, in the encoding of tokens.
fn encoded(script: &mut Script) -> String {
    use base64::Engine as _;
    base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(script.take(usize::MAX))
}

/// Keys of a damaged record make no token of this installation.
fn foreign(record: &[u8]) {
    use prost::Message as _;
    let Ok(record) = KeysRecord::decode(record) else { return };
    let real = KeysRecord::decode(fixtures::KEYS).expect("the fixture is a record of keys");
    let Ok(keys) = Keys::new(&record) else { return };
    for token in TOKENS.iter() {
        let accepted = (keys.verify_access_token(token, 0).is_ok(), keys.read_refresh_token(token).is_ok());
        let same = (record.access == real.access, record.refresh == real.refresh);
        assert!((!accepted.0 || same.0) && (!accepted.1 || same.1), "other keys accept a token");
    }
}
