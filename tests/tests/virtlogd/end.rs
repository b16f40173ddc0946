//! How a daemon ends: signals and idleness.

use std::io::Write;
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::Signal;
use tests::harness::{Mode, Subject, expect_file, expect_missing};

tests::both! { Virtlogd:
    a_clean_end_has_status_0_and_leaves_no_files,
    other_signals_do_nothing,
    an_idle_daemon_ends_after_its_timeout,
    a_client_keeps_it_alive,
    an_admin_client_keeps_it_alive,
    an_open_log_keeps_a_session_daemon_alive,
}

tests::ours! { Virtlogd:
    an_open_log_keeps_a_system_daemon_alive,
    what_is_in_the_pipes_is_stored_before_the_end,
    signals_that_kill_libvirts_daemon_do_not,
}

/// Seconds; long enough to connect in, even on a slow machine.
const TIMEOUT: [&str; 2] = ["-t", "2"];
/// Long enough for a timeout to have passed.
const OVER_TIMEOUT: Duration = Duration::from_millis(3500);

fn a_clean_end_has_status_0_and_leaves_no_files(subject: Subject) {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT] {
        let mut daemon = subject.start();
        let _client = daemon.connect_main();
        let _log = daemon.log_client().open(&daemon.file("a.log")).unwrap();
        daemon.signal(signal);
        let exit = daemon.wait();
        assert_eq!((exit.code, exit.signal), (Some(0), None), "{signal}: {}", exit.stderr);
        for path in [daemon.main_socket(), daemon.admin_socket(), daemon.pid_file()] {
            expect_missing(&path);
        }
    }
}

fn other_signals_do_nothing(subject: Subject) {
    let daemon = subject.start();
    for signal in [Signal::SIGPIPE, Signal::SIGCHLD, Signal::SIGWINCH] {
        daemon.signal(signal);
        daemon.log_client().append(&daemon.file("a.log"), "x").unwrap();
    }
}

fn an_idle_daemon_ends_after_its_timeout(subject: Subject) {
    let mut daemon = subject.setup().args(["-t", "1"]).start();
    assert_eq!(daemon.wait().code, Some(0));
    expect_missing(&daemon.main_socket());
    expect_missing(&daemon.pid_file());
}

fn a_client_keeps_it_alive(subject: Subject) {
    let mut daemon = subject.setup().args(TIMEOUT).start();
    let client = daemon.connect_main();
    std::thread::sleep(OVER_TIMEOUT);
    assert!(daemon.is_running());
    drop(client);
    assert_eq!(daemon.wait().code, Some(0));
}

fn an_admin_client_keeps_it_alive(subject: Subject) {
    let mut daemon = subject.setup().args(TIMEOUT).start();
    let client = daemon.connect_admin();
    std::thread::sleep(OVER_TIMEOUT);
    assert!(daemon.is_running());
    drop(client);
    assert_eq!(daemon.wait().code, Some(0));
}

fn an_open_log_keeps_a_session_daemon_alive(subject: Subject) {
    open_log_keeps_alive(subject, Mode::Session);
}

/// C breaks the guest's pipe.
fn an_open_log_keeps_a_system_daemon_alive(subject: Subject) {
    open_log_keeps_alive(subject, Mode::System);
}

fn open_log_keeps_alive(subject: Subject, mode: Mode) {
    let mut daemon = subject.setup().mode(mode).args(TIMEOUT).start();
    let path = daemon.file("a.log");
    let mut log = daemon.log_client().open(&path).unwrap();
    std::thread::sleep(OVER_TIMEOUT);
    assert!(daemon.is_running());
    log.pipe.write_all(b"still here\n").unwrap();
    expect_file(&path, "still here\n");
    drop(log);
    assert_eq!(daemon.wait().code, Some(0));
}

/// C leaves them in the pipe.
fn what_is_in_the_pipes_is_stored_before_the_end(subject: Subject) {
    let mut daemon = subject.start();
    let path = daemon.file("a.log");
    let mut log = daemon.log_client().open(&path).unwrap();
    daemon.signal(Signal::SIGSTOP);
    let capacity = fcntl(&log.pipe, FcntlArg::F_GETPIPE_SZ).unwrap();
    let content = vec![b'x'; usize::try_from(capacity).unwrap()];
    log.pipe.write_all(&content).unwrap();
    daemon.signal(Signal::SIGTERM);
    daemon.signal(Signal::SIGCONT);
    assert_eq!(daemon.wait().code, Some(0));
    expect_file(&path, content);
}

fn signals_that_kill_libvirts_daemon_do_not(subject: Subject) {
    let daemon = subject.start();
    let path = daemon.file("a.log");
    let mut log = daemon.log_client().open(&path).unwrap();
    let mut wanted = String::new();
    for signal in [Signal::SIGHUP, Signal::SIGXFSZ, Signal::SIGUSR2, Signal::SIGHUP] {
        daemon.signal(signal);
        let line = format!("after {signal}\n");
        log.pipe.write_all(line.as_bytes()).unwrap();
        wanted.push_str(&line);
        expect_file(&path, &wanted);
        daemon.log_client().position(&path).unwrap();
    }
}
