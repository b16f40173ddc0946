//! The unit files, under a real systemd: loaded, hardened, activated; with libvirt's daemons too.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tests::harness::{Program, expect_file, guest_writes};
use tests::machine::{
    enable, journal, main_process, main_socket, property, service, succeed, systemctl,
    systemd_version,
};
use tests::wire::{LockClient, LogClient, Owner};

const BOTH: [Program; 2] = [Program::Virtlogd, Program::Virtlockd];

/// Keys that the units use and older systemds do not know, with the first version that does.
const NEWER_KEYS: [(&str, u32); 1] = [("FileDescriptorStorePreserve", 254)];

/// What `systemd-analyze security` may find at the most.
const EXPOSURE_MAX: f64 = 2.0;

/// Open files that every host allows; libvirt's own units ask for as many.
const OPEN_FILES_MIN: u64 = 16_384;

tests::on_machine! { Ours:
    nothing_is_wrong_with_the_units,
    little_is_exposed,
    virt_admin_starts_the_daemons,
    clients_start_the_daemons,
    sockets_are_for_root_alone,
    arguments_come_from_either_file,
    many_files_may_be_open,
}

tests::on_machine! { Theirs:
    libvirts_virtlogd_serves_in_these_units,
    libvirts_virtlockd_serves_in_these_units,
}

fn nothing_is_wrong_with_the_units() {
    let version = systemd_version();
    let unknown: Vec<_> = NEWER_KEYS.iter().filter(|(_, since)| version < *since).collect();
    let is_expected =
        |line: &str| unknown.iter().any(|(key, _)| line.contains(&format!("Unknown key '{key}'")));
    for program in BOTH {
        enable(program);
        succeed("virt-admin", &["-c", &uri(program), "srv-list"]);
    }
    let verify = "systemd-analyze verify --man=no virtlogd.service virtlockd.service \
                  virtlogd-metrics.timer virtlockd-metrics.timer 2>&1";
    let verdict = succeed("sh", &["-c", verify]);
    assert!(verdict.lines().all(is_expected), "{verdict}");
    assert_eq!(verdict.lines().count(), BOTH.len() * unknown.len(), "{verdict}");
    let warnings = succeed("journalctl", &["--no-pager", "-o", "cat", "-p", "warning", "_PID=1"]);
    let about_us = |line: &&str| line.contains("virtlogd") || line.contains("virtlockd");
    let unexpected: Vec<_> =
        warnings.lines().filter(about_us).filter(|line| !is_expected(line)).collect();
    assert!(unexpected.is_empty(), "{unexpected:?}");
}

fn little_is_exposed() {
    let metrics = BOTH.map(|program| format!("{}-metrics.service", program.name()));
    for service in BOTH.map(service).into_iter().chain(metrics) {
        let table = succeed("systemd-analyze", &["security", "--no-pager", &service]);
        let verdict = table.lines().last().unwrap_or_default();
        let (_, words) = verdict.split_once("service: ").expect(verdict);
        let exposure: f64 = words.split(' ').next().unwrap().parse().expect(verdict);
        assert!(exposure <= EXPOSURE_MAX, "{table}");
    }
}

fn virt_admin_starts_the_daemons() {
    for program in BOTH {
        enable(program);
        assert_eq!(property(&service(program), "ActiveState"), "inactive");
        let servers = succeed("virt-admin", &["-c", &uri(program), "srv-list"]);
        assert!(servers.contains(program.name()) && servers.contains("admin"), "{servers}");
        assert_eq!(property(&service(program), "ActiveState"), "active");
    }
}

fn clients_start_the_daemons() {
    BOTH.into_iter().for_each(enable);
    std::fs::create_dir("/var/log/libvirt").unwrap();
    let mut logs = LogClient::connect(&main_socket(Program::Virtlogd)).unwrap();
    logs.open(Path::new("/var/log/libvirt/guest.log")).unwrap();
    let mut locks = LockClient::connect(&main_socket(Program::Virtlockd)).unwrap();
    locks.register(&Owner::of(std::process::id()), 0).unwrap();
}

