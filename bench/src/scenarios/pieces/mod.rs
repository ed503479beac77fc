//! `pieces`: what each hot piece of the server takes by itself, in time and in instructions. What they are is said in
//! src/pieces.rs of this crate.

mod callgrind;

use std::collections::BTreeMap;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::Serialize;
use tern_bench::pieces::{ALL, Kind};

#[derive(Clone, Debug, clap::Args)]
pub struct PiecesArgs {
    /// Only these [default: all]
    #[arg(value_name = "NAME", value_parser = by_name())]
    names: Vec<&'static Kind>,
    /// Rounds of each, of which the median is taken
    #[arg(long, default_value_t = 201, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Count instructions too, under valgrind: slow, and nearly the same in every run
    #[arg(long)]
    instructions: bool,
}

/// One piece alone, for `--instructions` and for profilers.
#[derive(Clone, Debug, clap::Args)]
pub struct PieceArgs {
    /// Which
    #[arg(value_parser = by_name())]
    name: &'static Kind,
    /// How many times
    times: u64,
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct PiecesReport {
    scenario: &'static str,
    pieces: BTreeMap<&'static str, Figures>,
}

/// Of one piece, done once.
#[derive(Debug, Serialize)]
struct Figures {
    ns: f64,
    /// None if they were not asked for.
    instructions: Option<f64>,
}

impl PiecesReport {
    /// A line for each piece.
    pub fn line(&self) -> String {
        let line = |(name, Figures { ns, instructions }): (&&str, &Figures)| {
            let instructions = instructions.map(|count| format!("{count:>12.1} instructions"));
            format!("{name:<16} {ns:>9.1} ns{}", instructions.unwrap_or_default())
        };
        self.pieces.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// Measures them.
pub fn run(arguments: &PiecesArgs) -> Result<PiecesReport, String> {
    let chosen = |kind: &&Kind| {
        arguments.names.is_empty() || arguments.names.iter().any(|asked| asked.name == kind.name)
    };
    let mut pieces = BTreeMap::new();
    for kind in ALL.iter().filter(chosen) {
        let instructions = arguments.instructions.then(|| callgrind::instructions(kind)).transpose()?;
        pieces.insert(kind.name, Figures { ns: median_ns(kind, arguments.rounds)?, instructions });
    }
    Ok(PiecesReport { scenario: "pieces", pieces })
}

/// Does one piece.
pub fn run_one(arguments: &PieceArgs) -> Result<(), String> {
    arguments.name.ready()?.run(arguments.times);
    Ok(())
}

fn median_ns(kind: &Kind, rounds: u32) -> Result<f64, String> {
    let mut piece = kind.ready()?;
    let times = kind.times_max as u64;
    let mut took: Vec<_> = (0..rounds).map(|_| piece.run(times)).collect();
    took.sort_unstable();
    Ok(took[took.len() / 2].as_secs_f64() * 1e9 / times as f64)
}

fn by_name() -> impl TypedValueParser<Value = &'static Kind> {
    let names = PossibleValuesParser::new(ALL.iter().map(|kind| kind.name));
    names.try_map(|name| ALL.iter().find(|kind| kind.name == name).ok_or("no piece has that name"))
}
