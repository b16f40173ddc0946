//! Pipes, and moving bytes between them and files without reading them.
//!
//! Every function here is non-blocking towards pipes: an empty or full pipe is `WouldBlock`.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

mod ioctl {
    nix::ioctl_read_bad!(fionread, nix::libc::FIONREAD, nix::libc::c_int);
}

/// A pipe: (read end, write end), both close-on-exec and blocking.
///
/// # Errors
/// As `pipe2(2)`.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(nix::unistd::pipe2(OFlag::O_CLOEXEC)?)
}

/// Opens the read end of the pipe that `fd` is an end of once more.
///
/// # Errors
/// As `open(2)`: `ENOENT` where there is no `/proc`.
pub fn reader_of(fd: impl AsFd) -> io::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    Ok(nix::fcntl::open(path.as_str(), flags, nix::sys::stat::Mode::empty())?)
}

/// Whether `fd` is a pipe.
#[must_use]
pub fn is_pipe(fd: impl AsFd) -> bool {
    capacity_bytes(fd).is_ok()
}

/// How many bytes can be read from `fd` now.
///
/// # Errors
/// As `ioctl(2)`.
pub fn readable_bytes(fd: impl AsFd) -> io::Result<usize> {
    use std::os::fd::AsRawFd;
    let mut count = 0;
    // SAFETY: FIONREAD writes one int, and `count` is one that outlives the call.
    unsafe { ioctl::fionread(fd.as_fd().as_raw_fd(), &raw mut count) }?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// How many bytes the pipe holds at the most, when its pages are well filled.
///
/// # Errors
/// As `fcntl(2)`; `EBADF` when `fd` is no pipe.
pub fn capacity_bytes(fd: impl AsFd) -> io::Result<usize> {
    Ok(usize::try_from(fcntl(fd, FcntlArg::F_GETPIPE_SZ)?).unwrap_or(0))
}

/// Asks for a pipe of at least `bytes`. The kernel may refuse an unprivileged process.
///
/// # Errors
/// As `fcntl(2)`; the pipe keeps its size then.
pub fn set_capacity_bytes(fd: impl AsFd, bytes: i32) -> io::Result<()> {
    fcntl(fd, FcntlArg::F_SETPIPE_SZ(bytes))?;
    Ok(())
}

/// Moves up to `len` bytes from one pipe into another. 0 means that `from` is empty and has no
/// writer any more.
///
/// # Errors
/// As `splice(2)`; `WouldBlock` when `from` is empty or `to` is full. Nothing is lost.
pub fn splice_to_pipe(from: impl AsFd, to: impl AsFd, len: usize) -> io::Result<usize> {
    Ok(nix::fcntl::splice(from, None, to, None, len, SpliceFFlags::SPLICE_F_NONBLOCK)?)
}

/// Moves up to `len` bytes from a pipe into a file at `offset`. What could not be stored stays in
/// the pipe.
///
/// # Errors
/// As `splice(2)`: `EINVAL` from a file system that cannot splice, `ENOSPC` and the like from one
/// that cannot store. Nothing is consumed then.
pub fn splice_to_file(
    from: impl AsFd,
    to: impl AsFd,
    offset: u64,
    len: usize,
) -> io::Result<usize> {
    let mut offset = i64::try_from(offset).map_err(|_| Errno::EFBIG)?;
    let flags = SpliceFFlags::SPLICE_F_NONBLOCK;
    Ok(nix::fcntl::splice(from, None, to, Some(&mut offset), len, flags)?)
}

/// Copies up to `len` bytes from one pipe into another without consuming them.
///
/// # Errors
/// As `tee(2)`; `WouldBlock` when `from` is empty or `to` is full.
pub fn tee(from: impl AsFd, to: impl AsFd, len: usize) -> io::Result<usize> {
    Ok(nix::fcntl::tee(from, to, len, SpliceFFlags::SPLICE_F_NONBLOCK)?)
}

/// Reads into `buffer`.
///
/// # Errors
/// As `read(2)`.
pub fn read(fd: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(nix::unistd::read(fd, buffer)?)
}

/// What a pipe's reader can expect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing at present.
    Empty,
    /// Bytes.
    Waiting,
    /// Nothing ever again: it is empty and nobody can write into it any more.
    AtEnd,
}

/// What can be expected of the pipe's read end `fd`.
///
/// # Errors
/// As `poll(2)`.
pub fn state(fd: impl AsFd) -> io::Result<State> {
    let seen = look(fd)?;
    Ok(if seen.contains(PollFlags::POLLIN) {
        State::Waiting
    } else if seen.contains(PollFlags::POLLHUP) {
        State::AtEnd
    } else {
        State::Empty
    })
}

/// Whether nobody can write into the pipe any more, whatever it holds.
///
/// # Errors
/// As `poll(2)`.
pub fn has_no_writer(fd: impl AsFd) -> io::Result<bool> {
    Ok(look(fd)?.contains(PollFlags::POLLHUP))
}

/// Waits until nothing can be written into the pipe any more; `false` when `patience` was not enough.
pub fn wait_for_end(fd: impl AsFd, patience: Duration) -> bool {
    let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
    look_for(fd, timeout).is_ok_and(|seen| seen.contains(PollFlags::POLLHUP))
}

fn look(fd: impl AsFd) -> io::Result<PollFlags> {
    look_for(fd, PollTimeout::ZERO)
}

fn look_for(fd: impl AsFd, timeout: PollTimeout) -> io::Result<PollFlags> {
    let mut polled = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    poll(&mut polled, timeout)?;
    let [polled] = polled;
    Ok(polled.revents().unwrap_or(PollFlags::empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_without_a_writer_is_at_its_end_once_it_is_empty() {
        let (reader, writer) = pipe().unwrap();
        assert!(!has_no_writer(&reader).unwrap());
        assert_eq!(state(&reader).unwrap(), State::Empty);
        nix::unistd::write(&writer, b"x").unwrap();
        drop(writer);
        assert!(has_no_writer(&reader).unwrap());
        assert_eq!(state(&reader).unwrap(), State::Waiting);
        read(&reader, &mut [0]).unwrap();
        assert_eq!(state(&reader).unwrap(), State::AtEnd);
    }
}
