//! What is checked before a call is carried out, in which order, and what is said.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use nix::libc;
use tests::harness::Subject;
use tests::wire::{LOCK_PROGRAM, LockClient, RpcError, Writer};

use super::{
    NOBODY, SOMEBODY_ELSE, client_of, image, is_leased, no_lockspace, owner, restricted, text,
    unregistered,
};

tests::both! { Virtlockd:
    unknown_flags_come_first,
    then_restriction,
    then_registration,
    then_the_lockspace,
    a_registration_can_be_replaced,
    nothing_of_a_registration_but_its_id_is_checked,
    a_lockspace_is_added_once_and_made_if_need_be,
    what_cannot_be_a_lockspace_is_refused,
    new_refuses_what_is_there,
    strings_have_a_limit_and_end_at_nul,
    trailing_bytes_are_ignored,
}

tests::ours! { Virtlockd: new_reports_what_went_wrong }

/// A call's name in libvirt and how it is made with these flags on `client`.
type FlaggedCall = (&'static str, fn(&mut LockClient, u32) -> Result<(), RpcError>);

const FLAGGED_CALLS: [FlaggedCall; 7] = [
    ("Register", |client, flags| client.register(&owner(NOBODY), flags)),
    ("Restrict", |client, flags| client.restrict(flags)),
    ("New", |client, flags| client.new_lockspace("", flags)),
    ("CreateResource", |client, flags| client.create("/none", "a", flags)),
    ("DeleteResource", |client, flags| client.delete("/none", "a", flags)),
    ("AcquireResource", |client, flags| client.acquire("/none", "a", flags)),
    ("ReleaseResource", |client, flags| client.release("/none", "a", flags)),
];

fn unknown_flags_come_first(subject: Subject) {
    let daemon = subject.start();
    let mut restricted = client_of(&daemon, NOBODY);
    restricted.restrict(0).unwrap();
    for client in [&mut daemon.lock_client(), &mut client_of(&daemon, NOBODY), &mut restricted] {
        for (name, call) in FLAGGED_CALLS {
            let known = if name == "AcquireResource" { 3 } else { 0 };
            let function = format!("virLockSpaceProtocolDispatch{name}");
            for flags in [4, 7, 0x8000_0000, u32::MAX] {
                let expected = RpcError::flags(7, &function, flags & !known);
                assert_eq!(call(client, flags), Err(expected));
            }
        }
    }
}

fn then_restriction(subject: Subject) {
    let daemon = subject.start();
    let mut client = client_of(&daemon, NOBODY);
    client.restrict(0).unwrap();
    for (_, call) in FLAGGED_CALLS {
        assert_eq!(call(&mut client, 0), Err(restricted()));
    }
    assert_eq!(client.create_lockspace(""), Err(restricted()));
    let nobody = tests::wire::Owner { id: 0, ..owner(NOBODY) };
    assert_eq!(client.register(&nobody, 0), Err(restricted()));
}

fn then_registration(subject: Subject) {
    let daemon = subject.start();
    let mut client = daemon.lock_client();
    for (name, call) in FLAGGED_CALLS {
        if name != "Register" {
            assert_eq!(call(&mut client, 0), Err(unregistered()), "{name}");
        }
    }
    client.create_lockspace("").unwrap();
    let nobody = tests::wire::Owner { id: 0, ..owner(NOBODY) };
    assert_eq!(client.register(&nobody, 0), Err(unregistered()));
    client.register(&owner(NOBODY), 0).unwrap();
}

fn then_the_lockspace(subject: Subject) {
    let daemon = subject.start();
    let mut client = client_of(&daemon, NOBODY);
    for (name, call) in FLAGGED_CALLS {
        if name.ends_with("Resource") {
            assert_eq!(call(&mut client, 0), Err(no_lockspace("/none")), "{name}");
        }
    }
}

fn a_registration_can_be_replaced(subject: Subject) {
    let daemon = subject.start();
    let image = image(&daemon, "image");
    let mut client = client_of(&daemon, NOBODY);
    client.acquire("", &image, 0).unwrap();
    client.register(&owner(SOMEBODY_ELSE), 0).unwrap();
    assert_eq!(client.release("", &image, 0), Err(super::not_holder(SOMEBODY_ELSE)));
    client.register(&owner(NOBODY), 0).unwrap();
    client.release("", &image, 0).unwrap();
}

fn nothing_of_a_registration_but_its_id_is_checked(subject: Subject) {
    let daemon = subject.start();
    let image = image(&daemon, "image");
    for pid in [0, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
        let mut client = daemon.lock_client();
        let nameless = tests::wire::Owner { name: String::new(), ..owner(pid) };
        client.register(&nameless, 0).unwrap();
        client.acquire("", &image, 0).unwrap();
        let mut other = client_of(&daemon, pid);
        other.release("", &image, 0).unwrap();
    }
}

fn a_lockspace_is_added_once_and_made_if_need_be(subject: Subject) {
    let daemon = subject.start();
    let mut client = client_of(&daemon, NOBODY);
    let directory = daemon.file("a/b/c");
    daemon.lock_client().create_lockspace(text(&directory)).unwrap();
    for level in [&directory, &daemon.file("a")] {
        let mode = fs::metadata(level).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o700);
    }
    client.create_lockspace(text(&directory)).unwrap();
    client.create(&text(&directory), "resource", 0).unwrap();
    assert!(directory.join("resource").exists());
    // Made anew, it would have another mode; it is not even looked at any more.
    fs::remove_dir_all(&directory).unwrap();
    client.create_lockspace(text(&directory)).unwrap();
    assert!(!directory.exists());
    let other_spelling = format!("{}/", text(&directory));
    assert_eq!(client.create(&other_spelling, "x", 0), Err(no_lockspace(&other_spelling)));
    fs::create_dir(&directory).unwrap();
    let there_already = fs::metadata(&directory).unwrap().permissions();
    client.create_lockspace(&other_spelling).unwrap();
    assert_eq!(fs::metadata(&directory).unwrap().permissions(), there_already);
}

