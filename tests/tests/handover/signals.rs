//! SIGUSR1 and SIGTERM at any moment and in any order. libvirt's daemons die of a second signal
//! within some milliseconds of the first.

use std::io::Write;
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::Signal;
use tests::guest::Guest;
use tests::harness::{Daemon, Subject, Whose, expect_file, expect_missing};
use tests::load::{Caller, Contender, Gate, Newcomer, is_free};

use super::leases::{client_of, image};

tests::ours! { Virtlogd:
    many_requests_for_an_upgrade_do_no_harm,
    a_stop_right_after_a_request_for_an_upgrade_is_honoured,
    a_request_for_an_upgrade_right_after_a_stop_does_no_harm,
    signals_that_mean_nothing_do_no_harm_to_an_upgrade,
}

mod virtlockd {
    use super::*;
    tests::ours! { Virtlockd:
        many_requests_for_an_upgrade_lose_no_lease,
        a_stop_right_after_a_request_for_an_upgrade_ends_guests,
    }
}

/// Pauses between the signals of a row.
const GAPS: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_micros(100),
    Duration::from_millis(1),
    Duration::from_millis(3),
    Duration::from_millis(10),
    Duration::from_millis(20),
];

fn many_requests_for_an_upgrade_do_no_harm(subject: Subject) {
    let mut daemon = subject.setup().replaceable().start();
    let path = daemon.file("a.log");
    let mut log = daemon.log_client().open(&path).unwrap();
    let caller = Caller::start(&Gate::default(), Newcomer::new(&daemon));
    let mut written = String::new();
    for (gap, count) in GAPS.into_iter().flat_map(|gap| [2, 10].map(|count| (gap, count))) {
        ask(&daemon, gap, count);
        let line = format!("{count} signals\n");
        log.pipe.write_all(line.as_bytes()).unwrap();
        written.push_str(&line);
        daemon.wait_until_upgraded();
        expect_file(&path, &written);
        daemon.expect_alive();
    }
    daemon.wait_until_quiet();
    daemon.change_to(Whose::Ours);
    assert!(caller.finish() > 0);
}

fn a_stop_right_after_a_request_for_an_upgrade_is_honoured(subject: Subject) {
    for gap_ms in 0..=20 {
        let mut daemon = subject.setup().replaceable().start();
        let path = daemon.file("a.log");
        let mut log = daemon.log_client().open(&path).unwrap();
        daemon.put(Whose::Ours);
        daemon.signal(Signal::SIGUSR1);
        sleep(Duration::from_millis(gap_ms));
        log.pipe.write_all(b"last words\n").unwrap();
        daemon.signal(Signal::SIGTERM);
        expect_clean_end(&mut daemon);
        expect_file(&path, "last words\n");
    }
}

fn a_request_for_an_upgrade_right_after_a_stop_does_no_harm(subject: Subject) {
    for gap in GAPS {
        let mut daemon = subject.setup().replaceable().start();
        let path = daemon.file("a.log");
        let mut log = daemon.log_client().open(&path).unwrap();
        log.pipe.write_all(b"last words\n").unwrap();
        daemon.put(Whose::Ours);
        daemon.signal(Signal::SIGTERM);
        sleep(gap);
        // It may have ended.
        if daemon.is_running() {
            daemon.signal(Signal::SIGUSR1);
        }
        expect_clean_end(&mut daemon);
        expect_file(&path, "last words\n");
    }
}

/// Their default is to end the process, and between an exec and the successor's handlers that is
/// what they have.
fn signals_that_mean_nothing_do_no_harm_to_an_upgrade(subject: Subject) {
    const ROUNDS: usize = 12;
    let mut daemon = subject.setup().replaceable().start();
    let path = daemon.file("a.log");
    let mut log = daemon.log_client().open(&path).unwrap();
    let mut written = String::new();
    for round in 0..ROUNDS {
        ask(&daemon, Duration::ZERO, 1);
        for _ in 0..1000 {
            for signal in [Signal::SIGUSR2, Signal::SIGALRM, Signal::SIGXFSZ] {
                daemon.signal(signal);
            }
            sleep(Duration::from_micros(50));
        }
        daemon.wait_until_upgraded();
        let line = format!("round {round}\n");
        log.pipe.write_all(line.as_bytes()).unwrap();
        written.push_str(&line);
        expect_file(&path, &written);
    }
}

fn many_requests_for_an_upgrade_lose_no_lease(subject: Subject) {
    let mut daemon = subject.setup().replaceable().start();
    let image = image(&daemon, "image");
    let mut guest = Guest::start(&daemon);
    client_of(&daemon, &guest).acquire("", &image, 0).unwrap();
    let contender = Contender::start(&[image]);
    let caller = Caller::start(&Gate::default(), Newcomer::new(&daemon));
    for (gap, count) in GAPS.into_iter().flat_map(|gap| [2, 10].map(|count| (gap, count))) {
        ask(&daemon, gap, count);
        daemon.wait_until_upgraded();
    }
    daemon.wait_until_quiet();
    daemon.change_to(Whose::Ours);
    contender.finish();
    assert!(caller.finish() > 0 && guest.is_running());
}

fn a_stop_right_after_a_request_for_an_upgrade_ends_guests(subject: Subject) {
    for gap_ms in (0..=20).step_by(4) {
        let mut daemon = subject.setup().replaceable().start();
        let image = image(&daemon, "image");
        let mut guest = Guest::start(&daemon);
        client_of(&daemon, &guest).acquire("", &image, 0).unwrap();
        daemon.put(Whose::Ours);
        daemon.signal(Signal::SIGUSR1);
        sleep(Duration::from_millis(gap_ms));
        daemon.signal(Signal::SIGTERM);
        assert_eq!(guest.ending(), Some(Signal::SIGTERM as i32));
        expect_clean_end(&mut daemon);
        assert!(is_free(&image));
    }
}

/// Puts a new executable in place, which must not happen during an upgrade, and sends SIGUSR1
/// `count` times.
fn ask(daemon: &Daemon, gap: Duration, count: usize) {
    daemon.wait_until_quiet();
    daemon.put(Whose::Ours);
    for _ in 0..count {
        daemon.signal(Signal::SIGUSR1);
        sleep(gap);
    }
}

#[track_caller]
fn expect_clean_end(daemon: &mut Daemon) {
    let exit = daemon.wait();
    assert_eq!((exit.code, exit.signal), (Some(0), None), "{}", exit.stderr);
    expect_missing(&daemon.main_socket());
    expect_missing(&daemon.pid_file());
    let state = format!("run/{}-restart-exec.json", daemon.subject().program.name());
    expect_missing(&daemon.host().path(&state));
}
