//! A service's life under a real systemd: ready, seen, hung, killed, failing.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::harness::{Program, Whose, eventually, guest_writes};
use tests::machine::{
    drop_in, enable, expect_property, install, journal, main_socket, property, service, succeed,
    systemctl,
};
use tests::wire::{LockClient, LogClient, Owner};

tests::on_machine! { Ours:
    how_things_are_is_shown,
    what_was_dropped_is_shown,
    a_daemon_that_hangs_is_restarted,
    a_daemon_that_is_killed_is_restarted,
    a_daemon_that_cannot_start_is_tried_until_it_can,
    the_service_goes_with_its_socket,
}

fn how_things_are_is_shown() {
    enable(Program::Virtlogd);
    enable(Program::Virtlockd);
    fs::write("/srv/disk.img", "").unwrap();
    let mut logs = LogClient::connect(&main_socket(Program::Virtlogd)).unwrap();
    let first = logs.open(Path::new("/srv/first.log")).unwrap();
    let _second = logs.open(Path::new("/srv/second.log")).unwrap();
    let status = |logs| format!("{logs} logs open, 0 bytes dropped, 1 clients");
    expect_property("virtlogd.service", "StatusText", &status(2));
    drop(first);
    expect_property("virtlogd.service", "StatusText", &status(1));
    let mut locks = LockClient::connect(&main_socket(Program::Virtlockd)).unwrap();
    locks.register(&Owner::of(std::process::id()), 0).unwrap();
    locks.restrict(0).unwrap();
    expect_property("virtlockd.service", "StatusText", "0 leases held, 1 clients");
    let mut others = LockClient::connect(&main_socket(Program::Virtlockd)).unwrap();
    others.register(&Owner::of(1), 0).unwrap();
    others.acquire("", "/srv/disk.img", 0).unwrap();
    expect_property("virtlockd.service", "StatusText", "1 leases held, 2 clients");
}

fn what_was_dropped_is_shown() {
    enable(Program::Virtlogd);
    fs::create_dir("/mnt/small").unwrap();
    succeed("mount", &["-t", "tmpfs", "-o", "size=64k", "tmpfs", "/mnt/small"]);
    let mut logs = LogClient::connect(&main_socket(Program::Virtlogd)).unwrap();
    let log = logs.open(Path::new("/mnt/small/guest.log")).unwrap();
    for _ in 0..64 {
        guest_writes(&log.pipe, [b'\n'; 4096]);
    }
    eventually("the loss is shown", || {
        let status = property("virtlogd.service", "StatusText");
        status.starts_with("1 logs open, ") && !status.contains(", 0 bytes dropped")
    });
}

/// The units set no watchdog; whoever wants one gets it.
fn a_daemon_that_hangs_is_restarted() {
    for program in [Program::Virtlogd, Program::Virtlockd] {
        let unit = service(program);
        drop_in(&unit, "[Service]\nWatchdogSec=3\n");
        systemctl(&["start", &unit]);
        for _ in 0..3 {
            let last = property(&unit, "WatchdogTimestampMonotonic");
            eventually("a ping", || property(&unit, "WatchdogTimestampMonotonic") != last);
        }
        assert_eq!(property(&unit, "NRestarts"), "0");
        signal(&unit, Signal::SIGSTOP);
        expect_property(&unit, "NRestarts", "1");
        expect_property(&unit, "ActiveState", "active");
        assert!(journal(&unit).contains("'watchdog'"), "{}", journal(&unit));
    }
}

fn a_daemon_that_is_killed_is_restarted() {
    for program in [Program::Virtlogd, Program::Virtlockd] {
        let unit = service(program);
        systemctl(&["start", &unit]);
        // More often than systemd's own limit of five.
        for count in 1..=10 {
            signal(&unit, Signal::SIGKILL);
            expect_property(&unit, "NRestarts", &count.to_string());
            expect_property(&unit, "ActiveState", "active");
        }
        let uri = format!("{}:///system", program.name());
        succeed("virt-admin", &["-c", &uri, "srv-list"]);
    }
}

/// Whoever waits is served in the end: neither unit gives up, whatever starts the daemon, the
/// restart or the client.
fn a_daemon_that_cannot_start_is_tried_until_it_can() {
    enable(Program::Virtlogd);
    succeed("cp", &["--remove-destination", "/bin/false", "/usr/sbin/virtlogd"]);
    let _client = UnixStream::connect(main_socket(Program::Virtlogd)).unwrap();
    eventually("many attempts", || attempts("virtlogd.service") > 30);
    install(Whose::Ours, Program::Virtlogd);
    eventually("it serves", || {
        LogClient::connect(&main_socket(Program::Virtlogd))
            .is_ok_and(|mut client| client.open(Path::new("/srv/guest.log")).is_ok())
    });
}

fn the_service_goes_with_its_socket() {
    enable(Program::Virtlogd);
    systemctl(&["start", "virtlogd.service"]);
    systemctl(&["stop", "virtlogd.socket"]);
    for unit in ["virtlogd.service", "virtlogd-admin.socket"] {
        expect_property(unit, "ActiveState", "inactive");
    }
}

fn signal(unit: &str, signal: Signal) {
    let pid = property(unit, "MainPID").parse().expect("a process id");
    kill(Pid::from_raw(pid), signal).unwrap();
}

fn attempts(unit: &str) -> usize {
    journal(unit).lines().filter(|line| line.contains("status=1/FAILURE")).count()
}
