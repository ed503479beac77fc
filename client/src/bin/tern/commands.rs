//! The commands that ask, print and end.

use std::collections::BTreeMap;
use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use tern_client::{Client, Error, Event, Events, HistoryPage, Kept, Message, Options, Person, Reason};
use tern_client::{Registrar, Sent};
use tokio::time::{Instant, timeout_at};

use crate::output::{self, Read, Reader};
use crate::profile::ProfileArgs;
use crate::shown::{self, TEXT_BYTES_MAX};

/// How long a command waits for what was kept earlier to be sent, and for its connection to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Messages of a chat that are gone, beside a page.
const GONE_MAX: u32 = 1000;

/// Lines written whose reader has not read them; more are not written before.
const UNREAD_MAX: usize = 1000;

/// The exit code of a message that is kept and not sent yet.
const QUEUED: u8 = 3;

/// Prints a line, and ends quietly if nobody reads it.
fn print(text: &str) {
    if !output::line(text) {
        std::process::exit(1);
    }
}

fn print_json(value: &Value) {
    print(&shown::json_line(value));
}

/// Says something to the person that is not the command's result.
fn say(text: &str) {
    // Who does not see it can't be helped.
    let _ = writeln!(std::io::stderr(), "tern: {text}");
}

/// Makes the profile a device of a phone's account.
pub async fn register(
    profile: &ProfileArgs,
    phone: &str,
    name: &str,
    code: Option<String>,
    device: &str,
    replace: bool,
    json: bool,
) -> Result<ExitCode, Error> {
    let options = profile.to_register()?;
    let code = match code {
        Some(code) => code,
        None => ask_for_code(&options, phone, replace).await?,
    };
    let mut registrar = Registrar::connect(&options).await?.replacing(replace);
    let account = registrar.verify(phone, code.trim(), name, device).await?;
    registrar.close().await;
    profile.remember(&options)?;
    let (user, device) = (account.user_id, account.device_id);
    if json {
        print_json(&json!({ "user_id": user, "device_id": device, "phone": phone }));
    } else {
        print(&format!("{phone} is user {user}, and this profile its device {device}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Has a code sent, and reads it. A person takes longer than a server waits for a login, so this connection ends before.
async fn ask_for_code(options: &Options, phone: &str, replace: bool) -> Result<String, Error> {
    let mut registrar = Registrar::connect(options).await?.replacing(replace);
    let sent = registrar.register(phone).await?;
    registrar.close().await;
    let minutes = sent.expires_in_ms.div_ceil(60_000);
    let mut stderr = std::io::stderr();
    let _ =
        write!(stderr, "a code of {} digits was sent to {phone}, good for {minutes} minutes: ", sent.digits);
    let _ = stderr.flush();
    let mut code = String::new();
    let read = std::io::stdin().lock().read_line(&mut code);
    if !std::io::stdin().is_terminal() {
        let _ = writeln!(stderr);
    }
    match read {
        Ok(1..) => Ok(code),
        _ => Err(Error::Config("no code was given: register again with --code CODE".to_owned())),
    }
}

/// Starts a client, and waits until it is connected. The first failure is said at once: there is a person waiting.
async fn connected(options: Options) -> Result<(Client, Events), Error> {
    let server = options.server.clone();
    let (client, mut events) = Client::start(options).await?;
    match events.next().await {
        Some(Event::Connected) => Ok((client, events)),
        Some(event) => Err(reason_of(event, &server).unwrap_or(Error::Closed)),
        None => Err(Error::Closed),
    }
}

/// Why there is no connection, if the event says that.
fn reason_of(event: Event, server: &str) -> Option<Error> {
    match event {
        Event::Disconnected { why, .. } => Some(Error::Offline { server: server.to_owned(), why }),
        Event::SessionEnded(reason) => Some(Error::SessionEnded(reason)),
        Event::OtherStore => Some(Error::OtherStore { server: server.to_owned() }),
        _ => None,
    }
}

/// A message to be sent, and what there is to say on the way.
struct Sending {
    client: Client,
    events: Events,
    server: String,
    deadline: Instant,
    /// Why there was no connection last.
    why: Option<String>,
}

/// How sending has ended.
enum Outcome {
    Sent(Sent),
    /// The message is kept; this is what was last heard of the connection.
    Queued,
}

impl Sending {
    /// Finds the person. One whom this profile does not know is asked for; that needs a connection.
    async fn person(&mut self, phone: &str) -> Result<Person, Error> {
        let looking = timeout_at(self.deadline, self.client.lookup_phone(phone)).await;
        match looking {
            Ok(Err(error @ (Error::Connection(_) | Error::Closed))) => {
                Err(self.reason().await.unwrap_or(error))
            }
            Ok(found) => found,
            Err(_) => Err(Error::Config(format!(
                "the server did not say who {phone} is: the message is not kept. Try again"
            ))),
        }
    }

    /// Has the message kept.
    async fn keep(&mut self, peer: u64, text: &str) -> Result<Kept, Error> {
        match self.client.keep(peer, text).await {
            Err(Error::Closed) => Err(self.reason().await.unwrap_or(Error::Closed)),
            kept => kept,
        }
    }

    /// Why there is no connection, as far as it was told. Who asks may hear that there is none just before it is told why.
    async fn reason(&mut self) -> Option<Error> {
        let until = self.deadline.min(Instant::now() + CLOSE_TIMEOUT);
        let mut reason = None;
        while reason.is_none()
            && let Ok(Some(event)) = timeout_at(until, self.events.next()).await
        {
            reason = reason_of(event, &self.server);
        }
        while let Some(event) = self.events.try_next() {
            reason = reason_of(event, &self.server).or(reason);
        }
        reason
    }

    async fn wait(&mut self, kept: Kept) -> Result<Outcome, Error> {
        let mut sent = std::pin::pin!(kept.sent());
        loop {
            let event = tokio::select! {
                sent = &mut sent => return Ok(Outcome::Sent(sent?)),
                Some(event) = self.events.next() => event,
                () = tokio::time::sleep_until(self.deadline) => return Ok(Outcome::Queued),
            };
            self.hear(event);
        }
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Disconnected { why, .. } => {
                let why = shown::clean_line(&why);
                if self.why.is_none() {
                    say(&format!("not connected ({why}): the message is kept, and tried again"));
                }
                self.why = Some(why);
            }
            Event::Delayed { reason, retry_in, .. } => self.why = Some(shown::delayed(reason, retry_in)),
            Event::NotSent { .. } => say(&not_sent(&event)),
            _ => {}
        }
    }
}

fn not_sent(event: &Event) -> String {
    let unknown = |user_id| Person { user_id, name: String::new(), phone: String::new() };
    let peer = shown::peer_of(event).map(unknown);
    shown::event_text(event, peer.as_ref()).unwrap_or_default()
}

/// The text to be sent: as it was given, or what stands on standard input, but for its last line's end.
fn text_to_send(text: Option<String>) -> Result<String, Error> {
    let text = match text {
        Some(text) if text != "-" => text,
        None if std::io::stdin().is_terminal() => {
            return Err(Error::Config("what? Give the text, or pipe it in".to_owned()));
        }
        _ => {
            let mut text = String::new();
            // More than a message may have is not read to its end.
            let read = std::io::stdin().lock().take(TEXT_BYTES_MAX as u64 + 2).read_to_string(&mut text);
            read.map_err(|error| Error::Config(format!("standard input: {error}")))?;
            let end = text.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text));
            end.map(str::to_owned).unwrap_or(text)
        }
    };
    match text.len() {
        0 => Err(Error::Config("there is nothing to send".to_owned())),
        bytes if bytes > TEXT_BYTES_MAX => {
            Err(Error::Config(format!("too long: a message has at most {TEXT_BYTES_MAX} bytes")))
        }
        _ => Ok(text),
    }
}

/// Sends a message.
pub async fn send(
    profile: &ProfileArgs,
    phone: &str,
    text: Option<String>,
    timeout: u64,
    json: bool,
) -> Result<ExitCode, Error> {
    let text = text_to_send(text)?;
    let deadline = Instant::now() + Duration::from_secs(timeout);
    let options = Options { receive: false, ..profile.registered()? };
    let server = options.server.clone();
    let (client, events) = Client::start(options).await?;
    let mut sending = Sending { client, events, server, deadline, why: None };
    let mut peer = sending.person(phone).await?;
    let mut kept = sending.keep(peer.user_id, &text).await?;
    let outcome = match sending.wait(kept).await {
        // Whoever had this phone has no account any more. Somebody may have it now.
        Err(Error::Refused { reason: Reason::UnknownUser, .. }) => {
            let before = std::mem::replace(&mut peer, sending.person(phone).await?);
            if before.user_id == peer.user_id {
                return Err(Error::Config(format!("{phone} does not take messages")));
            }
            say(&format!("{phone} has another account now, user {}: it is sent there", peer.user_id));
            kept = sending.keep(peer.user_id, &text).await?;
            sending.wait(kept).await?
        }
        outcome => outcome?,
    };
    match outcome {
        Outcome::Sent(sent) => {
            close(&sending.client).await;
            sending.say_what_was_refused();
            match json {
                true => {
                    print_json(&json!({ "peer": peer.user_id, "seq": sent.seq, "time_ms": sent.time_ms }))
                }
                false => print(&format!("seq {}", sent.seq)),
            }
            Ok(ExitCode::SUCCESS)
        }
        Outcome::Queued => {
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, sending.client.close()).await;
            let why = sending.why.map_or(String::new(), |why| format!(" ({why})"));
            say(&format!("not acknowledged in {timeout} s{why}; it is kept, and sent by the next command"));
            if json {
                print_json(&json!({ "peer": peer.user_id, "queued": true }));
            }
            Ok(ExitCode::from(QUEUED))
        }
    }
}

