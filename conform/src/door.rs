//! Where the client under test connects: TLS with a certificate that it trusts, or one that it must not, and frames.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tern_proto::v1;
use tern_wire::frame::{self, FrameBuffer};
use tern_wire::limits::FRAME_BYTES_MAX;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long to wait for bytes before looking elsewhere.
const LOOK: Duration = Duration::from_millis(5);

/// See the module.
pub struct Door {
    listener: TcpListener,
    trusted: Arc<ServerConfig>,
    stranger: Arc<ServerConfig>,
    /// The certificate that is shown is not the one that the client was given.
    pub is_strange: bool,
}

/// What has become of a connection that was made.
pub enum Opened {
    Link(Box<Link>),
    /// TLS did not come about.
    Failed(String),
}

/// A certificate for localhost, with what serves it.
fn certificate() -> (String, Arc<ServerConfig>) {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("PKCS #8");
    let chain = vec![CertificateDer::clone(made.cert.der())];
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3 is there")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("they belong together");
    config.alpn_protocols = vec![tern_wire::tls::ALPN.to_vec()];
    (made.cert.pem(), Arc::new(config))
}

impl Door {
    /// Listens on loopback; the certificate to trust is written there.
    pub fn open(ca_file: &Path) -> std::io::Result<Self> {
        let (pem, trusted) = certificate();
        std::fs::write(ca_file, pem)?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, trusted, stranger: certificate().1, is_strange: false })
    }

    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The next connection, if somebody connects.
    pub fn accept(&self) -> Option<Opened> {
        let (socket, _) = self.listener.accept().ok()?;
        Some(self.shake(socket).unwrap_or_else(|error| Opened::Failed(error.to_string())))
    }

    fn shake(&self, socket: TcpStream) -> std::io::Result<Opened> {
        socket.set_nonblocking(false)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(HANDSHAKE))?;
        let config = if self.is_strange { &self.stranger } else { &self.trusted };
        let connection = ServerConnection::new(config.clone()).map_err(std::io::Error::other)?;
        let mut stream = StreamOwned::new(connection, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        if stream.conn.alpn_protocol() != Some(tern_wire::tls::ALPN) {
            return Ok(Opened::Failed("it does not offer the ALPN protocol tern/1".to_owned()));
        }
        stream.sock.set_read_timeout(Some(LOOK))?;
        let link = Link { stream, buffer: FrameBuffer::default(), frames: VecDeque::new() };
        Ok(Opened::Link(Box::new(link)))
    }
}

/// A connection.
pub struct Link {
    stream: StreamOwned<ServerConnection, TcpStream>,
    buffer: FrameBuffer,
    frames: VecDeque<Result<v1::ClientFrame, String>>,
}

/// What has come.
pub enum Came {
    Frame(v1::ClientFrame),
    /// Bytes that the protocol does not have.
    Nonsense(String),
    End,
    Nothing,
}

impl Link {
    /// What has come since, if anything has.
    pub fn poll(&mut self) -> Came {
        if self.frames.is_empty() {
            let mut bytes = [0; 16 << 10];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Came::End,
                Ok(read) => self.take(&bytes[..read]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return Came::End,
            }
        }
        match self.frames.pop_front() {
            Some(Ok(frame)) => Came::Frame(frame),
            Some(Err(why)) => Came::Nonsense(why),
            None => Came::Nothing,
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let mut frames = self.buffer.read(bytes);
        loop {
            let frame = match frames.next(FRAME_BYTES_MAX) {
                Ok(Some(frame)) => {
                    v1::ClientFrame::decode(frame).map_err(|_| "a frame is no ClientFrame".to_owned())
                }
                Ok(None) => return,
                Err(_) => Err("a frame is longer than any may be".to_owned()),
            };
            let is_nonsense = frame.is_err();
            self.frames.push_back(frame);
            if is_nonsense {
                return;
            }
        }
    }

    /// Says something. If nobody hears it any more, that is seen when reading.
    pub fn say(&mut self, message: &v1::ServerFrame) {
        let mut bytes = Vec::new();
        frame::encode(message, &mut bytes);
        self.say_bytes(&bytes);
    }

    /// Says a frame's message as bytes of one's own.
    pub fn say_message(&mut self, message: &[u8]) {
        let mut bytes = Vec::new();
        prost::encoding::encode_varint(message.len() as u64, &mut bytes);
        bytes.extend_from_slice(message);
        self.say_bytes(&bytes);
    }

    fn say_bytes(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).and_then(|()| self.stream.flush());
    }
}
