//! `tern rpc`: JSON-RPC 2.0, one object a line, on standard input and output or on a unix socket. And the socket beside the profile
//! of every command that runs for long, through which the other commands of this program go.
//!
//! Requests of a connection are begun in their order and answered as they are done. Events go to one reader, the newest that
//! subscribed; what it has not acknowledged is told again to the next.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tern_client::{Event, Events};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::methods::{Failure, Session};
use crate::shown;

/// The socket beside a profile.
const SOCKET: &str = "rpc.sock";

/// Bytes of a line from a client. Beyond, its connection ends.
const LINE_BYTES_MAX: usize = 1 << 20;

/// Requests of a connection under way; more are not read before.
const UNDER_WAY_MAX: usize = 256;

/// Requests of a batch.
const BATCH_MAX: usize = UNDER_WAY_MAX;

/// Lines that wait to be written to a connection. Beyond, an event is one too many, and the connection ends.
const LINES_MAX: usize = 2 * UNACKNOWLEDGED_MAX;

/// Events that were told and not acknowledged; more are not told before.
const UNACKNOWLEDGED_MAX: usize = 1000;

/// Connections of a socket at a time. Others wait.
const CONNECTIONS_MAX: usize = 64;

/// What a connection asks of the events.
enum Ask {
    /// Tell them here, and first this.
    Subscribe { reader: Reader, answer: Option<String> },
    /// These are dealt with.
    Acknowledge { which: Acknowledged, done: oneshot::Sender<bool> },
    /// The connection has gone.
    Gone { connection: u64 },
}

/// A connection that events are told to.
struct Reader {
    connection: u64,
    lines: mpsc::Sender<String>,
    /// Ends the connection.
    end: Arc<Notify>,
}

#[derive(Clone, Copy)]
enum Acknowledged {
    Upto(u64),
    One(u64),
}

/// How long an ending program waits for readers of what it has said.
pub const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// What serves requests.
pub struct Server {
    session: Arc<Session>,
    /// Where events are asked for; the commands that read them themselves have none.
    feed: Option<mpsc::Sender<Ask>>,
    connections: AtomicU64,
    /// Connections that are not over.
    open: watch::Sender<usize>,
    /// Nothing more is read.
    ending: watch::Sender<bool>,
}

/// A connection is open as long as this is there.
struct Open<'a>(&'a watch::Sender<usize>);

