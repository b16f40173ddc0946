//! Start of a daemon, from the command line to the running loop. It is the same for both, in
//! libvirt's order: options, configuration, logging, run directory, background, pid file, sockets,
//! readiness.

mod calls;
mod check;
mod configuration;
mod failure;
mod pid_file;
mod predecessor;
mod service;
mod sockets;

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use configuration::Configuration;
use failure::Failure;
use pid_file::PidFile;
pub use pid_file::{is_pid_file, own_pid_file};
use predecessor::{Legacy, Predecessor};
pub use service::Service;
use sockets::Sockets;

use crate::admin::Server;
use crate::cli::{self, Options, Parsed, Paths};
use crate::handover::{self, InheritedFds};
use crate::logging::{self, Logger};
use crate::server::{Core, Limits, Parts, ProcessInfo, StoreNews};
use crate::sys::process::{self, Daemonized};
use crate::sys::signal::Signals;
use crate::systemd::{self, Activation, Notify, Passed, PassedSocket};
use crate::{server, sys};

/// Time to open the log's files at a start that nothing waits for. Later they are opened on the
/// first write: a daemon without a log is better than none.
const LOG_OPEN_PERIOD: Duration = Duration::from_secs(5);

/// Runs a daemon's process to its end; `arguments` starts with the program's name.
pub fn main<S: Service>(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    sys::memory::bound_kept();
    logging::bound_panics();
    let arguments: Vec<_> = arguments.into_iter().collect();
    if let Some(arguments) = check::asked(&arguments) {
        let (answer, is_well) = check::answer::<S>(arguments);
        print(&mut io::stdout(), &answer);
        return if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let own_name = arguments.first().map_or(S::NAME.into(), |name| name.to_string_lossy());
    let program = cli::Program { name: S::NAME, about: S::ABOUT, version: S::VERSION };
    match cli::parse(&program, arguments.clone()) {
        Parsed::Exit { status, stdout, stderr } => {
            print(&mut io::stdout(), &stdout);
            print(&mut io::stderr(), &stderr);
            ExitCode::from(status)
        }
        Parsed::Run(options) => match start::<S>(options, arguments.clone()) {
            Ok(()) => {
                logging::end();
                ExitCode::SUCCESS
            }
            Err(failure) => {
                logging::last_words(&failure.line(&own_name));
                ExitCode::from(failure.status())
            }
        },
    }
}

fn start<S: Service>(options: Options, arguments: Vec<OsString>) -> Result<(), Failure> {
    // Before any other fd is opened, which could be taken for a passed or inherited one. After a
    // fork passed fds belong to another process, as in libvirt.
    let mut inherited = InheritedFds::at_start().unwrap_or_default();
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
        true => Configuration::load_or_keep(options, paths, inherited)?,
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

/// Findings of a start, before it becomes the serving process.
struct Start<S: Service> {
    options: Options,
    paths: Paths,
    configuration: Configuration<S>,
    logger: Logger,
    arguments: Vec<OsString>,
    executed: Option<PathBuf>,
}

/// A daemon that is ready to serve.
struct Process<S: Service> {
    core: Core<S::Outcome>,
    daemon: S,
    _pid_file: Option<PidFile>,
}

impl<S: Service> Start<S> {
    fn process(
        self,
        mut predecessor: Predecessor,
        passed: Vec<PassedSocket>,
    ) -> Result<Process<S>, Failure> {
        let signals = Signals::install().map_err(Failure::Signals)?;
        let complaint = predecessor.complaint();
        let legacy = predecessor.legacy(S::NAME);
        let pid_path = self.options.pid_file.as_ref().unwrap_or(&self.paths.pid_file).clone();
        let pid_file = match &legacy {
            _ if pid_path.as_os_str().is_empty() => None,
            Some(legacy) => predecessor.pid_file(&pid_path, &legacy.private),
            None => Some(PidFile::acquire(&pid_path)?),
        };
        pid_file.iter().for_each(PidFile::guard);
        if let Some(complaint) = &complaint {
            tracing::warn!(
                target: "daemon",
                "The state file {} {complaint}; removing it", self.paths.state_file.display()
            );
            handover::remove(&self.paths.state_file);
        }
        let mut sockets = match &legacy {
            Some(legacy) => match predecessor.sockets(legacy, &self.paths) {
                found if found.is_empty() => self.sockets_after_all(passed),
                found => found,
            },
            None => self.sockets(passed)?,
        };
        if self.options.no_admin_server {
            sockets.admin.clear();
        }
        let state_file = self.paths.state_file.clone();
        // systemd may be busy, and guests wait: the predecessor's knowledge suffices for a start.
        let fds_max = legacy.as_ref().and_then(|legacy| legacy.private.store_max);
        let fds_max = fds_max.and_then(|size| size.try_into().ok());
        let is_known = fds_max.is_some() || (legacy.is_some() && predecessor.stored.is_none());
        let store = if is_known { StoreNews { unit: None, fds_max } } else { StoreNews::ask() };
        let (parts, settings) =
            self.into_parts(signals, sockets, legacy.as_ref(), pid_file.as_ref(), store);
        let mut core = Core::new(parts).map_err(Failure::Loop)?;
        let mut daemon = S::create(settings, &mut core).map_err(Failure::Loop)?;
        if let Some(legacy) = legacy {
            adopt(&mut core, &mut daemon, legacy, &mut predecessor);
            handover::remove(&state_file);
        } else if complaint.is_some() {
            daemon.adopt_unclaimed(&mut core, &mut predecessor.inherited);
        } else {
            core.adopt_essentials(predecessor.essentials(Vec::new()));
            leave_store(&mut core, &mut daemon, &mut predecessor);
        }
        Ok(Process { core, daemon, _pid_file: pid_file })
    }

    fn sockets(&self, passed: Vec<PassedSocket>) -> Result<Sockets, Failure> {
        let common = &self.configuration.common;
        let admin_server = !self.options.no_admin_server;
        Ok(sockets::open(S::NAME, passed, &self.paths, common, admin_server)?)
    }

    /// Opens the sockets if the predecessor has left none. It had none, or was another process with
    /// our pid, whose document was left behind.
    fn sockets_after_all(&self, passed: Vec<PassedSocket>) -> Sockets {
        self.sockets(passed).unwrap_or_else(|error| {
            tracing::error!(target: "rpc.netserver", "Unable to open the sockets, so no client can connect: {error}");
            Sockets::default()
        })
    }

    fn into_parts(
        self,
        signals: Signals,
        sockets: Sockets,
        legacy: Option<&Legacy>,
        pid_file: Option<&PidFile>,
        store: StoreNews,
    ) -> (Parts, S::Settings) {
        let Self { options, paths, configuration, logger, arguments, executed } = self;
        let Configuration { common, settings, bytes, .. } = configuration;
        let idle_timeout = options.timeout;
        let notify_socket = legacy.and_then(|legacy| legacy.private.notify_socket.clone());
        let notify_socket = notify_socket.map(OsString::from);
        let process_info = ProcessInfo {
            arguments,
            executed,
            state_file: paths.state_file.clone(),
            generation: legacy.and_then(|legacy| legacy.private.generation).unwrap_or(0),
            configuration: bytes,
            pid_file: pid_file.map(PidFile::file),
            unclaimed_fds: Vec::new(),
            check_configuration: Arc::new(move || {
                Configuration::<S>::check(&options, &paths).map_err(|failure| failure.to_string())
            }),
        };
        let parts = Parts {
            name: S::NAME,
            program: S::PROGRAM,
            main_listeners: sockets.main,
            admin_listeners: sockets.admin,
            main_limits: limits(common.max_clients),
            admin_limits: limits(common.admin_max_clients),
            idle_timeout,
            signals,
            notify: Notify::new(std::env::var_os("NOTIFY_SOCKET").or(notify_socket)),
            store,
            ping_period: systemd::ping_period(std::process::id(), std::env::var_os),
            logger,
            process_info,
        };
        (parts, settings)
    }
}

/// Adopts a predecessor's state, item by item.
fn adopt<S: Service>(
    core: &mut Core<S::Outcome>,
    daemon: &mut S,
    legacy: Legacy,
    predecessor: &mut Predecessor,
) {
    let Legacy { document, main, admin, mut private } = legacy;
    if predecessor.stored.is_none() {
        core.note_upgrade("done");
    }
    let passed = private.essentials.take();
    // An earlier version does not record which fds the store has accepted.
    let names = private.stored_names.take().unwrap_or_default();
    let unproved = match &passed {
        Some(_) => private.unproved_names.take().unwrap_or_default(),
        None => names.clone(),
    };
    core.adopt_store(&names, &unproved);
    core.remove_again(private.removed_names.as_deref().unwrap_or_default());
    core.adopt_essentials(predecessor.essentials(passed.unwrap_or_default()));
    let inherited = &mut predecessor.inherited;
    let clients = core.adopt(Server::Main, main, inherited);
    core.adopt(Server::Admin, admin, inherited);
    core.adopt_overrides(&private);
    core.tell_of_unwritten(&private);
    daemon.adopt(core, document, clients, inherited);
    leave_store(core, daemon, predecessor);
    daemon.adopt_unclaimed(core, &mut predecessor.inherited);
    core.keep_unclaimed(predecessor.unclaimed_fds(&private, |fd| daemon.must_stay_open(fd)));
    tracing::info!(
        target: "daemon", "Took over, generation {}", private.generation.unwrap_or(0)
    );
}

/// Claims the adopted items of the fd store and removes the others.
fn leave_store<S: Service>(
    core: &mut Core<S::Outcome>,
    daemon: &mut S,
    predecessor: &mut Predecessor,
) {
    let (names, useless) = predecessor.leave_store();
    core.adopt_store(&names, &[]);
    daemon.let_go(core, useless);
}

fn make_run_dir(paths: &Paths) -> Result<(), Failure> {
    let mode = paths.run_dir_mode();
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(mode);
    process::with_umask(0o777 & !mode, || builder.create(&paths.run_dir))
        .map_err(|error| Failure::RunDir { path: paths.run_dir.clone(), error })
}

/// Returns both limits of a server; unauthenticated clients cannot exist and have libvirt's number.
fn limits(clients_max: u32) -> Limits {
    if clients_max == 0 {
        tracing::warn!(target: "rpc.netserver", "The limit of clients is 0: no client can connect");
    }
    Limits { clients_max, unauthenticated_max: clients_max }
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

/// A failure here cannot be reported anywhere.
fn print(stream: &mut impl Write, text: &str) {
    stream.write_all(text.as_bytes()).ok();
}
