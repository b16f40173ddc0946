//! Clients that connect, and then do not behave.

use std::fs::File;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use tests::harness::{Daemon, Subject};
use tests::wire::{Connection, Header, KEEPALIVE_PROGRAM, Writer, kind};

use crate::bystanders::{expect_unharmed, start, start_with};

mod virtlogd {
    use super::*;

    tests::ours! { Virtlogd:
        clients_that_read_nothing,
        clients_that_send_byte_by_byte,
        ten_thousand_connections,
        more_connections_than_are_served,
        ends_at_each_byte,
        half_messages_with_descriptors,
        storms_of_ends,
    }
}

mod virtlockd {
    use super::*;

    tests::ours! { Virtlockd:
        clients_that_read_nothing,
        clients_that_send_byte_by_byte,
        ten_thousand_connections,
        more_connections_than_are_served,
        ends_at_each_byte,
        half_messages_with_descriptors,
        storms_of_ends,
    }
}

const CLIENTS: usize = 100;

/// Procedure that no program has.
const UNKNOWN: i32 = 99;

/// CVE-2018-5748: what a peer does not take is not kept without end.
fn clients_that_read_nothing(subject: Subject) {
    let mut daemon = start_with(subject, "max_clients = 500");
    let calls = call_of(&daemon).repeat(64);
    expect_unharmed(&mut daemon, |daemon| {
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| daemon.connect_main()).collect();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(2) {
            for client in &mut clients {
                // Until the daemon takes no more.
                while client.send_some(&calls).unwrap_or(0) == calls.len() {}
            }
        }
    });
}

fn clients_that_send_byte_by_byte(subject: Subject) {
    let mut daemon = start_with(subject, "max_clients = 500");
    let call = call_of(&daemon);
    let announced = announce(4 << 20);
    expect_unharmed(&mut daemon, |daemon| {
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| daemon.connect_main()).collect();
        for byte in &call {
            clients.iter_mut().for_each(|client| client.send(&[*byte]).unwrap());
        }
        for client in &mut clients {
            assert!(client.answer().message().into_result().is_err(), "nobody knows the procedure");
        }
        // What is announced never comes.
        for byte in announced.iter().chain(&[0; 200]) {
            clients.iter_mut().for_each(|client| client.send(&[*byte]).unwrap());
        }
    });
}

/// One after the other, each with the begin of a call.
fn ten_thousand_connections(subject: Subject) {
    let mut daemon = start(subject);
    let call = call_of(&daemon);
    expect_unharmed(&mut daemon, |daemon| {
        for number in 0..10_000 {
            let mut client = daemon.connect_main();
            client.send(&call[..number % call.len()]).unwrap();
        }
    });
}

/// At once: those for whom there is no room wait, and take nothing of those who are served.
fn more_connections_than_are_served(subject: Subject) {
    let mut daemon = start_with(subject, "max_clients = 20");
    expect_unharmed(&mut daemon, |daemon| {
        // The queue of the socket takes some, and then a connect would wait.
        let clients: Vec<_> = (0..40).map(|_| daemon.connect_main()).collect();
        std::thread::sleep(Duration::from_secs(1));
        drop(clients);
    });
}

/// CVE-2014-1447: an end at each byte of a message, after keepalive messages that nobody asked for.
fn ends_at_each_byte(subject: Subject) {
    const PING: i32 = 1;
    const PONG: i32 = 2;
    let mut daemon = start(subject);
    let keepalive = [PING, PONG].map(|procedure| {
        let header = Header::call(KEEPALIVE_PROGRAM, procedure);
        Header { kind: kind::MESSAGE, serial: 0, ..header }.message(&[])
    });
    let messages = [keepalive.concat(), call_of(&daemon), announce(64)].concat();
    expect_unharmed(&mut daemon, |daemon| {
        for _ in 0..4 {
            for len in 0..messages.len() {
                let mut client = daemon.connect_main();
                client.send(&messages[..len]).unwrap();
                if len % 2 == 0 {
                    client.half_close().ok();
                }
            }
        }
    });
}

/// CVE-2013-1962: fewer descriptors than announced, more, or some where none belong.
fn half_messages_with_descriptors(subject: Subject) {
    let mut daemon = start(subject);
    let null = File::open("/dev/null").unwrap();
    expect_unharmed(&mut daemon, |daemon| {
        for number in 0..2_000 {
            let mut client = daemon.connect_main();
            let (announced, sent) = (number % 5, number % 7);
            let header = Header { kind: kind::CALL_WITH_FDS, ..unknown_call(daemon) };
            let count = Writer::new().u32(announced).into_bytes();
            client.send(&header.message(&count)).unwrap();
            let sent = vec![null.as_fd(); sent as usize];
            // The daemon may have closed the connection.
            match number % 3 {
                0 => client.send_fds(&sent).ok(),
                1 if !sent.is_empty() => client.send_beside(&[0], &sent).ok(),
                _ => client.send(&[0; 3]).ok(),
            };
        }
    });
}

/// CVE-2024-4418, CVE-2023-3750: many clients come and go at once, in the middle of their calls.
fn storms_of_ends(subject: Subject) {
    let mut daemon = start_with(subject, "max_clients = 500");
    let call = call_of(&daemon);
    expect_unharmed(&mut daemon, |daemon| {
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let call = &call;
                scope.spawn(move || {
                    for round in 0..20 {
                        let mut clients: Vec<Connection> =
                            (0..25).map(|_| daemon.connect_main()).collect();
                        for (number, client) in clients.iter_mut().enumerate() {
                            let calls = call.repeat(1 + (number + round + thread) % 9);
                            client.send(&calls).ok();
                        }
                    }
                });
            }
        });
    });
}

fn unknown_call(daemon: &Daemon) -> Header {
    Header::call(daemon.subject().program.number(), UNKNOWN)
}

/// A call that is answered with an error.
fn call_of(daemon: &Daemon) -> Vec<u8> {
    unknown_call(daemon).message(&[])
}

/// The header of a message that is this long.
fn announce(bytes: u32) -> Vec<u8> {
    let mut message = Header::call(KEEPALIVE_PROGRAM, 1).message(&[]);
    message[..4].copy_from_slice(&bytes.to_be_bytes());
    message
}
