//! The recipes of `systemd/README.md` with a holder on the host, with namespaces and control groups in
//! place of a container engine.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use nix::sys::signal::Signal;
use tests::harness::{Daemon, Host, Program, Subject, left_out, needs_root, ours};
use tests::holder::{Cgroup, Held, Holder, Recipe, container};

use crate::load::{Leases, Logs, Size, rounds, turn};

tests::ours! { Virtlogd: kolla, tripleo }

/// Directory of an earlier build: see `tests/README.md`.
const BEFORE: &str = "VIRT_TESTS_BEFORE";

/// Memory of a container, in bytes. That of the log files that are written counts until the kernel
/// needs it.
const MEMORY_BYTES_MAX: u64 = 64 << 20;

fn kolla(_: Subject) {
    restart_under_load("kolla", Size::FULL, |program| {
        Recipe::of_compose("kolla/compose.yaml", &format!("nova_{}", program.name()))
    });
}

fn tripleo(_: Subject) {
    restart_under_load("tripleo", Size { logs: 10, tenants: 1 }, |program| {
        Recipe::of_quadlet(&format!("tripleo/nova_{}.container", program.name()))
    });
}

/// Images and a holder of an earlier build, in turns with these.
#[test]
#[ignore = "wants an earlier build"]
fn back() {
    let Some(before) = std::env::var_os(BEFORE).map(PathBuf::from) else {
        return left_out("containers of an earlier build", "none is given");
    };
    let host = Host::new();
    let mut holder = Holder::start(&host);
    let mut containers = [Program::Virtlogd, Program::Virtlockd].map(|program| {
        let recipe = Recipe::of_compose("kolla/compose.yaml", &format!("nova_{}", program.name()));
        Held::start_from(container(&recipe, program, &host, None), program, &host)
    });
    let logs = Logs::begin(&host, &containers[0].daemon().main_socket());
    let leases = Leases::begin(&host, &containers[1].daemon().main_socket());
    let now = ours("");
    for _ in 0..rounds() {
        for build in [&before, &now] {
            containers.iter_mut().for_each(|container| container.replace_from(build));
            holder.replace_from(build);
            containers.iter_mut().for_each(|container| container.restart(Signal::SIGKILL));
        }
    }
    logs.finish();
    leases.finish();
}

/// Restarts both containers and the host's holder, as an engine does and as a crash does, and
/// upgrades all.
fn restart_under_load(name: &str, small: Size, recipe: impl Fn(Program) -> Recipe) {
    if !needs_root(&format!("containers as those of {name}")) {
        return;
    }
    let _turn = turn();
    let host: Arc<Host> = Host::new();
    let mut holder = Holder::start(&host);
    let programs = [Program::Virtlogd, Program::Virtlockd];
    let cgroups = programs.map(|program| cgroup(&format!("{name}, {program:?}"), MEMORY_BYTES_MAX));
    let mut containers = [0, 1].map(|index| {
        let (program, cgroup) = (programs[index], cgroups[index].clone());
        Held::start_from(container(&recipe(program), program, &host, cgroup), program, &host)
    });
    let sockets = containers.each_ref().map(|container| container.daemon().main_socket());
    let Size { logs, tenants } = small.or_full();
    let logs = Logs::begin_at(&host.path("files"), &sockets[0], logs);
    let leases = Leases::begin_at(&host.path("files"), &sockets[1], tenants);
    containers.iter().zip(&cgroups).for_each(|(container, cgroup)| {
        expect_confined(container.daemon(), cgroup.as_deref());
    });
    let start = Instant::now();
    for _ in 0..rounds() {
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            containers.iter_mut().for_each(|container| container.restart(signal));
        }
        holder.kill_and_start();
        holder.upgrade();
        containers.iter_mut().for_each(Held::replace);
        // All at once.
        holder.kill();
        containers.iter_mut().for_each(Held::kill);
        holder.spawn();
        containers.iter_mut().for_each(Held::spawn);
        containers.iter().for_each(Held::expect_serving);
    }
    eprintln!("{name}: {} rounds in {:?}", rounds(), start.elapsed());
    logs.finish();
    leases.finish();
    cgroups.iter().flatten().for_each(|cgroup| expect_no_kill(name, cgroup));
}

/// It has an engine's default capabilities, its filter of system calls, and is in its control group.
#[track_caller]
fn expect_confined(daemon: &Daemon, cgroup: Option<&Cgroup>) {
    assert_eq!(daemon.status_field("CapEff"), "00000000800405fb");
    assert_eq!(daemon.status_field("Seccomp"), "2");
    let pid = daemon.pid().cast_signed();
    assert!(cgroup.is_none_or(|cgroup| cgroup.processes().contains(&pid)), "{cgroup:?}");
}

/// A control group with so much memory; if there can be none the test goes on without.
pub(crate) fn cgroup(whose: &str, memory_bytes_max: u64) -> Option<Arc<Cgroup>> {
    match Cgroup::new(memory_bytes_max) {
        Ok(cgroup) => Some(Arc::new(cgroup)),
        Err(reason) => {
            left_out(&format!("the limit of memory of {whose}"), &reason);
            None
        }
    }
}

/// None of its processes was killed because there was no memory.
#[track_caller]
pub(crate) fn expect_no_kill(name: &str, cgroup: &Cgroup) {
    let peak_kib = cgroup.peak_bytes().map(|bytes| bytes / 1024);
    eprintln!("{name}: {peak_kib:?} KiB at the most");
    assert_eq!(cgroup.oom_kills(), 0, "{name}: out of memory, {peak_kib:?} KiB");
}
