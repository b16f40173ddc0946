use super::*;
use crate::sys::pipe::pipe;
use std::collections::VecDeque;
use std::time::Duration;

impl Token for u64 {
    fn into_bits(self) -> u64 {
        self
    }
    fn from_bits(bits: u64) -> Self {
        bits
    }
}

fn ready(token: u64) -> Event<u64> {
    Event::Ready(token)
}

#[test]
fn a_registration_ends_before_its_fd_is_closed() {
    let mut reactor = Reactor::new().unwrap();
    let mut events = VecDeque::new();
    let (reader, writer) = pipe().unwrap();
    let duplicate = reader.try_clone().unwrap();
    let registered = reactor.register(reader, 7, Interest::Read).unwrap();
    nix::unistd::write(&writer, b"x").unwrap();
    reactor.wait(&mut events).unwrap();
    assert_eq!(events, [ready(7)]);
    drop(registered);
    nix::unistd::write(&writer, b"x").unwrap();
    reactor.again(8);
    reactor.wait(&mut events).unwrap();
    assert_eq!(events, [ready(8)], "the duplicate's events still arrive");
    drop(duplicate);
}

#[test]
fn at_rest_nothing_is_reported_and_afterwards_nothing_is_missed() {
    let mut reactor = Reactor::new().unwrap();
    let mut events = VecDeque::new();
    let (reader, writer) = pipe().unwrap();
    let mut registered = reactor.register(reader, 7, Interest::Read).unwrap();
    registered.rest().unwrap();
    nix::unistd::write(&writer, b"x").unwrap();
    reactor.again(8);
    reactor.wait(&mut events).unwrap();
    assert_eq!(events, [ready(8)]);
    registered.watch().unwrap();
    reactor.wait(&mut events).unwrap();
    assert_eq!(events, [ready(7)]);
}

#[test]
fn an_end_is_told_of_with_what_is_left_to_read() {
    let mut reactor = Reactor::new().unwrap();
    let mut events = VecDeque::new();
    let (one, two) = std::os::unix::net::UnixStream::pair().unwrap();
    let _registered = reactor.register(&one, 7, Interest::Read).unwrap();
    nix::unistd::write(&two, b"x").unwrap();
    two.shutdown(std::net::Shutdown::Write).unwrap();
    reactor.wait(&mut events).unwrap();
    assert_eq!(events, [Event::Ending(7), ready(7)]);
}

#[test]
fn a_waker_without_an_event_fd_wakes_however_often_it_did() {
    let mut reactor = Reactor::new().unwrap();
    let mut events = VecDeque::new();
    let waker = Waker(reactor.pipe_waker(7).unwrap());
    // More often than a pipe has bytes.
    for _ in 0..70_000 {
        waker.wake().unwrap();
    }
    for _ in 0..3 {
        reactor.wait(&mut events).unwrap();
        assert_eq!(events, [ready(7)]);
        waker.wake().unwrap();
    }
}

#[test]
fn again_is_once_however_often_it_was_asked_for() {
    let mut reactor = Reactor::new().unwrap();
    let mut events = VecDeque::new();
    for _ in 0..3 {
        reactor.again(7);
    }
    reactor.wait(&mut events).unwrap();
    assert_eq!(events, [ready(7)]);
    reactor.again(7);
    reactor.wait(&mut events).unwrap();
    assert_eq!(events, [ready(7)]);
}

#[test]
fn timers_fire_in_order_and_can_be_cancelled() {
    let mut reactor = Reactor::new().unwrap();
    let mut events = VecDeque::new();
    reactor.set_timer(Duration::from_millis(2), 2);
    reactor.set_timer(Duration::from_millis(1), 1);
    let cancelled = reactor.set_timer(Duration::ZERO, 3);
    reactor.cancel_timer(cancelled);
    std::thread::sleep(Duration::from_millis(5));
    reactor.wait(&mut events).unwrap();
    assert_eq!(events, [Event::Timer(1), Event::Timer(2)]);
}
