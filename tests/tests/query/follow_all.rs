//! `virtlogctl follow --all`: all lines of all logs, whatever happens meanwhile.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value;
use tests::harness::{
    Daemon, Host, Program, Subject, backup, eventually, eventually_within, needs_root, write,
};
use tests::supervisor::Service;

use super::follower::{Follower, Journal};

tests::ours! { Virtlogd:
    every_line_comes_once_across_rotations_an_upgrade_and_a_crash,
    what_a_killed_follower_has_not_passed_on_its_successor_does,
    what_rotation_has_removed_is_told_with_figures,
    a_flood_starves_nobody,
    a_guest_forges_no_field,
    nothing_is_read_that_others_put_in_a_logs_place,
    lines_are_printed_for_people_and_programs,
    four_thousand_logs_cost_little,
}

/// Bytes of a line of [`line`].
const LINE_BYTES: usize = 50;

fn line(number: usize) -> String {
    format!("{number:049}")
}

fn numbers(lines: &[Vec<u8>]) -> Vec<usize> {
    lines.iter().map(|line| str::from_utf8(line).unwrap().parse().unwrap()).collect()
}

/// A guest that writes numbered lines, a few at a time.
fn write_lines(mut pipe: &File, lines: std::ops::Range<usize>) {
    for number in lines {
        pipe.write_all(format!("{}\n", line(number)).as_bytes()).unwrap();
        if number % 8 == 0 {
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn state(daemon: &Daemon) -> (PathBuf, [String; 4]) {
    let path = daemon.host().path("follower.state");
    let options = ["--to", "journal", "--state", path.to_str().unwrap()].map(str::to_owned);
    (path, options)
}

fn start_with_state(daemon: &Daemon) -> Follower {
    let (_, options) = state(daemon);
    Follower::start(daemon, &options.each_ref().map(String::as_str))
}

#[track_caller]
fn expect_numbers(journal: &Journal, path: &Path, count: usize) {
    let has_come = eventually_within(Duration::from_secs(20), || journal.count_of(path) >= count);
    assert!(has_come, "{path:?}: {:?}", numbers(&journal.lines_of(path)));
    assert_eq!(numbers(&journal.lines_of(path)), (0..count).collect::<Vec<_>>(), "{path:?}");
}

/// A service whose logs have parts of 4,000 bytes.
fn service() -> (Arc<Host>, Service) {
    let host = Host::new();
    write(&host.path("etc/libvirt/virtlogd.conf"), "max_size = 4000\nmax_backups = 10\n");
    let service = Service::start(Program::Virtlogd, &host, 400);
    (host, service)
}

fn every_line_comes_once_across_rotations_an_upgrade_and_a_crash(_: Subject) {
    const LINES: usize = 1_000;
    let (host, mut service) = service();
    let journal = Journal::start(&host);
    let early: Vec<_> = (0..20).map(|number| host.file(&format!("early{number}.log"))).collect();
    let late: Vec<_> = (0..20).map(|number| host.file(&format!("late{number}.log"))).collect();
    let mut client = service.daemon().log_client();
    let mut pipes: Vec<_> = early.iter().map(|path| client.open(path).unwrap().pipe).collect();
    let follower = Follower::start(service.daemon(), &["--to", "journal"]);
    pipes.extend(late.iter().map(|path| client.open(path).unwrap().pipe));
    drop(client);
    let guests: Vec<_> =
        pipes.into_iter().map(|pipe| thread::spawn(move || write_lines(&pipe, 0..LINES))).collect();
    thread::sleep(Duration::from_millis(300));
    service.upgrade_to_current();
    thread::sleep(Duration::from_millis(300));
    service.restart(Signal::SIGKILL);
    guests.into_iter().for_each(|guest| guest.join().unwrap());
    for path in early.iter().chain(&late) {
        expect_numbers(&journal, path, LINES);
        assert!(backup(path, 9).exists(), "it was rotated");
    }
    assert!(journal.missed().is_empty(), "{:?}", journal.missed());
    assert!(follower.fd_count() <= 10 + 2 * 40, "{}", follower.fd_count());
}

fn what_a_killed_follower_has_not_passed_on_its_successor_does(_: Subject) {
    const LINES: usize = 1_000;
    let (host, service) = service();
    let journal = Journal::start(&host);
    let path = host.file("guest.log");
    let pipe = service.daemon().log_client().open(&path).unwrap().pipe;
    let mut follower = start_with_state(service.daemon());
    let guest = thread::spawn(move || write_lines(&pipe, 0..LINES));
    for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGKILL, Signal::SIGKILL] {
        thread::sleep(Duration::from_millis(300));
        let is_clean = signal == Signal::SIGTERM;
        assert_eq!(follower.end(signal), is_clean.then_some(0));
        follower = start_with_state(service.daemon());
    }
    guest.join().unwrap();
    let found = || numbers(&journal.lines_of(&path));
    eventually("the last line comes", || found().last() == Some(&(LINES - 1)));
    let distinct: BTreeSet<_> = found().into_iter().collect();
    assert!(distinct.into_iter().eq(0..LINES), "something is missing");
    assert!(journal.missed().is_empty(), "{:?}", journal.missed());
    // An orderly end loses and repeats nothing, with half a line under way and a log that has ended.
    eventually("the log has ended", || service.daemon().log_client().position(&path).is_err());
    let before = found().len();
    follower.end(Signal::SIGTERM);
    let follower = start_with_state(service.daemon());
    let mut log = service.daemon().log_client().open(&path).unwrap();
    log.pipe.write_all(b"0\n").unwrap();
    eventually("it goes on", || found().len() > before);
    assert_eq!(found()[before..], [0]);
    drop(follower);
}

fn what_rotation_has_removed_is_told_with_figures(subject: Subject) {
    let daemon = subject.start_with("max_size = 1000\nmax_backups = 2\n");
    let journal = Journal::start(&daemon.host());
    let path = daemon.file("guest.log");
    let mut client = daemon.log_client();
    let pipe = client.open(&path).unwrap().pipe;
    let mut follower = start_with_state(&daemon);
    write_lines(&pipe, 0..30);
    expect_numbers(&journal, &path, 30);
    assert_eq!(follower.end(Signal::SIGTERM), Some(0));
    // 20 lines a part: it was in the middle of part 1, and parts 6 to 8 are there.
    write_lines(&pipe, 30..170);
    client.position(&path).unwrap();
    let follower = start_with_state(&daemon);
    eventually("the rest comes", || journal.count_of(&path) == 30 + 50);
    assert_eq!(numbers(&journal.lines_of(&path))[30..], (120..170).collect::<Vec<_>>());
    eventually("it is told", || !journal.missed().is_empty());
    let missed = journal.missed();
    let bytes = (120 - 30) * LINE_BYTES;
    let text =
        format!("{}: about {bytes} bytes were missed, as rotation removed them", path.display());
    let field = |name: &str| String::from_utf8(missed[0][name].clone()).unwrap();
    assert_eq!(field("LIBVIRT_MISSED_BYTES"), bytes.to_string());
    assert_eq!((field("MESSAGE"), field("PRIORITY")), (text.clone(), "4".to_owned()));
    assert_eq!((field("LIBVIRT_DOMAIN"), missed.len()), ("guest".to_owned(), 1));
    assert_eq!(follower.stderr(), format!("virtlogctl: {text}\n"));
}

fn a_flood_starves_nobody(subject: Subject) {
    let daemon = subject.start_with("max_size = 100000\n");
    let journal = Journal::start(&daemon.host());
    let [quiet, flood] = ["quiet.log", "flood.log"].map(|name| daemon.file(name));
    let mut client = daemon.log_client();
    let floods: Vec<_> = (0..3)
        .map(|number| client.open(&flood.with_extension(number.to_string())).unwrap().pipe)
        .collect();
    let mut log = client.open(&quiet).unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let follower = Follower::start(&daemon, &["--to", "journal", "--rate", "2000"]);
    let guests: Vec<_> = floods
        .into_iter()
        .map(|mut pipe| {
            let is_over = Arc::clone(&is_over);
            thread::spawn(move || {
                let lines = "a line of a flood of lines\n".repeat(1000);
                while !is_over.load(Ordering::Relaxed) {
                    pipe.write_all(lines.as_bytes()).unwrap();
                }
            })
        })
        .collect();
    let mut slowest = Duration::ZERO;
    for number in 0..20 {
        let start = Instant::now();
        log.pipe.write_all(format!("{}\n", line(number)).as_bytes()).unwrap();
        eventually("the line comes", || journal.count_of(&quiet) == number + 1);
        slowest = slowest.max(start.elapsed());
    }
    is_over.store(true, Ordering::Relaxed);
    guests.into_iter().for_each(|guest| guest.join().unwrap());
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    let flood = flood.with_extension("1");
    assert!(!journal.lines_of(&flood).is_empty(), "the floods are followed as well");
    eventually("what was missed is told", || journal.missed().len() >= 3);
    assert!(follower.memory_kib("VmRSS") < 16 * 1024, "{} KiB", follower.memory_kib("VmRSS"));
}

fn a_guest_forges_no_field(subject: Subject) {
    let daemon = subject.start();
    let journal = Journal::start(&daemon.host());
    let path = daemon.file("a\nPRIORITY=0\n.log");
    let domain = "web1\nLIBVIRT_DOMAIN=other";
    let mut log = daemon.log_client().open_of(domain, &path).unwrap();
    let _follower = Follower::start(&daemon, &["--to", "journal"]);
    let long = "x".repeat(40_000);
    let lines: [&[u8]; 8] = [
        b"MESSAGE=forged",
        b"\0\xff\xfe\x01",
        b"PRIORITY\n",
        b"\x08\0\0\0\0\0\0\0forged!!",
        b"_UID=0",
        b"\x1b]0;title\x07\x1b[2J",
        b"a\rb",
        long.as_bytes(),
    ];
    for line in lines {
        log.pipe.write_all(&[line, b"\n"].concat()).unwrap();
    }
    log.pipe.write_all(b"crlf\r\nlogin: ").unwrap();
    eventually("half a line comes as well", || {
        journal.entries_of(&path).last().is_some_and(|entry| entry["MESSAGE"] == b"login: ")
    });
    let mut expected: Vec<(&[u8], &[u8])> = lines[..7]
        .iter()
        .flat_map(|line| line.split(|&byte| byte == b'\n').map(|line| (line, &b""[..])))
        .collect();
    let cut = &long.as_bytes()[..16_384];
    expected.extend([(cut, &b"length"[..]), (cut, b"length"), (&cut[..40_000 - 2 * 16_384], b"")]);
    expected.extend([(&b"crlf"[..], &b""[..]), (b"login: ", b"time")]);
    let entries = journal.entries_of(&path);
    assert_eq!(entries.len(), expected.len());
    for (mut entry, (message, line_break)) in entries.into_iter().zip(expected) {
        let uuid = b"abababab-abab-abab-abab-abababababab".to_vec();
        assert_eq!(entry.remove("MESSAGE").unwrap(), message);
        assert_eq!(entry.remove("LIBVIRT_LINE_BREAK").unwrap_or_default(), line_break);
        let fields = [
            ("LIBVIRT_CHANNEL", b"chardev".to_vec()),
            ("LIBVIRT_DOMAIN", domain.as_bytes().to_vec()),
            ("LIBVIRT_LOG_PATH", path.as_os_str().as_encoded_bytes().to_vec()),
            ("LIBVIRT_UUID", uuid),
            ("PRIORITY", b"6".to_vec()),
            ("SYSLOG_IDENTIFIER", b"virtlogd-guest".to_vec()),
        ];
        let fields = fields.map(|(name, value)| (name.to_owned(), value));
        assert_eq!(entry.into_iter().collect::<Vec<_>>(), fields);
    }
}

fn nothing_is_read_that_others_put_in_a_logs_place(subject: Subject) {
    const MALLORY: u32 = 4321;
    if !needs_root("a log in somebody else's directory") {
        return;
    }
    let daemon = subject.start();
    let journal = Journal::start(&daemon.host());
    let home = daemon.file("home");
    fs::create_dir(&home).unwrap();
    let [path, fifo, other] = ["guest.log", "fifo.log", "other.log"].map(|name| home.join(name));
    let mut client = daemon.log_client();
    let mut log = client.open(&path).unwrap();
    let _fifo = client.open(&fifo).unwrap();
    let mut other_log = client.open(&other).unwrap();
    chown(&home, Some(MALLORY), Some(MALLORY)).unwrap();
    let secret = daemon.file("keys");
    let follower = Follower::start(&daemon, &["--to", "journal"]);
    log.pipe.write_all(b"first\n").unwrap();
    eventually("it is followed", || journal.count_of(&path) == 1);
    // Made later than the log, so that it might be its next part.
    write(&secret, "root's keys\n");
    fs::rename(&path, home.join("aside")).unwrap();
    symlink(&secret, &path).unwrap();
    lchown(&path, Some(MALLORY), Some(MALLORY)).unwrap();
    fs::remove_file(&fifo).unwrap();
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    eventually("both are refused", || {
        let said = follower.stderr();
        said.contains(": it is a symbolic link") && said.contains("fifo.log: Unable to open file: ")
    });
    other_log.pipe.write_all(b"other\n").unwrap();
    eventually("others are followed", || journal.lines_of(&other) == [b"other"]);
    fs::remove_file(&path).unwrap();
    fs::hard_link(&secret, &path).unwrap();
    eventually("another name is refused", || follower.stderr().contains(": the file has 2 names"));
    fs::remove_file(&path).unwrap();
    fs::rename(home.join("aside"), &path).unwrap();
    log.pipe.write_all(b"second\n").unwrap();
    eventually("it goes on", || journal.count_of(&path) == 2);
    assert_eq!(journal.lines_of(&path), [&b"first"[..], b"second"]);
    assert_eq!(journal.count(), 3, "and nothing else");
}

fn lines_are_printed_for_people_and_programs(subject: Subject) {
    let daemon = subject.start();
    let (path, named) = (daemon.file("console.log"), daemon.file("web1.log"));
    let mut client = daemon.log_client();
    let mut log = client.open_of("web\u{1b}1", &path).unwrap();
    let people = Follower::start(&daemon, &[]);
    log.pipe.write_all(b"one\ntwo\xff\n").unwrap();
    // One that is opened later is followed from its beginning.
    let mut late = client.open_of("web1", &named).unwrap();
    late.pipe.write_all(b"three\nlogin: ").unwrap();
    eventually("it is followed", || people.stdout().ends_with(b"web1: three\n"));
    drop((late, client));
    let printed = |follower: &Follower, lines| {
        eventually("lines are printed", || {
            follower.stdout().split(|&it| it == b'\n').count() > lines
        });
    };
    eventually("all is printed", || people.stdout().ends_with(&b"\\\n"[..]));
    let expected = b"web\\u{1b}1: one\nweb\\u{1b}1: two\xff\nweb1: three\nweb1: login: \\\n";
    assert_eq!(people.stdout(), expected);
    assert_eq!(people.stderr(), "");
    drop(people);
    let programs = Follower::start(&daemon, &["--json"]);
    log.pipe.write_all(b"four\n\xff\n").unwrap();
    printed(&programs, 2);
    let objects: Vec<Value> = str::from_utf8(&programs.stdout())
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let uuid = "abababab-abab-abab-abab-abababababab";
    let object = |line: Value| serde_json::json!({"domain": "web\u{1b}1", "uuid": uuid, "path": path, "line": line});
    let bytes = serde_json::json!({"text": "\u{fffd}", "hex": "ff"});
    assert_eq!(objects, [object("four".into()), object(bytes)]);
}

fn four_thousand_logs_cost_little(subject: Subject) {
    const LOGS: usize = 4_000;
    let daemon = subject.setup().start();
    let journal = Journal::start(&daemon.host());
    let mut client = daemon.log_client();
    let path = |number: usize| daemon.file(&format!("{number}.log"));
    let mut logs: Vec<_> = (0..LOGS).map(|number| client.open(&path(number)).unwrap()).collect();
    let mut follower = start_with_state(&daemon);
    for (number, log) in logs.iter_mut().enumerate() {
        log.pipe.write_all(format!("{}\n", line(number)).as_bytes()).unwrap();
    }
    eventually("all lines come", || journal.count() == LOGS);
    assert!(follower.fd_count() < 600, "{} descriptors", follower.fd_count());
    let memory_kib = follower.memory_kib("VmHWM");
    assert!(memory_kib < 32 * 1024, "{memory_kib} KiB");
    assert_eq!(follower.end(Signal::SIGTERM), Some(0));
    let (path, _) = state(&daemon);
    assert!(fs::metadata(path).unwrap().len() < 2 << 20);
}
