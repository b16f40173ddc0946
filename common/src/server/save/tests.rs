use std::os::fd::IntoRawFd;

use super::*;
use crate::event::Token as _;

/// Adopts clients with these numbers; returns theirs here, and the next one's.
fn adopt(ids: &[u64], next_client_id: Option<u64>) -> (Vec<u64>, u64) {
    let limits = Limits { clients_max: 9, unauthenticated_max: 9 };
    let kind = admin::Server::Main;
    let reactor = Reactor::new().unwrap();
    let token = |index| Token::Listener(kind, index);
    let mut server =
        Server::new("main", &[admin::PROGRAM], limits, Vec::new(), token, &reactor).unwrap();
    let (mut clients, mut peers) = (Vec::new(), Vec::new());
    for &id in ids {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let fd = Some(ours.into_raw_fd());
        let sock = Some(Socket { fd, ..Socket::default() });
        clients.push(document::Client { id: Some(id), sock, ..document::Client::default() });
        peers.push(theirs);
    }
    let numbers = clients.iter().filter_map(|client| client.sock.as_ref()?.fd);
    let mut inherited = InheritedFds::of(numbers.collect::<Vec<_>>());
    let from =
        document::Server { clients: Some(clients), next_client_id, ..document::Server::default() };
    let adopted = server.adopt(from, kind, &mut inherited, &reactor);
    for (caller, _) in &adopted {
        let token = Token::Client(caller.client);
        assert_eq!(Token::from_bits(token.into_bits()), token, "another client's events");
    }
    (adopted.iter().map(|(caller, _)| caller.client.number).collect(), server.next_number)
}

#[test]
fn clients_keep_their_numbers() {
    assert_eq!(adopt(&[7, 3], Some(9)), (vec![7, 3], 9));
    assert_eq!(adopt(&[7, 3], None), (vec![7, 3], 8));
}

#[test]
fn a_number_that_no_client_can_have_is_replaced() {
    assert_eq!(adopt(&[u64::MAX, 3, 1 << 60], Some(9)), (vec![9, 3, 10], 11));
    assert_eq!(adopt(&[0, 3, 3], None), (vec![4, 3, 5], 6));
}

#[test]
fn counting_goes_on_behind_a_number_that_cannot_be() {
    assert_eq!(adopt(&[3], Some(u64::MAX)), (vec![3], 4));
    assert_eq!(adopt(&[u64::MAX], Some(u64::MAX)), (vec![1], 2));
}

#[test]
fn clients_are_numbered_anew_where_there_is_no_room_to_count() {
    const MAX: u64 = CLIENT_NUMBER_MAX;
    assert_eq!(adopt(&[3, MAX], Some(9)), (vec![1, 2], 3));
    assert_eq!(adopt(&[3, 3], Some(MAX)), (vec![1, 2], 3));
    assert_eq!(adopt(&[3, 3], Some(MAX - 1)), (vec![3, MAX - 1], MAX));
    // As the next process has it.
    assert_eq!(adopt(&[3, MAX - 1], Some(MAX)), (vec![3, MAX - 1], MAX));
}
