//! The processes that make previews: so many at once, and so many files in line.

use std::fs::File;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::answer;
use crate::error::{How, PreviewError};
use crate::exit;
use crate::kinds::has_previews;
use crate::limits::{ANSWER_BYTES_MAX, Limits};
use crate::preview::{Preview, TooLarge};

/// See the module. It needs a runtime of tokio with I/O and time.
#[derive(Debug)]
pub struct Previews {
    program: PathBuf,
    limits: Limits,
    /// Places of those that wait and of those that are made.
    places: Semaphore,
    processes: Semaphore,
}

impl Previews {
    /// Previews that this program makes: `tern-preview`, by its whole path.
    pub fn new(program: PathBuf, limits: Limits) -> Self {
        // None at all would be a line that never moves.
        let processes_max = limits.processes_max.clamp(1, Semaphore::MAX_PERMITS);
        let places_max = processes_max.saturating_add(limits.waiting_max).min(Semaphore::MAX_PERMITS);
        let (places, processes) = (Semaphore::new(places_max), Semaphore::new(processes_max));
        Self { program, limits, places, processes }
    }

    /// The preview of a file of this type, as RFC 6838 names it, from where the file is read next. Whoever no longer waits for it ends its
    /// process.
    ///
    /// The process has the file itself for its standard input: the server reads nothing of it.
    pub async fn make(&self, of: &str, file: File) -> Result<Preview, PreviewError> {
        if !has_previews(of) {
            return Err(PreviewError::Unsupported);
        }
        let metadata = file.metadata()?;
        if metadata.is_file() && metadata.len() > self.limits.file_bytes_max {
            return Err(PreviewError::TooLarge(TooLarge::Bytes));
        }
        let bytes = self.run(of, file).await?;
        let answer = answer::read(&bytes).map_err(|_| PreviewError::Died { how: How::Answer })?;
        Ok(answer?)
    }

    /// What the program answers when it is its turn.
    pub(crate) async fn run(&self, argument: &str, file: impl Into<Stdio>) -> Result<Vec<u8>, PreviewError> {
        let _place = self.places.try_acquire().map_err(|_| PreviewError::Busy)?;
        let _process = self.processes.acquire().await.expect("nobody closes it");
        let mut child = self.spawn(argument, file.into())?;
        let stdout = child.stdout.take().expect("it is a pipe");
        let ended = timeout(self.limits.wall_timeout, finish(&mut child, stdout)).await;
        let (answer, status) = match ended {
            Ok(Ok(ended)) => ended,
            Ok(Err(error)) => {
                child.kill().await?;
                return Err(error);
            }
            Err(_) => {
                child.kill().await?;
                return Err(PreviewError::TimedOut);
            }
        };
        died(status).map_or(Ok(answer), Err)
    }

    fn spawn(&self, argument: &str, file: Stdio) -> io::Result<Child> {
        Command::new(&self.program)
            .arg(argument)
            .args(self.limits.arguments())
            .env_clear()
            .current_dir("/")
            .stdin(file)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
    }
}

/// All that a process answers, and how it ends.
async fn finish(child: &mut Child, stdout: ChildStdout) -> Result<(Vec<u8>, ExitStatus), PreviewError> {
    let mut answer = Vec::new();
    stdout.take(ANSWER_BYTES_MAX as u64 + 1).read_to_end(&mut answer).await?;
    if answer.len() > ANSWER_BYTES_MAX {
        return Err(PreviewError::Died { how: How::Answer });
    }
    Ok((answer, child.wait().await?))
}

/// Why a process has ended without an answer; `None`: it has answered.
fn died(status: ExitStatus) -> Option<PreviewError> {
    let died = |how| Some(PreviewError::Died { how });
    match (status.code(), status.signal()) {
        (Some(code), _) if code == i32::from(exit::ANSWERED) => None,
        (Some(code), _) if code == i32::from(exit::NO_SANDBOX) => Some(PreviewError::NoSandbox),
        (Some(code), _) if code == i32::from(exit::PANICKED) => died(How::Panicked),
        (Some(code), _) => died(How::Exit(code)),
        (None, Some(libc::SIGXCPU)) => Some(PreviewError::TooLarge(TooLarge::Computing)),
        (None, Some(libc::SIGABRT)) => Some(PreviewError::TooLarge(TooLarge::Memory)),
        (None, Some(libc::SIGSYS)) => died(How::Forbidden),
        (None, signal) => died(How::Signal(signal.unwrap_or_default())),
    }
}
