//! Log levels.

use tracing::level_filters::LevelFilter;

/// libvirt's four levels with libvirt's numbers; a greater one is more severe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// For developers; Rust's `trace` is included.
    Debug = 1,
    /// Normal operation of a healthy daemon.
    Info = 2,
    /// Conditions that an administrator should know. The default.
    Warning = 3,
    /// Failures.
    Error = 4,
}

impl Level {
    /// Returns the level of a configured number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        [Self::Debug, Self::Info, Self::Warning, Self::Error]
            .into_iter()
            .find(|&level| u32::from(level.number()) == number)
    }

    /// Parses the level in front of a filter or output like C's `strtoul`: blanks and a plus sign
    /// may precede it.
    pub(super) fn from_item(text: &str) -> Option<Self> {
        let digits = text.trim_ascii_start();
        let digits = digits.strip_prefix('+').unwrap_or(digits);
        let decimal = digits.bytes().all(|byte| byte.is_ascii_digit());
        decimal.then(|| digits.parse().ok()).flatten().and_then(Self::from_number)
    }

    /// Parses the value of `LIBVIRT_DEBUG`.
    pub(super) fn from_variable(text: &str) -> Option<Self> {
        Some(match text {
            "1" | "debug" => Self::Debug,
            "2" | "info" => Self::Info,
            "3" | "warning" => Self::Warning,
            "4" | "error" => Self::Error,
            _ => return None,
        })
    }

    /// Returns libvirt's number.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Returns the word in a log line.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }

    /// Returns the priority in syslog and the journal.
    pub(super) fn syslog_priority(self) -> u8 {
        match self {
            Self::Debug => 7,
            Self::Info => 6,
            Self::Warning => 4,
            Self::Error => 3,
        }
    }

    /// Returns the most verbose level of `tracing` that is at least this.
    pub(super) fn hint(self) -> LevelFilter {
        match self {
            Self::Debug => LevelFilter::TRACE,
            Self::Info => LevelFilter::INFO,
            Self::Warning => LevelFilter::WARN,
            Self::Error => LevelFilter::ERROR,
        }
    }
}

impl From<tracing::Level> for Level {
    fn from(level: tracing::Level) -> Self {
        match level {
            tracing::Level::ERROR => Self::Error,
            tracing::Level::WARN => Self::Warning,
            tracing::Level::INFO => Self::Info,
            _ => Self::Debug,
        }
    }
}

#[cfg(test)]
mod tests;
