//! `report`: runs everything, and writes a dated folder: the machine, the exact commands, what they said, their
//! histograms, and a page with plots. `compare`: two of those side by side.

mod compare;
mod figures;
mod page;
mod plan;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use compare::{CompareArgs, run as compare};
use plan::{Extent, Planned};

use crate::setup::{self, Machine};
use crate::{progress, stop};

/// The file of a report's folder that holds what was found.
const FOUND: &str = "report.json";

#[derive(Clone, Debug, clap::Args)]
pub struct ReportArgs {
    /// The folder that reports lie in
    #[arg(long, value_name = "DIR", default_value = "perf-reports")]
    out: PathBuf,
    /// Name of the report behind its date [default: the commit]
    #[arg(long)]
    name: Option<String>,
    /// The most idle connections that are tried
    #[arg(long, default_value_t = 100_000)]
    connections: u32,
    /// Rounds of what carries its spread
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=20))]
    rounds: u8,
    /// These runs alone, so many rounds of each: names with commas between, as a report has them (rebalance, storm)
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    only: Vec<String>,
    /// A moment of each, to see that everything works: the figures say nothing
    #[arg(long)]
    quick: bool,
}

/// One kind of run, and what its rounds gave.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Ran {
    name: String,
    command: String,
    results: Vec<Value>,
}

/// What a report holds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Runs {
    machine: Machine,
    /// What the program was built from.
    #[serde(default)]
    commit: String,
    /// UTC.
    #[serde(default)]
    begun: String,
    /// Each run was a moment, at rates of its own.
    #[serde(default)]
    quick: bool,
    runs: Vec<Ran>,
}

impl Runs {
    /// Reads a report's folder.
    fn read(folder: &Path) -> Result<Self, String> {
        let path = folder.join(FOUND);
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let unusable = |error: serde_json::Error| format!("{}: no report: {error}", path.display());
        let whole: Value = serde_json::from_str(&text).map_err(unusable)?;
        let mut runs: Self = serde_json::from_value(whole.clone()).map_err(unusable)?;
        // Earlier reports had these with the machine.
        for (field, key) in [(&mut runs.commit, "commit"), (&mut runs.begun, "begun")] {
            if field.is_empty() {
                whole["machine"][key].as_str().unwrap_or_default().clone_into(field);
            }
        }
        Ok(runs)
    }

    /// The day of the report.
    fn day(&self) -> &str {
        self.begun.split(' ').next().unwrap_or_default()
    }

    /// What a run was asked for, but for where its log goes.
    fn asked(&self, name: &str) -> Option<String> {
        let ran = self.runs.iter().find(|ran| ran.name == name)?;
        let mut words = ran.command.split(' ');
        let mut asked = Vec::new();
        while let Some(word) = words.next() {
            match word {
                "--log" => drop(words.next()),
                // What is printed while it runs is no matter either.
                "--quiet" | "--json" => {}
                word => asked.push(word),
            }
        }
        Some(asked.join(" "))
    }

    /// What the rounds of a run gave; nothing if it did not run.
    fn results(&self, name: &str) -> &[Value] {
        self.runs.iter().find(|ran| ran.name == name).map_or(&[], |ran| &ran.results)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.runs.iter().map(|ran| ran.name.as_str())
    }

    fn median(&self, name: &str, path: &str) -> Option<f64> {
        let number = |result: &Value| result.pointer(path).and_then(Value::as_f64);
        figures::median(self.results(name).iter().filter_map(number).collect())
    }
}

/// What is said of a finished report.
#[derive(Debug, Serialize)]
pub struct Written {
    scenario: &'static str,
    folder: PathBuf,
    pub errors: u64,
}

impl Written {
    /// A line for people.
    pub fn line(&self) -> String {
        format!("{} runs went wrong; the report is {}/README.md", self.errors, self.folder.display())
    }
}

/// Makes a report.
pub fn run(arguments: &ReportArgs) -> Result<Written, String> {
    let extent = if arguments.quick { Extent::Quick } else { Extent::Full };
    let commit = match tern_version::COMMIT {
        "" => "unknown",
        commit => commit,
    };
    let runs = Runs {
        machine: Machine::here(),
        commit: commit.to_owned(),
        begun: setup::now(),
        quick: arguments.quick,
        runs: Vec::new(),
    };
    let hash = commit.split(' ').next().unwrap_or(commit);
    let name = arguments.name.clone().unwrap_or_else(|| hash.to_owned());
    let folder = arguments.out.join(format!("{}-{name}", runs.day()));
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut session = Session { folder: folder.clone(), runs, errors: 0 };
    let rounds = usize::from(arguments.rounds);
    if !arguments.only.is_empty() {
        session.in_turns(&only(arguments, extent)?)?;
        session.write()?;
        return Ok(Written { scenario: "report", folder, errors: session.errors });
    }
    session.in_turns(&plan::repeated(extent, rounds))?;
    session.one(&plan::lasting(extent))?;
    let closed = session.runs.median("pairs-closed", "/acked_per_s").unwrap_or(0.0);
    let (half_per_s, halves) = plan::halves(extent, rounds, closed);
    session.in_turns(&halves)?;
    for planned in plan::sweep(extent) {
        let broke = session.one(&planned)?.is_none_or(|result| breaks(&result));
        if broke {
            break;
        }
    }
    for planned in plan::once(extent, arguments.connections, half_per_s) {
        session.one(&planned)?;
    }
    session.write()?;
    Ok(Written { scenario: "report", folder, errors: session.errors })
}