impl Sending {
    fn say_what_was_refused(&mut self) {
        while let Some(event) = self.events.try_next() {
            self.hear(event);
        }
    }
}

/// Which page of a chat.
#[derive(Clone, Copy)]
pub struct Page {
    /// The messages before this seq, or after it if `forwards`; 0: the newest.
    pub from: u64,
    pub forwards: bool,
    pub limit: u32,
}

/// Prints a page of a chat.
pub async fn history(profile: &ProfileArgs, phone: &str, which: Page, json: bool) -> Result<ExitCode, Error> {
    let options = Options { receive: false, ..profile.registered()? };
    let (client, mut events) = connected(options).await?;
    let peer = client.lookup_phone(phone).await?;
    let Page { from, forwards, limit } = which;
    let page = client.history(peer.user_id, from, forwards, limit).await?;
    let gone = client.gone(peer.user_id, GONE_MAX).await?;
    close(&client).await;
    while let Some(event) = events.try_next() {
        if matches!(event, Event::NotSent { .. }) {
            say(&not_sent(&event));
        }
    }
    print_page(&peer, &page, &beside(&page, which, gone), forwards, json);
    Ok(ExitCode::SUCCESS)
}

/// Prints what the profile has kept of a chat, without asking the server.
pub fn history_local(profile: &ProfileArgs, phone: &str, which: Page, json: bool) -> Result<ExitCode, Error> {
    let store = profile.store()?;
    let peer = store.person_by_phone(phone)?;
    let peer = peer.ok_or_else(|| Error::Config(format!("this profile has nothing of {phone}")))?;
    let log = store.log(peer.user_id)?;
    let Page { from, forwards, limit } = which;
    let messages = match (forwards, from) {
        (true, from) => store.kept(peer.user_id, from, u64::MAX >> 1, limit)?,
        (false, 0) => store.kept_newest(peer.user_id, limit)?,
        (false, from) => {
            store.kept(peer.user_id, from.saturating_sub(u64::from(limit) + 1), from - 1, limit)?
        }
    };
    let (first, last) =
        (messages.first().map_or(0, |first| first.seq), messages.last().map_or(0, |last| last.seq));
    let more = if forwards { last != 0 && last < log.top } else { first > 1 };
    let (head, delivered_upto, read_upto) = (log.top, log.peer_delivered, log.peer_read);
    let page = HistoryPage { messages, more, head, delivered_upto, read_upto };
    let gone = store.gone(peer.user_id, GONE_MAX)?;
    print_page(&peer, &page, &beside(&page, which, gone), forwards, json);
    Ok(ExitCode::SUCCESS)
}

