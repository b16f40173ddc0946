//! Damaged state documents of leases: whatever else is wrong, a lease whose descriptor is named is
//! never let go. libvirt's daemon ends at most of them, and every lease with it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::{Value, json};
use tests::guest::{Guest, owner};
use tests::harness::{Daemon, Route, Whose, eventually};
use tests::load::{Contender, is_free};
use tests::wire::{ACQUIRE_AUTOCREATE, LOCK_PROGRAM, LockClient};

use super::edited_state::EditedState;
use super::leases::{client_of, image, text};

tests::mixed! { Virtlockd:
    no_damage_costs_another_lease,
    libvirts_daemon_takes_or_refuses_them,
    the_oldest_layout_is_taken,
    a_file_without_a_word_stays_locked_when_it_is_asked_for,
}

/// What libvirt's daemon does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Theirs {
    Accepts,
    /// With status 3, or by a fault of its own.
    Ends,
    /// Not measured, or not worth it.
    Unknown,
}
use Theirs::{Accepts, Ends, Unknown};

/// One kind of damage.
struct Damage {
    name: &'static str,
    theirs: Theirs,
    /// Where in the document, a JSON pointer to a field.
    place: &'static str,
    /// What is put there; nothing: the field is removed.
    value: Option<Value>,
    /// Which of the leases are not named any more: those of the two guests, the one in a directory.
    lost: &'static [usize],
}

fn damage(name: &'static str, theirs: Theirs, place: &'static str, value: Option<Value>) -> Damage {
    Damage { name, theirs, place, value, lost: &[] }
}

fn loss(name: &'static str, place: &'static str, lost: &'static [usize]) -> Damage {
    Damage { lost, ..damage(name, Ends, place, None) }
}

fn damages() -> Vec<Damage> {
    let missing = |name, place| damage(name, Ends, place, None);
    vec![
        damage("nothing", Accepts, "/zz", Some(json!({"zz": 1}))),
        missing("no flags", "/defaultLockspace/resources/0/flags"),
        missing("no name", "/defaultLockspace/resources/0/name"),
        missing("no path", "/defaultLockspace/resources/0/path"),
        missing("no lockHeld", "/defaultLockspace/resources/0/lockHeld"),
        missing("no owners", "/defaultLockspace/resources/0/owners"),
        damage("owner is text", Ends, "/defaultLockspace/resources/0/owners/0", Some(json!("me"))),
        damage("nobody owns it", Accepts, "/defaultLockspace/resources/0/owners", Some(json!([]))),
        damage("not held", Accepts, "/defaultLockspace/resources/0/lockHeld", Some(json!(false))),
        damage("odd flags", Unknown, "/defaultLockspace/resources/0/flags", Some(json!(-1))),
        loss("no descriptor", "/defaultLockspace/resources/0/fd", &[0]),
        loss("no default lockspace", "/defaultLockspace", &[0, 1]),
        loss("no lockspaces", "/lockspaces", &[2]),
        Damage { value: Some(json!({})), ..loss("lockspaces are no list", "/lockspaces", &[2]) },
        damage("a lockspace of nowhere", Unknown, "/lockspaces/0/directory", None),
        missing("no daemon", "/daemon"),
        missing("no services", "/daemon/servers/virtlockd/services"),
        missing("no clients", "/daemon/servers/virtlockd/clients"),
        damage("no admin", Accepts, "/daemon/servers/admin", None),
        damage("unknown server", Ends, "/daemon/servers/other", Some(json!({"clients": []}))),
        damage(
            "closed listener",
            Ends,
            "/daemon/servers/virtlockd/services/0/socks/0/fd",
            Some(json!(999)),
        ),
        damage(
            "closed client",
            Ends,
            "/daemon/servers/virtlockd/clients/0/sock/fd",
            Some(json!(999)),
        ),
        missing("no owner's name", "/daemon/servers/virtlockd/clients/0/privateData/ownerName"),
        damage(
            "no UUID",
            Ends,
            "/daemon/servers/virtlockd/clients/0/privateData/ownerUUID",
            Some(json!("xyz")),
        ),
        missing("no private data", "/daemon/servers/virtlockd/clients/0/privateData"),
    ]
}

fn no_damage_costs_another_lease(route: Route) {
    each(|damage| {
        let mut scene = Scene::start(route);
        let contender = scene.contender(damage);
        scene.hand_over(damage, Whose::Ours);
        scene.daemon.wait_until_upgraded();
        scene.daemon.change_to(Whose::Ours);
        contender.finish();
        scene.expect_leases(damage);
    });
}

fn libvirts_daemon_takes_or_refuses_them(route: Route) {
    each(|damage| {
        let mut scene = Scene::start(route);
        scene.hand_over(damage, Whose::Theirs);
        match damage.theirs {
            Accepts => {
                scene.daemon.wait_until_upgraded();
                scene.expect_leases(damage);
            }
            Ends => {
                let exit = scene.daemon.wait();
                assert!(exit.code == Some(3) || exit.signal == Some(11), "{exit:?}");
            }
            Unknown => {}
        }
    });
}

/// One server, not by name, and no administration.
fn the_oldest_layout_is_taken(route: Route) {
    for whose in [Whose::Theirs, Whose::Ours] {
        let mut scene = Scene::start(route);
        let state = EditedState::take(&scene.daemon);
        let mut document = state.document.clone();
        let mut daemon = document.as_object_mut().unwrap().remove("daemon").unwrap();
        document["server"] = daemon["servers"]["virtlockd"].take();
        state.give(&scene.daemon, &document, whose);
        scene.daemon.wait_until_upgraded();
        scene.expect_leases(&damage("old", Accepts, "", None));
    }
}

