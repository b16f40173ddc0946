//! What `virtlogctl` prints of planted situations.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use nix::sys::signal::Signal;
use serde_json::Value;
use tests::harness::{
    Daemon, Host, PipeLock, Program, SlowFiles, Subject, backup, can_hang, eventually, expect_file,
    guest_writes, size, write,
};
use tests::supervisor::Service;
use tests::wire::{LogClient, OpenLog};

use super::Sleeper;
use super::tool::{Printed, tool};

tests::ours! { Virtlogd:
    each_log_is_listed_with_its_state,
    a_disk_that_hangs_is_told_and_not_waited_for,
    a_guest_that_locks_its_pipe_is_told,
    an_upgrade_keeps_what_is_not_counted,
    what_the_fd_store_has_no_room_for_is_told,
    a_log_is_printed_across_its_rotations,
    a_log_is_found_by_any_of_its_names,
    a_log_is_followed_across_its_rotations,
    what_could_not_be_followed_is_told,
    why_a_log_is_still_open_is_told,
    the_state_of_the_daemon_is_shown,
    a_path_does_not_control_the_terminal,
}

/// A small disk of the daemon's own, below `files`.
const SMALL_DISK: &str =
    "mkdir \"$1/files/small\"; mount -n -t tmpfs -o size=64k tmpfs \"$1/files/small\"";

/// A line of 100 bytes.
fn line(number: usize) -> String {
    format!("{number:099}\n")
}

fn write_lines(
    client: &mut LogClient,
    log: &mut OpenLog,
    path: &Path,
    lines: std::ops::Range<usize>,
) {
    for number in lines {
        log.pipe.write_all(line(number).as_bytes()).unwrap();
    }
    client.position(path).unwrap();
}

