//! How fast a guest writes, and what follows from it.
//!
//! With one write per line the cost is the wake-up, for us and for the guest, not the bytes. So a
//! guest that writes quickly is not watched for a moment, while its output gathers in the pipe;
//! one that fills its pipe gets a larger one. Whoever asks for the log has it drained first, so
//! that only somebody who follows the file can see the delay, by milliseconds.

use std::time::{Duration, Instant};

use crate::guest::pipe_budget::{self, Share};

/// Two turns with output within this time, beside that for which the pipe was left alone, make a
/// quick writer.
const QUICK: Duration = Duration::from_millis(3);

/// How long the pipe of a quick writer is left alone.
pub(crate) const REST: Duration = Duration::from_millis(1);

/// The same for one that writes little. With the millisecond to which timers are rounded, a line is
/// at the most 5 ms late in its file.
const LONG_REST: Duration = Duration::from_millis(4);

/// Who fills less than this part of its pipe during a long rest, going on as it does, writes little.
const LONG_REST_PART: u64 = 16;

/// How long a pipe stays large after the last time that a small one would have been filled.
pub(crate) const LARGE: Duration = Duration::from_secs(1);

/// Bytes of a pipe as the kernel makes it.
const SMALL_BYTES: i32 = 65_536;

/// Bytes of a large one: the most that an unprivileged process may ask for.
const LARGE_BYTES: i32 = 1_048_576;

/// A guest's output over time.
#[derive(Debug)]
pub(crate) struct Flow {
    last_output: Option<Instant>,
    /// How long the pipe was left alone at last.
    rested: Duration,
    capacity_bytes: u64,
    /// The kernel does not let us make pipes larger.
    fixed: bool,
    /// While the pipe is large.
    enlarged: Option<Box<Enlarged>>,
}

/// What goes with a large pipe.
#[derive(Debug)]
struct Enlarged {
    last_filled: Instant,
    /// Held for as long as it is large.
    _share: Share,
}

/// What to do with a pipe that was found empty in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Wait until something comes.
    Watch,
    /// Let it gather for so long.
    Rest(Duration),
    /// Ask for a pipe of this size.
    Resize(i32),
}

impl Flow {
    /// Of a guest that has not written yet, as far as is known, into a pipe of `capacity_bytes`: an
    /// earlier image of this process may have enlarged it.
    pub(crate) fn new(capacity_bytes: usize, now: Instant) -> Self {
        let capacity_bytes = capacity_bytes as u64;
        let enlarged = is_large(capacity_bytes).then(|| {
            Box::new(Enlarged {
                last_filled: now,
                _share: pipe_budget::ENLARGED.count(capacity_bytes),
            })
        });
        Self { last_output: None, rested: Duration::ZERO, capacity_bytes, fixed: false, enlarged }
    }

    /// A turn at `now` has moved so many bytes, whether it found the pipe empty in the end or not.
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

    /// A turn at `now` has found `moved` bytes.
    pub(crate) fn pace(&mut self, moved: u64, now: Instant) -> Pace {
        let quiet_for = self.last_output.map(|last| now.saturating_duration_since(last));
        self.note(moved, now);
        let quick = QUICK + std::mem::take(&mut self.rested);
        let is_nearly_filled = nearly_fills(moved, self.capacity_bytes);
        if self.is_larger_than_it_need_be(now) {
            return Pace::Resize(SMALL_BYTES);
        }
        if is_nearly_filled && self.may_be_enlarged(now) {
            return Pace::Resize(LARGE_BYTES);
        }
        match quiet_for {
            Some(time) if time <= quick && moved > 0 && !is_nearly_filled => {
                self.rested = self.rest(moved, time);
                Pace::Rest(self.rested)
            }
            _ => Pace::Watch,
        }
    }

    /// The pipe has this size now; the same as before when the kernel refused.
    pub(crate) fn resized(&mut self, capacity_bytes: usize) {
        self.fixed = self.capacity_bytes == capacity_bytes as u64;
        self.capacity_bytes = capacity_bytes as u64;
        self.enlarged.take_if(|_| !is_large(self.capacity_bytes));
    }

