//! Faults that a test puts into the code, to show that the simulation finds what they would do. Without the feature
//! `mutations` there are none: every question is answered no when the code is compiled.

/// Whether faults can be put into this build.
pub const COMPILED: bool = cfg!(feature = "mutations");

/// One fault of the code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutation {
    /// A group is complete when it is written, and is not synced.
    CompleteBeforeSync,
    /// A sync that failed is taken for one that did not.
    IgnoreFailedSync,
    /// The number of a group is noted as acknowledged before the group is durable.
    AcknowledgeBeforeSync,
    /// A read does not wait for what it must see.
    ReadTooEarly,
    /// Segments are let go before what they hold is flushed.
    ReleaseBeforeFlush,
    /// The manifest is written before the tables that it speaks of.
    ManifestBeforeTables,
    /// The directory is not synced after the manifest has got its name.
    UnsyncedManifest,
    /// The directory is not synced after a segment has got its name.
    UnsyncedSegment,
    /// Recovery takes a group whose checksum does not match.
    AcceptTornTail,
    /// What a start reads is taken for durable.
    TrustWhatIsRead,
    /// A batch goes into the store though one of its port that it follows did not.
    ForgetFailure,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::CompleteBeforeSync,
        Self::IgnoreFailedSync,
        Self::AcknowledgeBeforeSync,
        Self::ReadTooEarly,
        Self::ReleaseBeforeFlush,
        Self::ManifestBeforeTables,
        Self::UnsyncedManifest,
        Self::UnsyncedSegment,
        Self::AcceptTornTail,
        Self::TrustWhatIsRead,
        Self::ForgetFailure,
    ];
}

#[cfg(feature = "mutations")]
thread_local! {
    static ACTIVE: std::cell::Cell<Option<Mutation>> = const { std::cell::Cell::new(None) };
}

/// Puts a fault into what this thread runs from now on, in the place of the one before.
#[cfg(feature = "mutations")]
pub fn put(mutation: Option<Mutation>) {
    ACTIVE.set(mutation);
}

/// Whether the code has this fault.
#[cfg(feature = "mutations")]
pub(crate) fn is(mutation: Mutation) -> bool {
    ACTIVE.get() == Some(mutation)
}

/// Whether the code has this fault: no.
#[cfg(not(feature = "mutations"))]
#[cfg_attr(not(feature = "embedded"), expect(dead_code, reason = "the faults are in the embedded engine"))]
pub(crate) const fn is(_mutation: Mutation) -> bool {
    false
}
