//! Whether the program is there and works: for the start of a server.

use std::fmt;
use std::io::Write as _;
use std::process::Stdio;

use crate::answer;
use crate::error::{How, PreviewError};
use crate::pool::Previews;

/// A PNG of one red pixel.
const PICTURE: &[u8] = include_bytes!("check.png");

/// What is wrong with the program: the operator acts.
#[derive(Debug)]
pub enum CheckError {
    /// It makes no preview of a tiny picture: it is not there, can't lock itself in, or is of another version.
    Preview(PreviewError),
    /// It makes a wrong one.
    Wrong,
    /// It is not killed when it tries what it may not.
    NotKilled,
}

impl fmt::Display for CheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Preview(error) => write!(f, "no preview of a tiny picture: {error}"),
            Self::Wrong => {
                f.write_str("a wrong preview of a tiny picture: is tern-preview of the same version?")
            }
            Self::NotKilled => f.write_str("tern-preview is not locked in: it may open files"),
        }
    }
}

impl std::error::Error for CheckError {}

impl Previews {
    /// Whether the program makes a preview, and is killed when it tries what it may not.
    pub async fn check(&self) -> Result<(), CheckError> {
        let bytes = self.run("image/png", pipe_of(PICTURE)?).await.map_err(CheckError::Preview)?;
        match answer::read(&bytes) {
            Ok(Ok(preview)) if preview.width == Some(1) && !preview.thumbnail.is_empty() => {}
            _ => return Err(CheckError::Wrong),
        }
        match self.run("--check", Stdio::null()).await {
            Err(PreviewError::Died { how: How::Forbidden }) => Ok(()),
            Err(error @ (PreviewError::Busy | PreviewError::Failed(_) | PreviewError::NoSandbox)) => {
                Err(CheckError::Preview(error))
            }
            _ => Err(CheckError::NotKilled),
        }
    }
}

/// A pipe that has these few bytes.
fn pipe_of(bytes: &[u8]) -> Result<std::io::PipeReader, CheckError> {
    let failed = |error| CheckError::Preview(PreviewError::Failed(error));
    let (reader, mut writer) = std::io::pipe().map_err(failed)?;
    // Fewer than a pipe holds: nobody need read meanwhile.
    writer.write_all(bytes).map_err(failed)?;
    Ok(reader)
}