impl<'a> Open<'a> {
    fn new(open: &'a watch::Sender<usize>) -> Self {
        open.send_modify(|open| *open += 1);
        Self(open)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

impl Server {
    /// For a command that reads the events itself.
    pub fn without_events(session: Arc<Session>) -> Arc<Self> {
        Arc::new(Self::new(session, None))
    }

    /// For events too, which the future tells until the session has ended.
    pub fn with_events(session: Arc<Session>, events: Events) -> (Arc<Self>, impl Future<Output = ()>) {
        let (feed, asked) = mpsc::channel(1);
        let server = Self::new(session.clone(), Some(feed));
        let feed =
            Feed { session, events, unacknowledged: VecDeque::new(), told: 0, dropped: 0, reader: None };
        (Arc::new(server), feed.run(asked))
    }

    fn new(session: Arc<Session>, feed: Option<mpsc::Sender<Ask>>) -> Self {
        let (open, ending) = (watch::Sender::new(0), watch::Sender::new(false));
        Self { session, feed, connections: AtomicU64::new(0), open, ending }
    }

    /// Ends all connections: nothing more is read, what is under way is answered, and what is said is written, as long as its
    /// reader does not take long.
    pub async fn finish(&self) {
        self.ending.send_replace(true);
        let mut open = self.open.subscribe();
        let _ = tokio::time::timeout(READ_TIMEOUT, open.wait_for(|open| *open == 0)).await;
    }
}

// ---- Events

/// An event that is not acknowledged.
struct Unacknowledged {
    line: String,
    /// The library's number of the newest message then.
    number: u64,
    acknowledged: bool,
}

struct Feed {
    session: Arc<Session>,
    events: Events,
    /// Those that are not acknowledged, in the order of their ids, which are dense.
    unacknowledged: VecDeque<Unacknowledged>,
    /// The id of the newest event, and of the newest before the oldest in the queue.
    told: u64,
    dropped: u64,
    reader: Option<Reader>,
}

impl Feed {
    async fn run(mut self, mut asked: mpsc::Receiver<Ask>) {
        let session = self.session.clone();
        let mut over = std::pin::pin!(session.client.over());
        loop {
            let has_room = self.unacknowledged.len() < UNACKNOWLEDGED_MAX;
            tokio::select! {
                biased;
                ask = asked.recv() => match ask {
                    Some(ask) => self.asked(ask),
                    None => return,
                },
                event = self.events.take(), if has_room => match event {
                    Some(event) => self.event(event).await,
                    None => break,
                },
                // Nobody takes events any more, so that the last one is not heard either.
                () = &mut over, if !has_room => break,
            }
        }
        // Whoever reads is told that nothing follows.
        if let Some(Reader { lines, .. }) = self.reader.take() {
            let _ = lines.send(notification("ended", &json!({}))).await;
        }
    }

    async fn event(&mut self, event: Event) {
        let around = shown::around(&self.session.client, &event).await;
        let Value::Object(mut object) = shown::event_json(&event, &around) else { return };
        self.told += 1;
        object.insert("id".into(), self.told.into());
        let line = notification("event", &object.into());
        self.tell(line.clone());
        let number = self.events.last();
        self.unacknowledged.push_back(Unacknowledged { line, number, acknowledged: false });
    }

    fn tell(&mut self, line: String) {
        if let Some(Reader { lines, end, .. }) = &self.reader
            && lines.try_send(line).is_err()
        {
            // It has gone, or does not read. What it has not acknowledged is told to the next.
            end.notify_one();
            self.reader = None;
        }
    }

    fn asked(&mut self, ask: Ask) {
        match ask {
            Ask::Subscribe { reader, answer } => {
                if let Some(before) = self.reader.take()
                    && before.connection != reader.connection
                {
                    let _ = before.lines.try_send(notification("replaced", &json!({})));
                }
                self.reader = Some(reader);
                answer.into_iter().for_each(|answer| self.tell(answer));
                let again: Vec<_> = self
                    .unacknowledged
                    .iter()
                    .filter(|told| !told.acknowledged)
                    .map(|told| told.line.clone())
                    .collect();
                again.into_iter().for_each(|line| self.tell(line));
            }
            Ask::Acknowledge { which, done } => {
                let known = self.acknowledge(which);
                // Who has gone does not wait for it.
                let _ = done.send(known);
            }
            Ask::Gone { connection } => {
                self.reader.take_if(|reader| reader.connection == connection);
            }
        }
    }

    /// `false` if there was no such event.
    fn acknowledge(&mut self, which: Acknowledged) -> bool {
        let (first, last) = match which {
            Acknowledged::Upto(id) => (self.dropped + 1, id),
            Acknowledged::One(id) => (id, id),
        };
        if last == 0 || last > self.told {
            return false;
        }
        for id in first.max(self.dropped + 1)..=last {
            self.unacknowledged[(id - self.dropped - 1) as usize].acknowledged = true;
        }
        while let Some(told) = self.unacknowledged.pop_front_if(|told| told.acknowledged) {
            self.dropped += 1;
            self.events.done_upto(told.number);
        }
        true
    }
}

// ---- Connections

fn line_of(value: &Value) -> String {
    shown::json_line(value)
}

fn notification(method: &str, params: &Value) -> String {
    line_of(&json!({ "jsonrpc": "2.0", "method": method, "params": params }))
}

fn answer(id: &Value, result: Result<Value, Failure>) -> Value {
    match result {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err(failure) => json!({ "jsonrpc": "2.0", "id": id, "error": error_of(failure) }),
    }
}

/// An error as JSON-RPC has it. Codes above 0 are exit codes of this program.
fn error_of(failure: Failure) -> Value {
    let (code, message, data) = match failure {
        Failure::Method => (-32601, "there is no such method".to_owned(), Value::Null),
        Failure::Params(why) => (-32602, shown::clean_line(&why), Value::Null),
        Failure::Told { code, message, data } => (i32::from(code), message, data),
        Failure::Gone(error) => (1, shown::clean_line(&error.to_string()), Value::Null),
        Failure::Error(error) => {
            let data = shown::error_json(&error);
            (i32::from(shown::exit_code(&error)), shown::clean_line(&error.to_string()), data)
        }
    };
    let mut object = Map::new();
    object.insert("code".into(), code.into());
    object.insert("message".into(), message.into());
    if !data.is_null() {
        object.insert("data".into(), data);
    }
    object.into()
}

fn invalid(code: i32, message: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": null, "error": { "code": code, "message": message } })
}

/// A request that is begun.
enum Begun {
    /// Its answer is this.
    Done(Option<Value>),
    /// Its answer comes.
    Coming { id: Option<Value>, answer: crate::methods::Answer },
    /// The answer comes from elsewhere.
    Elsewhere,
}

struct Connection {
    server: Arc<Server>,
    number: u64,
    lines: mpsc::Sender<String>,
    end: Arc<Notify>,
}

impl Connection {
    async fn begin(&self, request: Value) -> Begun {
        let Value::Object(mut request) = request else {
            return Begun::Done(Some(invalid(-32600, "a request is an object")));
        };
        let id = request.remove("id");
        let method = match (request.remove("jsonrpc"), request.remove("method")) {
            (Some(version), Some(Value::String(method))) if version == "2.0" => method,
            _ => return Begun::Done(Some(invalid(-32600, "a request has jsonrpc \"2.0\" and a method"))),
        };
        if !matches!(id, None | Some(Value::Null | Value::String(_) | Value::Number(_))) {
            return Begun::Done(Some(invalid(-32600, "an id is a number or a text")));
        }
        let params = request.remove("params").unwrap_or_default();
        let answered = |result| id.as_ref().map(|id| answer(id, result));
        match method.as_str() {
            "subscribe" => match self.subscribe(id.as_ref(), params).await {
                Ok(()) => Begun::Elsewhere,
                Err(failure) => Begun::Done(answered(Err(failure))),
            },
            "ack" => Begun::Done(answered(self.acknowledge(params).await)),
            method => match self.server.session.begin(method, params).await {
                Ok(answer) => Begun::Coming { id, answer },
                Err(failure) => Begun::Done(answered(Err(failure))),
            },
        }
    }

    fn feed(&self) -> Result<&mpsc::Sender<Ask>, Failure> {
        let elsewhere =
            "the command that has the profile reads its events itself: end it, and start `tern rpc`";
        let no_feed = || Failure::Error(tern_client::Error::Config(elsewhere.to_owned()));
        self.server.feed.as_ref().ok_or_else(no_feed)
    }

    async fn subscribe(&self, id: Option<&Value>, params: Value) -> Result<(), Failure> {
        if !(params.is_null() || params.as_object().is_some_and(Map::is_empty)) {
            return Err(Failure::Params("subscribe has none".to_owned()));
        }
        let answer = id.map(|id| line_of(&answer(id, Ok(json!({})))));
        let (connection, lines, end) = (self.number, self.lines.clone(), self.end.clone());
        let ask = Ask::Subscribe { reader: Reader { connection, lines, end }, answer };
        self.feed()?.send(ask).await.map_err(|_| Failure::Error(tern_client::Error::Closed))
    }

    async fn acknowledge(&self, params: Value) -> Result<Value, Failure> {
        let number = |key| params.get(key).and_then(Value::as_u64);
        let which = match (number("upto"), number("event"), params.as_object().map(Map::len)) {
            (Some(upto), None, Some(1)) => Acknowledged::Upto(upto),
            (None, Some(id), Some(1)) => Acknowledged::One(id),
            _ => return Err(Failure::Params("either event or upto names events by their ids".to_owned())),
        };
        let (done, answer) = oneshot::channel();
        let closed = || Failure::Error(tern_client::Error::Closed);
        self.feed()?.send(Ask::Acknowledge { which, done }).await.map_err(|_| closed())?;
        match answer.await.map_err(|_| closed())? {
            true => Ok(json!({})),
            false => Err(Failure::Params("no event of this id was told since this process began".to_owned())),
        }
    }

    /// Begins what a line asks for.
    async fn line(&self, line: &[u8], under_way: &mut JoinSet<Option<Value>>) -> Result<(), ()> {
        let done = match serde_json::from_slice(line) {
            Err(_) => Some(invalid(-32700, "a line is not JSON")),
            Ok(Value::Array(batch)) if batch.is_empty() || batch.len() > BATCH_MAX => {
                Some(invalid(-32600, "a batch has 1 to 256 requests"))
            }
            Ok(Value::Array(batch)) => {
                let mut begun = Vec::new();
                for request in batch {
                    begun.push(self.begin(request).await);
                }
                under_way.spawn(async move {
                    let mut answers = Vec::new();
                    for begun in begun {
                        answers.extend(finish(begun).await);
                    }
                    (!answers.is_empty()).then(|| answers.into())
                });
                None
            }
            Ok(request) => match self.begin(request).await {
                Begun::Done(answer) => answer,
                begun => {
                    under_way.spawn(finish(begun));
                    None
                }
            },
        };
        self.write(done).await
    }

    async fn write(&self, answer: Option<Value>) -> Result<(), ()> {
        let Some(answer) = answer else { return Ok(()) };
        self.lines.send(line_of(&answer)).await.map_err(drop)
    }
}

async fn finish(begun: Begun) -> Option<Value> {
    match begun {
        Begun::Done(answer) => answer,
        Begun::Elsewhere => None,
        Begun::Coming { id, answer: coming } => {
            let result = coming.await;
            id.map(|id| answer(&id, result))
        }
    }
}

/// Serves a connection until its other end has said its last, and has been answered, or does not read any more.
pub async fn serve(server: Arc<Server>, reader: impl AsyncRead + Unpin, writer: impl AsyncWrite + Unpin) {
    let _open = Open::new(&server.open);
    let mut ending = server.ending.subscribe();
    let mut ending = std::pin::pin!(async move {
        let _ = ending.wait_for(|ending| *ending).await;
    });
    let (lines, to_write) = mpsc::channel(LINES_MAX);
    let number = server.connections.fetch_add(1, Ordering::Relaxed);
    let end = Arc::<Notify>::default();
    let connection = Connection { server: server.clone(), number, lines, end: end.clone() };
    let reading = async {
        let mut reader = Lines { reader: BufReader::new(reader), line: Vec::new() };
        let mut under_way = JoinSet::new();
        let mut ended = false;
        while !(ended && under_way.is_empty()) {
            let has_room = under_way.len() < UNDER_WAY_MAX;
            tokio::select! {
                line = reader.next(), if !ended && has_room => match line {
                    Some(line) if line.iter().all(u8::is_ascii_whitespace) => {}
                    Some(line) => if connection.line(&line, &mut under_way).await.is_err() { break },
                    None => ended = true,
                },
                () = &mut ending, if !ended => ended = true,
                () = end.notified() => break,
                Some(done) = under_way.join_next() => {
                    if connection.write(done.ok().flatten()).await.is_err() {
                        break;
                    }
                }
            }
        }
        if let Some(feed) = &server.feed {
            let _ = feed.send(Ask::Gone { connection: number }).await;
        }
        drop(connection);
    };
    tokio::join!(reading, write_lines(to_write, writer));
}

/// Writes until nobody has anything to say, or nobody reads.
async fn write_lines(mut lines: mpsc::Receiver<String>, mut writer: impl AsyncWrite + Unpin) {
    while let Some(mut line) = lines.recv().await {
        line.push('\n');
        // What waits goes with it.
        while line.len() < LINE_BYTES_MAX
            && let Ok(next) = lines.try_recv()
        {
            line.push_str(&next);
            line.push('\n');
        }
        if writer.write_all(line.as_bytes()).await.is_err() || writer.flush().await.is_err() {
            return;
        }
    }
}

/// The lines of a connection.
struct Lines<R> {
    reader: R,
    /// What has come of the next.
    line: Vec<u8>,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    /// The next line, without its end; `None` at the end, or if it is too long. May be cancelled.
    async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            let bytes = self.reader.fill_buf().await.ok()?;
            if bytes.is_empty() {
                return Some(std::mem::take(&mut self.line)).filter(|line| !line.is_empty());
            }
            let end = bytes.iter().position(|byte| *byte == b'\n');
            self.line.extend_from_slice(&bytes[..end.unwrap_or(bytes.len())]);
            let taken = end.map_or(bytes.len(), |end| end + 1);
            self.reader.consume(taken);
            if self.line.len() > LINE_BYTES_MAX {
                return None;
            }
            if end.is_some() {
                return Some(std::mem::take(&mut self.line));
            }
        }
    }
}

