//! Faults that a test puts into the brain, to show that the simulation finds what they would do. Without the feature
//! `mutations` there are none: every question is answered no when the code is compiled.

/// Whether faults can be put into this build.
pub const COMPILED: bool = cfg!(feature = "mutations");

/// One fault of the brain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutation {
    /// A retry is taken for a new message.
    ForgetRetries,
    /// A message leaves no mark in the inboxes of its devices.
    ForgetMark,
    /// What is said to a slot that moves does not wait for its marker.
    SkipMarker,
    /// A slot is handed over before all have heard what its owner has said of it.
    SkipFlush,
    /// What waited for a slot that moves is lost.
    LoseAtMove,
    /// Those who are connected are forgotten when their slot moves.
    ForgetConnected,
    /// A slot is handed over while writes of it are under way.
    MoveBesideWrites,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::ForgetRetries,
        Self::ForgetMark,
        Self::SkipMarker,
        Self::SkipFlush,
        Self::LoseAtMove,
        Self::ForgetConnected,
        Self::MoveBesideWrites,
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
pub(crate) const fn is(_mutation: Mutation) -> bool {
    false
}
