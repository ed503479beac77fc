//! A batch: writes that become durable together or not at all.

use prost::Message;

use crate::keys::Key;
use crate::slots::{Epoch, Slot};

const PUT: u8 = 1;
const DELETE: u8 = 2;

/// One write: the key, and its value, or nothing if the key is removed.
pub type Op<'a> = (&'a [u8], Option<&'a [u8]>);

/// Writes in order; a later one of the same key wins.
///
/// They lie one behind the other as they do in the embedded engine's log, so that whoever makes one, logs it, or brings it into the
/// tables allocates nothing for a write: `kind u8 | key length u16`, of a put `value length u32`, then the key, of a put the value.
#[derive(Clone, Default)]
pub struct Batch {
    encoded: Vec<u8>,
    ops: usize,
    bytes: usize,
}

/// Shows no content.
impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Batch {{ {} writes, {} bytes }}", self.ops, self.bytes)
    }
}

impl Batch {
    /// Empty, with room for so many bytes of [`Batch::encoded`].
    pub fn with_capacity(bytes: usize) -> Self {
        Self { encoded: Vec::with_capacity(bytes), ..Self::default() }
    }

    /// Sets `key` to `value`.
    ///
    /// # Panics
    /// If the key has 64 KiB, or the value 4 GiB.
    pub fn put(&mut self, key: &Key, value: impl AsRef<[u8]>) {
        self.put_with(key, |encoded| encoded.extend_from_slice(value.as_ref()));
    }

    /// Sets `key` to a record.
    ///
    /// # Panics
    /// See [`Batch::put`].
    pub fn put_record(&mut self, key: &Key, record: &impl Message) {
        self.put_with(key, |encoded| record.encode(encoded).expect("a vector grows"));
    }

    fn put_with(&mut self, key: &Key, write: impl FnOnce(&mut Vec<u8>)) {
        self.begin(PUT, key, &[0; 4]);
        let begin = self.encoded.len();
        write(&mut self.encoded);
        let value_bytes = self.encoded.len() - begin;
        let length = u32::try_from(value_bytes).expect("values are shorter than 4 GiB").to_le_bytes();
        let at = begin - key.as_ref().len() - length.len();
        self.encoded[at..at + length.len()].copy_from_slice(&length);
        self.bytes += value_bytes;
    }

    /// Removes `key`.
    ///
    /// # Panics
    /// See [`Batch::put`].
    pub fn delete(&mut self, key: &Key) {
        self.begin(DELETE, key, &[]);
    }

    fn begin(&mut self, kind: u8, key: &Key, length: &[u8]) {
        let key = key.as_ref();
        let [low, high] = u16::try_from(key.len()).expect("keys are shorter than 64 KiB").to_le_bytes();
        self.encoded.extend_from_slice(&[kind, low, high]);
        self.encoded.extend_from_slice(length);
        self.encoded.extend_from_slice(key);
        self.ops += 1;
        self.bytes += key.len();
    }

    /// The writes in order.
    pub fn ops(&self) -> impl Iterator<Item = Op<'_>> {
        let mut rest = &self.encoded[..];
        std::iter::from_fn(move || take_op(&mut rest))
    }

    /// The writes as they lie in the log.
    pub fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    /// From what [`Batch::encoded`] gave; `None` if these bytes are not such.
    pub(crate) fn from_encoded(encoded: &[u8]) -> Option<Self> {
        let ops = all_ops(encoded)?;
        let bytes = ops.iter().map(|(key, value)| key.len() + value.map_or(0, <[u8]>::len)).sum();
        Some(Self { encoded: encoded.to_vec(), ops: ops.len(), bytes })
    }

    /// Bytes of keys and values together.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many writes.
    pub fn len(&self) -> usize {
        self.ops
    }

    /// Whether it has no writes. An empty batch is still committed in its turn: it proves that those before it are.
    pub fn is_empty(&self) -> bool {
        self.ops == 0
    }
}

/// All writes of [`Batch::encoded`]; `None` if these bytes are not such.
pub(crate) fn all_ops(mut encoded: &[u8]) -> Option<Vec<Op<'_>>> {
    let ops = std::iter::from_fn(|| take_op(&mut encoded)).collect();
    encoded.is_empty().then_some(ops)
}

/// `None` at the end, or at what is no write: then that is left.
fn take_op<'a>(encoded: &mut &'a [u8]) -> Option<Op<'a>> {
    let (&[kind, low, high], rest) = encoded.split_first_chunk()?;
    let (value_bytes, rest) = match kind {
        PUT => {
            let (length, rest) = rest.split_first_chunk()?;
            (Some(u32::from_le_bytes(*length) as usize), rest)
        }
        DELETE => (None, rest),
        _ => return None,
    };
    let (key, rest) = rest.split_at_checked(u16::from_le_bytes([low, high]).into())?;
    let (value, rest) = rest.split_at_checked(value_bytes.unwrap_or_default())?;
    *encoded = rest;
    Some((key, value_bytes.map(|_| value)))
}

/// The slots that a batch touches, with the epochs in which its author owns them.
#[derive(Clone, Default, Debug)]
pub struct Fence {
    epochs: Vec<(Slot, Epoch)>,
}

impl FromIterator<(Slot, Epoch)> for Fence {
    fn from_iter<I: IntoIterator<Item = (Slot, Epoch)>>(epochs: I) -> Self {
        Self { epochs: epochs.into_iter().collect() }
    }
}

impl Fence {
    /// Demands that `slot` is still in `epoch` when the batch commits.
    pub fn require(&mut self, slot: Slot, epoch: Epoch) {
        if !self.epochs.contains(&(slot, epoch)) {
            self.epochs.push((slot, epoch));
        }
    }

    /// What is demanded.
    pub fn epochs(&self) -> &[(Slot, Epoch)] {
        &self.epochs
    }
}
