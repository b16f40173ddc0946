//! A private host: namespaces, the daemons, processes and files in them.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};

use super::{Virsh, wait_for};

/// Process 1 of the host.
const INIT: &str = include_str!("../../interop/host.sh");
/// What sits under every command, so that one that hangs ends with an error (seconds).
const COMMAND_TIMEOUT_S: &str = "90";
/// Where programs are looked for; the caller's own environment stays outside.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// Enough of libvirtd's privileges taken away or switched off to run without cgroups, devices of
/// its own, D-Bus and security labels.
const QEMU_CONF: &str = r#"
security_driver = "none"
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
namespaces = []
cgroup_controllers = []
"#;
const LIBVIRTD_CONF: &str = r#"
auth_unix_ro = "none"
auth_unix_rw = "none"
log_outputs = "3:file:/var/log/libvirt/libvirtd.log"
"#;

/// How much of a daemon's log a failed test shows.
const REPORT_LINES_MAX: usize = 30;

/// How a host differs from libvirt's defaults.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setup<'a> {
    /// Contents of `virtlogd.conf`.
    pub virtlogd_conf: &'a str,
    /// Whether libvirtd has disks locked by virtlockd.
    pub locking: bool,
    /// Contents of `qemu-lockd.conf`, the settings of libvirtd's side of the locking.
    pub qemu_lockd_conf: &'a str,
}

/// A machine of its own as far as libvirt can see. It ends when dropped.
#[derive(Debug)]
pub struct Host {
    /// `None` where the host is the machine that the test runs on.
    unshare: Option<Child>,
    /// Process 1 ends when this does.
    keeper: Option<ChildStdin>,
    /// Process id of the host's process 1, outside.
    init_pid: u32,
    is_ours: bool,
}

impl Host {
    /// A host without running daemons, but with the executables in `daemons` in place of the
    /// installed ones of the same name.
    ///
    /// # Errors
    ///
    /// Says why this machine cannot have one.
    pub(super) fn boot(daemons: &[PathBuf]) -> Result<Self, String> {
        let mut unshare = Command::new("unshare")
            .args(["--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child"])
            .args(["sh", "-c", INIT, "host"])
            .args(daemons)
            .env_clear()
            .env("PATH", PATH)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("unshare starts");
        let keeper = unshare.stdin.take();
        let mut line = String::new();
        let stdout = unshare.stdout.take().expect("stdout is a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("the host speaks");
        match line.trim().parse() {
            Ok(init_pid) => {
                let is_ours = !daemons.is_empty();
                Ok(Self { unshare: Some(unshare), keeper, init_pid, is_ours })
            }
            Err(_) => Err(format!("no private host here: {}", last_words(&mut unshare))),
        }
    }

    /// The machine of a test under systemd, see [`crate::machine`]; its units start the daemons.
    pub fn machine(setup: &Setup<'_>) -> Self {
        let host = Self { unshare: None, keeper: None, init_pid: 1, is_ours: true };
        host.run("mkdir", &["-p", "/var/lib/libvirt/images", "/var/log/libvirt/qemu"]);
        host.configure(setup);
        host
    }

    /// Starts `virtlogd`, `virtlockd` if asked for, and `libvirtd`.
    ///
    /// # Panics
    ///
    /// When one of them does not start.
    pub(super) fn start(&self, setup: &Setup<'_>) {
        self.configure(setup);
        self.run("virtlogd", &["-d"]);
        if setup.locking {
            self.run("virtlockd", &["-d"]);
        }
        self.run("libvirtd", &["-d"]);
    }

    fn configure(&self, setup: &Setup<'_>) {
        let mut qemu_conf = QEMU_CONF.to_owned();
        if setup.locking {
            qemu_conf.push_str("lock_manager = \"lockd\"\n");
        }
        self.write("/etc/libvirt/qemu.conf", &qemu_conf);
        self.write("/etc/libvirt/qemu-lockd.conf", setup.qemu_lockd_conf);
        self.write("/etc/libvirt/libvirtd.conf", LIBVIRTD_CONF);
        self.write("/etc/libvirt/virtlogd.conf", setup.virtlogd_conf);
    }

    /// Whether its daemons are those of this workspace.
    pub fn is_ours(&self) -> bool {
        self.is_ours
    }

    /// The host's own libvirt.
    pub fn system(&self) -> Virsh<'_> {
        Virsh::system(self)
    }

