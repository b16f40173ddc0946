use super::*;
use crate::ids::OwnerId;
use crate::owner::registration::Registration;
use crate::protocol::{Guest, Terms};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

const EXCLUSIVE: Terms = Terms { shared: false, autocreate: false };
const SHARED: Terms = Terms { shared: true, autocreate: false };

/// A lockspace over a directory of its own, with a file `image` in it.
struct Fixture {
    dir: tempfile::TempDir,
    lockspaces: Lockspaces,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("image"), "").unwrap();
        let mut fixture = Self { dir, lockspaces: Lockspaces::new() };
        let space = fixture.space();
        fixture.lockspaces.add_space(&space).unwrap();
        fixture
    }

    fn space(&self) -> Vec<u8> {
        self.dir.path().as_os_str().as_bytes().to_vec()
    }

    fn id(&mut self, name: &str) -> ResourceId {
        let space = self.space();
        self.lockspaces.resource(&space, name.as_bytes()).unwrap()
    }

    fn perform(&mut self, name: &str, action: &Action) -> Result<HolderChange, LockError> {
        let id = self.id(name);
        let result = match self.lockspaces.begin(id, action) {
            Begun::Finished(result) => result,
            Begun::Job(already, job) => {
                let result = self.lockspaces.finish(
                    id,
                    action,
                    job.run(&crate::lease::local_locks::LocalLocks::default()),
                );
                result.map(|then| if then == HolderChange::None { already } else { then })
            }
        };
        self.lockspaces.forget_unused(id);
        result
    }

    fn acquire(&mut self, name: &str, pid: u32, terms: Terms) -> Result<HolderChange, LockError> {
        self.perform(name, &Action::Acquire(registration(pid), terms))
    }

    fn release(&mut self, name: &str, pid: u32) -> Result<HolderChange, LockError> {
        self.perform(name, &Action::Release(registration(pid)))
    }
}

fn registration(pid: u32) -> Registration {
    let guest = Guest { uuid: [1; 16], name: (*b"vm").into(), id: 1, pid };
    Registration { owner: OwnerId(pid.into()), guest: Arc::new(guest) }
}

fn holder_of(result: Result<HolderChange, LockError>) -> Option<u32> {
    match result {
        Err(LockError::Locked { holders, .. }) => holders.named.first().map(|held| held.guest.pid),
        other => panic!("not refused as locked: {other:?}"),
    }
}

#[test]
fn an_exclusive_lease_excludes_even_its_owner() {
    let mut fixture = Fixture::new();
    let gained = fixture.acquire("image", 7, EXCLUSIVE).unwrap();
    assert_eq!(gained, HolderChange::Gained(OwnerId(7)));
    for (pid, terms) in [(7, EXCLUSIVE), (7, SHARED), (8, EXCLUSIVE), (8, SHARED)] {
        assert_eq!(holder_of(fixture.acquire("image", pid, terms)), Some(7));
    }
    assert!(matches!(fixture.release("image", 8), Err(LockError::NotHolder { pid: 8, .. })));
    assert_eq!(fixture.release("image", 7).unwrap(), HolderChange::Lost(OwnerId(7)));
    assert!(matches!(fixture.release("image", 7), Err(LockError::NotLocked(_))));
    assert!(fixture.lockspaces.are_unused());
    assert!(fixture.lockspaces.by_file.is_empty());
}

#[test]
fn a_shared_lease_is_released_as_often_as_it_was_acquired() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.acquire("image", 7, SHARED).unwrap(), HolderChange::Gained(OwnerId(7)));
    assert_eq!(fixture.acquire("image", 7, SHARED).unwrap(), HolderChange::None);
    assert_eq!(fixture.acquire("image", 8, SHARED).unwrap(), HolderChange::Gained(OwnerId(8)));
    assert_eq!(fixture.release("image", 8).unwrap(), HolderChange::Lost(OwnerId(8)));
    assert_eq!(fixture.release("image", 7).unwrap(), HolderChange::None);
    assert_eq!(holder_of(fixture.acquire("image", 8, EXCLUSIVE)), Some(7));
    assert_eq!(fixture.release("image", 7).unwrap(), HolderChange::Lost(OwnerId(7)));
    fixture.acquire("image", 8, EXCLUSIVE).unwrap();
}

#[test]
fn an_owner_who_goes_leaves_nothing_behind() {
    let mut fixture = Fixture::new();
    fixture.acquire("image", 7, SHARED).unwrap();
    fixture.acquire("image", 7, SHARED).unwrap();
    let disown = Action::ReleaseAll(OwnerId(7));
    assert_eq!(fixture.perform("image", &disown).unwrap(), HolderChange::Lost(OwnerId(7)));
    assert_eq!(fixture.perform("image", &disown).unwrap(), HolderChange::None);
    assert!(fixture.lockspaces.are_unused());
}

