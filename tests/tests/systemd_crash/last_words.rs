//! What happened while a daemon was down is made up for.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use tests::guest::{Guest, owner};
use tests::harness::{Program, block, eventually, expect_file, guest_writes, unblock};
use tests::load::is_free;
use tests::machine::{
    drop_in, enable, expect_property, main_pid, main_socket, property, service, systemctl,
};
use tests::wire::{LockClient, LogClient};

use super::guests::{holds_no_log, image, settled_store};
use super::kills::{kill_by, wait_for_rest, wait_until_restarted};

tests::on_machine! { Ours:
    last_words_are_stored,
    more_than_a_pipe_holds_is_stored,
    a_guest_that_is_started_again_at_once_is_kept,
    what_could_not_be_stored_yet_is_kept,
    what_was_lost_is_accounted_for,
    leases_of_the_dead_are_free,
    a_lease_of_a_dead_guest_without_a_connection_is_free,
}

/// Long enough to do something while nobody is there.
const LATE: &str = "[Service]\nRestartSec=3s\n";

/// Time for a daemon to take note of what has come.
const PAUSE: Duration = Duration::from_millis(300);

/// A pipe's, unless it was made larger.
const PIPE_BYTES: usize = 65_536;

fn last_words_are_stored() {
    start(Program::Virtlogd);
    let mut client = LogClient::connect(&main_socket(Program::Virtlogd)).unwrap();
    let idle = settled_store(Program::Virtlogd);
    let mut open = |path: &str| {
        let mut pipe = client.open(Path::new(path)).unwrap().pipe;
        pipe.write_all(b"before\n").unwrap();
        pipe
    };
    let (silent, mut dead, mut living) =
        (open("/srv/silent.log"), open("/srv/dead.log"), open("/srv/living.log"));
    while_down(Program::Virtlogd, || {
        drop(silent);
        dead.write_all(b"last words\nwithout an end").unwrap();
        drop(dead);
        living.write_all(b"meanwhile\n").unwrap();
    });
    living.write_all(b"afterwards\n").unwrap();
    expect_file(Path::new("/srv/silent.log"), "before\n");
    expect_file(Path::new("/srv/dead.log"), "before\nlast words\nwithout an end");
    expect_file(Path::new("/srv/living.log"), "before\nmeanwhile\nafterwards\n");
    drop(living);
    eventually("no log stays in the store", || holds_no_log(idle));
    let mut client = LogClient::connect(&main_socket(Program::Virtlogd)).unwrap();
    client.open(Path::new("/srv/dead.log")).expect("it is not open any more");
}

/// The end of a log's first guest may be noticed only when there is a second.
fn a_guest_that_is_started_again_at_once_is_kept() {
    const RESTARTS: usize = 20;
    start(Program::Virtlogd);
    let path = Path::new("/srv/guest.log");
    let mut client = LogClient::connect(&main_socket(Program::Virtlogd)).unwrap();
    let mut pipe = client.open(path).unwrap().pipe;
    for number in 0..RESTARTS {
        pipe.write_all(format!("{number}\n").as_bytes()).unwrap();
        drop(pipe);
        pipe = client.open(path).unwrap().pipe;
    }
    kill_by(Program::Virtlogd, Signal::SIGKILL);
    guest_writes(&pipe, "it goes on\n");
    let numbers: String = (0..RESTARTS).map(|number| format!("{number}\n")).collect();
    expect_file(path, numbers + "it goes on\n");
}

/// A guest that has more to say waits until the daemon is back, but no longer.
fn more_than_a_pipe_holds_is_stored() {
    start(Program::Virtlogd);
    let path = Path::new("/srv/guest.log");
    let mut client = LogClient::connect(&main_socket(Program::Virtlogd)).unwrap();
    let mut pipe = client.open(path).unwrap().pipe;
    let text = "0123456789abcde\n".repeat(10 * PIPE_BYTES / 16);
    let written = text.clone();
    let mut guest = None;
    while_down(Program::Virtlogd, || {
        guest = Some(std::thread::spawn(move || pipe.write_all(written.as_bytes())));
    });
    let guest = guest.expect("it has begun");
    eventually("the guest need not wait", || guest.is_finished());
    guest.join().unwrap().expect("the guest gets no error");
    expect_file(path, text);
}

