use std::os::unix::net::UnixDatagram;

use super::*;
use crate::event;
use crate::sys::socket::receive_datagram;

/// The only token of a reactor here.
#[derive(Debug, Clone, Copy)]
struct Store;

impl event::Token for Store {
    fn into_bits(self) -> u64 {
        0
    }

    fn from_bits(_: u64) -> Self {
        Self
    }
}

/// A supervisor that stores what it is told to.
struct Supervisor {
    socket: UnixDatagram,
    stored: Vec<(String, Vec<OwnedFd>)>,
    path: tempfile::TempPath,
}

impl Supervisor {
    fn new() -> (Self, Notify) {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        std::fs::remove_file(&path).unwrap();
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let notify = Notify::new(Some(path.as_os_str().to_owned()));
        (Self { socket, stored: Vec::new(), path }, notify)
    }

    /// Listens anew: what was sent and not taken is lost.
    fn restart(&mut self) {
        std::fs::remove_file(&self.path).unwrap();
        self.socket = UnixDatagram::bind(&self.path).unwrap();
        self.socket.set_nonblocking(true).unwrap();
    }

    /// Takes so many messages, and stores the fds of those that ask for it.
    fn take(&mut self, count: usize) {
        for _ in 0..count {
            let (text, fds) = receive_datagram(&self.socket, 4096).unwrap();
            let text = String::from_utf8(text).unwrap();
            if text.starts_with("FDSTORE=1") {
                self.stored.push((text, fds));
            }
        }
    }
}

/// A question without content in front of an item and the question about it.
fn asked_twice(notify: &mut Notify, reactor: &Reactor<Store>) -> Proof {
    let mut proof = Proof::default();
    assert!(proof.has_no_sentinel());
    proof.ask(notify, reactor, Store).unwrap();
    assert!(!proof.has_no_sentinel());
    let (item, _) = pipe::pipe().unwrap();
    notify.store("l1", &[item.as_fd()]).unwrap();
    proof.sent("l1");
    proof.ask(notify, reactor, Store).unwrap();
    proof
}

#[test]
fn what_is_stored_between_two_sentinels_is_proved() {
    let ((mut supervisor, mut notify), reactor) = (Supervisor::new(), Reactor::new().unwrap());
    let mut proof = asked_twice(&mut notify, &reactor);
    supervisor.take(5);
    assert!(proof.next_answer(&mut notify).unwrap().is_taken);
    assert!(proof.next_answer(&mut notify).unwrap().is_taken);
    assert!(proof.is_proved("l1") && !proof.is_lost());
    supervisor.stored.clear();
    assert!(proof.is_lost());
}

#[test]
fn a_store_that_was_emptied_before_the_last_sentinel_proves_nothing() {
    let ((mut supervisor, mut notify), reactor) = (Supervisor::new(), Reactor::new().unwrap());
    let mut proof = asked_twice(&mut notify, &reactor);
    supervisor.take(3);
    supervisor.stored.clear();
    supervisor.take(2);
    let first = proof.next_answer(&mut notify).unwrap();
    assert!(!first.is_taken && !first.is_doubtful && first.names.is_empty());
    let second = proof.next_answer(&mut notify).unwrap();
    assert!(!second.is_taken && second.is_doubtful);
    assert!(!proof.is_proved("l1"));
}

#[test]
fn a_store_that_is_emptied_once_the_first_sentinel_is_proved_is_lost() {
    let ((mut supervisor, mut notify), reactor) = (Supervisor::new(), Reactor::new().unwrap());
    let mut proof = asked_twice(&mut notify, &reactor);
    supervisor.take(3);
    assert!(proof.next_answer(&mut notify).unwrap().is_taken);
    supervisor.stored.clear();
    supervisor.take(2);
    proof.next_answer(&mut notify).unwrap();
    assert!(proof.is_lost());
}

#[test]
fn what_a_predecessor_has_removed_is_passed_on_until_the_supervisor_has_heard_it() {
    let (mut proof, mut notify) = (Proof::default(), Notify::default());
    proof.remove_again(&mut notify, &["c2".to_owned()]);
    assert_eq!(proof.removed().collect::<Vec<_>>(), ["c2"]);
    proof.start_over();
    assert_eq!(proof.removed().collect::<Vec<_>>(), ["c2"]);
}

#[test]
fn behind_a_gap_the_first_sentinel_is_for_what_is_sent_again() {
    let ((mut supervisor, mut notify), reactor) = (Supervisor::new(), Reactor::new().unwrap());
    let (mut proof, (item, _)) = (Proof::default(), pipe::pipe().unwrap());
    proof.note_gap();
    for is_proved in [false, true] {
        notify.store("l1", &[item.as_fd()]).unwrap();
        proof.sent("l1");
        proof.ask(&mut notify, &reactor, Store).unwrap();
        supervisor.take(3);
        let answer = proof.next_answer(&mut notify).unwrap();
        assert_eq!((answer.is_taken, answer.is_doubtful), (is_proved, !is_proved));
        assert_eq!(proof.is_proved("l1"), is_proved);
        assert!(!proof.has_no_sentinel());
    }
    supervisor.stored.remove(1);
    assert!(proof.is_lost(), "the first sentinel has gone");
}

#[test]
fn behind_a_loss_a_sentinel_that_lives_is_the_first_one_for_what_is_sent_again() {
    let ((mut supervisor, mut notify), reactor) = (Supervisor::new(), Reactor::new().unwrap());
    let mut proof = Proof::default();
    supervisor.restart();
    proof.ask(&mut notify, &reactor, Store).unwrap();
    proof.sent("l1");
    supervisor.take(2);
    let answer = proof.next_answer(&mut notify).unwrap();
    assert!(!answer.is_taken && answer.is_doubtful);
    assert!(!proof.has_no_sentinel() && !proof.is_lost());
    supervisor.stored.clear();
    assert!(proof.is_lost());
}

#[test]
fn what_was_sent_is_no_sentinel_for_what_is_sent_next() {
    let mut proof = Proof::default();
    proof.sent("l1");
    assert!(proof.has_no_sentinel());
    proof.note_gap();
    assert!(!proof.has_no_sentinel(), "the gap is known");
}
