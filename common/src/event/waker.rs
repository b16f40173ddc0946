//! Waking of the reactor by another thread.

use std::io;
use std::os::fd::OwnedFd;

use super::registered::Registered;
use crate::sys::pipe;

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
