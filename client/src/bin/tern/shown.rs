//! What is shown: messages and events as JSON for programs, or as text that can't command a terminal.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tern_client::{
    Cause, Chat, Client, Doing, Error, Event, Group, GroupChange, GroupMember, GroupSettings, HistoryPage,
    Invitation, Kind, MediaId, Message, PRIVATE, Person, Reason, Role, UserId, Who, is_group,
};

use crate::{private, stories, talk};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Bytes of a message, as the server has it.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;

/// What stands in place of a message that was deleted for everyone.
pub const DELETED: &str = "(deleted)";

/// In place of one whose time has come, or that was deleted before.
pub const DISAPPEARED: &str = "(disappeared)";

/// Begins each further line of a message, so that none looks like a line of the program's own.
const CONTINUED: &str = "        │ ";

/// Whether a character commands a terminal, or the direction of writing, or breaks a line in its own way.
fn is_harmful(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || matches!(c, '\u{2028}' | '\u{2029}')
        || c.is_control()
}

/// Text from others, for a terminal: without control characters, and without those that turn the direction of writing
/// around. Line breaks stay.
pub fn clean(text: &str) -> String {
    let harmless = |c: char| match c {
        '\n' => '\n',
        c if is_harmful(c) => '\u{fffd}',
        c => c,
    };
    // As wide as a tab is at most anywhere else.
    text.replace('\t', "    ").chars().map(harmless).collect()
}

/// The same, in one line.
pub fn clean_line(text: &str) -> String {
    clean(text).replace('\n', " ")
}

/// Bytes in hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A body in lines of text: whatever it says, each line but the first begins with [`CONTINUED`].
pub fn lines_of_body(body: &[u8]) -> String {
    text_of(body).replace('\n', &format!("\n{CONTINUED}"))
}

/// A message in lines of text, as [`lines_of_body`].
pub fn lines_of(message: &Message) -> String {
    match message.kind {
        Kind::Group => format!("— {}", change_text(message, |user| format!("@{user}"))),
        _ => format!("{}{}", talk::prefix(message), text_of_message(message))
            .replace('\n', &format!("\n{CONTINUED}")),
    }
}

/// What a message says, as text.
pub fn text_of_message(message: &Message) -> String {
    match special(message.kind) {
        Some(text) => text.to_owned(),
        None if message.erased && message.expires_ms > 0 => DISAPPEARED.to_owned(),
        None if message.erased => DELETED.to_owned(),
        None => talk::text(message),
    }
}

/// What became of a group, as its author did it; `name` is what people are called.
pub fn change_text(message: &Message, name: impl Fn(u64) -> String) -> String {
    let names = |users: &[UserId]| {
        let names: Vec<_> = users.iter().map(|user| name(user.get())).collect();
        names.join(", ")
    };
    match message.change() {
        Some(GroupChange::Made(made)) => format!("made the group “{}”", clean_line(&made.name)),
        Some(GroupChange::Added(users)) => format!("added {}", names(&users)),
        Some(GroupChange::Removed(user)) => format!("removed {}", name(user.get())),
        Some(GroupChange::Left) => "left".to_owned(),
        Some(GroupChange::Role(user, Role::Member)) => {
            format!("made {} a member like others", name(user.get()))
        }
        Some(GroupChange::Role(user, _)) => format!("made {} an admin", name(user.get())),
        Some(GroupChange::Name(text)) => format!("calls the group “{}”", clean_line(&text)),
        Some(GroupChange::Description(_)) => "described the group anew".to_owned(),
        Some(GroupChange::Picture(_)) => "gave the group another picture".to_owned(),
        Some(GroupChange::Settings(_)) => "changed who may do what".to_owned(),
        Some(GroupChange::Invitation(_)) => "made an invitation".to_owned(),
        Some(GroupChange::InvitationEnded(_)) => "ended an invitation".to_owned(),
        Some(GroupChange::Joined(_)) => "came by an invitation".to_owned(),
        Some(GroupChange::Asked(_)) => "asks to be let in".to_owned(),
        Some(GroupChange::Declined(user)) => format!("did not let {} in", name(user.get())),
        None => "changed the group".to_owned(),
    }
}

/// What a group is called from this message on, if it says that.
pub fn group_name(message: &Message) -> Option<String> {
    match message.change()? {
        GroupChange::Made(made) => Some(made.name),
        GroupChange::Name(name) => Some(name),
        _ => None,
    }
}

