//! `tern`: a client for the terminal, and the shortest example of an application on the library.
//!
//! A profile is a directory: the session, what has been received, and which server it is registered with. One process
//! uses a profile at a time; while one runs for long, the others go through it. Exit codes: [`failed`], and 3 for a message that is
//! kept and not sent yet.

#![cfg_attr(not(test), warn(clippy::too_many_lines))]
#![forbid(unsafe_code)]
mod asker;
mod chat;
mod commands;
mod export;
mod groups;
mod media;
mod methods;
mod output;
mod people;
mod presence;
mod private;
mod profile;
mod push;
mod register;
mod rpc;
mod schedule;
mod search;
mod shown;
mod stories;
mod tables;
mod talk;
mod who;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use serde_json::json;

use crate::commands::Page;
use crate::methods::{Failure, HISTORY_LIMIT, SEND_TIMEOUT_MS};
use crate::profile::ProfileArgs;
use crate::who::Who;

/// A client of tern, the messaging server, for the terminal.
#[derive(Parser)]
#[command(
    name = "tern",
    args_override_self = true,
    version = tern_version::VERSION,
    after_help = "WHO is a phone (a plus sign and 8 to 15 digits), or @ and the number of a user or group, as `tern chats` shows it. \
    The server and whom to trust are remembered by the profile when it is registered.\n\
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
    Register(register::Register),
    /// Make this profile a device of an account, by the link that another of its devices shows (`tern devices --add`)
    Link {
        /// The link
        link: tern_client::DeviceLink,
        /// What this device is called in the list of one's devices
        #[arg(long, default_value = "terminal")]
        device: String,
        /// Empty a profile that is registered
        #[arg(long)]
        replace: bool,
    },
    /// Print the list of one's chats, those with the newest message first: how many messages are unread, with whom, the newest
    Chats {
        /// Only those with unread messages, or marked as unread
        #[arg(long, short)]
        unread: bool,
        /// Those that are put aside, too
        #[arg(long, short)]
        archived: bool,
    },
    /// Chat in the terminal; without WHO, with whoever is chosen from the list
    Chat {
        /// With whom
        who: Option<Who>,
        /// How to make known that a message has come, beside the screen
        #[arg(long, env = "TERN_NOTIFY", value_name = "HOW")]
        notify: Option<chat::Notify>,
        /// How to show the pictures of messages
        #[arg(long, env = "TERN_PICTURES", value_name = "HOW", default_value = "auto")]
        pictures: chat::Pictures,
    },
    /// Send a message, and print its place in the chat when the server has it in durable storage
    Send(SendArgs),
    /// Save the file that goes with a message, or the picture of a person or a group
    Save {
        /// With whom, or whose
        who: Who,
        /// The message's place in the chat, as `tern history` shows it
        #[arg(value_name = "SEQ", required_unless_present = "picture")]
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        seq: Option<u64>,
        /// Their picture
        #[arg(long, conflicts_with = "seq")]
        picture: bool,
        /// Where to: a file that is not there yet, or a folder
        #[arg(long, short, value_name = "PATH", default_value = ".")]
        to: PathBuf,
    },
    #[command(flatten)]
    Talk(talk::Talk),
    #[command(flatten)]
    Own(private::Own),
    #[command(flatten)]
    People(people::People),
    #[command(flatten)]
    Later(schedule::Later),
    /// Print a page of a chat, oldest first: the newest messages, or those beside a seq; with --json one object for the page
    History {
        /// With whom
        who: Who,
        /// The messages before this seq
        #[arg(long, value_name = "SEQ", conflicts_with = "after")]
        before: Option<u64>,
        /// The messages after this seq
        #[arg(long, value_name = "SEQ")]
        after: Option<u64>,
        /// At most so many; the server may give fewer
        #[arg(long, short = 'n', default_value_t = HISTORY_LIMIT)]
        limit: u32,
        /// What this profile has kept, without asking the server
        #[arg(long)]
        local: bool,
    },
    /// Find messages that this profile has received, the newest first: in all chats, or in one
    Search(search::Search),
    Export(export::ExportArgs),
    /// Print what comes: messages, receipts, the state of the connection; with --json one object an event. A message is acknowledged
    /// when its line was read; one whose reader ended before comes again. docs/CLIENT.md tells the events
    Listen {
        /// Tell the senders that their messages were read
        #[arg(long, short)]
        mark_read: bool,
        /// End when everything that was missed has come
        #[arg(long)]
        once: bool,
        /// Tell whether they are here, and when they type, too; of a group, who types in it
        #[arg(long, value_name = "WHO")]
        show: Vec<Who>,
    },
    /// Tell the sender that one's chat with them is read, on all of one's devices
    Read {
        /// With whom
        who: Who,
        /// Up to this seq [default: the newest]
        #[arg(long, value_name = "SEQ")]
        upto: Option<u64>,
    },
    /// Print who one is: phone, name, user, device, server, profile
    Whoami,
    /// Make, show and change groups; what is said in them is sent, read and shown as in every chat, with @ and the group's number
    #[command(subcommand)]
    Group(groups::Groups),
    /// What one shows for a day, and what others show: pictures, videos, texts
    #[command(subcommand)]
    Story(stories::Stories),
    /// Change the name that others see, or what this device is called
    Rename {
        /// The name that others see; empty for none
        #[arg(required_unless_present = "device", value_parser = who::name)]
        name: Option<String>,
        /// What this device is called in the list of one's devices
        #[arg(long)]
        device: Option<String>,
    },
    /// Say by which service this device is told that something has come while it sleeps, or `off`; or show how it is
    Push(push::PushArgs),
    /// Set the account's PIN, without which nobody registers its phone anew while a device of it is in use
    Lock {
        /// None any more
        #[arg(long)]
        off: bool,
    },
    /// Delete the account: no device of it is let in any more, and after some days nothing is left of it but what others have. Until then,
    /// whoever registers its phone keeps it, as it was
    DeleteAccount {
        /// Really
        #[arg(long, required = true)]
        yes: bool,
        /// The account has a PIN, which is asked for
        #[arg(long)]
        pin: bool,
    },
    /// Print the list of one's devices, or end one that was lost, or have one ring that is not found
    Devices {
        /// End the device of this number: it is logged out, and can't log in again
        #[arg(long, value_name = "NUMBER")]
        end: Option<u32>,
        /// Have the device of this number ring, if it is connected: an open chat shows it, and rings the terminal's bell
        #[arg(long, value_name = "NUMBER", conflicts_with = "end")]
        ring: Option<u32>,
        /// Show a link, as a QR code and as text, by which another device is added: once, within two minutes
        #[arg(long, conflicts_with_all = ["end", "ring"])]
        add: bool,
    },
    /// End this device, and empty the profile: its tokens and all that it has kept
    Logout {
        /// Empty the profile alone: the server, which may be gone, is not told
        #[arg(long)]
        local: bool,
        /// Also if messages have not been sent
        #[arg(long)]
        force: bool,
    },
    /// Serve a program: JSON-RPC 2.0, one object a line, on standard input and output until the input ends. docs/CLIENT.md tells the
    /// methods. Meanwhile the other commands on this profile go through this one
    Rpc {
        /// Serve on a unix socket instead, until interrupted: at this path, or without one at rpc.sock beside the profile
        #[arg(long, value_name = "PATH")]
        #[allow(clippy::option_option, reason = "whether it is there, and with which value")]
        socket: Option<Option<PathBuf>>,
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
}

