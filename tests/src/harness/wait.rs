//! Waiting for what must come about.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

/// Generous: only a failing test ever waits this long.
pub(super) const DEADLINE: Duration = Duration::from_secs(20);

const PAUSE: Duration = Duration::from_millis(3);

/// Waits until `condition` holds, and fails the test when it does not come about.
#[track_caller]
pub fn eventually(what: &str, condition: impl FnMut() -> bool) {
    assert!(eventually_within(DEADLINE, condition), "never happened: {what}");
}

/// Waits at most `patience` until `condition` holds, and says whether it did.
pub fn eventually_within(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + patience;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(PAUSE);
    }
}

/// By the monotonic clock, which is the same for all processes.
pub(crate) fn now_us() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

/// Sets a flag when it is dropped, also when a test fails: a thread of a scope that waits for the flag
/// would keep the failed test from its end.
#[derive(Debug)]
pub struct SetAtEnd<'a>(pub &'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
