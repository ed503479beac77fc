//! Which version of tern this is, and which commit it was built from. A crate of its own, so that little is built again when
//! the commit is another one.

/// For `--version` and all that is printed or told: `0.1.0 (67df3d3 2026-11-26)`, with `, modified` behind the day if files
/// differed from the commit. Debug builds do not know theirs.
pub const VERSION: &str = env!("TERN_VERSION");

/// The commit as it stands in [`VERSION`]; empty if it is not known.
pub const COMMIT: &str = env!("TERN_COMMIT");
