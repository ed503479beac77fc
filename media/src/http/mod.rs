//! The listener for media: HTTPS on threads of its own, beside the cores.
//!
//! `/uploads` takes uploads by tus 1.0 (tus.rs), `/media/ID` gives what has come, under signed links (download.rs).

mod answer;
mod download;
mod pace;
mod preview;
mod shares;
mod tus;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use self::answer::{Body, refused, says};
use self::pace::Pace;
use self::shares::{Shares, network_of};
use crate::gate::Gate;
use crate::id::MediaId;
use crate::limits::{ACCOUNT_LOOKS_MAX, HEAD_BYTES_MAX, HEAD_TIMEOUT, Limits, ORPHAN_AGE};
use crate::links::Links;
use crate::store::{Store, StoreError};
use crate::uploads::Uploads;

/// How long to wait before the next connection where none can be taken.
const NO_CONNECTION: Duration = Duration::from_millis(50);

/// Media, as the listener gives and takes them.
pub struct Media {
    store: Arc<dyn Store>,
    gate: Arc<dyn Gate>,
    uploads: Uploads,
    links: Links,
    limits: Limits,
    /// Whose bytes are on their way to the disk: one upload's at a time, so that whatever else waits for the disk waits for few of them.
    syncs: Semaphore,
    pace: Pace,
    /// `None`: nobody makes any.
    previews: Option<tern_preview::Previews>,
    /// Connections, by network.
    connections: Shares<IpAddr>,
    /// Requests with which bytes come, by account.
    appends: Shares<u64>,
    /// Media that are looked at, or wait for it, by account.
    looks: Shares<u64>,
}

impl Media {
    /// Media that lie in a store, with uploads in a folder.
    ///
    /// # Errors
    /// The folder can't be made.
    pub fn new(
        store: Arc<dyn Store>,
        gate: Arc<dyn Gate>,
        uploads: impl Into<std::path::PathBuf>,
        links: Links,
        limits: Limits,
    ) -> io::Result<Self> {
        let uploads = Uploads::open(uploads.into())?;
        let pace = Pace::new(limits.upload_bytes_per_s);
        let connections = Shares::new(limits.network_connections_max);
        let appends = Shares::new(limits.account_uploads_max);
        let (syncs, looks) = (Semaphore::new(1), Shares::new(ACCOUNT_LOOKS_MAX));
        Ok(Self {
            store,
            gate,
            uploads,
            links,
            limits,
            syncs,
            pace,
            previews: None,
            connections,
            appends,
            looks,
        })
    }

    /// Removes uploads to which nothing has come for so long as they are valid. Those of which all has come are ended as they would have been.
    ///
    /// # Errors
    /// Their folder can't be read, or one can't be removed.
    pub async fn sweep(&self) -> Result<(), StoreError> {
        let valid = self.limits.upload_valid;
        for upload in self.of_uploads(move |uploads| uploads.sweep(valid)).await? {
            let id = upload.declared.id;
            let Some(_held) = self.uploads.hold(id) else { continue };
            // It may have ended meanwhile. What can't be now is tried again.
            if let Ok(Some(upload)) = self.of_uploads(move |uploads| uploads.get(id)).await {
                let _ = self.finish(&upload).await;
            }
        }
        Ok(())
    }

