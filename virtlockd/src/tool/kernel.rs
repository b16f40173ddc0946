//! The kernel's lists of locks on a file. The file is not opened.
//!
//! `/proc/PID/fdinfo` tells which process has a lock, by which fd, and of which kind. `/proc/locks` has
//! those too whose process cannot be seen here. Locks that another host has on network storage are in
//! neither.

use std::fmt;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;

use common::sys::file_id::FileId;
use common::tool::{Process, Unseen};
use nix::sys::stat::{major, minor};

/// A lock on a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Lock {
    /// `POSIX`, `OFDLCK`, `FLOCK`, `LEASE`, as the kernel names it.
    kind: String,
    /// `READ` or `WRITE`.
    mode: String,
    /// Bytes, the last one as a number or `EOF`.
    first: String,
    last: String,
}

/// A lock, and who has it.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) lock: Lock,
    /// The process and its fd, if they can be seen.
    pub(crate) holder: Option<(Process, u32)>,
}

/// Returns the locks on a file.
pub(crate) fn locks(file: &Metadata) -> (Vec<Held>, Unseen) {
    let (mut held, mut unseen) = (Vec::new(), Unseen::default());
    for process in Process::all() {
        let Some(fds) = process.fds() else {
            unseen.0 += 1;
            continue;
        };
        for fd in fds {
            held.extend(locks_by(process, fd, file));
        }
    }
    let device = device(file);
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let of_file = locks.lines().filter_map(parse).filter(|(_, place)| *place == device);
    let unknown: Vec<_> = of_file
        .map(|(lock, _)| lock)
        .filter(|lock| held.iter().all(|Held { lock: seen, .. }| seen != lock))
        .map(|lock| Held { lock, holder: None })
        .collect();
    held.extend(unknown);
    (held, unseen)
}

impl Lock {
    /// Returns whether it is on byte 0, as leases are.
    pub(crate) fn is_on_lease_byte(&self) -> bool {
        self.first == "0" && matches!(self.kind.as_str(), "POSIX" | "OFDLCK")
    }
}

impl fmt::Display for Lock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, mode, first, last } = self;
        let kind = match kind.as_str() {
            "OFDLCK" => "OFD lock",
            "POSIX" => "POSIX lock",
            "FLOCK" => "flock",
            "LEASE" | "DELEG" => "fcntl lease",
            other => other,
        };
        let mode = if mode == "READ" { "shared" } else { "exclusive" };
        write!(formatter, "{mode} {kind}")?;
        match (first.as_str(), last.as_str()) {
            ("0", "EOF") => write!(formatter, " on all bytes"),
            (first, last) if first == last => write!(formatter, " on byte {first}"),
            (first, "EOF") => write!(formatter, " from byte {first} on"),
            (first, last) => write!(formatter, " on bytes {first} to {last}"),
        }
    }
}

/// Returns the locks on a file that a process has by an fd.
fn locks_by(process: Process, fd: u32, file: &Metadata) -> Vec<Held> {
    let info = process.fd_info(fd);
    let lines = info.lines().filter_map(|line| line.strip_prefix("lock:"));
    let inode = file.ino().to_string();
    let mut locks: Vec<_> = lines
        .filter_map(parse)
        .filter(|(_, place)| place.rsplit(':').next() == Some(&inode))
        .map(|(lock, _)| lock)
        .collect();
    // A number alone may be another file's; some file systems show another device.
    let is_file = !locks.is_empty()
        && fs::metadata(process.fd_path(fd))
            .is_ok_and(|found| FileId::of(&found) == FileId::of(file));
    locks.sort();
    let held = locks.into_iter().filter(|_| is_file);
    held.map(|lock| Held { lock, holder: Some((process, fd)) }).collect()
}

/// Parses a line such as `1: POSIX  ADVISORY  WRITE 123 08:01:456 0 EOF`. Returns the lock, and device and
/// inode of its file. One that waits for another is none.
fn parse(line: &str) -> Option<(Lock, &str)> {
    let mut words = line.split_whitespace().skip(1);
    let mut word = || words.next();
    let (kind, _, mode) = (word().filter(|kind| *kind != "->")?, word()?, word()?);
    let (_pid, place, first, last) = (word()?, word()?, word()?, word()?);
    let [kind, mode, first, last] = [kind, mode, first, last].map(str::to_owned);
    Some((Lock { kind, mode, first, last }, place))
}

/// Returns device and inode as `/proc/locks` has them.
fn device(file: &Metadata) -> String {
    format!("{:02x}:{:02x}:{}", major(file.dev()), minor(file.dev()), file.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> Option<String> {
        parse(line).map(|(lock, place)| format!("{lock} of {place}"))
    }

    #[test]
    fn lines_of_the_kernel_are_understood() {
        for (line, text) in [
            (
                "1: POSIX  ADVISORY  WRITE 7 08:01:456 0 EOF",
                "exclusive POSIX lock on all bytes of 08:01:456",
            ),
            (" 2: OFDLCK ADVISORY  READ -1 fe:00:9 0 0", "shared OFD lock on byte 0 of fe:00:9"),
            (
                "3: FLOCK  ADVISORY  WRITE 7 08:01:456 5 EOF",
                "exclusive flock from byte 5 on of 08:01:456",
            ),
            (
                "4: POSIX  ADVISORY  READ 7 00:1a:4 100 101",
                "shared POSIX lock on bytes 100 to 101 of 00:1a:4",
            ),
        ] {
            assert_eq!(shown(line).as_deref(), Some(text));
        }
        assert_eq!(shown("4: -> POSIX  ADVISORY  READ 7 00:1a:4 100 101"), None);
        assert_eq!(shown("4: POSIX ADVISORY"), None);
    }
}
