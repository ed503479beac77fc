//! `compare`: two reports side by side.

use std::path::PathBuf;

use serde::Serialize;

use super::Runs;
use super::figures::{Figure, Verdict, compare, figures};
use super::page::short;

/// Exit codes.
const WORSE: u8 = 1;
const UNLIKE: u8 = 3;

#[derive(Clone, Debug, clap::Args)]
pub struct CompareArgs {
    /// The folder of the earlier report
    before: PathBuf,
    /// The folder of the later one
    after: PathBuf,
    /// Of reports of different machines, compare what are ratios
    #[arg(long)]
    ratios: bool,
}

/// One figure of both.
#[derive(Debug, Serialize)]
struct Line {
    key: &'static str,
    figure: String,
    before: f64,
    after: f64,
    /// `better`, `worse`, `noise`, `one-round`.
    verdict: &'static str,
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct Compared {
    scenario: &'static str,
    same_machine: bool,
    /// Why the reports can't be compared at all.
    unlike: Option<String>,
    figures: Vec<Line>,
    /// Figures of both whose runs were asked for something else.
    left_out: Vec<String>,
    #[serde(skip)]
    text: String,
}

impl Compared {
    /// A table for people.
    pub fn line(&self) -> String {
        self.text.clone()
    }

    /// The program's.
    pub fn exit_code(&self) -> u8 {
        match self.unlike {
            Some(_) => UNLIKE,
            None if self.figures.iter().any(|line| line.verdict == "worse") => WORSE,
            None => 0,
        }
    }
}

/// Compares.
pub fn run(arguments: &CompareArgs) -> Result<Compared, String> {
    let (before, after) = (Runs::read(&arguments.before)?, Runs::read(&arguments.after)?);
    Ok(side_by_side(&before, &after, arguments.ratios))
}

/// Why two reports can't be compared; `ratios`: what are ratios of different machines can.
fn unlike(before: &Runs, after: &Runs, same_machine: bool, ratios: bool) -> Option<String> {
    if before.quick || after.quick {
        return Some("a quick report's figures say nothing: nothing is compared".to_owned());
    }
    (!same_machine && !ratios).then(|| {
        format!(
            "the machines differ ({} and {}): nothing is compared; --ratios compares what are ratios",
            before.machine.line(),
            after.machine.line()
        )
    })
}

fn side_by_side(before: &Runs, after: &Runs, ratios: bool) -> Compared {
    let same_machine = before.machine.is_like(&after.machine);
    let mut compared = Compared {
        scenario: "compare",
        same_machine,
        unlike: unlike(before, after, same_machine, ratios),
        figures: Vec::new(),
        left_out: Vec::new(),
        text: String::new(),
    };
    if let Some(why) = &compared.unlike {
        compared.text = why.clone();
        return compared;
    }
    let name_of =
        |runs: &Runs| format!("{} {}", runs.day(), runs.commit.split(' ').next().unwrap_or_default());
    let mut text =
        format!("{:<62} {:>24} {:>24}\n", "median (lowest to highest)", name_of(before), name_of(after));
    let new = figures(after);
    for before_it in figures(before).iter().filter(|figure| same_machine || figure.is_ratio) {
        let Some(after_it) = new.iter().find(|after| after.key == before_it.key) else { continue };
        if before_it.runs.iter().any(|run| before.asked(run) != after.asked(run)) {
            compared.left_out.push(before_it.name.clone());
            continue;
        }
        let (verdict, words) = words(before_it, after_it);
        text +=
            &format!("{:<62} {:>24} {:>24}  {words}\n", before_it.name, spread(before_it), spread(after_it));
        compared.figures.push(Line {
            key: before_it.key,
            figure: before_it.name.clone(),
            before: before_it.median(),
            after: after_it.median(),
            verdict,
        });
    }
    for name in &compared.left_out {
        text += &format!("not compared, for it was asked for something else: {name}\n");
    }
    compared.text = text.trim_end().to_owned();
    compared
}

/// A verdict, for programs and for people.
fn words(before: &Figure, after: &Figure) -> (&'static str, String) {
    let percent = (after.median() / before.median() - 1.0) * 100.0;
    let once = before.values.len().min(after.values.len()) < 2;
    match compare(before, after) {
        Verdict::WithinNoise => ("noise", "within the noise".to_owned()),
        // One round has no spread to be told from.
        _ if once => ("one-round", format!("{percent:+.0} %, of one round each: no spread is known")),
        Verdict::Better => ("better", format!("better by {:.0} %", percent.abs())),
        Verdict::Worse => ("worse", format!("WORSE by {:.0} %", percent.abs())),
    }
}

fn spread(figure: &Figure) -> String {
    let (low, high) = figure.range();
    if figure.values.len() < 2 {
        return short(figure.median());
    }
    format!("{} ({} to {})", short(figure.median()), short(low), short(high))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Ran;
    use super::*;
    use crate::setup::Machine;

    fn report(rates: &[f64]) -> Runs {
        let results = rates.iter().map(|rate| json!({ "acked_per_s": rate })).collect();
        let command = "tern-bench pairs --closed --json --log pairs-closed-0.hlog".to_owned();
        let ran = Ran { name: "pairs-closed".to_owned(), command, results };
        Runs { runs: vec![ran], ..Runs::default() }
    }

    #[test]
    fn a_difference_within_the_noise_is_called_so() {
        let said = |before: &[f64], after: &[f64]| {
            let compared = side_by_side(&report(before), &report(after), false);
            (compared.line(), compared.exit_code())
        };
        let (text, code) = said(&[90e3, 95e3, 99e3], &[94e3, 97e3, 99e3]);
        assert!(text.contains("within the noise") && code == 0, "{text}");
        let (text, code) = said(&[90e3, 95e3, 99e3], &[110e3, 120e3, 130e3]);
        assert!(text.contains("better by 26 %") && code == 0, "{text}");
        let (text, code) = said(&[90e3, 95e3, 99e3], &[50e3, 57e3, 60e3]);
        assert!(text.contains("WORSE by 40 %") && code == WORSE, "{text}");
        let (text, code) = said(&[90e3], &[180e3]);
        assert!(text.contains("no spread is known") && code == 0, "{text}");
    }

    #[test]
    fn what_is_unlike_is_not_compared() {
        let (slow, fast) = (report(&[50e3, 51e3]), report(&[90e3, 91e3]));
        let quick = Runs { quick: true, ..fast.clone() };
        assert_eq!(side_by_side(&slow, &quick, true).exit_code(), UNLIKE);
        let elsewhere = Runs { machine: Machine { cpus: 64, ..Machine::default() }, ..fast.clone() };
        assert_eq!(side_by_side(&slow, &elsewhere, false).exit_code(), UNLIKE);
        assert!(side_by_side(&slow, &elsewhere, true).figures.is_empty(), "a rate is no ratio");
        let mut other = fast.clone();
        other.runs[0].command = other.runs[0].command.replace("--closed", "--rate 5");
        let compared = side_by_side(&slow, &other, false);
        assert!(compared.figures.is_empty() && compared.left_out.len() == 1, "{}", compared.line());
        other.runs[0].command = fast.runs[0].command.replace("pairs-closed-0", "elsewhere");
        assert_eq!(side_by_side(&slow, &other, false).figures.len(), 1, "where the log goes is no matter");
    }
}
