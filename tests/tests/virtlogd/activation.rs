//! Sockets handed over by systemd.

use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::sync::Arc;

use tests::harness::{Daemon, Exit, Host, Setup, Subject, eventually, expect_missing, inode};
use tests::wire::{ADMIN_PROGRAM, LOG_PROGRAM};

tests::both! { Virtlogd:
    passed_sockets_are_served,
    their_order_is_free,
    a_server_whose_socket_was_not_passed_has_none,
    passed_sockets_stay_at_the_end,
    a_socket_of_unknown_name_ends_with_status_6,
    a_socket_that_cannot_listen_ends_with_status_6,
    sockets_meant_for_another_process_are_not_used,
}

tests::ours! { Virtlogd:
    sockets_without_names_are_told_apart_by_path,
}

fn passed_sockets_are_served(subject: Subject) {
    let daemon = activated(subject, &["virtlogd.socket", "virtlogd-admin.socket"]).start();
    serves_main(&daemon);
    serves_admin(&daemon);
}

fn their_order_is_free(subject: Subject) {
    let daemon = activated(subject, &["virtlogd-admin.socket", "virtlogd.socket"]).start();
    serves_main(&daemon);
    serves_admin(&daemon);
}

fn a_server_whose_socket_was_not_passed_has_none(subject: Subject) {
    let daemon = activated(subject, &["virtlogd.socket"]).start();
    serves_main(&daemon);
    expect_missing(&daemon.admin_socket());
}

fn passed_sockets_stay_at_the_end(subject: Subject) {
    let setup = activated(subject, &["virtlogd.socket", "virtlogd-admin.socket"]);
    let host = setup.host();
    let daemon = setup.start();
    serves_main(&daemon);
    let Exit { code, stderr, .. } = daemon.stop();
    assert_eq!(code, Some(0), "{stderr}");
    assert!(host.path("run/libvirt/virtlogd-sock").exists());
    assert!(host.path("run/libvirt/virtlogd-admin-sock").exists());
}

fn a_socket_of_unknown_name_ends_with_status_6(subject: Subject) {
    let exit = activated(subject, &["virtlogd.socket", "other.socket"]).run();
    assert_eq!(exit.code, Some(6));
    let text = "Some activation file descriptors are unclaimed";
    assert!(exit.stderr.contains(text), "{}", exit.stderr);
}

fn a_socket_that_cannot_listen_ends_with_status_6(subject: Subject) {
    let socket = UnixDatagram::unbound().unwrap();
    let setup = subject.setup().listen([socket.into()]);
    let exit = setup.env("LISTEN_FDNAMES", "virtlogd.socket").run();
    assert_eq!(exit.code, Some(6));
    assert!(exit.stderr.contains("Unable to listen on socket"), "{}", exit.stderr);
}

fn sockets_meant_for_another_process_are_not_used(subject: Subject) {
    let host = Host::new();
    let socket = bind(&host, "files/elsewhere");
    let setup = subject.setup_on(&host).listen([socket]).env("LISTEN_PID", "1");
    let daemon = setup.env("LISTEN_FDNAMES", "virtlogd.socket").start();
    eventually("it makes its own", || daemon.main_socket().exists());
    serves_main(&daemon);
    serves_admin(&daemon);
}

/// systemd before 227 passes no names; C then makes sockets of its own over the passed ones.
fn sockets_without_names_are_told_apart_by_path(subject: Subject) {
    let host = Host::new();
    let paths = ["run/libvirt/virtlogd-admin-sock", "run/libvirt/virtlogd-sock"];
    let sockets = paths.map(|path| bind(&host, path));
    let before = paths.map(|path| inode(&host.path(path)));
    let daemon = subject.setup_on(&host).listen(sockets).start();
    serves_main(&daemon);
    serves_admin(&daemon);
    assert_eq!(paths.map(|path| inode(&host.path(path))), before);
}

/// A setup with a listening socket for each name.
fn activated(subject: Subject, names: &[&str]) -> Setup {
    let host = Host::new();
    let sockets = names.iter().map(|&name| match name {
        "virtlogd.socket" => bind(&host, "run/libvirt/virtlogd-sock"),
        "virtlogd-admin.socket" => bind(&host, "run/libvirt/virtlogd-admin-sock"),
        _ => bind(&host, "files/other"),
    });
    subject.setup_on(&host).listen(sockets).env("LISTEN_FDNAMES", names.join(":"))
}

fn bind(host: &Arc<Host>, path: &str) -> OwnedFd {
    std::fs::create_dir_all(host.path("run/libvirt")).unwrap();
    UnixListener::bind(host.path(path)).unwrap().into()
}

fn serves_main(daemon: &Daemon) {
    let error = daemon.connect_main().call(LOG_PROGRAM, 99, &[]).unwrap_err();
    assert_eq!(error.code, 39);
}

fn serves_admin(daemon: &Daemon) {
    daemon.connect_admin().call(ADMIN_PROGRAM, 3, &[]).unwrap();
}
