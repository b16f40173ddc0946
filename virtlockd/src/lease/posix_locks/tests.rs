use super::*;

fn open(path: &Path) -> File {
    File::options().read(true).write(true).open(path).unwrap()
}

/// As somebody else sees it.
fn is_locked(path: &Path) -> bool {
    !lock::try_lock(open(path), Kind::Ofd, Mode::Exclusive).unwrap()
}

#[test]
fn a_new_posix_lock_is_kept_whoever_else_opens_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lease");
    std::fs::write(&path, "").unwrap();
    let posix = PosixFiles { get_more: true, ..PosixFiles::default() };
    // Open since before it is locked.
    let others = [open(&path), open(&path)];
    let file = open(&path);
    let inode = Inode::of_open(&file).unwrap();
    let file = posix.lock(inode, file, Mode::Exclusive).unwrap().expect("it was free");
    let [one, two] = others;
    assert!(posix.lock(inode, one, Mode::Exclusive).unwrap().is_none());
    posix.close(inode, two);
    assert!(is_locked(&path));
    let hold = Hold::Whole(Kind::Posix);
    posix.release(inode, Arc::new(file), Mode::Exclusive, hold).unwrap();
    assert!(!is_locked(&path) && posix.files().is_empty());
}

#[test]
fn who_does_not_get_a_lock_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lease");
    std::fs::write(&path, "").unwrap();
    let posix = PosixFiles { get_more: true, ..PosixFiles::default() };
    let stranger = open(&path);
    assert!(lock::try_lock(&stranger, Kind::Ofd, Mode::Exclusive).unwrap());
    let file = open(&path);
    let inode = Inode::of_open(&file).unwrap();
    assert!(posix.lock(inode, file, Mode::Exclusive).unwrap().is_none());
    assert!(posix.files().is_empty());
    posix.close(inode, open(&path));
}
