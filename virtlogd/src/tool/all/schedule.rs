//! When a log is looked at.

use std::time::{Duration, Instant};

use super::log::Turn;

/// Time between two looks at a log that grows.
pub(super) const PERIOD_MIN: Duration = Duration::from_millis(50);

/// Time between two looks at a log that does not.
const PERIOD_MAX: Duration = Duration::from_secs(1);

/// When a log is looked at next.
#[derive(Debug)]
pub(super) struct Schedule {
    due: Instant,
    period: Duration,
}

impl Schedule {
    /// Makes one of a log that is looked at now.
    pub(super) fn new(now: Instant) -> Self {
        Self { due: now, period: PERIOD_MIN }
    }

    /// Returns whether it is to be looked at.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due <= now
    }

    /// Returns whether nothing has come for a while.
    pub(super) fn is_quiet(&self) -> bool {
        self.period == PERIOD_MAX
    }

    /// Takes what has come of a turn.
    pub(super) fn note(&mut self, turn: Turn, now: Instant) {
        match turn {
            Turn::Idle => self.period = (self.period * 2).min(PERIOD_MAX),
            Turn::Done => self.period = PERIOD_MIN,
            Turn::More | Turn::Later(_) => {
                (self.due, self.period) = (now, PERIOD_MIN);
                return;
            }
        }
        self.due = now + self.period;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_log_is_looked_at_less_often() {
        let now = Instant::now();
        let mut schedule = Schedule::new(now);
        assert!(schedule.is_due(now));
        for _ in 0..5 {
            assert!(!schedule.is_quiet());
            schedule.note(Turn::Idle, now);
        }
        assert!(schedule.is_quiet() && !schedule.is_due(now + PERIOD_MAX / 2));
        assert!(schedule.is_due(now + PERIOD_MAX));
        schedule.note(Turn::Done, now);
        assert!(!schedule.is_due(now) && schedule.is_due(now + PERIOD_MIN));
        schedule.note(Turn::More, now);
        assert!(schedule.is_due(now));
    }
}
