//! Storms of upgrades, with clients and guests that go on all the while.

use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use tests::harness::{Subject, eventually};

use crate::bystanders::{expect_unharmed, start};

mod virtlogd {
    use super::*;

    tests::ours! { Virtlogd: a_storm_of_upgrades, signals_of_all_kinds }
}

mod virtlockd {
    use super::*;

    tests::ours! { Virtlockd: a_storm_of_upgrades, signals_of_all_kinds }
}

/// One begins only when the one before is over, and none takes anything of others.
fn a_storm_of_upgrades(subject: Subject) {
    let mut daemon = start(subject);
    expect_unharmed(&mut daemon, |daemon| {
        for number in 0..100_u64 {
            daemon.signal(Signal::SIGUSR1);
            thread::sleep(Duration::from_millis(number * 7 % 23));
        }
        daemon.wait_until_quiet();
    });
    let pid = std::fs::read_to_string(daemon.pid_file()).unwrap();
    assert_eq!(pid.trim(), daemon.pid().to_string());
}

/// `SIGHUP` and what a terminal sends do no harm either.
fn signals_of_all_kinds(subject: Subject) {
    let mut daemon = start(subject);
    expect_unharmed(&mut daemon, |daemon| {
        for _ in 0..30 {
            for signal in [Signal::SIGHUP, Signal::SIGPIPE, Signal::SIGCHLD, Signal::SIGUSR1] {
                daemon.signal(signal);
            }
            thread::sleep(Duration::from_millis(10));
        }
        daemon.wait_until_quiet();
    });
    eventually("it serves", || daemon.fd_count() > 0);
}
