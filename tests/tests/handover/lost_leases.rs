//! Leases that libvirt's daemon has lost, as a process loses a POSIX lock when it closes any
//! descriptor of the file, and leases that a stranger shares: ours know of them, and take what is
//! missing as soon as it can be had.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use tests::guest::{Guest, owner};
use tests::harness::{Daemon, Route, SetAtEnd, Whose, eventually};
use tests::load::{Contender, is_free};
use tests::supervisor::Supervisor;
use tests::wire::{ACQUIRE_AUTOCREATE, ACQUIRE_SHARED};

use super::leases::{client_of, image, text};

tests::mixed! { Virtlockd:
    a_lost_lease_is_taken_again,
    a_lost_lease_is_told_of_until_it_is_had_again,
    an_exclusive_lease_that_is_shared_becomes_exclusive,
    what_a_stranger_shares_our_clients_do_not,
    names_that_libvirts_daemon_gave_one_disk_stay_locked,
    a_name_that_was_released_takes_no_lock_along_in_an_upgrade,
    what_was_left_open_keeps_nobody_from_the_file,
    shared_leases_beside_an_exclusive_one_of_the_dead_keep_nobody_from_the_file,
    an_automatic_file_that_another_name_shares_is_not_removed,
    an_automatic_file_is_removed_with_its_last_lease,
    a_file_that_is_missing_is_made_only_if_that_is_asked_for,
    leases_that_become_ours_are_never_free,
}

/// A lease that libvirt's daemon lost as it closed another name of the file.
fn lose(daemon: &Daemon, guest: &Guest) -> String {
    let image = image(daemon, "image");
    let alias = text(&daemon.file("alias"));
    fs::hard_link(&image, &alias).unwrap();
    let mut client = client_of(daemon, guest);
    client.acquire("", &image, 0).unwrap();
    client.acquire("", &alias, 0).unwrap();
    client.release("", &alias, 0).unwrap();
    assert!(is_free(&image), "libvirt's daemon is better than it was");
    image
}

fn a_name_that_was_released_takes_no_lock_along_in_an_upgrade(route: Route) {
    for (flags, next) in [(0, Whose::Ours), (0, Whose::Theirs), (ACQUIRE_SHARED, Whose::Ours)] {
        let mut daemon = route.start().setup().replaceable().start();
        let (guest, other) = (Guest::start(&daemon), Guest::start(&daemon));
        let image = image(&daemon, "image");
        let alias = text(&daemon.file("alias"));
        fs::hard_link(&image, &alias).unwrap();
        client_of(&daemon, &guest).acquire("", &image, flags).unwrap();
        client_of(&daemon, &other).acquire("", &alias, 0).unwrap();
        daemon.change_to(Whose::Ours);
        client_of(&daemon, &other).release("", &alias, 0).unwrap();
        assert!(!is_free(&image));
        let contender = Contender::start(std::slice::from_ref(&image));
        daemon.change_to(next);
        contender.finish();
        assert!(!is_free(&image), "to {next:?}");
        client_of(&daemon, &guest).release("", &image, 0).unwrap();
        assert!(is_free(&image), "to {next:?}");
    }
}

/// An fd of ours that libvirt's daemon has had meanwhile, and never knew of.
fn what_was_left_open_keeps_nobody_from_the_file(route: Route) {
    let mut daemon = route.start().setup().replaceable().start();
    let guest = Guest::start(&daemon);
    let image = image(&daemon, "image");
    let alias = text(&daemon.file("alias"));
    fs::hard_link(&image, &alias).unwrap();
    let mut client = client_of(&daemon, &guest);
    client.acquire("", &image, 0).unwrap();
    client.acquire("", &alias, 0).unwrap();
    daemon.change_to(Whose::Ours);
    client.release("", &alias, 0).unwrap();
    daemon.change_to(Whose::Theirs);
    client.release("", &image, 0).unwrap();
    daemon.change_to(Whose::Ours);
    assert!(is_free(&image));
    client.acquire("", &alias, 0).unwrap();
    assert!(!is_free(&image));
}

fn an_automatic_file_that_another_name_shares_is_not_removed(route: Route) {
    let mut daemon = route.start().setup().replaceable().start();
    let guest = Guest::start(&daemon);
    let image = image(&daemon, "image");
    let alias = text(&daemon.file("alias"));
    fs::hard_link(&image, &alias).unwrap();
    let mut client = client_of(&daemon, &guest);
    client.acquire("", &alias, ACQUIRE_SHARED | ACQUIRE_AUTOCREATE).unwrap();
    // It makes one lock of them, which stays one for both.
    client.acquire("", &image, 0).unwrap();
    daemon.change_to(Whose::Ours);
    client.release("", &alias, 0).unwrap();
    assert!(fs::exists(&alias).unwrap() && !is_free(&image));
}