fn items(daemon: &Daemon) -> Vec<Value> {
    let printed = tool(daemon, ["list", "--json"]);
    assert_eq!((printed.status, &*printed.stderr), (Some(0), ""));
    printed.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn item(daemon: &Daemon, path: &Path) -> Value {
    let found = items(daemon).into_iter().find(|item| item["path"] == path.to_str().unwrap());
    found.expect("the log is listed")
}

fn each_log_is_listed_with_its_state(subject: Subject) {
    let config = "max_size = 1024\nmax_backups = 2\n";
    let daemon = subject.setup().config(config).prepare(SMALL_DISK).start();
    let mut client = daemon.log_client();
    let [rotated, held, losing] =
        ["rotated.log", "small/held.log", "small/losing.log"].map(|name| daemon.file(name));
    let mut logs = [&rotated, &held, &losing].map(|path| client.open(path).unwrap());
    write_lines(&mut client, &mut logs[0], &rotated, 0..25);
    let inside = |path: &Path| daemon.inside(path.to_str().unwrap());
    let filler = inside(&held).with_file_name("filler");
    fs::write(&filler, vec![0; 1 << 20]).expect_err("the disk is full");
    logs[1].pipe.write_all(b"held back\n").unwrap();
    guest_writes(&logs[2].pipe, vec![b'x'; 1 << 20]);
    eventually("both are noticed", || {
        item(&daemon, &held)["state"] == "held-back" && item(&daemon, &losing)["state"] == "losing"
    });
    let lost = item(&daemon, &losing)["lost_bytes"].to_string();
    let reason = |path: &Path| {
        format!("Unable to write to file {}: No space left on device", path.display())
    };
    let uuid = item(&daemon, &held)["uuid"].as_str().unwrap().to_owned();
    let printed = tool(&daemon, ["list"]);
    let row = |words: [&str; 11], end: &str| -> Vec<String> {
        words.into_iter().chain(end.split(' ')).map(str::to_owned).collect()
    };
    let [rotated_path, held_path, losing_path] =
        [&rotated, &held, &losing].map(|path| path.to_str().unwrap());
    let expected = [
        row(
            [
                "DOMAIN", "STATE", "SIZE", "MAX", "BACKUPS", "MINUTE", "ROTATED", "LOST", "STORED",
                "UUID", "PATH",
            ],
            "SINCE REASON",
        ),
        row(
            ["guest", "ok", "500", "1024", "2", "2500", "2", "0", "no", &uuid, rotated_path],
            "- -",
        ),
        row(
            ["guest", "held-back", "0", "1024", "2", "0", "0", "0", "no", &uuid, held_path],
            &format!("TIME {}", reason(&held)),
        ),
        row(
            ["guest", "losing", "0", "1024", "2", "0", "0", &lost, "no", &uuid, losing_path],
            &format!("TIME {}", reason(&losing)),
        ),
    ];
    assert_eq!(printed.rows(), expected);
    assert!(lost.parse::<u64>().unwrap() > 0);

    // With room again all is well, and what was lost is still told.
    fs::remove_file(filler).unwrap();
    eventually("both go on", || items(&daemon).iter().all(|item| item["state"] == "ok"));
    let after = item(&daemon, &losing);
    assert_eq!((&after["reason"], &after["since_unix_s"]), (&Value::Null, &Value::Null));
    // A log is well when it can be written, and the line about the loss comes last.
    let told = format!(": virtlogd: {} bytes of this log were lost", after["lost_bytes"]);
    eventually("the loss is told", || {
        fs::read_to_string(inside(&losing)).is_ok_and(|log| log.contains(&told))
    });
    expect_file(&inside(&held), b"held back\n");
}

fn expect_held_back(daemon: &Daemon, path: &Path, reasons: &[&str]) {
    eventually("it is noticed", || item(daemon, path)["state"] == "held-back");
    let item = item(daemon, path);
    let reason = item["reason"].as_str().expect("a reason");
    assert!(reasons.contains(&reason), "{item}");
    assert!(item["since_unix_s"].as_u64() > Some(1_700_000_000), "{item}");
    let told = tool(daemon, ["why", path.to_str().unwrap()]);
    assert!(told.stdout.contains(&format!(", held-back\n  since TIME: {reason}\n")), "{told:?}");
}

fn a_disk_that_hangs_is_told_and_not_waited_for(subject: Subject) {
    if !can_hang("a disk that hangs") {
        return;
    }
    let daemon = subject.setup().with_slow_files(env!("CARGO_BIN_EXE_stoppable_fs")).start();
    let slow = SlowFiles::of(&daemon.host());
    let (path, other) = (daemon.file("slow/a.log"), daemon.file("b.log"));
    let mut client = daemon.log_client();
    let mut log = client.open(&path).unwrap();
    let _other = client.open(&other).unwrap();
    slow.stop();
    log.pipe.write_all(b"late\n").unwrap();
    expect_held_back(
        &daemon,
        &path,
        &["the file system does not answer", "the file system did not answer in time"],
    );
    assert_eq!(item(&daemon, &other)["state"], "ok");
    slow.go_on();
    eventually("it goes on", || item(&daemon, &path)["state"] == "ok");
    assert_eq!(item(&daemon, &path)["lost_bytes"], 0);
    expect_file(&slow.backing("a.log"), "late\n");
}

fn a_guest_that_locks_its_pipe_is_told(subject: Subject) {
    let daemon = subject.start();
    let (path, other) = (daemon.file("a.log"), daemon.file("b.log"));
    let mut client = daemon.log_client();
    let log = client.open(&path).unwrap();
    let _other = client.open(&other).unwrap();
    let lock = PipeLock::begin(&log.pipe);
    let (mut asking, asked) = (daemon.log_client(), path.clone());
    let asking = std::thread::spawn(move || asking.position(&asked));
    expect_held_back(&daemon, &path, &["the guest keeps its pipe locked"]);
    assert_eq!(item(&daemon, &other)["state"], "ok");
    lock.let_go("text\n");
    asking.join().unwrap().unwrap();
    expect_file(&path, "text\n");
    eventually("it goes on", || item(&daemon, &path)["state"] == "ok");
}

fn an_upgrade_keeps_what_is_not_counted(subject: Subject) {
    let daemon = subject.setup().config("max_size = 1000\nmax_backups = 3\n").start();
    let path = daemon.file("guest.log");
    let mut client = daemon.log_client();
    let mut log = client.open(&path).unwrap();
    write_lines(&mut client, &mut log, &path, 0..35);
    let before = item(&daemon, &path);
    assert_eq!((&before["rotations"], &before["last_minute_bytes"]), (&3.into(), &3500.into()));
    daemon.signal(Signal::SIGUSR1);
    eventually("it has taken over", || {
        daemon
            .notification(std::time::Duration::from_millis(50))
            .is_some_and(|text| text.contains("READY=1"))
    });
    eventually("the log is open", || item(&daemon, &path)["size_bytes"] == before["size_bytes"]);
    let after = item(&daemon, &path);
    assert_eq!((&after["rotations"], &after["last_minute_bytes"]), (&0.into(), &0.into()));
    for field in ["domain", "uuid", "driver", "path", "pipe_inode", "lost_bytes", "state"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    let status = tool(&daemon, ["status"]).stdout;
    assert!(status.contains("+0000, done\n"), "{status}");
}

fn what_the_fd_store_has_no_room_for_is_told(_: Subject) {
    let host = Host::new();
    let service = Service::start(Program::Virtlogd, &host, 40);
    let daemon = service.daemon();
    let mut client = daemon.log_client();
    let paths: Vec<_> = (0..40).map(|number| daemon.file(&format!("{number}.log"))).collect();
    let _logs: Vec<_> = paths.iter().map(|path| client.open(path).unwrap()).collect();
    let kept = || {
        items(daemon)
            .into_iter()
            .map(|item| {
                let inode = item["pipe_inode"].as_u64().unwrap();
                let is_kept = ['l', 'g', 'p']
                    .iter()
                    .any(|letter| service.stored_name(*letter, inode).is_some());
                (item["in_fd_store"].as_bool().unwrap(), is_kept)
            })
            .collect::<Vec<_>>()
    };
    eventually("the store is full", || kept().iter().any(|(told, _)| *told));
    eventually("the proof is there", || kept().iter().all(|(told, is_kept)| told == is_kept));
    let told = kept().into_iter().map(|(told, _)| told).collect::<Vec<_>>();
    assert!(told.contains(&true) && told.contains(&false), "{told:?}");
    let printed = tool(daemon, ["list"]);
    let stored: Vec<_> = printed.rows()[1..].iter().map(|row| row[8] == "yes").collect();
    assert_eq!(stored, told);
    let status = tool(daemon, ["status"]).stdout;
    assert!(status.contains("of 40 descriptors, not everything has found room"), "{status}");
    let missing = told.iter().filter(|told| !**told).count();
    let logs = format!("40 open, 0 cannot be written, {missing} not in the fd store");
    assert!(status.contains(&logs), "{status}");
}

fn rotated_log(subject: Subject) -> (Daemon, PathBuf, OpenLog) {
    let daemon = subject.start_with("max_size = 1000\nmax_backups = 3\n");
    let path = daemon.file("guest.log");
    let mut client = daemon.log_client();
    let mut log = client.open(&path).unwrap();
    write_lines(&mut client, &mut log, &path, 0..35);
    assert_eq!(size(&backup(&path, 2)), Some(1000), "there are three older parts");
    (daemon, path, log)
}

fn printed(stdout: impl Into<String>) -> Printed {
    Printed { stdout: stdout.into(), stderr: String::new(), status: Some(0) }
}

fn a_log_is_printed_across_its_rotations(subject: Subject) {
    let (daemon, path, _log) = rotated_log(subject);
    let lines = |numbers: std::ops::Range<usize>| numbers.map(line).collect::<String>();
    let name = path.to_str().unwrap();
    assert_eq!(tool(&daemon, ["cat", name]), printed(lines(0..35)));
    assert_eq!(tool(&daemon, ["cat", name, "--all"]), printed(lines(0..35)));
    assert_eq!(tool(&daemon, ["cat", name, "--lines", "7"]), printed(lines(28..35)));
    assert_eq!(tool(&daemon, ["cat", name, "-n", "1000"]), printed(lines(0..35)));
    let all = lines(0..35);
    assert_eq!(tool(&daemon, ["cat", name, "--bytes", "1234"]), printed(&all[all.len() - 1234..]));
    assert_eq!(tool(&daemon, ["cat", name, "--bytes", "0"]), printed(""));
    assert_eq!(tool(&daemon, ["cat", name, "--bytes", "1", "--lines", "1"]).status, Some(2));
}

fn a_log_is_found_by_any_of_its_names(subject: Subject) {
    let (daemon, path, log) = rotated_log(subject);
    let uuid = item(&daemon, &path)["uuid"].as_str().unwrap().to_owned();
    let by_path = tool(&daemon, ["cat", path.to_str().unwrap()]);
    assert_eq!(by_path.stdout.len(), 3500);
    assert_eq!(tool(&daemon, ["cat", "guest"]), by_path);
    assert_eq!(tool(&daemon, ["cat", &uuid]), by_path);
    assert_eq!(
        tool(&daemon, ["cat", "other"]),
        Printed {
            stdout: String::new(),
            stderr: "virtlogctl: no log of a guest 'other' is open\n".to_owned(),
            status: Some(3),
        }
    );
    let other = daemon.file("other.log");
    let _other = daemon.log_client().open(&other).unwrap();
    let several = tool(&daemon, ["cat", "guest"]);
    let text = format!(
        "virtlogctl: there are several logs of that name, give a path: {} {}\n",
        path.display(),
        other.display()
    );
    assert_eq!((several.stderr, several.status), (text, Some(1)));
    // One that is closed is still there.
    drop(log);
    eventually("the log is closed", || daemon.log_client().position(&path).is_err());
    assert_eq!(tool(&daemon, ["cat", path.to_str().unwrap()]), by_path);
    let missing = daemon.file("missing.log");
    assert_eq!(tool(&daemon, ["cat", missing.to_str().unwrap()]).status, Some(3));
}

/// A run of `virtlogctl follow`.
struct Following {
    process: Child,
    output: Arc<Mutex<String>>,
}

impl Following {
    fn start(daemon: &Daemon, arguments: &[&str]) -> Self {
        let mut command = Command::new(daemon.subject().program.tool());
        command.arg("follow").args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("the tool can be run");
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let output: Arc<Mutex<String>> = Arc::default();
        let gathered = Arc::clone(&output);
        std::thread::spawn(move || {
            while let Some(Ok(line)) = lines.next() {
                let mut gathered = gathered.lock().unwrap();
                *gathered += &(line + "\n");
            }
        });
        Self { process, output }
    }

    fn expect(&self, text: &str) {
        eventually("it is printed", || self.output.lock().unwrap().len() >= text.len());
        assert_eq!(*self.output.lock().unwrap(), text);
    }

    /// Ends it, and returns what it has complained of.
    fn end(mut self) -> String {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let mut text = String::new();
        self.process.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }
}

fn a_log_is_followed_across_its_rotations(subject: Subject) {
    let (daemon, path, mut log) = rotated_log(subject);
    let lines = |numbers: std::ops::Range<usize>| numbers.map(line).collect::<String>();
    let following = Following::start(&daemon, &[path.to_str().unwrap(), "--lines", "3"]);
    following.expect(&lines(32..35));
    let mut client = daemon.log_client();
    // One rotation at a time, then two at once.
    for (written, to) in [(35, 36), (36, 45), (45, 46), (46, 68)] {
        write_lines(&mut client, &mut log, &path, written..to);
        following.expect(&lines(32..to));
    }
    // It goes on when the daemon has ended.
    let _host = daemon.host();
    drop((log, client, daemon));
    let mut file = fs::File::options().append(true).open(&path).unwrap();
    file.write_all(line(68).as_bytes()).unwrap();
    following.expect(&lines(32..69));
    assert_eq!(following.end(), "");
}

fn what_could_not_be_followed_is_told(subject: Subject) {
    let (daemon, path, _log) = rotated_log(subject);
    let following = Following::start(&daemon, &[path.to_str().unwrap(), "-n", "0"]);
    // All that it knows of is gone between two looks.
    eventually("it follows", || {
        fs::read_dir(format!("/proc/{}/fd", following.process.id()))
            .unwrap()
            .flatten()
            .any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target == path))
    });
    for number in 0..3 {
        fs::remove_file(backup(&path, number)).unwrap();
    }
    write(&daemon.file("new"), "anew\n");
    fs::rename(daemon.file("new"), &path).unwrap();
    following.expect("anew\n");
    write(&path, "");
    std::thread::sleep(std::time::Duration::from_secs(1));
    write(&path, "cut\n");
    following.expect("anew\ncut\n");
    let path = path.display();
    assert_eq!(
        following.end(),
        format!(
            "virtlogctl: {path}: the log was begun anew, or rotated so often that something was missed\n\
             virtlogctl: {path}: the log was truncated\n"
        )
    );
}

