//! A client that says exactly what a test wants, byte for byte, and shows what comes back.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};
use tern_proto::v1::{self, client_frame, server_frame};
use tern_wire::frame::{self, FrameBuffer};
use tern_wire::ids::{Phone, PhoneHash};
use tern_wire::limits::SERVER_FRAME_BYTES_MAX;

use crate::Ternd;

/// How long an answer may take before the test is taken to hang.
const HANG: Duration = Duration::from_secs(60);

/// A TLS configuration that trusts a certificate.
#[derive(Clone, Debug)]
pub struct Tls(Arc<ClientConfig>);

impl Tls {
    /// TLS 1.3 with these application protocols.
    pub fn new(ca_file: &Path, alpn: &[&[u8]]) -> Self {
        Self::of_version(ca_file, alpn, &rustls::version::TLS13)
    }

    /// TLS 1.2, which is to be refused.
    pub fn tls12(ca_file: &Path) -> Self {
        Self::of_version(ca_file, &[tern_wire::tls::ALPN], &rustls::version::TLS12)
    }

    fn of_version(
        ca_file: &Path,
        alpn: &[&[u8]],
        version: &'static rustls::SupportedProtocolVersion,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(ca_file).expect("a readable certificate") {
            roots.add(certificate.expect("PEM")).expect("a certificate");
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .expect("that version is there")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Self(Arc::new(config))
    }
}

/// A connection.
#[derive(Debug)]
pub struct Raw {
    stream: StreamOwned<ClientConnection, TcpStream>,
    buffer: FrameBuffer,
    frames: VecDeque<v1::ServerFrame>,
    next_id: u64,
}

impl Raw {
    /// Connects, with TLS.
    pub fn connect(server: &Ternd) -> Self {
        let tls = Tls::new(&server.ca_file(), &[tern_wire::tls::ALPN]);
        Self::connect_with(server.address(), &tls).expect("a TLS connection")
    }

    /// Connects with another configuration. The handshake is complete when this returns.
    pub fn connect_with(address: SocketAddr, tls: &Tls) -> std::io::Result<Self> {
        Self::over(TcpStream::connect(address)?, tls)
    }

    /// Connects as a balancer does: with a header before the client's own bytes.
    pub fn connect_behind(address: SocketAddr, tls: &Tls, header: &[u8]) -> std::io::Result<Self> {
        let mut socket = TcpStream::connect(address)?;
        socket.write_all(header)?;
        Self::over(socket, tls)
    }

    /// TLS over a connection that is there.
    pub fn over(socket: TcpStream, tls: &Tls) -> std::io::Result<Self> {
        socket.set_read_timeout(Some(HANG))?;
        socket.set_nodelay(true)?;
        let name = "localhost".try_into().expect("a name");
        let client = ClientConnection::new(tls.0.clone(), name).map_err(std::io::Error::other)?;
        let mut stream = StreamOwned::new(client, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self { stream, buffer: FrameBuffer::default(), frames: VecDeque::new(), next_id: 0 })
    }

    /// Whether its TLS handshake resumed the session of an earlier connection with the same configuration.
    pub fn resumed(&self) -> bool {
        self.stream.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Connects, and says hello.
    pub fn welcomed(server: &Ternd) -> Self {
        let mut raw = Self::connect(server);
        raw.hello();
        raw
    }

    /// Says hello, which must be answered. A ticket has come when it is.
    pub fn hello(&mut self) {
        let hello = v1::Hello { version_min: 1, version_max: 1, ..v1::Hello::default() };
        match self.ask(client_frame::Request::Hello(hello)) {
            Some(server_frame::Message::Welcome(_)) => {}
            other => panic!("Hello was answered by {other:?}"),
        }
    }

    /// What a login with a token is answered with, on a connection of its own.
    pub fn login(server: &Ternd, access_token: &str) -> server_frame::Message {
        let login = v1::Login { access_token: access_token.to_owned() };
        Self::welcomed(server).ask(client_frame::Request::Login(login)).expect("it is answered")
    }

    /// Connects, says hello and logs in.
    pub fn logged_in(server: &Ternd, access_token: &str) -> Self {
        let mut raw = Self::welcomed(server);
        let login = v1::Login { access_token: access_token.to_owned() };
        match raw.ask(client_frame::Request::Login(login)) {
            Some(server_frame::Message::LoggedIn(_)) => raw,
            other => panic!("Login was answered by {other:?}"),
        }
    }

    /// Asks for a one-time code.
    pub fn register(&mut self, phone: &str) -> v1::CodeSent {
        match self.ask(client_frame::Request::Register(v1::Register { phone: phone.to_owned() })) {
            Some(server_frame::Message::CodeSent(sent)) => sent,
            other => panic!("Register was answered by {other:?}"),
        }
    }

    /// A new session of a phone.
    pub fn registered(server: &Ternd, phone: &str, name: &str) -> v1::Session {
        let mut raw = Self::welcomed(server);
        let registration = raw.register(phone).registration;
        let verify = v1::Verify {
            phone: phone.to_owned(),
            code: server.code_of(phone),
            name: name.to_owned(),
            device_name: "test".to_owned(),
            registration,
            pin: String::new(),
        };
        match raw.ask(client_frame::Request::Verify(verify)) {
            Some(server_frame::Message::Session(session)) => session,
            other => panic!("Verify was answered by {other:?}"),
        }
    }

    /// Has the kernel take hardly anything for this connection that is not read.
    pub fn narrow(&mut self) {
        rustix::net::sockopt::set_socket_recv_buffer_size(&self.stream.sock, 4096).expect("an open socket");
    }

    /// Says that nothing more will be sent, and closes this half of the TCP connection too or leaves it.
    pub fn close_notify(&mut self, with_fin: bool) {
        self.stream.conn.send_close_notify();
        while self.stream.conn.wants_write() {
            self.stream.conn.write_tls(&mut self.stream.sock).expect("the connection lives");
        }
        if with_fin {
            self.stream.sock.shutdown(std::net::Shutdown::Write).expect("the connection lives");
        }
    }

    /// Sends bytes as they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        // A server that has closed already is what some tests are about; they see it when they read.
        let _ = self.stream.write_all(bytes).and_then(|()| self.stream.flush());
    }

