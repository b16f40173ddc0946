//! The recipes of `systemd/README.md`, with namespaces in place of a container engine.

use std::path::Path;
use std::sync::Arc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::harness::{Host, Program, Subject, eventually, needs_root};
use tests::holder::{Held, Holder, Origin, Recipe, container, pod};
use tests::wire::LogClient;

use crate::daemons::rounds;
use crate::load::{Leases, Logs, in_box, kill_holder, turn};

tests::ours! { Virtlogd: kolla, tripleo, kubevirt }

fn kolla(_: Subject) {
    restart_under_load("kolla", 50, 4, |program, host| {
        let recipe = Recipe::of_compose("kolla/compose.yaml", &format!("nova_{}", program.name()));
        container(&recipe, program, host)
    });
}

fn tripleo(_: Subject) {
    restart_under_load("tripleo", 10, 1, |program, host| {
        let recipe = Recipe::of_quadlet(&format!("tripleo/{}.container", program.name()));
        container(&recipe, program, host)
    });
}

/// A pod's memory, in KiB, of which `KubeVirt` gives virtlogd 25 MiB.
const POD_KIB_MAX: u64 = 25 * 1024;

/// The holder's own fds, those of three logs, and the journal.
const POD_FDS_MIN: usize = 16;

fn kubevirt(subject: Subject) {
    if !needs_root("a pod as that of KubeVirt") {
        return;
    }
    let host = Host::new();
    let origin = pod(&host);
    let (program, arguments) = origin.command.split_first().unwrap();
    let setup = subject.setup_on(&host).prepare(&origin.preparation).through(origin.through);
    let setup = setup.instead(Path::new(program)).args(arguments);
    let launcher = setup.spawn();
    let runtime = host.path("user/run");
    let socket = runtime.join("libvirt/virtlogd-sock");
    let serves = || {
        LogClient::connect(&socket)
            .is_ok_and(|mut client| client.position(&host.path("files/0.log")).is_err())
    };
    eventually("virtlogd serves", || {
        launcher.expect_alive();
        socket.exists() && serves()
    });
    let logs = Logs::begin_at(&host.path("files"), &socket, 3);
    for _ in 0..2 * rounds() {
        let [(pid, _)] = in_box("virtlogd", &launcher)[..] else { panic!("one virtlogd") };
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        eventually("another virtlogd", || {
            let found = in_box("virtlogd", &launcher);
            found.len() == 1 && found[0].0 != pid
        });
    }
    // The holder alone: virtlogd stores its fds with the next one.
    let mut client = LogClient::connect(&socket).unwrap();
    client.position(&host.path("files/0.log")).expect("the log goes on");
    kill_holder(&launcher, POD_FDS_MIN);
    let [(pid, _)] = in_box("virtlogd", &launcher)[..] else { panic!("one virtlogd") };
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    logs.finish();
    let memory = ["virtlogd", "virtfdhold"].map(|name| in_box(name, &launcher));
    let kib: u64 = memory.iter().flatten().map(|(_, kib)| kib).sum();
    assert!(kib < POD_KIB_MAX, "{memory:?}");
}

/// Restarts both containers, as an engine does and as a crash does, and the host's holder.
fn restart_under_load(
    name: &str,
    logs: usize,
    tenants: usize,
    origin: impl Fn(Program, &Host) -> Origin,
) {
    if !needs_root(&format!("containers as those of {name}")) {
        return;
    }
    let _turn = turn();
    let host: Arc<Host> = Host::new();
    let mut holder = Holder::start(&host);
    let start = |program| Held::start_from(origin(program, &host), program, &host);
    let mut containers = [Program::Virtlogd, Program::Virtlockd].map(start);
    let sockets = containers.each_ref().map(|container| container.daemon().main_socket());
    let logs = Logs::begin_at(&host.path("files"), &sockets[0], logs);
    let leases = Leases::begin_at(&host.path("files"), &sockets[1], tenants);
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
