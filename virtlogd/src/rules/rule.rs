//! One rule.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::glob::Glob;
use crate::guest::rate_cap::RateLimit;
use crate::rotating_file::Limits;

/// A rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Pattern of guests' names; `None` for any.
    pub(super) domain: Option<Glob>,
    /// Pattern of paths; `None` for any.
    pub(super) path: Option<Glob>,
    pub(super) settings: LogSettings,
}

/// What holds for one log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogSettings {
    pub(crate) limits: Limits,
    /// Cap of the guest's output.
    pub(crate) cap: Option<RateLimit>,
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

impl fmt::Display for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.domain, &self.path) {
            (Some(domain), Some(path)) => write!(formatter, "domain {domain} at path {path}"),
            (Some(domain), None) => write!(formatter, "domain {domain}"),
            (None, Some(path)) => write!(formatter, "path {path}"),
            (None, None) => formatter.write_str("all"),
        }
    }
}
