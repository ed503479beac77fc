//! The record layer of an established connection (RFC 8446, section 5).
//!
//! Whole records are opened in place, in the buffer that they were received into. Only a record that is partial is kept,
//! in memory that is freed when it is whole, so an idle connection owns none.

use std::fmt;

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use rustls::{ConnectionTrafficSecrets, ExtractedSecrets};

use super::secrets::{Secret, Secrets, key_and_iv};
use super::{CIPHERTEXT_BYTES_MAX, HEADER_BYTES, PLAINTEXT_BYTES_MAX, TlsError, alert, content};

/// Records without data (empty ones, key updates) more than records with data. Beyond, the peer only makes work. One that
/// asks for something between its key updates may update its keys for ever.
const IDLE_RECORDS_MAX: u8 = 32;

/// Records sealed with one AES-GCM key before the next is agreed, as a power of 2: well under the 2^24.5 of RFC 8446,
/// section 5.5.
const KEY_RECORDS_LOG2: u8 = 23;

/// Bytes of an AEAD tag, of all suites.
const TAG_BYTES: usize = 16;

const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

/// Whether the peer may send more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Opened {
    /// It may.
    Open,
    /// It has said that it won't.
    Closed,
}

/// The record layer: 128 bytes, for connections are many, and memory comes in such sizes.
pub struct Records {
    sealing: Half,
    opening: Half,
    suite: Suite,
    /// It is the client's end: tickets may come.
    is_client: bool,
    /// The beginning of a record, while it is partial.
    #[allow(
        clippy::box_collection,
        reason = "a pointer is a third of a Vec, and connections are many and idle"
    )]
    partial: Option<Box<Vec<u8>>>,
    idle_records: u8,
    /// Bytes that have come of a key update that is spread over records.
    key_update_bytes: u8,
    state: State,
    key_records_log2: u8,
}

const _: () = assert!(size_of::<Records>() == 128);

/// Whether more can be opened.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The peer sends no more.
    Closed,
    /// Something went wrong, for [`Records::close`] to tell: an alert, or nothing if the peer itself has told.
    Failed(Option<u8>),
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records").field("partial", &self.partial_bytes()).finish_non_exhaustive()
    }
}

/// One direction.
struct Half {
    secret: Secret,
    seq: u64,
    /// Made of the secret when it is needed, and dropped when the connection is idle: several hundred bytes.
    expanded: Option<Box<Expanded>>,
}

struct Expanded {
    key: LessSafeKey,
    iv: [u8; 12],
}

impl Expanded {
    fn new(suite: Suite, key: &[u8], iv: [u8; 12]) -> Self {
        let key = UnboundKey::new(suite.algorithm(), key).expect("a key of the algorithm's own length");
        Self { key: LessSafeKey::new(key), iv }
    }

    fn of(extracted: &ConnectionTrafficSecrets) -> Result<Self, TlsError> {
        let (key, iv) = key_and_iv(extracted)?;
        let iv = iv.try_into().map_err(|_| TlsError::Internal("an IV has another length".to_owned()))?;
        Ok(Self::new(Suite::of(extracted)?, key, iv))
    }
}

/// The agreed AEAD.
#[derive(Clone, Copy)]
enum Suite {
    Aes128Gcm,
    Aes256Gcm,
    Chacha20Poly1305,
}

impl Suite {
    fn of(extracted: &ConnectionTrafficSecrets) -> Result<Self, TlsError> {
        match extracted {
            ConnectionTrafficSecrets::Aes128Gcm { .. } => Ok(Self::Aes128Gcm),
            ConnectionTrafficSecrets::Aes256Gcm { .. } => Ok(Self::Aes256Gcm),
            ConnectionTrafficSecrets::Chacha20Poly1305 { .. } => Ok(Self::Chacha20Poly1305),
            _ => Err(TlsError::Internal("an unknown cipher suite was agreed".to_owned())),
        }
    }

    fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::Aes128Gcm => &AES_128_GCM,
            Self::Aes256Gcm => &AES_256_GCM,
            Self::Chacha20Poly1305 => &CHACHA20_POLY1305,
        }
    }
}

