//! Timers, as the numbers that the event loop gives back.

/// A timer of this daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    /// A timer of the queue with this number.
    Queue(QueueTimer, u64),
    /// Old logs are to be looked for.
    Cleaning,
}

/// Purpose of a queue's timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QueueTimer {
    /// Store partial lines, and try again what has failed.
    Flush,
    /// Read a pipe that was left alone.
    Rest,
    /// Check whether the guest is about to wait for a task that takes long.
    GuestCheck,
}

impl Timer {
    const BITS: u32 = 2;

    /// Returns the number for the event loop.
    pub(crate) fn to_source(self) -> u64 {
        match self {
            Self::Queue(QueueTimer::Flush, number) => number << Self::BITS,
            Self::Queue(QueueTimer::Rest, number) => number << Self::BITS | 1,
            Self::Queue(QueueTimer::GuestCheck, number) => number << Self::BITS | 2,
            Self::Cleaning => 3,
        }
    }

    /// Returns the timer of a number from the event loop.
    pub(crate) fn from_source(source: u64) -> Self {
        let number = source >> Self::BITS;
        match source & ((1 << Self::BITS) - 1) {
            0 => Self::Queue(QueueTimer::Flush, number),
            1 => Self::Queue(QueueTimer::Rest, number),
            2 => Self::Queue(QueueTimer::GuestCheck, number),
            _ => Self::Cleaning,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_come_back_as_they_were() {
        for kind in [QueueTimer::Flush, QueueTimer::Rest, QueueTimer::GuestCheck] {
            let timer = Timer::Queue(kind, u64::from(u32::MAX));
            assert_eq!(Timer::from_source(timer.to_source()), timer);
        }
        assert_eq!(Timer::from_source(Timer::Cleaning.to_source()), Timer::Cleaning);
    }
}
