//! Certificates are renewed without an end, warned of in time, and never put in an operator's place; what is on the disk is
//! private, and a first start that was cut off anywhere is taken up again.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process};
use tern_testkit::{Raw, Ternd, TerndOptions, Tls, program};

fn with(arguments: &[&str]) -> TerndOptions {
    let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    TerndOptions { arguments, ..TerndOptions::default() }
}

/// Writes a certificate for localhost that ends in so many days, and its key.
fn write_certificate(certificate: &Path, key: &Path, days: i64) {
    let pair = rcgen::KeyPair::generate().expect("made");
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).expect("names");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let date = tern_server::certificate::date(now.as_secs() as i64 + days * 86_400);
    let numbers: Vec<i32> = date.split('-').map(|number| number.parse().expect("a number")).collect();
    params.not_after = rcgen::date_time_ymd(numbers[0], numbers[1] as u8, numbers[2] as u8);
    let made = params.self_signed(&pair).expect("signed");
    fs::write(certificate, made.pem()).expect("written");
    fs::write(key, pair.serialize_pem()).expect("written");
    fs::set_permissions(key, Permissions::from_mode(0o600)).expect("set");
}

fn tls(certificate: &Path) -> Tls {
    Tls::new(certificate, &[tern_wire::tls::ALPN])
}

fn hang_up(server: &Ternd) {
    let pid = Pid::from_raw(server.pid() as i32).expect("a process");
    kill_process(pid, Signal::HUP).expect("the server is this test's own child");
}

#[test]
fn a_renewed_certificate_is_served_without_an_end_and_a_bad_one_is_not() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (certificate, key) = (dir.path().join("server.pem"), dir.path().join("server.key"));
    write_certificate(&certificate, &key, 90);
    let first = tls(&certificate);
    let paths = [certificate.to_str().expect("text"), key.to_str().expect("text")];
    let mut server = Ternd::start_with(with(&["--certificate", paths[0], "--key", paths[1]]));
    let said = server.said("the certificate");
    assert!(said.contains("sha256=\"") && said.contains("ends=\""), "{said}");
    let mut old = Raw::connect_with(server.address(), &first).expect("connected");
    let hello = tern_proto::v1::Hello { version_min: 1, version_max: 1, ..Default::default() };
    old.ask(tern_proto::v1::client_frame::Request::Hello(hello)).expect("welcomed");

    let kept = dir.path().join("first.pem");
    fs::copy(&certificate, &kept).expect("copied");
    write_certificate(&certificate, &key, 90);
    let second = tls(&certificate);
    hang_up(&server);
    while server.metric("tern_certificate_reloads_total") < 1 {}
    // Each core takes it up within a turn: then it serves all who come.
    let mut in_a_row = 0;
    while in_a_row < 20 {
        // Without a ticket, which needs no certificate.
        let without_ticket = tls(&certificate);
        in_a_row =
            if Raw::connect_with(server.address(), &without_ticket).is_ok() { in_a_row + 1 } else { 0 };
    }
    assert!(Raw::connect_with(server.address(), &tls(&kept)).is_err(), "the old one is not served any more");
    assert!(Raw::connect_with(server.address(), &first).is_ok(), "a ticket is good as before");
    assert!(old.answers(), "an established connection stays");

    fs::write(&certificate, "no certificate").expect("written");
    hang_up(&server);
    let said = server.said("this stays as it was");
    assert!(said.contains("server.pem"), "{said}");
    assert!(Raw::connect_with(server.address(), &second).is_ok());
    assert!(old.answers());
    assert_eq!(server.terminate().code(), Some(0));
}

#[test]
fn a_certificate_that_has_ended_or_ends_soon_is_told_at_the_start() {
    for (days, expected) in [(-2, "the certificate has ended"), (5, "the certificate ends soon")] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (certificate, key) = (dir.path().join("server.pem"), dir.path().join("server.key"));
        write_certificate(&certificate, &key, days);
        fs::set_permissions(&key, Permissions::from_mode(0o644)).expect("set");
        let paths = [certificate.to_str().expect("text"), key.to_str().expect("text")];
        let server = Ternd::start_with(with(&["--certificate", paths[0], "--key", paths[1]]));
        server.said(expected);
        server.said("everybody on this machine may read the private key");
        assert!(server.metric("tern_certificate_end_timestamp_seconds") > 0);
    }
}

