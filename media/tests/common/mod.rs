//! A listener for media in this process, and requests to it that say exactly what is sent.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tern_media::gate::{Declared, Doing, Gate, Refusal, Whole};
use tern_media::http::Media;
use tern_media::id::MediaId;
use tern_media::limits::Limits;
use tern_media::links::Links;
use tern_media::store::{LocalStore, Store};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

/// Lets in whoever has a token `of-NUMBER`, as the account of that number.
#[derive(Default)]
pub struct Accounts {
    pub begun: Mutex<Vec<(u64, Declared)>>,
    pub whole: Mutex<Vec<Whole>>,
    /// What is answered first, instead.
    pub refusals: Mutex<Vec<Refusal>>,
    /// Of the next medium that is whole it takes note, and its answer is lost.
    pub loses_answer: AtomicBool,
    /// Where it is written what it was told of, if anywhere.
    pub told: Mutex<Option<File>>,
}

impl Accounts {
    fn refusal(&self) -> Result<(), Refusal> {
        self.refusals.lock().expect("no panic").pop().map_or(Ok(()), Err)
    }
}

impl Gate for Accounts {
    fn who<'a>(&'a self, token: &'a str) -> Doing<'a, Result<u64, Refusal>> {
        let number = token.strip_prefix("of-").and_then(|number| number.parse().ok());
        Box::pin(async move { number.ok_or(Refusal::Unauthenticated) })
    }

    fn begin(&self, owner: u64, declared: Declared) -> Doing<'_, Result<(), Refusal>> {
        Box::pin(async move {
            self.refusal()?;
            self.begun.lock().expect("no panic").push((owner, declared));
            Ok(())
        })
    }

    fn is_known(&self, id: MediaId) -> Doing<'_, Result<bool, Refusal>> {
        let is_known = move |whole: &Whole| whole.declared.id == id;
        Box::pin(async move { Ok(self.whole.lock().expect("no panic").iter().any(is_known)) })
    }

    fn whole(&self, whole: Whole) -> Doing<'_, Result<(), Refusal>> {
        Box::pin(async move {
            self.refusal()?;
            if let Some(told) = self.told.lock().expect("no panic").as_mut() {
                writeln!(told, "{}", whole.declared.id).expect("it is written");
            }
            self.whole.lock().expect("no panic").push(whole);
            match self.loses_answer.swap(false, Ordering::Relaxed) {
                true => Err(Refusal::Unavailable(Duration::from_secs(1))),
                false => Ok(()),
            }
        })
    }
}

/// A listener, until it is dropped.
pub struct Server {
    pub address: SocketAddr,
    pub accounts: Arc<Accounts>,
    pub media: Arc<Media>,
    runtime: Runtime,
}

impl Server {
    pub fn start(folder: &Path, limits: Limits, tls: Option<TlsAcceptor>) -> Self {
        let store = LocalStore::open(folder.join("media")).expect("a folder");
        Self::start_with(Arc::new(store), folder, limits, tls)
    }

    pub fn start_with(
        store: Arc<dyn Store>,
        folder: &Path,
        limits: Limits,
        tls: Option<TlsAcceptor>,
    ) -> Self {
        let runtime = Runtime::new().expect("threads");
        let accounts = Arc::new(Accounts::default());
        let media = Media::new(store, accounts.clone(), folder.join("uploads"), links(), limits);
        let media = Arc::new(media.expect("a folder"));
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("it is bound");
        runtime.spawn(media.clone().serve(listener, tls));
        Self { address, accounts, media, runtime }
    }

    /// Sends a request of a person's, and gives the answer.
    pub fn ask(&self, of: u64, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        ask(self.address, of, method, path, headers, body).expect("it answers")
    }

    /// Begins an upload, and gives its path.
    pub fn begin(&self, of: u64, metadata: &str, bytes: usize) -> String {
        let headers = [("upload-length", &*bytes.to_string()), ("upload-metadata", metadata)];
        let answer = self.ask(of, "POST", "/uploads", &headers, b"");
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.headers["location"].clone()
    }

