//! Pace of messages to the supervisor that clients cause, as it serves all other units too. Each
//! message costs systemd some 250 us, and it compares an fd with all that it has stored.

use std::time::{Duration, Instant};

/// A rate limit with a burst.
#[derive(Debug)]
pub struct Pace {
    burst: u32,
    step: Duration,
    /// Time at which the whole burst is available again.
    whole_at: Option<Instant>,
}

impl Pace {
    /// Allows `burst` steps in a row, and one each `step` after that.
    #[must_use]
    pub fn new(burst: u32, step: Duration) -> Self {
        Self { burst, step, whole_at: None }
    }

    /// Returns whether a step is allowed now.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        let behind = self.whole_at.map(|at| at.saturating_duration_since(now));
        behind.is_none_or(|behind| behind < self.step.saturating_mul(self.burst))
    }

    /// Counts a step.
    pub fn step(&mut self, now: Instant) {
        self.whole_at = Some(self.whole_at.map_or(now, |at| at.max(now)) + self.step);
    }
}

#[cfg(test)]
mod tests;