#[test]
fn what_an_operator_put_there_is_neither_overwritten_nor_removed() {
    let dir = Arc::new(tempfile::tempdir().expect("a temporary directory"));
    let data = dir.path().join("data");
    fs::create_dir(&data).expect("made");
    write_certificate(&dir.path().join("other.pem"), &data.join("key.pem"), 90);
    let key = fs::read(data.join("key.pem")).expect("read");
    let said = Ternd::fail_to_start(with(&[]), &dir, "127.0.0.1:0");
    assert!(said.contains("key.pem is there, and") && said.contains("cert.pem is not"), "{said}");
    assert_eq!(fs::read(data.join("key.pem")).expect("it is still there"), key);
    fs::remove_file(data.join("key.pem")).expect("removed");
    // The same for the admin socket's path.
    let file = dir.path().join("a file");
    fs::write(&file, "content").expect("written");
    let said =
        Ternd::fail_to_start(with(&["--admin-socket", file.to_str().expect("text")]), &dir, "127.0.0.1:0");
    assert!(said.contains("no socket") && said.contains("--admin-socket"), "{said}");
    assert_eq!(fs::read(&file).expect("it is still there"), b"content");
}

fn modes_under(path: &Path, found: &mut Vec<(PathBuf, u32)>) {
    let metadata = fs::symlink_metadata(path).expect("there");
    found.push((path.to_owned(), metadata.permissions().mode() & 0o777));
    if metadata.is_dir() {
        fs::read_dir(path)
            .expect("listed")
            .for_each(|entry| modes_under(&entry.expect("listed").path(), found));
    }
}

#[test]
fn a_data_directory_that_others_may_enter_shows_them_nothing() {
    // As an older ternd, or an operator's umask, may have left it.
    let mut server = Ternd::start(1);
    let users = server.provision(2);
    assert!(server.terminate().success());
    let data = server.data_dir();
    let mut found = Vec::new();
    modes_under(&data, &mut found);
    for (path, _) in &found {
        let mode = if path.is_dir() { 0o755 } else { 0o644 };
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("set");
    }
    server.start_again();
    Raw::logged_in(&server, &users[0].token);
    let mut found = Vec::new();
    modes_under(&data, &mut found);
    let open: Vec<_> = found.iter().filter(|(path, mode)| *path != data && mode & 0o077 != 0).collect();
    assert!(open.is_empty(), "others may read {open:?}");
    assert!(found.len() > 5, "the store is among them");
}

