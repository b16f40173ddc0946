//! Single things that are in a bad state at an upgrade: each costs at most itself, and nothing when
//! our daemon follows on ours. libvirt's daemons end at most of them.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tests::harness::{
    Daemon, Route, Subject, Whose, block, eventually, eventually_within, expect_file, guest_writes,
    inode, unblock,
};
use tests::wire::{Admin, Answer, Connection, Header, OpenLog, Position};

tests::ours! { Virtlogd:
    a_log_whose_directory_has_gone_goes_on_when_it_is_back,
    a_loss_over_several_upgrades_is_accounted_for,
    a_log_whose_name_is_no_text_goes_on,
    a_client_whose_process_is_dead_is_served,
    a_limit_of_clients_stays_with_the_daemon,
    settings_of_an_administrator_stay,
}

tests::mixed! { Virtlogd:
    libvirts_daemon_gets_what_it_can_take,
    a_silent_log_has_its_position,
    a_client_whose_process_is_dead_does_not_harm_libvirts_daemon,
}

mod virtlockd {
    use super::*;
    tests::ours! { Virtlockd:
        a_client_whose_process_is_dead_is_served,
        settings_of_an_administrator_stay,
    }
    tests::mixed! { Virtlockd: a_client_whose_process_is_dead_does_not_harm_libvirts_daemon }
}

/// Where the process of [`connect_and_die`] finds the daemon.
const SOCKET: &str = "VIRT_TESTS_SOCKET";

fn a_log_whose_directory_has_gone_goes_on_when_it_is_back(subject: Subject) {
    let mut daemon = start(subject);
    let (log, path) = open_in_a_directory(&daemon);
    let (other, other_path) = open(&daemon, &daemon.file("other.log"));
    hide(&path);
    guest_writes(&log.pipe, *b"kept in the pipe\n");
    for _ in 0..3 {
        daemon.change_to(Whose::Ours);
        guest_writes(&log.pipe, *b"this too\n");
    }
    guest_writes(&other.pipe, *b"as usual\n");
    expect_file(&other_path, "as usual\n");
    show(&path);
    expect_file(&path, "kept in the pipe\nthis too\nthis too\nthis too\n");
}

fn a_silent_log_has_its_position(route: Route) {
    let mut daemon = start(route.start());
    let (log, path) = open(&daemon, &daemon.file("a.log"));
    guest_writes(&log.pipe, *b"text\n");
    expect_file(&path, "text\n");
    for whose in route.once().chain(route.once()) {
        daemon.change_to(whose);
        let position = Position { inode: inode(&path), offset: 5 };
        assert_eq!(daemon.log_client().position(&path), Ok(position));
    }
}

fn a_loss_over_several_upgrades_is_accounted_for(subject: Subject) {
    let mut daemon = subject.setup().config("max_size = 0").replaceable().start();
    let (log, path) = open(&daemon, &daemon.file("a.log"));
    block(&path);
    let mut sent = 0;
    for _ in 0..3 {
        let load = "0123456789abcde\n".repeat(50_000);
        sent += load.len();
        guest_writes(&log.pipe, load);
        daemon.change_to(Whose::Ours);
    }
    unblock(&path);
    drop(log);
    // Until the log has been seen again there is an error of another kind.
    let closed = || daemon.log_client().position(&path).is_err_and(|error| error.code == 1);
    eventually("the log is closed", closed);
    let text = fs::read_to_string(&path).unwrap();
    let told: Vec<_> = text.lines().filter_map(lost_bytes).collect();
    let stored = text.lines().filter(|line| lost_bytes(line).is_none());
    let stored: usize = stored.map(|line| line.len() + 1).sum();
    let lost: usize = told.iter().sum();
    assert!(lost > 0, "{stored} bytes stored and none lost of {sent}");
    // A line that was cut is ended before the word about it.
    let expected = sent..=sent + told.len();
    assert!(expected.contains(&(stored + lost)), "{stored} stored and {told:?} lost of {sent}");
}

