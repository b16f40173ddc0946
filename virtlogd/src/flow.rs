//! How fast a guest writes, and what follows from it.
//!
//! With one write per line the cost is the wake-up, for us and for the guest, not the bytes. So a
//! guest that writes quickly is not watched for a moment, while its output gathers in the pipe;
//! one that fills its pipe gets a larger one. Whoever asks for the log has it drained first, so
//! that only somebody who follows the file can see the delay, by milliseconds.

use std::time::{Duration, Instant};

/// Two turns with output within this time make a quick writer.
const QUICK: Duration = Duration::from_millis(3);

/// How long the pipe of a quick writer is left alone.
pub(crate) const REST: Duration = Duration::from_millis(1);

/// How long a pipe stays large after it was filled the last time.
pub(crate) const LARGE: Duration = Duration::from_secs(1);

/// Bytes of a pipe as the kernel makes it.
const SMALL_BYTES: i32 = 65_536;

/// Bytes of a large one: the most that an unprivileged process may ask for.
const LARGE_BYTES: i32 = 1_048_576;

/// A guest's output over time.
#[derive(Debug)]
pub(crate) struct Flow {
    last_output: Option<Instant>,
    capacity_bytes: u64,
    /// The kernel does not let us make pipes larger.
    fixed: bool,
}

/// What to do with a pipe that was found empty in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Wait until something comes.
    Watch,
    /// Let it gather.
    Rest,
    /// Ask for a pipe of this size.
    Resize(i32),
}

impl Flow {
    /// Of a guest that has not written yet, into a pipe of `capacity_bytes`.
    pub(crate) fn new(capacity_bytes: usize) -> Self {
        Self { last_output: None, capacity_bytes: capacity_bytes as u64, fixed: false }
    }

    /// A turn at `now` has found `moved` bytes.
    pub(crate) fn pace(&mut self, moved: u64, now: Instant) -> Pace {
        let quiet_for = self.last_output.map(|last| now.saturating_duration_since(last));
        if moved == 0 {
            let has_been_quiet = quiet_for.is_none_or(|quiet| quiet >= LARGE);
            return if self.is_large() && has_been_quiet {
                Pace::Resize(SMALL_BYTES)
            } else {
                Pace::Watch
            };
        }
        self.last_output = Some(now);
        let nearly_filled = moved >= self.capacity_bytes / 2;
        if nearly_filled && !self.is_large() && !self.fixed {
            Pace::Resize(LARGE_BYTES)
        } else if nearly_filled || quiet_for.is_none_or(|quiet| quiet > QUICK) {
            Pace::Watch
        } else {
            Pace::Rest
        }
    }

    /// The pipe has this size now; the same as before when the kernel refused.
    pub(crate) fn resized(&mut self, capacity_bytes: usize) {
        self.fixed = self.capacity_bytes == capacity_bytes as u64;
        self.capacity_bytes = capacity_bytes as u64;
    }

    /// Whether the pipe was made larger.
    pub(crate) fn is_large(&self) -> bool {
        self.capacity_bytes > SMALL_BYTES.unsigned_abs().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_line_now_and_then_is_waited_for() {
        let (mut flow, start) = (Flow::new(65_536), Instant::now());
        for line in 0..10 {
            assert_eq!(flow.pace(80, start + line * 10 * MS), Pace::Watch);
        }
    }

    #[test]
    fn quick_lines_gather_until_there_are_none() {
        let (mut flow, start) = (Flow::new(65_536), Instant::now());
        assert_eq!(flow.pace(80, start), Pace::Watch);
        assert_eq!(flow.pace(80, start + MS), Pace::Rest);
        assert_eq!(flow.pace(8000, start + 2 * MS), Pace::Rest);
        assert_eq!(flow.pace(0, start + 3 * MS), Pace::Watch);
    }

    #[test]
    fn a_pipe_is_large_only_while_it_is_filled() {
        let (mut flow, start) = (Flow::new(65_536), Instant::now());
        assert_eq!(flow.pace(40_000, start), Pace::Resize(LARGE_BYTES));
        flow.resized(1_048_576);
        assert_eq!(flow.pace(40_000, start + MS), Pace::Rest);
        assert_eq!(flow.pace(600_000, start + 2 * MS), Pace::Watch);
        assert_eq!(flow.pace(0, start + 3 * MS), Pace::Watch);
        assert_eq!(flow.pace(0, start + 3 * MS + LARGE), Pace::Resize(SMALL_BYTES));
    }

    #[test]
    fn a_pipe_that_cannot_be_larger_is_never_left_to_fill() {
        let (mut flow, start) = (Flow::new(8192), Instant::now());
        assert_eq!(flow.pace(8192, start), Pace::Resize(LARGE_BYTES));
        flow.resized(8192);
        assert_eq!(flow.pace(8192, start + MS), Pace::Watch);
    }
}
