//! Uploads: tus 1.0.0 with the extensions creation, expiration, checksum and termination (<https://tus.io/protocols/resumable-upload>).
//!
//! An upload is a medium from the beginning: its place ends with the medium's id. When all bytes have come they are looked at, the medium
//! gets its place, and the gate is told; then the last request is answered. If that answer is lost, whoever asks how far the upload is
//! has all of that done again.

use std::io;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{Algorithm, Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, LOCATION};
use hyper::{Method, Request, Response, StatusCode};
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, timeout_at};

use super::Media;
use super::answer::{Body, behind, empty, later, no_method, put, refused, says};
use crate::gate::{Declared, Whole};
use crate::id::{MEDIA_ID_BYTES, MediaId};
use crate::limits::{SNIFFED_BYTES, STEP_BYTES, UNSYNCED_MAX};
use crate::metadata::{BadMetadata, Metadata};
use crate::store::files::blocking;
use crate::store::{About, StoreError};
use crate::uploads::{Held, Upload, Uploads, sha256_of};

/// The version of the protocol.
const VERSION: &str = "1.0.0";
const EXTENSIONS: &str = "creation,expiration,checksum,termination";
const CHECKSUMS: &str = "sha1,sha256";

/// An answer, or one that says why not.
type Answer = Result<Response<Body>, Box<Response<Body>>>;

/// What is left where an upload was given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum GivenUp {
    Nothing,
    /// It had become a medium, which messages may have by now: the medium's owner ends it, and nobody else.
    Medium,
}

/// The bytes are not what their checksum says (tus 1.0.0, Checksum).
const CHECKSUM_MISMATCH: u16 = 460;

fn no(status: StatusCode, why: &str) -> Box<Response<Body>> {
    Box::new(refused(status, why))
}

fn gone() -> Box<Response<Body>> {
    let mut gone = no(StatusCode::NOT_FOUND, "there is no such upload: begin it again");
    put(&mut gone, CACHE_CONTROL.as_str(), "no-store");
    gone
}

impl From<StoreError> for Box<Response<Body>> {
    fn from(error: StoreError) -> Self {
        Self::new(error.into())
    }
}

impl Media {
    /// `place`: what stands behind `/uploads/`.
    pub(super) async fn upload(&self, request: Request<Incoming>, place: Option<&str>) -> Response<Body> {
        let is_version = says(&request, "tus-resumable") == Some(VERSION);
        let mut answer = match (request.method(), place) {
            (&Method::OPTIONS, _) => self.can_do(),
            _ if !is_version => refused(StatusCode::PRECONDITION_FAILED, "Tus-Resumable is to be 1.0.0"),
            (&Method::POST, None) => whatever(self.create(&request).await),
            (&Method::HEAD, Some(place)) => whatever(self.tell(&request, place).await),
            (&Method::DELETE, Some(place)) => whatever(self.terminate(&request, place).await),
            (&Method::PATCH, Some(place)) => {
                let place = place.to_owned();
                whatever(self.append(request, &place).await)
            }
            (_, None) => no_method("OPTIONS, POST"),
            (_, Some(_)) => no_method("OPTIONS, HEAD, PATCH, DELETE"),
        };
        put(&mut answer, "tus-resumable", VERSION);
        if !is_version {
            put(&mut answer, "tus-version", VERSION);
        }
        answer
    }

    /// What the server can do, to whoever asks.
    fn can_do(&self) -> Response<Body> {
        let limits = &self.limits;
        let bytes_max = [
            limits.image_bytes_max,
            limits.audio_bytes_max,
            limits.video_bytes_max,
            limits.document_bytes_max,
        ];
        let bytes_max = bytes_max.into_iter().max().unwrap_or(0).to_string();
        let mut answer = empty(StatusCode::NO_CONTENT);
        for (name, value) in [
            ("tus-version", VERSION),
            ("tus-extension", EXTENSIONS),
            ("tus-checksum-algorithm", CHECKSUMS),
            ("tus-max-size", &bytes_max),
        ] {
            put(&mut answer, name, value);
        }
        answer
    }

    /// Whose token a request has.
    pub(super) async fn owner_of<T>(&self, request: &Request<T>) -> Result<u64, Box<Response<Body>>> {
        let token = says(request, "authorization").and_then(|value| behind(value, "Bearer "));
        let who = self.gate.who(token.unwrap_or_default().trim()).await;
        who.map_err(|refusal| Box::new(refusal.into()))
    }

