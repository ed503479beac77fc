//! What has to be looked at now and then while ternd runs: the wall clock, the certificate's end.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::certificates::Certificates;
use crate::core::{Clock, FOLLOW};
use crate::threads;

/// How often a certificate that has ended, or ends soon, is warned of.
const CERTIFICATE_WATCH: Duration = Duration::from_secs(24 * 3600);

/// Starts the thread that looks.
pub fn start(clock: Clock, certificates: Arc<Certificates>) -> std::io::Result<()> {
    threads::spawn("tern-minder", move || {
        let mut certificate_due = Instant::now();
        loop {
            if let Some(step_ms) = clock.follow() {
                tracing::warn!(step_ms, "the wall clock has stepped: it is followed");
            }
            if certificate_due <= Instant::now() {
                certificate_due = Instant::now() + CERTIFICATE_WATCH;
                certificates.watch(clock.now_ms());
            }
            thread::sleep(FOLLOW);
        }
    })?;
    Ok(())
}
