use super::*;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

#[test]
fn an_fd_travels_with_its_byte() {
    let (one, two) = UnixStream::pair().unwrap();
    let file = File::open("/dev/null").unwrap();
    let receive = || {
        let Received { count, fds, may_have_more } = receive(&two, &mut [0; 10]).unwrap();
        (count, fds.len(), may_have_more)
    };
    send_fd(&one, file.as_fd()).unwrap();
    assert_eq!(receive(), (1, 1, true));
    send(&one, [b"a", b"bc"]).unwrap();
    send_fd(&one, file.as_fd()).unwrap();
    send(&one, [b"", b"d"]).unwrap();
    assert_eq!(receive(), (4, 1, true), "nothing is read from behind an fd");
    assert_eq!(receive(), (1, 0, false));
    send(&one, [&[0; 10], b""]).unwrap();
    assert_eq!(receive(), (10, 0, true));
    assert_eq!(send(&one, [b"12", &[0; 5000]]).unwrap(), 5002);
    assert_eq!(receive(), (10, 0, true));
    assert!(!has_hung_up(&two));
    drop(one);
    assert!(has_hung_up(&two), "whatever there is to read");
    while receive().0 > 0 {}
    assert_eq!(receive(), (0, 0, false));
}

#[test]
fn a_socket_has_the_mode_asked_for_and_its_peer_is_us() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sock");
    let listener = listen_at(&path, 0o700).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(bound_path(&listener), Some(path.clone()));
    let client = UnixStream::connect(&path).unwrap();
    let (server, _) = listener.accept().unwrap();
    assert_eq!(peer(&server).unwrap().pid, std::process::id().cast_signed());
    assert!(peer_pidfd(&server).is_ok());
    drop(client);
}

#[test]
fn what_is_no_stream_socket_cannot_listen() {
    let datagram = std::os::unix::net::UnixDatagram::unbound().unwrap();
    assert!(listener_from(datagram.into()).is_err());
    assert!(listener_from(File::open("/dev/null").unwrap().into()).is_err());
}
