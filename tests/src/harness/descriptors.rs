//! What a process has open.

use std::collections::BTreeMap;
use std::fs;

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
        let entries = fs::read_dir(self.proc("fd")).expect("reading its descriptors");
        entries
            .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
            .map(|target| target.to_string_lossy().into_owned())
    }
}
