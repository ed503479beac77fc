//! Everything that the server has of an account, in one archive: as a command, and as the method that it asks.
//!
//! The archive is a ZIP file: `index.html` says what is in it and links to the rest, which is JSON, or lines of it, in the shapes of
//! docs/CLIENT.md. It is written beside its place, and comes there whole.

mod index;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use index::{Index, Listed};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tern_client::{Chat, Error, Kind, Message, PRIVATE, Reason, is_group};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::asker::Asker;
use crate::commands::{self, not_possible, not_sent, print_lines, say};
use crate::methods::{Failure, Session};
use crate::profile::ProfileArgs;
use crate::{shown, stories};

/// Messages of a page of history.
const PAGE: u32 = 256;

/// How long a server that has too much to do, or says that one asks too often, is waited for if it does not say.
const WAIT: Duration = Duration::from_secs(1);

/// Write everything that the server has of one's account into one archive
#[derive(Args)]
pub struct ExportArgs {
    /// Where to: a ZIP file that is not there yet
    file: PathBuf,
    /// Put it in the place of one that is
    #[arg(long)]
    force: bool,
}

/// Writes the archive, and says what is in it.
pub async fn run(profile: &ProfileArgs, export: ExportArgs, json: bool) -> commands::Done {
    let ExportArgs { file, force } = export;
    // Another process may write it, from another directory.
    let file =
        std::path::absolute(&file).map_err(|error| not_possible(format!("{}: {error}", file.display())))?;
    let mut asker = Asker::open(profile).await?;
    let written = asker.call("export", json!({ "file": file, "force": force })).await;
    asker.close(|event| say(&not_sent(event))).await;
    print_lines(&written?, json, lines);
    Ok(ExitCode::SUCCESS)
}

fn lines(written: &Value) -> Vec<String> {
    let file = written["file"].as_str().unwrap_or_default();
    let mut lines = vec![format!(
        "{} messages of {} chats are in {file}, {} bytes",
        written["messages"], written["chats"], written["bytes"]
    )];
    for chat in commands::items(written, "unreadable") {
        lines.push(format!("the server can't read the chat with @{chat} now: it is not among them"));
    }
    lines
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Export {
    file: PathBuf,
    #[serde(default)]
    force: bool,
}

impl Session {
    /// Writes everything into an archive.
    pub async fn export(&self, export: Export) -> Result<Value, Failure> {
        let Export { file, force } = export;
        let failed = |error: io::Error| not_possible(format!("{}: {error}", file.display()));
        if !force && file.exists() {
            return Err(not_possible(format!("{} is there already", file.display())));
        }
        let part = Part::new(&file).map_err(failed)?;
        let mut archive = Archive::new(part.file.try_clone().map_err(failed)?);
        let index = self.export_all(&mut archive).await?;
        archive.end(&index).map_err(failed)?;
        let bytes = part.comes(&file).map_err(failed)?;
        Ok(json!({
            "file": file, "bytes": bytes, "chats": index.chats.len(), "messages": index.messages(),
            "unreadable": index.unreadable,
        }))
    }

    async fn export_all(&self, archive: &mut Archive) -> Result<Index, Failure> {
        let own = json!({ "chat": self.client.account().user_id });
        let mut account = json!({
            "account": self.whoami().await?,
            "shown": self.people("profile", own).await?,
            "devices": self.devices().await?,
            "privacy": self.people("privacy", Value::Null).await?,
        });
        // Where this profile lies on this machine is no matter of the account.
        account["account"]["profile"] = Value::Null;
        archive.json("account.json", &account)?;
        for (of, all) in [
            ("contacts", self.people("contacts", Value::Null).await?),
            ("blocked", self.people("blocked", Value::Null).await?),
            ("starred", self.own("starred", Value::Null).await?),
            ("scheduled", self.later("scheduled", Value::Null).await?),
        ] {
            archive.lines(&format!("{of}.jsonl"), commands::items(&all, of))?;
        }
        archive.lines("stories.jsonl", &self.all_stories().await?)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut index = Index::new(&account, now.as_millis() as u64);
        let chats = loop {
            if let Some(chats) = self.unless_busy(self.client.chats().await).await? {
                break chats;
            }
        };
        let mut listed = Vec::with_capacity(chats.len());
        for chat in &chats {
            listed.push(self.chat_of_export(chat).await?);
        }
        archive.lines("chats.jsonl", &listed)?;
        let mut media = Vec::new();
        for chat in &chats {
            if chat.unavailable {
                index.unreadable.push(chat.person.user_id);
                continue;
            }
            let name = shown::name_of(&chat.person);
            let of_chat = self.export_log(archive, chat.person.user_id, &mut media).await?;
            index.chats.push(of_chat.named(name));
        }
        archive.lines("media.jsonl", &media)?;
        index.own = Some(self.export_log(archive, PRIVATE, &mut media).await?);
        Ok(index)
    }

    /// The stories that are there, one's own and those that one may see.
    async fn all_stories(&self) -> Result<Vec<Value>, Failure> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = self.client.stories(after, 0).await;
            let Some((stories, next)) = self.unless_busy(page).await? else { continue };
            all.extend(stories.iter().map(stories::story_json));
            after = next;
            if after.is_none() {
                return Ok(all);
            }
        }
    }

    /// A chat at a glance; of a group also what its members may know of it.
    async fn chat_of_export(&self, chat: &Chat) -> Result<Value, Failure> {
        let mut listed = shown::chat_json(chat);
        if is_group(chat.person.user_id) && !chat.left && !chat.unavailable {
            let group = loop {
                match self.unless_busy(self.client.group(chat.person.user_id).await).await {
                    Ok(None) => {}
                    Ok(group) => break group,
                    // One may be out of it since the list was made.
                    Err(Failure::Error(Error::Refused { .. })) => break None,
                    Err(failure) => return Err(failure),
                }
            };
            listed["group"] = group.map_or(Value::Null, |group| shown::group_json(&group, &BTreeMap::new()));
        }
        Ok(listed)
    }

    /// All messages of a chat that one may see, from its beginning on, and those among them that are media.
    async fn export_log(
        &self,
        archive: &mut Archive,
        chat: u64,
        media: &mut Vec<Value>,
    ) -> Result<Listed, Failure> {
        let hidden = self.client.hidden(chat).await?;
        let file = match chat {
            PRIVATE => "private.jsonl".to_owned(),
            chat => format!("messages/{chat}.jsonl"),
        };
        let mut listed = Listed::of(file);
        archive.begin(&listed.file)?;
        let mut after = 0;
        loop {
            let page = self.client.history(chat, after, true, PAGE).await;
            let Some(page) = self.unless_busy(page).await? else { continue };
            for message in &page.messages {
                let mut shown = shown::message_json(message);
                if hidden.has(message.seq) {
                    shown.insert("hidden".into(), true.into());
                }
                if message.kind == Kind::Media {
                    media.push(reference(chat, message, &shown));
                }
                listed.add(message);
                archive.line(&shown.into())?;
            }
            match page.messages.last() {
                Some(last) if page.more && last.seq > after => after = last.seq,
                _ => return Ok(listed),
            }
        }
    }

    /// What was answered. `None`: the server has no time for it now, or was asked too often, and that is over.
    async fn unless_busy<T>(&self, answered: Result<T, Error>) -> Result<Option<T>, Failure> {
        match answered {
            Err(Error::Refused {
                reason: Reason::RateLimited | Reason::Overloaded, retry_after_ms, ..
            }) => {
                let wait = Duration::from_millis(retry_after_ms.into());
                tokio::time::sleep(if wait.is_zero() { WAIT } else { wait }).await;
                Ok(None)
            }
            answered => self.why(answered).await.map(Some),
        }
    }
}

