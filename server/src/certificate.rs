//! The server's certificate: the operator's, or a development one made at the first start.

use std::fmt;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A chain and its key.
#[derive(Debug)]
pub struct Certificate {
    /// The server's own certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its private key.
    pub key: PrivateKeyDer<'static>,
}

/// Why there is no certificate.
#[derive(Debug)]
pub enum CertificateError {
    /// A file can't be read, or has no PEM of the kind.
    Read(PathBuf, pem::Error),
    /// A file can't be written.
    Write(PathBuf, std::io::Error),
    /// The development certificate can't be made.
    Make(rcgen::Error),
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(path, error) => write!(f, "{} is no usable PEM file: {error}", path.display()),
            Self::Write(path, error) => write!(f, "{} can't be written: {error}", path.display()),
            Self::Make(error) => write!(f, "the development certificate can't be made: {error}"),
        }
    }
}

impl std::error::Error for CertificateError {}

impl Certificate {
    /// Reads PEM files.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, CertificateError> {
        let read = |path: &Path, error| CertificateError::Read(path.to_owned(), error);
        let chain =
            CertificateDer::pem_file_iter(certificate).and_then(|found| found.collect::<Result<Vec<_>, _>>());
        let chain = chain.map_err(|error| read(certificate, error))?;
        if chain.is_empty() {
            return Err(read(certificate, pem::Error::NoItemsFound));
        }
        let key = PrivateKeyDer::from_pem_file(key).map_err(|error| read(key, error))?;
        Ok(Self { chain, key })
    }

    /// The development certificate of a data directory, for `localhost` and the loopback addresses; made if it is not
    /// there. `true` if it was made just now. Its file serves clients as their CA file.
    pub fn development(data_dir: &Path) -> Result<(Self, bool), CertificateError> {
        let (certificate, key) = (data_dir.join("cert.pem"), data_dir.join("key.pem"));
        let there = certificate.exists() && key.exists();
        if !there {
            let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
            let mut params = CertificateParams::new(names).map_err(CertificateError::Make)?;
            params.distinguished_name.push(DnType::CommonName, "tern development");
            let pair = KeyPair::generate().map_err(CertificateError::Make)?;
            let made = params.self_signed(&pair).map_err(CertificateError::Make)?;
            write_file(&key, 0o600, &pair.serialize_pem())?;
            write_file(&certificate, 0o644, &made.pem())?;
        }
        Ok((Self::read(&certificate, &key)?, !there))
    }
}

fn write_file(path: &Path, mode: u32, text: &str) -> Result<(), CertificateError> {
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| CertificateError::Write(path.to_owned(), error))
}
