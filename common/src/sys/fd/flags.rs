//! Flags and marks of open files.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::libc;

/// The kernel's numbers for the commands of [`mark`], which libc lacks.
const F_SETSIG: libc::c_int = 10;

const F_GETSIG: libc::c_int = 11;

/// Signal used as a mark, as no file is asked to send it; ours.
const MARK: libc::c_int = libc::SIGURG;

/// Marks an open file, across execs and other programs as well, by the signal that it would send if
/// it were asked to send any.
///
/// # Errors
/// As `fcntl(2)`.
pub fn mark(file: impl AsFd) -> io::Result<()> {
    // SAFETY: both arguments are numbers.
    let result = unsafe { libc::fcntl(file.as_fd().as_raw_fd(), F_SETSIG, MARK) };
    Errno::result(result)?;
    Ok(())
}

/// Returns whether an open file was [marked](mark).
pub fn is_marked(file: impl AsFd) -> bool {
    // SAFETY: both arguments are numbers.
    unsafe { libc::fcntl(file.as_fd().as_raw_fd(), F_GETSIG) == MARK }
}

/// Makes `fd` close-on-exec.
///
/// # Errors
/// As `fcntl(2)`.
pub fn set_cloexec(fd: impl AsFd) -> io::Result<()> {
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(())
}

/// Returns whether `fd` is open for reading.
#[must_use]
pub fn is_readable(fd: impl AsFd) -> bool {
    access_mode(fd).is_ok_and(|mode| mode != OFlag::O_WRONLY)
}

/// Returns whether `fd` is open for writing.
#[must_use]
pub fn is_writable(fd: impl AsFd) -> bool {
    access_mode(fd).is_ok_and(|mode| mode != OFlag::O_RDONLY)
}

/// Makes reads and writes of `fd` blocking.
///
/// # Errors
/// As `fcntl(2)`.
pub fn set_blocking(fd: impl AsFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd.as_fd(), FcntlArg::F_GETFL)?);
    if flags.contains(OFlag::O_NONBLOCK) {
        fcntl(fd, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK))?;
    }
    Ok(())
}

/// Makes reads and writes of `fd` fail with `EAGAIN` instead of blocking. The flag belongs to the
/// open file description, and so applies to all who share it.
///
/// # Errors
/// As `fcntl(2)`.
pub fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd.as_fd(), FcntlArg::F_GETFL)?);
    if !flags.contains(OFlag::O_NONBLOCK) {
        fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    }
    Ok(())
}

/// Makes every write of `fd` append to its file. The flag belongs to the open file description.
///
/// # Errors
/// As `fcntl(2)`.
pub fn set_append(fd: impl AsFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd.as_fd(), FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_APPEND))?;
    Ok(())
}

/// Returns whether every write of `fd` appends to its file.
#[must_use]
pub fn appends(fd: impl AsFd) -> bool {
    let flags = fcntl(fd, FcntlArg::F_GETFL).map(OFlag::from_bits_retain);
    flags.is_ok_and(|flags| flags.contains(OFlag::O_APPEND))
}

fn access_mode(fd: impl AsFd) -> nix::Result<OFlag> {
    Ok(OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?) & OFlag::O_ACCMODE)
}
