//! One connection to the server: TLS and frames.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tern_proto::v1::{self, client_frame, server_frame};
use tern_wire::frame::{self, FrameBuffer};
use tern_wire::limits::SERVER_FRAME_BYTES_MAX;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::error::Error;
use crate::trust::Untrusted;

/// How long connecting and the TLS handshake may take together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a response may take.
pub(crate) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a clean end may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The credit window for pushes.
pub(crate) const PUSH_FRAMES_MAX: u32 = 512;
pub(crate) const PUSH_BYTES_MAX: u32 = 4 << 20;

/// A connection.
pub(crate) struct Link {
    stream: TlsStream<TcpStream>,
    buffer: FrameBuffer,
    /// Frames that have come with the last read, newest first, with their lengths.
    frames: Vec<(v1::ServerFrame, usize)>,
    out: Vec<u8>,
    next_id: u64,
    pub(crate) limits: v1::Limits,
    /// Names the store; empty if the server does not.
    pub(crate) store: Bytes,
    /// Names this run of it; 0 if the server does not.
    pub(crate) generation: u64,
}

impl Link {
    /// Connects and says hello.
    pub(crate) async fn connect(server: &str, tls: Arc<ClientConfig>) -> Result<Self, Error> {
        let name = server_name(server)?;
        let connect = async {
            let socket = TcpStream::connect(server).await?;
            socket.set_nodelay(true)?;
            TlsConnector::from(tls).connect(name, socket).await
        };
        let stream = match timeout(CONNECT_TIMEOUT, connect).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
                return Err(inner.map(Untrusted::error_of).unwrap_or_else(|| error.into()));
            }
            Err(_) => return Err(Error::TimedOut),
        };
        let mut link = Self {
            stream,
            buffer: FrameBuffer::default(),
            frames: Vec::new(),
            out: Vec::new(),
            next_id: 0,
            limits: v1::Limits::default(),
            store: Bytes::new(),
            generation: 0,
        };
        let hello = v1::Hello {
            version_min: 1,
            version_max: 1,
            client: concat!("tern-client ", env!("CARGO_PKG_VERSION")).to_owned(),
            features: 0,
            push_frames_max: PUSH_FRAMES_MAX,
            push_bytes_max: PUSH_BYTES_MAX,
        };
        match link.call(client_frame::Request::Hello(hello)).await? {
            server_frame::Message::Welcome(welcome) => {
                link.limits = welcome.limits.ok_or(Error::Protocol("a Welcome has no limits"))?;
                (link.store, link.generation) = (welcome.store, welcome.generation);
                Ok(link)
            }
            _ => Err(Error::Protocol("Hello was answered by something else")),
        }
    }

    /// Queues a request under a new id, which is given. [`Link::flush`] sends it.
    pub(crate) fn queue(&mut self, request: client_frame::Request) -> u64 {
        self.next_id += 1;
        self.queue_as(self.next_id, request);
        self.next_id
    }

    /// The bytes of a request's frame, without its length, that count in the window.
    pub(crate) fn bytes_of(request: &client_frame::Request) -> u64 {
        // The id takes no more than this.
        const ID_BYTES: usize = 11;
        (request.encoded_len() + ID_BYTES) as u64
    }

    /// Queues a request that is not answered.
    pub(crate) fn queue_silent(&mut self, request: client_frame::Request) {
        self.queue_as(0, request);
    }

    fn queue_as(&mut self, id: u64, request: client_frame::Request) {
        frame::encode(&v1::ClientFrame { id, request: Some(request) }, &mut self.out);
    }

    /// Sends what is queued. Not to be cancelled in between.
    pub(crate) async fn flush(&mut self) -> Result<(), Error> {
        if !self.out.is_empty() {
            let out = std::mem::take(&mut self.out);
            let write = async {
                self.stream.write_all(&out).await?;
                self.stream.flush().await
            };
            timeout(RESPONSE_TIMEOUT, write).await.map_err(|_| Error::TimedOut)??;
        }
        Ok(())
    }

    /// A frame that has come with the last read, and its bytes.
    pub(crate) fn ready(&mut self) -> Option<(v1::ServerFrame, usize)> {
        self.frames.pop()
    }

    /// The next frame and its bytes. May be cancelled.
    pub(crate) async fn receive(&mut self) -> Result<(v1::ServerFrame, usize), Error> {
        loop {
            if let Some(frame) = self.frames.pop() {
                return Ok(frame);
            }
            let mut bytes = [0; 16 * 1024];
            let read = self.stream.read(&mut bytes).await?;
            if read == 0 {
                return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
            }
            let mut frames = self.buffer.read(&bytes[..read]);
            let too_large = |_| Error::Protocol("a frame is too long");
            while let Some(frame) = frames.next(SERVER_FRAME_BYTES_MAX).map_err(too_large)? {
                let length = frame.len();
                let frame = v1::ServerFrame::decode(frame);
                self.frames.push((frame.map_err(|_| Error::Protocol("a frame is malformed"))?, length));
            }
            self.frames.reverse();
        }
    }

    /// Sends a request and waits for its response: for the time before Resume, when nothing is pushed.
    pub(crate) async fn call(
        &mut self,
        request: client_frame::Request,
    ) -> Result<server_frame::Message, Error> {
        let id = self.queue(request);
        self.flush().await?;
        let answer = async {
            let (frame, _) = self.receive().await?;
            match frame.message {
                Some(server_frame::Message::Refused(refused)) if frame.id == id => Err(refused.into()),
                Some(server_frame::Message::GoAway(bye)) => Err(went_away(bye)),
                Some(message) if frame.id == id => Ok(message),
                _ => Err(Error::Protocol("another response was expected")),
            }
        };
        timeout(RESPONSE_TIMEOUT, answer).await.unwrap_or(Err(Error::TimedOut))
    }

    /// Sends what is queued, and ends the connection cleanly.
    pub(crate) async fn close(mut self) {
        let end = async {
            let _ = self.flush().await;
            self.stream.shutdown().await
        };
        // A server that does not take the end learns of it from its own timeout.
        let _ = timeout(CLOSE_TIMEOUT, end).await;
    }
}

pub(crate) fn went_away(bye: v1::GoAway) -> Error {
    Error::Refused { reason: bye.reason(), retry_after_ms: bye.reconnect_after_ms, detail: bye.detail }
}

/// The name that the server's certificate must have: the host, and `localhost` for loopback addresses.
fn server_name(server: &str) -> Result<ServerName<'static>, Error> {
    let bad = || Error::Config(format!("{server:?} is no server address: HOST:PORT"));
    let (host, port) = server.rsplit_once(':').ok_or_else(bad)?;
    port.parse::<u16>().map_err(|_| bad())?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let loopback = host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    ServerName::try_from(if loopback { "localhost" } else { host }.to_owned()).map_err(|_| bad())
}
