//! Lockspaces on a journey.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use tests::guest::{NOBODY, owner};
use tests::harness::{Route, Subject, Whose};
use tests::load::is_free;
use tests::wire::ACQUIRE_AUTOCREATE;

use super::leases::text;

tests::ours! { Virtlockd: a_lockspace_whose_name_is_no_text_stays }

tests::mixed! { Virtlockd:
    leases_can_be_given_back_however_many_lockspaces_there_are,
    a_lease_whose_lockspace_is_no_text_is_not_for_libvirts_daemon,
}

fn a_lockspace_whose_name_is_no_text_stays(subject: Subject) {
    let mut daemon = subject.setup().replaceable().start();
    let named = |end: &[u8]| [text(&daemon.file("space")).as_bytes(), end].concat();
    let (space, leased) = (named(b"\xff"), named(b"\xfe"));
    let as_text = String::from_utf8_lossy(&space).into_owned();
    let mut client = daemon.lock_client();
    client.register(&owner(NOBODY), 0).unwrap();
    for space in [&space, &leased] {
        client.create_lockspace(space).unwrap();
        let file = Path::new(OsStr::from_bytes(space)).join("lease");
        std::fs::write(file, "").unwrap();
    }
    client.acquire(&leased, "lease", 0).unwrap();
    for _ in 0..3 {
        daemon.change_to(Whose::Ours);
        let mut client = daemon.lock_client();
        client.register(&owner(NOBODY), 0).unwrap();
        client.acquire(&space, "lease", 0).unwrap();
        client.release(&space, "lease", 0).unwrap();
        assert_eq!(client.acquire(&leased, "lease", 0).unwrap_err().code, 87);
        // Nor is there another one in its place.
        assert_eq!(client.acquire(&as_text, "lease", 0).unwrap_err().code, 1);
    }
    client.release(&leased, "lease", 0).unwrap();
}

/// It cannot read such a name. The lease stays, although nobody can give it back.
fn a_lease_whose_lockspace_is_no_text_is_not_for_libvirts_daemon(route: Route) {
    let mut daemon = route.start().setup().replaceable().start();
    daemon.change_to(Whose::Ours);
    let space = [text(&daemon.file("space")).as_bytes(), b"\xff"].concat();
    let mut client = daemon.lock_client();
    client.register(&owner(NOBODY), 0).unwrap();
    client.create_lockspace(&space).unwrap();
    client.acquire(&space, "lease", ACQUIRE_AUTOCREATE).unwrap();
    daemon.change_to(Whose::Theirs);
    daemon.expect_said("Cannot hand the lease on ");
    let file = Path::new(OsStr::from_bytes(&space)).join("lease");
    assert!(!is_free(file));
}

fn leases_can_be_given_back_however_many_lockspaces_there_are(route: Route) {
    const SPACES: usize = 5000;
    const EVERY: usize = 100;
    let mut daemon = route.start().setup().replaceable().start();
    let spaces: Vec<_> =
        (0..SPACES).map(|number| text(&daemon.file(&format!("s{number}")))).collect();
    let mut client = daemon.lock_client();
    client.register(&owner(NOBODY), 0).unwrap();
    spaces.iter().for_each(|space| client.create_lockspace(space).unwrap());
    let leased = || spaces.iter().step_by(EVERY);
    leased().for_each(|space| client.acquire(space, "lease", ACQUIRE_AUTOCREATE).unwrap());
    daemon.change_to(Whose::Ours);
    daemon.change_to(Whose::Ours);
    let mut client = daemon.lock_client();
    client.register(&owner(NOBODY), 0).unwrap();
    for space in leased() {
        assert!(!is_free(format!("{space}/lease")));
        client.release(space, "lease", 0).unwrap();
    }
    // There is room for no more.
    assert_eq!(client.create_lockspace(text(&daemon.file("more"))).unwrap_err().code, 1);
}
