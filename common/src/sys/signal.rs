//! Signals, as bytes in a pipe and flags.
//!
//! Handlers run on the process's first thread, which [waits](listen) and does nothing else, and all
//! other threads have these signals [blocked](block): a thread that hangs on a disk could be the one
//! that the kernel has chosen for a signal, and nobody would see it. Before an exec they are
//! [held](Signals::hold); what arrives then stays with the kernel, for the next image. No blocked mask
//! must reach a successor that does not know of it.

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

use super::{fd, pipe, process};

/// Signals that libvirt's daemons die of by accident; here they are only taken note of.
/// `SIGXFSZ` then shows as `EFBIG` of the write that caused it.
const HARMLESS: [libc::c_int; 4] = [libc::SIGHUP, libc::SIGUSR2, libc::SIGALRM, libc::SIGXFSZ];

/// Signals that wait for the next image while one executes another: all that have a handler, as
/// the next one would die of each before it has its own, or not hear of it.
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

/// The signals that have arrived and were not looked at yet.
#[derive(Debug)]
pub struct Signals {
    wake: OwnedFd,
    stop: Arc<AtomicBool>,
    upgrade: Arc<AtomicBool>,
    hang_up: Arc<AtomicBool>,
    child_ended: Arc<AtomicBool>,
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
    /// `SIGCHLD`, of which only process 1 takes note: it inherits the children of others.
    ChildEnded,
}

/// While it is there no handler runs.
#[derive(Debug)]
pub struct Held<'a>(PhantomData<&'a Signals>);

impl Signals {
    /// Installs the handlers. Call it on the first thread before any other is started, so that all
    /// inherit a mask that has these signals blocked: what arrives, or was left for us by a
    /// predecessor, waits until that thread [listens](listen).
    ///
    /// # Errors
    /// As `pipe2(2)` and `sigaction(2)`.
    pub fn install() -> io::Result<Self> {
        let (wake, waker) = pipe::pipe()?;
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

    /// Takes what has arrived, a stop first. A signal that came several times counts once.
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

    /// Stops the handlers. Call it on the thread that [listens](listen). What has arrived before can
    /// be [taken](Self::take); what arrives from now on waits in the kernel, also across an exec of
    /// whoever has it blocked.
    ///
    /// # Errors
    /// As `pthread_sigmask(3)`.
    pub fn hold(&self) -> io::Result<Held<'_>> {
        block()?;
        Ok(Held(PhantomData))
    }
}

impl Held<'_> {
    /// To be called right before an exec of a program that does not know of blocked signals:
    /// unblocks them, ignoring those of which it could die before it is ready. Gives back what to
    /// call when the exec has failed.
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
        // It cannot fail, as the set of signals is a fixed one.
        drop(listen());
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

/// Blocks what a successor of ours finds blocked, before it can handle it.
///
/// # Errors
/// As `pthread_sigmask(3)`.
pub fn block() -> io::Result<()> {
    Ok(pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&handled()), None)?)
}

/// Has the handlers run on the calling thread from now on.
///
/// # Errors
/// As `pthread_sigmask(3)`.
pub fn listen() -> io::Result<()> {
    Ok(pthread_sigmask(SigmaskHow::SIG_UNBLOCK, Some(&handled()), None)?)
}

/// Gives what was set before.
fn set_action(signal: Signal, action: &SigAction) -> io::Result<SigAction> {
    // SAFETY: the action is to ignore, or one that stood there before: signal-hook's, which is
    // made for running in a handler.
    Ok(unsafe { sigaction(signal, action) }?)
}

fn handled() -> SigSet {
    HANDLED.into_iter().collect()
}

/// The flag is registered first: whoever sees the byte sees the flag.
fn handle(signal: libc::c_int, seen: &Arc<AtomicBool>, waker: &OwnedFd) -> io::Result<()> {
    flag::register(signal, Arc::clone(seen))?;
    low_level::pipe::register(signal, waker.try_clone()?)?;
    Ok(())
}