/// The runs that were asked for by name, of those that are the same whatever others find.
fn only(arguments: &ReportArgs, extent: Extent) -> Result<Vec<Planned>, String> {
    let rounds = usize::from(arguments.rounds);
    let mut all = plan::repeated(extent, rounds);
    all.push(plan::lasting(extent));
    all.extend(plan::once(extent, arguments.connections, AIMED_FOR));
    let find = |name: &String| {
        let planned = all.iter().find(|planned| planned.name == *name);
        let planned = planned.ok_or_else(|| {
            let names: Vec<_> = all.iter().map(|planned| planned.name.as_str()).collect();
            format!("--only {name}: there is no such run, but {}", names.join(", "))
        })?;
        Ok(Planned { rounds, ..planned.clone() })
    };
    arguments.only.iter().map(find).collect()
}

/// Half of what is aimed for, in messages a second, where no run has found out what half of it can be.
const AIMED_FOR: f64 = 50_000.0;

/// Whether the server no longer follows.
fn breaks(result: &Value) -> bool {
    let number = |path: &str| result.pointer(path).and_then(Value::as_f64).unwrap_or(0.0);
    number("/acked_per_s") < 0.95 * number("/offered_per_s")
        || number("/offered_per_s") < 0.95 * number("/rate_per_s")
        || number("/ack_ms/p99") > 1000.0
}

/// A report in the making.
struct Session {
    folder: PathBuf,
    runs: Runs,
    errors: u64,
}

impl Session {
    /// Runs these one after the other, and again, until each has had its rounds.
    fn in_turns(&mut self, plan: &[Planned]) -> Result<(), String> {
        let rounds = plan.iter().map(|planned| planned.rounds).max().unwrap_or(0);
        for round in 0..rounds {
            for planned in plan.iter().filter(|planned| round < planned.rounds) {
                self.one(planned)?;
            }
        }
        Ok(())
    }

    /// Runs one. `None` if it went wrong.
    fn one(&mut self, planned: &Planned) -> Result<Option<Value>, String> {
        if stop::asked() {
            return Err("stopped".to_owned());
        }
        let round = self.runs.results(&planned.name).len();
        let mut command = format!("tern-bench {} --json", planned.arguments.join(" "));
        let mut arguments = planned.arguments.clone();
        if planned.logs {
            let log = self.folder.join(format!("{}-{round}.hlog", planned.name));
            command += &format!(" --log {}-{round}.hlog", planned.name);
            arguments.extend(["--log".to_owned(), log.display().to_string()]);
        }
        progress(&format!("{}, round {}: {command}", planned.name, round + 1));
        let program = std::env::current_exe().map_err(|error| format!("where this program is: {error}"))?;
        let output = Command::new(program).args(&arguments).arg("--json").output();
        let output = output.map_err(|error| format!("{command}: {error}"))?;
        if stop::asked() {
            // It was stopped as well, in the middle.
            return Err("stopped; what was run before is in the report".to_owned());
        }
        let said = String::from_utf8_lossy(&output.stdout);
        let result: Option<Value> = said.lines().last().and_then(|line| serde_json::from_str(line).ok());
        if !output.status.success() || result.is_none() {
            self.errors += 1;
            let complained = String::from_utf8_lossy(&output.stderr);
            let last = complained.lines().last().unwrap_or_default();
            progress(&format!("{}: {}: {said}{last}", planned.name, output.status));
        }
        if let Some(result) = &result {
            let place = self.runs.runs.iter_mut().find(|ran| ran.name == planned.name);
            match place {
                Some(ran) => ran.results.push(result.clone()),
                None => self.runs.runs.push(Ran {
                    name: planned.name.clone(),
                    command,
                    results: vec![result.clone()],
                }),
            }
            self.write()?;
        }
        Ok(result)
    }

    /// What is there so far: a report that is stopped keeps what it has.
    fn write(&self) -> Result<(), String> {
        let text = serde_json::to_string_pretty(&self.runs).map_err(|error| error.to_string())?;
        let files = [(FOUND.to_owned(), text)].into_iter().chain(page::files(&self.runs, &self.folder));
        for (name, text) in files {
            let path = self.folder.join(name);
            fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(())
    }
}
