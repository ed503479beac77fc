//! Object storage for tests: an S3 server that nobody here wrote (moto), and an S3 client of the same kind (boto3) to look at what is there.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::HeldPort;

const RUN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/s3/run.sh");
const LOOK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/s3/look.py");

/// The bucket that there is.
pub const BUCKET: &str = "media";

/// A server with an empty bucket, until it is dropped. What is in it lies in its memory.
#[derive(Debug)]
pub struct S3 {
    child: Child,
    port: HeldPort,
    cache: PathBuf,
    /// Its certificate and the key of that, if it is had over TLS.
    tls: Option<[PathBuf; 2]>,
}

impl S3 {
    /// Starts it. What it needs is kept in a folder, `CARGO_TARGET_TMPDIR` of the test.
    ///
    /// # Panics
    /// It does not start.
    pub fn start(folder: &Path) -> Self {
        Self::start_as(folder, None)
    }

    /// The same, over TLS, with a certificate and its key, in PEM.
    ///
    /// # Panics
    /// It does not start.
    pub fn start_tls(folder: &Path, certificate: PathBuf, key: PathBuf) -> Self {
        Self::start_as(folder, Some([certificate, key]))
    }

    fn start_as(folder: &Path, tls: Option<[PathBuf; 2]>) -> Self {
        let (port, cache) = (HeldPort::new(), folder.join("s3-venv"));
        let child = serve(&cache, &port, tls.as_ref());
        let s3 = Self { child, port, cache, tls };
        s3.is_ready();
        s3
    }

    /// It listens, and there is a bucket.
    fn is_ready(&self) {
        while TcpStream::connect(self.port.address()).is_err() {
            std::thread::yield_now();
        }
        self.look(&["make", BUCKET]);
    }

    /// Its URL.
    pub fn endpoint(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.port.address())
    }

    /// What whoever uses it has in the environment.
    pub fn environment(&self) -> Vec<(String, String)> {
        let certificate = self.tls.as_ref().map(|[certificate, _]| certificate.display().to_string());
        let trusted = certificate.map(|file| ("SSL_CERT_FILE".to_owned(), file));
        environment_of(&self.endpoint()).into_iter().chain(trusted).collect()
    }

    /// What `s3/look.py` says.
    ///
    /// # Panics
    /// It fails.
    pub fn look(&self, arguments: &[&str]) -> Option<Value> {
        let mut look = Command::new(RUN);
        if let Some([certificate, _]) = &self.tls {
            look.env("AWS_CA_BUNDLE", certificate);
        }
        let output = look.arg(&self.cache).args(["python", LOOK, &self.endpoint()]).args(arguments).output();
        let output = output.expect("sh runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).ok()
    }

    /// What is in the bucket: what each object says of itself, by its key.
    pub fn objects(&self) -> serde_json::Map<String, Value> {
        match self.look(&["list", BUCKET]) {
            Some(Value::Object(objects)) => objects,
            other => panic!("{other:?}"),
        }
    }

    /// It answers nobody any more, until [`goes_on`](Self::goes_on).
    pub fn hangs(&self) {
        self.signal(Signal::STOP);
    }

    /// It answers again.
    pub fn goes_on(&self) {
        self.signal(Signal::CONT);
    }

    /// It is gone, and all that was in it.
    pub fn ends(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// After [`ends`](Self::ends): it is there again, with an empty bucket.
    pub fn starts_again(&mut self) {
        self.child = serve(&self.cache, &self.port, self.tls.as_ref());
        self.is_ready();
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it is this test's own child");
    }
}

/// What whoever uses the S3 server of this URL has in the environment.
pub fn environment_of(endpoint: &str) -> Vec<(String, String)> {
    let environment = [
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
    ];
    environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

fn serve(cache: &Path, port: &HeldPort, tls: Option<&[PathBuf; 2]>) -> Child {
    let mut server = Command::new(RUN);
    let port = port.address().port().to_string();
    server.arg(cache).args(["moto_server", "-H", "127.0.0.1", "-p", &port]);
    if let Some([certificate, key]) = tls {
        server.arg("-c").arg(certificate).arg("-k").arg(key);
    }
    server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    server.spawn().expect("sh runs")
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.ends();
    }
}
