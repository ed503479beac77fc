//! Media in object storage that speaks S3: `PREFIX/XX/ID` has the bytes, where XX is the first byte of the id in hexadecimal,
//! `PREFIX/XX/ID.json` what is known of them, and `PREFIX/XX/ID.preview` how they look. An object is there as a whole or not at all. What is known
//! is there before the bytes are, and goes after them; it is in no metadata of theirs, which whoever has a link may see.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path as File;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use object_store::ClientOptions;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::signer::{SignedUrlOptions, Signer as _};
use object_store::{
    Attribute, AttributeValue, Attributes, BackoffConfig, Error, GetOptions, GetRange, ObjectMeta,
    ObjectStore as _, ObjectStoreExt as _, PutMultipartOptions, PutOptions, RetryConfig, WriteMultipart,
};
use tokio::io::AsyncReadExt as _;
use tokio::sync::{Semaphore, mpsc};

use super::{About, Pieces, Store, StoreError};
use crate::gate::Doing;
use crate::id::MediaId;

/// Bytes of a part of what is put there, at least: all but the last are to have as many; and how many parts there may be (Amazon S3, "Multipart
/// upload limits").
const PART_BYTES_MIN: u64 = 5 << 20;
const PARTS_MAX: u64 = 10_000;

/// For how long a link may be signed (Amazon S3, "Signature Version 4", `X-Amz-Expires`).
const SIGNED_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// Parts of an object that are on their way at once.
const PARTS_AT_ONCE: usize = 2;

/// Objects that are on their way there at once: each has its parts in memory.
const PUTS_AT_ONCE: usize = 4;

/// Pieces that are read before they are taken.
const PIECES_AHEAD: usize = 1;

/// How long a connection may take; and a request until it is answered, all that it sends included, or what is read until more of it comes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const QUIET_TIMEOUT: Duration = Duration::from_secs(60);

/// How often a request is tried again, and for how long in all.
const TRIES_AGAIN: usize = 4;
const TRIED_FOR: Duration = Duration::from_secs(20);

/// What lies beside a medium.
const KNOWN: &str = ".json";
const PREVIEW: &str = ".preview";

/// See the module.
#[derive(Clone, Debug)]
pub struct BucketStore {
    bucket: Arc<AmazonS3>,
    prefix: String,
    is_direct: bool,
    puts: Arc<Semaphore>,
}

/// Why a bucket is none.
#[derive(Debug)]
pub enum BadBucket {
    /// Its URL is not `s3://BUCKET` or `s3://BUCKET/PREFIX`.
    Url,
    /// What the environment says of it can't be used.
    Settings(String),
}

