//! Guests outside of the daemon's pid namespace, as of a daemon in a container: it sees neither their
//! numbers nor them. libvirt's daemon takes their numbers for those of processes here.

use std::fs;
use std::process::Command;
use std::thread;

use nix::errno::Errno;
use tests::guest::Guest;
use tests::harness::{Daemon, Route, Setup, Subject, Whose, eventually, needs_root};
use tests::wire::LockClient;

use super::guests::A_WHILE;
use super::owners::Idle;
use super::{NOBODY, client_of, image, is_leased, not_holder};

tests::ours! { Virtlockd:
    a_guest_outside_has_its_leases_until_its_end,
    what_is_said_for_a_guest_outside_is_of_that_guest,
    a_guest_outside_that_leaves_keeps_its_leases_until_its_end,
    a_guest_outside_is_watched_after_upgrades,
    without_pidfds_of_peers_a_guest_outside_is_its_connection,
    a_liar_outside_frees_nobodys_lease,
    guests_of_one_number_in_containers_outside_are_two,
    where_namespaces_are_not_told_twins_are_two_as_well,
    who_has_the_number_of_a_guest_outside_is_not_that_guest,
    guests_outside_do_not_hold_up_a_stop,
    the_proc_of_the_host_shows_nobody_wrong,
    where_processes_are_hidden_guests_outside_are_watched,
    who_died_early_is_known_without_proc_sys,
    the_hosts_systemd_is_not_asked_from_a_container,
}

tests::both! { Virtlockd: a_guest_outside_has_its_leases_for_ever_with_libvirts }

tests::mixed! { Virtlockd: libvirts_daemon_on_the_way_costs_a_guest_outside_nothing }

/// What a container engine mounts.
const OWN_PROC: &str = "mount -n -t proc proc /proc";

/// The first process in a namespace calls itself this.
const FIRST: u32 = 1;

/// Which process a client is, as the kernel is asked.
const PEER_PIDFD: &str = "getsockopt:SO_PEERPIDFD";

/// Starts the daemon in a container, if that is possible here.
fn contained(subject: Subject) -> Option<Setup> {
    let is_possible = needs_root("a daemon in another pid namespace");
    is_possible.then(|| subject.setup().replaceable().in_a_pid_namespace(OWN_PROC))
}

/// A guest with leases that it took itself, and that libvirt took for it.
fn guest_with(daemon: &Daemon, own: &str, late: &str) -> Guest {
    let guest = Guest::start_with_leases(&daemon.main_socket(), &[own.to_owned()]);
    client_of(daemon, guest.pid()).acquire("", late, 0).unwrap();
    guest
}

fn a_guest_outside_has_its_leases_until_its_end(subject: Subject) {
    let Some(setup) = contained(subject) else { return };
    let daemon = setup.start();
    let (own, late) = (image(&daemon, "own"), image(&daemon, "late"));
    let guest = guest_with(&daemon, &own, &late);
    daemon.expect_said("cannot be ended from here");
    thread::sleep(A_WHILE);
    assert!(is_leased(&own) && is_leased(&late));
    let mut other = client_of(&daemon, NOBODY);
    other.acquire("", &own, 0).unwrap_err();
    guest.kill();
    eventually("its leases are free", || !is_leased(&own) && !is_leased(&late));
    other.acquire("", &own, 0).unwrap();
}

/// As libvirtd does: a connection for each call, also for those that undo what another did.
fn what_is_said_for_a_guest_outside_is_of_that_guest(subject: Subject) {
    let Some(setup) = contained(subject) else { return };
    let daemon = setup.start();
    let (own, late) = (image(&daemon, "own"), image(&daemon, "late"));
    let guest = guest_with(&daemon, &own, &late);
    client_of(&daemon, guest.pid()).release("", &own, 0).unwrap();
    client_of(&daemon, guest.pid()).release("", &late, 0).unwrap();
    assert!(!is_leased(&own) && !is_leased(&late));
    client_of(&daemon, guest.pid()).acquire("", &own, 0).unwrap();
    assert_eq!(client_of(&daemon, NOBODY).release("", &own, 0), Err(not_holder(NOBODY)));
    guest.kill();
    eventually("its lease is free", || !is_leased(&own));
}

