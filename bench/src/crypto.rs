//! The crypto alone, in memory: handshakes on the server's side, records sealed and opened.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::PrivateKeyDer;
use tern_wire::tls::{
    ClientProgress, Established, Progress, Records, TICKET_KEY_BYTES, TicketKey, Tickets, TlsClient,
    TlsServer,
};

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
        let ticket_key = TicketKey::new(1, 0, &[1; TICKET_KEY_BYTES]);
        let server = server.with_tickets(Tickets::new(vec![ticket_key], 3600, Arc::new(|| 1000)));
        Ok(Self { client: TlsClient::pinned(certificate).map_err(failed)?, server })
    }

    /// A full handshake. Gives both ends' records, and the time that the server's end took.
    pub fn connect(&self) -> Result<(Box<Records>, Box<Records>, Duration), String> {
        self.connect_as(&self.client)
    }

    fn connect_as(&self, client: &TlsClient) -> Result<(Box<Records>, Box<Records>, Duration), String> {
        let mut to_server = Vec::new();
        let mut client = Some(client.handshake(&mut to_server).map_err(failed)?);
        let mut took = Duration::ZERO;
        let begin = Instant::now();
        let mut server = Some(self.server.handshake().map_err(failed)?);
        took += begin.elapsed();
        let (mut client_records, mut taker) = (None, None);
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
                    ClientProgress::Done(done) => {
                        (client_records, taker) = (Some(done.records), done.tickets);
                    }
                }
                to_client.clear();
            }
            match (progress, client_records.take()) {
                (Progress::Continue(handshake), records) => {
                    (server, client_records) = (Some(handshake), records)
                }
                (Progress::Done(Established { records, .. }), Some(mut other)) => {
                    let (mut out, mut taken) = (Vec::new(), Ok(()));
                    let opened =
                        other.open_with_tickets(&mut to_client, &mut out, &mut |_| {}, &mut |ticket| {
                            taken = taker.take().map_or(Ok(()), |mut taker| taker.take(ticket));
                        });
                    opened.and(taken).map_err(failed)?;
                    return Ok((records, other, took));
                }
                (Progress::Done(_), None) => return Err("TLS: the client's end is behind".to_owned()),
            }
        }
    }

    /// Handshakes that one core can do in a second, of the server's share of the work: full ones, and of a device that comes
    /// back.
    pub fn handshakes(&self, time: Duration) -> Result<(f64, f64), String> {
        Ok((
            self.handshakes_of(&self.client, time / 2)?,
            self.handshakes_of(&self.client.returning(), time / 2)?,
        ))
    }

    fn handshakes_of(&self, client: &TlsClient, time: Duration) -> Result<f64, String> {
        // The first of a device is a full one.
        self.connect_as(client)?;
        let (begin, mut took, mut count) = (Instant::now(), Duration::ZERO, 0u32);
        while begin.elapsed() < time {
            took += self.connect_as(client)?.2;
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