/// How many bytes a line about a loss speaks of.
fn lost_bytes(line: &str) -> Option<usize> {
    let (before, _) = line.split_once(" bytes of this log were lost")?;
    before.rsplit(' ').next()?.parse().ok()
}

fn a_log_whose_name_is_no_text_goes_on(subject: Subject) {
    let mut daemon = start(subject);
    let (log, path) = open(&daemon, &without_text(&daemon));
    daemon.change_to(Whose::Ours);
    guest_writes(&log.pipe, *b"after one\n");
    daemon.change_to(Whose::Ours);
    guest_writes(&log.pipe, *b"after two\n");
    expect_file(&path, "after one\nafter two\n");
    assert_eq!(daemon.log_client().open(&path).unwrap_err().int1, 16, "it is open");
}

/// What it cannot take costs nobody else anything, and nobody waits because of it.
fn libvirts_daemon_gets_what_it_can_take(route: Route) {
    let mut daemon = start(route.start().other());
    let (gone, gone_path) = open_in_a_directory(&daemon);
    let (nameless, nameless_path) = open(&daemon, &without_text(&daemon));
    let (good, good_path) = open(&daemon, &daemon.file("good.log"));
    guest_writes(&nameless.pipe, *b"before\n");
    hide(&gone_path);
    daemon.change_to(Whose::Theirs);
    expect_file(&nameless_path, "before\n");
    guest_writes(&good.pipe, *b"as usual\n");
    expect_file(&good_path, "as usual\n");
    for pipe in [&gone.pipe, &nameless.pipe] {
        expect_no_wait(pipe);
    }
    for reason in ["its directory is out of reach", "its path is not UTF-8"] {
        daemon.expect_said(&format!("as libvirt's daemon could not open it: {reason}"));
    }
    assert!(!daemon.stderr().contains("good.log"), "{}", daemon.stderr());
    daemon.change_to(Whose::Ours);
    guest_writes(&good.pipe, *b"and again\n");
    expect_file(&good_path, "as usual\nand again\n");
}

fn a_client_whose_process_is_dead_is_served(subject: Subject) {
    let mut daemon = start(subject);
    let mut orphan = orphan(&daemon);
    for _ in 0..2 {
        daemon.change_to(Whose::Ours);
        let error = orphan.call(subject.program.number(), 99, &[]).unwrap_err();
        assert_eq!(error.code, 39);
    }
}

fn a_client_whose_process_is_dead_does_not_harm_libvirts_daemon(route: Route) {
    let mut daemon = start(route.start().other());
    let number = route.program.number();
    let (orphan, mut other) = (orphan(&daemon), daemon.connect_main());
    other.call(number, 99, &[]).unwrap_err();
    daemon.change_to(Whose::Theirs);
    assert_eq!(other.call(number, 99, &[]).unwrap_err().code, 39);
    drop(orphan);
    daemon.change_to(Whose::Ours);
    assert_eq!(daemon.connect_main().call(number, 99, &[]).unwrap_err().code, 39);
}

/// The configuration counts for limits only when a daemon begins. libvirt's daemon lets one client
/// too many in after each upgrade.
fn a_limit_of_clients_stays_with_the_daemon(subject: Subject) {
    let mut daemon = subject.setup().config("max_clients = 2").replaceable().start();
    let number = subject.program.number();
    let mut clients = [(); 2].map(|()| daemon.connect_main());
    fs::write(daemon.host().path("etc/libvirt/virtlogd.conf"), "max_clients = 50").unwrap();
    for _ in 0..2 {
        clients.iter_mut().for_each(|client| drop(client.call(number, 99, &[]).unwrap_err()));
        daemon.change_to(Whose::Ours);
        let mut waiting = daemon.connect_main();
        waiting.send(&Header::call(number, 99).message(&[])).unwrap();
        let answer = waiting.answer_within(Duration::from_millis(200));
        assert!(matches!(answer, Answer::Silence), "{answer:?}");
    }
}