fn a_guest_outside_that_leaves_keeps_its_leases_until_its_end(subject: Subject) {
    let Some(setup) = contained(subject) else { return };
    let mut daemon = setup.start();
    let (own, late) = (image(&daemon, "own"), image(&daemon, "late"));
    let mut guest = guest_with(&daemon, &own, &late);
    guest.tell("close");
    daemon.expect_said("has lost its connection, and cannot be ended");
    daemon.change_to(Whose::Ours);
    daemon.change_to(Whose::Ours);
    thread::sleep(A_WHILE);
    assert!(guest.is_running() && is_leased(&own) && is_leased(&late));
    client_of(&daemon, guest.pid()).release("", &late, 0).unwrap();
    guest.kill();
    eventually("its leases are free", || !is_leased(&own) && !is_leased(&late));
}

fn a_guest_outside_is_watched_after_upgrades(subject: Subject) {
    let Some(setup) = contained(subject) else { return };
    let mut daemon = setup.start();
    let (own, late) = (image(&daemon, "own"), image(&daemon, "late"));
    let guest = guest_with(&daemon, &own, &late);
    for _ in 0..2 {
        daemon.change_to(Whose::Ours);
    }
    client_of(&daemon, guest.pid()).release("", &late, 0).unwrap();
    client_of(&daemon, guest.pid()).acquire("", &late, 0).unwrap();
    assert!(is_leased(&own) && is_leased(&late));
    guest.kill();
    eventually("its leases are free", || !is_leased(&own) && !is_leased(&late));
}

/// As before Linux 6.5.
fn without_pidfds_of_peers_a_guest_outside_is_its_connection(subject: Subject) {
    let Some(setup) = contained(subject) else { return };
    let mut daemon = setup.refusing(Errno::ENOPROTOOPT, PEER_PIDFD).start();
    let (own, late) = (image(&daemon, "own"), image(&daemon, "late"));
    let guest = guest_with(&daemon, &own, &late);
    daemon.change_to(Whose::Ours);
    drop(lie(&daemon, guest.pid()));
    thread::sleep(A_WHILE);
    assert!(is_leased(&own) && is_leased(&late));
    guest.kill();
    eventually("its leases are free", || !is_leased(&own) && !is_leased(&late));
}

/// A connection of this process that says it is another.
fn lie(daemon: &Daemon, pid: u32) -> LockClient {
    let mut liar = client_of(daemon, pid);
    liar.restrict(0).unwrap();
    liar
}

fn a_liar_outside_frees_nobodys_lease(subject: Subject) {
    let Some(setup) = contained(subject) else { return };
    let daemon = setup.start();
    let (own, late) = (image(&daemon, "own"), image(&daemon, "late"));
    let guest = guest_with(&daemon, &own, &late);
    let mut liar = Guest::start(&daemon);
    liar.tell(&format!("pose {}", guest.pid()));
    liar.kill();
    liar.ending();
    drop(lie(&daemon, guest.pid()));
    thread::sleep(A_WHILE);
    assert!(is_leased(&own) && is_leased(&late));
    client_of(&daemon, guest.pid()).release("", &late, 0).unwrap();
    guest.kill();
    eventually("its lease is free", || !is_leased(&own));
}

fn guests_of_one_number_in_containers_outside_are_two(subject: Subject) {
    let Some(setup) = contained(subject) else { return };
    let mut daemon = setup.start();
    let (mut guests, mut speakers, images) = twins(&daemon);
    speakers[1].tell(&format!("acquire {FIRST} {}", images[1]));
    daemon.change_to(Whose::Ours);
    end(&mut guests[0]);
    eventually("the one's lease is free", || !is_leased(&images[0]));
    thread::sleep(A_WHILE);
    assert!(guests[1].is_running() && is_leased(&images[1]));
    end(&mut guests[1]);
    eventually("the other's lease is free", || !is_leased(&images[1]));
}

/// What is said for either is of neither, until one of them is left.
fn where_namespaces_are_not_told_twins_are_two_as_well(subject: Subject) {
    let Some(setup) = contained(subject) else { return };
    let less = ["setpriv", "--inh-caps=-sys_ptrace", "--bounding-set=-sys_ptrace"];
    let mut daemon = setup.through(less).start();
    let (mut guests, mut speakers, images) = twins(&daemon);
    speakers[1].tell(&format!("acquire {FIRST} {}", images[1]));
    daemon.change_to(Whose::Ours);
    end(&mut guests[0]);
    eventually("the one's lease is free", || !is_leased(&images[0]));
    thread::sleep(A_WHILE);
    assert!(guests[1].is_running() && is_leased(&images[1]));
    speakers[1].tell(&format!("give {FIRST} {}", images[1]));
    assert!(!is_leased(&images[1]));
    speakers[1].tell(&format!("acquire {FIRST} {}", images[1]));
    end(&mut guests[1]);
    eventually("the other's lease is free", || !is_leased(&images[1]));
}