fn an_automatic_file_is_removed_with_its_last_lease(route: Route) {
    for flags in [ACQUIRE_AUTOCREATE, ACQUIRE_AUTOCREATE | ACQUIRE_SHARED] {
        let mut daemon = route.start().setup().replaceable().start();
        let guests = [Guest::start(&daemon), Guest::start(&daemon)];
        let image = text(&daemon.file("image"));
        let sharers = if flags & ACQUIRE_SHARED == 0 { &guests[..1] } else { &guests[..] };
        for guest in sharers {
            client_of(&daemon, guest).acquire("", &image, flags).unwrap();
        }
        daemon.change_to(Whose::Ours);
        for guest in sharers {
            assert!(fs::exists(&image).unwrap());
            client_of(&daemon, guest).release("", &image, 0).unwrap();
        }
        assert!(!fs::exists(&image).unwrap(), "with flags {flags}");
    }
}

/// While there are leases of libvirt's daemon, files are opened in another way.
fn a_file_that_is_missing_is_made_only_if_that_is_asked_for(route: Route) {
    let mut daemon = route.start().setup().replaceable().start();
    let guest = Guest::start(&daemon);
    let (image, missing) = (image(&daemon, "image"), text(&daemon.file("missing")));
    client_of(&daemon, &guest).acquire("", &image, 0).unwrap();
    daemon.change_to(Whose::Ours);
    let mut client = client_of(&daemon, &guest);
    client.acquire("", &missing, 0).unwrap_err();
    assert!(!fs::exists(&missing).unwrap());
    client.acquire("", &missing, ACQUIRE_AUTOCREATE).unwrap();
    assert!(!is_free(&missing));
}

/// libvirt's daemon has one lock for all of them, which is exclusive.
fn shared_leases_beside_an_exclusive_one_of_the_dead_keep_nobody_from_the_file(route: Route) {
    let mut daemon = route.start().setup().replaceable().start();
    let guest = Guest::start(&daemon);
    let mut dead = Command::new("sleep").arg("600").spawn().unwrap();
    let image = image(&daemon, "image");
    let names = ["one", "two", "three", "four"].map(|name| text(&daemon.file(name)));
    names.iter().for_each(|name| fs::hard_link(&image, name).unwrap());
    let [one, two, three, four] = names;
    let mut client = client_of(&daemon, &guest);
    client.acquire("", &one, ACQUIRE_SHARED).unwrap();
    client.acquire("", &two, ACQUIRE_SHARED).unwrap();
    let mut client = daemon.lock_client();
    client.register(&owner(dead.id()), 0).unwrap();
    client.acquire("", &three, 0).unwrap();
    drop(client);
    dead.kill().unwrap();
    dead.wait().unwrap();
    daemon.change_to(Whose::Ours);
    client_of(&daemon, &guest).acquire("", &four, ACQUIRE_SHARED).unwrap();
    assert!(!is_free(&image));
}

fn a_lost_lease_is_taken_again(route: Route) {
    let mut daemon = route.start().setup().replaceable().start();
    let guest = Guest::start(&daemon);
    let image = lose(&daemon, &guest);
    daemon.change_to(Whose::Ours);
    eventually("the lease is there again", || !is_free(&image));
    client_of(&daemon, &guest).release("", &image, 0).unwrap();
    assert!(is_free(&image));
}

fn a_lost_lease_is_told_of_until_it_is_had_again(route: Route) {
    let mut daemon = route.start().setup().replaceable().start();
    let guest = Guest::start(&daemon);
    let image = lose(&daemon, &guest);
    let stranger = stranger(&image, libc::F_WRLCK);
    for _ in 0..2 {
        daemon.change_to(Whose::Ours);
        eventually("it is said", || {
            daemon.stderr().contains(&format!("{image} has lost its lock"))
        });
        daemon.expect_said("guest 'guest'");
    }
    drop(stranger);
    eventually("the lease is there again", || !is_free(&image));
    eventually("it is said", || daemon.stderr().contains("has all of its lock again"));
}

