//! What all programs of tern say of themselves: which version, built from which commit; what a shell completes of their command
//! lines, and their man pages. A crate of its own, so that little is built again when the commit is another one.

#![cfg_attr(not(test), warn(clippy::too_many_lines))]

use std::io::Write as _;
use std::path::Path;

pub use clap_complete::Shell;

/// For `--version` and all that is printed or told: `0.1.0 (67df3d3 2026-11-26)`, with `, modified` behind the day if files
/// differed from the commit. Debug builds do not know theirs.
pub const VERSION: &str = env!("TERN_VERSION");

/// The commit as it stands in [`VERSION`]; empty if it is not known.
pub const COMMIT: &str = env!("TERN_COMMIT");

/// Prints what a shell needs to complete a program's command lines.
pub fn print_completions(mut command: clap::Command, shell: Shell) {
    let (name, mut script) = (command.get_name().to_owned(), Vec::new());
    clap_complete::generate(shell, &mut command, name, &mut script);
    // Who does not read all of it has enough.
    let _ = std::io::stdout().write_all(&script);
}

/// Writes the man pages of a program and its commands into a folder.
///
/// # Errors
/// If they can't be written.
pub fn write_man_pages(command: clap::Command, folder: &Path) -> std::io::Result<()> {
    clap_mangen::generate_to(command, folder)
}
