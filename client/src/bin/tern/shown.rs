//! What is shown: messages and events as JSON for programs, or as text that can't command a terminal.

use serde_json::{Map, Value, json};
use tern_client::{Client, Event, HistoryPage, Message, Person};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Text from others, for a terminal: without control characters, and without those that turn the direction of writing
/// around. Line breaks stay.
pub fn clean(text: &str) -> String {
    let harmless = |c: char| match c {
        '\n' => '\n',
        '\t' => ' ',
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.chars().map(harmless).collect()
}

/// A message's body as text for a terminal.
pub fn text_of(body: &[u8]) -> String {
    clean(&String::from_utf8_lossy(body))
}

/// The time of day, with the date if it is not today, where the user is.
pub fn time_of(time_ms: u64) -> String {
    let shown = jiff::Timestamp::from_millisecond(time_ms.try_into().unwrap_or(i64::MAX)).map(|time| {
        let time = time.to_zoned(jiff::tz::TimeZone::system());
        let today = time.date() == jiff::Zoned::now().date();
        time.strftime(if today { "%H:%M" } else { "%Y-%m-%d %H:%M" }).to_string()
    });
    // A time beyond the calendar is the server's mistake; the message is still shown.
    shown.unwrap_or_else(|_| "?".to_owned())
}

/// One tick: the server has it in durable storage. Two: a device of the recipient has it.
pub fn ticks(seq: u64, delivered_upto: u64) -> &'static str {
    if seq <= delivered_upto { "✓✓" } else { "✓" }
}

/// A person as shown in a line of text.
pub fn name_of(person: &Person) -> String {
    match (person.name.as_str(), person.phone.as_str()) {
        ("", "") => format!("user {}", person.user_id),
        ("", phone) => phone.to_owned(),
        (name, _) => clean(name).replace('\n', " "),
    }
}

/// A person whom one has heard from. If the server does not tell, the id is what there is.
pub async fn person(client: &Client, user_id: u64) -> Person {
    let unknown = Person { user_id, name: String::new(), phone: String::new() };
    client.lookup_user(user_id).await.unwrap_or(unknown)
}

/// A message for programs. A body that is no UTF-8 is given as `base64` in place of `text`.
pub fn message_json(message: &Message) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("seq".into(), message.seq.into());
    object.insert("sender".into(), message.sender.into());
    object.insert("own".into(), message.own.into());
    object.insert("time_ms".into(), message.time_ms.into());
    match std::str::from_utf8(&message.body) {
        Ok(text) => object.insert("text".into(), text.into()),
        Err(_) => object.insert("base64".into(), STANDARD.encode(&message.body).into()),
    };
    object
}

/// A page for programs.
pub fn page_json(peer: &Person, page: &HistoryPage) -> Value {
    let messages: Vec<_> = page.messages.iter().map(message_json).collect();
    json!({
        "peer": peer.user_id, "name": peer.name, "phone": peer.phone, "messages": messages, "more": page.more,
        "head": page.head, "delivered_upto": page.delivered_upto, "read_upto": page.read_upto,
    })
}

/// An event for programs. `peer` is whom the event's chat is with.
pub fn event_json(event: &Event, peer: Option<&Person>) -> Value {
    let mut object = match event {
        Event::Connected => tagged("connected", Map::new()),
        Event::CaughtUp => tagged("caught_up", Map::new()),
        Event::Message(message) => tagged("message", message_json(message)),
        Event::Disconnected { why, retry_in } => {
            let mut object = tagged("disconnected", Map::new());
            object.insert("why".into(), why.as_str().into());
            object.insert("retry_in_ms".into(), (retry_in.as_millis() as u64).into());
            object
        }
        Event::Receipt { delivered_upto, read_upto, own, .. } => {
            let mut object = tagged("receipt", Map::new());
            object.insert("delivered_upto".into(), (*delivered_upto).into());
            object.insert("read_upto".into(), (*read_upto).into());
            object.insert("own".into(), (*own).into());
            object
        }
        Event::SessionEnded(reason) => {
            let mut object = tagged("session_ended", Map::new());
            object.insert("reason".into(), reason.as_str_name().into());
            object
        }
    };
    if let Some(peer) = peer {
        object.insert("peer".into(), peer.user_id.into());
        object.insert("name".into(), peer.name.as_str().into());
        object.insert("phone".into(), peer.phone.as_str().into());
    }
    object.into()
}

fn tagged(event: &str, mut object: Map<String, Value>) -> Map<String, Value> {
    object.insert("event".into(), event.into());
    object
}

/// An event for people; `None` if it says nothing to them.
pub fn event_text(event: &Event, peer: Option<&Person>) -> Option<String> {
    let name = peer.map(name_of).unwrap_or_default();
    Some(match event {
        Event::Connected => "connected".to_owned(),
        Event::CaughtUp => "up to date".to_owned(),
        Event::Disconnected { why, retry_in } => {
            format!("not connected: {}; again in {:.1} s", clean(why), retry_in.as_secs_f64())
        }
        Event::Message(message) => {
            let way = if message.own { "to" } else { "from" };
            format!("{} {way} {name}: {}", time_of(message.time_ms), text_of(&message.body))
        }
        Event::Receipt { own: true, .. } => return None,
        Event::Receipt { delivered_upto, read_upto, .. } => {
            format!("{name} has everything up to {delivered_upto}, and has read up to {read_upto}")
        }
        Event::SessionEnded(reason) => format!("the session has ended: {}", reason.as_str_name()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_others_cannot_command_the_terminal() {
        assert_eq!(
            clean("a\x1b[2Jb\x07\r\u{9b}31m\u{202e}c\nd\te"),
            "a\u{fffd}[2Jb\u{fffd}\u{fffd}\u{fffd}31m\u{fffd}c\nd e"
        );
        let person = Person { user_id: 1, name: "Ann\n\x1b]0;title\x07".to_owned(), phone: String::new() };
        assert!(!name_of(&person).contains(char::is_control));
    }

    #[test]
    fn a_body_that_is_no_text_reaches_programs_whole() {
        let body = vec![0xff, 0x00, b'a'];
        let message = Message { peer: 1, seq: 2, sender: 1, time_ms: 3, body: body.clone(), own: false };
        let shown = message_json(&message);
        assert!(shown.get("text").is_none());
        assert_eq!(STANDARD.decode(shown["base64"].as_str().expect("text")).expect("base64"), body);
    }

    #[test]
    fn a_time_beyond_the_calendar_is_still_shown() {
        assert_eq!(time_of(u64::MAX), "?");
        assert!(time_of(0).starts_with("19"));
    }
}