// ---- Sockets

/// A listening socket; its file goes with it.
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for Socket {
    fn drop(&mut self) {
        // If it can't be removed, the next one replaces it.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Socket {
    /// The one beside a profile, which this process has.
    pub fn of_profile(dir: &Path) -> std::io::Result<Self> {
        let path = dir.join(SOCKET);
        // Left by a process that was killed: whoever has the profile is alone here.
        let _ = std::fs::remove_file(&path);
        Self::bind(path)
    }

    /// One at a path of one's own choice.
    pub fn at(path: PathBuf) -> std::io::Result<Self> {
        if through_folder(&path, |short| std::os::unix::net::UnixStream::connect(short)).is_ok() {
            return Err(std::io::ErrorKind::AddrInUse.into());
        }
        if std::fs::symlink_metadata(&path).is_ok_and(|data| {
            use std::os::unix::fs::FileTypeExt as _;
            data.file_type().is_socket()
        }) {
            std::fs::remove_file(&path)?;
        }
        Self::bind(path)
    }

    fn bind(path: PathBuf) -> std::io::Result<Self> {
        // Nobody else may connect, at no time.
        let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
        let listener = through_folder(&path, |short| UnixListener::bind(short));
        rustix::process::umask(before);
        let listener = listener?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path })
    }

    /// Serves whoever connects, for ever.
    pub async fn serve(&self, server: Arc<Server>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let Ok((stream, _)) = self.listener.accept().await else { continue };
            let server = server.clone();
            tokio::spawn(async move {
                let (reader, writer) = stream.into_split();
                serve(server, reader, writer).await;
                drop(place);
            });
        }
    }
}

