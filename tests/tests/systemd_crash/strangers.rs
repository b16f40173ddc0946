//! libvirt's program back at its path, as a package update puts it there, and then a start: it
//! would refuse fds that it does not know.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use tests::harness::{Program, Whose, eventually};
use tests::machine::{
    drop_in, enable, expect_property, install, journal, main_pid, main_process, property, service,
    stored_count, succeed, systemctl, systemd_version,
};

use super::guests::Guests;
use super::kills::wait_until_restarted;

/// Makes the tests `virtlogd` and `virtlockd`.
macro_rules! both_daemons {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            use super::*;
            fn virtlogd() {
                super::$name(Program::Virtlogd);
            }
            fn virtlockd() {
                super::$name(Program::Virtlockd);
            }
            tests::on_machine! { Ours: virtlogd, virtlockd }
        }
    )+};
}

both_daemons! {
    it_waits_while_guests_depend_on_what_is_stored,
    it_waits_longer_than_a_start_may_take,
    it_starts_when_nobody_does,
    what_is_left_can_be_given_up,
}

/// What the journal says then.
const TOLD: &str = "is not the program that this service ran with";

/// How long it is looked at while it waits, and of that the processor's time that it may take.
const WATCHED: Duration = Duration::from_secs(5);
const BUSY_NS_MAX: u64 = 500_000_000;

fn it_waits_while_guests_depend_on_what_is_stored(program: Program) {
    let guests = Guests::start(program);
    let before = kill_for(program, Whose::Theirs);
    wait_until_it_waits(program);
    let (stored, busy) = (stored_count(program), busy_ns(program));
    std::thread::sleep(WATCHED);
    assert_eq!(property(&service(program), "SubState"), "start-pre");
    assert_eq!(property(&service(program), "NRestarts"), "1");
    assert_eq!(stored_count(program), stored);
    assert!(busy_ns(program) - busy < BUSY_NS_MAX, "{} ns", busy_ns(program) - busy);
    assert_eq!(journal(&service(program)).matches(TOLD).count(), 1);
    install(Whose::Ours, program);
    wait_until_restarted(program, before);
    guests.finish();
}

fn it_waits_longer_than_a_start_may_take(program: Program) {
    let guests = Guests::start(program);
    drop_in(&service(program), "[Service]\nTimeoutStartSec=2\n");
    let before = kill_for(program, Whose::Theirs);
    eventually("it has waited for too long", || property(&service(program), "NRestarts") == "3");
    install(Whose::Ours, program);
    wait_until_restarted(program, before);
    guests.finish();
}

fn it_starts_when_nobody_does(program: Program) {
    let unit = service(program);
    enable(program);
    for [stop, start] in [["stop", "start"], ["daemon-reload", "restart"]] {
        install(Whose::Ours, program);
        systemctl(&["restart", &unit]);
        eventually("something is stored", || stored_count(program) > 0);
        install(Whose::Theirs, program);
        match stop {
            "stop" => systemctl(&["stop", &unit]),
            other => systemctl(&[other]),
        };
        systemctl(&[start, &unit]);
        expect_libvirts(program);
    }
    assert!(!journal(&unit).contains(TOLD), "{}", journal(&unit));
}

/// By the commands of `systemd/README.md`.
fn what_is_left_can_be_given_up(program: Program) {
    let unit = service(program);
    enable(program);
    systemctl(&["start", &unit]);
    eventually("something is stored", || stored_count(program) > 0);
    kill_for(program, Whose::Theirs);
    wait_until_it_waits(program);
    systemctl(&["stop", &unit]);
    if systemd_version() >= 254 {
        systemctl(&["clean", "--what=fdstore", &unit]);
    }
    systemctl(&["start", &unit]);
    expect_libvirts(program);
}

fn expect_libvirts(program: Program) {
    expect_property(&service(program), "ActiveState", "active");
    eventually("libvirt's runs", || main_process(program, "maps").contains("libvirt.so"));
    let uri = format!("{}:///system", program.name());
    succeed("virt-admin", &["-c", &uri, "srv-list"]);
    assert_eq!(stored_count(program), 0);
}

fn kill_for(program: Program, whose: Whose) -> nix::unistd::Pid {
    install(whose, program);
    let before = main_pid(program);
    kill(before, Signal::SIGKILL).expect("killing a daemon");
    before
}

fn wait_until_it_waits(program: Program) {
    expect_property(&service(program), "SubState", "start-pre");
    eventually("it says why", || journal(&service(program)).contains(TOLD));
}

fn busy_ns(program: Program) -> u64 {
    property(&service(program), "CPUUsageNSec").parse().expect("processor time is accounted")
}
