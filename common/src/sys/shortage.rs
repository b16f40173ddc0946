//! Shortages of the machine: of descriptors, memory, threads, or room in the kernel. They pass.

use std::io;
use std::time::{Duration, Instant};

use nix::libc;

use super::process;

/// Time for a shortage to pass.
pub const PERIOD: Duration = Duration::from_millis(500);

/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(10);

/// Returns whether this is an error of a shortage, and not of the call.
#[must_use]
pub fn is_shortage(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::EMFILE
                | libc::ENFILE
                | libc::ENOMEM
                | libc::ENOBUFS
                | libc::ENOSPC
                | libc::ENODEV
                | libc::EAGAIN
                | libc::EINTR
        )
    )
}

/// Makes a call until it succeeds while there is a shortage, for up to [`PERIOD`]. For calls
/// without which nothing can go on.
///
/// # Errors
/// As the call.
pub fn wait_out<T>(call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    wait_out_until(Instant::now() + PERIOD, call)
}

/// Makes a call like [`wait_out`], until `end`; once at least.
///
/// # Errors
/// As the call.
pub fn wait_out_until<T>(end: Instant, mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if is_shortage(&error) && Instant::now() < end => process::pause(PAUSE),
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use nix::errno::Errno;

    use super::*;

    #[test]
    fn a_shortage_is_waited_out() {
        let mut refusals = vec![Errno::EMFILE, Errno::ENOMEM];
        let result = wait_out(|| refusals.pop().map_or(Ok(1), |errno| Err(errno.into())));
        assert_eq!(result.unwrap(), 1);
    }

    #[test]
    fn other_errors_and_long_shortages_are_reported() {
        let calls = Cell::new(0);
        let refuse = |errno: Errno| {
            calls.set(calls.get() + 1);
            Err::<(), io::Error>(errno.into())
        };
        wait_out(|| refuse(Errno::EPERM)).unwrap_err();
        wait_out_until(Instant::now(), || refuse(Errno::ENFILE)).unwrap_err();
        assert_eq!(calls.get(), 2, "neither was waited for");
        wait_out(|| refuse(Errno::ENFILE)).unwrap_err();
        assert!(calls.get() > 3, "this was");
    }
}
