use super::*;
use std::io::Write;
use std::os::fd::IntoRawFd;

#[test]
fn bytes_arrive_once_and_cannot_be_changed() {
    let fd_set = FdSet::default();
    let number = fd_set.bytes(b"precious").unwrap();
    (&File::from(fd_set.bytes.borrow()[0].try_clone().unwrap())).write_all(b"x").unwrap_err();
    let number_of_copy = fd_set.bytes.borrow()[0].try_clone().unwrap().into_raw_fd();
    assert!(number != number_of_copy);
    let mut inherited = InheritedFds::of([number_of_copy]);
    assert!(inherited.take_socket(Some(number_of_copy)).is_err() && !inherited.is_empty());
    assert_eq!(inherited.take_bytes(Some(number_of_copy)).unwrap(), b"precious");
    assert!(inherited.take_bytes(Some(number_of_copy)).is_err());
    assert!(inherited.take(None).is_err() && inherited.is_empty());
}

#[test]
fn what_is_no_memfd_stays_where_it_is_taken_for_one() {
    let socket = std::os::unix::net::UnixDatagram::unbound().unwrap().into_raw_fd();
    let named = tempfile::NamedTempFile::new().unwrap();
    let file = named.as_file().try_clone().unwrap().into_raw_fd();
    let mut inherited = InheritedFds::of([socket, file]);
    for number in [socket, file] {
        assert!(inherited.take_bytes(Some(number)).is_err());
        assert!(inherited.take_content(Some(number)).is_err());
    }
    assert!(inherited.take_socket(Some(file)).is_err());
    assert!(inherited.take_socket(Some(socket)).is_ok() && inherited.take(Some(file)).is_ok());
}

#[test]
fn fds_stay_open_for_as_long_as_it_is_wanted() {
    let file = File::open("/dev/null").unwrap();
    let closes = || {
        let flags = nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_GETFD).unwrap();
        flags & nix::libc::FD_CLOEXEC != 0
    };
    let fd_set = FdSet::default();
    assert_eq!(fd_set.fd(&file), file.as_raw_fd());
    let kept = fd_set.keep_open().unwrap();
    assert!(!closes());
    drop(kept);
    assert!(closes());
}

#[test]
fn what_are_no_ends_of_one_pipe_stays() {
    let pipes = [pipe::pipe().unwrap(), pipe::pipe().unwrap()];
    let [(reader, writer), (other_reader, other_writer)] =
        pipes.map(|(reader, writer)| (reader.into_raw_fd(), writer.into_raw_fd()));
    let mut inherited = InheritedFds::of([reader, writer, other_reader, other_writer]);
    let wrong = [
        (reader, other_writer),
        (writer, other_writer),
        (writer, reader),
        (reader, reader),
        (reader, -1),
        (-1, writer),
    ];
    for ends in wrong {
        inherited.take_pipe(ends).unwrap_err();
    }
    let (own_reader, own_writer) = pipe::pipe().unwrap();
    let (own_reader, own_writer) = (own_reader.into_raw_fd(), own_writer.as_raw_fd());
    inherited.add(own_reader);
    inherited.take_pipe((own_reader, own_writer)).unwrap_err();
    inherited.take(Some(own_reader)).unwrap();
    inherited.take_pipe((reader, writer)).unwrap();
    inherited.take_pipe((reader, writer)).unwrap_err();
    inherited.take_pipe((other_reader, other_writer)).unwrap();
    assert!(inherited.is_empty());
}

#[test]
fn more_bytes_than_anybody_passes_are_not_read() {
    for (len, is_read) in [(BYTES_MAX, true), (BYTES_MAX + 1, false)] {
        let file = crate::sys::file::nameless("large").unwrap();
        file.set_len(len).unwrap();
        let number = file.into_raw_fd();
        assert_eq!(InheritedFds::of([number]).take_bytes(Some(number)).is_ok(), is_read);
    }
}

#[test]
fn what_is_looked_at_stays() {
    let file = tempfile::tempfile().unwrap().into_raw_fd();
    let mut inherited = InheritedFds::of([file]);
    let mut seen = None;
    inherited.show(file, |fd| seen = Some(fd.as_raw_fd()));
    assert_eq!(seen, Some(file));
    inherited.show(file + 1, |fd| panic!("{fd:?} is not inherited"));
    assert!(inherited.has(|fd| fd.as_raw_fd() == file) && !inherited.has(|_| false));
    inherited.take(Some(file)).unwrap();
    assert!(!inherited.has(|_| true));
}
