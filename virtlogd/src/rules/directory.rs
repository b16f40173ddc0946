//! A directory with a budget.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::cleaner::Budget;
use crate::guest::rate_cap::RateLimit;

/// Rate of a guest whose log's file system has too little free space.
pub(super) const LOW_RATE: RateLimit = RateLimit { bytes_per_s: 65_536, burst_bytes: 524_288 };

/// A directory's budget, and the state of its file system.
#[derive(Debug)]
pub(crate) struct DirectoryRule {
    pub(crate) budget: Budget,
    /// The file system has less free than it is to have.
    pub(crate) is_low: Arc<AtomicBool>,
}

impl DirectoryRule {
    /// Makes the rule of a file system that has enough.
    pub(super) fn new(budget: Budget) -> Self {
        Self { budget, is_low: Arc::default() }
    }

    /// Returns whether guests are capped whose log is at this path, while the file system is low.
    pub(super) fn caps(&self, path: &Path) -> bool {
        self.budget.free_bytes_min.is_some() && path.parent() == Some(&self.budget.path)
    }
}

impl fmt::Display for DirectoryRule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "directory '{}'", self.budget.path.display())
    }
}
