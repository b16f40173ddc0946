//! The daemon's own pid file as a resource: its POSIX lock would go with the first descriptor of it that
//! is closed, and a second daemon could take the sockets. libvirt's daemon loses it so.

use std::fs;
use std::os::unix::fs::symlink;

use tests::harness::{Daemon, Subject, Whose, eventually};
use tests::load::Contender;
use tests::wire::{ACQUIRE_AUTOCREATE, ACQUIRE_SHARED};

use super::{NOBODY, client_of, image, is_leased, locked, text};

tests::ours! { Virtlockd:
    the_pid_file_stays_locked_whatever_is_asked_for_it,
    the_pid_file_stays_locked_at_an_upgrade_after_that,
}

/// Names of the pid file.
fn names(daemon: &Daemon) -> Vec<String> {
    let (hard, soft) = (daemon.file("hard-link"), daemon.file("symlink"));
    fs::hard_link(daemon.pid_file(), &hard).unwrap();
    symlink("/run/virtlockd.pid", &soft).unwrap();
    let names = [text(&hard), text(&soft)].into_iter();
    names.chain(["/run/virtlockd.pid".to_owned(), "/run//virtlockd.pid".to_owned()]).collect()
}

fn ask_for(daemon: &Daemon, names: &[String]) {
    let mut client = client_of(daemon, NOBODY);
    for name in names {
        client.create("", name, 0).unwrap();
        for flags in [0, ACQUIRE_SHARED, ACQUIRE_AUTOCREATE] {
            assert_eq!(client.acquire("", name, flags), Err(locked(name)));
        }
        assert_eq!(client.delete("", name, 0), Err(locked(name)));
        assert!(is_leased(&text(&daemon.pid_file())), "{name}");
    }
}

fn the_pid_file_stays_locked_whatever_is_asked_for_it(subject: Subject) {
    let daemon = subject.start();
    ask_for(&daemon, &names(&daemon));
    let second = subject.setup_on(&daemon.host()).run();
    assert_eq!(second.code, Some(1), "{}", second.stderr);
    assert!(second.stderr.contains("Failed to acquire pid file"), "{}", second.stderr);
    let image = image(&daemon, "image");
    client_of(&daemon, NOBODY).acquire("", &image, 0).unwrap();
    let fds = daemon.fd_count();
    (0..10).for_each(|_| ask_for(&daemon, &["/run/virtlockd.pid".to_owned()]));
    eventually("no more fds are open", || daemon.fd_count() <= fds);
}

fn the_pid_file_stays_locked_at_an_upgrade_after_that(subject: Subject) {
    let mut daemon = subject.setup().replaceable().start();
    let names = names(&daemon);
    let contender = Contender::start(&[text(&daemon.pid_file())]);
    for _ in 0..4 {
        ask_for(&daemon, &names);
        daemon.change_to(Whose::Ours);
    }
    contender.finish();
}
