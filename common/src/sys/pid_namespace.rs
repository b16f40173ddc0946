//! Pid namespaces, and which one `/proc` shows: a container may have the `/proc` of its host, with
//! other numbers than its own.
//!
//! A namespace is told from others by the inode of its file in `/proc/PID/ns`. The number may be
//! given to another one once the namespace is gone, with all its processes.

use std::fs;
use std::io;
use std::sync::OnceLock;

/// Returns the number of pid namespaces in which this process has a number, from that of `/proc`
/// on.
///
/// # Errors
/// As `read(2)`: `NotFound` where `/proc` does not show this process.
pub fn own_depth() -> io::Result<usize> {
    let status = fs::read_to_string("/proc/self/status")?;
    // A kernel without pid namespaces has no such line, and one number.
    Ok(numbers_in(&status).map_or(1, |numbers| numbers.len()))
}

/// Returns whether `/proc` numbers processes as this process does.
///
/// # Errors
/// As [`own_depth`], such as a shortage of fds: then it is not known.
pub fn is_shown_by_proc() -> io::Result<bool> {
    static IS_SHOWN: OnceLock<bool> = OnceLock::new();
    match IS_SHOWN.get() {
        Some(is_shown) => Ok(*is_shown),
        None => own_depth().map(|depth| *IS_SHOWN.get_or_init(|| depth == 1)),
    }
}

/// Parses the line `NSpid:`.
pub(super) fn numbers_in(text: &str) -> Option<Vec<i32>> {
    let line = text.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_whitespace().map(|number| number.parse().ok()).collect()
}
