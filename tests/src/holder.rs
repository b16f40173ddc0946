//! Daemons whose fds are held by `virtfdhold`, which may have an fd store of its own with a
//! [stand-in supervisor](crate::supervisor).

mod cgroup;
mod client;
mod container;
mod pod;
mod sandbox;

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::signal::Signal;

use crate::harness::{Daemon, Host, Program, Setup, Subject, Whose, eventually, ours};
use crate::supervisor::Supervisor;
use crate::wire::{Connection, Header};
pub use cgroup::Cgroup;
pub use client::{Client, Given};
pub use container::{Recipe, container, services};
pub use pod::pod;

/// Fds that the host's supervisor keeps.
const SUPERVISOR_FDS: usize = 2000;

/// No program has it.
const NO_PROCEDURE: i32 = 99;

/// The name of its executable.
const NAME: &str = "virtfdhold";

/// A holder with a set for each daemon.
#[derive(Debug)]
pub struct Holder {
    host: Arc<Host>,
    /// Keeps what it holds, if it is to survive.
    pub supervisor: Option<Supervisor>,
    arguments: Vec<String>,
    executable: PathBuf,
    process: Option<Daemon>,
}

/// A daemon whose fds are in a set of a holder.
#[derive(Debug)]
pub struct Held {
    subject: Subject,
    host: Arc<Host>,
    set: PathBuf,
    origin: Origin,
    process: Option<Daemon>,
}

/// Where the processes of a daemon come from.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// Shell commands to be run in the namespaces of each.
    pub preparation: String,
    /// A program that executes the holder's client, with its arguments.
    pub through: Vec<String>,
    /// What is executed, the holder's client by default.
    pub command: Vec<String>,
    /// Has all of its processes.
    pub cgroup: Option<Arc<Cgroup>>,
}

/// The directory of a set on this host.
pub fn set_directory(host: &Host, set: &str) -> PathBuf {
    host.path("run/virtfdhold").join(set)
}

/// A fresh copy of the holder's executable, so that one that runs is told from the next.
///
/// # Panics
/// When it cannot be copied.
pub fn copy_of_executable(host: &Host) -> PathBuf {
    copy_of(&ours(NAME), host)
}

fn copy_of(executable: &Path, host: &Host) -> PathBuf {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let copy = host.path(&format!("bin/{NAME}.{number}"));
    // By a process of its own: see `Host::put`.
    let copied = Command::new("cp").arg(executable).arg(&copy).status();
    assert!(copied.expect("cp can be run").success(), "copying the executable");
    copy
}

impl Holder {
    /// One with an fd store of its own, that holds sets of both daemons with their sockets.
    pub fn start(host: &Arc<Host>) -> Self {
        let supervisor = Supervisor::new(&host.path("supervisor"), SUPERVISOR_FDS);
        Self::start_with(host, Some(supervisor), Self::arguments_of_daemons(host))
    }

    /// The same without a store of its own.
    pub fn start_alone(host: &Arc<Host>) -> Self {
        Self::start_with(host, None, Self::arguments_of_daemons(host))
    }

    /// One with these arguments behind its directory.
    pub fn start_with(
        host: &Arc<Host>,
        supervisor: Option<Supervisor>,
        arguments: Vec<String>,
    ) -> Self {
        let (host, executable) = (Arc::clone(host), ours(NAME));
        let mut holder = Self { host, supervisor, arguments, executable, process: None };
        holder.spawn();
        holder
    }

    fn arguments_of_daemons(host: &Host) -> Vec<String> {
        let run = host.path("run/libvirt");
        let of = |name: &str| {
            let (main, admin) =
                (run.join(format!("{name}-sock")), run.join(format!("{name}-admin-sock")));
            [
                format!("--set={name}"),
                format!("--listen={name}:{name}.socket={}", main.display()),
                format!("--listen={name}:{name}-admin.socket={}", admin.display()),
            ]
        };
        [of("virtlogd"), of("virtlockd")].concat()
    }

    /// The process.
    pub fn process(&self) -> &Daemon {
        self.process.as_ref().expect("there is one between two steps")
    }

    /// Kills it. Nothing is there until it is [started again](Self::spawn).
    pub fn kill(&mut self) {
        self.end(Signal::SIGKILL);
    }

    /// Ends it by a signal.
    ///
    /// # Panics
    /// When it does not end.
    pub fn end(&mut self, signal: Signal) {
        let mut process = self.process.take().expect("there is one between two steps");
        process.signal(signal);
        process.wait();
        self.supervisor.iter().for_each(Supervisor::catch_up);
    }

    /// Has it killed and another one started.
    pub fn kill_and_start(&mut self) {
        self.kill();
        self.spawn();
    }

    /// Upgrades it, which is to end it in order and to start another executable.
    pub fn upgrade(&mut self) {
        self.end(Signal::SIGTERM);
        self.spawn();
    }

    /// Has the executable of another build, which is in this directory, take its place.
    pub fn replace_from(&mut self, build: &Path) {
        self.executable = build.join(NAME);
        self.upgrade();
    }

