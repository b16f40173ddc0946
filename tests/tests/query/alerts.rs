//! The alerts of `systemd/prometheus/virt-daemons.rules.yml`: the situation of each is planted, and the
//! metrics then have the values that make its expression true, and did not have them before.

use std::fs;
use std::process::Command;

use nix::sys::signal::Signal;
use tests::guest::owner;
use tests::harness::{
    Daemon, Host, PipeLock, Program, Route, SlowFiles, Subject, Whose, can_hang, eventually,
    guest_writes, left_out, write,
};
use tests::supervisor::Service;
use tests::wire::LockClient;

use super::Sleeper;
use super::expression::{Scrapes, check_with_promtool, expect_of_promtool, is_true};
use super::metrics::{SMALL_DISK, fill_disk, lock_for_reading, metrics};
use super::tool::tool;

mod log {
    use super::*;
    tests::ours! { Virtlogd: an_upgrade_that_fails, clients_that_wait, a_store_that_is_too_small }
}

mod lock {
    use super::*;
    tests::ours! { Virtlockd: an_upgrade_that_fails, clients_that_wait, a_store_that_is_too_small }
}

tests::ours! { Virtlogd:
    a_full_disk,
    a_disk_with_logs_that_hangs,
    a_guest_that_locks_its_pipe,
    a_flood_over_a_rate_is_no_alert,
    a_daemon_that_is_silent,
}

tests::ours! { Virtlockd: a_disk_with_images_that_hangs }

tests::mixed! { Virtlockd: a_lease_that_is_shared }

/// Descriptors that a small store takes. What the daemon has without a guest has room in it.
const STORE_FDS: u8 = 40;

const FILE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../systemd/prometheus/virt-daemons.rules.yml");

/// An alert of the file.
#[derive(Debug, Default)]
struct Alert {
    name: String,
    expression: String,
    summary: String,
    description: String,
}

/// All alerts of the file, which has each value on a line of its own.
fn alerts() -> Vec<Alert> {
    let text = fs::read_to_string(FILE).unwrap();
    let mut alerts: Vec<Alert> = Vec::new();
    for line in text.lines().map(str::trim) {
        let value =
            |key: &str| line.strip_prefix(key).map(|value| value.trim_matches('"').to_owned());
        if let Some(name) = value("- alert: ") {
            alerts.push(Alert { name, ..Alert::default() });
        }
        let Some(alert) = alerts.last_mut() else { continue };
        let Alert { expression, summary, description, .. } = alert;
        for (key, target) in
            [("expr: ", expression), ("summary: ", summary), ("description: ", description)]
        {
            value(key).into_iter().for_each(|value| *target = value);
        }
    }
    alerts
}

/// The alert of the daemon with this ending.
fn alert(daemon: &Daemon, ending: &str) -> String {
    let name = daemon.subject().program.name();
    let name = name[..1].to_uppercase() + &name[1..] + ending;
    let found = alerts().into_iter().find(|alert| alert.name == name);
    found.unwrap_or_else(|| panic!("there is no alert {name}")).expression
}

/// Checks that an alert is not given yet, but is after `plant`.
#[track_caller]
fn expect(daemon: &Daemon, ending: &str, plant: impl FnOnce()) {
    let (expression, before) = (alert(daemon, ending), metrics(daemon));
    expect_value(&expression, Scrapes { before: &before, now: &before }, false);
    plant();
    let mut now = metrics(daemon);
    eventually(&expression, || {
        now = metrics(daemon);
        is_true(&expression, Scrapes { before: &before, now: &now })
    });
    expect_value(&expression, Scrapes { before: &before, now: &now }, true);
}

/// Checks whether an expression is true; Prometheus must agree.
#[track_caller]
fn expect_value(expression: &str, scrapes: Scrapes<'_>, value: bool) {
    assert_eq!(is_true(expression, scrapes), value, "{expression}");
    check_with_promtool(expression, scrapes, value);
}

/// Checks that an alert is over.
#[track_caller]
fn expect_over(daemon: &Daemon, ending: &str) {
    let expression = alert(daemon, ending);
    eventually(&format!("not {expression}"), || {
        let now = metrics(daemon);
        !is_true(&expression, Scrapes { before: &now, now: &now })
    });
}

fn an_upgrade_that_fails(subject: Subject) {
    let daemon = subject.start();
    let name = subject.program.name();
    let configuration = daemon.host().path(&format!("etc/libvirt/{name}.conf"));
    expect(&daemon, "UpgradeFailed", || {
        write(&configuration, "log_level = \"x\n");
        daemon.signal(Signal::SIGUSR1);
    });
    write(&configuration, "");
    daemon.signal(Signal::SIGUSR1);
    expect_over(&daemon, "UpgradeFailed");
}

