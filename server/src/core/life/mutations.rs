//! Mistakes in the table, made on purpose: the tests of all orders of events must find each of them.
//!
//! They are there in the crate's own tests, and with its feature `mutations`; otherwise every question is `false` to the compiler.

/// A mistake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutation {
    /// A move does not wait until its cancelled receive has ended.
    SkipCancelWait,
    /// What ends at once takes its send's buffer back at once.
    FreeAtCancel,
    /// A place is free when the close is submitted, before the brain has been told.
    ReuseAtClose,
    /// What is armed and was asked to end is armed again.
    ArmTwice,
    /// A descriptor is closed while it is being shut down.
    CloseInShutdown,
    /// The brain is told of the peer's end while what came before it is unread.
    EndBeforeUnread,
    /// What comes while a connection is held is dropped.
    DropUnread,
    /// What is queued may take for ever to leave.
    FlushForever,
    /// The brain is told of the end of what it has never heard of, or has sent away.
    TellStranger,
    /// What is queued to a connection that was to move, and stays, is forgotten.
    ForgetQueued,
}

impl Mutation {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::SkipCancelWait,
        Self::FreeAtCancel,
        Self::ReuseAtClose,
        Self::ArmTwice,
        Self::CloseInShutdown,
        Self::EndBeforeUnread,
        Self::DropUnread,
        Self::FlushForever,
        Self::TellStranger,
        Self::ForgetQueued,
    ];
}

#[cfg(any(test, feature = "mutations"))]
mod on {
    use std::cell::Cell;

    use super::Mutation;

    thread_local! {
        static MADE: Cell<Option<Mutation>> = const { Cell::new(None) };
    }

    /// Makes a mistake in this thread while `body` runs.
    pub fn with<R>(mutation: Mutation, body: impl FnOnce() -> R) -> R {
        struct Unmade;
        impl Drop for Unmade {
            fn drop(&mut self) {
                MADE.set(None);
            }
        }
        let _unmade = Unmade;
        MADE.set(Some(mutation));
        body()
    }

    pub(super) fn is_made(mutation: Mutation) -> bool {
        MADE.get() == Some(mutation)
    }
}

#[cfg(any(test, feature = "mutations"))]
pub use on::with;

/// Whether this mistake is to be made.
#[inline]
pub(super) fn makes(mutation: Mutation) -> bool {
    #[cfg(any(test, feature = "mutations"))]
    return on::is_made(mutation);
    #[cfg(not(any(test, feature = "mutations")))]
    {
        let _ = mutation;
        false
    }
}
