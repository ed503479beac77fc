//! TLS against a stock rustls client, in memory: any cut of the bytes, key updates, closes, and what must be refused.

use std::io::{Read, Write};
use std::sync::Arc;

use proptest::prelude::*;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, SupportedCipherSuite};
use tern_wire::tls::{
    ALPN, ClientProgress, Opened, Progress, Records, TICKET_KEY_BYTES, TicketKey, Tickets, TlsClient,
    TlsError, TlsServer,
};

struct Certificate {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

fn certificate() -> Certificate {
    let made =
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate is made");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("PKCS #8");
    Certificate { chain: vec![made.cert.der().clone()], key }
}

fn client_config(
    certificate: &Certificate,
    alpn: &[&[u8]],
    suites: Vec<SupportedCipherSuite>,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.chain[0].clone()).expect("a certificate of our own");
    let provider = CryptoProvider { cipher_suites: suites, ..aws_lc_rs::default_provider() };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3 is there")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

fn client(config: &Arc<ClientConfig>) -> ClientConnection {
    ClientConnection::new(config.clone(), "localhost".try_into().expect("a name")).expect("a client")
}

/// Those of TLS 1.3. A build together with other crates may bring others along.
fn all_suites() -> Vec<SupportedCipherSuite> {
    aws_lc_rs::ALL_CIPHER_SUITES.iter().filter(|suite| suite.tls13().is_some()).copied().collect()
}

fn sent_by(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).expect("a Vec takes all");
    }
    bytes
}

fn give(client: &mut ClientConnection, mut bytes: &[u8]) -> Result<Vec<u8>, rustls::Error> {
    let mut plaintext = Vec::new();
    while !bytes.is_empty() {
        client.read_tls(&mut bytes).expect("a slice reads");
        client.process_new_packets()?;
        let mut chunk = [0; 4096];
        while let Ok(read @ 1..) = client.reader().read(&mut chunk) {
            plaintext.extend_from_slice(&chunk[..read]);
        }
    }
    Ok(plaintext)
}

/// A server's end, whatever its state.
struct Server {
    handshake: Option<tern_wire::tls::Handshake>,
    records: Option<Box<Records>>,
    plaintext: Vec<u8>,
    closed: bool,
}

impl Server {
    fn new(server: &TlsServer) -> Self {
        let handshake = Some(server.handshake().expect("a handshake begins"));
        Self { handshake, records: None, plaintext: Vec::new(), closed: false }
    }

    fn receive(&mut self, bytes: &[u8]) -> (Vec<u8>, Result<(), TlsError>) {
        let mut out = Vec::new();
        let result = self.try_receive(bytes, &mut out);
        (out, result)
    }

    fn try_receive(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), TlsError> {
        let Some(handshake) = self.handshake.take() else { return self.open(&mut bytes.to_vec(), out) };
        match handshake.receive(bytes, out)? {
            Progress::Continue(handshake) => self.handshake = Some(handshake),
            Progress::Done(mut done) => {
                self.records = Some(done.records);
                self.plaintext.append(&mut done.plaintext);
                self.open(&mut done.ciphertext, out)?;
            }
        }
        Ok(())
    }

    fn open(&mut self, bytes: &mut [u8], out: &mut Vec<u8>) -> Result<(), TlsError> {
        let records = self.records.as_mut().expect("the handshake is complete");
        let opened = records.open(bytes, out, &mut |piece| self.plaintext.extend_from_slice(piece))?;
        self.closed = opened == Opened::Closed;
        Ok(())
    }

    fn seal(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        self.records.as_mut().expect("the handshake is complete").seal(bytes, &mut out).expect("sealed");
        out
    }
}

fn connect(config: &Arc<ClientConfig>, server: &TlsServer) -> (ClientConnection, Server) {
    let (mut client, mut server) = (client(config), Server::new(server));
    for _ in 0..3 {
        let (out, result) = server.receive(&sent_by(&mut client));
        result.expect("the handshake goes on");
        give(&mut client, &out).expect("the client agrees");
    }
    assert!(server.records.is_some() && !client.is_handshaking());
    (client, server)
}

fn tls(certificate: &Certificate) -> TlsServer {
    let server = TlsServer::new(certificate.chain.clone(), certificate.key.clone_key());
    server.expect("a configuration").with_tickets(tickets(1, 1))
}

