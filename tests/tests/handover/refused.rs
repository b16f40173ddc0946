//! Upgrades that cannot succeed: our daemon says why and goes on as before. libvirt's ends.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tests::guest::Guest;
use tests::harness::{Daemon, Program, Subject, Whose, eventually, expect_file};
use tests::load::Contender;

use super::leases::{client_of, image};

/// Bytes of an executable that are loaded at the least, in any build.
const EXECUTED_BYTES: usize = 2 << 20;

mod virtlogd {
    use super::*;
    tests::ours! { Virtlogd:
        by_an_executable_that_is_missing,
        by_an_executable_that_may_not_be_run,
        by_a_directory_in_its_place,
        by_a_program_that_fails,
        by_an_executable_of_nonsense,
        by_half_an_executable,
        by_the_other_daemon_of_ours,
        by_a_broken_configuration,
        by_a_broken_file_of_our_own_settings,
        in_its_own_time,
    }
}

mod virtlockd {
    use super::*;
    tests::ours! { Virtlockd:
        by_an_executable_that_is_missing,
        by_an_executable_that_may_not_be_run,
        by_a_directory_in_its_place,
        by_a_program_that_fails,
        by_an_executable_of_nonsense,
        by_half_an_executable,
        by_the_other_daemon_of_ours,
        by_a_broken_configuration,
    }
}

fn by_an_executable_that_is_missing(subject: Subject) {
    refused_by(subject, |target| fs::remove_file(target).unwrap());
}

fn by_an_executable_that_may_not_be_run(subject: Subject) {
    refused_by(subject, |target| {
        fs::set_permissions(target, fs::Permissions::from_mode(0o644)).unwrap();
    });
}

fn by_a_directory_in_its_place(subject: Subject) {
    refused_by(subject, |target| {
        fs::remove_file(target).unwrap();
        fs::create_dir(target).unwrap();
    });
}

fn by_a_program_that_fails(subject: Subject) {
    refused_by(subject, |target| replace(target, b"#!/bin/sh\nexit 1\n"));
}

fn by_an_executable_of_nonsense(subject: Subject) {
    refused_by(subject, |target| replace(target, b"\x7fELF and then nothing of the kind"));
}

/// Cuts into what is loaded: debug information can be more than half of the file.
fn by_half_an_executable(subject: Subject) {
    refused_by(subject, |target| {
        let whole = fs::read(target).unwrap();
        replace(target, &whole[..whole.len().min(EXECUTED_BYTES) / 2]);
    });
}

/// A slip of the hand: it would adopt the process, and nothing that the process is there for.
fn by_the_other_daemon_of_ours(subject: Subject) {
    let other = match subject.program {
        Program::Virtlogd => Program::Virtlockd,
        Program::Virtlockd => Program::Virtlogd,
    };
    let mut refusal = Refusal::begin(subject);
    let host = refusal.daemon.host();
    let file = host.put(Subject { program: other, ..subject });
    host.put_file(subject.program, &file);
    refusal.expect_refusal(other.name());
    refusal.end();
}

fn by_a_broken_configuration(subject: Subject) {
    let mut journey = Refusal::begin(subject);
    let directory = journey.daemon.host().path("etc/libvirt");
    let path = directory.join(format!("{}.conf", subject.program.name()));
    fs::write(&path, "max_clients = \"many\"\n").unwrap();
    let name = path.file_name().unwrap().to_owned();
    journey.expect_refusal(name.to_str().unwrap());
    fs::remove_file(path).unwrap();
    journey.end();
}

fn by_a_broken_file_of_our_own_settings(subject: Subject) {
    let mut journey = Refusal::begin(subject);
    let path = journey.daemon.host().path("etc/libvirt/virtlogd.toml");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "[[rule]]\npath = 5\n").unwrap();
    journey.expect_refusal("virtlogd.toml:2:8: 'path' has to be a string of 1 to 255 bytes");
    fs::remove_file(path).unwrap();
    journey.end();
}