    /// The same, and the upload that the request is about.
    async fn named(
        &self,
        request: &Request<Incoming>,
        place: &str,
    ) -> Result<(u64, MediaId), Box<Response<Body>>> {
        Ok((self.owner_of(request).await?, place.parse().map_err(|_| gone())?))
    }

    async fn create(&self, request: &Request<Incoming>) -> Answer {
        let owner = self.owner_of(request).await?;
        let bytes = says(request, "upload-length").and_then(|length| length.parse::<u64>().ok());
        let bytes = bytes
            .ok_or_else(|| no(StatusCode::BAD_REQUEST, "Upload-Length is to say how many bytes come"))?;
        let metadata = says(request, "upload-metadata").unwrap_or_default().to_owned();
        let Metadata { of, sha256 } = Metadata::parse(&metadata).map_err(|bad| match bad {
            BadMetadata::Malformed => no(StatusCode::BAD_REQUEST, "Upload-Metadata can't be read"),
            BadMetadata::Type => no(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "Upload-Metadata is to have a filetype that the server takes, or encrypted",
            ),
        })?;
        if bytes > of.bytes_max(&self.limits) {
            return Err(no(
                StatusCode::PAYLOAD_TOO_LARGE,
                &format!("{} may have {} bytes", of.name(), of.bytes_max(&self.limits)),
            ));
        }
        if bytes == 0 {
            return Err(no(StatusCode::BAD_REQUEST, "a medium has a byte at least"));
        }
        let id = random_id()
            .map_err(|_| no(StatusCode::SERVICE_UNAVAILABLE, "there are no random bytes: try again"))?;
        let declared = Declared { id, of, bytes };
        self.gate.begin(owner, declared).await.map_err(|refusal| Box::new(refusal.into()))?;
        self.of_uploads(move |uploads| uploads.begin(declared, owner, sha256, metadata)).await?;
        let mut answer = empty(StatusCode::CREATED);
        put(&mut answer, LOCATION.as_str(), &format!("/uploads/{id}"));
        put(&mut answer, "upload-expires", &http_date(SystemTime::now() + self.limits.upload_valid));
        Ok(answer)
    }

    /// How far an upload is, durably. One of which all has come is ended first: the answer to what came last may have been lost.
    async fn tell(&self, request: &Request<Incoming>, place: &str) -> Answer {
        let (owner, id) = self.named(request, place).await?;
        let mut answer = empty(StatusCode::OK);
        put(&mut answer, CACHE_CONTROL.as_str(), "no-store");
        let (offset, bytes) = match self.take(id, owner).await? {
            Some((_held, upload)) => {
                self.of_uploads(move |uploads| uploads.sync(id)).await?;
                if upload.offset == upload.declared.bytes {
                    self.finish(&upload).await?;
                } else {
                    let expires = http_date(upload.touched + self.limits.upload_valid);
                    put(&mut answer, "upload-expires", &expires);
                }
                if !upload.metadata.is_empty() {
                    put(&mut answer, "upload-metadata", &upload.metadata);
                }
                (upload.offset, upload.declared.bytes)
            }
            None => match self.store.about(id).await? {
                Some(about) if about.owner == owner => (about.bytes, about.bytes),
                _ => return Err(gone()),
            },
        };
        put(&mut answer, "upload-offset", &offset.to_string());
        put(&mut answer, "upload-length", &bytes.to_string());
        Ok(answer)
    }

    /// An upload ends, whether all of it has come or not, as long as nobody knows of it.
    async fn terminate(&self, request: &Request<Incoming>, place: &str) -> Answer {
        let (owner, id) = self.named(request, place).await?;
        let _taken = self.take(id, owner).await?.ok_or_else(gone)?;
        match self.give_up(id).await? {
            GivenUp::Nothing => Ok(empty(StatusCode::NO_CONTENT)),
            GivenUp::Medium => Err(gone()),
        }
    }

