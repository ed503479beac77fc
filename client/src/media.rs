//! Media: uploaded before the message that they go with is sent, and had by links that the server gives to whoever sees the message.
//!
//! Uploads are tus 1.0: one that is cut off goes on where the server has it, by itself, and so does a download.

mod http;
mod looks;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode, Uri};
use tern_proto::v1::{self, client_frame, server_frame};
use tern_wire::ids::MediaId;
use tokio::fs::File;
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};

use self::http::{Connection, Sending, piece, why};
pub use self::looks::Looks;
use crate::account::WRONG_KIND;
use crate::client::Client;
use crate::error::Error;
use crate::groups::is_group;

/// Bytes of a file by which its type is known.
const SNIFFED_BYTES: u64 = 8 << 10;

/// How often something that was cut off is tried again without having got on.
const TRIES: u32 = 6;

/// Places to which a link may lead, from one to the next.
const PLACES_MAX: usize = 4;

/// Before that, the first time; then twice as long, each time.
const AGAIN: Duration = Duration::from_millis(250);

/// In place of a message's seq: what is meant is the picture of who the chat is with, or of the group.
pub const PICTURE: u64 = 0;

/// What names a picture that is this medium, or none.
pub(crate) fn named_by(medium: Option<MediaId>) -> Vec<u8> {
    medium.map_or(Vec::new(), |medium| medium.as_bytes().to_vec())
}

/// How far something is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Progress {
    /// Bytes.
    pub done: u64,
    /// Of so many.
    pub all: u64,
}

/// What was uploaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Uploaded {
    /// What it is called, in messages that it goes with.
    pub id: MediaId,
    /// Its bytes.
    pub bytes: u64,
    /// The SHA-256 of them.
    pub sha256: [u8; 32],
}

/// The type of a file, as RFC 6838 names it: by how it begins, and of texts by what they are called. `None`: it is of none that servers take
/// without further ado.
pub fn type_of(file: &Path) -> io::Result<Option<String>> {
    let mut beginning = Vec::new();
    std::io::Read::read_to_end(
        &mut std::io::Read::take(std::fs::File::open(file)?, SNIFFED_BYTES),
        &mut beginning,
    )?;
    if let Some(found) = infer::get(&beginning) {
        return Ok(Some(found.mime_type().to_owned()));
    }
    let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    Ok(match &*extension.to_ascii_lowercase() {
        "txt" | "log" => Some("text/plain"),
        "csv" => Some("text/csv"),
        "md" => Some("text/markdown"),
        "vcf" => Some("text/vcard"),
        _ => None,
    }
    .map(str::to_owned))
}

/// What is told of how far something is, as it gets on.
type Tell = Arc<dyn Fn(Progress) + Send + Sync>;

impl Client {
    /// Uploads a file of this type (see [`type_of`]), which is not to change meanwhile. It is there for a day; with a message that it goes
    /// with, for as long as that.
    pub async fn upload(
        &self,
        file: &Path,
        of: &str,
        tell: impl Fn(Progress) + Send + Sync + 'static,
    ) -> Result<Uploaded, Error> {
        let (bytes, sha256) = digest_of(file.to_owned()).await?;
        let upload = Upload { client: self, file, bytes, tell: Arc::new(tell) };
        let path = upload.begin(of, &sha256).await?;
        let id = path.rsplit('/').next().and_then(|id| id.parse().ok());
        let id = id.ok_or(Error::Protocol("an upload's path does not end with its medium's id"))?;
        upload.send(&path).await?;
        Ok(Uploaded { id, bytes, sha256 })
    }

    /// A link to a medium that goes with a message, or (at [`PICTURE`]) is a picture, which whoever has it may use; and until when it is good, in ms since the Unix epoch.
    pub async fn medium_link(&self, chat: u64, seq: u64, medium: MediaId) -> Result<(String, u64), Error> {
        let wanted = v1::GetMedium { chat, seq, medium: medium.to_bytes() };
        match self.ask(client_frame::Request::GetMedium(wanted)).await? {
            server_frame::Message::MediumLink(v1::MediumLink { url, until_ms }) => Ok((url, until_ms)),
            _ => Err(WRONG_KIND),
        }
    }

