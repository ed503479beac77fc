//! People on the client library, whose client runs all the time.

#![allow(dead_code, reason = "each test uses its part")]

use std::time::Duration;

use tern_client::{Client, Event, Events, Options, Registrar, State, Trust};
use tern_testkit::Ternd;
use tokio::time::timeout;

/// How long anything may take before the test is taken to hang.
const HANG: Duration = Duration::from_secs(60);

/// Registers a phone, and waits until the device has caught up.
pub async fn join(server: &Ternd, phone: &str, name: &str) -> (Client, Events) {
    let (client, mut events) = register(server, phone, name, true).await;
    caught_up(&mut events).await;
    (client, events)
}

/// Registers a phone, for a device that receives what it lacks or nothing at all.
pub async fn register(server: &Ternd, phone: &str, name: &str, receive: bool) -> (Client, Events) {
    let trust = Trust::CaFile(server.ca_file());
    let options = Options::new(server.address().to_string(), trust, State::memory());
    let options = Options { receive, ..options };
    let mut registrar = Registrar::connect(&options).await.expect("connected");
    registrar.register(phone).await.expect("a code is sent");
    registrar.verify(phone, &server.code_of(phone), name, "test").await.expect("verified");
    registrar.close().await;
    Client::start(options).await.expect("registered")
}

/// The next event. Those before are dealt with.
pub async fn next(events: &mut Events) -> Event {
    timeout(HANG, events.next()).await.expect("no hang").expect("the client lives")
}

/// Takes events until the client has caught up, and gives them.
pub async fn caught_up(events: &mut Events) -> Vec<Event> {
    let mut taken = Vec::new();
    loop {
        match next(events).await {
            Event::CaughtUp => return taken,
            event => taken.push(event),
        }
    }
}

/// Takes events until one is what is looked for.
pub async fn until<T>(events: &mut Events, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
    loop {
        if let Some(found) = wanted(&next(events).await) {
            return found;
        }
    }
}

/// Takes events until the peer has everything up to here.
pub async fn delivered(events: &mut Events, upto: u64) {
    until(events, |event| match event {
        Event::Receipt { delivered_upto, own: false, .. } => (*delivered_upto == upto).then_some(()),
        _ => None,
    })
    .await;
}

/// The texts of the next messages from others or oneself, with their seqs.
pub async fn messages(events: &mut Events, count: usize) -> Vec<(u64, String)> {
    let mut messages = Vec::new();
    while messages.len() < count {
        if let Event::Message(message) = next(events).await {
            messages.push((message.seq, String::from_utf8(message.body).expect("text")));
        }
    }
    messages
}
