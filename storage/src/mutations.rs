//! Faults that a test puts into the code, to show that the simulation finds what they would do. Without the feature
//! `mutations` there are none: every question is answered no when the code is compiled.
//!
//! Each says which tests find it, by their files, and with which seeds: docs/TESTING.md has the table.

/// The faults of a crate: what each is, its name, and the tests that find it with one of these seeds. Gives the enum `Mutation`,
/// `put`, `is` and `hunt`. The crate has a feature `mutations`.
#[macro_export]
macro_rules! mutations {
    ($(
        #[doc = $what:literal]
        $name:ident => $($test:literal $first:literal..$end:literal),+;
    )*) => {
        /// Whether faults can be put into this build.
        pub const COMPILED: bool = cfg!(feature = "mutations");

        /// One fault of the code.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Mutation {
            $(#[doc = $what] $name,)*
        }

        impl Mutation {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// What it is, in words.
            pub fn what(self) -> &'static str {
                match self {
                    $(Self::$name => $what.trim_ascii(),)*
                }
            }

            /// The tests that find it, and among which seeds each does.
            pub fn found_by(self) -> Vec<(&'static str, std::ops::Range<u64>)> {
                match self {
                    $(Self::$name => vec![$(($test, $first..$end)),+],)*
                }
            }
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
        #[allow(dead_code, reason = "a crate without its parts has no faults either")]
        pub(crate) const fn is(_mutation: Mutation) -> bool {
            false
        }

        /// Puts each fault into the code that `test` is to find, and gives what its seeds have found: a line each.
        ///
        /// # Panics
        /// If one is not found.
        #[cfg(feature = "mutations")]
        pub fn hunt(test: &str, finds: impl Fn(u64) -> Option<String>) -> Vec<String> {
            let (mut found, mut missed) = (Vec::new(), Vec::new());
            let asked = $crate::mutations::Asked::new();
            for mutation in Mutation::ALL.iter().filter(|mutation| asked.is(mutation)) {
                for (_, seeds) in mutation.found_by().into_iter().filter(|(by, _)| *by == test) {
                    let seeds = asked.seeds(seeds);
                    // What is found without the fault as well is another one, for other tests to find.
                    let of_it = |seed| {
                        put(Some(*mutation));
                        let what = $crate::mutations::quietly(|| finds(seed));
                        put(None);
                        what.filter(|_| $crate::mutations::quietly(|| finds(seed)).is_none())
                    };
                    let what = seeds.clone().find_map(|seed| Some((seed, of_it(seed)?)));
                    match what {
                        Some((seed, what)) => {
                            found.push(format!("{mutation:?}: seed {seed}: {}", what.lines().next().unwrap_or("")));
                        }
                        None => missed.push(format!("{mutation:?} with none of the seeds {seeds:?}")),
                    }
                }
            }
            assert!(missed.is_empty(), "not found: {missed:#?}; found: {found:#?}");
            found
        }
    };
}

