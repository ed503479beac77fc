//! A store that is elsewhere, and is left alone while it fails: whoever asks meanwhile is told so at once.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
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
    breaker: Mutex<Breaker>,
    health: Arc<Health>,
}

/// How a store does.
#[derive(Debug, Default)]
pub struct Health {
    /// What it has failed to do, in all.
    pub failures: AtomicU64,
    /// Whether it is left alone now: 1.
    pub is_away: AtomicU64,
}

impl<S: Store> Guarded<S> {
    /// A store, and where it is said how it does.
    pub fn new(store: S) -> (Self, Arc<Health>) {
        let health = Arc::<Health>::default();
        let breaker = Mutex::default();
        (Self { store, begun: Instant::now(), breaker, health: health.clone() }, health)
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for something, unless the store is left alone.
    async fn ask<T>(&self, asking: Doing<'_, Result<T, StoreError>>) -> Result<T, StoreError> {
        self.breaker().may_ask(self.begun.elapsed()).map_err(StoreError::Away)?;
        let answer = asking.await;
        let failure = match &answer {
            Err(StoreError::Failed(why)) => Some(why.as_str()),
            _ => None,
        };
        self.asked(failure);
        answer
    }

    fn asked(&self, failure: Option<&str>) {
        let became = self.breaker().asked(self.begun.elapsed(), failure.is_none());
        self.health.failures.fetch_add(u64::from(failure.is_some()), Ordering::Relaxed);
        match became {
            Became::Same => {}
            Became::Away(pause) => {
                self.health.is_away.store(1, Ordering::Relaxed);
                let why = failure.unwrap_or_default();
                tracing::error!(why, ?pause, "the store of media fails, and is left alone for a while");
            }
            Became::Well => {
                self.health.is_away.store(0, Ordering::Relaxed);
                tracing::info!("the store of media is well again");
            }
        }
    }
}

impl<S: Store> Store for Guarded<S> {
    fn keep<'a>(
        &'a self,
        id: MediaId,
        about: &'a About,
        file: &'a Path,
    ) -> Doing<'a, Result<(), StoreError>> {
        Box::pin(self.ask(self.store.keep(id, about, file)))
    }

    fn about(&self, id: MediaId) -> Doing<'_, Result<Option<About>, StoreError>> {
        Box::pin(self.ask(self.store.about(id)))
    }

    fn keep_preview<'a>(&'a self, id: MediaId, json: &'a [u8]) -> Doing<'a, Result<(), StoreError>> {
        Box::pin(self.ask(self.store.keep_preview(id, json)))
    }

    fn preview(&self, id: MediaId) -> Doing<'_, Result<Option<Vec<u8>>, StoreError>> {
        Box::pin(self.ask(self.store.preview(id)))
    }

    fn read(&self, id: MediaId, bytes: Range<u64>) -> Doing<'_, Result<Pieces, StoreError>> {
        Box::pin(self.ask(self.store.read(id, bytes)))
    }

    fn list(&self, first: u8) -> Doing<'_, Result<Vec<(MediaId, SystemTime)>, StoreError>> {
        Box::pin(self.ask(self.store.list(first)))
    }

    fn remove(&self, id: MediaId) -> Doing<'_, Result<(), StoreError>> {
        Box::pin(self.ask(self.store.remove(id)))
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
