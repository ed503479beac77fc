//! The commands that ask, print and end.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tern_client::{Client, Error, Event, Events, HistoryPage, Kind, Message, Options, Person, Reason};
use tokio::time::Instant;

use crate::asker::{self, Asker};
use crate::methods::{Failure, GONE_MAX};
use crate::output::{self, Read, Reader};
use crate::profile::ProfileArgs;
use crate::rpc::{READ_TIMEOUT, Server, Socket};
use crate::shown::{self, TEXT_BYTES_MAX};
use crate::tables;
use crate::who::Who;

/// How soon a profile is looked at again whose process is about to end.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Lines written whose reader has not read them; more are not written before.
const UNREAD_MAX: usize = 1000;

/// The exit code of a message that is kept and not sent yet.
const QUEUED: u8 = 3;

/// What a command comes back with.
pub type Done = Result<ExitCode, Failure>;

/// Prints a line, and ends quietly if nobody reads it.
pub fn print(text: &str) {
    if !output::line(text) {
        std::process::exit(1);
    }
}

pub fn print_json(value: &Value) {
    print(&shown::json_line(value));
}

/// Says something to the person that is not the command's result.
pub fn say(text: &str) {
    // Who does not see it can't be helped.
    let _ = writeln!(std::io::stderr(), "tern: {text}");
}

pub fn not_possible(why: impl Into<String>) -> Failure {
    Failure::Error(Error::Config(why.into()))
}

/// Shows a link by which another device is added.
pub async fn new_link(profile: &ProfileArgs, json: bool) -> Done {
    let made = ask(profile, "new_link", json!({})).await?;
    print_lines(&made, json, |made| {
        let link = made["link"].as_str().unwrap_or_default();
        let seconds = made["expires_in_ms"].as_u64().unwrap_or_default() / 1000;
        let mut lines = qr_lines(link);
        lines.push(link.to_string());
        lines.push(format!("on the new device, within {seconds} s: tern link LINK"));
        lines
    });
    Ok(ExitCode::SUCCESS)
}

/// A text as a QR code, two rows a line, dark on light whatever the terminal's colours are. Empty if it does not fit.
pub fn qr_lines(text: &str) -> Vec<String> {
    use qrcode::render::unicode::Dense1x2;
    let Ok(code) = qrcode::QrCode::new(text) else { return Vec::new() };
    // In most terminals the ground is dark: what is light in the code is drawn.
    let drawn = code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
    drawn.lines().map(str::to_owned).collect()
}

pub fn not_sent(event: &Event) -> String {
    let unknown =
        |user_id| Person { user_id, name: String::new(), phone: String::new(), ..Person::default() };
    let around = shown::Around { chat: shown::peer_of(event).map(unknown), sender: None };
    shown::event_text(event, &around).unwrap_or_default()
}

/// The text to be sent: as it was given, or what stands on standard input, but for its last line's end.
pub fn text_to_send(text: Option<String>) -> Result<String, Failure> {
    let text = match text {
        Some(text) if text != "-" => text,
        None if std::io::stdin().is_terminal() => {
            return Err(not_possible("what? Give the text, or pipe it in"));
        }
        _ => {
            let mut text = String::new();
            // More than a message may have is not read to its end.
            let read = std::io::stdin().lock().take(TEXT_BYTES_MAX as u64 + 2).read_to_string(&mut text);
            read.map_err(|error| not_possible(format!("standard input: {error}")))?;
            let end = text.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text));
            end.map(str::to_owned).unwrap_or(text)
        }
    };
    match text.len() {
        0 => Err(not_possible("there is nothing to send")),
        bytes if bytes > TEXT_BYTES_MAX => {
            Err(not_possible(format!("too long: a message has at most {TEXT_BYTES_MAX} bytes")))
        }
        _ => Ok(text),
    }
}

/// Sends a message.
pub async fn send(
    profile: &ProfileArgs,
    to: &Who,
    mut params: Map<String, Value>,
    timeout: u64,
    json: bool,
) -> Done {
    params.insert("timeout_ms".to_owned(), timeout.saturating_mul(1000).into());
    let mut asker = Asker::open(profile).await?;
    let until = Instant::now() + Duration::from_secs(timeout) + READ_TIMEOUT;
    while let Asker::Remote(_) = &asker {
        // It may end before it answers. Then the message is asked for once more, by the key under which it is one.
        params.entry("key").or_insert(random_key()?.into());
        match asker.call("send", params.clone().into()).await {
            Err(Failure::Gone(_)) if Instant::now() < until => asker = open_again(profile, until).await?,
            answered => return told_of_send(to, timeout, json, answered?),
        }
    }
    let sent = match &asker {
        Asker::Remote(_) => unreachable!("it was dealt with above"),
        Asker::Own { session, .. } => {
            let session = session.clone();
            let mut sending = std::pin::pin!(session.call("send", params.into()));
            tokio::select! {
                sent = &mut sending => sent,
                why = asker.lost() => {
                    let why = shown::clean_line(&why);
                    say(&format!("not connected ({why}): it is tried again for {timeout} s in all"));
                    sending.await
                }
            }
        }
    };
    asker.close(|event| say(&not_sent(event))).await;
    told_of_send(to, timeout, json, sent?)
}

