//! Every target over its corpus, and over mutations of it by seed: what a fuzzer found is not lost again, and a property that
//! does not hold any more is seen without one. Longer: `TERN_FUZZ_ROUNDS=100000 cargo test`. README.md has all.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use fastrand::Rng;
use tern_fuzz::{TARGETS, Target};

/// Mutations of each corpus, unless `TERN_FUZZ_ROUNDS` says otherwise. A handshake takes as long as hundreds of others.
const ROUNDS: u64 = 4000;
const HANDSHAKES: u64 = 300;

/// An input grows no longer than this.
const INPUT_BYTES_MAX: usize = 16 << 10;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let entries = fs::read_dir(&dir).expect("each target has a corpus");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("listed").path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).expect("read"))).collect()
}

fn run((name, target): Target) {
    let corpus = corpus(name);
    assert!(!corpus.is_empty(), "the corpus of {name} is empty");
    for (path, input) in &corpus {
        if catch_unwind(AssertUnwindSafe(|| target(input))).is_err() {
            panic!("to repeat: cargo fuzz run --sanitizer none --features fuzzer {name} {}", path.display());
        }
    }
    let usual = if name == "handshake" { HANDSHAKES } else { ROUNDS };
    let (first, rounds) = match number("TERN_SEED") {
        Some(seed) => (seed, 1),
        None => (0, number("TERN_FUZZ_ROUNDS").unwrap_or(usual)),
    };
    for seed in first..first + rounds {
        let input = mutated(&corpus, &mut Rng::with_seed(seed));
        if catch_unwind(AssertUnwindSafe(|| target(&input))).is_err() {
            let path = std::env::temp_dir().join(format!("tern-fuzz-{name}-{seed}"));
            fs::write(&path, &input).expect("written");
            panic!(
                "to repeat: TERN_SEED={seed} cargo test --manifest-path fuzz/Cargo.toml {name} \
                 (the corpus as it is now; the input itself is in {})",
                path.display()
            );
        }
    }
}

/// One of the corpus with some changes.
fn mutated(corpus: &[(PathBuf, Vec<u8>)], rng: &mut Rng) -> Vec<u8> {
    let mut one = || corpus[rng.usize(..corpus.len())].1.clone();
    let (mut input, other) = (one(), one());
    for _ in 0..rng.usize(1..6) {
        let at = rng.usize(..=input.len());
        let end = (at + rng.usize(..64)).min(input.len());
        match rng.u8(..7) {
            0 if at < input.len() => input[at] ^= 1 << rng.u8(..8),
            1 if at < input.len() => input[at] = rng.u8(..),
            2 => input.truncate(at),
            3 => drop(input.drain(at..end)),
            4 => drop(input.splice(at..at, (0..rng.usize(..16)).map(|_| rng.u8(..)).collect::<Vec<_>>())),
            5 => {
                let from = rng.usize(..=other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            _ => {
                let copy = input[at..end].to_vec();
                let to = rng.usize(..=input.len());
                drop(input.splice(to..to, copy));
            }
        }
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

macro_rules! tests {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            let target = TARGETS.into_iter().find(|(name, _)| *name == stringify!($name));
            run(target.expect("there is a target of that name"));
        })*

        #[test]
        fn every_target_is_run() {
            let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}

tests! { backup brain frames handshake keys log opening proxy records requests segment stored tokens }
