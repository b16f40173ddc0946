//! Kernels before 5.11 (5.10.220) take the POSIX locks of a process that executes another image while it
//! has several threads.

use tests::guest::Guest;
use tests::harness::{Host, Route, Whose, old_exec};
use tests::load::Contender;

use super::leases::{client_of, image, text};

tests::mixed! { Virtlockd: an_old_kernel_takes_no_lease_at_an_upgrade }

fn an_old_kernel_takes_no_lease_at_an_upgrade(route: Route) {
    let host = Host::new();
    let Some(library) = old_exec(&host) else { return };
    let setup = route.start().setup_on(&host).replaceable();
    let mut daemon = setup.env("LD_PRELOAD", library).start();
    let guest = Guest::start(&daemon);
    let image = image(&daemon, "image");
    client_of(&daemon, &guest).acquire("", &image, 0).unwrap();
    let contender = Contender::start(&[image]);
    daemon.change_to(Whose::Ours);
    let pid_file = Contender::start(&[text(&daemon.pid_file())]);
    for _ in 0..3 {
        daemon.change_to(Whose::Ours);
    }
    pid_file.finish();
    daemon.change_to(Whose::Theirs);
    contender.finish();
}