    /// Sends a request, and gives its id.
    pub fn send(&mut self, request: client_frame::Request) -> u64 {
        self.next_id += 1;
        self.send_as(self.next_id, request);
        self.next_id
    }

    /// Sends a request under an id of the test's own.
    pub fn send_as(&mut self, id: u64, request: client_frame::Request) {
        let mut bytes = Vec::new();
        frame::encode(&v1::ClientFrame { id, request: Some(request) }, &mut bytes);
        self.send_bytes(&bytes);
    }

    /// Sends requests in one record, so that nothing is done between them.
    pub fn send_together(&mut self, requests: impl IntoIterator<Item = client_frame::Request>) {
        let bytes = self.encode(requests);
        self.send_bytes(&bytes);
    }

    /// The same, and the end of all that is sent comes with them.
    pub fn send_last(&mut self, requests: impl IntoIterator<Item = client_frame::Request>, with_fin: bool) {
        let bytes = self.encode(requests);
        self.stream.conn.writer().write_all(&bytes).expect("it takes so few");
        self.close_notify(with_fin);
    }

    fn encode(&mut self, requests: impl IntoIterator<Item = client_frame::Request>) -> Vec<u8> {
        let mut bytes = Vec::new();
        for request in requests {
            self.next_id += 1;
            frame::encode(&v1::ClientFrame { id: self.next_id, request: Some(request) }, &mut bytes);
        }
        bytes
    }

    /// The next frame; `None` when the server has closed the connection, cleanly or not.
    pub fn receive(&mut self) -> Option<v1::ServerFrame> {
        while self.frames.is_empty() {
            let mut bytes = [0; 16 * 1024];
            let read = match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("the server hangs"),
                Err(_) => return None,
            };
            let mut frames = self.buffer.read(&bytes[..read]);
            while let Some(frame) = frames.next(SERVER_FRAME_BYTES_MAX).expect("the server keeps its limits")
            {
                self.frames.push_back(v1::ServerFrame::decode(frame).expect("the server sends frames"));
            }
        }
        self.frames.pop_front()
    }

    /// Waits for the response to a request. Pushes that come before it are dropped. `None` if the connection ends.
    pub fn response(&mut self, id: u64) -> Option<server_frame::Message> {
        loop {
            let frame = self.receive()?;
            if frame.id == id {
                return frame.message;
            }
        }
    }

    /// Sends a request, and waits for its response.
    pub fn ask(&mut self, request: client_frame::Request) -> Option<server_frame::Message> {
        let id = self.send(request);
        self.response(id)
    }

    /// Sends a request that must be refused.
    pub fn refusal(&mut self, request: client_frame::Request) -> v1::Refused {
        match self.ask(request) {
            Some(server_frame::Message::Refused(refused)) => refused,
            other => panic!("expected a refusal, got {other:?}"),
        }
    }

    /// Waits for the connection's end, and gives the farewell that came before it.
    pub fn farewell(&mut self) -> Option<v1::GoAway> {
        let mut farewell = None;
        while let Some(frame) = self.receive() {
            if let Some(server_frame::Message::GoAway(bye)) = frame.message {
                farewell = Some(bye);
            }
        }
        farewell
    }

    /// Waits for the connection's end, and gives what TLS says of it.
    pub fn end(&mut self) -> std::io::Error {
        let mut bytes = [0; 1024];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return ErrorKind::UnexpectedEof.into(),
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    }

    /// Whether it still answers.
    pub fn answers(&mut self) -> bool {
        matches!(self.ask(client_frame::Request::Ping(v1::Ping {})), Some(server_frame::Message::Pong(_)))
    }
}

/// How `Discover` names a phone.
pub fn hash_of(phone: &str) -> Vec<u8> {
    PhoneHash::of(&Phone::parse(phone).expect("a phone")).as_bytes().to_vec()
}
