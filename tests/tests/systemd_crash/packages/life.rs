//! What is meant to come about, with libvirtd and QEMU guests.

use std::path::Path;

use tests::harness::{Program, eventually};
use tests::interop::{Guest, Host};
use tests::machine::{is_libvirts, main_pid, main_process, property, service, succeed, systemctl};

use super::{LIBVIRTS, NEXT_VERSION, OURS, be_libvirts_host, changed_package, packaged};
use crate::kills::kill_by;
use crate::libvirt::{BOTH, host, kill_both, launch_guests};
use crate::real_moves::{Store, expect_well};

/// The service that has guests' output in the journal.
const JOURNAL: &str = "virtlogd-journal.service";

super::with_packages! {
    from_installation_to_removal,
}

fn from_installation_to_removal() {
    be_libvirts_host();
    let host = host();
    let guests = launch_guests(&host);
    expect("libvirt's daemons", Store::Nothing, &host, &guests);
    let pids = BOTH.map(main_pid);
    let libvirts = BOTH.map(capabilities);
    install();
    enable_own_units();
    expect("installed", Store::Items, &host, &guests);
    assert_eq!(BOTH.map(capabilities), libvirts);
    kill_both(1);
    expect("kill -9 of what took over", Store::Items, &host, &guests);
    let ours = BOTH.map(capabilities);
    assert!(ours.iter().zip(&libvirts).all(|(ours, libvirts)| ours != libvirts), "{ours:?}");
    kill_both(0);
    expect("kill -9 of what was started", Store::Items, &host, &guests);
    upgrade();
    expect("upgraded", Store::Items, &host, &guests);
    kill_both(1);
    expect("kill -9", Store::Items, &host, &guests);
    reinstall_libvirts();
    expect("libvirt's packages installed again", Store::Items, &host, &guests);
    kill_both(1);
    expect("kill -9", Store::Items, &host, &guests);
    BOTH.into_iter().for_each(|program| drop(systemctl(&["restart", &service(program)])));
    expect("restart", Store::Items, &host, &guests);
    remove();
    expect("removed", Store::Nothing, &host, &guests);
    let removed = BOTH.map(main_pid);
    install();
    expect("installed again", Store::Items, &host, &guests);
    assert_eq!(BOTH.map(main_pid), removed);
    assert_ne!(removed, pids);
    kill_by(Program::Virtlogd, nix::sys::signal::Signal::SIGKILL);
    expect("kill -9", Store::Items, &host, &guests);
    packaged("apt-get", &["purge", "-y", "virtlogd", "virtlockd"]);
    expect("purged", Store::Nothing, &host, &guests);
    expect_nothing_left();
    assert!(!Path::new("/var/lib/virtlogd-journal").exists());
    host.system().run(&["destroy", "alfa"]);
    host.system().run_eventually(&["start", "next"]);
}

/// Runs the command of the first page that begins so, in a directory like the source tree's.
fn from_the_readme(beginning: &str) -> String {
    let page = include_str!("../../../../README.md");
    let mut commands = page.lines().filter_map(|line| line.strip_prefix("    "));
    let command = commands.find(|command| command.starts_with(beginning)).expect("a command");
    let place = format!(
        "echo 'APT::Get::Assume-Yes \"true\";' >/etc/apt/apt.conf.d/tests; \
         mkdir -p /opt/tree/target; cd /opt/tree; ln -sfn {OURS} target/packages"
    );
    packaged("sh", &["-ec", &format!("{place}; {command}")])
}

fn install() {
    let pids = BOTH.map(main_pid);
    let said = from_the_readme("apt install ./");
    for (program, pid) in BOTH.into_iter().zip(pids) {
        let name = program.name();
        assert!(
            said.contains(&format!("{name}-rs 0.1.0 has taken over from libvirt's ")),
            "{said}"
        );
        assert_eq!(main_pid(program), pid);
        assert!(!is_libvirts(program));
        let (settings, reload) = ("DropInPaths", "ExecReload");
        assert!(property(&service(program), settings).contains("virt-rs.conf"));
        assert_eq!(property(&service(program), reload).matches("path=").count(), 1);
    }
    assert!(succeed("journalctl", &["--list-catalog"]).contains("virtlockd: Lease refused"));
    assert!(said.contains("4 logs open") && said.contains("1 leases held"), "{said}");
    assert_eq!(said.matches("loses nothing from now on").count(), 2, "{said}");
}

