//! Processes and their open files, as `/proc` shows them.

use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;

use super::format::escaped;

/// A process that can be seen here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Its pid.
    pub pid: u32,
}

/// Number of processes whose open files could not be seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unseen(pub usize);

impl Process {
    /// Returns all processes in the order of their pids.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let mut processes: Vec<_> = pids.map(|pid| Self { pid }).collect();
        processes.sort_unstable();
        processes
    }

    /// Returns the numbers of its fds in their order, none for a process that has ended; `None` if
    /// they cannot be seen.
    #[must_use]
    pub fn fds(self) -> Option<Vec<u32>> {
        let entries = match fs::read_dir(self.entry("fd")) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return None,
            entries => entries.into_iter().flatten().flatten(),
        };
        let mut fds: Vec<_> =
            entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        fds.sort_unstable();
        Some(fds)
    }

    /// Returns what an fd leads to, such as `pipe:[7]`.
    #[must_use]
    pub fn target(self, fd: u32) -> Option<PathBuf> {
        fs::read_link(self.fd_path(fd)).ok()
    }

    /// Returns a path that leads to the open file.
    #[must_use]
    pub fn fd_path(self, fd: u32) -> PathBuf {
        self.entry("fd").join(fd.to_string())
    }

    /// Returns what the kernel tells of an fd, a field a line.
    #[must_use]
    pub fn fd_info(self, fd: u32) -> String {
        fs::read_to_string(self.entry("fdinfo").join(fd.to_string())).unwrap_or_default()
    }

    fn entry(self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.pid))
    }
}

/// The pid, and the name of the program.
impl fmt::Display for Process {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = fs::read(self.entry("comm")).unwrap_or_default();
        let name = String::from_utf8_lossy(name.trim_ascii_end());
        write!(formatter, "process {} ({})", self.pid, escaped(&name))
    }
}

impl fmt::Display for Unseen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} processes could not be looked into; root can", self.0)
    }
}
