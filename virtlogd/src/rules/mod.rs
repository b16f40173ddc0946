//! Rules of `virtlogd.toml`: settings for some logs, by their guests' names and their paths.
//!
//! The first rule that a log matches applies to it, whole. It is found when the log is opened or
//! taken over, and never looked for again.

mod directory;
mod file;
mod rule;

use std::path::Path;
use std::sync::Arc;

use common::config::{Error, Toml};

pub(crate) use self::directory::DirectoryRule;
pub(crate) use self::rule::LogSettings;
use self::rule::Rule;
use crate::rotating_file::Limits;

/// Rules that one message lists.
const LISTED_MAX: usize = 16;

/// All rules, and what holds for logs that match none.
#[derive(Debug, Clone)]
pub struct Rules {
    rules: Arc<[Rule]>,
    directories: Vec<Arc<DirectoryRule>>,
    defaults: Limits,
}

impl Rules {
    /// Makes none: `defaults` hold for all logs.
    #[must_use]
    pub fn none(defaults: Limits) -> Self {
        Self { rules: Arc::default(), directories: Vec::new(), defaults }
    }

    /// Reads the rules of a file.
    ///
    /// # Errors
    /// [`Error::Toml`].
    pub fn read(toml: &Toml<'_>, defaults: Limits) -> Result<Self, Error> {
        let (rules, directories) = file::read(toml, defaults)?;
        Ok(Self { rules: rules.into(), directories, defaults })
    }

    /// Returns the rules of directories.
    pub(crate) fn directories(&self) -> impl Iterator<Item = Arc<DirectoryRule>> {
        self.directories.iter().cloned()
    }

    /// Returns what holds for logs that match no rule.
    #[must_use]
    pub fn defaults(&self) -> Limits {
        self.defaults
    }

    /// Returns the limits of a guest's log.
    #[must_use]
    pub fn limits(&self, path: &Path, domain: &[u8]) -> Limits {
        self.find(path, domain).map_or(self.defaults, |rule| rule.settings.limits)
    }

    /// Returns all that holds for a guest's log.
    pub(crate) fn settings(&self, path: &Path, domain: &[u8]) -> LogSettings {
        let defaults = || LogSettings::uncapped(self.defaults);
        let settings = self.find(path, domain).map_or_else(defaults, |rule| rule.settings.clone());
        let directory = self.directories.iter().find(|directory| directory.caps(path));
        LogSettings { is_low: directory.map(|directory| Arc::clone(&directory.is_low)), ..settings }
    }

    /// Logs which rules end, as libvirt's daemon takes over.
    pub(crate) fn log_end(&self) {
        let directories = self.directories.iter().map(|it| it.to_string());
        let all: Vec<_> = self.rules.iter().map(Rule::to_string).chain(directories).collect();
        if all.is_empty() {
            return;
        }
        let listed = all.get(..LISTED_MAX).unwrap_or(&all);
        let more = match all.len().saturating_sub(LISTED_MAX) {
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

    fn find(&self, path: &Path, domain: &[u8]) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.matches(path, domain))
    }
}

#[cfg(test)]
mod tests;
