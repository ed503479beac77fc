//! Clients that nobody here wrote upload and download over TLS: tuspy, and curl.

#[allow(dead_code, reason = "it serves other tests as well")]
mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use common::{Server, id_of};
use tempfile::tempdir;
use tern_media::limits::Limits;
use tern_testkit::python_is_there;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// A certificate of this address, whose PEM goes to a file.
fn tls(ca: &Path) -> TlsAcceptor {
    let key = rcgen::KeyPair::generate().expect("a key");
    let parameters = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
    let certificate = parameters.self_signed(&key).expect("a certificate");
    fs::write(ca, certificate.pem()).expect("it is written");
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("they are there")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key);
    TlsAcceptor::from(Arc::new(config.expect("the key is the certificate's")))
}

fn succeeded(output: Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    String::from_utf8(output.stdout).expect("it is text")
}

#[allow(clippy::print_stderr, reason = "a test that is skipped says so")]
fn curl_is_there() -> bool {
    let probe = Command::new("curl").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let is_there = probe.is_ok_and(|status| status.success());
    if !is_there {
        eprintln!("SKIPPED: curl is not there");
    }
    is_there
}

#[test]
fn tuspy_uploads_and_goes_on_and_curl_has_it_by_parts() {
    if !python_is_there() || !curl_is_there() {
        return;
    }
    let folder = tempdir().expect("a folder");
    let (ca, video) = (folder.path().join("ca.pem"), folder.path().join("a video.mp4"));
    let server = Server::start(folder.path(), Limits::default(), Some(tls(&ca)));
    let mut bytes = b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom".to_vec();
    bytes.extend((0..3_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8));
    fs::write(&video, &bytes).expect("it is written");
    let url = format!("https://{}", server.address);
    let uploaded = Command::new(format!("{HERE}/tests/tus/run.sh"))
        .arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("tus-venv"))
        .args([&url, "of-7"])
        .arg(&video)
        .arg("video/mp4")
        .env("TERN_CA", &ca)
        .output()
        .expect("sh runs");
    let place = succeeded(uploaded);
    assert_eq!(server.whole().len(), 1, "tuspy says {place:?}");
    let path = place.trim().strip_prefix(&url).expect("it is this server's").to_owned();

    let link = format!("{url}{}", server.link(&path));
    let got = folder.path().join("got");
    let curl = |arguments: &[&str]| {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail", "--cacert"])
            .arg(&ca)
            .args(arguments)
            .arg("--output")
            .arg(&got);
        succeeded(curl.arg(&link).output().expect("curl runs"));
        fs::read(&got).expect("it was written")
    };
    assert!(curl(&[]) == bytes);
    assert!(curl(&["--range", "1000000-1999999"]) == bytes[1_000_000..2_000_000]);
    // What is there of it is gone on with.
    fs::write(&got, &bytes[..2_345_678]).expect("it is written");
    assert!(curl(&["--continue-at", "-"]) == bytes);
    assert_eq!(id_of(&path).to_string(), path.trim_start_matches("/uploads/"));
}