/// Two guests with the same uuid and number, in two containers, and who speaks for each. The first one
/// has a lease before the second one comes.
fn twins(daemon: &Daemon) -> ([Guest; 2], [Guest; 2], [String; 2]) {
    let images = ["one", "two"].map(|name| image(daemon, name));
    let one = Guest::start_in_a_pid_namespace(daemon);
    let mut speaker = Guest::start_beside(&one, daemon);
    speaker.tell(&format!("acquire {FIRST} {}", images[0]));
    let two = Guest::start_in_a_pid_namespace(daemon);
    let other = Guest::start_beside(&two, daemon);
    ([one, two], [speaker, other], images)
}

/// Ends the first process of a namespace, and with it all others.
fn end(guest: &mut Guest) {
    guest.kill();
    guest.ending();
}

/// A process in the daemon's own namespace that has the guest's number.
fn who_has_the_number_of_a_guest_outside_is_not_that_guest(subject: Subject) {
    let Some(setup) = contained(subject) else { return };
    let mut daemon = setup.start();
    let (own, late) = (image(&daemon, "own"), image(&daemon, "late"));
    let guest = guest_with(&daemon, &own, &late);
    let pid = guest.pid();
    let script = format!(
        "for i in $(seq 50); do echo {} >/proc/sys/kernel/ns_last_pid; sleep 60 & \
         if [ $! = {pid} ]; then exit; fi; kill $!; done; exit 1",
        pid - 1
    );
    let target = daemon.pid().to_string();
    let words = ["--target", &target, "--pid", "--mount", "sh", "-c", &script];
    assert!(Command::new("nsenter").args(words).status().unwrap().success());
    daemon.change_to(Whose::Ours);
    client_of(&daemon, pid).release("", &late, 0).unwrap();
    assert!(is_leased(&own));
    guest.kill();
    eventually("its lease is free", || !is_leased(&own));
    let stranger = format!("kill -0 {pid}");
    let words = ["--target", &target, "--pid", "--mount", "sh", "-c", &stranger];
    assert!(Command::new("nsenter").args(words).status().unwrap().success(), "it was ended");
}

fn guests_outside_do_not_hold_up_a_stop(subject: Subject) {
    let Some(setup) = contained(subject) else { return };
    let daemon = setup.start();
    let (own, late) = (image(&daemon, "own"), image(&daemon, "late"));
    let mut guest = guest_with(&daemon, &own, &late);
    let begin = std::time::Instant::now();
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    eventually("they are free with the daemon", || !is_leased(&own) && !is_leased(&late));
    assert!(begin.elapsed() < std::time::Duration::from_millis(2500));
    daemon.expect_said("Its disks are at risk");
    assert!(guest.is_running());
}

/// Guests outside, in the daemon's own namespace and in one below; nobody is mistaken for who has the
/// number in `/proc`.
fn the_proc_of_the_host_shows_nobody_wrong(subject: Subject) {
    if !needs_root("a daemon in another pid namespace") {
        return;
    }
    let mut daemon = subject.setup().replaceable().in_a_pid_namespace(":").start();
    let images = ["outside", "late", "inside", "below"].map(|name| image(&daemon, name));
    let outside = guest_with(&daemon, &images[0], &images[1]);
    let mut inside = Guest::start_in_the_namespace_of(&daemon);
    inside.tell(&format!("connect {}", images[2]));
    let mut below = Guest::start_below_the_namespace_of(&daemon);
    below.tell(&format!("connect {}", images[3]));
    daemon.change_to(Whose::Ours);
    thread::sleep(A_WHILE);
    assert!(images.iter().all(|image| is_leased(image)));
    outside.kill();
    eventually("the outer one's are free", || !is_leased(&images[0]) && !is_leased(&images[1]));
    thread::sleep(A_WHILE);
    assert!(is_leased(&images[2]) && is_leased(&images[3]));
    inside.tell("leave");
    inside.ending();
    eventually("the inner one's is free", || !is_leased(&images[2]));
    below.tell("leave");
    below.ending();
    eventually("the lower one's is free", || !is_leased(&images[3]));
}