fn sockets_are_for_root_alone() {
    BOTH.into_iter().for_each(enable);
    for name in ["virtlogd-sock", "virtlogd-admin-sock", "virtlockd-sock", "virtlockd-admin-sock"] {
        let metadata = Path::new("/run/libvirt").join(name).metadata().unwrap();
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o600, "{name}");
    }
}

fn arguments_come_from_either_file() {
    for directory in ["/etc/default", "/etc/sysconfig"] {
        std::fs::create_dir_all(directory).unwrap();
        for program in BOTH {
            let (name, upper) = (program.name(), program.name().to_uppercase());
            let file = Path::new(directory).join(name);
            std::fs::write(&file, format!("{upper}_ARGS=\"--timeout 3600\"\n")).unwrap();
            systemctl(&["start", &service(program)]);
            let arguments = main_process(program, "cmdline");
            assert_eq!(arguments, format!("/usr/sbin/{name}\0--timeout\0{}\0", 3600));
            systemctl(&["stop", &service(program)]);
            std::fs::write(&file, "").unwrap();
        }
    }
}

/// Of libvirt's daemons too, which leave their soft limit as it is.
fn many_files_may_be_open() {
    for program in BOTH {
        systemctl(&["start", &service(program)]);
        let limits = main_process(program, "limits");
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        let numbers: Vec<u64> = line.split_whitespace().filter_map(|w| w.parse().ok()).collect();
        assert!(numbers.len() == 2 && numbers[0] == numbers[1], "{line}");
        assert!(numbers[0] >= OPEN_FILES_MIN, "{line}");
        assert_eq!(property(&service(program), "LimitNOFILESoft"), "524288");
    }
}

/// As after a downgrade while guests run: same unit, same sandbox.
fn libvirts_virtlogd_serves_in_these_units() {
    enable(Program::Virtlogd);
    std::fs::create_dir("/var/log/libvirt").unwrap();
    let file = Path::new("/home/guest.log");
    let mut client = LogClient::connect(&main_socket(Program::Virtlogd)).unwrap();
    let pipe = client.open(file).unwrap().pipe;
    guest_writes(&pipe, "one\n");
    expect_file(file, "one\n");
    reload(Program::Virtlogd);
    guest_writes(&pipe, "two\n");
    expect_file(file, "one\ntwo\n");
}

fn libvirts_virtlockd_serves_in_these_units() {
    enable(Program::Virtlockd);
    std::fs::write("/home/disk.img", "").unwrap();
    let client = |pid| {
        let mut client = LockClient::connect(&main_socket(Program::Virtlockd)).unwrap();
        client.register(&Owner::of(pid), 0).unwrap();
        client
    };
    let mut guest = Command::new("sleep").arg("600").spawn().unwrap();
    let mut holder = client(guest.id());
    holder.acquire("", "/home/disk.img", 0).unwrap();
    client(std::process::id()).acquire("", "/home/disk.img", 0).unwrap_err();
    reload(Program::Virtlockd);
    client(std::process::id()).acquire("", "/home/disk.img", 0).unwrap_err();
    holder.release("", "/home/disk.img", 0).unwrap();
    client(std::process::id()).create("", "/home/other.img", 0).unwrap();
    guest.kill().and_then(|()| guest.wait()).unwrap();
}

/// Has libvirt's daemon execute itself again and checks that it is the same process that serves.
fn reload(program: Program) {
    let process = property(&service(program), "MainPID");
    systemctl(&["reload", &service(program)]);
    succeed("virt-admin", &["-c", &uri(program), "srv-list"]);
    assert_eq!(property(&service(program), "MainPID"), process, "{}", journal(&service(program)));
}

fn uri(program: Program) -> String {
    format!("{}:///system", program.name())
}
