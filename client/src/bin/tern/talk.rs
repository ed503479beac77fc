//! What is said about messages, and in other ways than by text: as commands, as what a message shows, as JSON.

use clap::{Args, Subcommand};
use prost::Message as _;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tern_client::body::{Call, ContactCard, Location, Media, Poll, Timer, Vote};
use tern_client::{Envelope, Kind, MediaId, Message, NewMessage, Standing, StoryId};

use crate::commands;
use crate::media::size;
use crate::methods::{Failure, SEND_TIMEOUT_MS};
use crate::profile::ProfileArgs;
use crate::shown::{clean_line, text_of};
use crate::who::Who;

/// A message, by its chat and place.
#[derive(Args)]
pub struct Place {
    /// With whom
    who: Who,
    /// The message's place in the chat, as `tern history` shows it
    #[arg(value_name = "SEQ", value_parser = clap::value_parser!(u64).range(1..))]
    seq: u64,
}

impl Place {
    pub fn params(&self) -> Map<String, Value> {
        let mut params = self.who.params();
        params.insert("seq".into(), self.seq.into());
        params
    }
}

/// What one does with messages that are there.
#[derive(Subcommand)]
pub enum Talk {
    /// Have one's own message read otherwise
    Edit {
        #[command(flatten)]
        place: Place,
        /// What it reads from here on; `-`, or nothing where something is piped in: what stands on standard input
        text: Option<String>,
    },
    /// Delete a message for everyone
    Delete {
        #[command(flatten)]
        place: Place,
    },
    /// React to a message, in place of an earlier reaction
    React {
        #[command(flatten)]
        place: Place,
        /// How, usually an emoji; without it an earlier reaction is taken back
        reaction: Option<String>,
    },
    /// Pin a message, or unpin it
    Pin {
        #[command(flatten)]
        place: Place,
        /// Pinned no more
        #[arg(long)]
        off: bool,
    },
    /// Ask something, with answers to choose from
    Poll {
        /// Whom
        who: Who,
        /// What
        question: String,
        /// Between what
        #[arg(required = true, num_args = 2..)]
        answers: Vec<String>,
        /// How many of them one may choose; 0: any number
        #[arg(long, value_name = "N", default_value_t = 1)]
        choices: u32,
    },
    /// Choose answers of a poll, in place of those chosen before
    Vote {
        #[command(flatten)]
        place: Place,
        /// Which, counted from 1; none: take the vote back
        #[arg(value_name = "ANSWER", value_parser = clap::value_parser!(u32).range(1..))]
        answers: Vec<u32>,
    },
    /// Send a message on to another chat
    Forward {
        #[command(flatten)]
        place: Place,
        /// To whom
        to: Who,
    },
    /// Have messages disappear that are sent from here on: a chat of two as either of them says, a group as those who may edit it
    Timer {
        /// In the chat with whom
        who: Who,
        /// After how long: 30s, 5m, 24h, 7d, up to 365d; or `off`
        #[arg(value_parser = span_ms)]
        after: u64,
    },
    /// Print a message as it stands: how it reads now, who has reacted and how, what was voted
    Message {
        #[command(flatten)]
        place: Place,
    },
}

/// Does one of these.
pub async fn run(profile: &ProfileArgs, talk: Talk, json: bool) -> commands::Done {
    let about = |place: &Place, kind: Kind| {
        let mut params = place.who.params();
        params.insert("kind".into(), name_of_kind(kind).expect("it has one").into());
        params.insert("about".into(), place.seq.into());
        params
    };
    let send =
        async |who: &Who, params| commands::send(profile, who, params, SEND_TIMEOUT_MS / 1000, json).await;
    match talk {
        Talk::Edit { place, text } => {
            let mut params = about(&place, Kind::Edit);
            params.insert("text".into(), commands::text_to_send(text)?.into());
            send(&place.who, params).await
        }
        Talk::Delete { place } => send(&place.who, about(&place, Kind::Deletion)).await,
        Talk::React { place, reaction } => {
            let mut params = about(&place, Kind::Reaction);
            params.insert("text".into(), reaction.unwrap_or_default().into());
            send(&place.who, params).await
        }
        Talk::Pin { place, off } => {
            send(&place.who, about(&place, if off { Kind::Unpin } else { Kind::Pin })).await
        }
        Talk::Poll { who, question, answers, choices } => {
            let mut params = who.params();
            params.insert("kind".into(), "poll".into());
            params.insert(
                "poll".into(),
                json!({ "question": question, "answers": answers, "choices_max": choices }),
            );
            send(&who, params).await
        }
        Talk::Vote { place, answers } => {
            let mut params = about(&place, Kind::Vote);
            let answers: Vec<_> = answers.into_iter().map(|answer| answer - 1).collect();
            params.insert("vote".into(), json!(answers));
            send(&place.who, params).await
        }
        Talk::Timer { who, after } => {
            let mut params = who.params();
            params.insert("timer_ms".into(), after.into());
            send(&who, params).await
        }
        Talk::Forward { place, to } => {
            let found = commands::ask(profile, "message", place.params().into()).await?;
            let mut params = to.params();
            params.insert("forward".into(), found["message"].clone());
            send(&to, params).await
        }
        Talk::Message { place } => {
            let found = commands::ask(profile, "message", place.params().into()).await?;
            commands::print_lines(&found, json, standing_lines);
            Ok(std::process::ExitCode::SUCCESS)
        }
    }
}

