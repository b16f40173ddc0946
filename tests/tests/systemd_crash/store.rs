//! A store that is too small, or none: the daemons serve as well as they can.

use std::path::Path;

use nix::sys::signal::Signal;
use tests::guest::Guest;
use tests::harness::{Program, eventually, expect_file, guest_writes};
use tests::load::is_free;
use tests::machine::{
    drop_in, enable, expect_property, main_socket, property, service, stored_count, succeed,
    systemctl,
};
use tests::wire::LogClient;

use super::guests::{image, settled_store};
use super::kills::kill_by;

tests::on_machine! { Ours:
    the_store_has_what_is_open_and_no_more,
    what_was_adopted_is_shown,
    a_store_that_is_too_small_is_told_of_once,
    the_smaller_number_counts,
    without_a_store_logs_are_written,
    without_a_store_leases_are_held,
}

const SMALL: &str = "[Service]\nFileDescriptorStoreMax=8\n";
const SMALLER_THAN_SAID: &str = "[Service]\nFileDescriptorStoreMax=8\nEnvironment=FDSTORE=1000\n";
const NONE: &str = "[Service]\nFileDescriptorStoreMax=0\nFileDescriptorStorePreserve=no\n";

/// How a daemon calls the store in its own log.
const STORE: &str = "fd store";

const ROUNDS: usize = 10;

fn the_store_has_what_is_open_and_no_more() {
    enable(Program::Virtlogd);
    enable(Program::Virtlockd);
    let socket = main_socket(Program::Virtlockd);
    let images = [image(0, 0), image(0, 1)];
    let stored = || [Program::Virtlogd, Program::Virtlockd].map(stored_count);
    let use_both = || {
        let mut client = LogClient::connect(&main_socket(Program::Virtlogd)).unwrap();
        let log = client.open(Path::new("/srv/guest.log")).unwrap();
        guest_writes(&log.pipe, "a line\n");
        let guest = Guest::start_with_leases(&socket, &images);
        eventually("all of it is stored", || stored().iter().all(|&count| count >= 2));
        drop(log);
        drop(guest);
        eventually("the log is closed", || client.position(Path::new("/srv/guest.log")).is_err());
        eventually("the leases are free", || images.iter().all(is_free));
    };
    use_both();
    let idle = [Program::Virtlogd, Program::Virtlockd].map(settled_store);
    for _ in 0..ROUNDS {
        use_both();
    }
    eventually("nothing of it stays in the store", || stored() == idle);
    for program in [Program::Virtlogd, Program::Virtlockd] {
        kill_by(program, Signal::SIGKILL);
    }
    use_both();
    eventually("nothing of it stays in the store", || stored() == idle);
}

fn what_was_adopted_is_shown() {
    enable(Program::Virtlogd);
    enable(Program::Virtlockd);
    let mut client = LogClient::connect(&main_socket(Program::Virtlogd)).unwrap();
    let _logs = [1, 2, 3].map(|n| client.open(Path::new(&format!("/srv/{n}.log"))).unwrap());
    let images = [image(0, 0), image(0, 1)];
    let _guest = Guest::start_with_leases(&main_socket(Program::Virtlockd), &images);
    for (program, wanted) in
        [(Program::Virtlogd, "3 logs open"), (Program::Virtlockd, "2 leases held")]
    {
        let is_shown = || property(&service(program), "StatusText").starts_with(wanted);
        eventually("it is shown", is_shown);
        kill_by(program, Signal::SIGKILL);
        eventually("it is shown again", is_shown);
    }
}

fn a_store_that_is_too_small_is_told_of_once() {
    start_with(Program::Virtlogd, SMALL);
    write_logs(6);
    assert_eq!(told(Program::Virtlogd), 1, "{}", own_log(Program::Virtlogd));
    start_with(Program::Virtlockd, SMALL);
    let images: Vec<_> = (0..6).map(|number| image(0, number)).collect();
    hold_leases(&images);
    assert_eq!(told(Program::Virtlockd), 1, "{}", own_log(Program::Virtlockd));
    for program in [Program::Virtlogd, Program::Virtlockd] {
        assert!(stored_count(program) <= 8);
        kill_by(program, Signal::SIGKILL);
    }
    write_logs(6);
    hold_leases(&images);
}

fn the_smaller_number_counts() {
    for program in [Program::Virtlogd, Program::Virtlockd] {
        start_with(program, SMALLER_THAN_SAID);
        let is_told = || own_log(program).contains("is more than the FileDescriptorStoreMax=8 of");
        eventually("it is told", is_told);
    }
    write_logs(6);
    hold_leases(&(0..6).map(|number| image(0, number)).collect::<Vec<_>>());
    for program in [Program::Virtlogd, Program::Virtlockd] {
        assert!(stored_count(program) <= 8);
    }
}

fn without_a_store_logs_are_written() {
    start_with(Program::Virtlogd, NONE);
    write_logs(6);
    kill_by(Program::Virtlogd, Signal::SIGKILL);
    write_logs(6);
    assert_eq!(stored_count(Program::Virtlogd), 0);
    systemctl(&["restart", &service(Program::Virtlogd)]);
    write_logs(6);
}

/// A stop ends the guests then, as libvirt's daemon does: they must not go on without leases.
fn without_a_store_leases_are_held() {
    start_with(Program::Virtlockd, NONE);
    let images: Vec<_> = (0..6).map(|number| image(0, number)).collect();
    hold_leases(&images);
    kill_by(Program::Virtlockd, Signal::SIGKILL);
    hold_leases(&images);
    let mut guest = Guest::start_with_leases(&main_socket(Program::Virtlockd), &images);
    systemctl(&["stop", &service(Program::Virtlockd)]);
    assert_eq!(guest.ending(), Some(15));
    assert!(images.iter().all(is_free));
}

fn start_with(program: Program, settings: &str) {
    enable(program);
    drop_in(&service(program), settings);
    systemctl(&["start", &service(program)]);
    expect_property(&service(program), "ActiveState", "active");
}

fn write_logs(count: usize) {
    let mut client = LogClient::connect(&main_socket(Program::Virtlogd)).unwrap();
    let path = |number| format!("/srv/guest.{number}.log");
    let open = |number| client.open_with(path(number).as_bytes(), tests::wire::OPEN_TRUNCATE);
    let logs: Vec<_> = (0..count).map(open).collect();
    for log in &logs {
        guest_writes(&log.as_ref().unwrap().pipe, "a line\n");
    }
    for number in 0..count {
        expect_file(Path::new(&path(number)), "a line\n");
    }
    drop(logs);
    for number in 0..count {
        let closed = || client.position(Path::new(&path(number))).is_err();
        eventually("the log is closed", closed);
    }
}

/// A guest takes leases and keeps them until it dies.
fn hold_leases(images: &[String]) {
    let mut guest = Guest::start_with_leases(&main_socket(Program::Virtlockd), images);
    assert!(images.iter().all(|image| !is_free(image)));
    guest.kill();
    guest.ending();
    eventually("its leases are free", || images.iter().all(is_free));
}

/// How often the daemon has spoken of the store.
fn told(program: Program) -> usize {
    own_log(program).lines().filter(|line| line.contains(STORE)).count()
}

/// What the daemon itself has said, and not systemd about it.
fn own_log(program: Program) -> String {
    succeed("journalctl", &["--sync"]);
    let from = format!("_COMM={}", program.name());
    succeed("journalctl", &["--no-pager", "--output=cat", "--boot", &from])
}
