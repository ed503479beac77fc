//! A relay between clients and the real server that writes down what they say: to the clients it is a server with a
//! certificate of its own, to the server a client.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tern_wire::tls::{ClientProgress, Established, Progress, Records, TlsClient, TlsServer};

/// What went over one connection.
#[derive(Clone, Default, Debug)]
pub struct Recording {
    /// What the client sent up to the end of its handshake, as it was on the wire.
    pub handshake: Vec<u8>,
    /// What the client said, in the pieces in which it came.
    pub said: Vec<Vec<u8>>,
    /// What the server answered.
    pub answered: Vec<u8>,
}

/// A running relay. It lives as long as its process.
pub struct Relay {
    address: SocketAddr,
    certificate: CertificateDer<'static>,
    pem: String,
    recordings: Arc<Mutex<Vec<Arc<Mutex<Recording>>>>>,
}

impl Relay {
    /// Between clients and the server there, which has this certificate.
    pub fn start(server: SocketAddr, ca_file: &Path) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]);
        let made = made.expect("a certificate");
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("PKCS #8");
        let certificate: CertificateDer<'static> = made.cert.der().clone();
        let inward = TlsServer::new(vec![certificate.clone()], key).expect("a configuration");
        let pinned = CertificateDer::from_pem_file(ca_file).expect("the server's certificate");
        let outward = TlsClient::pinned(pinned).expect("a configuration");
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("bound");
        let recordings = Arc::<Mutex<Vec<Arc<Mutex<Recording>>>>>::default();
        let kept = recordings.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                let recording = Arc::<Mutex<Recording>>::default();
                kept.lock().expect("no panic").push(recording.clone());
                let (inward, outward) = (inward.clone(), outward.clone());
                let client = client.expect("accepted");
                // A connection that ends early is recorded as far as it went.
                thread::spawn(move || relay(client, server, &inward, &outward, &recording));
            }
        });
        Self { address, certificate, pem: made.cert.pem(), recordings }
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate that clients are to trust.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The same as PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// What has been recorded, in the order in which the connections came.
    pub fn recordings(&self) -> Vec<Recording> {
        let recordings = self.recordings.lock().expect("no panic");
        recordings.iter().map(|recording| recording.lock().expect("no panic").clone()).collect()
    }
}

fn read(socket: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 64 * 1024];
    match socket.read(&mut bytes) {
        Ok(0) | Err(_) => None,
        Ok(read) => {
            bytes.truncate(read);
            Some(bytes)
        }
    }
}

fn relay(
    mut client: TcpStream,
    server: SocketAddr,
    inward: &TlsServer,
    outward: &TlsClient,
    recording: &Arc<Mutex<Recording>>,
) -> Option<()> {
    let mut server = TcpStream::connect(server).ok()?;
    let accepted = accept(&mut client, inward, recording)?;
    let connected = connect(&mut server, outward)?;
    let (ours, theirs) = (Arc::new(Mutex::new(accepted.records)), Arc::new(Mutex::new(connected.records)));
    let ways = (client.try_clone().ok()?, server.try_clone().ok()?);
    let (from, to, kept) = (theirs.clone(), ours.clone(), recording.clone());
    thread::spawn(move || {
        let (client, server) = ways;
        pump(server, client, connected.ciphertext, &from, &to, |bytes| {
            kept.lock().expect("no panic").answered.extend_from_slice(bytes);
        })
    });
    pump(client, server, accepted.ciphertext, &ours, &theirs, |bytes| {
        recording.lock().expect("no panic").said.push(bytes.to_vec());
    })
}

fn accept(client: &mut TcpStream, tls: &TlsServer, recording: &Mutex<Recording>) -> Option<Established> {
    let mut handshake = tls.handshake().expect("begun");
    loop {
        let bytes = read(client)?;
        recording.lock().expect("no panic").handshake.extend_from_slice(&bytes);
        let mut out = Vec::new();
        let progress = handshake.receive(&bytes, &mut out);
        client.write_all(&out).ok()?;
        match progress.ok()? {
            Progress::Continue(next) => handshake = next,
            Progress::Done(done) => return Some(done),
        }
    }
}

fn connect(server: &mut TcpStream, tls: &TlsClient) -> Option<Established> {
    let mut out = Vec::new();
    let mut handshake = tls.handshake(&mut out).expect("begun");
    loop {
        server.write_all(&out).ok()?;
        out.clear();
        match handshake.receive(&read(server)?, &mut out).ok()? {
            ClientProgress::Continue(next) => handshake = next,
            ClientProgress::Done(done) => {
                server.write_all(&out).ok()?;
                return Some(done);
            }
        }
    }
}

/// Carries one way over until it ends. `early` came behind the handshake.
fn pump(
    mut from: TcpStream,
    mut to: TcpStream,
    early: Vec<u8>,
    opening: &Mutex<Box<Records>>,
    sealing: &Mutex<Box<Records>>,
    keep: impl Fn(&[u8]),
) -> Option<()> {
    let mut bytes = early;
    loop {
        let (mut plain, mut answer) = (Vec::new(), Vec::new());
        let sink = &mut |piece: &[u8]| plain.extend_from_slice(piece);
        let opened = opening.lock().expect("no panic").open(&mut bytes, &mut answer, sink);
        from.write_all(&answer).ok()?;
        if !plain.is_empty() {
            keep(&plain);
            let mut sealed = Vec::new();
            sealing.lock().expect("no panic").seal(&plain, &mut sealed).ok()?;
            to.write_all(&sealed).ok()?;
        }
        let next = if matches!(opened, Ok(tern_wire::tls::Opened::Open)) { read(&mut from) } else { None };
        let Some(next) = next else {
            // Either may have gone already.
            let _ = to.shutdown(Shutdown::Both);
            let _ = from.shutdown(Shutdown::Both);
            return None;
        };
        bytes = next;
    }
}
