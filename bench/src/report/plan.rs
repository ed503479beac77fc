//! What a report runs.

use crate::target::cores_for;

/// One run of `tern-bench`.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Names its files and its place in the page.
    pub name: String,
    pub arguments: Vec<String>,
    /// It writes an interval log.
    pub logs: bool,
    /// How often: what is compared between reports needs its spread.
    pub rounds: usize,
}

/// How much time is spent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Extent {
    /// All of it.
    Full,
    /// A moment of each, to see that everything works. The figures say nothing.
    Quick,
}

/// Rates of the sweep, in messages a second; it ends where the server can't follow.
const RATES: [u32; 14] = [
    2_000, 5_000, 10_000, 20_000, 40_000, 60_000, 80_000, 100_000, 120_000, 140_000, 160_000, 200_000,
    250_000, 300_000,
];

/// Messages a second at which latency targets are compared: they matter where the CPUs are not busy already.
const AIMED_RATE: u32 = 10_000;

/// Latency targets that are compared, in ms.
pub const TARGETS_MS: [&str; 3] = ["1", "5", "20"];

/// The runs whose figures carry their spread: in turns, so that a noisy minute does not hit one of them alone.
pub fn repeated(extent: Extent, rounds: usize) -> Vec<Planned> {
    let rounds = if extent == Extent::Quick { 2 } else { rounds };
    let (seconds, warmup) = times(extent, 10);
    let limits = if extent == Extent::Quick { "0.2" } else { "2" };
    vec![
        planned("limits", &format!("limits --seconds {limits}"), false, rounds),
        planned("pairs-closed", &format!("pairs --closed --window 16 {seconds} {warmup}"), true, rounds),
        planned(
            "pairs-closed-1-core",
            &format!("pairs --closed --window 16 --cores 1 {seconds} {warmup}"),
            false,
            rounds,
        ),
    ]
}

/// A run that is so long that the store's flushes and merges are all in it: a short one flatters.
pub fn lasting(extent: Extent) -> Planned {
    let seconds = if extent == Extent::Quick { "--seconds 2 --warmup 0" } else { "--seconds 120 --warmup 2" };
    planned(LASTING, &format!("pairs --closed --window 16 {seconds}"), true, 1)
}

/// The name of that run.
pub const LASTING: &str = "pairs-lasting";

/// Open loop, at half of the rate that tern must reach, and at half of what the closed loop has reached.
/// Gives the latter, and the runs.
pub fn halves(extent: Extent, rounds: usize, closed_per_s: f64) -> (f64, Vec<Planned>) {
    let rounds = if extent == Extent::Quick { 2 } else { rounds };
    let (seconds, warmup) = times(extent, 10);
    let half = (closed_per_s / 2.0 / 1000.0).round().max(1.0) * 1000.0;
    let floor = if extent == Extent::Quick { 500.0 } else { 50_000.0 };
    let runs = [("pairs-floor", floor), ("pairs-half", half)]
        .map(|(name, rate)| planned(name, &format!("pairs --rate {rate} {seconds} {warmup}"), true, rounds));
    (half, runs.into())
}

/// The sweep of rates.
pub fn sweep(extent: Extent) -> Vec<Planned> {
    let (seconds, warmup) = times(extent, 5);
    let rates = if extent == Extent::Quick { &RATES[..2] } else { &RATES[..] };
    let one = |rate: &u32| {
        planned(&format!("pairs-{rate}"), &format!("pairs --rate {rate} {seconds} {warmup}"), false, 1)
    };
    rates.iter().map(one).collect()
}

/// Everything else. `many` is the largest number of idle connections.
pub fn once(extent: Extent, many: u32, half_per_s: f64) -> Vec<Planned> {
    let full = extent == Extent::Full;
    let (seconds, warmup) = times(extent, 8);
    let mut plan = Vec::new();
    for target in TARGETS_MS {
        let command = format!("pairs --rate {AIMED_RATE} --ack-p99-ms {target} {seconds} {warmup}");
        plan.push(planned(&format!("target-{target}-ms"), &command, true, 1));
    }
    let why = if full { "--seconds 10" } else { "--seconds 1" };
    for (name, rate) in [("why-slow-low", 2_000.0), ("why-slow-half", half_per_s)] {
        plan.push(planned(name, &format!("why-slow --rate {rate} {why}"), false, 1));
    }
    let others = if full {
        ["storm --devices 10000", "rebalance --cores 2", "resume", "mixed", "churn", "strangers"]
    } else {
        [
            "storm --devices 200 --before 1",
            "rebalance --cores 2 --pairs 4 --rate 200 --moves 10 --seconds 1 --skew-seconds 1",
            "resume --devices 50 --missed 3",
            "mixed --users 50 --seconds 3",
            "churn --rate 50 --stay 1 --seconds 3",
            "strangers --connections 50 --rounds 1",
        ]
    };
    plan.extend(others.map(|command| planned(name_of(command), command, true, 1)));
    let [few_connected, many_connected] = among(extent, many);
    plan.push(few_connected);
    // Last, for the kernel is busy with so many connections for a while after they have gone.
    let sizes: &[u32] = if full { &[2_000, 10_000, 30_000] } else { &[200, 600] };
    for connections in sizes.iter().copied().chain((full && many > 30_000).then_some(many)) {
        let settle = if full { 6 } else { 1 };
        let cores = cores_option(connections);
        let command = format!("idle --connections {connections} --settle {settle} {cores}");
        plan.push(planned(&format!("idle-{connections}"), &command, false, 1));
    }
    plan.push(many_connected);
    plan
}

/// The same traffic among few and many connected users, on as many cores.
fn among(extent: Extent, many: u32) -> [Planned; 2] {
    let (few, many, rate) =
        if extent == Extent::Full { (1000.min(many), many, 20_000) } else { (20, 60, 200) };
    let (seconds, warmup) = times(extent, 10);
    let one = |(name, silent): (&str, u32)| {
        let cores = cores_option(many);
        let command = format!("pairs --rate {rate} --silent {silent} {cores} {seconds} {warmup}");
        planned(name, &command, false, 1)
    };
    [("among-few", few), ("among-many", many)].map(one)
}

/// As many cores as so many connections need, and two at least.
fn cores_option(connections: u32) -> String {
    let cores = cores_for(connections).max(2);
    if cores > 16 {
        // What each core or pair of cores has, for far more cores than there are CPUs.
        let small = "--limit receive_buffers=128 --limit ring_entries=256 --limit mesh_ring_messages=16";
        return format!("--cores {cores} {small}");
    }
    format!("--cores {cores}")
}

fn name_of(command: &str) -> &str {
    command.split(' ').next().unwrap_or_default()
}

fn times(extent: Extent, seconds: u32) -> (String, &'static str) {
    match extent {
        Extent::Full => (format!("--seconds {seconds}"), "--warmup 2"),
        Extent::Quick => ("--seconds 1".to_owned(), "--warmup 0"),
    }
}

fn planned(name: &str, command: &str, logs: bool, rounds: usize) -> Planned {
    let arguments = command.split_whitespace().map(str::to_owned).collect();
    Planned { name: name.to_owned(), arguments, logs, rounds }
}
