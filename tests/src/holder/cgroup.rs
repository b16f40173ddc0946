//! A control group of a container's processes, with a limit of their memory, in either version of
//! the kernel's.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long killed processes may take to go.
const END_TRIES: u32 = 200;
const END_PAUSE: Duration = Duration::from_millis(10);

/// Name of each, with the test's pid and a number behind it.
const PREFIX: &str = "tests-container";

/// A group, which is removed at the end with all that is in it.
#[derive(Debug)]
pub struct Cgroup {
    directory: PathBuf,
    version: Version,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Cgroup {
    /// Makes one whose processes have so much memory together, page cache and kernel's included.
    ///
    /// # Errors
    /// Why this machine has none, in words.
    pub fn new(memory_bytes_max: u64) -> Result<Self, String> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let (parent, version) = controller()?;
        remove_leftovers(&parent);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = parent.join(format!("{PREFIX}.{number}.{}", std::process::id()));
        let failure = |error| format!("{}: {error}", directory.display());
        fs::create_dir(&directory).map_err(failure)?;
        let cgroup = Self { directory, version };
        let limit = cgroup.entry("memory.limit_in_bytes", "memory.max");
        fs::write(&limit, memory_bytes_max.to_string())
            .map_err(|error| format!("{}: {error}", limit.display()))?;
        // Without it the limit is none.
        fs::write(cgroup.entry("memory.swappiness", "memory.swap.max"), "0").ok();
        Ok(cgroup)
    }

    /// A shell command by which the shell becomes a member, with what it executes.
    pub fn join(&self) -> String {
        format!("echo $$ >'{}'", self.directory.join("cgroup.procs").display())
    }

    /// Its processes, by this process's pid namespace.
    pub fn processes(&self) -> Vec<i32> {
        let text = fs::read_to_string(self.directory.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Processes that were killed because there was no memory.
    pub fn oom_kills(&self) -> u64 {
        let path = self.entry("memory.oom_control", "memory.events");
        let text = fs::read_to_string(path).expect("events of a cgroup");
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.expect("a count of kills").parse().expect("a number")
    }

    /// The most memory that it ever had, in bytes; `None` where the kernel does not say.
    pub fn peak_bytes(&self) -> Option<u64> {
        let path = self.entry("memory.max_usage_in_bytes", "memory.peak");
        fs::read_to_string(path).ok()?.trim().parse().ok()
    }

    fn entry(&self, one: &str, two: &str) -> PathBuf {
        self.directory.join(match self.version {
            Version::One => one,
            Version::Two => two,
        })
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for _ in 0..END_TRIES {
            for pid in self.processes() {
                kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
            }
            if fs::remove_dir(&self.directory).is_ok() {
                return;
            }
            std::thread::sleep(END_PAUSE);
        }
    }
}

/// The directory below which groups have a limit of memory.
fn controller() -> Result<(PathBuf, Version), String> {
    let mounts = fs::read_to_string("/proc/self/mounts").map_err(|error| error.to_string())?;
    let of_kind = |wanted: &'static str| {
        let mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        mounts.filter(move |fields| fields.get(2) == Some(&wanted))
    };
    let second = of_kind("cgroup2").map(|fields| PathBuf::from(fields[1]));
    if let Some(directory) = second.into_iter().find(|directory| gives_memory(directory)) {
        return Ok((directory, Version::Two));
    }
    let has_memory = |fields: &Vec<&str>| fields[3].split(',').any(|option| option == "memory");
    let first = of_kind("cgroup").find(has_memory).map(|fields| PathBuf::from(fields[1]));
    first.map(|directory| (directory, Version::One)).ok_or("no memory controller here".to_owned())
}

fn gives_memory(directory: &Path) -> bool {
    let has = |file: &str| {
        let text = fs::read_to_string(directory.join(file)).unwrap_or_default();
        text.split_whitespace().any(|controller| controller == "memory")
    };
    has("cgroup.controllers") && {
        fs::write(directory.join("cgroup.subtree_control"), "+memory").ok();
        has("cgroup.subtree_control")
    }
}

/// Removes those of tests that were killed.
fn remove_leftovers(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.rsplit('.').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            fs::remove_dir(entry.path()).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::harness::{left_out, needs_root};

    /// `tail` keeps what has no end of line.
    const GREEDY: &str = "head -c 64M /dev/zero | tail -c 64M | wc -c";

    #[test]
    fn what_needs_more_memory_is_killed_and_counted() {
        let cgroup = match needs_root("a limit of memory").then(|| Cgroup::new(8 << 20)) {
            None => return,
            Some(Err(reason)) => return left_out("a limit of memory", &reason),
            Some(Ok(cgroup)) => cgroup,
        };
        let run = |command: &str| {
            let script = format!("{}; {command}", cgroup.join());
            let output = Command::new("sh").args(["-c", &script]).output().expect("a shell");
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        };
        assert_eq!((run("echo 7"), cgroup.oom_kills()), ("7".to_owned(), 0));
        assert_eq!(run(GREEDY), "0");
        assert!(cgroup.oom_kills() > 0);
        assert!(cgroup.peak_bytes().is_none_or(|bytes| bytes <= 8 << 20));
        let directory = cgroup.directory.clone();
        drop(cgroup);
        assert!(!directory.exists());
    }
}
