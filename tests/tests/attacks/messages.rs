//! Messages that are wrong, or of which there are too many.

use std::thread;

use tests::harness::{Daemon, Subject};
use tests::wire::{
    ADMIN_PROGRAM, Answer, Connection, Header, KEEPALIVE_PROGRAM, LOCK_PROGRAM, LOG_PROGRAM, Writer,
};

use crate::bystanders::{expect_unharmed, start, start_with};

mod virtlogd {
    use super::*;

    tests::ours! { Virtlogd:
        procedures_that_nobody_has,
        lengths_that_cannot_be,
        errors_in_the_middle_of_a_burst,
        clients_that_fail_at_once,
        lists_of_no_size,
    }
}

mod virtlockd {
    use super::*;

    tests::ours! { Virtlockd:
        procedures_that_nobody_has,
        lengths_that_cannot_be,
        errors_in_the_middle_of_a_burst,
        clients_that_fail_at_once,
        lists_of_no_size,
    }
}

const PROGRAMS: [u32; 5] =
    [LOG_PROGRAM, LOCK_PROGRAM, ADMIN_PROGRAM, KEEPALIVE_PROGRAM, 0x2000_8086];

/// CVE-2012-4423: numbers in holes of the table of procedures and beside it, in messages of each kind
/// and status.
fn procedures_that_nobody_has(subject: Subject) {
    let mut daemon = start(subject);
    expect_unharmed(&mut daemon, |daemon| {
        for connect in [Daemon::connect_main, Daemon::connect_admin] {
            for prog in PROGRAMS {
                for procedure in (-1..256).chain([i32::MIN, i32::MAX]) {
                    send_all_kinds(connect(daemon), Header::call(prog, procedure));
                }
            }
        }
    });
}

/// Each after the other, over one connection as long as that is left open.
fn send_all_kinds(mut client: Connection, call: Header) {
    for kind in 0..7 {
        for status in 0..4 {
            // The daemon may have closed the connection.
            client.send(&Header { kind, status, ..call }.message(&[])).ok();
        }
    }
}

/// CVE-2024-2494, CVE-2013-4292: lengths of strings and lists, at each place where one may be.
fn lengths_that_cannot_be(subject: Subject) {
    const LENGTHS: [u32; 8] =
        [1, 5, 0x7fff_ffff, 0x8000_0000, 0xffff_fffc, 0xffff_ffff, 4_194_305, 16_777_217];
    let mut daemon = start(subject);
    let main_program = daemon.subject().program.number();
    expect_unharmed(&mut daemon, |daemon| {
        for (prog, is_admin) in [(main_program, false), (ADMIN_PROGRAM, true)] {
            for procedure in 1..20 {
                for length in LENGTHS {
                    let connect =
                        if is_admin { Daemon::connect_admin } else { Daemon::connect_main };
                    let mut client = connect(daemon);
                    for words in 0..6 {
                        let payload = (0..words).fold(Writer::new(), |payload, _| payload.u32(0));
                        let payload = payload.u32(length).into_bytes();
                        // It is refused, or the connection closed.
                        client.send(&Header::call(prog, procedure).message(&payload)).ok();
                    }
                }
            }
        }
    });
}

/// CVE-2013-0170: a client that is closed because of one message has others in the queue, and leaves
/// before or after it has read what was answered.
fn errors_in_the_middle_of_a_burst(subject: Subject) {
    let mut daemon = start(subject);
    let call = Header::call(daemon.subject().program.number(), 99).message(&[]);
    expect_unharmed(&mut daemon, |daemon| {
        for round in 0..300 {
            let mut client = daemon.connect_main();
            let too_short = 7_u32.to_be_bytes();
            let burst = [call.repeat(10), too_short.to_vec(), call.repeat(10)].concat();
            client.send(&burst[..burst.len() - round % 40]).unwrap();
            let answers = if round % 3 == 0 { 0 } else { 10 };
            for _ in 0..answers {
                client.answer().message().into_result().unwrap_err();
            }
            if round % 3 == 1 {
                assert!(matches!(client.answer(), Answer::Closed));
            }
        }
    });
}

/// CVE-2011-1486: each gets its own error.
fn clients_that_fail_at_once(subject: Subject) {
    let mut daemon = start_with(subject, "max_clients = 500");
    expect_unharmed(&mut daemon, |daemon| {
        let prog = daemon.subject().program.number();
        thread::scope(|scope| {
            for procedure in 100..104 {
                scope.spawn(move || {
                    let mut client = daemon.connect_main();
                    for _ in 0..2_000 {
                        let error = client.call(prog, procedure, &[]).unwrap_err();
                        let wanted = format!("unknown procedure: {procedure}");
                        assert_eq!(error.message.as_deref(), Some(&*wanted));
                    }
                });
            }
        });
    });
}

/// CVE-2024-1441, CVE-2024-8235: lists of no size, of a negative one, and flags that do not exist.
fn lists_of_no_size(subject: Subject) {
    const LIST_SERVERS: i32 = 3;
    const LIST_CLIENTS: i32 = 10;
    let mut daemon = start(subject);
    let server = daemon.subject().program.name();
    expect_unharmed(&mut daemon, |daemon| {
        let mut client = daemon.connect_admin();
        for need in [0, 1, u32::MAX, 0x8000_0000] {
            for flags in [0, 1, u32::MAX] {
                let servers = Writer::new().u32(need).u32(flags).into_bytes();
                client.call(ADMIN_PROGRAM, LIST_SERVERS, &servers).ok();
                let clients = Writer::new().string(server).u32(need).u32(flags).into_bytes();
                client.call(ADMIN_PROGRAM, LIST_CLIENTS, &clients).ok();
            }
        }
        client.call(ADMIN_PROGRAM, 99, &[]).unwrap_err();
    });
}
