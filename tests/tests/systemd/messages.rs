//! What the daemons say, as a real journal has it: by guest and path, with explanations.

use std::fs;
use std::path::Path;

use tests::harness::{Program, eventually};
use tests::machine::{enable, main_socket, succeed};
use tests::wire::{LockClient, LogClient, Owner};

tests::on_machine! { Ours:
    messages_are_found_by_guest_and_path,
    audited_leases_are_found_and_explained,
}

const CATALOG: &str = include_str!("../../../systemd/virtlockd.catalog");

fn messages_are_found_by_guest_and_path() {
    enable(Program::Virtlogd);
    let mut logs = LogClient::connect(&main_socket(Program::Virtlogd)).unwrap();
    let path = Path::new("/srv/a guest.log");
    let _open = logs.open(path).unwrap();
    logs.open(path).map(drop).unwrap_err();
    let refused = "Refused to open log /srv/a guest.log again: guest 'guest' \
        (uuid abababab-abab-abab-abab-abababababab) has it open\n";
    let uuid = "LIBVIRT_UUID=abababab-abab-abab-abab-abababababab";
    eventually("it is found", || {
        found(&[], &["LIBVIRT_DOMAIN=guest", uuid, "LIBVIRT_LOG_PATH=/srv/a guest.log"]) == refused
    });
    assert_eq!(found(&["-u", "virtlogd"], &["LIBVIRT_DOMAIN=other"]), "");
}

fn audited_leases_are_found_and_explained() {
    fs::write("/usr/lib/systemd/catalog/virtlockd.catalog", CATALOG).unwrap();
    succeed("journalctl", &["--update-catalog"]);
    let settings = "log_filters = \"2:locking.audit\"\nlog_outputs = \"2:journald\"\n";
    fs::write("/etc/libvirt/virtlockd.conf", settings).unwrap();
    enable(Program::Virtlockd);
    fs::write("/srv/disk.img", "").unwrap();
    let mut clients = ["web1", "web2"].map(|name| {
        let mut client = LockClient::connect(&main_socket(Program::Virtlockd)).unwrap();
        let owner = Owner { name: name.to_owned(), ..Owner::of(1) };
        client.register(&owner, 0).unwrap();
        client
    });
    clients[0].acquire("", "/srv/disk.img", 0).unwrap();
    clients[1].acquire("", "/srv/disk.img", 0).unwrap_err();
    let taken = "MESSAGE_ID=12eadfa90869460ca810dd3d3d35e3a5";
    eventually("it is found", || {
        found(&[], &[taken, "LIBVIRT_LEASE_PATH=/srv/disk.img"]).contains(" by guest 'web1' ")
    });
    let explained = || succeed("journalctl", &["-x", "-o", "short", "LIBVIRT_DOMAIN=web2"]);
    eventually("the refusal is explained", || explained().contains("\"virtlockctl why\""));
    let explained = explained();
    for expected in [
        "-- Subject: Lease refused: /srv/disk.img\n",
        "-- Defined-By: virtlockd\n",
        "The guest web2 (uuid ",
        "resource busy: Lockspace resource '/srv/disk.img' is locked.\n",
    ] {
        assert!(explained.contains(expected), "{expected:?} in {explained}");
    }
    assert!(
        found(&[], &["LIBVIRT_LEASE_MODE=exclusive", "LIBVIRT_PID=1"]).starts_with("Lease taken: ")
    );
}

/// The texts of the messages with these fields.
fn found(options: &[&str], fields: &[&str]) -> String {
    let arguments = [&["-q", "-o", "cat"], options, fields].concat();
    succeed("journalctl", &arguments)
}
