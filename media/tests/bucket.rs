//! Media in a bucket: whole or not there, had by parts, by whoever has a link, through ternd or without it; and when the bucket is away, slow
//! or gone, that is said at once, and nothing is lost that was uploaded.

#[allow(dead_code, reason = "it serves other tests as well")]
mod common;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use common::{Answer, Server, id_of};
use tempfile::{TempDir, tempdir};
use tern_media::limits::Limits;
use tern_media::store::{BucketStore, Guarded, Health};
use tern_testkit::python_is_there;
use tern_testkit::s3::{BUCKET, S3, environment_of};

/// A server whose media lie in a bucket, under `a/b`.
struct World {
    server: Server,
    health: Arc<Health>,
    _folder: TempDir,
}

fn start(environment: Vec<(String, String)>, is_direct: bool) -> World {
    let folder = tempdir().expect("a folder");
    let store = BucketStore::open(&format!("s3://{BUCKET}/a/b"), environment, is_direct);
    let (store, health) = Guarded::new(store.expect("a bucket"));
    let server = Server::start_with(Arc::new(store), folder.path(), Limits::default(), None);
    World { server, health, _folder: folder }
}

fn s3() -> Option<S3> {
    python_is_there().then(|| S3::start(Path::new(env!("CARGO_TARGET_TMPDIR"))))
}

fn video(bytes: usize) -> Vec<u8> {
    let mut video = b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom".to_vec();
    video.extend((video.len()..bytes).map(|at| (at * 7 + at / 251) as u8));
    video
}

impl World {
    fn begin(&self, bytes: &[u8]) -> String {
        self.server.begin(7, &format!("filetype {}", BASE64_STANDARD.encode("video/mp4")), bytes.len())
    }

    fn upload(&self, bytes: &[u8]) -> (String, Answer) {
        let path = self.begin(bytes);
        let answer = self.server.send(7, &path, 0, bytes);
        (path, answer)
    }
}

/// Where a medium lies.
fn key(path: &str) -> String {
    let id = id_of(path);
    format!("a/b/{:02x}/{id}", id.as_bytes()[0])
}

#[test]
fn what_is_uploaded_lies_in_the_bucket_and_is_had_by_parts() {
    let Some(s3) = s3() else { return };
    let world = start(s3.environment(), false);
    // One of a single part, and one of several.
    let (small, large) = (video(100_000), video(20_000_000));
    let paths = [&small, &large].map(|bytes| {
        let (path, answer) = world.upload(bytes);
        assert_eq!(answer.status, 204, "{answer:?}");
        assert!(world.server.get(&path).body == **bytes);
        path
    });
    let objects = s3.objects();
    assert_eq!(objects.len(), 4, "each with what is known of it: {objects:?}");
    let said = &objects[&key(&paths[1])];
    assert_eq!((&said["bytes"], &said["type"]), (&20_000_000.into(), &"video/mp4".into()));
    assert_eq!(said["metadata"], serde_json::json!({}), "whoever has a link learns nothing of its owner");
    let file = tempdir().expect("a folder").keep().join("got");
    s3.look(&["read", BUCKET, &key(&paths[1]), file.to_str().expect("UTF-8")]);
    assert!(std::fs::read(&file).expect("it is there") == large, "another client has the same");
    assert_eq!(s3.look(&["parts", BUCKET]), Some(0.into()));

    let link = world.server.link(&paths[1]);
    let part = world.server.ask(0, "GET", &link, &[("range", "bytes=9000000-9000099")], b"");
    assert_eq!((part.status, &part.body[..]), (206, &large[9_000_000..9_000_100]));
    let whole = world.server.ask(0, "HEAD", &link, &[], b"");
    assert_eq!((whole.status, &*whole.headers["content-length"]), (200, "20000000"));
    let same = [("if-none-match", &*whole.headers["etag"])];
    assert_eq!(world.server.ask(0, "GET", &link, &same, b"").status, 304);

    world.server.remove(&paths[0]);
    assert_eq!(world.server.get(&paths[0]).status, 404);
    world.server.remove(&paths[0]);
    assert_eq!(s3.objects().len(), 2);
    assert_eq!(world.server.sweep_orphans(), 0, "what is known, or young, stays");
    assert_eq!(world.health.failures.load(Ordering::Relaxed), 0);
}

#[test]
fn whoever_has_a_link_is_sent_to_the_bucket_and_nobody_without_one() {
    let Some(s3) = s3() else { return };
    let world = start(s3.environment(), true);
    let bytes = video(300_000);
    let (path, answer) = world.upload(&bytes);
    assert_eq!(answer.status, 204, "{answer:?}");
    let sent = world.server.get(&path);
    assert_eq!(sent.status, 307);
    let place = &sent.headers["location"];
    assert!(place.starts_with(&s3.endpoint()) && place.contains("X-Amz-Signature="), "{place}");
    let url = format!("http://{}{}", world.server.address, world.server.link(&path));
    let curl =
        Command::new("curl").args(["-sSfL", "--range", "1000-1999", &url]).output().expect("curl runs");
    assert!(curl.status.success() && curl.stdout == bytes[1000..2000], "{:?}", curl.status);
    let forged = world.server.link(&path).replace("e=1", "e=2");
    assert_eq!(world.server.ask(0, "GET", &forged, &[], b"").status, 403);
}