    /// Starts a process with what the supervisor has, and waits until it serves.
    pub fn spawn(&mut self) {
        let setup = Subject { whose: Whose::Ours, program: Program::Virtlogd }.setup_on(&self.host);
        let setup = setup.instead(&copy_of(&self.executable, &self.host)).args(["serve"]);
        let setup = setup.args([self.host.path("run/virtfdhold")]).args(self.arguments.iter());
        let Some(supervisor) = &self.supervisor else {
            self.process = Some(setup.start());
            return;
        };
        let copy = |fd: &OwnedFd| fd.try_clone().expect("a copy of an fd");
        let stored = supervisor.stored().into_iter();
        let stored = stored.map(|stored| (stored.name.clone(), copy(&stored.fd)));
        let setup = setup.supervised_at(supervisor.path()).pass(stored);
        let before = supervisor.ready_count();
        self.process = Some(setup.env("FDSTORE", SUPERVISOR_FDS.to_string()).spawn());
        eventually("the holder serves", || {
            self.process().expect_alive();
            supervisor.ready_count() > before
        });
    }
}

impl Held {
    /// Starts one, and waits until it serves.
    pub fn start(program: Program, host: &Arc<Host>) -> Self {
        Self::start_from(Origin::default(), program, host)
    }

    /// The same of another origin.
    pub fn start_from(origin: Origin, program: Program, host: &Arc<Host>) -> Self {
        let held = Self::spawn_from(origin, program, host);
        held.expect_serving();
        held
    }

    /// The same without waiting, for one that does not serve this process.
    pub fn spawn_from(origin: Origin, program: Program, host: &Arc<Host>) -> Self {
        let subject = Subject { whose: Whose::Ours, program };
        let set = set_directory(host, program.name());
        let mut held = Self { subject, host: Arc::clone(host), set, origin, process: None };
        held.spawn();
        held
    }

    /// The process.
    pub fn daemon(&self) -> &Daemon {
        self.process.as_ref().expect("there is one between two steps")
    }

    /// Starts a process, which takes what the holder has.
    pub fn spawn(&mut self) {
        self.process = Some(self.setup().spawn());
    }

    /// Has the next process come from another origin.
    pub fn move_to(&mut self, origin: Origin) {
        self.origin = origin;
    }

    /// What a process is started with.
    pub fn setup(&self) -> Setup {
        let Origin { preparation, through, command, cgroup } = &self.origin;
        let join = cgroup.as_ref().map(|cgroup| cgroup.join()).unwrap_or_default();
        let setup = self.subject.setup_on(&self.host).prepare(&join).prepare(preparation);
        if let Some((program, arguments)) = command.split_first() {
            let setup = setup.through(through.iter().cloned()).instead(Path::new(program));
            return setup.args(arguments.iter());
        }
        let client = [ours(NAME).display().to_string(), "exec".into(), "--wait=30".into()];
        let set = [self.set.display().to_string(), "--".into()];
        let words = through.iter().cloned().chain(client).chain(set);
        setup.replaceable().through(words)
    }

    /// Kills it. Nothing is there until it is [started again](Self::spawn).
    pub fn kill(&mut self) {
        self.end(Signal::SIGKILL);
    }

    /// Ends it by a signal.
    ///
    /// # Panics
    /// When it does not end, or something is left of its container.
    pub fn end(&mut self, signal: Signal) {
        let mut process = self.process.take().expect("there is one between two steps");
        process.signal(signal);
        process.wait();
        let processes = || self.origin.cgroup.as_ref().map_or(0, |it| it.processes().len());
        eventually("nothing is left of the container", || processes() == 0);
    }

    /// Has a container of another image, with a fresh copy of its executable, take its place.
    ///
    /// # Panics
    /// When that does not serve.
    pub fn replace(&mut self) {
        self.replace_from(&ours(""));
    }

    /// The same with the executable that is in this directory.
    ///
    /// # Panics
    /// When that does not serve.
    pub fn replace_from(&mut self, build: &Path) {
        self.host.put_from(build, self.subject.program);
        self.restart(Signal::SIGTERM);
        assert!(self.daemon().is_current(), "the container has the old program");
    }

    /// Ends it by a signal and starts another one, which serves.
    pub fn restart(&mut self, signal: Signal) {
        self.end(signal);
        self.spawn();
        self.expect_serving();
    }

    /// Has a fresh copy of its executable take over, which serves.
    ///
    /// # Panics
    /// When that is refused.
    pub fn upgrade(&mut self) {
        let daemon = self.daemon();
        daemon.put(Whose::Ours);
        daemon.signal(Signal::SIGUSR1);
        eventually("the upgrade is done", || daemon.is_current());
        self.expect_serving();
    }

    /// Waits until it answers a call. One that is away is waited for by its socket.
    ///
    /// # Panics
    /// When it does not.
    pub fn expect_serving(&self) {
        let mut connection = connect(&self.daemon().main_socket());
        let call = Header::call(self.subject.program.number(), NO_PROCEDURE).message(&[]);
        connection.send(&call).expect("calling");
        connection.answer().message();
    }
}

fn connect(socket: &Path) -> Connection {
    assert!(fs::exists(socket).unwrap_or(false), "there is no {}", socket.display());
    Connection::open(socket).expect("connecting to a socket that the holder has")
}
