use super::*;
use std::fs::File;

#[test]
fn a_posix_lock_becomes_an_ofd_lock() {
    for mode in [Mode::Shared, Mode::Exclusive] {
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = || File::options().read(true).write(true).open(file.path()).unwrap();
        let (one, two) = (open(), open());
        assert!(try_lock(&one, Kind::Posix, mode).unwrap());
        let before = Hold::Whole(if mode == Mode::Shared { Kind::Ofd } else { Kind::Posix });
        assert_eq!(confirm(&one, mode).unwrap(), before);
        assert_eq!(make_ofd(&one, mode).unwrap(), Hold::Whole(Kind::Ofd));
        assert_eq!(confirm(&one, mode).unwrap(), Hold::Whole(Kind::Ofd));
        // It is not released with another fd of the file.
        drop(two);
        assert!(!try_lock(open(), Kind::Ofd, Mode::Exclusive).unwrap());
        assert_eq!(try_lock(open(), Kind::Ofd, Mode::Shared).unwrap(), mode == Mode::Shared);
    }
}

#[test]
fn an_exclusive_posix_lock_that_is_to_be_shared_is_in_nobodys_way() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let open = || File::options().read(true).write(true).open(file.path()).unwrap();
    let (one, two) = (open(), open());
    assert!(try_lock(&one, Kind::Posix, Mode::Exclusive).unwrap());
    assert_eq!(confirm(&one, Mode::Shared).unwrap(), Hold::Whole(Kind::Ofd));
    assert_eq!(confirm(&two, Mode::Shared).unwrap(), Hold::Whole(Kind::Ofd));
}

#[test]
fn what_was_lost_is_taken_again_as_far_as_it_can_be_had() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let open = || File::options().read(true).write(true).open(file.path()).unwrap();
    let (one, other) = (open(), open());
    assert!(try_lock(&other, Kind::Ofd, Mode::Exclusive).unwrap());
    assert_eq!(confirm(&one, Mode::Exclusive).unwrap(), Hold::Nothing);
    assert_eq!(confirm(&one, Mode::Shared).unwrap(), Hold::Nothing);
    assert_eq!(confirm_posix(&one, Mode::Exclusive).unwrap(), Hold::Nothing);
    assert_eq!(make_ofd(&one, Mode::Exclusive).unwrap(), Hold::Nothing);
    assert!(try_lock(&other, Kind::Ofd, Mode::Shared).unwrap());
    assert_eq!(confirm(&one, Mode::Exclusive).unwrap(), Hold::Shared(Kind::Ofd));
    assert!(!try_lock(&other, Kind::Ofd, Mode::Exclusive).unwrap());
    unlock(&other, Kind::Ofd).unwrap();
    assert_eq!(confirm(&one, Mode::Exclusive).unwrap(), Hold::Whole(Kind::Ofd));
    assert!(!try_lock(&other, Kind::Ofd, Mode::Shared).unwrap());
}

#[test]
fn a_reader_in_between_leaves_what_is_shared_with_him() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let open = || File::options().read(true).write(true).open(file.path()).unwrap();
    let (one, reader) = (open(), open());
    assert!(try_lock(&one, Kind::Posix, Mode::Shared).unwrap());
    assert!(try_lock(&reader, Kind::Ofd, Mode::Shared).unwrap());
    assert_eq!(make_ofd(&one, Mode::Exclusive).unwrap(), Hold::Shared(Kind::Ofd));
    drop(reader);
    assert_eq!(confirm(&one, Mode::Exclusive).unwrap(), Hold::Whole(Kind::Ofd));
}

#[test]
fn two_descriptions_of_one_file_exclude_each_other() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let open = || File::options().read(true).write(true).open(file.path()).unwrap();
    let (one, two) = (open(), open());
    assert!(try_lock(&one, Kind::Ofd, Mode::Exclusive).unwrap());
    assert!(!try_lock(&two, Kind::Ofd, Mode::Shared).unwrap());
    assert!(!try_lock(&two, Kind::Posix, Mode::Exclusive).unwrap());
    unlock(&one, Kind::Ofd).unwrap();
    assert!(try_lock(&two, Kind::Ofd, Mode::Shared).unwrap());
    assert!(try_lock(&one, Kind::Ofd, Mode::Shared).unwrap());
    assert!(!try_lock(&one, Kind::Ofd, Mode::Exclusive).unwrap());
}