/// Those of the messages that are gone that stood where this page is, or behind the newest.
fn beside(page: &HistoryPage, which: Page, gone: Vec<Message>) -> Vec<Message> {
    let (first, last) = (page.messages.first(), page.messages.last());
    let from = match (which.forwards, page.more, first) {
        (false, true, Some(first)) => first.seq,
        (false, ..) => 0,
        (true, ..) => which.from + 1,
    };
    let upto = match (which.forwards, page.more, last) {
        (true, true, Some(last)) => last.seq,
        (true, ..) => u64::MAX,
        (false, ..) if which.from == 0 => u64::MAX,
        (false, ..) => which.from - 1,
    };
    gone.into_iter().filter(|message| (from..=upto).contains(&message.seq)).collect()
}

fn print_page(peer: &Person, page: &HistoryPage, gone: &[Message], forwards: bool, json: bool) {
    if json {
        return print_json(&shown::page_json(peer, page, gone));
    }
    let name = shown::name_of(peer);
    let mut gone = gone.iter().peekable();
    let print_gone = |message: &Message| {
        let time = shown::time_of(message.time_ms);
        print(&format!("{:>6}  {time}  {}", message.seq, shown::gone_text(message, &name)));
    };
    for message in &page.messages {
        while let Some(message) = gone.next_if(|lost| lost.seq <= message.seq) {
            print_gone(message);
        }
        let (time, text) = (shown::time_of(message.time_ms), shown::lines_of(message));
        if message.own {
            let read = if message.seq <= page.read_upto { " read" } else { "" };
            let ticks = shown::ticks(message.seq, page.delivered_upto);
            print(&format!("{:>6}  {time}  me: {text} {ticks}{read}", message.seq));
        } else {
            print(&format!("{:>6}  {time}  {name}: {text}", message.seq));
        }
    }
    gone.for_each(print_gone);
    if page.more {
        let (option, beside) = match (forwards, page.messages.first(), page.messages.last()) {
            (true, _, Some(last)) => ("--after", last.seq),
            (_, Some(first), _) => ("--before", first.seq),
            _ => return,
        };
        print(&format!("there is more: {option} {beside}"));
    }
}

