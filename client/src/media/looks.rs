//! How media look: what the server has found in them.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::{Request, StatusCode, Uri};
use serde::Deserialize;
use tern_wire::ids::MediaId;

use super::http::{Connection, Sending, piece, why};
use super::{body, request};
use crate::client::Client;
use crate::error::Error;

/// Bytes of what is told of a medium's looks, and of a thumbnail.
const BYTES_MAX: usize = 64 << 10;

/// How a medium looks, before all of it is had. What does not apply is 0 or empty.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Looks {
    /// Of a picture in pixels, as it is to be looked at; of a document's first page in points.
    pub width: u32,
    /// The same.
    pub height: u32,
    /// Of a recording.
    pub duration_ms: u64,
    /// Of a document.
    pub pages: u32,
    /// As BlurHash has it.
    pub blur_hash: String,
    /// Of a recording: how loud each of equal parts is.
    pub waveform: Vec<u8>,
    /// Of a picture: a JPEG of 200 by 200 pixels at most.
    pub thumbnail: Vec<u8>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Told {
    width: u32,
    height: u32,
    duration_ms: u64,
    pages: u32,
    blur_hash: String,
    waveform: String,
    thumbnail: String,
}

impl From<Told> for Looks {
    fn from(told: Told) -> Self {
        let Told { width, height, duration_ms, pages, blur_hash, .. } = told;
        let bytes = |coded: String| BASE64_STANDARD.decode(coded).unwrap_or_default();
        let (waveform, thumbnail) = (bytes(told.waveform), bytes(told.thumbnail));
        Self { width, height, duration_ms, pages, blur_hash, waveform, thumbnail }
    }
}

impl Client {
    /// How a medium looks that one has uploaded; `None`: nobody has looked at it, or there is nothing to be seen.
    pub async fn looks(&self, medium: MediaId) -> Result<Option<Looks>, Error> {
        let place = self.media_place().await?;
        let url: Uri = place.url.parse().map_err(|_| Error::Protocol("where media are is no URL"))?;
        let token = format!("Bearer {}", place.access_token);
        let asked = request(hyper::Method::GET, &format!("/uploads/{medium}/preview"), &token);
        let told = self.small(&url, asked).await?;
        let told = told.map(|told| serde_json::from_slice::<Told>(&told).map(Looks::from));
        told.transpose().map_err(|_| Error::Protocol("how a medium looks can't be read"))
    }

    /// The thumbnail of a medium that goes with a message, a JPEG; `None`: there is none.
    pub async fn thumbnail(&self, chat: u64, seq: u64, medium: MediaId) -> Result<Option<Vec<u8>>, Error> {
        let (url, _) = self.medium_link(chat, seq, medium).await?;
        let url: Uri = url.parse().map_err(|_| Error::Protocol("a link is no URL"))?;
        let path = format!("{}/preview?{}", url.path(), url.query().unwrap_or_default());
        self.small(&url, Request::builder().uri(path)).await
    }

    /// All of something small; `None`: it is not there.
    async fn small(&self, url: &Uri, asked: hyper::http::request::Builder) -> Result<Option<Vec<u8>>, Error> {
        let mut connection = Connection::open(url, self.https.clone()).await?;
        let answer = connection.ask(body(asked, Sending::nothing())?).await?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            _ => return Err(why(answer).await),
        }
        let (mut all, mut rest) = (Vec::new(), answer.into_body());
        while let Some(piece) = piece(&mut rest).await? {
            all.extend_from_slice(&piece);
            if all.len() > BYTES_MAX {
                return Err(Error::Protocol("what a medium looks like is too long"));
            }
        }
        Ok(Some(all))
    }
}
