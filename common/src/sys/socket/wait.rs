//! Calls on sockets that wait until a deadline.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

use super::send::send;
use crate::sys::process;
use crate::sys::timeout::timeout;

/// Interval of attempts to connect to a full backlog.
const FULL_PERIOD: Duration = Duration::from_millis(10);

/// Connects to the listener at `path`; waits until the deadline while its backlog is full. The
/// connection is non-blocking.
///
/// # Errors
/// As `connect(2)`: `WouldBlock` when there was no room.
pub fn connect_until(path: &Path, deadline: Instant) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let stream = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    let address = UnixAddr::new(path)?;
    loop {
        match connect(stream.as_raw_fd(), &address) {
            Err(Errno::EAGAIN) if Instant::now() < deadline => process::pause(FULL_PERIOD),
            result => return Ok(result.map(|()| stream.into())?),
        }
    }
}

/// Reads available input, and waits for some until the deadline; 0 at the end.
///
/// # Errors
/// As `read(2)`; `TimedOut` when nothing came.
pub fn read_until(stream: &UnixStream, bytes: &mut [u8], deadline: Instant) -> io::Result<usize> {
    until(stream, PollFlags::POLLIN, deadline, || Ok(nix::unistd::read(stream, bytes)?))
}

/// Writes as much as there is room for, and waits for some until the deadline.
///
/// # Errors
/// As `send(2)`; `TimedOut` when there was no room.
pub fn send_until(stream: &UnixStream, bytes: &[u8], deadline: Instant) -> io::Result<usize> {
    until(stream, PollFlags::POLLOUT, deadline, || send(stream, [bytes, &[]]))
}

/// Retries a call that would block, until the deadline.
fn until(
    stream: &UnixStream,
    events: PollFlags,
    deadline: Instant,
    mut action: impl FnMut() -> io::Result<usize>,
) -> io::Result<usize> {
    loop {
        let mut polled = [PollFd::new(stream.as_fd(), events)];
        let time = deadline.saturating_duration_since(Instant::now());
        if time.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match poll(&mut polled, timeout(time)) {
            Ok(0) | Err(Errno::EINTR) => continue,
            Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
        match action() {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            result => return result,
        }
    }
}
