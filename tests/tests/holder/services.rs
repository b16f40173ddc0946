//! Supervisors without an fd store, with the service directories of `systemd/runit` and `systemd/s6`.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::harness::{Daemon, Exit, Host, Subject, eventually, left_out, needs_root};
use tests::holder::services;
use tests::wire::{LockClient, LogClient, Owner};

use crate::load::{LEASES_EACH, Leases, Logs, Size, in_box, kill_holder, rounds, turn};

tests::ours! { Virtlogd: runit, s6 }

const SMALL: Size = Size { logs: 8, tenants: 1 };

const DAEMONS: [&str; 2] = ["virtlogd", "virtlockd"];

fn runit(subject: Subject) {
    let command = ["/usr/bin/runsvdir", "/etc/service"];
    let restart = |scan: &Daemon, name: &str| {
        // That is a stop and a start.
        act(scan, &["sv", "-w", "10", "stop", &format!("/etc/service/{name}")]);
        act(scan, &["sv", "start", &format!("/etc/service/{name}")]);
    };
    // Its services are told to end, and itself ends.
    run_under("runit", &command, subject, restart, Signal::SIGHUP);
}

fn s6(subject: Subject) {
    let command = ["/usr/bin/s6-svscan", "/etc/service"];
    let restart = |scan: &Daemon, name: &str| {
        act(scan, &["s6-svc", "-wD", "-d", &format!("/etc/service/{name}")]);
        act(scan, &["s6-svc", "-u", &format!("/etc/service/{name}")]);
    };
    run_under("s6", &command, subject, restart, Signal::SIGTERM);
}

/// Starts, kills, stops, starts again and ends all services, under guests that would notice a loss.
fn run_under(
    supervisor: &str,
    command: &[&str],
    subject: Subject,
    restart: impl Fn(&Daemon, &str),
    end: Signal,
) {
    let (program, arguments) = command.split_first().expect("a command");
    if !Path::new(program).exists() {
        return left_out(supervisor, &format!("there is no {program}"));
    }
    if !needs_root(supervisor) {
        return;
    }
    let _turn = turn();
    let host = Host::new();
    let origin = services(supervisor, command, &host);
    let setup = subject.setup_on(&host).prepare(&origin.preparation).through(origin.through);
    let mut scan = setup.instead(Path::new(program)).args(arguments.iter().copied()).spawn();
    let sockets = DAEMONS.map(|name| host.path(&format!("run/libvirt/{name}-sock")));
    eventually("virtlogd serves", || {
        scan.expect_alive();
        LogClient::connect(&sockets[0]).is_ok()
    });
    eventually("the sockets are there", || sockets[1].exists());
    let size = SMALL.or_full();
    let logs = Logs::begin_at(&host.path("files"), &sockets[0], size.logs);
    let leases = Leases::begin_at(&host.path("files"), &sockets[1], size.tenants);
    for _ in 0..rounds() {
        for name in DAEMONS {
            kill_one(&scan, name);
            expect_served(&sockets);
            restart(&scan, name);
            expect_served(&sockets);
        }
        kill_holder(&scan, size.logs + size.tenants * LEASES_EACH);
    }
    DAEMONS.iter().for_each(|name| kill_one(&scan, name));
    logs.finish();
    leases.finish();
    scan.signal(end);
    let Exit { code, stderr, .. } = scan.wait();
    assert!(code.is_some(), "{stderr}");
    eventually("all services have ended", || {
        [DAEMONS[0], DAEMONS[1], "virtfdhold"].iter().all(|name| in_host(name, &host) == 0)
    });
}

/// Runs a command beside the services.
fn act(scan: &Daemon, command: &[&str]) {
    let mut entered = Command::new("nsenter");
    entered.arg(format!("--target={}", scan.pid())).args(["--mount", "--root", "--wd=/"]);
    let output = entered.args(command).output().expect("nsenter can be run");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
}

/// Kills a process, and waits for the next one.
fn kill_one(scan: &Daemon, name: &str) {
    let pid = || in_box(name, scan).first().map_or(0, |found| found.0);
    eventually("it runs", || pid() != 0);
    let before = pid();
    kill(Pid::from_raw(before), Signal::SIGKILL).expect("killing a process");
    eventually("another one runs", || ![0, before].contains(&pid()));
}

/// Clients wait for a daemon that is away.
fn expect_served([log, lock]: &[PathBuf; 2]) {
    let mut logs = LogClient::connect(log).expect("connecting");
    logs.position(Path::new("/nowhere")).expect_err("there is no such log");
    let mut locks = LockClient::connect(lock).expect("connecting");
    locks.register(&Owner::of(std::process::id()), 0).expect("registering");
}

/// Processes of this name whose standard error is this host's.
fn in_host(name: &str, host: &Host) -> usize {
    let entries = std::fs::read_dir("/proc").expect("reading /proc").flatten();
    let is_it = |path: &Path| {
        let link = |name: &str| std::fs::read_link(path.join(name)).ok();
        let error = link("fd/2")?;
        Some(error.starts_with(host.path("")) && link("exe")?.file_name()? == name)
    };
    entries.filter(|entry| is_it(&entry.path()) == Some(true)).count()
}
