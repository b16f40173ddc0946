//! Who may have what beside whom, and who may give it back.

use std::os::unix::fs::MetadataExt;

use tests::harness::{Subject, eventually};
use tests::wire::{ACQUIRE_SHARED, Header, LOCK_PROGRAM, Writer};

use super::{NOBODY, SOMEBODY_ELSE, client_of, image, is_leased, locked, not_holder, not_locked};

tests::both! { Virtlockd:
    an_exclusive_lease_excludes_everybody,
    a_shared_lease_excludes_exclusive_ones,
    a_lease_is_shared_until_the_last_gives_it_back,
    a_lease_acquired_twice_is_released_twice,
    any_connection_of_the_owner_may_release,
    a_lease_outlives_a_connection_that_is_not_its_owners,
    calls_sent_together_are_answered_in_order,
    of_many_who_ask_at_once_one_gets_it,
    a_caller_need_not_wait_for_its_answer,
    a_lock_is_on_byte_0_alone_and_close_on_exec,
    what_is_done_to_another_resource_does_not_matter,
}

tests::ours! { Virtlockd: a_refusal_names_the_holder_in_the_log }

fn an_exclusive_lease_excludes_everybody(subject: Subject) {
    let daemon = subject.start();
    let image = image(&daemon, "image");
    let mut client = client_of(&daemon, NOBODY);
    let mut other = client_of(&daemon, SOMEBODY_ELSE);
    client.acquire("", &image, 0).unwrap();
    for flags in [0, ACQUIRE_SHARED] {
        assert_eq!(client.acquire("", &image, flags), Err(locked(&image)));
        assert_eq!(other.acquire("", &image, flags), Err(locked(&image)));
    }
    assert_eq!(other.release("", &image, 0), Err(not_holder(SOMEBODY_ELSE)));
    let mut unnumbered = client_of(&daemon, u32::MAX);
    let error = unnumbered.release("", &image, 0).unwrap_err();
    assert!(format!("{error:?}").contains("owner -1 does not hold"), "{error:?}");
    assert!(is_leased(&image));
    client.release("", &image, 0).unwrap();
    // libvirt releases twice when it suspends a guest.
    assert_eq!(client.release("", &image, 0), Err(not_locked(&image)));
    assert!(!is_leased(&image));
    other.acquire("", &image, 0).unwrap();
}

fn a_shared_lease_excludes_exclusive_ones(subject: Subject) {
    let daemon = subject.start();
    let image = image(&daemon, "image");
    let mut client = client_of(&daemon, NOBODY);
    let mut other = client_of(&daemon, SOMEBODY_ELSE);
    client.acquire("", &image, ACQUIRE_SHARED).unwrap();
    assert_eq!(client.acquire("", &image, 0), Err(locked(&image)));
    assert_eq!(other.acquire("", &image, 0), Err(locked(&image)));
    other.acquire("", &image, ACQUIRE_SHARED).unwrap();
}

fn a_lease_is_shared_until_the_last_gives_it_back(subject: Subject) {
    let daemon = subject.start();
    let image = image(&daemon, "image");
    let mut client = client_of(&daemon, NOBODY);
    let mut other = client_of(&daemon, SOMEBODY_ELSE);
    client.acquire("", &image, ACQUIRE_SHARED).unwrap();
    other.acquire("", &image, ACQUIRE_SHARED).unwrap();
    client.release("", &image, 0).unwrap();
    assert_eq!(client.release("", &image, 0), Err(not_holder(NOBODY)));
    assert!(is_leased(&image));
    other.release("", &image, 0).unwrap();
    assert!(!is_leased(&image));
}

fn a_lease_acquired_twice_is_released_twice(subject: Subject) {
    let daemon = subject.start();
    let image = image(&daemon, "image");
    let mut client = client_of(&daemon, NOBODY);
    client.acquire("", &image, ACQUIRE_SHARED).unwrap();
    client.acquire("", &image, ACQUIRE_SHARED).unwrap();
    client.release("", &image, 0).unwrap();
    assert!(is_leased(&image));
    client.release("", &image, 0).unwrap();
    assert!(!is_leased(&image));
    assert_eq!(client.release("", &image, 0), Err(not_locked(&image)));
}

fn any_connection_of_the_owner_may_release(subject: Subject) {
    let daemon = subject.start();
    let image = image(&daemon, "image");
    client_of(&daemon, NOBODY).acquire("", &image, 0).unwrap();
    client_of(&daemon, NOBODY).release("", &image, 0).unwrap();
    assert!(!is_leased(&image));
}

