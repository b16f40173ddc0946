//! A daemon under the stand-in supervisor: started, ended, upgraded, and how that comes out.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::Signal;

use super::Supervisor;
use crate::harness::{Daemon, Exit, Host, Program, Subject, Whose, eventually_within, now_us};
use crate::wire::{Answer, Connection, Header};

/// Where another [`patience`] stands, in seconds.
pub(crate) const PATIENCE_VARIABLE: &str = "VIRT_TESTS_PATIENCE_S";

/// How long something may take until it hangs. Generous, as machines are slow at times.
const PATIENCE_S: u64 = 15;

/// How long a daemon may take until it serves, or answers, or ends, or has done what it owes.
pub(crate) fn patience() -> Duration {
    static PATIENCE: LazyLock<Duration> = LazyLock::new(|| {
        let seconds = std::env::var(PATIENCE_VARIABLE).ok();
        let seconds = seconds.map_or(PATIENCE_S, |text| text.parse().expect("a number of seconds"));
        Duration::from_secs(seconds)
    });
    *PATIENCE
}

/// Lines of what the daemon has said that are shown when a walk fails.
const SAID_LINES_MAX: usize = 25;

/// No program has it.
const NO_PROCEDURE: i32 = 99;

/// What a daemon says when it goes on as before.
const REFUSED: &str = "Upgrade failed, going on as before: ";

/// A service.
#[derive(Debug)]
pub struct Service {
    program: Program,
    /// Whose daemon is started.
    whose: Whose,
    host: Arc<Host>,
    /// Who keeps its fds.
    pub supervisor: Supervisor,
    listeners: Vec<(String, UnixListener)>,
    /// What `FDSTORE=` says.
    told: usize,
    /// Fds that a process may have at the most.
    fds_max: u64,
    origin: Origin,
    daemon: Option<Daemon>,
    serves_since_us: u64,
}

/// Where its processes come from.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// Shell commands to be run in the namespaces of each.
    pub preparation: String,
    /// Another program that executes each, with its arguments.
    pub through: Vec<String>,
    /// The directory of the executable, if it is not that of the build under test.
    pub executables: Option<PathBuf>,
    /// Fds that the supervisor keeps, if these are fewer than it says.
    pub kept: Option<usize>,
}

/// What came of an attempt to have another image executed.
#[derive(Debug, PartialEq, Eq)]
pub enum Upgraded {
    /// It runs.
    Done,
    /// The old one goes on, and says why.
    Refused(String),
}

impl Service {
    /// Starts one whose store takes `told` fds.
    ///
    /// # Panics
    /// When it does not serve.
    pub fn start(program: Program, host: &Arc<Host>, told: usize) -> Self {
        Self::start_from(Origin::default(), program, host, told)
    }

    /// Starts this maker's daemon.
    ///
    /// # Panics
    /// When it does not serve.
    pub fn start_of(subject: Subject, host: &Arc<Host>, told: usize) -> Self {
        Self::start_whose(subject, Origin::default(), host, told)
    }

    /// The same of another origin.
    ///
    /// # Panics
    /// When it does not serve.
    pub fn start_from(origin: Origin, program: Program, host: &Arc<Host>, told: usize) -> Self {
        Self::start_whose(Subject { whose: Whose::Ours, program }, origin, host, told)
    }

    /// One whose first process has yet to be started.
    ///
    /// # Panics
    /// When there can be no sockets.
    pub fn unstarted(program: Program, host: &Arc<Host>, told: usize) -> Self {
        Self::new(Subject { whose: Whose::Ours, program }, Origin::default(), host, told)
    }

    fn start_whose(subject: Subject, origin: Origin, host: &Arc<Host>, told: usize) -> Self {
        let mut service = Self::new(subject, origin, host, told);
        service.spawn();
        service.expect_serving();
        service
    }

    fn new(subject: Subject, origin: Origin, host: &Arc<Host>, told: usize) -> Self {
        let Subject { whose, program } = subject;
        let directory = host.path("run/libvirt");
        fs::create_dir_all(&directory).expect("the sockets' directory");
        let listener = |stem: &str, suffix: &str| {
            let path = directory.join(format!("{}{suffix}", program.name()));
            let socket = UnixListener::bind(path).expect("a listening socket");
            (format!("{}{stem}.socket", program.name()), socket)
        };
        let listeners = vec![listener("", "-sock"), listener("-admin", "-admin-sock")];
        let supervisor = Supervisor::new(&host.path("supervisor"), origin.kept.unwrap_or(told));
        let host = Arc::clone(host);
        let (_, fds_max) = getrlimit(Resource::RLIMIT_NOFILE).expect("asking for a limit");
        Self {
            program,
            whose,
            host,
            supervisor,
            listeners,
            told,
            fds_max,
            origin,
            daemon: None,
            serves_since_us: 0,
        }
    }

