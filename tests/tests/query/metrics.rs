//! What `virtlogctl metrics` and `virtlockctl metrics` print after planted traffic.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::signal::Signal;
use serde_json::Value;
use tests::guest::owner;
use tests::harness::{
    Daemon, Mode, Subject, eventually, guest_writes, left_out, needs_root, write,
};
use tests::wire::{ACQUIRE_SHARED, LockClient, RpcError};

use super::exposition::{Exposition, Format};
use super::tool::{Printed, tool};
use super::{PROGRAM, Sleeper, query};

mod log {
    use super::*;
    tests::both! { Virtlogd: metrics_are_printed_of_our_daemon_only }
    tests::ours! { Virtlogd: a_file_is_replaced_at_one_stroke, upgrades_are_counted }
}

mod lock {
    use super::*;
    tests::both! { Virtlockd: metrics_are_printed_of_our_daemon_only }
    tests::ours! { Virtlockd: a_file_is_replaced_at_one_stroke, upgrades_are_counted }
}

tests::ours! { Virtlogd:
    bytes_and_rotations_are_counted,
    losses_are_counted_by_their_reason,
    what_is_over_a_rate_is_counted,
    a_log_that_is_given_up_is_counted_once,
    clients_are_counted,
    refused_users_are_counted,
}

tests::ours! { Virtlockd: leases_and_refusals_are_counted }

const COUNTERS: i32 = 3;

/// The present metrics of a daemon.
pub(crate) fn metrics(daemon: &Daemon) -> Exposition {
    let printed = tool(daemon, ["metrics"]);
    assert_eq!((printed.status, &*printed.stderr), (Some(0), ""));
    Exposition::read(&printed.stdout, Format::OpenMetrics)
}

/// Waits until a sample has a value.
#[track_caller]
fn expect(daemon: &Daemon, series: &str, value: f64) {
    eventually(&format!("{series} is {value}"), || metrics(daemon).value(series) == value);
}

fn metrics_are_printed_of_our_daemon_only(subject: Subject) {
    let daemon = subject.start();
    let printed = tool(&daemon, ["metrics"]);
    if subject.is_ours() {
        let name = subject.program.name();
        let text = &printed.stdout;
        let build = format!("{name}_build_info{{version=\"0.1.0\",libvirt_version=\"9.0.0\"}}");
        let found = Exposition::read(text, Format::OpenMetrics);
        assert_eq!(found.value(&build), 1.0);
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        let since = found.value(&format!("{name}_start_time_seconds"));
        assert!(since <= now && since > now - 60.0, "{since}");
        return;
    }
    assert!(printed.stderr.contains(": this is libvirt's daemon, which tells nothing of "));
    assert_eq!((printed.status, printed.stderr.lines().count()), (Some(1), 1), "{printed:?}");
    // A file that is there is not replaced by nothing.
    let file = daemon.file("x.prom");
    write(&file, "before\n");
    let printed = tool(&daemon, ["metrics", "--textfile", file.to_str().unwrap()]);
    assert_eq!((printed.status, &*printed.stdout), (Some(1), ""));
    assert_eq!(fs::read_to_string(&file).unwrap(), "before\n");
}

/// A reader that looks all the time never sees a part of it.
fn a_file_is_replaced_at_one_stroke(subject: Subject) {
    let daemon = subject.start();
    let directory = daemon.file("collector");
    fs::create_dir(&directory).unwrap();
    let file = directory.join("x.prom");
    let path = file.to_str().unwrap();
    let quiet = Printed { stdout: String::new(), stderr: String::new(), status: Some(0) };
    assert_eq!(tool(&daemon, ["metrics", "--textfile", path]), quiet);
    let families = Exposition::read(&fs::read_to_string(&file).unwrap(), Format::Prometheus).types;
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            for _ in 0..30 {
                assert_eq!(tool(&daemon, ["metrics", "--textfile", path]), quiet);
            }
        });
        while !writing.is_finished() {
            let text = fs::read_to_string(&file).unwrap();
            assert_eq!(Exposition::read(&text, Format::Prometheus).types, families);
            for entry in fs::read_dir(&directory).unwrap() {
                // node_exporter reads each of these.
                let name = entry.unwrap().file_name().into_string().unwrap();
                assert_eq!(name.ends_with(".prom"), name == "x.prom", "{name}");
            }
        }
        writing.join().unwrap();
    });
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "nothing is left");
    let text = fs::read(&file).unwrap();
    check_with_promtool(&text);
    let elsewhere = tool(&daemon, ["metrics", "--textfile", "/nowhere/x.prom"]);
    let text = "unable to write /nowhere/x.prom: No such file or directory";
    assert!(elsewhere.stderr.contains(text), "{elsewhere:?}");
    assert_eq!((elsewhere.status, &*elsewhere.stdout), (Some(1), ""));
}

