//! What rotation has removed before it was read.
//!
//! Parts of a log are numbered in the order in which they were begun, by the daemon's count of
//! rotations. So the number of parts between two places is known, and about their bytes: each was cut
//! within 80 bytes of the log's maximum size.

use serde::{Deserialize, Serialize};

/// Number of a place's part, and what was missed in front of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Count {
    /// Place of the log in the daemon's list: a log that is opened again is counted anew.
    log: Option<u64>,
    /// Number of the part, where it is known.
    number: Option<u64>,
    gap: Option<Gap>,
}

/// Parts that are missing, as long as their number is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Gap {
    /// Number of the last part in front of it, where it is known.
    after: Option<u64>,
    /// Parts that were found behind it.
    found: u64,
    /// Bytes of parts of which only the rest is missing.
    rest_bytes: u64,
}

/// Bytes that were missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missed {
    /// About so many.
    Bytes(u64),
    /// So many, or more: the number of missing parts is not known.
    AtLeast(u64),
}

impl Count {
    /// Notes that the place has moved on by so many parts.
    pub(super) fn step(&mut self, parts: u64) {
        self.number = self.number.map(|number| number.saturating_add(parts));
        if let Some(gap) = &mut self.gap {
            gap.found = gap.found.saturating_add(parts);
        }
    }

    /// Notes that the place's part is gone, with so many bytes that were not read, and that the place
    /// has moved to the oldest part that is left.
    pub(super) fn jump(&mut self, rest_bytes: u64) {
        let after = self.number.take();
        let gap = self.gap.get_or_insert(Gap { after, found: 0, rest_bytes: 0 });
        gap.found = gap.found.saturating_add(1);
        gap.rest_bytes = gap.rest_bytes.saturating_add(rest_bytes);
    }

    /// Takes the log's place in the daemon's list. All numbers are forgotten if that is another, or is
    /// given by another process of the daemon.
    pub(super) fn list(&mut self, log: Option<u64>, is_same_daemon: bool) {
        if is_same_daemon && self.log == log {
            return;
        }
        (self.log, self.number) = (log, None);
        if let Some(gap) = &mut self.gap {
            gap.after = None;
        }
    }

    /// Returns whether the number of the place's part is wanted.
    pub(super) fn is_unsettled(&self) -> bool {
        self.number.is_none() || self.gap.is_some()
    }

    /// Takes the number of the place's part, as the daemon counts, and returns what was missed.
    pub(super) fn settle(&mut self, number: Option<u64>, part_bytes: u64) -> Option<Missed> {
        self.number = number.or(self.number);
        let gap = self.gap.take()?;
        match (gap.after, number) {
            (Some(after), Some(number)) => {
                let parts = number.saturating_sub(after).saturating_sub(gap.found);
                let bytes = parts.saturating_mul(part_bytes).saturating_add(gap.rest_bytes);
                (bytes > 0).then_some(Missed::Bytes(bytes))
            }
            _ => Some(Missed::AtLeast(gap.rest_bytes)),
        }
    }
}

impl Missed {
    /// Returns the number of bytes, or the least that it may be.
    pub(super) fn bytes(self) -> u64 {
        match self {
            Self::Bytes(bytes) | Self::AtLeast(bytes) => bytes,
        }
    }

    /// Describes it.
    pub(super) fn text(self) -> String {
        match self {
            Self::Bytes(bytes) => {
                format!("about {bytes} bytes were missed, as rotation removed them")
            }
            Self::AtLeast(bytes) => format!(
                "{bytes} bytes or more were missed, as rotation removed them or the log was begun anew"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_parts_are_counted_by_rotations() {
        let mut count = Count::default();
        assert!(count.is_unsettled());
        assert_eq!(count.settle(Some(3), 1000), None);
        count.step(2);
        assert_eq!(count.number, Some(5));
        // 600 bytes of part 5, all of 6 to 9; then part 10 and 11, all of 12, then part 13 and 14.
        count.jump(600);
        count.step(1);
        count.jump(0);
        count.step(1);
        assert!(count.is_unsettled());
        assert_eq!(count.settle(Some(14), 1000), Some(Missed::Bytes(5600)));
        assert!(!count.is_unsettled());
    }

    #[test]
    fn a_part_that_was_read_to_its_end_is_not_missed() {
        let mut count = Count::default();
        count.list(Some(5), true);
        count.settle(Some(0), 1000);
        count.jump(0);
        count.list(Some(5), true);
        assert_eq!(count.settle(Some(1), 1000), None);
        count.jump(0);
        count.list(Some(6), true);
        assert_eq!(count.settle(Some(1), 1000), Some(Missed::AtLeast(0)));
    }

    #[test]
    fn without_a_number_there_is_a_lower_bound() {
        let mut count = Count::default();
        count.settle(Some(7), 1000);
        count.jump(10);
        count.list(None, false);
        assert_eq!(count.settle(Some(2), 1000), Some(Missed::AtLeast(10)));
        count.jump(20);
        assert_eq!(count.settle(None, 1000), Some(Missed::AtLeast(20)));
    }
}