fn an_exclusive_lease_that_is_shared_becomes_exclusive(route: Route) {
    let mut daemon = route.start().setup().replaceable().start();
    let guest = Guest::start(&daemon);
    let image = lose(&daemon, &guest);
    let reader = stranger(&image, libc::F_RDLCK);
    daemon.change_to(Whose::Ours);
    eventually("it is shared at least", || !is_alone(&reader));
    daemon.change_to(Whose::Ours);
    daemon.change_to(Whose::Ours);
    drop(reader);
    eventually("it is exclusive again", || !can_be_shared(&image));
}

fn what_a_stranger_shares_our_clients_do_not(route: Route) {
    let mut daemon = route.start().setup().replaceable().start();
    let guest = Guest::start(&daemon);
    let image = lose(&daemon, &guest);
    let reader = stranger(&image, libc::F_RDLCK);
    daemon.change_to(Whose::Ours);
    eventually("it is shared at least", || !is_alone(&reader));
    let mut client = client_of(&daemon, &guest);
    client.acquire("", &text(&daemon.file("alias")), ACQUIRE_SHARED).unwrap_err();
    client.release("", &image, 0).unwrap();
    eventually("nobody but the reader has it", || is_alone(&reader));
    client.acquire("", &text(&daemon.file("alias")), ACQUIRE_SHARED).unwrap();
}

/// Two guests have it by libvirt's doing; at least nobody else gets it.
fn names_that_libvirts_daemon_gave_one_disk_stay_locked(route: Route) {
    for flags in [[0, 0], [0, ACQUIRE_SHARED], [ACQUIRE_SHARED, 0]] {
        let mut daemon = route.start().setup().replaceable().start();
        let (image, alias) = (image(&daemon, "image"), text(&daemon.file("alias")));
        fs::hard_link(&image, &alias).unwrap();
        let guest = Guest::start(&daemon);
        let mut client = client_of(&daemon, &guest);
        client.acquire("", &image, flags[0]).unwrap();
        client.acquire("", &alias, flags[1]).unwrap();
        daemon.change_to(Whose::Ours);
        daemon.change_to(Whose::Ours);
        eventually("it is locked exclusively", || !can_be_shared(&image));
        let mut client = client_of(&daemon, &guest);
        client.release("", &image, 0).unwrap();
        assert!(!is_free(&image), "{flags:?}");
        client.release("", &alias, 0).unwrap();
        assert!(is_free(&image), "{flags:?}");
    }
}

/// With a store they are made to outlive the process. A reader that is there at the worst moment
/// keeps none from becoming exclusive.
fn leases_that_become_ours_are_never_free(route: Route) {
    const LEASES: usize = 300;
    let host = tests::harness::Host::new();
    let supervisor = Supervisor::new(&host.path("supervisor"), 2 * LEASES);
    let setup = route.start().setup_on(&host).replaceable().env("FDSTORE", "600");
    let daemon = setup.supervised_at(supervisor.path()).spawn();
    eventually("it serves", || supervisor.ready_count() > 0);
    let guest = Guest::start(&daemon);
    let images: Vec<_> = (0..LEASES).map(|number| image(&daemon, &format!("i{number}"))).collect();
    let mut client = client_of(&daemon, &guest);
    images.iter().for_each(|image| client.acquire("", image, 0).unwrap());
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let files: Vec<_> = images.iter().map(|image| open(image)).collect();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                files.iter().for_each(|file| {
                    try_lock(file, libc::F_RDLCK);
                });
            }
        });
        let _end = SetAtEnd(&stop);
        daemon.put(Whose::Ours);
        daemon.signal(nix::sys::signal::Signal::SIGUSR1);
        let stored = || supervisor.names().iter().filter(|name| name.starts_with('r')).count();
        eventually("all are stored", || stored() == LEASES);
    });
    for image in &images {
        eventually("it is exclusive", || !can_be_shared(image));
    }
}

fn open(path: &str) -> File {
    File::options().read(true).write(true).open(Path::new(path)).expect("opening an image")
}

/// An open file that is locked by somebody who is no client.
fn stranger(image: &str, lock_type: i32) -> File {
    let file = open(image);
    assert!(try_lock(&file, lock_type));
    file
}

fn can_be_shared(image: &str) -> bool {
    try_lock(open(image), libc::F_RDLCK)
}

/// Whether nobody else has a lock beside this one.
fn is_alone(reader: &File) -> bool {
    try_lock(reader, libc::F_WRLCK) && try_lock(reader, libc::F_RDLCK)
}

fn try_lock(file: impl AsFd, lock_type: i32) -> bool {
    let range = libc::flock {
        l_type: lock_type.try_into().expect("a lock type is small"),
        l_whence: 0,
        l_start: 0,
        l_len: 1,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_OFD_SETLK(&range)).is_ok()
}
