//! Registrations of fds.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::sync::Arc;

use mio::unix::SourceFd;

/// An fd with its registration in the reactor.
#[derive(Debug)]
pub struct Registered<F> {
    // Dropped in this order: deregistered, then closed.
    pub(super) registration: Registration,
    pub(super) fd: F,
}

#[derive(Debug)]
pub(super) struct Registration {
    pub(super) registry: Arc<mio::Registry>,
    pub(super) number: RawFd,
    pub(super) token: mio::Token,
    pub(super) resting: bool,
}

/// Events of interest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Input.
    Read,
    /// Input, and space for output.
    ReadWrite,
}

impl<F: AsFd> Registered<F> {
    /// Changes the events of interest.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`.
    pub fn set_interest(&self, interest: Interest) -> io::Result<()> {
        let Registration { registry, number, token, .. } = &self.registration;
        registry.reregister(&mut SourceFd(number), *token, interest.into())
    }
}

impl<F> Registered<F> {
    /// Suspends watching until [`Registered::watch`]: neither side pays for wake-ups meanwhile.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`; it is watched as before then.
    pub fn rest(&mut self) -> io::Result<()> {
        let Registration { registry, number, resting, .. } = &mut self.registration;
        if !*resting {
            registry.deregister(&mut SourceFd(number))?;
            *resting = true;
        }
        Ok(())
    }

    /// Resumes watching after [`Registered::rest`]. What has become ready meanwhile is reported.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`; it stays suspended then.
    pub fn watch(&mut self) -> io::Result<()> {
        let Registration { registry, number, token, resting } = &mut self.registration;
        if *resting {
            registry.register(&mut SourceFd(number), *token, mio::Interest::READABLE)?;
            *resting = false;
        }
        Ok(())
    }

    /// Takes the fd out of the reactor.
    pub fn into_inner(self) -> F {
        drop(self.registration);
        self.fd
    }
}

impl<F> std::ops::Deref for Registered<F> {
    type Target = F;

    fn deref(&self) -> &F {
        &self.fd
    }
}

impl<F: AsFd> AsFd for Registered<F> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if !self.resting {
            // Fails only for an fd that is not registered.
            self.registry.deregister(&mut SourceFd(&self.number)).ok();
        }
    }
}

impl From<Interest> for mio::Interest {
    fn from(interest: Interest) -> Self {
        match interest {
            Interest::Read => Self::READABLE,
            Interest::ReadWrite => Self::READABLE | Self::WRITABLE,
        }
    }
}
