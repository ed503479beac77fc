//! docs/PROTOCOL.md is enough to write a client: the Python client that was written from it chats with the real ternd.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use tern_testkit::{Ternd, program, python_is_there};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// One at a time: the first makes the environment.
static TURN: Mutex<()> = Mutex::new(());

/// Runs a script of the Python client's against a server. What the script asks for, a word a line, is done by `please`.
fn run(script: &str, server: &mut Ternd, mut please: impl FnMut(&mut Ternd, &str) -> bool) -> Option<String> {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if !python_is_there() {
        return None;
    }
    let code_command =
        format!("{} --data-dir {} otp", program("ternctl").display(), server.data_dir().display());
    let mut child = Command::new("sh")
        .arg(Path::new(ROOT).join("clients/python/run-test.sh"))
        .arg(server.address().to_string())
        .arg(server.ca_file())
        .arg(code_command)
        .env("TERN_TEST", script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("sh runs");
    let mut errors = child.stderr.take().expect("piped");
    let errors = std::thread::spawn(move || {
        let mut said = String::new();
        errors.read_to_string(&mut said).map(|_| said)
    });
    let mut answers = child.stdin.take().expect("piped");
    let mut said = String::new();
    for line in BufReader::new(child.stdout.take().expect("piped")).lines() {
        let line = line.expect("text");
        if please(server, &line) {
            writeln!(answers, "done").expect("it reads on");
        }
        said += &line;
        said.push('\n');
    }
    let errors = errors.join().expect("no panic").expect("text");
    assert!(child.wait().expect("it ends").success(), "{script} failed:\n{said}\n{errors}");
    Some(said)
}

#[test]
fn the_python_client_registers_chats_and_resumes() {
    if let Some(said) = run("tern_chat_test.py", &mut Ternd::start(4), |_, _| false) {
        assert!(said.lines().count() >= 15, "each check prints a line:\n{said}");
    }
}

/// Its own duties, against a server that is made up.
#[test]
fn the_python_client_keeps_a_clients_duties() {
    run("tern_unit_test.py", &mut Ternd::start(1), |_, _| false);
}

/// G8, F5: it took new messages for known ones, and acknowledged them.
#[test]
fn the_python_client_takes_the_word_of_a_server_whose_data_was_put_back() {
    let mut server = Ternd::start(2);
    let copied = server.data_dir().with_file_name("copied");
    let copy = |from: &Path, to: &Path| {
        let done = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp runs");
        assert!(done.success());
    };
    let said = run("tern_restore_test.py", &mut server, |server, what| {
        let data = server.data_dir();
        match what {
            "copy" | "restore" | "reset" => drop(server.terminate()),
            _ => return false,
        }
        match what {
            "copy" => copy(&data, &copied),
            "restore" => {
                std::fs::remove_dir_all(&data).expect("removed");
                copy(&copied, &data);
            }
            // All but the certificate, which the running clients know.
            _ => std::fs::remove_dir_all(data.join("store")).expect("removed"),
        }
        server.start_again();
        true
    });
    if let Some(said) = said {
        assert_eq!(said.lines().filter(|line| line.starts_with("ok ")).count(), 5, "{said}");
    }
}
