use super::*;
use crate::rpc::header::{Header, kind};
use std::fs::File;

const CALL: Header =
    Header { program: 7, version: 1, procedure: 2, kind: kind::CALL, serial: 3, status: 0 };
const CALL_WITH_FDS: Header = Header { kind: kind::CALL_WITH_FDS, ..CALL };

/// Lets `bytes` be read in pieces of `step`, until a message is complete.
fn feed(
    connection: &mut Connection,
    mut bytes: &[u8],
    step: usize,
) -> Result<Option<Message>, Violation> {
    while !bytes.is_empty() {
        let message = match connection.wants() {
            Want::Nothing => return Ok(None),
            Want::Anything => {
                let (piece, rest) = bytes.split_at(step.min(READ_BYTES_MAX).min(bytes.len()));
                bytes = rest;
                connection.received(piece, Vec::new())?
            }
            Want::Body => {
                let space = connection.space();
                let count = space.len().min(step).min(bytes.len());
                space[..count].copy_from_slice(&bytes[..count]);
                bytes = &bytes[count..];
                connection.filled(count)?
            }
        };
        if message.is_some() {
            return Ok(message);
        }
    }
    Ok(None)
}

fn null_fd() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

fn empty_answer(fds: Vec<OwnedFd>) -> Outgoing {
    Outgoing::new(&CALL, Vec::new(), fds)
}

#[test]
fn a_message_is_the_same_in_any_pieces() {
    let long: Vec<u8> = (0..=255).cycle().take(200_000).collect();
    for payload in [&b""[..], b"12345678", &long[..READ_BYTES_MAX], &long] {
        for step in [1, 3, 28, 100, 5000, 300_000] {
            let message =
                feed(&mut Connection::new(), &CALL.message(payload), step).unwrap().unwrap();
            assert_eq!((message.header, &message.payload[..]), (CALL, payload));
        }
    }
}

#[test]
fn what_follows_a_message_waits_until_it_is_answered() {
    let mut connection = Connection::new();
    let calls = [CALL.message(b"1234"), CALL.message(b"5678"), vec![0; 3]].concat();
    let first = connection.received(&calls, Vec::new()).unwrap().unwrap();
    assert_eq!((connection.wants(), connection.is_idle()), (Want::Nothing, false));
    assert!(connection.resume().unwrap().is_none());
    connection.answer(Outgoing::new(&CALL, b"answer".to_vec(), Vec::new()));
    connection.sent(HEADER_BYTES + 2);
    assert!(matches!(connection.unsent(), Some(Unsent::Bytes([b"", b"swer"]))));
    assert!(connection.resume().unwrap().is_none());
    connection.sent(4);
    assert!(!connection.is_idle() && !connection.is_mid_message());
    let second = connection.resume().unwrap().unwrap();
    assert_eq!((&first.payload[..], &second.payload[..]), (&b"1234"[..], &b"5678"[..]));
    connection.dropped();
    assert!(connection.resume().unwrap().is_none());
    assert!(connection.is_mid_message());
}

#[test]
fn a_connection_is_idle_between_calls() {
    let mut connection = Connection::new();
    assert!(connection.is_idle());
    connection.received(&CALL.message(b""), Vec::new()).unwrap().unwrap();
    assert!(!connection.is_idle());
    connection.answer(empty_answer(Vec::new()));
    assert!(!connection.is_idle());
    connection.sent(HEADER_BYTES);
    assert!(connection.is_idle());
}

#[test]
fn a_wrong_length_is_found_at_its_fourth_byte() {
    for len in [0_u32, 3, 4, 27, 33_554_437, u32::MAX] {
        let result = feed(&mut Connection::new(), &len.to_be_bytes(), 1);
        assert_eq!(result.unwrap_err(), Violation::Length(len));
    }
    let largest = 33_554_436_u32.to_be_bytes();
    assert!(feed(&mut Connection::new(), &largest, 4).unwrap().is_none());
}

#[test]
fn an_announced_body_costs_no_memory_before_it_arrives() {
    let mut bytes = CALL.message(&[]);
    bytes[..4].copy_from_slice(&33_554_436_u32.to_be_bytes());
    let mut connection = Connection::new();
    feed(&mut connection, &bytes, 100).unwrap();
    assert_eq!(connection.space().len(), AHEAD_BYTES_MAX);
}

#[test]
fn fds_are_awaited_one_by_one() {
    let mut connection = Connection::new();
    let call = CALL_WITH_FDS.message(&[0, 0, 0, 2, 9]);
    assert!(connection.received(&call, Vec::new()).unwrap().is_none());
    assert!(connection.received(&[0], vec![null_fd()]).unwrap().is_none());
    let message = connection.received(b"X", vec![null_fd()]).unwrap().unwrap();
    assert_eq!((message.fds.len(), &message.payload[..]), (2, &[9][..]));
}

#[test]
fn an_fd_finds_its_byte_among_others_that_were_read_with_it() {
    let call = CALL_WITH_FDS.message(&[0, 0, 0, 1]);
    for next in [&b""[..], &CALL.message(b"next")] {
        let mut connection = Connection::new();
        let piece = [&call[..], &[0], next].concat();
        let message = connection.received(&piece, vec![null_fd()]).unwrap().unwrap();
        assert_eq!(message.fds.len(), 1);
    }
    let mut connection = Connection::new();
    let piece = [&CALL.message(b"first"), &call[..], &[0]].concat();
    connection.received(&piece, vec![null_fd()]).unwrap().unwrap();
    connection.answer(empty_answer(Vec::new()));
    connection.sent(HEADER_BYTES);
    assert_eq!(connection.resume().unwrap().unwrap().fds.len(), 1);
}

#[test]
fn an_fd_that_came_with_a_message_does_not_count() {
    let mut connection = Connection::new();
    let call = CALL_WITH_FDS.message(&[0, 0, 0, 1]);
    assert!(connection.received(&call, vec![null_fd()]).unwrap().is_none());
    assert_eq!(connection.received(&[0], Vec::new()).unwrap_err(), Violation::Fd);
}

#[test]
fn a_bad_count_of_fds_or_a_byte_without_one_ends_the_connection() {
    for payload in [&[][..], &[0, 0, 0][..], &[0, 0, 0, 33][..]] {
        let result = feed(&mut Connection::new(), &CALL_WITH_FDS.message(payload), 99);
        assert_eq!(result.unwrap_err(), Violation::FdCount);
    }
    for fds in [Vec::new(), vec![null_fd(), null_fd()]] {
        let mut connection = Connection::new();
        feed(&mut connection, &CALL_WITH_FDS.message(&[0, 0, 0, 1]), 99).unwrap();
        assert_eq!(connection.received(&[0], fds).unwrap_err(), Violation::Fd);
    }
    let two = [CALL_WITH_FDS.message(&[0, 0, 0, 2]), vec![0, 0]].concat();
    let result = Connection::new().received(&two, vec![null_fd()]);
    assert_eq!(result.unwrap_err(), Violation::Fd, "one fd is not enough for two bytes");
}

#[test]
fn an_answers_fds_follow_its_bytes() {
    let mut connection = Connection::new();
    connection.answer(empty_answer(vec![null_fd()]));
    let Some(Unsent::Bytes([front, b""])) = connection.unsent() else { panic!("no bytes") };
    assert_eq!(front[HEADER_BYTES..], [0, 0, 0, 1]);
    connection.sent(HEADER_BYTES + 4);
    assert!(matches!(connection.unsent(), Some(Unsent::Fd(_))));
    connection.sent(1);
    assert!(connection.unsent().is_none());
    assert_eq!(connection.wants(), Want::Anything);
}
