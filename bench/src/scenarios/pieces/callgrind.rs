//! Instructions of a piece, counted by valgrind's callgrind.
//!
//! Only [`MEASURED`] is counted: setting up a record layer draws entropy from the CPU's timing, 425 million instructions
//! give or take 3 million. Two runs of `tern-bench piece` differ in nothing but the number of times, so the
//! difference of their counts is the piece's, without what is done once (keys expanded, buffers grown).
//!
//! Two things are counted unlike the CPU does them. valgrind shows a CPU without AVX-512, so AES-GCM takes another path
//! than when it is timed. And each byte of a `rep movsb` is an instruction: in record_seal_16k that makes 16,384.

use std::io::ErrorKind;
use std::process::Command;

use tern_bench::pieces::{Kind, MEASURED};

/// Instructions that the piece takes when it is done once.
pub fn instructions(kind: &Kind) -> Result<f64, String> {
    let (few, many) = (kind.times_max / 2, kind.times_max);
    let counts = (collected(kind.name, few)?, collected(kind.name, many)?);
    if counts.0 == 0 || counts.1 <= counts.0 {
        let name = kind.name;
        return Err(format!(
            "{name}: {few} and {many} times took {counts:?} instructions: was {MEASURED} found?"
        ));
    }
    Ok((counts.1 - counts.0) as f64 / (many - few) as f64)
}

/// Instructions of a process that does the piece so many times, without making it and preparing it.
fn collected(name: &str, times: usize) -> Result<u64, String> {
    let program =
        std::env::current_exe().map_err(|error| format!("tern-bench can't find itself: {error}"))?;
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    valgrind.arg(format!("--toggle-collect={MEASURED}*"));
    valgrind.arg(program).args(["piece", name, &times.to_string()]);
    let output = valgrind.output().map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            "valgrind is not installed: --instructions counts with it (apt-get install valgrind)".to_owned()
        }
        _ => format!("valgrind can't be started: {error}"),
    })?;
    let said = String::from_utf8_lossy(&output.stderr);
    let count = output.status.success().then(|| count_in(&said)).flatten();
    count.ok_or_else(|| format!("valgrind has not counted {name} ({}):\n{said}", output.status))
}

/// The number in callgrind's line `==1== Collected : 12345`.
fn count_in(said: &str) -> Option<u64> {
    let line = said.lines().find(|line| line.contains("Collected :"))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_among_what_valgrind_says() {
        let said = "==7== Events    : Ir\n==7== Collected : 123456\n==7== \n==7== I   refs:      123,456\n";
        assert_eq!(count_in(said), Some(123_456));
        assert_eq!(count_in("valgrind: failed to start tool"), None);
    }
}
