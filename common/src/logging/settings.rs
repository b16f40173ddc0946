//! Log settings at the start: command line over environment over configuration.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::output::{Destination, Output};
use super::{Error, Invalid, Level, Services, journal};
use crate::admin::LIBVIRT_VERSION;
use crate::cli::{Options, Paths};
use crate::config::Common;

/// Version of this project.
const PACKAGE_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Settings of the log.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Text behind `libvirt version: ` in the first line of every output.
    pub version: String,
    /// Lowest logged level where no filter matches.
    pub level: Level,
    /// Filters as configured; empty for none.
    pub filters: String,
    /// Outputs as configured; empty for the default one.
    pub outputs: String,
    /// Output used for an empty setting, at the start and later.
    pub default_output: Output,
    /// The system's log services.
    pub services: Services,
}

/// Environment variables of the log. Empty ones count as unset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// `LIBVIRT_DEBUG`, the level.
    pub debug: String,
    /// `LIBVIRT_LOG_FILTERS`.
    pub filters: String,
    /// `LIBVIRT_LOG_OUTPUTS`.
    pub outputs: String,
}

/// Circumstances that decide the default output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    /// The daemon goes into the background.
    pub daemonized: bool,
    /// It was started from a terminal.
    pub stdin_is_terminal: bool,
    /// The journal can be written to.
    pub journal_writable: bool,
    /// The daemon's own log file.
    pub log_file: PathBuf,
}

impl Settings {
    /// Determines the settings of daemon `name` from its options, its configuration, the
    /// environment and the circumstances. To be called before going into the background.
    ///
    /// # Errors
    /// As [`Settings::new`].
    pub fn detect(
        name: &str,
        options: &Options,
        config: &Common,
        paths: &Paths,
    ) -> Result<Self, Error> {
        let version = format!("{LIBVIRT_VERSION}, package: {name}-rs {PACKAGE_VERSION}");
        let environment = Environment::read(|name| std::env::var_os(name));
        let surroundings = Surroundings::detect(options.daemonize, &paths.log_file);
        Self::new(&version, config, environment, options.verbose, &surroundings)
    }

    /// Combines configuration, environment and command line (`-v`).
    ///
    /// # Errors
    /// An invalid level. Filters and outputs are checked when the log is opened.
    pub fn new(
        version: &str,
        config: &Common,
        environment: Environment,
        verbose: bool,
        surroundings: &Surroundings,
    ) -> Result<Self, Error> {
        let level = level(config.log_level, &environment.debug)?;
        let level = if verbose { level.min(Level::Info) } else { level };
        let set = |variable: String, key: &str| {
            if variable.is_empty() { key.to_owned() } else { variable }
        };
        Ok(Self {
            version: version.to_owned(),
            level,
            filters: set(environment.filters, &config.log_filters),
            outputs: set(environment.outputs, &config.log_outputs),
            default_output: surroundings.default_output(level),
            services: Services::default(),
        })
    }
}

/// Warnings and errors to stderr.
impl Default for Settings {
    fn default() -> Self {
        Self {
            version: LIBVIRT_VERSION.to_owned(),
            level: Level::Warning,
            filters: String::new(),
            outputs: String::new(),
            default_output: Output { level: Level::Warning, destination: Destination::Stderr },
            services: Services::default(),
        }
    }
}

impl Environment {
    /// Reads the variables; bytes that are not UTF-8 become U+FFFD.
    #[must_use]
    pub fn read(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let text = |name| variable(name).unwrap_or_default().to_string_lossy().into_owned();
        Self {
            debug: text("LIBVIRT_DEBUG"),
            filters: text("LIBVIRT_LOG_FILTERS"),
            outputs: text("LIBVIRT_LOG_OUTPUTS"),
        }
    }
}

impl Surroundings {
    /// Examines this process and its machine, before it goes into the background.
    #[must_use]
    pub fn detect(daemonized: bool, log_file: &Path) -> Self {
        Self {
            daemonized,
            stdin_is_terminal: io::stdin().is_terminal(),
            journal_writable: access(journal::SOCKET, AccessFlags::W_OK).is_ok(),
            log_file: log_file.to_owned(),
        }
    }

    /// Returns the default output by libvirt's rules.
    #[must_use]
    pub fn default_output(&self, level: Level) -> Output {
        if self.journal_writable && (self.daemonized || !self.stdin_is_terminal) {
            // The journal limits the rate, and libvirt's debug messages would use it up.
            return Output { level: level.max(Level::Info), destination: Destination::Journald };
        }
        let destination = if self.daemonized {
            Destination::File(self.log_file.clone())
        } else {
            Destination::Stderr
        };
        Output { level, destination }
    }
}

fn level(configured: u32, variable: &str) -> Result<Level, Invalid> {
    let configured = match configured {
        0 => Level::Warning,
        number => Level::from_number(number).ok_or_else(|| Invalid::Level(number.to_string()))?,
    };
    match variable {
        "" => Ok(configured),
        text => Level::from_variable(text).ok_or_else(|| Invalid::Level(text.to_owned())),
    }
}

#[cfg(test)]
mod tests;