impl std::fmt::Display for BadBucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Url => f.write_str("a bucket is to be said as s3://BUCKET or s3://BUCKET/PREFIX"),
            Self::Settings(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for BadBucket {}

impl BucketStore {
    /// In the bucket of a URL, `s3://BUCKET/PREFIX`. How it is reached, and as whom, the `AWS_` variables of an environment say, as to other
    /// programs: `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` (or what the machine itself is let in by), `AWS_REGION`, and for others than
    /// Amazon's `AWS_ENDPOINT_URL` (and `AWS_ALLOW_HTTP`). With `is_direct`, whoever has a link is sent there.
    ///
    /// # Errors
    /// The URL, or what the environment says, can't be used. Nothing is asked of the bucket yet.
    pub fn open(
        url: &str,
        environment: impl IntoIterator<Item = (String, String)>,
        is_direct: bool,
    ) -> Result<Self, BadBucket> {
        let place = url.strip_prefix("s3://").map(|place| place.trim_end_matches('/'));
        let place = place.filter(|place| !place.is_empty() && !place.starts_with('/'));
        let (bucket, prefix) =
            place.map(|place| place.split_once('/').unwrap_or((place, ""))).ok_or(BadBucket::Url)?;
        let retry = RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(5),
                base: 2.0,
            },
            max_retries: TRIES_AGAIN,
            retry_timeout: TRIED_FOR,
        };
        // How long all of it may take is not bounded: whoever takes it may be slow.
        let client = ClientOptions::new()
            .with_timeout_disabled()
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_read_timeout(QUIET_TIMEOUT);
        let mut builder = AmazonS3Builder::new().with_client_options(client);
        for (name, value) in environment.into_iter().filter(|(name, _)| name.starts_with("AWS_")) {
            if let Ok(key) = name.to_ascii_lowercase().parse() {
                builder = builder.with_config(key, value);
            }
        }
        // Not all that speak S3 remove several at once.
        let builder = builder.with_bucket_name(bucket).with_retry(retry).with_disable_bulk_delete(true);
        let bucket = builder.build();
        Ok(Self {
            bucket: Arc::new(bucket.map_err(|error| BadBucket::Settings(error.to_string()))?),
            prefix: prefix.to_owned(),
            is_direct,
            puts: Arc::new(Semaphore::new(PUTS_AT_ONCE)),
        })
    }

    fn part(&self, first: u8) -> Path {
        Path::from(format!("{}/{first:02x}", self.prefix))
    }

    fn place(&self, id: MediaId) -> Path {
        self.part(id.as_bytes()[0]).join(id.to_string())
    }

    /// Where something of a medium lies.
    fn place_of(&self, id: MediaId, what: &str) -> Path {
        self.part(id.as_bytes()[0]).join(format!("{id}{what}"))
    }

    /// All of something small; `None`: it is not there.
    async fn small(&self, place: &Path) -> Result<Option<Bytes>, StoreError> {
        match self.bucket.get(place).await {
            Ok(found) => Ok(Some(found.bytes().await?)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn put_small(&self, place: &Path, bytes: Vec<u8>) -> Result<(), StoreError> {
        let put = self.bucket.put(place, Bytes::from(bytes).into()).await;
        put.map(drop).map_err(|error| StoreError::from(error).of_bucket())
    }

    async fn about_of(&self, id: MediaId) -> Result<Option<About>, StoreError> {
        let Some(json) = self.small(&self.place_of(id, KNOWN)).await? else { return Ok(None) };
        let bytes = match self.bucket.head(&self.place(id)).await {
            Ok(object) => object.size,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let about: About = serde_json::from_slice(&json)
            .map_err(|error| StoreError::Damaged(format!("what is known of {id:?}: {error}")))?;
        if about.bytes != bytes {
            let why = format!("{id:?} has {bytes} bytes, and is to have {}", about.bytes);
            return Err(StoreError::Damaged(why));
        }
        Ok(Some(about))
    }

    async fn put(&self, id: MediaId, about: &About, file: &File) -> Result<(), StoreError> {
        let put = self.put_all(id, about, file).await;
        put.map_err(StoreError::of_bucket)?;
        tokio::fs::remove_file(file).await.map_err(of_disk)
    }

    /// What is known of it, and then its bytes. Whoever asks for it knows that it is not there; if it is all the same, it becomes what it was.
    async fn put_all(&self, id: MediaId, about: &About, file: &File) -> Result<(), StoreError> {
        let _turn = self.puts.acquire().await.expect("nobody closes it");
        let known = serde_json::to_vec(about).expect("it is text and numbers");
        self.put_small(&self.place_of(id, KNOWN), known).await?;
        let mut from = tokio::fs::File::open(file).await.map_err(of_disk)?;
        let (place, attributes) = (self.place(id), attributes(about));
        if about.bytes <= PART_BYTES_MIN {
            let mut bytes = Vec::with_capacity(about.bytes as usize);
            from.read_to_end(&mut bytes).await.map_err(of_disk)?;
            let options = PutOptions { attributes, ..PutOptions::default() };
            self.bucket.put_opts(&place, Bytes::from(bytes).into(), options).await?;
            return Ok(());
        }
        let options = PutMultipartOptions { attributes, ..PutMultipartOptions::default() };
        let upload = self.bucket.put_multipart_opts(&place, options).await?;
        let part_bytes = PART_BYTES_MIN.max(about.bytes.div_ceil(PARTS_MAX)) as usize;
        let mut parts = WriteMultipart::new_with_chunk_size(upload, part_bytes);
        if let Err(error) = put_parts(&mut parts, from, part_bytes).await {
            // What stays of it is the bucket's to remove.
            let _ = parts.abort().await;
            return Err(error);
        }
        parts.finish().await?;
        Ok(())
    }

    async fn listed(&self, first: u8) -> Result<Vec<(MediaId, SystemTime)>, StoreError> {
        let found = self.bucket.list(Some(&self.part(first)));
        let media = found.try_filter_map(async |object: ObjectMeta| {
            let name = object.location.filename().unwrap_or_default();
            let id: Option<MediaId> = name.split('.').next().unwrap_or(name).parse().ok();
            Ok(id.map(|id| (id, object.last_modified.into())))
        });
        // Of each there are several.
        Ok(media.try_collect::<BTreeMap<_, _>>().await?.into_iter().collect())
    }

    async fn removed(&self, place: &Path) -> Result<(), StoreError> {
        match self.bucket.delete(place).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Store for BucketStore {
    fn keep<'a>(
        &'a self,
        id: MediaId,
        about: &'a About,
        file: &'a File,
    ) -> Doing<'a, Result<(), StoreError>> {
        Box::pin(self.put(id, about, file))
    }

    fn about(&self, id: MediaId) -> Doing<'_, Result<Option<About>, StoreError>> {
        Box::pin(self.about_of(id))
    }

    fn keep_preview<'a>(&'a self, id: MediaId, json: &'a [u8]) -> Doing<'a, Result<(), StoreError>> {
        Box::pin(async move { self.put_small(&self.place_of(id, PREVIEW), json.to_owned()).await })
    }

    fn preview(&self, id: MediaId) -> Doing<'_, Result<Option<Vec<u8>>, StoreError>> {
        Box::pin(async move { Ok(self.small(&self.place_of(id, PREVIEW)).await?.map(Vec::from)) })
    }

    fn read(&self, id: MediaId, bytes: Range<u64>) -> Doing<'_, Result<Pieces, StoreError>> {
        Box::pin(async move {
            let range = Some(GetRange::Bounded(bytes));
            let found =
                self.bucket.get_opts(&self.place(id), GetOptions { range, ..GetOptions::default() }).await?;
            let mut stream = found.into_stream();
            let (sender, pieces) = mpsc::channel(PIECES_AHEAD);
            // It ends with whoever takes the pieces.
            drop(tokio::spawn(async move {
                while let Ok(room) = sender.reserve().await
                    && let Some(piece) = stream.try_next().await.transpose()
                {
                    room.send(piece.map_err(StoreError::from));
                }
            }));
            Ok(pieces)
        })
    }

    fn list(&self, first: u8) -> Doing<'_, Result<Vec<(MediaId, SystemTime)>, StoreError>> {
        Box::pin(self.listed(first))
    }

    fn remove(&self, id: MediaId) -> Doing<'_, Result<(), StoreError>> {
        Box::pin(async move {
            for place in [self.place(id), self.place_of(id, PREVIEW), self.place_of(id, KNOWN)] {
                self.removed(&place).await?;
            }
            Ok(())
        })
    }

    fn link(
        &self,
        id: MediaId,
        method: hyper::Method,
        valid: Duration,
    ) -> Doing<'_, Result<Option<String>, StoreError>> {
        Box::pin(async move {
            if !self.is_direct {
                return Ok(None);
            }
            let valid = valid.min(SIGNED_MAX);
            // What is before the bucket has it no longer than the link is good.
            let cached = format!("public, max-age={}", valid.as_secs());
            let options = SignedUrlOptions::new().with_query([("response-cache-control", cached)]);
            let url = self.bucket.signed_url_opts(method, &self.place(id), valid, &options).await?;
            Ok(Some(url.into()))
        })
    }
}

