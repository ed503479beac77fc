//! A search in what the profile has kept: as a command, and as the method that it asks.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use clap::Args;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tern_client::{Error, Message};

use crate::asker::Asker;
use crate::commands::{self, items, not_sent, print_lines, say};
use crate::methods::{Failure, Session};
use crate::profile::ProfileArgs;
use crate::shown;
use crate::who::Who;

/// Messages that are found if nothing else is said.
const FOUND_LIMIT: u32 = 50;

/// What is searched for.
#[derive(Args)]
pub struct Search {
    /// Words, all of which a message has. The last one may go on, unless a space follows it
    #[arg(required = true)]
    query: Vec<String>,
    /// In the chat with whom
    #[arg(long = "in", value_name = "WHO")]
    within: Option<Who>,
    /// At most so many, the newest
    #[arg(long, short = 'n', default_value_t = FOUND_LIMIT, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Also what the server alone has: from before this device, say
    #[arg(long = "on-server")]
    on_server: bool,
}

/// Prints what is found, also without a connection.
pub async fn run(profile: &ProfileArgs, search: Search, json: bool) -> commands::Done {
    let Search { query, within, limit, on_server } = search;
    let mut params = within.map_or_else(Map::new, |who| who.params());
    params.insert("text".into(), query.join(" ").into());
    params.insert("limit".into(), limit.into());
    let mut asker = Asker::open(profile).await?;
    let mut found = asker.call("search", params.clone().into()).await;
    if on_server && let Ok(found) = &mut found {
        find_on_server(&mut asker, params, found, limit as usize).await?;
    }
    let names = match &found {
        Ok(found) if !json => names_of(&mut asker, items(found, "found")).await,
        _ => BTreeMap::new(),
    };
    asker.close(|event| say(&not_sent(event))).await;
    print_lines(&found?, json, |found| lines(found, &names));
    Ok(ExitCode::SUCCESS)
}

/// Adds what the server alone has, behind what the profile has, up to so many in all.
async fn find_on_server(
    asker: &mut Asker,
    mut params: Map<String, Value>,
    found: &mut Value,
    limit: usize,
) -> Result<(), Failure> {
    params.insert("server".into(), true.into());
    while items(found, "found").len() < limit {
        let page = asker.call("search", params.clone().into()).await?;
        let room = limit - items(found, "found").len();
        let more = items(&page, "found");
        if more.len() > room {
            found["more"] = true.into();
        }
        if let Some(all) = found["found"].as_array_mut() {
            all.extend(more.iter().take(room).cloned());
        }
        if page["next"].is_null() {
            return Ok(());
        }
        params.insert("after".into(), page["next"].clone());
    }
    found["more"] = true.into();
    Ok(())
}

/// What the chats and senders of messages are called, as far as that is known.
async fn names_of(asker: &mut Asker, found: &[Value]) -> BTreeMap<u64, String> {
    let numbers = found.iter().flat_map(|message| [&message["chat"], &message["sender"]]);
    let numbers: BTreeSet<_> = numbers.filter_map(Value::as_u64).collect();
    let mut names = BTreeMap::new();
    for number in numbers {
        if let Ok(person) = asker.call("lookup", json!({ "chat": number })).await {
            names.insert(number, shown::name_of(&shown::person_of(&person)));
        }
    }
    names
}

fn lines(found: &Value, names: &BTreeMap<u64, String>) -> Vec<String> {
    let name = |number: &Value| match number.as_u64().and_then(|number| names.get(&number)) {
        Some(name) => name.clone(),
        None => format!("@{number}"),
    };
    let line = |message: &Value| {
        let time = shown::time_of(message["time_ms"].as_u64().unwrap_or_default());
        let sender = if message["own"] == true { "me".to_owned() } else { name(&message["sender"]) };
        let text = shown::clean_line(message["text"].as_str().unwrap_or_default());
        format!("{:>6}  {time}  {}  {sender}: {text}", message["seq"].to_string(), name(&message["chat"]))
    };
    let mut lines: Vec<_> = items(found, "found").iter().map(line).collect();
    if lines.is_empty() {
        lines.push("nothing that this profile has received is so".to_owned());
    }
    if found["more"] == true {
        lines.push("there is more: --limit".to_owned());
    }
    lines
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchFor {
    text: String,
    chat: Option<u64>,
    phone: Option<String>,
    before: Option<Moment>,
    limit: Option<u32>,
    /// What the server alone has.
    #[serde(default)]
    server: bool,
    after: Option<Moment>,
}

/// The moment of the last message of the page before; on the server, as it gave it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Moment {
    time_ms: u64,
    chat: u64,
    seq: u64,
}

impl Session {
    pub async fn search(&self, search: SearchFor) -> Result<Value, Failure> {
        let SearchFor { text, chat, phone, before, limit, server, after } = search;
        let chat = match (chat, phone) {
            (None, None) => None,
            (chat, phone) => Some(self.number(chat, phone).await?),
        };
        let moment = |Moment { time_ms, chat, seq }| (time_ms, chat, seq);
        let failed = |error| match error {
            Error::Config(why) => Failure::Params(why),
            error => error.into(),
        };
        let limit = limit.unwrap_or(FOUND_LIMIT);
        if server {
            let found =
                self.client.search_server(&text, chat, after.map(moment), limit).await.map_err(failed)?;
            let next = found
                .next
                .map(|(time_ms, chat, seq)| json!({ "time_ms": time_ms, "chat": chat, "seq": seq }));
            let messages: Vec<_> = found.messages.iter().map(found_json).collect();
            return Ok(json!({ "found": messages, "more": found.next.is_some(), "next": next }));
        }
        let found = self.client.search_kept(&text, chat, before.map(moment), limit).await.map_err(failed)?;
        let messages: Vec<_> = found.messages.iter().map(found_json).collect();
        Ok(json!({ "found": messages, "more": found.more, "next": null }))
    }
}

fn found_json(message: &Message) -> Value {
    let Message { chat, seq, sender, time_ms, own, .. } = message;
    let text = message.text();
    json!({ "chat": chat, "seq": seq, "sender": sender, "own": own, "time_ms": time_ms, "text": text })
}
