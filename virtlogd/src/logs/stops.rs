//! Logs that are being stopped at the daemon's end.

use std::collections::BTreeSet;

/// Logs that are being stopped, by the numbers of their queues.
#[derive(Debug, Default)]
pub(crate) struct Stops {
    under_way: BTreeSet<u64>,
    /// Logs that have taken too long, and are not waited for any more.
    abandoned: Option<BTreeSet<u64>>,
}

impl Stops {
    /// Notes that a log is being stopped.
    pub(crate) fn begin(&mut self, number: u64) {
        self.under_way.insert(number);
    }

    /// Notes that a log is stopped.
    pub(crate) fn ended(&mut self, number: u64) {
        self.under_way.remove(&number);
    }

    /// Abandons those that are under way.
    pub(crate) fn abandon(&mut self) {
        self.abandoned = Some(self.under_way.clone());
    }

    /// Returns whether a log is being stopped.
    pub(crate) fn is_under_way(&self, number: u64) -> bool {
        self.under_way.contains(&number)
    }

    /// Returns those that were abandoned, after [`Self::abandon`].
    pub(crate) fn abandoned(&self) -> Option<&BTreeSet<u64>> {
        self.abandoned.as_ref()
    }

    /// Returns whether all are stopped but those that were abandoned.
    pub(crate) fn are_over(&self) -> bool {
        match &self.abandoned {
            Some(abandoned) => self.under_way.is_subset(abandoned),
            None => self.under_way.is_empty(),
        }
    }
}
