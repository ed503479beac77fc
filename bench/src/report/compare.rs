//! `compare`: two reports side by side.

use std::path::PathBuf;

use serde::Serialize;

use super::Runs;
use super::figures::{Figure, Verdict, compare, figures};
use super::page::short;

#[derive(Clone, Debug, clap::Args)]
pub struct CompareArgs {
    /// The folder of the earlier report
    before: PathBuf,
    /// The folder of the later one
    after: PathBuf,
}

/// One figure of both.
#[derive(Debug, Serialize)]
struct Line {
    figure: &'static str,
    before: f64,
    after: f64,
    verdict: String,
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct Compared {
    scenario: &'static str,
    same_machine: bool,
    figures: Vec<Line>,
    #[serde(skip)]
    text: String,
}

impl Compared {
    /// A table for people.
    pub fn line(&self) -> String {
        self.text.clone()
    }
}

/// Compares.
pub fn run(arguments: &CompareArgs) -> Result<Compared, String> {
    let (before, after) = (Runs::read(&arguments.before)?, Runs::read(&arguments.after)?);
    Ok(side_by_side(&before, &after))
}

fn side_by_side(before: &Runs, after: &Runs) -> Compared {
    let key = |runs: &Runs| (runs.machine.cpu.clone(), runs.machine.cpus, runs.machine.kernel.clone());
    let same_machine = key(before) == key(after);
    let mut text = format!(
        "{:<62} {:>24} {:>24}\n",
        "median (lowest to highest)",
        short_commit(before),
        short_commit(after)
    );
    let (old, new) = (figures(before), figures(after));
    let mut lines = Vec::new();
    for before in &old {
        let Some(after) = new.iter().find(|after| after.name == before.name) else { continue };
        let verdict = words(before, after);
        text += &format!("{:<62} {:>24} {:>24}  {verdict}\n", before.name, spread(before), spread(after));
        lines.push(Line { figure: before.name, before: before.median(), after: after.median(), verdict });
    }
    if !same_machine {
        text += "The machines differ: only ratios can be compared.\n";
    }
    Compared { scenario: "compare", same_machine, figures: lines, text: text.trim_end().to_owned() }
}

fn words(before: &Figure, after: &Figure) -> String {
    let percent = (after.median() / before.median() - 1.0) * 100.0;
    let once = before.values.len().min(after.values.len()) < 2;
    match compare(before, after) {
        Verdict::WithinNoise => "within the noise".to_owned(),
        // One round has no spread to be told from.
        _ if once => format!("{percent:+.0} %, of one round each: no spread is known"),
        Verdict::Better => format!("better by {:.0} %", percent.abs()),
        Verdict::Worse => format!("WORSE by {:.0} %", percent.abs()),
    }
}

fn spread(figure: &Figure) -> String {
    let (low, high) = figure.range();
    if figure.values.len() < 2 {
        return short(figure.median());
    }
    format!("{} ({} to {})", short(figure.median()), short(low), short(high))
}

fn short_commit(runs: &Runs) -> String {
    format!("{} {}", runs.machine.day(), runs.machine.commit)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Ran;
    use super::super::machine::Machine;
    use super::*;

    fn report(rates: &[f64]) -> Runs {
        let results = rates.iter().map(|rate| json!({ "acked_per_s": rate })).collect();
        let ran = Ran { name: "pairs-closed".to_owned(), command: String::new(), results };
        Runs { machine: Machine::default(), runs: vec![ran] }
    }

    #[test]
    fn a_difference_within_the_noise_is_called_so() {
        let said = |before: &[f64], after: &[f64]| side_by_side(&report(before), &report(after)).line();
        assert!(said(&[90e3, 95e3, 99e3], &[94e3, 97e3, 99e3]).contains("within the noise"));
        assert!(said(&[90e3, 95e3, 99e3], &[110e3, 120e3, 130e3]).contains("better by 26 %"));
        assert!(said(&[90e3, 95e3, 99e3], &[50e3, 57e3, 60e3]).contains("WORSE by 40 %"));
        assert!(said(&[90e3], &[180e3]).contains("no spread is known"));
    }
}
