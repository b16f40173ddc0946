//! Signals, as an fd that becomes readable.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;
use signal_hook::{flag, low_level};

/// Signals that have arrived.
#[derive(Debug)]
pub(crate) struct Signals {
    reader: UnixStream,
    arrived: Vec<(Signal, Arc<AtomicBool>)>,
}

impl Signals {
    /// Notes these signals from now on.
    ///
    /// # Errors
    /// As `socketpair(2)` and `sigaction(2)`.
    pub(crate) fn install(signals: &[Signal]) -> io::Result<Self> {
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        let mut arrived = Vec::new();
        for &signal in signals {
            let has_arrived = Arc::new(AtomicBool::new(false));
            // Before the pipe, which wakes up who looks for it.
            flag::register(signal as i32, Arc::clone(&has_arrived))?;
            low_level::pipe::register(signal as i32, writer.try_clone()?)?;
            arrived.push((signal, has_arrived));
        }
        Ok(Self { reader, arrived })
    }

    /// Takes those that have arrived. One that came several times counts once.
    pub(crate) fn take(&self) -> Vec<Signal> {
        let mut reader = &self.reader;
        while matches!(reader.read(&mut [0; 64]), Ok(1..)) {}
        let arrived = self.arrived.iter();
        let arrived = arrived.filter(|(_, has_arrived)| has_arrived.swap(false, Ordering::SeqCst));
        arrived.map(|&(signal, _)| signal).collect()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}
