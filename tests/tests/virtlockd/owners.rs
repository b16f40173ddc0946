//! Which process an owner is, in hard cases: it has died early, its pid is another's meanwhile, there
//! are no descriptors to watch it with. libvirt's daemon knows owners by number alone.

use std::fs;
use std::process::{Child, Command};
use std::thread;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::guest::Guest;
use tests::harness::{Daemon, Program, Subject, Whose, eventually, left_out, needs_root};
use tests::wire::{ACQUIRE_SHARED, Header, LOCK_PROGRAM, RpcError, Writer};

use super::guests::A_WHILE;
use super::{NOBODY, client_of, image, is_leased, no_lockspace, not_holder, owner};

tests::ours! { Virtlockd:
    who_died_before_it_was_registered_keeps_no_lease,
    a_pid_of_another_namespace_is_not_ours,
    a_watch_that_failed_for_want_of_descriptors_is_made_up_for,
    nobody_pays_for_a_dead_owner_with_the_same_pid,
    a_pid_that_changed_hands_unseen_is_the_new_process,
    nobody_is_ended_for_a_connection_of_the_dead,
    nobody_has_a_lease_that_the_dead_left_behind,
    who_speaks_for_the_dead_does_not_speak_for_who_has_their_pid,
    who_has_the_pid_of_the_dead_keeps_its_leases,
    a_pid_above_what_was_the_highest_is_watched,
}

/// Set where nobody else takes pids, and with it the scenarios below run.
const ALONE: &str = "VIRT_TESTS_ALONE_WITH_PIDS";

/// Which process a client is, as the kernel is asked.
const PEER_PIDFD: &str = "getsockopt:SO_PEERPIDFD";

/// How often a pid is asked for. Only threads of this test can be in the way.
const ATTEMPTS_MAX: usize = 50;

/// A process that does nothing; it is killed when this is dropped.
pub(super) struct Idle(Child);

impl Idle {
    pub(super) fn start() -> Self {
        Self(Command::new("sleep").arg("60").spawn().unwrap())
    }

    pub(super) fn pid(&self) -> u32 {
        self.0.id()
    }

    fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// The pid of a process that has just been reaped.
fn dead_pid() -> u32 {
    Idle::start().pid()
}

fn who_died_before_it_was_registered_keeps_no_lease(subject: Subject) {
    let daemon = subject.start();
    let image = image(&daemon, "image");
    client_of(&daemon, dead_pid()).acquire("", &image, 0).unwrap();
    let mut other = client_of(&daemon, NOBODY);
    eventually("it can be had", || other.acquire("", &image, 0).is_ok());
    thread::sleep(A_WHILE);
    assert!(is_leased(&image), "whom nothing is known of keeps it");
}

/// As with a lease that was taken unwatched for any other reason, nobody knows whose it is.
fn a_pid_of_another_namespace_is_not_ours(subject: Subject) {
    if !needs_root("another pid namespace") {
        return;
    }
    let daemon = subject.start();
    let image = image(&daemon, "image");
    let process = Idle::start();
    let mut container = Guest::start_in_a_pid_namespace(&daemon);
    container.tell(&format!("acquire {} {image}", process.pid()));
    let mut client = client_of(&daemon, process.pid());
    assert_eq!(client.release("", &image, 0), Err(not_holder(process.pid())));
    drop(process);
    thread::sleep(A_WHILE);
    assert!(is_leased(&image));
}

fn a_watch_that_failed_for_want_of_descriptors_is_made_up_for(subject: Subject) {
    let daemon = subject.setup().limit("--nofile=40:40").start();
    let wanted = image(&daemon, "wanted");
    let guest = Idle::start();
    let mut libvirt = daemon.lock_client();
    libvirt.create_lockspace("").unwrap();
    let mut other = client_of(&daemon, NOBODY);
    let images: Vec<_> = (0..40).map(|number| image(&daemon, &number.to_string())).collect();
    let mut acquire = |image: &String| other.acquire("", image, ACQUIRE_SHARED);
    assert!(images.iter().take_while(|image| acquire(image).is_ok()).count() < images.len());
    libvirt.register(&owner(guest.pid()), 0).unwrap();
    // To share it would take no descriptor, but to watch the guest does.
    let message = format!("Unable to open resource {}: Too many open files", images[0]);
    assert_eq!(
        libvirt.acquire("", &images[0], ACQUIRE_SHARED),
        Err(RpcError::system(51, libc::EMFILE, &message))
    );
    assert_eq!(libvirt.acquire("/none", "", 0), Err(no_lockspace("/none")));
    for image in &images[..2] {
        other.release("", image, 0).unwrap();
    }
    libvirt.acquire("", &wanted, 0).unwrap();
    thread::sleep(A_WHILE);
    assert!(is_leased(&wanted));
    drop(guest);
    eventually("the guest's end is noticed", || !is_leased(&wanted));
}

fn nobody_pays_for_a_dead_owner_with_the_same_pid(subject: Subject) {
    run_alone(subject, "owners::a_namesake_of_the_dead");
}

#[test]
#[ignore = "runs in a pid namespace of its own, started by another test"]
fn a_namesake_of_the_dead() {
    let Some(daemon) = daemon_alone() else {
        return;
    };
    let image = image(&daemon, "image");
    let pid = dead_pid();
    client_of(&daemon, pid).acquire("", &image, 0).unwrap();
    let mut namesake = with_pid(pid, || Guest::start(&daemon), Guest::pid);
    namesake.tell("close");
    thread::sleep(A_WHILE);
    assert!(namesake.is_running() && !is_leased(&image));
}

fn a_pid_that_changed_hands_unseen_is_the_new_process(subject: Subject) {
    run_alone(subject, "owners::a_pid_changes_hands");
}

/// A registration comes first and the end of the pid's former process after it, so that the daemon
/// does not know of that end yet when it reads the registration.
#[test]
#[ignore = "runs in a pid namespace of its own, started by another test"]
fn a_pid_changes_hands() {
    let Some(daemon) = daemon_alone() else {
        return;
    };
    let image = image(&daemon, "image");
    let former = Idle::start();
    let pid = former.pid();
    let _watches_the_former = client_of(&daemon, pid);
    let mut client = daemon.lock_client();
    client.create_lockspace("").unwrap();
    daemon.signal(Signal::SIGSTOP);
    eventually("it has stopped", || daemon.status_field("State").starts_with('T'));
    let guest = Writer::new().fixed(&[0x5a; 16]).string("guest").u32(1).u32(pid).u32(0);
    let register = Header::call(LOCK_PROGRAM, 1).message(&guest.into_bytes());
    client.connection().send(&register).unwrap();
    drop(former);
    let latter = with_pid(pid, Idle::start, Idle::pid);
    daemon.signal(Signal::SIGCONT);
    client.connection().answer().message().into_result().unwrap();
    client.acquire("", &image, 0).unwrap();
    thread::sleep(A_WHILE);
    assert!(is_leased(&image), "the lease is not the dead one's");
    drop(latter);
    eventually("the end of the new process is noticed", || !is_leased(&image));
}

fn nobody_is_ended_for_a_connection_of_the_dead(subject: Subject) {
    run_alone(subject, "owners::a_child_of_the_dead_closes_its_connection");
}

/// On a kernel that knows no pidfds of peers.
#[test]
#[ignore = "runs in a pid namespace of its own, started by another test"]
fn a_child_of_the_dead_closes_its_connection() {
    let Some(ours) = subject_alone() else {
        return;
    };
    let setup = ours.setup().replaceable().refusing(Errno::ENOPROTOOPT, PEER_PIDFD);
    let mut daemon = setup.start();
    let image = image(&daemon, "image");
    let former = Former::start(&daemon, &image);
    eventually("the dead one's lease is free", || !is_leased(&image));
    let mut latter = with_pid(former.pid, || Guest::start(&daemon), Guest::pid);
    client_of(&daemon, latter.pid()).acquire("", &image, 0).unwrap();
    daemon.change_to(Whose::Ours);
    drop(former);
    thread::sleep(A_WHILE);
    assert!(latter.is_running() && is_leased(&image));
    latter.kill();
    eventually("the latter's lease is free", || !is_leased(&image));
}

fn nobody_has_a_lease_that_the_dead_left_behind(subject: Subject) {
    if subject.other().executable().is_ok() {
        run_alone(subject, "owners::a_stranger_has_the_number_of_the_dead");
    }
}

/// On a kernel that knows of the dead only that they are.
#[test]
#[ignore = "runs in a pid namespace of its own, started by another test"]
fn a_stranger_has_the_number_of_the_dead() {
    let Some(ours) = subject_alone() else {
        return;
    };
    let setup = ours.other().setup().replaceable().refusing(Errno::ESRCH, PEER_PIDFD);
    let mut daemon = setup.start();
    let image = image(&daemon, "image");
    let former = Former::start(&daemon, &image);
    let mut stranger = with_pid(former.pid, Idle::start, Idle::pid);
    daemon.change_to(Whose::Ours);
    eventually("the dead one's lease is free", || !is_leased(&image));
    drop(former);
    thread::sleep(A_WHILE);
    assert!(stranger.is_running());
}

fn who_speaks_for_the_dead_does_not_speak_for_who_has_their_pid(subject: Subject) {
    run_alone(subject, "owners::a_connection_for_the_dead_outlives_an_upgrade");
}

#[test]
#[ignore = "runs in a pid namespace of its own, started by another test"]
fn a_connection_for_the_dead_outlives_an_upgrade() {
    let Some(ours) = subject_alone() else {
        return;
    };
    let mut daemon = ours.setup().replaceable().start();
    let image = image(&daemon, "image");
    let pid = dead_pid();
    let mut for_the_dead = client_of(&daemon, pid);
    let _latter = with_pid(pid, || Guest::start(&daemon), Guest::pid);
    daemon.change_to(Whose::Ours);
    for_the_dead.acquire("", &image, 0).unwrap();
    eventually("nobody keeps its lease", || !is_leased(&image));
}

fn who_has_the_pid_of_the_dead_keeps_its_leases(subject: Subject) {
    run_alone(subject, "owners::a_connection_for_the_dead_is_beside_the_living");
}

#[test]
#[ignore = "runs in a pid namespace of its own, started by another test"]
fn a_connection_for_the_dead_is_beside_the_living() {
    let Some(ours) = subject_alone() else {
        return;
    };
    let mut daemon = ours.setup().replaceable().start();
    let image = image(&daemon, "image");
    let pid = dead_pid();
    let mut for_the_dead = client_of(&daemon, pid);
    let latter = with_pid(pid, Idle::start, Idle::pid);
    client_of(&daemon, pid).acquire("", &image, 0).unwrap();
    daemon.change_to(Whose::Ours);
    assert_eq!(for_the_dead.release("", &image, 0), Err(not_holder(pid)));
    thread::sleep(A_WHILE);
    assert!(is_leased(&image), "the living one keeps it");
    drop(latter);
    eventually("its end is noticed", || !is_leased(&image));
}

fn a_pid_above_what_was_the_highest_is_watched(subject: Subject) {
    run_alone(subject, "owners::pids_grow");
}

/// Since Linux 6.14 the highest pid is a setting of the pid namespace; before, it would be everybody's.
#[test]
#[ignore = "runs in a pid namespace of its own, started by another test"]
fn pids_grow() {
    const HIGHEST: &str = "/proc/sys/kernel/pid_max";
    let Some(ours) = subject_alone() else {
        return;
    };
    if !is_at_least(6, 14) {
        return left_out("pids_grow", "the highest pid is everybody's");
    }
    fs::write(HIGHEST, "500").unwrap();
    let daemon = ours.start();
    let image = image(&daemon, "image");
    fs::write(HIGHEST, "4000000").unwrap();
    // A thread of the daemon may get the first one, and keep it.
    let process = after_pid(60_000, Idle::start, |idle| idle.pid() > 60_000);
    client_of(&daemon, process.pid()).acquire("", &image, 0).unwrap();
    thread::sleep(A_WHILE);
    assert!(is_leased(&image));
    drop(process);
    eventually("its end is noticed", || !is_leased(&image));
}

fn is_at_least(major: u32, minor: u32) -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(major), Some(minor))
}

