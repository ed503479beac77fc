//! `push`: how many devices that sleep are told in a second, from a message to the push service, and that each is told once; then the sender
//! of the push crate by itself.

mod asleep;
mod sender;

use serde::Serialize;

use self::asleep::{Asleep, AsleepArgs};
use self::sender::{SenderArgs, SenderReport};

#[derive(Clone, Debug, clap::Args)]
pub struct PushArgs {
    #[command(flatten)]
    asleep: AsleepArgs,
    #[command(flatten)]
    sender: SenderArgs,
    /// Decides how long tries of the sender wait for one another
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct PushReport {
    scenario: &'static str,
    seed: u64,
    #[serde(flatten)]
    asleep: Asleep,
    /// The sender by itself.
    sender: SenderReport,
}

impl PushReport {
    /// Whether each device was told once.
    pub fn is_correct(&self) -> bool {
        let Self { asleep, sender, .. } = self;
        [asleep.duplicates, asleep.missing, sender.duplicates, sender.missing] == [0; 4]
    }

    /// Lines for people.
    pub fn line(&self) -> String {
        let Self { asleep, sender, .. } = self;
        format!(
            "{:.0} pushed/s of {} that sleep, {:.0} us of ternd's CPU each with its message; {} were told twice, {} never\n\
             the sender alone: {:.0} pushed/s, {:.1} us of CPU each with what the service takes; of {} devices {} were told twice, {} never; \
             {} tries were refused\n",
            asleep.pushed_per_s,
            asleep.sleepers,
            asleep.server_cpu_us_per_push,
            asleep.duplicates,
            asleep.missing,
            sender.pushed_per_s,
            sender.cpu_us_per_push,
            sender.devices,
            sender.duplicates,
            sender.missing,
            sender.refused
        )
    }
}

/// Runs it.
pub fn run(arguments: &PushArgs) -> Result<PushReport, String> {
    let asleep = asleep::run(&arguments.asleep)?;
    let sender = sender::run(&arguments.sender, arguments.seed)?;
    Ok(PushReport { scenario: "push", seed: arguments.seed, asleep, sender })
}
