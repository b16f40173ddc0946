//! What `virtlockctl` prints of planted situations.

use std::fs::{self, File};
use std::path::Path;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use tests::guest::owner;
use tests::harness::{Daemon, Host, Program, Subject, eventually, write};
use tests::supervisor::Service;
use tests::wire::{ACQUIRE_SHARED, LockClient, Owner};

use super::Sleeper;
use super::tool::{Printed, tool};

tests::ours! { Virtlockd:
    each_holder_is_listed,
    what_the_fd_store_has_is_told,
    an_image_is_found_by_any_name,
    locks_of_others_are_told,
    an_image_that_nobody_holds_is_told,
}

tests::both! { Virtlockd: locks_are_told_whether_or_not_the_daemon_tells }

const UUID: &str = "5a5a5a5a-5a5a-5a5a-5a5a-5a5a5a5a5a5a";

fn client(daemon: &Daemon, owner: &Owner) -> LockClient {
    let mut client = daemon.lock_client();
    client.register(owner, 0).unwrap();
    client
}

fn printed(stdout: impl Into<String>) -> Printed {
    Printed { stdout: stdout.into(), stderr: String::new(), status: Some(0) }
}

fn each_holder_is_listed(subject: Subject) {
    let daemon = subject.start();
    let [alone, shared] = ["alone", "shared"].map(|name| daemon.file(name));
    [&alone, &shared].iter().for_each(|image| write(image, ""));
    let guests = [(); 2].map(|()| Sleeper::start());
    let mut clients = guests
        .each_ref()
        .map(|guest| client(&daemon, &Owner { name: "a b".to_owned(), ..owner(guest.pid()) }));
    let [alone_path, shared_path] = [&alone, &shared].map(|path| path.to_str().unwrap());
    clients[0].acquire("", alone_path, 0).unwrap();
    clients[0].acquire("", shared_path, ACQUIRE_SHARED).unwrap();
    clients[1].acquire("", shared_path, ACQUIRE_SHARED).unwrap();
    let space = daemon.file("space");
    let space_path = space.to_str().unwrap();
    clients[1].create_lockspace(space_path).unwrap();
    clients[1].acquire(space_path, "name", 2).unwrap();
    let pids = guests.each_ref().map(|guest| guest.pid().to_string());
    let in_space = format!("{space_path}/name");
    let row = |pid: usize, mode, space, path| {
        vec![
            "a",
            "b",
            pids[pid].as_str(),
            mode,
            "ofd",
            "-",
            "host",
            "-",
            "TIME",
            "no",
            UUID,
            space,
            path,
        ]
    };
    let listed = tool(&daemon, ["list"]);
    let expected = [
        vec![
            "DOMAIN",
            "PID",
            "MODE",
            "LOCK",
            "LACKS",
            "REACH",
            "PROOF",
            "SINCE",
            "STORED",
            "UUID",
            "LOCKSPACE",
            "IMAGE",
        ],
        row(0, "exclusive", "-", alone_path),
        row(0, "shared", "-", shared_path),
        row(1, "shared", "-", shared_path),
        row(1, "exclusive", space_path, &in_space),
    ];
    assert_eq!(listed.rows(), expected);
    let status = tool(&daemon, ["status"]).stdout;
    let leases = "4 held, 0 by POSIX locks, 0 lack a part of their lock, 4 not in the fd store";
    assert!(status.contains(leases), "{status}");
    let json = tool(&daemon, ["list", "--json"]).stdout;
    assert_eq!(json.lines().count(), 4);
    assert!(json.lines().all(|line| line.starts_with('{') && line.ends_with('}')));
}

fn what_the_fd_store_has_is_told(_: Subject) {
    let host = Host::new();
    let service = Service::start(Program::Virtlockd, &host, 16);
    let daemon = service.daemon();
    let guest = Sleeper::start();
    let mut client = client(daemon, &owner(guest.pid()));
    for number in 0..16 {
        let image = daemon.file(&format!("image{number}"));
        write(&image, "");
        client.acquire("", image.to_str().unwrap(), 0).unwrap();
    }
    let stored = || {
        let listed = tool(daemon, ["list"]);
        listed.rows()[1..].iter().filter(|row| row[8] == "yes").count()
    };
    let kept = || service.supervisor.names().iter().filter(|name| name.starts_with('r')).count();
    eventually("some are proved", || stored() > 0 && stored() == kept());
    assert!(stored() < 16);
}

