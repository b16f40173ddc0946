//! How a daemon is started: arguments, environment, identity, descriptors, namespaces.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::Subject;
use super::availability::is_root;
use super::daemon::{Daemon, Exit, Streams};
use super::host::{Host, SESSION_UID};
use super::passed::PassedOn;

/// Nobody, on every distribution; owns the daemon of [`Mode::SystemOfStranger`].
const STRANGER_UID: u32 = 65534;

/// Words of a command that every daemon is executed through, to run all tests in odd surroundings.
const THROUGH_VARIABLE: &str = "VIRT_TESTS_THROUGH";

/// Where a daemon that was built for it writes what of it was executed: see `tests/coverage`.
const PROFILE_VARIABLE: &str = "LLVM_PROFILE_FILE";

/// Runs inside the new namespaces: `$1` scratch directory, `$2` current directory, `$3` number of
/// sockets passed as stdin and stdout, `$4` commands of the test's own, `$5` numbers of fds to be
/// passed; the rest is executed.
///
/// What the tests were started with beside these is none of a daemon's business.
const SCRIPT: &str = r#"
set -e
for fd in /proc/self/fd/*; do
    fd=${fd##*/}
    case " $5 " in *" $fd "*) continue ;; esac
    if [ "$fd" -gt 2 ]; then eval "exec $fd>&-"; fi
done
mount -n --bind "$1/etc" /etc
mount -n --bind "$1/log" /var/log
mount -n --bind "$1/run" /run
cd "$2"
eval "$4"
case "$3" in
0) ;;
1) exec 3<&0 0</dev/null; export LISTEN_FDS=1 LISTEN_PID=${LISTEN_PID:-$$} ;;
2) exec 3<&0 4<&1 0</dev/null 1>/dev/null; export LISTEN_FDS=2 LISTEN_PID=${LISTEN_PID:-$$} ;;
esac
number=3
for fd in $5; do
    eval "exec $number<&$fd $fd<&-"
    number=$((number + 1))
done
if [ -n "$5" ]; then export LISTEN_FDS=$((number - 3)) LISTEN_PID=$$; fi
shift 5
exec "$@"
"#;

/// Leaves the daemon nothing to write to but the scratch directory (and its profile, if it has one),
/// whatever it is made to do: `/dev` holds the few devices that it needs, and every other mount is
/// read-only.
pub const CONFINEMENT: &str = r#"
scratch=${1%/}
mount -n --bind "$scratch" "$scratch"
mkdir -p "$scratch/dev"
mount -n -t tmpfs tmpfs "$scratch/dev"
for device in null zero urandom fuse; do
    if [ -e /dev/$device ]; then
        touch "$scratch/dev/$device"
        mount -n --bind /dev/$device "$scratch/dev/$device"
    fi
