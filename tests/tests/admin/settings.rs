//! What an administrator sets takes effect on the running daemon.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tests::harness::{Daemon, Subject, eventually};
use tests::wire::{ADMIN_PROGRAM, Answer, Connection, Header, Reader, RpcError, Writer};

mod virtlogd {
    use super::*;
    tests::both! { Virtlogd:
        a_lowered_limit_keeps_clients_and_makes_new_ones_wait,
        a_timeout_ends_the_daemon_when_nobody_is_left,
        a_filter_changes_what_the_next_call_logs,
        outputs_are_switched_and_a_bad_setting_changes_nothing,
        paths_of_outputs_are_resolved_by_their_text,
        a_parameter_is_given_twice_before_it_is_of_the_wrong_type,
    }
    tests::ours! { Virtlogd: a_large_timeout_does_not_wrap }
}

mod virtlockd {
    use super::*;
    tests::both! { Virtlockd:
        a_lowered_limit_keeps_clients_and_makes_new_ones_wait,
        a_timeout_ends_the_daemon_when_nobody_is_left,
        a_filter_changes_what_the_next_call_logs,
        outputs_are_switched_and_a_bad_setting_changes_nothing,
        paths_of_outputs_are_resolved_by_their_text,
        a_parameter_is_given_twice_before_it_is_of_the_wrong_type,
    }
    tests::ours! { Virtlockd: a_large_timeout_does_not_wrap }
}

/// Procedure numbers (libvirt's values, on the wire).
const SET_CLIENT_LIMITS: i32 = 13;
const GET_LOGGING_OUTPUTS: i32 = 14;
const SET_LOGGING_OUTPUTS: i32 = 16;
const SET_LOGGING_FILTERS: i32 = 17;
const SET_DAEMON_TIMEOUT: i32 = 19;

/// The type of a typed parameter that is an unsigned number (libvirt's value, on the wire).
const UINT: u32 = 2;

/// Of two of one name the first has to be of the right type, the second must not be there.
fn a_parameter_is_given_twice_before_it_is_of_the_wrong_type(subject: Subject) {
    const BOOLEAN: u32 = 6;
    let daemon = subject.start();
    let mut admin = daemon.connect_admin();
    let mut detail = |types: [u32; 2]| {
        let server = Writer::new().string(subject.program.name()).u32(2);
        let limits = types
            .into_iter()
            .fold(server, |limits, kind| limits.string("nclients_max").u32(kind).u32(1));
        let limits = limits.u32(0).into_bytes();
        let error = admin.call(ADMIN_PROGRAM, SET_CLIENT_LIMITS, &limits).unwrap_err();
        error.str2.unwrap_or_default()
    };
    let twice = "parameter 'nclients_max' occurs multiple times";
    let wrong = "invalid type 'boolean' for parameter 'nclients_max', expected 'uint'";
    assert_eq!(detail([UINT, BOOLEAN]), twice);
    assert_eq!(detail([BOOLEAN, UINT]), wrong);
    assert_eq!(detail([BOOLEAN, BOOLEAN]), wrong);
}

fn a_lowered_limit_keeps_clients_and_makes_new_ones_wait(subject: Subject) {
    let daemon = subject.start();
    let mut clients = [(); 3].map(|()| daemon.connect_main());
    assert!(clients.iter_mut().all(|client| is_served(client, subject)));
    let mut admin = daemon.connect_admin();
    set_limit(&mut admin, subject, 2);
    assert!(clients.iter_mut().all(|client| is_served(client, subject)));
    let [first, second, mut third] = clients;
    let mut waiting = daemon.connect_main();
    waiting.send(&Header::call(subject.program.number(), 99).message(&[])).unwrap();
    drop(first);
    // Two are left, which is as many as there may be.
    let answer = waiting.answer_within(Duration::from_millis(300));
    assert!(matches!(answer, Answer::Silence), "{answer:?}");
    drop(second);
    waiting.answer().message();
    let mut more = daemon.connect_main();
    more.send(&Header::call(subject.program.number(), 99).message(&[])).unwrap();
    assert!(is_served(&mut third, subject));
    assert!(matches!(more.answer_within(Duration::from_millis(300)), Answer::Silence));
    set_limit(&mut admin, subject, 50);
    more.answer().message();
}

