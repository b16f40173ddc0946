//! What is done to the files behind resources, and what is said when that fails.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use nix::libc;
use tests::harness::{Daemon, Subject, expect_missing};
use tests::wire::{ACQUIRE_AUTOCREATE, ACQUIRE_SHARED, LockClient, RpcError};

use super::{Kind, NOBODY, client_of, image, is_leased, locked, open, text, try_lock};

tests::both! { Virtlockd:
    create_and_delete_are_idempotent,
    create_and_delete_say_why_they_failed,
    acquire_says_why_it_failed,
    a_read_only_file_cannot_be_leased_at_all,
    a_file_is_touched_by_nothing,
    an_automatic_file_comes_and_goes,
    an_automatic_file_that_is_refused_stays,
    an_automatic_file_goes_with_the_last_who_shares_it,
    a_name_may_lead_anywhere,
    too_many_open_files_are_an_error_like_any_other,
    a_device_can_be_leased,
    a_pipe_can_be_leased,
    a_link_that_leads_nowhere_is_followed,
}

tests::ours! { Virtlockd: making_a_pipe_that_nobody_reads_makes_nobody_wait }

/// A lockspace over a directory of its own, and somebody who may use it.
fn lockspace(daemon: &Daemon) -> (LockClient, String) {
    let mut client = client_of(daemon, NOBODY);
    let space = text(&daemon.file("space"));
    client.create_lockspace(&space).unwrap();
    (client, space)
}

fn create_and_delete_are_idempotent(subject: Subject) {
    let daemon = subject.start();
    let (mut client, space) = lockspace(&daemon);
    let path = daemon.file("space/resource");
    client.create(&space, "resource", 0).unwrap();
    let made = fs::metadata(&path).unwrap();
    assert_eq!((made.permissions().mode() & 0o7777, made.len()), (0o600, 0));
    fs::write(&path, "content").unwrap();
    client.create(&space, "resource", 0).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"content");
    client.acquire(&space, "resource", 0).unwrap();
    assert_eq!(client.create(&space, "resource", 0), Err(locked("resource")));
    assert_eq!(client.delete(&space, "resource", 0), Err(locked("resource")));
    client.release(&space, "resource", 0).unwrap();
    client.delete(&space, "resource", 0).unwrap();
    expect_missing(&path);
    client.delete(&space, "resource", 0).unwrap();
}

fn create_and_delete_say_why_they_failed(subject: Subject) {
    let daemon = subject.start();
    let (mut client, space) = lockspace(&daemon);
    let message = format!("cannot create file '{space}/a/b': No such file or directory");
    let expected = RpcError::system(0, libc::ENOENT, &message);
    assert_eq!(client.create(&space, "a/b", 0), Err(expected));
    fs::create_dir(daemon.file("space/directory")).unwrap();
    let message = format!("cannot create file '{space}/directory': Is a directory");
    let expected = RpcError::system(0, libc::EISDIR, &message);
    assert_eq!(client.create(&space, "directory", 0), Err(expected));
    let message = format!("Unable to delete lockspace resource {space}/directory: Is a directory");
    let expected = RpcError::system(51, libc::EISDIR, &message);
    assert_eq!(client.delete(&space, "directory", 0), Err(expected));
}

fn acquire_says_why_it_failed(subject: Subject) {
    let daemon = subject.start();
    let (mut client, space) = lockspace(&daemon);
    let opening = |path: &str, errno, reason: &str| {
        RpcError::system(51, errno, &format!("Unable to open resource {path}: {reason}"))
    };
    let absent = "No such file or directory";
    assert_eq!(client.acquire("", "", 0), Err(opening("", libc::ENOENT, absent)));
    assert_eq!(
        client.acquire(&space, "none", 0),
        Err(opening(&format!("{space}/none"), libc::ENOENT, absent))
    );
    assert_eq!(
        client.acquire(&space, "", ACQUIRE_SHARED),
        Err(opening(&format!("{space}/"), libc::EISDIR, "Is a directory"))
    );
    let message = format!("Unable to open/create resource {space}/a/b: {absent}");
    assert_eq!(
        client.acquire(&space, "a/b", ACQUIRE_AUTOCREATE),
        Err(RpcError::system(51, libc::ENOENT, &message))
    );
}