async fn put_parts(
    parts: &mut WriteMultipart,
    mut from: tokio::fs::File,
    part_bytes: usize,
) -> Result<(), StoreError> {
    loop {
        let mut piece = Vec::with_capacity(part_bytes);
        (&mut from).take(part_bytes as u64).read_to_end(&mut piece).await.map_err(of_disk)?;
        if piece.is_empty() {
            return Ok(());
        }
        parts.wait_for_capacity(PARTS_AT_ONCE).await?;
        parts.put(piece.into());
    }
}

/// What whoever has a link may see of a medium.
fn attributes(about: &About) -> Attributes {
    let shown: [(Attribute, AttributeValue); 2] = [
        (Attribute::ContentType, about.of.clone().into()),
        // What somebody has uploaded is not shown as a page of the bucket's.
        (Attribute::ContentDisposition, "attachment".into()),
    ];
    shown.into_iter().collect()
}

/// Of the directory in which uploads lie: the bucket has no part in it.
fn of_disk(error: std::io::Error) -> StoreError {
    match StoreError::from(error) {
        StoreError::Failed(why) => StoreError::Disk(why),
        error => error,
    }
}

impl StoreError {
    /// What is not there where something is put is the bucket.
    fn of_bucket(self) -> Self {
        match self {
            Self::Gone => Self::Failed("there is no such bucket".to_owned()),
            error => error,
        }
    }
}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        if matches!(error, Error::NotFound { .. }) {
            return Self::Gone;
        }
        let why = error.to_string();
        // As the servers of several makers say it.
        let is_full = ["507 ", "QuotaExceeded", "StorageFull"].iter().any(|word| why.contains(word));
        if is_full { Self::Full } else { Self::Failed(why) }
    }
}