fn an_image_is_found_by_any_name(subject: Subject) {
    let daemon = subject.start();
    let [image, link, symlink] = ["image", "link", "symlink"].map(|name| daemon.file(name));
    write(&image, "");
    fs::hard_link(&image, &link).unwrap();
    std::os::unix::fs::symlink(&image, &symlink).unwrap();
    let guest = Sleeper::start();
    let mut client = client(&daemon, &owner(guest.pid()));
    client.acquire("", image.to_str().unwrap(), 0).unwrap();
    let expect = |name: &Path, other_name: &str| {
        let expected = format!(
            "{}:\n  exclusive lease of guest 'guest' ({UUID}, process {}) since TIME{other_name}\n  exclusive OFD \
             lock on byte 0, by process {} (virtlockd), fd ",
            name.display(),
            guest.pid(),
            daemon.pid()
        );
        let told = tool(&daemon, ["why", name.to_str().unwrap()]);
        assert!(told.stdout.starts_with(&expected), "{told:?}\n{expected}");
        assert!(told.stdout.ends_with(": the lease's\n"), "{told:?}");
        assert_eq!((told.stdout.lines().count(), told.status), (3, Some(0)), "{told:?}");
    };
    expect(&image, "");
    expect(&link, &format!(", as {}", image.display()));
    expect(&symlink, &format!(", as {}", image.display()));
    // An image that was removed is still held.
    [&image, &link].iter().for_each(|name| fs::remove_file(name).unwrap());
    let told = tool(&daemon, ["why", image.to_str().unwrap()]);
    let expected = format!(
        "{}:\n  exclusive lease of guest 'guest' ({UUID}, process {}) since TIME\n",
        image.display(),
        guest.pid()
    );
    assert_eq!(told, printed(expected));
    // The daemon still holds what it held, whatever was asked.
    assert_eq!(tool(&daemon, ["list"]).rows().len(), 2);
}

fn locks_are_told_whether_or_not_the_daemon_tells(subject: Subject) {
    let daemon = subject.start();
    let image = daemon.file("image");
    write(&image, "");
    let [guest, other] = [(); 2].map(|()| Sleeper::start());
    let name = image.to_str().unwrap();
    let mut holder = client(&daemon, &owner(guest.pid()));
    holder.acquire("", name, 0).unwrap();
    let told = tool(&daemon, ["why", name]);
    let kind = if subject.is_ours() { "OFD" } else { "POSIX" };
    let expected =
        format!("  exclusive {kind} lock on byte 0, by process {} (virtlockd), fd ", daemon.pid());
    assert!(told.stdout.contains(&expected), "{told:?}");
    if !subject.is_ours() {
        assert_eq!((told.stdout.lines().count(), told.status), (2, Some(1)), "{told:?}");
        assert!(told.stderr.contains("this is libvirt's daemon"), "{told:?}");
    }
    // Nothing was opened, and the lease is there.
    client(&daemon, &owner(other.pid())).acquire("", name, 0).expect_err("it is held");
    drop(daemon);
}

fn lock(file: &File, kind: i32, byte: i64) {
    let range = libc::flock {
        l_type: kind.try_into().unwrap(),
        l_whence: 0,
        l_start: byte,
        l_len: 1,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_OFD_SETLK(&range)).expect("the lock is free");
}

fn locks_of_others_are_told(subject: Subject) {
    let daemon = subject.start();
    let (image, other) = (daemon.file("image"), daemon.file("other"));
    [&image, &other].iter().for_each(|image| write(image, ""));
    let open = || File::options().read(true).write(true).open(&image).unwrap();
    let (holder, reader) = (open(), open());
    lock(&holder, libc::F_WRLCK, 0);
    lock(&reader, libc::F_RDLCK, 100);
    let told = tool(&daemon, ["why", image.to_str().unwrap()]);
    let name = fs::read_to_string("/proc/self/comm").unwrap();
    let (pid, name) = (std::process::id(), name.trim_end());
    let fd = |file: &File| std::os::fd::AsRawFd::as_raw_fd(file);
    let mut expected = vec![
        format!("  exclusive OFD lock on byte 0, by process {pid} ({name}), fd {}", fd(&holder)),
        format!("  shared OFD lock on byte 100, by process {pid} ({name}), fd {}", fd(&reader)),
    ];
    let mut found: Vec<_> = told.stdout.lines().skip(1).collect();
    expected.sort();
    found.sort_unstable();
    assert_eq!(found, expected);
    // The lock is as it was.
    let refused = client(&daemon, &owner(std::process::id()))
        .acquire("", image.to_str().unwrap(), 0)
        .expect_err("another has it");
    assert!(refused.message.is_some_and(|message| message.contains("is locked")));
}

fn an_image_that_nobody_holds_is_told(subject: Subject) {
    let daemon = subject.start();
    let image = daemon.file("image");
    write(&image, "");
    let shown = image.display();
    let expected = format!("{shown}:\n  not held, as far as this host can tell\n");
    assert_eq!(tool(&daemon, ["why", image.to_str().unwrap()]), printed(expected));
    fs::remove_file(&image).unwrap();
    let told = tool(&daemon, ["why", image.to_str().unwrap()]);
    let text =
        format!("virtlockctl: {shown}: No such file or directory, and no lease has that name\n");
    assert_eq!((told.stderr, told.status), (text, Some(3)));
    assert_eq!(tool(&daemon, ["why", "/dev/null"]).status, Some(0));
}
