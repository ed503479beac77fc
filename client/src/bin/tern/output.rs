//! Standard output whose reader may have gone: that ends the program quietly, as a pipe's end does everywhere.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileTypeExt as _;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How often a pipe is looked at whose reader has not read everything.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Writes a line, and flushes. `false` if nobody reads any more, or it can't be written.
pub fn line(text: &str) -> bool {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush()).is_ok()
}

/// What has become of what was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Read {
    /// The reader has it; where that can't be known, the system has.
    Done,
    /// The reader has gone.
    Gone,
}

/// Watches whether what was written is read.
pub struct Reader {
    /// Standard output, if it is a pipe.
    pipe: Option<File>,
}

impl Reader {
    /// Of standard output.
    pub fn of_stdout() -> Self {
        let file = std::io::stdout().as_fd().try_clone_to_owned().map(File::from).ok();
        let is_pipe = |file: &File| file.metadata().is_ok_and(|data| data.file_type().is_fifo());
        Self { pipe: file.filter(is_pipe) }
    }

    /// Waits until what was written is read, or can't be any more. May be cancelled.
    pub async fn has_read(&self) -> Read {
        let Some(pipe) = &self.pipe else { return Read::Done };
        loop {
            let mut fds = [PollFd::new(pipe, PollFlags::OUT)];
            let gone = poll(&mut fds, Some(&Timespec::default())).is_ok()
                && fds[0].revents().intersects(PollFlags::ERR | PollFlags::HUP);
            if gone {
                return Read::Gone;
            }
            // A system that can't tell how much is unread has it at least.
            if rustix::io::ioctl_fionread(pipe).is_ok_and(|unread| unread == 0) {
                return Read::Done;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}
