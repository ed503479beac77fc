//! The door for media: the listener on threads of its own, what it asks of the cores, and what they ask of it.
//!
//! A core never waits for it. Whoever uploads something is asked about by the way of operators' questions; what is to be removed goes
//! into a queue of bounded length, and is asked for again if that is full, or if it fails.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tern_media::gate::{Declared, Doing, Gate, Refusal, Whole};
use tern_media::http::Media;
use tern_media::id::MediaId;
use tern_media::limits::Limits;
use tern_media::links::Links;
use tern_media::store::{BucketStore, Guarded, Health, LocalStore, Store, StoreError};
use tern_preview::Previews;
use tern_shard::admin::{AdminRequest, AdminResponse, NoUpload, UploadAsk};
use tern_shard::media::MediaDoor;
use tern_shard::tokens::{Keys, KeysRecord};
use tern_storage::Slot;
use tern_wire::ids::UserId;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_rustls::TlsAcceptor;

use crate::config::Config;
use crate::control::{ANY, Control};
use crate::core::{Clock, MediaRemoval};
use crate::files;
use crate::https::Https;
use crate::metrics::NodeMetrics;
use crate::run::RunError;

/// Media that wait to be removed. Beyond, they are asked for again.
const REMOVALS_MAX: usize = 1_024;

/// How often it is told how the store does.
const HEALTH_EVERY: Duration = Duration::from_secs(1);

/// How often uploads are looked at that nobody goes on with.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

/// A question that came to a core which has let the slot go is asked again after a while, and so often.
const AGAIN: Duration = Duration::from_millis(100);
const TRIES: usize = 20;

/// The listener's socket, before the cores know of it.
pub(crate) struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    /// Whoever asks for removals has the one end, and the door the other one.
    removals: (Sender<MediaId>, Receiver<MediaId>),
}

/// The door, while it is open.
pub struct Door {
    /// Where.
    pub address: SocketAddr,
    /// What it answers with goes on for as long as this lives.
    runtime: Option<Runtime>,
}

/// Of the threads that serve media.
const NICE: i32 = 10;

/// How long what is being answered is waited for at the end.
const END_TIMEOUT: Duration = Duration::from_secs(1);

impl Drop for Door {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(END_TIMEOUT);
        }
    }
}

impl Bound {
    /// Binds the address of the configuration; `None`: there is to be no door.
    pub(crate) fn bind(config: &Config) -> Result<Option<Self>, RunError> {
        let Some(listen) = config.media_listen() else { return Ok(None) };
        let failed = |error| RunError::Listen(listen, "media", error);
        let listener = TcpListener::bind(listen).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Some(Self { listener, address, removals: channel(REMOVALS_MAX) }))
    }

    /// What the brains know of it.
    pub(crate) fn of_brains(&self, config: &Config, keys: &KeysRecord) -> MediaDoor {
        let url = config.media.url.clone();
        let url = url.unwrap_or_else(|| format!("https://{}", self.address));
        MediaDoor { url: url.trim_end_matches('/').to_owned(), links: links(keys) }
    }

    /// How the cores have media removed.
    pub(crate) fn removal(&self) -> Box<dyn MediaRemoval> {
        Box::new(Removals(self.removals.0.clone()))
    }

    /// Opens the door.
    pub(crate) fn open(
        self,
        config: &Config,
        keys: &KeysRecord,
        https: &Arc<Https>,
        (control, clock, metrics): (Arc<dyn Control>, Clock, Arc<NodeMetrics>),
    ) -> Result<Door, RunError> {
        let dir = config.media_dir();
        let in_dir = |error| RunError::DataDir(dir.clone(), error);
        let (kept, uploads) = (dir.join("kept"), dir.join("uploads"));
        for folder in [&dir, &kept, &uploads] {
            files::make_private_dir(folder).map_err(in_dir)?;
        }
        let (store, health): (Arc<dyn Store>, _) = match &config.media.bucket {
            None => (Arc::new(LocalStore::open(kept).map_err(in_dir)?), Arc::default()),
            Some(url) => {
                let bucket = BucketStore::open(url, environment(), config.media.bucket_direct);
                let (store, health) = Guarded::new(bucket.map_err(RunError::Bucket)?);
                (Arc::new(store), health)
            }
        };
        let keys_of_tokens = Keys::new(keys).map_err(RunError::Keys)?;
        let cores = Arc::new(Cores { control, keys: keys_of_tokens, clock });
        let gate: Arc<dyn Gate> = Arc::new(Asking(cores.clone()));
        let media = Media::new(store, gate, uploads, links(keys), limits(config)).map_err(in_dir)?;
        let tls =
            https.tls().map_err(|error| RunError::System("TLS", io::Error::other(error.to_string())))?;
        let runtime = runtime(config)
            .map_err(|error| RunError::System("the threads that serve media can't start", error))?;
        let previews = runtime.block_on(previews(config));
        metrics.media_previews.set(previews.is_some().into());
        let media = Arc::new(match previews {
            Some(previews) => media.with_previews(previews),
            None => media,
        });
        let Self { listener, address, removals } = self;
        let listener = {
            let _entered = runtime.enter();
            tokio::net::TcpListener::from_std(listener)
                .map_err(|error| RunError::Listen(address, "media", error))?
        };
        runtime.spawn(media.clone().serve(listener, Some(TlsAcceptor::from(tls))));
        runtime.spawn(remove(media.clone(), cores, removals.1, metrics.clone()));
        runtime.spawn(tell_health(health, metrics.clone()));
        runtime.spawn(sweep(media.clone()));
        let every = Duration::from_millis(config.limits.media_sweep_ms);
        runtime.spawn(sweep_orphans(media, every, metrics));
        Ok(Door { address, runtime: Some(runtime) })
    }
}

