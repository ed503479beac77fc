//! What the index must not cost more than, of messages of a hundred bytes. `examples/size.rs` has all figures.

#[path = "../examples/corpus/mod.rs"]
mod corpus;

use tern_search::Levels;
use tern_search::{Run, Segment, terms};

/// Bytes of the segments of runs of so many entries.
fn bytes(messages: &[String], entries: u64) -> usize {
    let ends = (1..=messages.len() as u64 / entries).map(|run| run * entries);
    let segments = ends.map(|end| {
        let run = Run::new(end - entries, end).expect("a run of a level");
        Segment::build(run, (run.first()..run.end()).map(|seq| (seq, terms(&messages[seq as usize]))))
    });
    segments.flat_map(Segment::into_pages).map(|page| page.bytes().len()).sum()
}

#[test]
fn a_message_takes_60_bytes_where_runs_are_short_and_45_where_they_are_longer() {
    let messages = usize::try_from(Levels::USUAL.entries()[1]).expect("a run is short");
    for language in &corpus::LANGUAGES {
        let texts = language.messages(messages);
        let (short, longer) =
            (bytes(&texts, Levels::USUAL.entries()[0]), bytes(&texts, Levels::USUAL.entries()[1]));
        assert!(short < 60 * messages, "{}: {short} bytes of {messages} messages", language.name);
        assert!(longer < 45 * messages, "{}: {longer} bytes of {messages} messages", language.name);
    }
}