/// A POSIX lock is gone once any descriptor of its file is closed, also by who asked in vain.
fn a_file_without_a_word_stays_locked_when_it_is_asked_for(route: Route) {
    let mut scene = Scene::start(route);
    scene.hand_over(&loss("no default lockspace", "/defaultLockspace", &[]), Whose::Ours);
    scene.daemon.wait_until_upgraded();
    for image in &scene.images[..2] {
        scene.expect_refused("", image);
        assert!(!is_free(image), "{image} was let go");
    }
}

/// Runs a test for each kind of damage, and tells of all that failed.
fn each(test: impl Fn(&Damage)) {
    let failed: Vec<_> = damages()
        .iter()
        .filter(|damage| catch_unwind(AssertUnwindSafe(|| test(damage))).is_err())
        .map(|damage| damage.name)
        .collect();
    assert!(failed.is_empty(), "{failed:#?} failed");
}

/// libvirt's daemon with three guests' leases, taken by one connection each.
struct Scene {
    daemon: Daemon,
    guests: Vec<Guest>,
    /// The second is of the second guest, and so on.
    connections: Vec<LockClient>,
    images: Vec<String>,
    space: String,
}

impl Scene {
    fn start(route: Route) -> Self {
        let daemon = route.start().setup().replaceable().start();
        let space = text(&daemon.file("space"));
        let guests: Vec<_> = (0..3).map(|_| Guest::start(&daemon)).collect();
        let mut connections: Vec<_> = guests.iter().map(|g| client_of(&daemon, g)).collect();
        let mut images = ["first", "second"].map(|name| image(&daemon, name)).to_vec();
        connections[0].acquire("", &images[0], 0).unwrap();
        connections[1].acquire("", &images[1], 0).unwrap();
        connections[2].create_lockspace(&space).unwrap();
        connections[2].acquire(&space, "third", ACQUIRE_AUTOCREATE).unwrap();
        images.push(format!("{space}/third"));
        Self { daemon, guests, connections, images, space }
    }

    /// Somebody who wants what is still named.
    fn contender(&self, damage: &Damage) -> Contender {
        let kept = self.images.iter().enumerate().filter(|(n, _)| !damage.lost.contains(n));
        Contender::start(&kept.map(|(_, image)| image.clone()).collect::<Vec<_>>())
    }

    fn hand_over(&self, damage: &Damage, whose: Whose) {
        let state = EditedState::take(&self.daemon);
        let mut document = state.document.clone();
        self.sort_resources(&mut document);
        apply(&mut document, damage);
        state.give(&self.daemon, &document, whose);
    }

    /// The first is to be the first.
    fn sort_resources(&self, document: &mut Value) {
        let resources = document["defaultLockspace"]["resources"].as_array_mut().unwrap();
        let place = |resource: &Value| self.images.iter().position(|i| *i == resource["name"]);
        resources.sort_by_key(place);
    }

    fn expect_leases(&mut self, damage: &Damage) {
        self.daemon.expect_alive();
        for (number, image) in self.images.iter().enumerate() {
            assert!(damage.lost.contains(&number) || !is_free(image), "lease {number} is lost");
        }
        assert!(self.guests.iter_mut().all(Guest::is_running));
        if damage.place.starts_with("/daemon") {
            return self.expect_the_dead_hold_nothing();
        }
        // What was not damaged can be used.
        if !damage.lost.contains(&1) {
            let second = self.images[1].clone();
            self.expect_refused("", &second);
            self.connections[1].release("", &second, 0).unwrap();
            assert!(is_free(&second));
        }
        if damage.theirs != Unknown && !damage.lost.contains(&2) {
            let space = self.space.clone();
            self.expect_refused(&space, "third");
            self.connections[2].release(&space, "third", 0).unwrap();
        }
    }

    /// Whatever became of the connections, leases end with their owners.
    fn expect_the_dead_hold_nothing(&mut self) {
        let number = 1;
        // libvirt's daemon knows a guest's death by its connection alone, which is whole here.
        self.guests[number].kill();
        self.guests[number].ending();
        eventually("a dead guest's lease is free", || is_free(&self.images[number]));
    }

    fn expect_refused(&self, space: &str, name: &str) {
        let mut other = self.daemon.lock_client();
        other.register(&owner(self.guests[0].pid()), 0).unwrap();
        assert_eq!(other.acquire(space, name, 0).unwrap_err().code, 87);
        let error = other.connection().call(LOCK_PROGRAM, 99, &[]).unwrap_err();
        assert_eq!(error.code, 39);
    }
}

fn apply(document: &mut Value, damage: &Damage) {
    let (parent, key) = damage.place.rsplit_once('/').unwrap();
    let parent = document.pointer_mut(parent).expect(damage.name);
    match (parent, &damage.value) {
        (Value::Array(items), Some(value)) => items[key.parse::<usize>().unwrap()] = value.clone(),
        (Value::Object(fields), Some(value)) => drop(fields.insert(key.to_owned(), value.clone())),
        (Value::Object(fields), None) => drop(fields.remove(key).expect(damage.name)),
        (other, _) => panic!("nothing can be done to {other}"),
    }
}