    /// The medium that is somebody's picture, or a group's, as far as one may see it; `None`: there is none for one, or it is no medium.
    pub async fn picture(&self, chat: u64) -> Result<Option<MediaId>, Error> {
        let named =
            if is_group(chat) { self.group(chat).await?.picture } else { self.profile(chat).await?.picture };
        Ok(MediaId::from_slice(&named))
    }

    /// A link to such a picture, as [`Client::medium_link`] gives one.
    pub async fn picture_link(&self, chat: u64) -> Result<Option<(String, u64)>, Error> {
        match self.picture(chat).await? {
            Some(medium) => self.medium_link(chat, PICTURE, medium).await.map(Some),
            None => Ok(None),
        }
    }

    /// Saves a medium that goes with a message, or (at [`PICTURE`]) is a picture, as a file that is not there yet. Gives its bytes. If it is known what its SHA-256 is to be,
    /// nothing else is taken for it.
    pub async fn save_medium(
        &self,
        (chat, seq, medium): (u64, u64, MediaId),
        to: &Path,
        sha256: Option<[u8; 32]>,
        tell: impl Fn(Progress) + Send + Sync + 'static,
    ) -> Result<u64, Error> {
        // What is there is nobody's to overwrite, and this name is taken from here on.
        let file = File::options().write(true).create_new(true).open(to).await.map_err(of_file(to))?;
        let part = to.to_owned();
        let saved =
            Download { client: self, place: (chat, seq, medium), to, tell: Arc::new(tell) }.take(file).await;
        let checked = match saved {
            Ok(bytes) => {
                let is_it = |(long, got): (u64, _)| {
                    let is_it = long == bytes && sha256.is_none_or(|expected| expected == got);
                    is_it.then_some(bytes).ok_or(Error::Protocol("the medium is not what its sender says"))
                };
                digest_of(part).await.and_then(is_it)
            }
            Err(error) => Err(error),
        };
        if checked.is_err() {
            // Nothing by half is left.
            let _ = tokio::fs::remove_file(to).await;
        }
        checked
    }

    async fn media_place(&self) -> Result<v1::MediaPlace, Error> {
        match self.ask(client_frame::Request::AboutMedia(v1::AboutMedia {})).await? {
            server_frame::Message::MediaPlace(place) => Ok(place),
            _ => Err(WRONG_KIND),
        }
    }
}

/// The length of a file, and the SHA-256 of it.
async fn digest_of(file: PathBuf) -> Result<(u64, [u8; 32]), Error> {
    let read = move || {
        use std::io::Read as _;
        let mut open = std::fs::File::open(&file).map_err(of_file(&file))?;
        let mut context = digest::Context::new(&digest::SHA256);
        let (mut piece, mut bytes) = (vec![0; 1 << 16], 0);
        loop {
            match open.read(&mut piece).map_err(of_file(&file))? {
                0 => break,
                read => {
                    bytes += read as u64;
                    context.update(&piece[..read]);
                }
            }
        }
        let sha256 = context.finish().as_ref().try_into().expect("it is as long as every SHA-256");
        Ok((bytes, sha256))
    };
    tokio::task::spawn_blocking(read).await.map_err(|_| Error::Closed)?
}

/// What is wrong with a file of the user's: it is not tried again.
fn of_file(path: &Path) -> impl Fn(io::Error) -> Error {
    move |error| Error::Config(format!("{}: {error}", path.display()))
}

/// Whether it may be otherwise the next time.
fn is_for_now(error: &Error) -> bool {
    match error {
        Error::Connection(_) | Error::TimedOut => true,
        Error::Media { status, .. } => matches!(status, 408 | 409 | 423 | 500 | 502..=504),
        _ => false,
    }
}

/// Does something again for as long as it gets on, and some times more.
struct Patience {
    tries: u32,
    done: u64,
}

impl Patience {
    fn new() -> Self {
        Self { tries: 0, done: 0 }
    }

