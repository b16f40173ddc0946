//! Whether there is no time for work that can wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set while an upgrade waits for jobs: those that wait for a slow disk would take longer than it may.
/// Work that can be done by the next image as well looks at it before it begins.
#[derive(Debug, Clone, Default)]
pub struct Haste(Arc<AtomicBool>);

impl Haste {
    /// Whether what can wait is to be left alone.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, is_needed: bool) {
        self.0.store(is_needed, Ordering::Relaxed);
    }
}
