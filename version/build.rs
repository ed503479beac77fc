//! Finds the commit that is built. Debug builds do not look: they would be built again with each commit.

use std::process::Command;

/// What a change of makes another program.
const SOURCES: [&str; 11] = [
    "proto",
    "wire",
    "storage",
    "shard",
    "server",
    "client",
    "tools",
    "bench",
    "testkit",
    "Cargo.toml",
    "Cargo.lock",
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=TERN_COMMIT");
    let is_release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    // Packagers build from an archive, and know the commit.
    let given = std::env::var("TERN_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = given.unwrap_or_else(|| if is_release { of_the_checkout() } else { String::new() });
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let full = match (commit.is_empty(), is_release) {
        (false, _) => format!("{version} ({commit})"),
        (true, true) => version,
        (true, false) => format!("{version} (debug build)"),
    };
    println!("cargo::rustc-env=TERN_COMMIT={commit}");
    println!("cargo::rustc-env=TERN_VERSION={full}");
}

/// The commit's short hash and day, and whether files differ from it; empty outside a checkout.
fn of_the_checkout() -> String {
    for source in SOURCES {
        println!("cargo::rerun-if-changed=../{source}");
    }
    let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) else { return String::new() };
    println!("cargo::rerun-if-changed={log}");
    let Some(commit) = git(&["log", "-1", "--format=%h %cs"]) else { return String::new() };
    let is_modified =
        git(&["status", "--porcelain", "--untracked-files=no"]).is_none_or(|files| !files.is_empty());
    if is_modified { commit + ", modified" } else { commit }
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
