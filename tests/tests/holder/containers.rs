//! The recipes of `systemd/README.md`, with namespaces in place of a container engine.

use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::harness::{Host, Program, Subject, eventually, needs_root};
use tests::holder::{Held, Holder, Origin, Recipe, container, pod};
use tests::wire::LogClient;

use crate::daemons::rounds;
use crate::load::{Leases, Logs, turn};

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

/// A holder that was filled again does not have the listening sockets, and fewer sentinels.
const FEWER_FDS: usize = 4;

/// Everything is stored again after so long: a daemon tries again once a second.
const QUIET: Duration = Duration::from_secs(2);

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
        let [(pid, _)] = in_pod("virtlogd", &runtime)[..] else { panic!("one virtlogd") };
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        eventually("another virtlogd", || {
            let found = in_pod("virtlogd", &runtime);
            found.len() == 1 && found[0].0 != pid
        });
    }
    // The holder alone: virtlogd stores its fds with the next one.
    let holder = || in_pod("virtfdhold", &runtime).first().map_or(0, |found| found.0);
    let fds = |pid: i32| std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    let (before, count) = (holder(), fds(holder()));
    kill(Pid::from_raw(before), Signal::SIGKILL).unwrap();
    eventually("another holder has them", || {
        ![0, before].contains(&holder()) && fds(holder()) + FEWER_FDS >= count
    });
    sleep(QUIET);
    let [(pid, _)] = in_pod("virtlogd", &runtime)[..] else { panic!("one virtlogd") };
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    logs.finish();
    let memory = ["virtlogd", "virtfdhold"].map(|name| in_pod(name, &runtime));
    let kib: u64 = memory.iter().flatten().map(|(_, kib)| kib).sum();
    assert!(kib < POD_KIB_MAX, "{memory:?}");
}

/// Processes of this executable with this runtime directory, with their memory in KiB.
fn in_pod(name: &str, runtime: &Path) -> Vec<(i32, u64)> {
    let variable = format!("XDG_RUNTIME_DIR={}\0", runtime.display());
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let found = entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let read = |file: &str| std::fs::read(entry.path().join(file)).ok();
        let environment = String::from_utf8(read("environ")?).ok()?;
        let status = String::from_utf8(read("status")?).ok()?;
        let field = |key: &str| status.lines().find_map(|line| line.strip_prefix(key));
        let executable = std::fs::read_link(entry.path().join("exe")).ok()?;
        let is_it = environment.contains(&variable) && executable.file_name()? == name;
        let kib = field("VmRSS:")?.trim().trim_end_matches(" kB").parse().ok()?;
        is_it.then_some((pid, kib))
    });
    found.collect()
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
