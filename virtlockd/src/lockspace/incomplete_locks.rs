//! Leases that lack a part of their lock, and the timer for their next check.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::ids::{ResourceId, TimerSubject};
use crate::outcome::Core;

/// Time between two checks of such a lease; ours.
const RETRY_PERIOD: Duration = Duration::from_millis(250);

/// Leases that lack a part of their lock.
#[derive(Debug, Default)]
pub(crate) struct IncompleteLocks {
    resources: BTreeSet<ResourceId>,
    is_timer_set: bool,
}

impl IncompleteLocks {
    /// Has a lease checked again later.
    pub(crate) fn add(&mut self, core: &mut Core, resource: ResourceId) {
        self.resources.insert(resource);
        if !std::mem::replace(&mut self.is_timer_set, true) {
            core.set_timer(RETRY_PERIOD, TimerSubject::LockRetry.number());
        }
    }

    /// Returns the number of those that are known.
    pub(crate) fn len(&self) -> usize {
        self.resources.len()
    }

    /// Takes out the leases to check now that the timer has fired.
    pub(crate) fn take_due(&mut self) -> BTreeSet<ResourceId> {
        self.is_timer_set = false;
        std::mem::take(&mut self.resources)
    }
}
