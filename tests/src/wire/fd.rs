//! File descriptors beside bytes: the only `unsafe` of this crate.

#![expect(
    unsafe_code,
    reason = "numbers from recvmsg must get an owner; nix has no kcmp, no FIONREAD"
)]

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// Sends `bytes` with `fds` in one control message.
pub(crate) fn send(stream: &UnixStream, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
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

/// Fds of one message, the kernel's limit.
const MESSAGE_FDS_MAX: usize = 253;

/// Receives what there is now, a datagram or some bytes of a stream, and the file descriptors that came
/// with it; `None` when there is nothing. Returns its length, 0 at the end of a stream.
pub(crate) fn receive_now(
    socket: &impl AsRawFd,
    buffer: &mut [u8],
) -> io::Result<Option<(usize, Vec<OwnedFd>)>> {
    let mut iov = [IoSliceMut::new(buffer)];
    let mut control = nix::cmsg_space!([i32; MESSAGE_FDS_MAX], libc::ucred);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let received = match recvmsg::<()>(socket.as_raw_fd(), &mut iov, Some(&mut control), flags) {
        Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
        received => received?,
    };
    let mut fds = Vec::new();
    for message in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = message {
            fds.extend(numbers.into_iter().map(adopt));
        }
    }
    Ok(Some((received.bytes, fds)))
}

/// How many bytes wait in a pipe.
pub(crate) fn bytes_in_pipe(pipe: BorrowedFd<'_>) -> usize {
    let mut count = 0;
    // SAFETY: FIONREAD stores one int, and `count` is one.
    let asked = unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut count) };
    assert_eq!(asked, 0, "asking a pipe for its bytes");
    usize::try_from(count).unwrap_or(0)
}

/// Whether both are of one open file description.
pub(crate) fn is_same_description(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> bool {
    /// `KCMP_FILE` of `linux/kcmp.h`.
    const KCMP_FILE: libc::c_int = 0;
    let own = nix::unistd::getpid().as_raw();
    let (one, other) = (libc::c_long::from(one.as_raw_fd()), libc::c_long::from(other.as_raw_fd()));
    // SAFETY: kcmp takes numbers only, and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_kcmp, own, own, KCMP_FILE, one, other) == 0 }
}

#[expect(clippy::disallowed_methods, reason = "common::sys is not used in this crate")]
fn adopt(number: i32) -> OwnedFd {
    // SAFETY: the kernel has just made this number for us in recvmsg; nothing else knows it.
    unsafe { OwnedFd::from_raw_fd(number) }
}
