//! Previews: made of what has come before it gets its place, by a process of their own, and had by whoever uploaded it (all that is known of
//! it) and by whoever has a link (the thumbnail).

use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use hyper::{Method, Request, Response, StatusCode};
use serde::{Deserialize, Serialize};
use tern_preview::kinds::has_previews;
use tern_preview::{How, Preview, PreviewError, TooLarge};
use tokio::time::timeout;

use super::answer::{Body, later, no_link, no_method, put, refused};
use super::{Media, unix_s};
use crate::id::MediaId;
use crate::kinds::{Kind, Type};
use crate::limits::LOOK_TIMEOUT;
use crate::store::files::blocking;
use crate::uploads::Upload;

/// By which the kernel ends a process.
const SIGKILL: i32 = 9;

/// What is stored, and told, of a preview. Bytes are in base64; what does not apply is not there.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Stored {
    #[serde(skip_serializing_if = "Option::is_none")]
    width: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pages: Option<u32>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    blur_hash: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    waveform: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    thumbnail: String,
}

impl From<Preview> for Stored {
    fn from(preview: Preview) -> Self {
        let Preview { width, height, duration_ms, pages, wave, thumbnail, blur_hash } = preview;
        let (waveform, thumbnail) = (BASE64_STANDARD.encode(wave), BASE64_STANDARD.encode(thumbnail));
        Self { width, height, duration_ms, pages, blur_hash, waveform, thumbnail }
    }
}

/// What becomes of a medium that has no preview.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Without {
    /// It is as good as any.
    Preview,
    /// It is refused: whoever only looks at it may be harmed.
    Refused,
    /// It is looked at later.
    Now,
}

/// Pictures alone are not taken unlooked at, but where nobody can look at any.
fn without(of: Type, error: &PreviewError) -> Without {
    if of.kind() != Kind::Image {
        return Without::Preview;
    }
    match error {
        // Those that are too long for it are as an operator has set it; the rest is the program's fault, or its installation's.
        PreviewError::TooLarge(TooLarge::Bytes)
        | PreviewError::Unsupported
        | PreviewError::NoSandbox
        | PreviewError::Failed(_)
        | PreviewError::Died { how: How::Exit(_) | How::Answer } => Without::Preview,
        PreviewError::Busy | PreviewError::TimedOut => Without::Now,
        // Whoever ends processes where memory is short.
        PreviewError::Died { how: How::Signal(SIGKILL) } => Without::Now,
        PreviewError::Malformed(_) | PreviewError::TooLarge(_) | PreviewError::Died { .. } => {
            Without::Refused
        }
    }
}

impl Media {
    /// Makes the preview of what an upload has brought. A picture that can't be made smaller is refused: it is damaged, or made to do harm.
    pub(super) async fn make_preview(
        &self,
        upload: &Upload,
        part: PathBuf,
    ) -> Result<(), Box<Response<Body>>> {
        let (id, of) = (upload.declared.id, upload.declared.of);
        let Some(previews) = self.previews.as_ref().filter(|_| has_previews(of.name())) else {
            return Ok(());
        };
        // It may have been made before the store failed.
        if self.store.preview(id).await?.is_some() {
            return Ok(());
        }
        // Nobody's files alone are all that waits.
        let turn = self.looks.take(upload.owner);
        let _turn = turn.ok_or_else(|| later("the account has several media that are looked at just now"))?;
        let file = blocking(move || Ok(std::fs::File::open(part)?)).await?;
        let made = timeout(LOOK_TIMEOUT, previews.make(of.name(), file)).await;
        let error = match made.unwrap_or(Err(PreviewError::Busy)) {
            Ok(preview) => {
                let json = serde_json::to_vec(&Stored::from(preview)).expect("it is text and numbers");
                return Ok(self.store.keep_preview(id, &json).await?);
            }
            Err(PreviewError::Unsupported) => return Ok(()),
            Err(error) => error,
        };
        match without(of, &error) {
            Without::Refused => {
                tracing::info!(medium = ?id, of = of.name(), %error, "a picture was refused");
                let why = format!("{error}: the upload has ended");
                return Err(Box::new(refused(StatusCode::UNPROCESSABLE_ENTITY, &why)));
            }
            Without::Now => return Err(later("it can't be looked at just now")),
            Without::Preview => {
                tracing::warn!(medium = ?id, of = of.name(), %error, "a medium has no preview");
            }
        }
        Ok(())
    }

    /// What is known of a medium to whoever uploaded it.
    pub(super) async fn preview<T>(&self, request: &Request<T>, place: &str) -> Response<Body> {
        if request.method() != Method::GET {
            return no_method("GET");
        }
        let own = async {
            let owner = self.owner_of(request).await?;
            let Ok(id) = place.parse() else { return Err(Box::new(none())) };
            match self.store.about(id).await? {
                Some(about) if about.owner == owner => Ok(self.store.preview(id).await?),
                _ => Ok(None),
            }
        };
        match own.await {
            Ok(Some(json)) => {
                let mut answer = Response::new(Body::Whole(json.into()));
                put(&mut answer, CONTENT_TYPE.as_str(), "application/json");
                put(&mut answer, CACHE_CONTROL.as_str(), "no-store");
                answer
            }
            Ok(None) => none(),
            Err(refused) => *refused,
        }
    }

    /// A medium's thumbnail, for whoever has a link to the medium: the same with `/preview` behind the id.
    pub(super) async fn thumbnail<T>(&self, request: &Request<T>, id: MediaId) -> Response<Body> {
        if request.method() != Method::GET {
            return no_method("GET");
        }
        let (query, now_s) = (request.uri().query().unwrap_or_default(), unix_s());
        let end_s = match self.links.check(id, query, now_s) {
            Ok(end_s) => end_s,
            Err(bad) => return no_link(bad),
        };
        let stored = match self.store.preview(id).await {
            Ok(stored) => stored.and_then(|json| serde_json::from_slice::<Stored>(&json).ok()),
            Err(error) => return error.into(),
        };
        let thumbnail = stored.and_then(|stored| BASE64_STANDARD.decode(stored.thumbnail).ok());
        match thumbnail.filter(|thumbnail| !thumbnail.is_empty()) {
            None => none(),
            Some(thumbnail) => {
                let mut answer = Response::new(Body::Whole(thumbnail.into()));
                put(&mut answer, CONTENT_TYPE.as_str(), "image/jpeg");
                put(&mut answer, X_CONTENT_TYPE_OPTIONS.as_str(), "nosniff");
                let cached = format!("public, max-age={}, immutable", end_s - now_s);
                put(&mut answer, CACHE_CONTROL.as_str(), &cached);
                answer
            }
        }
    }

    /// Whoever can make previews.
    #[must_use]
    pub fn with_previews(self, previews: tern_preview::Previews) -> Self {
        Self { previews: Some(previews), ..self }
    }
}

fn none() -> Response<Body> {
    refused(StatusCode::NOT_FOUND, "there is no preview of it")
}
