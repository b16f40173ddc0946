//! What the units forbid, and what that must not get in the way of.
#![expect(unsafe_code, reason = "nix does not have the system calls that nobody here may make")]

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use nix::libc::{self, c_long};
use nix::sys::signal::{Signal, kill};
use tests::harness::{Program, can_hang, eventually, expect_file, guest_writes};
use tests::machine::{
    SlowMount, drop_in, enable, journal, main_pid, main_socket, property, service, succeed,
    systemctl,
};
use tests::wire::{LockClient, LogClient, Owner};

tests::on_machine! { Ours:
    what_is_forbidden_is_refused,
    no_log_is_where_it_would_give_somebody_power,
    no_lease_is_there_either,
    all_threads_and_those_of_a_predecessor_fit,
    no_start_waits_for_a_file_system_that_hangs,
}

const BOTH: [Program; 2] = [Program::Virtlogd, Program::Virtlockd];

/// Tells [`inside`] that it runs in a service's sandbox.
const SANDBOXED: &str = "VIRT_TESTS_SANDBOXED";

/// System calls that neither daemon makes, which would widen what an intruder can do.
const FORBIDDEN_CALLS: [(&str, c_long); 24] = [
    ("add_key", libc::SYS_add_key),
    ("bpf", libc::SYS_bpf),
    ("chown", libc::SYS_chown),
    ("chroot", libc::SYS_chroot),
    ("clock_settime", libc::SYS_clock_settime),
    ("delete_module", libc::SYS_delete_module),
    ("finit_module", libc::SYS_finit_module),
    ("fsopen", libc::SYS_fsopen),
    ("io_setup", libc::SYS_io_setup),
    ("io_uring_setup", libc::SYS_io_uring_setup),
    ("keyctl", libc::SYS_keyctl),
    ("memfd_secret", libc::SYS_memfd_secret),
    ("mlock", libc::SYS_mlock),
    ("mount", libc::SYS_mount),
    ("open_by_handle_at", libc::SYS_open_by_handle_at),
    ("perf_event_open", libc::SYS_perf_event_open),
    ("pidfd_getfd", libc::SYS_pidfd_getfd),
    ("pivot_root", libc::SYS_pivot_root),
    ("process_vm_writev", libc::SYS_process_vm_writev),
    ("ptrace", libc::SYS_ptrace),
    ("setns", libc::SYS_setns),
    ("setuid", libc::SYS_setuid),
    ("umount2", libc::SYS_umount2),
    ("userfaultfd", libc::SYS_userfaultfd),
];

/// Threads of a daemon for work on files.
const FILE_THREADS_MAX: usize = 64;

/// The first thread, those that open logs, look for ends, ask at an upgrade, and bound a panic and
/// the last words; the program that is asked, with threads of its own; the shell of a reload, with
/// what it runs.
const OTHER_TASKS_MAX: usize = 6 + 8 + 8;

const KEYS: &str = "/root/.ssh/authorized_keys";
const CRON_TABLE: &str = "/var/spool/cron/crontabs/root";

/// Where a file of somebody's would give him power over others.
const FORBIDDEN_FILES: [&str; 7] = [
    "/etc/cron.d/job",
    KEYS,
    "/run/systemd/system/some.service",
    "/usr/lib/systemd/system/some.service",
    "/usr/local/bin/program",
    "/usr/local/lib/libsome.so",
    CRON_TABLE,
];

fn what_is_forbidden_is_refused() {
    make_forbidden_places();
    for program in BOTH {
        let post = format!(
            "[Service]\nEnvironment={SANDBOXED}=1\n\
             ExecStartPost=/opt/test --exact sandbox::inside --ignored --nocapture\n"
        );
        drop_in(&service(program), &post);
        let is_started = Command::new("systemctl").args(["start", &service(program)]).status();
        assert!(is_started.unwrap().success(), "{}", journal(&service(program)));
        let said = journal(&service(program));
        assert!(said.contains("1 passed"), "{said}");
    }
}

