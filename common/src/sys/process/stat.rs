//! Part of `/proc/PID/stat`.

use std::fs;
use std::io;

/// Fields of `/proc/PID/stat` between the name and the number of threads.
const FIELDS_BEFORE_THREADS: usize = 17;

/// Fields between that number and the start time.
const FIELDS_BETWEEN: usize = 1;

/// Part of `/proc/PID/stat`.
#[derive(Debug, Clone, Copy)]
pub(in crate::sys) struct Stat {
    /// Start time, in ticks since boot.
    pub(in crate::sys) start: u64,
    /// The process is a zombie.
    pub(in crate::sys) has_ended: bool,
}

/// Returns the start time of the process with this number, in ticks since boot.
///
/// # Errors
/// As `read(2)`: `NotFound` also for one that `/proc` hides.
pub fn start_time(pid: i32) -> io::Result<u64> {
    Ok(stat(pid)?.start)
}

/// Reads `/proc/PID/stat` of the process with this number.
///
/// # Errors
/// As [`start_time`].
pub(in crate::sys) fn stat(pid: i32) -> io::Result<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name is in brackets and may contain any character.
    let rest = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let mut fields = rest.split(' ');
    let is_zombie = rest.starts_with(['Z', 'X']);
    let threads = fields.nth(FIELDS_BEFORE_THREADS);
    let start = fields.nth(FIELDS_BETWEEN).and_then(|field| field.parse().ok());
    let start = start.ok_or(io::ErrorKind::InvalidData)?;
    // Its first thread may end before the others.
    Ok(Stat { start, has_ended: is_zombie && matches!(threads, Some("0" | "1")) })
}