fn a_lease_outlives_a_connection_that_is_not_its_owners(subject: Subject) {
    let daemon = subject.start();
    let image = image(&daemon, "image");
    client_of(&daemon, NOBODY).acquire("", &image, 0).unwrap();
    let mut other = client_of(&daemon, SOMEBODY_ELSE);
    assert_eq!(other.acquire("", &image, 0), Err(locked(&image)));
}

fn calls_sent_together_are_answered_in_order(subject: Subject) {
    let daemon = subject.start();
    let mut client = client_of(&daemon, NOBODY);
    let images: Vec<_> = (0..4).map(|number| image(&daemon, &format!("{number}"))).collect();
    let calls = images.iter().zip(10..).flat_map(|(image, serial)| acquire_message(serial, image));
    client.connection().send(&calls.collect::<Vec<_>>()).unwrap();
    for serial in 10..14 {
        let frame = client.connection().answer().message();
        assert_eq!((frame.header.serial, frame.header.status), (serial, 0));
    }
    assert!(images.iter().all(|image| is_leased(image)));
}

/// The message of an ACQUIRE that nobody waits for.
fn acquire_message(serial: u32, image: &str) -> Vec<u8> {
    let header = Header { serial, ..Header::call(LOCK_PROGRAM, 6) };
    header.message(&Writer::new().string("").string(image).u32(0).into_bytes())
}

fn of_many_who_ask_at_once_one_gets_it(subject: Subject) {
    let daemon = subject.start();
    let image = image(&daemon, "image");
    let mut clients: Vec<_> = (0..8).map(|number| client_of(&daemon, NOBODY + number)).collect();
    for client in &mut clients {
        client.connection().send(&acquire_message(1, &image)).unwrap();
    }
    let answers = clients.iter_mut().map(|client| client.connection().answer().message());
    let results: Vec<_> = answers.map(|frame| frame.into_result().map(drop)).collect();
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert!(results.into_iter().flat_map(Result::err).all(|error| error == locked(&image)));
}

fn a_caller_need_not_wait_for_its_answer(subject: Subject) {
    let daemon = subject.start();
    let image = image(&daemon, "image");
    let mut client = client_of(&daemon, NOBODY);
    client.connection().send(&acquire_message(1, &image)).unwrap();
    drop(client);
    eventually("the lease is taken", || is_leased(&image));
    client_of(&daemon, NOBODY).release("", &image, 0).unwrap();
}

fn a_lock_is_on_byte_0_alone_and_close_on_exec(subject: Subject) {
    let daemon = subject.start();
    let image = image(&daemon, "image");
    client_of(&daemon, NOBODY).acquire("", &image, 0).unwrap();
    let inode = std::fs::metadata(&image).unwrap().ino();
    let locks = std::fs::read_to_string("/proc/locks").unwrap();
    let lock = locks.lines().find(|line| line.contains(&format!(":{inode} ")));
    let lock = lock.expect("the kernel knows of the lock");
    assert!(lock.contains("WRITE") && lock.ends_with(" 0 0"), "{lock}");
    let fd = std::fs::read_dir(daemon.proc("fd")).unwrap().find_map(|entry| {
        let entry = entry.unwrap();
        (std::fs::read_link(entry.path()).unwrap() == daemon.file("image"))
            .then(|| entry.file_name())
    });
    let info = daemon.proc("fdinfo").join(fd.expect("the file is open"));
    let info = std::fs::read_to_string(info).unwrap();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
    let flags = i32::from_str_radix(flags.trim(), 8).unwrap();
    assert_ne!(flags & nix::libc::O_CLOEXEC, 0);
}

fn what_is_done_to_another_resource_does_not_matter(subject: Subject) {
    let daemon = subject.start();
    let (one, two) = (image(&daemon, "one"), image(&daemon, "two"));
    let mut client = client_of(&daemon, NOBODY);
    client.acquire("", &one, 0).unwrap();
    client.acquire("", &two, 0).unwrap();
    client.acquire("", "/none", 0).unwrap_err();
    client.release("", &two, 0).unwrap();
    assert!(is_leased(&one) && !is_leased(&two));
}

fn a_refusal_names_the_holder_in_the_log(subject: Subject) {
    let daemon = subject.start();
    let image = image(&daemon, "image");
    client_of(&daemon, NOBODY).acquire("", &image, 0).unwrap();
    client_of(&daemon, SOMEBODY_ELSE).acquire("", &image, 0).unwrap_err();
    let uuid = "5a5a5a5a-5a5a-5a5a-5a5a-5a5a5a5a5a5a";
    for pid in [NOBODY, SOMEBODY_ELSE] {
        daemon.expect_said(&format!("guest 'guest' (uuid {uuid}, pid {pid})"));
    }
    daemon.expect_said("has held it for");
    let log = daemon.stderr();
    assert!(log.contains("has held it for 0 s") || log.contains("has held it for 1 s"), "{log}");
}
