//! What is ready: a thin layer over mio.
//!
//! - A token is a typed value of the user's own whose number is never used again, so that an event
//!   for something that has gone finds nothing instead of its successor.
//! - What is registered is owned by its registration ([`Registered`]), which deregisters before
//!   the fd is closed: an fd that has a duplicate elsewhere would stay registered otherwise.
//! - mio reports edges. Whoever is told that something is ready drains it to `WouldBlock`, or
//!   stops at a budget of his own and asks to be called [again](Reactor::again).
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

/// A value that says what is ready, as 64 bits and back.
pub trait Token: Copy + std::fmt::Debug {
    /// The number that the kernel keeps.
    fn into_bits(self) -> u64;
    /// The value of that number.
    fn from_bits(bits: u64) -> Self;
}

/// Something that is ready, or whose time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<T> {
    /// An fd: it can be read from or written to, or is at its end.
    Ready(T),
    /// An fd, in front of its [`Event::Ready`]: nothing will come behind what can be read now, so
    /// that nothing more will be reported either.
    Ending(T),
    /// A timer.
    Timer(T),
}

/// Waits for fds and timers.
#[derive(Debug)]
pub struct Reactor<T> {
    poll: mio::Poll,
    kernel_events: mio::Events,
    registry: Arc<mio::Registry>,
    again: VecDeque<T>,
    /// What is in `again`, so that it is there once.
    is_again: HashSet<u64>,
    timers: Timers<T>,
}

/// Ends a [wait](Reactor::wait) from any thread.
#[derive(Debug)]
pub struct Waker(WakerKind);

#[derive(Debug)]
enum WakerKind {
    Event(mio::Waker),
    /// Where there can be none of those: both ends of a pipe, which nobody reads until it is full.
    Pipe(Registered<OwnedFd>, OwnedFd),
}

/// An fd with its place in the reactor.
#[derive(Debug)]
pub struct Registered<F> {
    // Dropped in this order: out of the reactor, then closed.
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

/// What to be told about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Data to read.
    Read,
    /// Data to read and space to write.
    ReadWrite,
}

impl<T: Token> Reactor<T> {
    /// An empty reactor.
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

    /// Watches `fd` from now on; what is ready already is reported as well.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`: `EPERM` for what cannot be waited for, like a regular file. The fd is
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

    /// What reports `token` from another thread. A reactor has one at the most.
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

    /// Reports `token` as ready once more, for work that was stopped at a budget. Each
    /// [`Reactor::wait`] reports one of those that asked, after what the kernel reports, so that
    /// whoever is new waits for one of them at the most.
    pub fn again(&mut self, token: T) {
        if self.is_again.insert(token.into_bits()) {
            self.again.push_back(token);
        }
    }

    /// Whether anybody has asked for another turn.
    pub fn has_again(&self) -> bool {
        !self.again.is_empty()
    }

    /// Reports `token` once, `after` from now.
    pub fn set_timer(&mut self, after: Duration, token: T) -> TimerId {
        self.timers.set(Instant::now() + after, token)
    }

    /// Forgets a timer; one that has fired already is no error.
    pub fn cancel_timer(&mut self, timer: TimerId) {
        self.timers.cancel(timer);
    }

    /// Waits until something is ready and puts all of it into `events`, which is emptied first.
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

    /// The same without waiting.
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
        // What has asked for another turn gets it in its place in the queue, not now for an event.
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
    /// Does it; several times before the wait ends are as one.
    ///
    /// # Errors
    /// As `write(2)`.
    pub fn wake(&self) -> io::Result<()> {
        match &self.0 {
            WakerKind::Event(waker) => waker.wake(),
            // Each byte is reported, whether those before it were read or not.
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
    /// Changes what to be told about.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`.
    pub fn set_interest(&self, interest: Interest) -> io::Result<()> {
        let Registration { registry, number, token, .. } = &self.registration;
        registry.reregister(&mut SourceFd(number), *token, interest.into())
    }
}

impl<F> Registered<F> {
    /// Stops being told until [`Registered::watch`]: neither we nor whoever writes pays for a
    /// wake-up meanwhile.
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

    /// Ends a [rest](Registered::rest). What has become ready meanwhile is reported.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`; it goes on resting then.
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
            // Fails only for an fd that is not registered, which cannot be here.
            drop(self.registry.deregister(&mut SourceFd(&self.number)));
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
