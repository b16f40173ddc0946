//! Who has a lock, by the kernel's own word.

use std::collections::BTreeMap;
use std::fs;

use nix::sys::stat::{major, minor};

/// A file: major and minor number of its device, and inode.
pub(super) type File = (u64, u64, u64);

/// A lock on the first byte of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lock {
    pub(super) file: File,
    /// It stands against all others.
    pub(super) is_exclusive: bool,
    /// Whose it is; `None` of an open file's.
    pub(super) pid: Option<u32>,
}

/// All of them.
pub(super) fn all() -> Vec<Lock> {
    let text = fs::read_to_string("/proc/locks").expect("reading /proc/locks");
    text.lines().filter_map(parse).collect()
}

/// How many locks for writing there are on the first byte of each file.
pub(super) fn locks() -> BTreeMap<File, usize> {
    let mut counts = BTreeMap::new();
    for lock in all().iter().filter(|lock| lock.is_exclusive) {
        *counts.entry(lock.file).or_default() += 1;
    }
    counts
}

/// As in `1: OFDLCK ADVISORY  WRITE -1 00:2b:123 0 0`; one that waits has an arrow behind its number.
fn parse(line: &str) -> Option<Lock> {
    let words: Vec<_> = line.split_whitespace().collect();
    let [_, "OFDLCK" | "POSIX", _, mode, pid, file, "0", "0"] = words[..] else { return None };
    let mut numbers = file.split(':');
    let mut number = |radix| u64::from_str_radix(numbers.next()?, radix).ok();
    let file = (number(16)?, number(16)?, number(10)?);
    Some(Lock { file, is_exclusive: mode == "WRITE", pid: pid.parse().ok() })
}

/// The file of this inode on this device.
pub(super) fn file(device: u64, inode: u64) -> File {
    (major(device), minor(device), inode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_leases_count() {
        let parse = |line: &str| parse(line).map(|lock| (lock.file, lock.is_exclusive, lock.pid));
        let line = "12: OFDLCK ADVISORY  WRITE -1 00:2b:123 0 0";
        assert_eq!(parse(line), Some(((0, 0x2b, 123), true, None)));
        let line = "1: POSIX  ADVISORY  READ 7 fd:01:9 0 0";
        assert_eq!(parse(line), Some(((0xfd, 1, 9), false, Some(7))));
        assert_eq!(parse("1: POSIX  ADVISORY  WRITE 7 fd:01:9 0 EOF"), None);
        assert_eq!(parse("1: -> POSIX  ADVISORY  WRITE 7 fd:01:9 0 0"), None);
    }
}