fn a_timeout_ends_the_daemon_when_nobody_is_left(subject: Subject) {
    let mut daemon = subject.start();
    let mut admin = daemon.connect_admin();
    set_timeout(&mut admin, 1);
    std::thread::sleep(Duration::from_millis(1500));
    assert!(daemon.is_running(), "it ended although a client was there");
    drop(admin);
    assert_eq!(daemon.wait().code, Some(0));
}

/// C counts milliseconds in 32 bits: it ends after 0.7 s.
fn a_large_timeout_does_not_wrap(subject: Subject) {
    let mut daemon = subject.start();
    set_timeout(&mut daemon.connect_admin(), 4_294_968);
    std::thread::sleep(Duration::from_millis(1500));
    assert!(daemon.is_running());
}

fn a_filter_changes_what_the_next_call_logs(subject: Subject) {
    let daemon = subject.start();
    let log = daemon.host().path("log/libvirt/daemon.log");
    let mut admin = daemon.connect_admin();
    set(&mut admin, SET_LOGGING_OUTPUTS, "1:file:/var/log/libvirt/daemon.log").unwrap();
    let mut client = daemon.connect_main();
    assert!(is_served(&mut client, subject));
    assert_eq!(debug_lines(&log), 0);
    set(&mut admin, SET_LOGGING_FILTERS, "1:rpc").unwrap();
    assert!(is_served(&mut client, subject));
    eventually("a line about the call", || debug_lines(&log) > 0);
    set(&mut admin, SET_LOGGING_FILTERS, "").unwrap();
    let before = debug_lines_in_the_end(&log);
    assert!(is_served(&mut client, subject));
    assert_eq!(debug_lines_in_the_end(&log), before);
}

fn outputs_are_switched_and_a_bad_setting_changes_nothing(subject: Subject) {
    let daemon = subject.start();
    let mut admin = daemon.connect_admin();
    let (first, second) = ("/var/log/libvirt/first.log", "/var/log/libvirt/second.log");
    let inside = |path: &str| daemon.host().outside(Path::new(path));
    set(&mut admin, SET_LOGGING_FILTERS, "1:rpc").unwrap();
    set(&mut admin, SET_LOGGING_OUTPUTS, &format!("1:file:{first}")).unwrap();
    provoke_lines(&daemon, subject, &inside(first));
    let bad = format!("1:file:{second} 1:bogus");
    let error = set(&mut admin, SET_LOGGING_OUTPUTS, &bad).unwrap_err();
    let expected = "Invalid log destination 'bogus' for log output '1:bogus'";
    assert_eq!(error, RpcError::templated(8, 0, "invalid argument: ", expected));
    let unopenable = format!("1:file:{second} 1:file:/nosuchdir/x");
    let error = set(&mut admin, SET_LOGGING_OUTPUTS, &unopenable).unwrap_err();
    let expected = "failed to open /nosuchdir/x: No such file or directory";
    assert_eq!(error, RpcError::system(0, 2, expected));
    assert_eq!(outputs(&mut admin), (format!("1:file:{first}"), 1));
    provoke_lines(&daemon, subject, &inside(first));
    set(&mut admin, SET_LOGGING_OUTPUTS, &format!("3:stderr 1:file:{second}")).unwrap();
    assert_eq!(outputs(&mut admin), (format!("3:stderr 1:file:{second}"), 2));
    let before = debug_lines_in_the_end(&inside(first));
    provoke_lines(&daemon, subject, &inside(second));
    assert_eq!(debug_lines_in_the_end(&inside(first)), before);
}

