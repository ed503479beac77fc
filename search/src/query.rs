//! What somebody searches for.
//!
//! A query is words, all of which a text must have. The last one may go on, unless a space follows it. A word that is several terms
//! (see [`terms`](crate::terms())) is found where these follow each other. The index is asked for the terms alone
//! ([`Query::needed`]); [`Query::matches`] decides.

use std::cmp::Reverse;
use std::fmt;

use crate::limits::{NEEDED_TERMS_MAX, QUERY_BYTES_MAX, QUERY_WORDS_MAX, WORD_CHARACTERS_MIN};
use crate::term::Term;
use crate::terms::pieces;

/// Why something can't be searched for: whoever asks changes the query.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadQuery {
    /// It has no word, or one with fewer than [`WORD_CHARACTERS_MIN`] characters.
    TooShort,
    /// It has more than [`QUERY_BYTES_MAX`] bytes or [`QUERY_WORDS_MAX`] words.
    TooLong,
}

impl fmt::Display for BadQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort => write!(f, "each word needs {WORD_CHARACTERS_MIN} letters or digits or more"),
            Self::TooLong => {
                write!(f, "a query has up to {QUERY_BYTES_MAX} bytes and {QUERY_WORDS_MAX} words")
            }
        }
    }
}

impl std::error::Error for BadQuery {}

/// What is looked up in the pages of a segment: the one whose first term is the last that is not above [`Needed::term`], and for a
/// prefix those behind it whose first terms begin with it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Needed {
    /// The entries that have this term.
    Term(Term),
    /// The entries that have a term which begins with this one.
    Prefix(Term),
}

impl Needed {
    /// The least term that meets it.
    pub fn term(&self) -> &Term {
        let (Self::Term(term) | Self::Prefix(term)) = self;
        term
    }

    /// Is this term one of those that it is about?
    pub(crate) fn is_met_by(&self, term: &[u8]) -> bool {
        match self {
            Self::Term(needed) => term == needed.as_bytes(),
            Self::Prefix(needed) => term.starts_with(needed.as_bytes()),
        }
    }

    /// Are all terms that it is about below this one?
    pub(crate) fn is_before(&self, term: &[u8]) -> bool {
        self.term().as_bytes() < term && !self.is_met_by(term)
    }
}

/// A query: one word or more. Its `Debug` shows none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Query {
    /// The terms of each word, of which there is at least one.
    words: Vec<Vec<Term>>,
    /// May the last term of the last word go on?
    is_open: bool,
}

impl Query {
    /// Reads what somebody has typed.
    ///
    /// # Errors
    /// [`BadQuery`] says what.
    pub fn parse(typed: &str) -> Result<Self, BadQuery> {
        if typed.len() > QUERY_BYTES_MAX {
            return Err(BadQuery::TooLong);
        }
        let words = typed.split_whitespace().map(pieces).filter(|word| !word.is_empty());
        let words: Vec<Vec<Term>> = words.collect();
        if words.len() > QUERY_WORDS_MAX {
            return Err(BadQuery::TooLong);
        }
        if words.is_empty() || words.iter().any(|word| characters(word) < WORD_CHARACTERS_MIN) {
            return Err(BadQuery::TooShort);
        }
        Ok(Self { words, is_open: !typed.ends_with(char::is_whitespace) })
    }

    /// What to look up: entries that match have all of it. What most entries lack comes first, as far as lengths tell.
    pub fn needed(&self) -> Vec<Needed> {
        let mut terms: Vec<&Term> = self.words.iter().flatten().collect();
        let prefix = if self.is_open { terms.pop() } else { None };
        terms.sort_unstable_by_key(|term| (Reverse(term.as_bytes().len()), *term));
        terms.dedup();
        terms.truncate(NEEDED_TERMS_MAX);
        let terms = terms.into_iter().cloned().map(Needed::Term);
        terms.chain(prefix.cloned().map(Needed::Prefix)).collect()
    }

