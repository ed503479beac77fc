//! The server's certificate: the operator's, or a development one made at the first start; read again on SIGHUP.

use std::fmt;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::certificate::der::not_after;
use crate::files;

mod der;

/// From how many days before its end on a certificate is warned of.
const WARN_DAYS: i64 = 14;

const DAY_SECONDS: i64 = 24 * 3600;

/// A chain and its key.
#[derive(Debug)]
pub struct Certificate {
    /// The server's own certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its private key.
    pub key: PrivateKeyDer<'static>,
}

/// Where a certificate and its key lie, and whose they are.
#[derive(Clone, Debug)]
pub struct CertificateFiles {
    certificate: PathBuf,
    key: PathBuf,
    development: bool,
}

/// Why there is no certificate.
#[derive(Debug)]
pub enum CertificateError {
    /// A file can't be read, or has no PEM of the kind.
    Read(PathBuf, pem::Error),
    /// A file can't be written.
    Write(PathBuf, io::Error),
    /// The development certificate can't be made.
    Make(rcgen::Error),
    /// One of the two files of a data directory is there without the other: which is, and which is not.
    Alone(PathBuf, PathBuf),
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(path, error) => write!(f, "{} is no usable PEM file: {error}", path.display()),
            Self::Write(path, error) => write!(f, "{} can't be written: {error}", path.display()),
            Self::Make(error) => write!(f, "the development certificate can't be made: {error}"),
            Self::Alone(there, missing) => write!(
                f,
                "{} is there, and {} is not: put the missing one back, or move the other away and a new development \
                 certificate is made; a certificate of your own is named by --certificate and --key",
                there.display(),
                missing.display()
            ),
        }
    }
}

impl std::error::Error for CertificateError {}

impl CertificateFiles {
    /// An operator's.
    pub fn of_operator(certificate: &Path, key: &Path) -> Self {
        Self { certificate: certificate.to_owned(), key: key.to_owned(), development: false }
    }

    /// Those of a data directory: a development certificate for `localhost` and the loopback addresses, made if it is not
    /// there. `true` if it was made just now. Its file serves clients as their CA file.
    ///
    /// What is there is never overwritten. A start that was cut off is taken up again: first both files are written under
    /// their temporary names, then the key gets its name, then the certificate; and a certificate that an older ternd has
    /// left empty or half is put aside, and made again for its key.
    pub fn of_data_dir(data_dir: &Path) -> Result<(Self, bool), CertificateError> {
        let (certificate, key) = (data_dir.join("cert.pem"), data_dir.join("key.pem"));
        let made = make_what_is_missing(&certificate, &key)?;
        Ok((Self { certificate, key, development: true }, made))
    }

    /// Whether it is the development certificate.
    pub fn development(&self) -> bool {
        self.development
    }

    /// Reads both.
    pub fn read(&self) -> Result<Certificate, CertificateError> {
        let read = |path: &Path, error| CertificateError::Read(path.to_owned(), error);
        let chain = CertificateDer::pem_file_iter(&self.certificate)
            .and_then(|found| found.collect::<Result<Vec<_>, _>>());
        let chain = chain.map_err(|error| read(&self.certificate, error))?;
        if chain.is_empty() {
            return Err(read(&self.certificate, pem::Error::NoItemsFound));
        }
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| read(&self.key, error))?;
        Ok(Certificate { chain, key })
    }

    /// Says what an operator should know of the files.
    pub fn warn_of_modes(&self) {
        let mode = std::fs::metadata(&self.key).map_or(0, |key| key.permissions().mode());
        if mode & 0o007 != 0 {
            let key = self.key.display();
            tracing::warn!(%key, mode = format_args!("{:03o}", mode & 0o777), "everybody on this machine may read the private key: chmod o= it");
        }
    }
}

impl Certificate {
    /// The SHA-256 of the server's own certificate, as openssl prints it.
    pub fn fingerprint(&self) -> String {
        tern_wire::tls::fingerprint(&self.chain[0])
    }

    /// When the first of the chain ends, in seconds since the Unix epoch; `None` if none says so.
    pub fn ends(&self) -> Option<i64> {
        self.chain.iter().filter_map(|certificate| not_after(certificate)).min()
    }
}

