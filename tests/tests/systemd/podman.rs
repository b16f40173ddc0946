//! The holder on Debian 13: the recipes with podman, and a systemd that keeps an fd store over a stop.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::harness::{Program, Whose, eventually};
use tests::load::{Contender, Pace, Writer};
use tests::machine::{Equipment, main_socket, property, run_with, succeed, systemctl};
use tests::wire::{LockClient, LogClient, Owner};

/// Makes tests on machines of Debian 13 with podman.
macro_rules! on_debian_13 {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[test]
            #[ignore = "makes a root directory of Debian 13 with podman in some minutes"]
            fn on_debian_13() {
                let name = concat!(module_path!(), "::on_debian_13");
                super::run_with(super::equipment, super::Whose::Ours, name, super::$name);
            }
        }
    )+};
}

on_debian_13! { a_stop_of_the_holder_keeps_everything, quadlets, compose }

const HOLDER: &str = "virtfdhold.service";
const CONTAINERS: [&str; 2] = ["nova_virtlogd", "nova_virtlockd"];

/// Logs and leases of guests.
const LOGS: usize = 50;
const LEASES: usize = 200;

/// Variable with the number of rounds, and how many there are without it.
const ROUNDS: &str = "VIRT_TESTS_RESTARTS";
const ROUNDS_MIN: usize = 2;

/// Packages beside those of each such root directory.
const PACKAGES: [&str; 5] = ["podman", "crun", "netavark", "docker-compose", "ca-certificates"];

/// Files of the recipes.
const RECIPES: [&str; 6] = [
    "kolla/Containerfile",
    "kolla/compose.yaml",
    "kubevirt/Containerfile",
    "kubevirt/virtlogd",
    "tripleo/nova_virtlogd.container",
    "tripleo/nova_virtlockd.container",
];

