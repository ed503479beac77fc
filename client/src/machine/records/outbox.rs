//! Messages on their way, their numbers, and the keys by which the application knows them again.

use aws_lc_rs::digest;
use tern_wire::limits::NUMBERS_END;

use super::Records;
use crate::client::Sent;
use crate::error::Error;
use crate::machine::entropy::Entropy;
use crate::machine::rows::{KeyRow, Outgoing};
use crate::machine::tables::{Change, Tables};
use crate::message::{Envelope, Kind, NewMessage};
use crate::stories::StoryId;

/// By how much at most the next client id is raised at a start. A profile that was put back from a copy so never takes a
/// number again that it had given to another message: 2^25 starts fit below 2^53 even if each raise is the largest.
const CLIENT_ID_RAISE_MAX: u64 = 1 << 28;

/// What became of a message that was to be kept.
pub(crate) enum Enqueued {
    /// It is kept, under this number.
    New(u64),
    /// It was kept before, under this number, and is not sent yet.
    Waiting(u64),
    /// It was sent before.
    Sent(Sent),
}

impl<S: Tables> Records<S> {
    /// Raises the next client id at a start: by a random part, so that a profile which went back to an older state takes
    /// none of the numbers that it had used since.
    pub(crate) fn raise_client_id(&mut self, entropy: &mut Entropy) -> Result<(), Error> {
        let mut device = self.device()?;
        device.next_client_id += 1 + entropy.below(CLIENT_ID_RAISE_MAX);
        self.set_device(&device)
    }

    /// A number was used by this device: those below the next one are.
    pub(super) fn used_client_id(&mut self, client_id: u64) -> Result<(), Error> {
        let mut device = self.device()?;
        if client_id >= device.next_client_id {
            device.next_client_id = client_id.saturating_add(1);
            self.set_device(&device)?;
        }
        Ok(())
    }

    /// Keeps a message until the server has acknowledged it; of a key that is known it is the one that was kept before.
    pub(crate) fn enqueue(&mut self, message: &NewMessage) -> Result<Enqueued, Error> {
        let NewMessage { chat, kind, body, envelope, key } = message;
        let keyed = key.as_deref().map(|key| (key, digest_of(message)));
        if let Some((key, digest)) = &keyed
            && let Some(before) = self.of_key(*chat, key, digest)?
        {
            return Ok(before);
        }
        let mut device = self.device()?;
        let client_id = device.next_client_id;
        if client_id >= NUMBERS_END {
            return Err(Error::Store("its numbers are used up: register again".to_owned()));
        }
        device.next_client_id += 1;
        self.set_device(&device)?;
        let (chat, kind, body, envelope) = (*chat, kind.number(), body.clone(), envelope.clone());
        self.change(Change::Outgoing(&Outgoing { client_id, chat, kind, body, envelope }))?;
        if let Some((key, digest)) = keyed {
            self.change(Change::Key(&KeyRow { key: key.to_owned(), client_id, digest, sent: None }))?;
        }
        Ok(Enqueued::New(client_id))
    }

    /// The message that was kept under a key.
    fn of_key(&mut self, chat: u64, key: &str, digest: &[u8]) -> Result<Option<Enqueued>, Error> {
        let Some(KeyRow { client_id, digest: of, sent, .. }) = self.tables.key(key)? else { return Ok(None) };
        // One that was given up, and whose key stayed, is another message's.
        if sent.is_none() && self.tables.outgoing(client_id)?.is_none() {
            self.note_not_sent(client_id)?;
            return Ok(None);
        }
        if of != digest {
            return Err(Error::KeyReused);
        }
        // The digest is of the chat too.
        Ok(Some(sent.map_or(Enqueued::Waiting(client_id), |sent| Enqueued::Sent(Sent { chat, ..sent }))))
    }

    /// A message that is on its way.
    pub(crate) fn outgoing(&self, client_id: u64) -> Result<Option<Outgoing>, Error> {
        self.tables.outgoing(client_id)
    }

    /// A message is done with. Gives it, unless it was before.
    pub(crate) fn dequeue(&mut self, client_id: u64) -> Result<Option<Outgoing>, Error> {
        let outgoing = self.tables.outgoing(client_id)?;
        if outgoing.is_some() {
            self.change(Change::Done(client_id))?;
        }
        Ok(outgoing)
    }

    /// A message is sent: if it has a key, that is remembered.
    pub(crate) fn note_sent(&mut self, client_id: u64, sent: Sent) -> Result<(), Error> {
        self.change(Change::KeySent(client_id, sent))
    }

    /// A message was refused: one of its key is another message.
    pub(crate) fn note_not_sent(&mut self, client_id: u64) -> Result<(), Error> {
        self.change(Change::ForgetKey(client_id))
    }
}

/// By what a key that is used twice is told from a retry.
fn digest_of(message: &NewMessage) -> Vec<u8> {
    let NewMessage { chat, kind, body, envelope, key: _ } = message;
    let Envelope { about, forwards, mentions, media, story } = envelope;
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&chat.to_le_bytes());
    context.update(body);
    let is_plain = *kind == Kind::Text && (*about, *forwards) == (0, 0) && mentions.is_empty();
    if !is_plain {
        context.update(&kind.number().to_le_bytes());
        context.update(&about.to_le_bytes());
        context.update(&forwards.to_le_bytes());
        mentions.iter().for_each(|user| context.update(&user.to_le_bytes()));
    }
    media.iter().for_each(|medium| context.update(medium.as_bytes()));
    if let Some(StoryId { user_id, number }) = story {
        context.update(b"story");
        context.update(&user_id.to_le_bytes());
        context.update(&number.to_le_bytes());
    }
    context.finish().as_ref().to_vec()
}
