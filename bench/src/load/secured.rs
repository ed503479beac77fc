//! TLS on a simulated connection: what is to be sent, and what has come. No socket here.

use tern_wire::tls::{ClientHandshake, ClientProgress, Records, TlsClient, TlsError};

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
}

impl Secured {
    /// Begins a handshake; [`Secured::take_outgoing`] has its first bytes.
    pub fn new(tls: &TlsClient) -> Result<Self, TlsError> {
        let mut sealed = Vec::new();
        let handshake = tls.handshake(&mut sealed)?;
        Ok(Self { tls: Tls::Handshake(Box::new(handshake)), plain: Vec::new(), sealed })
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
                    let is_opened = done.records.open(&mut done.ciphertext, &mut self.sealed, opened);
                    self.tls = Tls::Open(done.records);
                    is_opened.map(|_| true)
                }
            },
            Tls::Open(mut records) => {
                let is_opened = records.open(bytes, &mut self.sealed, opened);
                self.tls = Tls::Open(records);
                is_opened.map(|_| false)
            }
            Tls::Gone => Ok(false),
        }
    }
}