fn a_read_only_file_cannot_be_leased_at_all(subject: Subject) {
    let setup = subject.setup();
    let directory = setup.host().file("read-only");
    fs::create_dir(&directory).unwrap();
    let path = text(&directory.join("image"));
    fs::write(&path, "").unwrap();
    let mount =
        format!("mount -n --bind {0} {0}; mount -n -o remount,ro,bind {0}", text(&directory));
    let daemon = setup.prepare(&mount).start();
    let mut client = client_of(&daemon, NOBODY);
    let message = format!("Unable to open resource {path}: Read-only file system");
    for flags in [0, ACQUIRE_SHARED] {
        let expected = RpcError::system(51, libc::EROFS, &message);
        assert_eq!(client.acquire("", &path, flags), Err(expected));
    }
    assert_eq!(client.release("", &path, 0), Err(super::not_locked(&path)));
}

fn a_file_is_touched_by_nothing(subject: Subject) {
    let daemon = subject.start();
    let mut client = client_of(&daemon, NOBODY);
    let image = image(&daemon, "image");
    fs::write(&image, "content").unwrap();
    fs::set_permissions(&image, Permissions::from_mode(0o640)).unwrap();
    let before = fs::metadata(&image).unwrap();
    for flags in [0, ACQUIRE_SHARED] {
        client.acquire("", &image, flags).unwrap();
        client.release("", &image, 0).unwrap();
    }
    let after = fs::metadata(&image).unwrap();
    assert_eq!(fs::read(&image).unwrap(), b"content");
    assert_eq!((after.mode(), after.ctime_nsec()), (before.mode(), before.ctime_nsec()));
}

fn an_automatic_file_comes_and_goes(subject: Subject) {
    let daemon = subject.start();
    let (mut client, space) = lockspace(&daemon);
    let path = daemon.file("space/lease");
    client.acquire(&space, "lease", ACQUIRE_AUTOCREATE).unwrap();
    let made = fs::metadata(&path).unwrap();
    assert_eq!((made.permissions().mode() & 0o7777, made.len()), (0o600, 0));
    client.release(&space, "lease", 0).unwrap();
    expect_missing(&path);
    fs::write(&path, "there before").unwrap();
    client.acquire(&space, "lease", ACQUIRE_AUTOCREATE).unwrap();
    fs::remove_file(&path).unwrap();
    client.release(&space, "lease", 0).unwrap();
    client.acquire(&space, "lease", ACQUIRE_AUTOCREATE).unwrap();
    client.release(&space, "lease", 0).unwrap();
    expect_missing(&path);
}

fn an_automatic_file_that_is_refused_stays(subject: Subject) {
    let daemon = subject.start();
    let (mut client, space) = lockspace(&daemon);
    let path = image(&daemon, "space/lease");
    let stranger = open(&path);
    assert!(try_lock(&stranger, Kind::Ofd, libc::F_WRLCK, 0));
    let refused = client.acquire(&space, "lease", ACQUIRE_AUTOCREATE);
    assert_eq!(refused, Err(locked("lease")));
    assert!(fs::exists(&path).unwrap());
}

fn an_automatic_file_goes_with_the_last_who_shares_it(subject: Subject) {
    let daemon = subject.start();
    let (mut client, space) = lockspace(&daemon);
    let path = daemon.file("space/lease");
    let both = ACQUIRE_AUTOCREATE | ACQUIRE_SHARED;
    let mut other = client_of(&daemon, super::SOMEBODY_ELSE);
    client.acquire(&space, "lease", both).unwrap();
    // Without the flag: what the first one said goes for all.
    other.acquire(&space, "lease", ACQUIRE_SHARED).unwrap();
    client.release(&space, "lease", 0).unwrap();
    assert!(path.exists());
    other.release(&space, "lease", 0).unwrap();
    expect_missing(&path);
    // Somebody on another host shares it.
    client.acquire(&space, "lease", both).unwrap();
    let stranger = open(&text(&path));
    assert!(try_lock(&stranger, Kind::Ofd, libc::F_RDLCK, 0));
    client.release(&space, "lease", 0).unwrap();
    assert!(path.exists());
    assert!(try_lock(&stranger, Kind::Ofd, libc::F_WRLCK, 0));
}

