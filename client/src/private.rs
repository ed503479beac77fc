//! What one tells one's own devices: how one has a chat, stars, what is hidden, drafts, settings. Entries of the private log, of which the
//! newest of a key counts.

use prost::Message as _;
use tern_proto::v1::{self, private::What};
use tern_wire::errors::Reason;
use tern_wire::ids::PRIVATE;

use crate::client::{Client, Kept, Sent};
use crate::error::Error;
use crate::machine::Tables as _;
use crate::message::{Envelope, Kind, NewMessage, media_of, to_wire};
use crate::people::{Contact, Privacy, contact_key};
use crate::store::Store;
use crate::stories::StoryId;

/// Something that one tells one's own devices.
#[derive(Clone, PartialEq)]
pub enum Private {
    /// How one has a chat.
    Chat(u64, ChatSettings),
    /// Whether a message of a chat is starred.
    Star(u64, u64, bool),
    /// Messages of a chat are deleted for oneself: these, and all up to a seq.
    Hidden(u64, Vec<u64>, u64),
    /// What one is writing in a chat, and the message that it replies to (0: none). Empty: nothing.
    Draft(u64, Vec<u8>, u64),
    /// People whom one knows, or does not any more.
    Contacts(Vec<Contact>),
    /// Somebody is blocked, or is not any more.
    Blocked(u64, bool),
    /// What others may see of one, and do.
    Privacy(Privacy),
    /// One does not care for somebody's stories, or does again.
    StoriesMuted(u64, bool),
    /// A setting of one's clients: name and value.
    Setting(String, Vec<u8>),
    /// A message that the server is to send at a time, in ms since the Unix epoch.
    Scheduled(u64, NewMessage),
    /// Nothing is to be sent any more of what it replaces.
    TakenBack,
    /// What has become of a message that was scheduled: the server says so.
    Dispatched(Dispatched),
}

/// What has become of a message that was scheduled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dispatched {
    /// To which chat it was.
    pub chat: u64,
    /// Where it stands there, and when the server committed it; or why it was not sent, for good.
    pub sent: Result<(u64, u64), Reason>,
}

/// A message that is to be sent later.
#[derive(Clone, PartialEq, Debug)]
pub struct Scheduled {
    /// The place in the private log of what says so: by it the message is taken back.
    pub seq: u64,
    /// When, in ms since the Unix epoch.
    pub at_ms: u64,
    /// What, and to which chat.
    pub message: NewMessage,
}

/// How one has a chat.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ChatSettings {
    /// It is put aside.
    pub archived: bool,
    /// Nothing is made known of it before this, in ms since the Unix epoch; [`FOR_EVER_MS`]: never.
    pub muted_until_ms: u64,
    /// One wants to see it as unread, though it is read.
    pub marked_unread: bool,
    /// It stands above others.
    pub on_top: bool,
    /// What is made known of it.
    pub notify: Notify,
}

/// No end.
pub const FOR_EVER_MS: u64 = tern_wire::limits::NUMBERS_END - 1;

/// What is made known of a chat.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Notify {
    /// Everything.
    #[default]
    All,
    /// What mentions one.
    Mentions,
    /// Nothing.
    None,
}

/// Shows no content.
impl std::fmt::Debug for Private {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Chat(chat, settings) => write!(f, "Chat({chat}, {settings:?})"),
            Self::Star(chat, seq, on) => write!(f, "Star({chat}, {seq}, {on})"),
            Self::Hidden(chat, seqs, upto) => write!(f, "Hidden({chat}, {} seqs, upto {upto})", seqs.len()),
            Self::Draft(chat, text, _) => write!(f, "Draft({chat}, {} bytes)", text.len()),
            Self::Contacts(contacts) => write!(f, "Contacts({})", contacts.len()),
            Self::Blocked(user, is_blocked) => write!(f, "Blocked({user}, {is_blocked})"),
            Self::StoriesMuted(user, is_muted) => write!(f, "StoriesMuted({user}, {is_muted})"),
            Self::Privacy(privacy) => privacy.fmt(f),
            Self::Setting(_, value) => write!(f, "Setting({} bytes)", value.len()),
            Self::Scheduled(at_ms, message) => write!(f, "Scheduled({at_ms}, {message:?})"),
            Self::TakenBack => write!(f, "TakenBack"),
            Self::Dispatched(dispatched) => dispatched.fmt(f),
        }
    }
}

