//! Timers, as the numbers that the event loop gives back.

use common::event::TimerId;

/// A timer of this daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    /// A timer of the queue with this number.
    Queue(QueueTimer, u64),
    /// Old logs are to be looked for.
    Cleaning,
    /// Budgets of directories are to be seen to.
    Budgets,
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
            Self::Budgets => 1 << Self::BITS | 3,
        }
    }

    /// Returns the timer of a number from the event loop.
    pub(crate) fn from_source(source: u64) -> Self {
        let number = source >> Self::BITS;
        match source & ((1 << Self::BITS) - 1) {
            0 => Self::Queue(QueueTimer::Flush, number),
            1 => Self::Queue(QueueTimer::Rest, number),
            2 => Self::Queue(QueueTimer::GuestCheck, number),
            _ if number == 0 => Self::Cleaning,
            _ => Self::Budgets,
        }
    }
}

/// The timers of one queue that are set. Boxed, as most logs have none most of the time.
#[derive(Debug, Default)]
pub(crate) struct QueueTimers(Option<Box<[Option<TimerId>; QueueTimer::COUNT]>>);

impl QueueTimer {
    const COUNT: usize = 3;

    fn index(self) -> usize {
        match self {
            Self::Flush => 0,
            Self::Rest => 1,
            Self::GuestCheck => 2,
        }
    }
}

impl QueueTimers {
    /// Returns a timer, if it is set.
    pub(crate) fn get(&self, timer: QueueTimer) -> Option<TimerId> {
        self.0.as_ref().and_then(|timers| *timers.get(timer.index())?)
    }

    /// Notes that a timer is set.
    pub(crate) fn set(&mut self, timer: QueueTimer, id: TimerId) {
        let place = self.0.get_or_insert_default().get_mut(timer.index());
        place.into_iter().for_each(|place| *place = Some(id));
    }

    /// Forgets a timer, and returns it if it was set.
    pub(crate) fn take(&mut self, timer: QueueTimer) -> Option<TimerId> {
        let taken = self.0.as_mut()?.get_mut(timer.index())?.take();
        self.0.take_if(|timers| timers.iter().all(Option::is_none));
        taken
    }

    /// Returns all that are set.
    pub(crate) fn iter(&self) -> impl Iterator<Item = TimerId> {
        self.0.iter().flat_map(|timers| timers.iter().flatten().copied())
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
        for timer in [Timer::Cleaning, Timer::Budgets] {
            assert_eq!(Timer::from_source(timer.to_source()), timer);
        }
    }
}