    /// An upload of somebody's, which nobody else does anything of meanwhile; `None`: it is none, or none any more. Nobody disturbs those who
    /// do something of it by its id alone.
    async fn take(&self, id: MediaId, owner: u64) -> Result<Option<(Held, Upload)>, Box<Response<Body>>> {
        if self.get(id, owner).await?.is_none() {
            return Ok(None);
        }
        let held = self.uploads.take_over(id).await.ok_or_else(is_held)?;
        Ok(self.get(id, owner).await?.map(|upload| (held, upload)))
    }

    /// Nothing is left of an upload, nor of what it was to be; of one that had become a medium, the medium.
    async fn give_up(&self, id: MediaId) -> Result<GivenUp, Box<Response<Body>>> {
        let is_known = self.gate.is_known(id).await.map_err(|refusal| Box::new(refusal.into()))?;
        if !is_known {
            self.store.remove(id).await?;
        }
        self.of_uploads(move |uploads| uploads.remove(id)).await?;
        Ok(if is_known { GivenUp::Medium } else { GivenUp::Nothing })
    }

    /// More of an upload comes.
    async fn append(&self, request: Request<Incoming>, place: &str) -> Answer {
        let (owner, id) = self.named(&request, place).await?;
        if says(&request, "content-type") != Some("application/offset+octet-stream") {
            let why = "what comes is to be of the type application/offset+octet-stream";
            return Err(no(StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
        }
        let checksum = says(&request, "upload-checksum").map(Checksum::parse).transpose()?;
        let at = says(&request, "upload-offset").and_then(|offset| offset.parse::<u64>().ok());
        let at = at.ok_or_else(|| no(StatusCode::BAD_REQUEST, "Upload-Offset is to say where it goes on"))?;
        let (held, mut upload) = self.take(id, owner).await?.ok_or_else(gone)?;
        // Whoever goes on with one of their own has ended what went on with it before.
        let share = self.appends.take(owner);
        let _share = share.ok_or_else(|| later("the account has as many uploads at once as it may"))?;
        if at != upload.offset {
            return Err(no(StatusCode::CONFLICT, &format!("the upload is at {}", upload.offset)));
        }
        let left = upload.declared.bytes - upload.offset;
        let length = says(&request, "content-length").and_then(|length| length.parse::<u64>().ok());
        if length.is_some_and(|length| length > left) {
            return Err(no(StatusCode::PAYLOAD_TOO_LARGE, "that is more than was declared"));
        }
        upload.offset = self.take_bytes(request.into_body(), &upload, &held, checksum).await?;
        if upload.offset == upload.declared.bytes {
            self.finish(&upload).await?;
        } else {
            self.looks_as_declared(&upload).await?;
        }
        let mut answer = empty(StatusCode::NO_CONTENT);
        put(&mut answer, "upload-offset", &upload.offset.to_string());
        put(&mut answer, "upload-expires", &http_date(SystemTime::now() + self.limits.upload_valid));
        Ok(answer)
    }

    /// Takes what comes, durably. Gives where the upload is then. What comes in a request that is cut off stays, unless it was to be checked.
    async fn take_bytes(
        &self,
        body: Incoming,
        upload: &Upload,
        held: &Held,
        mut checksum: Option<Checksum>,
    ) -> Result<u64, Box<Response<Body>>> {
        let (id, begin, is_checked) = (upload.declared.id, upload.offset, checksum.is_some());
        let file = self.of_uploads(move |uploads| uploads.append(id, begin, is_checked)).await?;
        let mut file = File::from_std(file);
        let (came, bytes, is_lost) = self.write(body, upload, held, &mut file, checksum.as_mut()).await;
        let holds = checksum.map(|checksum| came.is_ok() && checksum.holds());
        let synced = self.sync(&mut file).await;
        if synced.is_err() || is_lost || holds == Some(false) {
            // What is not known to be durable, or is not what it was to be, does not count.
            file.set_len(begin).await.map_err(StoreError::from)?;
            file.sync_all().await.map_err(StoreError::from)?;
        }
        synced.map_err(StoreError::from)?;
        self.of_uploads(move |uploads| uploads.count(id)).await?;
        came?;
        if holds == Some(false) {
            return Err(no(mismatch(), "the bytes are not what Upload-Checksum says: send them again"));
        }
        Ok(begin + bytes)
    }

    /// Writes what comes, until it ends or somebody else wants to go on. Gives how many bytes, and whether the disk did not take them: it says
    /// so once, and a later sync may not.
    async fn write(
        &self,
        mut body: Incoming,
        upload: &Upload,
        held: &Held,
        file: &mut File,
        mut checksum: Option<&mut Checksum>,
    ) -> (Result<(), Box<Response<Body>>>, u64, bool) {
        let (mut bytes, mut unsynced, mut is_lost) = (0, 0, false);
        let left = upload.declared.bytes - upload.offset;
        let mut coming = Coming::new(self.limits.idle_timeout);
        let came = loop {
            let next = async {
                let Some(data) = coming.next(&mut body).await? else { return Ok(None) };
                if data.len() as u64 > left - bytes {
                    return Err(no(StatusCode::PAYLOAD_TOO_LARGE, "that is more than was declared"));
                }
                coming.waits(self.pace.take(data.len() as u64)).await;
                Ok(Some(data))
            };
            let next = tokio::select! {
                next = next => next,
                () = held.is_to_stop() => Err(no(StatusCode::CONFLICT, "another request goes on with the upload")),
            };
            let data = match next {
                Ok(Some(data)) => data,
                Ok(None) => break Ok(()),
                Err(why) => break Err(why),
            };
            if let Some(checksum) = &mut checksum {
                checksum.context.update(&data);
            }
            bytes += data.len() as u64;
            let mut written = Ok(());
            coming.waits(async { written = self.write_piece(file, &data, &mut unsynced).await }).await;
            if let Err(error) = written {
                is_lost = true;
                break Err(StoreError::from(error).into());
            }
        };
        (came, bytes, is_lost)
    }

    /// Writes some of what comes, and has so much of it synced that little is not.
    async fn write_piece(&self, file: &mut File, piece: &[u8], unsynced: &mut u64) -> io::Result<()> {
        file.write_all(piece).await?;
        *unsynced += piece.len() as u64;
        if *unsynced < UNSYNCED_MAX {
            return Ok(());
        }
        *unsynced = 0;
        self.sync(file).await
    }

    /// What was written of a file is durable.
    async fn sync(&self, file: &mut File) -> io::Result<()> {
        file.flush().await?;
        let _first = self.syncs.acquire().await;
        file.sync_data().await
    }

    /// As soon as it can be known whether an upload is what it was declared to be, one that is not ends.
    async fn looks_as_declared(&self, upload: &Upload) -> Result<(), Box<Response<Body>>> {
        let Declared { id, of, bytes } = upload.declared;
        let enough = (SNIFFED_BYTES as u64).min(bytes);
        if upload.offset < enough {
            return Ok(());
        }
        let beginning = self.of_uploads(move |uploads| uploads.beginning(id, SNIFFED_BYTES)).await?;
        if of.is_of(&beginning) {
            return Ok(());
        }
        self.of_uploads(move |uploads| uploads.remove(id)).await?;
        let why = format!("the bytes are no {}: the upload has ended", of.name());
        Err(no(StatusCode::UNSUPPORTED_MEDIA_TYPE, &why))
    }

    /// All bytes of an upload are there: they are looked at, the medium gets its place, and whoever is to know of it is told. It may have been
    /// done before.
    pub(super) async fn finish(&self, upload: &Upload) -> Result<(), Box<Response<Body>>> {
        let (declared, owner) = (upload.declared, upload.owner);
        let id = declared.id;
        let about = match self.store.about(id).await? {
            Some(about) => about,
            None => self.place(upload).await?,
        };
        match self.gate.whole(Whole { declared, owner, sha256: about.sha256 }).await {
            Ok(()) => Ok(self.of_uploads(move |uploads| uploads.remove(id)).await?),
            Err(refusal) => {
                if refusal.is_for_good() {
                    self.give_up(id).await?;
                }
                Err(Box::new(refusal.into()))
            }
        }
    }

    /// What has come gets its place, if it is what was declared; otherwise the upload ends.
    async fn place(&self, upload: &Upload) -> Result<About, Box<Response<Body>>> {
        let Declared { id, of, bytes } = upload.declared;
        let part = self.uploads.part(id);
        if !tokio::fs::try_exists(&part).await.map_err(StoreError::from)? {
            // It had its place, and was removed since.
            self.give_up(id).await?;
            return Err(gone());
        }
        self.looks_as_declared(upload).await?;
        let path = part.clone();
        let sha256 = blocking(move || sha256_of(&path, bytes)).await?;
        if upload.sha256.is_some_and(|declared| declared != sha256) {
            self.give_up(id).await?;
            return Err(no(mismatch(), "the bytes are not what sha256 says: the upload has ended"));
        }
        if let Err(refused) = self.make_preview(upload, part.clone()).await {
            if refused.status() == StatusCode::UNPROCESSABLE_ENTITY {
                self.give_up(id).await?;
            }
            return Err(refused);
        }
        let of = of.name().to_owned();
        let about = About { of, bytes, sha256, owner: upload.owner };
        self.store.keep(id, &about, &part).await?;
        Ok(about)
    }

    /// An upload of somebody's; `None`: there is none, or it is somebody else's.
    async fn get(&self, id: MediaId, owner: u64) -> Result<Option<Upload>, StoreError> {
        let upload = self.of_uploads(move |uploads| uploads.get(id)).await?;
        let is_over = |upload: &Upload| {
            let is_old = upload.touched.elapsed().is_ok_and(|age| age >= self.limits.upload_valid);
            is_old && upload.offset < upload.declared.bytes
        };
        Ok(upload.filter(|upload| upload.owner == owner && !is_over(upload)))
    }

    pub(super) async fn of_uploads<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Uploads) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let uploads = self.uploads.clone();
        blocking(move || work(&uploads)).await
    }
}

