//! `ternctl trace`: where the time of messages goes, step by step.

use std::collections::{BTreeMap, HashMap};
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;

use serde_json::{Value, json};

use crate::socket::{AskError, ask};

/// The stations of a message, in order, each with what happens before it.
const STATIONS: [(&str, &str); 8] = [
    ("received", ""),
    ("decrypted", "decrypt and parse"),
    ("routed", "to the log's core"),
    ("batched", "decide and encode"),
    ("submitted", "wait for the turn's end"),
    ("committed", "write and sync"),
    ("acknowledged", "acknowledge"),
    ("delivered", "push to the chat's devices"),
];

/// Steps whose times are kept, of each kind. More only count.
const KEPT_MAX: usize = 1 << 20;

/// The place of the acknowledgement among the stations.
const ACKNOWLEDGED: usize = STATIONS.len() - 2;

/// How long after it what follows has come, in ns.
const SETTLED_NS: u64 = 500_000_000;

/// Messages whose stations have not all come.
const OPEN_MAX: usize = 1 << 16;

#[derive(Default)]
struct Steps {
    /// Of each message (user, device, client id), when it reached which station, in ns.
    open: HashMap<(u64, u64, u64), BTreeMap<usize, u64>>,
    /// Nanoseconds of each step, by the station at its end.
    taken: [Vec<u64>; STATIONS.len()],
    /// From received to acknowledged.
    whole: Vec<u64>,
    messages: u64,
    /// Stations that came too fast to be taken.
    left_out: u64,
}

impl Steps {
    /// Takes lines of: user, client id, station, ns, device.
    fn take(&mut self, text: &str) {
        for line in text.lines() {
            let mut parts = line.split(' ');
            let number = |parts: &mut std::str::Split<'_, char>| parts.next()?.parse::<u64>().ok();
            let (Some(user), Some(client_id)) = (number(&mut parts), number(&mut parts)) else { continue };
            let Some(station) = parts.next() else { continue };
            let (Some(at_ns), Some(device)) = (number(&mut parts), number(&mut parts)) else { continue };
            let message = (user, device, client_id);
            let Some(place) = STATIONS.iter().position(|(name, _)| *name == station) else { continue };
            if self.open.len() >= OPEN_MAX && !self.open.contains_key(&message) {
                self.left_out += 1;
                continue;
            }
            let stations = self.open.entry(message).or_default();
            // A peer's devices are several; the first counts.
            stations.entry(place).or_insert(at_ns);
        }
    }

    /// Counts the messages that have been acknowledged, some time ago: what follows has come too, if it does.
    fn count_done(&mut self, all: bool) {
        let newest = self.open.values().filter_map(|stations| stations.values().max()).max().copied();
        let done = |stations: &BTreeMap<usize, u64>| {
            let acknowledged = stations.get(&ACKNOWLEDGED).zip(newest);
            all || acknowledged.is_some_and(|(at, newest)| at + SETTLED_NS < newest)
        };
        let counted: Vec<_> =
            self.open.extract_if(|_, stations| done(stations)).map(|(_, stations)| stations).collect();
        for stations in counted {
            self.messages += 1;
            for place in 1..STATIONS.len() {
                // Delivery begins, as the acknowledgement does, with the commit.
                let before = if place > ACKNOWLEDGED { ACKNOWLEDGED - 1 } else { place - 1 };
                if let (Some(begin), Some(end)) = (stations.get(&before), stations.get(&place))
                    && self.taken[place].len() < KEPT_MAX
                {
                    self.taken[place].push(end.saturating_sub(*begin));
                }
            }
            if let (Some(begin), Some(end)) = (stations.get(&0), stations.get(&ACKNOWLEDGED))
                && self.whole.len() < KEPT_MAX
            {
                self.whole.push(end.saturating_sub(*begin));
            }
        }
    }

    /// Counts what is left.
    fn finish(&mut self) {
        self.count_done(true);
        self.taken.iter_mut().chain([&mut self.whole]).for_each(|times| times.sort_unstable());
    }
}