    /// Starts a process, as systemd does: with the sockets, then what is stored.
    pub fn spawn(&mut self) {
        let copy = |name: &String, fd: std::io::Result<_>| (name.clone(), fd.expect("a copy"));
        let sockets = self.listeners.iter();
        let sockets =
            sockets.map(|(name, socket)| copy(name, socket.try_clone().map(OwnedFd::from)));
        let stored = self.supervisor.stored();
        let stored = stored.iter().map(|stored| copy(&stored.name, stored.fd.try_clone()));
        let subject = Subject { whose: self.whose, program: self.program };
        let setup = subject.setup_on(&self.host).prepare(&self.origin.preparation);
        let setup = setup.through(self.origin.through.iter().cloned());
        let setup = match &self.origin.executables {
            Some(directory) => setup.replaceable_from(directory),
            None => setup.replaceable(),
        };
        let setup = setup.supervised_at(self.supervisor.path()).pass(sockets.chain(stored));
        self.daemon = Some(setup.env("FDSTORE", self.told.to_string()).spawn());
    }

    /// Waits until it serves.
    ///
    /// # Panics
    /// When it does not.
    pub fn expect_serving(&mut self) {
        let answered = self.call(NO_PROCEDURE, &[], patience());
        assert!(
            matches!(answered, Some(Answer::Message(_))),
            "the daemon does not serve, but {answered:?}"
        );
        self.note_serving();
    }

    /// It serves from now on.
    pub fn note_serving(&mut self) {
        self.serves_since_us = now_us();
    }

    /// How many fds the store takes, as the daemon was told.
    pub fn told(&self) -> usize {
        self.told
    }

    /// Since when it serves, by the monotonic clock.
    pub fn serves_since_us(&self) -> u64 {
        self.serves_since_us
    }

    /// Calls over a connection of its own; `None` when it cannot even be made.
    pub fn call(&self, procedure: i32, payload: &[u8], patience: Duration) -> Option<Answer> {
        let mut connection = Connection::open(&self.daemon().main_socket()).ok()?;
        let call = Header::call(self.program.number(), procedure).message(payload);
        connection.send(&call).ok()?;
        Some(connection.answer_within(patience))
    }