/// The bytes of a request, as they come: not too slowly.
struct Coming {
    idle_timeout: Duration,
    /// When it last got on.
    since: Instant,
    /// Bytes that have come since.
    bytes: usize,
}

impl Coming {
    fn new(idle_timeout: Duration) -> Self {
        Self { idle_timeout, since: Instant::now(), bytes: 0 }
    }

    /// Some more; `None`: that was all.
    async fn next(&mut self, body: &mut Incoming) -> Result<Option<Bytes>, Box<Response<Body>>> {
        loop {
            let frame = match timeout_at(self.since + self.idle_timeout, body.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(None) => return Ok(None),
                Ok(Some(Err(_))) => return Err(no(StatusCode::BAD_REQUEST, "it was cut off")),
                Err(_) => {
                    return Err(no(StatusCode::REQUEST_TIMEOUT, "nothing, or little, came for too long"));
                }
            };
            let Ok(data) = frame.into_data() else { continue };
            self.bytes += data.len();
            if self.bytes >= STEP_BYTES {
                (self.since, self.bytes) = (Instant::now(), 0);
            }
            return Ok(Some(data));
        }
    }

    /// Waits for something that is not of their doing who send.
    async fn waits(&mut self, something: impl Future<Output = ()>) {
        let from = Instant::now();
        something.await;
        self.since += from.elapsed();
    }
}

