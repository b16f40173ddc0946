//! Rate at which a guest writes, and the policy of reading that follows from it.
//!
//! With one write per line the cost is the wake-up, for us and for the guest, not the bytes. So a
//! guest that writes quickly is not watched for a moment, while its output gathers in the pipe;
//! one that fills its pipe gets a larger one. Whoever asks for the log has it drained first, so
//! that only a reader who follows the file can see the delay, by milliseconds.

use std::time::{Duration, Instant};

use crate::guest::pipe_budget::{self, Reservation};

/// Time between two turns with output that makes a quick writer, beside the time for which the pipe
/// was left alone.
const QUICK: Duration = Duration::from_millis(3);

/// Time for which the pipe of a quick writer is left alone.
pub(crate) const REST: Duration = Duration::from_millis(1);

/// Time for which the pipe of one that writes little is left alone. With the millisecond to which
/// timers are rounded, a line is at most 5 ms late in its file.
const LONG_REST: Duration = Duration::from_millis(4);

/// Part of its pipe, as a divisor, that a guest fills during a long rest at the least unless it
/// writes little.
const LONG_REST_PART: u64 = 16;

/// Time for which a pipe stays large after it last had more than a small one can hold.
pub(crate) const LARGE: Duration = Duration::from_secs(1);

/// Size of a pipe as the kernel makes it, in bytes.
const SMALL_BYTES: i32 = 65_536;

/// Size of a large one, in bytes: the most that an unprivileged process may ask for.
const LARGE_BYTES: i32 = 1_048_576;

/// A time for which a pipe is left alone.
#[derive(Debug, Default, Clone, Copy)]
enum Rest {
    #[default]
    None,
    Short,
    Long,
}

impl Rest {
    fn period(self) -> Duration {
        match self {
            Self::None => Duration::ZERO,
            Self::Short => REST,
            Self::Long => LONG_REST,
        }
    }
}

/// A guest's output over time.
#[derive(Debug)]
pub(crate) struct RateTracker {
    last_output: Option<Instant>,
    /// Rest of the pipe before it was read at last.
    rested: Rest,
    /// As there are thousands of logs, in no more bits than the kernel has for it.
    capacity_bytes: u32,
    /// The kernel refuses larger pipes.
    fixed: bool,
    /// State of a large pipe.
    enlarged: Option<Box<Enlarged>>,
}

/// State of a large pipe.
#[derive(Debug)]
struct Enlarged {
    last_filled: Instant,
    /// Held for as long as the pipe is large.
    _reservation: Reservation,
}

/// Policy for a pipe that was found empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadPolicy {
    /// Read it when it is ready.
    Watch,
    /// Read it after this time.
    Rest(Duration),
    /// Change its size to this many bytes.
    Resize(i32),
}

impl RateTracker {
    /// Makes the tracker of a guest that has not written yet, into a pipe of `capacity_bytes`. The
    /// process before this one may have enlarged it.
    pub(crate) fn new(capacity_bytes: usize, now: Instant) -> Self {
        let capacity_bytes = to_u32(capacity_bytes);
        let enlarged = is_large(capacity_bytes).then(|| {
            Box::new(Enlarged {
                last_filled: now,
                _reservation: pipe_budget::ENLARGED.reserve_existing(capacity_bytes.into()),
            })
        });
        Self { last_output: None, rested: Rest::None, capacity_bytes, fixed: false, enlarged }
    }

    /// Notes a turn at `now` that has moved `moved` bytes.
    pub(crate) fn note(&mut self, moved: u64, now: Instant) {
        if moved > 0 {
            self.last_output = Some(now);
        }
        if let Some(enlarged) = &mut self.enlarged
            && nearly_fills(moved, SMALL_BYTES.unsigned_abs().into())
        {
            enlarged.last_filled = now;
        }
    }

    /// Notes a turn at `now` that has emptied the pipe of `moved` bytes, and returns how it is read
    /// next.
    pub(crate) fn policy(&mut self, moved: u64, now: Instant) -> ReadPolicy {
        let quiet_for = self.last_output.map(|last| now.saturating_duration_since(last));
        self.note(moved, now);
        let quick = QUICK + std::mem::take(&mut self.rested).period();
        let is_nearly_filled = nearly_fills(moved, self.capacity_bytes.into());
        if self.is_larger_than_it_need_be(now) {
            return ReadPolicy::Resize(SMALL_BYTES);
        }
        if is_nearly_filled && self.may_be_enlarged(now) {
            return ReadPolicy::Resize(LARGE_BYTES);
        }
        match quiet_for {
            Some(time) if time <= quick && moved > 0 && !is_nearly_filled => {
                self.rested = self.rest(moved, time);
                ReadPolicy::Rest(self.rested.period())
            }
            _ => ReadPolicy::Watch,
        }
    }