impl Half {
    fn new(
        (seq, extracted): (u64, ConnectionTrafficSecrets),
        secret: Option<Secret>,
    ) -> Result<Self, TlsError> {
        let secret =
            secret.ok_or_else(|| TlsError::Internal("rustls has not told its secrets".to_owned()))?;
        if !secret.is_of(&extracted)? {
            return Err(TlsError::Internal("rustls has told another connection's secrets".to_owned()));
        }
        // Hardly anybody says nothing after the handshake: what was just derived is not derived again.
        let expanded = Expanded::of(&extracted)?;
        Ok(Self { secret, seq, expanded: Some(Box::new(expanded)) })
    }

    /// The same half once more.
    fn again(&self) -> Self {
        Self { secret: self.secret.clone(), seq: self.seq, expanded: None }
    }

    /// The next secret's half.
    fn next(&self) -> Self {
        Self { secret: self.secret.next(), seq: 0, expanded: None }
    }

    /// The key, and the nonce of the next record (RFC 8446, section 5.3).
    fn next_key(&mut self, suite: Suite) -> (&LessSafeKey, Nonce) {
        let Self { secret, seq, expanded } = self;
        let Expanded { key, iv } = &**expanded.get_or_insert_with(|| {
            let mut bytes = [0; 32];
            let bytes = &mut bytes[..suite.algorithm().key_len()];
            secret.key(bytes);
            Box::new(Expanded::new(suite, bytes, secret.iv()))
        });
        let mut nonce = *iv;
        for (byte, seq) in nonce[4..].iter_mut().zip(seq.to_be_bytes()) {
            *byte ^= seq;
        }
        *seq += 1;
        (key, Nonce::assume_unique_for_key(nonce))
    }

    /// Opens a whole record in place. Gives the type of its content, and the content.
    fn open<'a>(&mut self, suite: Suite, record: &'a mut [u8]) -> Result<(u8, &'a [u8]), TlsError> {
        let (header, sealed) = record.split_at_mut(HEADER_BYTES);
        let (key, nonce) = self.next_key(suite);
        let inner = key.open_in_place(nonce, Aad::from(header), sealed).map_err(|_| TlsError::BadRecord)?;
        if inner.len() > PLAINTEXT_BYTES_MAX + 1 {
            return Err(TlsError::PeerMisbehaved(TOO_LONG));
        }
        // The content is followed by its type, then by padding of zeros.
        let end = inner.iter().rposition(|byte| *byte != 0);
        let end = end.ok_or(TlsError::PeerMisbehaved("a record has no content type"))?;
        Ok((inner[end], &inner[..end]))
    }

    /// Appends a record of at most [`PLAINTEXT_BYTES_MAX`] bytes of content to `out`.
    fn seal(&mut self, suite: Suite, kind: u8, content: &[u8], out: &mut Vec<u8>) {
        let length = (content.len() + 1 + TAG_BYTES) as u16;
        let [high, low] = length.to_be_bytes();
        let header = [content::APPLICATION_DATA, 3, 3, high, low];
        out.reserve(HEADER_BYTES + usize::from(length));
        out.extend_from_slice(&header);
        let at = out.len();
        out.extend_from_slice(content);
        out.push(kind);
        let (key, nonce) = self.next_key(suite);
        let tag = key.seal_in_place_separate_tag(nonce, Aad::from(header), &mut out[at..]);
        let tag = tag.expect("an AEAD seals any record of a legal length");
        out.extend_from_slice(tag.as_ref());
    }
}

/// Where what is opened goes.
struct Sinks<'a> {
    data: &'a mut dyn FnMut(&[u8]),
    tickets: &'a mut dyn FnMut(&[u8]),
}

impl Records {
    /// The server's end, or the client's.
    pub(super) fn new(
        extracted: ExtractedSecrets,
        secrets: Secrets,
        is_client: bool,
    ) -> Result<Self, TlsError> {
        let Secrets { client, server } = secrets;
        let (own, others) = if is_client { (client, server) } else { (server, client) };
        let suite = Suite::of(&extracted.tx.1)?;
        Ok(Self {
            sealing: Half::new(extracted.tx, own)?,
            opening: Half::new(extracted.rx, others)?,
            suite,
            is_client,
            partial: None,
            idle_records: 0,
            key_update_bytes: 0,
            state: State::Open,
            key_records_log2: KEY_RECORDS_LOG2,
        })
    }