fn paths_of_outputs_are_resolved_by_their_text(subject: Subject) {
    let daemon = subject.setup().env("LIBVIRT_LOG_OUTPUTS", "3:file:w/../start.log").start();
    let mut admin = daemon.connect_admin();
    assert_eq!(outputs(&mut admin), ("3:file:/run/start.log".to_owned(), 1));
    for (path, resolved) in [
        ("w/../v.log", "/run/v.log"),
        ("./r.log", "/run/r.log"),
        ("../../../run/z.log", "/run/z.log"),
        ("/nosuch/../var/log/../../run//./y.log/", "/run/y.log"),
        ("r.log/.", "/run/r.log"),
        ("//run/x.log", "//run/x.log"),
        ("//../run/x.log", "//run/x.log"),
        ("///run/x.log", "/run/x.log"),
    ] {
        set(&mut admin, SET_LOGGING_OUTPUTS, &format!("3:file:{path}")).unwrap();
        assert_eq!(outputs(&mut admin), (format!("3:file:{resolved}"), 1), "{path}");
        assert!(daemon.inside(resolved).is_file(), "{path}");
    }
    for (path, reason) in [
        ("a//b.log", "/run/a/b.log: No such file or directory"),
        ("r.log/..", "/run: Is a directory"),
        ("..", "/: Is a directory"),
        ("", "/run: Is a directory"),
    ] {
        let error = set(&mut admin, SET_LOGGING_OUTPUTS, &format!("3:file:{path}")).unwrap_err();
        assert_eq!(error.message, Some(format!("failed to open {reason}")), "{path}");
    }
    set(&mut admin, SET_LOGGING_OUTPUTS, "1:file:/run/a 3:stderr 2:file:/run/b/../a").unwrap();
    assert_eq!(outputs(&mut admin), ("3:stderr 2:file:/run/a".to_owned(), 2));
}

/// Makes a call, which has to add to a log.
fn provoke_lines(daemon: &Daemon, subject: Subject, log: &Path) {
    let before = debug_lines(log);
    assert!(is_served(&mut daemon.connect_main(), subject));
    eventually("the log grows", || debug_lines(log) > before);
}

/// When nothing has come for a while: a daemon may write when it has the time.
fn debug_lines_in_the_end(log: &Path) -> usize {
    let mut lines = debug_lines(log);
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let before = std::mem::replace(&mut lines, debug_lines(log));
        if lines == before {
            return lines;
        }
    }
}

fn debug_lines(log: &Path) -> usize {
    fs::read_to_string(log).expect("the daemon's log").matches(": debug : ").count()
}

fn is_served(client: &mut Connection, subject: Subject) -> bool {
    client.call(subject.program.number(), 99, &[]).is_err_and(|error| error.code == 39)
}

fn set_limit(admin: &mut Connection, subject: Subject, clients_max: u32) {
    let arguments = Writer::new()
        .string(subject.program.name())
        .u32(2)
        .string("nclients_max")
        .u32(UINT)
        .u32(clients_max)
        .string("nclients_unauth_max")
        .u32(UINT)
        .u32(1)
        .u32(0);
    admin.call(ADMIN_PROGRAM, SET_CLIENT_LIMITS, &arguments.into_bytes()).unwrap();
}

fn set_timeout(admin: &mut Connection, timeout_s: u32) {
    let arguments = Writer::new().u32(timeout_s).u32(0).into_bytes();
    admin.call(ADMIN_PROGRAM, SET_DAEMON_TIMEOUT, &arguments).unwrap();
}

fn set(admin: &mut Connection, procedure: i32, setting: &str) -> Result<(), RpcError> {
    let arguments = Writer::new().u32(1).string(setting).u32(0).into_bytes();
    admin.call(ADMIN_PROGRAM, procedure, &arguments).map(drop)
}

fn outputs(admin: &mut Connection) -> (String, u32) {
    let (payload, _) = admin.call(ADMIN_PROGRAM, GET_LOGGING_OUTPUTS, &[0; 4]).unwrap();
    let mut reader = Reader::new(&payload);
    let text = String::from_utf8(reader.string().to_vec()).unwrap();
    (text, reader.u32())
}
