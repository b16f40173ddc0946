//! What a process has open.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use nix::libc::O_CLOEXEC;

use super::Daemon;

/// How many descriptors of each kind a process has open: files by path, the rest by kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptors(BTreeMap<String, usize>);

impl Descriptors {
    /// Those to files whose path fulfils `wanted` are left out.
    #[must_use]
    pub fn without(mut self, wanted: impl Fn(&str) -> bool) -> Self {
        self.0.retain(|kind, _| !wanted(kind));
        self
    }
}

impl Daemon {
    /// What it has open now.
    pub fn descriptors(&self) -> Descriptors {
        let mut counts = BTreeMap::new();
        for target in self.descriptor_targets() {
            // `pipe:[123]` and `socket:[123]` have the same kind in every process.
            let kind = target.split(":[").next().unwrap_or_default().to_owned();
            *counts.entry(kind).or_default() += 1;
        }
        Descriptors(counts)
    }

    /// How many descriptors it has of this very pipe.
    pub fn descriptors_of_pipe(&self, inode: u64) -> usize {
        let wanted = format!("pipe:[{inode}]");
        self.descriptor_targets().filter(|target| *target == wanted).count()
    }

    /// One may be closed while this looks; that is not counted.
    fn descriptor_targets(&self) -> impl Iterator<Item = String> {
        let strays = strays();
        let found = targets(&self.proc("fd")).filter(move |found| !strays.contains(found));
        found.map(|(_, target)| target)
    }
}

/// What this process was started with and passes on to whatever it starts, by number and target: a
/// daemon knows nothing of it, and may close it or not.
fn strays() -> Vec<(i32, String)> {
    let is_passed_on = |number: i32| {
        let information = fs::read_to_string(format!("/proc/self/fdinfo/{number}"));
        let flags = information.unwrap_or_default();
        let flags = flags.lines().find_map(|line| line.strip_prefix("flags:"));
        flags.is_some_and(|octal| {
            i32::from_str_radix(octal.trim(), 8).is_ok_and(|flags| flags & O_CLOEXEC == 0)
        })
    };
    let inherited = targets(Path::new("/proc/self/fd"));
    inherited.filter(|&(number, _)| number > 2 && is_passed_on(number)).collect()
}

fn targets(directory: &Path) -> impl Iterator<Item = (i32, String)> + use<> {
    let entries = fs::read_dir(directory).expect("reading descriptors");
    entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let target = fs::read_link(entry.path()).ok()?;
        let number = entry.file_name().to_str()?.parse().ok()?;
        Some((number, target.to_string_lossy().into_owned()))
    })
}
