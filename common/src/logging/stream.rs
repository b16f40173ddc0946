//! Destination of lines: a file or stderr. A call on either may block for ever, on a hanging disk
//! or on the reader of a pipe.

use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::libc;
use nix::poll::{PollFd, PollFlags, poll};

use super::{Error, stderr};
use crate::sys::process;
use crate::sys::timeout::timeout;

/// Bytes of one write, the kernel's `PIPE_BUF`: they stay together in a pipe with other writers. A
/// longer line is a write of its own.
const PIECE_BYTES: usize = 4096;

/// Pause before the next write to a reader that was behind.
const PAUSE: Duration = Duration::from_millis(5);

/// A file or stderr.
#[derive(Debug)]
pub(super) enum Stream {
    /// The file open as fd 2 at the time.
    Stderr,
    File(LogFile),
}

/// A log file.
#[derive(Debug)]
pub(super) struct LogFile {
    pub(super) path: PathBuf,
    /// Create the directory: that of the daemon's default log need not exist.
    pub(super) makes_directory: bool,
    /// `None` until it is opened.
    pub(super) file: Option<File>,
}

impl Stream {
    /// Returns whether it is open.
    pub(super) fn is_open(&self) -> bool {
        match self {
            Self::Stderr => true,
            Self::File(log) => log.file.is_some(),
        }
    }

    /// Opens it, unless it is open.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub(super) fn open(&mut self) -> Result<(), Error> {
        match self {
            Self::File(log) if log.file.is_none() => {
                log.file = Some(open(&log.path, log.makes_directory)?);
                Ok(())
            }
            Self::Stderr | Self::File(_) => Ok(()),
        }
    }

    /// Closes it. stderr stays open.
    pub(super) fn close(&mut self) {
        if let Self::File(log) = self {
            log.file = None;
        }
    }

    /// Writes the beginning of `lines`, and returns the number of bytes written.
    ///
    /// # Errors
    /// As `write(2)`; `WouldBlock` when the reader of a pipe, terminal or socket is behind.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let piece = whole_lines(lines);
        match self {
            Self::Stderr => stderr::write(io::stderr().as_fd(), piece),
            Self::File(LogFile { file: Some(file), .. }) => file.write(piece),
            Self::File(LogFile { file: None, .. }) => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Waits until a reader that was behind may have caught up.
    pub(super) fn wait(&self, period: Duration) {
        let stderr = io::stderr();
        let fd: BorrowedFd<'_> = match self {
            Self::File(LogFile { file: Some(file), .. }) => file.as_fd(),
            Self::Stderr | Self::File(_) => stderr.as_fd(),
        };
        // The next write shows the result.
        if !matches!(poll(&mut [PollFd::new(fd, PollFlags::POLLOUT)], timeout(period)), Ok(0)) {
            process::pause(PAUSE);
        }
    }
}

/// Opens a log file. A FIFO without a reader fails at once instead of blocking.
///
/// # Errors
/// [`Error::Open`].
pub(super) fn open(path: &Path, makes_directory: bool) -> Result<File, Error> {
    let failed = |source| Error::Open { path: path.to_owned(), source };
    if let Some(directory) = path.parent().filter(|_| makes_directory) {
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    }
    let mut options = File::options();
    options.append(true).create(true).mode(0o600);
    options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path).map_err(failed)
}

/// Returns as many lines as fit in one piece, or the first.
fn whole_lines(lines: &[u8]) -> &[u8] {
    let piece = lines.get(..PIECE_BYTES).unwrap_or(lines);
    if piece.len() == lines.len() {
        return piece;
    }
    let is_end = |byte: &u8| *byte == b'\n';
    let end = piece.iter().rposition(is_end).or_else(|| lines.iter().position(is_end));
    end.and_then(|end| lines.get(..=end)).unwrap_or(lines)
}
