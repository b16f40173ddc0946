//! Bytes of a guest that were dropped, and the text of the line about them in its log.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use common::handover::document;
use common::logging::timestamp;

use crate::guest::reason::Cause;

/// All bytes that this process has dropped, on any thread, by [`Cause`].
static DROPPED_BYTES: [AtomicU64; Cause::ALL.len()] =
    [const { AtomicU64::new(0) }; Cause::ALL.len()];

/// Returns the number of bytes of all guests that were dropped since the start.
pub(crate) fn dropped_bytes() -> u64 {
    dropped_bytes_by_cause().map(|(_, bytes)| bytes).fold(0, u64::saturating_add)
}

/// Returns that number for each cause.
pub(crate) fn dropped_bytes_by_cause() -> impl Iterator<Item = (Cause, u64)> {
    Cause::ALL
        .into_iter()
        .zip(&DROPPED_BYTES)
        .map(|(it, count)| (it, count.load(Ordering::Relaxed)))
}

/// Counts bytes that were dropped.
pub(crate) fn count(cause: Cause, bytes: u64) {
    let counts = Cause::ALL.into_iter().zip(&DROPPED_BYTES);
    for (_, count) in counts.filter(|(it, _)| *it == cause) {
        count.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Bytes lost since the log could last be written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loss {
    bytes: u64,
    first: SystemTime,
    last: SystemTime,
}

impl Loss {
    /// Makes the loss of `bytes` now.
    pub(crate) fn new(bytes: u64) -> Self {
        let now = SystemTime::now();
        Self { bytes, first: now, last: now }
    }

    /// Adds `bytes` that were lost now.
    pub(crate) fn add(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.last = SystemTime::now();
    }

    /// Returns this loss and a later one as one.
    pub(crate) fn and(self, later: Self) -> Self {
        Self { bytes: self.bytes.saturating_add(later.bytes), last: later.last, ..self }
    }

    /// Returns it as it is in the state document.
    pub(crate) fn save(&self) -> document::Loss {
        document::Loss {
            bytes: self.bytes,
            first_unix_us: to_unix_us(self.first),
            last_unix_us: to_unix_us(self.last),
        }
    }

    /// Returns a loss from the state document; `None` for times that cannot be.
    pub(crate) fn restore(from: document::Loss) -> Option<Self> {
        let time = |unix_us| SystemTime::UNIX_EPOCH.checked_add(Duration::from_micros(unix_us));
        let (first, last) = (time(from.first_unix_us)?, time(from.last_unix_us)?);
        Some(Self { bytes: from.bytes, first, last })
    }

    /// Returns the time of the first.
    pub(crate) fn first(&self) -> SystemTime {
        self.first
    }

    /// Returns the number of bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the line for the log. It starts with a newline of its own unless the log is
    /// `at_line_start`.
    pub(crate) fn line(&self, reason: &str, at_line_start: bool) -> Vec<u8> {
        let newline = if at_line_start { "" } else { "\n" };
        let (now, bytes, period) = (timestamp(SystemTime::now()), self.bytes, self.period());
        format!(
            "{newline}{now}: virtlogd: {bytes} bytes of this log were lost {period}: {reason}\n"
        )
        .into_bytes()
    }

    fn period(&self) -> String {
        format!("between {} and {}", timestamp(self.first), timestamp(self.last))
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} bytes were lost {}", self.bytes, self.period())
    }
}

fn to_unix_us(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_stands_on_its_own_and_counts_all() {
        let mut loss = Loss::new(100);
        loss.add(23);
        let line = String::from_utf8(loss.line("disk full", false)).unwrap();
        assert!(line.starts_with('\n') && line.ends_with(": disk full\n"));
        assert!(line.contains(": virtlogd: 123 bytes of this log were lost between "));
        assert_eq!(loss.line("disk full", true).first(), line.as_bytes().get(1));
    }

    #[test]
    fn two_losses_are_one_from_the_first_to_the_last() {
        let at = |unix_us| SystemTime::UNIX_EPOCH + Duration::from_micros(unix_us);
        let first = Loss { bytes: 5, first: at(1), last: at(2) };
        let both = first.and(Loss { bytes: 7, first: at(8), last: at(9) });
        assert_eq!((both.bytes(), both.first, both.last), (12, at(1), at(9)));
        let huge = Loss { bytes: u64::MAX, ..first };
        assert_eq!(first.and(huge).bytes(), u64::MAX);
    }

    #[test]
    fn the_next_process_has_the_same_loss() {
        let at = |unix_us| SystemTime::UNIX_EPOCH + Duration::from_micros(unix_us);
        let loss = Loss { bytes: 5, first: at(1_700_000_000_000_001), last: at(u64::MAX / 2) };
        let next = Loss::restore(loss.save()).unwrap();
        assert_eq!((next.bytes, next.first, next.last), (loss.bytes, loss.first, loss.last));
        let impossible = document::Loss { bytes: 1, first_unix_us: u64::MAX, last_unix_us: 0 };
        assert!(Loss::restore(impossible).is_none_or(|loss| loss.bytes == 1), "and no panic");
    }

    #[test]
    fn dropped_bytes_of_all_guests_are_counted() {
        let before = dropped_bytes();
        count(Cause::Full, 3);
        count(Cause::Abandoned, 4);
        // Other tests drop bytes as well.
        assert!(dropped_bytes() >= before + 7);
    }
}