#[test]
fn a_bucket_that_is_gone_costs_nothing_but_time() {
    let Some(mut s3) = s3() else { return };
    let world = start(s3.environment(), false);
    let bytes = video(50_000);
    s3.ends();
    // All of it has come: it is said that it has no place yet, until nobody asks the bucket any more.
    let (path, mut answer) = world.upload(&bytes);
    let mut asked = 0;
    while world.health.is_away.load(Ordering::Relaxed) == 0 {
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.headers.contains_key("retry-after"));
        answer = world.server.ask(7, "HEAD", &path, &[], b"");
        asked += 1;
        assert!(asked < 10, "it is left alone soon");
    }
    let failures = world.health.failures.load(Ordering::Relaxed);
    assert_eq!(world.server.ask(7, "HEAD", &path, &[], b"").status, 503);
    assert_eq!(world.server.get(&path).status, 503);
    assert_eq!(world.health.failures.load(Ordering::Relaxed), failures, "it was not asked");
    // Others go on uploading meanwhile.
    let other = world.begin(&bytes);
    assert_eq!(world.server.send(7, &other, 0, &bytes[..20_000]).status, 204);

    s3.starts_again();
    while world.server.ask(7, "HEAD", &path, &[], b"").status == 503 {}
    assert!(world.server.get(&path).body == bytes, "nothing is sent again");
    assert_eq!(world.health.is_away.load(Ordering::Relaxed), 0);
    assert_eq!(world.server.send(7, &other, 20_000, &bytes[20_000..]).status, 204);
}

/// What may be read, and not be written, is left alone by those who write.
#[test]
fn a_bucket_that_takes_nothing_is_left_alone_by_those_who_write_alone() {
    let environment = no_bucket("403 Forbidden", "");
    let world = start(environment, false);
    let (path, mut answer) = world.upload(&video(1000));
    for _ in 0..10 {
        assert_eq!(answer.status, 503, "{answer:?}");
        answer = world.server.ask(7, "HEAD", &path, &[], b"");
    }
    assert_eq!(world.health.is_away.load(Ordering::Relaxed), 1, "writing is");
    assert_eq!(world.server.get(&path).status, 404, "reading is not");
}

/// What is taken for a bucket and has nothing, and answers so to whoever writes. Gives the environment in which it is one.
fn no_bucket(status: &'static str, body: &'static str) -> Vec<(String, String)> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("it is bound"));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let method = request(&mut stream);
            let is_asked = method == "HEAD" || method == "GET";
            let (status, body) = if is_asked { ("404 Not Found", "") } else { (status, body) };
            let length = body.len();
            let answer =
                format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    environment_of(&endpoint)
}

/// The method of a request.
fn request(stream: &mut TcpStream) -> String {
    let mut request = [0; 1 << 16];
    let read = stream.read(&mut request).unwrap_or(0);
    let method = String::from_utf8_lossy(&request[..read]);
    method.split(' ').next().unwrap_or_default().to_owned()
}

#[test]
fn a_bucket_that_refuses_is_an_operators_concern_and_no_secret_is_told() {
    let Some(s3) = s3() else { return };
    // There is no such bucket.
    let folder = tempdir().expect("a folder");
    let store = BucketStore::open("s3://elsewhere", s3.environment(), false).expect("a bucket");
    let server = Server::start_with(Arc::new(store), folder.path(), Limits::default(), None);
    let bytes = video(1000);
    let path = server.begin(7, &format!("filetype {}", BASE64_STANDARD.encode("video/mp4")), bytes.len());
    let answer = server.send(7, &path, 0, &bytes);
    assert_eq!(answer.status, 503);
    let said = String::from_utf8_lossy(&answer.body);
    assert!(!said.contains("elsewhere") && !said.contains("127.0.0.1"), "{said}");
    for url in ["media", "s3://", "s3:///x", "https://bucket"] {
        assert!(BucketStore::open(url, s3.environment(), false).is_err(), "{url}");
    }
}

#[test]
fn a_bucket_that_says_it_is_full_or_answers_nonsense_harms_nobody() {
    let environment = no_bucket("507 Full", "<Error><Code>XMinioStorageFull</Code></Error>");
    let world = start(environment, false);
    let (path, answer) = world.upload(&video(1000));
    assert_eq!(answer.status, 507, "{answer:?}");
    assert_eq!(
        world.server.ask(7, "DELETE", &path, &[], b"").status,
        507,
        "it can't be known what lies there"
    );
}
