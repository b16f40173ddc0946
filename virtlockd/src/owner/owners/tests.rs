use super::*;
use crate::lockspace::table::Lockspaces;
use crate::owner::identity::{FoundBy, ProcessIdentity};

fn guest(pid: u32) -> Arc<Guest> {
    Arc::new(Guest { uuid: [0; 16], name: (*b"vm").into(), id: 1, pid })
}

fn with_pid(owners: &Owners, pid: u32) -> Option<OwnerId> {
    owners.find(&guest(pid), &OwnerIdentity::BY_NUMBER)
}

/// The identity of a process that was found by its own connection.
fn connected(start: u64) -> OwnerIdentity {
    OwnerIdentity {
        found_by: FoundBy::Connection { number: None },
        process_identity: Some(ProcessIdentity::Start(start)),
        namespace: None,
    }
}

#[test]
fn an_owner_is_kept_while_it_has_a_connection_or_a_lease() {
    let (mut owners, guest) = (Owners::default(), guest(7));
    let resource = Lockspaces::new().resource(b"", b"/image").unwrap();
    let owner = owners.add(&guest, OwnerIdentity::BY_NUMBER);
    owners.connect(owner, &guest, false);
    owners.add_lease(owner, resource);
    owners.disconnect(owner, false);
    assert_eq!((with_pid(&owners, 7), owners.leases(owner)), (Some(owner), vec![resource]));
    owners.remove_lease(owner, resource);
    assert_eq!((with_pid(&owners, 7), owners.leases(owner)), (None, vec![]));
}

#[test]
fn the_pid_of_the_dead_can_be_anothers() {
    let (mut owners, guest) = (Owners::default(), guest(7));
    let dead = owners.add(&guest, OwnerIdentity::BY_NUMBER);
    owners.connect(dead, &guest, false);
    owners.mark_dead(dead);
    let living = owners.add(&guest, OwnerIdentity::BY_NUMBER);
    owners.connect(living, &guest, false);
    assert!(owners.get(dead).unwrap().is_dead);
    owners.disconnect(dead, false);
    assert_eq!((with_pid(&owners, 7), dead == living), (Some(living), false));
    assert!(owners.get(dead).is_none());
}

#[test]
fn who_was_dead_before_is_nobody_elses_predecessor() {
    let (mut owners, guest) = (Owners::default(), guest(7));
    let dead = owners.add_dead(&guest, OwnerIdentity::BY_NUMBER);
    owners.connect(dead, &guest, false);
    assert_eq!(with_pid(&owners, 7), None);
    let living = owners.add(&guest, OwnerIdentity::BY_NUMBER);
    owners.disconnect(dead, false);
    assert!(owners.get(dead).is_none());
    assert_eq!(with_pid(&owners, 7), Some(living));
}

#[test]
fn only_who_is_connected_itself_and_has_a_lease_depends_on_us() {
    let (mut owners, guest) = (Owners::default(), guest(7));
    let resource = Lockspaces::new().resource(b"", b"/image").unwrap();
    let owner = owners.add(&guest, OwnerIdentity::BY_NUMBER);
    let mut depends = |change: &dyn Fn(&mut Owners)| {
        change(&mut owners);
        owners.get(owner).unwrap().depends_on_daemon()
    };
    assert!(!depends(&|owners| owners.connect(owner, &guest, false)));
    assert!(!depends(&|owners| owners.add_lease(owner, resource)));
    assert!(depends(&|owners| owners.connect(owner, &guest, true)));
    assert!(!depends(&|owners| owners.remove_lease(owner, resource)));
}