/// Who is to be called by name where a message of a group is shown.
pub fn people_of(message: &Message) -> Vec<u64> {
    let mut people = if message.own { Vec::new() } else { vec![message.sender] };
    match message.change() {
        Some(GroupChange::Added(users)) => people.extend(users.iter().map(|user| user.get())),
        Some(GroupChange::Removed(user) | GroupChange::Role(user, _) | GroupChange::Declined(user)) => {
            people.push(user.get());
        }
        _ => {}
    }
    people
}

/// What became of a group, for programs.
fn change_json(change: &GroupChange) -> Value {
    let ids = |users: &[UserId]| users.iter().map(|user| user.get()).collect::<Vec<_>>();
    match change {
        GroupChange::Made(made) => {
            json!({ "made": { "name": made.name, "description": made.description, "members": ids(&made.members) } })
        }
        GroupChange::Added(users) => json!({ "added": ids(users) }),
        GroupChange::Removed(user) => json!({ "removed": user.get() }),
        GroupChange::Left => json!({ "left": true }),
        GroupChange::Role(user, role) => json!({ "role": { "user": user.get(), "role": role_name(*role) } }),
        GroupChange::Name(name) => json!({ "name": name }),
        GroupChange::Description(text) => json!({ "description": text }),
        GroupChange::Picture(_) => json!({ "picture": true }),
        GroupChange::Settings(settings) => json!({ "settings": settings_json(*settings) }),
        GroupChange::Invitation(_) => json!({ "invitation": true }),
        GroupChange::InvitationEnded(_) => json!({ "invitation_ended": true }),
        GroupChange::Joined(_) => json!({ "joined": true }),
        GroupChange::Asked(_) => json!({ "asked": true }),
        GroupChange::Declined(user) => json!({ "declined": user.get() }),
    }
}

/// What a role is called.
pub fn role_name(role: Role) -> &'static str {
    match role {
        Role::Member => "member",
        Role::Admin => "admin",
        Role::Creator => "creator",
    }
}

fn settings_json(settings: GroupSettings) -> Value {
    let who = |who: Who| match who {
        Who::All => "all",
        Who::Admins => "admins",
    };
    let GroupSettings { senders, editors, adders, shows_history } = settings;
    json!({ "senders": who(senders), "editors": who(editors), "adders": who(adders), "shows_history": shows_history })
}

/// A group and its members, for programs; `people` says what members are called.
pub fn group_json(group: &Group, people: &BTreeMap<u64, Person>) -> Value {
    let member = |member: &GroupMember| {
        let name = people.get(&member.user_id).map_or("", |person| person.name.as_str());
        json!({
            "user": member.user_id, "name": name, "role": role_name(member.role),
            "delivered_upto": member.delivered_upto, "read_upto": member.read_upto,
        })
    };
    let invitation = |invitation: &Invitation| {
        json!({
            "hash": STANDARD.encode(&invitation.hash), "expires_ms": invitation.expires_ms,
            "uses_left": invitation.uses_left, "wants_approval": invitation.wants_approval,
        })
    };
    json!({
        "chat": group.chat, "name": group.name, "description": group.description,
        "medium": medium_json(&group.picture),
        "settings": settings_json(group.settings), "created_ms": group.created_ms, "timer_ms": group.timer_ms,
        "invitations": group.invitations.iter().map(invitation).collect::<Vec<_>>(), "asking": group.asking,
        "members": group.members.iter().map(member).collect::<Vec<_>>(),
    })
}

/// What is shown in place of the body of a message that is no text.
pub fn special(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Group => Some("(the group was changed)"),
        Kind::Lost => Some("✗ lost by damage to the server's data"),
        Kind::Withheld => Some("(from somebody whom you blocked then)"),
        Kind::Unknown => Some("(of a kind that this version can't show)"),
        _ => None,
    }
}

/// An error for programs.
pub fn error_json(error: &Error) -> Value {
    let kind = match error {
        Error::Connection(_) | Error::Offline { .. } => "offline",
        Error::Tls { .. } => "not_trusted",
        Error::TimedOut => "timed_out",
        Error::Protocol(_) => "protocol",
        Error::Refused { .. } => "refused",
        Error::Media { .. } => "media_refused",
        Error::SessionEnded(_) => "session_ended",
        Error::OtherStore { .. } => "other_store",
        Error::NotRegistered => "not_registered",
        Error::ProfileTaken(_) => "profile_taken",
        Error::KeyReused => "key_reused",
        Error::ProfileInUse { .. } => "profile_in_use",
        Error::Store(_) => "profile_unusable",
        Error::Config(_) | Error::Closed => "not_possible",
    };
    let mut told = json!({ "kind": kind, "message": clean_line(&error.to_string()) });
    match error {
        Error::Refused { reason, retry_after_ms, .. } => {
            told["reason"] = reason.name().into();
            told["retry_after_ms"] = (*retry_after_ms).into();
        }
        Error::SessionEnded(reason) => told["reason"] = reason.name().into(),
        Error::Media { status, .. } => told["status"] = (*status).into(),
        _ => {}
    }
    told
}

