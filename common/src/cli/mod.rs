//! Command line of both daemons, and the paths that follow from the user.
//!
//! Nothing here prints or exits: [`parse`] returns the text to print and the exit status.

mod paths;

pub use self::paths::{
    HomeUnknown, PID_FILE_MODE, Paths, SESSION_RUN_DIR_MODE, SOCKET_MODE, SYSTEM_RUN_DIR_MODE,
};

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, PathBufValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::admin::LIBVIRT_VERSION;

/// Seconds of the longest idle timeout, libvirt's value: its milliseconds fit a C `int`.
pub const TIMEOUT_S_MAX: u32 = 2_147_483;

/// A daemon, as its help introduces it.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// `virtlogd` or `virtlockd`.
    pub name: &'static str,
    /// Purpose, in one line.
    pub about: &'static str,
    /// Version of this implementation.
    pub version: &'static str,
}

/// Parsed options.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// `-v`: log informational messages and above.
    pub verbose: bool,
    /// `-d`: run in the background.
    pub daemonize: bool,
    /// `-t`: idle timeout; `None` for never.
    pub timeout: Option<Duration>,
    /// `-f`: the configuration file, which then must exist.
    pub config_file: Option<PathBuf>,
    /// `-p`: path of the pid file.
    pub pid_file: Option<PathBuf>,
    /// `--no-admin-srv`: no admin socket.
    pub no_admin_server: bool,
}

/// Result of parsing the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    /// Run the daemon.
    Run(Options),
    /// Print the texts and exit.
    Exit {
        /// The exit status: 0 after help and version, 1 after an error.
        status: u8,
        /// Text for stdout.
        stdout: String,
        /// Text for stderr.
        stderr: String,
    },
}

/// Parses a command line, the program's own name first.
///
/// Options are read from left to right by the rules of GNU `getopt_long`; other arguments are
/// ignored, and the last of a repeated option counts.
#[must_use]
pub fn parse(program: &Program, arguments: impl IntoIterator<Item = OsString>) -> Parsed {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let called = arguments.first().map_or(program.name.into(), |name| name.to_string_lossy());
    let mut command = command(program).bin_name(called.as_ref());
    match command.try_get_matches_from_mut(&arguments) {
        Ok(matches) => Parsed::Run(options(matches)),
        Err(error) => exit(program, &called, &error, &command.render_help().to_string()),
    }
}

/// Returns the definition of the command line.
#[must_use]
pub fn command(program: &Program) -> Command {
    Command::new(program.name)
        .about(program.about)
        .version(program.version)
        .after_help(after_help(program.name))
        .infer_long_args(true)
        .args_override_self(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .override_usage(format!("{} [OPTIONS]", program.name))
        .arg(option('h', "help", "Print this help").action(ArgAction::HelpShort))
        .arg(option('V', "version", "Print the version").action(ArgAction::Version))
        .arg(option('v', "verbose", "Log what is informative, too").action(ArgAction::SetTrue))
        .arg(option('d', "daemon", "Run in the background").action(ArgAction::SetTrue))
        .arg(
            valued('t', "timeout", "SECONDS", "Exit after so long without work; 0: never")
                .value_parser(
                    OsStringValueParser::new().try_map(|text: OsString| timeout_s(&text)),
                ),
        )
        .arg(
            valued('f', "config", "FILE", "Read this configuration file")
                .value_parser(PathBufValueParser::new()),
        )
        .arg(
            valued('p', "pid-file", "FILE", "Keep the pid file here")
                .value_parser(PathBufValueParser::new()),
        )
        .arg(
            Arg::new("no-admin-srv")
                .long("no-admin-srv")
                .help("Leave the admin socket out")
                .action(ArgAction::SetTrue),
        )
        .arg(
            Arg::new("ignored")
                .hide(true)
                .action(ArgAction::Append)
                .value_parser(OsStringValueParser::new()),
        )
}

fn exit(program: &Program, called: &str, error: &clap::Error, help: &str) -> Parsed {
    let (status, stdout, stderr) = match error.kind() {
        ErrorKind::DisplayVersion => (0, version(program, called), String::new()),
        // compat: libvirt's daemons print their help to stderr.
        ErrorKind::DisplayHelp => (0, String::new(), help.to_owned()),
        ErrorKind::ValueValidation => (1, String::new(), format!("{called}: {InvalidTimeout}\n")),
        _ => {
            let text = error.render().to_string();
            let line = text.lines().next().unwrap_or_default();
            let what = line.trim_start_matches("error: ");
            (1, String::new(), format!("{called}: {what}\n\n{help}"))
        }
    };
    Parsed::Exit { status, stdout, stderr }
}

/// compat: the first line is libvirt's, which names its own version.
fn version(program: &Program, called: &str) -> String {
    let Program { name, version, .. } = program;
    format!("{called} (libvirt) {LIBVIRT_VERSION}\n{name}-rs {version}\n")
}

fn options(mut matches: ArgMatches) -> Options {
    let timeout_s = matches.remove_one("timeout").unwrap_or(0);
    Options {
        verbose: matches.get_flag("verbose"),
        daemonize: matches.get_flag("daemon"),
        timeout: (timeout_s > 0).then(|| Duration::from_secs(timeout_s)),
        config_file: matches.remove_one("config"),
        pid_file: matches.remove_one("pid-file"),
        no_admin_server: matches.get_flag("no-admin-srv"),
    }
}

fn option(short: char, long: &'static str, help: &'static str) -> Arg {
    Arg::new(long).short(short).long(long).help(help)
}

fn valued(short: char, long: &'static str, value: &'static str, help: &'static str) -> Arg {
    option(short, long, help).value_name(value).allow_hyphen_values(true)
}

/// Parses a number like C's `strtol` in base 0, blanks around it included.
fn timeout_s(text: &OsStr) -> Result<u64, InvalidTimeout> {
    let text = text.to_str().ok_or(InvalidTimeout)?.trim_ascii();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (digits, radix) = match (lower.strip_prefix("0x"), lower.strip_prefix('0')) {
        (Some(hex), _) => (hex, 16),
        (None, Some(octal)) if !octal.is_empty() => (octal, 8),
        _ => (lower.as_str(), 10),
    };
    if !digits.starts_with(|first: char| first.is_digit(radix)) {
        return Err(InvalidTimeout);
    }
    let number = u64::from_str_radix(digits, radix).map_err(|_| InvalidTimeout)?;
    if number > TIMEOUT_S_MAX.into() || (negative && number > 0) {
        return Err(InvalidTimeout);
    }
    Ok(number)
}

#[derive(Debug, thiserror::Error)]
#[error("Invalid value for timeout")]
struct InvalidTimeout;

fn after_help(name: &str) -> String {
    format!(
        "\
Files, as root (each user's own under $XDG_CONFIG_HOME and $XDG_RUNTIME_DIR):
  /etc/libvirt/{name}.conf         configuration, unless --config names another
  /run/libvirt/{name}-sock         socket
  /run/libvirt/{name}-admin-sock   socket of virt-admin
  /run/{name}.pid                  pid file, unless --pid-file names another

Signals:
  TERM, INT, QUIT   finish and exit
  USR1              let the program that now stands where this one was started from take over
  HUP               ignored"
    )
}

#[cfg(test)]
mod tests;
