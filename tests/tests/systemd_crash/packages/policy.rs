//! The removal of virtlockd's package says that `on_lost_lease` has no effect any more.

use std::fs;
use std::process::Command;

use tests::guest::owner;
use tests::harness::{Program, can_hang};
use tests::machine::{SlowMount, enable, is_libvirts, journal, main_socket, service};
use tests::wire::LockClient;

use super::{be_libvirts_host, package, packaged};

super::with_packages! {
    a_removal_says_that_the_policy_ends,
}

/// File systems of any kind have leases on shared storage where their lease time is given.
const POLICY: &str = "[[rule]]\npath = '/srv/slow/*'\non_lost_lease = 'end'\n\
                      [[mount]]\npath = '/srv/slow'\nlease_s = 60\n";

fn a_removal_says_that_the_policy_ends() {
    if !can_hang("leases on shared storage") {
        return;
    }
    be_libvirts_host();
    let program = Program::Virtlockd;
    fs::write("/etc/libvirt/virtlockd.toml", POLICY).unwrap();
    enable(program);
    packaged("dpkg", &["--install", &package(program)]);
    let shared = SlowMount::mount();
    // A connection that is not its own, as either daemon ends a guest that leaves with leases.
    let mut guest = Command::new("sleep").arg("600").spawn().unwrap();
    let mut client = LockClient::connect(&main_socket(program)).unwrap();
    client.register(&owner(guest.id()), 0).unwrap();
    let local = "/srv/local.img".to_owned();
    fs::write(&local, "").unwrap();
    for image in [local, shared.file("first.img"), shared.file("second.img")] {
        client.acquire("", &image, 0).unwrap();
    }
    let said = packaged("dpkg", &["--remove", program.name()]);
    let ended = "virtlockd: on_lost_lease = \"end\" of 2 leases on shared storage has ended";
    assert!(said.contains(ended) && is_libvirts(program), "{said}");
    let log = journal(&service(program));
    assert!(log.contains("of 2 leases on shared storage ends with it"), "{log}");
    guest.kill().and_then(|()| guest.wait()).unwrap();
}
