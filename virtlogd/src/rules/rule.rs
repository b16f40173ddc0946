//! One rule.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::directory::LOW_RATE;
use crate::guest::rate_cap::{RateCap, RateLimit};
use crate::rotating_file::Limits;
use common::config::Glob;

/// A rule.
#[derive(Debug)]
pub(crate) struct Rule {
    /// Pattern of guests' names; `None` for any.
    pub(super) domain: Option<Glob>,
    /// Pattern of paths; `None` for any.
    pub(super) path: Option<Glob>,
    pub(super) settings: LogSettings,
}

/// What holds for one log.
#[derive(Debug, Clone)]
pub(crate) struct LogSettings {
    pub(crate) limits: Limits,
    /// Rate that the guest's output may have.
    pub(super) rate: Option<RateLimit>,
    /// State of the log's file system, if that caps the guest's output.
    pub(super) is_low: Option<Arc<AtomicBool>>,
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

impl LogSettings {
    /// Makes those without a cap.
    pub(super) fn uncapped(limits: Limits) -> Self {
        Self { limits, rate: None, is_low: None }
    }

    /// Makes the cap of the guest's output.
    pub(crate) fn cap(&self) -> Option<RateCap> {
        match (self.rate, &self.is_low) {
            (Some(rate), _) => Some(RateCap::new(rate, Instant::now())),
            (None, Some(is_low)) => {
                Some(RateCap::new(LOW_RATE, Instant::now()).while_low(Arc::clone(is_low)))
            }
            (None, None) => None,
        }
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
