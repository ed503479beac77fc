//! Messages that nobody wrote, with words as frequent and as long as those of some languages. Always the same ones.
//!
//! The word of rank n is said in proportion to 1 / (n + 1), as Zipf found it, and beyond some rank, where only some texts have the
//! words, to n^-1.8. How long words are follows from their rank. The numbers were chosen so that as much of a text is of the 10, 100,
//! 1,000 and 5,000 most frequent words as in the lists of wordfreq 3.1 for these languages, and the words of each are as long.
//! Each word is said without regard to those around it; what people write repeats itself more, and that is not measured here.

use std::iter;

/// Bytes of a message, at least.
const MESSAGE_BYTES: usize = 100;

/// Words of a language.
const WORDS: usize = 100_000;

/// How its words are.
pub struct Language {
    pub name: &'static str,
    /// Where words begin with words: a rarer one is, every other time, a more frequent one with another end of so many letters.
    ending: usize,
    /// The frequent ones first; none, if a word is an ideograph.
    letters: &'static str,
    /// Letters of the most frequent words, on the average.
    letters_min: f64,
    /// By how many letters a word is longer that is ten times as rare.
    letters_a_decade: f64,
    /// The rank from which on words are rarer than Zipf says.
    common_words: f64,
}

/// Some that differ in how long words are, and in how many of them are rare.
pub const LANGUAGES: [Language; 5] = [
    Language {
        name: "English",
        ending: 2,
        letters: "etaoinshrdlucmfwygpbvk",
        letters_min: 1.5,
        letters_a_decade: 1.4,
        common_words: 5e3,
    },
    Language {
        name: "German",
        ending: 3,
        letters: "enisratdhulcgmobwfkzüvä",
        letters_min: 1.9,
        letters_a_decade: 1.7,
        common_words: 8e3,
    },
    Language {
        name: "Russian",
        ending: 3,
        letters: "оеаинтсрвлкмдпуяыьгзбчй",
        letters_min: 1.0,
        letters_a_decade: 1.7,
        common_words: 2e4,
    },
    Language {
        name: "Turkish",
        ending: 3,
        letters: "aeinrlıdkmuytsboüşzgçh",
        letters_min: 2.1,
        letters_a_decade: 1.4,
        common_words: 2e4,
    },
    Language {
        name: "Chinese",
        ending: 0,
        letters: "",
        letters_min: 1.0,
        letters_a_decade: 0.0,
        common_words: 1e3,
    },
];

/// Ideographs that are in use.
const IDEOGRAPHS: usize = 3_500;

impl Language {
    /// So many messages.
    pub fn messages(&self, count: usize) -> Vec<String> {
        let mut random = fastrand::Rng::with_seed(1);
        let words = if self.letters.is_empty() { ideographs() } else { self.words(&mut random) };
        let sums = self.sums(words.len());
        let mut say = || {
            let at = random.f64() * sums[sums.len() - 1];
            words[sums.partition_point(|sum| *sum < at)].as_str()
        };
        iter::repeat_with(|| self.message(&mut say)).take(count).collect()
    }

    /// How often the words up to each are said, together.
    fn sums(&self, words: usize) -> Vec<f64> {
        let sums = (1..=words).scan(0.0, |sum, rank| {
            let rarer = (rank as f64 / self.common_words).max(1.0).powf(0.8);
            *sum += 1.0 / (rank as f64 + 1.0) / rarer;
            Some(*sum)
        });
        sums.collect()
    }

    fn message<'a>(&self, say: &mut impl FnMut() -> &'a str) -> String {
        let space = if self.letters.is_empty() { "" } else { " " };
        let mut message = String::new();
        while message.len() < MESSAGE_BYTES {
            message.push_str(say());
            message.push_str(space);
        }
        message
    }

    fn words(&self, random: &mut fastrand::Rng) -> Vec<String> {
        let mut words: Vec<String> = Vec::with_capacity(WORDS);
        for rank in 1..=WORDS {
            let mean = self.letters_min + self.letters_a_decade * (rank as f64).log10();
            let length = (mean * (0.5 + random.f64())).round().max(1.0) as usize;
            let stem = if random.bool() { words.get(random.usize(..rank)) } else { None };
            let stem: String =
                stem.iter().flat_map(|stem| stem.chars()).take(length.saturating_sub(self.ending)).collect();
            words.push(self.word(stem, length, random));
        }
        words
    }

    fn word(&self, mut word: String, length: usize, random: &mut fastrand::Rng) -> String {
        let letters = self.letters.chars().count() as f64;
        for _ in word.chars().count()..length {
            let at = (random.f64().powi(2) * letters) as usize;
            word.extend(self.letters.chars().nth(at));
        }
        word
    }
}

fn ideographs() -> Vec<String> {
    ('\u{4e00}'..).take(IDEOGRAPHS).map(String::from).collect()
}
