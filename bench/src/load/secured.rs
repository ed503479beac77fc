//! TLS on a simulated connection: what is to be sent, and what has come. No socket here.

use tern_wire::tls::{ClientHandshake, ClientProgress, Opened, Records, TicketTaker, TlsClient, TlsError};

enum Tls {
    Handshake(Box<ClientHandshake>),
    Open(Box<Records>),
    Gone,
}

/// See the module.
pub struct Secured {
    tls: Tls,
    /// To be sealed, once the handshake is complete.
    pub plain: Vec<u8>,
    /// Bytes of the handshake, or sealed ones, to be sent.
    sealed: Vec<u8>,
    /// Until the ticket for the next connection has come.
    tickets: Option<TicketTaker>,
    resumed: bool,
}

impl Secured {
    /// Begins a handshake; [`Secured::take_outgoing`] has its first bytes.
    pub fn new(tls: &TlsClient) -> Result<Self, TlsError> {
        let mut sealed = Vec::new();
        let handshake = tls.handshake(&mut sealed)?;
        let tls = Tls::Handshake(Box::new(handshake));
        Ok(Self { tls, plain: Vec::new(), sealed, tickets: None, resumed: false })
    }

    /// Whether its handshake resumed the session of an earlier connection.
    pub fn resumed(&self) -> bool {
        self.resumed
    }

    /// What is to be sent now; empty if nothing is.
    pub fn take_outgoing(&mut self) -> Result<Vec<u8>, TlsError> {
        if let (Tls::Open(records), false) = (&mut self.tls, self.plain.is_empty()) {
            records.seal(&self.plain, &mut self.sealed)?;
            self.plain = Vec::new();
        }
        Ok(std::mem::take(&mut self.sealed))
    }

    /// Lets go of what can be made again: for devices that are silent.
    pub fn hibernate(&mut self) {
        if let Tls::Open(records) = &mut self.tls {
            records.hibernate();
        }
    }

    /// Takes what the server sent, and opens it piece by piece. `true`: the handshake has become complete.
    pub fn receive(&mut self, bytes: &mut [u8], opened: &mut dyn FnMut(&[u8])) -> Result<bool, TlsError> {
        match std::mem::replace(&mut self.tls, Tls::Gone) {
            Tls::Handshake(handshake) => match handshake.receive(bytes, &mut self.sealed)? {
                ClientProgress::Continue(handshake) => {
                    self.tls = Tls::Handshake(Box::new(handshake));
                    Ok(false)
                }
                ClientProgress::Done(mut done) => {
                    (self.resumed, self.tickets) = (done.resumed, done.tickets);
                    self.open(done.records, &mut done.ciphertext, opened).map(|_| true)
                }
            },
            Tls::Open(records) => self.open(records, bytes, opened).map(|_| false),
            Tls::Gone => Ok(false),
        }
    }

    fn open(
        &mut self,
        mut records: Box<Records>,
        bytes: &mut [u8],
        opened: &mut dyn FnMut(&[u8]),
    ) -> Result<Opened, TlsError> {
        let Self { tls, sealed, tickets, .. } = self;
        let mut taken = Ok(());
        let is_opened = records.open_with_tickets(bytes, sealed, opened, &mut |ticket| {
            if let Some(mut taker) = tickets.take() {
                taken = taker.take(ticket);
            }
        });
        *tls = Tls::Open(records);
        taken.and(is_opened)
    }
}
