//! The move from libvirt's daemons to ours, and back, while guests run: from then on everything is
//! as if ours had been started under our units.

use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tests::harness::{Program, Whose, eventually, eventually_within};
use tests::machine::{
    drop_in, expect_property, install, install_our_units, journal, main_pid, main_process,
    property, service, stored_count, succeed, systemctl, systemctl_fails, systemd_version,
    use_libvirts_units,
};

use super::guests::Guests;
use super::kills::{kill_by, wait_for_an_answer};
use super::swap::change_to;

/// Makes the tests `virtlogd` and `virtlockd` of moves from libvirt's daemon under its own unit.
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
            tests::on_machine! { Theirs: virtlogd, virtlockd }
        }
    )+};
}

both_daemons! {
    units_first,
    program_first,
    a_process_that_was_moved_is_moved_back,
    a_process_that_was_moved_is_restarted,
    a_unit_that_gets_a_store_later_is_noticed,
    what_it_costs_is_told,
    a_refused_reload_fails_at_once,
}

/// The first systemd that keeps what is stored for a service that is stopped.
const PRESERVES_SINCE: u32 = 254;

/// What `systemd/README.md` says to add to libvirt's units.
const DROP_IN: &str = "[Unit]\nStartLimitIntervalSec=0\n\n[Service]\nNotifyAccess=main\n\
    FileDescriptorStoreMax=32768\nFileDescriptorStorePreserve=yes\nRestart=on-failure\n";

/// Longer than the daemon waits before it asks systemd again.
const ASKED_AGAIN: Duration = Duration::from_secs(75);

/// A reload is over by then, in any case.
const RELOAD_MAX: Duration = Duration::from_secs(10);

fn units_first(program: Program) {
    use_libvirts_units();
    let guests = Guests::start(program);
    install_our_units();
    reload_to(program, Whose::Ours);
    lives_through_everything(program);
    guests.finish();
}

fn program_first(program: Program) {
    use_libvirts_units();
    let guests = Guests::start(program);
    change_to(program, Whose::Ours);
    install_our_units();
    reload_to(program, Whose::Ours);
    lives_through_everything(program);
    guests.finish();
}

/// Guests of libvirt's process, which became ours a moment ago.
fn moved_live(program: Program) -> Guests {
    use_libvirts_units();
    let guests = Guests::start(program);
    install_our_units();
    reload_to(program, Whose::Ours);
    expect_stored(program);
    guests
}

/// libvirt's program has no `NOTIFY_SOCKET` then where its own unit gives it none: it never says that it
/// is ready.
fn a_process_that_was_moved_is_moved_back(program: Program) {
    let guests = moved_live(program);
    reload_to(program, Whose::Theirs);
    expect_property(&service(program), "ActiveState", "active");
    eventually("the store is empty", || stored_count(program) == 0);
    reload_to(program, Whose::Ours);
    guests.finish();
}

fn a_process_that_was_moved_is_restarted(program: Program) {
    let guests = moved_live(program);
    systemctl(&["restart", &service(program)]);
    expect_stored(program);
    guests.finish();
}

fn a_unit_that_gets_a_store_later_is_noticed(program: Program) {
    use_libvirts_units();
    let guests = Guests::start(program);
    change_to(program, Whose::Ours);
    drop_in(&service(program), DROP_IN);
    // What goes in first are the few memfds without which nothing else counts.
    let is_stored = eventually_within(ASKED_AGAIN, || {
        let stored = stored_count(program);
        stored > 0 && {
            std::thread::sleep(std::time::Duration::from_secs(1));
            stored_count(program) == stored
        }
    });
    assert!(is_stored, "{}", journal(&service(program)));
    kill_by(program, Signal::SIGKILL);
    systemctl(&["restart", &service(program)]);
    reload_by_signal(program);
    kill_by(program, Signal::SIGKILL);
    guests.finish();
}

/// What a daemon under our units lives through, and back to libvirt's, and to ours again.
fn lives_through_everything(program: Program) {
    let unit = service(program);
    expect_stored(program);
    kill_by(program, Signal::SIGKILL);
    expect_stored(program);
    systemctl(&["restart", &unit]);
    reload_to(program, Whose::Ours);
    if systemd_version() >= PRESERVES_SINCE {
        systemctl(&["stop", &unit]);
        systemctl(&["start", &unit]);
    }
    expect_stored(program);
    reload_to(program, Whose::Theirs);
    eventually("the store is empty", || stored_count(program) == 0);
    reload_to(program, Whose::Ours);
    expect_stored(program);
    kill_by(program, Signal::SIGKILL);
}

/// Without a store, with a channel to systemd or none.
fn what_it_costs_is_told(program: Program) {
    use_libvirts_units();
    let guests = Guests::start(program);
    drop_in(&service(program), "[Service]\nNotifyAccess=main\n");
    change_to(program, Whose::Ours);
    let cost = match program {
        Program::Virtlogd => "; no fd store: a crash loses 4 logs, a restart or a stop ends them",
        Program::Virtlockd => "; no fd store: a crash frees 8 leases, a restart or a stop ends",
    };
    let is_told = || property(&service(program), "StatusText").contains(cost);
    let status = || property(&service(program), "StatusText");
    assert!(eventually_within(ASKED_AGAIN, is_told), "{}", status());
    let warning = cost.replace("; no", "No");
    eventually("it is in the log", || journal(&service(program)).contains(&warning));
    assert_eq!(journal(&service(program)).matches(&warning).count(), 1);
    guests.finish();
}

fn a_refused_reload_fails_at_once(program: Program) {
    let unit = service(program);
    let guests = moved_live(program);
    let path = format!("/usr/sbin/{}", program.name());
    succeed("cp", &["--remove-destination", "/bin/false", &path]);
    let began = Instant::now();
    systemctl_fails(&["reload", &unit]);
    assert!(began.elapsed() < RELOAD_MAX, "{:?}", began.elapsed());
    let told = property(&unit, "StatusText");
    assert!(told.contains("last upgrade: ") && told.contains("failed: "), "{told}");
    install(Whose::Ours, program);
    kill_by(program, Signal::SIGKILL);
    guests.finish();
}

/// By the command of `systemd/README.md`, which ends when the other image serves.
#[track_caller]
pub(super) fn reload_to(program: Program, whose: Whose) {
    let before = main_pid(program);
    install(whose, program);
    let (began, unit) = (Instant::now(), service(program));
    let reloaded = Command::new("systemctl").args(["reload", &unit]).status();
    assert!(reloaded.is_ok_and(|status| status.success()), "{}", journal(&unit));
    assert!(began.elapsed() < RELOAD_MAX, "{:?}", began.elapsed());
    assert_eq!(main_pid(program), before);
    let is_libvirts = || main_process(program, "maps").contains("libvirt.so");
    eventually("the other daemon runs", || is_libvirts() == (whose == Whose::Theirs));
    // Before that libvirt's daemon does not take the next request for an upgrade.
    wait_for_an_answer(program);
}

/// As libvirt's units do it, without waiting for anything.
#[track_caller]
fn reload_by_signal(program: Program) {
    systemctl(&["reload", &service(program)]);
    expect_stored(program);
}

#[track_caller]
fn expect_stored(program: Program) {
    let items = match program {
        Program::Virtlogd => 4,
        Program::Virtlockd => 8,
    };
    let is_stored = || stored_count(program) > items;
    let text = || format!("{}\n{}", stored_count(program), journal(&service(program)));
    assert!(eventually_within(Duration::from_secs(5), is_stored), "{}", text());
}
