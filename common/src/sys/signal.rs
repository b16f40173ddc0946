//! Signals, as bytes in a pipe and flags.
//!
//! Handlers run on the process's first thread, which [waits](listen) and does nothing else. All
//! other threads have these signals [blocked](block): otherwise the kernel could choose a thread
//! that hangs on a disk, and the signal would have no effect. Before an exec the handlers are
//! [held](Signals::hold); signals that arrive then stay pending for the successor. A successor that
//! does not know of a blocked mask must not inherit one.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::libc;
use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, sigaction,
};
use signal_hook::{flag, low_level};

use super::shortage::wait_out;
use super::{fd, pipe, process};

/// Signals that kill libvirt's daemons by accident; here they are only noted. `SIGXFSZ` then shows
/// as `EFBIG` of the write that caused it.
const HARMLESS: [libc::c_int; 4] = [libc::SIGHUP, libc::SIGUSR2, libc::SIGALRM, libc::SIGXFSZ];

/// Signals that stay pending during an exec: all that have a handler, as the successor would die of
/// them, or miss them, before it has its own.
const HANDLED: [Signal; 9] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGHUP,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGXFSZ,
    Signal::SIGCHLD,
];

/// Signals that have arrived and are not handled yet.
#[derive(Debug)]
pub struct Signals {
    wake: OwnedFd,
    stop: Arc<AtomicBool>,
    upgrade: Arc<AtomicBool>,
    hang_up: Arc<AtomicBool>,
    child_ended: Arc<AtomicBool>,
}

/// Request made by a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// `SIGTERM`, `SIGINT` or `SIGQUIT`.
    Stop,
    /// `SIGUSR1`.
    Upgrade,
    /// `SIGHUP`.
    HangUp,
    /// `SIGCHLD`, only noted by process 1, which inherits orphans.
    ChildEnded,
}

/// Guard during which no handler runs.
#[derive(Debug)]
pub struct Held<'a>(PhantomData<&'a Signals>);

impl Signals {
    /// Installs the handlers. To be called on the first thread before any other is started, so that
    /// all inherit a mask that blocks these signals. Signals that arrive, or were left pending by a
    /// predecessor, wait until that thread [listens](listen).
    ///
    /// # Errors
    /// As `pipe2(2)` and `sigaction(2)`.
    pub fn install() -> io::Result<Self> {
        let (wake, waker) = wait_out(pipe::pipe)?;
        fd::set_nonblocking(&wake)?;
        let signals = Self {
            wake,
            stop: Arc::default(),
            upgrade: Arc::default(),
            hang_up: Arc::default(),
            child_ended: Arc::default(),
        };
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT] {
            handle(signal, &signals.stop, &waker)?;
        }
        handle(libc::SIGUSR1, &signals.upgrade, &waker)?;
        handle(libc::SIGHUP, &signals.hang_up, &waker)?;
        if process::is_first() {
            handle(libc::SIGCHLD, &signals.child_ended, &waker)?;
        }
        let ignored = Arc::new(AtomicBool::new(false));
        for signal in HARMLESS {
            flag::register(signal, Arc::clone(&ignored))?;
        }
        block()?;
        Ok(signals)
    }

    /// Makes an instance that no signal reaches.
    ///
    /// # Errors
    /// As `pipe2(2)`.
    #[cfg(feature = "fuzzing")]
    pub fn unhandled() -> io::Result<Self> {
        let (wake, _) = pipe::pipe()?;
        fd::set_nonblocking(&wake)?;
        Ok(Self {
            wake,
            stop: Arc::default(),
            upgrade: Arc::default(),
            hang_up: Arc::default(),
            child_ended: Arc::default(),
        })
    }

    /// Takes the requests that have arrived, a stop first. A signal that came several times counts
    /// once.
    pub fn take(&self) -> Vec<Request> {
        let mut bytes = [0; 64];
        while matches!(pipe::read(&self.wake, &mut bytes), Ok(count) if count > 0) {}
        [
            (&self.stop, Request::Stop),
            (&self.upgrade, Request::Upgrade),
            (&self.hang_up, Request::HangUp),
            (&self.child_ended, Request::ChildEnded),
        ]
        .into_iter()
        .filter(|(flag, _)| flag.swap(false, Ordering::SeqCst))
        .map(|(_, request)| request)
        .collect()
    }

    /// Stops the handlers. To be called on the thread that [listens](listen). Signals from before
    /// can be [taken](Self::take); later ones stay pending in the kernel, also across an exec of a
    /// program that has them blocked.
    ///
    /// # Errors
    /// As `pthread_sigmask(3)`.
    pub fn hold(&self) -> io::Result<Held<'_>> {
        block()?;
        Ok(Held(PhantomData))
    }
}

impl Held<'_> {
    /// Unblocks the signals right before an exec of a program that does not know of blocked ones,
    /// and ignores those that could kill it before it is ready. Returns a function that reverts
    /// this after a failed exec.
    ///
    /// # Errors
    /// As `sigaction(2)`.
    pub fn release_for_stranger(&self) -> io::Result<impl FnOnce() -> io::Result<()>> {
        let ignored = [Signal::SIGUSR1, Signal::SIGHUP];
        let mut before = Vec::new();
        for signal in ignored {
            let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
            before.push((signal, set_action(signal, &ignore)?));
        }
        listen()?;
        Ok(move || {
            block()?;
            before.into_iter().try_for_each(|(signal, was)| set_action(signal, &was).map(drop))
        })
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // The signal set is fixed, so this cannot fail.
        listen().ok();
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

/// Blocks the signals on the calling thread. A successor of ours finds them blocked until it can
/// handle them.
///
/// # Errors
/// As `pthread_sigmask(3)`.
pub fn block() -> io::Result<()> {
    Ok(pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&handled()), None)?)
}

/// Lets the handlers run on the calling thread from now on.
///
/// # Errors
/// As `pthread_sigmask(3)`.
pub fn listen() -> io::Result<()> {
    Ok(pthread_sigmask(SigmaskHow::SIG_UNBLOCK, Some(&handled()), None)?)
}

/// Sets a signal's action, and returns the previous one.
fn set_action(signal: Signal, action: &SigAction) -> io::Result<SigAction> {
    // SAFETY: the action is to ignore, or one that stood there before: signal-hook's, which is made
    // for running in a handler.
    Ok(unsafe { sigaction(signal, action) }?)
}

fn handled() -> SigSet {
    HANDLED.into_iter().collect()
}

/// Registers flag and byte of a signal. The flag comes first, so that it is set when the byte is
/// read.
fn handle(signal: libc::c_int, seen: &Arc<AtomicBool>, waker: &OwnedFd) -> io::Result<()> {
    flag::register(signal, Arc::clone(seen))?;
    low_level::pipe::register(signal, wait_out(|| waker.try_clone())?)?;
    Ok(())
}
