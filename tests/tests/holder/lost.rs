//! A holder without a store of its own: what it held is stored again, and clients are served at the
//! socket that the daemon still has.

use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::Signal;
use tests::harness::{Host, Program, Subject, eventually};
use tests::holder::{Held, Holder};

use crate::load::{Leases, Logs, turn};

tests::ours! { Virtlogd: a_holder_that_was_killed_is_filled_again, a_daemon_without_any_says_what_is_at_stake }

/// Nothing is stored any more when nothing was for so long: a daemon tries again once a second.
const QUIET: Duration = Duration::from_millis(1500);

const LOGS: usize = 8;
const TENANTS: usize = 1;
const LEASES: usize = 50;

fn a_holder_that_was_killed_is_filled_again(_: Subject) {
    let _turn = turn();
    let host = Host::new();
    let mut holder = Holder::start_alone(&host);
    let mut log = Held::start(Program::Virtlogd, &host);
    let mut lock = Held::start(Program::Virtlockd, &host);
    let logs = Logs::begin_at(&host.path("files"), &log.daemon().main_socket(), LOGS);
    let leases = Leases::begin_at(&host.path("files"), &lock.daemon().main_socket(), TENANTS);
    for _ in 0..2 {
        holder.kill_and_start();
        log.daemon().expect_said("The fd store has lost fds; storing all of them again");
        lock.daemon().expect_said("The fd store has lost fds; storing all of them again");
        // Whoever connects meanwhile is served.
        log.expect_serving();
        eventually("the holder has all of it", || holder.process().fd_count() > LOGS + LEASES);
        wait_until_quiet(&holder);
        log.restart(Signal::SIGKILL);
        lock.restart(Signal::SIGKILL);
    }
    logs.finish();
    leases.finish();
}

fn a_daemon_without_any_says_what_is_at_stake(subject: Subject) {
    let line = "No supervisor with an fd store: a crash, a kill or a restart ends all logs";
    let alone = subject.setup().through(["env", "--unset=NOTIFY_SOCKET"]).spawn();
    alone.expect_said(line);
    let supervised = subject.start();
    assert!(!supervised.stderr().contains(line));
}

fn wait_until_quiet(holder: &Holder) {
    let mut before = 0;
    eventually("nothing is stored any more", || {
        let now = holder.process().fd_count();
        let is_quiet = std::mem::replace(&mut before, now) == now;
        if !is_quiet {
            sleep(QUIET);
        }
        is_quiet
    });
}
