//! Uploads: tus 1.0.0 with the extensions creation, expiration, checksum and termination (<https://tus.io/protocols/resumable-upload>).
//!
//! An upload is a medium from the beginning: its place ends with the medium's id. When all bytes have come they are looked at, the medium
//! gets its place, and the gate is told; then the last request is answered. If that answer is lost, whoever asks how far the upload is
//! has all of that done again.

use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{Algorithm, Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue, LOCATION};
use hyper::{Method, Request, Response, StatusCode};
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::Media;
use super::answer::{Body, empty, refused, says};
use crate::gate::{Declared, Whole};
use crate::id::MediaId;
use crate::limits::SNIFFED_BYTES;
use crate::metadata::{BadMetadata, Metadata};
use crate::store::{About, StoreError};
use crate::uploads::{Upload, Uploads, sha256_of};

/// The version of the protocol.
const VERSION: &str = "1.0.0";
const EXTENSIONS: &str = "creation,expiration,checksum,termination";
const CHECKSUMS: &str = "sha1,sha256";

/// An answer, or one that says why not.
type Answer = Result<Response<Body>, Box<Response<Body>>>;

/// The bytes are not what their checksum says (tus 1.0.0, Checksum).
const CHECKSUM_MISMATCH: u16 = 460;

fn no(status: StatusCode, why: &str) -> Box<Response<Body>> {
    Box::new(refused(status, why))
}

