//! Processes by pidfd: what the kernel says of one, and what tells it from any other that has its
//! number before or later.
//!
//! What is asked through `/proc/self/fdinfo` is answered also where `/proc` hides the processes of
//! others (`hidepid=2`).

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use nix::sys::statfs::{FsType, fstatfs};

/// The magic number of pidfs.
const PIDFS: i64 = 0x5049_4446;

/// Fields of `/proc/PID/stat` in front of the number of threads, counted from the one behind the name.
const FIELDS_BEFORE_THREADS: usize = 17;

/// Fields between that number and the start time.
const FIELDS_BETWEEN: usize = 1;

/// What `/proc` says of a process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stat {
    /// When it started, in ticks since boot.
    pub(super) start: u64,
    /// It is there only because nobody has reaped it.
    pub(super) has_ended: bool,
}

/// The numbers of a process: those in the pid namespaces from that of `/proc` down to its own, so
/// that the last one is what it calls itself. None when it has ended and was reaped.
///
/// # Errors
/// As `read(2)`; `Unsupported` on a kernel that does not tell (before 5.5).
pub fn numbers(pidfd: impl AsFd) -> io::Result<Vec<i32>> {
    let numbers = numbers_in(&info(pidfd)?).ok_or(io::ErrorKind::Unsupported)?;
    Ok(numbers.into_iter().filter(|&number| number >= 0).collect())
}

/// The same by number, where that can be had only so: `/proc` may hide the process.
///
/// # Errors
/// As `read(2)`.
pub fn numbers_of(pid: i32) -> io::Result<Vec<i32>> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(numbers_in(&status).unwrap_or_else(|| vec![pid]))
}

/// In how many pid namespaces this process has a number: those that `/proc` shows.
///
/// # Errors
/// As `read(2)`.
pub fn own_depth() -> io::Result<usize> {
    let status = fs::read_to_string("/proc/self/status")?;
    // Without pid namespaces in the kernel there is no such line, and one number.
    Ok(numbers_in(&status).map_or(1, |numbers| numbers.len()))
}

/// The inode of a process on pidfs (Linux 6.9), which no other process gets until the next boot.
#[must_use]
pub fn inode(pidfd: impl AsFd) -> Option<u64> {
    let is_pidfs = fstatfs(&pidfd).is_ok_and(|found| found.filesystem_type() == FsType(PIDFS));
    let found = is_pidfs.then(|| nix::sys::stat::fstat(&pidfd).ok())??;
    Some(found.st_ino)
}

/// Its number where `/proc` is mounted; `None` when it has ended and was reaped.
///
/// # Errors
/// As `read(2)`.
pub(super) fn number(pidfd: impl AsFd) -> io::Result<Option<i32>> {
    let info = info(pidfd)?;
    let number = info.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
    Ok(number.filter(|&number| number > 0))
}

/// When the process that has this number started, in ticks since boot.
///
/// # Errors
/// As `read(2)`: `NotFound` also for one that `/proc` hides.
pub fn start_time(pid: i32) -> io::Result<u64> {
    Ok(stat(pid)?.start)
}

/// What `/proc` says of the process that has this number.
///
/// # Errors
/// As [`start_time`].
pub(super) fn stat(pid: i32) -> io::Result<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name is in brackets and may have any character.
    let rest = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let mut fields = rest.split(' ');
    let is_zombie = rest.starts_with(['Z', 'X']);
    let threads = fields.nth(FIELDS_BEFORE_THREADS);
    let start = fields.nth(FIELDS_BETWEEN).and_then(|field| field.parse().ok());
    let start = start.ok_or(io::ErrorKind::InvalidData)?;
    // Its first thread may end before the others.
    Ok(Stat { start, has_ended: is_zombie && matches!(threads, Some("0" | "1")) })
}

/// The pid namespace of the process that has this number.
///
/// # Errors
/// As `stat(2)`: `PermissionDenied` without the right to trace it.
pub fn namespace(pid: i32) -> io::Result<u64> {
    Ok(nix::sys::stat::stat(format!("/proc/{pid}/ns/pid").as_str())?.st_ino)
}

fn info(pidfd: impl AsFd) -> io::Result<String> {
    fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_fd().as_raw_fd()))
}

/// What stands in the line `NSpid:`.
fn numbers_in(text: &str) -> Option<Vec<i32>> {
    let line = text.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_whitespace().map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::process::{self, pidfd_open};
    use super::*;
    use std::process::{Child, Command};

    fn sleep() -> Child {
        Command::new("sleep").arg("60").spawn().unwrap()
    }

    #[test]
    fn a_process_has_its_numbers_until_it_is_reaped() {
        let mut child = sleep();
        let number = child.id().cast_signed();
        let pidfd = pidfd_open(number).unwrap();
        assert_eq!(numbers(&pidfd).unwrap().last(), Some(&number));
        assert_eq!(numbers(&pidfd).unwrap().len(), own_depth().unwrap());
        assert!(process::exists(number) && namespace(number).is_ok());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(numbers(&pidfd).unwrap().is_empty() && !process::exists(number));
    }

    #[test]
    fn two_processes_differ_in_inode_or_start_time() {
        let mut children = [sleep(), sleep()];
        let pidfds = [0, 1].map(|index| pidfd_open(children[index].id().cast_signed()).unwrap());
        let inodes = pidfds.each_ref().map(inode);
        assert!(inodes[0].is_none() || inodes[0] != inodes[1]);
        assert_eq!(inode(&pidfds[0]), inodes[0]);
        assert_eq!(inode(std::io::stdin()), None);
        let start = start_time(children[0].id().cast_signed()).unwrap();
        assert!(start > 0 && start_time(1).unwrap() <= start);
        start_time(0).unwrap_err();
        children.iter_mut().for_each(|child| drop((child.kill(), child.wait())));
    }
}