fn a_name_may_lead_anywhere(subject: Subject) {
    let daemon = subject.start();
    let (mut client, space) = lockspace(&daemon);
    let image = image(&daemon, "image");
    client.acquire(&space, "../image", 0).unwrap();
    assert!(is_leased(&image));
    client.release(&space, "../image", 0).unwrap();
    assert!(!is_leased(&image));
    client.create(&space, "../other", 0).unwrap();
    client.delete(&space, "../other", 0).unwrap();
    expect_missing(&daemon.file("other"));
    symlink(&image, daemon.file("link")).unwrap();
    client.acquire("", &text(&daemon.file("link")), 0).unwrap();
    assert!(is_leased(&image));
}

fn too_many_open_files_are_an_error_like_any_other(subject: Subject) {
    let daemon = subject.setup().limit("--nofile=40:40").start();
    let mut client = client_of(&daemon, NOBODY);
    let images: Vec<_> = (0..40).map(|number| image(&daemon, &format!("{number}"))).collect();
    let refused = images.iter().find_map(|image| {
        let error = client.acquire("", image, 0).err()?;
        Some((image, error))
    });
    let (image, error) = refused.expect("40 leases are too many");
    let message = format!("Unable to open resource {image}: Too many open files");
    assert_eq!(error, RpcError::system(51, libc::EMFILE, &message));
    assert!(is_leased(&images[0]), "nothing else has changed");
    client.release("", &images[0], 0).unwrap();
    client.acquire("", image, 0).unwrap();
}

fn a_device_can_be_leased(subject: Subject) {
    let daemon = subject.start();
    let mut client = client_of(&daemon, NOBODY);
    client.acquire("", "/dev/zero", ACQUIRE_SHARED).unwrap();
    client.release("", "/dev/zero", 0).unwrap();
}

fn a_pipe_can_be_leased(subject: Subject) {
    let daemon = subject.start();
    let (mut client, path) = (client_of(&daemon, NOBODY), pipe(&daemon));
    for flags in [0, ACQUIRE_SHARED, ACQUIRE_AUTOCREATE] {
        client.acquire("", &path, flags).unwrap();
        client.release("", &path, 0).unwrap();
    }
}

/// libvirt's daemon waits for a reader, and serves nobody meanwhile.
fn making_a_pipe_that_nobody_reads_makes_nobody_wait(subject: Subject) {
    let daemon = subject.start();
    let (mut client, path) = (client_of(&daemon, NOBODY), pipe(&daemon));
    let message = format!("cannot create file '{path}': No such device or address");
    assert_eq!(client.create("", &path, 0), Err(RpcError::system(0, libc::ENXIO, &message)));
}

fn pipe(daemon: &Daemon) -> String {
    let path = daemon.file("pipe");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    text(&path)
}

fn a_link_that_leads_nowhere_is_followed(subject: Subject) {
    let daemon = subject.start();
    let mut client = client_of(&daemon, NOBODY);
    let (link, target) = (text(&daemon.file("link")), text(&daemon.file("target")));
    symlink(&target, &link).unwrap();
    client.create("", &link, 0).unwrap();
    fs::remove_file(&target).unwrap();
    client.acquire("", &link, ACQUIRE_AUTOCREATE).unwrap();
    assert!(is_leased(&target));
    client.release("", &link, 0).unwrap();
    // The name goes.
    expect_missing(link.as_ref());
    assert!(fs::exists(&target).unwrap());
}