    /// Opens what was received. Each record's plaintext goes to `sink`, which sees it once and in order; `out` gets the
    /// answer to a key update, at most one a call. After an error [`Records::close`] tells the peer why.
    pub fn open(
        &mut self,
        input: &mut [u8],
        out: &mut Vec<u8>,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<Opened, TlsError> {
        self.open_with_tickets(input, out, sink, &mut |_| {})
    }

    /// The same for a client, which sees each ticket that comes: a whole NewSessionTicket message in a record of its own, as
    /// tern's server sends it.
    pub fn open_with_tickets(
        &mut self,
        input: &mut [u8],
        out: &mut Vec<u8>,
        sink: &mut dyn FnMut(&[u8]),
        tickets: &mut dyn FnMut(&[u8]),
    ) -> Result<Opened, TlsError> {
        let mut update_due = false;
        let mut sinks = Sinks { data: sink, tickets };
        let mut result = self.open_all(input, &mut update_due, &mut sinks);
        if update_due && result.is_ok() {
            result = self.update_sealing_key(out).and(result);
        }
        if let Err(error) = &result {
            let alert = match error {
                TlsError::BadRecord => Some(alert::BAD_RECORD_MAC),
                TlsError::PeerMisbehaved(TOO_LONG) => Some(alert::RECORD_OVERFLOW),
                TlsError::PeerMisbehaved(_) | TlsError::NotTls | TlsError::PeerIncompatible(_) => {
                    Some(alert::UNEXPECTED_MESSAGE)
                }
                TlsError::Internal(_) | TlsError::BadCertificate(_) => Some(alert::INTERNAL_ERROR),
                TlsError::Alert(_) => None,
            };
            self.state = State::Failed(alert);
        }
        result
    }

    fn open_all(
        &mut self,
        mut input: &mut [u8],
        update_due: &mut bool,
        sinks: &mut Sinks<'_>,
    ) -> Result<Opened, TlsError> {
        if let Some(mut record) = self.partial.take() {
            input = match complete(&mut record, input)? {
                Some(rest) => rest,
                None => {
                    self.partial = Some(record);
                    return Ok(Opened::Open);
                }
            };
            self.open_record(&mut record, update_due, sinks)?;
        }
        while self.state == State::Open {
            let Some(length) = record_length(input)?.filter(|length| *length <= input.len()) else {
                self.partial = (!input.is_empty()).then(|| Box::new(input.to_vec()));
                return Ok(Opened::Open);
            };
            let (record, rest) = input.split_at_mut(length);
            self.open_record(record, update_due, sinks)?;
            input = rest;
        }
        Ok(Opened::Closed)
    }

    fn open_record(
        &mut self,
        record: &mut [u8],
        update_due: &mut bool,
        sinks: &mut Sinks<'_>,
    ) -> Result<(), TlsError> {
        let (kind, content) = self.opening.open(self.suite, record)?;
        if self.key_update_bytes > 0 && kind != content::HANDSHAKE {
            // RFC 8446, section 5.1.
            return Err(TlsError::PeerMisbehaved("a handshake message was interrupted"));
        }
        match kind {
            content::APPLICATION_DATA if !content.is_empty() => {
                self.idle_records = self.idle_records.saturating_sub(1);
                (sinks.data)(content);
                return Ok(());
            }
            content::APPLICATION_DATA => {}
            content::ALERT => {
                let [_, number] = *content else {
                    return Err(TlsError::PeerMisbehaved("an alert is malformed"));
                };
                if number != alert::CLOSE_NOTIFY {
                    return Err(TlsError::Alert(number));
                }
                self.state = State::Closed;
            }
            content::HANDSHAKE => {
                if let Some(update) = self.key_update(content) {
                    if let Some(wants_ours) = update {
                        self.opening = self.opening.next();
                        *update_due |= wants_ours;
                    }
                } else if self.is_client && content.starts_with(&[NEW_SESSION_TICKET]) {
                    // A client may leave tickets unused.
                    (sinks.tickets)(content);
                } else {
                    return Err(TlsError::PeerMisbehaved("a handshake message came after the handshake"));
                }
            }
            _ => return Err(TlsError::PeerMisbehaved("a record has an unknown content type")),
        }
        self.idle_records += 1;
        if self.idle_records > IDLE_RECORDS_MAX {
            return Err(TlsError::PeerMisbehaved("too many records came without data"));
        }
        Ok(())
    }

    /// Takes a key update, or the next part of one: `Some(None)` while it is not whole, then whether it asks for ours. `None`
    /// if it is something else. Keys change behind it, so nothing may follow it in its record.
    fn key_update(&mut self, content: &[u8]) -> Option<Option<bool>> {
        const HEAD: [u8; 4] = [KEY_UPDATE, 0, 0, 1];
        if content.is_empty() {
            return None;
        }
        for byte in content {
            let at = usize::from(self.key_update_bytes);
            match HEAD.get(at) {
                Some(expected) if expected == byte => self.key_update_bytes += 1,
                // The last byte of the record and of the message.
                None if content.len() <= HEAD.len() + 1 && *byte <= 1 => {
                    self.key_update_bytes = 0;
                    let is_last = std::ptr::eq(byte, content.last()?);
                    return is_last.then_some(Some(*byte == 1));
                }
                _ => {
                    self.key_update_bytes = 0;
                    return None;
                }
            }
        }
        Some(None)
    }

    /// Appends `plaintext` to `out`, sealed in as many records as it takes.
    pub fn seal(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), TlsError> {
        for content in plaintext.chunks(PLAINTEXT_BYTES_MAX) {
            if self.sealing.seq >> self.key_records_log2 > 0 {
                self.update_sealing_key(out)?;
            }
            self.sealing.seal(self.suite, content::APPLICATION_DATA, content, out);
        }
        Ok(())
    }

    /// Appends the announcement that nothing more will be sealed: after a failure with its reason.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        const WARNING: u8 = 1;
        match self.state {
            State::Failed(Some(alert)) => self.fatal(alert, out),
            State::Failed(None) => {}
            State::Open | State::Closed => {
                self.sealing.seal(self.suite, content::ALERT, &[WARNING, alert::CLOSE_NOTIFY], out)
            }
        }
    }

