//! What a request is in the client library's calls.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use foundationdb::options::{ConflictRangeType, StreamingMode, TransactionOption};
use foundationdb::{Database, FdbError, FdbResult, KeySelector, RangeOption};
use tern_storage::fdb::client::{Code, Found, Outcome, Request, Transaction, Version, Want};
use tern_storage::fdb::codes::{Meaning, meaning};
use tern_storage::{Batch, Direction, KeyRange, Rows, ScanLimit};

use crate::caller::now_or_soon;

/// A read that was not answered by then fails. A commit takes as long as it takes: a time-out would only be one more that is unknown.
const READ_TIMEOUT_MS: i32 = 5_000;

/// Bytes that one answer of a long scan is to have.
const PIECE_BYTES: usize = 256 << 10;

pub(crate) fn run(
    database: Arc<Database>,
    prefix: Arc<[u8]>,
    request: Request,
) -> Pin<Box<dyn Future<Output = Outcome> + Send>> {
    match request {
        Request::Read { at, wants } => Box::pin(read(database, prefix, at, wants)),
        Request::Commit(transaction) => Box::pin(commit(database, prefix, transaction)),
    }
}

fn failed(error: FdbError) -> Outcome {
    Outcome::Failed(Code(error.code()))
}

fn with(prefix: &[u8], key: &[u8]) -> Vec<u8> {
    [prefix, key].concat()
}

/// Reads, and tries again what may go well the next time, as long as the time-out allows.
async fn read(
    database: Arc<Database>,
    prefix: Arc<[u8]>,
    mut at: Option<Version>,
    wants: Vec<Want>,
) -> Outcome {
    let made = database.create_trx().and_then(|transaction| {
        // It counts from here on, whatever is tried again.
        transaction.set_option(TransactionOption::Timeout(READ_TIMEOUT_MS)).map(|()| transaction)
    });
    let mut transaction = match made {
        Ok(transaction) => transaction,
        Err(error) => return failed(error),
    };
    loop {
        match read_once(&transaction, &prefix, at, &wants).await {
            Ok((version, found)) => return Outcome::Read(version, found),
            // The library would try again for as long as the lock is there.
            Err(error) if meaning(Code(error.code())) == Meaning::Locked => return failed(error),
            Err(error) => match transaction.on_error(error).await {
                Ok(again) => (transaction, at) = (again, None),
                Err(error) => return failed(error),
            },
        }
    }
}

async fn read_once(
    transaction: &foundationdb::Transaction,
    prefix: &[u8],
    at: Option<Version>,
    wants: &[Want],
) -> FdbResult<(Version, Vec<Found>)> {
    transaction.set_option(TransactionOption::ReadYourWritesDisable)?;
    let version = match at {
        Some(version) => {
            transaction.set_read_version(version.0);
            version
        }
        None => Version(transaction.get_read_version().await?),
    };
    // All are asked for at once.
    let values: Vec<_> = wants
        .iter()
        .map(|want| match want {
            Want::Value(key) => Some(transaction.get(&with(prefix, key.as_ref()), true)),
            Want::Rows(..) => None,
        })
        .collect();
    let mut found = Vec::with_capacity(wants.len());
    for (want, value) in wants.iter().zip(values) {
        found.push(match (want, value) {
            (Want::Rows(range, direction, limit), _) => {
                Found::Rows(scan(transaction, prefix, range, *direction, *limit).await?)
            }
            (Want::Value(_), Some(value)) => {
                Found::Value(value.await?.map(|value| Bytes::copy_from_slice(&value)))
            }
            (Want::Value(_), None) => unreachable!("it was asked for"),
        });
    }
    Ok((version, found))
}

/// Reads rows until the limit is reached, or there are no more.
async fn scan(
    transaction: &foundationdb::Transaction,
    prefix: &[u8],
    range: &KeyRange,
    direction: Direction,
    limit: ScanLimit,
) -> FdbResult<Rows> {
    let mut rows = Rows::default();
    if range.start >= range.end {
        return Ok(rows);
    }
    let (begin, end) = (with(prefix, range.start.as_ref()), with(prefix, range.end.as_ref()));
    let mut next = Some(RangeOption {
        mode: StreamingMode::WantAll,
        reverse: direction == Direction::Backwards,
        // One more, which says that there are more.
        limit: limit.rows.checked_add(1),
        target_bytes: PIECE_BYTES,
        ..RangeOption::from((
            KeySelector::first_greater_or_equal(begin),
            KeySelector::first_greater_or_equal(end),
        ))
    });
    let (mut bytes, mut piece) = (0, 1);
    while let Some(option) = next {
        let values = transaction.get_range(&option, piece, true).await?;
        for row in values.iter() {
            if rows.rows.len() >= limit.rows || bytes >= limit.bytes {
                rows.more = true;
                return Ok(rows);
            }
            let key = &row.key()[prefix.len()..];
            bytes += key.len() + row.value().len();
            rows.rows.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(row.value())));
        }
        next = option.next_range(&values);
        piece += 1;
    }
    Ok(rows)
}

async fn commit(database: Arc<Database>, prefix: Arc<[u8]>, transaction: Box<Transaction>) -> Outcome {
    let asked = match prepare(&database, &prefix, &transaction) {
        Ok(asked) => asked,
        Err(error) => return failed(error),
    };
    match asked.commit().await {
        Ok(committed) => match committed.committed_version() {
            Ok(version) => Outcome::Committed(Version(version)),
            Err(error) => failed(error),
        },
        Err(error) => Outcome::Failed(Code(error.code())),
    }
}

/// The conflicts come first: FoundationDB leaves out that of a key which the transaction has written (apple/foundationdb#126).
fn prepare(
    database: &Database,
    prefix: &[u8],
    transaction: &Transaction,
) -> FdbResult<foundationdb::Transaction> {
    let asked = database.create_trx()?;
    asked.set_option(TransactionOption::ReadYourWritesDisable)?;
    asked.set_read_version(transaction.at.0);
    for range in &transaction.unchanged {
        let (begin, end) = (with(prefix, range.start.as_ref()), with(prefix, range.end.as_ref()));
        asked.add_conflict_range(&begin, &end, ConflictRangeType::Read)?;
    }
    let mut key = prefix.to_vec();
    for (row, value) in transaction.batches.iter().flat_map(|batch| batch.ops()) {
        key.truncate(prefix.len());
        key.extend_from_slice(row);
        asked.set_option(TransactionOption::NextWriteNoWriteConflictRange)?;
        match value {
            Some(value) => asked.set(&key, value),
            None => asked.clear(&key),
        }
    }
    for (row, value) in &transaction.guarded {
        asked.set(&with(prefix, row.as_ref()), value);
    }
    Ok(asked)
}

/// Commits rows that rest on nothing, and waits for it.
pub(crate) fn commit_bare(database: &Database, prefix: &[u8], batches: impl Iterator<Item = Batch>) -> bool {
    let Ok(asked) = database.create_trx() else { return false };
    let mut key = prefix.to_vec();
    for batch in batches {
        for (row, value) in batch.ops() {
            key.truncate(prefix.len());
            key.extend_from_slice(row);
            match value {
                Some(value) => asked.set(&key, value),
                None => asked.clear(&key),
            }
        }
    }
    now_or_soon(asked.commit(), Duration::from_secs(60)).is_some_and(|committed| committed.is_ok())
}