/// The parser is node_exporter's.
fn check_with_promtool(text: &[u8]) {
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut promtool) = command.stdout(Stdio::piped()).spawn() else {
        return left_out("promtool check metrics", "promtool is not installed");
    };
    promtool.stdin.take().unwrap().write_all(text).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}");
}

fn upgrades_are_counted(subject: Subject) {
    let daemon = subject.start();
    let name = subject.program.name();
    let upgrades = |outcome| format!("{name}_upgrades_total{{outcome=\"{outcome}\"}}");
    let refusal = daemon.connect_main().call(PROGRAM, COUNTERS, &[]);
    assert_eq!(refusal.unwrap_err(), RpcError::rpc("Cannot find program 1903519090 version 1"));
    let configuration = daemon.host().path(&format!("etc/libvirt/{name}.conf"));
    for failed in 1..3 {
        write(&configuration, "log_level = \"x\n");
        daemon.signal(Signal::SIGUSR1);
        expect(&daemon, &upgrades("failed"), failed.into());
    }
    assert_eq!(metrics(&daemon).value(&upgrades("done")), 0.0);
    write(&configuration, "");
    for done in 1..3 {
        daemon.signal(Signal::SIGUSR1);
        expect(&daemon, &upgrades("done"), done.into());
        // The program that runs now has not failed.
        assert_eq!(metrics(&daemon).value(&upgrades("failed")), 0.0);
    }
}

/// A line of 100 bytes.
fn line(number: usize) -> String {
    format!("{number:099}\n")
}

fn bytes_and_rotations_are_counted(subject: Subject) {
    let daemon = subject.start_with("max_size = 1000\nmax_backups = 3\n");
    let [path, other] = ["guest.log", "other.log"].map(|name| daemon.file(name));
    let mut client = daemon.log_client();
    let mut log = client.open(&path).unwrap();
    for number in 0..35 {
        log.pipe.write_all(line(number).as_bytes()).unwrap();
        client.position(&path).unwrap();
    }
    client.append(&path, "of a client\n").unwrap();
    client.append(&other, "of a client\n").unwrap();
    let found = metrics(&daemon);
    for (name, value) in [
        ("logs", 1.0),
        ("logs_failing", 0.0),
        ("logs_opened_total", 1.0),
        ("read_bytes_total", 3500.0),
        ("written_bytes_total", 3524.0),
        ("rotations_total", 3.0),
        ("loss_lines_total", 0.0),
        ("write_errors_total", 0.0),
        ("lost_bytes_total{reason=\"full\"}", 0.0),
        ("storage_hanging", 0.0),
        ("fd_store_fds_max", 0.0),
        ("fd_store_complete", 0.0),
    ] {
        assert_eq!(found.value(&format!("virtlogd_{name}")), value, "{name}");
    }
    let turns = found.value("virtlogd_write_turn_seconds_count");
    assert!((1.0..=70.0).contains(&turns), "{turns}");
    assert!(found.value("virtlogd_write_turn_seconds_sum") < 60.0);
    // Nothing is counted without a cause.
    assert_eq!(metrics(&daemon).value("virtlogd_write_turn_seconds_count"), turns);
    drop(log);
    expect(&daemon, "virtlogd_logs", 0.0);
    let _again = client.open(&path).unwrap();
    expect(&daemon, "virtlogd_logs_opened_total", 2.0);
}

/// A small disk of the daemon's own, below `files`.
pub(crate) const SMALL_DISK: &str =
    "mkdir \"$1/files/small\"; mount -n -t tmpfs -o size=512k tmpfs \"$1/files/small\"";

/// Fills that disk; the file that does.
pub(crate) fn fill_disk(daemon: &Daemon) -> std::path::PathBuf {
    let path = daemon.file("small/filler");
    let filler = daemon.inside(path.to_str().unwrap());
    fs::write(&filler, vec![0; 1 << 20]).expect_err("the disk is full");
    filler
}

/// Nothing that the daemon writes into a log has this byte, the names of files included.
const NO_TEXT: u8 = 1;

