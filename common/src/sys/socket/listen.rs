//! Listening sockets.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, connect, getsockopt, listen, socket,
    sockopt,
};

use crate::sys::{calls, fd, process};

/// Connections that wait in the kernel to be accepted, libvirt's value.
const BACKLOG: i32 = 30;

/// Listens at `path`, which must not exist, with exactly the permission bits `mode`.
///
/// # Errors
/// As `bind(2)` and `listen(2)`; a path over 107 bytes is `InvalidInput`.
pub fn listen_at(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let listener = process::with_umask(!mode & 0o777, || UnixListener::bind(path))?;
    start_listening(&listener)?;
    Ok(listener)
}

/// Returns whether a process listens at `path`, without waiting for an answer.
#[must_use]
pub fn is_listened_at(path: &Path) -> bool {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let address = UnixAddr::new(path);
    let stream = socket(AddressFamily::Unix, SockType::Stream, flags, None);
    let (Ok(address), Ok(stream)) = (address, stream) else { return false };
    // A full backlog would make the connection wait: there is a listener.
    matches!(connect(stream.as_raw_fd(), &address), Ok(()) | Err(Errno::EAGAIN))
}

/// Accepts the next pending connection, non-blocking.
///
/// # Errors
/// As `accept(2)`; `WouldBlock` when none is pending.
pub fn accept(listener: &UnixListener) -> io::Result<UnixStream> {
    let stream = calls::or_else(listener.accept().map(|(stream, _)| stream), || {
        // SAFETY: without memory for an address it takes numbers only.
        let number = unsafe {
            libc::accept(listener.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut())
        };
        // SAFETY: the kernel has just opened this fd for us; nothing else knows its number.
        let fd = Errno::result(number).map(|number| unsafe { OwnedFd::from_raw_fd(number) })?;
        fd::set_cloexec(&fd)?;
        Ok(fd.into())
    })?;
    fd::set_nonblocking(&stream)?;
    Ok(stream)
}

/// Converts a bound stream socket to a listener, and makes it listen if it does not yet.
///
/// # Errors
/// `EINVAL` when it is no Unix stream socket, else as `listen(2)`. The fd is closed.
pub fn listener_from(fd: OwnedFd) -> io::Result<UnixListener> {
    let listener = UnixListener::from(fd);
    listener.local_addr()?;
    if getsockopt(&listener, sockopt::SockType)? != SockType::Stream {
        return Err(Errno::EINVAL.into());
    }
    start_listening(&listener)?;
    Ok(listener)
}

/// Returns whether `fd` is a stream socket that listens at `path`.
#[must_use]
pub fn is_listener_at(fd: BorrowedFd<'_>, path: &Path) -> bool {
    let address = nix::sys::socket::getsockname::<UnixAddr>(fd.as_raw_fd());
    is_listening(fd) && address.is_ok_and(|address| address.path() == Some(path))
}

/// Returns whether `fd` is a listening socket, of any family.
#[must_use]
pub fn is_listening(fd: impl AsFd) -> bool {
    getsockopt(&fd, sockopt::AcceptConn).unwrap_or(false)
}

/// Returns the path that a listener is bound to, if any.
#[must_use]
pub fn bound_path(listener: &UnixListener) -> Option<PathBuf> {
    listener.local_addr().ok()?.as_pathname().map(Path::to_owned)
}

fn start_listening(listener: &UnixListener) -> io::Result<()> {
    let listening = listen(&listener.as_fd(), Backlog::new(BACKLOG)?);
    // One that was handed over goes on with the backlog that it has.
    if !is_listening(listener) {
        listening?;
    }
    fd::set_nonblocking(listener)?;
    fd::set_cloexec(listener)
}
