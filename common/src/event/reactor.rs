//! The reactor.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;

use super::registered::{Interest, Registered, Registration};
use super::timers::TimerId;
use super::timers::Timers;
use super::token::{Event, Token};
use super::waker::{Waker, WakerKind};
use crate::sys::shortage::{self, wait_out_until};
use crate::sys::{fd, pipe};

/// Events taken from the kernel at a time.
const EVENTS_MAX: usize = 256;

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
    /// Until then a shortage is waited out, all in all. A successor that cannot watch what it has
    /// would end, with all that it has taken over.
    patient_until: Instant,
}

impl<T: Token> Reactor<T> {
    /// Makes an empty reactor.
    ///
    /// # Errors
    /// As `epoll_create1(2)`.
    pub fn new() -> io::Result<Self> {
        let patient_until = Instant::now() + shortage::PERIOD;
        let poll = wait_out_until(patient_until, mio::Poll::new)?;
        let registry = wait_out_until(patient_until, || poll.registry().try_clone())?;
        Ok(Self {
            poll,
            kernel_events: mio::Events::with_capacity(EVENTS_MAX),
            registry: Arc::new(registry),
            again: VecDeque::new(),
            is_again: HashSet::new(),
            timers: Timers::default(),
            patient_until,
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
        wait_out_until(self.patient_until, || {
            self.registry.register(&mut SourceFd(&number), token, interest.into())
        })?;
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
        // mio makes one attempt.
        let waker = mio::Waker::new(&self.registry, mio::Token(bits)).map(WakerKind::Event);
        waker.or_else(|_| wait_out_until(self.patient_until, || self.pipe_waker(token))).map(Waker)
    }

    pub(super) fn pipe_waker(&self, token: T) -> io::Result<WakerKind> {
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
