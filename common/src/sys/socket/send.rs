//! Sending bytes with fds.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;

use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};

use crate::sys::calls;

/// Total size up to which two parts are copied together, which is cheaper than a gathering write.
const TOGETHER_BYTES_MAX: usize = 256;

/// Sends never block, and a closed peer is an error instead of a signal.
const SEND_FLAGS: MsgFlags = MsgFlags::MSG_DONTWAIT.union(MsgFlags::MSG_NOSIGNAL);

/// Writes two parts, one behind the other, as far as there is room: without blocking and without
/// `SIGPIPE`. Returns the number of bytes written.
///
/// # Errors
/// As `send(2)`.
pub fn send(stream: &UnixStream, parts: [&[u8]; 2]) -> io::Result<usize> {
    let mut together = [0; TOGETHER_BYTES_MAX];
    let [first, second] = parts;
    if let Some(room) = together.get_mut(..first.len() + second.len()) {
        let (front, back) = room.split_at_mut(first.len());
        front.copy_from_slice(first);
        back.copy_from_slice(second);
        let sent = nix::sys::socket::send(stream.as_raw_fd(), room, SEND_FLAGS);
        return calls::or_else(sent.map_err(io::Error::from), || gather(stream, parts));
    }
    gather(stream, parts)
}

/// Sends one zero byte that carries `fd`.
///
/// # Errors
/// As `sendmsg(2)`.
pub fn send_fd(stream: &UnixStream, fd: BorrowedFd<'_>) -> io::Result<()> {
    let fds = [fd.as_raw_fd()];
    sendmsg::<UnixAddr>(
        stream.as_raw_fd(),
        &[IoSlice::new(&[0])],
        &[ControlMessage::ScmRights(&fds)],
        SEND_FLAGS,
        None,
    )?;
    Ok(())
}

/// Sends a message with fds over a connected socket, of datagrams or packets, without blocking.
///
/// # Errors
/// As `sendmsg(2)`: `EAGAIN` when the receiver's queue is full.
pub fn send_datagram(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    send_message(socket.as_fd(), None, bytes, fds)
}

/// Sends a message with fds to the socket at `address`, without blocking.
///
/// # Errors
/// As `sendmsg(2)`.
pub fn send_datagram_to(
    socket: &UnixDatagram,
    address: &Path,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    send_message(socket.as_fd(), Some(UnixAddr::new(address)?), bytes, fds)
}

fn gather(stream: &UnixStream, parts: [&[u8]; 2]) -> io::Result<usize> {
    let parts = parts.map(IoSlice::new);
    Ok(sendmsg::<UnixAddr>(stream.as_raw_fd(), &parts, &[], SEND_FLAGS, None)?)
}

fn send_message(
    socket: BorrowedFd<'_>,
    address: Option<UnixAddr>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let numbers: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let rights = if fds.is_empty() { &[][..] } else { &rights };
    sendmsg(socket.as_raw_fd(), &[IoSlice::new(bytes)], rights, SEND_FLAGS, address.as_ref())?;
    Ok(())
}
