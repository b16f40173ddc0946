//! `std::thread`, with threads that cannot always be started.

use std::io;

use shuttle::thread;

pub use shuttle::thread::{JoinHandle, ThreadId, current, yield_now};

use super::chance;

/// One thread of so many cannot be started.
const REFUSED: u32 = 4;

/// A thread to be started.
#[derive(Debug, Default)]
pub struct Builder(());

impl Builder {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn name(self, _: String) -> Self {
        self
    }

    pub fn stack_size(self, _: usize) -> Self {
        self
    }

    pub fn spawn<T: Send + 'static>(
        self,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<JoinHandle<T>> {
        if chance(REFUSED) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(thread::spawn(call))
    }
}
