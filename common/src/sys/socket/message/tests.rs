use std::fs::File;
use std::os::unix::net::SocketAddr;

use super::*;
use crate::sys::socket::send_datagram;

#[test]
fn a_message_that_is_kept_comes_again_with_its_fds_and_its_sender() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("messages");
    assert!(!is_bound_at(&path));
    let receiver = bind_messages(Some((&path, 0o600))).unwrap();
    assert!(is_bound_at(&path));
    let sender = UnixDatagram::unbound().unwrap();
    sender.connect(&path).unwrap();
    let file = File::open("/dev/null").unwrap();
    send_datagram(&sender, b"abc", &[file.as_fd()]).unwrap();
    for keeps in [true, false] {
        let mut bytes = [0; 8];
        let message = receive_message(&receiver, &mut bytes, keeps).unwrap();
        assert_eq!((&bytes[..message.count], message.fds.len()), (&b"abc"[..], 1));
        let sender = message.sender.unwrap();
        assert_eq!(sender.pid, std::process::id().cast_signed());
        assert_eq!(sender.uid, nix::unistd::getuid().as_raw());
        assert!(message.is_whole);
    }
    let error = receive_message(&receiver, &mut [0; 8], false).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn a_message_that_is_too_long_is_not_whole() {
    let receiver = bind_messages(None).unwrap();
    let address: SocketAddr = receiver.local_addr().unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    sender.connect_addr(&address).unwrap();
    send_datagram(&sender, b"abc", &[]).unwrap();
    let message = receive_message(&receiver, &mut [0; 2], false).unwrap();
    assert!(!message.is_whole);
}

#[test]
fn packets_keep_their_bounds() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("packets");
    let listener = listen_for_packets(Some((&path, 0o600))).unwrap();
    let client = connect_for_packets(&UnixAddr::new(&path).unwrap()).unwrap();
    let server = crate::sys::socket::accept(&listener).unwrap();
    let file = File::open("/dev/null").unwrap();
    send_datagram(&server, b"one", &[file.as_fd()]).unwrap();
    send_datagram(&server, b"three", &[]).unwrap();
    let mut bytes = [0; 16];
    let receive = |bytes: &mut [u8]| {
        let message = receive_message(&client, bytes, false).unwrap();
        (message.count, message.fds.len())
    };
    assert_eq!((receive(&mut bytes), receive(&mut bytes)), ((3, 1), (5, 0)));
    drop(server);
    assert_eq!(receive(&mut bytes), (0, 0));
}
