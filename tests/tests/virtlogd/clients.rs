//! Who may talk to a daemon, and how many at once.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tests::harness::{Mode, Subject, eventually, needs_root};
use tests::wire::{ADMIN_PROGRAM, Answer, Connection, Header, LOG_PROGRAM, Writer};

tests::both! { Virtlogd:
    a_client_that_never_waits_for_answers_starves_nobody,
    one_client_too_many_waits_and_is_served_later,
    the_admin_socket_has_its_own_limit,
    a_system_daemon_refuses_other_users,
    a_session_daemon_refuses_root,
    a_session_daemon_serves_its_user,
    a_client_that_leaves_takes_its_descriptors_along,
}

tests::ours! { Virtlogd:
    refusals_without_end_are_logged_now_and_then,
    clients_that_read_no_answers_take_bounded_memory,
    a_name_forges_no_line_of_the_daemons_log,
}

fn one_client_too_many_waits_and_is_served_later(subject: Subject) {
    let daemon = subject.start_with("max_clients = 2");
    let mut first = daemon.connect_main();
    let mut second = daemon.connect_main();
    assert!(is_served(&mut first) && is_served(&mut second));
    let mut third = daemon.connect_main();
    third.send(&unknown_procedure()).unwrap();
    let answer = third.answer_within(Duration::from_millis(300));
    assert!(matches!(answer, Answer::Silence), "{answer:?}");
    assert!(is_served(&mut second));
    drop(first);
    third.answer().message();
}

fn the_admin_socket_has_its_own_limit(subject: Subject) {
    let daemon = subject.start_with("max_clients = 1\nadmin_max_clients = 1");
    let mut main = daemon.connect_main();
    let mut admin = daemon.connect_admin();
    assert!(is_served(&mut main));
    admin.call(ADMIN_PROGRAM, 3, &[]).unwrap();
    let mut waiting = daemon.connect_admin();
    waiting.send(&Header::call(ADMIN_PROGRAM, 3).message(&[])).unwrap();
    let answer = waiting.answer_within(Duration::from_millis(300));
    assert!(matches!(answer, Answer::Silence), "{answer:?}");
    drop(admin);
    waiting.answer().message();
}

fn a_system_daemon_refuses_other_users(subject: Subject) {
    if needs_root("a_system_daemon_refuses_other_users") {
        refuses_us(subject, Mode::SystemOfStranger);
    }
}

fn a_session_daemon_refuses_root(subject: Subject) {
    if needs_root("a_session_daemon_refuses_root") {
        refuses_us(subject, Mode::SessionOfStranger);
    }
}

fn a_session_daemon_serves_its_user(subject: Subject) {
    let daemon = subject.setup().mode(Mode::Session).start();
    let path = daemon.file("a.log");
    daemon.log_client().append(&path, "text\n").unwrap();
    tests::harness::expect_file(&path, "text\n");
    daemon.connect_admin().call(ADMIN_PROGRAM, 3, &[]).unwrap();
}

fn a_client_that_leaves_takes_its_descriptors_along(subject: Subject) {
    let daemon = subject.start();
    let mut witness = daemon.connect_main();
    assert!(is_served(&mut witness));
    let before = daemon.fd_count();
    for _ in 0..100 {
        assert!(is_served(&mut daemon.connect_main()));
    }
    eventually("nothing is left of 100 clients", || daemon.fd_count() <= before);
}

/// Whoever is refused in a loop does not fill the disk with that.
fn refusals_without_end_are_logged_now_and_then(subject: Subject) {
    const REFUSALS: usize = 6000;
    if !needs_root("refusals_without_end_are_logged_now_and_then") {
        return;
    }
    let daemon = subject.setup().mode(Mode::SystemOfStranger).start();
    for _ in 0..REFUSALS {
        let mut client = daemon.connect_main();
        assert!(matches!(client.answer(), Answer::Closed));
    }
    daemon.expect_said("are left out for now");
    let lines = daemon.stderr().matches("Disallowing client").count();
    assert!(lines < REFUSALS / 2, "{lines} lines");
}

