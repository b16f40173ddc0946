//! A waker that does not need the kernel.

use std::io;

use crate::sync::{Arc, Condvar, Mutex, PoisonError};

/// Wakes the loop.
#[derive(Debug, Clone, Default)]
pub(crate) struct Waker(Arc<(Mutex<bool>, Condvar)>);

impl Waker {
    pub(crate) fn wake(&self) -> io::Result<()> {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_one();
        Ok(())
    }

    /// Waits as the reactor does.
    pub(crate) fn wait(&self) {
        let mut is_woken = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        while !std::mem::take(&mut *is_woken) {
            is_woken = self.0.1.wait(is_woken).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