    /// Sets the pipe's size; the same as before if the kernel refused another.
    pub(crate) fn resized(&mut self, capacity_bytes: usize) {
        let capacity_bytes = to_u32(capacity_bytes);
        self.fixed = self.capacity_bytes == capacity_bytes;
        self.capacity_bytes = capacity_bytes;
        self.enlarged.take_if(|_| !is_large(self.capacity_bytes));
    }

    /// Returns whether the pipe is large.
    pub(crate) fn is_large(&self) -> bool {
        self.enlarged.is_some()
    }

    /// Returns the size of a large pipe.
    pub(crate) fn enlarged_bytes(&self) -> Option<usize> {
        self.is_large().then(|| usize::try_from(self.capacity_bytes).ok()).flatten()
    }

    /// Returns the time to rest when `moved` bytes came within `time`.
    fn rest(&self, moved: u64, time: Duration) -> Rest {
        let expected_bytes = u128::from(moved) * LONG_REST.as_micros() / time.as_micros().max(1);
        let is_slow = expected_bytes < u128::from(u64::from(self.capacity_bytes) / LONG_REST_PART);
        if is_slow { Rest::Long } else { Rest::Short }
    }

    fn is_larger_than_it_need_be(&self, now: Instant) -> bool {
        let calm_for = |it: &Enlarged| now.saturating_duration_since(it.last_filled);
        self.enlarged.as_deref().is_some_and(|enlarged| calm_for(enlarged) >= LARGE)
    }

    /// Reserves the memory for it, if there is some left.
    fn may_be_enlarged(&mut self, now: Instant) -> bool {
        if self.is_large() || self.fixed {
            return false;
        }
        let reservation = pipe_budget::ENLARGED.reserve(LARGE_BYTES.unsigned_abs().into());
        self.enlarged =
            reservation.map(|_reservation| Box::new(Enlarged { last_filled: now, _reservation }));
        self.is_large()
    }
}

fn to_u32(capacity_bytes: usize) -> u32 {
    u32::try_from(capacity_bytes).unwrap_or(u32::MAX)
}

fn is_large(capacity_bytes: u32) -> bool {
    capacity_bytes > SMALL_BYTES.unsigned_abs()
}

fn nearly_fills(moved: u64, capacity_bytes: u64) -> bool {
    moved > 0 && moved >= capacity_bytes / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn rate(capacity_bytes: usize) -> (RateTracker, Instant) {
        let start = Instant::now();
        (RateTracker::new(capacity_bytes, start), start)
    }

    #[test]
    fn a_line_now_and_then_is_waited_for() {
        let (mut rate, start) = rate(65_536);
        for line in 0..10 {
            assert_eq!(rate.policy(80, start + line * 10 * MS), ReadPolicy::Watch);
        }
    }

    #[test]
    fn quick_lines_gather_until_there_are_none() {
        let (mut rate, start) = rate(65_536);
        assert_eq!(rate.policy(80, start), ReadPolicy::Watch);
        assert_eq!(rate.policy(80, start + MS), ReadPolicy::Rest(LONG_REST));
        assert_eq!(rate.policy(8000, start + MS + LONG_REST), ReadPolicy::Rest(REST));
        assert_eq!(rate.policy(0, start + 2 * MS + LONG_REST), ReadPolicy::Watch);
    }

    #[test]
    fn a_pipe_is_large_only_while_it_is_filled() {
        let (mut rate, start) = rate(65_536);
        assert_eq!(rate.policy(40_000, start), ReadPolicy::Resize(LARGE_BYTES));
        rate.resized(1_048_576);
        assert_eq!(rate.policy(40_000, start + MS), ReadPolicy::Rest(REST));
        assert_eq!(rate.policy(600_000, start + 2 * MS), ReadPolicy::Watch);
        assert_eq!(rate.policy(0, start + 3 * MS), ReadPolicy::Watch);
        assert_eq!(rate.policy(0, start + 2 * MS + LARGE), ReadPolicy::Resize(SMALL_BYTES));
        rate.resized(65_536);
        assert!(!rate.is_large());
    }

    #[test]
    fn lines_behind_a_flood_do_not_keep_a_pipe_large() {
        let (mut rate, start) = rate(1_048_576);
        assert_eq!(rate.policy(80, start + LARGE / 2), ReadPolicy::Watch);
        rate.note(65_536, start + LARGE / 2);
        assert_eq!(rate.policy(80, start + LARGE), ReadPolicy::Watch);
        assert_eq!(rate.policy(80, start + LARGE / 2 + LARGE), ReadPolicy::Resize(SMALL_BYTES));
    }

    #[test]
    fn a_pipe_that_cannot_be_larger_is_never_left_to_fill() {
        let (mut rate, start) = rate(8192);
        assert_eq!(rate.policy(8192, start), ReadPolicy::Resize(LARGE_BYTES));
        rate.resized(8192);
        assert_eq!(rate.policy(8192, start + MS), ReadPolicy::Watch);
    }
}
