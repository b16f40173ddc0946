//! Budget of memory that pipes share.
//!
//! Bytes in a pipe are in the kernel's memory, which no figure of this process contains, and all
//! guests may flood at once. First come, first served: a guest for which nothing is left goes on
//! with the pipe that it has.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that all enlarged pipes together may hold. That is half of what the kernel lets all pipes
/// of an unprivileged user hold (`pipe-user-pages-soft`, 16,384 pages) before it gives out tiny
/// ones only. It is enough for 32 floods.
const ENLARGED_BYTES_MAX: u64 = 33_554_432;

/// Budget of pipes that were enlarged.
pub(crate) static ENLARGED: PipeBudget = PipeBudget::new(ENLARGED_BYTES_MAX);

/// A number of bytes to reserve from.
#[derive(Debug)]
pub(crate) struct PipeBudget {
    bytes_max: u64,
    taken_bytes: AtomicU64,
}

/// A part of a budget, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: &'static PipeBudget,
    bytes: u64,
}

impl PipeBudget {
    const fn new(bytes_max: u64) -> Self {
        Self { bytes_max, taken_bytes: AtomicU64::new(0) }
    }

    /// Reserves `bytes`, if so many are left.
    pub(crate) fn reserve(&'static self, bytes: u64) -> Option<Reservation> {
        let more = |taken: u64| taken.checked_add(bytes).filter(|&taken| taken <= self.bytes_max);
        self.taken_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Reservation { budget: self, bytes })
    }

    /// Reserves the `bytes` of a pipe that has them already, even where that is too much.
    pub(crate) fn reserve_existing(&'static self, bytes: u64) -> Reservation {
        self.taken_bytes.fetch_add(bytes, Ordering::Relaxed);
        Reservation { budget: self, bytes }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.taken_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_there_again_when_it_is_given_back() {
        static BUDGET: PipeBudget = PipeBudget::new(100);
        let (first, second) = (BUDGET.reserve(40).unwrap(), BUDGET.reserve(60).unwrap());
        assert!(BUDGET.reserve(1).is_none());
        drop(second);
        assert!(BUDGET.reserve(61).is_none());
        let third = BUDGET.reserve(60).unwrap();
        drop((first, third));
        assert!(BUDGET.reserve(100).is_some());
    }

    #[test]
    fn what_was_there_before_counts_even_if_it_is_too_much() {
        static BUDGET: PipeBudget = PipeBudget::new(100);
        let before = [BUDGET.reserve_existing(80), BUDGET.reserve_existing(80)];
        assert!(BUDGET.reserve(1).is_none());
        let [first, second] = before;
        drop(first);
        assert!(BUDGET.reserve(21).is_none());
        assert!(BUDGET.reserve(20).is_some());
        drop(second);
    }

    #[test]
    fn however_many_ask_at_once_no_byte_is_given_twice() {
        static BUDGET: PipeBudget = PipeBudget::new(1000);
        let ask =
            || (0..1000).filter_map(|_| BUDGET.reserve(7)).map(std::mem::forget).count() as u64;
        let given: u64 = std::thread::scope(|scope| {
            let asking = [(); 4].map(|()| scope.spawn(ask));
            asking.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(given, 1000 / 7);
    }
}