/// Opens a profile whose process is about to end, or has.
async fn open_again(profile: &ProfileArgs, until: Instant) -> Result<Asker, Error> {
    loop {
        tokio::time::sleep(LOOK_AGAIN).await;
        match Asker::open(profile).await {
            // It listens no more, and has not let go of it yet.
            Err(Error::ProfileInUse { .. }) if Instant::now() < until => {}
            opened => return opened,
        }
    }
}

fn random_key() -> Result<String, Failure> {
    let random = || getrandom::u64().map_err(|error| not_possible(format!("no entropy: {error}")));
    Ok(format!("tern send {:016x}{:016x}", random()?, random()?))
}

/// Says what has become of a message.
fn told_of_send(to: &Who, timeout: u64, json: bool, sent: Value) -> Done {
    if sent["moved"] == true {
        say(&format!("{to} has another account now, @{}: it was sent there", sent["chat"]));
    }
    let queued = sent["queued"] == true;
    if queued {
        let why = sent["why"].as_str().map_or(String::new(), |why| format!(" ({})", shown::clean_line(why)));
        say(&format!("not acknowledged in {timeout} s{why}; it is kept, and sent by the next command"));
    }
    match (json, queued) {
        (true, _) => print_json(&sent),
        (false, false) => print(&format!("seq {}", sent["seq"])),
        (false, true) => {}
    }
    Ok(if queued { ExitCode::from(QUEUED) } else { ExitCode::SUCCESS })
}

/// Asks for something that needs a connection.
pub async fn ask(profile: &ProfileArgs, method: &str, params: Value) -> Result<Value, Failure> {
    let mut asker = Asker::open(profile).await?;
    let connected = asker.connected().await;
    let result = match connected {
        Ok(()) => asker.call(method, params).await,
        Err(error) => Err(error.into()),
    };
    asker.close(|event| say(&not_sent(event))).await;
    result
}

/// Prints lines, or the result as it is.
pub fn print_lines(result: &Value, json: bool, lines: impl FnOnce(&Value) -> Vec<String>) {
    match json {
        true => print_json(result),
        false => lines(result).iter().for_each(|line| print(line)),
    }
}

