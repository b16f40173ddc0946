use super::*;

fn open(path: &Path) -> File {
    File::options().read(true).write(true).open(path).unwrap()
}

/// Returns whether another open file description is excluded.
fn is_locked(path: &Path) -> bool {
    !lock::try_lock(open(path), Kind::Ofd, Mode::Exclusive).unwrap()
}

#[test]
fn a_new_posix_lock_is_kept_whoever_else_opens_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lease");
    std::fs::write(&path, "").unwrap();
    let posix = InheritedPosixLocks { locks_new_leases: true, ..InheritedPosixLocks::default() };
    // Open since before it is locked.
    let others = [open(&path), open(&path)];
    let file = open(&path);
    let file_id = FileId::of_open(&file).unwrap();
    let file = posix.lock(file_id, file, Mode::Exclusive).unwrap().expect("it was free");
    let [one, two] = others;
    assert!(posix.lock(file_id, one, Mode::Exclusive).unwrap().is_none());
    posix.close(file_id, two);
    assert!(is_locked(&path));
    let hold = Hold::Whole(Kind::Posix);
    posix.release(file_id, Arc::new(file), Mode::Exclusive, hold).unwrap();
    assert!(!is_locked(&path) && posix.files().is_empty());
}

#[test]
fn who_does_not_get_a_lock_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lease");
    std::fs::write(&path, "").unwrap();
    let posix = InheritedPosixLocks { locks_new_leases: true, ..InheritedPosixLocks::default() };
    let stranger = open(&path);
    assert!(lock::try_lock(&stranger, Kind::Ofd, Mode::Exclusive).unwrap());
    let file = open(&path);
    let file_id = FileId::of_open(&file).unwrap();
    assert!(posix.lock(file_id, file, Mode::Exclusive).unwrap().is_none());
    assert!(posix.files().is_empty());
    posix.close(file_id, open(&path));
}
