//! Counts of what is done to logs, for who looks into the daemon.
//!
//! A job counts in its [workspace](super::staging::Workspace), which nobody shares. The counts are added up
//! when the workspace is given back, under the lock that is needed for that anyway.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::query::Durations;

use crate::rotating_file::Growth;

/// Upper bounds of the durations that are counted apart, in microseconds. A turn takes some ten on a
/// healthy disk, and ends after 20 ms unless the disk is slow.
const BOUNDS_US: [u64; 9] =
    [100, 500, 2_000, 10_000, 50_000, 250_000, 1_000_000, 5_000_000, 30_000_000];

/// Bytes taken from guests' pipes other than by a turn of writing. That is rare.
static BUFFERED_BYTES: AtomicU64 = AtomicU64::new(0);

/// Counts of jobs on logs.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Bytes taken from guests' pipes to be written at once.
    pub(crate) taken_bytes: u64,
    /// Bytes written to logs.
    pub(crate) written_bytes: u64,
    pub(crate) rotations: u64,
    /// Lines about losses.
    pub(crate) loss_lines: u64,
    /// Attempts to write that have failed.
    pub(crate) write_errors: u64,
    /// Turns of writing, by the bounds, and those over all of them.
    turns: [u64; BOUNDS_US.len() + 1],
    turns_us: u64,
}

/// Counts bytes that were taken from a guest's pipe into its backlog.
pub(crate) fn count_buffered(bytes: u64) {
    BUFFERED_BYTES.fetch_add(bytes, Ordering::Relaxed);
}

/// Returns the number of those bytes.
pub(crate) fn buffered_bytes() -> u64 {
    BUFFERED_BYTES.load(Ordering::Relaxed)
}

impl Tally {
    /// Counts the growth of a log.
    pub(crate) fn grown(&mut self, growth: Growth) {
        self.written_bytes = self.written_bytes.wrapping_add(growth.bytes.into());
        self.rotations = self.rotations.wrapping_add(growth.rotations.into());
    }

    /// Counts a turn by its time from its first write to its end.
    pub(crate) fn turn(&mut self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let place = BOUNDS_US.iter().take_while(|bound| us > **bound).count();
        if let Some(count) = self.turns.get_mut(place) {
            *count += 1;
        }
        self.turns_us = self.turns_us.saturating_add(us);
    }

    /// Adds other counts, which begin anew.
    pub(crate) fn take(&mut self, other: &mut Self) {
        let Self { taken_bytes, written_bytes, rotations, loss_lines, write_errors, .. } = other;
        let more = [*taken_bytes, *written_bytes, *rotations, *loss_lines, *write_errors];
        let Self { taken_bytes, written_bytes, rotations, loss_lines, write_errors, .. } = self;
        let counts = [taken_bytes, written_bytes, rotations, loss_lines, write_errors];
        let turns = self.turns.iter_mut().zip(&other.turns);
        for (count, more) in counts.into_iter().zip(&more).chain(turns) {
            *count = count.wrapping_add(*more);
        }
        self.turns_us = self.turns_us.saturating_add(other.turns_us);
        *other = Self::default();
    }

    /// Returns the durations of turns.
    pub(crate) fn durations(&self) -> Durations {
        Durations {
            bounds_us: BOUNDS_US.to_vec(),
            counts: self.turns.to_vec(),
            sum_us: self.turns_us,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_counted_under_the_first_bound_that_it_does_not_exceed() {
        let mut tally = Tally::default();
        for us in [0, 100, 101, 30_000_000, 30_000_001] {
            tally.turn(Duration::from_micros(us));
        }
        assert_eq!(tally.durations().counts, [2, 1, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(tally.durations().sum_us, 60_000_202);
        assert_eq!(tally.durations().bounds_us.len() + 1, tally.durations().counts.len());
    }

    #[test]
    fn counts_are_added_once() {
        let mut job = Tally { taken_bytes: 1, loss_lines: 4, write_errors: 5, ..Tally::default() };
        job.grown(Growth { bytes: 2, rotations: 3 });
        job.turn(Duration::from_micros(7));
        let (expected, mut sum) = (job.clone(), Tally::default());
        sum.take(&mut job);
        sum.take(&mut job);
        assert_eq!((sum, job), (expected, Tally::default()));
    }
}