done
mount -n --rbind "$scratch/dev" /dev
profiles=${LLVM_PROFILE_FILE%/*}
if [ -n "$profiles" ]; then mount -n --bind "$profiles" "$profiles"; fi
while read -r point; do
    case $point in
    "$scratch" | "$scratch"/* | "$profiles" | /etc | /run | /var/log | /dev | /dev/*) ;;
    *) mount -n -o remount,bind,ro "$point" 2>&- || true ;;
    esac
done <<<"$(cut -d ' ' -f 5 /proc/self/mountinfo)"
if touch /usr/x /x 2>&-; then exit 1; fi
"#;

/// As whom the daemon runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Effective uid 0, seeing the test's process as uid 0.
    System,
    /// An ordinary user, seeing the test's process as the same user.
    Session,
    /// Effective uid 0, seeing the test's process as some other user. Needs root.
    SystemOfStranger,
    /// An ordinary user, seeing the test's process as root. Needs root.
    SessionOfStranger,
}

/// A daemon about to be started.
#[derive(Debug)]
pub struct Setup {
    subject: Subject,
    host: Arc<Host>,
    mode: Mode,
    arguments: Vec<OsString>,
    environment: Vec<(String, OsString)>,
    cwd: PathBuf,
    sockets: Vec<OwnedFd>,
    passed: Vec<OwnedFd>,
    notify: Option<PathBuf>,
    limits: Vec<String>,
    preparation: String,
    wrapper: Vec<String>,
    replaceable: bool,
    namespace: Option<Vec<String>>,
    executables: Option<PathBuf>,
    instead: Option<PathBuf>,
}

impl Setup {
    pub(super) fn new(subject: Subject, host: &Arc<Host>) -> Self {
        Self {
            subject,
            host: Arc::clone(host),
            mode: Mode::System,
            arguments: Vec::new(),
            environment: Vec::new(),
            cwd: PathBuf::from("/run"),
            sockets: Vec::new(),
            passed: Vec::new(),
            notify: None,
            limits: Vec::new(),
            preparation: String::new(),
            wrapper: Vec::new(),
            replaceable: false,
            namespace: None,
            executables: None,
            instead: None,
        }
    }

    /// The host that the daemon will run on.
    pub fn host(&self) -> Arc<Host> {
        Arc::clone(&self.host)
    }

    /// Chooses as whom the daemon runs; system mode unless told otherwise.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Writes the default configuration file.
    #[must_use]
    pub fn config(self, text: &str) -> Self {
        fs::write(self.config_path(), text).expect("writing the configuration");
        self
    }

    /// Writes the file of our own settings beside it.
    #[must_use]
    pub fn toml(self, text: &str) -> Self {
        let path = self.config_path().with_extension("toml");
        fs::write(path, text).expect("writing our own settings");
        self
    }

    /// Adds command line arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable; little else is in the daemon's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Sets the current directory, `/run` unless told otherwise.
    #[must_use]
    pub fn cwd(mut self, directory: &Path) -> Self {
        self.cwd = directory.to_path_buf();
        self
    }

    /// Passes at most two sockets as systemd does, the first as descriptor 3, with `LISTEN_PID`
    /// and `LISTEN_FDS`; the names go through [`Self::env`] as `LISTEN_FDNAMES`.
    #[must_use]
    pub fn listen(mut self, sockets: impl IntoIterator<Item = OwnedFd>) -> Self {
        self.sockets.extend(sockets);
        assert!(self.sockets.len() <= 2, "stdin and stdout carry two sockets");
        self
    }

    /// Passes any number of named fds as systemd does, the first as descriptor 3. They go to every
    /// process that is started meanwhile, so no other thread may start one.
    #[must_use]
    pub fn pass(mut self, fds: impl IntoIterator<Item = (String, OwnedFd)>) -> Self {
        let (names, fds): (Vec<_>, Vec<_>) = fds.into_iter().unzip();
        self.passed = fds;
        self.env("LISTEN_FDNAMES", names.join(":"))
    }

    /// Has the daemon talk to this supervisor, so that nothing is heard of it through
    /// [`Daemon::notification`].
    #[must_use]
    pub fn supervised_at(mut self, socket: &Path) -> Self {
        self.notify = Some(socket.to_path_buf());
        self
    }

    /// Sets a resource limit, as an argument of prlimit(1): `--nofile=30`.
    #[must_use]
    pub fn limit(mut self, limit: &str) -> Self {
        self.limits.push(limit.to_owned());
        self
    }

    /// Runs a shell command inside the namespaces before the daemon starts.
    #[must_use]
    pub fn prepare(mut self, command: &str) -> Self {
        self.preparation.push_str(command);
        self.preparation.push('\n');
        self
    }

    /// Lets the daemon write to nothing but the scratch directory: for tests that try to make it do
    /// worse.
    #[must_use]
    pub fn confined(self) -> Self {
        self.prepare(CONFINEMENT)
    }

    /// Executes the daemon through another program, given with its arguments.
    #[must_use]
    pub fn through<W: Into<String>>(mut self, words: impl IntoIterator<Item = W>) -> Self {
        self.wrapper.extend(words.into_iter().map(Into::into));
        self
    }

    /// Gives the daemon a pid namespace of its own, as a container has, in which it is the first
    /// process. There this shell command is run before it starts; `/proc` is as outside unless it
    /// mounts another one.
    #[must_use]
    pub fn in_a_pid_namespace(mut self, preparation: &str) -> Self {
        let script = format!("{preparation}\nexec \"$@\"");
        let words = ["unshare", "--pid", "--fork", "--kill-child", "bash", "-ec", &script, "bash"];
        self.namespace = Some(words.map(str::to_owned).into());
        self
    }

    /// Runs a copy of the executable that can be replaced, see [`Daemon::put`].
    #[must_use]
    pub fn replaceable(mut self) -> Self {
        self.replaceable = true;
        self
    }

    /// The same with the executable that is in this directory.
    #[must_use]
    pub fn replaceable_from(mut self, directory: &Path) -> Self {
        self.executables = Some(directory.to_path_buf());
        self.replaceable()
    }

    /// Starts this program in place of the daemon.
    #[must_use]
    pub fn instead(mut self, program: &Path) -> Self {
        self.instead = Some(program.to_path_buf());
        self
    }

    /// Starts the daemon and waits until it serves.
    pub fn start(self) -> Daemon {
        let mut daemon = self.spawn();
        daemon.wait_until_serving();
        daemon
    }

    /// Starts the daemon with `-d`: the first process must end with status 0.
    pub fn start_detached(self) -> Daemon {
        let mut daemon = self.args(["-d"]).spawn();
        let exit = daemon.wait();
        assert_eq!(exit.code, Some(0), "{}", exit.stderr);
        daemon.adopt_from_pid_file();
        daemon
    }

    /// Runs the daemon to its end, which must come by itself.
    pub fn run(self) -> Exit {
        self.spawn().wait()
    }

    /// Starts the daemon and does not wait for it to serve.
    pub fn spawn(mut self) -> Daemon {
        let number = unique();
        let stdout = self.host.path(&format!("stdout.{number}"));
        let stderr = self.host.path(&format!("stderr.{number}"));
        // Not below `/run`, so that a test may do to that what it likes.
        let notify = self.host.path(&format!("notify.{number}"));
        let passed = PassedOn::new(&std::mem::take(&mut self.passed));
        let mut command = self.command(&passed);
        command.env("NOTIFY_SOCKET", self.notify.as_ref().unwrap_or(&notify));
        let notify = UnixDatagram::bind(notify).expect("a socket for notifications");
        let mut sockets = std::mem::take(&mut self.sockets).into_iter();
        command.stdin(sockets.next().map_or_else(Stdio::null, Stdio::from));
        command.stdout(sockets.next().map_or_else(|| create(&stdout).into(), Stdio::from));
        command.stderr(create(&stderr));
        if matches!(self.mode, Mode::SystemOfStranger | Mode::SessionOfStranger) {
            self.host.chown_all(STRANGER_UID);
        }
        let child = command.spawn().expect("starting a daemon");
        drop(passed);
        let streams = Streams { stdout, stderr, notify };
        let mut daemon = Daemon::new(self.subject, self.host, self.mode, child, streams);
        if self.namespace.is_some() {
            daemon.adopt_first_of_namespace();
        }
        daemon
    }

    fn command(&self, passed: &PassedOn) -> Command {
        let mut words = self.outer_words();
        words.extend(["bash", "-c", SCRIPT, "bash"].map(OsString::from));
        words.push(self.host.path("").into());
        words.push(self.cwd.clone().into());
        words.push(self.sockets.len().to_string().into());
        words.push(self.preparation.clone().into());
        words.push(passed.numbers().into());
        words.extend(self.inner_words());
        words.push(self.executable().into());
        words.extend(self.arguments.iter().cloned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env_clear().current_dir("/");
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C");
        for (name, directory) in [
            ("HOME", "user"),
            ("XDG_RUNTIME_DIR", "user/run"),
            ("XDG_CONFIG_HOME", "user/config"),
            ("XDG_CACHE_HOME", "user/cache"),
        ] {
            command.env(name, self.host.path(directory));
        }
        let profile = std::env::var_os(PROFILE_VARIABLE);
        command.envs(profile.map(|file| (PROFILE_VARIABLE, file)));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// What makes the namespaces.
    fn outer_words(&self) -> Vec<OsString> {
        let mut words = match self.mode {
            Mode::SystemOfStranger => become_stranger(),
            Mode::System | Mode::Session | Mode::SessionOfStranger => Vec::new(),
        };
        let privileged = is_root() && self.mode != Mode::SystemOfStranger;
        words.push("unshare".into());
        words.extend(unshare_arguments(privileged).map(OsString::from));
        words
    }

    /// What runs last before the daemon: limits, identity, and our death as the daemon's.
    fn inner_words(&self) -> Vec<OsString> {
        let mut words = Vec::new();
        if !self.limits.is_empty() {
            words.push("prlimit".into());
            words.extend(self.limits.iter().map(OsString::from));
        }
        match self.mode {
            Mode::Session => words.extend([
                "unshare".into(),
                "--user".into(),
                format!("--map-user={SESSION_UID}").into(),
                format!("--map-group={SESSION_UID}").into(),
            ]),
            Mode::SessionOfStranger => words.extend(become_stranger()),
            Mode::System | Mode::SystemOfStranger => {}
        }
        words.extend(["setpriv", "--pdeathsig", "KILL"].map(OsString::from));
        let through = std::env::var(THROUGH_VARIABLE).unwrap_or_default();
        words.extend(through.split_whitespace().map(OsString::from));
        words.extend(self.namespace.iter().flatten().map(OsString::from));
        words.extend(self.wrapper.iter().map(OsString::from));
        words
    }

    /// A stranger may not be able to reach a build directory, so it gets a copy.
    fn executable(&self) -> PathBuf {
        if let Some(program) = &self.instead {
            return program.clone();
        }
        let stranger = matches!(self.mode, Mode::SystemOfStranger | Mode::SessionOfStranger);
        if !stranger && !self.replaceable {
            return self.subject.executable().expect("checked before the test");
        }
        match &self.executables {
            Some(directory) => self.host.put_from(directory, self.subject.program),
            None => self.host.put(self.subject),
        }
    }

    fn config_path(&self) -> PathBuf {
        let directory = match self.mode {
            Mode::System | Mode::SystemOfStranger => self.host.path("etc/libvirt"),
            Mode::Session | Mode::SessionOfStranger => self.host.path("user/config/libvirt"),
        };
        fs::create_dir_all(&directory).expect("the configuration's directory");
        directory.join(format!("{}.conf", self.subject.program.name()))
    }
}

/// Options of unshare(1); without privilege a user namespace comes with the others.
pub(super) fn unshare_arguments(privileged: bool) -> impl Iterator<Item = &'static str> {
    let user = if privileged { None } else { Some("--map-root-user") };
    ["--mount", "--net", "--propagation", "private"].into_iter().chain(user)
}

fn become_stranger() -> Vec<OsString> {
    vec![
        "setpriv".into(),
        format!("--reuid={STRANGER_UID}").into(),
        format!("--regid={STRANGER_UID}").into(),
        "--clear-groups".into(),
    ]
}

fn create(path: &Path) -> File {
    OpenOptions::new().append(true).create(true).open(path).expect("a file for the output")
}

fn unique() -> usize {
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}
