//! Pipes, and moving bytes between them and files without reading them.
//!
//! Every function here is non-blocking towards pipes: an empty or full pipe is `WouldBlock`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::calls::{self, is_unknown};
use super::fd;
use super::timeout::timeout;

/// Bytes that are written into a pipe at once or not at all (`PIPE_BUF`).
pub const ATOMIC_BYTES: usize = 4096;

/// Default capacity of a pipe in bytes.
const DEFAULT_BYTES: i32 = 65_536;

/// Usual limit of a pipe's capacity for an unprivileged process, in bytes.
const LARGE_BYTES: usize = 1_048_576;

mod ioctl {
    nix::ioctl_read_bad!(fionread, nix::libc::FIONREAD, nix::libc::c_int);
}

/// Makes a pipe: (read end, write end), both close-on-exec and blocking.
///
/// # Errors
/// As `pipe2(2)`.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(nix::unistd::pipe2(OFlag::O_CLOEXEC)?)
}

/// Opens another read end of the pipe that `fd` is an end of.
///
/// # Errors
/// As `open(2)`: `ENOENT` without `/proc`.
pub fn reader_of(fd: impl AsFd) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    Ok(nix::fcntl::open(path.as_str(), flags, nix::sys::stat::Mode::empty())?)
}

/// Returns whether `fd` is a pipe.
#[must_use]
pub fn is_pipe(fd: impl AsFd) -> bool {
    fd::kind(fd) == libc::S_IFIFO
}

/// Returns whether `reader` and `writer` are the two ends of one pipe.
#[must_use]
pub fn are_ends(reader: impl AsFd, writer: impl AsFd) -> bool {
    let pipe = |fd: BorrowedFd<'_>| fd::device_and_inode(fd).ok().filter(|_| is_pipe(fd));
    let [reader, writer] = [reader.as_fd(), writer.as_fd()];
    let are_open_as_such = fd::is_readable(reader) && fd::is_writable(writer);
    are_open_as_such && pipe(reader).is_some_and(|read| pipe(writer) == Some(read))
}

/// Returns how many bytes can be read from a pipe now; [`None`] for some if they cannot be counted.
///
/// # Errors
/// As `ioctl(2)`.
pub fn counted_bytes(fd: impl AsFd) -> io::Result<Option<usize>> {
    let mut count = 0;
    let number = fd.as_fd().as_raw_fd();
    // SAFETY: FIONREAD writes one int, and `count` is one that outlives the call.
    let counted = unsafe { ioctl::fionread(number, &raw mut count) };
    let counted = counted.map(|_| Some(usize::try_from(count).unwrap_or(0)));
    calls::or_else(counted.map_err(io::Error::from), || {
        Ok(if state(&fd)? == State::Waiting { count_copies(&fd).ok() } else { Some(0) })
    })
}

/// Counts copies of the bytes in a pipe, up to the capacity of another one.
fn count_copies(fd: impl AsFd) -> io::Result<usize> {
    let (_reader, writer) = pipe()?;
    let capacity_bytes = capacity_bytes(&fd)?;
    // With a smaller capacity the rest is counted next time.
    set_capacity_bytes(&writer, i32::try_from(capacity_bytes).unwrap_or(i32::MAX)).ok();
    tee(fd, &writer, capacity_bytes)
}

/// Returns how many bytes can be read from a pipe now. If they cannot be counted, a non-empty pipe
/// counts as full.
///
/// # Errors
/// As `ioctl(2)`.
pub fn readable_bytes(fd: impl AsFd) -> io::Result<usize> {
    match counted_bytes(&fd)? {
        Some(count) => Ok(count),
        None => capacity_bytes(fd),
    }
}

/// Returns the capacity of a pipe in bytes, with its pages well filled.
///
/// # Errors
/// As `fcntl(2)`; `EBADF` when `fd` is no pipe.
pub fn capacity_bytes(fd: impl AsFd) -> io::Result<usize> {
    let fd = fd.as_fd();
    match fcntl(fd, FcntlArg::F_GETPIPE_SZ).map_err(io::Error::from) {
        // Without the command the capacity cannot have been changed.
        Err(error) if is_unknown(&error) && is_pipe(fd) => Ok(usual_bytes()),
        result => Ok(usize::try_from(result?).unwrap_or(0)),
    }
}