/// Bytes that wait in pipes because the log cannot be opened: more than the guest's holds. Its
/// last ones stay in its own pipe, the others are in one of the daemon's.
fn what_could_not_be_stored_yet_is_kept() {
    const LOADS_KIB: [usize; 3] = [28, 28, 12];
    enable(Program::Virtlogd);
    let (pipe, path) = open();
    block(&path);
    let mut sent = String::new();
    for (number, kib) in LOADS_KIB.into_iter().enumerate() {
        let load = format!("{number:015}\n").repeat(kib * 1024 / 16);
        guest_writes(&pipe, load.clone());
        sent.push_str(&load);
        std::thread::sleep(PAUSE);
        kill_by(Program::Virtlogd, Signal::SIGKILL);
    }
    assert!(sent.len() > PIPE_BYTES);
    unblock(&path);
    expect_file(&path, sent);
}

/// As bytes are dropped that no pipe has room for, so is the guest's time not.
fn what_was_lost_is_accounted_for() {
    fs::write("/etc/libvirt/virtlogd.conf", "max_size = 0\n").unwrap();
    enable(Program::Virtlogd);
    let (pipe, path) = open();
    block(&path);
    let mut sent = 0;
    for _ in 0..3 {
        let load = "0123456789abcde\n".repeat(50_000);
        sent += load.len();
        guest_writes(&pipe, load);
        std::thread::sleep(PAUSE);
        kill_by(Program::Virtlogd, Signal::SIGKILL);
    }
    unblock(&path);
    drop(pipe);
    eventually("the log is closed", || {
        let mut client = LogClient::connect(&main_socket(Program::Virtlogd)).unwrap();
        client.position(&path).is_err_and(|error| error.code == 1)
    });
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

fn leases_of_the_dead_are_free() {
    start(Program::Virtlockd);
    let socket = main_socket(Program::Virtlockd);
    let images: Vec<_> = (0..4).map(|number| image(0, number)).collect();
    let mut dying = Guest::start_with_leases(&socket, &images[..2]);
    let mut living = Guest::start_with_leases(&socket, &images[2..]);
    while_down(Program::Virtlockd, || {
        dying.kill();
        dying.ending();
        assert!(images[..2].iter().all(|image| !is_free(image)), "the store holds them");
    });
    eventually("a dead guest's leases are free", || images[..2].iter().all(is_free));
    assert!(images[2..].iter().all(|image| !is_free(image)));
    living.tell("call");
    let _next = Guest::start_with_leases(&socket, &images[..2]);
}

/// Its end is noticed by its pid alone.
fn a_lease_of_a_dead_guest_without_a_connection_is_free() {
    start(Program::Virtlockd);
    let images = [image(0, 0), image(0, 1)];
    let mut guests = [(); 2].map(|()| Command::new("sleep").arg("600").spawn().unwrap());
    for (image, guest) in images.iter().zip(&guests) {
        let mut client = LockClient::connect(&main_socket(Program::Virtlockd)).unwrap();
        client.register(&owner(guest.id()), 0).unwrap();
        client.acquire("", image, 0).unwrap();
    }
    let [dying, living] = &mut guests;
    while_down(Program::Virtlockd, || end(dying));
    eventually("the dead guest's lease is free", || is_free(&images[0]));
    assert!(!is_free(&images[1]));
    end(living);
    eventually("the other lease is free", || is_free(&images[1]));
}

fn start(program: Program) {
    enable(program);
    drop_in(&service(program), LATE);
    systemctl(&["start", &service(program)]);
}

/// Kills the daemon, does something and waits until the next one serves.
fn while_down(program: Program, act: impl FnOnce()) {
    let before = main_pid(program);
    wait_for_rest(before);
    kill(before, Signal::SIGKILL).unwrap();
    expect_property(&service(program), "SubState", "auto-restart");
    act();
    assert_eq!(property(&service(program), "SubState"), "auto-restart", "that took too long");
    wait_until_restarted(program, before);
}

fn end(process: &mut Child) {
    process.kill().and_then(|()| process.wait()).unwrap();
}

fn open() -> (File, PathBuf) {
    let path = PathBuf::from("/srv/guest.log");
    let mut client = LogClient::connect(&main_socket(Program::Virtlogd)).unwrap();
    (client.open(&path).unwrap().pipe, path)
}
