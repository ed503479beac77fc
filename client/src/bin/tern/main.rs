//! `tern`: a client for the terminal, and the shortest example of an application on the library.
//!
//! A profile is a directory: the session, what has been received, and which server it is registered with. One process
//! uses a profile at a time. Exit codes: 0 done, 1 the server or the profile said no, 2 the command line is wrong, 3 a
//! message is kept and not sent yet.

#![forbid(unsafe_code)]
mod chat;
mod commands;
mod output;
mod profile;
mod shown;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::commands::Page;
use crate::profile::ProfileArgs;

/// A client of tern, the messaging server, for the terminal.
#[derive(Parser)]
#[command(
    name = "tern",
    version = tern_version::VERSION,
    after_help = "Phones are written as E.164: a plus sign and 8 to 15 digits. \
    The server and whom to trust are remembered by the profile when it is registered. \
    Exit codes: 0 done, 1 refused or not possible, 2 the command line is wrong, 3 the message is kept and not sent yet."
)]
struct Arguments {
    #[command(flatten)]
    profile: ProfileArgs,
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
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Send a message, and print its place in the chat when the server has it in durable storage
    Send {
        /// To whom. Somebody whom this profile does not know yet must be asked for, which needs a connection
        phone: String,
        /// What
        text: String,
        /// How long to try, in all. A message that is not acknowledged by then is kept, and sent by the next command that
        /// connects; the exit code is 3. With any other code it is not kept
        #[arg(long, value_name = "SECONDS", default_value_t = 30)]
        timeout: u64,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print what comes: messages, receipts, the state of the connection. A message is acknowledged when its line was read;
    /// one whose reader ended before comes again. docs/CLIENT.md tells the events
    Listen {
        /// Print JSON, one object an event
        #[arg(long)]
        json: bool,
        /// Tell the senders that their messages were read
        #[arg(long)]
        mark_read: bool,
        /// End when everything that was missed has come
        #[arg(long)]
        once: bool,
    },
    /// Print a page of a chat, oldest first: the newest messages, or those beside a seq
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
        #[arg(long, default_value_t = 50)]
        limit: u32,
        /// What this profile has kept, without asking the server
        #[arg(long)]
        local: bool,
        /// Print JSON, one object for the page
        #[arg(long)]
        json: bool,
    },
    /// Chat in the terminal
    Chat {
        /// With whom
        phone: String,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { profile, command } = Arguments::parse();
    let done = match command {
        Command::Register { phone, name, code, device, replace, json } => {
            commands::register(&profile, &phone, &name, code, &device, replace, json).await
        }
        Command::Send { phone, text, timeout, json } => {
            commands::send(&profile, &phone, text, timeout, json).await
        }
        Command::Listen { json, mark_read, once } => commands::listen(&profile, json, mark_read, once).await,
        Command::History { phone, before, after, limit, local, json } => {
            let (from, forwards) = after.map_or((before.unwrap_or(0), false), |after| (after, true));
            let page = Page { from, forwards, limit };
            match local {
                true => commands::history_local(&profile, &phone, page, json),
                false => commands::history(&profile, &phone, page, json).await,
            }
        }
        Command::Chat { phone } => chat::run(&profile, &phone).await.map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|error| {
        // Who does not see it has the exit code.
        let _ = writeln!(std::io::stderr(), "tern: {}", shown::clean_line(&error.to_string()));
        ExitCode::FAILURE
    })
}