/// Tickets under one key, an hour each.
fn tickets(id: u64, key: u8) -> Tickets {
    Tickets::new(vec![TicketKey::new(id, 0, &[key; TICKET_KEY_BYTES])], 3600, Arc::new(|| 1000))
}

#[test]
fn every_suite_carries_data_both_ways_across_key_updates() {
    let certificate = certificate();
    let server = tls(&certificate);
    for suite in all_suites() {
        let (mut client, mut server) = connect(&client_config(&certificate, &[ALPN], vec![suite]), &server);
        server.records.as_mut().expect("connected").set_key_records_max(8);
        for round in 0..6u8 {
            server.records.as_mut().expect("connected").hibernate();
            let data = vec![round; 100_000];
            client.set_buffer_limit(None);
            client.writer().write_all(&data[..50_000]).expect("buffered");
            if round % 2 == 1 {
                client.refresh_traffic_keys().expect("the client may");
            }
            client.writer().write_all(&data[50_000..]).expect("buffered");
            let mut out = Vec::new();
            while client.wants_write() {
                let (more, result) = server.receive(&sent_by(&mut client));
                result.expect("opened");
                out.extend(more);
            }
            assert!(server.plaintext == data, "{suite:?}, round {round}");
            server.plaintext.clear();
            assert_eq!(server.records.as_ref().expect("connected").partial_bytes(), 0);
            out.extend(server.seal(&data));
            assert!(give(&mut client, &out).expect("opened") == data, "{suite:?}, round {round}");
        }
    }
}

#[test]
fn a_close_is_seen_on_either_side() {
    let certificate = certificate();
    let (mut client, mut server) =
        connect(&client_config(&certificate, &[ALPN], all_suites()), &tls(&certificate));
    let mut out = Vec::new();
    server.records.as_mut().expect("connected").close(&mut out);
    give(&mut client, &out).expect("a clean close");
    assert!(client.process_new_packets().expect("clean").peer_has_closed());
    client.send_close_notify();
    server.receive(&sent_by(&mut client)).1.expect("a clean close");
    assert!(server.closed);
}

#[test]
fn a_changed_record_is_never_data() {
    let certificate = certificate();
    let (mut client, mut server) =
        connect(&client_config(&certificate, &[ALPN], all_suites()), &tls(&certificate));
    client.writer().write_all(b"transfer 10").expect("buffered");
    let mut bytes = sent_by(&mut client);
    *bytes.last_mut().expect("a record") ^= 1;
    let (mut out, result) = server.receive(&bytes);
    assert_eq!(result, Err(TlsError::BadRecord));
    assert!(server.plaintext.is_empty());
    server.records.as_mut().expect("connected").close(&mut out);
    let alert = give(&mut client, &out).expect_err("the client is told");
    assert_eq!(alert, rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac));
}

#[test]
fn a_client_without_our_alpn_is_told_so() {
    let certificate = certificate();
    for alpn in [&[][..], &[&b"h2"[..]]] {
        let (mut client, mut server) =
            (client(&client_config(&certificate, alpn, all_suites())), Server::new(&tls(&certificate)));
        let mut told = None;
        for _ in 0..3 {
            let (out, result) = server.receive(&sent_by(&mut client));
            if let Err(error) = give(&mut client, &out) {
                told = Some(error);
            }
            if let Err(error) = result {
                assert!(matches!(error, TlsError::PeerIncompatible(_)), "{error:?}");
                break;
            }
        }
        let expected = rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol);
        assert_eq!(told, Some(expected), "{alpn:?}");
    }
}

