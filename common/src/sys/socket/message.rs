//! Sockets that carry whole messages: datagrams, and packets over a connection.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, setsockopt,
    socket, sockopt,
};

use super::peer::Peer;
use super::receive::{Part, receive_part};
use crate::sys::process;

/// Connections that wait in the kernel to be accepted. Ours.
const BACKLOG: i32 = 30;

/// A message that was received, with what the kernel says about it.
#[derive(Debug)]
pub struct Message {
    /// Number of its bytes; 0 also at the end of a connection.
    pub count: usize,
    /// Its fds, close-on-exec.
    pub fds: Vec<OwnedFd>,
    /// Neither bytes nor fds had to be left out.
    pub is_whole: bool,
    /// Process that sent it, if the socket [asks for that](bind_messages). Its pid is 0 when it is
    /// outside this process's pid namespace.
    pub sender: Option<Peer>,
}

/// Receives the next message without blocking. With `keeps` it also stays where it is, to be
/// received once more.
///
/// # Errors
/// As `recvmsg(2)`.
pub fn receive_message(socket: impl AsFd, bytes: &mut [u8], keeps: bool) -> io::Result<Message> {
    let Part { count, fds, is_whole, sender } = receive_part(socket.as_fd(), bytes, keeps)?;
    Ok(Message { count, fds, is_whole, sender })
}

/// Makes a socket for datagrams whose senders are known, non-blocking: at `path`, which must not
/// exist, with the permission bits `mode`; without a path at an abstract address that the kernel
/// chooses.
///
/// # Errors
/// As `bind(2)`.
pub fn bind_messages(path: Option<(&Path, u32)>) -> io::Result<UnixDatagram> {
    let socket = unbound(SockType::Datagram)?;
    setsockopt(&socket, sockopt::PassCred, &true)?;
    bind_to(&socket, path)?;
    Ok(socket.into())
}

/// Listens for connections that carry whole messages, non-blocking, at an address as that of
/// [`bind_messages`]. Such a connection is a `UnixStream` here.
///
/// # Errors
/// As `bind(2)` and `listen(2)`.
pub fn listen_for_packets(path: Option<(&Path, u32)>) -> io::Result<UnixListener> {
    let socket = unbound(SockType::SeqPacket)?;
    bind_to(&socket, path)?;
    listen(&socket, Backlog::new(BACKLOG)?)?;
    Ok(socket.into())
}

/// Connects to [`listen_for_packets`], without waiting for room in its backlog.
///
/// # Errors
/// As `connect(2)`: `WouldBlock` when the backlog is full.
pub fn connect_for_packets(address: &UnixAddr) -> io::Result<UnixStream> {
    let socket = unbound(SockType::SeqPacket)?;
    connect(socket.as_raw_fd(), address)?;
    Ok(socket.into())
}

/// Returns whether a socket for datagrams is in use at `path`.
#[must_use]
pub fn is_bound_at(path: &Path) -> bool {
    let socket = unbound(SockType::Datagram);
    let (Ok(socket), Ok(address)) = (socket, UnixAddr::new(path)) else { return false };
    connect(socket.as_raw_fd(), &address).is_ok()
}

fn unbound(kind: SockType) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socket(AddressFamily::Unix, kind, flags, None)?)
}

fn bind_to(socket: &OwnedFd, path: Option<(&Path, u32)>) -> io::Result<()> {
    let number = socket.as_raw_fd();
    let Some((path, mode)) = path else {
        return Ok(bind(number, &UnixAddr::new_unnamed())?);
    };
    let address = UnixAddr::new(path)?;
    process::with_umask(!mode & 0o777, || Ok(bind(number, &address)?))
}

#[cfg(test)]
mod tests;
