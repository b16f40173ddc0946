//! Unix stream sockets: listening, fds as messages, and the peer's identity.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect,
    getsockopt, listen, recv, recvmsg, sendmsg, socket, sockopt,
};

use super::{calls, process};

/// Connections that wait in the kernel to be accepted, libvirt's value.
const BACKLOG: i32 = 30;

/// Fds of one control message, the kernel's limit. All are taken, so that none leaks.
const CONTROL_FDS_MAX: u32 = 253;

/// Bytes of a control message with so many fds.
// SAFETY: pure arithmetic.
const CONTROL_BYTES: usize =
    unsafe { libc::CMSG_SPACE(CONTROL_FDS_MAX * (RawFd::BITS / u8::BITS)) } as usize;

/// Interval of attempts to connect to a full backlog.
const FULL_PERIOD: Duration = Duration::from_millis(10);

/// Total size up to which two parts are copied together, which is cheaper than a gathering write.
const TOGETHER_BYTES_MAX: usize = 256;

/// Sends never block, and a closed peer is an error instead of a signal.
const SEND_FLAGS: MsgFlags = MsgFlags::MSG_DONTWAIT.union(MsgFlags::MSG_NOSIGNAL);

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

/// Listens at `path`, which must not exist, with exactly the permission bits `mode`.
///
/// # Errors
/// As `bind(2)` and `listen(2)`; a path over 107 bytes is `InvalidInput`.
pub fn listen_at(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let listener = super::process::with_umask(!mode & 0o777, || UnixListener::bind(path))?;
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
        super::fd::set_cloexec(&fd)?;
        Ok(fd.into())
    })?;
    super::fd::set_nonblocking(&stream)?;
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

fn gather(stream: &UnixStream, parts: [&[u8]; 2]) -> io::Result<usize> {
    let parts = parts.map(IoSlice::new);
    Ok(sendmsg::<UnixAddr>(stream.as_raw_fd(), &parts, &[], SEND_FLAGS, None)?)
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

/// Sends a message with fds over a connected socket, without blocking.
///
/// # Errors
/// As `sendmsg(2)`: `EAGAIN` when the receiver's queue is full.
pub fn send_datagram(
    socket: &UnixDatagram,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    send_message(socket, None, bytes, fds)
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
    send_message(socket, Some(UnixAddr::new(address)?), bytes, fds)
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
    socket: &UnixDatagram,
    bytes_max: usize,
) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = vec![0; bytes_max];
    let Received { count, fds, .. } = receive(socket, &mut bytes)?;
    bytes.truncate(count);
    Ok((bytes, fds))
}

fn send_message(
    socket: &UnixDatagram,
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
        // Rounded up, to avoid waking for less than a millisecond.
        let time = PollTimeout::try_from(time.as_millis().saturating_add(1));
        match poll(&mut polled, time.unwrap_or(PollTimeout::MAX)) {
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

fn start_listening(listener: &UnixListener) -> io::Result<()> {
    listen(&listener.as_fd(), Backlog::new(BACKLOG)?)?;
    super::fd::set_nonblocking(listener)?;
    super::fd::set_cloexec(listener)
}

#[cfg(test)]
mod tests;
