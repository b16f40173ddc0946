//! Start of the daemon, in libvirt's order.

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::time::Duration;

use super::assembly::{Process, Start};
use super::configuration::Configuration;
use super::failure::Failure;
use super::predecessor::Predecessor;
use super::service::Service;
use super::{calls, failure, sockets};
use crate::cli::{Options, Paths};
use crate::handover::{self, InheritedFds};
use crate::logging::{self, Logger};
use crate::sys::process::{self, Daemonized};
use crate::systemd::{Activation, Passed};
use crate::{server, sys};

/// Time to open the log's files at a start that nothing waits for. Later they are opened on the
/// first write: a daemon without a log is better than none.
const LOG_OPEN_PERIOD: Duration = Duration::from_secs(5);

pub(super) fn start<S: Service>(options: Options, arguments: Vec<OsString>) -> Result<(), Failure> {
    // Before any other fd is opened, which could be taken for a passed or inherited one. After a
    // fork passed fds belong to another process, as in libvirt.
    let mut inherited = InheritedFds::at_start();
    let activation = Activation::from_environment();
    let passed = match options.daemonize {
        true => Passed::default(),
        false => activation.take(std::process::id()).map_err(sockets::Error::Passed)?,
    };
    inherited.leave(passed.numbers());
    // Before the working directory changes.
    let executed = handover::executed();
    let paths = Paths::new(S::NAME, process::is_privileged(), |name| std::env::var_os(name))?;
    let Passed { sockets: passed, stored } = passed;
    let mut predecessor = Predecessor::find(&paths, inherited).or_stored(S::NAME, stored);
    if !options.daemonize || predecessor.is_there() {
        // Requests to stop or to upgrade stay pending until the daemon is ready.
        sys::signal::block().map_err(Failure::Signals)?;
    }
    let (configuration, logger) = configure::<S>(&options, &paths, &mut predecessor)?;
    configuration.warn_of_unknown_keys();
    calls::look::<S>()?;
    if let Err(error) = sys::fd::raise_open_files_limit() {
        tracing::warn!(target: "daemon", "Unable to raise the limit of open files: {error}");
    }
    if !paths.privileged || configuration.common.sockets.dir.is_none() {
        let made = make_run_dir(&paths);
        if !predecessor.is_there() {
            made?;
        }
    }
    let launcher = match is_to_fork(&options, &predecessor) {
        true => match daemonize().map_err(|error| Failure::Background { error })? {
            Daemonized::Daemon(launcher) => Some(launcher),
            Daemonized::Launcher(status) => return failure::of_background(status),
        },
        false => None,
    };
    logger.use_threads();
    let start = Start { options, paths, configuration, logger, arguments, executed };
    let process = start.process(predecessor, passed);
    if let Some(launcher) = launcher {
        report(&launcher, process.as_ref().err());
    }
    let Process { mut core, mut daemon, _pid_file } = process?;
    core.announce(&mut daemon);
    server::run(core, daemon).map_err(Failure::Loop)
}

/// Reads the configuration and opens the log. After a predecessor neither fails.
fn configure<S: Service>(
    options: &Options,
    paths: &Paths,
    predecessor: &mut Predecessor,
) -> Result<(Configuration<S>, Logger), Failure> {
    let inherited = predecessor.configuration();
    let (configuration, broken) = match predecessor.is_there() {
        true => Configuration::load_or_inherit(options, paths, inherited)?,
        false => (Configuration::load(options, paths)?, None),
    };
    let period = if predecessor.is_there() { server::OPEN_PERIOD } else { LOG_OPEN_PERIOD };
    let logger = Logger::install(S::NAME, options, &configuration.common, paths, period);
    let (logger, unused) = match logger {
        Err(error) if predecessor.is_there() => {
            (Logger::install_with(logging::Settings::default(), period)?, Some(error))
        }
        result => (result?, None),
    };
    if !is_to_fork(options, predecessor) {
        logger.use_threads();
    }
    if let Some(error) = unused {
        tracing::error!(target: "daemon", "Unable to open the log, logging to stderr: {error}");
    }
    if let Some(failure) = broken {
        tracing::error!(
            target: "daemon", "{failure}; going on with the configuration that was in effect"
        );
    }
    Ok((configuration, logger))
}

#[expect(unsafe_code, reason = "the process forks")]
fn daemonize() -> io::Result<Daemonized> {
    // SAFETY: the daemon's log uses threads from here on only, and nothing else has any yet.
    unsafe { process::daemonize() }
}

/// Returns whether to go into the background. A successor is there already.
fn is_to_fork(options: &Options, predecessor: &Predecessor) -> bool {
    options.daemonize && !predecessor.is_there()
}

fn make_run_dir(paths: &Paths) -> Result<(), Failure> {
    let mode = paths.run_dir_mode();
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(mode);
    process::with_umask(0o777 & !mode, || builder.create(&paths.run_dir))
        .map_err(|error| Failure::RunDir { path: paths.run_dir.clone(), error })
}

/// Reports the result to the launcher, which waits for it.
fn report(launcher: &OwnedFd, failure: Option<&Failure>) {
    if let Some(failure) = failure {
        tracing::error!(target: "daemon", "{failure}");
    }
    if let Err(error) = process::report_status(launcher, failure.map_or(0, Failure::number)) {
        tracing::debug!(target: "daemon", "Unable to report to the launcher: {error}");
    }
}
