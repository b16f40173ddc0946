//! To libvirt's daemon and back under one unit, by reload: it knows nothing of the store, which
//! must not hold anything that it gives back.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use tests::guest::{Guest, owner};
use tests::harness::{Program, Whose, eventually, expect_file, guest_writes};
use tests::load::is_free;
use tests::machine::{
    enable, install, journal, main_pid, main_socket, property, service, stored_count, systemctl,
    systemctl_fails,
};
use tests::wire::{LockClient, LogClient};

use super::guests::image;
use super::kills::kill_by;

tests::on_machine! { Ours:
    logs_go_to_libvirts_daemon_and_back,
    leases_go_to_libvirts_daemon_and_back,
    leases_go_there_after_a_crash,
    logs_stay_when_they_cannot_go_there,
    leases_stay_when_they_cannot_go_there,
}

fn logs_go_to_libvirts_daemon_and_back() {
    enable(Program::Virtlogd);
    let [ends_there, goes_on] = ["/srv/ends.log", "/srv/goes-on.log"].map(Path::new);
    let mut client = LogClient::connect(&main_socket(Program::Virtlogd)).unwrap();
    let ending = client.open(ends_there).unwrap().pipe;
    let lasting = client.open(goes_on).unwrap().pipe;
    guest_writes(&lasting, "ours\n");
    change_to(Program::Virtlogd, Whose::Theirs);
    guest_writes(&ending, "its last\n");
    drop(ending);
    expect_file(ends_there, "its last\n");
    guest_writes(&lasting, "theirs\n");
    change_to(Program::Virtlogd, Whose::Ours);
    guest_writes(&lasting, "ours again\n");
    expect_file(goes_on, "ours\ntheirs\nours again\n");
    kill_by(Program::Virtlogd, Signal::SIGKILL);
    guest_writes(&lasting, "and after a crash\n");
    expect_file(goes_on, "ours\ntheirs\nours again\nand after a crash\n");
    let mut client = LogClient::connect(&main_socket(Program::Virtlogd)).unwrap();
    client.open(ends_there).expect("it is not open any more");
}

fn leases_go_to_libvirts_daemon_and_back() {
    enable(Program::Virtlockd);
    there_and_back();
}

/// What was stored by a daemon that has died is as much ours as what this one has stored.
fn leases_go_there_after_a_crash() {
    enable(Program::Virtlockd);
    systemctl(&["start", &service(Program::Virtlockd)]);
    kill_by(Program::Virtlockd, Signal::SIGKILL);
    let (mut guest, images) = guest_with_leases(10);
    kill_by(Program::Virtlockd, Signal::SIGKILL);
    expect_held(&images);
    there_and_back();
    expect_held(&images);
    guest.tell("call");
}

fn logs_stay_when_they_cannot_go_there() {
    enable(Program::Virtlogd);
    let path = Path::new("/srv/guest.log");
    let mut client = LogClient::connect(&main_socket(Program::Virtlogd)).unwrap();
    let guest = client.open(path).unwrap().pipe;
    guest_writes(&guest, "before\n");
    fail_to_change(Program::Virtlogd);
    guest_writes(&guest, "after\n");
    kill_by(Program::Virtlogd, Signal::SIGKILL);
    guest_writes(&guest, "after a crash\n");
    systemctl(&["restart", &service(Program::Virtlogd)]);
    guest_writes(&guest, "after a restart\n");
    expect_file(path, "before\nafter\nafter a crash\nafter a restart\n");
}

fn leases_stay_when_they_cannot_go_there() {
    enable(Program::Virtlockd);
    let (mut guest, images) = guest_with_leases(0);
    fail_to_change(Program::Virtlockd);
    expect_held(&images);
    guest.tell("call");
    kill_by(Program::Virtlockd, Signal::SIGKILL);
    expect_held(&images);
    systemctl(&["restart", &service(Program::Virtlockd)]);
    expect_held(&images);
    guest.tell("call");
    guest.kill();
    guest.ending();
    eventually("a dead guest's leases are free", || images.iter().all(is_free));
}

fn there_and_back() {
    let (mut dying, dying_images) = guest_with_leases(0);
    let (mut living, living_images) = guest_with_leases(1);
    change_to(Program::Virtlockd, Whose::Theirs);
    expect_held(&living_images);
    // A lease that libvirt's daemon gives back is free, by call or by its guest's end.
    let mut client = LockClient::connect(&main_socket(Program::Virtlockd)).unwrap();
    client.register(&owner(living.pid()), 0).unwrap();
    client.release("", &living_images[0], 0).unwrap();
    assert!(is_free(&living_images[0]));
    client.acquire("", &living_images[0], 0).unwrap();
    dying.kill();
    dying.ending();
    eventually("a dead guest's leases are free", || dying_images.iter().all(is_free));
    change_to(Program::Virtlockd, Whose::Ours);
    expect_held(&living_images);
    let (mut next, next_images) = guest_with_leases(0);
    kill_by(Program::Virtlockd, Signal::SIGKILL);
    expect_held(&next_images);
    // One it had never let go, and one that libvirt's daemon took, are crash-proof again as well.
    expect_held(&living_images);
    living.tell("call");
    next.tell("call");
    living.kill();
    living.ending();
    eventually("a dead guest's leases are free", || living_images.iter().all(is_free));
    expect_held(&next_images);
}

fn guest_with_leases(number: usize) -> (Guest, Vec<String>) {
    let images = vec![image(number, 0), image(number, 1)];
    (Guest::start_with_leases(&main_socket(Program::Virtlockd), &images), images)
}

#[track_caller]
fn expect_held(images: &[String]) {
    let free: Vec<_> = images.iter().filter(|image| is_free(image)).collect();
    assert!(free.is_empty(), "anybody could have {free:?}");
}

/// Has the daemon try to become libvirt's when its state cannot be written, the last thing that may
/// fail, when the store is empty already.
fn fail_to_change(program: Program) {
    let state_file = format!("/run/{}-restart-exec.json", program.name());
    fs::create_dir(&state_file).unwrap();
    install(Whose::Theirs, program);
    systemctl_fails(&["reload", &service(program)]);
    let told = property(&service(program), "StatusText");
    assert!(told.contains(&state_file), "{told}");
    fs::remove_dir(&state_file).unwrap();
    install(Whose::Ours, program);
}

/// Puts the other daemon in place, reloads, and waits until it serves in the same process.
#[track_caller]
pub(super) fn change_to(program: Program, whose: Whose) {
    let before = main_pid(program);
    install(whose, program);
    let installed = fs::read(format!("/usr/sbin/{}", program.name())).unwrap();
    systemctl(&["reload", &service(program)]);
    let executable = format!("/proc/{before}/exe");
    eventually("the other daemon runs", || {
        fs::read(&executable).is_ok_and(|content| content == installed)
    });
    let uri = format!("{}:///system", program.name());
    // Whom libvirt's daemon has heard right before it executes itself waits for ever.
    let ask = ["5", "virt-admin", "-c", &uri, "srv-list"];
    eventually("an administrator is answered", || {
        Command::new("timeout").args(ask).output().is_ok_and(|asked| asked.status.success())
    });
    assert_eq!(main_pid(program), before, "{}", journal(&service(program)));
    if whose == Whose::Theirs {
        eventually("the store is empty", || stored_count(program) == 0);
    }
}
