use super::*;
use std::fs::File;
use std::os::fd::IntoRawFd;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

#[test]
fn a_mark_goes_with_the_file_and_not_with_its_name() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let open = || File::open(file.path()).unwrap();
    let (one, other) = (open(), open());
    mark(&one).unwrap();
    assert!(is_marked(one.try_clone().unwrap()) && !is_marked(other));
}

#[test]
fn an_inherited_fd_is_adopted_close_on_exec() {
    let number = File::open("/dev/null").unwrap().into_raw_fd();
    // SAFETY: it has just been taken from its owner.
    let fd = unsafe { adopt(number) }.unwrap();
    let flags = fcntl(&fd, FcntlArg::F_GETFD).unwrap();
    assert_eq!(flags, FdFlag::FD_CLOEXEC.bits());
}

#[test]
fn what_is_read_comes_behind_what_was_there() {
    let file = tempfile::tempfile().unwrap();
    nix::unistd::write(&file, b"abcdef").unwrap();
    let mut bytes = b">".to_vec();
    assert_eq!(read_behind(&file, 1, &mut bytes, 3).unwrap(), 3);
    assert_eq!(read_behind(&file, 5, &mut bytes, 3).unwrap(), 1);
    assert_eq!(read_behind(&file, 6, &mut bytes, 3).unwrap(), 0);
    assert_eq!(bytes, b">bcdf");
    let error = read_behind(&file, u64::MAX, &mut bytes, 3).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn a_number_that_is_not_open_is_refused() {
    for number in [-1, 1_000_000] {
        // SAFETY: nothing has this number.
        let error = unsafe { adopt(number) }.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(nix::libc::EBADF));
    }
}

#[test]
fn open_numbers_are_found_run_by_run() {
    let file = File::open("/dev/null").unwrap();
    let high = |first| {
        let number = fcntl(&file, FcntlArg::F_DUPFD_CLOEXEC(first)).unwrap();
        // SAFETY: it has just been made, and nothing else knows its number.
        unsafe { adopt_listed(number) }
    };
    // Too high for any other test.
    let fds = [800, 801, 803, 900].map(|first| high(first).unwrap());
    let open = fds.each_ref().map(AsRawFd::as_raw_fd);
    let found =
        || -> Vec<_> { open_numbers().into_iter().filter(|number| *number >= 800).collect() };
    assert_eq!(found(), open);
    // The limit may be lowered below what is open.
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 802, hard).unwrap();
    let found = found();
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    assert_eq!(found, open);
}

#[test]
fn a_file_is_known_by_device_and_inode() {
    use std::os::unix::fs::MetadataExt;
    let file = tempfile::tempfile().unwrap();
    let metadata = file.metadata().unwrap();
    assert_eq!(device_and_inode(&file).unwrap(), (metadata.dev(), metadata.ino()));
    assert!(is_regular_file(&file) && !is_regular_file(File::open("/dev/null").unwrap()));
}
