//! Media in object storage that speaks S3: `PREFIX/XX/ID` has the bytes, where XX is the first byte of the id in hexadecimal, and its metadata
//! say what is known of them; `PREFIX/XX/ID.preview` how they look. An object is there as a whole or not at all, whatever happens meanwhile.

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
use object_store::signer::Signer as _;
use object_store::{
    Attribute, AttributeValue, Attributes, BackoffConfig, Error, GetOptions, GetRange, ObjectMeta,
    ObjectStore as _, ObjectStoreExt as _, PutMultipartOptions, PutOptions, RetryConfig, WriteMultipart,
};
use tokio::io::AsyncReadExt as _;
use tokio::sync::{Semaphore, mpsc};

use super::{About, Pieces, Store, StoreError};
use crate::gate::Doing;
use crate::id::MediaId;
use crate::metadata::{digest_of, hexadecimal};

/// Bytes of a part of what is put there. All but the last are to have 5 MiB at least (Amazon S3, "Multipart upload limits").
const PART_BYTES: usize = 8 << 20;

/// Parts of an object that are on their way at once.
const PARTS_AT_ONCE: usize = 2;

/// Objects that are on their way there at once: each has its parts in memory.
const PUTS_AT_ONCE: usize = 4;

/// Pieces that are read before they are taken.
const PIECES_AHEAD: usize = 1;

/// How long a connection may take; and how long nothing may come.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const QUIET_TIMEOUT: Duration = Duration::from_secs(30);

/// How often a request is tried again, and for how long in all.
const TRIES_AGAIN: usize = 4;
const TRIED_FOR: Duration = Duration::from_secs(20);

/// The keys of what is known of a medium.
const SHA256: &str = "tern-sha256";
const OWNER: &str = "tern-owner";

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
        let bucket = builder.with_bucket_name(bucket).with_retry(retry).build();
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

    fn preview_place(&self, id: MediaId) -> Path {
        self.part(id.as_bytes()[0]).join(format!("{id}.preview"))
    }

    async fn about_of(&self, id: MediaId) -> Result<Option<About>, StoreError> {
        let head = GetOptions { head: true, ..GetOptions::default() };
        match self.bucket.get_opts(&self.place(id), head).await {
            Ok(found) => known(&found.attributes, &found.meta).map(Some),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn put(&self, id: MediaId, about: &About, file: &File) -> Result<(), StoreError> {
        let put = self.put_if_absent(id, about, file).await;
        put.map_err(StoreError::of_bucket)?;
        Ok(tokio::fs::remove_file(file).await?)
    }

    async fn put_if_absent(&self, id: MediaId, about: &About, file: &File) -> Result<(), StoreError> {
        if self.about_of(id).await?.is_none() {
            let _turn = self.puts.acquire().await.expect("nobody closes it");
            let mut from = tokio::fs::File::open(file).await?;
            let (place, attributes) = (self.place(id), attributes(about));
            if about.bytes <= PART_BYTES as u64 {
                let mut bytes = Vec::with_capacity(about.bytes as usize);
                from.read_to_end(&mut bytes).await?;
                let options = PutOptions { attributes, ..PutOptions::default() };
                self.bucket.put_opts(&place, Bytes::from(bytes).into(), options).await?;
            } else {
                let options = PutMultipartOptions { attributes, ..PutMultipartOptions::default() };
                let upload = self.bucket.put_multipart_opts(&place, options).await?;
                let mut parts = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
                if let Err(error) = put_parts(&mut parts, from).await {
                    // What stays of it is the bucket's to remove.
                    let _ = parts.abort().await;
                    return Err(error);
                }
                parts.finish().await?;
            }
        }
        Ok(())
    }

    async fn listed(&self, first: u8) -> Result<Vec<(MediaId, SystemTime)>, StoreError> {
        let found = self.bucket.list(Some(&self.part(first)));
        let media = found.try_filter_map(async |object: ObjectMeta| {
            let name = object.location.filename().unwrap_or_default();
            let id: Option<MediaId> = name.strip_suffix(".preview").unwrap_or(name).parse().ok();
            Ok(id.map(|id| (id, object.last_modified.into())))
        });
        // Of one that has a preview there are two.
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
        Box::pin(async move {
            let bytes = Bytes::copy_from_slice(json);
            let put = self.bucket.put(&self.preview_place(id), bytes.into()).await;
            put.map(drop).map_err(|error| StoreError::from(error).of_bucket())
        })
    }

    fn preview(&self, id: MediaId) -> Doing<'_, Result<Option<Vec<u8>>, StoreError>> {
        Box::pin(async move {
            match self.bucket.get(&self.preview_place(id)).await {
                Ok(found) => Ok(Some(found.bytes().await?.into())),
                Err(Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(error.into()),
            }
        })
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
            self.removed(&self.place(id)).await?;
            self.removed(&self.preview_place(id)).await
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
            let url = self.bucket.signed_url(method, &self.place(id), valid).await?;
            Ok(Some(url.into()))
        })
    }
}

async fn put_parts(parts: &mut WriteMultipart, mut from: tokio::fs::File) -> Result<(), StoreError> {
    let mut piece = Vec::with_capacity(PART_BYTES);
    loop {
        piece.clear();
        (&mut from).take(PART_BYTES as u64).read_to_end(&mut piece).await?;
        if piece.is_empty() {
            return Ok(());
        }
        parts.wait_for_capacity(PARTS_AT_ONCE).await?;
        parts.put(Bytes::copy_from_slice(&piece));
    }
}

/// What is known of a medium, as an object's attributes have it.
fn attributes(about: &About) -> Attributes {
    let known: [(Attribute, AttributeValue); 6] = [
        (Attribute::ContentType, about.of.clone().into()),
        // What somebody has uploaded is not shown as a page of the bucket's.
        (Attribute::ContentDisposition, "attachment".into()),
        (Attribute::CacheControl, "public, max-age=31536000, immutable".into()),
        (Attribute::Metadata(SHA256.into()), hexadecimal(&about.sha256).into()),
        (Attribute::Metadata(OWNER.into()), about.owner.to_string().into()),
        (Attribute::Metadata("tern".into()), "1".into()),
    ];
    known.into_iter().collect()
}

fn known(attributes: &Attributes, meta: &ObjectMeta) -> Result<About, StoreError> {
    let says = |key: &'static str| attributes.get(&Attribute::Metadata(key.into())).map(|value| &**value);
    let of = attributes.get(&Attribute::ContentType).map(|value| value.to_string());
    let sha256 = says(SHA256).and_then(digest_of);
    let owner = says(OWNER).and_then(|owner| owner.parse().ok());
    match (of, sha256, owner) {
        (Some(of), Some(sha256), Some(owner)) => Ok(About { of, bytes: meta.size, sha256, owner }),
        _ => Err(StoreError::Damaged(format!("{} does not say what it is", meta.location))),
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
