use super::*;
use ProcessIdentity::Inode;

/// Pid namespaces.
const FORMER: u64 = 1;
const PRESENT: u64 = 2;
const THIRD: u64 = 3;

fn guest(pid: u32) -> Guest {
    Guest { uuid: [5; 16], name: (*b"vm").into(), id: 1, pid }
}

/// Numbers of owners, as a table gives them out.
fn ids<const COUNT: usize>() -> [OwnerId; COUNT] {
    let mut owners = Owners::default();
    std::array::from_fn(|_| owners.add_dead(&Arc::new(guest(9)), OwnerIdentity::BY_NUMBER))
}

fn moved() -> RestoredOwners {
    RestoredOwners::new(Some(FORMER), Some(PRESENT))
}

fn connected(namespace: Option<u64>) -> OwnerIdentity {
    let found_by = FoundBy::Connection { number: Some(70) };
    OwnerIdentity { found_by, process_identity: Some(Inode(4)), namespace }
}

fn by_number(inode: Option<u64>) -> OwnerIdentity {
    OwnerIdentity { process_identity: inode.map(Inode), ..OwnerIdentity::BY_NUMBER }
}

#[test]
fn numbers_mean_the_same_in_the_same_namespace() {
    for (before, now) in [(Some(FORMER), Some(FORMER)), (None, Some(PRESENT)), (Some(FORMER), None)]
    {
        let owners = RestoredOwners::new(before, now);
        assert!(!owners.are_moved());
        for identity in [by_number(Some(4)), connected(Some(FORMER))] {
            assert_eq!(owners.translate(identity), identity);
        }
    }
}

#[test]
fn numbers_of_another_namespace_are_nobodys_here() {
    let owners = moved();
    assert!(owners.are_moved());
    let unidentified = |namespace| OwnerIdentity {
        process_identity: Some(Inode(4)),
        namespace,
        ..OwnerIdentity::UNIDENTIFIED
    };
    for (before, now) in [
        (by_number(Some(4)), unidentified(Some(FORMER))),
        (connected(Some(THIRD)), unidentified(Some(THIRD))),
        (connected(None), unidentified(None)),
        (connected(Some(PRESENT)), by_number(Some(4))),
    ] {
        assert_eq!(owners.translate(before), now, "{before:?}");
    }
}

#[test]
fn a_living_owner_takes_the_place_of_a_dead_one() {
    let [dead, living, later] = ids();
    let mut owners = RestoredOwners::default();
    for (id, is_dead) in [(dead, true), (living, false), (later, false)] {
        owners.add(&guest(7), &by_number(None), id, is_dead);
    }
    let found = owners.find(&Owners::default(), &guest(7), &by_number(Some(4)));
    assert_eq!(found, Some(living));
}

#[test]
fn a_dead_owner_is_found_by_as_much_as_is_known_of_it() {
    for (known, asked, is_found) in [
        (None, None, true),
        (None, Some(4), false),
        (Some(4), None, true),
        (Some(4), Some(4), true),
        (Some(4), Some(5), false),
    ] {
        let [dead] = ids();
        let mut owners = RestoredOwners::default();
        owners.add(&guest(7), &by_number(known), dead, true);
        let found = owners.find(&Owners::default(), &guest(7), &by_number(asked));
        assert_eq!(found.is_some(), is_found, "{known:?} {asked:?}");
    }
}

#[test]
fn living_owners_elsewhere_are_told_apart_by_the_table_of_all() {
    for is_dead in [false, true] {
        let [owner] = ids();
        let mut owners = RestoredOwners::default();
        owners.add(&guest(7), &connected(Some(THIRD)), owner, is_dead);
        let found = owners.find(&Owners::default(), &guest(7), &connected(Some(THIRD)));
        assert_eq!(found.is_some(), is_dead);
    }
}

#[test]
fn a_guest_is_known_by_itself_after_a_move() {
    let [owner, other] = ids();
    let mut owners = moved();
    let find = |owners: &RestoredOwners| {
        let identity = OwnerIdentity { namespace: Some(THIRD), ..OwnerIdentity::UNIDENTIFIED };
        owners.find(&Owners::default(), &guest(7), &identity)
    };
    let known = OwnerIdentity { namespace: Some(FORMER), ..OwnerIdentity::UNIDENTIFIED };
    for _ in 0..2 {
        owners.add(&guest(7), &known, owner, false);
        assert_eq!(find(&owners), Some(owner));
    }
    owners.add(&guest(7), &known, other, false);
    assert_eq!(find(&owners), None, "there are two");
}

#[test]
fn only_records_that_say_so_are_of_nobody() {
    let process = |found| document::Process { found, ..document::Process::default() };
    for (found, expected) in [
        (None, false),
        (Some(document::Found::Never), true),
        (Some(document::Found::Dead), false),
        (Some(document::Found::Connection), false),
    ] {
        assert_eq!(is_unidentified(Some(&process(found))), expected);
    }
    assert!(!is_unidentified(None));
}
