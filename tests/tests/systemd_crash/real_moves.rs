//! Real guests under libvirtd while both daemons are moved from libvirt's to ours and back, in the
//! orders that `systemd/README.md` allows, and killed, restarted and stopped in between.

use nix::sys::signal::Signal;
use tests::harness::{Program, Whose, eventually};
use tests::interop::{Guest, Host};
use tests::machine::{
    expect_property, install, install_our_units, main_pid, main_process, property, service,
    stored_count, systemctl, systemd_version, use_libvirts_units,
};

use super::kills::{kill_by, wait_until_restarted};
use super::libvirt::{BOTH, expect_refused, host, kill_both, launch_guests, line_after};
use super::moves::reload_to;
use super::swap::change_to;

tests::on_machine! { Theirs:
    real_guests_are_moved,
}

/// What the store of each daemon must have.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Store {
    Nothing,
    Items,
}

fn real_guests_are_moved() {
    use_libvirts_units();
    let host = host();
    let guests = launch_guests(&host);
    let check = |step: &str, store| expect_well(step, store, &host, &guests);
    check("libvirt's daemons and units", Store::Nothing);
    BOTH.into_iter().for_each(|program| change_to(program, Whose::Ours));
    check("our programs, reload", Store::Nothing);
    install_our_units();
    BOTH.into_iter().for_each(|program| reload_to(program, Whose::Ours));
    check("our units, reload", Store::Items);
    live_through_everything(&check);
    BOTH.into_iter().for_each(|program| reload_to(program, Whose::Theirs));
    check("libvirt's programs, reload", Store::Nothing);
    BOTH.into_iter().for_each(|program| reload_to(program, Whose::Ours));
    check("our programs, reload", Store::Items);
    kill_both(1);
    check("kill -9", Store::Items);
    BOTH.into_iter().for_each(replaced_and_killed);
    check("libvirt's programs, kill -9, our programs", Store::Items);
    BOTH.into_iter().for_each(|program| reload_to(program, Whose::Theirs));
    use_libvirts_units();
    check("libvirt's programs, reload, libvirt's units", Store::Nothing);
    BOTH.into_iter().for_each(|program| change_to(program, Whose::Theirs));
    check("reload", Store::Nothing);
    install_our_units();
    BOTH.into_iter().for_each(|program| reload_to(program, Whose::Ours));
    check("our units, our programs, reload", Store::Items);
    live_through_everything(&check);
    host.system().run(&["destroy", "alfa"]);
    host.system().run_eventually(&["start", "next"]);
}

fn live_through_everything(check: &dyn Fn(&str, Store)) {
    kill_both(0);
    check("kill -9, one by one", Store::Items);
    kill_both(1);
    check("kill -9, both at once", Store::Items);
    BOTH.into_iter().for_each(|program| drop(systemctl(&["restart", &service(program)])));
    check("restart", Store::Items);
    BOTH.into_iter().for_each(|program| reload_to(program, Whose::Ours));
    check("reload", Store::Items);
    if systemd_version() >= 254 {
        for program in BOTH {
            systemctl(&["stop", &service(program)]);
            systemctl(&["start", &service(program)]);
        }
        check("stop, start", Store::Items);
    }
    kill_by(Program::Virtlockd, Signal::SIGSEGV);
    check("virtlockd: SIGSEGV", Store::Items);
}

/// As by a package update, and a crash that has nothing to do with it.
fn replaced_and_killed(program: Program) {
    install(Whose::Theirs, program);
    let before = main_pid(program);
    nix::sys::signal::kill(before, Signal::SIGKILL).expect("killing a daemon");
    expect_property(&service(program), "SubState", "start-pre");
    install(Whose::Ours, program);
    wait_until_restarted(program, before);
}

/// Both guests run and write on, gaplessly, and the disk is not given to another.
pub(super) fn expect_well(step: &str, store: Store, host: &Host, guests: &[Guest; 2]) {
    for guest in guests {
        let line = line_after(0, host, guest);
        line_after(line, host, guest);
        assert_eq!(host.system().qemu_status(guest.name()), "VM status: running", "{step}");
    }
    expect_refused(host);
    for program in BOTH {
        let is_right = || (stored_count(program) > 0) == (store == Store::Items);
        eventually(&format!("{step}: {} has the right store", program.name()), is_right);
    }
    let counts = BOTH.map(stored_count);
    let whose = BOTH.map(|program| {
        if main_process(program, "maps").contains("libvirt.so") { "libvirt's" } else { "ours" }
    });
    let states = BOTH.map(|program| property(&service(program), "ActiveState"));
    println!("| {step} | {whose:?} | {counts:?} | {states:?} |");
}