impl ChatSettings {
    pub(crate) fn of_wire(raw: v1::ChatSettings) -> Self {
        let v1::ChatSettings { archived, muted_until_ms, marked_unread, on_top, .. } = raw;
        let notify = match raw.notify() {
            v1::Notify::All => Notify::All,
            v1::Notify::Mentions => Notify::Mentions,
            v1::Notify::None => Notify::None,
        };
        Self { archived, muted_until_ms, marked_unread, on_top, notify }
    }

    fn to_wire(self, chat: u64) -> v1::ChatSettings {
        let Self { archived, muted_until_ms, marked_unread, on_top, notify } = self;
        let notify = match notify {
            Notify::All => v1::Notify::All,
            Notify::Mentions => v1::Notify::Mentions,
            Notify::None => v1::Notify::None,
        };
        let notify = notify.into();
        v1::ChatSettings { chat, archived, muted_until_ms, marked_unread, on_top, notify }
    }
}

impl Private {
    /// What a body says; `None` if this version does not know it.
    pub(crate) fn of_body(body: &[u8]) -> Option<Self> {
        Some(match v1::Private::decode(body).ok()?.what? {
            What::Chat(raw) => Self::Chat(raw.chat, ChatSettings::of_wire(raw)),
            What::Star(star) => Self::Star(star.chat, star.seq, !star.off),
            What::Hidden(hidden) => Self::Hidden(hidden.chat, hidden.seqs, hidden.upto),
            What::Draft(draft) => Self::Draft(draft.chat, draft.text.into(), draft.about),
            What::Setting(setting) => Self::Setting(setting.name, setting.value.into()),
            What::Contacts(raw) => Self::Contacts(raw.contacts.into_iter().map(Contact::of_wire).collect()),
            What::Blocked(blocked) => Self::Blocked(blocked.user_id, !blocked.off),
            What::Privacy(raw) => Self::Privacy(Privacy::of_wire(raw)),
            What::StoriesMuted(muted) => Self::StoriesMuted(muted.user_id, !muted.off),
            What::Scheduled(v1::Scheduled { at_ms, send: Some(send) }) => {
                Self::Scheduled(at_ms, new_message(send))
            }
            What::Scheduled(_) => Self::TakenBack,
            What::Dispatched(dispatched) => Self::Dispatched(Dispatched {
                chat: dispatched.chat,
                sent: match dispatched.seq {
                    0 => Err(dispatched.reason()),
                    seq => Ok((seq, dispatched.time_ms)),
                },
            }),
        })
    }

    /// As the body of a message.
    pub fn to_body(&self) -> Vec<u8> {
        let what = match self.clone() {
            Self::Chat(chat, settings) => What::Chat(settings.to_wire(chat)),
            Self::Star(chat, seq, on) => What::Star(v1::Star { chat, seq, off: !on }),
            Self::Hidden(chat, seqs, upto) => What::Hidden(v1::Hidden { chat, seqs, upto }),
            Self::Draft(chat, text, about) => What::Draft(v1::Draft { chat, text: text.into(), about }),
            Self::Setting(name, value) => What::Setting(v1::ClientSetting { name, value: value.into() }),
            Self::Contacts(contacts) => {
                let contacts = contacts.into_iter().map(Contact::into_wire).collect();
                What::Contacts(v1::Contacts { contacts })
            }
            Self::Blocked(user_id, is_blocked) => What::Blocked(v1::Blocked { user_id, off: !is_blocked }),
            Self::Privacy(privacy) => What::Privacy(privacy.to_wire()),
            Self::StoriesMuted(user_id, is_muted) => {
                What::StoriesMuted(v1::StoriesMuted { user_id, off: !is_muted })
            }
            Self::Scheduled(at_ms, message) => {
                What::Scheduled(v1::Scheduled { at_ms, send: Some(send_of(message)) })
            }
            Self::TakenBack => What::Scheduled(v1::Scheduled::default()),
            // No server takes one from a client.
            Self::Dispatched(Dispatched { chat, .. }) => {
                What::Dispatched(v1::Dispatched { chat, ..Default::default() })
            }
        };
        v1::Private { what: Some(what) }.encode_to_vec()
    }

