//! Identity of the peer of a socket.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};

/// Bytes of a security label; SELinux's own contexts stay far below.
const LABEL_BYTES_MAX: usize = 4096;

/// Process at the other end, as recorded when it connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Process id.
    pub pid: i32,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Returns the credentials of the peer.
///
/// # Errors
/// As `getsockopt(2)`.
pub fn peer(stream: &UnixStream) -> io::Result<Peer> {
    let credentials = getsockopt(stream, sockopt::PeerCredentials)?;
    Ok(Peer { pid: credentials.pid(), uid: credentials.uid(), gid: credentials.gid() })
}

/// Returns a pidfd of the process that connected, which identifies it even after its number was
/// reused. Linux 6.5 and newer.
///
/// # Errors
/// As `getsockopt(2)`: `ENOPROTOOPT` on an older kernel, `ESRCH` when the process is gone.
pub fn peer_pidfd(stream: &UnixStream) -> io::Result<OwnedFd> {
    Ok(getsockopt(stream, sockopt::PeerPidfd)?)
}

/// Returns whether the other end is closed, even if input is left to be read.
#[must_use]
pub fn has_hung_up(stream: &UnixStream) -> bool {
    let events = PollFlags::from_bits_retain(libc::POLLRDHUP);
    let mut polled = [PollFd::new(stream.as_fd(), events)];
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Returns the peer's security label, where the kernel has one (SELinux and the like).
#[must_use]
pub fn peer_label(stream: &UnixStream) -> Option<String> {
    let mut label = [0_u8; LABEL_BYTES_MAX];
    let mut len = libc::socklen_t::try_from(label.len()).ok()?;
    // SAFETY: `label` is writable for `len` bytes, and the kernel says in `len` how many it used.
    let status = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERSEC,
            label.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    let text = str::from_utf8(label.get(..usize::try_from(len).ok()?)?).ok()?;
    let text = text.trim_end_matches('\0');
    (status == 0 && !text.is_empty()).then(|| text.to_owned())
}