fn losses_are_counted_by_their_reason(subject: Subject) {
    let daemon = subject.setup().prepare(SMALL_DISK).start();
    let path = daemon.file("small/guest.log");
    let mut client = daemon.log_client();
    let log = client.open(&path).unwrap();
    let filler = fill_disk(&daemon);
    guest_writes(&log.pipe, vec![NO_TEXT; 1 << 20]);
    let full = "virtlogd_lost_bytes_total{reason=\"full\"}";
    eventually("it loses", || metrics(&daemon).value(full) > 0.0);
    expect(&daemon, "virtlogd_logs_failing", 1.0);
    let before = metrics(&daemon);
    assert!(before.value("virtlogd_write_errors_total") >= 1.0);
    assert_eq!(before.value("virtlogd_loss_lines_total"), 0.0);
    fs::remove_file(filler).unwrap();
    expect(&daemon, "virtlogd_logs_failing", 0.0);
    client.position(&path).unwrap();
    let after = metrics(&daemon);
    assert_eq!(after.value("virtlogd_loss_lines_total"), 1.0);
    let log = fs::read(daemon.inside(path.to_str().unwrap())).unwrap();
    let written = log.iter().filter(|byte| **byte == NO_TEXT).count();
    let (told, lost) = (told_bytes(&log), after.value(full));
    assert_eq!(told, lost);
    assert_eq!(after.value("virtlogd_read_bytes_total"), 1_048_576.0);
    assert_eq!(u32::try_from(written).map(f64::from).unwrap() + lost, 1_048_576.0);
    let others = ["failing", "hanging", "rate-cap", "descriptors", "crash", "stop", "abandoned"];
    for reason in others {
        let series = format!("virtlogd_lost_bytes_total{{reason=\"{reason}\"}}");
        assert_eq!(after.value(&series), 0.0, "{reason}");
    }
}

/// The number in a log's line about a loss.
fn told_bytes(log: &[u8]) -> f64 {
    let text = String::from_utf8_lossy(log);
    let (_, told) = text.split_once(": virtlogd: ").expect("a line about the loss");
    told.split(' ').next().and_then(|number| number.parse().ok()).expect("a number")
}

fn what_is_over_a_rate_is_counted(subject: Subject) {
    let rule = "[[rule]]\npath = '**'\nmax_size = 0\nrate = '64 KiB'\nburst = '128 KiB'\n";
    let daemon = subject.setup().toml(rule).start();
    let path = daemon.file("guest.log");
    let mut client = daemon.log_client();
    let log = client.open(&path).unwrap();
    guest_writes(&log.pipe, vec![b'x'; 4 << 20]);
    let has_line = || String::from_utf8_lossy(&fs::read(&path).unwrap()).contains("were lost");
    eventually("it is told", has_line);
    client.position(&path).unwrap();
    let found = metrics(&daemon);
    let lost = found.value("virtlogd_lost_bytes_total{reason=\"rate-cap\"}");
    assert_eq!(lost, told_bytes(&fs::read(&path).unwrap()));
    assert_eq!(found.value("virtlogd_read_bytes_total"), 4_194_304.0);
    assert_eq!(found.value("virtlogd_write_errors_total"), 0.0);
}

/// What was dropped is not dropped again when the log can never tell of it.
fn a_log_that_is_given_up_is_counted_once(subject: Subject) {
    let daemon = subject.setup().prepare(SMALL_DISK).start();
    let path = daemon.file("small/guest.log");
    let mut client = daemon.log_client();
    let log = client.open(&path).unwrap();
    fill_disk(&daemon);
    guest_writes(&log.pipe, vec![b'x'; 1 << 20]);
    drop(log);
    let lost = |reason: &str| format!("virtlogd_lost_bytes_total{{reason=\"{reason}\"}}");
    eventually("it loses", || metrics(&daemon).value(&lost("full")) > 0.0);
    // The path cannot be a log any more, so its backlog has no place to go.
    let directory = daemon.inside(path.to_str().unwrap());
    fs::remove_file(&directory).unwrap();
    fs::create_dir(&directory).unwrap();
    client.open(&path).expect_err("it is a directory");
    eventually("it is given up", || metrics(&daemon).value(&lost("abandoned")) > 0.0);
    let found = metrics(&daemon);
    let total = found.value(&lost("full")) + found.value(&lost("failing"));
    assert_eq!(total + found.value(&lost("abandoned")), 1_048_576.0);
}

