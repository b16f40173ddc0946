//! Reports of losses in the daemon's own log, limited in number for each log. The guest's log
//! itself reports every loss.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// Time in which the losses of one log are reported once.
const PERIOD: Duration = Duration::from_secs(60);

/// Reports of one log. A log has none until something of it was lost.
#[derive(Debug, Default)]
pub(crate) struct LossReport {
    warned_at: Option<Instant>,
    told_at: Option<Instant>,
    /// Bytes lost and not reported yet.
    lost_bytes: u64,
    /// All bytes lost that the guest's log has a line about.
    told_bytes: u64,
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

    /// Notes that the log has a line about `lost_bytes`. Returns the number to report, if a report
    /// is due; it always is for a log that `was_failing`.
    pub(crate) fn note_written(
        &mut self,
        lost_bytes: u64,
        was_failing: bool,
        now: Instant,
    ) -> Option<u64> {
        self.lost_bytes = self.lost_bytes.saturating_add(lost_bytes);
        self.told_bytes = self.told_bytes.saturating_add(lost_bytes);
        let is_due = self.lost_bytes > 0 && is_due(self.told_at, now);
        (is_due || was_failing).then(|| self.tell(now))
    }

    /// Returns the number of bytes that the guest's log has lines about.
    pub(crate) fn told_bytes(&self) -> u64 {
        self.told_bytes
    }

    /// Returns the number of bytes that are still to be reported when the log ends.
    pub(crate) fn end(&mut self, now: Instant) -> Option<u64> {
        (self.lost_bytes > 0).then(|| self.tell(now))
    }

    fn tell(&mut self, now: Instant) -> u64 {
        self.told_at = Some(now);
        std::mem::take(&mut self.lost_bytes)
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
        assert_eq!(report.note_written(0, false, begin), None, "nothing is lost");
        assert_eq!(report.note_written(5, false, begin), Some(5));
        assert_eq!(report.note_written(6, false, begin + PERIOD / 2), None);
        assert_eq!(report.note_written(1, false, begin + PERIOD), Some(7));
        assert_eq!(report.note_written(0, true, begin + PERIOD), Some(0));
        assert_eq!(report.note_written(3, false, begin + PERIOD), None);
        assert_eq!((report.end(begin + PERIOD), report.end(begin + PERIOD)), (Some(3), None));
        assert_eq!(report.told_bytes(), 5 + 6 + 1 + 3);
        assert!(report.begin_warning(begin + PERIOD));
    }
}