    /// Removes bytes of which nobody knows, of the media whose ids begin with this byte: what a crash has left. Gives how many.
    ///
    /// # Errors
    /// The store, or who knows, can't be asked.
    pub async fn sweep_orphans(&self, first: u8) -> Result<usize, StoreError> {
        let mut removed = 0;
        for (id, at) in self.store.list(first).await? {
            let is_young = at.elapsed().map_or(true, |age| age < ORPHAN_AGE);
            // An upload that has its place, and of which nobody could be told yet, is told of again.
            if is_young || self.of_uploads(move |uploads| uploads.get(id)).await?.is_some() {
                continue;
            }
            let is_known = self.gate.is_known(id).await;
            if !is_known.map_err(|refusal| StoreError::Failed(refusal.to_string()))? {
                self.store.remove(id).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Removes a medium, as its owner says: nothing has it any more. Nor is its upload left, of which it could be said again that it is whole.
    ///
    /// # Errors
    /// The store can't remove it now, or it is just being said that it is whole.
    pub async fn remove(&self, id: MediaId) -> Result<(), StoreError> {
        let held = self.uploads.take_over(id).await;
        let _held = held.ok_or_else(|| StoreError::Failed("its upload is just being ended".to_owned()))?;
        self.store.remove(id).await?;
        if self.of_uploads(move |uploads| uploads.get(id)).await?.is_some() {
            self.of_uploads(move |uploads| uploads.remove(id)).await?;
        }
        Ok(())
    }

    /// Answers connections until the listener is dropped.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, tls: Option<TlsAcceptor>) {
        let places = Arc::new(Semaphore::new(self.limits.connections_max));
        loop {
            let place = places.clone().acquire_owned().await.expect("nobody closes it");
            // Without descriptors, say: it is tried again when some may be free.
            let Ok((connection, from)) = listener.accept().await else {
                tokio::time::sleep(NO_CONNECTION).await;
                continue;
            };
            let Some(share) = self.connections.take(network_of(from.ip())) else { continue };
            let (media, tls) = (self.clone(), tls.clone());
            tokio::spawn(async move {
                // Whoever goes away, or is too slow, has no answer.
                let _ = media.serve_one(connection, tls).await;
                drop((place, share));
            });
        }
    }

    async fn serve_one(self: Arc<Self>, connection: TcpStream, tls: Option<TlsAcceptor>) -> Result<(), ()> {
        let _ = connection.set_nodelay(true);
        match tls {
            None => self.serve_stream(connection).await,
            Some(tls) => {
                let accepted = timeout(HEAD_TIMEOUT, tls.accept(connection)).await;
                self.serve_stream(accepted.map_err(|_| ())?.map_err(|_| ())?).await
            }
        }
    }

    async fn serve_stream(
        self: Arc<Self>,
        stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + 'static,
    ) -> Result<(), ()> {
        let mut stream = tokio_io_timeout::TimeoutWriter::new(stream);
        stream.set_timeout(Some(self.limits.idle_timeout));
        let service = service_fn(move |request| {
            let media = self.clone();
            // What is begun is done to its end, though whoever asked may go away.
            let answering = tokio::spawn(async move { media.answer(request).await });
            async move { Ok::<_, std::convert::Infallible>(answering.await.unwrap_or_else(failed)) }
        });
        let mut http = http1::Builder::new();
        http.half_close(true);
        http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_BYTES_MAX);
        http.serve_connection(TokioIo::new(Box::pin(stream)), service).await.map_err(drop)
    }

    async fn answer(&self, mut request: Request<Incoming>) -> Response<Body> {
        if let Some(method) = method_instead(&request) {
            *request.method_mut() = method;
        }
        let path = request.uri().path().to_owned();
        let of_upload = path.strip_prefix("/uploads/").and_then(|path| path.strip_suffix("/preview"));
        if let Some(place) = of_upload {
            return self.preview(&request, place).await;
        }
        if path == "/uploads" || path.starts_with("/uploads/") {
            return self.upload(request, path.strip_prefix("/uploads/")).await;
        }
        let of_medium = path.strip_prefix("/media/");
        if let Some(Ok(id)) = of_medium.and_then(|path| path.strip_suffix("/preview")).map(str::parse) {
            return self.thumbnail(&request, id).await;
        }
        match of_medium.map(str::parse) {
            Some(Ok(id)) => self.download(&request, id).await,
            _ => refused(
                StatusCode::NOT_FOUND,
                "there is nothing here: media are under /media, uploads under /uploads",
            ),
        }
    }
}

/// A request had no end: that is a fault.
fn failed(error: tokio::task::JoinError) -> Response<Body> {
    tracing::error!(%error, "a request for media was not answered");
    refused(StatusCode::INTERNAL_SERVER_ERROR, "the server has failed")
}

/// What clients mean whose way allows no PATCH or DELETE (tus 1.0.0, X-HTTP-Method-Override).
fn method_instead(request: &Request<Incoming>) -> Option<Method> {
    let method = says(request, "x-http-method-override").filter(|_| request.method() == Method::POST)?;
    [Method::PATCH, Method::DELETE, Method::HEAD].into_iter().find(|other| other.as_str() == method)
}

/// The time, in s since the Unix epoch.
fn unix_s() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_secs())
}
