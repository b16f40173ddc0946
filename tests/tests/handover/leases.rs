//! Leases on a journey: nobody else ever has one, and every call is answered once.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use tests::guest::{Guest, owner};
use tests::harness::{Daemon, Route, Subject, Whose, eventually};
use tests::load::{Caller, Contender, Gate, LeaseHolder, Newcomer, is_free};
use tests::wire::{ACQUIRE_AUTOCREATE, ACQUIRE_SHARED, LockClient, Owner};

use super::journey::{expect_descriptors, idle_descriptors, travel};

tests::routes! { Virtlockd:
    no_lease_and_no_answer_is_lost,
    no_lease_and_no_answer_is_lost_in_the_background,
}

tests::ours! { Virtlockd:
    holders_are_known_by_name_ever_after,
    it_stays_known_since_when_a_lease_is_held,
}

tests::mixed! { Virtlockd: nobody_claims_to_know_since_when_libvirts_leases_are_held }

const GUESTS: usize = 4;
const CALLERS: usize = 3;

fn no_lease_and_no_answer_is_lost(route: Route) {
    journey(route.start().setup().replaceable().start(), route);
}

fn no_lease_and_no_answer_is_lost_in_the_background(route: Route) {
    journey(route.start().setup().replaceable().start_detached(), route);
}

fn holders_are_known_by_name_ever_after(subject: Subject) {
    let mut daemon = subject.setup().replaceable().start();
    let mut guests = [0, 1].map(|_| Command::new("sleep").arg("60").spawn().unwrap());
    let (own, shared) = (image(&daemon, "own"), image(&daemon, "shared"));
    for (guest, name) in guests.iter().zip(["first", "second"]) {
        let mut client = daemon.lock_client();
        client.register(&Owner { name: name.to_owned(), ..owner(guest.id()) }, 0).unwrap();
        client.acquire("", &shared, ACQUIRE_SHARED).unwrap();
        client.acquire("", &shared, ACQUIRE_SHARED).unwrap();
        if name == "second" {
            client.acquire("", &own, 0).unwrap();
        }
    }
    let other = Guest::start(&daemon);
    for _ in 0..3 {
        daemon.change_to(Whose::Ours);
        let before = daemon.stderr().len();
        for (image, names) in [(&own, &["second"][..]), (&shared, &["first", "second"])] {
            client_of(&daemon, &other).acquire("", image, 0).unwrap_err();
            eventually("the holders are named", || {
                let log = daemon.stderr().split_off(before);
                let mut names = names.iter().map(|name| format!("guest '{name}' (uuid 5a"));
                names.all(|name| log.contains(&name)) && log.contains("has held it for")
            });
        }
    }
    end(&mut guests[1]);
    eventually("a dead guest's lease is free", || is_free(&own));
    let mut first = daemon.lock_client();
    first.register(&owner(guests[0].id()), 0).unwrap();
    first.release("", &shared, 0).unwrap();
    assert!(!is_free(&shared), "it was acquired twice");
    first.release("", &shared, 0).unwrap();
    assert!(is_free(&shared));
    end(&mut guests[0]);
}

fn it_stays_known_since_when_a_lease_is_held(subject: Subject) {
    let mut daemon = subject.setup().replaceable().start();
    let guest = Guest::start(&daemon);
    let image = image(&daemon, "image");
    client_of(&daemon, &guest).acquire("", &image, 0).unwrap();
    std::thread::sleep(SINCE);
    daemon.change_to(Whose::Ours);
    daemon.change_to(Whose::Ours);
    let (seconds, is_exact) = held_for(&daemon, &guest, &image);
    assert!(seconds >= SINCE.as_secs() && is_exact, "{seconds}");
}

