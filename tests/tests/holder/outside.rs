//! Guests of the host whose daemon is restarted in one container after the other: in a pid namespace of
//! its own each time, and on the host before and afterwards.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::Signal;
use tests::guest::{Guest, owner};
use tests::harness::{Host, Program, Subject, eventually, needs_root};
use tests::holder::{Held, Holder, Origin};
use tests::load::is_free;
use tests::wire::LockClient;

use crate::load::turn;

tests::ours! { Virtlockd: guests_are_who_they_were_wherever_the_daemon_is }

/// Long enough for what must not happen.
const A_WHILE: Duration = Duration::from_millis(300);

fn container() -> Origin {
    let script = "mount -n -t proc proc /proc; exec \"$@\"";
    let words = ["unshare", "--pid", "--fork", "--kill-child", "bash", "-ec", script, "bash"];
    Origin { through: words.map(str::to_owned).into(), ..Origin::default() }
}

fn guests_are_who_they_were_wherever_the_daemon_is(_: Subject) {
    if !needs_root("a daemon in another pid namespace") {
        return;
    }
    let _turn = turn();
    let host = Host::new();
    let _holder = Holder::start(&host);
    let mut daemon = Held::start(Program::Virtlockd, &host);
    let images: Vec<_> = ["own", "late", "two", "three"].map(|name| host.file(name)).into();
    images.iter().for_each(|image| fs::write(image, "").unwrap());
    let images: Vec<_> = images.iter().map(|it| it.to_str().unwrap().to_owned()).collect();
    let socket = daemon.daemon().main_socket();
    let client = |guest: &Guest| {
        let mut client = LockClient::connect(&socket).unwrap();
        client.register(&owner(guest.pid()), 0).unwrap();
        client
    };
    let guest = |image: &String| Guest::start_with_leases(&socket, std::slice::from_ref(image));
    let (first, second) = (guest(&images[0]), guest(&images[2]));
    client(&first).acquire("", &images[1], 0).unwrap();
    let restart = |daemon: &mut Held, origin: Origin| {
        daemon.kill();
        daemon.move_to(origin);
        daemon.spawn();
        daemon.expect_serving();
        sleep(A_WHILE);
    };
    restart(&mut daemon, container());
    daemon.daemon().expect_said("in another pid namespace than before");
    assert!(images[..3].iter().all(|image| !is_free(image)));
    client(&first).release("", &images[1], 0).unwrap();
    client(&first).acquire("", &images[1], 0).unwrap();
    let third = guest(&images[3]);
    daemon.end(Signal::SIGKILL);
    second.kill();
    drop(second);
    daemon.spawn();
    daemon.expect_serving();
    eventually("who died meanwhile has no lease", || is_free(&images[2]));
    sleep(A_WHILE);
    assert!([0, 1, 3].iter().all(|&number| !is_free(&images[number])));
    restart(&mut daemon, Origin::default());
    assert!([0, 1, 3].iter().all(|&number| !is_free(&images[number])));
    client(&third).release("", &images[3], 0).unwrap();
    client(&third).acquire("", &images[3], 0).unwrap();
    first.kill();
    third.kill();
    eventually("all are free", || images.iter().all(is_free));
}
