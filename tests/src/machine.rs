//! Tests under a real systemd, on a machine of their own: see `systemd/machine.sh`.
//!
//! Such a test runs twice: outside, where it boots a machine with the units of this workspace and
//! the daemons under test, and inside, where the test's executable is run again for this test
//! alone and the test does its work. So it sees the machine's files, sockets, processes and
//! systemd as any program there does.
//!
//! With `MACHINE_ROOT` in the environment it is another distribution's systemd and libvirt, those
//! in that directory.

mod slow_mount;

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use nix::unistd::Pid;

pub use self::slow_mount::SlowMount;
use crate::harness::{Program, Subject, Whose, eventually, left_out, ours};

/// Tells a test that it is inside.
const INSIDE: &str = "TESTS_INSIDE_MACHINE";

/// What a test needs beside Rust: systemd, libvirt-daemon-system, libvirt-clients.
const PROGRAMS: [&str; 6] = [
    "/lib/systemd/systemd",
    "/usr/bin/unshare",
    "/usr/bin/nsenter",
    "/usr/bin/virt-admin",
    "/usr/sbin/virtlogd",
    "/usr/sbin/virtlockd",
];

/// Exit status of the script when this machine cannot have another in it.
const NO_MACHINE: i32 = 125;

/// How long a test may take inside before it is ended, unless its equipment says otherwise.
const TIMEOUT: Duration = Duration::from_secs(600);

/// Makes tests of functions without arguments: each runs on a machine of its own whose daemons are
/// `Ours` or `Theirs`, not started yet.
#[macro_export]
macro_rules! on_machine {
    ($whose:ident: $($name:ident),+ $(,)?) => {$(
        mod $name {
            #[test]
            fn on_machine() {
                let whose = $crate::harness::Whose::$whose;
                $crate::machine::run(whose, concat!(module_path!(), "::on_machine"), super::$name);
            }
        }
    )+};
}

/// What a machine has beside the daemons and our units.
#[derive(Debug, Default)]
pub struct Equipment {
    /// Root directory of another distribution.
    pub root: Option<PathBuf>,
    /// Files of this machine, and where copies of them are on that one; directories can be read there.
    pub files: Vec<(PathBuf, String)>,
    /// How long the test may take inside, in place of ten minutes.
    pub timeout: Option<Duration>,
}

/// Runs the test called `name`, its crate's name in front, on a new machine.
pub fn run(whose: Whose, name: &str, test: fn()) {
    let root = std::env::var_os("MACHINE_ROOT").map(PathBuf::from);
    run_with(|| Ok(Equipment { root, ..Equipment::default() }), whose, name, test);
}

/// Runs a test on a new machine with `equipment`; what cannot be had is the reason to leave it out.
pub fn run_with(
    equipment: impl FnOnce() -> Result<Equipment, String>,
    whose: Whose,
    name: &str,
    test: fn(),
) {
    if std::env::var_os(INSIDE).is_some() {
        return test();
    }
    let output = match equipment().and_then(|equipment| boot(equipment, whose, name)) {
        Ok(output) => output,
        Err(reason) => return left_out(name, &reason),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    if output.status.code() == Some(NO_MACHINE) {
        return left_out(name, &stderr);
    }
    assert!(
        output.status.success() && stdout.contains("1 passed"),
        "inside the machine, {}:\n{stdout}{stderr}",
        output.status
    );
    print!("{stdout}");
    // Past this test's own capture, as it was past that one's.
    let said = stderr.lines().filter(|line| line.starts_with("LEFT OUT: "));
    said.for_each(|line| drop(writeln!(std::io::stderr().lock(), "{line}")));
}

/// Boots a machine and runs this executable in it, for one test.
fn boot(equipment: Equipment, whose: Whose, name: &str) -> Result<Output, String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("only root can boot a machine".to_owned());
    }
    if let Some(missing) = PROGRAMS.iter().find(|program| !Path::new(program).exists()) {
        return Err(format!("{missing} is not installed"));
    }
    let executable = std::env::current_exe().map_err(|error| error.to_string())?;
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "bash"]).arg(workspace.join("systemd/machine.sh"));
    if let Some(root) = &equipment.root {
        command.env("MACHINE_ROOT", root);
    }
    let timeout = equipment.timeout.unwrap_or(TIMEOUT).as_secs().to_string();
    command.args(files(equipment, whose, executable, &workspace.join("../systemd"))?);
    command.args(["--", "env"]).arg(format!("{INSIDE}=1"));
    let settings = std::env::vars().filter(|(name, _)| name.starts_with("VIRT_TESTS_"));
    command.args(settings.map(|(name, value)| format!("{name}={value}")));
    let (_, name) = name.split_once("::").expect("the crate's name comes first");
    command.args([
        "timeout",
        "--kill-after=5",
        &timeout,
        "/opt/test",
        "--include-ignored",
        "--exact",
        name,
        "--nocapture",
    ]);
    command.output().map_err(|error| format!("setpriv cannot be run: {error}"))
}