/// Warns if a certificate has ended, or ends soon.
pub fn warn_of_end(ends: Option<i64>, now_ms: u64) {
    let Some(ends) = ends else { return };
    let left = ends - (now_ms / 1000) as i64;
    let ends = date(ends);
    if left <= 0 {
        tracing::error!(%ends, "the certificate has ended: clients refuse it; renew it, then send SIGHUP");
    } else if left <= WARN_DAYS * DAY_SECONDS {
        let days = left / DAY_SECONDS;
        tracing::warn!(%ends, days, "the certificate ends soon: renew it, then send SIGHUP");
    }
}

/// A day of the calendar, in UTC: 2026-11-26.
pub fn date(seconds: i64) -> String {
    // Days to a civil date: the algorithm of Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
    let days = seconds.div_euclid(DAY_SECONDS) + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let (day, month) = (day_of_year - (153 * shifted + 2) / 5 + 1, (shifted + 2) % 12 + 1);
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// What a file of a pair is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Found {
    Missing,
    /// Empty, or cut off: what a start that was cut off has left.
    Half,
    Whole,
}

fn look_at(path: &Path) -> Result<Found, CertificateError> {
    match std::fs::read(path) {
        Ok(content) if content.iter().all(|byte| *byte == 0) => Ok(Found::Half),
        Ok(content) => {
            let text = String::from_utf8_lossy(&content);
            let begun = text.trim_start().starts_with("-----BEGIN") && !text.contains("-----END");
            Ok(if begun || "-----BEGIN".starts_with(&*text) { Found::Half } else { Found::Whole })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Missing),
        Err(error) => Err(CertificateError::Read(path.to_owned(), pem::Error::Io(error))),
    }
}

/// Gives whether a certificate was made.
fn make_what_is_missing(certificate: &Path, key: &Path) -> Result<bool, CertificateError> {
    let write = |path: &Path| {
        let path = path.to_owned();
        move |error| CertificateError::Write(path, error)
    };
    let made = match (look_at(certificate)?, look_at(key)?) {
        (Found::Whole, Found::Whole) => false,
        (Found::Missing | Found::Half, Found::Missing | Found::Half) => {
            put_half_aside(certificate)?;
            put_half_aside(key)?;
            let pair = KeyPair::generate().map_err(CertificateError::Make)?;
            files::prepare(certificate, self_signed(&pair)?.as_bytes()).map_err(write(certificate))?;
            files::prepare(key, pair.serialize_pem().as_bytes()).map_err(write(key))?;
            files::publish(key).map_err(write(key))?;
            files::publish(certificate).map_err(write(certificate))?;
            true
        }
        (Found::Missing, Found::Whole) if is_for(&files::temporary(certificate), key) => {
            files::publish(certificate).map_err(write(certificate))?;
            true
        }
        (Found::Half, Found::Whole) => {
            let pair = std::fs::read_to_string(key).map_err(write(key))?;
            let pair = KeyPair::from_pem(&pair).map_err(CertificateError::Make)?;
            put_half_aside(certificate)?;
            files::prepare(certificate, self_signed(&pair)?.as_bytes()).map_err(write(certificate))?;
            files::publish(certificate).map_err(write(certificate))?;
            true
        }
        (Found::Missing, Found::Whole) => {
            return Err(CertificateError::Alone(key.to_owned(), certificate.to_owned()));
        }
        (Found::Whole, Found::Missing | Found::Half) => {
            return Err(CertificateError::Alone(certificate.to_owned(), key.to_owned()));
        }
    };
    for path in [certificate, key] {
        files::remove_if_there(&files::temporary(path)).map_err(write(path))?;
        files::make_private(path).map_err(write(path))?;
    }
    Ok(made)
}

/// Nothing is removed, for it may be an operator's; an empty file is nothing.
fn put_half_aside(path: &Path) -> Result<(), CertificateError> {
    if look_at(path)? == Found::Half {
        let aside =
            files::put_aside(path).map_err(|error| CertificateError::Write(path.to_owned(), error))?;
        let (half, aside) = (path.display(), aside.display());
        tracing::warn!(%half, %aside, "a file of an earlier start was empty or half: it was put aside and is made again");
    }
    Ok(())
}