fn runtime(config: &Config) -> io::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(usize::from(config.media.threads)).thread_name("tern-media");
    // Who writes does not wait for who uploads.
    builder.on_thread_start(|| {
        let _ = rustix::process::setpriority_process(None, NICE);
    });
    builder.enable_all().build()
}

/// What signs links: the installation's key of access tokens, from which each period's follows.
fn links(keys: &KeysRecord) -> Links {
    Links::new(&keys.access)
}

fn limits(config: &Config) -> Limits {
    let limits = &config.limits;
    Limits {
        image_bytes_max: limits.media_image_bytes_max,
        audio_bytes_max: limits.media_audio_bytes_max,
        video_bytes_max: limits.media_video_bytes_max,
        document_bytes_max: limits.media_document_bytes_max,
        connections_max: limits.media_connections_max,
        network_connections_max: limits.media_network_connections_max,
        account_uploads_max: limits.media_account_uploads_max,
        upload_bytes_per_s: limits.media_upload_bytes_per_s,
        idle_timeout: Duration::from_millis(limits.media_idle_timeout_ms),
        upload_valid: Duration::from_millis(limits.upload_valid_ms),
    }
}

/// The variables of the environment that are text.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Who makes previews; `None`: nobody is to, or can.
async fn previews(config: &Config) -> Option<Previews> {
    if !config.media.previews {
        return None;
    }
    let own = std::env::current_exe().unwrap_or_default();
    let previews = Previews::new(own.with_file_name("tern-preview"), tern_preview::Limits::default());
    // A busy machine may fail once.
    let mut checked = previews.check().await;
    if checked.is_err() {
        checked = previews.check().await;
    }
    if let Err(error) = checked {
        tracing::warn!(%error, "no previews are made of media, and pictures are not looked at");
        return None;
    }
    Some(previews)
}

struct Removals(Sender<MediaId>);

impl MediaRemoval for Removals {
    fn remove(&self, medium: MediaId) {
        // What finds no room is asked for again.
        let _ = self.0.try_send(medium);
    }
}

/// The way to the cores, for whoever may wait.
struct Cores {
    control: Arc<dyn Control>,
    keys: Keys,
    clock: Clock,
}

impl Cores {
    /// Asks the owner of a slot, wherever it is by then.
    fn ask(&self, slot: Slot, request: &AdminRequest) -> Result<AdminResponse, Refusal> {
        for _ in 0..TRIES {
            match self.control.ask(self.control.slots().owner(slot), request.clone()) {
                Ok(AdminResponse::Refused(_)) => std::thread::sleep(AGAIN),
                Ok(answer) => return Ok(answer),
                Err(_) => return Err(UNAVAILABLE),
            }
        }
        Err(UNAVAILABLE)
    }

    fn of_account(&self, user: UserId, ask: UploadAsk) -> Result<(), Refusal> {
        match self.ask(Slot::of_user(user.get()), &AdminRequest::Upload(user, ask))? {
            AdminResponse::Upload(answer) => answer.map_err(refusal_of),
            _ => Err(UNAVAILABLE),
        }
    }

    fn who(&self, token: &str) -> Result<u64, Refusal> {
        let access = self.keys.verify_access_token(token, self.clock.now_ms());
        let access = access.map_err(|_| Refusal::Unauthenticated)?;
        let author = access.author;
        self.of_account(author.user, UploadAsk::Who(author.device, access.session))?;
        Ok(author.user.get())
    }

