//! `soak`: a long time of everything: people as in `mixed` at an even pace, others who come and go. Nothing may be lost,
//! grow or become slower.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::churn::{Came, Churn};
use super::{Load, LogArgs, mixed};
use crate::arguments;
use crate::latency::{Percentiles, table};
use crate::load::Tally;
use crate::target::{Target, TargetArgs};
use crate::{measure, progress, stop};

#[derive(Clone, Debug, clap::Args)]
pub struct SoakArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Minutes of it all
    #[arg(long, default_value_t = 60.0, value_parser = arguments::positive)]
    minutes: f64,
    /// People who stay, and write and read
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(2..))]
    users: u32,
    /// How many times faster than life those are
    #[arg(long, default_value_t = 100.0, value_parser = arguments::positive)]
    speed: f64,
    /// Others that come in a second
    #[arg(long, default_value_t = 20.0, value_parser = arguments::positive)]
    come: f64,
    /// Seconds that one of those stays, on average
    #[arg(long, default_value_t = 10.0, value_parser = arguments::positive)]
    stay: f64,
    #[command(flatten)]
    log: LogArgs,
    /// Repeats the schedule of a run
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Seconds that a slope is taken over at least.
const SLOPE_S_MIN: f64 = 60.0;

/// The server at one moment.
#[derive(Clone, Copy, Debug, Serialize)]
struct Sample {
    at_s: f64,
    user_bytes: u64,
    open_files: u64,
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct SoakReport {
    scenario: &'static str,
    seed: u64,
    seconds: f64,
    errors: u64,
    acked: u64,
    came: u64,
    ack_ms_first_third: Percentiles,
    ack_ms_last_third: Percentiles,
    login_ms: Percentiles,
    /// Growth of the server's private memory in the last two thirds, as a line through its samples says.
    server_user_bytes_grown_per_hour: Option<f64>,
    samples: Vec<Sample>,
    missing: u64,
    duplicates: u64,
    out_of_order: u64,
    #[serde(skip)]
    tally: Tally,
}

impl SoakReport {
    /// Whether anything was lost, doubled, reordered or refused.
    pub fn is_correct(&self) -> bool {
        self.tally.is_correct() && self.errors == 0
    }

