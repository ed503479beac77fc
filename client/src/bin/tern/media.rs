//! Files that go with messages: uploaded, sent and saved.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf, absolute};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tern_client::body::Media;
use tern_client::{Kind, Looks, MediaId, Message, PICTURE, Progress, type_of};

use crate::asker::Asker;
use crate::commands::{self, not_possible, not_sent, say};
use crate::methods::{Failure, Session, parse, who};
use crate::profile::ProfileArgs;
use crate::shown::{clean_line, hex};
use crate::who::Who;

/// How often a bar is drawn anew, at most.
const DRAWN_EVERY: Duration = Duration::from_millis(100);

/// Its width.
const BAR: usize = 30;

/// What is told of how far something is.
pub type Tell = Arc<dyn Fn(Progress) + Send + Sync>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Upload {
    /// From the root on: the process that has the profile stands elsewhere.
    path: PathBuf,
    #[serde(rename = "type")]
    of: Option<String>,
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Save {
    chat: Option<u64>,
    phone: Option<String>,
    /// Of the message; without, it is the picture of the person, or of the group.
    seq: Option<u64>,
    /// A file that is not there, or a folder in which it gets its own name.
    path: PathBuf,
}

impl Session {
    /// The methods of media.
    pub async fn media(&self, method: &str, params: Value, tell: Tell) -> Result<Value, Failure> {
        match method {
            "upload" => self.upload(parse(params)?, tell).await,
            _ => self.save(parse(params)?, tell).await,
        }
    }

    async fn upload(&self, upload: Upload, tell: Tell) -> Result<Value, Failure> {
        let Upload { path, of, name } = upload;
        let named = |error| not_possible(format!("{}: {error}", path.display()));
        let own = || path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let of = match of {
            Some(of) => of,
            None => type_of(&path).map_err(named)?.ok_or_else(|| {
                not_possible(format!(
                    "{}: it is of no type that servers take; --type says which",
                    path.display()
                ))
            })?,
        };
        let uploaded = self.client.upload(&path, &of, move |progress| tell(progress)).await;
        let uploaded = self.why(uploaded).await?;
        let mut told = json!({
            "medium": uploaded.id.to_string(), "type": of, "name": name.unwrap_or_else(own), "bytes": uploaded.bytes,
            "sha256": hex(&uploaded.sha256),
        });
        // What nobody has looked at is sent all the same.
        if let Ok(Some(looks)) = self.client.looks(uploaded.id).await {
            told["looks"] = looks_json(&looks);
        }
        Ok(told)
    }

    async fn save(&self, save: Save, tell: Tell) -> Result<Value, Failure> {
        let Save { chat, phone, seq, path } = save;
        let chat = self.person(&who(chat, phone)?).await?.user_id;
        let Some(seq) = seq else { return self.save_picture(chat, path, tell).await };
        let page = self.why(self.client.history(chat, seq.saturating_sub(1), true, 1).await).await?;
        let message = page.messages.into_iter().find(|message| message.seq == seq);
        let none = || Failure::Params(format!("there is no message {seq} in that chat"));
        let message = message.ok_or_else(none)?;
        if message.erased {
            return Err(not_possible(format!("message {seq} was deleted, or its time has come")));
        }
        let medium =
            *message.envelope.media.first().ok_or_else(|| {
                Failure::Params(format!("nothing goes with message {seq} that could be saved"))
            })?;
        let about = message.body_as::<Media>().filter(|_| message.kind == Kind::Media).unwrap_or_default();
        let path = if path.is_dir() { path.join(file_name(&about, &message)) } else { path };
        let sha256 = about.sha256[..].try_into().ok();
        let saved =
            self.client.save_medium((chat, seq, medium), &path, sha256, move |progress| tell(progress));
        let bytes = self.why(saved.await).await?;
        Ok(json!({ "chat": chat, "seq": seq, "path": path, "bytes": bytes }))
    }

    async fn save_picture(&self, chat: u64, path: PathBuf, tell: Tell) -> Result<Value, Failure> {
        let medium = self.why(self.client.picture(chat).await).await?;
        let medium = medium.ok_or_else(|| not_possible("there is no picture that one may see".to_owned()))?;
        let path = if path.is_dir() { path.join(format!("picture-{chat}")) } else { path };
        let place = (chat, PICTURE, medium);
        let saved = self.client.save_medium(place, &path, None, move |progress| tell(progress));
        let bytes = self.why(saved.await).await?;
        Ok(json!({ "chat": chat, "seq": PICTURE, "path": path, "bytes": bytes }))
    }
}

/// The medium of this name that is to be a picture; empty: none.
pub fn picture_of(name: &str) -> Result<Option<MediaId>, Failure> {
    match name {
        "" => Ok(None),
        id => id
            .parse()
            .map(Some)
            .map_err(|_| Failure::Params("a medium is called as `upload` says".to_owned())),
    }
}

/// What is to be somebody's picture, or a group's, as the methods take it: this file, which is uploaded, or none any more. `None`: it stays.
pub async fn picture(
    profile: &ProfileArgs,
    file: Option<&Path>,
    is_none: bool,
) -> Result<Option<Value>, Failure> {
    Ok(match file {
        Some(file) => Some(upload(profile, file, None).await?["medium"].take()),
        None => is_none.then(|| "".into()),
    })
}

/// What is to be shown of a medium before it has come, as far as it is known.
fn looks_json(looks: &Looks) -> Value {
    let mut told = json!({});
    // The page of a document is not in pixels.
    let pixels = |side: u32| if looks.pages > 0 { 0 } else { side.into() };
    let numbers = [
        ("width", pixels(looks.width)),
        ("height", pixels(looks.height)),
        ("duration_ms", looks.duration_ms),
    ];
    for (name, number) in numbers.into_iter().filter(|(_, number)| *number > 0) {
        told[name] = number.into();
    }
    let texts = [("blur_hash", looks.blur_hash.clone()), ("waveform", hex(&looks.waveform))];
    for (name, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        told[name] = text.into();
    }
    told
}

/// What a file is called whose sender may have called it anything: its last part, without what no name should have.
fn file_name(about: &Media, message: &Message) -> String {
    let last = about.name.rsplit(['/', '\\', ':']).next().unwrap_or_default();
    let name: String = clean_line(last).chars().filter(|c| *c != char::REPLACEMENT_CHARACTER).collect();
    let name = name.trim().trim_start_matches('.');
    if name.is_empty() { format!("tern-{}", message.seq) } else { name.to_owned() }
}

/// A bar on the terminal, if somebody is there to see it.
fn bar(doing: &'static str) -> Tell {
    if !std::io::stderr().is_terminal() {
        return Arc::new(|_| {});
    }
    paced(move |progress| {
        let end = if progress.done == progress.all { "\n" } else { "" };
        // Whoever does not see it misses nothing else.
        let _ = write!(std::io::stderr(), "\r{}{end}", bar_text(doing, progress));
    })
}

/// Tells how far something is no more often than it can be seen, and its end in any case.
pub fn paced(tell: impl Fn(Progress) + Send + Sync + 'static) -> Tell {
    let told = std::sync::Mutex::new(None::<Instant>);
    Arc::new(move |progress| {
        let mut told = told.lock().expect("nothing panics while it holds this");
        if progress.done < progress.all && told.is_some_and(|told| told.elapsed() < DRAWN_EVERY) {
            return;
        }
        *told = Some(Instant::now());
        tell(progress);
    })
}

fn bar_text(doing: &str, Progress { done, all }: Progress) -> String {
    let full = (done * BAR as u64).checked_div(all).unwrap_or(BAR as u64).min(BAR as u64) as usize;
    let bar = "█".repeat(full) + &"·".repeat(BAR - full.min(BAR));
    format!("{doing} {bar} {} of {}", size(done), size(all))
}

/// So many bytes, as people say it.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["bytes", "kB", "MB", "GB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} bytes") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// Asks for something of media, and shows how far it is: as far as this process does it itself.
async fn ask(asker: &mut Asker, method: &str, params: Value, doing: &'static str) -> Result<Value, Failure> {
    match asker {
        Asker::Own { session, .. } => session.media(method, params, bar(doing)).await,
        Asker::Remote(_) => asker.call(method, params).await,
    }
}

/// Uploads a file, for a message that is to be sent. Gives what the message says of it.
pub async fn upload(profile: &ProfileArgs, file: &Path, of: Option<String>) -> Result<Value, Failure> {
    let path = absolute(file).map_err(|error| not_possible(format!("{}: {error}", file.display())))?;
    let mut params = Map::new();
    params.insert("path".into(), json!(path));
    params.extend(of.map(|of| ("type".to_owned(), of.into())));
    with_connection(profile, "upload", params.into(), "uploading").await
}

/// Saves what goes with a message, or, without its seq, the picture of who it is.
pub async fn save(
    profile: &ProfileArgs,
    who: &Who,
    seq: Option<u64>,
    to: &Path,
    json: bool,
) -> commands::Done {
    let path = absolute(to).map_err(|error| not_possible(format!("{}: {error}", to.display())))?;
    let mut params = who.params();
    params.extend(seq.map(|seq| ("seq".to_owned(), seq.into())));
    params.insert("path".into(), json!(path));
    let saved = with_connection(profile, "save", params.into(), "saving").await?;
    commands::print_lines(&saved, json, |saved| {
        let path = saved["path"].as_str().unwrap_or_default();
        vec![format!("{path}: {}", size(saved["bytes"].as_u64().unwrap_or_default()))]
    });
    Ok(std::process::ExitCode::SUCCESS)
}

async fn with_connection(
    profile: &ProfileArgs,
    method: &str,
    params: Value,
    doing: &'static str,
) -> Result<Value, Failure> {
    let mut asker = Asker::open(profile).await?;
    let connected = asker.connected().await;
    let result = match connected {
        Ok(()) => ask(&mut asker, method, params, doing).await,
        Err(error) => Err(error.into()),
    };
    asker.close(|event| say(&not_sent(event))).await;
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_never_called_so_that_it_lands_elsewhere() {
        let message = Message { seq: 7, ..Message::default() };
        let named = |name: &str| file_name(&Media { name: name.to_owned(), ..Media::default() }, &message);
        assert_eq!(named("cat.jpg"), "cat.jpg");
        assert_eq!(named("../../etc/passwd"), "passwd");
        assert_eq!(named("C:\\boot.ini"), "boot.ini");
        assert_eq!(named(".bashrc"), "bashrc");
        for empty in ["", "/", "..", ". ", "a/\u{1b}"] {
            assert_eq!(named(empty), "tern-7", "{empty:?}");
        }
    }

    #[test]
    fn a_bar_shows_how_far_it_is() {
        let bar = |done, all| bar_text("saving", Progress { done, all });
        assert_eq!(bar(0, 100), format!("saving {} 0 bytes of 100 bytes", "·".repeat(30)));
        assert_eq!(
            bar(50, 100),
            format!("saving {}{} 50 bytes of 100 bytes", "█".repeat(15), "·".repeat(15))
        );
        assert_eq!(bar(1_500_000, 1_500_000), format!("saving {} 1.5 MB of 1.5 MB", "█".repeat(30)));
        assert_eq!(bar(0, 0), format!("saving {} 0 bytes of 0 bytes", "█".repeat(30)));
    }
}