    /// The same for all that it says.
    pub(crate) fn keys(&self, seq: u64) -> Vec<String> {
        match self {
            Self::Contacts(contacts) => contacts.iter().map(|contact| contact_key(contact.user_id)).collect(),
            other => vec![other.key(seq)],
        }
    }

    /// Of those with the same key the newest counts. What is hidden adds up: each has a key of its own, by its place.
    pub(crate) fn key(&self, seq: u64) -> String {
        match self {
            // What names several replaces none.
            Self::Contacts(_) => "contacts".to_owned(),
            Self::Blocked(user, _) => format!("blocked {user}"),
            Self::Privacy(_) => "privacy".to_owned(),
            Self::StoriesMuted(user, _) => format!("stories {user}"),
            Self::Chat(chat, _) => format!("chat {chat}"),
            Self::Star(chat, message, _) => format!("star {chat} {message}"),
            Self::Hidden(chat, ..) => format!("hidden {chat} {seq}"),
            Self::Draft(chat, ..) => format!("draft {chat}"),
            Self::Setting(name, _) => format!("setting {name}"),
            Self::Scheduled(..) => format!("scheduled {seq}"),
            Self::TakenBack | Self::Dispatched(_) => "dispatched".to_owned(),
        }
    }
}

fn new_message(send: v1::Send) -> NewMessage {
    let v1::Send { chat, body, kind, about, forwards, mentions, media, story, .. } = send;
    let story = story.and_then(StoryId::of_wire);
    let envelope = Envelope { about, forwards, mentions, media: media_of(&media), story };
    NewMessage { chat, kind: kind.into(), body: body.into(), envelope, key: None }
}

fn send_of(message: NewMessage) -> v1::Send {
    let NewMessage { chat, kind, body, envelope, key: _ } = message;
    let Envelope { about, forwards, mentions, media, story } = envelope;
    let (media, story) = (to_wire(&media), story.map(StoryId::to_wire));
    v1::Send {
        chat,
        body: body.into(),
        kind: kind.number(),
        about,
        forwards,
        mentions,
        media,
        story,
        ..Default::default()
    }
}

impl Client {
    /// Tells something to one's own devices, this one too, and waits until it is durable. What it replaces is erased.
    pub async fn tell_own(&self, private: &Private) -> Result<Sent, Error> {
        self.keep_own(private).await?.sent().await
    }

    /// The same, and comes back as soon as it is kept: it is sent when there is a connection.
    pub async fn keep_own(&self, private: &Private) -> Result<Kept, Error> {
        let (key, body) = (private.key(0), private.to_body());
        let replaces = match private {
            Private::Hidden(..)
            | Private::Contacts(_)
            | Private::Scheduled(..)
            | Private::TakenBack
            | Private::Dispatched(_) => 0,
            _ => self.local(move |store| store.private_seq(&key)).await?.unwrap_or(0),
        };
        self.keep_instead(replaces, body).await
    }

    /// Tells something in place of an entry of the private log; 0: of none.
    async fn tell_instead(&self, replaces: u64, body: Vec<u8>) -> Result<Sent, Error> {
        self.keep_instead(replaces, body).await?.sent().await
    }

    async fn keep_instead(&self, replaces: u64, body: Vec<u8>) -> Result<Kept, Error> {
        let envelope = Envelope::about(replaces);
        self.keep_message(NewMessage { chat: PRIVATE, kind: Kind::Private, body, envelope, key: None }).await
    }

    /// Has the server send a message at a time, in ms since the Unix epoch, wherever this device is then. Gives the place of that in the
    /// private log. `instead`: of one that was scheduled before; 0: of none.
    pub async fn schedule(&self, at_ms: u64, message: NewMessage, instead: u64) -> Result<Sent, Error> {
        self.tell_instead(instead, Private::Scheduled(at_ms, message).to_body()).await
    }

    /// Takes back a message that is scheduled, by its place in the private log.
    pub async fn unschedule(&self, seq: u64) -> Result<Sent, Error> {
        self.tell_instead(seq, Private::TakenBack.to_body()).await
    }

