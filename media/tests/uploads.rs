//! Uploads go on where they were, whoever is cut off, and are what they were declared to be; and what was uploaded is had by its links.

mod common;

use std::io::Write as _;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use common::{Answer, Server, head};
use tempfile::{TempDir, tempdir};
use tern_media::gate::Refusal;
use tern_media::limits::Limits;

/// A picture, as far as its first bytes say.
fn png(bytes: usize) -> Vec<u8> {
    let mut png = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR".to_vec();
    png.extend((png.len()..bytes).map(|at| (at * 7 + at / 251) as u8));
    png
}

fn said(pairs: &[(&str, &str)]) -> String {
    let pairs = pairs.iter().map(|(key, value)| format!("{key} {}", BASE64_STANDARD.encode(value)));
    pairs.collect::<Vec<_>>().join(",")
}

fn as_png() -> String {
    said(&[("filename", "größe.png"), ("filetype", "image/png")])
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A server with the usual limits, and the folder in which it keeps what comes.
fn start() -> (TempDir, Server) {
    let folder = tempdir().expect("a folder");
    let server = Server::start(folder.path(), Limits::default(), None);
    (folder, server)
}

#[test]
fn an_upload_that_is_cut_off_goes_on_where_it_was_also_after_a_start() {
    let folder = tempdir().expect("a folder");
    let server = Server::start(folder.path(), Limits::default(), None);
    let picture = png(300_000);
    let upload = server.begin(7, &as_png(), picture.len());
    assert_eq!(server.offset(7, &upload), 0);

    // It is cut off within a request: what has come stays.
    let headers = [("content-type", "application/offset+octet-stream"), ("upload-offset", "0")];
    let request = head(7, "PATCH", &upload, &headers) + "content-length: 300000\r\n\r\n";
    let mut stream = TcpStream::connect(server.address).expect("it listens");
    stream.write_all(request.as_bytes()).expect("it takes it");
    stream.write_all(&picture[..120_000]).expect("it takes it");
    stream.shutdown(Shutdown::Write).expect("it stands");
    Answer::read(stream);
    assert_eq!(server.offset(7, &upload), 120_000);
    assert_eq!(server.send(7, &upload, 119_999, &picture[119_999..]).status, 409, "it is not there");
    assert!(server.whole().is_empty());

    drop(server);
    let server = Server::start(folder.path(), Limits::default(), None);
    assert_eq!(server.offset(7, &upload), 120_000);
    assert_eq!(server.ask(7, "HEAD", &upload, &[], b"").headers["upload-metadata"], as_png());
    assert_eq!(server.ask(7, "GET", &server.link(&upload), &[], b"").status, 404, "it is not whole");
    assert_eq!(server.send(7, &upload, 120_000, &picture[120_000..]).status, 204);
    let whole = server.whole();
    let [whole] = &whole[..] else { panic!("{whole:?}") };
    assert_eq!((whole.owner, whole.declared.bytes, whole.declared.of.name()), (7, 300_000, "image/png"));
    assert_eq!(whole.sha256[..], *digest(&SHA256, &picture).as_ref());
    assert_eq!(server.offset(7, &upload), 300_000, "whoever has not heard the answer hears that it is whole");
    let got = server.get(&upload);
    assert_eq!((got.status, got.body == picture), (200, true));
    assert_eq!(
        (&*got.headers["content-type"], &*got.headers["x-content-type-options"]),
        ("image/png", "nosniff")
    );
}

#[test]
fn what_is_not_as_it_was_declared_is_refused_and_nothing_of_it_stays() {
    let folder = tempdir().expect("a folder");
    let server = Server::start(folder.path(), Limits { image_bytes_max: 50_000, ..Limits::default() }, None);
    let begin = |length: &str, metadata: &str| {
        let headers = [("upload-length", length), ("upload-metadata", metadata)];
        server.ask(7, "POST", "/uploads", &headers, b"").status
    };
    assert_eq!(begin("50001", &as_png()), 413);
    assert_eq!(begin("0", &as_png()), 400);
    assert_eq!(begin("-1", &as_png()), 400);
    assert_eq!(begin("10", ""), 415);
    assert_eq!(begin("10", &said(&[("filetype", "text/html")])), 415);
    assert_eq!(begin("10", "filetype !"), 400);
    assert!(server.accounts.begun.lock().expect("no panic").is_empty(), "nobody was asked");

    // Another type than was said, however it comes.
    let html = b"<html><script>alert(1)</script>".repeat(300);
    for pieces in [vec![html.len()], vec![10, html.len() - 10]] {
        let upload = server.begin(7, &as_png(), html.len());
        let (mut offset, mut last) = (0, 0);
        for piece in pieces {
            last = server.send(7, &upload, offset, &html[offset..offset + piece]).status;
            offset += piece;
        }
        assert_eq!(last, 415);
        assert_eq!(server.ask(7, "HEAD", &upload, &[], b"").status, 404);
    }
    // Encrypted, nothing is known of it.
    let upload = server.begin(7, &said(&[("encrypted", "")]), html.len());
    assert_eq!(server.send(7, &upload, 0, &html).status, 204);
    let got = server.get(&upload);
    assert_eq!((got.status, &*got.headers["content-type"]), (200, "application/octet-stream"));

    let picture = png(10_000);
    let other = hexadecimal(&[7; 32]);
    let upload = server.begin(7, &said(&[("filetype", "image/png"), ("sha256", &other)]), picture.len());
    assert_eq!(server.send(7, &upload, 0, &picture).status, 460);
    assert_eq!(server.ask(7, "HEAD", &upload, &[], b"").status, 404);
    let own = hexadecimal(digest(&SHA256, &picture).as_ref());
    let upload = server.begin(7, &said(&[("filetype", "image/png"), ("sha256", &own)]), picture.len());
    assert_eq!(server.send(7, &upload, 0, &[&picture[..], b"more"].concat()).status, 413);
    assert_eq!(server.send(7, &upload, 0, &picture).status, 204);

    let left = std::fs::read_dir(folder.path().join("uploads")).expect("a folder").count();
    assert_eq!(left, 0, "nothing is left of what ended");
}

#[test]
fn a_piece_that_is_not_what_its_checksum_says_comes_again() {
    let (_folder, server) = start();
    let picture = png(20_000);
    let upload = server.begin(7, &as_png(), picture.len());
    let send = |offset: usize, bytes: &[u8], checksum: &str| {
        let offset = offset.to_string();
        let headers = [
            ("content-type", "application/offset+octet-stream"),
            ("upload-offset", &*offset),
            ("upload-checksum", checksum),
        ];
        server.ask(7, "PATCH", &upload, &headers, bytes).status
    };
    let sha256 = |bytes: &[u8]| format!("sha256 {}", BASE64_STANDARD.encode(digest(&SHA256, bytes)));
    assert_eq!(send(0, &picture[..9000], &sha256(b"another")), 460);
    assert_eq!(server.offset(7, &upload), 0);
    assert_eq!(send(0, &picture[..9000], "md5 AAAA"), 400);
    assert_eq!(send(0, &picture[..9000], &sha256(&picture[..9000])), 204);
    assert_eq!(send(9000, &picture[9000..], &sha256(&picture[9000..])), 204);
    let got = server.get(&upload);
    assert!(got.body == picture);
}

/// Sends the head of a request, and what of its body is to come, and leaves the connection open.
fn begin_to_send(server: &Server, path: &str, headers: &[(&str, &str)], body: &[u8]) -> TcpStream {
    let all = [("content-type", "application/offset+octet-stream")].iter().chain(headers).copied();
    let request = head(7, "PATCH", path, &all.collect::<Vec<_>>()) + "\r\n";
    let mut stream = TcpStream::connect(server.address).expect("it listens");
    stream.write_all(request.as_bytes()).expect("it takes it");
    stream.write_all(body).expect("it takes it");
    stream
}

#[test]
fn what_was_not_checked_does_not_count_however_its_request_ends() {
    let (_folder, server) = start();
    let picture = png(20_000);
    let upload = server.begin(7, &as_png(), picture.len());
    let checksum = format!("sha256 {}", BASE64_STANDARD.encode(digest(&SHA256, &picture)));
    let headers = [("upload-offset", "0"), ("upload-checksum", &*checksum), ("content-length", "20000")];
    let cut = begin_to_send(&server, &upload, &headers, &picture[..15_000]);
    cut.shutdown(Shutdown::Write).expect("it stands");
    Answer::read(cut);
    assert_eq!(server.offset(7, &upload), 0);
    // Nor while it comes: whoever asks how far it is gets what counts, and the one who sent it is told to stop.
    let comes = begin_to_send(&server, &upload, &headers, &picture[..15_000]);
    comes.set_nonblocking(true).expect("it stands");
    while comes.peek(&mut [0]).is_err() {
        assert_eq!(server.offset(7, &upload), 0);
    }
    comes.set_nonblocking(false).expect("it stands");
    assert_eq!(Answer::read(comes).status, 409);
    assert_eq!(server.send(7, &upload, 0, &picture).status, 204);
}

#[test]
fn a_connection_that_nobody_has_noticed_to_be_lost_keeps_nobody_from_going_on() {
    let (folder, server) = start();
    let picture = png(50_000);
    let upload = server.begin(7, &as_png(), picture.len());
    let lost = begin_to_send(
        &server,
        &upload,
        &[("upload-offset", "0"), ("content-length", "50000")],
        &picture[..30_000],
    );
    // Until what was sent is being taken: whoever asks the server before ends that.
    let part = folder.path().join(format!("{}.part", upload.trim_start_matches('/')));
    while std::fs::metadata(&part).expect("it has begun").len() == 0 {
        std::thread::yield_now();
    }
    let offset = server.offset(7, &upload);
    assert!(offset > 0, "what came is kept");
    assert_eq!(server.ask(8, "HEAD", &upload, &[], b"").status, 404, "to others there is none");
    assert_eq!(server.send(7, &upload, offset, &picture[offset..]).status, 204);
    assert_eq!(Answer::read(lost).status, 409);
    assert!(server.get(&upload).body == picture);
}

#[test]
fn nothing_gets_its_place_that_was_not_looked_at() {
    let (_folder, server) = start();
    let html = b"<html><script>alert(1)</script>".repeat(20);
    let upload = server.begin(7, &as_png(), html.len());
    let mut body = format!("{:x}\r\n", html.len()).into_bytes();
    body.extend_from_slice(&html);
    body.extend_from_slice(b"\r\n");
    // All bytes have come, and the request is cut off before it says so.
    let cut =
        begin_to_send(&server, &upload, &[("upload-offset", "0"), ("transfer-encoding", "chunked")], &body);
    cut.shutdown(Shutdown::Write).expect("it stands");
    Answer::read(cut);
    assert_eq!(server.ask(7, "HEAD", &upload, &[], b"").status, 415);
    assert_eq!(server.ask(7, "HEAD", &upload, &[], b"").status, 404);
    assert_eq!(server.get(&upload).status, 404);
    assert!(server.whole().is_empty());
}

#[test]
fn of_what_the_gate_does_not_take_nothing_stays() {
    let (_folder, server) = start();
    let picture = png(1000);
    let upload = server.begin(7, &as_png(), picture.len());
    server.refuse(Refusal::NoRoom);
    assert_eq!(server.send(7, &upload, 0, &picture).status, 507);
    assert_eq!(server.ask(7, "HEAD", &upload, &[], b"").status, 404);
    let upload = server.begin(7, &as_png(), picture.len());
    let later = Refusal::Unavailable(Duration::from_secs(1));
    server.refuse(later);
    assert_eq!(server.send(7, &upload, 0, &picture).status, 503);
    assert_eq!(server.ask(7, "DELETE", &upload, &[], b"").status, 204, "nobody knows of it yet");
    assert_eq!(server.ask(7, "HEAD", &upload, &[], b"").status, 404);
    assert_eq!(server.get(&upload).status, 404);
}

#[test]
fn what_has_become_a_medium_stays_whatever_is_said_of_its_upload() {
    let (folder, server) = start();
    let picture = png(1000);
    let become_medium = || {
        let upload = server.begin(7, &as_png(), picture.len());
        server.accounts.loses_answer.store(true, Ordering::Relaxed);
        assert_eq!(server.send(7, &upload, 0, &picture).status, 503);
        upload
    };
    let deleted = become_medium();
    assert_eq!(server.ask(7, "DELETE", &deleted, &[], b"").status, 404, "it is no upload any more");
    assert!(server.get(&deleted).body == picture);
    assert_eq!(server.offset(7, &deleted), 1000);

    // Nor when the account is none any more by the time the upload is looked at again.
    let of_ended = become_medium();
    server.refuse(Refusal::Unauthenticated);
    assert_eq!(server.ask(7, "HEAD", &of_ended, &[], b"").status, 401);
    assert!(server.get(&of_ended).body == picture);
    assert_eq!(std::fs::read_dir(folder.path().join("uploads")).expect("a folder").count(), 0);

    // What is removed is not said to be whole again.
    let removed = become_medium();
    server.remove(&removed);
    assert_eq!(server.ask(7, "HEAD", &removed, &[], b"").status, 404);
    assert_eq!(server.whole().len(), 3);
}

#[test]
fn an_upload_is_its_owners_alone() {
    let (_folder, server) = start();
    let picture = png(1000);
    let upload = server.begin(7, &as_png(), picture.len());
    for (of, expect) in [(0, 401), (8, 404)] {
        assert_eq!(server.ask(of, "HEAD", &upload, &[], b"").status, expect);
        assert_eq!(server.ask(of, "DELETE", &upload, &[], b"").status, expect);
        assert_eq!(server.send(of, &upload, 0, &picture).status, expect);
    }
    assert_eq!(server.send(7, &upload, 0, &picture[..500]).status, 204);
    assert_eq!(server.ask(7, "DELETE", &upload, &[], b"").status, 204);
    assert_eq!(server.send(7, &upload, 500, &picture[500..]).status, 404);
    let upload = server.begin(7, &as_png(), picture.len());
    assert_eq!(server.send(7, &upload, 0, &picture).status, 204);
    assert_eq!(server.ask(8, "HEAD", &upload, &[], b"").status, 404, "nor is it when it is whole");
    let old = [("tus-resumable", "0.2.2")];
    let answer = server.ask(7, "HEAD", &upload, &old, b"");
    assert_eq!((answer.status, &*answer.headers["tus-version"]), (412, "1.0.0"));
    for path in ["/", "/media/", "/media/../uploads", "/uploads/x/y", "/media/AAAA"] {
        assert!([404, 405].contains(&server.ask(7, "GET", path, &[], b"").status), "{path}");
    }
    assert_eq!(server.ask(7, "PUT", &upload, &[], b"").headers["allow"], "OPTIONS, HEAD, PATCH, DELETE");
    let twice = [("upload-length", "10"), ("upload-length", "20"), ("upload-metadata", &*as_png())];
    assert_eq!(server.ask(7, "POST", "/uploads", &twice, b"").status, 400);
    let can = server.ask(0, "OPTIONS", "/uploads", &[], b"");
    assert_eq!(can.headers["tus-extension"], "creation,expiration,checksum,termination");
    assert_eq!(can.headers["tus-max-size"], (100 << 20).to_string());
}

#[test]
fn whoever_may_not_is_told_so_before_a_byte_comes_and_what_is_whole_is_told_until_it_is_known() {
    let (_folder, server) = start();
    let headers = [("upload-length", "1000"), ("upload-metadata", &*as_png())];
    server.refuse(Refusal::TooMany(Duration::from_secs(72)));
    let answer = server.ask(7, "POST", "/uploads", &headers, b"");
    assert_eq!((answer.status, &*answer.headers["retry-after"]), (429, "72"));
    server.refuse(Refusal::NoRoom);
    assert_eq!(server.ask(7, "POST", "/uploads", &headers, b"").status, 507);

    let picture = png(1000);
    let upload = server.begin(7, &as_png(), picture.len());
    server.refuse(Refusal::Unavailable(Duration::from_secs(1)));
    assert_eq!(server.send(7, &upload, 0, &picture).status, 503);
    assert!(server.whole().is_empty());
    assert_eq!(server.offset(7, &upload), 1000);
    assert_eq!(server.whole().len(), 1);
}

#[test]
fn uploads_that_nobody_goes_on_with_are_swept() {
    let folder = tempdir().expect("a folder");
    let server =
        Server::start(folder.path(), Limits { upload_valid: Duration::ZERO, ..Limits::default() }, None);
    let upload = server.begin(7, &as_png(), 1000);
    assert_eq!(server.ask(7, "HEAD", &upload, &[], b"").status, 404, "it is over");
    server.sweep();
    assert_eq!(std::fs::read_dir(folder.path().join("uploads")).expect("a folder").count(), 0);

    // Of what is whole, though whoever sent it never asks again, those are told who are to know.
    let picture = png(1000);
    let limits = Limits { upload_valid: Duration::from_secs(3600), ..Limits::default() };
    let upload = {
        let server = Server::start(folder.path(), limits, None);
        let upload = server.begin(7, &as_png(), picture.len());
        let refusal = Refusal::Unavailable(Duration::from_secs(1));
        server.refuse(refusal);
        assert_eq!(server.send(7, &upload, 0, &picture).status, 503);
        upload
    };
    server.sweep();
    assert_eq!(server.whole().len(), 1);
    assert!(server.get(&upload).body == picture);
    assert_eq!(std::fs::read_dir(folder.path().join("uploads")).expect("a folder").count(), 0);
}

#[test]
fn parts_of_a_medium_and_whether_it_is_the_same_are_told_as_caches_and_players_ask() {
    let (_folder, server) = start();
    let picture = png(200_000);
    let upload = server.begin(7, &as_png(), picture.len());
    assert_eq!(server.send(7, &upload, 0, &picture).status, 204);
    let link = server.link(&upload);
    let get = |method: &str, headers: &[(&str, &str)]| server.ask(0, method, &link, headers, b"");
    let all = get("GET", &[]);
    let etag = all.headers["etag"].clone();
    assert!(all.headers["cache-control"].starts_with("public, max-age="));
    let part = get("GET", &[("range", "bytes=100000-100009")]);
    assert_eq!((part.status, &*part.headers["content-range"]), (206, "bytes 100000-100009/200000"));
    assert!(part.body == picture[100_000..100_010]);
    assert!(get("GET", &[("range", "bytes=-5")]).body == picture[199_995..]);
    assert_eq!(get("GET", &[("range", "bytes=200000-")]).status, 416);
    assert_eq!(get("GET", &[("range", "bytes=0-4"), ("if-range", &etag)]).status, 206);
    assert_eq!(get("GET", &[("range", "bytes=0-4"), ("if-range", "\"x\"")]).status, 200);
    let same = get("GET", &[("if-none-match", &etag)]);
    assert_eq!((same.status, same.body.len(), &same.headers["etag"]), (304, 0, &etag));
    let head = get("HEAD", &[]);
    assert_eq!((head.status, &*head.headers["content-length"], head.body.len()), (200, "200000", 0));
    assert_eq!(get("DELETE", &[]).status, 405);
    for forged in [link.replace("e=1", "e=2"), link.split('?').next().expect("a path").to_owned()] {
        assert_eq!(server.ask(7, "GET", &forged, &[], b"").status, 403);
    }
}