    /// Does a text match?
    pub fn matches(&self, text: &str) -> bool {
        let pieces = pieces(text);
        let (last, others) = self.words.split_last().expect("a query has a word");
        others.iter().all(|word| has(&pieces, word, false)) && has(&pieces, last, self.is_open)
    }
}

fn characters(word: &[Term]) -> usize {
    word.iter().map(Term::characters).sum()
}

/// Do the terms of this word follow each other somewhere, the last of them as it is or going on?
fn has(pieces: &[Term], word: &[Term], is_open: bool) -> bool {
    let (last, others) = word.split_last().expect("a word has a term");
    pieces.windows(word.len()).any(|window| {
        let (end, start) = window.split_last().expect("a window is as long as the word");
        start == others && if is_open { end.starts_with(last) } else { end == last }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(typed: &str) -> Query {
        Query::parse(typed).unwrap_or_else(|bad| panic!("{typed}: {bad}"))
    }

    #[test]
    fn what_is_too_short_or_too_long_is_refused() {
        let check = |typed: &str, expect| assert_eq!(Query::parse(typed).err(), expect, "{typed}");
        check("", Some(BadQuery::TooShort));
        check(" — !", Some(BadQuery::TooShort));
        check("a", Some(BadQuery::TooShort));
        check("東", Some(BadQuery::TooShort));
        check("hello a", Some(BadQuery::TooShort));
        check("ab", None);
        check("東京", None);
        check("한국", None);
        check("l'h", None);
        check("hello — 12", None);
        check(&"word ".repeat(QUERY_WORDS_MAX), None);
        check(&"word ".repeat(QUERY_WORDS_MAX + 1), Some(BadQuery::TooLong));
        check(&"w".repeat(QUERY_BYTES_MAX), None);
        check(&"w".repeat(QUERY_BYTES_MAX + 1), Some(BadQuery::TooLong));
    }

    #[test]
    fn a_text_matches_that_has_all_words() {
        let check = |typed: &str, text: &str, expect| {
            assert_eq!(query(typed).matches(text), expect, "{typed}: {text}")
        };
        check("strasse ", "In der Straße", true);
        check("STRASSE", "Straßenbahn", true);
        check("strasse ", "Straßenbahn", false);
        check("angstrom fine", "ﬁne, Ångström!", true);
        check("fi angstrom", "ﬁne, Ångström!", false);
        check("homme", "l’homme", true);
        check("l'homme", "homme l", false);
        check("example.com", "https://example.com/", true);
        check("12:30 ", "12 or 30", false);
        check("東京", "明日東京へ行く", true);
        check("京東", "明日東京へ行く", false);
        check("東京 行く", "明日東京へ行く", true);
        check("タワー", "東京タワー", true);
        check("학교 ", "어제 학교에서", true);
        check("สวัส", "สวัสดี", true);
        check("word word", "one word", true);
        check(&"w".repeat(100), &"w".repeat(40), true);
    }

    #[test]
    fn the_longest_terms_are_looked_up_and_then_the_prefix() {
        let check = |typed, terms: &[&str], prefix: Option<&str>| {
            let terms = terms.iter().map(|term| Needed::Term(Term::of(term)));
            let prefix = prefix.map(|prefix| Needed::Prefix(Term::of(prefix)));
            assert_eq!(query(typed).needed(), terms.chain(prefix).collect::<Vec<_>>(), "{typed}");
        };
        check("to be", &["to"], Some("be"));
        check("to be or not to be ", &["not", "be", "or", "to"], None);
        check("東京", &["東"], Some("京"));
        assert_eq!(query("あいうえおかきくけこさしすせそたちつてと").needed().len(), NEEDED_TERMS_MAX + 1);
    }

    #[test]
    fn what_is_searched_for_is_not_shown() {
        assert!(!format!("{:?} {:?}", query("secret"), query("secret").needed()).contains("secret"));
    }
}