fn clients_are_counted(subject: Subject) {
    let daemon = subject.start_with("max_clients = 2\n");
    let of = |what: &str, server: &str| format!("virtlogd_{what}{{server=\"{server}\"}}");
    let mut clients: Vec<_> = (0..2).map(|_| daemon.connect_main()).collect();
    expect(&daemon, &of("clients", "virtlogd"), 2.0);
    let waiting = daemon.connect_main();
    expect(&daemon, &of("clients_limit_reached_total", "virtlogd"), 1.0);
    let found = metrics(&daemon);
    assert_eq!(found.value(&of("clients_max", "virtlogd")), 2.0);
    assert_eq!(found.value(&of("clients_admitted_total", "virtlogd")), 2.0);
    // The one that asks.
    assert_eq!(found.value(&of("clients", "admin")), 1.0);
    clients[0].send(&[0; 4]).unwrap();
    expect(&daemon, &of("clients_closed_total", "virtlogd"), 1.0);
    expect(&daemon, &of("clients_admitted_total", "virtlogd"), 3.0);
    drop(waiting);
    expect(&daemon, &of("clients", "virtlogd"), 1.0);
    let found = metrics(&daemon);
    assert_eq!(found.value(&of("clients_closed_total", "virtlogd")), 1.0);
    assert_eq!(found.value(&of("clients_refused_total", "virtlogd")), 0.0);
}

/// The daemon is another user's, who can be asked by that user alone.
fn refused_users_are_counted(subject: Subject) {
    if !needs_root("refused_users_are_counted") {
        return;
    }
    let daemon = subject.setup().mode(Mode::SystemOfStranger).start();
    for _ in 0..3 {
        daemon.connect_main();
    }
    let name = daemon.subject().program.name();
    let uri = format!("{name}:///system?socket={}", daemon.admin_socket().display());
    eventually("they are counted", || {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        let tool = daemon.subject().program.tool();
        let output = command.arg(tool).args(["-c", &uri, "metrics"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let text = String::from_utf8(output.stdout).unwrap();
        let found = Exposition::read(&text, Format::OpenMetrics);
        found.value("virtlogd_clients_refused_total{server=\"virtlogd\"}") == 3.0
    });
}

fn holder(daemon: &Daemon, guest: &Sleeper) -> LockClient {
    let mut client = daemon.lock_client();
    client.register(&owner(guest.pid()), 0).unwrap();
    client
}

/// A lock of a process that is no client.
pub(crate) fn lock_for_reading(path: &Path) -> File {
    let file = File::open(path).unwrap();
    let range = libc::flock {
        l_type: libc::F_RDLCK.try_into().unwrap(),
        l_whence: 0,
        l_start: 0,
        l_len: 1,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_OFD_SETLK(&range)).expect("the lock is free");
    file
}

fn leases_and_refusals_are_counted(subject: Subject) {
    let daemon = subject.start();
    let images: Vec<_> =
        ["alone", "shared", "locked"].map(|name| daemon.file(name)).into_iter().collect();
    images.iter().for_each(|image| write(image, ""));
    let image = |number: usize| images[number].to_str().unwrap();
    let _others = lock_for_reading(&images[2]);
    let [one, other] = [(); 2].map(|()| Sleeper::start());
    let (mut first, mut second) = (holder(&daemon, &one), holder(&daemon, &other));
    first.acquire("", image(0), 0).unwrap();
    first.acquire("", image(1), ACQUIRE_SHARED).unwrap();
    second.acquire("", image(1), ACQUIRE_SHARED).unwrap();
    second.acquire("", image(1), ACQUIRE_SHARED).unwrap();
    second.acquire("", image(0), 0).expect_err("it is held");
    second.acquire("", image(2), 0).expect_err("it is locked");
    second.acquire("", "/nowhere", 0).expect_err("there is none");
    second.release("", image(0), 0).expect_err("it is another's");
    daemon.lock_client().acquire("", image(0), 0).expect_err("nobody is registered");
    second.release("", image(1), 0).unwrap();
    let found = metrics(&daemon);
    for (name, value) in [
        ("leases", 3.0),
        ("leases_incomplete", 0.0),
        ("leases_shared", 0.0),
        ("leases_unproved", 0.0),
        ("leases_doubted_total", 0.0),
        ("acquisitions_total", 4.0),
        ("releases_total", 1.0),
        ("leases_ended_total", 0.0),
        ("refusals_total{reason=\"held\"}", 1.0),
        ("refusals_total{reason=\"locked\"}", 1.0),
        ("refusals_total{reason=\"file\"}", 1.0),
        ("refusals_total{reason=\"not-held\"}", 1.0),
        ("refusals_total{reason=\"call\"}", 1.0),
    ] {
        assert_eq!(found.value(&format!("virtlockd_{name}")), value, "{name}");
    }
    // A holder that ends has its leases ended.
    drop(one);
    expect(&daemon, "virtlockd_leases_ended_total", 2.0);
    assert_eq!(metrics(&daemon).value("virtlockd_leases"), 1.0);
    let counters: Value = query(&mut daemon.connect_admin(), COUNTERS, "{}").unwrap();
    assert_eq!(counters["leases"]["held"], 1);
    assert!(counters.get("logs").is_none(), "{counters}");
}
