//! What is the same to somebody who searches: case, compatibility forms, and marks above and below letters.
//!
//! Folding is of one word at a time, and of a folded word it is the word itself. It is what stored terms were made by: a change
//! here, or of the tables of Unicode, needs a new [`FORMAT`](crate::page::FORMAT), unless it is of new characters alone. A test of
//! [`terms`](crate::terms()) compares what becomes of all characters.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::canonical_combining_class;

/// A word as it is compared: compatibility decomposition, without marks and what is invisible, in lower case, composed.
pub(crate) fn fold(word: &str) -> String {
    if word.is_ascii() {
        return word.to_ascii_lowercase();
    }
    let letters = word.nfkd().filter(|c| !is_mark(*c) && !is_invisible(*c));
    letters.flat_map(fold_case).nfkd().nfc().collect()
}

/// The lower case of the upper case of the lower case, which is the same for all that differ in case alone: "ß", "ẞ" and "SS" are
/// "ss", every sigma is one. Unicode's own table of foldings says the same of all characters, but for Cherokee, where it takes the
/// other case, and the dotless i, which it keeps apart: here it is an i, as it is in a Turkish word in capitals.
fn fold_case(character: char) -> impl Iterator<Item = char> {
    character.to_lowercase().flat_map(char::to_uppercase).flat_map(char::to_lowercase)
}

/// Is this a mark without which a word is still the same to those who search? By its combining class: overlays, the points of
/// Hebrew, Arabic and Syriac, and what stands above, below or beside a letter. The others are part of the word: vowels, viramas and
/// nuktas of India's scripts, tones and vowels of Thai, the sound marks of kana.
fn is_mark(character: char) -> bool {
    matches!(canonical_combining_class(character), 1 | 10..=36 | 200..)
}

/// Is this a character that Unicode says to ignore where it is not displayed (`Default_Ignorable_Code_Point`)? Soft hyphens, joiners,
/// marks of direction, variation selectors.
fn is_invisible(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use unicode_normalization::char::is_combining_mark;

    use super::*;

    fn check(word: &str, expect: &str) {
        assert_eq!(fold(word), expect, "{word}");
    }

    #[test]
    fn case_marks_and_forms_make_no_difference() {
        check("Hello", "hello");
        check("Straße", "strasse");
        check("STRASSE", "strasse");
        check("STRAẞE", "strasse");
        check("Ångström", "angstrom");
        check("ﬁne", "fine");
        check("Łódź", "łodz");
        check("naïve", "naive");
        check("Ёлка", "елка");
        check("ὈΔΥΣΣΕΎΣ", "οδυσσευσ");
        check("Ὀδυσσεύς", "οδυσσευσ");
        check("İstanbul", "istanbul");
        check("ISPARTA", "isparta");
        check("ısparta", "isparta");
        check("ＡＢＣ", "abc");
        check("𝐇𝐞𝐥𝐥𝐨", "hello");
        check("co\u{ad}op", "coop");
        check("کتاب\u{200c}ها", "کتابها");
        check("كِتَابٌ", "كتاب");
        check("أحمد", "احمد");
        check("שָׁלוֹם", "שלום");
    }

    #[test]
    fn marks_that_make_another_word_stay() {
        check("がぎ", "がぎ");
        check("か\u{3099}", "が");
        check("ｶﾞ", "ガ");
        check("한국", "한국");
        check("\u{1112}\u{1161}\u{11ab}", "한");
        check("हिन्दी", "हिन्दी");
        check("ก็", "ก็");
    }

    /// All that words are made of.
    fn letters() -> impl Iterator<Item = char> {
        ('\0'..=char::MAX).filter(|c| c.is_alphanumeric() || is_combining_mark(*c))
    }

    #[test]
    fn folding_a_character_of_any_case_once_is_enough() {
        for character in letters() {
            let once = fold(&character.to_string());
            assert_eq!(fold(&once), once, "{character:?} twice");
            // An iota below is a mark, though it is a letter beside the others in upper case.
            if character.nfd().any(|c| c == '\u{345}') {
                continue;
            }
            assert_eq!(fold(&character.to_uppercase().to_string()), once, "{character:?} in upper case");
            assert_eq!(fold(&character.to_lowercase().to_string()), once, "{character:?} in lower case");
        }
    }
}