fn nobody_claims_to_know_since_when_libvirts_leases_are_held(route: Route) {
    let mut daemon = route.start().setup().replaceable().start();
    let guest = Guest::start(&daemon);
    let image = image(&daemon, "image");
    client_of(&daemon, &guest).acquire("", &image, 0).unwrap();
    daemon.change_to(Whose::Ours);
    assert!(!held_for(&daemon, &guest, &image).1);
    std::thread::sleep(SINCE);
    daemon.change_to(Whose::Ours);
    let (seconds, is_exact) = held_for(&daemon, &guest, &image);
    assert!(seconds >= SINCE.as_secs() && !is_exact, "{seconds}");
}

const SINCE: Duration = Duration::from_secs(2);

/// For how many seconds the log says that somebody has had a lease, and whether it is no more.
fn held_for(daemon: &Daemon, guest: &Guest, image: &str) -> (u64, bool) {
    let before = daemon.stderr().len();
    client_of(daemon, guest).acquire("", image, 0).unwrap_err();
    let said = || daemon.stderr().split_off(before);
    eventually("it says since when", || said().contains("has held it for "));
    let log = said();
    let (_, rest) = log.split_once("has held it for ").expect("it says since when");
    let exact = rest.strip_prefix("at least ");
    let seconds = exact.unwrap_or(rest).split(' ').next().unwrap_or_default();
    (seconds.parse().expect("a number of seconds"), exact.is_none())
}

fn end(process: &mut Child) {
    process.kill().unwrap();
    process.wait().unwrap();
}

/// The whole way with guests that hold leases, somebody who wants them, and clients that call.
pub(super) fn journey(mut daemon: Daemon, route: Route) {
    let before = idle_descriptors(&daemon, route);
    let gate = Gate::default();
    let mut guests: Vec<_> = (0..GUESTS).map(|_| Guest::start(&daemon)).collect();
    let images = lease(&daemon, &guests);
    let contender = Contender::start(&images);
    let callers = call(&daemon, &gate, &guests);
    travel(&mut daemon, route, &gate);
    for caller in callers {
        assert!(caller.finish() > 0, "a client has not called");
    }
    contender.finish();
    assert!(guests.iter_mut().all(Guest::is_running));
    for guest in &mut guests {
        guest.kill();
        guest.ending();
    }
    for image in &images {
        eventually("a dead guest's lease is free", || !Path::new(image).exists() || is_free(image));
    }
    expect_descriptors(&daemon, route, &before);
}

/// Leases of every kind, taken as libvirtd does it: for the guests, by other connections.
fn lease(daemon: &Daemon, guests: &[Guest]) -> Vec<String> {
    let space = text(&daemon.file("space"));
    let mut images = Vec::new();
    for (number, guest) in guests.iter().enumerate() {
        let mut client = client_of(daemon, guest);
        let own = image(daemon, &format!("own.{number}"));
        client.acquire("", &own, 0).unwrap();
        images.push(own);
        let shared = image(daemon, "shared");
        client.acquire("", &shared, ACQUIRE_SHARED).unwrap();
        images.push(shared);
        client.create_lockspace(&space).unwrap();
        let key = format!("key{number}");
        client.acquire(&space, &key, ACQUIRE_AUTOCREATE).unwrap();
        images.push(format!("{space}/{key}"));
    }
    images
}

fn call(daemon: &Daemon, gate: &Gate, guests: &[Guest]) -> Vec<Caller> {
    let holders = (0..CALLERS).map(|number| {
        let image = image(daemon, &format!("busy.{number}"));
        let owner = owner(guests[number].pid());
        Caller::start(gate, LeaseHolder::new(daemon, &owner, &image))
    });
    let mut callers: Vec<_> = holders.collect();
    callers.push(Caller::start(gate, Newcomer::new(daemon)));
    callers
}

/// A connection registered for a guest, as libvirtd makes them.
pub(super) fn client_of(daemon: &Daemon, guest: &Guest) -> LockClient {
    let mut client = daemon.lock_client();
    client.register(&owner(guest.pid()), 0).unwrap();
    client
}

/// An image to take leases on; its name as a resource.
pub(super) fn image(daemon: &Daemon, name: &str) -> String {
    let path = daemon.file(name);
    fs::write(&path, "").unwrap();
    text(&path)
}

pub(super) fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
