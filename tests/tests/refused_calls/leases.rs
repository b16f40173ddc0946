//! A lease's life.

use std::fs;
use std::process::{Child, Command};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use tests::guest::{Guest, owner};
use tests::harness::{Daemon, Host, Program, Subject, Whose, eventually};
use tests::load::is_free;
use tests::supervisor::Service;
use tests::wire::{ACQUIRE_SHARED, LockClient};

use super::cases::{Refused, alone, beside_others};
use super::logs::expect_no_failure;

/// Somebody has it.
const LOCKED: i32 = 87;

tests::ours! { Virtlockd: without_permission, on_an_older_kernel }

fn without_permission(_: Subject) {
    Refused::each(Program::Virtlockd, Errno::EPERM).for_each(|refused| live(&refused));
}

fn on_an_older_kernel(_: Subject) {
    Refused::each(Program::Virtlockd, Errno::ENOSYS).for_each(|refused| live(&refused));
}

fn live(refused: &Refused) {
    let turn = beside_others();
    let Some(mut daemon) = refused.start(refused.setup()) else { return };
    exclude(&daemon);
    end_guests(&daemon);
    expect_watched(&daemon, refused);
    if refused.lacks_pidfds() {
        end_a_guest_all_the_same(&mut daemon);
    }
    upgrade(&mut daemon);
    let exit = daemon.stop();
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    expect_no_failure(&exit.stderr);
    drop(turn);
    outlive(refused);
}

/// Calls about leases.
fn exclude(daemon: &Daemon) {
    let (one, two) = (Idle::start(), Idle::start());
    let image = image(daemon, "image");
    let (mut first, mut second) = (client(daemon, &one), client(daemon, &two));
    first.acquire("", &image, 0).unwrap();
    assert!(!is_free(&image));
    assert_eq!(second.acquire("", &image, 0).unwrap_err().code, LOCKED);
    first.release("", &image, 0).unwrap();
    assert!(is_free(&image));
    second.acquire("", &image, ACQUIRE_SHARED).unwrap();
    first.acquire("", &image, ACQUIRE_SHARED).unwrap();
    second.release("", &image, 0).unwrap();
    assert!(!is_free(&image));
    first.release("", &image, 0).unwrap();
    assert!(is_free(&image));
    first.create("", &image, 0).unwrap();
    first.delete("", &image, 0).unwrap();
}

/// One that dies, and one that leaves its lease behind.
fn end_guests(daemon: &Daemon) {
    let image = image(daemon, "of a guest");
    let idle = Idle::start();
    client(daemon, &idle).acquire("", &image, 0).unwrap();
    drop(idle);
    eventually("the dead one's lease is free", || is_free(&image));
    let mut guest = Guest::start(daemon);
    let mut manager = daemon.lock_client();
    manager.register(&owner(guest.pid()), 0).unwrap();
    manager.acquire("", &image, 0).unwrap();
    guest.tell("leave");
    assert_eq!(guest.ending(), Some(Signal::SIGTERM as i32));
    eventually("its lease is free", || is_free(&image));
}

/// Whoever the process of a guest is known by, its end is noticed where a pidfd can be had.
fn expect_watched(daemon: &Daemon, refused: &Refused) {
    let said = daemon.stderr();
    assert!(refused.lacks("pidfd_open") || !said.contains("Cannot monitor"), "{said}");
}

/// One that has left its lease behind and does not want to end, with an upgrade meanwhile.
fn end_a_guest_all_the_same(daemon: &mut Daemon) {
    let image = image(daemon, "of a stubborn guest");
    let mut guest = Guest::start_stubborn(daemon);
    let mut manager = daemon.lock_client();
    manager.register(&owner(guest.pid()), 0).unwrap();
    manager.acquire("", &image, 0).unwrap();
    guest.tell("close");
    daemon.change_to(Whose::Ours);
    assert_eq!(guest.ending(), Some(Signal::SIGKILL as i32));
    eventually("its lease is free", || is_free(&image));
}

fn upgrade(daemon: &mut Daemon) {
    let theirs = Subject { whose: Whose::Theirs, program: Program::Virtlockd };
    let hops: &[_] = match theirs.executable() {
        Ok(_) => &[Whose::Ours, Whose::Theirs, Whose::Ours],
        Err(_) => &[Whose::Ours],
    };
    let idle = Idle::start();
    let image = image(daemon, "kept");
    let mut manager = client(daemon, &idle);
    manager.acquire("", &image, 0).unwrap();
    for whose in hops {
        daemon.change_to(*whose);
        assert!(!is_free(&image), "it is free after a change to {whose:?}");
        let error = client(daemon, &idle).acquire("", &image, 0).unwrap_err();
        assert_eq!(error.code, LOCKED);
    }
    manager.release("", &image, 0).unwrap();
    assert!(is_free(&image));
}

/// A process that is killed, and the next one that gets its fds from the store. A POSIX lock ends with
/// its process, as in libvirt.
fn outlive(refused: &Refused) {
    let idle = Idle::start();
    let _turn = alone();
    let host = Host::new();
    let mut service = Service::start_from(refused.origin(), refused.program, &host, 100);
    let image = image(service.daemon(), "image");
    let acquire = |service: &Service| client(service.daemon(), &idle).acquire("", &image, 0);
    acquire(&service).unwrap();
    service.restart(Signal::SIGKILL);
    assert_eq!(is_free(&image), refused.lacks("fcntl:F_OFD_SETLK"));
    if is_free(&image) {
        acquire(&service).unwrap();
    }
    client(service.daemon(), &idle).release("", &image, 0).unwrap();
    assert!(is_free(&image));
    service.restart(Signal::SIGTERM);
    acquire(&service).unwrap();
    expect_no_failure(&service.daemon().stderr());
}

fn image(daemon: &Daemon, name: &str) -> String {
    let path = daemon.file(name);
    fs::write(&path, "").unwrap();
    path.into_os_string().into_string().unwrap()
}

/// A connection registered for a process.
fn client(daemon: &Daemon, process: &Idle) -> LockClient {
    let mut client = daemon.lock_client();
    client.register(&owner(process.0.id()), 0).unwrap();
    client
}

/// A process that does nothing; it is killed when this is dropped.
struct Idle(Child);

impl Idle {
    fn start() -> Self {
        Self(Command::new("sleep").arg("600").spawn().unwrap())
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        // It may have ended.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
