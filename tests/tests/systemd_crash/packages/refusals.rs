//! What must not come about: the process goes on as it was, guests notice nothing, and the same
//! command works once the reason is removed.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tests::harness::{Program, expect_file, guest_writes};
use tests::machine::{enable, is_libvirts, main_pid, main_socket, service, succeed, systemctl};
use tests::wire::{LockClient, LogClient};

use super::{
    NEXT_VERSION, be_libvirts_host, changed_package, package, packaged, packaging, packaging_fails,
};
use crate::guests::Guests;
use crate::kills::kill_by;
use crate::libvirt::BOTH;

super::with_packages! {
    a_program_for_another_machine,
    a_broken_configuration,
    a_full_run_directory,
    what_libvirts_daemon_could_not_take_over,
    a_hand_over_that_fails,
    where_nothing_may_be_reloaded,
    clients_that_come_and_go,
}

/// Longer than unpacking takes, and shorter than clients are waited for.
const RESTLESS: Duration = Duration::from_secs(6);

/// Another number in the place of the machine's.
const OTHER_MACHINE: &str =
    "printf '\\363' | dd of=$(echo x/usr/libexec/*/virtlo*d) bs=1 seek=18 conv=notrunc status=none";

fn a_program_for_another_machine() {
    be_libvirts_host();
    let guests = BOTH.map(Guests::start);
    for program in BOTH {
        let broken = changed_package(program, "0.0.1", OTHER_MACHINE);
        let before = main_pid(program);
        packaging_fails("dpkg", &["--install", &broken], "does not run here");
        expect_libvirts(program, before);
        let installed = succeed(&path(program), &["--version"]);
        assert!(!installed.contains("-rs"), "{installed}");
        // As if nothing had been.
        packaged("dpkg", &["--remove", program.name()]);
        expect_libvirts(program, before);
        succeed(&path(program), &["--version"]);
        install(program);
        kill_by(program, Signal::SIGKILL);
        // An upgrade: ours stays, as libvirt's could not be started with what is in the store.
        let before = main_pid(program);
        let broken = changed_package(program, NEXT_VERSION, OTHER_MACHINE);
        packaging_fails("dpkg", &["--install", &broken], "does not run here");
        expect_ours(program, before);
        kill_by(program, Signal::SIGKILL);
    }
    guests.into_iter().for_each(Guests::finish);
}

fn a_broken_configuration() {
    be_libvirts_host();
    let guests = BOTH.map(Guests::start);
    for program in BOTH {
        let name = program.name();
        let file = format!("/etc/libvirt/{name}.conf");
        let good = fs::read_to_string(&file).unwrap_or_default();
        let bad = format!("{good}\nmax_clients = \"many\"\n");
        fs::write(&file, &bad).unwrap();
        let before = main_pid(program);
        packaging_fails("dpkg", &["--install", &package(program)], &file);
        expect_libvirts(program, before);
        fs::write(&file, &good).unwrap();
        let said = packaged("dpkg", &["--configure", name]);
        assert!(said.contains("has taken over from libvirt's"), "{said}");
        expect_ours(program, before);
        // The same at an upgrade.
        fs::write(&file, &bad).unwrap();
        let next = changed_package(program, NEXT_VERSION, "true");
        packaging_fails("dpkg", &["--install", &next], &file);
        expect_ours(program, before);
        fs::write(&file, &good).unwrap();
        packaged("dpkg", &["--configure", name]);
        expect_ours(program, before);
        kill_by(program, Signal::SIGKILL);
    }
    guests.into_iter().for_each(Guests::finish);
}

fn a_full_run_directory() {
    be_libvirts_host();
    let guests = BOTH.map(Guests::start);
    succeed("mount", &["-o", "remount,size=48M", "/run"]);
    for program in BOTH {
        let before = main_pid(program);
        // Until nothing fits.
        packaging("sh", &["-c", "cat /dev/zero >/run/filler"]);
        let refusal = "systemd has not read the new settings";
        packaging_fails("dpkg", &["--install", &package(program)], refusal);
        expect_libvirts(program, before);
        fs::remove_file("/run/filler").unwrap();
        // libvirt's daemon would end if it could not write its state.
        let state_file = format!("/run/{}-restart-exec.json", program.name());
        fs::create_dir(&state_file).unwrap();
        packaging_fails("dpkg", &["--configure", program.name()], "is a directory");
        expect_libvirts(program, before);
        fs::remove_dir(&state_file).unwrap();
        packaged("dpkg", &["--configure", program.name()]);
        expect_ours(program, before);
        kill_by(program, Signal::SIGKILL);
    }
    guests.into_iter().for_each(Guests::finish);
}