/// Each may have an answer of 4 MiB that it does not read, and all together not as much as they like.
fn clients_that_read_no_answers_take_bounded_memory(subject: Subject) {
    const CLIENTS: usize = 120;
    const LIMIT_KIB: u64 = 400 * 1024;
    let daemon = subject.start_with("max_clients = 500");
    let path = daemon.file("a.log");
    tests::harness::write(&path, vec![b'x'; 4 << 20]);
    let start = tests::wire::Position { inode: tests::harness::inode(&path), offset: 0 };
    let mut hogs: Vec<_> = (0..CLIENTS).map(|_| daemon.log_client()).collect();
    for hog in &mut hogs {
        let arguments = Writer::new().string(path.as_os_str().as_encoded_bytes());
        let arguments = arguments.u64(start.inode).u64(start.offset).u64(4 << 20).u32(0);
        let call = Header::call(LOG_PROGRAM, 3).message(&arguments.into_bytes());
        hog.connection().send(&call).unwrap();
    }
    assert_eq!(daemon.log_client().read(&path, start, 4 << 20).unwrap().len(), 4 << 20);
    assert!(is_served(&mut daemon.connect_main()));
    let memory_kib = daemon.memory_kib("VmHWM");
    assert!(memory_kib < LIMIT_KIB, "{memory_kib} KiB");
    daemon.expect_said("messages of all clients take too much memory");
    drop(hogs);
    daemon.expect_alive();
}

/// A guest's name is in what is said of its log, and is no line of its own there.
fn a_name_forges_no_line_of_the_daemons_log(subject: Subject) {
    const OPEN: i32 = 1;
    const FORGED: &str = "2026-01-01 00:00:00.000+0000: 1: error : forged";
    let daemon = subject.start();
    let directory = daemon.file("directory");
    fs::create_dir(&directory).unwrap();
    let arguments = Writer::new().string("qemu").fixed(&[7; 16]);
    let arguments = arguments.string(format!("a\n{FORGED}\r\n\x1b[2J"));
    let path = directory.join("a.log");
    let arguments = arguments.string(path.as_os_str().as_encoded_bytes()).u32(0).into_bytes();
    let (_, mut fds) = daemon.connect_main().call(LOG_PROGRAM, OPEN, &arguments).unwrap();
    let mut pipe = File::from(fds.pop().expect("a pipe"));
    fs::remove_dir_all(directory).unwrap();
    pipe.write_all(b"line\n").unwrap();
    daemon.expect_said(FORGED);
    let said = daemon.stderr();
    assert!(!said.lines().any(|line| line.starts_with(FORGED)), "{said}");
    assert!(!said.contains(['\r', '\x1b']), "{said}");
}

fn refuses_us(subject: Subject, mode: Mode) {
    let daemon = subject.setup().mode(mode).start();
    for mut client in [daemon.connect_main(), daemon.connect_admin()] {
        // The daemon may have closed already.
        client.send(&unknown_procedure()).ok();
        let answer = client.answer();
        assert!(matches!(answer, Answer::Closed), "{answer:?}");
    }
    eventually("the refusals are logged", || {
        daemon.stderr().matches("Disallowing client").count() == 2
    });
}

fn is_served(client: &mut Connection) -> bool {
    client.call(LOG_PROGRAM, 99, &[]).is_err_and(|error| error.code == 39)
}

fn unknown_procedure() -> Vec<u8> {
    Header::call(LOG_PROGRAM, 99).message(&[])
}

/// Counted in calls of the one for each call of the other, not in time: the machine may be slow.
fn a_client_that_never_waits_for_answers_starves_nobody(subject: Subject) {
    const APPEND: i32 = 4;
    const ANSWER_BYTES: usize = 32;
    const CALLS: usize = 100;
    const CALLS_OF_THE_OTHER_MAX: usize = 100;
    let daemon = subject.start();
    let name = daemon.file("a.log");
    let arguments = Writer::new()
        .string("qemu")
        .fixed(&[7; 16])
        .string("guest")
        .string(name.as_os_str().as_encoded_bytes())
        .string("x")
        .u32(0)
        .into_bytes();
    let calls = Header::call(LOG_PROGRAM, APPEND).message(&arguments).repeat(1000);
    let mut hog = UnixStream::connect(daemon.main_socket()).unwrap();
    let mut answers = hog.try_clone().unwrap();
    let answered = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&answered);
    let sending = thread::spawn(move || while hog.write_all(&calls).is_ok() {});
    let reading = thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok(bytes @ 1..) = answers.read(&mut buffer) {
            count.fetch_add(bytes / ANSWER_BYTES, Ordering::Relaxed);
        }
    });
    eventually("the hog is served", || answered.load(Ordering::Relaxed) > 0);
    let mut client = daemon.log_client();
    let before = answered.load(Ordering::Relaxed);
    for _ in 0..CALLS {
        client.append(&daemon.file("b.log"), "y").unwrap();
    }
    let meanwhile = answered.load(Ordering::Relaxed) - before;
    assert!(meanwhile < CALLS * CALLS_OF_THE_OTHER_MAX, "{meanwhile} calls for {CALLS}");
    drop(daemon);
    sending.join().unwrap();
    reading.join().unwrap();
}
