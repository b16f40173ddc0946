//! Real guests under libvirtd while both daemons are killed, in their hardened units.

use nix::sys::signal::{Signal, kill};
use tests::harness::Program;
use tests::interop::{BootSector, Disk, Guest, Host, Setup, consecutive, wait_for};
use tests::machine::{enable, main_pid};

use super::kills::{kill_by, wait_until_restarted};

tests::on_machine! { Ours:
    real_guests_notice_nothing,
}

const SETUP: Setup<'_> =
    Setup { virtlogd_conf: "max_size = 0\n", locking: true, qemu_lockd_conf: "" };

const IMAGE: &str = "/var/lib/libvirt/images/shared.img";
const IMAGE_BYTES: usize = 1 << 20;

/// QEMU without image locking of its own, which would speak up before virtlockd is asked.
const EMULATOR: &str = "/run/qemu-without-locking";
const EMULATOR_SCRIPT: &str = r#"#!/bin/bash
exec qemu-system-x86_64 "${@//'{"driver":"file",'/'{"driver":"file","locking":"off",'}"
"#;

pub(super) const BOTH: [Program; 2] = [Program::Virtlogd, Program::Virtlockd];

/// Kills of each daemon.
const KILLS: usize = 5;

fn real_guests_notice_nothing() {
    let host = host();
    let guests = launch_guests(&host);
    for turn in 0..KILLS {
        let lines = guests.each_ref().map(|guest| line_after(0, &host, guest));
        kill_both(turn);
        for (guest, line) in guests.iter().zip(lines) {
            line_after(line, &host, guest);
            assert_eq!(host.system().qemu_status(guest.name()), "VM status: running");
        }
        expect_refused(&host);
    }
    // Its end comes while nobody is there.
    let qemu = host.pid(&guests[0].pid_file());
    kill(main_pid(Program::Virtlockd), Signal::SIGKILL).unwrap();
    host.signal("KILL", qemu);
    host.system().wait_until_off("alfa");
    host.system().run_eventually(&["start", "next"]);
    host.system().run(&["destroy", "next"]);
    host.system().run_eventually(&["start", "alfa"]);
    expect_refused(&host);
}

/// A machine with libvirtd and both daemons.
pub(super) fn host() -> Host {
    let host = Host::machine(&SETUP);
    BOTH.into_iter().for_each(enable);
    host.write(IMAGE, vec![0; IMAGE_BYTES]);
    host.write(EMULATOR, EMULATOR_SCRIPT);
    host.run("chmod", &["755", EMULATOR]);
    host.run("libvirtd", &["-d"]);
    host
}

/// Two guests, one with a disk, which a third one, that does not run, wants too.
pub(super) fn launch_guests(host: &Host) -> [Guest; 2] {
    let guests = [
        guest("alfa", BootSector::ticking(*b"alfa")).disk(Disk::exclusive(IMAGE)),
        guest("beta", BootSector::flooding(*b"beta")),
    ];
    guests.iter().for_each(|guest| host.system().launch(guest));
    host.system()
        .define(&guest("next", BootSector::ticking(*b"next")).disk(Disk::exclusive(IMAGE)));
    guests
}

/// One after the other, or both at once.
pub(super) fn kill_both(turn: usize) {
    if turn.is_multiple_of(2) {
        return BOTH.into_iter().for_each(|program| kill_by(program, Signal::SIGKILL));
    }
    let pids = BOTH.map(main_pid);
    pids.into_iter().for_each(|pid| kill(pid, Signal::SIGKILL).expect("killing a daemon"));
    BOTH.iter().zip(pids).for_each(|(&program, pid)| wait_until_restarted(program, pid));
}

/// Nobody else gets the disk.
pub(super) fn expect_refused(host: &Host) {
    let error = host.system().refused(&["start", "next"]);
    let busy = format!("resource busy: Lockspace resource '{IMAGE}' is locked");
    assert!(error.contains(&busy), "no {busy:?} in:\n{error}");
}

fn guest(name: &str, boot: BootSector) -> Guest {
    Guest::new(name, boot).serial_to_file(&serial_log(name)).emulator(EMULATOR)
}

fn serial_log(name: &str) -> String {
    format!("/var/log/libvirt/qemu/{name}-serial.log")
}

/// Waits until the gapless serial log has a line after `line` and returns the last one.
pub(super) fn line_after(line: u32, host: &Host, guest: &Guest) -> u32 {
    wait_for("a further line of the guest", || {
        let log = host.read(&serial_log(guest.name()));
        let last = if log.contains(&b'\n') { *consecutive(guest.boot(), &log).end() } else { 0 };
        (last > line).then_some(last)
    })
}
