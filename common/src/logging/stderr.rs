//! Writing to stderr without blocking on its reader.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::libc;
use nix::sys::socket::{MsgFlags, send};
use nix::sys::stat::{SFlag, fstat};

/// Writes the beginning of `lines` to `fd`, whatever kind of file it is at this moment. Returns the
/// number of bytes written.
///
/// The fd's open file description is shared with the process that started us, so it must not be
/// made non-blocking. A pipe or terminal is opened anew instead; a socket has a flag per call.
///
/// # Errors
/// As `write(2)`; `WouldBlock` when the reader is behind.
pub(super) fn write(fd: BorrowedFd<'_>, lines: &[u8]) -> io::Result<usize> {
    match SFlag::from_bits_truncate(fstat(fd)?.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFSOCK => {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            Ok(send(fd.as_raw_fd(), lines, flags)?)
        }
        SFlag::S_IFIFO | SFlag::S_IFCHR => match open_again(fd) {
            Ok(mut file) => file.write(lines),
            Err(error) if cannot_open_again(&error) => Ok(nix::unistd::write(fd, lines)?),
            Err(error) => Err(error),
        },
        _ => Ok(nix::unistd::write(fd, lines)?),
    }
}

fn open_again(fd: BorrowedFd<'_>) -> io::Result<File> {
    File::options()
        .append(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Returns whether the file cannot be opened anew: another user's terminal, or no `/proc`.
fn cannot_open_again(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests;