    /// It has failed, having done so much in all. Comes back when it is to be tried again.
    async fn after(&mut self, error: Error, done: u64) -> Result<(), Error> {
        if done > self.done {
            (self.tries, self.done) = (0, done);
        }
        if !is_for_now(&error) || self.tries >= TRIES {
            return Err(error);
        }
        tokio::time::sleep(AGAIN * 2_u32.pow(self.tries)).await;
        self.tries += 1;
        Ok(())
    }
}

struct Upload<'a> {
    client: &'a Client,
    file: &'a Path,
    bytes: u64,
    tell: Tell,
}

impl Upload<'_> {
    /// A connection to where uploads are, and what each request to there begins with.
    async fn open(&self) -> Result<(Connection, String), Error> {
        let place = self.client.media_place().await?;
        let url: Uri = place.url.parse().map_err(|_| Error::Protocol("where media are is no URL"))?;
        let connection = Connection::open(&url, self.client.https.clone()).await?;
        Ok((connection, format!("Bearer {}", place.access_token)))
    }

    /// Begins it, and gives its path.
    async fn begin(&self, of: &str, sha256: &[u8; 32]) -> Result<String, Error> {
        let digits: String = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
        let (of, digits) = (BASE64_STANDARD.encode(of), BASE64_STANDARD.encode(digits));
        let mut patience = Patience::new();
        loop {
            let began = async {
                let (mut connection, token) = self.open().await?;
                let request = request(Method::POST, "/uploads", &token)
                    .header("upload-length", self.bytes)
                    .header("upload-metadata", format!("filetype {of},sha256 {digits}"));
                let answer = connection.ask(body(request, Sending::nothing())?).await?;
                let answer = expect(answer, StatusCode::CREATED).await?;
                let path = answer.headers().get("location").and_then(|path| path.to_str().ok());
                path.map(str::to_owned).ok_or(Error::Protocol("an upload has no place"))
            };
            match began.await {
                Ok(path) => return Ok(path),
                Err(error) => patience.after(error, 0).await?,
            }
        }
    }

    /// Sends all of it.
    async fn send(&self, path: &str) -> Result<(), Error> {
        let mut patience = Patience::new();
        let mut offset = Some(0);
        loop {
            match self.send_from(path, &mut offset).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    let done = offset.unwrap_or_default();
                    patience.after(error, done).await?;
                    offset = None;
                }
            }
        }
    }

    /// Sends what is left. Where that begins is asked if it is not known, and known afterwards.
    async fn send_from(&self, path: &str, offset: &mut Option<u64>) -> Result<(), Error> {
        let (mut connection, token) = self.open().await?;
        let from = match *offset {
            Some(offset) => offset,
            None => {
                let request = request(Method::HEAD, path, &token);
                let answer = connection.ask(body(request, Sending::nothing())?).await?;
                offset_of(&expect(answer, StatusCode::OK).await?)?
            }
        };
        if from > self.bytes {
            return Err(Error::Protocol("more of an upload has come than there is"));
        }
        *offset = Some(from);
        if from == self.bytes {
            return Ok(());
        }
        let mut file = File::open(self.file).await.map_err(of_file(self.file))?;
        file.seek(io::SeekFrom::Start(from)).await.map_err(of_file(self.file))?;
        let progress = Progress { done: from, all: self.bytes };
        let request = request(Method::PATCH, path, &token)
            .header("content-type", "application/offset+octet-stream")
            .header("upload-offset", from);
        let sending = Sending::rest(file, progress, self.tell.clone());
        let answer = connection.ask(body(request, sending)?).await?;
        let answer = expect(answer, StatusCode::NO_CONTENT).await?;
        *offset = Some(offset_of(&answer)?);
        match *offset == Some(self.bytes) {
            true => Ok(()),
            false => Err(cut_off()),
        }
    }
}

fn request(method: Method, path: &str, token: &str) -> hyper::http::request::Builder {
    Request::builder()
        .method(method)
        .uri(path)
        .header("tus-resumable", "1.0.0")
        .header("authorization", token)
}

