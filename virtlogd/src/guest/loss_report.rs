//! What the daemon's own log says of bytes that a guest's log has lost: each log now and then, however
//! often it loses some. The guest's log itself tells of every loss.

use std::time::{Duration, Instant};

/// How long one log's losses are not told of again.
const PERIOD: Duration = Duration::from_secs(60);

/// What was said of one log, and what was not.
#[derive(Debug, Default)]
pub(crate) struct LossReport {
    warned_at: Option<Instant>,
    told_at: Option<Instant>,
    /// Lost and made up for by a line in the log since that was told of.
    lost_bytes: u64,
}

impl LossReport {
    /// Bytes are being lost: whether that is to be said.
    pub(crate) fn begin_warning(&mut self, now: Instant) -> bool {
        let is_due = is_due(self.warned_at, now);
        if is_due {
            self.warned_at = Some(now);
        }
        is_due
    }

    /// The log has a line about `lost_bytes`; gives how many to tell of. What `was_failing` is told of
    /// in any case.
    pub(crate) fn note_written(
        &mut self,
        lost_bytes: u64,
        was_failing: bool,
        now: Instant,
    ) -> Option<u64> {
        self.lost_bytes = self.lost_bytes.saturating_add(lost_bytes);
        let is_due = self.lost_bytes > 0 && is_due(self.told_at, now);
        (is_due || was_failing).then(|| self.tell(now))
    }

    /// The log ends; gives what is still to be told.
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
        assert_eq!(report.note_written(5, false, begin), Some(5));
        assert_eq!(report.note_written(6, false, begin + PERIOD / 2), None);
        assert_eq!(report.note_written(1, false, begin + PERIOD), Some(7));
        assert_eq!(report.note_written(0, true, begin + PERIOD), Some(0));
        assert_eq!(report.note_written(3, false, begin + PERIOD), None);
        assert_eq!((report.end(begin + PERIOD), report.end(begin + PERIOD)), (Some(3), None));
        assert!(report.begin_warning(begin + PERIOD));
    }
}