/// libvirt's daemon forgets the last two.
fn settings_of_an_administrator_stay(subject: Subject) {
    let mut daemon = start(subject);
    let log = daemon.host().path("log/libvirt/admin.log");
    let mut admin = Admin::connect(&daemon);
    admin.set_client_limit(subject.program.name(), 77);
    admin.set_outputs("1:file:/var/log/libvirt/admin.log");
    admin.set_filters("1:rpc");
    let filters = admin.filters();
    for _ in 0..2 {
        daemon.change_to(Whose::Ours);
        let before = fs::read_to_string(&log).unwrap().len();
        daemon.connect_main().call(subject.program.number(), 99, &[]).unwrap_err();
        eventually("the log grows", || fs::read_to_string(&log).unwrap().len() > before);
        assert_eq!(admin.client_limit(subject.program.name()), 77);
        assert_eq!(admin.outputs(), "1:file:/var/log/libvirt/admin.log");
        assert_eq!(admin.filters(), filters);
    }
    admin.set_timeout(1);
    daemon.change_to(Whose::Ours);
    std::thread::sleep(Duration::from_millis(1500));
    assert!(daemon.is_running(), "it ended although a client was there");
    drop(admin);
    assert_eq!(daemon.wait().code, Some(0));
}

fn start(subject: Subject) -> Daemon {
    subject.setup().replaceable().start()
}

fn open(daemon: &Daemon, path: &Path) -> (OpenLog, PathBuf) {
    (daemon.log_client().open(path).unwrap(), path.to_path_buf())
}

fn open_in_a_directory(daemon: &Daemon) -> (OpenLog, PathBuf) {
    fs::create_dir(daemon.file("gone")).unwrap();
    open(daemon, &daemon.file("gone/a.log"))
}

/// Takes the log's directory away.
fn hide(path: &Path) {
    fs::rename(path.parent().unwrap(), hidden(path)).unwrap();
}

fn show(path: &Path) {
    fs::rename(hidden(path), path.parent().unwrap()).unwrap();
}

fn hidden(path: &Path) -> PathBuf {
    path.parent().unwrap().with_extension("hidden")
}

/// A path that is not UTF-8.
fn without_text(daemon: &Daemon) -> PathBuf {
    let mut name = daemon.file("name-").as_os_str().as_bytes().to_vec();
    name.extend(b"\xff\xfe.log");
    PathBuf::from(OsString::from_vec(name))
}

/// Whether the guest can write does not matter, only that it does not wait for ever.
#[track_caller]
fn expect_no_wait(pipe: &File) {
    let mut pipe = pipe.try_clone().unwrap();
    let guest = std::thread::spawn(move || pipe.write_all(&[b'x'; 256 << 10]).is_ok());
    let ended = eventually_within(Duration::from_secs(10), || guest.is_finished());
    assert!(ended, "a guest waits");
}

/// A connection whose process has ended, as of a guest whose child still has its socket.
fn orphan(daemon: &Daemon) -> Connection {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "hard_cases::connect_and_die", "--ignored", "--nocapture"])
        .env(SOCKET, daemon.main_socket())
        .stdin(std::os::fd::OwnedFd::from(theirs))
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let (_, mut fds) = Connection::from(ours).byte_with_fds().unwrap();
    assert!(process.wait().unwrap().success());
    let socket = UnixStream::from(fds.remove(0));
    let mut connection = Connection::from(socket);
    let error = connection.call(daemon.subject().program.number(), 99, &[]).unwrap_err();
    assert_eq!(error.code, 39);
    connection
}

#[test]
#[ignore = "not a test: other tests run it as a process of its own"]
fn connect_and_die() {
    let Some(socket) = std::env::var_os(SOCKET) else {
        return;
    };
    let connection = UnixStream::connect(socket).unwrap();
    let stdin = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let mut other = Connection::from(UnixStream::from(stdin));
    other.send_beside(&[0], &[connection.as_fd()]).unwrap();
}
