//! How the program `tern-preview` ends, beside signals.

/// The answer is written: a preview, or why there is none.
pub const ANSWERED: u8 = 0;

/// The arguments are none.
pub const USAGE: u8 = 2;

/// It can't be locked in, and has read nothing.
pub const NO_SANDBOX: u8 = 3;

/// A decoder has panicked.
pub const PANICKED: u8 = 4;

/// The file could not be read, or the answer not be written.
pub const FAILED: u8 = 5;

/// Of `--check`: it is locked in, and yet could open a file, or was told that it can't.
pub const NOT_KILLED: u8 = 6;
