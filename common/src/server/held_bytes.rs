//! Memory that the messages of one server's clients take.

use crate::sys::memory;

/// Bytes of the messages of one server's clients.
#[derive(Debug, Default)]
pub(super) struct HeldBytes {
    pub(super) now: usize,
    /// The most since the last time that free memory was returned.
    peak: usize,
}

impl HeldBytes {
    /// Replaces a client's part.
    pub(super) fn change(&mut self, before: usize, now: usize) {
        self.now = self.now.saturating_sub(before).saturating_add(now);
        self.peak = self.peak.max(self.now);
    }

    /// Returns free memory to the kernel when most of what was held is free: small blocks are kept by
    /// the C library as long as anything behind them is in use.
    pub(super) fn free(&mut self) {
        const PART: usize = 4;
        if self.peak > memory::RETAINED_BYTES_MAX && self.now < self.peak / PART {
            self.peak = self.now;
            memory::return_free_memory();
        }
    }
}