    pub(super) fn fatal(&mut self, alert: u8, out: &mut Vec<u8>) {
        const FATAL: u8 = 2;
        self.sealing.seal(self.suite, content::ALERT, &[FATAL, alert], out);
    }

    /// Lets go of what can be made again: for connections that are idle.
    pub fn hibernate(&mut self) {
        (self.sealing.expanded, self.opening.expanded) = (None, None);
    }

    /// Bytes held for a partial record.
    pub fn partial_bytes(&self) -> usize {
        self.partial.as_deref().map_or(0, Vec::len)
    }

    /// Announces a new sealing key, and seals with it from here on (RFC 8446, section 4.6.3).
    fn update_sealing_key(&mut self, out: &mut Vec<u8>) -> Result<(), TlsError> {
        self.sealing.seal(self.suite, content::HANDSHAKE, &[KEY_UPDATE, 0, 0, 1, 0], out);
        self.sealing = self.sealing.next();
        Ok(())
    }

    /// This end once more, as it is now but for a partial record: for fuzzing, which makes one handshake for all its runs.
    #[doc(hidden)]
    pub fn again(&self) -> Self {
        Self { sealing: self.sealing.again(), opening: self.opening.again(), partial: None, ..*self }
    }

    /// Appends one record of any content, type and padding, as a peer might seal it: for fuzzing.
    #[doc(hidden)]
    pub fn seal_any(&mut self, kind: u8, content: &[u8], padding: usize, out: &mut Vec<u8>) {
        // The type, then zeros, are what stands behind the content.
        let mut inner = content.to_vec();
        if padding > 0 {
            inner.push(kind);
            inner.resize(content.len() + padding, 0);
        }
        self.sealing.seal(self.suite, if padding > 0 { 0 } else { kind }, &inner, out);
    }

    /// Announces the next key and seals with it, and asks for the peer's next if `wants_theirs`: for fuzzing.
    #[doc(hidden)]
    pub fn seal_key_update(&mut self, wants_theirs: bool, out: &mut Vec<u8>) {
        let update = [KEY_UPDATE, 0, 0, 1, u8::from(wants_theirs)];
        self.sealing.seal(self.suite, content::HANDSHAKE, &update, out);
        self.sealing = self.sealing.next();
    }

    /// Agrees on a new key after so many records, a power of 2: for tests.
    #[doc(hidden)]
    pub fn set_key_records_max(&mut self, records: u32) {
        self.key_records_log2 = records.ilog2() as u8;
    }
}

