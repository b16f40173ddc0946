//! Timeouts of `poll(2)`.

use std::time::Duration;

use nix::poll::PollTimeout;

/// Returns a timeout of `time` in milliseconds, rounded up: a call that ended before a deadline would
/// find that nothing is due yet.
#[must_use]
pub fn timeout(time: Duration) -> PollTimeout {
    PollTimeout::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(PollTimeout::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_time_is_cut_off() {
        let ms = |time| timeout(time).as_millis();
        assert_eq!(ms(Duration::ZERO), Some(0));
        assert_eq!(ms(Duration::from_nanos(1)), Some(1));
        assert_eq!(ms(Duration::from_millis(1000)), Some(1000));
        assert_eq!(ms(Duration::from_micros(999_001)), Some(1000));
        assert_eq!(ms(Duration::MAX), PollTimeout::MAX.as_millis());
    }
}