/// Makes images as the recipes tell, of a base that has what the programs need. Nothing is asked of
/// control groups that a machine in a machine does not have.
const IMAGES: &str = r#"
mkdir -p /etc/containers/systemd /var/lib/nova /var/log/libvirt target/release
printf '[storage]\ndriver="vfs"\nrunroot="/run/containers/storage"\ngraphroot="/var/lib/containers/storage"\n' >/etc/containers/storage.conf
printf '[containers]\npids_limit=0\n[engine]\nevents_logger="file"\n' >/etc/containers/containers.conf
printf '{"default":[{"type":"insecureAcceptAnything"}]}' >/etc/containers/policy.json
cp /usr/sbin/virtlogd /usr/sbin/virtlockd /usr/sbin/virtfdhold target/release/
base=/srv/base
mkdir -p $base/usr/bin $base/usr/sbin $base/usr/libexec $base/usr/lib/x86_64-linux-gnu $base/usr/lib64 $base/etc
for directory in bin sbin lib lib64; do ln -s usr/$directory $base/$directory; done
cp -L /usr/bin/sh /usr/bin/sleep /usr/bin/setsid /usr/bin/id $base/usr/bin/
for library in $(ldd /usr/sbin/virtlogd /usr/sbin/virtlockd $base/usr/bin/* | grep -o '/lib[^ ]*' | grep -v ':$' | sort -u); do
    cp -L "$library" "$base$library"
done
cp /etc/passwd /etc/group $base/etc/
tar -C $base -c . | podman import - localhost/base:latest
podman build --isolation=chroot --build-arg BASE=localhost/base:latest -t localhost/virt-daemons -f systemd/kolla/Containerfile .
podman build --isolation=chroot --build-arg LAUNCHER=localhost/base:latest -t localhost/launcher -f systemd/kubevirt/Containerfile .
podman run --rm --network=host localhost/launcher /usr/libexec/virtlogd --version
"#;

/// Guests that would notice a loss.
struct Load {
    writers: Vec<Writer>,
    contender: Contender,
    locks: LockClient,
}

/// `systemctl stop` and `start` in the place of a restart, and daemons that die in between.
fn a_stop_of_the_holder_keeps_everything() {
    prepare();
    install_quadlets();
    let load = Load::begin();
    let before = stored();
    systemctl(&["restart", HOLDER]);
    assert_eq!(stored(), before);
    systemctl(&["stop", HOLDER]);
    assert_eq!(property(HOLDER, "ActiveState"), "inactive");
    assert_eq!(stored(), before);
    // Whoever is served goes on; whoever dies is waited for.
    expect_served();
    let pids = CONTAINERS.map(pid_in);
    pids.iter().for_each(|&pid| kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap());
    systemctl(&["start", HOLDER]);
    wait_for_others(pids);
    load.finish();
}

/// As `TripleO`'s containers are: one of podman's a daemon, each a service of the host's systemd.
fn quadlets() {
    prepare();
    install_quadlets();
    let load = Load::begin();
    let start = Instant::now();
    for round in 0..rounds() {
        systemctl(&["restart", CONTAINERS[0], CONTAINERS[1]]);
        expect_served();
        replaced(|_| drop(succeed("podman", &["kill", CONTAINERS[0], CONTAINERS[1]])));
        replaced(|_| {
            drop(succeed("podman", &["rm", "-f", "-t", "5", CONTAINERS[0], CONTAINERS[1]]));
        });
        kill_holder();
        systemctl(&["restart", HOLDER]);
        expect_served();
        // Another image, as at an upgrade.
        build_image(round);
        systemctl(&["restart", CONTAINERS[0], CONTAINERS[1]]);
        expect_served();
        // All at once.
        replaced(|pids| {
            let holder = property(HOLDER, "MainPID").parse().unwrap();
            pids.iter().chain([&holder]).for_each(|&pid| {
                kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
            });
        });
    }
    println!("quadlets: {} rounds in {:?}", rounds(), start.elapsed());
    load.finish();
}

/// As kolla's containers are, with podman in the place of Docker.
fn compose() {
    prepare();
    systemctl(&["start", HOLDER]);
    let volumes = [("libvirtd", "libvirt"), ("nova_compute", "nova"), ("kolla_logs", "kolla")];
    for (volume, directory) in volumes {
        // Tests find the files at the same place.
        let make = format!(
            "mkdir -p /var/lib/{directory}; \
             podman volume create -o type=none -o o=bind -o device=/var/lib/{directory} {volume}"
        );
        succeed("sh", &["-ec", &make]);
    }
    let engine = "unix:///run/podman.sock";
    let mut service = Command::new("podman");
    let mut service: Child =
        service.args(["system", "service", "--time=0", engine]).spawn().unwrap();
    eventually("podman serves", || Path::new("/run/podman.sock").exists());
    let compose = |arguments: &[&str]| {
        let words = ["IMAGE=localhost/virt-daemons", "docker-compose", "-f"];
        let host = format!("DOCKER_HOST={engine}");
        let file = "/srv/tree/systemd/kolla/compose.yaml";
        succeed("env", &[&[&*host], &words[..], &[file], arguments].concat());
    };
    compose(&["up", "-d"]);
    let load = Load::begin();
    let start = Instant::now();
    for round in 0..rounds() {
        compose(&["restart"]);
        expect_served();
        replaced(|pids| {
            pids.iter().for_each(|&pid| kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap());
            // podman leaves restarts to a service of its own, which is not started here.
            compose(&["up", "-d"]);
        });
        kill_holder();
        build_image(round);
        compose(&["up", "-d", "--force-recreate"]);
        expect_served();
        compose(&["kill"]);
        kill_holder();
        compose(&["up", "-d"]);
        expect_served();
    }
    println!("compose: {} rounds in {:?}", rounds(), start.elapsed());
    load.finish();
    service.kill().unwrap();
    service.wait().unwrap();
}

impl Load {
    fn begin() -> Self {
        expect_served();
        let mut client = LogClient::connect(&main_socket(Program::Virtlogd)).unwrap();
        let begin = |number: usize| {
            let path = log(number);
            let pipe = client.open(&path).unwrap().pipe;
            Writer::start(&path, pipe, Pace::Slow)
        };
        let writers = (0..LOGS).map(begin).collect();
        let images: Vec<_> =
            (0..LEASES).map(|lease| format!("/var/lib/nova/{lease}.img")).collect();
        let mut locks = LockClient::connect(&main_socket(Program::Virtlockd)).unwrap();
        // Its process does not end.
        locks.register(&Owner::of(1), 0).unwrap();
        for image in &images {
            fs::write(image, "image").unwrap();
            locks.acquire("", image, 0).unwrap();
        }
        Self { writers, contender: Contender::start(&images), locks }
    }

    #[track_caller]
    fn finish(self) {
        self.writers.into_iter().for_each(Writer::finish);
        self.contender.finish();
        drop(self.locks);
    }
}

/// Only what the volume of a recipe shows is the same file on both sides.
fn log(number: usize) -> PathBuf {
    format!("/var/log/libvirt/{number}.log").into()
}

fn rounds() -> usize {
    let rounds = std::env::var(ROUNDS).ok();
    rounds.map_or(ROUNDS_MIN, |text| text.parse().expect("a number of rounds"))
}

fn equipment() -> Result<Equipment, String> {
    let executable = std::env::current_exe().map_err(|error| error.to_string())?;
    let target = executable.ancestors().nth(3).ok_or("the test executable has no directory")?;
    let (root, workspace) =
        (target.join("tests/debian-13-podman"), Path::new(env!("CARGO_MANIFEST_DIR")));
    let mut make = Command::new(workspace.join("systemd/debian-root.sh"));
    let made = make.arg("trixie").arg(&root).args(PACKAGES).output();
    let made = made.map_err(|error| error.to_string())?;
    if !made.status.success() {
        return Err(format!("no Debian 13: {}", String::from_utf8_lossy(&made.stderr)));
    }
    let mut equipment = Equipment::default();
    equipment.root.replace(root);
    equipment.files.extend(RECIPES.map(|file| {
        (workspace.join("../systemd").join(file), format!("/srv/tree/systemd/{file}"))
    }));
    Ok(equipment)
}

fn prepare() {
    println!("{}", succeed("sh", &["-exc", &format!("cd /srv/tree\n{IMAGES}")]));
}

fn install_quadlets() {
    succeed("sh", &["-ec", "cp /srv/tree/systemd/tripleo/*.container /etc/containers/systemd/"]);
    systemctl(&["daemon-reload"]);
    systemctl(&["start", CONTAINERS[0], CONTAINERS[1]]);
}

/// Programs that differ from those that run.
fn build_image(round: usize) {
    let command = format!(
        "cd /srv/tree; for name in virtlogd virtlockd; do cp /usr/sbin/$name target/release/; echo {round} >>target/release/$name; done; \
         podman build --isolation=chroot --build-arg BASE=localhost/base:latest -t localhost/virt-daemons -f systemd/kolla/Containerfile ."
    );
    succeed("sh", &["-ec", &command]);
}

/// Fds that systemd keeps for the holder.
fn stored() -> usize {
    let count = || property(HOLDER, "NFileDescriptorStore").parse::<usize>().expect("a number");
    let mut before = 0;
    eventually("nothing is stored any more", || {
        sleep(Duration::from_millis(300));
        std::mem::replace(&mut before, count()) == count()
    });
    assert!(before > LOGS + LEASES, "{before}");
    before
}

fn kill_holder() {
    let pid = || property(HOLDER, "MainPID").parse::<i32>().expect("a number");
    let before = pid();
    kill(Pid::from_raw(before), Signal::SIGKILL).unwrap();
    eventually("another holder runs", || ![0, before].contains(&pid()));
}

/// Has the processes of both containers end by something, and waits for the next ones.
fn replaced(end: impl FnOnce([i32; 2])) {
    let before = CONTAINERS.map(pid_in);
    end(before);
    wait_for_others(before);
}

fn wait_for_others(before: [i32; 2]) {
    for (container, before) in CONTAINERS.iter().zip(before) {
        eventually("another container runs", || ![0, before].contains(&pid_in(container)));
    }
    expect_served();
}

/// The process of a container, or 0.
fn pid_in(container: &str) -> i32 {
    let mut inspect = Command::new("podman");
    let output = inspect.args(["inspect", "--format", "{{.State.Pid}}", container]).output();
    String::from_utf8_lossy(&output.unwrap().stdout).trim().parse().unwrap_or(0)
}

/// Clients wait for a daemon that is away, and find what it had.
fn expect_served() {
    let mut logs = LogClient::connect(&main_socket(Program::Virtlogd)).expect("connecting");
    if log(0).exists() {
        logs.position(&log(0)).expect("the log goes on");
    } else {
        logs.position(Path::new("/nowhere")).expect_err("there is no such log");
    }
    let mut locks = LockClient::connect(&main_socket(Program::Virtlockd)).expect("connecting");
    locks.register(&Owner::of(1), 0).expect("registering");
}