fn gone() -> Box<Response<Body>> {
    no(StatusCode::NOT_FOUND, "there is no such upload: begin it again")
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
            _ => refused(
                StatusCode::METHOD_NOT_ALLOWED,
                "POST to /uploads; HEAD, PATCH or DELETE what came of it",
            ),
        };
        let headers = answer.headers_mut();
        put(headers, "tus-resumable", VERSION);
        if !is_version {
            put(headers, "tus-version", VERSION);
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
        let headers = answer.headers_mut();
        for (name, value) in [
            ("tus-version", VERSION),
            ("tus-extension", EXTENSIONS),
            ("tus-checksum-algorithm", CHECKSUMS),
            ("tus-max-size", &bytes_max),
        ] {
            put(headers, name, value);
        }
        answer
    }

    /// Whose token a request has.
    async fn owner_of(&self, request: &Request<Incoming>) -> Result<u64, Box<Response<Body>>> {
        let token = says(request, "authorization").and_then(|value| value.strip_prefix("Bearer "));
        let who = self.gate.who(token.unwrap_or_default().trim()).await;
        who.map_err(|refusal| Box::new(refusal.into()))
    }

    async fn create(&self, request: &Request<Incoming>) -> Answer {
        let owner = self.owner_of(request).await?;
        let bytes = says(request, "upload-length").and_then(|length| length.parse::<u64>().ok());
        let bytes = bytes
            .ok_or_else(|| no(StatusCode::BAD_REQUEST, "Upload-Length is to say how many bytes come"))?;
        let metadata = Metadata::parse(says(request, "upload-metadata").unwrap_or_default());
        let Metadata { of, sha256 } = metadata.map_err(|bad| match bad {
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
        let id = MediaId::random()
            .map_err(|_| no(StatusCode::SERVICE_UNAVAILABLE, "there are no random bytes: try again"))?;
        let declared = Declared { id, of, bytes };
        self.gate.begin(owner, declared).await.map_err(|refusal| Box::new(refusal.into()))?;
        self.of_uploads(move |uploads| uploads.begin(declared, owner, sha256)).await?;
        let mut answer = empty(StatusCode::CREATED);
        let headers = answer.headers_mut();
        put(headers, LOCATION.as_str(), &format!("/uploads/{id}"));
        put(headers, "upload-expires", &http_date(SystemTime::now() + self.limits.upload_valid));
        Ok(answer)
    }

    /// How far an upload is. One that has its place is whole.
    async fn tell(&self, request: &Request<Incoming>, place: &str) -> Answer {
        let owner = self.owner_of(request).await?;
        let id = place.parse().map_err(|_| gone())?;
        let (offset, bytes, expires) = match self.get(id, owner).await? {
            Some(upload) if upload.offset == upload.declared.bytes => {
                // The answer to what came last may have been lost.
                if let Some(_held) = self.uploads.hold(id) {
                    self.finish(&upload).await?;
                }
                (upload.offset, upload.declared.bytes, None)
            }
            Some(upload) => (upload.offset, upload.declared.bytes, Some(upload.touched)),
            None => match self.store.about(id).await? {
                Some(about) if about.owner == owner => (about.bytes, about.bytes, None),
                _ => return Err(gone()),
            },
        };
        let mut answer = empty(StatusCode::OK);
        let headers = answer.headers_mut();
        put(headers, "upload-offset", &offset.to_string());
        put(headers, "upload-length", &bytes.to_string());
        put(headers, CACHE_CONTROL.as_str(), "no-store");
        if let Some(touched) = expires {
            put(headers, "upload-expires", &http_date(touched + self.limits.upload_valid));
        }
        Ok(answer)
    }

    async fn terminate(&self, request: &Request<Incoming>, place: &str) -> Answer {
        let owner = self.owner_of(request).await?;
        let id = place.parse().map_err(|_| gone())?;
        self.get(id, owner).await?.ok_or_else(gone)?;
        let _held = self.uploads.hold(id).ok_or_else(is_held)?;
        self.of_uploads(move |uploads| uploads.remove(id)).await?;
        Ok(empty(StatusCode::NO_CONTENT))
    }

    /// More of an upload comes.
    async fn append(&self, request: Request<Incoming>, place: &str) -> Answer {
        let owner = self.owner_of(&request).await?;
        let id: MediaId = place.parse().map_err(|_| gone())?;
        if says(&request, "content-type") != Some("application/offset+octet-stream") {
            let why = "what comes is to be of the type application/offset+octet-stream";
            return Err(no(StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
        }
        let checksum = says(&request, "upload-checksum").map(Checksum::parse).transpose()?;
        let at = says(&request, "upload-offset").and_then(|offset| offset.parse::<u64>().ok());
        let at = at.ok_or_else(|| no(StatusCode::BAD_REQUEST, "Upload-Offset is to say where it goes on"))?;
        let _held = self.uploads.hold(id).ok_or_else(is_held)?;
        let upload = self.get(id, owner).await?.ok_or_else(gone)?;
        if at != upload.offset {
            return Err(no(StatusCode::CONFLICT, &format!("the upload is at {}", upload.offset)));
        }
        let left = upload.declared.bytes - upload.offset;
        let length = says(&request, "content-length").and_then(|length| length.parse::<u64>().ok());
        if length.is_some_and(|length| length > left) {
            return Err(no(StatusCode::PAYLOAD_TOO_LARGE, "that is more than was declared"));
        }
        let mut upload = upload;
        upload.offset = self.take(request.into_body(), &upload, checksum).await?;
        self.looks_as_declared(&upload).await?;
        if upload.offset == upload.declared.bytes {
            self.finish(&upload).await?;
        }
        let mut answer = empty(StatusCode::NO_CONTENT);
        put(answer.headers_mut(), "upload-offset", &upload.offset.to_string());
        put(answer.headers_mut(), "upload-expires", &http_date(SystemTime::now() + self.limits.upload_valid));
        Ok(answer)
    }

    /// Takes what comes, durably. Gives where the upload is then. What comes in a request that is cut off stays, unless it was to be checked.
    async fn take(
        &self,
        mut body: Incoming,
        upload: &Upload,
        mut checksum: Option<Checksum>,
    ) -> Result<u64, Box<Response<Body>>> {
        let (id, begin, end) = (upload.declared.id, upload.offset, upload.declared.bytes);
        let file = self.of_uploads(move |uploads| uploads.append(id, begin)).await?;
        let mut file = File::from_std(file);
        let mut offset = begin;
        let came = loop {
            let frame = match timeout(self.limits.idle_timeout, body.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(None) => break Ok(()),
                Ok(Some(Err(_))) => break Err(no(StatusCode::BAD_REQUEST, "it was cut off")),
                Err(_) => break Err(no(StatusCode::REQUEST_TIMEOUT, "nothing came for too long")),
            };
            let Ok(data) = frame.into_data() else { continue };
            if data.len() as u64 > end - offset {
                break Err(no(StatusCode::PAYLOAD_TOO_LARGE, "that is more than was declared"));
            }
            checksum.iter_mut().for_each(|checksum| checksum.context.update(&data));
            file.write_all(&data).await.map_err(StoreError::from)?;
            offset += data.len() as u64;
        };
        file.flush().await.map_err(StoreError::from)?;
        let is_right = checksum.map(|checksum| came.is_ok() && checksum.holds());
        if is_right == Some(false) {
            file.set_len(begin).await.map_err(StoreError::from)?;
        }
        file.sync_data().await.map_err(StoreError::from)?;
        came?;
        if is_right == Some(false) {
            let mismatch = StatusCode::from_u16(CHECKSUM_MISMATCH).expect("it is a status");
            return Err(no(mismatch, "the bytes are not what Upload-Checksum says: send them again"));
        }
        Ok(offset)
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

    /// All bytes of an upload are there: the medium gets its place, and whoever is to know of it is told. It may have been done before.
    pub(super) async fn finish(&self, upload: &Upload) -> Result<(), Box<Response<Body>>> {
        let (declared, owner) = (upload.declared, upload.owner);
        let id = declared.id;
        let part = self.uploads.part(id);
        let is_placed = self.store.about(id).await?;
        let about = match is_placed {
            Some(about) => about,
            None => {
                let path = part.clone();
                let sha256 = blocking(move || sha256_of(&path)).await?;
                if upload.sha256.is_some_and(|declared| declared != sha256) {
                    self.of_uploads(move |uploads| uploads.remove(id)).await?;
                    let mismatch = StatusCode::from_u16(CHECKSUM_MISMATCH).expect("it is a status");
                    return Err(no(mismatch, "the bytes are not what sha256 says: the upload has ended"));
                }
                let of = declared.of.name().to_owned();
                let about = About { of, bytes: declared.bytes, sha256: hexadecimal(&sha256), owner };
                self.store.keep(id, &about, &part).await?;
                about
            }
        };
        let sha256 = bytes_of(&about.sha256)
            .ok_or_else(|| StoreError::Damaged("what is known of a medium is not whole".to_owned()))?;
        let whole = Whole { declared, owner, sha256 };
        self.gate.whole(whole).await.map_err(|refusal| Box::new(refusal.into()))?;
        Ok(self.of_uploads(move |uploads| uploads.remove(id)).await?)
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

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(StoreError::Failed(error.to_string())))
}

fn put(headers: &mut HeaderMap, name: &str, value: &str) {
    let name = HeaderName::from_bytes(name.as_bytes()).expect("a header's name");
    headers.insert(name, HeaderValue::from_str(value).expect("it is ASCII"));
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes_of(hexadecimal: &str) -> Option<[u8; 32]> {
    crate::metadata::digest_of(hexadecimal)
}

/// A time as headers have it (RFC 9110, 5.6.7).
fn http_date(at: SystemTime) -> String {
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}
