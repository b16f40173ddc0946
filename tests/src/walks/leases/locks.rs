//! Who has a lock, by the kernel's own word.

use std::collections::BTreeMap;
use std::fs;

use nix::sys::stat::{major, minor};

/// A file: major and minor number of its device, and inode.
pub(super) type File = (u64, u64, u64);

/// How many locks for writing there are on the first byte of each file.
pub(super) fn locks() -> BTreeMap<File, usize> {
    let mut counts = BTreeMap::new();
    let text = fs::read_to_string("/proc/locks").expect("reading /proc/locks");
    for file in text.lines().filter_map(locked_file) {
        *counts.entry(file).or_default() += 1;
    }
    counts
}

/// As in `1: OFDLCK ADVISORY  WRITE -1 00:2b:123 0 0`; one that waits has an arrow behind its number.
fn locked_file(line: &str) -> Option<File> {
    let words: Vec<_> = line.split_whitespace().collect();
    let [_, "OFDLCK" | "POSIX", _, "WRITE", _, file, "0", "0"] = words[..] else { return None };
    let mut numbers = file.split(':');
    let mut number = |radix| u64::from_str_radix(numbers.next()?, radix).ok();
    Some((number(16)?, number(16)?, number(10)?))
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
        let line = "12: OFDLCK ADVISORY  WRITE -1 00:2b:123 0 0";
        assert_eq!(locked_file(line), Some((0, 0x2b, 123)));
        assert_eq!(locked_file("1: POSIX  ADVISORY  WRITE 7 fd:01:9 0 0"), Some((0xfd, 1, 9)));
        assert_eq!(locked_file("1: POSIX  ADVISORY  READ 7 fd:01:9 0 0"), None);
        assert_eq!(locked_file("1: POSIX  ADVISORY  WRITE 7 fd:01:9 0 EOF"), None);
        assert_eq!(locked_file("1: -> POSIX  ADVISORY  WRITE 7 fd:01:9 0 0"), None);
    }
}
