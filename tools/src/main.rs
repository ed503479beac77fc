//! `ternctl`: the operators' tool. It asks a running `ternd` on its admin socket; who may open the socket may ask.
//!
//! Exit codes: 0 done, 1 ternd said no or is not there, or a store or a backup is not whole, 2 the command line is wrong, 3 a backup has no
//! base yet.

#![cfg_attr(not(test), warn(clippy::too_many_lines))]
#![forbid(unsafe_code)]

/// Prints a line. If nobody reads it any more the program ends, quietly.
macro_rules! say {
    ($($part:tt)*) => {
        $crate::print_line(&format!($($part)*))
    };
}

mod backup;
mod check;
mod commands;
mod push;
mod reports;
mod shards;
mod socket;
mod stats;
mod status;
mod trace;
mod watch;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

/// Asks a running ternd, and makes test users.
#[derive(Parser)]
#[command(
    name = "ternctl",
    args_override_self = true,
    version = tern_version::VERSION,
    after_help = "Phones are written as E.164: a plus sign and 8 to 15 digits. WHO is a phone, or a user's id as the log and metrics have it.\n\
    Exit codes: 0 done, 1 ternd said no or is not there, or a store or a backup is not whole, 2 the command line is wrong, 3 a backup has no base yet."
)]
struct Arguments {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: Command,
}

/// Which ternd is asked.
#[derive(Args)]
struct Target {
    /// The data directory of the ternd
    #[arg(long, env = "TERN_DATA_DIR", value_name = "DIR", default_value = "tern-data")]
    data_dir: PathBuf,
    /// Its admin socket [default: ternd.sock in the data directory]
    #[arg(long, env = "TERN_ADMIN_SOCKET", value_name = "FILE")]
    socket: Option<PathBuf>,
    /// Print JSON
    #[arg(long, short, global = true)]
    json: bool,
}

impl Target {
    fn socket(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| self.data_dir.join("ternd.sock"))
    }
}

#[derive(Subcommand)]
enum Command {
    /// Show how the node is: connections, messages, commits, the store, alarms, and each core
    Status,
    /// Show it again and again, with rates and percentiles of the time in between
    Top {
        /// Seconds in between
        #[arg(long, short, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
        every: u64,
        /// How often; 0: until it is stopped
        #[arg(long, short = 'n', value_name = "N", default_value_t = 0)]
        count: u32,
    },
    /// Print the one-time code that a phone was sent last, while it is good (development mode only)
    Otp {
        /// The phone
        phone: String,
    },
    /// Lift the limits of one-time codes of a phone
    Codes {
        #[command(subcommand)]
        command: CodesCommand,
    },
    /// Show a user and their devices, delete them, suspend or free them, or keep one whose account is about to end
    #[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
    User {
        /// The phone, or the user's id
        #[arg(required = true)]
        who: Option<String>,
        /// Delete the account: its devices are logged out at once, its tokens are worth nothing, and what is left of it is erased
        #[arg(long, requires = "yes")]
        delete: bool,
        /// Really
        #[arg(long, requires = "delete")]
        yes: bool,
        #[command(subcommand)]
        command: Option<UserCommand>,
    },
    /// End a device of a user
    Devices {
        #[command(subcommand)]
        command: DevicesCommand,
    },
    /// Forget what a user has used up of their limits
    Limits {
        #[command(subcommand)]
        command: LimitsCommand,
    },
    /// What users have told of others: list it, look at it, be done with it
    Reports {
        #[command(subcommand)]
        command: reports::ReportsCommand,
    },
    /// List the accounts that are about to end, and those that have ended and of which something is left
    Deletions,
    /// Show how many were here, registered, came back and wrote, day by day. Numbers alone: who it was, nothing says
    Stats {
        /// So many days, today first
        #[arg(long, value_name = "N", default_value_t = 14, value_parser = clap::value_parser!(u32).range(1..=400))]
        days: u32,
    },
    /// Show how push services do that tell devices that sleep: what waits, what they took, what they refuse and why, dead letters
    Push,
    /// Print the configuration in force, every key with what it means, without secrets
    Config,
    /// Read the certificate, its key, and what else can change while ternd runs again; name what needs a start
    Reload,
    /// Show which core has which of the 4,096 slots that users and chats lie in, and move them while people talk
    Shards {
        #[command(subcommand)]
        command: shards::ShardsCommand,
    },
    /// Show the cores, have one give its slots to others, or take some again
    Cores {
        #[command(subcommand)]
        command: shards::CoresCommand,
    },
    /// Back the store up while it serves, see how far that is, and go through a backup
    Backup {
        #[command(subcommand)]
        command: backup::BackupCommand,
    },
    /// Tell all clients to go elsewhere, finish what is under way, and end ternd
    Drain {
        /// Wait until it has ended
        #[arg(long)]
        wait: bool,
    },
    /// Follow messages for some seconds, and print where their time goes, step by step
    Trace {
        /// Those whose client id is a multiple of this; 1: all of them, which costs a busy server something
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
        every: u64,
        /// For how long
        #[arg(long, short, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
        seconds: u64,
    },
    /// Print what a shell needs to complete this program's command lines
    Completions {
        /// For which shell
        shell: tern_version::Shell,
    },
    /// Write the man pages of this program into a folder
    #[command(hide = true)]
    ManPages {
        /// Where to
        folder: PathBuf,
    },
    /// Go through a store that no ternd has open: say what is not whole, and change nothing
    Check {
        /// The data directory, or the store in it
        dir: PathBuf,
        /// Also write all that is whole to a new store in this directory, which must not be there yet. What is printed is
        /// what is not in it. To go on with it, put it in the place of the data directory's store
        #[arg(long, value_name = "DIR")]
        salvage: Option<PathBuf>,
    },
    /// Make verified test users with tokens (development mode, or ternd --allow-provision)
    Provision {
        /// How many
        #[arg(long)]
        count: u32,
        /// Where their tokens are written: JSON, a user a line, for the eyes of the owner only
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Write over a file that is there
        #[arg(long)]
        overwrite: bool,
        /// The phone of the first; the others count on from it
        #[arg(long, value_name = "PHONE", default_value = "+19990000000")]
        first: String,
        /// What they are called, with a number behind
        #[arg(long, default_value = "test")]
        name: String,
    },
}