/// A guest that had a lease and has died, and a child of it that has its connection open.
struct Former {
    pid: u32,
    child: Pid,
}

impl Former {
    fn start(daemon: &Daemon, image: &str) -> Self {
        let mut guest = Guest::start(daemon);
        client_of(daemon, guest.pid()).acquire("", image, 0).unwrap();
        guest.tell("lend");
        let child = Pid::from_raw(guest.child().cast_signed());
        guest.kill();
        guest.ending();
        Self { pid: guest.pid(), child }
    }
}

impl Drop for Former {
    fn drop(&mut self) {
        kill(self.child, Signal::SIGKILL).unwrap();
    }
}

/// Runs one of the scenarios where it is alone with its pids.
fn run_alone(subject: Subject, scenario: &str) {
    if !needs_root("choosing pids") {
        return;
    }
    let executable = subject.executable().unwrap();
    let output = Command::new("unshare")
        .args(["--pid", "--fork", "--mount-proc", "--kill-child"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", scenario, "--ignored", "--nocapture"])
        .env(ALONE, "1")
        .env("OURS_DIR", executable.parent().unwrap())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{errors}");
}

fn daemon_alone() -> Option<Daemon> {
    Some(subject_alone()?.start())
}

fn subject_alone() -> Option<Subject> {
    std::env::var_os(ALONE)?;
    Some(Subject { whose: Whose::Ours, program: Program::Virtlockd })
}

/// Starts processes until one has this pid, which is free.
fn with_pid<T>(pid: u32, start: impl Fn() -> T, pid_of: impl Fn(&T) -> u32) -> T {
    after_pid(pid - 1, start, |process| pid_of(process) == pid)
}

/// Starts processes, each after this pid was the last one, until one is wanted.
fn after_pid<T>(last: u32, start: impl Fn() -> T, is_wanted: impl Fn(&T) -> bool) -> T {
    let started = (0..ATTEMPTS_MAX).find_map(|_| {
        fs::write("/proc/sys/kernel/ns_last_pid", last.to_string()).unwrap();
        Some(start()).filter(&is_wanted)
    });
    started.expect("a process with the pid")
}