/// Requests a capacity of at least `bytes`, and returns the new capacity. The kernel may refuse an
/// unprivileged process.
///
/// # Errors
/// As `fcntl(2)`; the capacity is unchanged then.
pub fn set_capacity_bytes(fd: impl AsFd, bytes: i32) -> io::Result<usize> {
    Ok(usize::try_from(fcntl(fd, FcntlArg::F_SETPIPE_SZ(bytes))?).unwrap_or(0))
}

/// Returns the capacity of a pipe that may have been enlarged. If it cannot be read, it is reset to
/// the default.
///
/// # Errors
/// As [`capacity_bytes`].
pub fn inherited_capacity_bytes(fd: impl AsFd) -> io::Result<usize> {
    match fcntl(&fd, FcntlArg::F_GETPIPE_SZ) {
        Err(errno) if is_unknown(&errno.into()) && is_pipe(&fd) => {
            match set_capacity_bytes(&fd, DEFAULT_BYTES) {
                // It holds more at present.
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(LARGE_BYTES),
                result => Ok(result.unwrap_or(usual_bytes())),
            }
        }
        _ => capacity_bytes(fd),
    }
}

/// Moves up to `len` bytes from one pipe into another. Returns 0 if `from` is empty and has no
/// writer.
///
/// # Errors
/// As `splice(2)`; `WouldBlock` when `from` is empty or `to` is full. Nothing is lost.
pub fn splice_to_pipe(from: impl AsFd, to: impl AsFd, len: usize) -> io::Result<usize> {
    Ok(nix::fcntl::splice(from, None, to, None, len, SpliceFFlags::SPLICE_F_NONBLOCK)?)
}

/// Moves up to `len` bytes from a pipe into a file at `offset`. Bytes that cannot be stored stay in
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

/// Writes up to [`ATOMIC_BYTES`], all of them or none.
///
/// # Errors
/// As `write(2)`; `WouldBlock` when there is no room.
pub fn write(fd: impl AsFd, bytes: &[u8]) -> io::Result<()> {
    if !has_room(&fd)? {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    nix::unistd::write(fd, bytes.get(..ATOMIC_BYTES).unwrap_or(bytes))?;
    Ok(())
}

/// Returns whether [`ATOMIC_BYTES`] can be written into the pipe without blocking.
///
/// # Errors
/// As `poll(2)`.
pub fn has_room(fd: impl AsFd) -> io::Result<bool> {
    Ok(look_for(fd, PollFlags::POLLOUT, PollTimeout::ZERO)?.contains(PollFlags::POLLOUT))
}

/// State of a pipe, as seen by its reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No bytes at present.
    Empty,
    /// Bytes are there.
    Waiting,
    /// Empty, and without a writer.
    AtEnd,
}

/// Returns the state of the read end `fd`.
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

/// Returns whether the pipe has no writer any more, whatever it holds.
///
/// # Errors
/// As `poll(2)`.
pub fn has_no_writer(fd: impl AsFd) -> io::Result<bool> {
    Ok(look(fd)?.contains(PollFlags::POLLHUP))
}

/// Returns whether the pipe of the write end `fd` has no reader any more.
///
/// # Errors
/// As `poll(2)`.
pub fn has_no_reader(fd: impl AsFd) -> io::Result<bool> {
    Ok(look(fd)?.contains(PollFlags::POLLERR))
}

/// Waits until the pipe has no writer any more; `false` when `patience` was too short.
pub fn wait_for_end(fd: impl AsFd, patience: Duration) -> bool {
    look_for(fd, PollFlags::POLLIN, timeout(patience))
        .is_ok_and(|seen| seen.contains(PollFlags::POLLHUP))
}

/// Returns the default capacity of a pipe.
#[must_use]
pub fn usual_bytes() -> usize {
    DEFAULT_BYTES.unsigned_abs() as usize
}

fn look(fd: impl AsFd) -> io::Result<PollFlags> {
    look_for(fd, PollFlags::POLLIN, PollTimeout::ZERO)
}

fn look_for(fd: impl AsFd, events: PollFlags, timeout: PollTimeout) -> io::Result<PollFlags> {
    let mut polled = [PollFd::new(fd.as_fd(), events)];
    poll(&mut polled, timeout)?;
    let [polled] = polled;
    Ok(polled.revents().unwrap_or(PollFlags::empty()))
}

#[cfg(test)]
mod tests;
