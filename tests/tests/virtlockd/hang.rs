//! virtlockd while a file system hangs. libvirt's daemon hangs with it.

use std::fs;
use std::process::Command;
use std::thread;

use nix::sys::signal::Signal;
use tests::harness::{Daemon, SlowFiles, Subject, can_hang, eventually};

use super::{NOBODY, SOMEBODY_ELSE, client_of, image, is_leased, locked, text};

tests::ours! { Virtlockd:
    an_image_that_hangs_costs_only_its_client,
    a_hung_release_keeps_the_order_of_its_resource,
    an_owner_may_die_while_its_call_hangs,
    stopping_does_not_wait_for_ever,
}

const SERVER: &str = env!("CARGO_BIN_EXE_stoppable_fs");

fn start(subject: Subject) -> Option<(Daemon, SlowFiles)> {
    if !can_hang("a file system that hangs") {
        return None;
    }
    let daemon = subject.setup().with_slow_files(SERVER).start();
    let slow = SlowFiles::of(&daemon.host());
    Some((daemon, slow))
}

/// An image on the file system that can hang.
fn slow_image(daemon: &Daemon, slow: &SlowFiles, name: &str) -> String {
    fs::write(slow.backing(name), "").expect("making a file");
    text(&daemon.file("slow").join(name))
}

fn expect_others_served(daemon: &Daemon) {
    let image = image(daemon, "image");
    let mut client = client_of(daemon, NOBODY);
    for _ in 0..10 {
        client.acquire("", &image, 0).unwrap();
        assert!(is_leased(&image));
        client.release("", &image, 0).unwrap();
    }
    drop(daemon.connect_admin());
}

fn an_image_that_hangs_costs_only_its_client(subject: Subject) {
    let Some((daemon, slow)) = start(subject) else { return };
    let image = slow_image(&daemon, &slow, "a");
    let other = slow_image(&daemon, &slow, "b");
    slow.stop();
    let (mut first, mut second) = (client_of(&daemon, NOBODY), client_of(&daemon, SOMEBODY_ELSE));
    let acquiring = thread::spawn(move || first.acquire("", &image, 0).map(|()| first));
    let waiting = thread::spawn(move || second.acquire("", &other, 0).map(|()| second));
    expect_others_served(&daemon);
    assert!(!acquiring.is_finished() && !waiting.is_finished());
    slow.go_on();
    drop((acquiring.join().unwrap().unwrap(), waiting.join().unwrap().unwrap()));
}

fn a_hung_release_keeps_the_order_of_its_resource(subject: Subject) {
    let Some((daemon, slow)) = start(subject) else { return };
    let image = slow_image(&daemon, &slow, "a");
    let mut first = client_of(&daemon, NOBODY);
    first.acquire("", &image, 0).unwrap();
    slow.stop();
    let name = image.clone();
    let releasing = thread::spawn(move || first.release("", &name, 0).map(|()| first));
    expect_others_served(&daemon);
    let mut second = client_of(&daemon, SOMEBODY_ELSE);
    let name = image.clone();
    let acquiring = thread::spawn(move || second.acquire("", &name, 0).map(|()| second));
    expect_others_served(&daemon);
    slow.go_on();
    let mut first = releasing.join().unwrap().unwrap();
    match acquiring.join().unwrap() {
        // It came first, as far as the daemon could see.
        Err(error) => assert_eq!(error, locked(&image)),
        Ok(_second) => assert_eq!(first.acquire("", &image, 0), Err(locked(&image))),
    }
}

fn an_owner_may_die_while_its_call_hangs(subject: Subject) {
    let Some((daemon, slow)) = start(subject) else { return };
    let image = slow_image(&daemon, &slow, "a");
    let mut guest = Command::new("sleep").arg("60").spawn().unwrap();
    let mut first = client_of(&daemon, guest.id());
    slow.stop();
    let name = image.clone();
    let acquiring = thread::spawn(move || first.acquire("", &name, 0));
    expect_others_served(&daemon);
    guest.kill().unwrap();
    guest.wait().unwrap();
    expect_others_served(&daemon);
    slow.go_on();
    acquiring.join().unwrap().unwrap();
    let mut second = client_of(&daemon, NOBODY);
    eventually("the lease is free", || second.acquire("", &image, 0).is_ok());
}

fn stopping_does_not_wait_for_ever(subject: Subject) {
    let Some((mut daemon, slow)) = start(subject) else { return };
    let image = slow_image(&daemon, &slow, "a");
    slow.stop();
    let mut client = client_of(&daemon, NOBODY);
    let name = image.clone();
    let threads = || daemon.status_field("Threads").parse::<usize>().expect("a number");
    let before = threads();
    let acquiring = thread::spawn(move || client.acquire("", &name, 0));
    eventually("the call hangs, and another thread goes on", || threads() > before);
    expect_others_served(&daemon);
    let (pid_file, socket) = (daemon.pid_file(), daemon.main_socket());
    daemon.signal(Signal::SIGTERM);
    eventually("the pid file is gone", || !pid_file.exists());
    assert!(!socket.exists());
    let next = subject.setup_on(&daemon.host()).start();
    expect_others_served(&next);
    slow.go_on();
    let exit = daemon.wait();
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    assert!(exit.stderr.contains(&image), "{}", exit.stderr);
    drop(acquiring.join());
}
