//! File descriptors beside bytes: the only `unsafe` of this crate.

#![expect(unsafe_code, reason = "recvmsg hands out bare numbers that must get an owner")]

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// Sends `bytes` with `fds` in one control message.
pub(super) fn send(stream: &UnixStream, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let numbers: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let control = if fds.is_empty() { &[][..] } else { &rights };
    let iov = [IoSlice::new(bytes)];
    Ok(sendmsg::<()>(stream.as_raw_fd(), &iov, control, MsgFlags::MSG_NOSIGNAL, None)?)
}

/// Receives one byte and the file descriptors that came with it; `None` at end of file.
pub(super) fn receive(stream: &UnixStream) -> io::Result<Option<(u8, Vec<OwnedFd>)>> {
    let mut byte = [0];
    let mut iov = [IoSliceMut::new(&mut byte)];
    let mut control = nix::cmsg_space!([i32; 4]);
    let received = recvmsg::<()>(
        stream.as_raw_fd(),
        &mut iov,
        Some(&mut control),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    if received.bytes == 0 {
        return Ok(None);
    }
    let mut fds = Vec::new();
    for message in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = message {
            fds.extend(numbers.into_iter().map(adopt));
        }
    }
    Ok(Some((byte[0], fds)))
}

#[expect(clippy::disallowed_methods, reason = "common::sys is not used in this crate")]
fn adopt(number: i32) -> OwnedFd {
    // SAFETY: the kernel has just made this number for us in recvmsg; nothing else knows it.
    unsafe { OwnedFd::from_raw_fd(number) }
}