/// What `Upload-Checksum` says of the bytes of a request.
struct Checksum {
    context: Context,
    expected: Vec<u8>,
}

impl Checksum {
    fn parse(header: &str) -> Result<Self, Box<Response<Body>>> {
        let bad = || no(StatusCode::BAD_REQUEST, "Upload-Checksum is to be sha1 or sha256, and base64");
        let (name, coded) = header.split_once(' ').ok_or_else(bad)?;
        let algorithm: &'static Algorithm = match name {
            "sha1" => &SHA1_FOR_LEGACY_USE_ONLY,
            "sha256" => &SHA256,
            _ => return Err(bad()),
        };
        let expected = BASE64_STANDARD.decode(coded.trim()).map_err(|_| bad())?;
        Ok(Self { context: Context::new(algorithm), expected })
    }

    fn holds(self) -> bool {
        self.context.finish().as_ref() == self.expected
    }
}

fn whatever(answer: Answer) -> Response<Body> {
    answer.unwrap_or_else(|refused| *refused)
}

fn is_held() -> Box<Response<Body>> {
    no(StatusCode::LOCKED, "another request writes to the upload: wait until it has ended")
}

/// An id that nobody has had.
fn random_id() -> Result<MediaId, getrandom::Error> {
    let mut bytes = [0; MEDIA_ID_BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(MediaId::from_bytes(bytes))
}

fn mismatch() -> StatusCode {
    StatusCode::from_u16(CHECKSUM_MISMATCH).expect("it is a status")
}

/// A time as headers have it (RFC 9110, 5.6.7).
fn http_date(at: SystemTime) -> String {
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}