    /// The libvirt of an unprivileged user without a log-in, started by its first use.
    pub fn session(&self) -> Virsh<'_> {
        Virsh::session(self)
    }

    /// Ends libvirtd, as an upgrade does, and starts it again.
    pub fn restart_libvirtd(&self) {
        self.end("TERM", "/run/libvirtd.pid");
        self.run("libvirtd", &["-d"]);
    }

    /// Sends the signal called `name` to the process that `pid_file` names and waits until it has
    /// gone.
    pub fn end(&self, name: &str, pid_file: &str) {
        let pid = self.pid(pid_file);
        self.signal(name, pid);
        wait_for(&format!("the end of {pid_file}"), || (!self.has_process(pid)).then_some(()));
    }
}

/// Processes.
impl Host {
    /// A command on this host, to be completed and run.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.init_pid.to_string()])
            .args(["--mount", "--pid", "--net", "--ipc", "--uts", "--"])
            .args(["timeout", "--kill-after=5", COMMAND_TIMEOUT_S, program])
            .env_clear()
            .env("PATH", PATH)
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end and returns what it printed.
    ///
    /// # Panics
    ///
    /// When it fails.
    pub fn run(&self, program: &str, args: &[&str]) -> String {
        succeed(self.command(program).args(args))
    }

    /// The process id in `pid_file`, as it counts on this host.
    pub fn pid(&self, pid_file: &str) -> u32 {
        let text = String::from_utf8(self.read(pid_file)).expect("a pid file is text");
        text.trim().parse().expect("a pid file holds a number")
    }

    /// Sends the signal called `name` (`TERM`, `KILL`) to a process of this host.
    pub fn signal(&self, name: &str, pid: u32) {
        self.run("sh", &["-c", &format!("kill -{name} {pid}")]);
    }

    /// Whether the process runs; one that has ended and waits for its parent does not.
    pub fn has_process(&self, pid: u32) -> bool {
        let stat = std::fs::read_to_string(self.outside(&format!("/proc/{pid}/stat")));
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    }
}

/// Files.
impl Host {
    /// Where a path of this host is for the test. No part of it may be an absolute symbolic link.
    pub fn outside(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.init_pid))
    }

    /// What is in a file.
    pub fn read(&self, path: &str) -> Vec<u8> {
        std::fs::read(self.outside(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// What is in a text file.
    pub fn read_text(&self, path: &str) -> String {
        String::from_utf8_lossy(&self.read(path)).into_owned()
    }

    /// Makes or replaces a file.
    pub fn write(&self, path: &str, contents: impl AsRef<[u8]>) {
        std::fs::write(self.outside(path), contents)
            .unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    /// Whether there is such a file.
    pub fn exists(&self, path: &str) -> bool {
        self.outside(path).exists()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            report(self);
        }
        self.keeper = None;
        if let Some(Err(error)) = self.unshare.as_mut().map(Child::wait) {
            eprintln!("a private host did not end: {error}");
        }
    }
}

/// Runs a command to its end and returns what it printed.
///
/// # Panics
///
/// When it fails.
pub(super) fn succeed(command: &mut Command) -> String {
    let output = command.output().expect("nsenter starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {stderr}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a process that has ended, or is about to, said on its standard error.
fn last_words(process: &mut Child) -> String {
    let mut text = String::new();
    if let Some(stderr) = process.stderr.as_mut() {
        stderr.read_to_string(&mut text).expect("stderr is text");
    }
    process.wait().expect("unshare ends");
    text.trim().to_owned()
}

/// Shows the daemons' own logs of a test that failed.
fn report(host: &Host) {
    let mut text = String::new();
    for daemon in ["virtlogd", "virtlockd", "libvirtd"] {
        let path = format!("/var/log/libvirt/{daemon}.log");
        if !host.exists(&path) {
            continue;
        }
        let log = host.read_text(&path);
        // libvirtd finds the network interfaces that sysfs shows not to exist in here.
        let noise = "virNetDevSendEthtoolIoctl";
        let lines: Vec<&str> = log.lines().filter(|line| !line.contains(noise)).collect();
        for line in &lines[lines.len().saturating_sub(REPORT_LINES_MAX)..] {
            writeln!(text, "{daemon}: {line}").expect("a string grows");
        }
    }
    eprintln!("{text}");
}
