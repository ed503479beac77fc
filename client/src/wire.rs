//! The socket under a client: TLS over TCP, read and written at once. It knows no frame.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::error::Error;
use crate::machine::{ConnectionId, Input};
use crate::trust::Untrusted;

/// How long a clean end may take.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How much is read at once, at most.
const READ_BYTES: usize = 16 * 1024;

type Stream = TlsStream<TcpStream>;

/// Connects, up to and with TLS.
pub(crate) async fn connect(server: String, tls: Arc<ClientConfig>) -> Result<Stream, Error> {
    let name = server_name(&server)?;
    let connect = async {
        let socket = TcpStream::connect(&server).await?;
        socket.set_nodelay(true)?;
        TlsConnector::from(tls).connect(name, socket).await
    };
    connect.await.map_err(|error| {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        inner.map(Untrusted::error_of).unwrap_or_else(|| error.into())
    })
}

/// A connection of the machine's, on its way up or up.
pub(crate) enum Wire {
    /// There is none.
    Down,
    Connecting(ConnectionId, Pin<Box<dyn Future<Output = Result<Stream, Error>> + Send>>),
    Up(Box<Up>),
}

/// A connection that stands.
pub(crate) struct Up {
    connection: ConnectionId,
    reader: ReadHalf<Stream>,
    writing: Writing,
}

/// What is being written.
struct Writing {
    writer: WriteHalf<Stream>,
    /// What is to be written, and how much of it is. No more than the machine has requests and credit under way.
    out: Vec<u8>,
    written: usize,
    /// Something was written, and may still lie in TLS's buffers.
    unflushed: bool,
}

impl Wire {
    pub(crate) fn connecting(connection: ConnectionId, server: String, tls: Arc<ClientConfig>) -> Self {
        Self::Connecting(connection, Box::pin(connect(server, tls)))
    }

    /// Has bytes written by [`Wire::next`].
    pub(crate) fn queue(&mut self, connection: ConnectionId, bytes: Vec<u8>) {
        match self {
            Self::Up(up) if up.connection == connection => up.writing.add(bytes),
            // It was lost, which the machine is about to hear.
            Self::Down | Self::Connecting(..) | Self::Up(_) => {}
        }
    }

    /// What happens on the connection next. May be cancelled.
    pub(crate) async fn next(&mut self) -> Input {
        match self {
            Self::Down => std::future::pending().await,
            Self::Connecting(connection, connecting) => {
                let connection = *connection;
                match connecting.await {
                    Ok(stream) => {
                        *self = Self::Up(Box::new(Up::new(connection, stream)));
                        Input::Connected(connection)
                    }
                    Err(error) => {
                        *self = Self::Down;
                        Input::Lost(connection, error)
                    }
                }
            }
            Self::Up(up) => match up.receive().await {
                Ok(bytes) => Input::Received(up.connection, bytes),
                Err(error) => {
                    let connection = up.connection;
                    *self = Self::Down;
                    Input::Lost(connection, error.into())
                }
            },
        }
    }

    /// Writes what is queued, and ends the connection cleanly.
    pub(crate) async fn close(&mut self) {
        if let Self::Up(mut up) = std::mem::replace(self, Self::Down) {
            let end = async {
                while up.writing.is_any() {
                    up.writing.go_on().await?;
                }
                up.writing.writer.shutdown().await
            };
            // A server that does not take the end learns of it from its own timeout.
            let _ = timeout(CLOSE_TIMEOUT, end).await;
        }
    }
}

impl Up {
    fn new(connection: ConnectionId, stream: Stream) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        let writing = Writing { writer, out: Vec::new(), written: 0, unflushed: false };
        Self { connection, reader, writing }
    }

    /// The next bytes. Meanwhile what is queued is written: a server that has much unread reads nothing more. May be cancelled.
    async fn receive(&mut self) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(READ_BYTES);
        loop {
            tokio::select! {
                read = self.reader.read_buf(&mut bytes) => return match read? {
                    0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
                    _ => Ok(bytes),
                },
                done = self.writing.go_on(), if self.writing.is_any() => done?,
            }
        }
    }
}

impl Writing {
    fn is_any(&self) -> bool {
        self.unflushed || !self.out.is_empty()
    }

    fn add(&mut self, bytes: Vec<u8>) {
        match self.out.is_empty() {
            true => self.out = bytes,
            false => self.out.extend_from_slice(&bytes),
        }
    }

    /// Writes a part. May be cancelled: what was written counts as that.
    async fn go_on(&mut self) -> std::io::Result<()> {
        if self.out.is_empty() {
            self.writer.flush().await?;
            self.unflushed = false;
            return Ok(());
        }
        let written = self.writer.write(&self.out[self.written..]).await?;
        if written == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        self.unflushed = true;
        self.written += written;
        if self.written == self.out.len() {
            (self.out, self.written) = (Vec::new(), 0);
        }
        Ok(())
    }
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
