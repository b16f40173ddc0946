//! Waking of the reactor by another thread.

use std::io;
use std::os::fd::OwnedFd;

use super::registered::Registered;
use crate::sys::pipe;

/// Number of times that a wake-up is tried.
const TRIES: usize = 10;

/// Ends a [wait](super::Reactor::wait) from any thread.
#[derive(Debug)]
pub struct Waker(pub(super) WakerKind);

#[derive(Debug)]
pub(super) enum WakerKind {
    Event(mio::Waker),
    /// Fallback without an eventfd: both ends of a pipe that is not read until it is full.
    Pipe(Registered<OwnedFd>, OwnedFd),
}

impl Waker {
    /// Wakes the reactor; several calls before the wait ends count once.
    ///
    /// # Errors
    /// As `write(2)`, several times in a row.
    pub fn wake(&self) -> io::Result<()> {
        // Whoever is not woken does not look: no failure is taken for an answer at once.
        (1..TRIES).find_map(|_| self.try_wake().ok()).map_or_else(|| self.try_wake(), Ok)
    }

    fn try_wake(&self) -> io::Result<()> {
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