/// Does something with a path that may be longer than a socket's may be, through the folder that it is in.
fn through_folder<T>(path: &Path, act: impl FnOnce(&Path) -> std::io::Result<T>) -> std::io::Result<T> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or(std::io::ErrorKind::InvalidInput)?;
    let folder = File::open(folder)?;
    act(&Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name))
}

/// Asks the process that has a profile.
pub struct Remote {
    stream: BufReader<UnixStream>,
    asked: u64,
}

impl Remote {
    /// Connects to whoever has the profile.
    pub async fn connect(dir: &Path) -> std::io::Result<Self> {
        let stream =
            through_folder(&dir.join(SOCKET), |short| std::os::unix::net::UnixStream::connect(short))?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream: BufReader::new(UnixStream::from_std(stream)?), asked: 0 })
    }

    /// Asks for something, and waits for it.
    pub async fn call(&mut self, method: &str, params: Value) -> Result<Value, Failure> {
        let gone = Failure::Gone;
        self.asked += 1;
        let request = json!({ "jsonrpc": "2.0", "id": self.asked, "method": method, "params": params });
        self.stream.write_all(format!("{request}\n").as_bytes()).await.map_err(gone)?;
        let mut line = String::new();
        match self.stream.read_line(&mut line).await {
            Ok(1..) => {}
            Ok(0) => return Err(gone(std::io::ErrorKind::UnexpectedEof.into())),
            Err(error) => return Err(gone(error)),
        }
        let mut answer: Value = serde_json::from_str(&line).map_err(|error| gone(error.into()))?;
        let Some(error) = answer.get_mut("error").map(Value::take) else {
            return Ok(answer["result"].take());
        };
        let code = error["code"].as_u64().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
        let message = error["message"].as_str().unwrap_or_default().to_owned();
        Err(Failure::Told { code, message, data: error["data"].clone() })
    }
}
