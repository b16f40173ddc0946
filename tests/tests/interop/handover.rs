//! Live upgrades under libvirtd with real guests, in every direction: nobody notices.

use tests::harness::{Program, Subject, Whose, left_out};
use tests::interop::{BootSector, Disk, Guest, Host, Setup, consecutive, on_host, wait_for};

/// Both daemons, and logs that are not rotated while a guest floods one.
const BOTH: Setup<'_> =
    Setup { virtlogd_conf: "max_size = 0\n", locking: true, qemu_lockd_conf: "" };

const IMAGE: &str = "/var/lib/libvirt/images/shared.img";
const IMAGE_BYTES: usize = 1 << 20;

/// QEMU without image locking of its own, which would speak up before virtlockd is asked.
const EMULATOR: &str = "/run/qemu-without-locking";
const EMULATOR_SCRIPT: &str = r#"#!/bin/bash
exec qemu-system-x86_64 "${@//'{"driver":"file",'/'{"driver":"file","locking":"off",'}"
"#;

/// Who is there in turns, from the start on; the first comes back at the end.
const THEIRS: &[Whose] = &[Whose::Theirs; 4];
const OURS: &[Whose] = &[Whose::Ours; 4];
const MIXED: &[Whose] = &[Whose::Theirs, Whose::Ours, Whose::Theirs, Whose::Ours];

/// Makes the tests `theirs`, `ours` and `mixed` of a scenario.
macro_rules! journeys {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[test]
            fn theirs() {
                super::along(super::THEIRS, module_path!(), super::$name);
            }
            #[test]
            fn ours() {
                super::along(super::OURS, module_path!(), super::$name);
            }
            #[test]
            fn mixed() {
                super::along(super::MIXED, module_path!(), super::$name);
            }
        }
    )+};
}

journeys! {
    a_guests_output_has_no_gap,
    qemus_own_log_and_messages_of_libvirtd_go_on,
    a_disk_stays_leased_to_its_guest,
    a_lease_ends_with_its_guest_whoever_took_it,
}

fn a_guests_output_has_no_gap(host: &Host, turns: &[Whose]) {
    let guests = [
        logged("alfa", BootSector::ticking(*b"alfa")),
        logged("beta", BootSector::flooding(*b"beta")),
    ];
    let mut lines = [0; 2];
    for guest in &guests {
        host.system().launch(guest);
    }
    for &whose in &turns[1..] {
        for (guest, line) in guests.iter().zip(&mut lines) {
            *line = line_after(*line, host, guest);
        }
        host.upgrade(Program::Virtlogd, whose);
    }
    host.upgrade(Program::Virtlogd, turns[0]);
    for (guest, line) in guests.iter().zip(&lines) {
        assert_eq!(host.system().qemu_status(guest.name()), "VM status: running");
        line_after(*line, host, guest);
        host.system().run(&["destroy", guest.name()]);
        assert_eq!(*consecutive(guest.boot(), &host.read(&serial_log(guest))).start(), 1);
    }
}

fn qemus_own_log_and_messages_of_libvirtd_go_on(host: &Host, turns: &[Whose]) {
    let guest = logged("alfa", BootSector::ticking(*b"alfa"));
    host.system().launch(&guest);
    for &whose in turns[1..].iter().chain(&turns[..1]) {
        host.upgrade(Program::Virtlogd, whose);
        // QEMU writes when it is told to end, libvirtd when it has told it, and anew at a start.
        host.system().run(&["destroy", "alfa"]);
        host.system().run(&["start", "alfa"]);
    }
    let log = host.read_text(&guest.qemu_log());
    let count = |text: &str| log.matches(text).count();
    assert_eq!(count(": starting up libvirt version: "), turns.len() + 1, "{log}");
    assert_eq!(count("terminating on signal 15"), turns.len(), "{log}");
    assert_eq!(count(": shutting down, reason=destroyed\n"), turns.len(), "{log}");
}

fn a_disk_stays_leased_to_its_guest(host: &Host, turns: &[Whose]) {
    define_two(host);
    host.system().run(&["start", "alfa"]);
    for &whose in turns[1..].iter().chain(&turns[..1]) {
        host.upgrade(Program::Virtlockd, whose);
        expect_busy(host, "beta");
        // A lease that is given back and taken again meanwhile.
        host.system().run(&["suspend", "alfa"]);
        host.system().run(&["resume", "alfa"]);
        expect_busy(host, "beta");
    }
    assert_eq!(host.system().qemu_status("alfa"), "VM status: running");
    host.system().run(&["destroy", "alfa"]);
    host.system().run_eventually(&["start", "beta"]);
}

fn a_lease_ends_with_its_guest_whoever_took_it(host: &Host, turns: &[Whose]) {
    define_two(host);
    host.system().run(&["start", "alfa"]);
    let mut names = ["alfa", "beta"];
    for &whose in turns[1..].iter().chain(&turns[..1]) {
        host.upgrade(Program::Virtlockd, whose);
        let [holder, other] = names;
        expect_busy(host, other);
        host.system().run(&["destroy", holder]);
        host.system().run_eventually(&["start", other]);
        expect_busy(host, holder);
        names = [other, holder];
    }
}

fn along(turns: &[Whose], name: &str, scenario: impl FnOnce(&Host, &[Whose])) {
    let missing = turns.iter().find_map(|&whose| {
        let daemon = |program| Subject { whose, program }.executable();
        daemon(Program::Virtlogd).and_then(|_| daemon(Program::Virtlockd)).err()
    });
    match missing {
        Some(reason) => left_out(&format!("{name}, {turns:?}"), &reason),
        None => on_host(turns[0], name, &BOTH, |host| scenario(host, turns)),
    }
}

fn logged(name: &str, boot: BootSector) -> Guest {
    let guest = Guest::new(name, boot);
    let log = serial_log(&guest);
    guest.serial_to_file(&log)
}

fn serial_log(guest: &Guest) -> String {
    format!("/var/log/libvirt/qemu/{}-serial.log", guest.name())
}

/// Waits until the guest has printed a line after `line` and returns the last one there is.
fn line_after(line: u32, host: &Host, guest: &Guest) -> u32 {
    let log = serial_log(guest);
    wait_for("a further line of the guest", || {
        // Before its first line is whole, a log has nothing to be judged.
        let log = host.read(&log);
        let last = if log.contains(&b'\n') { *consecutive(guest.boot(), &log).end() } else { 0 };
        (last > line).then_some(last)
    })
}

/// Defines two guests with the same disk.
fn define_two(host: &Host) {
    host.write(IMAGE, vec![0; IMAGE_BYTES]);
    host.write(EMULATOR, EMULATOR_SCRIPT);
    host.run("chmod", &["755", EMULATOR]);
    for name in ["alfa", "beta"] {
        let guest = Guest::new(name, BootSector::ticking(*b"alfa")).emulator(EMULATOR);
        host.system().define(&guest.disk(Disk::exclusive(IMAGE)));
    }
}

#[track_caller]
fn expect_busy(host: &Host, name: &str) {
    let error = host.system().refused(&["start", name]);
    let busy = format!("resource busy: Lockspace resource '{IMAGE}' is locked");
    assert!(error.contains(&busy), "no {busy:?} in:\n{error}");
}