#[test]
fn plain_text_is_told_from_tls() {
    let certificate = certificate();
    let (out, result) = Server::new(&tls(&certificate)).receive(b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!((out, result), (Vec::new(), Err(TlsError::NotTls)));
}

#[test]
fn a_second_connection_resumes_the_first() {
    let certificate = certificate();
    let (config, server) = (client_config(&certificate, &[ALPN], all_suites()), tls(&certificate));
    let (first, _) = connect(&config, &server);
    assert_eq!(first.handshake_kind(), Some(HandshakeKind::Full));
    let (second, mut end) = connect(&config, &server);
    assert_eq!(second.handshake_kind(), Some(HandshakeKind::Resumed));
    let mut second = second;
    let sealed = end.seal(b"again");
    assert_eq!(give(&mut second, &sealed).expect("opened"), b"again");
}

#[test]
fn a_ticket_is_good_where_its_key_is_and_no_reason_to_fail_elsewhere() {
    let certificate = certificate();
    let of = |tickets| tls(&certificate).with_tickets(tickets);
    let renewed = tls(&certificate).with_certificate(certificate.chain.clone(), certificate.key.clone_key());
    let bare = TlsServer::new(certificate.chain.clone(), certificate.key.clone_key());
    let cases = [
        ("another process under the same key", of(tickets(1, 1)), HandshakeKind::Resumed),
        ("the same with a renewed certificate", renewed.expect("a configuration"), HandshakeKind::Resumed),
        ("another key of another name", of(tickets(2, 2)), HandshakeKind::Full),
        ("another key of the same name", of(tickets(1, 2)), HandshakeKind::Full),
        ("no keys", of(Tickets::new(Vec::new(), 3600, Arc::new(|| 1000))), HandshakeKind::Full),
        (
            "an hour later",
            {
                let key = TicketKey::new(1, 0, &[1; TICKET_KEY_BYTES]);
                of(Tickets::new(vec![key], 3600, Arc::new(|| 4600)))
            },
            HandshakeKind::Full,
        ),
        ("no tickets", bare.expect("a configuration"), HandshakeKind::Full),
    ];
    for (what, server, expected) in cases {
        let config = client_config(&certificate, &[ALPN], all_suites());
        connect(&config, &tls(&certificate));
        let (mut client, mut end) = connect(&config, &server);
        assert_eq!(client.handshake_kind(), Some(expected), "{what}");
        let sealed = end.seal(b"again");
        assert_eq!(give(&mut client, &sealed).expect("opened"), b"again", "{what}");
    }
}

#[test]
fn a_server_knows_who_has_resumed_and_a_lean_client_that_returns_does_so_each_time() {
    let certificate = certificate();
    let server = tls(&certificate);
    let device = TlsClient::pinned(certificate.chain[0].clone()).expect("a configuration").returning();
    let other = device.returning();
    for (client, expected) in [(&device, false), (&device, true), (&other, false), (&device, true)] {
        let mut to_server = Vec::new();
        let mut client = client.handshake(&mut to_server).expect("begun");
        let mut handshake = server.handshake().expect("begun");
        let (mut done, at_server, mut to_client) = loop {
            let mut to_client = Vec::new();
            handshake = match handshake.receive(&to_server, &mut to_client).expect("it goes on") {
                Progress::Continue(handshake) => handshake,
                Progress::Done(_) => unreachable!("the client has not sent its end"),
            };
            to_server.clear();
            match client.receive(&to_client, &mut to_server).expect("it goes on") {
                ClientProgress::Continue(next) => client = next,
                ClientProgress::Done(done) => {
                    let mut ticket = Vec::new();
                    match handshake.receive(&to_server, &mut ticket).expect("it ends") {
                        Progress::Done(at_server) => break (done, at_server, ticket),
                        Progress::Continue(_) => unreachable!("the client has got through"),
                    }
                }
            }
        };
        assert_eq!((done.resumed, at_server.resumed), (expected, expected));
        let mut taker = done.tickets.expect("a client's end takes tickets");
        let opened =
            done.records.open_with_tickets(&mut to_client, &mut Vec::new(), &mut |_| {}, &mut |ticket| {
                taker.take(ticket).expect("a ticket");
            });
        opened.expect("a ticket is no error");
    }
}

#[test]
fn key_updates_without_end_are_refused() {
    let certificate = certificate();
    let (mut client, mut server) =
        connect(&client_config(&certificate, &[ALPN], all_suites()), &tls(&certificate));
    let refused = (0..100).find_map(|_| {
        client.refresh_traffic_keys().expect("the client may");
        server.receive(&sent_by(&mut client)).1.err()
    });
    assert!(matches!(refused, Some(TlsError::PeerMisbehaved(_))), "{refused:?}");
}

#[test]
fn a_client_that_only_pings_between_its_key_updates_is_not_refused() {
    let certificate = certificate();
    let (mut client, mut server) =
        connect(&client_config(&certificate, &[ALPN], all_suites()), &tls(&certificate));
    for round in 0..200 {
        client.refresh_traffic_keys().expect("the client may");
        client.writer().write_all(b"ping").expect("buffered");
        server.receive(&sent_by(&mut client)).1.unwrap_or_else(|error| panic!("round {round}: {error}"));
    }
    assert_eq!(server.plaintext.len(), 800);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_cut_of_the_bytes_gives_the_same_data(cuts in prop::collection::vec(1usize..900, 1..40), size in 0usize..60_000) {
        let certificate = certificate();
        let mut client = client(&client_config(&certificate, &[ALPN], all_suites()));
        let mut server = Server::new(&tls(&certificate));
        let data: Vec<u8> = (0..size).map(|n| n as u8).collect();
        // What is written now leaves right behind the client's Finished.
        client.writer().write_all(&data).expect("buffered");
        let mut cuts = cuts.iter().cycle();
        for _ in 0..40 {
            let sent = sent_by(&mut client);
            let mut rest = &sent[..];
            let mut out = Vec::new();
            while !rest.is_empty() {
                let (piece, after) = rest.split_at((*cuts.next().expect("endless")).min(rest.len()));
                let (more, result) = server.receive(piece);
                result.expect("the connection goes on");
                out.extend(more);
                rest = after;
            }
            give(&mut client, &out).expect("the client agrees");
        }
        prop_assert!(server.plaintext == data);
        prop_assert_eq!(server.records.expect("connected").partial_bytes(), 0);
    }

    #[test]
    fn any_bytes_are_an_error_or_wait(bytes in prop::collection::vec(any::<u8>(), 0..400), established in any::<bool>()) {
        let certificate = certificate();
        let tls = tls(&certificate);
        if established {
            let (_, mut server) = connect(&client_config(&certificate, &[ALPN], all_suites()), &tls);
            let mut record = vec![23, 3, 3, 0, (bytes.len() % 200) as u8];
            record.extend(&bytes);
            let _ = server.receive(&bytes);
            let (_, mut server) = connect(&client_config(&certificate, &[ALPN], all_suites()), &tls);
            let _ = server.receive(&record);
            prop_assert!(server.plaintext.is_empty());
        } else {
            let mut handshake = vec![22, 3, 1, 0, (bytes.len() % 200) as u8];
            handshake.extend(&bytes);
            let _ = Server::new(&tls).receive(&handshake);
            let _ = Server::new(&tls).receive(&bytes);
        }
    }
}

#[test]
fn a_lean_client_and_a_lean_server_talk_across_key_updates() {
    let certificate = certificate();
    let client = TlsClient::pinned(certificate.chain[0].clone()).expect("a configuration");
    let mut server = Server::new(&tls(&certificate));
    let mut to_server = Vec::new();
    let mut handshake = Some(client.handshake(&mut to_server).expect("begun"));
    let (mut records, mut early) = (None, Vec::new());
    while server.records.is_none() || records.is_none() {
        let (to_client, result) = server.receive(&std::mem::take(&mut to_server));
        result.expect("the server goes on");
        match handshake.take() {
            Some(begun) => match begun.receive(&to_client, &mut to_server).expect("the client goes on") {
                ClientProgress::Continue(begun) => handshake = Some(begun),
                ClientProgress::Done(done) => {
                    assert!(done.plaintext.is_empty());
                    early = done.ciphertext;
                    records = Some(done.records);
                }
            },
            // The ticket, which comes behind the handshake.
            None => early.extend_from_slice(&to_client),
        }
    }
    let mut records = records.expect("the handshake is complete");
    records.set_key_records_max(4);
    server.records.as_mut().expect("the handshake is complete").set_key_records_max(2);
    let (mut out, mut heard) = (Vec::new(), Vec::new());
    records.open(&mut early, &mut out, &mut |_| panic!("nothing was said")).expect("a ticket is no error");
    for round in 0..5u8 {
        let said = vec![round; 60_000];
        let mut sealed = std::mem::take(&mut out);
        records.seal(&said, &mut sealed).expect("sealed");
        let (mut answer, result) = server.receive(&sealed);
        result.expect("opened");
        assert_eq!(std::mem::take(&mut server.plaintext), said);
        answer.extend(server.seal(&said));
        records.open(&mut answer, &mut out, &mut |piece| heard.extend_from_slice(piece)).expect("opened");
        assert_eq!(std::mem::take(&mut heard), said);
    }
    let other = certificate_of_another();
    let stranger = TlsClient::pinned(other).expect("a configuration");
    let mut hello = Vec::new();
    let begun = stranger.handshake(&mut hello).expect("begun");
    let (to_client, _) = Server::new(&tls(&certificate)).receive(&hello);
    begun.receive(&to_client, &mut Vec::new()).expect_err("another certificate is not trusted");
}

fn certificate_of_another() -> CertificateDer<'static> {
    certificate().chain.remove(0)
}