/// JSON for programs, which a terminal can show: what commands one is escaped.
pub fn json_line(value: &Value) -> String {
    let text = value.to_string();
    if !text.contains(is_harmful) {
        return text;
    }
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match is_harmful(c) {
            // Each of them is a part of a string, and below the first code that needs two units.
            true => line.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => line.push(c),
        }
    }
    line
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
        ("", "") => format!("@{}", person.user_id),
        ("", phone) => clean_line(phone),
        // Only one's own lines begin so.
        (name, _) if clean_line(name).trim().eq_ignore_ascii_case("me") => {
            format!("“{}”", clean_line(name).trim())
        }
        (name, _) => clean_line(name),
    }
}

/// A person whom one has heard from. If the server does not tell, the id is what there is.
pub async fn person(client: &Client, user_id: u64) -> Person {
    let unknown = Person { user_id, name: String::new(), phone: String::new(), ..Person::default() };
    client.lookup_chat(user_id).await.unwrap_or(unknown)
}

/// What a person is to one, for programs.
pub fn profile_json(person: &Person) -> Value {
    let Person { user_id, name, phone, about, picture, version } = person;
    json!({
        "chat": user_id, "name": name, "phone": phone, "about": about, "picture": STANDARD.encode(picture),
        "medium": medium_json(picture), "version": version,
    })
}

/// The medium that a picture is, for programs; null if it is none, or no medium.
fn medium_json(picture: &[u8]) -> Value {
    MediaId::from_slice(picture).map_or(Value::Null, |medium| medium.to_string().into())
}

/// A message for programs. A body that is no UTF-8 is given as `base64` in place of `text`.
pub fn message_json(message: &Message) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("seq".into(), message.seq.into());
    object.insert("sender".into(), message.sender.into());
    object.insert("own".into(), message.own.into());
    object.insert("time_ms".into(), message.time_ms.into());
    talk::insert_envelope(&mut object, message);
    match message.kind {
        Kind::Text | Kind::Edit | Kind::Reaction => insert_body(&mut object, &message.body),
        Kind::Lost => drop(object.insert("lost".into(), true.into())),
        Kind::Withheld => drop(object.insert("withheld".into(), true.into())),
        Kind::Group => {
            let change = message.change().map_or(Value::Null, |change| change_json(&change));
            object.insert("group".into(), change);
            object.insert("base64".into(), STANDARD.encode(&message.body).into());
        }
        Kind::Unknown => {
            object.insert("unknown".into(), true.into());
            object.insert("base64".into(), STANDARD.encode(&message.body).into());
        }
        Kind::Private => {
            object.insert("private".into(), private::json(message));
            object.insert("base64".into(), STANDARD.encode(&message.body).into());
        }
        Kind::Deletion | Kind::Pin | Kind::Unpin => {}
        Kind::Location | Kind::Contact | Kind::Poll | Kind::Media | Kind::Call | Kind::Vote | Kind::Timer => {
            let name = talk::name_of_kind(message.kind).expect("these have one");
            object.insert(name.into(), talk::body_json(message));
            object.insert("base64".into(), STANDARD.encode(&message.body).into());
        }
    }
    object
}

/// A message as [`message_json`] has it. What is not there is nothing.
pub fn message_of(chat: u64, value: &Value) -> Message {
    let number = |key: &str| value[key].as_u64().unwrap_or_default();
    let is = |key: &str| value[key].as_bool().unwrap_or_default();
    let body = match (&value["text"], &value["base64"]) {
        (Value::String(text), _) => text.clone().into_bytes(),
        (_, Value::String(base64)) => STANDARD.decode(base64).unwrap_or_default(),
        _ => Vec::new(),
    };
    let kind = match (is("lost"), is("unknown"), value.get("group")) {
        (true, ..) => Kind::Lost,
        (_, true, _) => Kind::Unknown,
        (.., Some(_)) => Kind::Group,
        _ if is("withheld") => Kind::Withheld,
        _ if value.get("private").is_some() => Kind::Private,
        _ => value["kind"].as_str().and_then(talk::kind_of_name).unwrap_or_default(),
    };
    let (seq, sender, time_ms, own) = (number("seq"), number("sender"), number("time_ms"), is("own"));
    let (erased, envelope) = (is("erased"), talk::envelope_of(value));
    let (edited_by, expires_ms) = (number("edited_by"), number("expires_ms"));
    Message { chat, seq, sender, time_ms, body, own, kind, envelope, erased, expires_ms, edited_by }
}

