//! People for the end-to-end tests: registered with the real server, on the client library.

#![allow(dead_code, reason = "each test uses its part")]

use std::time::Duration;

use tern_client::{Client, Event, Events, Message, Options, Registrar, State, Trust};
use tern_testkit::Ternd;
use tokio::time::timeout;

/// How long anything may take before the test is taken to hang.
const HANG: Duration = Duration::from_secs(60);

/// One person on one device.
pub struct Person {
    /// The connection.
    pub client: Client,
    /// What it hears.
    pub events: Events,
    /// The session.
    pub person: tern_client::Account,
    options: Options,
}

impl Person {
    /// The user.
    pub fn id(&self) -> u64 {
        self.person.user_id
    }

    /// Leaves; the state stays in the options.
    pub async fn leave(mut self) -> Options {
        self.client.close().await;
        while self.events.next().await.is_some() {}
        self.options
    }

    /// Returns with the state of before.
    pub async fn return_with(options: Options) -> Self {
        let (client, events) =
            timeout(HANG, Client::start(options.clone())).await.expect("no hang").expect("registered");
        Self { person: client.account().clone(), client, events, options }
    }
}

fn options(server: &Ternd) -> Options {
    Options::new(server.address().to_string(), Trust::CaFile(server.ca_file()), State::memory())
}

/// Registers a phone, and waits until the device has caught up.
pub async fn join(server: &Ternd, phone: &str, name: &str) -> Person {
    let options = options(server);
    let mut registrar = Registrar::connect(&options).await.expect("connected");
    registrar.register(phone).await.expect("a code is sent");
    registrar.verify(phone, &server.code_of(phone), name, "test").await.expect("verified");
    registrar.close().await;
    Person::return_with(options).await
}

/// Ann and Bob, caught up.
pub async fn pair(server: &Ternd) -> (Person, Person) {
    let mut ann = join(server, "+15550001", "Ann").await;
    let mut bob = join(server, "+15550002", "Bob").await;
    for person in [&mut ann, &mut bob] {
        until(&mut person.events, |event| matches!(event, Event::CaughtUp).then_some(())).await;
    }
    (ann, bob)
}

/// Another connection with the same session.
pub async fn twin(person: &Person) -> Person {
    Person::return_with(Options { state: State::Memory(copy(person)), ..person.options.clone() }).await
}

fn copy(person: &Person) -> std::sync::Arc<std::sync::Mutex<Option<tern_client::store::Store>>> {
    let store = tern_client::store::Store::copy_of_session(&person.person).expect("a store in memory");
    std::sync::Arc::new(std::sync::Mutex::new(Some(store)))
}

/// Takes events until one is what is looked for.
pub async fn until<T>(events: &mut Events, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
    loop {
        let event = timeout(HANG, events.next()).await.expect("no hang").expect("the client lives");
        if let Some(found) = wanted(&event) {
            return found;
        }
    }
}

/// The next message, own ones included.
pub async fn next_message(events: &mut Events) -> Message {
    until(events, |event| match event {
        Event::Message(message) => Some(message.clone()),
        _ => None,
    })
    .await
}