#[test]
fn another_name_of_a_file_is_refused_with_its_holder() {
    let mut fixture = Fixture::new();
    fs::hard_link(fixture.dir.path().join("image"), fixture.dir.path().join("alias")).unwrap();
    fixture.acquire("image", 7, EXCLUSIVE).unwrap();
    let own_dir = fixture.dir.path().file_name().unwrap().to_str().unwrap().to_owned();
    for alias in ["alias", "./image", "/image", &format!("../{own_dir}/image")] {
        assert_eq!(holder_of(fixture.acquire(alias, 8, SHARED)), Some(7), "{alias}");
    }
    fixture.release("image", 7).unwrap();
    fixture.acquire("alias", 8, SHARED).unwrap();
    fixture.acquire("image", 7, SHARED).unwrap();
    fixture.release("alias", 8).unwrap();
    assert_eq!(holder_of(fixture.acquire("alias", 8, EXCLUSIVE)), Some(7));
}

#[test]
fn a_refusal_names_the_holders_but_not_without_end() {
    let mut fixture = Fixture::new();
    for pid in 1..=10 {
        fixture.acquire("image", pid, SHARED).unwrap();
    }
    for refused in [
        fixture.acquire("image", 11, EXCLUSIVE),
        fixture.acquire("./image", 11, EXCLUSIVE),
        fixture.release("image", 11),
    ] {
        let refusal = refused.unwrap_err();
        let holders = refusal.holders().unwrap().to_string();
        assert_eq!(holders.matches("has held it").count(), 8, "{holders}");
        assert!(holders.contains("pid 8)") && holders.ends_with(", and 2 more"), "{holders}");
    }
}

#[test]
fn a_strangers_lock_has_no_holder() {
    use common::sys::lock::{self, Kind, Mode};
    let mut fixture = Fixture::new();
    let path = fixture.dir.path().join("image");
    let stranger = fs::File::options().read(true).write(true).open(path).unwrap();
    assert!(lock::try_lock(&stranger, Kind::Ofd, Mode::Shared).unwrap());
    assert_eq!(holder_of(fixture.acquire("image", 7, EXCLUSIVE)), None);
    fixture.acquire("image", 7, SHARED).unwrap();
}

#[test]
fn a_lease_on_its_way_out_is_not_held_any_more() {
    let mut fixture = Fixture::new();
    fixture.acquire("image", 7, EXCLUSIVE).unwrap();
    let id = fixture.id("image");
    let release = Action::Release(registration(7));
    let Begun::Job(HolderChange::Lost(OwnerId(7)), job) = fixture.lockspaces.begin(id, &release)
    else {
        panic!("not lost by a job")
    };
    assert_eq!(holder_of(fixture.acquire("./image", 8, EXCLUSIVE)), None);
    let result = fixture.lockspaces.finish(
        id,
        &release,
        job.run(&crate::lease::local_locks::LocalLocks::default()),
    );
    assert_eq!(result.unwrap(), HolderChange::None);
    fixture.acquire("./image", 8, EXCLUSIVE).unwrap();
}

#[test]
fn a_lockspace_is_its_path_letter_by_letter() {
    let mut fixture = Fixture::new();
    let alias = [&fixture.space()[..], b"/"].concat();
    assert!(!fixture.lockspaces.has_space(&alias));
    let unknown = fixture.lockspaces.resource(&alias, b"image").unwrap_err();
    assert!(matches!(unknown, LockError::NoLockspace(path) if *path == *alias));
    fixture.lockspaces.add_space(&alias).unwrap();
    fixture.lockspaces.add_space(&alias).unwrap();
    fixture.acquire("image", 7, EXCLUSIVE).unwrap();
    let id = fixture.lockspaces.resource(&alias, b"image").unwrap();
    let action = Action::Acquire(registration(8), EXCLUSIVE);
    let Begun::Job(_, job) = fixture.lockspaces.begin(id, &action) else { panic!("no job") };
    assert_eq!(
        holder_of(fixture.lockspaces.finish(
            id,
            &action,
            job.run(&crate::lease::local_locks::LocalLocks::default())
        )),
        Some(7)
    );
}

#[test]
fn only_files_without_leases_are_made_and_removed() {
    let mut fixture = Fixture::new();
    fixture.perform("new", &Action::Create).unwrap();
    fixture.perform("new", &Action::Create).unwrap();
    fixture.acquire("new", 7, EXCLUSIVE).unwrap();
    assert_eq!(holder_of(fixture.perform("new", &Action::Create)), Some(7));
    assert_eq!(holder_of(fixture.perform("new", &Action::Delete)), Some(7));
    fixture.release("new", 7).unwrap();
    fixture.perform("new", &Action::Delete).unwrap();
    fixture.perform("new", &Action::Delete).unwrap();
    assert!(!fixture.dir.path().join("new").exists());
}

#[test]
fn there_is_an_end_to_lockspaces() {
    let mut lockspaces = Lockspaces::new();
    for number in 0..LOCKSPACES_MAX {
        lockspaces.add_space(format!("/{number}").as_bytes()).unwrap();
    }
    let refused = lockspaces.add_space(b"/one/more").unwrap_err();
    assert!(matches!(refused, LockError::TooManyLockspaces));
    lockspaces.add_space(b"/0").unwrap();
}
