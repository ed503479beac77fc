//! What operators have done to slots, cores, backups and users: a line of JSON for each act, in a file of the data directory, made durable before it is
//! answered.

use std::fs::{File, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use crate::core::Clock;

/// The file.
const NAME: &str = "audit.jsonl";

/// See the module.
#[derive(Debug)]
pub struct Audit {
    file: Mutex<File>,
    clock: Clock,
}

impl Audit {
    /// In a data directory.
    ///
    /// # Errors
    /// If the file can't be opened.
    pub fn open(data_dir: &Path, clock: Clock) -> std::io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(data_dir.join(NAME))?;
        // One that others could read does not stay so.
        file.set_permissions(Permissions::from_mode(0o600))?;
        Ok(Self { file: Mutex::new(file), clock })
    }

    /// Notes an act: who, what, of what, and what came of it.
    pub(crate) fn note(&self, operator: &str, act: &str, what: &Value, outcome: &str) {
        let time_ms = self.clock.now_ms();
        let row =
            json!({ "time_ms": time_ms, "operator": operator, "act": act, "what": what, "outcome": outcome });
        tracing::info!(operator, act, %what, outcome, "an operator's act");
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = writeln!(file, "{row}").and_then(|()| file.sync_data()) {
            tracing::error!(%error, "the act can't be noted in {NAME}");
        }
    }
}
