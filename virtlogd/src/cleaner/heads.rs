//! Logs that are open, by their paths.

use std::collections::HashSet;
use std::fs;
use std::path::{self, Path, PathBuf};

use super::chain::head_and_number;

/// Paths of chains' logs.
pub(super) struct Heads(HashSet<PathBuf>);

impl Heads {
    /// Makes those of the chains that these logs belong to.
    pub(super) fn of(paths: &[PathBuf]) -> Self {
        let heads = paths.iter().flat_map(|path| true_paths(path)).filter_map(|path| {
            let (head, _) = head_and_number(path.file_name()?)?;
            Some(path.with_file_name(head))
        });
        Self(heads.collect())
    }

    /// Returns whether this is the path of one.
    pub(super) fn contains(&self, path: &Path) -> bool {
        self.0.contains(path)
    }
}

/// Returns the paths of a log: the file may be a symbolic link, and its parts lie beside the link.
fn true_paths(path: &Path) -> impl Iterator<Item = PathBuf> {
    let beside = path::absolute(path).ok().and_then(|path| {
        let directory = fs::canonicalize(path.parent()?).ok()?;
        Some(directory.join(path.file_name()?))
    });
    beside.into_iter().chain(fs::canonicalize(path))
}
