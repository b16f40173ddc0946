//! Receiving bytes with fds.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{MsgFlags, UnixAddr, recv, recvmsg};

use super::peer::Peer;
use crate::sys::calls;

/// Fds of one control message, the kernel's limit. All are taken, so that none leaks.
const CONTROL_FDS_MAX: u32 = 253;

/// Bytes of a control message with so many fds, and of one with the sender's credentials.
// SAFETY: pure arithmetic.
const FDS_BYTES: usize =
    unsafe { libc::CMSG_SPACE(CONTROL_FDS_MAX * (RawFd::BITS / u8::BITS)) } as usize;
// SAFETY: pure arithmetic. They are three numbers.
const SENDER_BYTES: usize = unsafe { libc::CMSG_SPACE(3 * (u32::BITS / u8::BITS)) } as usize;

/// Result of a read.
#[derive(Debug)]
pub struct Received {
    /// Number of bytes; 0 at the end of the stream.
    pub count: usize,
    /// Fds that came with one of the bytes, close-on-exec.
    pub fds: Vec<OwnedFd>,
    /// There may be more to read.
    pub may_have_more: bool,
}

/// Reads into `bytes` without blocking, with the fds that came with one of them. The kernel stops
/// behind bytes that were sent together with fds, so there is at most one such byte; which one is
/// not known.
///
/// # Errors
/// As `recvmsg(2)`. When the kernel had to leave fds out, those that came are closed and the result
/// is no fd at all.
pub fn receive(stream: impl AsFd, bytes: &mut [u8]) -> io::Result<Received> {
    let part = calls::or_else(receive_part(stream.as_fd(), bytes, false), || {
        // The kernel closes fds that are not taken.
        let count = nix::unistd::read(&stream, bytes)?;
        Ok(Part { count, fds: Vec::new(), is_whole: true, sender: None })
    })?;
    let Part { count, fds, is_whole, .. } = part;
    let may_have_more = count == bytes.len() || !fds.is_empty() || !is_whole;
    Ok(Received { count, fds: if is_whole { fds } else { Vec::new() }, may_have_more })
}

/// What one call has received.
pub(super) struct Part {
    pub(super) count: usize,
    pub(super) fds: Vec<OwnedFd>,
    /// The kernel had to leave nothing out.
    pub(super) is_whole: bool,
    /// Credentials of the sender, if the socket asks for them.
    pub(super) sender: Option<Peer>,
}

/// Receives without blocking. With `keeps` the same is received once more.
///
/// # Errors
/// As `recvmsg(2)`.
pub(super) fn receive_part(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
    keeps: bool,
) -> io::Result<Part> {
    let mut control = [0_u64; (FDS_BYTES + SENDER_BYTES).div_ceil(size_of::<u64>())];
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: all-zero is a valid message header: no address, no parts, no control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    let peek = if keeps { libc::MSG_PEEK } else { 0 };
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC | peek;
    // SAFETY: the header's pointers are to `bytes` and `control`, which outlive the call, with
    // their lengths.
    let count = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
    let count = usize::try_from(Errno::result(count)?).unwrap_or(0);
    let (fds, sender) = control_of(&message);
    let is_whole = message.msg_flags & (libc::MSG_CTRUNC | libc::MSG_TRUNC) == 0;
    Ok(Part { count, fds, is_whole, sender })
}

/// Returns how many bytes there are to read, 1 at most, without blocking; 0 at the end.
///
/// # Errors
/// As `recv(2)`.
pub fn peek(stream: impl AsFd) -> io::Result<usize> {
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    let peeked = recv(stream.as_fd().as_raw_fd(), &mut [0], flags).map_err(io::Error::from);
    calls::or_else(peeked, || {
        let mut byte = [0];
        let mut parts = [IoSliceMut::new(&mut byte)];
        Ok(recvmsg::<UnixAddr>(stream.as_fd().as_raw_fd(), &mut parts, None, flags)?.bytes)
    })
}

/// Receives a message of up to `bytes_max` bytes and the fds that came with it.
///
/// # Errors
/// As [`receive`].
#[cfg(test)]
pub(crate) fn receive_datagram(
    socket: &std::os::unix::net::UnixDatagram,
    bytes_max: usize,
) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = vec![0; bytes_max];
    let Received { count, fds, .. } = receive(socket, &mut bytes)?;
    bytes.truncate(count);
    Ok((bytes, fds))
}

/// Adopts all fds of a received message, and reads its sender. (nix gives no fds at all when some
/// were left out, and those that did arrive would leak.)
fn control_of(message: &libc::msghdr) -> (Vec<OwnedFd>, Option<Peer>) {
    let (mut fds, mut sender) = (Vec::new(), None);
    // SAFETY: the kernel has filled in the header and its control data.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    // SAFETY: a header that is not null lies in the control data, as does what it says follows.
    while let Some(control) = unsafe { header.as_ref() } {
        // SAFETY: pure arithmetic on the header's own address.
        let data = unsafe { libc::CMSG_DATA(header) };
        let len = control.cmsg_len.saturating_sub(data.addr() - header.addr());
        match (control.cmsg_level, control.cmsg_type) {
            (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                for index in 0..len / size_of::<RawFd>() {
                    let number = data.wrapping_add(index * size_of::<RawFd>()).cast::<RawFd>();
                    // SAFETY: within the length that the kernel gave; it need not be aligned.
                    let number = unsafe { number.read_unaligned() };
                    // SAFETY: the kernel has just opened this fd for us; nothing else knows it.
                    fds.push(unsafe { OwnedFd::from_raw_fd(number) });
                }
            }
            (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if len >= size_of::<libc::ucred>() => {
                // SAFETY: within the length that the kernel gave; it need not be aligned.
                let found = unsafe { data.cast::<libc::ucred>().read_unaligned() };
                sender = Some(Peer { pid: found.pid, uid: found.uid, gid: found.gid });
            }
            _ => {}
        }
        // SAFETY: both come from the message, as above.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    (fds, sender)
}