/// The time in us within which a share of the sorted times lies.
fn percentile(times: &[u64], share: f64) -> f64 {
    let place = (times.len() as f64 * share).ceil() as usize;
    times.get(place.saturating_sub(1)).map_or(0.0, |ns| *ns as f64 / 1000.0)
}

fn row(times: &[u64]) -> Value {
    let last = times.last().copied().unwrap_or(0);
    json!({
        "count": times.len(), "p50_us": percentile(times, 0.5), "p99_us": percentile(times, 0.99),
        "max_us": last as f64 / 1000.0,
    })
}

/// Follows messages for some seconds, and prints their steps.
pub fn run(socket: &Path, every: u64, seconds: u64, json: bool) -> Result<(), AskError> {
    let mut answers = ask(socket, &json!({ "ask": "trace", "every": every, "seconds": seconds }))?;
    let mut steps = Steps::default();
    let shows = !json && std::io::stderr().is_terminal();
    for second in 1.. {
        let answer = answers.next()?;
        if !answer["done"].is_null() {
            break;
        }
        steps.take(answer["stations"].as_str().unwrap_or_default());
        steps.left_out += answer["lost"].as_u64().unwrap_or_default();
        steps.count_done(false);
        if shows {
            let messages = steps.messages + steps.open.len() as u64;
            let _ = write!(std::io::stderr(), "\r{second} of {seconds} s, {messages} messages");
        }
    }
    if shows {
        let _ = write!(std::io::stderr(), "\r\x1b[K");
    }
    steps.finish();
    if json {
        let step = |place: usize| (STATIONS[place].0.to_owned(), row(&steps.taken[place]));
        let all: serde_json::Map<_, _> = (1..STATIONS.len()).map(step).collect();
        say!(
            "{}",
            json!({
                "messages": steps.messages, "left_out": steps.left_out, "every": every, "steps": all, "received_to_acknowledged": row(&steps.whole),
            })
        );
        return Ok(());
    }
    if steps.messages == 0 {
        say!("no message was followed in {seconds} s: --every 1 follows all, --seconds more");
        return Ok(());
    }
    say!(
        "{} messages in {seconds} s, each whose client id is a multiple of {every}; times in us",
        steps.messages
    );
    if steps.left_out > 0 {
        say!(
            "{} stations came too fast and are left out: a larger --every follows fewer messages",
            steps.left_out
        );
    }
    say!("{:<14}{:<28}{:>9}{:>10}{:>10}{:>10}", "until", "", "messages", "p50", "p99", "max");
    let print = |name: &str, what: &str, times: &[u64]| {
        let at = |share| percentile(times, share);
        say!("{name:<14}{what:<28}{:>9}{:>10.1}{:>10.1}{:>10.1}", times.len(), at(0.5), at(0.99), at(1.0));
    };
    for ((name, what), times) in STATIONS.iter().zip(&steps.taken).skip(1) {
        print(name, what, times);
    }
    print("acknowledged", "all of it", &steps.whole);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_the_times_between_stations_whichever_comes_first() {
        let mut steps = Steps::default();
        let first =
            "7 1 received 1000 1\n7 1 decrypted 3000 1\n7 1 received 10 2\nnonsense\n7 1 elsewhere 5 1\n";
        steps.take(first);
        let then = "7 1 committed 90000 1\n7 1 delivered 130000 1\n7 1 delivered 999999 1\n";
        steps.take(&format!("{then}7 1 acknowledged 100000 1\n"));
        steps.count_done(false);
        assert_eq!(steps.messages, 0, "more may come of it");
        steps.finish();
        assert_eq!(steps.messages, 2);
        assert_eq!(steps.taken[1], [2000]);
        assert_eq!(steps.taken[6], [10_000]);
        assert_eq!(steps.taken[7], [40_000], "from the commit on, and to the first device");
        assert_eq!(steps.whole, [99_000]);
        assert!(steps.taken[2].is_empty(), "a station that did not come is no step");
        assert_eq!(percentile(&[1000, 2000, 3000, 4000], 0.5), 2.0);
        assert_eq!(percentile(&[], 0.5), 0.0);
    }
}
