//! Stops of logs at the daemon's end: logs on disks that take long are stopped first, and the others are
//! served until nothing else is waited for, so that no guest waits for another's disk.

use std::collections::BTreeSet;

/// Logs that are being stopped, by the numbers of their queues.
#[derive(Debug, Default)]
pub(crate) struct Stops {
    under_way: BTreeSet<u64>,
    /// Those that have taken too long, and are not waited for any more.
    given_up: Option<BTreeSet<u64>>,
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

    /// Gives up those that are under way.
    pub(crate) fn give_up(&mut self) {
        self.given_up = Some(self.under_way.clone());
    }

    /// Returns whether a log is being stopped.
    pub(crate) fn is_under_way(&self, number: u64) -> bool {
        self.under_way.contains(&number)
    }

    /// Returns those that were given up, once that was result.
    pub(crate) fn given_up(&self) -> Option<&BTreeSet<u64>> {
        self.given_up.as_ref()
    }

    /// Returns whether all are stopped but those that were given up.
    pub(crate) fn are_over(&self) -> bool {
        match &self.given_up {
            Some(given_up) => self.under_way.is_subset(given_up),
            None => self.under_way.is_empty(),
        }
    }
}