mutations! {
    /// A group is complete when it is written, and is not synced.
    CompleteBeforeSync => "storage/tests/mutations.rs" 0..5, "sim/tests/mutations.rs" 1..60;
    /// A sync that failed is taken for one that did not.
    IgnoreFailedSync => "storage/tests/mutations.rs" 0..20;
    /// The number of a group is noted as acknowledged before the group is durable.
    AcknowledgeBeforeSync => "storage/tests/mutations.rs" 0..20;
    /// A read does not wait for what it must see.
    ReadTooEarly => "storage/tests/mutations.rs" 0..20;
    /// Segments are let go before what they hold is flushed.
    ReleaseBeforeFlush => "storage/tests/mutations.rs" 0..5, "sim/tests/mutations.rs" 25..150;
    /// The manifest is written before the tables that it speaks of.
    ManifestBeforeTables => "storage/tests/mutations.rs" 0..20;
    /// The directory is not synced after the manifest has got its name.
    UnsyncedManifest => "storage/tests/mutations.rs" 0..20;
    /// The directory is not synced after a segment has got its name.
    UnsyncedSegment => "storage/tests/mutations.rs" 0..20;
    /// Recovery takes a group whose checksum does not match.
    AcceptTornTail => "storage/tests/mutations.rs" 0..20, "sim/tests/mutations.rs" 25..150;
    /// Recovery takes the end of what is readable for the end of the log, whatever was acknowledged beyond.
    TakeDamageForEnd => "storage/tests/mutations.rs" 0..20;
    /// What a start reads is taken for durable.
    TrustWhatIsRead => "storage/tests/mutations.rs" 0..20;
    /// The trees are opened before the names that they go by are synced.
    OpenBeforeSync => "storage/tests/world/cuts.rs" 0..1000;
    /// A tree whose files went on without it is written again.
    WriteOverVersion => "storage/tests/world/cuts.rs" 0..1000;
    /// A batch goes into the store though one of its lane that it follows did not.
    ForgetFailure => "storage/tests/mutations.rs" 0..5;
    /// A batch goes into the store though its slot has another owner by now.
    SkipFence => "storage/tests/mutations.rs" 0..20;
    /// Two batches of a lane lie in a group in the wrong order.
    ReorderLane => "storage/tests/mutations.rs" 0..20;
    /// Segments are let go that a backup has not got.
    ArchiveAfterRelease => "storage/tests/backups.rs" 0..50;
    /// A backup takes groups that are not durable yet.
    ArchiveBeforeSync => "storage/tests/backups.rs" 0..50;
    /// The end of a backup's log is not restored.
    RestoreSkipsTail => "storage/tests/backups.rs" 0..50;
    /// A base serves for a point in time before all that its files hold.
    TrustWholeAt => "storage/tests/backups.rs" 0..50;
    /// A base is told of before the log goes as far as its files do.
    BaseWithoutTail => "storage/tests/backups.rs" 60..100;
    /// A chain's head names what is not durable yet.
    HeadBeforeSync => "storage/tests/backups.rs" 0..50;
    /// The store lets go of what a chain's head does not name yet.
    ReleaseBeforeHead => "storage/tests/backups.rs" 0..50;
    /// What is found in a backup's directory is taken for durable.
    TrustNames => "storage/tests/backups.rs" 2140..2150;
    /// What was copied of a base is gone on with, and told of, though it has gone with its disk's power.
    KeepUnnamed => "storage/tests/backups.rs" 450..455;
    /// Files that were merged go while they are copied.
    ForgetPins => "storage/tests/backups.rs" 0..50;
    /// What was copied is not compared with what was written.
    SkipFileChecksum => "storage/tests/backups.rs" 0..50;
    /// The times of groups follow a clock that is set back.
    ForgetTimeOrder => "storage/tests/backups.rs" 0..50;
    /// A chain is gone on with by a store that has another past.
    ContinueForeignChain => "storage/tests/backups.rs" 0..50;
    /// The store keeps what a backup does not take, without a bound.
    DelayForTarget => "storage/tests/backups.rs" 0..50;
    /// A store that was restored knows the starts of the one that it is a copy of.
    KeepGenerations => "storage/tests/backups.rs" 0..50;
    /// A commit of which FoundationDB does not know what became of it is acknowledged.
    AcknowledgeUnknown => "storage/tests/fdb.rs" 0..50;
    /// A transaction of a lane writes no record.
    SkipLaneRecord => "storage/tests/fdb.rs" 0..200;
    /// A batch is fenced by the slots of its keys, in place of those that have decided it.
    FenceByKeysSlot => "storage/tests/fdb.rs" 0..200;
    /// A transaction does not rest on who owns the store.
    ForgetOwner => "storage/tests/fdb.rs" 0..200;
    /// The version that a lane's commit has made serves as one that the next may rest on.
    OwnVersionAsTicket => "storage/tests/fdb.rs" 0..200;
}

/// What whoever looks for a fault's seeds has asked for, by `TERN_MUTATION`, `TERN_SEEDS` and `TERN_FROM`: this one alone, so many seeds, from this
/// one on.
#[cfg(feature = "mutations")]
#[derive(Debug)]
pub struct Asked {
    mutation: Option<String>,
    seeds: Option<u64>,
    from: Option<u64>,
}

#[cfg(feature = "mutations")]
impl Asked {
    /// From the environment.
    #[allow(clippy::new_without_default, reason = "it reads the environment")]
    pub fn new() -> Self {
        let number = |name| std::env::var(name).ok().and_then(|number| number.parse().ok());
        let mutation = std::env::var("TERN_MUTATION").ok();
        Self { mutation, seeds: number("TERN_SEEDS"), from: number("TERN_FROM") }
    }

    /// Whether a fault is one of those that are looked for.
    pub fn is(&self, mutation: &impl std::fmt::Debug) -> bool {
        self.mutation.as_ref().is_none_or(|asked| *asked == format!("{mutation:?}"))
    }

    /// The seeds that are tried.
    pub fn seeds(&self, known: std::ops::Range<u64>) -> std::ops::Range<u64> {
        if self.mutation.is_none() {
            return known;
        }
        let start = self.from.unwrap_or(known.start);
        start..self.seeds.map_or(known.end, |seeds| start + seeds)
    }
}

/// Runs something whose panics nobody is told of, in this thread.
#[cfg(feature = "mutations")]
pub fn quietly<R>(run: impl FnOnce() -> R) -> R {
    use std::cell::Cell;
    use std::panic;
    use std::sync::Once;

    thread_local! {
        static QUIET: Cell<bool> = const { Cell::new(false) };
    }
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                before(panic);
            }
        }));
    });
    QUIET.set(true);
    let result = run();
    QUIET.set(false);
    result
}

/// What something panics with, in its words.
#[cfg(feature = "mutations")]
pub fn panic_of(run: impl FnOnce()) -> Option<String> {
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).err()?;
    let text = panic.downcast_ref::<String>().cloned();
    Some(text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default())
}
