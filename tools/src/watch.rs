//! Shows something again and again until it is over. Ending it changes nothing.

use std::io::{IsTerminal as _, Write as _};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::socket::AskError;

/// How often it looks.
const EVERY: Duration = Duration::from_millis(250);

/// A line of a terminal of 80 columns, without the last.
pub const LINE_MAX: usize = 79;

/// What is shown of it.
pub type Line = fn(&Value) -> String;

/// What a line that is written over again and again has room for.
pub fn fitted(line: &str) -> String {
    line.chars().take(LINE_MAX).collect()
}

/// Shows what is asked for until it is over, and gives the last of it: as JSON, as a line that is written over on a terminal, or a line each time.
pub fn watch(
    json: bool,
    ask: impl Fn() -> Result<Value, AskError>,
    is_over: impl Fn(&Value) -> bool,
    (short_line, line): (Line, Line),
) -> Result<Value, AskError> {
    let on_terminal = std::io::stdout().is_terminal() && !json;
    loop {
        let status = ask()?;
        let is_over = is_over(&status);
        match (json, on_terminal) {
            (true, _) => say!("{status}"),
            (false, true) => {
                let end = if is_over { "\n" } else { "" };
                if write!(std::io::stdout(), "\r\x1b[K{}{end}", short_line(&status)).is_err() {
                    std::process::exit(1);
                }
                let _ = std::io::stdout().flush();
            }
            (false, false) => say!("{}", line(&status)),
        }
        if is_over {
            return Ok(status);
        }
        thread::sleep(EVERY);
    }
}
