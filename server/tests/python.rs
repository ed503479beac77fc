//! docs/PROTOCOL.md is enough to write a client: the Python client that was written from it chats with the real ternd.

use std::path::Path;
use std::process::{Command, Stdio};

use tern_testkit::{Ternd, program};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn python_is_there() -> bool {
    let probe = Command::new("python3").args(["-c", "import venv, ensurepip"]).stderr(Stdio::null()).status();
    probe.is_ok_and(|status| status.success())
}

#[test]
#[allow(clippy::print_stderr, reason = "a test that is skipped says so")]
fn the_python_client_registers_chats_and_resumes() {
    if !python_is_there() {
        assert!(
            std::env::var_os("TERN_REQUIRE_PYTHON").is_none(),
            "python3 with venv is required, but not there"
        );
        eprintln!("SKIPPED: python3 with its venv module is not there");
        return;
    }
    let server = Ternd::start(4);
    let code_command =
        format!("{} --data-dir {} otp", program("ternctl").display(), server.data_dir().display());
    let output = Command::new("sh")
        .arg(Path::new(ROOT).join("clients/python/run-test.sh"))
        .arg(server.address().to_string())
        .arg(server.ca_file())
        .arg(code_command)
        .output()
        .expect("sh runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "the Python client failed:\n{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(said.lines().count() >= 15, "each check prints a line:\n{said}");
}