    /// Whether the pipe was made larger.
    pub(crate) fn is_large(&self) -> bool {
        self.enlarged.is_some()
    }

    /// How many bytes it holds then.
    pub(crate) fn enlarged_bytes(&self) -> Option<usize> {
        self.is_large().then(|| usize::try_from(self.capacity_bytes).ok()).flatten()
    }

    /// How long may gather what comes as `moved` bytes came within `time`.
    fn rest(&self, moved: u64, time: Duration) -> Duration {
        let expected_bytes = u128::from(moved) * LONG_REST.as_micros() / time.as_micros().max(1);
        let is_slow = expected_bytes < u128::from(self.capacity_bytes / LONG_REST_PART);
        if is_slow { LONG_REST } else { REST }
    }

    fn is_larger_than_it_need_be(&self, now: Instant) -> bool {
        let calm_for = |it: &Enlarged| now.saturating_duration_since(it.last_filled);
        self.enlarged.as_deref().is_some_and(|enlarged| calm_for(enlarged) >= LARGE)
    }

    /// Takes the room for it, if there is any.
    fn may_be_enlarged(&mut self, now: Instant) -> bool {
        if self.is_large() || self.fixed {
            return false;
        }
        let share = pipe_budget::ENLARGED.take(LARGE_BYTES.unsigned_abs().into());
        self.enlarged = share.map(|_share| Box::new(Enlarged { last_filled: now, _share }));
        self.is_large()
    }
}

fn is_large(capacity_bytes: u64) -> bool {
    capacity_bytes > SMALL_BYTES.unsigned_abs().into()
}

fn nearly_fills(moved: u64, capacity_bytes: u64) -> bool {
    moved > 0 && moved >= capacity_bytes / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn flow(capacity_bytes: usize) -> (Flow, Instant) {
        let start = Instant::now();
        (Flow::new(capacity_bytes, start), start)
    }

    #[test]
    fn a_line_now_and_then_is_waited_for() {
        let (mut flow, start) = flow(65_536);
        for line in 0..10 {
            assert_eq!(flow.pace(80, start + line * 10 * MS), Pace::Watch);
        }
    }

    #[test]
    fn quick_lines_gather_until_there_are_none() {
        let (mut flow, start) = flow(65_536);
        assert_eq!(flow.pace(80, start), Pace::Watch);
        assert_eq!(flow.pace(80, start + MS), Pace::Rest(LONG_REST));
        assert_eq!(flow.pace(8000, start + MS + LONG_REST), Pace::Rest(REST));
        assert_eq!(flow.pace(0, start + 2 * MS + LONG_REST), Pace::Watch);
    }

    #[test]
    fn a_pipe_is_large_only_while_it_is_filled() {
        let (mut flow, start) = flow(65_536);
        assert_eq!(flow.pace(40_000, start), Pace::Resize(LARGE_BYTES));
        flow.resized(1_048_576);
        assert_eq!(flow.pace(40_000, start + MS), Pace::Rest(REST));
        assert_eq!(flow.pace(600_000, start + 2 * MS), Pace::Watch);
        assert_eq!(flow.pace(0, start + 3 * MS), Pace::Watch);
        assert_eq!(flow.pace(0, start + 2 * MS + LARGE), Pace::Resize(SMALL_BYTES));
        flow.resized(65_536);
        assert!(!flow.is_large());
    }

    #[test]
    fn lines_behind_a_flood_do_not_keep_a_pipe_large() {
        let (mut flow, start) = flow(1_048_576);
        assert_eq!(flow.pace(80, start + LARGE / 2), Pace::Watch);
        flow.note(65_536, start + LARGE / 2);
        assert_eq!(flow.pace(80, start + LARGE), Pace::Watch);
        assert_eq!(flow.pace(80, start + LARGE / 2 + LARGE), Pace::Resize(SMALL_BYTES));
    }

    #[test]
    fn a_pipe_that_cannot_be_larger_is_never_left_to_fill() {
        let (mut flow, start) = flow(8192);
        assert_eq!(flow.pace(8192, start), Pace::Resize(LARGE_BYTES));
        flow.resized(8192);
        assert_eq!(flow.pace(8192, start + MS), Pace::Watch);
    }
}
