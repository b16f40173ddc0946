//! Many upgrades in a row, under load.

use std::fs::{self, File};
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use tests::harness::{Daemon, Descriptors, Route, Whose, eventually_within};
use tests::load::Gate;
use tests::wire::Connection;

/// How long descriptors may stay open that are not needed any more.
const PATIENCE: Duration = Duration::from_secs(5);

/// Upgrades of a journey, unless `VIRT_TESTS_HOPS` says otherwise.
pub(super) fn hops(route: Route) -> usize {
    route.hops_count(if route.is_ours() { 60 } else { 20 })
}

/// Goes the whole way. Callers are kept quiet only while libvirt's daemon gives way, as that loses
/// answers.
pub(super) fn travel(daemon: &mut Daemon, route: Route, gate: &Gate) {
    let command_line = fs::read(daemon.proc("cmdline")).unwrap();
    for (before, after) in route.hops(hops(route)) {
        daemon.put(after);
        let _quiet = (before == Whose::Theirs).then(|| gate.close());
        daemon.upgrade();
    }
    expect_pid_file(daemon);
    assert_eq!(fs::read(daemon.proc("cmdline")).unwrap(), command_line);
}

/// What an idle daemon has open, which must be the same before and after. A client that has just left may
/// still be among it for a moment.
pub(super) fn idle_descriptors(daemon: &Daemon, route: Route) -> Descriptors {
    let mut client = daemon.connect_main();
    let mut idle = descriptors(daemon, route, &mut client);
    eventually_within(PATIENCE, || {
        let before = std::mem::replace(&mut idle, descriptors(daemon, route, &mut client));
        idle == before
    });
    client.hang_up().unwrap();
    idle
}

/// What a daemon has open. Each upgrade of libvirt's daemon leaves its own log open once more, so that is
/// not looked at where it takes part.
fn descriptors(daemon: &Daemon, route: Route, client: &mut Connection) -> Descriptors {
    // Readiness is told through a socket that may still be open; a client that has had an answer
    // knows that the daemon is past that.
    client.call(daemon.subject().program.number(), 99, &[]).unwrap_err();
    let is_left_out = |path: &str| !route.is_ours() && path.ends_with(".log");
    daemon.descriptors().without(is_left_out)
}

/// Waits until the daemon has the same open as before, when it was idle as well.
#[track_caller]
pub(super) fn expect_descriptors(daemon: &Daemon, route: Route, before: &Descriptors) {
    let mut now = idle_descriptors(daemon, route);
    eventually_within(PATIENCE, || {
        now = idle_descriptors(daemon, route);
        now == *before
    });
    assert_eq!(now, *before, "what is open");
}

/// The pid file is still the daemon's own.
#[track_caller]
pub(super) fn expect_pid_file(daemon: &Daemon) {
    let path = daemon.pid_file();
    assert_eq!(fs::read_to_string(&path).unwrap(), daemon.pid().to_string());
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut range = libc::flock {
        l_type: libc::F_WRLCK.try_into().unwrap(),
        l_whence: 0,
        l_start: 0,
        l_len: 1,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_GETLK(&mut range)).unwrap();
    assert_eq!(i32::from(range.l_type), libc::F_WRLCK, "nobody has locked the pid file");
    assert_eq!(range.l_pid, daemon.pid().cast_signed());
}