/// A person as methods name them.
pub fn person_of(value: &Value) -> Person {
    let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    Person {
        user_id: value["chat"].as_u64().unwrap_or_default(),
        name: text("name"),
        phone: text("phone"),
        ..Person::default()
    }
}

/// A chat at a glance, for programs.
pub fn chat_json(chat: &Chat) -> Value {
    let Person { user_id, name, phone, .. } = &chat.person;
    if chat.unavailable {
        return json!({ "chat": user_id, "name": name, "phone": phone, "unavailable": true });
    }
    json!({
        "chat": user_id, "name": name, "phone": phone, "head": chat.head, "unread": chat.unread,
        "last": chat.last.as_ref().map(message_json), "delivered_upto": chat.delivered_upto,
        "read_upto": chat.read_upto, "own_read_upto": chat.own_read_upto, "version": chat.version, "left": chat.left,
        "timer_ms": chat.timer_ms,
        "settings": private::settings_json(&chat.settings),
    })
}

/// Who is around an event, as far as that is known.
#[derive(Default)]
pub struct Around {
    /// Whom its chat is with: a person, or a group.
    pub chat: Option<Person>,
    /// Who has said it, in a group.
    pub sender: Option<Person>,
}

/// Who is around an event; what this profile does not know is asked for.
pub async fn around(client: &Client, event: &Event) -> Around {
    let chat = match (event, peer_of(event)) {
        (Event::PersonChanged(person), _) => Some(person.clone()),
        (_, Some(PRIVATE)) => {
            let name = "your own devices".to_owned();
            Some(Person { user_id: PRIVATE, name, phone: String::new(), ..Person::default() })
        }
        (_, Some(chat)) => Some(person(client, chat).await),
        _ => None,
    };
    let sender = match event {
        Event::Message(message) | Event::Gone(message) if is_group(message.chat) && !message.own => {
            let unknown = Person {
                user_id: message.sender,
                name: String::new(),
                phone: String::new(),
                ..Person::default()
            };
            Some(client.lookup_member(message.chat, message.sender).await.unwrap_or(unknown))
        }
        _ => None,
    };
    Around { chat, sender }
}

/// The exit code of an error: 1 it is not possible with this profile, 4 there is no connection, 5 the server refused.
pub fn exit_code(error: &Error) -> u8 {
    match error {
        Error::Connection(_)
        | Error::Offline { .. }
        | Error::Tls { .. }
        | Error::TimedOut
        | Error::Protocol(_) => 4,
        Error::Refused { .. } | Error::Media { .. } | Error::SessionEnded(_) | Error::OtherStore { .. } => 5,
        _ => 1,
    }
}

/// Those of the messages that are gone that stood where a page is, or behind the newest. The page begins before the seq `from`, or
/// after it if `forwards`.
pub fn beside(page: &HistoryPage, from: u64, forwards: bool, gone: Vec<Message>) -> Vec<Message> {
    let (first, last) = (page.messages.first(), page.messages.last());
    let lowest = match (forwards, page.more, first) {
        (false, true, Some(first)) => first.seq,
        (false, ..) => 0,
        (true, ..) => from + 1,
    };
    let upto = match (forwards, page.more, last) {
        (true, true, Some(last)) => last.seq,
        (true, ..) => u64::MAX,
        (false, ..) if from == 0 => u64::MAX,
        (false, ..) => from - 1,
    };
    gone.into_iter().filter(|message| (lowest..=upto).contains(&message.seq)).collect()
}

fn insert_body(object: &mut Map<String, Value>, body: &[u8]) {
    match std::str::from_utf8(body) {
        Ok(text) => object.insert("text".into(), text.into()),
        Err(_) => object.insert("base64".into(), STANDARD.encode(body).into()),
    };
}

/// A message that the server has no more, for people.
pub fn gone_text(message: &Message, name: &str) -> String {
    let text = lines_of(message);
    match message.own {
        true => format!("me: {text} ✗ lost by the server"),
        false => format!("{name}: {text} ✗ gone from the server"),
    }
}

/// Why messages to a person wait, for people.
pub fn delayed(reason: Reason, retry_in: Duration) -> String {
    let why = match reason {
        Reason::InboxFull => "too much waits for this person already",
        Reason::RateLimited => "you have written to too many people, or too much",
        other => other.name(),
    };
    format!("{why}; tried again in {} s", retry_in.as_secs() + 1)
}