    /// The running process.
    pub fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("there is one between two steps")
    }

    /// Sends it a signal and waits for its end. What hangs may keep it from ending: `release` is
    /// called then, once it has had time.
    pub fn end(&mut self, signal: Signal, patience: Duration, release: impl FnOnce()) {
        let mut daemon = self.daemon.take().expect("there is one between two steps");
        daemon.signal(signal);
        if !eventually_within(patience, || !daemon.is_running()) {
            release();
        }
        let exit = daemon.wait();
        let is_expected = match signal {
            Signal::SIGKILL => exit.signal == Some(Signal::SIGKILL as i32),
            _ => exit.code == Some(0),
        };
        assert!(
            is_expected,
            "the daemon ended with {:?} {:?}: {}",
            exit.code, exit.signal, exit.stderr
        );
    }

    /// Whether the process has ended, by itself or not.
    pub fn has_ended(&self) -> bool {
        let state = self.daemon().status_field("State");
        state.is_empty() || state.starts_with('Z')
    }

    /// How the process has ended. The next step is to [spawn](Self::spawn) another one.
    ///
    /// # Panics
    /// When it does not end.
    pub fn take_exit(&mut self) -> Exit {
        self.daemon.take().expect("there is one between two steps").wait()
    }

    /// Sends it a signal, and waits for its end, which may be another one.
    ///
    /// # Panics
    /// When it does not end.
    pub fn end_by(&mut self, signal: Signal) -> Exit {
        self.daemon().signal(signal);
        self.take_exit()
    }

    /// From now on another program, with these arguments, executes each process.
    pub fn set_through(&mut self, words: Vec<String>) {
        self.origin.through = words;
    }

    /// Ends it by a signal and starts the next process, which serves.
    ///
    /// # Panics
    /// When it does not end, or the next one does not serve.
    pub fn restart(&mut self, signal: Signal) {
        self.end(signal, patience(), || ());
        self.supervisor.catch_up();
        self.spawn();
        self.expect_serving();
    }

    /// From now on processes run the executable in this directory, or that of the build under test.
    pub fn set_executables(&mut self, directory: Option<&Path>) {
        self.origin.executables = directory.map(Path::to_path_buf);
    }

    /// Has the executable that processes run now take over, which serves.
    ///
    /// # Panics
    /// When it does not.
    pub fn upgrade_to_current(&mut self) {
        let subject = Subject { whose: Whose::Ours, program: self.program };
        match &self.origin.executables {
            Some(directory) => self.host.put_from(directory, self.program),
            None => self.host.put(subject),
        };
        self.daemon().signal(Signal::SIGUSR1);
        let refusals = self.refusals();
        let is_over = || self.daemon().is_current() || self.refusals() > refusals;
        let is_over = eventually_within(patience(), is_over);
        assert!(is_over && self.daemon().is_current(), "refused: {}", self.last_refusal());
        self.expect_serving();
    }

    /// Puts an executable in place and has it take over; it need not serve yet.
    ///
    /// # Panics
    /// When it neither does nor says why not.
    pub fn upgrade(&self, whose: Whose) -> Upgraded {
        let refusals = self.refusals();
        self.begin_upgrade(whose);
        let is_over = || self.daemon().is_current() || self.refusals() > refusals;
        if !eventually_within(patience(), is_over) {
            self.daemon().expect_alive();
            panic!("an upgrade neither comes about nor is refused");
        }
        if !self.daemon().is_current() {
            return Upgraded::Refused(self.last_refusal());
        }
        Upgraded::Done
    }

    /// Puts an executable in place and tells the daemon so.
    pub fn begin_upgrade(&self, whose: Whose) {
        self.daemon().put(whose);
        self.daemon().signal(Signal::SIGUSR1);
    }

    /// How many upgrades the process has refused.
    pub fn refusals(&self) -> usize {
        self.daemon().stderr().matches(REFUSED).count()
    }

    /// Why it has refused the last one.
    pub fn last_refusal(&self) -> String {
        let said = self.daemon().stderr();
        said.rsplit(REFUSED)
            .next()
            .and_then(|rest| rest.lines().next())
            .unwrap_or_default()
            .to_owned()
    }

    /// Bounds the fds that the process may have, or no longer. It may raise that itself, and does
    /// when it has executed another image.
    pub fn limit_fds(&self, beyond: Option<usize>) {
        let limit = match beyond {
            Some(beyond) => (self.daemon().fd_count() + beyond) as u64,
            None => self.fds_max,
        };
        self.daemon().limit_fds(limit);
    }

    /// The name, beginning with this letter, under which the store has an fd of this inode.
    pub fn stored_name(&self, letter: char, inode: u64) -> Option<String> {
        let stored = self.supervisor.stored();
        let mut named = stored.iter().filter(|stored| stored.name.starts_with(letter));
        let found = named.find(|stored| inode_of(stored.fd.as_fd()) == Some(inode));
        found.map(|stored| stored.name.clone())
    }
}

impl Service {
    /// What each of its processes has said, the first one first.
    fn said(&self) -> Vec<String> {
        let entries = fs::read_dir(self.host.path("")).into_iter().flatten().flatten();
        let number = |path: &Path| path.to_str()?.rsplit_once("/stderr.")?.1.parse::<u64>().ok();
        let numbered = entries.filter_map(|entry| Some((number(&entry.path())?, entry.path())));
        let numbered: BTreeMap<_, _> = numbered.collect();
        let said = numbered.values().map(|path| fs::read(path).unwrap_or_default());
        said.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect()
    }
}

impl Drop for Service {
    /// Whoever reads of a failure wants to know what the daemon has said.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = self.said().join("-- the next process:\n");
            let lines: Vec<_> = said.lines().collect();
            let last = &lines[lines.len().saturating_sub(SAID_LINES_MAX)..];
            eprintln!("the daemon has said:\n{}", last.join("\n"));
            eprintln!("the store has {:?}", self.supervisor.names());
        }
    }
}

/// An fd's inode, without asking its file system, which may hang.
fn inode_of(fd: BorrowedFd<'_>) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
    text.lines().find_map(|line| line.strip_prefix("ino:")?.trim().parse().ok())
}
