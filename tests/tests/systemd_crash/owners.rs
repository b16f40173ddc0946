//! What is known of owners outlives the daemon as it was known.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use tests::guest::{Guest, owner};
use tests::harness::{Program, eventually};
use tests::load::is_free;
use tests::machine::{
    enable, expect_property, main_socket, service, succeed, systemctl, systemd_version,
};
use tests::wire::LockClient;

use super::guests::image;
use super::kills::kill_by;

tests::on_machine! { Ours:
    owners_in_containers_are_who_they_were,
    a_pid_that_changed_hands_meanwhile_is_anothers,
    a_guest_that_is_being_ended_is_ended_all_the_same,
}

/// Long enough for what must not happen.
const A_WHILE: Duration = Duration::from_millis(300);

/// The first process in a namespace calls itself this.
const FIRST: u32 = 1;

/// The first systemd that keeps what is stored for a service that is stopped.
const PRESERVES_SINCE: u32 = 254;

/// How often a pid is asked for.
const ATTEMPTS_MAX: usize = 200;

/// Another view of processes.
const PROC: &str = "/srv/proc";

/// By whom a lease was taken is known after a kill as before.
fn owners_in_containers_are_who_they_were() {
    enable(Program::Virtlockd);
    let images = [0, 1, 2].map(|number| image(0, number));
    let mut guest = Guest::start_in_a_pid_namespace_at(&main_socket(Program::Virtlockd));
    guest.tell(&format!("connect {}", images[0]));
    guest.tell(&format!("acquire {FIRST} {}", images[1]));
    let mut other = Guest::start_in_a_pid_namespace_at(&main_socket(Program::Virtlockd));
    let nobody = sleep_ended();
    other.tell(&format!("acquire {nobody} {}", images[2]));
    for act in [kill, restart, kill] {
        act();
        thread::sleep(A_WHILE);
        assert!(guest.is_running() && other.is_running());
        assert!(images.iter().all(|image| !is_free(image)));
    }
    guest.kill();
    eventually("a dead guest's leases are free", || is_free(&images[0]) && is_free(&images[1]));
    assert!(!is_free(&images[2]), "nothing is known of its owner");
}

fn a_pid_that_changed_hands_meanwhile_is_anothers() {
    enable(Program::Virtlockd);
    let image = image(0, 0);
    let mut guest = Command::new("sleep").arg("600").spawn().unwrap();
    let mut client = LockClient::connect(&main_socket(Program::Virtlockd)).unwrap();
    client.register(&owner(guest.id()), 0).unwrap();
    client.acquire("", &image, 0).unwrap();
    drop(client);
    // What is known goes from a journal to the next.
    kill();
    let between = |act: &mut dyn FnMut()| {
        let unit = service(Program::Virtlockd);
        if systemd_version() < PRESERVES_SINCE {
            // Nobody is there as long as it cannot be started.
            let program = "/usr/sbin/virtlockd";
            fs::rename(program, "/usr/sbin/away").unwrap();
            kill_quietly();
            act();
            fs::rename("/usr/sbin/away", program).unwrap();
        } else {
            systemctl(&["stop", &unit]);
            act();
            systemctl(&["start", &unit]);
        }
        expect_property(&unit, "ActiveState", "active");
    };
    let mut stranger = None;
    between(&mut || {
        guest.kill().unwrap();
        guest.wait().unwrap();
        stranger = Some(sleep_with_pid(guest.id()));
    });
    let mut stranger = stranger.expect("it was started");
    eventually("the dead one's lease is free", || is_free(&image));
    thread::sleep(A_WHILE);
    assert!(stranger.try_wait().unwrap().is_none());
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

fn a_guest_that_is_being_ended_is_ended_all_the_same() {
    enable(Program::Virtlockd);
    let stop = || drop(systemctl(&["stop", &service(Program::Virtlockd)]));
    for act in [kill, restart, stop] {
        let image = image(0, 0);
        let mut guest = Guest::start_stubborn_at(&main_socket(Program::Virtlockd));
        let mut client = LockClient::connect(&main_socket(Program::Virtlockd)).unwrap();
        client.register(&owner(guest.pid()), 0).unwrap();
        client.acquire("", &image, 0).unwrap();
        drop(client);
        guest.tell("close");
        thread::sleep(A_WHILE);
        act();
        assert_eq!(guest.ending(), Some(Signal::SIGKILL as i32));
        systemctl(&["start", &service(Program::Virtlockd)]);
        eventually("its lease is free", || is_free(&image));
    }
}

fn kill() {
    kill_by(Program::Virtlockd, Signal::SIGKILL);
}

fn kill_quietly() {
    let pid = tests::machine::main_pid(Program::Virtlockd);
    nix::sys::signal::kill(pid, Signal::SIGKILL).unwrap();
}

fn restart() {
    systemctl(&["restart", &service(Program::Virtlockd)]);
}

fn sleep_ended() -> u32 {
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    child.id()
}

fn sleep_with_pid(pid: u32) -> Child {
    // The machine's own is read-only; this setting is of the pid namespace.
    fs::create_dir_all(PROC).unwrap();
    succeed("mount", &["-t", "proc", "proc", PROC]);
    for _ in 0..ATTEMPTS_MAX {
        fs::write(Path::new(PROC).join("sys/kernel/ns_last_pid"), (pid - 1).to_string()).unwrap();
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        if child.id() == pid {
            return child;
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    panic!("no process could be had with the pid {pid}");
}
