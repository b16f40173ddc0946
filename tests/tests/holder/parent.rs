//! The holder as the parent of a daemon: where the host gives nothing.

use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::guest::Guest;
use tests::harness::{Daemon, Host, Program, Subject, Whose, eventually, ours};
use tests::holder::copy_of_executable;
use tests::load::is_free;

use crate::load::{Leases, Logs};

tests::ours! { Virtlogd:
    a_child_that_dies_is_started_again_with_its_fds,
    it_is_process_1_of_a_container,
    signals_and_the_exit_status_are_passed_on,
    a_stop_ends_guests_that_hold_leases,
}

/// A daemon below its parent.
struct Child {
    parent: Daemon,
    program: Program,
}

impl Child {
    /// Starts one whose parent is executed through other programs.
    fn start(program: Program, through: &[&str]) -> Self {
        let host = Host::new();
        let subject = Subject { whose: Whose::Ours, program };
        let run = host.path("run/libvirt");
        let name = program.name();
        let listen = |suffix: &str, socket: &str| {
            format!("--listen={name}{suffix}.socket={}", run.join(socket).display())
        };
        let daemon = host.put(subject).display().to_string();
        let setup = subject.setup_on(&host).instead(&copy_of_executable(&host));
        let setup = setup.through(through.iter().copied()).args([
            "run".to_owned(),
            listen("", &format!("{name}-sock")),
            listen("-admin", &format!("{name}-admin-sock")),
            "--".to_owned(),
            daemon,
        ]);
        Self { parent: setup.start(), program }
    }

    /// The daemon's process, by what it executes.
    fn pid(&self) -> u32 {
        let wanted = self.parent.host().executable(self.program);
        let is_it = |pid: &u32| {
            std::fs::read_link(format!("/proc/{pid}/exe")).ok().as_ref() == Some(&wanted)
        };
        let mut found = None;
        eventually("the daemon runs", || {
            let entries = std::fs::read_dir("/proc").unwrap().flatten();
            let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
            found = pids.find(is_it);
            found.is_some()
        });
        found.unwrap()
    }

    /// Kills the daemon and waits for the next one.
    fn kill(&self) {
        let pid = self.pid();
        kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).unwrap();
        eventually("another one runs", || self.pid() != pid);
    }

    /// Stops the parent, which alone would leave its daemon.
    fn stop(self) {
        assert_eq!(self.parent.stop().code, Some(0));
    }
}

fn a_child_that_dies_is_started_again_with_its_fds(_: Subject) {
    let log = Child::start(Program::Virtlogd, &[]);
    let lock = Child::start(Program::Virtlockd, &[]);
    let (log_host, lock_host) = (log.parent.host(), lock.parent.host());
    let logs = Logs::begin_at(&log_host.path("files"), &log.parent.main_socket(), 8);
    let leases = Leases::begin_at(&lock_host.path("files"), &lock.parent.main_socket(), 1);
    for _ in 0..3 {
        log.kill();
        lock.kill();
    }
    logs.finish();
    leases.finish();
    log.stop();
    lock.stop();
}

fn it_is_process_1_of_a_container(_: Subject) {
    let through = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let log = Child::start(Program::Virtlogd, &through);
    let host = log.parent.host();
    let logs = Logs::begin_at(&host.path("files"), &log.parent.main_socket(), 4);
    // An orphan is reaped.
    let holder = log.parent.status_field("Pid");
    let children = format!("/proc/{holder}/task/{holder}/children");
    let first = std::fs::read_to_string(children).unwrap();
    let mut orphan = Command::new("nsenter");
    orphan.args(["--target", first.trim(), "--pid", "sh", "-c", "true & exec true"]);
    assert!(orphan.status().unwrap().success());
    log.kill();
    let zombies = || {
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let statuses =
            entries.filter_map(|it| std::fs::read_to_string(it.path().join("status")).ok());
        let parent = format!("PPid:\t{}\n", first.trim());
        statuses.filter(|text| text.contains("State:\tZ") && text.contains(&parent)).count()
    };
    eventually("all are reaped", || zombies() == 0);
    logs.finish();
}

fn signals_and_the_exit_status_are_passed_on(_: Subject) {
    let run = |script: &str| {
        let mut command = Command::new(ours("virtfdhold"));
        command.args(["run", "--", "sh", "-c", script]).stdout(Stdio::piped());
        command.stderr(Stdio::null()).spawn().unwrap()
    };
    assert_eq!(run("exit 3").wait().unwrap().code(), Some(3));
    assert_eq!(run("exit 0").wait().unwrap().code(), Some(0));
    let mut waits = run("trap 'exit 5' USR1; echo ready; while :; do sleep 0.05; done");
    let mut said = [0; 6];
    std::io::Read::read_exact(waits.stdout.as_mut().unwrap(), &mut said).unwrap();
    kill(Pid::from_raw(waits.id().cast_signed()), Signal::SIGUSR1).unwrap();
    assert_eq!(waits.wait().unwrap().code(), Some(5));
    let mut ended = run("echo ready; exec sleep 60");
    std::io::Read::read_exact(ended.stdout.as_mut().unwrap(), &mut said).unwrap();
    kill(Pid::from_raw(ended.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(ended.wait().unwrap().code(), Some(128 + 15));
}

/// The fds end with the holder, so that a guest may not go on without its lease.
fn a_stop_ends_guests_that_hold_leases(_: Subject) {
    let mut lock = Child::start(Program::Virtlockd, &[]);
    let image = lock.parent.file("image").to_str().unwrap().to_owned();
    std::fs::write(&image, "image").unwrap();
    let mut guest =
        Guest::start_with_leases(&lock.parent.main_socket(), std::slice::from_ref(&image));
    lock.parent.signal(Signal::SIGTERM);
    assert_eq!(guest.ending(), Some(Signal::SIGTERM as i32));
    assert_eq!(lock.parent.wait().code, Some(0));
    assert!(is_free(&image));
}
