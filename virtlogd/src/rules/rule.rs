//! One rule.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::glob::Glob;
use crate::rotating_file::Limits;

/// A rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Pattern of guests' names; `None` for any.
    pub(super) domain: Option<Glob>,
    /// Pattern of paths; `None` for any.
    pub(super) path: Option<Glob>,
    pub(crate) limits: Limits,
}

impl Rule {
    /// Returns whether it applies to the log of a guest, unless one before it does.
    pub(super) fn matches(&self, path: &Path, domain: &[u8]) -> bool {
        self.domain.as_ref().is_none_or(|glob| glob.matches(domain)) && self.matches_path(path)
    }

    /// Returns whether it may apply to a log at this path.
    pub(super) fn matches_path(&self, path: &Path) -> bool {
        self.path.as_ref().is_none_or(|glob| glob.matches(path.as_os_str().as_bytes()))
    }
}