/// Prints what comes, until it is interrupted. A message is acknowledged only after its line has been read, as far as that
/// can be known: of one whose reader has gone, the next `listen` tells again.
pub async fn listen(
    profile: &ProfileArgs,
    json: bool,
    mark_read: bool,
    once: bool,
) -> Result<ExitCode, Error> {
    let options = profile.registered()?;
    let server = options.server.clone();
    let (client, mut events) = Client::start(options).await?;
    let mut interrupted = std::pin::pin!(crate::chat::interrupted());
    let reader = Reader::of_stdout();
    // The newest seq of each chat that was printed and is not marked as read.
    let mut unread = BTreeMap::new();
    let mut all_written = true;
    let ended = loop {
        let (room, undone) = (events.undone() < UNREAD_MAX, events.undone() > 0);
        let event = tokio::select! {
            biased;
            () = &mut interrupted => None,
            event = events.take(), if room => event,
            read = reader.has_read(), if undone => match read {
                Read::Done => {
                    was_read(&client, &mut events, &mut unread).await?;
                    continue;
                }
                Read::Gone => break Ok(ExitCode::SUCCESS),
            },
        };
        let Some(event) = event else { break Ok(ExitCode::SUCCESS) };
        let peer = match (&event, shown::peer_of(&event)) {
            (Event::PersonChanged(person), _) => Some(person.clone()),
            (_, Some(peer)) => Some(shown::person(&client, peer).await),
            _ => None,
        };
        if !print_event(&event, peer.as_ref(), json) {
            all_written = false;
            break Ok(ExitCode::SUCCESS);
        }
        match event {
            Event::Message(message) if mark_read && !message.own => {
                unread.insert(message.peer, message.seq);
            }
            Event::CaughtUp if once => break Ok(ExitCode::SUCCESS),
            Event::Disconnected { .. } if !once => {}
            event => {
                if let Some(error) = reason_of(event, &server) {
                    break Err(error);
                }
            }
        }
    };
    if all_written && matches!(tokio::time::timeout(CLOSE_TIMEOUT, reader.has_read()).await, Ok(Read::Done)) {
        was_read(&client, &mut events, &mut unread).await?;
    }
    close(&client).await;
    ended
}

/// What was printed has been read.
async fn was_read(
    client: &Client,
    events: &mut Events,
    unread: &mut BTreeMap<u64, u64>,
) -> Result<(), Error> {
    events.done();
    for (peer, seq) in std::mem::take(unread) {
        match client.mark_read(peer, seq).await {
            // The session has ended, and nobody can be told any more.
            Ok(()) | Err(Error::Closed) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Has what was kept earlier sent, and closes the connection, but does not wait long for a server that is not there.
pub async fn close(client: &Client) {
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, client.flush()).await;
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, client.close()).await;
}

/// `false` if nobody reads any more.
fn print_event(event: &Event, peer: Option<&Person>, json: bool) -> bool {
    let line = match json {
        true => Some(shown::json_line(&shown::event_json(event, peer))),
        false => shown::event_text(event, peer),
    };
    line.is_none_or(|line| output::line(&line))
}