#[derive(Subcommand)]
enum UserCommand {
    /// Suspend a user: all connections end, nobody is let in, scheduled messages wait; nothing is lost
    Suspend {
        /// The phone, or the user's id
        who: String,
        /// Why, for operators who come after you: no name, no phone
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// For how long: 90s, 30m, 12h, 7d [default: until the user is freed]
        #[arg(long = "for", value_name = "DURATION", value_parser = commands::duration)]
        duration: Option<Duration>,
    },
    /// Keep a user whose account is about to end, as they have said: all is as it was
    Keep {
        /// The phone, or the user's id
        who: String,
    },
    /// Free a user who is suspended
    Free {
        /// The phone, or the user's id
        who: String,
    },
}

#[derive(Subcommand)]
enum DevicesCommand {
    /// End a device: it is logged out at once, its tokens are worth nothing, and what it has not received it never will
    End {
        /// The phone, or the user's id
        who: String,
        /// The device's number, as `ternctl user` shows it
        device: u32,
    },
}

#[derive(Subcommand)]
enum LimitsCommand {
    /// A user may send, look up, write to new people and ask for codes as if they had done nothing yet. `ternctl config` shows the limits
    Reset {
        /// The phone, or the user's id
        who: String,
    },
}

#[derive(Subcommand)]
enum CodesCommand {
    /// Forget how often codes were asked for by a phone in the last hour, so that it may ask at once. Codes that were sent stay
    /// good, with the attempts that they have left; the limits of networks stay as they are
    Reset {
        /// The phone
        phone: String,
    },
}

fn print_line(line: &str) {
    if writeln!(std::io::stdout(), "{line}").is_err() {
        std::process::exit(1);
    }
}

fn complain(why: &dyn std::fmt::Display) {
    // Who does not see it has the exit code.
    let _ = writeln!(std::io::stderr(), "ternctl: {why}");
}

fn main() -> ExitCode {
    let Arguments { target, command } = Arguments::parse();
    let (socket, json) = (target.socket(), target.json);
    let done = match command {
        Command::Check { dir, salvage } => return check::run(&dir, salvage.as_deref(), json),
        Command::Backup { command } => return backup::run(&socket, command, json),
        Command::Status => status::status(&socket, json),
        Command::Top { every, count } => status::top(&socket, json, Duration::from_secs(every), count),
        Command::Otp { phone } => commands::otp(&socket, &phone, json),
        Command::Codes { command: CodesCommand::Reset { phone } } => {
            commands::reset_codes(&socket, &phone, json)
        }
        Command::User { command: Some(UserCommand::Suspend { who, reason, duration }), .. } => {
            commands::suspend(&socket, &who, (&reason, duration), json)
        }
        Command::User { command: Some(UserCommand::Keep { who }), .. } => commands::keep(&socket, &who, json),
        Command::User { command: Some(UserCommand::Free { who }), .. } => commands::free(&socket, &who, json),
        Command::User { who, delete: true, .. } => {
            commands::delete_user(&socket, &who.unwrap_or_default(), json)
        }
        Command::User { who, .. } => commands::user(&socket, &who.unwrap_or_default(), json),
        Command::Devices { command: DevicesCommand::End { who, device } } => {
            commands::end_device(&socket, &who, device, json)
        }
        Command::Limits { command: LimitsCommand::Reset { who } } => {
            commands::reset_limits(&socket, &who, json)
        }
        Command::Reports { command } => reports::run(&socket, command, json),
        Command::Deletions => commands::deletions(&socket, json),
        Command::Stats { days } => stats::run(&socket, days, json),
        Command::Push => push::run(&socket, json),
        Command::Config => commands::config(&socket, json),
        Command::Reload => commands::reload(&socket, json),
        Command::Shards { command } => shards::shards(&socket, command, json),
        Command::Cores { command } => shards::cores(&socket, &command, json),
        Command::Drain { wait } => commands::drain(&socket, wait, json),
        Command::Trace { every, seconds } => trace::run(&socket, every, seconds, json),
        Command::Completions { shell } => {
            tern_version::print_completions(Arguments::command(), shell);
            Ok(())
        }
        Command::ManPages { folder } => {
            let written = tern_version::write_man_pages(Arguments::command(), &folder);
            written.map_err(|error| socket::AskError::File(folder, error))
        }
        Command::Provision { count, out, overwrite, first, name } => {
            commands::provision(&socket, count, &first, &name, (&out, overwrite), json)
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            complain(&why);
            ExitCode::FAILURE
        }
    }
}