fn why_a_log_is_still_open_is_told(subject: Subject) {
    let daemon = subject.start();
    let path = daemon.file("guest.log");
    let log = daemon.log_client().open(&path).unwrap();
    let left_over = Sleeper::start_with(log.pipe);
    let uuid = item(&daemon, &path)["uuid"].as_str().unwrap().to_owned();
    let expected = format!(
        "{0}: log of guest 'guest' ({uuid}), ok\n  process {1} (sleep) can write to it, fd 1\n",
        path.display(),
        left_over.pid()
    );
    assert_eq!(tool(&daemon, ["why", path.to_str().unwrap()]), printed(&*expected));
    assert_eq!(tool(&daemon, ["why", "guest"]), printed(&*expected));
    let refusal = daemon.log_client().open(&path).unwrap_err().message.unwrap_or_default();
    assert!(refusal.contains("Device or resource busy"), "{refusal}");
    drop(left_over);
    eventually("the log is closed", || daemon.log_client().position(&path).is_err());
    let closed = tool(&daemon, ["why", path.to_str().unwrap()]);
    let text = format!("virtlogctl: no log is open at {}\n", path.display());
    assert_eq!((closed.stderr, closed.status), (text, Some(3)));
}

fn the_state_of_the_daemon_is_shown(subject: Subject) {
    let daemon = subject.start();
    let _log = daemon.log_client().open(&daemon.file("guest.log")).unwrap();
    let pids = daemon.status_field("NSpid");
    let pid = pids.split_whitespace().last().unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let expected = format!(
        "  Daemon: virtlogd {version} (libvirt 9.0.0)\n Process: {pid}, serving since TIME\n Clients: 0 of 1024\n\
         Fd store: none; see `systemctl show -P FileDescriptorStoreMax`\n\
         At stake: a crash loses 1 logs, a restart or a stop ends them\n    Lost: 0 bytes (0)\n    \
         Logs: 1 open, 0 cannot be written, 1 not in the fd store\n"
    );
    eventually("the client has gone", || tool(&daemon, ["status"]) == printed(&*expected));
    let json: Value = serde_json::from_str(&tool(&daemon, ["status", "--json"]).stdout).unwrap();
    assert_eq!((&json["daemon"], &json["logs"]), (&"virtlogd".into(), &1.into()));
}

fn a_path_does_not_control_the_terminal(subject: Subject) {
    let daemon = subject.start();
    let path = daemon.file("\u{1b}[2J\n.log");
    let _log = daemon.log_client().open(&path).unwrap();
    let printed = tool(&daemon, ["list"]);
    assert!(printed.stdout.contains("/\\u{1b}[2J\\n.log"), "{printed:?}");
    assert_eq!(printed.rows().len(), 2);
    write(&path, "text\n");
    assert_eq!(tool(&daemon, ["cat", path.to_str().unwrap()]).stdout, "text\n");
}
