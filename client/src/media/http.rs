//! HTTP/1.1 over TLS to where media are: one connection, one request after the other.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::http::uri::Scheme;
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::fs::File;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::timeout;

use super::{Progress, Tell};
use crate::error::Error;
use crate::wire;

/// How long a connection may take, and the answer to a request.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Bytes of a file that are read at once.
const PIECE_BYTES: usize = 64 << 10;

/// Bytes of an answer that says why not.
const WHY_BYTES_MAX: usize = 4 << 10;

/// A connection to where media are.
pub(super) struct Connection {
    sender: SendRequest<Sending>,
    host: String,
}

impl Connection {
    /// To the place of a URL.
    pub(super) async fn open(url: &Uri, tls: Arc<ClientConfig>) -> Result<Self, Error> {
        let bad = || Error::Config("the server names no HTTPS URL for media".to_owned());
        let authority = url.authority().filter(|_| url.scheme() == Some(&Scheme::HTTPS)).ok_or_else(bad)?;
        let server = match authority.port() {
            Some(_) => authority.as_str().to_owned(),
            None => format!("{}:443", authority.host()),
        };
        let connecting = async {
            let stream = wire::connect(server, tls).await?;
            handshake(TokioIo::new(stream)).await.map_err(broken)
        };
        let (sender, connection) =
            timeout(ANSWER_TIMEOUT, connecting).await.map_err(|_| Error::TimedOut)??;
        // It ends with whoever asks, or says so to them.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender, host: authority.as_str().to_owned() })
    }

    /// Asks, and gives the answer as soon as its head has come. What is sent takes as long as it takes, but does not stand still.
    pub(super) async fn ask(&mut self, mut request: Request<Sending>) -> Result<Response<Incoming>, Error> {
        let host = self.host.parse().map_err(|_| Error::Config("that is no host".to_owned()))?;
        request.headers_mut().insert("host", host);
        let sent = request.body().sent.clone();
        let mut asking = std::pin::pin!(self.sender.send_request(request));
        loop {
            let before = sent.load(Ordering::Relaxed);
            match timeout(ANSWER_TIMEOUT, &mut asking).await {
                Ok(answer) => return answer.map_err(broken),
                Err(_) if sent.load(Ordering::Relaxed) == before => return Err(Error::TimedOut),
                Err(_) => {}
            }
        }
    }
}

/// The next piece of an answer's body; `None`: it has ended.
pub(super) async fn piece(body: &mut Incoming) -> Result<Option<Bytes>, Error> {
    while let Some(frame) = timeout(ANSWER_TIMEOUT, body.frame()).await.map_err(|_| Error::TimedOut)? {
        if let Ok(data) = frame.map_err(broken)?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// A connection that broke, or what was to be sent over it can't be read.
fn broken(error: hyper::Error) -> Error {
    match error.is_user() {
        true => Error::Config(format!("what is to be sent can't be read: {}", Reason(&error))),
        false => Error::Connection(io::Error::other(error).into()),
    }
}

/// What is at the bottom of an error.
struct Reason<'a>(&'a hyper::Error);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::error::Error::source(self.0) {
            Some(source) => write!(f, "{source}"),
            None => write!(f, "{}", self.0),
        }
    }
}

/// What is sent: some of a file, or nothing.
pub(super) struct Sending {
    file: Option<File>,
    left: u64,
    progress: Progress,
    tell: Tell,
    /// Bytes that were taken of it, for whoever sees that it gets on.
    sent: Arc<AtomicU64>,
}

impl Sending {
    pub(super) fn nothing() -> Self {
        Self {
            file: None,
            left: 0,
            progress: Progress::default(),
            tell: Arc::new(|_| {}),
            sent: Arc::default(),
        }
    }

    /// What is left of a file that stands where it is to go on.
    pub(super) fn rest(file: File, progress: Progress, tell: Tell) -> Self {
        Self { file: Some(file), left: progress.all - progress.done, progress, tell, sent: Arc::default() }
    }
}

impl Body for Sending {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        let Some(file) = this.file.as_mut().filter(|_| this.left > 0) else { return Poll::Ready(None) };
        let mut piece = vec![0; this.left.min(PIECE_BYTES as u64) as usize];
        let mut read = ReadBuf::new(&mut piece);
        if let Err(error) = ready!(Pin::new(file).poll_read(cx, &mut read)) {
            return Poll::Ready(Some(Err(error)));
        }
        let bytes = read.filled().len();
        if bytes == 0 {
            return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
        }
        piece.truncate(bytes);
        this.left -= bytes as u64;
        this.progress.done += bytes as u64;
        this.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        (this.tell)(this.progress);
        Poll::Ready(Some(Ok(Frame::data(piece.into()))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Why a request was refused, as the server says.
pub(super) async fn why(answer: Response<Incoming>) -> Error {
    let status = answer.status();
    let mut said = Vec::new();
    let mut body = answer.into_body();
    while said.len() < WHY_BYTES_MAX
        && let Ok(Some(data)) = piece(&mut body).await
    {
        said.extend(data);
    }
    said.truncate(WHY_BYTES_MAX);
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    let why = if said.is_empty() { status.to_string() } else { said };
    Error::Media { status: status.as_u16(), why }
}
