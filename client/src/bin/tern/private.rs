//! What one tells one's own devices: how one has a chat, stars, what is hidden from oneself. As commands, as JSON, as text.

use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tern_client::{ChatSettings, Dispatched, FOR_EVER_MS, Message, Notify, Private};

use crate::commands::{self, ask, print_lines};
use crate::methods::{Failure, Session, parse, who};
use crate::people;
use crate::profile::ProfileArgs;
use crate::shown::{clean_line, time_of};
use crate::who::Who;

/// What one keeps for oneself.
#[derive(Subcommand)]
pub enum Own {
    /// Say how one has a chat, on all of one's devices: what is not said stays
    Set {
        /// The chat with whom
        who: Who,
        /// Whether it is put aside
        #[arg(long, value_name = "YES_OR_NO")]
        archive: Option<YesOrNo>,
        /// For how long nothing is made known of it: hours, `always`, or `off`
        #[arg(long, value_name = "HOURS", value_parser = hours)]
        mute: Option<Mute>,
        /// Whether one wants to see it as unread
        #[arg(long, value_name = "YES_OR_NO")]
        unread: Option<YesOrNo>,
        /// Whether it stands above others
        #[arg(long, value_name = "YES_OR_NO")]
        on_top: Option<YesOrNo>,
        /// What is made known of it
        #[arg(long, value_name = "WHAT")]
        notify: Option<What>,
    },
    /// Star a message, to find it again on all of one's devices
    Star {
        /// With whom
        who: Who,
        /// The message's place in the chat
        seq: u64,
        /// Starred no more
        #[arg(long)]
        off: bool,
    },
    /// Print the messages that are starred, as far as this profile has heard
    Starred,
    /// Delete messages for oneself, on all of one's devices: for the others they stay
    Hide {
        /// With whom
        who: Who,
        /// The messages' places in the chat
        #[arg(required = true, num_args = 1..=256)]
        seqs: Vec<u64>,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum YesOrNo {
    Yes,
    No,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum What {
    All,
    Mentions,
    None,
}

#[derive(Clone, Copy)]
pub enum Mute {
    Off,
    Always,
    Hours(u32),
}

fn hours(written: &str) -> Result<Mute, String> {
    match written {
        "off" => Ok(Mute::Off),
        "always" => Ok(Mute::Always),
        hours => hours
            .parse()
            .ok()
            .filter(|hours| (1..=8784).contains(hours))
            .map(Mute::Hours)
            .ok_or_else(|| "1 to 8784 hours, `always` or `off`".to_owned()),
    }
}

/// Does one of these.
pub async fn run(profile: &ProfileArgs, own: Own, json: bool) -> commands::Done {
    let (method, params) = match own {
        Own::Set { who, archive, mute, unread, on_top, notify } => {
            let mut params = who.params();
            let is = |said: Option<YesOrNo>| said.map(|said| Value::from(said == YesOrNo::Yes));
            let notify = notify.map(|notify| match notify {
                What::All => "all",
                What::Mentions => "mentions",
                What::None => "none",
            });
            let mute = mute.map(|mute| match mute {
                Mute::Off => 0,
                Mute::Always => FOR_EVER_MS,
                Mute::Hours(hours) => in_hours_ms(hours),
            });
            let said = [
                ("archived", is(archive)),
                ("marked_unread", is(unread)),
                ("on_top", is(on_top)),
                ("muted_until_ms", mute.map(Value::from)),
                ("notify", notify.map(Value::from)),
            ];
            params.extend(said.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
            ("set_chat", params)
        }
        Own::Star { who, seq, off } => {
            let mut params = who.params();
            params.insert("seq".into(), seq.into());
            params.insert("on".into(), (!off).into());
            ("star", params)
        }
        Own::Starred => ("starred", Map::new()),
        Own::Hide { who, seqs } => {
            let mut params = who.params();
            params.insert("seqs".into(), json!(seqs));
            ("hide", params)
        }
    };
    let answer = ask(profile, method, params.into()).await?;
    print_lines(&answer, json, |answer| match answer["starred"].as_array() {
        Some(starred) => starred.iter().map(|star| format!("@{} {}", star["chat"], star["seq"])).collect(),
        None => vec![format!("seq {}", answer["seq"])],
    });
    Ok(ExitCode::SUCCESS)
}

/// The time in so many hours, in ms since the Unix epoch.
pub fn in_hours_ms(hours: u32) -> u64 {
    now_ms() + u64::from(hours) * 3_600_000
}

/// The time, in ms since the Unix epoch.
pub fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap_or_default().as_millis() as u64
}

/// What is told to one's own devices, for programs; `null` if this version does not know it, or it was replaced.
pub fn json(message: &Message) -> Value {
    match message.private() {
        Some(Private::Chat(chat, settings)) => json!({ "chat": chat, "settings": settings_json(&settings) }),
        Some(Private::Star(chat, seq, on)) => json!({ "star": { "chat": chat, "seq": seq, "on": on } }),
        Some(Private::Hidden(chat, seqs, upto)) => {
            json!({ "hidden": { "chat": chat, "seqs": seqs, "upto": upto } })
        }
        Some(Private::Draft(chat, text, about)) => {
            json!({ "draft": { "chat": chat, "text": String::from_utf8_lossy(&text), "about": about } })
        }
        Some(Private::Setting(name, _)) => json!({ "setting": name }),
        Some(Private::Contacts(contacts)) => {
            json!({ "contacts": contacts.iter().map(people::contact_json).collect::<Vec<_>>() })
        }
        Some(Private::Blocked(user, is_blocked)) => {
            json!({ "blocked": { "user_id": user, "is_blocked": is_blocked } })
        }
        Some(Private::StoriesMuted(user, is_muted)) => {
            json!({ "stories_muted": { "user": user, "is_muted": is_muted } })
        }
        Some(Private::Privacy(privacy)) => json!({ "privacy": people::privacy_json(&privacy) }),
        Some(Private::Scheduled(at_ms, later)) => {
            json!({ "scheduled": crate::schedule::json(message.seq, at_ms, &later) })
        }
        Some(Private::TakenBack) => json!({ "taken_back": message.envelope.about }),
        Some(Private::Dispatched(Dispatched { chat, sent })) => {
            let (seq, time_ms) = sent.unwrap_or_default();
            let reason = sent.err().map(|reason| reason.name());
            let about = message.envelope.about;
            let outcome = json!({
                "scheduled": about, "chat": chat, "seq": seq, "time_ms": time_ms, "reason": reason,
            });
            json!({ "dispatched": outcome })
        }
        None => Value::Null,
    }
}

/// How one has a chat, for programs.
pub fn settings_json(settings: &ChatSettings) -> Value {
    let ChatSettings { archived, muted_until_ms, marked_unread, on_top, notify } = settings;
    let notify = match notify {
        Notify::All => "all",
        Notify::Mentions => "mentions",
        Notify::None => "none",
    };
    json!({
        "archived": archived, "muted_until_ms": muted_until_ms, "marked_unread": marked_unread, "on_top": on_top,
        "notify": notify,
    })
}

/// The same, for people.
pub fn text(message: &Message) -> String {
    match message.private() {
        Some(Private::Chat(chat, settings)) => {
            let ChatSettings { archived, muted_until_ms, marked_unread, on_top, .. } = settings;
            let muted = match muted_until_ms {
                0 => String::new(),
                FOR_EVER_MS.. => ", muted".to_owned(),
                until => format!(", muted until {}", time_of(until)),
            };
            let is = |is: bool, text: &'static str| if is { text } else { "" };
            format!(
                "(chat @{chat}: {}{muted}{}{})",
                if archived { "archived" } else { "not archived" },
                is(marked_unread, ", marked as unread"),
                is(on_top, ", on top"),
            )
        }
        Some(Private::Star(chat, seq, on)) => {
            format!("({} {seq} of @{chat})", if on { "starred" } else { "no star any more on" })
        }
        Some(Private::Hidden(chat, seqs, _)) => format!("(hidden: {} messages of @{chat})", seqs.len()),
        Some(Private::Draft(chat, ..)) => format!("(a draft to @{chat})"),
        Some(Private::Setting(name, _)) => format!("(setting {})", clean_line(&name)),
        Some(Private::Contacts(contacts)) => format!("(contacts: {} were named)", contacts.len()),
        Some(Private::Blocked(user, is_blocked)) => {
            format!("({} @{user})", if is_blocked { "blocked" } else { "blocked no more:" })
        }
        Some(Private::StoriesMuted(user, is_muted)) => {
            format!("(stories of @{user} are {})", if is_muted { "muted" } else { "not muted any more" })
        }
        Some(Private::Privacy(_)) => "(privacy settings)".to_owned(),
        Some(Private::Scheduled(at_ms, later)) => {
            format!("(scheduled for {}, to @{})", time_of(at_ms), later.chat)
        }
        Some(Private::TakenBack) => format!("(not scheduled any more: {})", message.envelope.about),
        Some(Private::Dispatched(Dispatched { chat, sent })) => match sent {
            Ok((seq, _)) => format!("(sent what was scheduled: {seq} of @{chat})"),
            Err(reason) => format!("(not sent, though scheduled: {}, to @{chat})", reason.name()),
        },
        None => "(replaced)".to_owned(),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetChat {
    chat: Option<u64>,
    phone: Option<String>,
    archived: Option<bool>,
    muted_until_ms: Option<u64>,
    marked_unread: Option<bool>,
    on_top: Option<bool>,
    notify: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StarOf {
    chat: Option<u64>,
    phone: Option<String>,
    seq: u64,
    #[serde(default = "yes")]
    on: bool,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hide {
    chat: Option<u64>,
    phone: Option<String>,
    #[serde(default)]
    seqs: Vec<u64>,
    #[serde(default)]
    upto: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

impl Session {
    /// Methods about what one keeps for oneself.
    pub async fn own(&self, method: &str, params: Value) -> Result<Value, Failure> {
        let private = match method {
            "set_chat" => self.set_chat(parse(params)?).await?,
            "star" => {
                let StarOf { chat, phone, seq, on } = parse(params)?;
                Private::Star(self.number(chat, phone).await?, seq, on)
            }
            "hide" => {
                let Hide { chat, phone, seqs, upto } = parse(params)?;
                Private::Hidden(self.number(chat, phone).await?, seqs, upto)
            }
            "starred" => {
                let Nothing {} = parse(params)?;
                let starred = self.client.starred().await?;
                let star = |(chat, seq): &(u64, u64)| json!({ "chat": chat, "seq": seq });
                return Ok(json!({ "starred": starred.iter().map(star).collect::<Vec<_>>() }));
            }
            _ => return Err(Failure::Method),
        };
        let sent = self.why(self.client.tell_own(&private).await).await?;
        Ok(json!({ "seq": sent.seq, "time_ms": sent.time_ms }))
    }

    pub async fn number(&self, chat: Option<u64>, phone: Option<String>) -> Result<u64, Failure> {
        match who(chat, phone)? {
            Who::User(chat) => Ok(chat),
            who @ Who::Phone(_) => Ok(self.person(&who).await?.user_id),
        }
    }

    /// How a chat is to be had: what is not said stays as the server has it.
    async fn set_chat(&self, set: SetChat) -> Result<Private, Failure> {
        let SetChat { chat, phone, archived, muted_until_ms, marked_unread, on_top, notify } = set;
        let chat = self.number(chat, phone).await?;
        let notify = notify.as_deref().map(|notify| match notify {
            "all" => Ok(Notify::All),
            "mentions" => Ok(Notify::Mentions),
            "none" => Ok(Notify::None),
            _ => Err(Failure::Params("notify is all, mentions or none".to_owned())),
        });
        let notify = notify.transpose()?;
        let page =
            self.why(self.client.chats_page(chat - 1, &std::collections::BTreeMap::new()).await).await?;
        let before = page.chats.iter().find(|listed| listed.person.user_id == chat);
        let before = before.map(|listed| listed.settings).unwrap_or_default();
        let settings = ChatSettings {
            archived: archived.unwrap_or(before.archived),
            muted_until_ms: muted_until_ms.unwrap_or(before.muted_until_ms).min(FOR_EVER_MS),
            marked_unread: marked_unread.unwrap_or(before.marked_unread),
            on_top: on_top.unwrap_or(before.on_top),
            notify: notify.unwrap_or(before.notify),
        };
        Ok(Private::Chat(chat, settings))
    }
}
