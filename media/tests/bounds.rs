//! Nobody takes more of the listener than their share, however many connections they open and however slowly they send.

#[allow(dead_code, reason = "it serves other tests as well")]
mod common;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use common::{Answer, Server, ask, head};
use tempfile::{TempDir, tempdir};
use tern_media::limits::Limits;

fn start(limits: Limits) -> (TempDir, Server) {
    let folder = tempdir().expect("a folder");
    let server = Server::start(folder.path(), limits, None);
    (folder, server)
}

/// What is said of a video.
fn as_video() -> String {
    format!("filetype {}", BASE64_STANDARD.encode("video/mp4"))
}

/// Begins to send an upload of so many bytes of which none come yet.
fn open_upload(server: &Server, bytes: usize) -> TcpStream {
    let path = server.begin(7, &as_video(), bytes);
    let length = bytes.to_string();
    let headers = [
        ("content-type", "application/offset+octet-stream"),
        ("upload-offset", "0"),
        ("content-length", &*length),
    ];
    let mut stream = TcpStream::connect(server.address).expect("it listens");
    stream.write_all((head(7, "PATCH", &path, &headers) + "\r\n").as_bytes()).expect("it takes it");
    stream
}

#[test]
fn an_upload_that_comes_byte_by_byte_ends_though_it_never_stands_still() {
    let (_folder, server) = start(Limits { idle_timeout: Duration::from_millis(400), ..Limits::default() });
    let mut slow = open_upload(&server, 1 << 20);
    slow.set_read_timeout(Some(Duration::from_millis(20))).expect("it stands");
    // A byte, again and again, until it is answered.
    loop {
        let _ = slow.write_all(b"x");
        match slow.peek(&mut [0]) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            _ => break,
        }
    }
    slow.set_read_timeout(None).expect("it stands");
    assert_eq!(Answer::read(slow).status, 408);
}

#[test]
fn an_account_has_no_more_uploads_at_once_than_its_share() {
    let (folder, server) = start(Limits { account_uploads_max: 1, ..Limits::default() });
    let mut first = open_upload(&server, 1000);
    first.write_all(&[1; 100]).expect("it takes it");
    // Until the first is being taken, the second may be.
    let parts = || std::fs::read_dir(folder.path().join("uploads")).expect("a folder").flatten();
    let is_taken = |file: std::fs::DirEntry| {
        file.path().extension().is_some_and(|of| of == "part") && file.metadata().is_ok_and(|of| of.len() > 0)
    };
    while !parts().any(is_taken) {}
    let path = server.begin(7, &as_video(), 100);
    let refused = server.send(7, &path, 0, b"");
    assert_eq!((refused.status, &*refused.headers["retry-after"]), (503, "1"));
    let path = server.begin(8, &as_video(), 100);
    assert_eq!(server.send(8, &path, 0, b"").status, 204, "others have their own");
    drop(first);
    while server.send(7, &path, 0, b"").status == 503 {}
}

#[test]
fn a_network_has_no_more_connections_than_its_share() {
    let (_folder, server) = start(Limits { network_connections_max: 1, ..Limits::default() });
    let mut first = TcpStream::connect(server.address).expect("it listens");
    let mut second = TcpStream::connect(server.address).expect("it listens");
    assert!(matches!(second.read(&mut [0]), Ok(0) | Err(_)), "it ends");
    // The first has what it asks for.
    first.write_all((head(0, "OPTIONS", "/uploads", &[]) + "\r\n").as_bytes()).expect("it takes it");
    assert_eq!(Answer::read(first).status, 204);
    while ask(server.address, 0, "OPTIONS", "/uploads", &[], b"").is_none() {}
}
