//! What an acknowledgement is made of: a seq that the store has proven durable.
//!
//! A [`DurableSeq`] comes from a [`Durable`] commit, at once or by way of a [`DurableHead`]; there is no other way to
//! make one, so acknowledging early does not compile.

use tern_storage::Durable;
use tern_wire::ids::Seq;

/// An entry's place in its log, proven durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DurableSeq {
    seq: Seq,
    time_ms: u64,
}

impl DurableSeq {
    /// The place.
    pub fn seq(self) -> Seq {
        self.seq
    }

    /// When the entry was committed, in ms since the Unix epoch.
    pub fn time_ms(self) -> u64 {
        self.time_ms
    }
}

/// Up to where a log is proven durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DurableHead(Seq);

impl DurableHead {
    /// The head of a log as the store gave it: a store gives nothing that is not durable.
    pub(crate) fn recovered(seq: Seq) -> Self {
        Self(seq)
    }

    /// The commit that held the entry `seq` is durable.
    pub(crate) fn advance(&mut self, _proof: &Durable, seq: Seq) {
        self.0 = self.0.max(seq);
    }

    /// The newest durable place.
    pub fn seq(self) -> Seq {
        self.0
    }

    /// The proof for an entry at or below the head; `None` above it.
    pub fn prove(self, seq: Seq, time_ms: u64) -> Option<DurableSeq> {
        (seq <= self.0).then_some(DurableSeq { seq, time_ms })
    }
}
