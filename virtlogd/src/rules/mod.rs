//! Rules of `virtlogd.toml`: settings for some logs, by their guests' names and their paths.
//!
//! The first rule that a log matches applies to it, whole. It is found when the log is opened or
//! taken over, and never looked for again.

mod file;
mod glob;
mod rule;

use std::path::Path;
use std::sync::Arc;

use common::config::{Error, Toml};

pub(crate) use self::rule::LogSettings;
use self::rule::Rule;
use crate::rotating_file::Limits;

/// Rules that one message lists.
const LISTED_MAX: usize = 16;

/// All rules, and what holds for logs that match none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    rules: Arc<[Rule]>,
    defaults: Limits,
}

impl Rules {
    /// Makes none: `defaults` hold for all logs.
    #[must_use]
    pub fn none(defaults: Limits) -> Self {
        Self { rules: Arc::default(), defaults }
    }

    /// Reads the rules of a file.
    ///
    /// # Errors
    /// [`Error::Toml`].
    pub fn read(toml: &Toml<'_>, defaults: Limits) -> Result<Self, Error> {
        Ok(Self { rules: file::read(toml, defaults)?.into(), defaults })
    }

    /// Returns what holds for logs that match no rule.
    #[must_use]
    pub fn defaults(&self) -> Limits {
        self.defaults
    }

    /// Returns the limits of a guest's log.
    #[must_use]
    pub fn limits(&self, path: &Path, domain: &[u8]) -> Limits {
        self.settings(path, domain).limits
    }

    /// Returns all that holds for a guest's log.
    pub(crate) fn settings(&self, path: &Path, domain: &[u8]) -> LogSettings {
        let found = self.rules.iter().find(|rule| rule.matches(path, domain));
        found.map_or(LogSettings { limits: self.defaults, cap: None }, |rule| rule.settings)
    }

    /// Logs which rules end, as libvirt's daemon takes over.
    pub(crate) fn log_end(&self) {
        if self.rules.is_empty() {
            return;
        }
        let listed: Vec<_> = self.rules.iter().take(LISTED_MAX).map(Rule::to_string).collect();
        let more = match self.rules.len().saturating_sub(LISTED_MAX) {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        tracing::warn!(
            target: "logging.log_handler",
            "libvirt's daemon knows no rules, these end: {}{more}", listed.join(", ")
        );
    }

    /// Returns the most older parts that a log at this path may have, whose guest is not known.
    #[must_use]
    pub fn backups_max(&self, path: &Path) -> u64 {
        let mut most = 0;
        for rule in self.rules.iter().filter(|rule| rule.matches_path(path)) {
            most = most.max(rule.settings.limits.backups_max);
            if rule.domain.is_none() {
                return most;
            }
        }
        most.max(self.defaults.backups_max)
    }
}

#[cfg(test)]
mod tests;
