//! The recipes of `systemd/README.md`, with namespaces in place of a container engine.

use std::sync::Arc;

use nix::sys::signal::Signal;
use tests::harness::{Host, Program, Subject, needs_root};
use tests::holder::{Held, Holder, Origin, Recipe, container};

use crate::daemons::rounds;
use crate::load::{Leases, Logs, turn};

tests::ours! { Virtlogd: kolla, tripleo }

fn kolla(_: Subject) {
    restart_under_load("kolla", |program, host| {
        let recipe = Recipe::of_compose("kolla/compose.yaml", &format!("nova_{}", program.name()));
        container(&recipe, program, host)
    });
}

fn tripleo(_: Subject) {
    restart_under_load("tripleo", |program, host| {
        let recipe = Recipe::of_quadlet(&format!("tripleo/{}.container", program.name()));
        container(&recipe, program, host)
    });
}

/// Restarts both containers, as an engine does and as a crash does, and the host's holder.
fn restart_under_load(name: &str, origin: impl Fn(Program, &Host) -> Origin) {
    if !needs_root(&format!("containers as those of {name}")) {
        return;
    }
    let _turn = turn();
    let host: Arc<Host> = Host::new();
    let mut holder = Holder::start(&host);
    let start = |program| Held::start_from(origin(program, &host), program, &host);
    let mut containers = [Program::Virtlogd, Program::Virtlockd].map(start);
    let logs = Logs::begin(&host, &containers[0].daemon().main_socket());
    let leases = Leases::begin(&host, &containers[1].daemon().main_socket());
    for _ in 0..rounds() {
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            containers.iter_mut().for_each(|container| container.restart(signal));
        }
        holder.kill();
        containers.iter_mut().for_each(Held::kill);
        holder.spawn();
        containers.iter_mut().for_each(Held::spawn);
        containers.iter().for_each(Held::expect_serving);
    }
    logs.finish();
    leases.finish();
}