/// What happened to one's account, for people.
pub fn device_added(device_id: u32, device_name: &str) -> String {
    match device_name {
        "" => format!("device {device_id} was added to your account"),
        name => format!("device {device_id} was added to your account: {}", clean_line(name)),
    }
}

/// Somebody looks for this device, for people.
pub fn rings(device_id: u32, device_name: &str) -> String {
    match device_name {
        "" => format!("your device {device_id} rings this one"),
        name => format!("your device {device_id} rings this one: {}", clean_line(name)),
    }
}

/// A page for programs. `gone` are the messages that the server has no more.
pub fn page_json(chat: &Person, page: &HistoryPage, gone: &[Message]) -> Value {
    let messages: Vec<_> = page.messages.iter().map(message_json).collect();
    let gone: Vec<_> = gone.iter().map(message_json).collect();
    json!({
        "chat": chat.user_id, "name": chat.name, "phone": chat.phone, "messages": messages, "gone": gone,
        "more": page.more, "head": page.head, "delivered_upto": page.delivered_upto, "read_upto": page.read_upto,
    })
}

/// For how long what somebody does just now holds, if nothing more is heard of it.
pub const ACTIVITY_MS: u64 = 6_000;

/// What somebody does just now, for programs.
pub fn doing_name(doing: Doing) -> &'static str {
    match doing {
        Doing::Typing => "typing",
        Doing::Recording => "recording",
        Doing::Nothing => "nothing",
    }
}

/// The chat that an event is about.
pub fn peer_of(event: &Event) -> Option<u64> {
    match event {
        Event::Message(message) | Event::Gone(message) => Some(message.chat),
        Event::Receipt { chat, .. } | Event::Rewound { chat, .. } => Some(*chat),
        Event::NotSent { chat, .. } | Event::Delayed { chat, .. } | Event::Activity { chat, .. } => {
            Some(*chat)
        }
        Event::Presence { user_id, .. } => Some(*user_id),
        Event::PersonChanged(person) => Some(person.user_id),
        Event::Connected
        | Event::Disconnected { .. }
        | Event::CaughtUp
        | Event::DeviceAdded { .. }
        | Event::Ring { .. }
        | Event::Story(_)
        | Event::SessionEnded(_)
        | Event::OtherStore => None,
    }
}

/// An event for programs; docs/CLIENT.md lists them.
pub fn event_json(event: &Event, around: &Around) -> Value {
    let mut object = match event {
        Event::Connected => tagged("connected", Map::new()),
        Event::CaughtUp => tagged("caught_up", Map::new()),
        Event::Message(message) => tagged("message", message_json(message)),
        Event::Gone(message) => tagged("gone", message_json(message)),
        Event::OtherStore => tagged("other_store", Map::new()),
        Event::Disconnected { why, cause, retry_in } => {
            let retry_in_ms = retry_in.as_millis() as u64;
            let trusted = *cause == Cause::Offline;
            fields("disconnected", json!({ "why": why, "trusted": trusted, "retry_in_ms": retry_in_ms }))
        }
        Event::Receipt { delivered_upto, read_upto, own, .. } => {
            let marks = json!({ "delivered_upto": delivered_upto, "read_upto": read_upto, "own": own });
            fields("receipt", marks)
        }
        Event::Rewound { upto, .. } => fields("rewound", json!({ "upto": upto })),
        Event::NotSent { kind, body, reason, detail, .. } => {
            let mut object = fields("not_sent", json!({ "reason": reason.name(), "detail": detail }));
            if let Some(name) = talk::name_of_kind(*kind) {
                object.insert("kind".into(), name.into());
            }
            insert_body(&mut object, body);
            object
        }
        Event::Delayed { reason, retry_in, .. } => {
            let retry_in_ms = retry_in.as_millis() as u64;
            fields("delayed", json!({ "reason": reason.name(), "retry_in_ms": retry_in_ms }))
        }
        Event::PersonChanged(_) => tagged("person_changed", Map::new()),
        Event::DeviceAdded { device_id, device_name, time_ms } => {
            let device = json!({ "device_id": device_id, "device_name": device_name, "time_ms": time_ms });
            fields("device_added", device)
        }
        Event::Ring { device_id, device_name } => {
            fields("ring", json!({ "device_id": device_id, "device_name": device_name }))
        }
        Event::Presence { online, last_seen_ms, .. } => {
            fields("presence", json!({ "online": online, "last_seen_ms": last_seen_ms }))
        }
        Event::Activity { sender, doing, .. } => {
            fields("activity", json!({ "sender": sender, "doing": doing_name(*doing) }))
        }
        Event::Story(news) => {
            let (event, told) = stories::news_json(news);
            fields(event, told)
        }
        Event::SessionEnded(reason) => fields("session_ended", json!({ "reason": reason.name() })),
    };
    if let Some(sender) = &around.sender {
        object.insert("sender_name".into(), sender.name.as_str().into());
    }
    if let Some(chat) = &around.chat {
        object.insert("chat".into(), chat.user_id.into());
        object.insert("name".into(), chat.name.as_str().into());
        object.insert("phone".into(), chat.phone.as_str().into());
    }
    object.into()
}

