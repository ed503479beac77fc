//! The commands that ask, print and end.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::time::Duration;

use serde_json::json;
use tern_client::{Client, Error, Event, Events, Options, Person, Registrar};

use crate::profile::ProfileArgs;
use crate::shown;

/// How long a command waits for its connection to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Makes the profile a device of a phone's account.
pub async fn register(
    profile: &ProfileArgs,
    phone: &str,
    name: &str,
    code: Option<String>,
    device: &str,
    json: bool,
) -> Result<(), Error> {
    let options = profile.to_register()?;
    let (code, registration) = match code {
        Some(code) => (code, 0),
        None => ask_for_code(&options, phone).await?,
    };
    let mut registrar = Registrar::connect(&options).await?;
    registrar.go_on_with(registration);
    let account = registrar.verify(phone, code.trim(), name, device).await?;
    registrar.close().await;
    profile.remember(&options)?;
    let (user, device) = (account.user_id, account.device_id);
    if json {
        println!("{}", json!({ "user_id": user, "device_id": device, "phone": phone }));
    } else {
        println!("{phone} is user {user}, and this profile its device {device}");
    }
    Ok(())
}

/// Has a code sent, and reads it. A person takes longer than a server waits for a login, so this connection ends before.
async fn ask_for_code(options: &Options, phone: &str) -> Result<(String, u64), Error> {
    let mut registrar = Registrar::connect(options).await?;
    let sent = registrar.register(phone).await?;
    registrar.close().await;
    let minutes = sent.expires_in_ms.div_ceil(60_000);
    eprint!("a code of {} digits was sent to {phone}, good for {minutes} minutes: ", sent.digits);
    let _ = std::io::stderr().flush();
    let mut code = String::new();
    let read = std::io::stdin().lock().read_line(&mut code);
    if !std::io::stdin().is_terminal() {
        eprintln!();
    }
    match read {
        Ok(1..) => Ok((code, sent.registration)),
        _ => Err(Error::Config("no code was given: register again with --code CODE".to_owned())),
    }
}

/// Starts a client, and waits until it is connected. The first failure is said at once: there is a person waiting.
async fn connected(options: Options) -> Result<(Client, Events), Error> {
    let (client, mut events) = Client::start(options).await?;
    match events.next().await {
        Some(Event::Connected) => Ok((client, events)),
        Some(Event::Disconnected { why, .. }) => Err(Error::Config(why)),
        Some(Event::SessionEnded(reason)) => Err(Error::SessionEnded(reason)),
        _ => Err(Error::Closed),
    }
}

/// Sends a message.
pub async fn send(
    profile: &ProfileArgs,
    phone: &str,
    text: String,
    timeout: u64,
    json: bool,
) -> Result<(), Error> {
    let options = Options { receive: false, ..profile.registered()? };
    let (client, _events) = connected(options).await?;
    let peer = client.lookup_phone(phone).await?;
    let sending = tokio::time::timeout(Duration::from_secs(timeout), client.send(peer.user_id, text));
    let Ok(sent) = sending.await else {
        let why = format!("not acknowledged in {timeout} s; it is kept, and sent by the next command");
        return Err(Error::Config(why));
    };
    let sent = sent?;
    close(&client).await;
    if json {
        let peer = peer.user_id;
        println!("{}", json!({ "peer": peer, "seq": sent.seq, "time_ms": sent.time_ms }));
    } else {
        println!("seq {}", sent.seq);
    }
    Ok(())
}

/// Prints a page of a chat.
pub async fn history(
    profile: &ProfileArgs,
    phone: &str,
    from: u64,
    forwards: bool,
    limit: u32,
    json: bool,
) -> Result<(), Error> {
    let options = Options { receive: false, ..profile.registered()? };
    let (client, _events) = connected(options).await?;
    let peer = client.lookup_phone(phone).await?;
    let page = client.history(peer.user_id, from, forwards, limit).await?;
    close(&client).await;
    if json {
        println!("{}", shown::page_json(&peer, &page));
        return Ok(());
    }
    let name = shown::name_of(&peer);
    for message in &page.messages {
        let (time, text) = (shown::time_of(message.time_ms), shown::text_of(&message.body));
        if message.own {
            let read = if message.seq <= page.read_upto { " read" } else { "" };
            let ticks = shown::ticks(message.seq, page.delivered_upto);
            println!("{:>6}  {time}  me: {text} {ticks}{read}", message.seq);
        } else {
            println!("{:>6}  {time}  {name}: {text}", message.seq);
        }
    }
    if page.more {
        let (option, beside) = match (forwards, page.messages.first(), page.messages.last()) {
            (true, _, Some(last)) => ("--after", last.seq),
            (_, Some(first), _) => ("--before", first.seq),
            _ => return Ok(()),
        };
        println!("there is more: {option} {beside}");
    }
    Ok(())
}

/// Prints what comes, until it is interrupted.
pub async fn listen(profile: &ProfileArgs, json: bool, mark_read: bool, once: bool) -> Result<(), Error> {
    let options = profile.registered()?;
    let (client, mut events) = Client::start(options).await?;
    let mut interrupted = std::pin::pin!(crate::chat::interrupted());
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = &mut interrupted => None,
        };
        let Some(event) = event else { break };
        let peer = match &event {
            Event::Message(message) => Some(shown::person(&client, message.peer).await),
            Event::Receipt { peer, .. } => Some(shown::person(&client, *peer).await),
            _ => None,
        };
        if !print(&event, peer.as_ref(), json) {
            break;
        }
        match event {
            Event::Message(message) if mark_read && !message.own => {
                client.mark_read(message.peer, message.seq).await?;
            }
            Event::SessionEnded(reason) => return Err(Error::SessionEnded(reason)),
            Event::CaughtUp if once => break,
            Event::Disconnected { why, .. } if once => return Err(Error::Config(why)),
            _ => {}
        }
    }
    close(&client).await;
    Ok(())
}

/// Closes the connection, but does not wait long for a server that is not there.
pub async fn close(client: &Client) {
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, client.close()).await;
}

/// `false` if nobody reads any more.
fn print(event: &Event, peer: Option<&Person>, json: bool) -> bool {
    let line = match json {
        true => Some(shown::event_json(event, peer).to_string()),
        false => shown::event_text(event, peer),
    };
    line.is_none_or(|line| {
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "{line}").and_then(|()| stdout.flush()).is_ok()
    })
}