/// A library that ends the process at the nth operation on files whose paths hold a text, and writes down each.
const CRASH: &str = r#"
    #define _GNU_SOURCE
    #include <dlfcn.h>
    #include <fcntl.h>
    #include <stdarg.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    #include <sys/stat.h>
    #include <unistd.h>
    static void step(const char *what, const char *path) {
        static int count;
        const char *only = getenv("CRASH_PATHS"), *list = getenv("CRASH_LIST"), *at = getenv("CRASH_AT");
        if (!only || !path || !strstr(path, only)) return;
        int now = __sync_add_and_fetch(&count, 1);
        if (list) {
            char line[4096];
            int length = snprintf(line, sizeof line, "%s %s\n", what, path);
            int (*open_it)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
            int fd = open_it(list, O_WRONLY | O_CREAT | O_APPEND, 0600);
            ssize_t (*write_it)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
            if (write_it(fd, line, length) < 0) abort();
            close(fd);
        }
        if (at && atoi(at) == now) _exit(86);
    }
    static void step_fd(const char *what, int fd) {
        char link[64], path[4096];
        struct stat found;
        if (fstat(fd, &found) || !(S_ISREG(found.st_mode) || S_ISDIR(found.st_mode))) return;
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(link, path, sizeof path - 1);
        if (length < 0) return;
        path[length] = 0;
        step(what, path);
    }
    #define REAL(name) __typeof__(name) *real = dlsym(RTLD_NEXT, #name)
    #define MODE va_list list; va_start(list, flags); mode_t mode = flags & O_CREAT ? va_arg(list, mode_t) : 0; va_end(list);
    int open(const char *path, int flags, ...) { MODE; REAL(open); if (flags & O_CREAT) step("open", path); return real(path, flags, mode); }
    int open64(const char *path, int flags, ...) { MODE; REAL(open64); if (flags & O_CREAT) step("open", path); return real(path, flags, mode); }
    ssize_t write(int fd, const void *from, size_t length) { REAL(write); step_fd("write", fd); return real(fd, from, length); }
    int fsync(int fd) { REAL(fsync); step_fd("fsync", fd); return real(fd); }
    int fdatasync(int fd) { REAL(fdatasync); step_fd("fdatasync", fd); return real(fd); }
    int rename(const char *from, const char *to) { REAL(rename); step("rename", to); return real(from, to); }
    int unlink(const char *path) { REAL(unlink); step("unlink", path); return real(path); }
    int mkdir(const char *path, mode_t mode) { REAL(mkdir); step("mkdir", path); return real(path, mode); }
    int linkat(int a, const char *from, int b, const char *to, int flags) { REAL(linkat); step("link", to); return real(a, from, b, to, flags); }
"#;

/// Starts ternd once in a directory of its own, to be ended at an operation. Gives whether it was, and the directory.
fn start_and_crash(library: &Path, at: Option<usize>, list: Option<&Path>) -> (bool, Arc<tempfile::TempDir>) {
    let dir = Arc::new(tempfile::tempdir().expect("a temporary directory"));
    let mut ternd = Command::new(program("ternd"));
    ternd
        .args(["--listen", "127.0.0.1:0", "--no-metrics", "--no-media", "--cores", "1", "--data-dir"])
        .arg(dir.path().join("data"))
        .env("LD_PRELOAD", library)
        .env("CRASH_PATHS", std::env::var("TERN_CRASH_PATHS").unwrap_or_else(|_| ".pem".to_owned()))
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    if let Some(at) = at {
        ternd.env("CRASH_AT", at.to_string());
    }
    if let Some(list) = list {
        ternd.env("CRASH_LIST", list);
    }
    let mut child = ternd.spawn().expect("ternd can be run");
    let mut ready = String::new();
    let stdout = child.stdout.take().expect("piped");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut ready)
        .expect("a line, or the end");
    let crashed = !ready.starts_with("ternd ready");
    if crashed {
        assert_eq!(child.wait().expect("it was started").code(), Some(86), "it ended by itself");
    } else {
        child.kill().expect("it is this test's own child");
        child.wait().expect("it was started");
    }
    (crashed, dir)
}

/// With `TERN_CRASH_PATHS=/` at every operation on any file; without, at those on the certificate and its key.
#[test]
fn a_first_start_that_was_cut_off_anywhere_is_taken_up_again() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (source, library, list) =
        (dir.path().join("crash.c"), dir.path().join("crash.so"), dir.path().join("list"));
    fs::write(&source, CRASH).expect("written");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-w", "-o"])
        .arg(&library)
        .arg(&source)
        .arg("-ldl")
        .status();
    assert!(built.expect("a C compiler").success());
    let (crashed, _) = start_and_crash(&library, None, Some(&list));
    assert!(!crashed, "nothing was to end it");
    let list = fs::read_to_string(&list).expect("operations were written down");
    let operations: Vec<_> = list.lines().collect();
    assert!(operations.len() >= 8, "the files are made in steps: {operations:?}");
    for (at, operation) in operations.iter().enumerate() {
        let (_, data) = start_and_crash(&library, Some(at + 1), None);
        let again = Ternd::start_in(with(&[]), &data);
        assert!(again.is_ok(), "cut off at {operation}, then: {again:?}");
        let mut server = again.expect("seen");
        assert!(Raw::welcomed(&server).answers(), "cut off at {operation}");
        assert!(server.terminate().success());
    }
}
