//! What the index must never do: miss a text, keep what was erased, panic on damaged bytes.
//!
//! Texts are of few letters, so that they share words and that words begin with others.

use proptest::prelude::*;
use proptest::sample::Index;
use tern_search::limits::{PAGE_BYTES_MAX, RUN_ENTRIES_MAX};
use tern_search::{Needed, Page, Query, Run, Segment, Term, terms};

/// Texts, each with its seq, in their order.
type Texts = Vec<(u64, String)>;

/// Where runs begin here.
const FIRST: u64 = 70_000;

/// Entries of most runs here.
const ENTRIES: u64 = 1000;

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[abc]{1,4}",
        2 => "[a-f]{1,12}",
        1 => "[äßﬁÅЖжσς]{1,4}",
        1 => "[東京行くタワ한국]{1,3}",
        1 => "[ab][.'-][ab]{1,2}",
        1 => "\\PC{0,4}",
        1 => "[xy]{30,40}",
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(word(), 0..24).prop_map(|words| words.join(" "))
}

/// Texts of some of the first entries, of so many.
fn texts(entries: u64) -> impl Strategy<Value = Texts> {
    let texts = prop::collection::btree_map(FIRST..FIRST + entries, text(), 0..60);
    texts.prop_map(|texts| texts.into_iter().collect())
}

fn run(first: u64, end: u64) -> Run {
    Run::new(first, end).expect("a run of this length may be")
}

fn whole() -> Run {
    run(FIRST, FIRST + ENTRIES)
}

/// The segment of those texts that are in the run.
fn build(run: Run, texts: &Texts) -> Segment {
    let in_run = texts.iter().filter(|(seq, _)| run.contains(*seq));
    Segment::build(run, in_run.map(|(seq, text)| (*seq, terms(text))))
}

/// As it comes back from a store.
fn reread(segment: &Segment) -> Segment {
    let pages = segment.pages().iter().map(|page| {
        assert!(page.bytes().len() <= PAGE_BYTES_MAX);
        Page::decode(page.bytes()).expect("what was written is whole")
    });
    Segment::of_pages(segment.run(), pages.collect()).expect("what was written is in order")
}

/// Does a text have it? As a look at each of its terms tells.
fn has(text: &str, needed: &Needed) -> bool {
    terms(text).iter().any(|term| match needed {
        Needed::Term(needed) => term == needed,
        Needed::Prefix(prefix) => term.starts_with(prefix),
    })
}

