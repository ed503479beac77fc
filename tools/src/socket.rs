//! The admin socket from the asking side: a line of JSON in, lines of JSON out.

use std::fmt;
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Why there is no answer.
#[derive(Debug)]
pub enum AskError {
    /// Nothing answers at the socket.
    Unreachable(PathBuf, std::io::Error),
    /// The answer broke off, or is none.
    Broken(String),
    /// `ternd` said no.
    Refused(String),
    /// A file can't be written.
    File(PathBuf, std::io::Error),
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(path, error) if error.kind() == std::io::ErrorKind::PermissionDenied => write!(
                f,
                "{} may not be opened by this user: run ternctl as the user that ternd runs as, or as root",
                path.display()
            ),
            Self::Unreachable(path, error) => write!(
                f,
                "no ternd answers at {}: {error} (is it running, and is this its data directory? see --data-dir)",
                path.display()
            ),
            Self::Broken(why) => write!(f, "ternd's answer can't be used: {why}"),
            Self::Refused(why) => write!(f, "{why}"),
            Self::File(path, error) => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for AskError {}

/// The lines of an answer.
pub struct Answers(Lines<BufReader<UnixStream>>);

/// Asks a question.
pub fn ask(path: &Path, question: &Value) -> Result<Answers, AskError> {
    let unreachable = |error| AskError::Unreachable(path.to_owned(), error);
    let mut socket = UnixStream::connect(path).map_err(unreachable)?;
    writeln!(socket, "{question}").map_err(unreachable)?;
    Ok(Answers(BufReader::new(socket).lines()))
}

impl Answers {
    /// The next part of the answer.
    pub fn next(&mut self) -> Result<Value, AskError> {
        let line = match self.0.next() {
            Some(Ok(line)) => line,
            Some(Err(error)) => return Err(AskError::Broken(error.to_string())),
            None => return Err(AskError::Broken("it broke off".to_owned())),
        };
        let mut answer: Value =
            serde_json::from_str(&line).map_err(|error| AskError::Broken(error.to_string()))?;
        match (answer.get_mut("ok").map(Value::take), answer["error"].as_str()) {
            (Some(ok), None) => Ok(ok),
            (_, Some(why)) => Err(AskError::Refused(why.to_owned())),
            (None, None) => Err(AskError::Broken("it is neither ok nor an error".to_owned())),
        }
    }
}