/// The time for the answer of a target that was refused at once is not held against the next one,
/// which is asked when that time is nearly over.
fn in_its_own_time(subject: Subject) {
    const CHECK_PERIOD: Duration = Duration::from_secs(30);
    let mut refusal = Refusal::begin(subject);
    let target = refusal.daemon.host().executable(subject.program);
    refusal.daemon.put(Whose::Ours);
    replace(&target, b"#!/bin/sh\nexit 1\n");
    let begin = Instant::now();
    refusal.daemon.upgrade_is_refused();
    replace(&target, b"#!/bin/sh\nsleep 3\nexit 1\n");
    sleep((CHECK_PERIOD - Duration::from_secs(1)).saturating_sub(begin.elapsed()));
    let status = refusal.daemon.upgrade_is_refused();
    assert!(!status.contains("30 s") && begin.elapsed() > CHECK_PERIOD, "{status}");
    refusal.daemon.put(Whose::Ours);
    refusal.end();
}

/// An upgrade is refused after `damage` was done to the executable.
fn refused_by(subject: Subject, damage: impl FnOnce(&Path)) {
    let mut refusal = Refusal::begin(subject);
    let target = refusal.daemon.host().executable(subject.program);
    // A fresh copy, so that the one that runs is not touched.
    refusal.daemon.put(Whose::Ours);
    damage(&target);
    refusal.expect_refusal(target.to_str().unwrap());
    if target.is_dir() {
        fs::remove_dir(&target).unwrap();
    }
    refusal.end();
}

/// A daemon with something to lose.
struct Refusal {
    daemon: Daemon,
    charge: Charge,
}

enum Charge {
    Log { path: PathBuf, pipe: fs::File, written: String },
    Lease { guest: Guest, contender: Contender },
}

impl Refusal {
    fn begin(subject: Subject) -> Self {
        let daemon = subject.setup().replaceable().start();
        let charge = match subject.program {
            Program::Virtlogd => {
                let path = daemon.file("a.log");
                let pipe = daemon.log_client().open(&path).unwrap().pipe;
                Charge::Log { path, pipe, written: String::new() }
            }
            Program::Virtlockd => {
                let (image, guest) = (image(&daemon, "image"), Guest::start(&daemon));
                client_of(&daemon, &guest).acquire("", &image, 0).unwrap();
                Charge::Lease { guest, contender: Contender::start(&[image]) }
            }
        };
        Self { daemon, charge }
    }

    /// The reason, which mentions `culprit`, is told to systemd and to the log, each time.
    fn expect_refusal(&mut self, culprit: &str) {
        let number = self.daemon.subject().program.number();
        let mut client = self.daemon.connect_main();
        for _ in 0..2 {
            let told_before = self.daemon.stderr().len();
            let status = self.daemon.upgrade_is_refused();
            assert!(status.contains(culprit), "status without {culprit}: {status}");
            eventually("it is told", || {
                self.daemon.stderr().split_off(told_before).contains(culprit)
            });
            client.call(number, 99, &[]).unwrap_err();
            self.expect_service();
        }
    }

    /// What was damaged is good again.
    fn end(mut self) {
        self.daemon.change_to(Whose::Ours);
        self.expect_service();
        if let Charge::Lease { contender, .. } = self.charge {
            contender.finish();
        }
    }

    fn expect_service(&mut self) {
        match &mut self.charge {
            Charge::Log { path, pipe, written } => {
                written.push_str("one more line\n");
                pipe.write_all(b"one more line\n").unwrap();
                expect_file(path, written);
            }
            Charge::Lease { guest, .. } => {
                assert!(guest.is_running());
                let image = image(&self.daemon, "another");
                let mut client = client_of(&self.daemon, guest);
                client.acquire("", &image, 0).unwrap();
                client.release("", &image, 0).unwrap();
            }
        }
    }
}

/// Puts an executable file with this content in place.
fn replace(target: &Path, content: &[u8]) {
    fs::remove_file(target).unwrap();
    fs::write(target, content).unwrap();
    fs::set_permissions(target, fs::Permissions::from_mode(0o755)).unwrap();
}