pub fn items<'a>(result: &'a Value, key: &str) -> &'a [Value] {
    result[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Prints the list of chats.
pub async fn chats(profile: &ProfileArgs, unread: bool, archived: bool, json: bool) -> Done {
    let mut listed = ask(profile, "chats", json!({})).await?;
    if let Some(chats) = listed["chats"].as_array_mut() {
        let is_unread = |chat: &Value| chat["unread"] != 0 || chat["settings"]["marked_unread"] == true;
        chats.retain(|chat| !unread || is_unread(chat));
        chats.retain(|chat| archived || unread || chat["settings"]["archived"] != true);
        chats.sort_by_key(|chat| chat["settings"]["on_top"] != true);
    }
    print_lines(&listed, json, |listed| match items(listed, "chats") {
        [] if unread => vec!["everything is read".to_owned()],
        [] => vec!["there are no chats yet: `tern chat PHONE` begins one".to_owned()],
        chats => tables::chats(chats, tables::columns(), tables::styled()),
    });
    Ok(ExitCode::SUCCESS)
}

/// Prints who one is, also without a connection.
pub async fn whoami(profile: &ProfileArgs, json: bool) -> Done {
    let mut asker = Asker::open(profile).await?;
    let connected = asker.connected().await;
    let me = asker.call("whoami", json!({})).await;
    asker.close(|event| say(&not_sent(event))).await;
    print_lines(&me?, json, tables::whoami);
    connected?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the list of devices, or ends one, or has one ring.
pub async fn devices(profile: &ProfileArgs, end: Option<u32>, ring: Option<u32>, json: bool) -> Done {
    if let Some(ring) = ring {
        let rung = ask(profile, "ring_device", json!({ "device_id": ring })).await?;
        print_lines(&rung, json, |rung| match rung["connected"].as_bool() {
            Some(true) => vec![format!("device {ring} rings")],
            _ => vec![format!("device {ring} is not connected: it does not ring")],
        });
    } else if let Some(end) = end {
        let ended = ask(profile, "end_device", json!({ "device_id": end })).await?;
        print_lines(&ended, json, |_| vec![format!("device {end} has ended")]);
    } else {
        let devices = ask(profile, "devices", json!({})).await?;
        print_lines(&devices, json, |result| {
            let locked = (result["has_pin"] == true).then(|| "the account has a PIN".to_owned());
            tables::devices(items(result, "devices")).into_iter().chain(locked).collect()
        });
    }
    Ok(ExitCode::SUCCESS)
}

/// Ends this device, and empties the profile. What was kept is sent first, if it can be.
pub async fn logout(profile: &ProfileArgs, local: bool, force: bool, json: bool) -> Done {
    let (account, mut unsent) = {
        let store = profile.store()?;
        (store.account()?.ok_or(Error::NotRegistered)?, store.outbox_len()?)
    };
    let leave = |unsent: u64| match unsent {
        0 => Ok(()),
        _ if force => Ok(()),
        1 => Err(not_possible("the profile holds a message that has not been sent; --force throws it away")),
        _ => Err(not_possible(format!(
            "the profile holds {unsent} messages that have not been sent; --force throws them away"
        ))),
    };
    if local {
        leave(unsent)?;
    } else {
        let (session, _events) = asker::start(profile, false).await?;
        match session.connected().await {
            // It had ended before: there is nobody to tell.
            Err(Error::SessionEnded(reason)) if reason != Reason::Replaced => {
                session.client.close().await;
                leave(unsent)?;
                return emptied(profile, &account, true, json);
            }
            connected => connected?,
        }
        if unsent > 0 {
            let _ = tokio::time::timeout(READ_TIMEOUT, session.client.flush()).await;
            unsent = session.client.unsent().await?;
        }
        let ended = match leave(unsent) {
            Ok(()) => session.client.end_device(account.device_id).await,
            Err(failure) => {
                asker::close(&session.client).await;
                return Err(failure);
            }
        };
        let _ = tokio::time::timeout(READ_TIMEOUT, session.client.close()).await;
        match ended {
            // It had ended before.
            Err(Error::SessionEnded(_)) | Ok(()) => {}
            ended => session.why(ended).await?,
        }
    }
    emptied(profile, &account, !local, json)
}

/// Empties a profile, and says so.
fn emptied(profile: &ProfileArgs, account: &tern_client::Account, told: bool, json: bool) -> Done {
    profile.store()?.empty()?;
    let left = json!({ "phone": account.phone, "device_id": account.device_id, "told": told });
    print_lines(&left, json, |_| {
        vec![match told {
            true => format!(
                "{} has no device {} any more, and the profile is empty",
                account.phone, account.device_id
            ),
            false => format!("the profile is empty; the server still has device {}", account.device_id),
        }]
    });
    Ok(ExitCode::SUCCESS)
}

/// Says that a chat is read.
pub async fn read(profile: &ProfileArgs, with: &Who, upto: Option<u64>, json: bool) -> Done {
    let mut params = with.params();
    if let Some(upto) = upto {
        params.insert("upto".to_owned(), upto.into());
    }
    let read = ask(profile, "read", params.into()).await?;
    print_lines(&read, json, |read| vec![format!("read up to {}", read["read_upto"])]);
    Ok(ExitCode::SUCCESS)
}

/// Changes one's name, or the device's.
pub async fn rename(profile: &ProfileArgs, name: Option<String>, device: Option<String>, json: bool) -> Done {
    let mut params = Map::new();
    params.extend(name.map(|name| ("name".to_owned(), name.into())));
    params.extend(device.map(|device| ("device_name".to_owned(), device.into())));
    let renamed = ask(profile, "rename", params.into()).await?;
    print_lines(&renamed, json, |renamed| {
        let told = |key: &str, what: &str| {
            let name = renamed[key].as_str()?;
            Some(format!("{what} {} now", if name.is_empty() { "nameless" } else { name }))
        };
        told("name", "you are").into_iter().chain(told("device_name", "this device is")).collect()
    });
    Ok(ExitCode::SUCCESS)
}

/// Which page of a chat.
#[derive(Clone, Copy)]
pub struct Page {
    /// The messages before this seq, or after it.
    pub before: Option<u64>,
    pub after: Option<u64>,
    pub limit: u32,
}

/// Prints a page of a chat.
pub async fn history(profile: &ProfileArgs, with: &Who, which: Page, json: bool) -> Done {
    let Page { before, after, limit } = which;
    let mut params = with.params();
    params.extend(before.map(|before| ("before".to_owned(), before.into())));
    params.extend(after.map(|after| ("after".to_owned(), after.into())));
    params.insert("limit".to_owned(), limit.into());
    let page = ask(profile, "history", params.into()).await?;
    print_lines(&page, json, |page| page_lines(page, after.is_some()));
    Ok(ExitCode::SUCCESS)
}

/// Prints what the profile has kept of a chat, without asking the server.
pub fn history_local(profile: &ProfileArgs, with: &Who, which: Page, json: bool) -> Done {
    let mut store = profile.store()?;
    store.end(crate::private::now_ms())?;
    let chat = match with {
        Who::Phone(phone) => store.person_by_phone(phone)?,
        Who::User(id) => store.person(*id)?,
    };
    let chat = chat.ok_or_else(|| not_possible(format!("this profile has nothing of {with}")))?;
    let log = store.log(chat.user_id)?;
    let Page { before, after, limit } = which;
    let messages = match (before, after) {
        (_, Some(after)) => store.kept(chat.user_id, after, u64::MAX >> 1, limit)?,
        (None | Some(0), None) => store.kept_newest(chat.user_id, limit)?,
        (Some(before), None) => {
            store.kept(chat.user_id, before.saturating_sub(u64::from(limit) + 1), before - 1, limit)?
        }
    };
    let (first, last) =
        (messages.first().map_or(0, |first| first.seq), messages.last().map_or(0, |last| last.seq));
    let forwards = after.is_some();
    let more = if forwards { last != 0 && last < log.top } else { first > 1 };
    let (head, delivered_upto, read_upto) = (log.top, log.others_delivered, log.others_read);
    let hidden = store.hidden(chat.user_id)?;
    let messages = messages
        .into_iter()
        .filter(|message| message.kind != Kind::Withheld && !hidden.has(message.seq))
        .collect();
    let page = HistoryPage { messages, more, head, delivered_upto, read_upto };
    let gone = store.gone(chat.user_id, GONE_MAX)?;
    let gone = shown::beside(&page, after.or(before).unwrap_or(0), forwards, gone);
    print_lines(&shown::page_json(&chat, &page, &gone), json, |page| page_lines(page, forwards));
    Ok(ExitCode::SUCCESS)
}

/// A page of a chat for people: oldest first, with what the server has no more where it stood.
fn page_lines(page: &Value, forwards: bool) -> Vec<String> {
    let chat = shown::person_of(page);
    let name = shown::name_of(&chat);
    let of = |value: &Value| shown::message_of(chat.user_id, value);
    let messages: Vec<_> = items(page, "messages").iter().map(of).collect();
    let mut gone = items(page, "gone").iter().map(of).peekable();
    let number = |key: &str| page[key].as_u64().unwrap_or_default();
    let gone_line = |message: &Message| {
        let time = shown::time_of(message.time_ms);
        format!("{:>6}  {time}  {}", message.seq, shown::gone_text(message, &name))
    };
    let mut lines = Vec::new();
    for message in &messages {
        while let Some(lost) = gone.next_if(|lost| lost.seq <= message.seq) {
            lines.push(gone_line(&lost));
        }
        let (time, text) = (shown::time_of(message.time_ms), shown::lines_of(message));
        lines.push(if message.own {
            let read = if message.seq <= number("read_upto") { " read" } else { "" };
            let ticks = shown::ticks(message.seq, number("delivered_upto"));
            format!("{:>6}  {time}  me: {text} {ticks}{read}", message.seq)
        } else {
            format!("{:>6}  {time}  {name}: {text}", message.seq)
        });
    }
    lines.extend(gone.map(|lost| gone_line(&lost)));
    let beside = match (forwards, messages.first(), messages.last()) {
        (true, _, Some(last)) => Some(("--after", last.seq)),
        (false, Some(first), _) => Some(("--before", first.seq)),
        _ => None,
    };
    if page["more"] == true
        && let Some((option, beside)) = beside
    {
        lines.push(format!("there is more: {option} {beside}"));
    }
    lines
}

/// Serves the other commands of this program beside the profile that this one has. Without it they say that it is in use.
pub fn serve_others(options: &Options, server: std::sync::Arc<Server>) {
    let socket = asker::directory_of(options).map(Socket::of_profile);
    match socket {
        Some(Ok(socket)) => drop(tokio::spawn(async move { socket.serve(server).await })),
        Some(Err(error)) => say(&format!("other commands can't use the profile meanwhile: {error}")),
        None => {}
    }
}

/// Prints what comes, until it is interrupted. A message is acknowledged only after its line has been read, as far as that
/// can be known: of one whose reader has gone, the next `listen` tells again.
pub async fn listen(
    profile: &ProfileArgs,
    json: bool,
    (mark_read, once): (bool, bool),
    show: &[Who],
) -> Done {
    let options = profile.registered()?;
    let (session, mut events) = asker::start(profile, true).await?;
    let client = &session.client;
    let mut shown_chats = Vec::with_capacity(show.len());
    for who in show {
        shown_chats.push(match who {
            Who::User(chat) => *chat,
            who @ Who::Phone(_) => session.person(who).await?.user_id,
        });
    }
    if !shown_chats.is_empty() {
        session.show(shown_chats, false).await?;
    }
    let server = Server::without_events(session.clone());
    serve_others(&options, server.clone());
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
                    was_read(client, &mut events, &mut unread).await?;
                    continue;
                }
                Read::Gone => break Ok(ExitCode::SUCCESS),
            },
        };
        let Some(event) = event else { break Ok(ExitCode::SUCCESS) };
        let around = shown::around(client, &event).await;
        if !print_event(&event, &around, json) {
            all_written = false;
            break Ok(ExitCode::SUCCESS);
        }
        match event {
            Event::Message(message) if mark_read && !message.own => {
                unread.insert(message.chat, message.seq);
            }
            Event::CaughtUp if once => break Ok(ExitCode::SUCCESS),
            Event::Disconnected { .. } if once => {
                break session.connected().await.map(|()| ExitCode::SUCCESS);
            }
            Event::SessionEnded(reason) => break Err(Error::SessionEnded(reason)),
            Event::OtherStore => break Err(Error::OtherStore { server: session.server.clone() }),
            _ => {}
        }
    };
    if all_written && matches!(tokio::time::timeout(READ_TIMEOUT, reader.has_read()).await, Ok(Read::Done)) {
        was_read(client, &mut events, &mut unread).await?;
    }
    asker::close(client).await;
    server.finish().await;
    Ok(ended?)
}

