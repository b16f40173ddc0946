//! What the log is set to at start: command line over environment over configuration.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::output::{Destination, Output};
use super::{Error, Invalid, Level, Services, journal};
use crate::admin::LIBVIRT_VERSION;
use crate::cli::{Options, Paths};
use crate::config::Common;

/// The version of this project.
const PACKAGE_VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the log is to be.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What follows `libvirt version: ` in the first line of every output.
    pub version: String,
    /// The least level of messages that no filter matches.
    pub level: Level,
    /// Filters as configured; empty for none.
    pub filters: String,
    /// Outputs as configured; empty for the default one.
    pub outputs: String,
    /// The output that an empty setting stands for, at start and ever after.
    pub default_output: Output,
    /// The system's log services.
    pub services: Services,
}

/// The variables that set the log. Empty ones are as good as unset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// `LIBVIRT_DEBUG`, the level.
    pub debug: String,
    /// `LIBVIRT_LOG_FILTERS`.
    pub filters: String,
    /// `LIBVIRT_LOG_OUTPUTS`.
    pub outputs: String,
}

/// What the default output depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    /// The daemon goes into the background.
    pub daemonized: bool,
    /// Somebody started it by hand.
    pub stdin_is_terminal: bool,
    /// The journal is there to be written to.
    pub journal_writable: bool,
    /// The daemon's own log file.
    pub log_file: PathBuf,
}

impl Settings {
    /// What daemon `name` is asked for by its options, its configuration, this process's
    /// environment and what is around it. Call it before going into the background.
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

    /// Joins what configuration, environment and command line (`-v`) say.
    ///
    /// # Errors
    /// A level that is none. Filters and outputs are looked at when the log is opened.
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
    /// Reads the variables; bytes that are no UTF-8 become U+FFFD.
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
    /// Looks at this process and its machine, before it goes into the background.
    #[must_use]
    pub fn detect(daemonized: bool, log_file: &Path) -> Self {
        Self {
            daemonized,
            stdin_is_terminal: io::stdin().is_terminal(),
            journal_writable: access(journal::SOCKET, AccessFlags::W_OK).is_ok(),
            log_file: log_file.to_owned(),
        }
    }

    /// The output of a daemon that nobody configured otherwise, by libvirt's rules.
    #[must_use]
    pub fn default_output(&self, level: Level) -> Output {
        if self.journal_writable && (self.daemonized || !self.stdin_is_terminal) {
            // The journal limits the rate, and all of libvirt's debugging would use it up.
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
mod tests {
    use super::*;
    use crate::config::Document;

    fn config(text: &str) -> Common {
        Common::read(&Document::parse(Path::new("x"), text.as_bytes()).unwrap()).unwrap()
    }

    fn environment(debug: &str, filters: &str, outputs: &str) -> Environment {
        let variables = [
            ("LIBVIRT_DEBUG", debug),
            ("LIBVIRT_LOG_FILTERS", filters),
            ("LIBVIRT_LOG_OUTPUTS", outputs),
        ];
        Environment::read(|wanted| {
            variables.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.into())
        })
    }

    fn surroundings() -> Surroundings {
        Surroundings {
            daemonized: false,
            stdin_is_terminal: true,
            journal_writable: true,
            log_file: "/var/log/libvirt/virtlogd.log".into(),
        }
    }

    fn settings(config_text: &str, debug: &str, verbose: bool) -> Result<Settings, Error> {
        let environment = environment(debug, "", "");
        Settings::new("9.0.0", &config(config_text), environment, verbose, &surroundings())
    }

    #[test]
    fn the_environment_goes_before_the_configuration() {
        let config = config("log_level = 4; log_filters = '1:a'; log_outputs = '1:stderr'");
        let new = |environment| {
            Settings::new("9.0.0", &config, environment, false, &surroundings()).unwrap()
        };
        let settings = new(environment("", "", ""));
        assert_eq!(settings.level, Level::Error);
        assert_eq!((settings.filters.as_str(), settings.outputs.as_str()), ("1:a", "1:stderr"));
        let settings = new(environment("debug", "2:b", "2:stderr"));
        assert_eq!(settings.level, Level::Debug);
        assert_eq!((settings.filters.as_str(), settings.outputs.as_str()), ("2:b", "2:stderr"));
    }

    #[test]
    fn verbose_lowers_the_level_to_info_and_never_raises_it() {
        let level = |text, debug, verbose| settings(text, debug, verbose).unwrap().level;
        assert_eq!(level("", "", false), Level::Warning);
        assert_eq!(level("log_level = 0", "", false), Level::Warning);
        assert_eq!(level("", "", true), Level::Info);
        assert_eq!(level("log_level = 4", "error", true), Level::Info);
        assert_eq!(level("log_level = 1", "", true), Level::Debug);
        assert_eq!(settings("", "", true).unwrap().default_output.to_string(), "2:stderr");
    }

    #[test]
    fn levels_that_are_none_are_refused_in_libvirts_words() {
        let refused = |argument: &str| {
            format!(
                "invalid argument: Failed to set logging priority, argument '{argument}' is invalid"
            )
        };
        for number in ["5", "9", "4294967295"] {
            let error = settings(&format!("log_level = {number}"), "", false).unwrap_err();
            assert_eq!(error.to_string(), refused(number));
        }
        assert_eq!(settings("", "INFO", false).unwrap_err().to_string(), refused("INFO"));
    }

    #[test]
    fn the_default_output_follows_libvirts_rules() {
        let output = |daemonized, stdin_is_terminal, journal_writable, level| {
            let surroundings =
                Surroundings { daemonized, stdin_is_terminal, journal_writable, ..surroundings() };
            surroundings.default_output(level).to_string()
        };
        assert_eq!(output(false, true, true, Level::Warning), "3:stderr");
        assert_eq!(output(false, true, false, Level::Debug), "1:stderr");
        assert_eq!(output(false, false, true, Level::Warning), "3:journald");
        assert_eq!(output(false, false, true, Level::Debug), "2:journald");
        assert_eq!(output(false, false, false, Level::Info), "2:stderr");
        assert_eq!(output(true, true, true, Level::Error), "4:journald");
        let file = "1:file:/var/log/libvirt/virtlogd.log";
        assert_eq!(output(true, true, false, Level::Debug), file);
        assert_eq!(output(true, false, false, Level::Debug), file);
    }
}
