//! What people say, as far as a search can tell: words, some of them in every other message and most of them hardly ever. Pure.

use std::ops::Range;

use fastrand::Rng;

/// Different words. The share of each is one by its rank, as in what people write (G. K. Zipf, Human Behavior and the Principle of Least
/// Effort, 1949).
pub const WORDS: u32 = 30_000;

/// Words of a message.
const WORDS_OF_A_MESSAGE: Range<usize> = 2..17;

/// Beginnings of words are as long, which go on in many ways.
const BEGINNING: usize = 3;

/// A message whose words are known.
#[derive(Clone, Copy, Debug)]
pub struct Said {
    /// In which chat of the one who searches; `None`: in none of theirs.
    pub chat: Option<u32>,
    pub seq: u64,
    pub time_ms: u64,
    /// It was deleted for everyone.
    pub gone: bool,
    /// Where its words end among all words; they begin where those of the one before do.
    end: usize,
}

/// All that is said.
#[derive(Debug, Default)]
pub struct Corpus {
    ranks: Vec<u16>,
    pub said: Vec<Said>,
}

/// A word by its rank: syllables of two letters, in an order in which ranks that follow each other begin differently.
pub fn word(rank: u32) -> String {
    const CONSONANTS: &[u8; 20] = b"bcdfghjklmnpqrstvwxz";
    const VOWELS: &[u8; 5] = b"aeiou";
    // 7,001 has no common divisor with a million: each rank has another number.
    let mut number = (rank as usize) * 7_001 % 1_000_000;
    let mut word = String::with_capacity(6);
    for _ in 0..3 {
        let syllable = number % 100;
        word.push(char::from(CONSONANTS[syllable / 5]));
        word.push(char::from(VOWELS[syllable % 5]));
        number /= 100;
    }
    word
}

impl Corpus {
    /// Adds a message of a chat, and gives its text.
    pub fn add(&mut self, rng: &mut Rng, chat: Option<u32>) -> String {
        let mut text = String::new();
        for _ in 0..rng.usize(WORDS_OF_A_MESSAGE) {
            // The logarithm of the rank is uniform where a rank's share is one by it.
            let rank = (f64::from(WORDS).powf(rng.f64()) as u32 - 1).min(WORDS - 1);
            self.ranks.push(rank as u16);
            if !text.is_empty() {
                text.push(' ');
            }
            text += &word(rank);
        }
        self.said.push(Said { chat, seq: 0, time_ms: 0, gone: false, end: self.ranks.len() });
        text
    }

    fn words_of(&self, at: usize) -> &[u16] {
        let begin = at.checked_sub(1).map_or(0, |before| self.said[before].end);
        &self.ranks[begin..self.said[at].end]
    }

    /// What a search for this is to find, newest first.
    pub fn hits(&self, wanted: &Wanted) -> Vec<Said> {
        let begins: Vec<bool> = match &wanted.beginning {
            Some(beginning) => (0..WORDS).map(|rank| word(rank).starts_with(beginning)).collect(),
            None => Vec::new(),
        };
        let is_hit = |at: &usize| {
            let (said, words) = (self.said[*at], self.words_of(*at));
            let is_there = said.chat.is_some() && !said.gone;
            is_there
                && wanted.chat.is_none_or(|chat| said.chat == Some(chat))
                && wanted.ranks.iter().all(|rank| words.contains(rank))
                && (begins.is_empty() || words.iter().any(|rank| begins[usize::from(*rank)]))
        };
        let mut hits: Vec<Said> = (0..self.said.len()).filter(is_hit).map(|at| self.said[at]).collect();
        hits.sort_by_key(|said| std::cmp::Reverse(said.time_ms));
        hits
    }
}

/// What is searched for.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// In this chat alone.
    chat: Option<u32>,
    ranks: Vec<u16>,
    beginning: Option<String>,
}

/// Kinds of searches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A word that is everywhere.
    Common,
    /// One in some hundred messages.
    Usual,
    /// One that hardly anybody says.
    Rare,
    /// Two words of one message.
    Two,
    /// Letters with which words begin.
    Beginning,
    /// Letters with which no word begins.
    Nothing,
}