/// Units of time, in ms, the longest first.
const UNITS: [(char, u64); 4] = [('d', 86_400_000), ('h', 3_600_000), ('m', 60_000), ('s', 1_000)];

/// How long somebody means; `off` is 0.
pub fn span_ms(written: &str) -> Result<u64, String> {
    let of_unit = |(unit, ms): (char, u64)| {
        let number: u64 = written.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(ms).filter(|span| (1_000..=365 * UNITS[0].1).contains(span))
    };
    let span = if written == "off" { Some(0) } else { UNITS.into_iter().find_map(of_unit) };
    span.ok_or_else(|| "from 1s to 365d (s, m, h, d), or `off`".to_owned())
}

/// So many ms, in the longest unit of which they are so many.
pub fn span(span_ms: u64) -> String {
    let whole = UNITS.into_iter().find(|(_, ms)| span_ms.is_multiple_of(*ms));
    whole.map_or_else(|| format!("{span_ms} ms"), |(unit, ms)| format!("{}{unit}", span_ms / ms))
}

/// What is to be sent, as a method's parameters say it.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Send {
    pub chat: Option<u64>,
    pub phone: Option<String>,
    pub timeout_ms: Option<u64>,
    key: Option<String>,
    /// What is said; with a place or a card what is there, or who it is.
    text: String,
    /// What it is, if it is no text: `edit`, `deletion`, `reaction`, `vote`, `pin`, `unpin`.
    kind: Option<String>,
    /// What it is about, or replies to.
    about: u64,
    mentions: Vec<u64>,
    /// The story that it replies to: of whom it is sent to, if nobody else is named.
    story: Option<ToStory>,
    poll: Option<NewPoll>,
    vote: Option<Vec<u32>>,
    location: Option<NewLocation>,
    contact: Option<NewContact>,
    /// What was uploaded.
    medium: Option<NewMedium>,
    /// Messages disappear so long after they were sent, from here on.
    timer_ms: Option<u64>,
    /// A message, as `message` gives it, that is sent on.
    forward: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ToStory {
    #[serde(default)]
    user_id: u64,
    number: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewPoll {
    question: String,
    answers: Vec<String>,
    #[serde(default)]
    choices_max: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewLocation {
    latitude: f64,
    longitude: f64,
    #[serde(default)]
    accuracy_m: f32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewContact {
    phones: Vec<String>,
    #[serde(default)]
    user_id: u64,
}

/// A medium that was uploaded, as `upload` gives it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewMedium {
    medium: String,
    #[serde(rename = "type")]
    of: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    bytes: u64,
    #[serde(default)]
    sha256: String,
    #[serde(default)]
    looks: NewLooks,
}

/// What is to be shown of it before it has come.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct NewLooks {
    width: u32,
    height: u32,
    duration_ms: u64,
    blur_hash: String,
    waveform: String,
}

impl NewMedium {
    /// What it is called.
    pub fn id(&self) -> Result<MediaId, Failure> {
        self.medium.parse().map_err(|_| Failure::Params("medium is no id of a medium".to_owned()))
    }

    /// What a message, or a story, says of it.
    pub fn body(self, caption: String) -> Media {
        let Self { of, name, bytes, sha256, looks, .. } = self;
        let NewLooks { width, height, duration_ms, blur_hash, waveform } = looks;
        let (sha256, waveform) = (from_hex(&sha256).into(), from_hex(&waveform).into());
        let looks = Media { width, height, duration_ms, blur_hash, waveform, ..Media::default() };
        Media { r#type: of, name, bytes, caption, sha256, ..looks }
    }
}

/// The bytes of hexadecimal digits; none, if they are not.
fn from_hex(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks(2);
    let bytes = pairs.map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok());
    bytes.collect::<Option<_>>().unwrap_or_default()
}

impl Send {
    /// The media that it is to have.
    fn media_ids(&self) -> Result<Vec<MediaId>, Failure> {
        Ok(self.medium.as_ref().map(NewMedium::id).transpose()?.into_iter().collect())
    }

    /// The message that it is, to nobody yet.
    pub fn into_message(self) -> Result<NewMessage, Failure> {
        let wrong = |why: &str| Err(Failure::Params(why.to_owned()));
        let kind = match self.kind.as_deref() {
            None => None,
            Some(name) => match kind_of_name(name) {
                // What is sent when the server is there again would ring then.
                Some(Kind::Call) => return wrong("nobody is called by this"),
                Some(kind) => Some(kind),
                None => return wrong("there is no such kind of message"),
            },
        };
        let media = self.media_ids()?;
        let story = self.story.map(|ToStory { user_id, number }| StoryId { user_id, number });
        let envelope = Envelope { about: self.about, forwards: 0, mentions: self.mentions, media, story };
        let message = |kind, body: Vec<u8>| NewMessage { chat: 0, kind, body, envelope, key: self.key };
        if let Some(forward) = &self.forward {
            let forwarded = crate::shown::message_of(0, forward);
            if !forwarded.kind.is_message() || forwarded.kind == Kind::Call || forwarded.erased {
                return wrong("that can't be sent on");
            }
            let forwards = forwarded.envelope.forwards.saturating_add(1);
            let mut message = message(forwarded.kind, forwarded.body);
            // What goes with it is cited, and not copied.
            message.envelope = Envelope { forwards, media: forwarded.envelope.media, ..Envelope::default() };
            return Ok(message);
        }
        let text = self.text;
        let message = if let Some(medium) = self.medium {
            message(Kind::Media, medium.body(text).encode_to_vec())
        } else if let Some(NewPoll { question, answers, choices_max }) = self.poll {
            message(Kind::Poll, Poll { question, answers, choices_max }.encode_to_vec())
        } else if let Some(answers) = self.vote {
            message(Kind::Vote, Vote { answers }.encode_to_vec())
        } else if let Some(NewLocation { latitude, longitude, accuracy_m }) = self.location {
            message(Kind::Location, Location { latitude, longitude, name: text, accuracy_m }.encode_to_vec())
        } else if let Some(NewContact { phones, user_id }) = self.contact {
            message(Kind::Contact, ContactCard { name: text, phones, user_id }.encode_to_vec())
        } else if let Some(after_ms) = self.timer_ms {
            message(Kind::Timer, Timer { after_ms }.encode_to_vec())
        } else {
            message(kind.unwrap_or_default(), text.into_bytes())
        };
        if kind.is_some_and(|kind| kind != message.kind) {
            return wrong("the kind is not that of what is sent");
        }
        if message.body.is_empty() && matches!(message.kind, Kind::Text | Kind::Edit) {
            return wrong("there is nothing to send");
        }
        Ok(message)
    }
}

/// A message as it stands, for programs.
pub fn standing_json(standing: &Standing) -> Value {
    let Standing { message, edited_ms, reactions, votes, pinned } = standing;
    let reactions: Map<_, _> =
        reactions.iter().map(|(user, how)| (user.to_string(), how.as_str().into())).collect();
    let votes: Map<_, _> = votes.iter().map(|(user, answers)| (user.to_string(), json!(answers))).collect();
    json!({
        "message": crate::shown::message_json(message), "edited_ms": edited_ms, "reactions": reactions,
        "votes": votes, "pinned": pinned,
    })
}

fn standing_lines(found: &Value) -> Vec<String> {
    let message = crate::shown::message_of(found["chat"].as_u64().unwrap_or_default(), &found["message"]);
    let mut lines = vec![crate::shown::lines_of(&message)];
    if let Some(ms) = found["edited_ms"].as_u64() {
        lines.push(format!("edited {}", crate::shown::time_of(ms)));
    }
    if found["pinned"] == true {
        lines.push("pinned".to_owned());
    }
    let empty = Map::new();
    for (user, how) in found["reactions"].as_object().unwrap_or(&empty) {
        lines.push(format!("@{user} {}", clean_line(how.as_str().unwrap_or_default())));
    }
    for (user, answers) in found["votes"].as_object().unwrap_or(&empty) {
        let answers = answers.as_array().map(Vec::as_slice).unwrap_or_default().iter();
        let answers: Vec<_> =
            answers.filter_map(Value::as_u64).map(|answer| (answer + 1).to_string()).collect();
        lines.push(format!("@{user} votes for {}", answers.join(", ")));
    }
    lines
}

const NAMES: [(Kind, &str); 12] = [
    (Kind::Location, "location"),
    (Kind::Contact, "contact"),
    (Kind::Poll, "poll"),
    (Kind::Media, "media"),
    (Kind::Call, "call"),
    (Kind::Edit, "edit"),
    (Kind::Deletion, "deletion"),
    (Kind::Reaction, "reaction"),
    (Kind::Vote, "vote"),
    (Kind::Pin, "pin"),
    (Kind::Unpin, "unpin"),
    (Kind::Timer, "timer"),
];

/// What a kind is called in JSON, where it is said: `None` for texts, and for what is said otherwise.
pub fn name_of_kind(kind: Kind) -> Option<&'static str> {
    NAMES.iter().find(|(named, _)| *named == kind).map(|(_, name)| *name)
}

