//! A profile that is open, and the threads on which it may wait for the disk.

use std::sync::{Arc, Mutex};

use crate::client::{Options, State};
use crate::error::Error;
use crate::store::Store;

/// An open store. One in memory goes back to its options at the end.
#[derive(Debug)]
pub(crate) enum StoreHandle {
    Own(Store),
    Lent(Option<Store>, Arc<Mutex<Option<Store>>>),
}

impl StoreHandle {
    fn open(options: &Options) -> Result<Self, Error> {
        match &options.state {
            State::Dir(dir) => Ok(Self::Own(Store::open(dir)?)),
            State::Memory(shared) => {
                let kept = shared.lock().expect("nothing panics while it holds this").take();
                let store = kept.map_or_else(Store::in_memory, Ok)?;
                Ok(Self::Lent(Some(store), shared.clone()))
            }
        }
    }
}

impl std::ops::Deref for StoreHandle {
    type Target = Store;

    fn deref(&self) -> &Store {
        match self {
            Self::Own(store) => store,
            Self::Lent(store, _) => store.as_ref().expect("only dropping takes it"),
        }
    }
}

impl std::ops::DerefMut for StoreHandle {
    fn deref_mut(&mut self) -> &mut Store {
        match self {
            Self::Own(store) => store,
            Self::Lent(store, _) => store.as_mut().expect("only dropping takes it"),
        }
    }
}

impl Drop for StoreHandle {
    fn drop(&mut self) {
        if let Self::Lent(store, shared) = self {
            *shared.lock().expect("nothing panics while it holds this") = store.take();
        }
    }
}

/// Opens a profile, and does something with it, on a thread that may wait for the disk.
pub(crate) async fn with_store<T: Send + 'static>(
    options: &Options,
    work: impl FnOnce(StoreHandle) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let options = options.clone();
    let worked = tokio::task::spawn_blocking(move || work(StoreHandle::open(&options)?)).await;
    match worked {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime ends.
        Err(_) => Err(Error::Closed),
    }
}
