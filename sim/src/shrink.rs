//! A shorter world that fails too: less time, fewer devices, fewer kinds of faults.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::trouble::Trouble;
use crate::{Options, run};

/// What a world finds, in words: something that does not hold, or a panic of the code.
pub fn finds(seed: u64, options: Options) -> Option<String> {
    match catch_unwind(AssertUnwindSafe(|| run(seed, options))) {
        Ok(lived) => lived.err().map(|failure| failure.what),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            Some(
                text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                    .unwrap_or_default(),
            )
        }
    }
}

/// Shortens a world that fails, as far as it still fails: whatever it finds then.
pub fn shrink(seed: u64, mut options: Options) -> Options {
    options.trace = false;
    loop {
        let shorter = [
            Options { talks: options.talks / 2, ..options },
            Options { talks: options.talks.saturating_sub(Duration::from_secs(1)), ..options },
            Options { devices: options.devices / 2, ..options },
            Options { devices: options.devices - 1, ..options },
        ];
        let fewer = Trouble::ALL.into_iter().filter(|trouble| !options.without.has(*trouble));
        let fewer = fewer.map(|trouble| Options { without: options.without.and(trouble), ..options });
        let possible = |it: &Options| it.devices >= 2 && it.talks >= Duration::from_secs(1);
        let found = shorter.into_iter().chain(fewer).filter(possible).find(|it| finds(seed, *it).is_some());
        match found {
            Some(found) => options = found,
            None => return options,
        }
    }
}
