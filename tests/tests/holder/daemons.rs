//! Both daemons under one holder, which has an fd store of its own: killed, stopped and upgraded one
//! by one and together.

use nix::sys::signal::Signal;
use tests::harness::{Host, Program, Subject};
use tests::holder::{Held, Holder};

use crate::load::{Leases, Logs, rounds, turn};

tests::ours! { Virtlogd: nothing_is_lost_whoever_is_killed_or_upgraded }

fn nothing_is_lost_whoever_is_killed_or_upgraded(_: Subject) {
    let _turn = turn();
    let host = Host::new();
    let mut holder = Holder::start(&host);
    let mut log = Held::start(Program::Virtlogd, &host);
    let mut lock = Held::start(Program::Virtlockd, &host);
    let logs = Logs::begin(&host, &log.daemon().main_socket());
    let leases = Leases::begin(&host, &lock.daemon().main_socket());
    for _ in 0..rounds() {
        log.restart(Signal::SIGKILL);
        lock.restart(Signal::SIGKILL);
        holder.kill_and_start();
        log.restart(Signal::SIGTERM);
        lock.restart(Signal::SIGTERM);
        holder.upgrade();
        log.upgrade();
        lock.upgrade();
        // All at once.
        holder.kill();
        log.kill();
        lock.kill();
        log.spawn();
        lock.spawn();
        holder.spawn();
        log.expect_serving();
        lock.expect_serving();
    }
    logs.finish();
    leases.finish();
}
