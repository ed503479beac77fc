//! `search`: many people have written to one who searches among all of it: how long until the newest hits are there, whether they are the
//! right ones, and what the index takes of the store.
//!
//! People write to each other too, in the same words, and some delete what they have said: neither is to be found.

mod corpus;
mod saying;
mod seeking;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fastrand::Rng;
use saying::Saying;
use seeking::Seeking;
use serde::Serialize;

use crate::latency::{Latencies, Percentiles, table};
use crate::target::{Target, TargetArgs};

/// How long nothing may happen while something is waited for.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// The one who searches. Each of the others has a chat with them.
const SEARCHER: u32 = 0;

#[derive(Clone, Debug, clap::Args)]
pub struct SearchArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Messages in the chats of the one who searches
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=20_000_000))]
    messages: u32,
    /// Chats that they stand in
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(2..=10_000))]
    chats: u32,
    /// Searches: half of them in all chats, half in one
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..))]
    searches: u32,
    /// Repeats what is said and searched for
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct SearchReport {
    scenario: &'static str,
    seed: u64,
    seconds: f64,
    errors: u64,
    messages: u64,
    chats: u32,
    searches: u64,
    /// From asking until the first hits, or that there are none.
    search_ms: Percentiles,
    /// Of those in all chats, and in one.
    all_chats_ms: Percentiles,
    one_chat_ms: Percentiles,
    /// By what was searched for.
    kinds: BTreeMap<&'static str, Percentiles>,
    /// The first one after the server has begun: it reads all chats into memory. Not among the others.
    first_ms: f64,
    /// From there until the index had caught up with all that was said just before. What is not in it is read, which takes long.
    settled_s: f64,
    /// Each further page, of searches that were read on.
    page_ms: Percentiles,
    pages_per_search: f64,
    hits_per_search: f64,
    server_cpu_us_per_search: Option<f64>,
    /// Of the bench's own server: keys and values of the index, and of all other rows, a message of the store.
    index_bytes_per_message: Option<f64>,
    row_bytes_per_message: Option<f64>,
    /// Hits that were to be there and were not, as far as was looked.
    missing: u64,
    /// Hits that were not to be: somebody else's, deleted ones, without the words, or a second time.
    leaked: u64,
    #[serde(skip)]
    first_error: Option<String>,
}

impl SearchReport {
    /// Whether what was found is what was to be found.
    pub fn is_correct(&self) -> bool {
        self.errors + self.missing + self.leaked == 0
    }

    /// A line for people.
    pub fn line(&self) -> String {
        let Self { messages, chats, searches, errors, missing, leaked, .. } = self;
        let first = self.first_error.as_deref().map(|why| format!("; first: {why}")).unwrap_or_default();
        let figure = |figure: Option<f64>| figure.map_or("-".to_owned(), |figure| format!("{figure:.1}"));
        let mut rows = vec![
            ("a search", &self.search_ms),
            ("in all chats", &self.all_chats_ms),
            ("in one chat", &self.one_chat_ms),
        ];
        rows.extend(self.kinds.iter().map(|(kind, times)| (*kind, times)));
        rows.push(("pages read on", &self.page_ms));
        format!(
            "{messages} messages in {chats} chats, {searches} searches of {:.1} hits; {errors} errors, {missing} missing, {leaked} \
             leaked{first}\n{} bytes of index a message beside {} of other rows; {} us of server CPU a search; the first {:.1} ms, and {:.1} s until \
             the index had caught up\n\n{}",
            self.hits_per_search,
            figure(self.index_bytes_per_message),
            figure(self.row_bytes_per_message),
            figure(self.server_cpu_us_per_search),
            self.first_ms,
            self.settled_s,
            table(&rows)
        )
    }
}

/// Runs it.
pub fn run(arguments: &SearchArgs) -> Result<SearchReport, String> {
    let begin = Instant::now();
    let own = [
        "--limit",
        "idle_timeout_ms=3600000",
        "--limit",
        "searches_per_minute_max=0",
        "--limit",
        "waiting_bytes_max=0",
    ];
    let mut target = Target::new(&arguments.target, arguments.chats + 1, &own)?;
    let mut rng = Rng::with_seed(arguments.seed);
    let mut saying = Saying::new(&target, rng.fork())?;
    saying.say(arguments.messages)?;
    saying.delete_some()?;
    let (corpus, entries) = saying.end()?;
    // What is in memory is what searching needs, and not what was left of saying it.
    target.start_again();
    let mut seeking = Seeking::new(&target, &corpus, rng)?;
    let first = seeking.first()?;
    let settled = seeking.settle()?;
    let before = target.cpu_s_since(None);
    seeking.seek(arguments.searches)?;
    let cpu = target.cpu_s_since(before);
    let found = seeking.end();
    let searches = found.all.all().len();
    let each = |count: u64| count as f64 / searches.max(1) as f64;
    let bytes = target.table_bytes()?.map(|bytes| {
        let index = bytes.get(&'f').copied().unwrap_or(0);
        (index as f64 / entries as f64, (bytes.values().sum::<u64>() - index) as f64 / entries as f64)
    });
    let percentiles = |latencies: &Latencies| Percentiles::of(&latencies.all());
    Ok(SearchReport {
        scenario: "search",
        seed: arguments.seed,
        seconds: begin.elapsed().as_secs_f64(),
        errors: found.errors,
        messages: arguments.messages.into(),
        chats: arguments.chats,
        searches,
        search_ms: percentiles(&found.all),
        all_chats_ms: percentiles(&found.all_chats),
        one_chat_ms: percentiles(&found.one_chat),
        kinds: found.kinds.iter().map(|(kind, latencies)| (*kind, percentiles(latencies))).collect(),
        first_ms: first.as_secs_f64() * 1e3,
        settled_s: settled.as_secs_f64(),
        page_ms: percentiles(&found.pages),
        pages_per_search: each(found.asked),
        hits_per_search: each(found.hits),
        server_cpu_us_per_search: cpu.map(|seconds| seconds * 1e6 / searches.max(1) as f64),
        index_bytes_per_message: bytes.map(|(index, _)| index),
        row_bytes_per_message: bytes.map(|(_, others)| others),
        missing: found.missing,
        leaked: found.leaked,
        first_error: found.first_error,
    })
}
