//! What a client waits for when virtlockd is killed: its connection outlives the daemon, so it would
//! wait for ever.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::guest::owner;
use tests::harness::{Program, can_hang, eventually};
use tests::load::is_free;
use tests::machine::{SlowMount, enable, main_pid, main_socket};
use tests::wire::{Answer, LockClient};

use super::guests::{image, settled_store};
use super::kills::{kill_by, wait_until_restarted};

tests::on_machine! { Ours:
    a_call_in_flight_is_answered_by_the_next,
    half_a_message_ends_the_connection,
    an_answered_client_goes_on,
}

/// What the next process says to it.
const IN_FLIGHT: &str = "this daemon has crashed before it could answer";

fn a_call_in_flight_is_answered_by_the_next() {
    if !can_hang("a call in flight at a crash") {
        return;
    }
    enable(Program::Virtlockd);
    let slow = SlowMount::mount();
    let mut client = own_client();
    let path = slow.file("disk.img");
    slow.stop();
    let name = path.clone();
    let call = std::thread::spawn(move || (client.acquire("", &name, 0), client));
    let daemon = main_pid(Program::Virtlockd);
    eventually("a thread of the daemon hangs", || hangs_in_fuse(daemon));
    kill(daemon, Signal::SIGKILL).unwrap();
    // Only now can it die.
    slow.go_on();
    wait_until_restarted(Program::Virtlockd, daemon);
    let (answer, mut client) = call.join().unwrap();
    let error = answer.unwrap_err();
    assert!(error.message.as_ref().is_some_and(|text| text.contains(IN_FLIGHT)), "{error:?}");
    client.acquire("", &path, 0).expect("the connection goes on");
    assert!(!is_free(&path));
    kill_by(Program::Virtlockd, Signal::SIGKILL);
    client.release("", &path, 0).expect("and again");
    assert!(is_free(&path));
}

fn half_a_message_ends_the_connection() {
    enable(Program::Virtlockd);
    let mut client = own_client();
    client.connection().send(&[0, 0, 0, 80, 1, 2, 3]).unwrap();
    settled_store(Program::Virtlockd);
    kill_by(Program::Virtlockd, Signal::SIGKILL);
    assert!(matches!(client.connection().answer(), Answer::Closed));
}

fn an_answered_client_goes_on() {
    enable(Program::Virtlockd);
    let (mut client, image) = (own_client(), image(0, 0));
    for _ in 0..3 {
        kill_once_noted();
        client.acquire("", &image, 0).unwrap();
        kill_once_noted();
        assert!(!is_free(&image));
        client.release("", &image, 0).unwrap();
        assert!(is_free(&image));
    }
}

/// Not in the instant between an answer and the note of it: nobody could tell the two from no
/// answer, and the next process gives one more.
fn kill_once_noted() {
    settled_store(Program::Virtlockd);
    kill_by(Program::Virtlockd, Signal::SIGKILL);
}

/// A client that is the owner itself, whose connection is kept.
fn own_client() -> LockClient {
    let mut client = LockClient::connect(&main_socket(Program::Virtlockd)).unwrap();
    client.register(&owner(std::process::id()), 0).unwrap();
    client
}

fn hangs_in_fuse(daemon: Pid) -> bool {
    let tasks = fs::read_dir(format!("/proc/{daemon}/task")).unwrap();
    let wchan = |task: fs::DirEntry| fs::read_to_string(task.path().join("wchan"));
    tasks
        .flatten()
        .filter_map(|task| wchan(task).ok())
        .any(|wchan| wchan.contains("request_wait_answer"))
}