const TOO_LONG: &str = "a record is too long";

/// Bytes of the record that begins here, its header included; `None` if the header is cut off.
fn record_length(bytes: &[u8]) -> Result<Option<usize>, TlsError> {
    let [kind, _, _, high, low, ..] = *bytes else { return Ok(None) };
    if kind != content::APPLICATION_DATA {
        return Err(TlsError::PeerMisbehaved("a record is not sealed"));
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > CIPHERTEXT_BYTES_MAX {
        return Err(TlsError::PeerMisbehaved(TOO_LONG));
    }
    Ok(Some(HEADER_BYTES + length))
}

/// Completes a partial record from `input`. Gives the rest of the input, or `None` if it took all.
fn complete<'a>(partial: &mut Vec<u8>, mut input: &'a mut [u8]) -> Result<Option<&'a mut [u8]>, TlsError> {
    loop {
        let wanted = match record_length(partial)? {
            Some(length) if partial.len() >= length => return Ok(Some(input)),
            Some(length) => length,
            None => HEADER_BYTES,
        };
        let missing = wanted - partial.len();
        if input.is_empty() {
            return Ok(None);
        }
        let (taken, rest) = input.split_at_mut(missing.min(input.len()));
        partial.extend_from_slice(taken);
        input = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ends of a connection.
    fn pair() -> (Records, Records) {
        let half = |byte| Half { secret: Secret::Sha256([byte; 32]), seq: 0, expanded: None };
        let end = |own, others| Records {
            sealing: half(own),
            opening: half(others),
            suite: Suite::Aes128Gcm,
            is_client: false,
            partial: None,
            idle_records: 0,
            key_update_bytes: 0,
            state: State::Open,
            key_records_log2: KEY_RECORDS_LOG2,
        };
        (end(1, 2), end(2, 1))
    }

    fn handshake_record(client: &mut Records, content: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        client.sealing.seal(client.suite, content::HANDSHAKE, content, &mut out);
        out
    }

    #[test]
    fn a_key_update_may_be_spread_over_records() {
        let update = [KEY_UPDATE, 0, 0, 1, 1];
        for cuts in [vec![5], vec![1, 4], vec![4, 1], vec![2, 2, 1], vec![1; 5]] {
            let (mut client, mut server) = pair();
            let (mut out, mut got) = (Vec::new(), Vec::new());
            let mut rest = &update[..];
            for cut in &cuts {
                let (part, after) = rest.split_at(*cut);
                rest = after;
                let mut record = handshake_record(&mut client, part);
                server.open(&mut record, &mut out, &mut |_| {}).expect("a part of a key update");
            }
            client.sealing = client.sealing.next();
            let mut record = Vec::new();
            client.seal(b"data", &mut record).expect("sealed");
            server
                .open(&mut record, &mut out, &mut |piece| got.extend_from_slice(piece))
                .expect("the new key");
            assert_eq!(got, b"data", "{cuts:?}");
            assert!(!out.is_empty(), "it is answered with an update of the other key");
        }
    }

    #[test]
    fn what_is_no_key_update_or_interrupts_one_is_refused() {
        let more = [KEY_UPDATE, 0, 0, 1, 1, 0];
        let bad: [&[&[u8]]; 5] = [
            &[&more],
            &[&more[..3], &more[3..]],
            &[&[KEY_UPDATE, 0, 0, 1], &[2]],
            &[&[KEY_UPDATE, 1]],
            &[&[]],
        ];
        for parts in bad {
            let (mut client, mut server) = pair();
            let refused = parts.iter().find_map(|part| {
                let mut record = handshake_record(&mut client, part);
                server.open(&mut record, &mut Vec::new(), &mut |_| {}).err()
            });
            assert!(matches!(refused, Some(TlsError::PeerMisbehaved(_))), "{parts:?}: {refused:?}");
        }
        let (mut client, mut server) = pair();
        let mut record = handshake_record(&mut client, &[KEY_UPDATE, 0]);
        client.seal(b"data", &mut record).expect("sealed");
        let refused = server.open(&mut record, &mut Vec::new(), &mut |_| {});
        assert!(matches!(refused, Err(TlsError::PeerMisbehaved(_))), "{refused:?}");
    }
}
