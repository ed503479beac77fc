//! What the index costs: bytes a message at rest, bytes written for it in all, and how long each thing takes.
//!
//! `cargo run --release -p tern-search --example size` makes up messages of about a hundred bytes in several languages;
//! `... --example size -- FILE` takes each line of a file for a message. On one machine the bytes are always the same.

#![allow(clippy::print_stdout, reason = "it is what this program is for")]

use std::time::{Duration, Instant};
use std::{env, fs, iter, slice};

use tern_search::Levels;
use tern_search::{Merge, Page, Query, Run, Segment, terms};

mod corpus;

/// Messages that are made up: some runs of each level, and a bit.
const MESSAGES: usize = 2 * 16_384 + 4_096 + 700;

fn main() {
    if let Some(file) = env::args().nth(1) {
        let text = fs::read_to_string(&file).expect("the file is text");
        measure(&file, &text.lines().map(str::to_owned).collect::<Vec<_>>());
        return;
    }
    for language in &corpus::LANGUAGES {
        measure(language.name, &language.messages(MESSAGES));
    }
}

fn measure(name: &str, messages: &[String]) {
    let bytes: usize = messages.iter().map(String::len).sum();
    let (terms, time) = timed(|| messages.iter().map(|text| terms(text).len()).sum::<usize>());
    let count = messages.len() as f64;
    println!(
        "{name}: {count} messages, each of {:.0} bytes and {:.1} terms",
        bytes as f64 / count,
        terms as f64 / count
    );
    println!("  the terms of a message: {:?}", time / messages.len() as u32);
    for entries in Levels::USUAL.entries() {
        level(messages, entries);
    }
    let segments = grow(messages);
    look_up(messages, &segments);
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let started = Instant::now();
    (work(), started.elapsed())
}

/// What the runs of a level take.
fn level(messages: &[String], entries: u64) {
    let ends = (1..=messages.len() as u64 / entries).map(|run| run * entries);
    let segments: Vec<Segment> =
        ends.filter_map(|end| Some(build(Run::new(end - entries, end)?, messages))).collect();
    let count = segments.len() as f64;
    let pages: usize = segments.iter().map(|segment| segment.pages().len()).sum();
    println!(
        "  runs of {entries}: {:.1} bytes a message, {:.1} pages",
        bytes(&segments) as f64 / count / entries as f64,
        pages as f64 / count
    );
}

fn build(run: Run, messages: &[String]) -> Segment {
    Segment::build(run, (run.first()..run.end()).map(|seq| (seq, terms(&messages[seq as usize]))))
}

fn bytes(segments: &[Segment]) -> usize {
    segments.iter().flat_map(Segment::pages).map(|page| page.bytes().len()).sum()
}

/// Indexes a log of these messages as it grows.
fn grow(messages: &[String]) -> Vec<Segment> {
    let mut segments: Vec<Segment> = Vec::new();
    let (mut indexed, mut written, mut slowest_page) = (0, 0, Duration::ZERO);
    while let Some(step) = Levels::USUAL.next_step(0, indexed, messages.len() as u64) {
        let mut sources = segments.split_off(segments.len() - step.merged.len());
        sources.push(build(step.fresh, messages));
        let mut merge = Merge::new(step.into, sources);
        let pages = iter::from_fn(|| {
            let (page, time) = timed(|| merge.next());
            slowest_page = slowest_page.max(time);
            page
        });
        let segment = Segment::of_pages(step.into, pages.collect()).expect("a merge is in order");
        written += bytes(slice::from_ref(&segment));
        segments.push(segment);
        indexed = step.fresh.end();
    }
    assert_eq!(segments.iter().map(Segment::run).collect::<Vec<_>>(), Levels::USUAL.runs(0, indexed));
    println!(
        "  a log of {indexed}: {:.1} bytes a message at rest, {:.1} written in all; the longest page of a merge took {slowest_page:?}",
        bytes(&segments) as f64 / indexed as f64,
        written as f64 / indexed as f64
    );
    segments
}

/// How long queries take whose words are those of messages, with all pages in memory.
fn look_up(messages: &[String], segments: &[Segment]) {
    let pages: Vec<&Page> = segments.iter().flat_map(Segment::pages).collect();
    let (_, time) = timed(|| pages.iter().filter(|page| Page::decode(page.bytes()).is_ok()).count());
    println!("  a page is decoded in {:?}", time / pages.len() as u32);
    let mut random = fastrand::Rng::with_seed(2);
    let queries = iter::repeat_with(|| query(&messages[random.usize(..messages.len())], &mut random));
    let queries: Vec<Query> = queries.flatten().take(1_000).collect();
    let find =
        |query: &Query| segments.iter().flat_map(|segment| segment.find(&query.needed())).collect::<Vec<_>>();
    let (lists, time) = timed(|| queries.iter().map(find).collect::<Vec<_>>());
    let needed: usize = queries.iter().map(|query| query.needed().len()).sum();
    let lookups = (needed * segments.len()) as f64;
    println!("  {:.0} lookups of a term in a segment a second", lookups / time.as_secs_f64());
    let is_match = |query: &Query, seq: u64| query.matches(&messages[seq as usize]);
    let matching =
        |(query, list): (&Query, &Vec<u64>)| list.iter().filter(|seq| is_match(query, **seq)).count();
    let (matching, time) = timed(|| queries.iter().zip(&lists).map(matching).sum::<usize>());
    let found: usize = lists.iter().map(Vec::len).sum();
    println!(
        "  {found} found, of which {matching} match; a look at one takes {:?}",
        time / found.max(1) as u32
    );
}

/// Some letters that follow each other in a message: one to three words, the last one begun.
fn query(message: &str, random: &mut fastrand::Rng) -> Option<Query> {
    let characters: Vec<char> = message.chars().collect();
    let starts: Vec<usize> =
        (0..characters.len()).filter(|at| *at == 0 || characters[at - 1] == ' ').collect();
    let start = starts[random.usize(..starts.len())];
    let typed: String = characters[start..].iter().take(random.usize(2..12)).collect();
    Query::parse(typed.trim_end()).ok()
}
