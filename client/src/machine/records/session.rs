//! The session's tokens, and which store, run of it and devices it has seen.

use tern_proto::v1;

use super::Records;
use crate::error::Error;
use crate::machine::entropy::Entropy;
use crate::machine::rows::Account;
use crate::machine::tables::{Change, Tables};

impl<S: Tables> Records<S> {
    /// The store that the session is of: remembered when a server names it for the first time. Gives the account then.
    pub(crate) fn set_store_id(&mut self, store: &[u8]) -> Result<Account, Error> {
        let mut device = self.device()?;
        store.clone_into(&mut device.account.store);
        self.set_device(&device)?;
        Ok(device.account)
    }

    /// The newest device of the account that the person was told of; 0 before the first login.
    pub(crate) fn newest_device(&self) -> Result<u32, Error> {
        Ok(self.device()?.newest_device)
    }

    /// The person was told of this device.
    pub(crate) fn set_newest_device(&mut self, newest: u32) -> Result<(), Error> {
        let mut device = self.device()?;
        if newest > device.newest_device {
            device.newest_device = newest;
            self.set_device(&device)?;
        }
        Ok(())
    }

    /// The generations of the store under which something was stored since everything was in order.
    pub(crate) fn generations(&self) -> Result<Vec<u64>, Error> {
        self.tables.generations()
    }

    /// Something is stored under a generation (0: the server names none).
    pub(super) fn note_generation(&mut self, generation: u64) -> Result<(), Error> {
        match generation {
            0 => Ok(()),
            generation => self.change(Change::Generation(generation)),
        }
    }

    /// Everything that the server has was told under this generation: what is still in doubt is gone. `true` if
    /// something is.
    pub(crate) fn caught_up(&mut self, generation: u64) -> Result<bool, Error> {
        self.change(Change::ForgetGenerations(Some(generation)))?;
        self.note_generation(generation)?;
        self.settle()
    }

    /// Has the server say again how much of what this device has is in the store.
    pub(crate) fn distrust(&mut self) -> Result<(), Error> {
        self.change(Change::ForgetGenerations(None))
    }

    /// The nonce of the refresh under way: made, and kept, before the request leaves, so that a retry repeats it.
    pub(crate) fn refresh_nonce(&mut self, entropy: &mut Entropy) -> Result<Vec<u8>, Error> {
        let mut device = self.device()?;
        if let Some(nonce) = device.nonce {
            return Ok(nonce);
        }
        let nonce = entropy.nonce().to_vec();
        device.nonce = Some(nonce.clone());
        self.set_device(&device)?;
        Ok(nonce)
    }

    /// The refreshed session.
    pub(crate) fn refreshed(&mut self, session: v1::Session) -> Result<Account, Error> {
        let mut device = self.device()?;
        device.nonce = None;
        device.account.access_token = session.access_token;
        device.account.access_expires_ms = session.access_expires_ms;
        device.account.refresh_token = session.refresh_token;
        self.set_device(&device)?;
        Ok(device.account)
    }
}