/// What is put into the machine, as `FILE:PATH`.
fn files(
    equipment: Equipment,
    whose: Whose,
    executable: PathBuf,
    units: &Path,
) -> Result<Vec<OsString>, String> {
    let Equipment { root, files: mut extra, .. } = equipment;
    // Beside the directory of the test's.
    let slow = executable.ancestors().nth(2).map(|directory| directory.join("stoppable_fs"));
    let slow = slow.filter(|slow| slow.exists()).map(|slow| (slow, slow_mount::PROGRAM.to_owned()));
    let mut files = vec![(executable, "/opt/test".to_owned())];
    files.extend(slow);
    for path in [entries(units)?, entries(&units.join("holder"))?].concat() {
        if matches!(path.extension().and_then(OsStr::to_str), Some("service" | "socket" | "timer"))
        {
            let unit = path.file_name().and_then(OsStr::to_str).expect("a unit's name is text");
            let installed = format!("/etc/systemd/system/{unit}");
            files.push((path, installed));
        }
    }
    files.push((ours("virtfdhold"), "/usr/sbin/virtfdhold".to_owned()));
    for program in [Program::Virtlogd, Program::Virtlockd] {
        for maker in [Whose::Ours, Whose::Theirs] {
            files.push((executable_of(&root, maker, program)?, stored(maker, program)));
        }
        files.push((executable_of(&root, whose, program)?, installed(program)));
        files.push((program.tool(), format!("/usr/bin/{}", program.tool_name())));
    }
    files.append(&mut extra);
    let colon = |(file, path): (PathBuf, String)| {
        let mut word = file.into_os_string();
        word.push(format!(":{path}"));
        word
    };
    Ok(files.into_iter().map(colon).collect())
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let failure = |error: io::Error| format!("{}: {error}", directory.display());
    let entries = directory.read_dir().map_err(failure)?;
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(failure)).collect()
}

fn executable_of(
    root: &Option<PathBuf>,
    whose: Whose,
    program: Program,
) -> Result<PathBuf, String> {
    match (whose, root) {
        (Whose::Theirs, Some(root)) => Ok(root.join(installed(program).split_off(1))),
        _ => Subject { whose, program }.executable(),
    }
}

/// Where each maker's daemons can be found.
fn stored(whose: Whose, program: Program) -> String {
    format!("/opt/{whose:?}/{}", program.name()).to_lowercase()
}

/// What the units start.
fn installed(program: Program) -> String {
    format!("/usr/sbin/{}", program.name())
}

/// The units that come with libvirt take the place of ours, as on a host where only libvirt was
/// installed, or after ours were removed.
pub fn use_libvirts_units() {
    let move_away = "mkdir -p /opt/units; cd /etc/systemd/system; mv virtlo*.service virtlo*.socket virtlo*.timer /opt/units";
    succeed("sh", &["-ec", move_away]);
    systemctl(&["daemon-reload"]);
}

/// Ours take their place again, by the commands of `systemd/README.md`.
pub fn install_our_units() {
    succeed("sh", &["-ec", "install -m 644 /opt/units/* /etc/systemd/system/"]);
    systemctl(&["daemon-reload"]);
}

