//! What systemd, an administrator or a package does with a service that guests depend on.

use std::fs;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use tests::harness::{Program, Whose};
use tests::machine::{
    drop_in, expect_property, install, journal, main_pid, service, succeed, systemctl,
    systemd_version,
};

use super::guests::Guests;
use super::kills::{Kills, control_group, kill_by, wait_for_an_answer, wait_until_restarted};

/// Makes the tests `virtlogd` and `virtlockd` of what is done to either while it has guests.
macro_rules! both_daemons {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            use super::*;
            fn virtlogd() {
                super::with_guests(Program::Virtlogd, super::$name);
            }
            fn virtlockd() {
                super::with_guests(Program::Virtlockd, super::$name);
            }
            tests::on_machine! { Ours: virtlogd, virtlockd }
        }
    )+};
}

both_daemons! {
    restart,
    stop_and_start,
    reload,
    kill_after_reload,
    kill_at_reload,
    reload_after_kill,
    reload_too_soon_after_kill,
    reload_at_restart,
    broken_by_a_signal,
    killed_with_its_cgroup,
    hung,
    unable_to_start_for_a_while,
    systemd_executes_itself_again,
}

/// The first systemd that keeps what is stored for a service that is stopped.
const PRESERVES_SINCE: u32 = 254;

/// Between the beginning of something and what interrupts it.
const DELAYS_MS: [u64; 6] = [0, 1, 2, 5, 10, 20];

/// How often each thing is done.
const TURNS: usize = 3;

/// Does something to the daemon of guests, who must not notice.
fn with_guests(program: Program, act: fn(Program)) {
    let guests = Guests::start(program);
    for _ in 0..TURNS {
        act(program);
    }
    guests.finish();
    expect_property(&service(program), "ActiveState", "active");
}

fn restart(program: Program) {
    let before = main_pid(program);
    systemctl(&["restart", &service(program)]);
    assert_ne!(main_pid(program), before);
}

fn stop_and_start(program: Program) {
    if systemd_version() < PRESERVES_SINCE {
        // Not a reason to fail where everything must run: no such test can be had here.
        eprintln!("LEFT OUT: {}: stop and start: systemd is too old", program.name());
        return;
    }
    systemctl(&["stop", &service(program)]);
    expect_property(&service(program), "ActiveState", "inactive");
    systemctl(&["start", &service(program)]);
}

fn reload(program: Program) {
    let before = main_pid(program);
    systemctl(&["reload", &service(program)]);
    expect_property(&service(program), "ActiveState", "active");
    assert_eq!(main_pid(program), before);
}

fn kill_after_reload(program: Program) {
    reload(program);
    kill_by(program, Signal::SIGKILL);
}

/// The kill falls before, into or after the exec.
fn kill_at_reload(program: Program) {
    for delay in DELAYS_MS {
        let before = main_pid(program);
        kill(before, Signal::SIGUSR1).unwrap();
        std::thread::sleep(Duration::from_millis(delay));
        kill(before, Signal::SIGKILL).unwrap();
        wait_until_restarted(program, before);
    }
}

/// Whoever does not know the signal yet dies of it.
fn reload_too_soon_after_kill(program: Program) {
    for delay in DELAYS_MS {
        let mut kills = Kills::of(program);
        kills.strike();
        let pid = kills.wait_for_process();
        std::thread::sleep(Duration::from_millis(delay));
        kill(pid, Signal::SIGUSR1).unwrap();
        wait_for_an_answer(program);
        expect_property(&service(program), "ActiveState", "active");
    }
}

/// The start waits, and what is stored is kept.
fn unable_to_start_for_a_while(program: Program) {
    let path = format!("/usr/sbin/{}", program.name());
    let before = main_pid(program);
    succeed("cp", &["--remove-destination", "/bin/false", &path]);
    kill(before, Signal::SIGKILL).unwrap();
    expect_property(&service(program), "SubState", "start-pre");
    install(Whose::Ours, program);
    wait_until_restarted(program, before);
}

fn reload_after_kill(program: Program) {
    kill_by(program, Signal::SIGKILL);
    reload(program);
    kill_by(program, Signal::SIGKILL);
}

fn reload_at_restart(program: Program) {
    restart(program);
    reload(program);
    restart(program);
}

fn broken_by_a_signal(program: Program) {
    for signal in [Signal::SIGSEGV, Signal::SIGABRT, Signal::SIGBUS] {
        kill_by(program, signal);
    }
}

/// As the kernel does when memory is short and the whole group is to go.
fn killed_with_its_cgroup(program: Program) {
    let before = main_pid(program);
    fs::write(control_group(program).join("cgroup.kill"), "1").unwrap();
    wait_until_restarted(program, before);
}

fn hung(program: Program) {
    let unit = service(program);
    drop_in(&unit, "[Service]\nWatchdogSec=2\n");
    // Only a process that is started now knows of the watchdog.
    restart(program);
    let before = main_pid(program);
    kill(before, Signal::SIGSTOP).unwrap();
    wait_until_restarted(program, before);
    assert!(journal(&unit).contains("'watchdog'"), "{}", journal(&unit));
}

fn systemd_executes_itself_again(program: Program) {
    succeed("systemctl", &["daemon-reexec"]);
    kill_by(program, Signal::SIGKILL);
    systemctl(&["daemon-reload"]);
    kill_by(program, Signal::SIGKILL);
}
