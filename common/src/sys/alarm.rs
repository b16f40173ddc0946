//! Alarms at a time since boot, which also ring when the machine is resumed after that time.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

/// An alarm, whose fd is readable from its time on until it is set again.
#[derive(Debug)]
pub struct Alarm(TimerFd);

impl Alarm {
    /// Creates one that is not set.
    ///
    /// # Errors
    /// As `timerfd_create(2)`.
    pub fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        Ok(Self(TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?))
    }

    /// Sets it to a time in milliseconds since boot. One in the past rings at once.
    ///
    /// # Errors
    /// As `timerfd_settime(2)`.
    pub fn set(&self, boot_ms: u64) -> io::Result<()> {
        // At 0 it would be off.
        let at = TimeSpec::from_duration(Duration::from_millis(boot_ms.max(1)));
        Ok(self.0.set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?)
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, poll};

    use super::*;
    use crate::sys::process::boot_time_ms;

    fn rings_within(alarm: &Alarm, ms: u16) -> bool {
        let mut polled = [PollFd::new(alarm.as_fd(), PollFlags::POLLIN)];
        poll(&mut polled, ms).unwrap() == 1
    }

    #[test]
    fn it_rings_at_its_time_and_at_once_for_one_that_is_over() {
        let alarm = Alarm::new().unwrap();
        assert!(!rings_within(&alarm, 0));
        let at = boot_time_ms() + 60;
        alarm.set(at).unwrap();
        assert!(rings_within(&alarm, 10_000) && boot_time_ms() >= at);
        alarm.set(boot_time_ms() + 100_000).unwrap();
        assert!(!rings_within(&alarm, 0));
        for past in [0, 1, at] {
            alarm.set(past).unwrap();
            assert!(rings_within(&alarm, 10_000), "{past}");
        }
    }
}
