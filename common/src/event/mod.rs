//! Readiness: a thin layer over mio.
//!
//! - A token is a typed value whose number is never reused, so that an event for a removed object
//!   finds nothing instead of its successor.
//! - A registration ([`Registered`]) owns its fd and deregisters before closing it: otherwise an fd
//!   with a duplicate elsewhere would stay registered.
//! - mio is edge-triggered. The handler of an event drains the fd to `WouldBlock`, or stops at its
//!   budget and asks to be called [again](Reactor::again).
//!
//! Knows nothing of messages.

mod timers;

use std::collections::{HashSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;

pub use timers::TimerId;
use timers::Timers;

use crate::sys::{calls, fd, pipe};

/// Events taken from the kernel at a time.
const EVENTS_MAX: usize = 256;

/// A value that identifies an event source, convertible to 64 bits and back.
pub trait Token: Copy + std::fmt::Debug {
    /// Returns the number for the kernel.
    fn into_bits(self) -> u64;
    /// Returns the value of that number.
    fn from_bits(bits: u64) -> Self;
}

/// A ready fd or a timer that has fired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<T> {
    /// An fd is readable, writable, or at its end.
    Ready(T),
    /// Precedes the fd's [`Event::Ready`]: no input follows what can be read now, so nothing more
    /// will be reported either.
    Ending(T),
    /// A timer has fired.
    Timer(T),
}

/// Waits for fds and timers.
#[derive(Debug)]
pub struct Reactor<T> {
    poll: mio::Poll,
    kernel_events: mio::Events,
    registry: Arc<mio::Registry>,
    again: VecDeque<T>,
    /// Content of `again`, so that each is in there once.
    is_again: HashSet<u64>,
    timers: Timers<T>,
}

/// Ends a [wait](Reactor::wait) from any thread.
#[derive(Debug)]
pub struct Waker(WakerKind);

#[derive(Debug)]
enum WakerKind {
    Event(mio::Waker),
    /// Fallback without an eventfd: both ends of a pipe that is not read until it is full.
    Pipe(Registered<OwnedFd>, OwnedFd),
}

/// An fd with its registration in the reactor.
#[derive(Debug)]
pub struct Registered<F> {
    // Dropped in this order: deregistered, then closed.
    registration: Registration,
    fd: F,
}

#[derive(Debug)]
struct Registration {
    registry: Arc<mio::Registry>,
    number: RawFd,
    token: mio::Token,
    resting: bool,
}

/// Events of interest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Input.
    Read,
    /// Input, and space for output.
    ReadWrite,
}

impl<T: Token> Reactor<T> {
    /// Makes an empty reactor.
    ///
    /// # Errors
    /// As `epoll_create1(2)`.
    pub fn new() -> io::Result<Self> {
        let poll = mio::Poll::new()?;
        let registry = Arc::new(poll.registry().try_clone()?);
        Ok(Self {
            poll,
            kernel_events: mio::Events::with_capacity(EVENTS_MAX),
            registry,
            again: VecDeque::new(),
            is_again: HashSet::new(),
            timers: Timers::default(),
        })
    }

    /// Watches `fd`; what is ready already is reported as well.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`: `EPERM` for an fd that cannot be polled, like a regular file. The fd is
    /// closed.
    pub fn register<F: AsFd>(
        &self,
        fd: F,
        token: T,
        interest: Interest,
    ) -> io::Result<Registered<F>> {
        let number = fd.as_fd().as_raw_fd();
        let bits = usize::try_from(token.into_bits()).map_err(io::Error::other)?;
        let token = mio::Token(bits);
        self.registry.register(&mut SourceFd(&number), token, interest.into())?;
        let registry = Arc::clone(&self.registry);
        let registration = Registration { registry, number, token, resting: false };
        Ok(Registered { registration, fd })
    }

    /// Makes a waker that reports `token` from another thread. A reactor has at most one.
    ///
    /// # Errors
    /// As `eventfd(2)`.
    pub fn waker(&self, token: T) -> io::Result<Waker> {
        let bits = usize::try_from(token.into_bits()).map_err(io::Error::other)?;
        let waker = mio::Waker::new(&self.registry, mio::Token(bits)).map(WakerKind::Event);
        calls::or_else(waker, || self.pipe_waker(token)).map(Waker)
    }

    fn pipe_waker(&self, token: T) -> io::Result<WakerKind> {
        let (reader, writer) = pipe::pipe()?;
        fd::set_nonblocking(&writer)?;
        Ok(WakerKind::Pipe(self.register(reader, token, Interest::Read)?, writer))
    }

    /// Reports `token` as ready once more, for work that was stopped at its budget. Each
    /// [`Reactor::wait`] reports one such token, after the kernel's events, so that a new event
    /// waits for at most one of them.
    pub fn again(&mut self, token: T) {
        if self.is_again.insert(token.into_bits()) {
            self.again.push_back(token);
        }
    }

    /// Returns whether any token is to be reported again.
    pub fn has_again(&self) -> bool {
        !self.again.is_empty()
    }

    /// Reports `token` once, `after` from now.
    pub fn set_timer(&mut self, after: Duration, token: T) -> TimerId {
        self.timers.set(Instant::now() + after, token)
    }

    /// Cancels a timer; no effect if it has fired.
    pub fn cancel_timer(&mut self, timer: TimerId) {
        self.timers.cancel(timer);
    }

    /// Waits until something is ready and replaces the content of `events` by all of it.
    ///
    /// # Errors
    /// As `epoll_wait(2)`; an interruption by a signal is no error and gives no events.
    pub fn wait(&mut self, events: &mut VecDeque<Event<T>>) -> io::Result<()> {
        let timeout = if self.again.is_empty() {
            self.timers.due_in(Instant::now())
        } else {
            Some(Duration::ZERO)
        };
        self.wait_for(timeout, events)
    }

    /// Polls like [`Self::wait`], without waiting.
    ///
    /// # Errors
    /// As `epoll_wait(2)`.
    pub fn look(&mut self, events: &mut VecDeque<Event<T>>) -> io::Result<()> {
        self.wait_for(Some(Duration::ZERO), events)
    }

    fn wait_for(
        &mut self,
        timeout: Option<Duration>,
        events: &mut VecDeque<Event<T>>,
    ) -> io::Result<()> {
        events.clear();
        match self.poll.poll(&mut self.kernel_events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        // A token in `again` is reported in its turn, not for an event now.
        let is_again = &self.is_again;
        for event in &self.kernel_events {
            let bits = event.token().0 as u64;
            if event.is_read_closed() {
                events.push_back(Event::Ending(T::from_bits(bits)));
            }
            if !is_again.contains(&bits) {
                events.push_back(Event::Ready(T::from_bits(bits)));
            }
        }
        if let Some(token) = self.again.pop_front() {
            self.is_again.remove(&token.into_bits());
            events.push_back(Event::Ready(token));
        }
        self.timers.take_due(Instant::now(), |token| events.push_back(Event::Timer(token)));
        Ok(())
    }
}

impl Waker {
    /// Wakes the reactor; several calls before the wait ends count once.
    ///
    /// # Errors
    /// As `write(2)`.
    pub fn wake(&self) -> io::Result<()> {
        match &self.0 {
            WakerKind::Event(waker) => waker.wake(),
            // Each byte is reported, whether or not earlier ones were read.
            WakerKind::Pipe(reader, writer) => match pipe::write(writer, &[0]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    pipe::read(reader, &mut [0; pipe::ATOMIC_BYTES])?;
                    pipe::write(writer, &[0])
                }
                result => result,
            },
        }
    }
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

#[cfg(test)]
mod tests;
