//! Signals, as bytes on a socket and flags, never as a blocked mask: a mask would survive an exec
//! into a successor that never unblocks it. Handlers fall back to the default at an exec.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::libc;
use signal_hook::{flag, low_level};

/// Signals that libvirt's daemons die of by accident; here they are only taken note of.
/// `SIGXFSZ` then shows as `EFBIG` of the write that caused it.
const HARMLESS: [libc::c_int; 4] = [libc::SIGHUP, libc::SIGUSR2, libc::SIGALRM, libc::SIGXFSZ];

/// The signals that have arrived and were not looked at yet.
#[derive(Debug)]
pub struct Signals {
    wake: UnixStream,
    stop: Arc<AtomicBool>,
    upgrade: Arc<AtomicBool>,
    hang_up: Arc<AtomicBool>,
}

/// What signals ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// `SIGTERM`, `SIGINT` or `SIGQUIT`.
    Stop,
    /// `SIGUSR1`.
    Upgrade,
    /// `SIGHUP`.
    HangUp,
}

impl Signals {
    /// Installs the handlers.
    ///
    /// # Errors
    /// As `socketpair(2)` and `sigaction(2)`.
    pub fn install() -> io::Result<Self> {
        let (wake, waker) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        let signals =
            Self { wake, stop: Arc::default(), upgrade: Arc::default(), hang_up: Arc::default() };
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT] {
            handle(signal, &signals.stop, &waker)?;
        }
        handle(libc::SIGUSR1, &signals.upgrade, &waker)?;
        handle(libc::SIGHUP, &signals.hang_up, &waker)?;
        let ignored = Arc::new(AtomicBool::new(false));
        for signal in HARMLESS {
            flag::register(signal, Arc::clone(&ignored))?;
        }
        Ok(signals)
    }

    /// Takes what has arrived, a stop first. A signal that came several times counts once.
    pub fn take(&self) -> Vec<Request> {
        let mut bytes = [0; 64];
        while matches!(io::Read::read(&mut (&self.wake), &mut bytes), Ok(count) if count > 0) {}
        [
            (&self.stop, Request::Stop),
            (&self.upgrade, Request::Upgrade),
            (&self.hang_up, Request::HangUp),
        ]
        .into_iter()
        .filter(|(flag, _)| flag.swap(false, Ordering::SeqCst))
        .map(|(_, request)| request)
        .collect()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

/// The flag is registered first: whoever sees the byte sees the flag.
fn handle(signal: libc::c_int, seen: &Arc<AtomicBool>, waker: &UnixStream) -> io::Result<()> {
    flag::register(signal, Arc::clone(seen))?;
    low_level::pipe::register(signal, waker.try_clone()?)?;
    Ok(())
}