/// What was printed has been read.
async fn was_read(
    client: &Client,
    events: &mut Events,
    unread: &mut BTreeMap<u64, u64>,
) -> Result<(), Error> {
    events.done();
    for (chat, seq) in std::mem::take(unread) {
        match client.mark_read(chat, seq).await {
            // The session has ended, and nobody can be told any more.
            Ok(()) | Err(Error::Closed) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// `false` if nobody reads any more.
fn print_event(event: &Event, around: &shown::Around, json: bool) -> bool {
    let line = match json {
        true => Some(shown::json_line(&shown::event_json(event, around))),
        false => shown::event_text(event, around),
    };
    line.is_none_or(|line| output::line(&line))
}

/// Serves programs, on standard input and output, or on a socket alone.
pub async fn rpc(profile: &ProfileArgs, socket: Option<Option<std::path::PathBuf>>) -> Done {
    let options = profile.registered()?;
    let (session, events) = asker::start(profile, true).await?;
    let (server, feed) = Server::with_events(session.clone(), events);
    let bound = |path: &std::path::PathBuf| {
        Socket::at(path.clone()).map_err(|error| not_possible(format!("{}: {error}", path.display())))
    };
    let own = socket.as_ref().and_then(Option::as_ref).map(bound).transpose()?;
    serve_others(&options, server.clone());
    let mut feed = Box::pin(feed);
    let ended = if socket.is_some() {
        say(&format!("serving {}", session.profile));
        let serving = async {
            match &own {
                Some(own) => own.serve(server.clone()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = crate::chat::interrupted() => false,
            () = &mut feed => true,
            () = serving => false,
        }
    } else {
        let mut serving =
            std::pin::pin!(crate::rpc::serve(server.clone(), tokio::io::stdin(), tokio::io::stdout()));
        tokio::select! {
            () = crate::chat::interrupted() => false,
            () = &mut feed => {
                tokio::join!(server.finish(), async {
                    let _ = tokio::time::timeout(READ_TIMEOUT, serving).await;
                });
                true
            }
            () = &mut serving => false,
        }
    };
    // Whoever waits for it is answered that nothing is told any more.
    drop(feed);
    asker::close(&session.client).await;
    server.finish().await;
    match ended {
        true => Ok(session.connected().await.map(|()| ExitCode::SUCCESS)?),
        false => Ok(ExitCode::SUCCESS),
    }
}
