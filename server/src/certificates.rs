//! The server's TLS while ternd runs: its certificate, read again on SIGHUP, and its end watched; the keys of its tickets,
//! which others follow.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tern_wire::tls::{Tickets, TlsError, TlsServer};

use crate::certificate::{self, Certificate, CertificateError, CertificateFiles, date};
use crate::control::Control;
use crate::https::Https;
use crate::metrics::NodeMetrics;

/// See the module.
#[derive(Debug)]
pub struct Certificates {
    files: CertificateFiles,
    /// The same, for what is served by HTTPS.
    https: Arc<Https>,
    /// The newest. Held while the cores are told of it, so that none ends up with an older one.
    newest: Mutex<TlsServer>,
    /// When the newest ends, in seconds since the Unix epoch; 0 if it does not say.
    ends: AtomicI64,
    metrics: Arc<NodeMetrics>,
}

/// Why a certificate can't be used.
#[derive(Debug)]
pub enum Unusable {
    /// It can't be read.
    Files(CertificateError),
    /// TLS can't work with it.
    Tls(TlsError),
}

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Files(error) => write!(f, "{error}"),
            Self::Tls(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for Unusable {}

impl Certificates {
    /// Reads the certificate for the first time, and says which it is.
    pub fn load(
        files: CertificateFiles,
        tickets: Option<Tickets>,
        metrics: Arc<NodeMetrics>,
    ) -> Result<Self, Unusable> {
        let read = files.read().map_err(Unusable::Files)?;
        let (fingerprint, ends) = (read.fingerprint(), read.ends());
        let https = Https::new(&read).map_err(Unusable::Tls)?;
        let Certificate { chain, key } = read;
        let mut tls = TlsServer::new(chain, key).map_err(Unusable::Tls)?;
        if let Some(tickets) = tickets {
            tls = tls.with_tickets(tickets);
        }
        let loaded = Self { files, https, newest: Mutex::new(tls), ends: AtomicI64::new(0), metrics };
        loaded.took(&fingerprint, ends);
        Ok(loaded)
    }

    /// The certificate of what is served by HTTPS.
    pub fn https(&self) -> &Arc<Https> {
        &self.https
    }

    /// The newest.
    pub fn tls(&self) -> TlsServer {
        self.lock().clone()
    }

    /// Reads the files again, and has the cores use what is there. With what can't be used nothing changes.
    pub fn reload(&self, cores: &dyn Control) -> Result<(), Unusable> {
        let mut newest = self.lock();
        let again = self.files.read().map_err(Unusable::Files).and_then(|read| {
            let (fingerprint, ends) = (read.fingerprint(), read.ends());
            // Nobody takes it before all can.
            let tls = newest.with_certificate(read.chain.clone(), read.key.clone_key());
            let tls = tls.map_err(Unusable::Tls)?;
            self.https.use_certificate(&read).map_err(Unusable::Tls)?;
            Ok((tls, fingerprint, ends))
        });
        match again {
            Ok((tls, fingerprint, ends)) => {
                self.metrics.certificate_reloads.add(1);
                self.metrics.certificate_stale.set(0);
                self.took(&fingerprint, ends);
                cores.use_tls(&tls);
                *newest = tls;
                Ok(())
            }
            Err(error) => {
                self.metrics.certificate_reload_failures.add(1);
                self.metrics.certificate_stale.set(1);
                Err(error)
            }
        }
    }

    /// Has the cores use other keys of tickets.
    pub fn use_tickets(&self, tickets: Tickets, cores: &dyn Control) {
        let mut newest = self.lock();
        let tls = newest.with_tickets(tickets);
        cores.use_tls(&tls);
        *newest = tls;
    }

    fn lock(&self) -> MutexGuard<'_, TlsServer> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn took(&self, fingerprint: &str, ends: Option<i64>) {
        self.ends.store(ends.unwrap_or(0), Ordering::Release);
        self.metrics.certificate_end_timestamp_seconds.set(ends.unwrap_or(0).max(0) as u64);
        tracing::info!(sha256 = fingerprint, ends = self.end(), "the certificate");
        self.files.warn_of_modes();
    }

    /// The day of its end, as people write it.
    pub fn end(&self) -> String {
        match self.ends.load(Ordering::Acquire) {
            0 => "?".to_owned(),
            ends => date(ends),
        }
    }

    /// Warns if it has ended, or ends soon.
    pub fn watch(&self, now_ms: u64) {
        let ends = self.ends.load(Ordering::Acquire);
        certificate::warn_of_end((ends != 0).then_some(ends), now_ms);
    }
}
