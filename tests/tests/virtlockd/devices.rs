//! Two nodes of one block device are one disk. The kernel takes them for two files, and so does
//! libvirt's daemon.

use std::fs::{self, File};
use std::path::Path;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use tests::harness::{Daemon, Route, Subject, Whose, left_out};
use tests::wire::ACQUIRE_SHARED;

use super::{NOBODY, SOMEBODY_ELSE, client_of, is_leased, locked, text};

tests::ours! { Virtlockd:
    two_nodes_of_a_device_are_one_disk,
    a_shared_device_may_get_another_node,
}

tests::mixed! { Virtlockd: nodes_of_a_device_that_libvirts_daemon_has_leased_are_one_disk }

/// The major number of loop devices.
const LOOP: u64 = 7;

/// Nodes of a block device that is nobody's.
fn nodes<const COUNT: usize>(daemon: &Daemon) -> Option<[String; COUNT]> {
    let is_nobodys = |minor: &u64| {
        let device = format!("/sys/block/loop{minor}");
        Path::new(&device).exists() && !fs::exists(format!("{device}/loop")).unwrap()
    };
    for minor in (0..8).filter(is_nobodys) {
        let nodes: [_; COUNT] =
            std::array::from_fn(|number| daemon.file(&format!("{minor}.{number}")));
        let makes = |path| make_node(path, minor);
        if nodes.iter().all(|path| makes(path)) && File::open(&nodes[0]).is_ok() {
            return Some(nodes.map(|path| text(&path)));
        }
    }
    left_out("two nodes of a block device", "there is no loop device");
    None
}

fn make_node(path: &Path, minor: u64) -> bool {
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    mknod(path, SFlag::S_IFBLK, mode, makedev(LOOP, minor)).is_ok()
}

fn two_nodes_of_a_device_are_one_disk(subject: Subject) {
    let mut daemon = subject.setup().replaceable().start();
    let Some([one, two]) = nodes(&daemon) else { return };
    client_of(&daemon, NOBODY).acquire("", &one, 0).unwrap();
    for _ in 0..2 {
        let mut other = client_of(&daemon, SOMEBODY_ELSE);
        for flags in [0, ACQUIRE_SHARED] {
            assert_eq!(other.acquire("", &two, flags), Err(locked(&two)));
        }
        assert_eq!(other.delete("", &two, 0), Err(locked(&two)));
        assert!(!is_leased(&two));
        daemon.expect_said(&format!("pid {NOBODY}) has held it"));
        daemon.change_to(Whose::Ours);
    }
    let (mut client, mut other) = (client_of(&daemon, NOBODY), client_of(&daemon, SOMEBODY_ELSE));
    client.release("", &one, 0).unwrap();
    other.acquire("", &two, ACQUIRE_SHARED).unwrap();
    assert_eq!(client.acquire("", &one, 0), Err(locked(&one)));
    client.acquire("", &one, ACQUIRE_SHARED).unwrap();
    client.release("", &one, 0).unwrap();
    other.release("", &two, 0).unwrap();
    client.acquire("", &two, 0).unwrap();
}

fn a_shared_device_may_get_another_node(subject: Subject) {
    let daemon = subject.start();
    let Some([one, two]) = nodes(&daemon) else { return };
    client_of(&daemon, NOBODY).acquire("", &one, ACQUIRE_SHARED).unwrap();
    fs::rename(&two, &one).unwrap();
    client_of(&daemon, SOMEBODY_ELSE).acquire("", &one, ACQUIRE_SHARED).unwrap();
}

fn nodes_of_a_device_that_libvirts_daemon_has_leased_are_one_disk(route: Route) {
    let mut daemon = route.start().setup().replaceable().start();
    let Some([one, two, three]) = nodes(&daemon) else { return };
    let mut client = client_of(&daemon, NOBODY);
    client.acquire("", &one, 0).unwrap();
    client.acquire("", &two, 0).unwrap();
    daemon.change_to(Whose::Ours);
    daemon.change_to(Whose::Ours);
    let mut client = client_of(&daemon, NOBODY);
    for (node, other) in [(&one, &two), (&two, &one)] {
        assert_eq!(client.acquire("", &three, ACQUIRE_SHARED), Err(locked(&three)));
        assert!(is_leased(node) && (node == &two || is_leased(other)));
        client.release("", node, 0).unwrap();
    }
    client.acquire("", &three, 0).unwrap();
    assert!(!is_leased(&one) && !is_leased(&two));
}
