//! What can be asked of a running client, by name and with parameters in JSON: by the commands of this program, and by others
//! through `tern rpc`. docs/CLIENT.md lists the methods.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tern_client::{Cause, Client, Error, Kept, Kind, NewMessage, Person, Reason, Standing, Status};
use tokio::time::{Instant, timeout_at};

use crate::shown::{self, TEXT_BYTES_MAX};
use crate::talk::{self, Send};
use crate::who::{self, Who};

/// How long a message is tried if nothing else is said, in milliseconds.
pub const SEND_TIMEOUT_MS: u64 = 30_000;

/// Messages of a history page if nothing else is said.
pub const HISTORY_LIMIT: u32 = 50;

/// How long to wait until it is known why there is no connection.
const REASON_TIMEOUT: Duration = Duration::from_secs(2);

/// Messages of a chat that are gone, beside a page.
pub const GONE_MAX: u32 = 1000;

/// Bytes of a message's key.
const KEY_BYTES_MAX: usize = 256;

/// A running client, and where it is.
pub struct Session {
    pub client: Client,
    pub server: String,
    pub profile: String,
}

/// Why a method has no result.
#[derive(Debug)]
pub enum Failure {
    /// It could not be done.
    Error(Error),
    /// The parameters are not the method's.
    Params(String),
    /// There is no such method.
    Method,
    /// The process that had the profile has gone before it answered: what was asked for may have been done.
    Gone(std::io::Error),
    /// The process that has the profile says so: an exit code, for people, and for programs.
    Told { code: u8, message: String, data: Value },
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// A result that takes its time.
pub type Answer = Pin<Box<dyn Future<Output = Result<Value, Failure>> + std::marker::Send>>;

/// Whom a method is about.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Whom {
    chat: Option<u64>,
    phone: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    chat: Option<u64>,
    phone: Option<String>,
    seq: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct History {
    chat: Option<u64>,
    phone: Option<String>,
    before: Option<u64>,
    after: Option<u64>,
    limit: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Chats {
    #[serde(default)]
    known: BTreeMap<u64, u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    chat: Option<u64>,
    phone: Option<String>,
    upto: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Device {
    device_id: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetPin {
    pin: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeleteAccount {
    #[serde(default)]
    pin: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rename {
    name: Option<String>,
    device_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

pub fn parse<T: DeserializeOwned>(params: Value) -> Result<T, Failure> {
    // No parameters at all are none.
    let params = if params.is_null() { json!({}) } else { params };
    serde_json::from_value(params).map_err(|error| Failure::Params(error.to_string()))
}

pub fn who(chat: Option<u64>, phone: Option<String>) -> Result<Who, Failure> {
    match (chat, phone) {
        (Some(chat), None) if chat > 0 => Ok(Who::User(chat)),
        (None, Some(phone)) => who::phone(&phone).map(Who::Phone).map_err(Failure::Params),
        _ => Err(Failure::Params("either chat (a user's number, or a group's) or phone says who".to_owned())),
    }
}

impl Session {
    /// Asks for something, and waits for it.
    pub async fn call(self: &Arc<Self>, method: &str, params: Value) -> Result<Value, Failure> {
        self.begin(method, params).await?.await
    }

    /// Asks for something. What must be done in the order in which it is asked for is done when this comes back: messages are kept
    /// then.
    pub async fn begin(self: &Arc<Self>, method: &str, params: Value) -> Result<Answer, Failure> {
        let session = self.clone();
        Ok(match method {
            "whoami" => {
                let Nothing {} = parse(params)?;
                Box::pin(async move { session.whoami().await })
            }
            "send" => {
                let send: Send = parse(params)?;
                let timeout_ms = send.timeout_ms.unwrap_or(SEND_TIMEOUT_MS);
                let deadline = Instant::now() + Duration::from_millis(timeout_ms);
                let sending = self.begin_send(send, deadline).await?;
                Box::pin(async move { session.wait_for(sending, deadline).await })
            }
            "message" => {
                let Place { chat, phone, seq } = parse(params)?;
                let who = who(chat, phone)?;
                Box::pin(async move { session.message(&who, seq).await })
            }
            "history" => {
                let history = parse(params)?;
                Box::pin(async move { session.history(history).await })
            }
            "search" => {
                let search = parse(params)?;
                Box::pin(async move { session.search(search).await })
            }
            "export" => {
                let export = parse(params)?;
                Box::pin(async move { session.export(export).await })
            }
            "chats" => {
                let Chats { known } = parse(params)?;
                Box::pin(async move { session.chats(known).await })
            }
            "lookup" => {
                let Whom { chat, phone } = parse(params)?;
                let who = who(chat, phone)?;
                Box::pin(async move { session.lookup(&who).await })
            }
            "read" => {
                let read = parse(params)?;
                Box::pin(async move { session.read(read).await })
            }
            "contacts" | "set_contacts" | "discover" | "block" | "blocked" | "report" | "privacy"
            | "set_privacy" | "profile" | "set_profile" | "card" | "add" => {
                let method = method.to_owned();
                Box::pin(async move { session.people(&method, params).await })
            }
            "upload" | "save" => {
                let method = method.to_owned();
                Box::pin(async move { session.media(&method, params, Arc::new(|_| {})).await })
            }
            "show" | "act" => {
                let method = method.to_owned();
                Box::pin(async move { session.presence(&method, params).await })
            }
            _ => return session.begin_of_account(method, params),
        })
    }

    /// The same of one's own account, and of what is one's own of a chat.
    fn begin_of_account(self: Arc<Self>, method: &str, params: Value) -> Result<Answer, Failure> {
        let session = self;
        Ok(match method {
            "set_chat" | "star" | "hide" | "starred" => {
                let method = method.to_owned();
                Box::pin(async move { session.own(&method, params).await })
            }
            "schedule" | "scheduled" | "unschedule" => {
                let method = method.to_owned();
                Box::pin(async move { session.later(&method, params).await })
            }
            "set_pin" => {
                let SetPin { pin } = parse(params)?;
                Box::pin(async move {
                    session.why(session.client.set_pin(&pin).await).await?;
                    Ok(json!({ "has_pin": !pin.is_empty() }))
                })
            }
            "delete_account" => {
                let DeleteAccount { pin } = parse(params)?;
                Box::pin(async move {
                    let ends_ms = session.why(session.client.delete_account(&pin).await).await?;
                    Ok(json!({ "ends_ms": ends_ms }))
                })
            }
            "rename" => {
                let Rename { name, device_name } = parse(params)?;
                Box::pin(async move {
                    let renamed = session.client.rename(name.clone(), device_name.clone()).await;
                    session.why(renamed).await?;
                    Ok(json!({ "name": name, "device_name": device_name }))
                })
            }
            _ => return session.begin_of_devices(method, params),
        })
    }

    /// The same of one's devices, and of where this one is told.
    fn begin_of_devices(self: Arc<Self>, method: &str, params: Value) -> Result<Answer, Failure> {
        let session = self;
        Ok(match method {
            "set_push" | "about_push" => {
                let method = method.to_owned();
                Box::pin(async move { session.push(&method, params).await })
            }
            "devices" => {
                let Nothing {} = parse(params)?;
                Box::pin(async move { session.devices().await })
            }
            "end_device" => {
                let Device { device_id } = parse(params)?;
                Box::pin(async move {
                    session.why(session.client.end_device(device_id).await).await?;
                    Ok(json!({ "device_id": device_id }))
                })
            }
            "new_link" => {
                let Nothing {} = parse(params)?;
                Box::pin(async move {
                    let link = session.why(session.client.new_link().await).await?;
                    Ok(json!({ "link": link.to_string(), "expires_in_ms": link.expires_in_ms }))
                })
            }
            "ring_device" => {
                let Device { device_id } = parse(params)?;
                Box::pin(async move {
                    let connected = session.why(session.client.ring_device(device_id).await).await?;
                    Ok(json!({ "device_id": device_id, "connected": connected }))
                })
            }
            _ => return session.begin_of_stories(method, params),
        })
    }

    /// Says why there is no connection, where that is all that is known. Who asks may hear that there is none just before it is known
    /// why.
    pub async fn why<T>(&self, result: Result<T, Error>) -> Result<T, Failure> {
        match result {
            Err(error @ (Error::Connection(_) | Error::Closed)) => {
                let lost = tokio::time::timeout(REASON_TIMEOUT, self.client.lost()).await;
                Err(lost.ok().and_then(|status| self.error_of(status)).unwrap_or(error).into())
            }
            result => Ok(result?),
        }
    }

    fn error_of(&self, status: Status) -> Option<Error> {
        let server = self.server.clone();
        match status {
            Status::Lost { why, cause: Cause::Untrusted { sha256 } } => Some(Error::Tls { why, sha256 }),
            Status::Lost { why, cause: Cause::Offline } => Some(Error::Offline { server, why }),
            Status::Ended(reason) => Some(Error::SessionEnded(reason)),
            Status::OtherStore => Some(Error::OtherStore { server }),
            Status::Connecting | Status::Connected | Status::Closed => None,
        }
    }

    /// Waits until the first connection stands. Fails if it does not: there is a person waiting.
    pub async fn connected(&self) -> Result<(), Error> {
        self.error_of(self.client.tried().await).map_or(Ok(()), Err)
    }

    pub async fn person(&self, who: &Who) -> Result<Person, Failure> {
        let found = match who {
            Who::Phone(phone) => self.client.lookup_phone(phone).await,
            Who::User(id) => self.client.lookup_chat(*id).await,
        };
        self.why(found).await
    }

    async fn lookup(&self, who: &Who) -> Result<Value, Failure> {
        let Person { user_id, name, phone, .. } = self.person(who).await?;
        Ok(json!({ "chat": user_id, "name": name, "phone": phone }))
    }

    pub async fn whoami(&self) -> Result<Value, Failure> {
        let account = self.client.account();
        let me = self.client.lookup_user(account.user_id).await;
        let (connected, why) = match self.client.status() {
            Status::Connected => (true, None),
            status => (false, self.error_of(status).map(|error| error.to_string())),
        };
        Ok(json!({
            "phone": account.phone, "user_id": account.user_id, "device_id": account.device_id,
            "name": me.ok().map(|me| me.name), "server": self.server, "profile": self.profile,
            "connected": connected, "why": why, "unsent": self.client.unsent().await?,
            "version": tern_version::VERSION,
        }))
    }

    async fn begin_send(&self, send: Send, deadline: Instant) -> Result<Sending, Failure> {
        let who = who(send.chat, send.phone.clone())?;
        let mut message = send.into_message()?;
        if message.body.len() > TEXT_BYTES_MAX {
            let why = format!("too long: a message has at most {TEXT_BYTES_MAX} bytes");
            return Err(Failure::Params(why));
        }
        if !matches!(message.key.as_deref().map_or(1, str::len), 1..=KEY_BYTES_MAX) {
            return Err(Failure::Params(format!("a key has 1 to {KEY_BYTES_MAX} bytes")));
        }
        message.chat = self.find(&who, deadline).await?;
        if let Some(story) = message.envelope.story.as_mut().filter(|story| story.user_id == 0) {
            story.user_id = message.chat;
        }
        let kept = self.why(self.client.keep_message(message.clone()).await).await?;
        Ok(Sending { who, message, kept })
    }

    /// A message as it stands: as this profile has it, or as the server tells.
    async fn message(&self, who: &Who, seq: u64) -> Result<Value, Failure> {
        let chat = match who {
            Who::User(chat) => *chat,
            who @ Who::Phone(_) => self.person(who).await?.user_id,
        };
        let standing = match self.client.standing(chat, seq).await? {
            Some(standing) => standing,
            None => self.told_standing(chat, seq).await?,
        };
        let mut found = talk::standing_json(&standing);
        found["chat"] = chat.into();
        Ok(found)
    }

    /// What the server tells of a message: itself, and its newest edit.
    async fn told_standing(&self, chat: u64, seq: u64) -> Result<Standing, Failure> {
        let none = || Failure::Params(format!("there is no message {seq} in that chat"));
        let at = async |seq: u64| {
            let page = self.why(self.client.history(chat, seq.saturating_sub(1), true, 1).await).await?;
            Ok::<_, Failure>(page.messages.into_iter().find(|message| message.seq == seq))
        };
        let message = at(seq).await?.filter(|message| message.kind.is_message()).ok_or_else(none)?;
        let mut standing = Standing::new(message);
        if standing.message.edited_by > 0
            && let Some(edit) = at(standing.message.edited_by).await?
        {
            standing.take(&edit);
        }
        Ok(standing)
    }

    /// Finds the person. One whom this profile does not know is asked for; that needs a connection, and has to be in time.
    async fn find(&self, who: &Who, deadline: Instant) -> Result<u64, Failure> {
        let phone = match who {
            Who::User(id) => return Ok(*id),
            Who::Phone(phone) => phone,
        };
        if let Ok(person) = timeout_at(deadline, self.person(who)).await {
            return Ok(person?.user_id);
        }
        match self.client.known_phone(phone).await? {
            Some(person) => Ok(person.user_id),
            None => {
                let why = format!("it did not say in time who {who} is: the message is not kept");
                Err(Error::Offline { server: self.server.clone(), why }.into())
            }
        }
    }

    async fn wait_for(&self, sending: Sending, deadline: Instant) -> Result<Value, Failure> {
        let Sending { who, mut message, mut kept } = sending;
        let mut moved = false;
        loop {
            let chat = message.chat;
            let sent = match timeout_at(deadline, kept.sent()).await {
                // Without a client it is kept all the same, unless its session has ended.
                Err(_) | Ok(Err(Error::Closed)) => return Ok(self.queued(chat)),
                Ok(sent) => sent,
            };
            match sent {
                Ok(sent) if moved => {
                    return Ok(
                        json!({ "chat": chat, "seq": sent.seq, "time_ms": sent.time_ms, "moved": true }),
                    );
                }
                Ok(sent) => return Ok(json!({ "chat": chat, "seq": sent.seq, "time_ms": sent.time_ms })),
                // Whoever had this phone has no account any more. Somebody may have it now.
                Err(Error::Refused { reason: Reason::UnknownUser, .. })
                    if matches!(who, Who::Phone(_)) && !moved =>
                {
                    let now = self.find(&who, deadline).await?;
                    if now == chat {
                        return Err(Error::Config(format!("{who} does not take messages")).into());
                    }
                    (message.chat, moved) = (now, true);
                    kept = self.why(self.client.keep_message(message.clone()).await).await?;
                }
                Err(error) => return self.why(Err(error)).await,
            }
        }
    }

    /// The message is kept; with what is known of the connection.
    fn queued(&self, chat: u64) -> Value {
        let why = match self.client.status() {
            Status::Lost { why, .. } => Some(shown::clean_line(&why)),
            _ => self.client.delayed(chat).map(|(reason, retry_in)| shown::delayed(reason, retry_in)),
        };
        json!({ "chat": chat, "queued": true, "why": why })
    }

    async fn history(&self, history: History) -> Result<Value, Failure> {
        let History { chat, phone, before, after, limit } = history;
        let (from, forwards) = match (before, after) {
            (Some(_), Some(_)) => return Err(Failure::Params("either before or after".to_owned())),
            (before, None) => (before.unwrap_or(0), false),
            (None, Some(after)) => (after, true),
        };
        let chat = self.person(&who(chat, phone)?).await?;
        let limit = limit.unwrap_or(HISTORY_LIMIT);
        let page = self.client.history(chat.user_id, from, forwards, limit).await;
        let mut page = self.why(page).await?;
        let hidden = self.client.hidden(chat.user_id).await?;
        page.messages.retain(|message| message.kind != Kind::Withheld && !hidden.has(message.seq));
        let gone = self.client.gone(chat.user_id, GONE_MAX).await?;
        let gone = shown::beside(&page, from, forwards, gone);
        Ok(shown::page_json(&chat, &page, &gone))
    }

    async fn chats(&self, known: BTreeMap<u64, u64>) -> Result<Value, Failure> {
        let (mut chats, mut next) = (Vec::new(), Some(0));
        while let Some(after) = next {
            let page = self.why(self.client.chats_page(after, &known).await).await?;
            chats.extend(page.chats);
            next = page.next.filter(|next| *next > after);
        }
        chats.sort_by_key(|chat| std::cmp::Reverse(chat.last.as_ref().map_or(0, |last| last.time_ms)));
        Ok(json!({ "chats": chats.iter().map(shown::chat_json).collect::<Vec<_>>() }))
    }

    async fn read(&self, read: Read) -> Result<Value, Failure> {
        let Read { chat, phone, upto } = read;
        let chat = match who(chat, phone)? {
            Who::User(chat) => chat,
            who @ Who::Phone(_) => self.person(&who).await?.user_id,
        };
        let upto = match upto {
            Some(upto) => upto,
            None => self.why(self.client.history(chat, 0, false, 1).await).await?.head,
        };
        self.why(self.client.tell_read(chat, upto).await).await?;
        Ok(json!({ "chat": chat, "read_upto": upto }))
    }

    pub async fn devices(&self) -> Result<Value, Failure> {
        let this = self.client.account().device_id;
        let (devices, has_pin) = self.why(self.client.devices().await).await?;
        let device = |device: &tern_client::Device| {
            json!({
                "device_id": device.device_id, "device_name": device.device_name, "created_ms": device.created_ms,
                "seen_ms": device.seen_ms, "connected": device.connected, "this": device.device_id == this,
            })
        };
        let devices: Vec<_> = devices.iter().map(device).collect();
        Ok(json!({ "devices": devices, "has_pin": has_pin }))
    }
}

/// A message that is kept.
struct Sending {
    who: Who,
    message: NewMessage,
    kept: Kept,
}