/// Puts a daemon where the units look for it; one that runs goes on as it is.
pub fn install(whose: Whose, program: Program) {
    succeed("cp", &["--remove-destination", &stored(whose, program), &installed(program)]);
}

/// Enables and starts both sockets of a daemon, as an administrator does.
pub fn enable(program: Program) {
    let [main, admin] = ["", "-admin"].map(|kind| format!("{}{kind}.socket", program.name()));
    systemctl(&["enable", "--now", &main, &admin]);
}

/// The service unit's name.
pub fn service(program: Program) -> String {
    format!("{}.service", program.name())
}

/// The main socket.
pub fn main_socket(program: Program) -> PathBuf {
    format!("/run/libvirt/{}-sock", program.name()).into()
}

/// Whether the service runs libvirt's daemon.
pub fn is_libvirts(program: Program) -> bool {
    main_process(program, "maps").contains("libvirt.so")
}

/// Runs systemctl, which must succeed; what it printed.
pub fn systemctl(arguments: &[&str]) -> String {
    succeed("systemctl", arguments)
}

/// Runs systemctl, which must fail.
#[track_caller]
pub fn systemctl_fails(arguments: &[&str]) {
    let status = Command::new("systemctl").args(arguments).status().expect("starting systemctl");
    assert!(!status.success(), "systemctl {arguments:?} did not fail");
}

/// An entry of the `/proc` directory of the process that a service runs, as text.
pub fn main_process(program: Program, entry: &str) -> String {
    let pid = property(&service(program), "MainPID");
    let path = Path::new("/proc").join(pid).join(entry);
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    String::from_utf8_lossy(&text).into_owned()
}

/// A property of a unit, as `systemctl show` prints it.
pub fn property(unit: &str, name: &str) -> String {
    systemctl(&["show", "--value", "--property", name, unit]).trim_end().to_owned()
}

/// Waits until a unit's property is `value`.
#[track_caller]
pub fn expect_property(unit: &str, name: &str, value: &str) {
    eventually(&format!("{unit}: {name}={value}"), || property(unit, name) == value);
}

/// How many descriptors systemd keeps for a service.
pub fn stored_count(program: Program) -> usize {
    property(&service(program), "NFileDescriptorStore").parse().expect("a number")
}

/// The process that a service runs, or will run soon.
///
/// # Panics
/// When none comes.
pub fn main_pid(program: Program) -> Pid {
    let mut pid = 0;
    eventually(&format!("{} runs", service(program)), || {
        pid = property(&service(program), "MainPID").parse().expect("a number");
        pid != 0
    });
    Pid::from_raw(pid)
}

/// Adds settings to a unit, in place of those that were added before.
pub fn drop_in(unit: &str, text: &str) {
    let directory = format!("/etc/systemd/system/{unit}.d");
    std::fs::create_dir_all(&directory).expect("a directory for settings");
    std::fs::write(format!("{directory}/test.conf"), text).expect("writing settings");
    systemctl(&["daemon-reload"]);
}

/// The version of systemd.
pub fn systemd_version() -> u32 {
    let text = systemctl(&["--version"]);
    text.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("systemd says its version")
}

/// The messages about a unit and from it, oldest first.
pub fn journal(unit: &str) -> String {
    succeed("journalctl", &["--sync"]);
    succeed("journalctl", &["--no-pager", "--output=cat", "--boot", "--unit", unit])
}

/// What systemd says of a unit, and of what it is doing, for a failure's message.
pub fn status(unit: &str) -> String {
    let show = |arguments: &[&str]| Command::new("systemctl").args(arguments).output();
    [show(&["show", unit]), show(&["list-jobs"])]
        .into_iter()
        .flatten()
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .collect()
}

/// Runs a command, which must succeed; what it printed.
pub fn succeed(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect("starting a command");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}{}",
        text(&output.stderr),
        text(&output.stdout)
    );
    text(&output.stdout)
}
