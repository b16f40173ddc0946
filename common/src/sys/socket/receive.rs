//! Receiving bytes with fds.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{MsgFlags, UnixAddr, recv, recvmsg};

use crate::sys::calls;

/// Fds of one control message, the kernel's limit. All are taken, so that none leaks.
const CONTROL_FDS_MAX: u32 = 253;

/// Bytes of a control message with so many fds.
// SAFETY: pure arithmetic.
const CONTROL_BYTES: usize =
    unsafe { libc::CMSG_SPACE(CONTROL_FDS_MAX * (RawFd::BITS / u8::BITS)) } as usize;

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
    let mut control = [0_u64; CONTROL_BYTES.div_ceil(size_of::<u64>())];
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: all-zero is a valid message header: no address, no parts, no control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the header's pointers are to `bytes` and `control`, which outlive the call, with
    // their lengths.
    let count = unsafe { libc::recvmsg(stream.as_fd().as_raw_fd(), &raw mut message, flags) };
    let count = calls::or_else(Errno::result(count).map_err(io::Error::from), || {
        // The kernel closes fds that are not taken.
        Ok(nix::unistd::read(&stream, bytes)?.cast_signed())
    })?;
    let count = usize::try_from(count).unwrap_or(0);
    let fds = rights(&message);
    let is_whole = message.msg_flags & libc::MSG_CTRUNC == 0;
    let may_have_more = count == bytes.len() || !fds.is_empty() || !is_whole;
    Ok(Received { count, fds: if is_whole { fds } else { Vec::new() }, may_have_more })
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

/// Adopts all fds of a received message. (nix gives none at all when some were left out, and those
/// that did arrive would leak.)
fn rights(message: &libc::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: the kernel has filled in the header and its control data.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    // SAFETY: a header that is not null lies in the control data, as does what it says follows.
    while let Some(control) = unsafe { header.as_ref() } {
        if (control.cmsg_level, control.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            // SAFETY: pure arithmetic on the header's own address.
            let data = unsafe { libc::CMSG_DATA(header) };
            let before = data.addr() - header.addr();
            for index in 0..(control.cmsg_len.saturating_sub(before)) / size_of::<RawFd>() {
                let number = data.wrapping_add(index * size_of::<RawFd>()).cast::<RawFd>();
                // SAFETY: within the length that the kernel gave; it need not be aligned.
                let number = unsafe { number.read_unaligned() };
                // SAFETY: the kernel has just opened this fd for us; nothing else knows it.
                fds.push(unsafe { OwnedFd::from_raw_fd(number) });
            }
        }
        // SAFETY: both come from the message, as above.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    fds
}