    fn is_known(&self, id: MediaId) -> Result<bool, Refusal> {
        match self.control.ask(ANY, AdminRequest::IsMedium(id)) {
            Ok(AdminResponse::IsMedium(is)) => Ok(is),
            _ => Err(UNAVAILABLE),
        }
    }
}

const UNAVAILABLE: Refusal = Refusal::Unavailable(Duration::from_secs(1));

fn refusal_of(no: NoUpload) -> Refusal {
    match no {
        NoUpload::Ended => Refusal::Unauthenticated,
        NoUpload::Barred => Refusal::Forbidden,
        NoUpload::TooMany(wait_ms) => Refusal::TooMany(Duration::from_millis(wait_ms)),
        NoUpload::NoRoom => Refusal::NoRoom,
        NoUpload::Unavailable => UNAVAILABLE,
    }
}

/// What the listener asks, on threads that may wait.
struct Asking(Arc<Cores>);

impl Asking {
    fn wait<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Cores) -> Result<T, Refusal> + Send + 'static,
    ) -> Doing<'static, Result<T, Refusal>> {
        let cores = self.0.clone();
        Box::pin(async move {
            let asking = tokio::task::spawn_blocking(move || ask(&cores));
            asking.await.unwrap_or(Err(UNAVAILABLE))
        })
    }
}

impl Gate for Asking {
    fn who<'a>(&'a self, token: &'a str) -> Doing<'a, Result<u64, Refusal>> {
        let token = token.to_owned();
        self.wait(move |cores| cores.who(&token))
    }

    fn begin(&self, owner: u64, declared: Declared) -> Doing<'_, Result<(), Refusal>> {
        let ask = UploadAsk::Begin { medium: declared.id, bytes: declared.bytes };
        self.wait(move |cores| cores.of_account(account(owner)?, ask))
    }

    fn whole(&self, whole: Whole) -> Doing<'_, Result<(), Refusal>> {
        let Whole { declared, owner, .. } = whole;
        let ask = UploadAsk::Whole { medium: declared.id, bytes: declared.bytes };
        self.wait(move |cores| cores.of_account(account(owner)?, ask))
    }

    fn is_known(&self, id: MediaId) -> Doing<'_, Result<bool, Refusal>> {
        self.wait(move |cores| cores.is_known(id))
    }
}

fn account(owner: u64) -> Result<UserId, Refusal> {
    UserId::new(owner).ok_or(Refusal::Unauthenticated)
}

/// Removes what nothing has, and says so.
async fn remove(
    media: Arc<Media>,
    cores: Arc<Cores>,
    mut removals: Receiver<MediaId>,
    metrics: Arc<NodeMetrics>,
) {
    while let Some(id) = removals.recv().await {
        let removed = media.remove(id).await;
        if let Err(StoreError::Away(pause)) = removed {
            // That was said. What waits is asked for again.
            tokio::time::sleep(pause).await;
            continue;
        }
        if let Err(error) = removed {
            // It is asked for again.
            tracing::warn!(%error, medium = ?id, "a medium can't be removed now");
            continue;
        }
        let cores = cores.clone();
        let said = tokio::task::spawn_blocking(move || {
            cores.ask(Slot::of_medium(id.as_bytes()), &AdminRequest::MediumRemoved(id))
        });
        // It may have been asked for more than once.
        if let Ok(Ok(AdminResponse::MediumGone(true))) = said.await {
            metrics.media_removed.add(1);
        }
    }
}

/// Says how the store does, for as long as it is there.
async fn tell_health(health: Arc<Health>, metrics: Arc<NodeMetrics>) {
    loop {
        metrics.media_store_failures.set(health.failures.load(Ordering::Relaxed));
        metrics.media_store_away.set(health.is_away.load(Ordering::Relaxed));
        tokio::time::sleep(HEALTH_EVERY).await;
    }
}

/// Looks at uploads that nobody goes on with.
async fn sweep(media: Arc<Media>) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        if let Err(error) = media.sweep().await {
            tracing::warn!(%error, "uploads that have ended can't be removed now");
        }
    }
}

/// Looks for bytes of which nobody knows, a part of them at a time.
async fn sweep_orphans(media: Arc<Media>, every: Duration, metrics: Arc<NodeMetrics>) {
    for first in (0..=u8::MAX).cycle() {
        tokio::time::sleep(every).await;
        match media.sweep_orphans(first).await {
            Ok(0) => {}
            Ok(removed) => {
                metrics.media_orphans.add(removed as u64);
                tracing::warn!(removed, "media were removed of which nobody knew");
            }
            Err(error) => tracing::warn!(%error, "media of which nobody knows can't be looked for now"),
        }
    }
}
