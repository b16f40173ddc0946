//! Budget of a log's turn, after which other logs have theirs.

use std::time::{Duration, Instant};

/// Bytes of one turn.
const TURN_BYTES_MAX: u64 = 262_144;

/// Bytes of one turn when other logs wait.
const SHORT_TURN_BYTES_MAX: u64 = 65_536;

/// Pieces of one turn: a guest that writes byte by byte while they are read costs as much per byte
/// as others per page.
const TURN_MOVES_MAX: u32 = 32;

/// Time that a turn may go on writing, from its first write on. On a slow disk that is one write.
const TURN_PERIOD: Duration = Duration::from_millis(20);

/// Pieces in which everything that waits is written: more than it can take, as a file of 80 bytes
/// takes two.
const DRAIN_MOVES_MAX: u32 = 65_536;

/// Bytes that may be written, of the backlog and of the guest's pipe.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TurnBudget {
    bytes: u64,
    /// Number of pieces, however small.
    moves: u32,
    period: Option<Duration>,
    end: Option<Instant>,
}

impl TurnBudget {
    /// Returns the budget of one turn; a short one when other logs wait.
    pub(crate) fn turn(is_short: bool) -> Self {
        let bytes = if is_short { SHORT_TURN_BYTES_MAX } else { TURN_BYTES_MAX };
        Self { bytes, moves: TURN_MOVES_MAX, period: Some(TURN_PERIOD), end: None }
    }

    /// Returns the budget of one turn, of at most `bytes`, for a task that waits for all of them.
    pub(crate) fn part(bytes: u64) -> Self {
        Self { bytes: bytes.clamp(1, TURN_BYTES_MAX), moves: DRAIN_MOVES_MAX, ..Self::turn(false) }
    }

    /// Returns a budget of `bytes`, however long they take.
    pub(crate) fn all(bytes: u64) -> Self {
        Self { bytes: bytes.max(1), moves: DRAIN_MOVES_MAX, period: None, end: None }
    }

    /// Returns this budget, with at most `bytes`.
    pub(crate) fn at_most(self, bytes: u64) -> Self {
        Self { bytes: self.bytes.min(bytes), ..self }
    }

    /// Returns the number of bytes that may be written yet.
    pub(crate) fn bytes(&self) -> u64 {
        if self.is_over() { 0 } else { self.bytes }
    }

    /// Notes that a write begins.
    pub(crate) fn begin(&mut self) {
        if let (Some(period), None) = (self.period, self.end) {
            self.end = Some(Instant::now() + period);
        }
    }

    /// Returns the time from the first write to `now`; `None` if nothing was written, or however long
    /// that may take.
    pub(crate) fn time(&self, now: Instant) -> Option<Duration> {
        let begin = self.end?.checked_sub(self.period?)?;
        Some(now.saturating_duration_since(begin))
    }

    /// Subtracts a piece of `bytes` that was written.
    pub(crate) fn spend(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.moves = self.moves.saturating_sub(1);
    }

    /// Returns the number of bytes that were written since it was as `before`.
    pub(crate) fn spent(&self, before: &Self) -> u64 {
        before.bytes.saturating_sub(self.bytes)
    }

    /// Returns whether other logs have their turn.
    pub(crate) fn is_over(&self) -> bool {
        self.bytes == 0 || self.moves == 0 || self.end.is_some_and(|end| Instant::now() >= end)
    }

    /// Returns whether all pieces are used up, and not the bytes.
    pub(crate) fn is_in_pieces(&self) -> bool {
        self.moves == 0 && self.bytes > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_ends_with_its_bytes_its_pieces_or_its_time_but_has_one_piece() {
        let mut bytes = TurnBudget::turn(true);
        bytes.spend(SHORT_TURN_BYTES_MAX);
        let mut pieces = TurnBudget::turn(true);
        (0..TURN_MOVES_MAX).for_each(|_| pieces.spend(1));
        let mut time = TurnBudget::turn(true);
        std::thread::sleep(TURN_PERIOD);
        assert!(!time.is_over(), "nothing was written yet");
        time.begin();
        assert!(!time.is_over());
        std::thread::sleep(TURN_PERIOD);
        assert!([bytes, pieces, time].iter().all(TurnBudget::is_over));
        assert_eq!([bytes, pieces, time].map(|budget| budget.is_in_pieces()), [false, true, false]);
        assert_eq!(TurnBudget::all(0).bytes(), 1);
    }
}
