//! FoundationDB's client library, behind the trait by which the engine knows it (`tern_storage::fdb::client::Client`).
//!
//! Invariants: the library's thread runs wakers and nothing else; a request that is under way is never dropped, for that cancels it, and a
//! commit that is cancelled may land; the network is started once in a process, and ends with it.
//!
//! Without the feature `client` there is nothing here, so that nobody needs libclang and libfdb_c who has no use for them.

#![cfg(feature = "client")]
#![cfg_attr(not(test), warn(clippy::too_many_lines))]

mod caller;
mod network;
mod requests;
mod status;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use foundationdb::Database;
use foundationdb::options::DatabaseOption;
use tern_storage::Wake;
use tern_storage::fdb::client::{Caller, Client};

use self::caller::{FdbCaller, now_or_soon};
pub use self::network::Tls;

/// How long the library may take to say what it knows of itself: it asks nobody.
const SAYS_WITHIN: Duration = Duration::from_millis(200);

/// Where FoundationDB is, and how it is reached.
#[derive(Clone, Debug)]
pub struct Place {
    /// The cluster file: who the coordinators are. FoundationDB writes it anew when they change.
    pub cluster_file: PathBuf,
    /// What all keys begin with.
    pub prefix: Vec<u8>,
    /// The data center that this process is in, for FoundationDB to choose the nearest of its processes; empty: it is not said.
    pub datacenter_id: String,
    /// The machine, likewise.
    pub machine_id: String,
    /// How the connections are protected.
    pub tls: Tls,
}

/// Why there is no client.
#[derive(Debug)]
pub enum OpenError {
    /// The cluster file can't be used: where, and why.
    ClusterFile(PathBuf, String),
    /// The client library says no.
    Library {
        /// FoundationDB's code.
        code: i32,
        /// What it says.
        says: &'static str,
        /// What was asked of it.
        about: &'static str,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClusterFile(path, why) => write!(
                f,
                "the cluster file {} can't be used: {why}; it comes with FoundationDB (/etc/foundationdb/fdb.cluster), and must be writable, for \
                 FoundationDB changes it (--fdb-cluster-file)",
                path.display()
            ),
            Self::Library { code: 2203, .. } => write!(
                f,
                "the FoundationDB client library is older than 7.3: install the package foundationdb-clients 7.3 (libfdb_c.so)"
            ),
            Self::Library { code, says, about } => {
                write!(f, "FoundationDB's client library refuses {about}: {says} ({code})")
            }
        }
    }
}

impl std::error::Error for OpenError {}

impl OpenError {
    fn library(about: &'static str) -> impl Fn(foundationdb::FdbError) -> Self {
        move |error| Self::Library { code: error.code(), says: error.message(), about }
    }
}

/// FoundationDB, as this process knows it.
pub struct FdbClient {
    database: Arc<Database>,
    place: Place,
}

impl fmt::Debug for FdbClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FdbClient").field("cluster_file", &self.place.cluster_file).finish_non_exhaustive()
    }
}

impl FdbClient {
    /// A client of a cluster. It need not be there yet: nothing is asked of it.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(place: Place) -> Result<Self, OpenError> {
        let path = &place.cluster_file;
        let unusable = |why: String| OpenError::ClusterFile(path.clone(), why);
        check_cluster_file(path).map_err(unusable)?;
        network::start(&place.tls)?;
        let text = path.to_str().ok_or_else(|| unusable("its name is no text".to_owned()))?;
        let database = Database::from_path(text).map_err(|error| match error.code() {
            // No cluster file, a wrong one, wrong contents.
            1515 | 2100 | 2104 => unusable(error.message().to_owned()),
            _ => OpenError::library("a database")(error),
        })?;
        let set = |option| database.set_option(option).map_err(OpenError::library("an option"));
        if !place.datacenter_id.is_empty() {
            set(DatabaseOption::DatacenterId(place.datacenter_id.clone()))?;
        }
        if !place.machine_id.is_empty() {
            set(DatabaseOption::MachineId(place.machine_id.clone()))?;
        }
        Ok(Self { database: Arc::new(database), place })
    }
}

/// For comparison alone.
impl FdbClient {
    /// Commits these rows with nothing beside, and waits for it: what the library can do by itself. `false`: they are not there, or nobody
    /// knows.
    pub fn commit_bare(&self, batches: impl Iterator<Item = tern_storage::Batch>) -> bool {
        requests::commit_bare(&self.database, &self.place.prefix, batches)
    }
}

fn check_cluster_file(path: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    match lines.collect::<Vec<_>>()[..] {
        [line] if line.contains('@') && line.contains(':') => Ok(()),
        _ => Err("it holds no line such as name:id@127.0.0.1:4500".to_owned()),
    }
}

impl Client for FdbClient {
    fn caller(&self, wake: Arc<dyn Wake>) -> Box<dyn Caller> {
        Box::new(FdbCaller::new(self.database.clone(), self.place.prefix.clone(), wake))
    }

    fn silence(&self) -> String {
        let status = now_or_soon(self.database.get_client_status(), SAYS_WITHIN);
        let known = status.and_then(Result::ok).map(|json| status::of_silence(&json));
        let file = self.place.cluster_file.display();
        format!(
            "{} (cluster file {file})",
            known.unwrap_or_else(|| "its client library does not say why".to_owned())
        )
    }

    fn busyness(&self) -> f64 {
        let busyness = self.database.get_main_thread_busyness();
        now_or_soon(Box::pin(busyness), SAYS_WITHIN).and_then(Result::ok).unwrap_or(0.0)
    }

    fn close(&self) {}
}