/// Whether a prepared certificate is whole, and of this key.
fn is_for(certificate: &Path, key: &Path) -> bool {
    let files = CertificateFiles::of_operator(certificate, key);
    files.read().is_ok_and(|read| tern_wire::tls::TlsServer::new(read.chain, read.key).is_ok())
}

fn self_signed(pair: &KeyPair) -> Result<String, CertificateError> {
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let mut params = CertificateParams::new(names).map_err(CertificateError::Make)?;
    params.distinguished_name.push(DnType::CommonName, "tern development");
    Ok(params.self_signed(pair).map_err(CertificateError::Make)?.pem())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificates_end_is_read() {
        for (seconds, text) in [(0, "1970-01-01"), (951_782_400, "2000-02-29"), (4_102_444_800, "2100-01-01")]
        {
            assert_eq!(date(seconds), text);
        }
        let pair = KeyPair::generate().expect("made");
        for (year, ends) in
            [(2031, "2031-03-01"), (2049, "2049-03-01"), (2050, "2050-03-01"), (9998, "9998-03-01")]
        {
            let mut params = CertificateParams::new(["localhost".to_owned()]).expect("names");
            params.not_after = rcgen::date_time_ymd(year, 3, 1);
            let made = params.self_signed(&pair).expect("signed");
            assert_eq!(not_after(made.der()).map(date).as_deref(), Some(ends));
        }
        assert_eq!(not_after(&[]), None);
        assert_eq!(not_after(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }

    #[test]
    fn a_half_first_start_is_taken_up_and_what_is_whole_stays() {
        let made = tempfile::tempdir().expect("a temporary directory");
        assert!(CertificateFiles::of_data_dir(made.path()).expect("made").1);
        let read = |dir: &Path, name: &str| std::fs::read(dir.join(name)).expect("read");
        let (certificate, key) = (read(made.path(), "cert.pem"), read(made.path(), "key.pem"));
        // What each file holds, by its temporary name and its own; whether a start makes it whole, and keeps the key.
        let half = |content: &[u8]| content[..content.len() / 2].to_vec();
        type Case = (&'static str, Vec<(&'static str, Vec<u8>)>, bool, bool);
        let cases: Vec<Case> = vec![
            ("nothing", vec![], true, false),
            ("a half prepared", vec![(".cert.pem.new", half(&certificate))], true, false),
            (
                "both prepared",
                vec![(".cert.pem.new", certificate.clone()), (".key.pem.new", key.clone())],
                true,
                false,
            ),
            (
                "the key alone has its name",
                vec![(".cert.pem.new", certificate.clone()), ("key.pem", key.clone())],
                true,
                true,
            ),
            ("an empty key", vec![("key.pem", vec![])], true, false),
            ("a half key", vec![("key.pem", half(&key))], true, false),
            ("a key of zeros", vec![("key.pem", vec![0; 100])], true, false),
            ("an empty certificate", vec![("key.pem", key.clone()), ("cert.pem", vec![])], true, true),
            (
                "a half certificate",
                vec![("key.pem", key.clone()), ("cert.pem", half(&certificate))],
                true,
                true,
            ),
            ("a key of an operator", vec![("key.pem", key.clone())], false, true),
            ("a certificate of an operator", vec![("cert.pem", certificate.clone())], false, false),
        ];
        for (what, files, starts, keeps_key) in cases {
            let dir = tempfile::tempdir().expect("a temporary directory");
            for (name, content) in &files {
                std::fs::write(dir.path().join(name), content).expect("written");
            }
            let result = CertificateFiles::of_data_dir(dir.path());
            match result {
                Ok((files, _)) => {
                    assert!(starts, "{what}");
                    let Certificate { chain, key } = files.read().expect(what);
                    tern_wire::tls::TlsServer::new(chain, key).expect(what);
                }
                Err(error) => {
                    assert!(!starts, "{what}: {error}");
                    let said = error.to_string();
                    assert!(said.contains("cert.pem") && said.contains("key.pem"), "{said}");
                    for (name, content) in &files {
                        assert_eq!(&read(dir.path(), name), content, "{what}: it stays as it is");
                    }
                }
            }
            if keeps_key {
                assert_eq!(read(dir.path(), "key.pem"), key, "{what}");
            }
        }
    }
}
