//! One file under several names is one resource. libvirt's daemon lets two owners have it.

use std::fs;
use std::os::unix::fs::symlink;

use tests::harness::{Daemon, Subject, expect_missing};
use tests::wire::{ACQUIRE_AUTOCREATE, ACQUIRE_SHARED};

use super::{NOBODY, SOMEBODY_ELSE, client_of, image, is_leased, locked, text};

tests::ours! { Virtlockd:
    an_alias_is_as_locked_as_the_file,
    a_released_alias_takes_no_lock_along,
    a_lease_keeps_its_file_whatever_name_is_removed,
    what_is_made_under_an_alias_takes_no_lock_along,
    two_lockspaces_over_one_directory_are_one,
    an_automatic_file_stays_while_an_alias_is_shared,
    a_refused_alias_names_the_holder_in_the_log,
    a_file_that_took_the_name_is_not_shared,
}

/// Other names of `image`, each as lockspace and name.
fn aliases(daemon: &Daemon, image: &str) -> Vec<(String, String)> {
    let directory = text(&daemon.file(""));
    symlink(image, daemon.file("symlink")).unwrap();
    fs::hard_link(image, daemon.file("hard-link")).unwrap();
    let mut client = client_of(daemon, NOBODY);
    client.create_lockspace(&directory).unwrap();
    [
        ("", text(&daemon.file("symlink"))),
        ("", text(&daemon.file("hard-link"))),
        ("", format!("/{image}")),
        ("", format!("{directory}/../files/image")),
        (&*directory, "image".to_owned()),
        (&*directory, "./image".to_owned()),
    ]
    .map(|(space, name)| (space.to_owned(), name))
    .to_vec()
}

fn an_alias_is_as_locked_as_the_file(subject: Subject) {
    let daemon = subject.start();
    let image = image(&daemon, "image");
    let mut client = client_of(&daemon, NOBODY);
    let mut other = client_of(&daemon, SOMEBODY_ELSE);
    for (space, alias) in aliases(&daemon, &image) {
        client.acquire("", &image, 0).unwrap();
        assert_eq!(other.acquire(&space, &alias, 0), Err(locked(&alias)));
        assert_eq!(other.acquire(&space, &alias, ACQUIRE_SHARED), Err(locked(&alias)));
        assert_eq!(client.acquire(&space, &alias, 0), Err(locked(&alias)));
        client.release("", &image, 0).unwrap();
        other.acquire(&space, &alias, ACQUIRE_SHARED).unwrap();
        assert_eq!(client.acquire("", &image, 0), Err(locked(&image)));
        client.acquire("", &image, ACQUIRE_SHARED).unwrap();
        client.release("", &image, 0).unwrap();
        other.release(&space, &alias, 0).unwrap();
    }
}

fn a_released_alias_takes_no_lock_along(subject: Subject) {
    let daemon = subject.start();
    let image = image(&daemon, "image");
    let mut client = client_of(&daemon, NOBODY);
    client.acquire("", &image, ACQUIRE_SHARED).unwrap();
    for (space, alias) in aliases(&daemon, &image) {
        client.acquire(&space, &alias, ACQUIRE_SHARED).unwrap();
        client.release(&space, &alias, 0).unwrap();
        assert!(is_leased(&image), "{space} {alias}");
    }
}

fn a_lease_keeps_its_file_whatever_name_is_removed(subject: Subject) {
    let daemon = subject.start();
    let image = image(&daemon, "image");
    let mut client = client_of(&daemon, NOBODY);
    let mut other = client_of(&daemon, SOMEBODY_ELSE);
    client.acquire("", &image, 0).unwrap();
    let aliases = aliases(&daemon, &image);
    for (space, alias) in &aliases {
        assert_eq!(other.delete(space, alias, 0), Err(locked(alias)));
    }
    assert!(is_leased(&image));
    client.release("", &image, 0).unwrap();
    for (space, alias) in &aliases {
        other.delete(space, alias, 0).unwrap();
    }
    expect_missing(image.as_ref());
}

