//! Timers, ordered by due time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Id of a timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimerId(Instant, u64);

impl TimerId {
    /// Returns the due time.
    #[must_use]
    pub fn due(&self) -> Instant {
        self.0
    }
}

#[derive(Debug)]
pub(super) struct Timers<T> {
    pending: BTreeMap<TimerId, T>,
    set: u64,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self { pending: BTreeMap::new(), set: 0 }
    }
}

impl<T> Timers<T> {
    pub(super) fn set(&mut self, due: Instant, token: T) -> TimerId {
        self.set += 1;
        let timer = TimerId(due, self.set);
        self.pending.insert(timer, token);
        timer
    }

    pub(super) fn cancel(&mut self, timer: TimerId) {
        self.pending.remove(&timer);
    }

    /// Returns the time until the first is due; `None` without timers. Rounded up to a millisecond,
    /// the kernel's unit, to avoid waking just before.
    pub(super) fn due_in(&self, now: Instant) -> Option<Duration> {
        let (TimerId(due, _), _) = self.pending.first_key_value()?;
        let left = due.saturating_duration_since(now);
        Some(if left.is_zero() { left } else { left + Duration::from_millis(1) })
    }

    pub(super) fn take_due(&mut self, now: Instant, mut fired: impl FnMut(T)) {
        while let Some(first) = self.pending.first_entry() {
            if first.key().0 > now {
                break;
            }
            fired(first.remove());
        }
    }
}
