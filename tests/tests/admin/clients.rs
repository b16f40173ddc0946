//! Connections to the admin socket: who gets one, how one ends, and that nothing stays behind.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use tests::harness::{Daemon, Mode, Subject, eventually, needs_root};
use tests::wire::{ADMIN_PROGRAM, Answer, Connection, Header, Writer, client_ids, list_clients};

mod virtlogd {
    use super::*;
    tests::both! { Virtlogd:
        a_system_daemon_refuses_other_users_on_open_sockets,
        a_session_daemon_refuses_root_on_open_sockets,
        a_thousand_connections_leave_nothing_behind,
        a_client_closed_by_an_administrator_sees_end_of_file,
        calls_behind_a_close_are_not_answered,
    }
    tests::ours! { Virtlogd:
        without_the_admin_server_there_is_no_admin_socket,
    }
}

mod virtlockd {
    use super::*;
    tests::both! { Virtlockd:
        a_system_daemon_refuses_other_users_on_open_sockets,
        a_session_daemon_refuses_root_on_open_sockets,
        a_thousand_connections_leave_nothing_behind,
        a_client_closed_by_an_administrator_sees_end_of_file,
        calls_behind_a_close_are_not_answered,
    }
    tests::ours! { Virtlockd:
        without_the_admin_server_there_is_no_admin_socket,
    }
}

/// Procedure numbers (libvirt's values, on the wire).
const CONNECT_OPEN: i32 = 1;
const CONNECT_CLOSE: i32 = 2;
const CONNECT_GET_LIB_VERSION: i32 = 3;
const CLIENT_CLOSE: i32 = 11;

fn a_system_daemon_refuses_other_users_on_open_sockets(subject: Subject) {
    if needs_root("a_system_daemon_refuses_other_users_on_open_sockets") {
        refuses_us(subject, Mode::SystemOfStranger);
    }
}

fn a_session_daemon_refuses_root_on_open_sockets(subject: Subject) {
    if needs_root("a_session_daemon_refuses_root_on_open_sockets") {
        refuses_us(subject, Mode::SessionOfStranger);
    }
}

fn refuses_us(subject: Subject, mode: Mode) {
    let daemon = subject.setup().mode(mode).start();
    for socket in [daemon.main_socket(), daemon.admin_socket()] {
        fs::set_permissions(&socket, Permissions::from_mode(0o777)).unwrap();
        let mut client = Connection::open(&socket).unwrap();
        // The daemon may have closed already.
        client.send(&Header::call(ADMIN_PROGRAM, CONNECT_GET_LIB_VERSION).message(&[])).ok();
        let answer = client.answer();
        assert!(matches!(answer, Answer::Closed), "{}: {answer:?}", socket.display());
    }
}

fn a_thousand_connections_leave_nothing_behind(subject: Subject) {
    /// 262 bytes for each connection, less than anything that could be kept of one.
    const GROWTH_KIB_MAX: u64 = 256;
    let daemon = subject.start();
    (0..50).for_each(|number| visit(&daemon, number));
    settle(&daemon);
    let (fds, memory_kib) = (daemon.fd_count(), daemon.memory_kib("VmRSS"));
    (0..1000).for_each(|number| visit(&daemon, number));
    settle(&daemon);
    assert_eq!(daemon.fd_count(), fds);
    let grown_kib = daemon.memory_kib("VmRSS").saturating_sub(memory_kib);
    assert!(grown_kib < GROWTH_KIB_MAX, "{grown_kib} KiB more after 1000 connections");
}

/// A connection that is used and ends in one of the ways in which connections end.
fn visit(daemon: &Daemon, number: u32) {
    let mut client = daemon.connect_admin();
    if number % 5 == 4 {
        return;
    }
    client.call(ADMIN_PROGRAM, CONNECT_OPEN, &[0; 4]).unwrap();
    match number % 5 {
        0 => {
            client.call(ADMIN_PROGRAM, CONNECT_CLOSE, &[]).unwrap();
            assert!(matches!(client.answer(), Answer::Closed));
        }
        // The answer finds nobody.
        1 => client.send(&list_clients("admin")).unwrap(),
        // Half a message.
        2 => client.send(&list_clients("admin")[..40]).unwrap(),
        _ => {}
    }
}

/// Waits until only the connection that asks is left; it ends with a close, so that C does not
/// write a line about it.
fn settle(daemon: &Daemon) {
    eventually("the clients are gone", || {
        let mut client = daemon.connect_admin();
        let alone = client_ids(&mut client, "admin").len() == 1;
        client.call(ADMIN_PROGRAM, CONNECT_CLOSE, &[]).unwrap();
        assert!(matches!(client.answer(), Answer::Closed));
        alone
    });
}

fn a_client_closed_by_an_administrator_sees_end_of_file(subject: Subject) {
    let daemon = subject.start();
    let name = subject.program.name();
    let (mut victim, mut witness) = (daemon.connect_main(), daemon.connect_main());
    // Half a message is pending: it is lost.
    victim.send(&[0; 2]).unwrap();
    let mut admin = daemon.connect_admin();
    assert_eq!(client_ids(&mut admin, name), [1, 2]);
    admin.call(ADMIN_PROGRAM, CLIENT_CLOSE, &client(name, 1)).unwrap();
    assert!(matches!(victim.answer(), Answer::Closed));
    assert_eq!(client_ids(&mut admin, name), [2]);
    let unknown = witness.call(subject.program.number(), 99, &[]).unwrap_err();
    assert_eq!(unknown.message.as_deref(), Some("unknown procedure: 99"));
    let error = admin.call(ADMIN_PROGRAM, CLIENT_CLOSE, &client(name, 1)).unwrap_err();
    assert_eq!(error.message.unwrap(), "Client not found: No client with matching ID '1'");
    drop(daemon.connect_main());
    eventually("ids are not used again", || client_ids(&mut admin, name) == [2]);
    let _later = daemon.connect_main();
    eventually("the next id", || client_ids(&mut admin, name) == [2, 4]);
}

fn calls_behind_a_close_are_not_answered(subject: Subject) {
    let daemon = subject.start();
    let mut client = daemon.connect_admin();
    let close = Header::call(ADMIN_PROGRAM, CONNECT_CLOSE).message(&[]);
    let version = Header::call(ADMIN_PROGRAM, CONNECT_GET_LIB_VERSION).message(&[]);
    client.send(&[close, version].concat()).unwrap();
    assert_eq!(client.answer().message().header.procedure, CONNECT_CLOSE);
    assert!(matches!(client.answer(), Answer::Closed));
}

fn without_the_admin_server_there_is_no_admin_socket(subject: Subject) {
    let daemon = subject.setup().args(["--no-admin-srv"]).start();
    let main = daemon.main_socket();
    let name = main.file_name().unwrap().to_str().unwrap().replace("-sock", "-admin-sock");
    assert!(main.exists() && !main.with_file_name(name).exists());
    daemon.connect_main();
}

/// The arguments that name a client, and no flags.
fn client(server: &str, id: u64) -> Vec<u8> {
    Writer::new().string(server).u64(id).u64(0).u32(0).u32(0).into_bytes()
}