impl Kind {
    pub const ALL: [Self; 6] =
        [Self::Common, Self::Usual, Self::Rare, Self::Two, Self::Beginning, Self::Nothing];

    pub fn name(self) -> &'static str {
        match self {
            Self::Common => "common",
            Self::Usual => "usual",
            Self::Rare => "rare",
            Self::Two => "two_words",
            Self::Beginning => "beginning",
            Self::Nothing => "nothing",
        }
    }
}

impl Wanted {
    /// A search of a kind.
    pub fn new(kind: Kind, corpus: &Corpus, rng: &mut Rng) -> Self {
        let mut one = |ranks: Range<u16>| vec![rng.u16(ranks)];
        match kind {
            Kind::Common => Self { ranks: one(0..20), ..Self::default() },
            Kind::Usual => Self { ranks: one(100..2_000), ..Self::default() },
            Kind::Rare => Self { ranks: one(20_000..WORDS as u16), ..Self::default() },
            Kind::Two => {
                let words = corpus.words_of(rng.usize(..corpus.said.len()));
                Self { ranks: (0..2).map(|_| words[rng.usize(..words.len())]).collect(), ..Self::default() }
            }
            Kind::Beginning => {
                let beginning = word(rng.u32(..WORDS))[..BEGINNING].to_owned();
                Self { beginning: Some(beginning), ..Self::default() }
            }
            Kind::Nothing => Self { beginning: Some("yy".to_owned()), ..Self::default() },
        }
    }

    /// The same in one chat alone, or in all.
    pub fn within(self, chat: Option<u32>) -> Self {
        Self { chat, ..self }
    }

    /// Whether it is to be found in one chat alone.
    pub fn chat(&self) -> Option<u32> {
        self.chat
    }

    /// The query that says so. Without a beginning, a space ends the last word.
    pub fn query(&self) -> String {
        let mut query: String = self.ranks.iter().map(|rank| word((*rank).into()) + " ").collect();
        query += self.beginning.as_deref().unwrap_or_default();
        query
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_rank_is_another_word() {
        assert_eq!((0..WORDS).map(word).collect::<BTreeSet<_>>().len(), WORDS as usize);
        assert!(WORDS <= u16::MAX.into());
    }

    #[test]
    fn what_is_to_be_found_has_all_words_is_there_and_is_ones_own() {
        let (mut corpus, mut rng) = (Corpus::default(), Rng::with_seed(1));
        let texts: Vec<String> = (0..400u32)
            .map(|number| corpus.add(&mut rng, (!number.is_multiple_of(4)).then_some(number % 4)))
            .collect();
        for (said, time_ms) in corpus.said.iter_mut().zip(1..) {
            (said.time_ms, said.gone) = (time_ms, time_ms % 7 == 0);
        }
        for kind in Kind::ALL {
            for chat in [None, Some(2)] {
                let wanted = Wanted::new(kind, &corpus, &mut rng).within(chat);
                let query = wanted.query();
                let is_found = |text: &String| {
                    let mut words: Vec<&str> = query.split(' ').collect();
                    let beginning = words.pop().unwrap_or_default();
                    words.iter().all(|word| text.split(' ').any(|said| said == *word))
                        && text.split(' ').any(|said| said.starts_with(beginning))
                };
                let expected: Vec<u64> = (1..=400u64)
                    .rev()
                    .filter(|time| {
                        let at = *time as usize - 1;
                        let chat_of = (!at.is_multiple_of(4)).then_some(at as u32 % 4);
                        chat_of.is_some()
                            && chat.is_none_or(|chat| chat_of == Some(chat))
                            && time % 7 != 0
                            && is_found(&texts[at])
                    })
                    .collect();
                let hits: Vec<u64> = corpus.hits(&wanted).iter().map(|said| said.time_ms).collect();
                assert_eq!(hits, expected, "{kind:?} {query:?}");
            }
        }
    }
}
