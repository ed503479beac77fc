//! The clients that tern brings keep all duties; and of clients that break one, the kit finds each out.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use tern_testkit::program;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The library's adapter: an example of its crate, which is built if it is not there.
fn adapter() -> PathBuf {
    let deps = std::env::current_exe().expect("a running program has a path");
    let profile = deps.parent().and_then(Path::parent).expect("tests lie in PROFILE/deps");
    let path = profile.join("examples/conform");
    if !path.exists() {
        let mut build = Command::new(env!("CARGO"));
        let target = profile.parent().expect("a target directory");
        build.args(["build", "-p", "tern-client", "--example", "conform", "--target-dir"]).arg(target);
        assert!(
            build.current_dir(ROOT).status().expect("cargo runs").success(),
            "the adapter can't be built"
        );
    }
    path
}

/// How many clients are tried at a time: they wait for the server, and the server for them.
const AT_A_TIME: usize = 4;

/// Runs the kit. Gives its exit code, and what it says.
fn conform(cases: &[&str], command: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut kit = Command::new(program("tern-conform"));
    for case in cases {
        kit.args(["--case", case]);
    }
    kit.arg("--jobs").arg(AT_A_TIME.to_string());
    let output = kit.arg("--").args(command).envs(variables.iter().copied()).output().expect("it runs");
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), said)
}

#[test]
fn the_rust_library_keeps_all_duties() {
    let adapter = adapter();
    let (code, said) = conform(&[], &[adapter.to_str().expect("text")], &[]);
    assert!(code == Some(0) && !said.contains("not tried"), "{said}");
}

/// Python's environment is made once, before anybody is timed: by running the client's module, which does nothing by itself.
static PYTHON: OnceLock<()> = OnceLock::new();

/// The command that runs a script of the Python client's; `None` where there is no Python.
fn python() -> Option<[String; 5]> {
    if !tern_testkit::python_is_there() {
        return None;
    }
    let script = Path::new(ROOT).join("clients/python/run-test.sh");
    let command = ["sh", script.to_str().expect("text"), "server", "ca", "code"];
    PYTHON.get_or_init(|| {
        let made =
            Command::new("sh").args(&command[1..]).env("TERN_TEST", "tern.py").output().expect("sh runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    });
    Some(command.map(str::to_owned))
}

#[test]
fn the_python_client_keeps_all_duties() {
    let Some(command) = python() else { return };
    let command = command.each_ref().map(String::as_str);
    let (code, said) = conform(&[], &command, &[("TERN_TEST", "conform.py")]);
    assert!(code == Some(0) && !said.contains("not tried"), "{said}");
}

/// A kit that finds nothing would let everybody pass.
#[test]
fn each_client_that_breaks_a_duty_is_found_out() {
    let Some(command) = python() else { return };
    let command = command.each_ref().map(String::as_str);
    let bad_clients = [
        ("long_bodies", "limits", 2),
        ("another_number", "lost-sent", 3),
        ("counter_is_not_raised", "killed", 3),
        ("sent_too_early", "late-sent", 4),
        ("acknowledged_and_not_stored", "acknowledged", 5),
        ("shown_twice", "doubled", 6),
        ("counts_have_plus_one", "overtaken", 6),
        ("lower_watermarks", "receipts", 7),
        ("another_nonce", "lost-refresh", 8),
        ("no_backoff", "at-the-door", 9),
        ("does_not_wait", "busy", 9),
        ("comes_back_at_once", "come-later", 9),
        ("fights", "replaced", 9),
        ("never_pings", "idle", 10),
        ("trusts_everybody", "stranger", 1),
        ("trusts_every_store", "other-store", 13),
        ("believes_its_own_past", "put-back", 7),
        ("tells_all", "honest", 12),
        ("erases_nothing", "deleted", 14),
        ("keeps_edits", "deleted", 14),
        ("ends_nothing", "ended", 14),
        ("erases_only_what_others_wrote", "taken-back", 14),
    ];
    let left = Mutex::new(bad_clients.into_iter());
    let next = || left.lock().expect("whoever takes one does not fail").next();
    let find_out = || {
        while let Some((bad, case, duty)) = next() {
            let (code, said) = conform(&[case], &command, &[("TERN_TEST", "conform_bad.py"), ("BAD", bad)]);
            let found = said.lines().any(|line| line.trim_start().starts_with(&format!("duty {duty}: ")));
            assert!(code == Some(1) && found, "{bad}: {said}");
        }
    };
    std::thread::scope(|scope| (0..AT_A_TIME).for_each(|_| drop(scope.spawn(find_out))));
}

#[test]
fn what_is_wrong_with_the_command_line_is_said() {
    let (code, said) = conform(&["nonsense"], &["true"], &[]);
    assert!(code == Some(2) && said.contains("--list"), "{said}");
    let (code, said) = conform(&["honest"], &["/nowhere/at/all"], &[]);
    assert!(code == Some(1) && said.contains("/nowhere/at/all"), "{said}");
    let list = Command::new(program("tern-conform")).arg("--list").output().expect("it runs");
    assert!(String::from_utf8_lossy(&list.stdout).lines().count() > 15);
}