/// Does with a page all that can be done.
fn use_page(bytes: &[u8]) {
    let Ok(page) = Page::decode(bytes) else { return };
    let needed = Needed::Prefix(*page.first_term());
    let found = page.lookup(&needed);
    assert!(!found.is_empty() && found.iter().all(|seq| page.run().contains(*seq)));
    let erased = page.erase(&|seq| found.contains(&seq));
    assert!(erased.is_none_or(|erased| erased.lookup(&needed).is_empty()));
    let segment = Segment::of_pages(page.run(), vec![page]).expect("one page is in order");
    assert_eq!(Segment::merge(segment.run(), vec![segment.clone()]).lookup(&needed), found);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn what_matches_is_found(
        texts in texts(ENTRIES),
        words in prop::collection::vec(word(), 1..3),
        space in prop_oneof!["", " "],
    ) {
        let typed = words.join(" ") + &space;
        let Ok(query) = Query::parse(&typed) else { return Ok(()) };
        let needed = query.needed();
        let found = reread(&build(whole(), &texts)).find(&needed);
        for (seq, text) in &texts {
            let is_found = found.contains(seq);
            prop_assert_eq!(is_found, needed.iter().all(|needed| has(text, needed)), "{:?}: {:?}", typed, text);
            prop_assert!(is_found || !query.matches(text), "{:?}: {:?}", typed, text);
        }
    }

    #[test]
    fn a_text_is_found_by_what_stands_between_its_spaces(texts in texts(ENTRIES), at: Index, letters in 2usize..9) {
        prop_assume!(!texts.is_empty());
        let (seq, text) = at.get(&texts);
        let segment = build(whole(), &texts);
        for word in text.split_whitespace() {
            let whole_word = Query::parse(&format!("{word} "));
            prop_assert!(whole_word.is_err() || whole_word.as_ref().is_ok_and(|query| query.matches(text)));
            let begun = Query::parse(&word.chars().take(letters).collect::<String>());
            for query in [whole_word, begun].into_iter().flatten().filter(|query| query.matches(text)) {
                prop_assert!(segment.find(&query.needed()).contains(seq), "{:?}: {:?}", word, text);
            }
        }
    }

    #[test]
    fn a_merge_is_the_segment_of_the_whole(
        texts in texts(ENTRIES),
        cuts in prop::collection::btree_set(FIRST + 1..FIRST + ENTRIES, 0..6),
    ) {
        let mut parts = Vec::new();
        let mut first = FIRST;
        for end in cuts.into_iter().chain([FIRST + ENTRIES]) {
            parts.push(reread(&build(run(first, end), &texts)));
            first = end;
        }
        prop_assert_eq!(Segment::merge(whole(), parts), build(whole(), &texts));
    }

    /// Each page is what would have been written if the entries had never been.
    #[test]
    fn nothing_is_left_of_what_was_erased(texts in texts(ENTRIES), chosen in prop::collection::vec(any::<Index>(), 1..20)) {
        let gone: Vec<u64> = chosen.iter().filter_map(|at| Some(texts.get(at.index(texts.len().max(1)))?.0)).collect();
        let kept = texts.iter().filter(|(seq, _)| !gone.contains(seq));
        let kept: Vec<(u64, Vec<Term>)> = kept.map(|(seq, text)| (*seq, terms(text))).collect();
        let segment = build(whole(), &texts);
        for page in segment.pages() {
            let is_of_page = |term: &Term| page.first_term() <= term && term <= page.last_term();
            let of_page = kept.iter().map(|(seq, terms)| {
                (*seq, terms.iter().filter(|term| is_of_page(term)).cloned().collect())
            });
            let expect = Segment::build(whole(), of_page).into_pages();
            prop_assert_eq!(page.erase(&|seq| gone.contains(&seq)).into_iter().collect::<Vec<_>>(), expect);
        }
        let anew = Segment::build(whole(), kept);
        prop_assert!(segment.erase(&|seq| gone.contains(&seq)).postings().eq(anew.postings()));
    }

    #[test]
    fn pages_are_read_as_they_were_written(texts in texts(RUN_ENTRIES_MAX)) {
        let segment = build(run(FIRST, FIRST + RUN_ENTRIES_MAX), &texts);
        prop_assert_eq!(reread(&segment), segment);
    }

    #[test]
    fn damaged_bytes_never_panic(
        texts in texts(ENTRIES),
        at: Index,
        places in prop::collection::vec((any::<Index>(), any::<u8>()), 1..4),
        cut: Index,
    ) {
        let segment = build(whole(), &texts);
        prop_assume!(!segment.pages().is_empty());
        let whole = at.get(segment.pages()).bytes();
        use_page(whole);
        use_page(&whole[..cut.index(whole.len())]);
        let mut bytes = whole.to_vec();
        for (place, byte) in places {
            *place.get_mut(&mut bytes) = byte;
        }
        use_page(&bytes);
    }

    #[test]
    fn random_bytes_never_panic(bytes: Vec<u8>) {
        use_page(&bytes);
        use_page(&[&[1, 7, 99], &bytes[..]].concat());
    }
}

/// A run of the longest, of which every entry has a term: the longest list there is still fits.
#[test]
fn a_term_that_all_have_fits_into_a_page() {
    let run = run(FIRST, FIRST + RUN_ENTRIES_MAX);
    let text = terms(&"w".repeat(100));
    let segment = reread(&Segment::build(run, (run.first()..run.end()).map(|seq| (seq, text.clone()))));
    assert_eq!(segment.pages().len(), 1);
    let found = segment.find(&Query::parse("wwww").expect("a query").needed());
    assert_eq!(found, (run.first()..run.end()).collect::<Vec<_>>());
}

#[test]
fn pages_of_other_runs_or_in_another_order_are_refused() {
    let texts = (FIRST..FIRST + ENTRIES).map(|seq| (seq, format!("word{seq} other{seq}"))).collect();
    let segment = build(whole(), &texts);
    assert!(segment.pages().len() > 1);
    let mut pages = segment.pages().to_vec();
    assert!(Segment::of_pages(whole(), pages.clone()).is_ok());
    assert!(Segment::of_pages(run(FIRST, FIRST + 1), pages.clone()).is_err());
    pages.swap(0, 1);
    assert!(Segment::of_pages(whole(), pages).is_err());
}