/// The kind that is called so.
pub fn kind_of_name(name: &str) -> Option<Kind> {
    let found = NAMES.iter().find(|(_, named)| *named == name).map(|(kind, _)| *kind);
    found.or((name == "text").then_some(Kind::Text))
}

/// What stands before what a message says: that it was forwarded, and what it replies to.
pub fn prefix(message: &Message) -> String {
    let Envelope { about, forwards, .. } = message.envelope;
    let mut prefix = String::new();
    if forwards > 0 {
        prefix.push_str("(forwarded) ");
    }
    if about > 0 && message.kind.is_message() {
        prefix.push_str(&format!("(to {about}) "));
    }
    prefix
}

/// What a message says that is no change of a group, as text.
pub fn text(message: &Message) -> String {
    let about = message.envelope.about;
    match message.kind {
        Kind::Edit => format!("(instead of {about}) {}", text_of(&message.body)),
        Kind::Deletion => format!("(deleted {about})"),
        Kind::Reaction if message.body.is_empty() => format!("(no reaction to {about} any more)"),
        Kind::Reaction => format!("{} (to {about})", clean_line(&text_of(&message.body))),
        Kind::Pin => format!("(pinned {about})"),
        Kind::Unpin => format!("(unpinned {about})"),
        Kind::Vote => message.body_as::<Vote>().map_or_else(sealed, |vote| {
            let answers: Vec<_> =
                vote.answers.iter().map(|answer| (u64::from(*answer) + 1).to_string()).collect();
            format!(
                "(votes for {} in {about})",
                if answers.is_empty() { "none".into() } else { answers.join(", ") }
            )
        }),
        Kind::Poll => message.body_as::<Poll>().map_or_else(sealed, |poll| {
            let answers = poll.answers.iter().enumerate();
            let answers: String =
                answers.map(|(at, answer)| format!("\n{}) {}", at + 1, clean_line(answer))).collect();
            format!("? {}{answers}", clean_line(&poll.question))
        }),
        Kind::Location => message.body_as::<Location>().map_or_else(sealed, |location| {
            let Location { latitude, longitude, name, .. } = location;
            format!("⌖ {latitude:.5}, {longitude:.5} {}", clean_line(&name)).trim_end().to_owned()
        }),
        Kind::Contact => message.body_as::<ContactCard>().map_or_else(sealed, |card| {
            format!("☎ {} {}", clean_line(&card.name), clean_line(&card.phones.join(", ")))
                .trim_end()
                .to_owned()
        }),
        Kind::Media => message.body_as::<Media>().map_or_else(sealed, |media| {
            let Media { r#type, name, bytes, caption, width, height, .. } = media;
            let pixels = if width > 0 && height > 0 { format!("{width}x{height}, ") } else { String::new() };
            let file = format!("⎙ {} ({}, {pixels}{})", clean_line(&name), clean_line(&r#type), size(bytes));
            if caption.is_empty() { file } else { format!("{file}\n{}", text_of(caption.as_bytes())) }
        }),
        Kind::Call => message.body_as::<Call>().map_or_else(sealed, |call| {
            if call.video { "☏ a call, with video" } else { "☏ a call" }.to_owned()
        }),
        Kind::Timer => timer_text(message),
        Kind::Private => crate::private::text(message),
        Kind::Text | Kind::Group | Kind::Lost | Kind::Withheld | Kind::Unknown => text_of(&message.body),
    }
}

/// After how long messages disappear.
pub fn timer_text(message: &Message) -> String {
    match message.timer() {
        Some(0) => "(messages stay from here on)".to_owned(),
        Some(after_ms) => format!("(messages disappear after {} from here on)", span(after_ms)),
        None => sealed(),
    }
}

fn sealed() -> String {
    "(of a form that this version can't show)".to_owned()
}

/// The body of a kind that has fields, for programs; `null` if it is not that.
pub fn body_json(message: &Message) -> Value {
    match message.kind {
        Kind::Poll => message.body_as::<Poll>().map(|poll| {
            json!({ "question": poll.question, "answers": poll.answers, "choices_max": poll.choices_max })
        }),
        Kind::Vote => message.body_as::<Vote>().map(|vote| json!(vote.answers)),
        Kind::Location => message.body_as::<Location>().map(|location| {
            let Location { latitude, longitude, name, accuracy_m } = location;
            json!({ "latitude": latitude, "longitude": longitude, "name": name, "accuracy_m": accuracy_m })
        }),
        Kind::Contact => message.body_as::<ContactCard>().map(|card| {
            json!({ "name": card.name, "phones": card.phones, "user_id": card.user_id })
        }),
        Kind::Media => message.body_as::<Media>().map(|media| {
            let mut told = json!({
                "type": media.r#type, "name": media.name, "bytes": media.bytes, "caption": media.caption,
            });
            let numbers = [
                ("width", media.width.into()),
                ("height", media.height.into()),
                ("duration_ms", media.duration_ms),
            ];
            for (name, number) in numbers.into_iter().filter(|(_, number)| *number > 0) {
                told[name] = number.into();
            }
            told
        }),
        Kind::Call => message.body_as::<Call>().map(|call| json!({ "video": call.video })),
        Kind::Timer => message.timer().map(Value::from),
        _ => None,
    }
    .unwrap_or(Value::Null)
}

/// What is said of a message beside its body, for programs: what is nothing is left out.
pub fn insert_envelope(object: &mut Map<String, Value>, message: &Message) {
    let Envelope { about, forwards, mentions, media, story } = &message.envelope;
    if let Some(name) = name_of_kind(message.kind) {
        object.insert("kind".into(), name.into());
    }
    for (name, number) in
        [("about", *about), ("forwards", u64::from(*forwards)), ("edited_by", message.edited_by)]
    {
        if number > 0 {
            object.insert(name.into(), number.into());
        }
    }
    if !mentions.is_empty() {
        object.insert("mentions".into(), json!(mentions));
    }
    if !media.is_empty() {
        object.insert("media_ids".into(), media.iter().map(MediaId::to_string).collect());
    }
    if let Some(StoryId { user_id, number }) = story {
        object.insert("story".into(), json!({ "user_id": user_id, "number": number }));
    }
    if message.expires_ms > 0 {
        object.insert("expires_ms".into(), message.expires_ms.into());
    }
    if message.erased {
        object.insert("erased".into(), true.into());
    }
}

/// The media of a list, as far as they are ids.
fn ids_of(value: &Value) -> Vec<MediaId> {
    let ids = value.as_array().map(Vec::as_slice).unwrap_or_default();
    ids.iter().filter_map(|id| id.as_str()?.parse().ok()).collect()
}

/// The same, back.
pub fn envelope_of(value: &Value) -> Envelope {
    let number = |key: &str| value[key].as_u64().unwrap_or_default();
    let mentions = value["mentions"].as_array().map(Vec::as_slice).unwrap_or_default();
    Envelope {
        about: number("about"),
        forwards: number("forwards").try_into().unwrap_or(u32::MAX),
        mentions: mentions.iter().filter_map(Value::as_u64).collect(),
        media: ids_of(&value["media_ids"]),
        story: value["story"]["user_id"].as_u64().map(|user_id| {
            let number = value["story"]["number"].as_u64().unwrap_or_default();
            StoryId { user_id, number }
        }),
    }
}
