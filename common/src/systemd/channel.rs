//! The way to the supervisor: one socket, and what it could not take yet.
//!
//! Nothing here waits, but [`Channel::drain`]. A supervisor that is busy has a full queue (512
//! messages at the most) soon: what does not fit is kept, in order, until [`Channel::flush`].

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;

use crate::sys::{process, socket};

/// Messages that are kept; those behind are lost. Ours: every log and lease at its busiest.
const KEPT_MAX: usize = 131_072;

#[derive(Debug)]
pub(super) struct Channel {
    address: SocketAddr,
    socket: UnixDatagram,
    kept: VecDeque<Message>,
    /// How often messages were lost: the supervisor had a new socket, and what the one before held is
    /// gone, or what was kept had to go.
    losses: u64,
    /// The last message was lost, and the log says so.
    is_lossy: bool,
    /// Until then no descriptor is copied.
    copies_nothing_until: Option<Instant>,
}

#[derive(Debug)]
struct Message {
    text: String,
    fds: Vec<OwnedFd>,
}

impl Channel {
    /// A channel to the value of `NOTIFY_SOCKET`: a path, or `@` and an abstract name.
    pub(super) fn open(target: &OsStr) -> io::Result<Self> {
        let address = match target.as_bytes().split_first() {
            Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(target)?,
        };
        // A supervisor that is away for a while is found again when something is sent.
        let socket = match connect(&address) {
            Err(error) if has_gone(&error) => UnixDatagram::unbound()?,
            result => result?,
        };
        let (kept, losses, is_lossy) = (VecDeque::new(), 0, false);
        Ok(Self { address, socket, kept, losses, is_lossy, copies_nothing_until: None })
    }

    /// Sends a message behind all that are kept, or keeps it. The fds stay the caller's.
    pub(super) fn send(&mut self, text: String, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let sent = match self.flush() {
            true => self.try_send(&text, fds),
            false => Err(io::ErrorKind::WouldBlock.into()),
        };
        let result = match sent {
            Err(error) if must_wait(&error) => self.keep(text, fds),
            other => other,
        };
        self.note(result.as_ref().err());
        result
    }

    /// Takes back a message that is kept, if it is. Nothing is, mostly.
    pub(super) fn take_back(&mut self, text: &str) {
        if let Some(index) = self.kept.iter().rposition(|message| message.text == text) {
            self.kept.remove(index);
        }
    }

    /// Frees the descriptors of messages that are kept, which are lost, and keeps none for so long.
    pub(super) fn free_descriptors(&mut self, period: Duration) {
        let before = self.kept.len();
        self.kept.retain(|message| message.fds.is_empty());
        self.losses += u64::from(self.kept.len() < before);
        self.copies_nothing_until = Some(Instant::now() + period);
    }

    /// How many messages are kept.
    pub(super) fn waiting(&self) -> usize {
        self.kept.len()
    }

    /// Changes whenever messages that were sent may have been lost.
    pub(super) fn losses(&self) -> u64 {
        self.losses
    }

    /// Sends what is kept; `false` when some of it still has to wait.
    pub(super) fn flush(&mut self) -> bool {
        while let Some(message) = self.kept.pop_front() {
            let fds: Vec<_> = message.fds.iter().map(AsFd::as_fd).collect();
            match self.try_send(&message.text, &fds) {
                Err(error) if must_wait(&error) => {
                    self.kept.push_front(message);
                    return false;
                }
                result => self.note(result.as_ref().err()),
            }
        }
        true
    }

    /// Sends what is kept and waits up to `patience` for that; `false` when it was not enough.
    pub(super) fn drain(&mut self, patience: Duration) -> bool {
        const PAUSE: Duration = Duration::from_millis(1);
        let end = Instant::now() + patience;
        while !self.flush() {
            if Instant::now() >= end {
                return false;
            }
            process::pause(PAUSE);
        }
        true
    }

    fn keep(&mut self, text: String, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        if self.kept.len() >= KEPT_MAX {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        if !fds.is_empty() && self.copies_nothing_until.is_some_and(|until| Instant::now() < until)
        {
            return Err(Errno::EMFILE.into());
        }
        let fds = fds.iter().map(BorrowedFd::try_clone_to_owned).collect::<io::Result<_>>()?;
        self.kept.push_back(Message { text, fds });
        Ok(())
    }

    /// Once more over a new socket if the supervisor has a new one.
    fn try_send(&mut self, text: &str, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        match socket::send_datagram(&self.socket, text.as_bytes(), fds) {
            Err(error) if has_gone(&error) => {
                self.socket = connect(&self.address)?;
                self.losses += 1;
                socket::send_datagram(&self.socket, text.as_bytes(), fds)
            }
            result => result,
        }
    }

    /// A supervisor that cannot be reached does no harm; the first message that is lost is told.
    fn note(&mut self, error: Option<&io::Error>) {
        if let Some(error) = error
            && !self.is_lossy
        {
            tracing::warn!(target: "util.systemd", "Unable to notify the supervisor: {error}");
        }
        self.is_lossy = error.is_some();
    }
}

fn connect(address: &SocketAddr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(address)?;
    Ok(socket)
}

/// The queue is full, the fds under way are as many as we may have open, or the supervisor is away.
fn must_wait(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOBUFS | libc::ETOOMANYREFS))
        || error.kind() == io::ErrorKind::WouldBlock
        || has_gone(error)
}

fn has_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ECONNREFUSED | libc::ENOTCONN | libc::ENOENT))
}
