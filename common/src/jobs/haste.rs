//! Flag that tells jobs to leave out work that can wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set while an upgrade waits for jobs, since work on a slow disk could take longer than the
/// upgrade may. A job checks it before work that a successor can do as well.
#[derive(Debug, Clone, Default)]
pub struct Haste(Arc<AtomicBool>);

impl Haste {
    /// Returns whether work that can wait is to be left out.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, is_needed: bool) {
        self.0.store(is_needed, Ordering::Relaxed);
    }
}