/// What is said of a medium, and where.
fn reference(chat: u64, message: &Message, shown: &Map<String, Value>) -> Value {
    json!({ "chat": chat, "seq": message.seq, "time_ms": message.time_ms, "media": shown.get("media") })
}

/// The archive as it is written: beside its place. If it does not come there, nothing is left of it.
struct Part {
    file: File,
    path: Option<PathBuf>,
}

impl Part {
    fn new(file: &Path) -> io::Result<Self> {
        let mut name = file.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let path = file.with_file_name(name);
        // It is everything that somebody has said: nobody else reads it.
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Self { file, path: Some(path) })
    }

    /// Puts it in its place, and says how long it is.
    fn comes(mut self, place: &Path) -> io::Result<u64> {
        self.file.sync_all()?;
        if let Some(path) = &self.path {
            fs::rename(path, place)?;
        }
        self.path = None;
        Ok(self.file.metadata()?.len())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // It may have gone.
            let _ = fs::remove_file(path);
        }
    }
}

/// Files in a ZIP file, one after the other.
struct Archive {
    zip: ZipWriter<BufWriter<File>>,
}

impl Archive {
    fn new(file: File) -> Self {
        Self { zip: ZipWriter::new(BufWriter::new(file)) }
    }

    /// What is written from here on is in this file.
    fn begin(&mut self, name: &str) -> Result<(), Failure> {
        // A chat may be longer than 4 GiB.
        let options = SimpleFileOptions::default().large_file(true).unix_permissions(0o600);
        self.zip.start_file(name, options).map_err(|error| not_possible(format!("{name}: {error}")))
    }

    fn write(&mut self, text: &str) -> Result<(), Failure> {
        self.zip.write_all(text.as_bytes()).map_err(|error| not_possible(error.to_string()))
    }

    fn line(&mut self, value: &Value) -> Result<(), Failure> {
        self.write(&format!("{value}\n"))
    }

    fn lines(&mut self, name: &str, values: &[Value]) -> Result<(), Failure> {
        self.begin(name)?;
        values.iter().try_for_each(|value| self.line(value))
    }

    fn json(&mut self, name: &str, value: &Value) -> Result<(), Failure> {
        self.begin(name)?;
        self.write(&format!("{value:#}\n"))
    }

    fn end(mut self, index: &Index) -> io::Result<()> {
        let options = SimpleFileOptions::default().unix_permissions(0o600);
        self.zip.start_file("index.html", options)?;
        self.zip.write_all(index.html().as_bytes())?;
        self.zip.finish()?.flush()
    }
}