#[test]
fn leases_are_counted_once() {
    let (mut owners, guest) = (Owners::default(), guest(7));
    let mut spaces = Lockspaces::new();
    let [one, other] = [&b"/one"[..], b"/other"].map(|path| spaces.resource(b"", path).unwrap());
    let owner = owners.add(&guest, OwnerIdentity::BY_NUMBER);
    owners.connect(owner, &guest, false);
    let mut count = |change: &dyn Fn(&mut Owners)| {
        change(&mut owners);
        owners.leases_count()
    };
    assert_eq!(count(&|owners| owners.add_lease(owner, one)), 1);
    assert_eq!(count(&|owners| owners.add_lease(owner, one)), 1);
    assert_eq!(count(&|owners| owners.add_lease(owner, other)), 2);
    assert_eq!(count(&|owners| owners.remove_lease(owner, one)), 1);
    assert_eq!(count(&|owners| owners.remove_lease(owner, one)), 1);
    assert_eq!(count(&|owners| owners.remove_lease(owner, other)), 0);
}

#[test]
fn the_one_whose_pid_another_has_now_takes_nothing_along() {
    let (mut owners, guest) = (Owners::default(), guest(7));
    let [before, after] = [(); 2].map(|()| owners.add(&guest, OwnerIdentity::BY_NUMBER));
    owners.connect(after, &guest, false);
    owners.forget_unused(before);
    assert!(owners.get(before).is_none());
    assert_eq!(with_pid(&owners, 7), Some(after));
}

#[test]
fn nothing_is_left_of_an_owner_of_another_namespace() {
    let (mut owners, guest) = (Owners::default(), guest(7));
    for identity in [OwnerIdentity::UNIDENTIFIED, connected(1)] {
        let owner = owners.add(&guest, identity);
        assert_eq!(owners.elsewhere(&guest).next(), Some(owner));
        owners.forget_unused(owner);
        assert_eq!(owners.elsewhere(&guest).next(), None);
    }
}

#[test]
fn processes_of_other_namespaces_are_told_apart() {
    let (mut owners, guest) = (Owners::default(), guest(7));
    let [one, other] = [1, 2].map(|start| owners.add(&guest, connected(start)));
    assert_eq!(owners.find(&guest, &connected(1)), Some(one));
    assert_eq!(owners.find(&guest, &connected(2)), Some(other));
    let unknown = owners.add(&guest, OwnerIdentity::UNIDENTIFIED);
    assert_eq!(owners.find(&guest, &connected(3)), None, "what was said was not of it");
    assert_eq!(owners.find(&guest, &OwnerIdentity::UNIDENTIFIED), Some(unknown));
}

#[test]
fn only_a_lease_of_nobody_known_is_given_back_by_another() {
    let (mut owners, guest) = (Owners::default(), guest(7));
    let resource = Lockspaces::new().resource(b"", b"/image").unwrap();
    let [unknown, known, asking] =
        [OwnerIdentity::UNIDENTIFIED, connected(1), OwnerIdentity::UNIDENTIFIED]
            .map(|identity| owners.add(&guest, identity));
    assert_eq!(owners.holder_for(asking, &guest, resource), asking, "nobody has it");
    owners.add_lease(known, resource);
    assert_eq!(owners.holder_for(asking, &guest, resource), asking, "it is of a known process");
    owners.add_lease(unknown, resource);
    assert_eq!(owners.holder_for(asking, &guest, resource), unknown);
    owners.add_lease(asking, resource);
    assert_eq!(owners.holder_for(asking, &guest, resource), asking);
}

#[test]
fn the_last_registration_is_the_one_that_is_listed() {
    let (mut owners, guest) = (Owners::default(), guest(7));
    let resource = Lockspaces::new().resource(b"", b"/image").unwrap();
    let owner = owners.add(&guest, OwnerIdentity::BY_NUMBER);
    owners.connect(owner, &guest, false);
    assert_eq!(owners.listed().count(), 0, "it has no lease");
    owners.add_lease(owner, resource);
    assert_eq!(owners.listed().count(), 1);
    assert!(owners.is_listed(owner, &guest));
    assert!(!owners.is_listed(owner, &self::guest(7)), "an earlier registration");
    owners.add(&guest, OwnerIdentity::BY_NUMBER);
    assert_eq!(owners.listed().count(), 0, "another has its pid");
}