fn body(request: hyper::http::request::Builder, body: Sending) -> Result<Request<Sending>, Error> {
    request.body(body).map_err(|_| Error::Protocol("the server names a place that is none"))
}

async fn expect(answer: Response<Incoming>, status: StatusCode) -> Result<Response<Incoming>, Error> {
    if answer.status() == status { Ok(answer) } else { Err(why(answer).await) }
}

/// Less came, or was taken, than there is.
fn cut_off() -> Error {
    Error::Connection(io::Error::from(io::ErrorKind::UnexpectedEof).into())
}

fn offset_of(answer: &Response<Incoming>) -> Result<u64, Error> {
    let offset = answer.headers().get("upload-offset").and_then(|offset| offset.to_str().ok()?.parse().ok());
    offset.ok_or(Error::Protocol("an upload's offset is not said"))
}

/// How long a medium is of which all comes from a place on; `None`: something else comes.
fn rest_of(answer: &Response<Incoming>, from: u64) -> Option<u64> {
    let range = answer.headers().get("content-range")?.to_str().ok()?;
    let (part, all) = range.strip_prefix("bytes ")?.split_once('/')?;
    let (begin, all): (u64, u64) = (part.split_once('-')?.0.parse().ok()?, all.parse().ok()?);
    (begin == from && from <= all).then_some(all)
}

struct Download<'a> {
    client: &'a Client,
    /// Chat, message, medium.
    place: (u64, u64, MediaId),
    to: &'a Path,
    tell: Tell,
}

impl Download<'_> {
    /// Takes all of it into a file.
    async fn take(&self, mut file: File) -> Result<u64, Error> {
        let (mut patience, mut progress) = (Patience::new(), Progress::default());
        loop {
            match self.take_from(&mut file, &mut progress).await {
                Ok(()) => break,
                Err(error) => patience.after(error, progress.done).await?,
            }
        }
        // A sync alone does not say that the last write failed.
        file.flush().await.map_err(of_file(self.to))?;
        file.sync_all().await.map_err(of_file(self.to))?;
        Ok(progress.done)
    }

    /// Asks for what is behind so many bytes, where a link leads to.
    async fn open(&self, mut url: Uri, from: u64) -> Result<(Connection, Response<Incoming>), Error> {
        for _ in 0..PLACES_MAX {
            let mut connection = Connection::open(&url, self.client.https.clone()).await?;
            let path = url.path_and_query().map_or("/", |path| path.as_str());
            let request = Request::builder().uri(path).header("range", format!("bytes={from}-"));
            let answer = connection.ask(body(request, Sending::nothing())?).await?;
            if !answer.status().is_redirection() {
                return Ok((connection, expect(answer, StatusCode::PARTIAL_CONTENT).await?));
            }
            let place = answer.headers().get("location").and_then(|place| place.to_str().ok()?.parse().ok());
            url = place.ok_or(Error::Protocol("a link leads nowhere"))?;
        }
        Err(Error::Protocol("a link leads from place to place"))
    }

    async fn take_from(&self, file: &mut File, progress: &mut Progress) -> Result<(), Error> {
        let (chat, seq, medium) = self.place;
        let (url, _) = self.client.medium_link(chat, seq, medium).await?;
        let url: Uri = url.parse().map_err(|_| Error::Protocol("a link is no URL"))?;
        let (_connection, answer) = self.open(url, progress.done).await?;
        let all = rest_of(&answer, progress.done).ok_or(Error::Protocol("a link gives another part"))?;
        if progress.done > 0 && all != progress.all {
            return Err(Error::Protocol("a medium is not as long as it was"));
        }
        progress.all = all;
        let mut body = answer.into_body();
        while let Some(data) = piece(&mut body).await? {
            if data.len() as u64 > progress.all - progress.done {
                return Err(Error::Protocol("more comes of a medium than there is"));
            }
            file.write_all(&data).await.map_err(of_file(self.to))?;
            progress.done += data.len() as u64;
            (self.tell)(*progress);
        }
        match progress.done == progress.all {
            true => Ok(()),
            false => Err(cut_off()),
        }
    }
}