fn what_is_made_under_an_alias_takes_no_lock_along(subject: Subject) {
    let daemon = subject.start();
    let image = image(&daemon, "image");
    let mut client = client_of(&daemon, NOBODY);
    client.acquire("", &image, 0).unwrap();
    for (space, alias) in aliases(&daemon, &image) {
        client.create(&space, &alias, 0).unwrap();
        client.acquire(&space, &alias, ACQUIRE_SHARED).unwrap_err();
        assert!(is_leased(&image), "{space} {alias}");
    }
}

fn two_lockspaces_over_one_directory_are_one(subject: Subject) {
    let daemon = subject.start();
    let mut client = client_of(&daemon, NOBODY);
    let mut other = client_of(&daemon, SOMEBODY_ELSE);
    let space = text(&daemon.file("space"));
    let same = format!("{space}/");
    client.create_lockspace(&space).unwrap();
    client.create_lockspace(&same).unwrap();
    client.acquire(&space, "lease", ACQUIRE_AUTOCREATE).unwrap();
    assert_eq!(other.acquire(&same, "lease", ACQUIRE_AUTOCREATE), Err(locked("lease")));
    assert_eq!(other.delete(&same, "lease", 0), Err(locked("lease")));
    assert_eq!(other.acquire(&same, "lease", ACQUIRE_AUTOCREATE), Err(locked("lease")));
    assert!(is_leased(&format!("{space}/lease")));
    client.release(&space, "lease", 0).unwrap();
    other.acquire(&same, "lease", ACQUIRE_AUTOCREATE).unwrap();
}

fn an_automatic_file_stays_while_an_alias_is_shared(subject: Subject) {
    let daemon = subject.start();
    let mut client = client_of(&daemon, NOBODY);
    let path = text(&daemon.file("lease"));
    let alias = format!("/{path}");
    client.acquire("", &path, ACQUIRE_AUTOCREATE | ACQUIRE_SHARED).unwrap();
    client.acquire("", &alias, ACQUIRE_AUTOCREATE | ACQUIRE_SHARED).unwrap();
    client.release("", &path, 0).unwrap();
    assert!(is_leased(&path));
    client.release("", &alias, 0).unwrap();
    expect_missing(path.as_ref());
}

fn a_refused_alias_names_the_holder_in_the_log(subject: Subject) {
    let daemon = subject.start();
    let image = image(&daemon, "image");
    client_of(&daemon, NOBODY).acquire("", &image, 0).unwrap();
    client_of(&daemon, SOMEBODY_ELSE).acquire("", &format!("/{image}"), 0).unwrap_err();
    daemon.expect_said(&format!("pid {NOBODY}) has held it"));
}

/// Whoever shares by name gets the file that is locked, or nothing.
fn a_file_that_took_the_name_is_not_shared(subject: Subject) {
    let daemon = subject.start();
    let name = image(&daemon, "image");
    let mut client = client_of(&daemon, NOBODY);
    let mut other = client_of(&daemon, SOMEBODY_ELSE);
    client.acquire("", &name, ACQUIRE_SHARED).unwrap();
    fs::rename(&name, daemon.file("former")).unwrap();
    for flags in [ACQUIRE_SHARED, ACQUIRE_SHARED | ACQUIRE_AUTOCREATE] {
        assert_eq!(other.acquire("", &name, flags), Err(locked(&name)));
    }
    image(&daemon, "image");
    assert_eq!(other.acquire("", &name, ACQUIRE_SHARED), Err(locked(&name)));
    assert_eq!(client.acquire("", &name, ACQUIRE_SHARED), Err(locked(&name)));
    daemon.expect_said("was replaced after it was leased");
    fs::rename(daemon.file("former"), &name).unwrap();
    other.acquire("", &name, ACQUIRE_SHARED).unwrap();
    client.release("", &name, 0).unwrap();
    assert!(is_leased(&name));
}
