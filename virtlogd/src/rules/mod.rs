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

use self::rule::Rule;
use crate::rotating_file::Limits;

/// All rules, and what holds for logs that match none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    rules: Vec<Arc<Rule>>,
    defaults: Limits,
}

impl Rules {
    /// Makes none: `defaults` hold for all logs.
    #[must_use]
    pub fn none(defaults: Limits) -> Self {
        Self { rules: Vec::new(), defaults }
    }

    /// Reads the rules of a file.
    ///
    /// # Errors
    /// [`Error::Toml`].
    pub fn read(toml: &Toml<'_>, defaults: Limits) -> Result<Self, Error> {
        Ok(Self { rules: file::read(toml, defaults)?, defaults })
    }

    /// Returns what holds for logs that match no rule.
    #[must_use]
    pub fn defaults(&self) -> Limits {
        self.defaults
    }

    /// Returns the limits of a guest's log.
    #[must_use]
    pub fn limits(&self, path: &Path, domain: &[u8]) -> Limits {
        let found = self.rules.iter().find(|rule| rule.matches(path, domain));
        found.map_or(self.defaults, |rule| rule.limits)
    }

    /// Returns the most older parts that a log at this path may have, whose guest is not known.
    #[must_use]
    pub fn backups_max(&self, path: &Path) -> u64 {
        let mut most = 0;
        for rule in self.rules.iter().filter(|rule| rule.matches_path(path)) {
            most = most.max(rule.limits.backups_max);
            if rule.domain.is_none() {
                return most;
            }
        }
        most.max(self.defaults.backups_max)
    }
}

#[cfg(test)]
mod tests;