fn main() -> ExitCode {
    let Arguments { profile, json, command } = Arguments::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(tern_client::Error::from(error).into(), &profile, json),
    };
    let done = runtime.block_on(run(&profile, json, command));
    // A read of standard input may be under way, which nothing but its end would end.
    runtime.shutdown_background();
    done.unwrap_or_else(|failure| failed(failure, &profile, json))
}

/// What is sent, and to whom.
#[derive(clap::Args)]
struct SendArgs {
    /// To whom. Somebody whom this profile does not know yet must be asked for, which needs a connection
    who: Who,
    /// What; `-`, or nothing where something is piped in: what stands on standard input
    text: Option<String>,
    /// How long to try, in all. A message that is not acknowledged by then is kept, and sent by the next command that
    /// connects; the exit code is 3. With any other code it is not kept
    #[arg(long, short, value_name = "SECONDS", default_value_t = SEND_TIMEOUT_MS / 1000)]
    timeout: u64,
    /// Send it once for each key: of a message of a key that was sent before, the place of the first is printed
    #[arg(long, short)]
    key: Option<String>,
    /// As a reply to the message of this seq
    #[arg(long, short, value_name = "SEQ", value_parser = clap::value_parser!(u64).range(1..))]
    reply_to: Option<u64>,
    /// As a reply to the story of this number, of whom it is sent to
    #[arg(long, value_name = "NUMBER")]
    story: Option<u64>,
    /// Mention a user of the group, by number; for each one once
    #[arg(long, short, value_name = "USER")]
    mention: Vec<u64>,
    /// With a file: the text says something of it, and need not be there
    #[arg(long, short, value_name = "FILE", conflicts_with_all = ["location", "contact"])]
    file: Option<PathBuf>,
    /// What the file is, as image/png, if that is not to be seen by how it begins
    #[arg(long = "type", value_name = "TYPE", requires = "file")]
    of: Option<String>,
    /// A place instead of a text, which is what is there then: degrees, WGS 84
    #[arg(long, value_name = "LATITUDE,LONGITUDE", value_parser = who::location, allow_hyphen_values = true)]
    location: Option<(f64, f64)>,
    /// Somebody's card instead of a text, which is their name then
    #[arg(long, value_name = "PHONE", conflicts_with = "location", value_parser = who::phone)]
    contact: Option<String>,
}

