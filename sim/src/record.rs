//! What was promised, and whether it is so: kept beside the world, which knows nothing of it.

use std::collections::{BTreeMap, BTreeSet};

/// A chat, by its people, the lower first.
pub type Chat = (u64, u64);

/// The chat of two people.
pub fn chat(one: u64, other: u64) -> Chat {
    (one.min(other), one.max(other))
}

/// See the module. Every text is said once.
#[derive(Debug, Default)]
pub struct Record {
    /// What applications have asked to be sent: who, and in which chat.
    asked: BTreeMap<Vec<u8>, (u64, Chat)>,
    /// What was acknowledged as durable, and where.
    acknowledged: BTreeMap<Vec<u8>, (Chat, u64)>,
    /// What anybody was ever told to stand at a place.
    places: BTreeMap<(Chat, u64), Vec<u8>>,
}

impl Record {
    /// An application has asked for a text to be sent.
    pub fn asked(&mut self, text: Vec<u8>, by: u64, to: u64) {
        assert!(self.asked.insert(text, (by, chat(by, to))).is_none(), "every text is said once");
    }

    /// A text was acknowledged.
    pub fn acknowledged(&mut self, text: &[u8], place: Chat, seq: u64) -> Result<(), String> {
        let told = self.acknowledged.insert(text.to_vec(), (place, seq));
        if told.is_some_and(|told| told != (place, seq)) {
            return Err(format!("a retry got another place: {told:?} and {seq} of {place:?}"));
        }
        self.stands(place, seq, text)
    }

    /// Somebody was told that a text stands at a place.
    pub fn stands(&mut self, place: Chat, seq: u64, text: &[u8]) -> Result<(), String> {
        match self.asked.get(text) {
            None => return Err(format!("nobody has said what stands at {seq} of {place:?}")),
            Some((_, chat)) if *chat != place => {
                return Err(format!("what was said in {chat:?} stands at {seq} of {place:?}"));
            }
            Some(_) => {}
        }
        let before = self.places.entry((place, seq)).or_insert_with(|| text.to_vec());
        if before != text {
            return Err(format!("two texts were told to stand at {seq} of {place:?}"));
        }
        Ok(())
    }

    /// How much was acknowledged.
    pub fn count(&self) -> u64 {
        self.acknowledged.len() as u64
    }

    /// What a member has of a chat at the end, by seq, from 1: all that was acknowledged is there, once and at its place, and what one
    /// was told is what all are told.
    pub fn is_whole(&self, place: Chat, texts: &[Vec<u8>]) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        for (seq, text) in (1..).zip(texts) {
            if !seen.insert(text) {
                return Err(format!("a text stands twice in {place:?}, the second time at {seq}"));
            }
            if self.places.get(&(place, seq)).is_some_and(|told| told != text) {
                return Err(format!("another text was told to stand at {seq} of {place:?}"));
            }
        }
        for (text, (_, seq)) in self.acknowledged.iter().filter(|(_, (chat, _))| *chat == place) {
            if texts.get(*seq as usize - 1) != Some(text) {
                let there = texts.len();
                let text = String::from_utf8_lossy(&text[..text.len().min(8)]).into_owned();
                return Err(format!(
                    "of {place:?} {there} are there, and not {text:?}, acknowledged at {seq}"
                ));
            }
        }
        Ok(())
    }
}
