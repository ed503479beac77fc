//! `tern`: a client for the terminal, and the shortest example of an application on the library.
//!
//! A profile is a directory: the session, what has been received, and which server it is registered with. One process
//! uses a profile at a time. Exit codes: [`failed`], and 3 for a message that is kept and not sent yet.

#![forbid(unsafe_code)]
mod chat;
mod commands;
mod output;
mod profile;
mod shown;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tern_client::Error;

use crate::commands::Page;
use crate::profile::ProfileArgs;

/// A client of tern, the messaging server, for the terminal.
#[derive(Parser)]
#[command(
    name = "tern",
    version = tern_version::VERSION,
    after_help = "Phones are written as E.164: a plus sign and 8 to 15 digits. \
    The server and whom to trust are remembered by the profile when it is registered. \
    Exit codes: 0 done, 1 not possible with this profile, 2 the command line is wrong, 3 the message is kept and not sent yet, \
    4 there is no connection, 5 the server refused."
)]
struct Arguments {
    #[command(flatten)]
    profile: ProfileArgs,
    /// Print JSON, errors too
    #[arg(long, short, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Prove a phone by the code that it is sent, and make this profile a device of its account
    Register {
        /// One's own phone
        phone: String,
        /// The name that others see; an account that exists keeps its own if this is left out
        #[arg(long, default_value = "")]
        name: String,
        /// The code of an earlier request; without it a code is sent, and asked for
        #[arg(long)]
        code: Option<String>,
        /// What this device is called in the list of one's devices
        #[arg(long, default_value = "terminal")]
        device: String,
        /// Empty a profile that is registered with another phone or server, or holds messages that have not been sent
        #[arg(long)]
        replace: bool,
    },
    /// Send a message, and print its place in the chat when the server has it in durable storage
    Send {
        /// To whom. Somebody whom this profile does not know yet must be asked for, which needs a connection
        phone: String,
        /// What; `-`, or nothing where something is piped in: what stands on standard input
        text: Option<String>,
        /// How long to try, in all. A message that is not acknowledged by then is kept, and sent by the next command that
        /// connects; the exit code is 3. With any other code it is not kept
        #[arg(long, short, value_name = "SECONDS", default_value_t = 30)]
        timeout: u64,
    },
    /// Print what comes: messages, receipts, the state of the connection; with --json one object an event. A message is acknowledged
    /// when its line was read; one whose reader ended before comes again. docs/CLIENT.md tells the events
    Listen {
        /// Tell the senders that their messages were read
        #[arg(long)]
        mark_read: bool,
        /// End when everything that was missed has come
        #[arg(long)]
        once: bool,
    },
    /// Print a page of a chat, oldest first: the newest messages, or those beside a seq; with --json one object for the page
    History {
        /// With whom
        phone: String,
        /// The messages before this seq
        #[arg(long, value_name = "SEQ", conflicts_with = "after")]
        before: Option<u64>,
        /// The messages after this seq
        #[arg(long, value_name = "SEQ")]
        after: Option<u64>,
        /// At most so many; the server may give fewer
        #[arg(long, short = 'n', default_value_t = 50)]
        limit: u32,
        /// What this profile has kept, without asking the server
        #[arg(long)]
        local: bool,
    },
    /// Chat in the terminal
    Chat {
        /// With whom
        phone: String,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { profile, json, command } = Arguments::parse();
    let done = match command {
        Command::Register { phone, name, code, device, replace } => {
            commands::register(&profile, &phone, &name, code, &device, replace, json).await
        }
        Command::Send { phone, text, timeout } => commands::send(&profile, &phone, text, timeout, json).await,
        Command::Listen { mark_read, once } => commands::listen(&profile, json, mark_read, once).await,
        Command::History { phone, before, after, limit, local } => {
            let (from, forwards) = after.map_or((before.unwrap_or(0), false), |after| (after, true));
            let page = Page { from, forwards, limit };
            match local {
                true => commands::history_local(&profile, &phone, page, json),
                false => commands::history(&profile, &phone, page, json).await,
            }
        }
        Command::Chat { phone } => chat::run(&profile, &phone).await.map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|error| failed(&error, json))
}

/// Says why a command has not done what it was to do, and gives its exit code: 1 it is not possible with this profile, 4 there is
/// no connection, 5 the server refused.
fn failed(error: &Error, json: bool) -> ExitCode {
    if json {
        output::line(&shown::json_line(&shown::error_json(error)));
    } else {
        // Who does not see it has the exit code.
        let _ = writeln!(std::io::stderr(), "tern: {}", shown::clean_line(&error.to_string()));
    }
    ExitCode::from(match error {
        Error::Connection(_)
        | Error::Offline { .. }
        | Error::Tls(_)
        | Error::TimedOut
        | Error::Protocol(_) => 4,
        Error::Refused { .. } | Error::SessionEnded(_) | Error::OtherStore { .. } => 5,
        _ => 1,
    })
}
