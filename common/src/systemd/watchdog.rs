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
mod tests;
