//! From the command line to the running loop, the same for both daemons, in libvirt's order:
//! options, configuration, logging, run directory, background, pid file, sockets, readiness.

mod failure;
mod pid_file;
mod sockets;

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::process::ExitCode;

use failure::Failure;
use pid_file::PidFile;

use crate::cli::{self, Options, Parsed, Paths};
use crate::config::{Common, Document};
use crate::logging::Logger;
use crate::rpc::Program;
use crate::server::{Core, Daemon, Limits, Parts};
use crate::sys::process::{self, Daemonized};
use crate::sys::signal::Signals;
use crate::systemd::{Activation, Notify, PassedSocket};
use crate::{config, server, sys};

/// A daemon, as far as starting it is concerned.
pub trait Service: Daemon {
    /// Its name, from which its paths are made.
    const NAME: &'static str;
    /// One line on what it does, for `--help`.
    const ABOUT: &'static str;
    /// Its version.
    const VERSION: &'static str;
    /// The program on its main socket.
    const PROGRAM: Program;
    /// Keys of its configuration file beside [`Common::KEYS`].
    const CONFIG_KEYS: &'static [&'static str];
    /// What those keys say.
    type Settings;

    /// Reads its own keys.
    ///
    /// # Errors
    /// As the getters of [`Document`].
    fn configure(document: &Document) -> Result<Self::Settings, config::Error>;

    /// Makes its state, with nothing in it.
    ///
    /// # Errors
    /// Whatever the kernel reports.
    fn create(settings: Self::Settings, core: &mut Core<Self::Outcome>) -> io::Result<Self>;
}

/// The whole life of a daemon's process; `arguments` starts with the name it was called by.
pub fn main<S: Service>(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<_> = arguments.into_iter().collect();
    let own_name = arguments.first().map_or(S::NAME.into(), |name| name.to_string_lossy());
    let program = cli::Program { name: S::NAME, about: S::ABOUT, version: S::VERSION };
    match cli::parse(&program, arguments.clone()) {
        Parsed::Exit { status, stdout, stderr } => {
            print(&mut io::stdout(), &stdout);
            print(&mut io::stderr(), &stderr);
            ExitCode::from(status)
        }
        Parsed::Run(options) => match start::<S>(&options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                print(&mut io::stderr(), &failure.line(&own_name));
                ExitCode::from(failure.status())
            }
        },
    }
}

fn start<S: Service>(options: &Options) -> Result<(), Failure> {
    // First of all, before an fd of our own can be taken for a passed one. A fork makes them
    // somebody else's, as in libvirt.
    let activation = Activation::from_environment();
    let passed = match options.daemonize {
        true => Vec::new(),
        false => activation.sockets(std::process::id()).map_err(sockets::Error::Passed)?,
    };
    let paths = Paths::new(S::NAME, process::is_privileged(), |name| std::env::var_os(name))?;
    let document = load(options, &paths)?;
    let common = Common::read(&document).map_err(|error| failure::config(&document, error))?;
    let settings = S::configure(&document).map_err(|error| failure::config(&document, error))?;
    let logger = Logger::install(S::NAME, options, &common, &paths)?;
    warn_of_unknown_keys::<S>(&document);
    if let Err(error) = sys::fd::raise_open_files_limit() {
        tracing::warn!(target: "daemon", "Unable to raise the limit of open files: {error}");
    }
    if !paths.privileged || common.sockets.dir.is_none() {
        make_run_dir(&paths)?;
    }
    let launcher = match options.daemonize.then(process::daemonize).transpose() {
        Ok(None) => None,
        Ok(Some(Daemonized::Daemon(launcher))) => Some(launcher),
        Ok(Some(Daemonized::Launcher(status))) => return failure::of_background(status),
        Err(error) => return Err(Failure::Background { error }),
    };
    let process = Process::<S>::prepare(options, &paths, &common, settings, logger, passed);
    if let Some(launcher) = launcher {
        report(&launcher, process.as_ref().err());
    }
    let Process { core, daemon, _pid_file } = process?;
    Notify::new(std::env::var_os("NOTIFY_SOCKET")).ready();
    server::run(core, daemon).map_err(Failure::Loop)
}

/// A daemon that is ready to serve.
struct Process<S: Service> {
    core: Core<S::Outcome>,
    daemon: S,
    _pid_file: Option<PidFile>,
}

impl<S: Service> Process<S> {
    fn prepare(
        options: &Options,
        paths: &Paths,
        common: &Common,
        settings: S::Settings,
        logger: Logger,
        passed: Vec<PassedSocket>,
    ) -> Result<Self, Failure> {
        let signals = Signals::install().map_err(Failure::Signals)?;
        let pid_path = options.pid_file.as_ref().unwrap_or(&paths.pid_file);
        let pid_file = match pid_path.as_os_str().is_empty() {
            true => None,
            false => Some(PidFile::acquire(pid_path)?),
        };
        let sockets = sockets::open(S::NAME, passed, paths, common, !options.no_admin_server)?;
        let mut core = Core::new(Parts {
            name: S::NAME,
            program: S::PROGRAM,
            main_listeners: sockets.main,
            admin_listeners: sockets.admin,
            main_limits: limits(common.max_clients),
            admin_limits: limits(common.admin_max_clients),
            idle_timeout: options.timeout,
            signals,
            logger,
        })
        .map_err(Failure::Loop)?;
        let daemon = S::create(settings, &mut core).map_err(Failure::Loop)?;
        Ok(Self { core, daemon, _pid_file: pid_file })
    }
}

/// A default file that is not there is as an empty one; a file that was named has to be there.
fn load(options: &Options, paths: &Paths) -> Result<Document, Failure> {
    let path = options.config_file.as_ref().unwrap_or(&paths.config_file);
    match Document::load(path) {
        Ok(document) => Ok(document),
        Err(config::Error::Open { source, .. })
            if options.config_file.is_none() && source.kind() == io::ErrorKind::NotFound =>
        {
            Ok(Document::default())
        }
        Err(error) => Err(Failure::Config { path: path.clone(), error }),
    }
}

fn warn_of_unknown_keys<S: Service>(document: &Document) {
    let known = [&Common::KEYS, S::CONFIG_KEYS].concat();
    for entry in document.unknown(&known) {
        tracing::warn!(
            target: "util.conf",
            "{}:{}: unknown key '{}' has no effect",
            document.path().display(), entry.line, entry.key
        );
    }
}

fn make_run_dir(paths: &Paths) -> Result<(), Failure> {
    let mode = paths.run_dir_mode();
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(mode);
    process::with_umask(0o777 & !mode, || builder.create(&paths.run_dir))
        .map_err(|error| Failure::RunDir { path: paths.run_dir.clone(), error })
}

/// Both limits of a server; unauthenticated clients cannot exist and have libvirt's number.
fn limits(clients_max: u32) -> Limits {
    if clients_max == 0 {
        tracing::warn!(target: "rpc.netserver", "A limit of 0 clients: nobody will be served");
    }
    Limits { clients_max, unauthenticated_max: clients_max }
}

/// Tells the process that started us, which waits for that, how it went.
fn report(launcher: &OwnedFd, failure: Option<&Failure>) {
    if let Some(failure) = failure {
        tracing::error!(target: "daemon", "{failure}");
    }
    if let Err(error) = process::report_status(launcher, failure.map_or(0, Failure::number)) {
        tracing::debug!(target: "daemon", "The process that started us has gone: {error}");
    }
}

/// Nobody can be told when even this fails.
fn print(stream: &mut impl Write, text: &str) {
    drop(stream.write_all(text.as_bytes()));
}
