//! All that the engine asks of FoundationDB, and all that it hears: behind this trait is the client library, or what stands in for it
//! in a simulation.
//!
//! A request takes as long as FoundationDB takes, without a bound. Only one that has ended is forgotten: whoever gives up a commit that
//! is under way cancels nothing, for it may land later.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::batch::Batch;
use crate::engine::{Direction, Rows, ScanLimit, Wake};
use crate::keys::{Key, KeyRange};

/// A version of the database: they rise, by about a million a second.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Version(pub i64);

/// One of FoundationDB's error codes (<https://apple.github.io/foundationdb/api-error-codes.html>).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Code(pub i32);

/// Names a request of a caller.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Token(pub u64);

/// What is asked.
#[derive(Clone, Debug)]
pub enum Request {
    /// To read all of this at one version: at this one, or if it is too old or none, at one that holds all that was committed before the
    /// request. Nothing conflicts with it.
    Read {
        /// At which version.
        at: Option<Version>,
        /// What, in the order of what is found.
        wants: Vec<Want>,
    },
    /// To commit.
    Commit(Box<Transaction>),
}

/// What is to be read.
#[derive(Clone, Debug)]
pub enum Want {
    /// The value of a key.
    Value(Key),
    /// The rows of a range.
    Rows(KeyRange, Direction, ScanLimit),
}

/// A transaction that reads nothing.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// The version that it rests on.
    pub at: Version,
    /// If any guarded row of these has been written since, it is not committed.
    pub unchanged: Vec<KeyRange>,
    /// Rows that others rest on.
    pub guarded: Vec<(Key, Bytes)>,
    /// Rows that nobody rests on, in this order.
    pub batches: Vec<Arc<Batch>>,
}

/// What was found.
#[derive(Clone, Debug)]
pub enum Found {
    /// The value of a key, if there is one.
    Value(Option<Bytes>),
    /// The rows of a range.
    Rows(Rows),
}

impl Found {
    /// The value that was asked for.
    ///
    /// # Panics
    /// If rows were.
    pub(super) fn value(self) -> Option<Bytes> {
        match self {
            Self::Value(value) => value,
            Self::Rows(_) => panic!("a value was asked for"),
        }
    }

    /// The rows that were asked for.
    ///
    /// # Panics
    /// If a value was.
    pub(super) fn rows(self) -> Rows {
        match self {
            Self::Rows(rows) => rows,
            Self::Value(_) => panic!("rows were asked for"),
        }
    }
}

/// What became of a request.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// What was found, and the version that it was read at.
    Read(Version, Vec<Found>),
    /// The version that the transaction made.
    Committed(Version),
    /// It did not go well. Of a commit, [`Meaning`](super::codes::Meaning) says whether it may have landed all the same. Of a read:
    /// FoundationDB has not answered for a while.
    Failed(Code),
}

/// FoundationDB. Shared by the whole node.
pub trait Client: Send + Sync {
    /// A way to it for one thread; `wake` is called when there are outcomes.
    fn caller(&self, wake: Arc<dyn Wake>) -> Box<dyn Caller>;

    /// Who does not answer, and what else the client library knows of why: for the operators, when nothing is heard.
    fn silence(&self) -> String;

    /// How busy the client library's own thread is, of 1.
    fn busyness(&self) -> f64;

    /// Nothing is asked any more.
    fn close(&self);
}

/// One thread's way to FoundationDB. Never blocks, but for [`Caller::wait`].
pub trait Caller: Send {
    /// Asks for something.
    fn start(&mut self, request: Request) -> Token;

    /// Moves what has ended to the end of `outcomes`.
    fn poll(&mut self, outcomes: &mut Vec<(Token, Outcome)>);

    /// Whether [`Caller::poll`] may give anything now.
    fn has_outcomes(&self) -> bool;

    /// Waits until there may be outcomes, for no longer than this: for start-up and tools, never for a core. `false`: there are none.
    fn wait(&mut self, at_most: Duration) -> bool;
}