fn fields(event: &str, value: Value) -> Map<String, Value> {
    let Value::Object(object) = value else { return tagged(event, Map::new()) };
    tagged(event, object)
}

fn tagged(event: &str, mut object: Map<String, Value>) -> Map<String, Value> {
    object.insert("event".into(), event.into());
    object
}

/// An event for people; `None` if it says nothing to them.
pub fn event_text(event: &Event, around: &Around) -> Option<String> {
    let name = around.chat.as_ref().map(name_of).unwrap_or_default();
    Some(match event {
        Event::Connected => "connected".to_owned(),
        Event::CaughtUp => "up to date".to_owned(),
        Event::Disconnected { why, retry_in, .. } => {
            format!("not connected: {}; again in {:.1} s", clean_line(why), retry_in.as_secs_f64())
        }
        // From somebody whom one blocked then: nothing to see.
        Event::Message(message) if message.kind == Kind::Withheld => return None,
        Event::Message(message) => {
            let time = time_of(message.time_ms);
            match (&around.sender, message.own) {
                (Some(sender), _) => format!("{time} {} in {name}: {}", name_of(sender), lines_of(message)),
                (None, true) => format!("{time} to {name}: {}", lines_of(message)),
                (None, false) => format!("{time} from {name}: {}", lines_of(message)),
            }
        }
        Event::Gone(message) => {
            format!("{} with {name}, {}", time_of(message.time_ms), gone_text(message, &name))
        }
        Event::Rewound { upto, .. } => {
            format!("the server went back to an older state: with {name} it surely has what is up to {upto}")
        }
        Event::NotSent { body, reason, .. } => {
            format!("not sent to {name} ({}): {}", reason.name(), lines_of_body(body))
        }
        Event::Delayed { reason, retry_in, .. } => format!("to {name}: {}", delayed(*reason, *retry_in)),
        Event::PersonChanged(person) if person.name.is_empty() && person.phone.is_empty() => {
            format!("{name} has no account any more")
        }
        Event::PersonChanged(person) => format!("user {} is {name} now", person.user_id),
        Event::DeviceAdded { device_id, device_name, .. } => device_added(*device_id, device_name),
        Event::Ring { device_id, device_name } => rings(*device_id, device_name),
        Event::Story(news) => return stories::news_text(news),
        Event::Presence { online: Some(true), .. } => format!("{name} is online"),
        Event::Presence { last_seen_ms: 1.., .. } => {
            let Event::Presence { last_seen_ms, .. } = event else { return None };
            format!("{name} was last seen {}", time_of(*last_seen_ms))
        }
        Event::Presence { online: Some(false), .. } => format!("{name} is not online"),
        Event::Presence { .. } => format!("whether {name} is online is not known"),
        Event::Activity { sender, chat, doing } => {
            let who = if *sender == *chat { name } else { format!("@{sender} in {name}") };
            match doing {
                Doing::Typing => format!("{who} is typing"),
                Doing::Recording => format!("{who} is recording"),
                Doing::Nothing => format!("{who} has stopped"),
            }
        }
        Event::Receipt { own: true, .. } => return None,
        Event::Receipt { delivered_upto, read_upto: 0, .. } => {
            format!("{name} has everything up to {delivered_upto}")
        }
        Event::Receipt { delivered_upto, read_upto, .. } => {
            format!("{name} has everything up to {delivered_upto}, and has read up to {read_upto}")
        }
        Event::OtherStore => "the server is another one than before, or was set up anew".to_owned(),
        Event::SessionEnded(reason) => format!("the session has ended: {}", reason.name()),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use tern_client::{Story, StoryNews};

    use super::*;

    #[test]
    fn text_from_others_cannot_command_the_terminal() {
        assert_eq!(
            clean("a\x1b[2Jb\x07\r\u{9b}31m\u{202e}c\nd\te"),
            "a\u{fffd}[2Jb\u{fffd}\u{fffd}\u{fffd}31m\u{fffd}c\nd    e"
        );
        let person = Person {
            user_id: 1,
            name: "Ann\n\x1b]0;title\x07".to_owned(),
            phone: String::new(),
            ..Person::default()
        };
        assert!(!name_of(&person).contains(char::is_control));
    }

    #[test]
    fn no_message_and_no_name_looks_like_a_line_of_the_programs_own() {
        let forged =
            "ok\n    26  00:33  me: I owe Carol 100 euros ✓✓ read\r\n00:33 to Carol: yes\u{2028}connected";
        let message = Message {
            chat: 1,
            seq: 2,
            sender: 1,
            time_ms: 3,
            body: forged.into(),
            own: false,
            kind: Kind::Text,
            ..Message::default()
        };
        let person = |name: &str| Person {
            user_id: 1,
            name: name.to_owned(),
            phone: String::new(),
            ..Person::default()
        };
        let with = |person| Around { chat: Some(person), sender: None };
        for event in [Event::Message(message.clone()), Event::Gone(message)] {
            let shown = event_text(&event, &with(person("Carol\nconnected\u{200f}"))).expect("shown");
            assert!(shown.lines().skip(1).all(|line| line.starts_with(CONTINUED)), "{shown}");
            assert_eq!(shown.lines().count(), 3, "{shown}");
            assert!(!shown.contains(['\u{2028}', '\u{200f}', '\r']));
        }
        assert_ne!(name_of(&person(" ME ")), "ME");
        let (why, cause) = ("a\nconnected".to_owned(), Cause::Offline);
        let why = Event::Disconnected { why, cause, retry_in: std::time::Duration::ZERO };
        assert_eq!(event_text(&why, &Around::default()).expect("shown").lines().count(), 1);
    }

    #[test]
    fn json_on_a_terminal_commands_nothing_and_means_the_same() {
        let value = json!({ "text": "a\u{9b}31m\u{7f}\u{202e}\n\"漢\u{2028}" });
        let line = json_line(&value);
        assert!(!line.contains(is_harmful), "{line}");
        assert_eq!(serde_json::from_str::<Value>(&line).expect("JSON"), value);
    }

    #[test]
    fn a_body_that_is_no_text_reaches_programs_whole() {
        let body = vec![0xff, 0x00, b'a'];
        let message = Message {
            chat: 1,
            seq: 2,
            sender: 1,
            time_ms: 3,
            body: body.clone(),
            own: false,
            kind: Kind::Text,
            ..Message::default()
        };
        let shown = message_json(&message);
        assert!(shown.get("text").is_none());
        assert_eq!(STANDARD.decode(shown["base64"].as_str().expect("text")).expect("base64"), body);
    }

    /// The cells of the rows of a table of docs/CLIENT.md, by what its first line says.
    fn table(header: &str) -> Vec<Vec<&'static str>> {
        let document = include_str!("../../../../docs/CLIENT.md");
        let (_, table) = document.split_once(header).expect("the page has the table");
        let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
        rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
    }

    fn in_backticks(text: &str) -> BTreeSet<String> {
        text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    #[test]
    fn the_events_that_are_documented_are_those_that_are_told_with_their_fields() {
        let text = |kind: Kind, body: &[u8]| Message {
            chat: 1,
            seq: 2,
            sender: 3,
            time_ms: 4,
            body: body.to_vec(),
            own: false,
            kind,
            ..Message::default()
        };
        let (why, reason, retry_in) = ("why".to_owned(), Reason::InboxFull, Duration::ZERO);
        let chat = Person { user_id: 1, name: String::new(), phone: String::new(), ..Person::default() };
        let (detail, device_name) = (String::new(), String::new());
        let story_id = tern_client::StoryId { user_id: 1, number: 2 };
        let story = Story {
            id: story_id,
            time_ms: 3,
            expires_ms: 4,
            kind: Kind::Text,
            body: Vec::new(),
            media: Vec::new(),
            links: Vec::new(),
            seen: false,
            muted: false,
            audience: Default::default(),
        };
        let all = Message {
            envelope: tern_client::Envelope {
                about: 1,
                forwards: 1,
                mentions: vec![1],
                media: vec![tern_client::MediaId::from_bytes([1; 16])],
                story: Some(story_id),
            },
            erased: true,
            edited_by: 5,
            expires_ms: 6,
            ..text(Kind::Edit, b"text")
        };
        let of_kinds = (0..20).map(Kind::from).map(|kind| Event::Message(text(kind, b"")));
        let told = [
            Event::Connected,
            Event::Message(all),
            Event::Disconnected { why, cause: Cause::Offline, retry_in },
            Event::CaughtUp,
            Event::Message(text(Kind::Text, b"text")),
            Event::Message(text(Kind::Text, b"\xff")),
            Event::Message(text(Kind::Lost, b"")),
            Event::Message(text(Kind::Group, b"")),
            Event::Message(text(Kind::Unknown, b"x")),
            Event::Receipt { chat: 1, delivered_upto: 1, read_upto: 1, own: true },
            Event::Rewound { chat: 1, upto: 1 },
            Event::Gone(text(Kind::Text, b"text")),
            Event::NotSent {
                chat: 1,
                kind: Kind::Text,
                body: b"text".to_vec(),
                reason,
                detail: detail.clone(),
            },
            Event::NotSent { chat: 1, kind: Kind::Edit, body: b"\xff".to_vec(), reason, detail },
            Event::Delayed { chat: 1, reason, retry_in },
            Event::PersonChanged(chat.clone()),
            Event::DeviceAdded { device_id: 2, device_name: device_name.clone(), time_ms: 3 },
            Event::Ring { device_id: 2, device_name },
            Event::SessionEnded(reason),
            Event::OtherStore,
            Event::Story(Box::new(StoryNews::Posted(story))),
            Event::Story(Box::new(StoryNews::Gone(story_id))),
            Event::Story(Box::new(StoryNews::Seen(story_id))),
            Event::Presence { user_id: 1, online: Some(true), last_seen_ms: 0 },
            Event::Activity { chat: 1, sender: 3, doing: tern_client::Doing::Typing },
        ];
        let told: Vec<_> = told.into_iter().chain(of_kinds).collect();
        let mut fields: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for event in &told {
            let is_message = matches!(event, Event::Message(_));
            let around = Around {
                chat: peer_of(event).map(|_| chat.clone()),
                sender: is_message.then(|| chat.clone()),
            };
            let Value::Object(object) = event_json(event, &around) else { panic!("an object") };
            let kind = object["event"].as_str().expect("a kind").to_owned();
            // These are told beside the table: of all events about a chat, and by rpc.
            let of_all = ["event", "chat", "name", "phone"];
            let own = object.keys().filter(|key| !of_all.contains(&key.as_str())).cloned();
            fields.entry(kind).or_default().extend(own);
        }
        let mut documented: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for row in table("| `event` | fields | when |") {
            let kind = in_backticks(row[0]).pop_first().expect("a kind");
            let as_message =
                if row[1] == "as `message`" { documented["message"].clone() } else { in_backticks(row[1]) };
            documented.insert(kind, as_message);
        }
        // A message that is gone had a text, or what else a message has.
        fields.insert("gone".to_owned(), fields["message"].clone());
        assert_eq!(fields, documented, "what is told, and docs/CLIENT.md");
    }

    #[test]
    fn the_kinds_of_errors_that_are_documented_are_those_that_are_told() {
        let document = include_str!("../../../../docs/CLIENT.md");
        let (_, kinds) = document.split_once("Kinds: ").expect("the page lists them");
        let (kinds, _) = kinds.split_once(".\n").expect("in a sentence");
        let told: BTreeSet<_> = [
            Error::TimedOut,
            Error::Tls { why: String::new(), sha256: None },
            Error::Offline { server: String::new(), why: String::new() },
            Error::Protocol(""),
            Error::Refused { reason: Reason::Idle, retry_after_ms: 0, detail: String::new() },
            Error::SessionEnded(Reason::Idle),
            Error::OtherStore { server: String::new() },
            Error::NotRegistered,
            Error::ProfileTaken(String::new()),
            Error::ProfileInUse { dir: "x".into(), pid: None },
            Error::Store(String::new()),
            Error::KeyReused,
            Error::Config(String::new()),
        ]
        .iter()
        .map(|error| error_json(error)["kind"].as_str().expect("a kind").to_owned())
        .collect();
        assert_eq!(told, in_backticks(kinds));
    }

    #[test]
    fn a_message_in_json_is_the_message() {
        for (kind, body) in [
            (Kind::Text, &b"text"[..]),
            (Kind::Text, b"\xff\x00"),
            (Kind::Lost, b""),
            (Kind::Unknown, b"text"),
        ] {
            let message = Message {
                chat: 1,
                seq: 2,
                sender: 3,
                time_ms: 4,
                body: body.to_vec(),
                own: true,
                kind,
                ..Message::default()
            };
            assert_eq!(message_of(1, &message_json(&message).into()), message);
        }
    }

    #[test]
    fn a_time_beyond_the_calendar_is_still_shown() {
        assert_eq!(time_of(u64::MAX), "?");
        assert!(time_of(0).starts_with("19"));
    }
}
