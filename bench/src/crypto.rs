//! The crypto alone, in memory: handshakes on the server's side, records sealed and opened.

use std::time::{Duration, Instant};

use rustls::pki_types::PrivateKeyDer;
use tern_wire::tls::{ClientProgress, Established, Progress, Records, TlsClient, TlsServer};

/// Both ends, with a certificate of their own.
pub struct Pair {
    client: TlsClient,
    server: TlsServer,
}

fn failed(error: impl std::fmt::Display) -> String {
    format!("TLS: {error}")
}

impl Pair {
    /// Makes the certificate.
    pub fn new() -> Result<Self, String> {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).map_err(failed)?;
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(failed)?;
        let certificate = made.cert.der().clone();
        let server = TlsServer::new(vec![certificate.clone()], key).map_err(failed)?;
        Ok(Self { client: TlsClient::pinned(certificate).map_err(failed)?, server })
    }

    /// A handshake. Gives both ends' records, and the time that the server's end took.
    pub fn connect(&self) -> Result<(Box<Records>, Box<Records>, Duration), String> {
        let mut to_server = Vec::new();
        let mut client = Some(self.client.handshake(&mut to_server).map_err(failed)?);
        let mut took = Duration::ZERO;
        let begin = Instant::now();
        let mut server = Some(self.server.handshake().map_err(failed)?);
        took += begin.elapsed();
        let mut client_records = None;
        loop {
            let begin = Instant::now();
            let mut to_client = Vec::new();
            let handshake = server.take().ok_or("TLS: the handshake does not end")?;
            let progress =
                handshake.receive(&std::mem::take(&mut to_server), &mut to_client).map_err(failed)?;
            took += begin.elapsed();
            if let Some(handshake) = client.take() {
                match handshake.receive(&to_client, &mut to_server).map_err(failed)? {
                    ClientProgress::Continue(handshake) => client = Some(handshake),
                    ClientProgress::Done(done) => client_records = Some(done.records),
                }
                to_client.clear();
            }
            match (progress, client_records.take()) {
                (Progress::Continue(handshake), records) => {
                    (server, client_records) = (Some(handshake), records)
                }
                (Progress::Done(Established { records, .. }), Some(mut other)) => {
                    // The ticket.
                    let mut out = Vec::new();
                    other.open(&mut to_client, &mut out, &mut |_| {}).map_err(failed)?;
                    return Ok((records, other, took));
                }
                (Progress::Done(_), None) => return Err("TLS: the client's end is behind".to_owned()),
            }
        }
    }

    /// Handshakes that one core can do in a second, of the server's share of the work.
    pub fn handshakes(&self, time: Duration) -> Result<f64, String> {
        let (begin, mut took, mut count) = (Instant::now(), Duration::ZERO, 0u32);
        while begin.elapsed() < time {
            took += self.connect()?.2;
            count += 1;
        }
        Ok(f64::from(count) / took.as_secs_f64())
    }

    /// Records that one core can seal, and open, in a second.
    pub fn records(&self, time: Duration, size: usize) -> Result<(f64, f64), String> {
        let (mut sealer, mut opener, _) = self.connect()?;
        let plaintext = vec![b'x'; size];
        let (begin, mut count) = (Instant::now(), 0u32);
        let (mut sealing, mut opening) = (Duration::ZERO, Duration::ZERO);
        while begin.elapsed() < time {
            let mut sealed = Vec::with_capacity(1000 * (size + 32));
            let before = Instant::now();
            for _ in 0..1000 {
                sealer.seal(&plaintext, &mut sealed).map_err(failed)?;
            }
            let between = Instant::now();
            let mut bytes = 0;
            opener.open(&mut sealed, &mut Vec::new(), &mut |piece| bytes += piece.len()).map_err(failed)?;
            assert_eq!(bytes, 1000 * size, "what was sealed is opened");
            sealing += between - before;
            opening += between.elapsed();
            count += 1000;
        }
        Ok((f64::from(count) / sealing.as_secs_f64(), f64::from(count) / opening.as_secs_f64()))
    }
}
