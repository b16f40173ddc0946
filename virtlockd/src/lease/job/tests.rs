use super::*;

const EXCLUSIVE: Terms = Terms { shared: false, autocreate: false };
const SHARED: Terms = Terms { shared: true, autocreate: false };
const AUTOCREATED: Terms = Terms { shared: false, autocreate: true };

fn acquire(path: &Path, terms: Terms) -> JobResult {
    Job::Acquire { path: path.into(), terms }.run(&LocalLocks::default())
}

fn lease(path: &Path, terms: Terms) -> Lease {
    match acquire(path, terms) {
        JobResult::Acquired(lease) => lease,
        other => panic!("not acquired: {other:?}"),
    }
}

#[test]
fn names_of_one_file_exclude_each_other_and_are_released_apart() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    fs::write(&one, "").unwrap();
    fs::hard_link(&one, &two).unwrap();
    let held = lease(&one, EXCLUSIVE);
    assert!(
        matches!(acquire(&two, SHARED), JobResult::Busy(file_id) if file_id == Some(held.file_id()))
    );
    held.release(&LocalLocks::default(), &one, EXCLUSIVE);
    let (held, other) = (lease(&one, SHARED), lease(&two, SHARED));
    held.release(&LocalLocks::default(), &one, SHARED);
    assert!(matches!(acquire(&one, EXCLUSIVE), JobResult::Busy(_)));
    other.release(&LocalLocks::default(), &two, SHARED);
    lease(&one, EXCLUSIVE).release(&LocalLocks::default(), &one, EXCLUSIVE);
}

#[test]
fn an_automatic_file_goes_with_its_last_lease() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lease");
    let terms = Terms { shared: true, autocreate: true };
    let (held, other) = (lease(&path, terms), lease(&path, terms));
    held.release(&LocalLocks::default(), &path, terms);
    assert!(path.exists());
    other.release(&LocalLocks::default(), &path, terms);
    assert!(!path.exists());
}

#[test]
fn a_file_that_took_the_path_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lease");
    let held = lease(&path, AUTOCREATED);
    fs::remove_file(&path).unwrap();
    let other = lease(&path, AUTOCREATED);
    held.release(&LocalLocks::default(), &path, AUTOCREATED);
    assert!(other.file_id().is_at(&path));
}

#[test]
fn a_file_that_was_replaced_after_it_was_opened_is_not_leased() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lease");
    let lock = |file| {
        let file_id = FileId::of_open(&file).unwrap();
        Lease::take_if_at(&LocalLocks::default(), file, file_id, &path, Mode::Exclusive).unwrap()
    };
    let removed = File::create(&path).unwrap();
    fs::remove_file(&path).unwrap();
    assert!(lock(removed).is_none());
    let replaced = File::create(&path).unwrap();
    fs::rename(&path, dir.path().join("former")).unwrap();
    let file = File::create(&path).unwrap();
    assert!(lock(replaced).is_none());
    assert!(matches!(lock(file), Some(Acquisition::Lease(_))));
}

#[test]
fn a_file_is_not_removed_while_somebody_has_it_under_another_name() {
    let dir = tempfile::tempdir().unwrap();
    let (path, alias) = (dir.path().join("lease"), dir.path().join("./lease"));
    let held = lease(&path, AUTOCREATED);
    let delete = || Job::Delete { path: alias.as_path().into() }.run(&LocalLocks::default());
    assert!(matches!(delete(), JobResult::Busy(file_id) if file_id == Some(held.file_id())));
    held.release(&LocalLocks::default(), &path, EXCLUSIVE);
    assert!(matches!(delete(), JobResult::Finished));
    assert!(!path.exists());
    assert!(matches!(delete(), JobResult::Finished));
}

#[test]
fn a_lock_is_gone_although_its_file_is_still_open_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lease");
    fs::write(&path, "").unwrap();
    let held = lease(&path, EXCLUSIVE);
    let _duplicate = held.file().try_clone().unwrap();
    held.release(&LocalLocks::default(), &path, EXCLUSIVE);
    lease(&path, EXCLUSIVE);
}

#[test]
fn failures_are_libvirts() {
    let dir = tempfile::tempdir().unwrap();
    let shown = dir.path().display();
    let message = |done| match done {
        JobResult::Failed(error) => error.to_rpc().message(),
        other => panic!("not failed: {other:?}"),
    };
    assert_eq!(
        message(acquire(dir.path(), EXCLUSIVE)),
        format!("Unable to open resource {shown}: Is a directory")
    );
    assert_eq!(
        message(Job::Delete { path: dir.path().into() }.run(&LocalLocks::default())),
        format!("Unable to delete lockspace resource {shown}: Is a directory")
    );
    let file = dir.path().join("file");
    assert!(matches!(
        Job::Create { path: file.as_path().into() }.run(&LocalLocks::default()),
        JobResult::Finished
    ));
}
