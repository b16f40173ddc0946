use std::fs::File;

use super::*;
use crate::rpc::connection::{Message, Unsent, Want};
use crate::rpc::header::{Header, kind};

const CALL: Header =
    Header { program: 7, version: 1, procedure: 2, kind: kind::CALL, serial: 3, status: 0 };

fn null_fd() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

fn owned(side: &Side<BorrowedFd<'_>>) -> Side<OwnedFd> {
    let fds = side.fds.iter().map(|fd| fd.try_clone_to_owned().unwrap()).collect();
    Side { bytes: side.bytes.clone(), fds }
}

fn hand_over(connection: &Connection) -> Connection {
    let Buffered { input, ahead, output } = connection.buffered();
    Connection::restore(owned(&input), owned(&ahead), owned(&output)).unwrap()
}

#[test]
fn a_message_goes_on_at_every_byte_and_fd() {
    let header = Header { kind: kind::CALL_WITH_FDS, ..CALL };
    let bytes = header.message(&[0, 0, 0, 2, 9, 8, 7]);
    let pieces: Vec<_> = bytes.iter().map(|&byte| (byte, 0)).chain([(0, 1), (0, 1)]).collect();
    for split in 0..pieces.len() {
        let feed = |connection: &mut Connection, pieces: &[(u8, usize)]| -> Option<Message> {
            let feed = |&(byte, fds): &(u8, usize)| {
                connection.received(&[byte], (0..fds).map(|_| null_fd()).collect()).unwrap()
            };
            pieces.iter().map(feed).last().flatten()
        };
        let mut first = Connection::new();
        assert!(feed(&mut first, &pieces[..split]).is_none());
        assert_eq!(first.is_idle(), split == 0);
        let message = feed(&mut hand_over(&first), &pieces[split..]).unwrap();
        assert_eq!((&message.payload[..], message.fds.len()), (&[9, 8, 7][..], 2));
    }
}

#[test]
fn what_was_read_ahead_comes_next() {
    let two = [CALL.message(b"1234"), CALL.message(b"5678")].concat();
    let mut first = Connection::new();
    first.received(&two, Vec::new()).unwrap().unwrap();
    first.dropped();
    let next = hand_over(&first).resume().unwrap().unwrap();
    assert_eq!(next.payload, b"5678");
}

#[test]
fn an_answer_goes_on_with_its_fds() {
    let mut first = Connection::new();
    first.answer(Outgoing::new(&CALL, b"abcd".to_vec(), vec![null_fd()]));
    first.sent(30);
    let whole = first.buffered().output.bytes;
    let mut second = hand_over(&first);
    assert_eq!((second.wants(), whole.is_empty()), (Want::Nothing, false));
    second.sent(whole.len());
    assert!(matches!(second.unsent(), Some(Unsent::Fd(_))));
    second.sent(1);
    assert!(second.is_idle());
}
