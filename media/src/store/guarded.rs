//! A store that is elsewhere, and is left alone while it fails: whoever asks meanwhile is told so at once. What is read there and what is
//! written fail each for themselves: one that is not to be written to may still be read.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::breaker::{Became, Breaker};
use super::{About, Pieces, Store, StoreError};
use crate::gate::Doing;
use crate::id::MediaId;

/// See the module.
pub struct Guarded<S> {
    store: S,
    begun: Instant,
    reads: Mutex<Breaker>,
    writes: Mutex<Breaker>,
    health: Arc<Health>,
}

/// How a store does.
#[derive(Debug, Default)]
pub struct Health {
    /// What it has failed to do, in all.
    pub failures: AtomicU64,
    /// Of reading and writing there, which is left alone now: 0 to 2.
    pub is_away: AtomicU64,
    /// Whether it had no room, the last time that something was written.
    is_full: AtomicBool,
}

impl<S: Store> Guarded<S> {
    /// A store, and where it is said how it does.
    pub fn new(store: S) -> (Self, Arc<Health>) {
        let health = Arc::<Health>::default();
        let (reads, writes) = Default::default();
        (Self { store, begun: Instant::now(), reads, writes, health: health.clone() }, health)
    }

    async fn read<T>(&self, asking: Doing<'_, Result<T, StoreError>>) -> Result<T, StoreError> {
        self.ask("read", &self.reads, asking).await
    }

    async fn write<T>(&self, asking: Doing<'_, Result<T, StoreError>>) -> Result<T, StoreError> {
        let answer = self.ask("written", &self.writes, asking).await;
        let is_full = matches!(answer, Err(StoreError::Full));
        if is_full {
            self.health.failures.fetch_add(1, Ordering::Relaxed);
        }
        if (is_full || answer.is_ok()) && self.health.is_full.swap(is_full, Ordering::Relaxed) != is_full {
            tracing::warn!(is_full, "the store of media has no room, or has some again");
        }
        answer
    }

    /// Asks for something, unless the store is left alone.
    async fn ask<T>(
        &self,
        what: &str,
        breaker: &Mutex<Breaker>,
        asking: Doing<'_, Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        lock(breaker).may_ask(self.begun.elapsed()).map_err(StoreError::Away)?;
        let answer = asking.await;
        let failure = match &answer {
            Err(StoreError::Failed(why)) => Some(why.as_str()),
            _ => None,
        };
        self.health.failures.fetch_add(u64::from(failure.is_some()), Ordering::Relaxed);
        let became = lock(breaker).asked(self.begun.elapsed(), failure.is_none());
        self.became(what, failure, became);
        answer
    }

    fn became(&self, what: &str, failure: Option<&str>, became: Became) {
        match became {
            Became::Same => return,
            Became::Away(pause) => {
                let why = failure.unwrap_or_default();
                tracing::error!(why, ?pause, what, "the store of media fails, and is left alone for a while");
            }
            Became::Well => tracing::info!(what, "the store of media is well again"),
        }
        let are_away = [&self.reads, &self.writes].map(|breaker| u64::from(lock(breaker).is_away()));
        self.health.is_away.store(are_away.iter().sum(), Ordering::Relaxed);
    }
}

fn lock(breaker: &Mutex<Breaker>) -> MutexGuard<'_, Breaker> {
    breaker.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: Store> Store for Guarded<S> {
    fn keep<'a>(
        &'a self,
        id: MediaId,
        about: &'a About,
        file: &'a Path,
    ) -> Doing<'a, Result<(), StoreError>> {
        Box::pin(self.write(self.store.keep(id, about, file)))
    }

    fn about(&self, id: MediaId) -> Doing<'_, Result<Option<About>, StoreError>> {
        Box::pin(self.read(self.store.about(id)))
    }

    fn keep_preview<'a>(&'a self, id: MediaId, json: &'a [u8]) -> Doing<'a, Result<(), StoreError>> {
        Box::pin(self.write(self.store.keep_preview(id, json)))
    }

    fn preview(&self, id: MediaId) -> Doing<'_, Result<Option<Vec<u8>>, StoreError>> {
        Box::pin(self.read(self.store.preview(id)))
    }

    fn read(&self, id: MediaId, bytes: Range<u64>) -> Doing<'_, Result<Pieces, StoreError>> {
        Box::pin(self.read(self.store.read(id, bytes)))
    }

    fn list(&self, first: u8) -> Doing<'_, Result<Vec<(MediaId, SystemTime)>, StoreError>> {
        Box::pin(self.read(self.store.list(first)))
    }

    fn remove(&self, id: MediaId) -> Doing<'_, Result<(), StoreError>> {
        Box::pin(self.write(self.store.remove(id)))
    }

    fn link(
        &self,
        id: MediaId,
        method: hyper::Method,
        valid: Duration,
    ) -> Doing<'_, Result<Option<String>, StoreError>> {
        // It is made here, of nothing but what is known.
        self.store.link(id, method, valid)
    }
}
