//! The certificate while ternd runs: read again on SIGHUP, and its end watched.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tern_wire::tls::{TlsError, TlsServer};

use crate::certificate::{self, Certificate, CertificateError, CertificateFiles, date};
use crate::metrics::NodeMetrics;

/// See the module.
#[derive(Debug)]
pub struct Certificates {
    files: CertificateFiles,
    /// The TLS of the start, whose tickets all others share.
    first: TlsServer,
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
    pub fn load(files: CertificateFiles, metrics: Arc<NodeMetrics>) -> Result<Self, Unusable> {
        let read = files.read().map_err(Unusable::Files)?;
        let (fingerprint, ends) = (read.fingerprint(), read.ends());
        let Certificate { chain, key } = read;
        let first = TlsServer::new(chain, key).map_err(Unusable::Tls)?;
        let loaded = Self { files, first, ends: AtomicI64::new(0), metrics };
        loaded.took(&fingerprint, ends);
        Ok(loaded)
    }

    /// The TLS of the start.
    pub fn tls(&self) -> TlsServer {
        self.first.clone()
    }

    /// Reads the files again. With those that can't be used nothing changes.
    pub fn reload(&self) -> Result<TlsServer, Unusable> {
        let again = self.files.read().map_err(Unusable::Files).and_then(|read| {
            let (fingerprint, ends) = (read.fingerprint(), read.ends());
            let tls = self.first.with_certificate(read.chain, read.key).map_err(Unusable::Tls)?;
            Ok((tls, fingerprint, ends))
        });
        match again {
            Ok((tls, fingerprint, ends)) => {
                self.metrics.certificate_reloads.add(1);
                self.metrics.certificate_stale.set(0);
                self.took(&fingerprint, ends);
                Ok(tls)
            }
            Err(error) => {
                self.metrics.certificate_reload_failures.add(1);
                self.metrics.certificate_stale.set(1);
                Err(error)
            }
        }
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