#[test]
#[ignore = "not a test: another test runs it in the sandbox of a service"]
fn inside() {
    if std::env::var_os(SANDBOXED).is_none() {
        return;
    }
    let allowed: Vec<_> = FORBIDDEN_CALLS
        .iter()
        .filter(|(_, call)| answer(*call, [0; 6]) != Some(libc::EPERM))
        .collect();
    assert!(allowed.is_empty(), "system calls: {allowed:?}");
    for family in [libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK, libc::AF_PACKET] {
        let socket = answer(libc::SYS_socket, [family.into(), libc::SOCK_DGRAM.into(), 0, 0, 0, 0]);
        assert_eq!(socket, Some(libc::EAFNOSUPPORT), "socket family {family}");
    }
    for namespace in [libc::CLONE_NEWNS, libc::CLONE_NEWUSER, libc::CLONE_NEWNET] {
        let unshared = answer(libc::SYS_unshare, [namespace.into(), 0, 0, 0, 0, 0]);
        assert_eq!(unshared, Some(libc::EPERM), "namespace {namespace:#x}");
    }
    // By the system call's filter, or by the kernel.
    let is_refused = matches!(writable_code(), Some(libc::EPERM | libc::EACCES));
    assert!(is_refused, "memory that can be written and executed");
    let file = Path::new("/srv/program");
    File::create(file).unwrap();
    let is_suid = fs::set_permissions(file, Permissions::from_mode(0o4755));
    assert!(is_suid.is_err(), "a program with somebody's rights");
    let made: Vec<_> = FORBIDDEN_FILES.iter().filter(|path| File::create(path).is_ok()).collect();
    assert!(made.is_empty(), "{made:?}");
    assert!(fs::read(KEYS).is_err() && fs::read(CRON_TABLE).is_err());
}

fn no_log_is_where_it_would_give_somebody_power() {
    make_forbidden_places();
    enable(Program::Virtlogd);
    let mut client = LogClient::connect(&main_socket(Program::Virtlogd)).unwrap();
    for file in FORBIDDEN_FILES {
        assert!(client.open(Path::new(file)).is_err(), "{file}");
        expect_file(Path::new(file), "before\n");
    }
}

fn no_lease_is_there_either() {
    make_forbidden_places();
    enable(Program::Virtlockd);
    let mut client = LockClient::connect(&main_socket(Program::Virtlockd)).unwrap();
    client.register(&Owner::of(1), 0).unwrap();
    for file in FORBIDDEN_FILES {
        assert!(client.acquire("", file, 0).is_err(), "{file}");
        let beside = format!("{file}.img");
        assert!(client.create("", &beside, 0).is_err(), "{beside}");
        assert!(!Path::new(&beside).exists(), "{beside}");
    }
}

/// Twice: a process that was killed and cannot end yet is in the control group as well.
fn all_threads_and_those_of_a_predecessor_fit() {
    let log = common::logging::OUTPUTS_MAX + common::logging::LEAVING_MAX;
    let tasks = FILE_THREADS_MAX + log + OTHER_TASKS_MAX;
    for program in BOTH {
        let tasks_max: usize = property(&service(program), "TasksMax").parse().unwrap();
        assert!(2 * tasks <= tasks_max, "2 * {tasks} of {tasks_max}");
    }
}

/// Neither the daemon nor systemd, which makes the sandbox for it; not even if another is mounted
/// there, as by NFS.
fn no_start_waits_for_a_file_system_that_hangs() {
    if !can_hang("a start while a file system hangs") {
        return;
    }
    let slow = SlowMount::mount();
    let mount = slow.directory("nested");
    succeed("mount", &["-t", "tmpfs", "tmpfs", &mount]);
    BOTH.into_iter().for_each(enable);
    let mut client = LogClient::connect(&main_socket(Program::Virtlogd)).unwrap();
    let pipe = client.open(Path::new("/home/guest.log")).unwrap().pipe;
    systemctl(&["start", &service(Program::Virtlockd)]);
    slow.stop();
    for program in BOTH {
        let before = main_pid(program);
        kill(before, Signal::SIGKILL).unwrap();
        eventually("it runs again", || {
            main_pid(program) != before && property(&service(program), "ActiveState") == "active"
        });
    }
    guest_writes(&pipe, "a line\n");
    expect_file(Path::new("/home/guest.log"), "a line\n");
    slow.go_on();
}

fn make_forbidden_places() {
    for file in FORBIDDEN_FILES.map(Path::new) {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "before\n").unwrap();
    }
}

/// The error of memory that can be written to and executed.
fn writable_code() -> Option<i32> {
    let protection = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    answer(libc::SYS_mmap, [0, 4096, protection.into(), flags.into(), -1, 0])
}

/// The error of a system call.
fn answer(call: c_long, arguments: [c_long; 6]) -> Option<i32> {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: no call of this file has an argument that points to memory, nor undoes what others
    // rely on, where it is allowed after all.
    let result = unsafe { libc::syscall(call, a, b, c, d, e, f) };
    (result == -1).then(nix::errno::Errno::last_raw)
}