/// They ask the daemon at any time, and have to end with it.
fn enable_own_units() {
    std::fs::create_dir_all("/var/lib/prometheus/node-exporter").unwrap();
    systemctl(&["enable", "--now", "virtlogd-metrics.timer", "virtlockd-metrics.timer"]);
    systemctl(&["enable", "--now", JOURNAL]);
    assert_eq!(property(JOURNAL, "ActiveState"), "active");
}

fn upgrade() {
    let pids = BOTH.map(main_pid);
    let packages = BOTH.map(|program| changed_package(program, NEXT_VERSION, "true"));
    let said = packaged("apt-get", &["install", "-y", &packages[0], &packages[1]]);
    assert_eq!(said.matches("has taken over from").count(), 2, "{said}");
    assert_eq!(BOTH.map(main_pid), pids);
}

/// As an update of theirs: their maintainer scripts run, and their programs land elsewhere.
fn reinstall_libvirts() {
    let pids = BOTH.map(main_pid);
    packaged("sh", &["-c", &format!("dpkg --force-confold -i {LIBVIRTS}/*.deb")]);
    assert_eq!(BOTH.map(main_pid), pids);
    assert!(!BOTH.into_iter().any(is_libvirts));
    for program in BOTH {
        let version = succeed(&format!("/usr/sbin/{}", program.name()), &["--version"]);
        assert!(version.contains("-rs "), "{version}");
    }
}

fn remove() {
    let pids = BOTH.map(main_pid);
    let said = from_the_readme("apt remove ");
    assert_eq!(said.matches("libvirt's program has taken over").count(), 2, "{said}");
    assert_eq!(property(JOURNAL, "LoadState"), "not-found");
    assert_eq!(BOTH.map(main_pid), pids);
    assert!(BOTH.into_iter().all(is_libvirts));
    expect_nothing_left();
}

fn expect_nothing_left() {
    assert!(!succeed("dpkg-divert", &["--list"]).contains("virtlo"));
    for program in BOTH {
        let name = program.name();
        succeed("dpkg", &["--search", &format!("/usr/sbin/{name}")]);
        for left in [
            format!("/usr/sbin/{name}.libvirt"),
            format!("/usr/sbin/{name}.before"),
            format!("/usr/sbin/{name}.new"),
            format!("/usr/share/man/man8/{name}.libvirt.8.gz"),
            format!("/usr/lib/systemd/system/{name}.service.d"),
            format!("/usr/libexec/{name}"),
            format!("/usr/lib/systemd/system/{name}-metrics.timer"),
            format!("/etc/systemd/system/timers.target.wants/{name}-metrics.timer"),
            format!("/usr/share/doc/{name}"),
        ] {
            assert!(!Path::new(&left).exists(), "{left}");
        }
        assert!(Path::new(&format!("/usr/sbin/{name}")).exists());
        assert_eq!(property(&service(program), "DropInPaths"), "");
    }
}

/// Guests are well, and systemd says so.
#[track_caller]
fn expect(step: &str, store: Store, host: &Host, guests: &[Guest; 2]) {
    expect_well(step, store, host, guests);
    let failed = systemctl(&["list-units", "--failed", "--plain", "--no-legend"]);
    assert!(!failed.contains("virt"), "{step}: {failed}");
    let told = [(Program::Virtlogd, "4 logs open"), (Program::Virtlockd, "1 leases held")];
    for (program, text) in told.into_iter().filter(|_| store == Store::Items) {
        let status = || property(&service(program), "StatusText");
        let is_told = || status().contains(text) && !status().contains("store");
        eventually(&format!("{step}: {} says {text}: {}", program.name(), status()), is_told);
    }
}

/// What the process may do at the most. It has its unit's sandbox from its start on.
fn capabilities(program: Program) -> String {
    let status = main_process(program, "status");
    status.lines().find(|line| line.starts_with("CapBnd:")).expect("a set").to_owned()
}