fn where_processes_are_hidden_guests_outside_are_watched(subject: Subject) {
    if !needs_root("hiding processes") {
        return;
    }
    let hidden = "mount -n -t proc -o hidepid=2 proc /proc";
    let setup = subject.setup().replaceable().in_a_pid_namespace(hidden);
    let less = ["setpriv", "--inh-caps=-sys_ptrace", "--bounding-set=-sys_ptrace"];
    let mut daemon = setup.through(less).start();
    let (own, late) = (image(&daemon, "own"), image(&daemon, "late"));
    let guest = guest_with(&daemon, &own, &late);
    daemon.change_to(Whose::Ours);
    thread::sleep(A_WHILE);
    assert!(is_leased(&own) && is_leased(&late));
    guest.kill();
    eventually("its leases are free", || !is_leased(&own) && !is_leased(&late));
}

fn who_died_early_is_known_without_proc_sys(subject: Subject) {
    if !needs_root("hiding a directory") {
        return;
    }
    let setup = subject.setup().prepare("mount -n -t tmpfs tmpfs /proc/sys");
    let daemon = setup.start();
    let images = ["dead's", "living's", "guest's"].map(|name| image(&daemon, name));
    let dead = Idle::start().pid();
    client_of(&daemon, dead).acquire("", &images[0], 0).unwrap();
    eventually("nobody keeps it", || !is_leased(&images[0]));
    let living = Idle::start();
    client_of(&daemon, living.pid()).acquire("", &images[1], 0).unwrap();
    let guest = guest_with(&daemon, &images[2], &images[0]);
    thread::sleep(A_WHILE);
    assert!(images.iter().all(|image| is_leased(image)));
    drop(living);
    guest.kill();
    eventually("all are free", || images.iter().all(|image| !is_leased(image)));
}

/// Its unit with our number as the main process would be another's.
fn the_hosts_systemd_is_not_asked_from_a_container(subject: Subject) {
    for is_contained in [false, true] {
        if is_contained && !needs_root("a daemon in another pid namespace") {
            return;
        }
        let setup = subject.setup();
        let run = setup.host().path("run/systemd");
        fs::create_dir_all(run.join("system")).unwrap();
        let listener = std::os::unix::net::UnixListener::bind(run.join("private")).unwrap();
        let asked = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            std::io::Read::read(&mut stream, &mut [0; 1]).unwrap() > 0
        });
        let setup = if is_contained { setup.in_a_pid_namespace(OWN_PROC) } else { setup };
        let daemon = setup.start();
        assert_eq!(asked.join().unwrap(), !is_contained);
        drop(daemon);
    }
}

/// libvirt's daemon takes every number for one of its own processes. It frees nothing at the guest's end,
/// and may be on the way.
fn libvirts_daemon_on_the_way_costs_a_guest_outside_nothing(route: Route) {
    let Some(setup) = contained(route.start()) else { return };
    let mut daemon = setup.start();
    let (own, late) = (image(&daemon, "own"), image(&daemon, "late"));
    let mut guest = guest_with(&daemon, &own, &late);
    for whose in [Whose::Ours, Whose::Theirs, Whose::Ours] {
        daemon.change_to(whose);
        thread::sleep(A_WHILE);
        assert!(guest.is_running() && is_leased(&own) && is_leased(&late));
    }
    client_of(&daemon, guest.pid()).release("", &late, 0).unwrap();
    client_of(&daemon, guest.pid()).acquire("", &late, 0).unwrap();
    guest.kill();
    guest.ending();
    eventually("its leases are free", || !is_leased(&own) && !is_leased(&late));
}

fn a_guest_outside_has_its_leases_for_ever_with_libvirts(subject: Subject) {
    let Some(setup) = contained(subject) else { return };
    let daemon = setup.start();
    let (own, late) = (image(&daemon, "own"), image(&daemon, "late"));
    let guest = guest_with(&daemon, &own, &late);
    drop(guest);
    if subject.is_ours() {
        return eventually("they are free", || !is_leased(&own) && !is_leased(&late));
    }
    thread::sleep(A_WHILE);
    assert!(is_leased(&own) && is_leased(&late));
}
