//! The supervisor's watchdog.

use std::ffi::OsString;
use std::time::Duration;

/// Returns half of the watchdog's timeout for the process `own_pid`, from `WATCHDOG_USEC` and
/// `WATCHDOG_PID` as read by `variable`; `None` without a watchdog.
pub fn ping_period(
    own_pid: u32,
    variable: impl Fn(&'static str) -> Option<OsString>,
) -> Option<Duration> {
    let number = |name| variable(name)?.to_str()?.parse::<u64>().ok();
    if variable("WATCHDOG_PID").is_some() && number("WATCHDOG_PID") != Some(own_pid.into()) {
        return None;
    }
    let limit = number("WATCHDOG_USEC").filter(|limit| *limit > 0)?;
    Some(Duration::from_micros(limit) / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn period(usec: Option<&str>, pid: Option<&str>) -> Option<Duration> {
        ping_period(7, |name| if name == "WATCHDOG_USEC" { usec } else { pid }.map(Into::into))
    }

    #[test]
    fn it_is_half_of_what_is_allowed() {
        assert_eq!(period(Some("2000000"), Some("7")), Some(Duration::from_secs(1)));
        assert_eq!(period(Some("2000000"), None), Some(Duration::from_secs(1)));
    }

    #[test]
    fn what_is_not_meant_for_us_or_no_number_counts_for_nothing() {
        assert_eq!(period(Some("2000000"), Some("8")), None);
        assert_eq!(period(Some("2000000"), Some("x")), None);
        assert_eq!(period(Some("-1"), Some("7")), None);
        assert_eq!(period(Some("0"), Some("7")), None);
        assert_eq!(period(None, Some("7")), None);
    }
}
