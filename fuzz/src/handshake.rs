//! The server's handshake: any bytes, and a real client's with changes. It ends, it never panics, it keeps no more than its
//! bound, and an honest client gets through whatever the cuts.
//!
//! Both sides draw random numbers, so what comes of a script is not the same byte for byte; what is checked does not depend on
//! them.

use std::sync::{Arc, LazyLock};

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tern_wire::tls::{
    ClientHandshake, ClientProgress, Progress, Records, TICKET_KEY_BYTES, TicketKey, Tickets, TlsClient,
    TlsServer,
};

use crate::script::{Cuts, Script};

/// What a server says until a client has proven anything: its certificate and less than so much around it.
const SERVER_BYTES_MAX: usize = 8 << 10;

static ENDS: LazyLock<(TlsClient, TlsServer)> = LazyLock::new(|| {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("PKCS #8");
    let certificate: CertificateDer<'static> = made.cert.der().clone();
    let client = TlsClient::pinned(certificate.clone()).expect("a configuration");
    let server = TlsServer::new(vec![certificate], key).expect("a configuration");
    let ticket_key = TicketKey::new(1, 0, &[1; TICKET_KEY_BYTES]);
    (client, server.with_tickets(Tickets::new(vec![ticket_key], 3600, Arc::new(|| 1000))))
});

/// A server's end.
enum Server {
    Handshake(tern_wire::tls::Handshake),
    Done(Box<Records>),
    /// It was refused.
    Ended,
}

impl Server {
    fn new() -> Self {
        Self::Handshake(ENDS.1.handshake().expect("a handshake begins"))
    }

    /// Takes one piece, and gives what the client is sent.
    fn receive(self, piece: &[u8]) -> (Self, Vec<u8>) {
        let mut out = Vec::new();
        let next = match self {
            Self::Handshake(handshake) => match handshake.receive(piece, &mut out) {
                Ok(Progress::Continue(handshake)) => Self::Handshake(handshake),
                Ok(Progress::Done(mut done)) => {
                    let opened = done.records.open(&mut done.ciphertext, &mut out, &mut |_| {});
                    if opened.is_ok() { Self::Done(done.records) } else { Self::Ended }
                }
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    Self::Ended
                }
            },
            Self::Done(mut records) => {
                let opened = records.open(&mut piece.to_vec(), &mut out, &mut |_| {});
                if opened.is_ok() { Self::Done(records) } else { Self::Ended }
            }
            Self::Ended => Self::Ended,
        };
        (next, out)
    }
}

/// Script: a kind; cuts; then the bytes of a client, or what is changed in a real one's.
pub fn handshake(data: &[u8]) {
    let mut script = Script::new(data);
    let is_real = script.byte() % 2 == 1;
    let cuts = Cuts::read(&mut script);
    if is_real { real(&mut script, &cuts) } else { any(script.rest(), &cuts) }
}

fn any(stream: &[u8], cuts: &Cuts) {
    let (mut server, mut sent) = (Server::new(), 0);
    for piece in cuts.of(stream) {
        let (next, out) = server.receive(piece);
        (server, sent) = (next, sent + out.len());
    }
    assert!(!matches!(server, Server::Done(_)), "a recording has made a handshake");
    assert!(sent <= SERVER_BYTES_MAX, "{sent} bytes were sent to a client that proves nothing");
}

fn real(script: &mut Script, cuts: &Cuts) {
    let mut to_server = Vec::new();
    let mut client = Some(ENDS.0.handshake(&mut to_server).expect("begun"));
    let (mut server, mut changed, mut done) = (Server::new(), false, false);
    for _ in 0..4 {
        let flight = std::mem::take(&mut to_server);
        let sent = change(flight.clone(), script);
        changed |= sent != flight;
        let mut to_client = Vec::new();
        for piece in cuts.of(&sent) {
            let (next, out) = server.receive(piece);
            server = next;
            to_client.extend(out);
        }
        match client.take().map(|client| client.receive(&to_client, &mut to_server)) {
            Some(Ok(ClientProgress::Continue(next))) => client = Some(next),
            Some(Ok(ClientProgress::Done(_))) => done = true,
            Some(Err(error)) => assert!(changed, "a client that was not changed was refused: {error}"),
            None => {}
        }
    }
    let through = done && matches!(server, Server::Done(_));
    assert!(through || changed, "an honest client did not get through");
}

/// A flight with changes: how many, and each: where, what, and with which bytes.
fn change(mut flight: Vec<u8>, script: &mut Script) -> Vec<u8> {
    for _ in 0..script.byte() % 8 {
        let at = script.below(flight.len() + 1);
        let kind = script.byte();
        let bytes = script.piece();
        let end = (at + bytes.len()).min(flight.len());
        match kind % 4 {
            0 => flight[at..end].copy_from_slice(&bytes[..end - at]),
            1 => drop(flight.splice(at..at, bytes.iter().copied())),
            2 => drop(flight.drain(at..end)),
            _ => flight[at..end].iter_mut().zip(bytes).for_each(|(byte, change)| *byte ^= change),
        }
    }
    flight
}

/// The ends of a connection, the client's first.
pub(crate) fn connected() -> (Records, Records) {
    let mut to_server = Vec::new();
    let mut client: ClientHandshake = ENDS.0.handshake(&mut to_server).expect("begun");
    let mut server = Server::new();
    loop {
        let (next, mut to_client) = server.receive(&std::mem::take(&mut to_server));
        server = next;
        match client.receive(&to_client, &mut to_server).expect("the client goes on") {
            ClientProgress::Continue(next) => client = next,
            ClientProgress::Done(mut done) => {
                let (last, ticket) = server.receive(&to_server);
                let Server::Done(server) = last else { panic!("the server has not got through") };
                to_client = done.ciphertext;
                to_client.extend(ticket);
                let opened = done.records.open(&mut to_client, &mut Vec::new(), &mut |_| {});
                opened.expect("a ticket is no error");
                return (*done.records, *server);
            }
        }
    }
}