    /// The messages that are scheduled, the next one first, as far as this profile has heard.
    pub async fn scheduled(&self) -> Result<Vec<Scheduled>, Error> {
        let mut scheduled = self.local(|store| store.scheduled()).await?;
        scheduled.sort_by_key(|scheduled| (scheduled.at_ms, scheduled.seq));
        Ok(scheduled)
    }

    /// How one has a chat, as far as this profile has heard.
    pub async fn chat_settings(&self, chat: u64) -> Result<ChatSettings, Error> {
        let found = self.local(move |store| store.private_of(&format!("chat {chat}"))).await?;
        Ok(match found {
            Some(Private::Chat(_, settings)) => settings,
            _ => ChatSettings::default(),
        })
    }

    /// The messages that are starred, by chat and seq, as far as this profile has heard.
    pub async fn starred(&self) -> Result<Vec<(u64, u64)>, Error> {
        let all = self.local(|store| store.all_private("star ")).await?;
        let on = all.into_iter().filter_map(|private| match private {
            Private::Star(chat, seq, true) => Some((chat, seq)),
            _ => None,
        });
        let mut starred: Vec<_> = on.collect();
        starred.sort_unstable();
        Ok(starred)
    }

    /// The messages of a chat that are deleted for oneself, as far as this profile has heard.
    pub async fn hidden(&self, chat: u64) -> Result<Hidden, Error> {
        self.local(move |store| store.hidden(chat)).await
    }

    /// What one is writing in a chat, on whichever device, as far as this profile has heard; empty if nothing.
    pub async fn told_draft(&self, chat: u64) -> Result<String, Error> {
        let key = format!("draft {chat}");
        Ok(match self.local(move |store| store.private_of(&key)).await? {
            Some(Private::Draft(_, text, _)) => String::from_utf8_lossy(&text).into_owned(),
            _ => String::new(),
        })
    }

    /// A setting of one's clients, as far as this profile has heard.
    pub async fn client_setting(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let key = format!("setting {name}");
        Ok(match self.local(move |store| store.private_of(&key)).await? {
            Some(Private::Setting(_, value)) => Some(value),
            _ => None,
        })
    }
}

impl Store {
    /// What counts of a key.
    pub(crate) fn private_of(&self, key: &str) -> Result<Option<Private>, Error> {
        let Some(seq) = self.private_seq(key)? else { return Ok(None) };
        let entry = self.entry(PRIVATE, seq)?;
        Ok(entry.and_then(|entry| Private::of_body(&entry.body)))
    }

    /// What counts of each key that begins so.
    pub(crate) fn all_private(&self, prefix: &str) -> Result<Vec<Private>, Error> {
        let mut all = Vec::new();
        for seq in self.private_seqs(prefix)? {
            all.extend(self.entry(PRIVATE, seq)?.and_then(|entry| Private::of_body(&entry.body)));
        }
        Ok(all)
    }

    fn scheduled(&self) -> Result<Vec<Scheduled>, Error> {
        let mut all = Vec::new();
        for seq in self.private_seqs("scheduled ")? {
            let said = self.entry(PRIVATE, seq)?.and_then(|entry| Private::of_body(&entry.body));
            if let Some(Private::Scheduled(at_ms, message)) = said {
                all.push(Scheduled { seq, at_ms, message });
            }
        }
        Ok(all)
    }

    /// Whether a message of a chat is hidden, by what this profile has heard.
    pub fn hidden(&self, chat: u64) -> Result<Hidden, Error> {
        let mut hidden = Hidden::default();
        for private in self.all_private(&format!("hidden {chat} "))? {
            if let Private::Hidden(_, seqs, upto) = private {
                hidden.add(seqs, upto);
            }
        }
        Ok(hidden)
    }
}

/// The messages of a chat that are deleted for oneself.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Hidden {
    seqs: std::collections::BTreeSet<u64>,
    upto: u64,
}

impl Hidden {
    /// These are, too, and all up to a seq.
    pub fn add(&mut self, seqs: Vec<u64>, upto: u64) {
        self.seqs.extend(seqs);
        self.upto = self.upto.max(upto);
    }

    /// Whether a message is.
    pub fn has(&self, seq: u64) -> bool {
        seq <= self.upto || self.seqs.contains(&seq)
    }
}