    /// Lines for people.
    pub fn line(&self) -> String {
        let grown = self
            .server_user_bytes_grown_per_hour
            .map_or("?".to_owned(), |bytes| format!("{:.1}", bytes / f64::from(1 << 20)));
        format!(
            "{:.0} s, {} messages acknowledged, {} logins; the server's memory grew by {grown} MiB an hour; {} errors\n\n{}{}",
            self.seconds,
            self.acked,
            self.came,
            self.errors,
            table(&[
                ("ack, first third", &self.ack_ms_first_third),
                ("ack, last third", &self.ack_ms_last_third),
                ("login", &self.login_ms),
            ]),
            self.tally.wrong(),
        )
    }
}

/// Runs it.
pub fn run(arguments: &SoakArgs) -> Result<SoakReport, String> {
    let comers = (arguments.come * arguments.stay * 1.5) as u32 + 100;
    let users = arguments.users / 2 * 2;
    let target = Target::new(&arguments.target, users + comers, &[])?;
    let (staying, coming) = target.users.split_at(users as usize);
    let end = Duration::from_secs_f64(arguments.minutes.max(0.05) * 60.0);
    let load = Load {
        target: &target,
        users: staying,
        habits: mixed::habits(users, arguments.speed, 200, 20_000, arguments.seed),
        threads: 1,
        measured: Duration::ZERO..Duration::MAX,
        interval: arguments.log.interval().max(end / 3600),
        sample_every: 0,
    };
    let over = AtomicBool::new(false);
    let samples = Mutex::new(Vec::new());
    let begin = Instant::now();
    let (tally, came) = thread::scope(|scope| {
        let (over, target, load, samples) = (&over, &target, &load, &samples);
        let come = || {
            let (rate, stay) = (arguments.come, arguments.stay);
            let mut churn = Churn::new(target, coming, rate, stay, arguments.seed, 10)?;
            while !over.load(Ordering::Acquire) {
                churn.go_on_until(churn.elapsed() + Duration::from_millis(200))?;
            }
            Ok::<_, String>(churn.came)
        };
        let come = scope.spawn(come);
        scope.spawn(|| watch(target, over, samples, begin, end));
        let tally = load.run(&|traffic| traffic.go_on_until(end));
        over.store(true, Ordering::Release);
        let came = come.join().map_err(|_| "those who come and go have panicked".to_owned())??;
        Ok::<_, String>((tally?, came))
    })?;
    let samples = samples.into_inner().map_err(|_| "the watch has panicked".to_owned())?;
    report(arguments, tally, came, samples, begin.elapsed().min(end))
}

fn report(
    arguments: &SoakArgs,
    tally: Tally,
    came: Came,
    samples: Vec<Sample>,
    lasted: Duration,
) -> Result<SoakReport, String> {
    let kinds =
        [("ack", &tally.ack), ("delivery", &tally.delivery), ("read", &tally.read), ("login", &came.login)];
    arguments.log.write(tally.begun, &kinds)?;
    Ok(SoakReport {
        scenario: "soak",
        seed: arguments.seed,
        seconds: lasted.as_secs_f64(),
        errors: tally.errors + came.errors,
        acked: tally.ack.all().len(),
        came: came.came,
        ack_ms_first_third: Percentiles::of(&tally.ack.within(Duration::ZERO..lasted / 3)),
        ack_ms_last_third: Percentiles::of(&tally.ack.within(lasted * 2 / 3..lasted)),
        login_ms: Percentiles::of(&came.login.all()),
        server_user_bytes_grown_per_hour: grown_per_hour(&samples, lasted.as_secs_f64()),
        samples,
        missing: tally.missing,
        duplicates: tally.duplicates,
        out_of_order: tally.out_of_order,
        tally,
    })
}

/// Looks at the server a hundred times, and tells people now and then.
fn watch(target: &Target, over: &AtomicBool, samples: &Mutex<Vec<Sample>>, begin: Instant, end: Duration) {
    let Some(pid) = target.pid() else { return };
    let mut told = Instant::now();
    let mut next = Duration::ZERO;
    while !over.load(Ordering::Acquire) && !stop::asked() {
        thread::sleep(Duration::from_millis(50));
        if begin.elapsed() < next {
            continue;
        }
        next += end / 100;
        let sample = Sample {
            at_s: begin.elapsed().as_secs_f64(),
            user_bytes: measure::anonymous_bytes(pid),
            open_files: measure::open_files(pid),
        };
        if let Ok(mut samples) = samples.lock() {
            samples.push(sample);
        }
        if told.elapsed() > Duration::from_secs(10) {
            told = Instant::now();
            let mib = sample.user_bytes >> 20;
            progress(&format!("{:.0} of {:.0} s, the server has {mib} MiB", sample.at_s, end.as_secs_f64()));
        }
    }
}

/// The slope of the least-squares line through the last two thirds of the samples.
fn grown_per_hour(samples: &[Sample], lasted_s: f64) -> Option<f64> {
    let points: Vec<(f64, f64)> = samples
        .iter()
        .filter(|sample| sample.at_s > lasted_s / 3.0)
        .map(|sample| (sample.at_s, sample.user_bytes as f64))
        .collect();
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (mean_x, mean_y) = (mean(|point| point.0), mean(|point| point.1));
    let above: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let below: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    // Of a minute or less it would say nothing of an hour.
    let lasted = points.last().map_or(0.0, |last| last.0) - points.first().map_or(0.0, |first| first.0);
    (below > 0.0 && lasted >= SLOPE_S_MIN).then(|| above / below * 3600.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_the_slope_after_the_first_third() {
        let sample = |at_s: f64, user_bytes| Sample { at_s, user_bytes, open_files: 0 };
        let mut samples: Vec<_> = (40..=100).map(|n| sample(f64::from(n), 1000 + 10 * n as u64)).collect();
        samples.insert(0, sample(1.0, 50));
        let grown = grown_per_hour(&samples, 100.0).expect("several points");
        assert!((grown - 36_000.0).abs() < 1.0, "{grown}");
        assert_eq!(grown_per_hour(&[], 9.0), None);
        assert_eq!(grown_per_hour(&samples[..30], 69.0), None, "half a minute");
    }
}