async fn send(profile: &ProfileArgs, args: SendArgs, json: bool) -> commands::Done {
    let SendArgs { who, text, timeout, key, reply_to, story, mention, file, of, location, contact } = args;
    let mut params = who.params();
    let text = match (text, &file) {
        (None, Some(_)) => String::new(),
        (text, _) => commands::text_to_send(text)?,
    };
    params.insert("text".into(), text.into());
    if let Some(file) = file {
        params.insert("medium".into(), media::upload(profile, &file, of).await?);
    }
    params.insert("mentions".into(), json!(mention));
    params.extend(key.map(|key| ("key".to_owned(), key.into())));
    params.extend(reply_to.map(|seq| ("about".to_owned(), seq.into())));
    params.extend(story.map(|number| ("story".to_owned(), json!({ "number": number }))));
    params.extend(location.map(|(latitude, longitude)| {
        ("location".to_owned(), json!({ "latitude": latitude, "longitude": longitude }))
    }));
    params.extend(contact.map(|phone| ("contact".to_owned(), json!({ "phones": [phone] }))));
    commands::send(profile, &who, params, timeout, json).await
}

async fn run(profile: &ProfileArgs, json: bool, command: Command) -> commands::Done {
    match command {
        Command::Register(register) => register::register(profile, register, json).await,
        Command::Chats { unread, archived } => commands::chats(profile, unread, archived, json).await,
        Command::Chat { who, notify, pictures } => {
            chat::run(profile, who, notify, pictures).await.map(|()| ExitCode::SUCCESS)
        }
        Command::Send(args) => send(profile, args, json).await,
        Command::Save { who, seq, picture: _, to } => media::save(profile, &who, seq, &to, json).await,
        Command::Talk(talk) => talk::run(profile, talk, json).await,
        Command::Own(own) => private::run(profile, own, json).await,
        Command::People(people) => people::run(profile, people, json).await,
        Command::Later(later) => schedule::run(profile, later, json).await,
        Command::History { who, before, after, limit, local } => {
            let page = Page { before, after, limit };
            match local {
                true => commands::history_local(profile, &who, page, json),
                false => commands::history(profile, &who, page, json).await,
            }
        }
        Command::Export(export) => export::run(profile, export, json).await,
        Command::Search(search) => search::run(profile, search, json).await,
        Command::Listen { mark_read, once, show } => {
            commands::listen(profile, json, (mark_read, once), &show).await
        }
        Command::Read { who, upto } => commands::read(profile, &who, upto, json).await,
        Command::Whoami => commands::whoami(profile, json).await,
        Command::Group(groups) => groups::run(profile, groups, json).await,
        Command::Story(stories) => stories::run(profile, stories, json).await,
        Command::Rename { name, device } => commands::rename(profile, name, device, json).await,
        Command::Push(args) => push::run(profile, args, json).await,
        Command::Lock { off } => register::lock(profile, off, json).await,
        Command::DeleteAccount { pin, .. } => register::delete_account(profile, pin, json).await,
        Command::Devices { add: true, .. } => commands::new_link(profile, json).await,
        Command::Devices { end, ring, .. } => commands::devices(profile, end, ring, json).await,
        Command::Link { link, device, replace } => {
            register::link(profile, &link, &device, replace, json).await
        }
        Command::Logout { local, force } => commands::logout(profile, local, force, json).await,
        Command::Rpc { socket } => commands::rpc(profile, socket).await,
        Command::Completions { shell } => {
            tern_version::print_completions(Arguments::command(), shell);
            Ok(ExitCode::SUCCESS)
        }
        Command::ManPages { folder } => {
            let written = tern_version::write_man_pages(Arguments::command(), &folder);
            let unwritable = |error| tern_client::Error::Config(format!("{}: {error}", folder.display()));
            written.map_err(unwritable)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Says why a command has not done what it was to do, and gives its exit code: 1 it is not possible with this profile, 4 there is
/// no connection, 5 the server refused.
fn failed(failure: Failure, profile: &ProfileArgs, json: bool) -> ExitCode {
    let (code, message, mut data, help) = match failure {
        Failure::Error(error) => {
            let help = profile.help_with(&error);
            (shown::exit_code(&error), error.to_string(), shown::error_json(&error), help)
        }
        Failure::Told { code, message, data } => (code, message, data, Vec::new()),
        Failure::Gone(error) => {
            let why = format!("the process that had the profile has gone before it answered: {error}");
            (1, why, json!({ "kind": "not_possible" }), Vec::new())
        }
        Failure::Params(why) => (1, why, json!({ "kind": "not_possible" }), Vec::new()),
        Failure::Method => {
            let why =
                "the process that has the profile does not know how to do that: it is of another version";
            (1, why.to_owned(), json!({ "kind": "not_possible" }), Vec::new())
        }
    };
    if json {
        if !data.is_object() {
            data = json!({});
        }
        data["message"] = shown::clean_line(&message).into();
        data["help"] = help.iter().map(|line| shown::clean_line(line)).collect::<Vec<_>>().into();
        output::line(&shown::json_line(&json!({ "error": data })));
    } else {
        let mut stderr = std::io::stderr().lock();
        // Who does not see it has the exit code.
        let _ = writeln!(stderr, "tern: {}", shown::clean_line(&message));
        for line in help {
            let _ = writeln!(stderr, "      {}", shown::clean_line(&line));
        }
    }
    ExitCode::from(code)
}
