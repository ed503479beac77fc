//! A term: a folded word, or a part of one, in the bytes in which it is stored and sorted.
//!
//! ```text
//! a digit or letter of ASCII    as it is
//! any other character           128 + its number modulo 128, where its block, its number / 128, is that of the last such character
//!                               of the term; else first 1 + block / 256, block modulo 256
//! ```
//! So a letter takes a byte in most alphabets, and an ideograph three. Each character's bytes follow from those before it, and no
//! character's bytes begin with another's at that place: a term begins with another exactly where its bytes do.

use std::fmt;

use crate::limits::TERM_BYTES_MAX;

/// Characters of a block.
const BLOCK: u32 = 128;

/// The bytes below this say the block of the next character; those of ASCII that are in terms are not among them.
const BLOCKS_END: u8 = b'0';

const _: () = assert!(char::MAX as u32 / BLOCK / 256 + 1 < BLOCKS_END as u32);

/// A term: 1 to [`TERM_BYTES_MAX`] bytes. Sorted by its bytes.
//
// The derived order is that of the bytes: behind its length an array has zeros, so that where two arrays are the same the longer term
// is the one that has more of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term {
    bytes: [u8; TERM_BYTES_MAX],
    length: u8,
}

impl Term {
    /// Below every term.
    pub(crate) const EMPTY: Self = Self { bytes: [0; TERM_BYTES_MAX], length: 0 };

    /// The term of a folded word of letters, digits and marks, which is cut before the first character that has no room.
    pub(crate) fn of(word: &str) -> Self {
        let mut term = Self::EMPTY;
        let mut block = None;
        for character in word.chars() {
            let (bytes, count) = packed(character, &mut block);
            if !term.push(&bytes[3 - count..]) {
                break;
            }
        }
        term
    }

    /// The term of a word of letters and digits of ASCII, as [`of`](Self::of) has it of the folded word.
    pub(crate) fn of_ascii(word: &[u8]) -> Self {
        let mut term = Self::EMPTY;
        term.push(&word[..word.len().min(TERM_BYTES_MAX)]);
        term.bytes.make_ascii_lowercase();
        term
    }

    /// A term as it stands in a page.
    ///
    /// # Panics
    /// If it is longer than a term may be.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let mut term = Self::EMPTY;
        assert!(term.push(bytes), "a page has no longer terms");
        term
    }

    /// As it stands in pages.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length.into()]
    }

    /// Does it begin with another one, or is it that?
    pub fn starts_with(&self, other: &Self) -> bool {
        self.as_bytes().starts_with(other.as_bytes())
    }

    /// How many characters it has.
    pub(crate) fn characters(&self) -> usize {
        let mut rest = self.as_bytes().iter();
        let mut count = 0;
        while let Some(byte) = rest.next() {
            if *byte < BLOCKS_END {
                rest.next();
            } else {
                count += 1;
            }
        }
        count
    }

    /// Appends bytes if there is room for all of them.
    fn push(&mut self, bytes: &[u8]) -> bool {
        let start = usize::from(self.length);
        let Some(room) = self.bytes.get_mut(start..start + bytes.len()) else { return false };
        room.copy_from_slice(bytes);
        self.length += bytes.len() as u8;
        true
    }
}

/// The bytes of a character behind one of this block: the last of three, and how many.
fn packed(character: char, block: &mut Option<u32>) -> ([u8; 3], usize) {
    let number = u32::from(character);
    if character.is_ascii() {
        return ([0, 0, number as u8], 1);
    }
    let new_block = number / BLOCK;
    let count = if *block == Some(new_block) { 1 } else { 3 };
    *block = Some(new_block);
    ([(new_block / 256 + 1) as u8, (new_block % 256) as u8, (number % BLOCK + BLOCK) as u8], count)
}

/// Shows the length alone: terms are what people wrote.
impl fmt::Debug for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Term({} bytes)", self.length)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(word: &str, expect: &[u8]) {
        assert_eq!(Term::of(word).as_bytes(), expect, "{word}");
        assert_eq!(Term::of(word).characters(), word.chars().count(), "{word}");
    }

    #[test]
    fn a_letter_is_a_byte_in_most_alphabets() {
        check("a1", b"a1");
        check("жы", &[1, 8, 0xb6, 0xcb]);
        check("øre", &[1, 1, 0xf8, b'r', b'e']);
        check("æøł", &[1, 1, 0xe6, 0xf8, 1, 2, 0xc2]);
        check("東", &[1, 0xce, 0xf1]);
        check("𝼀", &[4, 0xbe, 0x80]);
    }

    #[test]
    fn a_long_word_is_cut_between_characters() {
        let check = |word: String, expect: String| assert_eq!(Term::of(&word), Term::of(&expect), "{word}");
        check("a".repeat(100), "a".repeat(32));
        check("ж".repeat(100), "ж".repeat(30));
        check("a".repeat(30) + "жa", "a".repeat(30));
        assert_eq!(Term::of(&"東".repeat(32)).characters(), 30);
    }

    #[test]
    fn terms_are_not_shown() {
        assert_eq!(format!("{:?}", Term::of("secret")), "Term(6 bytes)");
    }

    proptest! {
        #[test]
        fn terms_are_as_different_as_words(one in "[a-cж-й東京𝼀]{0,4}", other in "[a-cж-й東京𝼀]{0,4}") {
            let (term, other_term) = (Term::of(&one), Term::of(&other));
            prop_assert_eq!(term.starts_with(&other_term), one.starts_with(&other));
            prop_assert_eq!(term == other_term, one == other);
            prop_assert_eq!(term.cmp(&other_term), term.as_bytes().cmp(other_term.as_bytes()));
            prop_assert_eq!(Term::from_bytes(term.as_bytes()), term);
        }
    }
}
