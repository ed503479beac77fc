//! The terms of a text: what is looked up.
//!
//! A text is cut into words as UAX #29 does it, each is folded, and what is left is cut at the signs in it: "l'homme" is `l` and
//! `homme`, "example.com" is `example` and `com`. Where a script is written without spaces every character is a term of its own:
//! UAX #29 says so of ideographs, hiragana, Thai, Lao, Khmer and Burmese, and this module of katakana and hangul, whose words are
//! joined to others without a sign. A query's word is then several terms, which must follow each other in the text.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use unicode_normalization::char::is_combining_mark;
use unicode_segmentation::UnicodeSegmentation;

use crate::fold::fold;
use crate::limits::TEXT_TERMS_MAX;
use crate::term::Term;

/// Most pieces take more bytes of their text, with what is between them.
const BYTES_OF_PIECE: usize = 4;

/// The distinct terms of a text, sorted: at most [`TEXT_TERMS_MAX`], the first ones.
pub fn terms(text: &str) -> Vec<Term> {
    let mut terms = pieces(text);
    terms.sort_unstable();
    terms.dedup();
    terms
}

/// The terms of a text as they follow each other, up to the last that [`terms`] has.
pub(crate) fn pieces(text: &str) -> Vec<Term> {
    let mut pieces: Vec<Term> = Vec::with_capacity(text.len() / BYTES_OF_PIECE);
    let mut seen: BTreeSet<Term> = BTreeSet::new();
    let _ = each_piece(text, &mut |piece| {
        if pieces.len() >= TEXT_TERMS_MAX {
            if seen.is_empty() {
                seen.extend(&pieces);
            }
            if seen.len() == TEXT_TERMS_MAX && !seen.contains(&piece) {
                return ControlFlow::Break(());
            }
            seen.insert(piece);
        }
        pieces.push(piece);
        ControlFlow::Continue(())
    });
    pieces
}

/// Gives each piece of a text. No word goes over a space, so that what is between two of them is looked at by itself: what is ASCII there
/// is cut at its signs, for among its letters and digits UAX #29 has no boundary.
fn each_piece(text: &str, take: &mut impl FnMut(Term) -> ControlFlow<()>) -> ControlFlow<()> {
    for part in text.split(' ') {
        if part.is_ascii() {
            let words = part.as_bytes().split(|byte| !byte.is_ascii_alphanumeric());
            words.filter(|word| !word.is_empty()).map(Term::of_ascii).try_for_each(&mut *take)?;
        } else {
            part.unicode_words().try_for_each(|word| each_piece_of_word(word, take))?;
        }
    }
    ControlFlow::Continue(())
}

fn each_piece_of_word(word: &str, take: &mut impl FnMut(Term) -> ControlFlow<()>) -> ControlFlow<()> {
    let folded = fold(word);
    let parts = folded.split(|c| !is_part(c)).flat_map(split_alone);
    parts.filter(|part| !part.is_empty()).map(Term::of).try_for_each(take)
}

/// Is this a letter, a digit, or a mark that folding has left?
fn is_part(character: char) -> bool {
    character.is_alphanumeric() || is_combining_mark(character)
}

/// Cuts before and behind every character that is a term of its own.
fn split_alone(part: &str) -> impl Iterator<Item = &str> {
    part.split_inclusive(stands_alone).flat_map(|piece| {
        let last = piece.char_indices().next_back().filter(|(_, c)| stands_alone(*c));
        let (before, alone) = piece.split_at(last.map_or(piece.len(), |(at, _)| at));
        [before, alone]
    })
}

/// Kana, hangul.
fn stands_alone(character: char) -> bool {
    matches!(character, '\u{3041}'..='\u{3096}' | '\u{309b}'..='\u{30ff}' | '\u{31f0}'..='\u{31ff}' | '\u{ac00}'..='\u{d7a3}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expect: &[&str]) {
        assert_eq!(pieces(text), expect.iter().map(|word| Term::of(word)).collect::<Vec<_>>(), "{text}");
    }

    #[test]
    fn words_are_found_in_any_script() {
        check("", &[]);
        check("... 🎂 — !", &[]);
        check("Hello, world!", &["hello", "world"]);
        check("l’homme can't", &["l", "homme", "can", "t"]);
        check(
            "see https://example.com/a_b?c=12:30",
            &["see", "https", "example", "com", "a", "b", "c", "12", "30"],
        );
        check("Straße 3½ №5", &["strasse", "3", "1", "2", "5"]);
        check("Жили-были", &["жили", "были"]);
        check("東京タワーへ行く", &["東", "京", "タ", "ワ", "ー", "へ", "行", "く"]);
        check("ｶﾞﾗｽ ゟ", &["ガ", "ラ", "ス", "よ", "り"]);
        check("K팝 학교에서", &["k", "팝", "학", "교", "에", "서"]);
        check("สวัสดี", &["ส", "วั", "ส", "ดี"]);
        check("नमस्ते दुनिया", &["नमस्ते", "दुनिया"]);
        check("می‌خواهم", &["میخواهم"]);
    }

    proptest! {
        #[test]
        fn words_are_the_same_whether_a_text_is_cut_at_its_spaces_or_not(
            text in r"([a-zA-Z0-9 ]|[ '._:,;/\-\t\r\n]|[\u{300}\u{64b}\u{93e}\u{200d}\u{ad}\u{fe0f}]|\PC|[ßжタ한東ा🎂🇩🇪א]){0,24}",
        ) {
            let mut whole = Vec::new();
            let _ = text.unicode_words().try_for_each(|word| {
                each_piece_of_word(word, &mut |piece| {
                    whole.push(piece);
                    ControlFlow::Continue(())
                })
            });
            prop_assert_eq!(pieces(&text), whole, "{}", text.escape_unicode());
        }
    }

    #[test]
    fn a_text_ends_with_its_last_term() {
        let text: String = (0..TEXT_TERMS_MAX).map(|word| format!("w{word} w0 ")).collect();
        assert_eq!(pieces(&text).len(), 2 * TEXT_TERMS_MAX);
        assert_eq!(pieces(&format!("{text} more w1")).len(), 2 * TEXT_TERMS_MAX);
        assert_eq!(terms(&format!("{text} more w1")).len(), TEXT_TERMS_MAX);
    }

    #[test]
    fn terms_are_distinct_and_sorted() {
        assert_eq!(terms("to be or not to be"), ["be", "not", "or", "to"].map(Term::of));
    }

    /// If this fails after an update of the toolchain or of the tables: where only characters changed that nobody could have written
    /// before, take the new number; otherwise stored terms are no longer found, and the format of pages has to rise.
    #[test]
    fn what_becomes_of_characters_has_not_changed() {
        let mut sum: u64 = 0xcbf2_9ce4_8422_2325;
        let letters = ('\0'..=char::MAX).filter(|c| c.is_alphanumeric() || is_combining_mark(*c));
        for letter in letters {
            for piece in pieces(&format!("{letter}a{letter}{letter}1")) {
                let bytes = piece.as_bytes().iter().chain([&0xff]);
                sum = bytes.fold(sum, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
            }
        }
        assert_eq!(sum, 0xe447_82c8_e40e_b032, "FNV-1a of the terms");
    }
}