    /// Sends some of an upload.
    pub fn send(&self, of: u64, path: &str, offset: usize, bytes: &[u8]) -> Answer {
        let headers =
            [("content-type", "application/offset+octet-stream"), ("upload-offset", &*offset.to_string())];
        self.ask(of, "PATCH", path, &headers, bytes)
    }

    /// Where an upload is.
    pub fn offset(&self, of: u64, path: &str) -> usize {
        let answer = self.ask(of, "HEAD", path, &[], b"");
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.headers["upload-offset"].parse().expect("a number")
    }

    /// A medium, by its link.
    pub fn get(&self, path: &str) -> Answer {
        self.ask(0, "GET", &self.link(path), &[], b"")
    }

    /// The gate answers so, the next time that it is asked.
    pub fn refuse(&self, refusal: Refusal) {
        self.accounts.refusals.lock().expect("no panic").push(refusal);
    }

    /// What the gate was told to be whole.
    pub fn whole(&self) -> Vec<Whole> {
        self.accounts.whole.lock().expect("no panic").clone()
    }

    pub fn sweep(&self) {
        self.runtime.block_on(self.media.sweep()).expect("the folder is read");
    }

    /// Removes a medium.
    pub fn remove(&self, path: &str) {
        self.runtime.block_on(self.media.remove(id_of(path))).expect("it is removed");
    }

    /// Removes those of which nobody knows.
    #[allow(dead_code, reason = "buckets alone")]
    pub fn sweep_orphans(&self) -> usize {
        let sweep = async {
            let mut removed = 0;
            for first in 0..=u8::MAX {
                removed += self.media.sweep_orphans(first).await.expect("the store is read");
            }
            removed
        };
        self.runtime.block_on(sweep)
    }

    pub fn link(&self, path: &str) -> String {
        let now_s = SystemTime::UNIX_EPOCH.elapsed().expect("it is later").as_secs();
        links().sign(id_of(path), now_s, Duration::from_secs(60)).0
    }
}

/// Those that sign links.
fn links() -> Links {
    Links::new(&[1; 32])
}

/// The medium that an upload is of.
pub fn id_of(path: &str) -> MediaId {
    path.rsplit('/').next().and_then(|id| id.parse().ok()).expect("an upload's path ends with its id")
}

/// Sends a request of a person's, and gives the answer, unless the connection has ended before it came.
pub fn ask(
    address: SocketAddr,
    of: u64,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Option<Answer> {
    let request = head(of, method, path, headers) + &format!("content-length: {}\r\n\r\n", body.len());
    let mut stream = TcpStream::connect(address).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    // What is refused by its head may not be taken to its end.
    let _ = stream.write_all(body);
    Answer::read_if_whole(stream)
}

/// A request's head, but for its end.
pub fn head(of: u64, method: &str, path: &str, headers: &[(&str, &str)]) -> String {
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: media\r\nconnection: close\r\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    if !headers.iter().any(|(name, _)| *name == "tus-resumable") {
        request += "tus-resumable: 1.0.0\r\n";
    }
    if of > 0 {
        request += &format!("authorization: Bearer of-{of}\r\n");
    }
    request
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn read(stream: TcpStream) -> Self {
        Self::read_if_whole(stream).expect("an answer has a head")
    }

    /// The answer, unless the connection has ended before it came.
    pub fn read_if_whole(mut stream: TcpStream) -> Option<Self> {
        let mut all = Vec::new();
        // A connection of which not all was read may be reset behind the answer.
        let _ = stream.read_to_end(&mut all);
        let end = all.windows(4).position(|end| end == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&all[..end]).expect("it is text");
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status");
        let header = |line: &str| {
            let (name, value) = line.split_once(": ").expect("a header");
            (name.to_ascii_lowercase(), value.to_owned())
        };
        Some(Self { status, headers: lines.map(header).collect(), body: all[end + 4..].to_vec() })
    }
}