fn clients_that_wait(subject: Subject) {
    let daemon = subject.start_with("max_clients = 1\n");
    let mut clients = Vec::new();
    expect(&daemon, "ClientsWait", || clients.extend((0..2).map(|_| daemon.connect_main())));
}

fn a_store_that_is_too_small(subject: Subject) {
    let host = Host::new();
    let service = Service::start(subject.program, &host, STORE_FDS.into());
    let daemon = service.daemon();
    let expression = alert(daemon, "StoreIncomplete");
    let at = || {
        let now = metrics(daemon);
        is_true(&expression, Scrapes { before: &now, now: &now })
    };
    eventually("all is stored", || !at());
    let guest = Sleeper::start();
    let _logs: Vec<_> = match subject.program {
        Program::Virtlogd => {
            let mut client = daemon.log_client();
            (0..40).map(|it| client.open(&daemon.file(&format!("{it}.log"))).unwrap()).collect()
        }
        Program::Virtlockd => {
            let mut client = lock_client(daemon, &guest);
            for number in 0..40 {
                let image = daemon.file(&format!("image{number}"));
                write(&image, "");
                client.acquire("", image.to_str().unwrap(), 0).unwrap();
            }
            Vec::new()
        }
    };
    eventually(&expression, at);
    let found = metrics(daemon);
    let name = subject.program.name();
    assert_eq!(found.value(&format!("{name}_fd_store_fds_max")), f64::from(STORE_FDS));
    assert!(found.value(&format!("{name}_fd_store_fds")) <= f64::from(STORE_FDS));
    assert!(found.value(&format!("{name}_fd_store_refusals_total")) >= 1.0);
}

fn a_disk_with_logs_that_hangs(subject: Subject) {
    if !can_hang("a disk with logs that hangs") {
        return;
    }
    let daemon = subject.setup().with_slow_files(env!("CARGO_BIN_EXE_stoppable_fs")).start();
    let slow = SlowFiles::of(&daemon.host());
    let log = daemon.log_client().open(&daemon.file("slow/guest.log")).unwrap();
    expect(&daemon, "StorageHangs", || {
        slow.stop();
        guest_writes(&log.pipe, "late\n");
    });
    assert_eq!(metrics(&daemon).value("virtlogd_storage_waiting"), 1.0);
    // What does not fit anywhere is lost.
    expect(&daemon, "LosesOutput", || guest_writes(&log.pipe, vec![b'x'; 1 << 20]));
    let lost = metrics(&daemon).value("virtlogd_lost_bytes_total{reason=\"hanging\"}");
    assert!(lost > 0.0);
    slow.go_on();
    expect_over(&daemon, "StorageHangs");
    assert_eq!(metrics(&daemon).value("virtlogd_storage_waiting"), 0.0);
}

fn a_disk_with_images_that_hangs(subject: Subject) {
    if !can_hang("a disk with images that hangs") {
        return;
    }
    let daemon = subject.setup().with_slow_files(env!("CARGO_BIN_EXE_stoppable_fs")).start();
    let slow = SlowFiles::of(&daemon.host());
    write(&slow.backing("image"), "");
    let (guest, image) = (Sleeper::start(), daemon.file("slow/image"));
    let mut client = lock_client(&daemon, &guest);
    std::thread::scope(|scope| {
        expect(&daemon, "StorageHangs", || {
            slow.stop();
            scope.spawn(move || client.acquire("", image.to_str().unwrap(), 0).unwrap());
        });
        assert_eq!(metrics(&daemon).value("virtlockd_storage_waiting"), 1.0);
        slow.go_on();
    });
    expect_over(&daemon, "StorageHangs");
}

fn lock_client(daemon: &Daemon, guest: &Sleeper) -> LockClient {
    let mut client = daemon.lock_client();
    client.register(&owner(guest.pid()), 0).unwrap();
    client
}

fn a_full_disk(subject: Subject) {
    let daemon = subject.setup().prepare(SMALL_DISK).start();
    let path = daemon.file("small/guest.log");
    let log = daemon.log_client().open(&path).unwrap();
    let filler = fill_disk(&daemon);
    expect(&daemon, "CannotWrite", || guest_writes(&log.pipe, "kept\n"));
    expect(&daemon, "LosesOutput", || guest_writes(&log.pipe, vec![b'x'; 1 << 20]));
    fs::remove_file(filler).unwrap();
    expect_over(&daemon, "CannotWrite");
    expect_over(&daemon, "LosesOutput");
}