fn what_libvirts_daemon_could_not_take_over() {
    be_libvirts_host();
    let program = Program::Virtlogd;
    enable(program);
    install_unused(program);
    let good = Path::new("/srv/good.log");
    let strange = Path::new(OsStr::from_bytes(b"/srv/stra\xffnge.log"));
    let mut client = LogClient::connect(&main_socket(program)).unwrap();
    let [going_on, ending] = [good, strange].map(|path| client.open(path).unwrap().pipe);
    let before = main_pid(program);
    packaging_fails("dpkg", &["--remove", "virtlogd"], "could not take over: {");
    expect_ours(program, before);
    guest_writes(&going_on, "one\n");
    guest_writes(&ending, "one\n");
    kill_by(program, Signal::SIGKILL);
    guest_writes(&ending, "two\n");
    expect_file(strange, "one\ntwo\n");
    let before = main_pid(program);
    let said = packaged("env", &["VIRT_HAND_BACK=anyway", "dpkg", "--remove", "virtlogd"]);
    assert!(said.contains("stra"), "{said}");
    expect_libvirts(program, before);
    guest_writes(&going_on, "two\n");
    expect_file(good, "one\ntwo\n");
}

fn a_hand_over_that_fails() {
    be_libvirts_host();
    let guests = BOTH.map(Guests::start);
    for program in BOTH {
        install(program);
        let state_file = format!("/run/{}-restart-exec.json", program.name());
        fs::create_dir(&state_file).unwrap();
        let before = main_pid(program);
        packaging_fails("dpkg", &["--remove", program.name()], &state_file);
        expect_ours(program, before);
        kill_by(program, Signal::SIGKILL);
        fs::remove_dir(&state_file).unwrap();
        let before = main_pid(program);
        packaged("dpkg", &["--remove", program.name()]);
        expect_libvirts(program, before);
    }
    guests.into_iter().for_each(Guests::finish);
}

/// As on hosts that are being built, and in containers.
fn where_nothing_may_be_reloaded() {
    be_libvirts_host();
    let guests = BOTH.map(Guests::start);
    succeed(
        "sh",
        &["-ec", "cd /usr/sbin; printf '#!/bin/sh\nexit 101\n' >policy-rc.d; chmod +x policy-rc.d"],
    );
    let [log, lock] = BOTH.map(main_pid);
    let said = packaged("dpkg", &["--install", &package(Program::Virtlogd)]);
    assert!(said.contains("policy-rc.d forbids a reload. virtlogd-rs"), "{said}");
    expect_libvirts(Program::Virtlogd, log);
    let hidden = format!(
        "mount -t tmpfs tmpfs /run/systemd; dpkg --install {}",
        package(Program::Virtlockd)
    );
    let said = packaged("unshare", &["--mount", "sh", "-ec", &hidden]);
    assert!(said.contains(&format!("takes over at: kill -USR1 {lock}")), "{said}");
    expect_libvirts(Program::Virtlockd, lock);
    systemctl(&["daemon-reload"]);
    for (program, pid) in BOTH.into_iter().zip([log, lock]) {
        systemctl(&["reload", &service(program)]);
        expect_ours(program, pid);
    }
    guests.into_iter().for_each(Guests::finish);
}

/// libvirt's virtlockd ends over a client that has connected and not yet said who it is.
fn clients_that_come_and_go() {
    be_libvirts_host();
    let program = Program::Virtlockd;
    let guests = Guests::start(program);
    let before = main_pid(program);
    let restless = std::thread::spawn(|| {
        let end = Instant::now() + RESTLESS;
        while Instant::now() < end {
            let client = LockClient::connect(&main_socket(Program::Virtlockd)).unwrap();
            std::thread::sleep(Duration::from_millis(30));
            drop(client);
        }
        end
    });
    let said = packaged("dpkg", &["--install", &package(program)]);
    assert!(restless.join().unwrap() < Instant::now(), "it was not waited for");
    assert!(said.contains("has taken over from libvirt's"), "{said}");
    expect_ours(program, before);
    guests.finish();
}

fn path(program: Program) -> String {
    format!("/usr/sbin/{}", program.name())
}

fn install(program: Program) {
    let before = main_pid(program);
    let said = packaged("dpkg", &["--install", &package(program)]);
    assert!(said.contains("has taken over from libvirt's"), "{said}");
    expect_ours(program, before);
}

/// Nothing runs that could be taken over.
fn install_unused(program: Program) {
    let said = packaged("dpkg", &["--install", &package(program)]);
    assert!(said.contains("it does not run. Its next start is one of virtlogd-rs"), "{said}");
}

#[track_caller]
fn expect_ours(program: Program, pid: nix::unistd::Pid) {
    assert_eq!(main_pid(program), pid);
    assert!(!is_libvirts(program));
}

#[track_caller]
fn expect_libvirts(program: Program, pid: nix::unistd::Pid) {
    assert_eq!(main_pid(program), pid);
    assert!(is_libvirts(program));
}
