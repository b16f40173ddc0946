//! Reports of losses in the daemon's own log, limited in number for each log. The guest's log
//! itself reports every loss.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use crate::guest::loss::Loss;

/// Time in which the losses of one log are reported once.
const PERIOD: Duration = Duration::from_secs(60);

/// Reports of one log. A log has none until something of it was lost.
#[derive(Debug, Default)]
pub(crate) struct LossReport {
    warned_at: Option<Instant>,
    told_at: Option<Instant>,
    /// What was lost and is not reported yet.
    lost: Option<Loss>,
    /// All bytes lost that the guest's log has a line about.
    told_bytes: u64,
    /// The log can be written again, which is reported when its backlog is written.
    pub(crate) is_failure_over: bool,
    /// Order of the last line about a loss that was recorded.
    pub(crate) line_order: Option<NonZeroU64>,
}

impl LossReport {
    /// Begins a loss. Returns whether a warning is due.
    pub(crate) fn begin_warning(&mut self, now: Instant) -> bool {
        let is_due = is_due(self.warned_at, now);
        if is_due {
            self.warned_at = Some(now);
        }
        is_due
    }

    /// Notes that the log has a line about a loss, if there was one. Returns whether a report is due;
    /// it always is for a log that `was_failing`.
    pub(crate) fn note_written(
        &mut self,
        lost: Option<Loss>,
        was_failing: bool,
        now: Instant,
    ) -> bool {
        if let Some(lost) = lost {
            self.told_bytes = self.told_bytes.saturating_add(lost.bytes());
            self.lost = Some(self.lost.map_or(lost, |earlier| earlier.and(lost)));
        }
        was_failing || (self.lost.is_some() && is_due(self.told_at, now))
    }

    /// Returns the number of bytes that the guest's log has lines about.
    pub(crate) fn told_bytes(&self) -> u64 {
        self.told_bytes
    }

    /// Returns what was lost and is not reported yet, and is reported now.
    pub(crate) fn tell(&mut self, now: Instant) -> Option<Loss> {
        let lost = self.lost.take()?;
        self.told_at = Some(now);
        Some(lost)
    }
}

fn is_due(last: Option<Instant>, now: Instant) -> bool {
    last.is_none_or(|last| now.saturating_duration_since(last) >= PERIOD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_told_of_now_and_then_and_all_in_the_end() {
        let (mut report, begin) = (LossReport::default(), Instant::now());
        assert!(report.begin_warning(begin) && !report.begin_warning(begin + PERIOD / 2));
        let mut reported = |bytes, was_failing, now| {
            let lost = (bytes > 0).then(|| Loss::new(bytes));
            let is_due = report.note_written(lost, was_failing, now);
            is_due.then(|| report.tell(now).map_or(0, |lost| lost.bytes()))
        };
        assert_eq!(reported(0, false, begin), None, "nothing is lost");
        assert_eq!(reported(5, false, begin), Some(5));
        assert_eq!(reported(6, false, begin + PERIOD / 2), None);
        assert_eq!(reported(1, false, begin + PERIOD), Some(7));
        assert_eq!(reported(0, true, begin + PERIOD), Some(0));
        assert_eq!(reported(3, false, begin + PERIOD), None);
        let end = report.tell(begin + PERIOD).map(|lost| lost.bytes());
        assert_eq!((end, report.tell(begin + PERIOD).is_none()), (Some(3), true));
        assert_eq!(report.told_bytes(), 5 + 6 + 1 + 3);
        assert!(report.begin_warning(begin + PERIOD));
    }
}