/// The operator's own choice.
fn a_flood_over_a_rate_is_no_alert(subject: Subject) {
    let rule = "[[rule]]\npath = '**'\nrate = '64 KiB'\nburst = '64 KiB'\n";
    let daemon = subject.setup().toml(rule).start();
    let path = daemon.file("guest.log");
    let log = daemon.log_client().open(&path).unwrap();
    let (before, expression) = (metrics(&daemon), alert(&daemon, "LosesOutput"));
    guest_writes(&log.pipe, vec![b'x'; 1 << 20]);
    let lost = "virtlogd_lost_bytes_total{reason=\"rate-cap\"}";
    eventually("it is capped", || metrics(&daemon).value(lost) > 0.0);
    expect_value(&expression, Scrapes { before: &before, now: &metrics(&daemon) }, false);
}

fn a_guest_that_locks_its_pipe(subject: Subject) {
    let daemon = subject.start();
    let path = daemon.file("a.log");
    let log = daemon.log_client().open(&path).unwrap();
    let (mut lock, mut asking) = (None, daemon.log_client());
    std::thread::scope(|scope| {
        expect(&daemon, "GuestBlocks", || {
            lock = Some(PipeLock::begin(&log.pipe));
            scope.spawn(move || asking.position(&path).unwrap());
        });
        lock.take().unwrap().let_go("text\n");
    });
    expect_over(&daemon, "GuestBlocks");
}

/// libvirt's daemon loses a lock with another name of the file, and a stranger has a part of it before
/// ours takes over.
fn a_lease_that_is_shared(route: Route) {
    let mut daemon = route.start().setup().replaceable().start();
    let (guest, [image, alias]) = (Sleeper::start(), ["image", "alias"].map(|it| daemon.file(it)));
    write(&image, "");
    fs::hard_link(&image, &alias).unwrap();
    let mut client = lock_client(&daemon, &guest);
    [&image, &alias].iter().for_each(|it| client.acquire("", it.to_str().unwrap(), 0).unwrap());
    client.release("", alias.to_str().unwrap(), 0).unwrap();
    let stranger = lock_for_reading(&image);
    daemon.change_to(Whose::Ours);
    let expression = alert(&daemon, "LeaseIncomplete");
    let at = || {
        let now = metrics(&daemon);
        is_true(&expression, Scrapes { before: &now, now: &now })
    };
    eventually(&expression, at);
    let listed = tool(&daemon, ["list"]);
    assert!(listed.stdout.contains(" exclusiveness "), "{listed:?}");
    drop(stranger);
    eventually("it is over", || !at());
}

/// The file of a daemon that is not there is not replaced, and grows old.
fn a_daemon_that_is_silent(subject: Subject) {
    let daemon = subject.start();
    let name = subject.program.name();
    let file = daemon.file(&format!("{name}.prom"));
    let path = file.to_str().unwrap().to_owned();
    assert_eq!(tool(&daemon, ["metrics", "--textfile", &path]).status, Some(0));
    let time = || fs::metadata(&file).unwrap().modified().unwrap();
    let before = time();
    let socket = daemon.admin_socket();
    fs::remove_file(&socket).unwrap();
    assert_eq!(tool(&daemon, ["metrics", "--textfile", &path]).status, Some(1));
    assert_eq!(time(), before);
    let silent = alerts().into_iter().find(|alert| alert.name == "VirtDaemonSilent").unwrap();
    for (file, written_s, is_true) in [
        (&*path, 0, true),
        (&*path, 500, false),
        ("/x/other.prom", 0, false),
        ("virtlockd.prom", 0, true),
    ] {
        let series = format!(
            "      - series: 'node_textfile_mtime_seconds{{file=\"{file}\"}}'\n        values: '{written_s}x40'\n"
        );
        expect_of_promtool(&silent.expression, &series, is_true);
    }
}

#[test]
fn each_alert_is_tried_and_names_what_to_run() {
    let tried = [
        "VirtlogdLosesOutput",
        "VirtlogdCannotWrite",
        "VirtlogdStorageHangs",
        "VirtlogdGuestBlocks",
        "VirtlogdStoreIncomplete",
        "VirtlogdUpgradeFailed",
        "VirtlogdClientsWait",
        "VirtlockdLeaseIncomplete",
        "VirtlockdStorageHangs",
        "VirtlockdStoreIncomplete",
        "VirtlockdUpgradeFailed",
        "VirtlockdClientsWait",
        "VirtDaemonSilent",
    ];
    let found = alerts();
    assert_eq!(found.iter().map(|alert| &*alert.name).collect::<Vec<_>>(), tried);
    for Alert { name, summary, description, .. } in &found {
        assert!(summary.contains("{{ $labels.instance }}"), "{name}: {summary}");
        let commands = ["`virtlogctl ", "`virtlockctl ", "`systemctl "];
        assert!(commands.iter().any(|it| description.contains(it)), "{name}: {description}");
    }
    match Command::new("promtool").args(["check", "rules", FILE]).output() {
        Ok(output) => assert!(output.status.success(), "{output:?}"),
        Err(_) => left_out("promtool check rules", "promtool is not installed"),
    }
}