fn what_cannot_be_a_lockspace_is_refused(subject: Subject) {
    let daemon = subject.start();
    let mut client = daemon.lock_client();
    let file = image(&daemon, "file");
    let detail = format!("Lockspace location {file} exists, but is not a directory");
    let expected = RpcError::templated(1, 51, "internal error: ", &detail);
    assert_eq!(client.create_lockspace(&file), Err(expected));
    let link = text(&daemon.file("link"));
    symlink(daemon.file("nowhere"), &link).unwrap();
    for (path, errno, reason) in [
        (format!("{file}/below"), libc::ENOTDIR, "Not a directory"),
        (link.clone(), libc::ENOTDIR, "Not a directory"),
        (format!("{link}/below"), libc::ENOENT, "No such file or directory"),
        (format!("/{}", "a".repeat(256)), libc::ENAMETOOLONG, "File name too long"),
        ("b/".repeat(32_768), libc::ENAMETOOLONG, "File name too long"),
        ("/proc/nowhere".to_owned(), libc::ENOENT, "No such file or directory"),
    ] {
        let message = format!("Unable to create lockspace {path}: {reason}");
        let expected = RpcError::system(51, errno, &message);
        assert_eq!(client.create_lockspace(&path), Err(expected));
    }
}

fn new_refuses_what_is_there(subject: Subject) {
    let daemon = subject.start();
    let mut client = client_of(&daemon, NOBODY);
    let detail = "the default lockspace already exists";
    let default = RpcError::templated(55, 7, "Requested operation is not valid: ", detail);
    assert_eq!(client.new_lockspace("", 0), Err(default));
    let directory = text(&daemon.file("space"));
    client.new_lockspace(&directory, 0).unwrap();
    let detail = format!("Lockspace for path {directory} already exists");
    let there = RpcError::templated(1, 7, "internal error: ", &detail);
    assert_eq!(client.new_lockspace(&directory, 0), Err(there));
    client.create(&directory, "resource", 0).unwrap();
}

fn new_reports_what_went_wrong(subject: Subject) {
    let daemon = subject.start();
    let mut client = client_of(&daemon, NOBODY);
    let file = image(&daemon, "file");
    let detail = format!("Lockspace location {file} exists, but is not a directory");
    let expected = RpcError::templated(1, 51, "internal error: ", &detail);
    assert_eq!(client.new_lockspace(&file, 0), Err(expected));
    assert_eq!(client.create(&file, "resource", 0), Err(no_lockspace(&file)));
}

fn strings_have_a_limit_and_end_at_nul(subject: Subject) {
    let daemon = subject.start();
    let image = image(&daemon, "image");
    let mut client = client_of(&daemon, NOBODY);
    let longest = "n".repeat(65_536);
    let message = format!("Unable to open resource {longest}: File name too long");
    let expected = RpcError::system(51, libc::ENAMETOOLONG, &message);
    assert_eq!(client.acquire("", &longest, 0), Err(expected));
    let undecodable = RpcError::rpc("Unable to decode message payload");
    let longer = format!("{longest}n");
    assert_eq!(client.acquire("", &longer, 0), Err(undecodable.clone()));
    assert_eq!(client.acquire(&longer, "", 0), Err(undecodable.clone()));
    assert_eq!(client.create_lockspace(&longer), Err(undecodable));
    client.acquire("\0space", &format!("{image}\0ignored"), 0).unwrap();
    assert!(is_leased(&image));
    client.release("", &image, 0).unwrap();
    assert!(!is_leased(&image));
}

fn trailing_bytes_are_ignored(subject: Subject) {
    let daemon = subject.start();
    let mut client = daemon.lock_client();
    let arguments = Writer::new().string("").string("left over").into_bytes();
    client.connection().call(LOCK_PROGRAM, 8, &arguments).unwrap();
    let undecodable = client.connection().call(LOCK_PROGRAM, 8, &arguments[..2]);
    assert_eq!(undecodable.map(drop), Err(RpcError::rpc("Unable to decode message payload")));
}
