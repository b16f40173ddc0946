//! virtlogd while a file system hangs. libvirt's daemon hangs with it.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tests::harness::{
    Daemon, SlowFiles, Subject, can_hang, eventually, expect_file, expect_losses, guest_writes,
};
use tests::wire::OpenLog;

tests::ours! { Virtlogd:
    a_file_system_that_hangs_costs_only_its_own_log,
    two_hundred_logs_that_hang_cost_no_others,
    a_log_that_cannot_even_be_opened_hangs_only_its_client,
    stopping_does_not_wait_for_ever,
    stopping_serves_those_that_need_not_be_waited_for,
    a_short_hang_loses_nothing,
}

const SERVER: &str = env!("CARGO_BIN_EXE_stoppable_fs");

/// More than all pipes of a log hold.
const MUCH: usize = 3 << 20;

/// A guest that writes numbered lines without end, and not too fast.
struct Flood {
    sent: Arc<AtomicUsize>,
    ends: Arc<AtomicBool>,
    thread: JoinHandle<Vec<u8>>,
}

impl Flood {
    fn begin(mut pipe: File) -> Self {
        let (sent, ends) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (counter, end) = (Arc::clone(&sent), Arc::clone(&ends));
        let thread = thread::spawn(move || {
            let mut all = Vec::new();
            for number in 0.. {
                if end.load(Ordering::Relaxed) {
                    break;
                }
                let piece: String = (0..400).map(|line| format!("{number} {line}\n")).collect();
                pipe.write_all(piece.as_bytes()).expect("the guest gets no error");
                all.extend(piece.as_bytes());
                counter.store(all.len(), Ordering::Relaxed);
                thread::sleep(Duration::from_micros(300));
            }
            all
        });
        Self { sent, ends, thread }
    }

    fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }

    /// Waits until it has written so much more.
    #[track_caller]
    fn expect_more(&self, bytes: usize) {
        let before = self.sent();
        eventually("the guest goes on", || self.sent() >= before + bytes);
    }

    /// Everything that it has written.
    fn end(self) -> Vec<u8> {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().expect("the guest")
    }
}

fn start(subject: Subject) -> Option<(Daemon, SlowFiles)> {
    if !can_hang("a file system that hangs") {
        return None;
    }
    let setup = subject.setup().config("max_size = 0").with_slow_files(SERVER);
    let daemon = setup.start();
    let slow = SlowFiles::of(&daemon.host());
    Some((daemon, slow))
}

fn a_file_system_that_hangs_costs_only_its_own_log(subject: Subject) {
    let Some((daemon, slow)) = start(subject) else { return };
    let (path, other) = (daemon.file("slow/a.log"), daemon.file("b.log"));
    let mut client = daemon.log_client();
    let flood = Flood::begin(client.open(&path).unwrap().pipe);
    let mut log = client.open(&other).unwrap();
    flood.expect_more(MUCH);
    slow.stop();
    flood.expect_more(MUCH);
    let mut hanging = daemon.log_client();
    let asked = path.clone();
    let asking = thread::spawn(move || hanging.position(&asked));
    for line in 1..=20 {
        log.pipe.write_all(b"line\n").unwrap();
        expect_file(&other, "line\n".repeat(line));
        assert_eq!(client.position(&other).unwrap().offset, 5 * line as u64);
    }
    let third = daemon.file("c.log");
    guest_writes(&client.open(&third).unwrap().pipe, *b"new\n");
    expect_file(&third, "new\n");
    drop(daemon.connect_admin());
    flood.expect_more(MUCH);
    assert!(!asking.is_finished(), "nobody can know the position of what hangs");
    slow.go_on();
    asking.join().unwrap().unwrap();
    flood.expect_more(MUCH);
    let sent = flood.end();
    expect_closed(&daemon, &path);
    // One for the hang; on a busy machine the file system's process may be late once more.
    assert!(expect_losses(&fs::read(slow.backing("a.log")).unwrap(), &sent) > 0);
}

fn a_short_hang_loses_nothing(subject: Subject) {
    let Some((daemon, slow)) = start(subject) else { return };
    let path = daemon.file("slow/a.log");
    let mut log = daemon.log_client().open(&path).unwrap();
    for round in 0..20 {
        slow.stop();
        for line in 0..100 {
            writeln!(log.pipe, "{round} {line}").unwrap();
        }
        thread::sleep(Duration::from_millis(20));
        slow.go_on();
    }
    drop(log);
    expect_closed(&daemon, &path);
    let lines = (0..20).flat_map(|round| (0..100).map(move |line| format!("{round} {line}\n")));
    expect_file(&slow.backing("a.log"), lines.collect::<String>());
}

fn two_hundred_logs_that_hang_cost_no_others(subject: Subject) {
    const LOGS: usize = 200;
    let Some((daemon, slow)) = start(subject) else { return };
    let mut client = daemon.log_client();
    let path = |number: usize| daemon.file(&format!("slow/{number}.log"));
    let logs: Vec<OpenLog> = (0..LOGS).map(|number| client.open(&path(number)).unwrap()).collect();
    let other = daemon.file("b.log");
    let mut log = client.open(&other).unwrap();
    slow.stop();
    let text: Vec<u8> = (0..30_000).flat_map(|line| format!("{line}\n").into_bytes()).collect();
    for log in &logs {
        guest_writes(&log.pipe, text.clone());
        guest_writes(&log.pipe, text.clone());
    }
    for line in 1..=20 {
        log.pipe.write_all(b"line\n").unwrap();
        expect_file(&other, "line\n".repeat(line));
    }
    let threads: usize = daemon.status_field("Threads").parse().unwrap();
    assert!(threads <= 8, "{threads} threads");
    assert!(daemon.memory_kib("VmRSS") < 16 << 10, "{} KiB", daemon.memory_kib("VmRSS"));
    slow.go_on();
    drop(logs);
    let sent = text.repeat(2);
    for number in 0..LOGS {
        expect_closed(&daemon, &path(number));
        let found = fs::read(slow.backing(&format!("{number}.log"))).unwrap();
        assert_eq!(expect_losses(&found, &sent), 1, "log {number}");
    }
    // The first, the loop's, those of signals and of the log, and two spare ones stay.
    eventually("its threads end", || {
        daemon.status_field("Threads").parse().is_ok_and(|count: usize| count <= 6)
    });
}

/// While a stop waits for a disk that hangs, other guests write on, and all of that is stored.
fn stopping_serves_those_that_need_not_be_waited_for(subject: Subject) {
    let Some((mut daemon, slow)) = start(subject) else { return };
    let mut client = daemon.log_client();
    let hanging = client.open(&daemon.file("slow/a.log")).unwrap();
    let healthy = daemon.file("b.log");
    let mut log = client.open(&healthy).unwrap();
    slow.stop();
    guest_writes(&hanging.pipe, "x".repeat(200_000));
    log.pipe.write_all(b"begin\n").unwrap();
    expect_file(&healthy, "begin\n");
    daemon.signal(Signal::SIGTERM);
    let (begin, mut sent) = (Instant::now(), "begin\n".to_owned());
    while begin.elapsed() < Duration::from_secs(4) {
        let line = format!("line {}\n", sent.len());
        log.pipe.write_all(line.as_bytes()).expect("the guest can write");
        sent.push_str(&line);
        expect_file(&healthy, &sent);
        thread::sleep(Duration::from_millis(20));
    }
    assert!(daemon.is_running(), "the disk that hangs was not waited for");
    while log.pipe.write_all(b"on\n").is_ok() {
        sent.push_str("on\n");
        thread::sleep(Duration::from_millis(1));
    }
    slow.go_on();
    daemon.wait();
    let found = fs::read_to_string(&healthy).unwrap();
    assert!(sent.starts_with(&found), "the log has what was not sent");
    assert!(sent.len() - found.len() < 100, "{} bytes are not stored", sent.len() - found.len());
}

fn a_log_that_cannot_even_be_opened_hangs_only_its_client(subject: Subject) {
    let Some((daemon, slow)) = start(subject) else { return };
    slow.stop();
    let opening: Vec<_> = (0..5)
        .map(|number| {
            let (mut client, path) =
                (daemon.log_client(), daemon.file(&format!("slow/{number}.log")));
            thread::spawn(move || client.open(&path).map(drop))
        })
        .collect();
    let other = daemon.file("b.log");
    let mut client = daemon.log_client();
    guest_writes(&client.open(&other).unwrap().pipe, *b"line\n");
    expect_file(&other, "line\n");
    client.append(&other, "more\n").unwrap();
    expect_file(&other, "line\nmore\n");
    assert!(opening.iter().all(|thread| !thread.is_finished()));
    slow.go_on();
    for thread in opening {
        thread.join().unwrap().unwrap();
    }
}

fn stopping_does_not_wait_for_ever(subject: Subject) {
    let Some((mut daemon, slow)) = start(subject) else { return };
    let path = daemon.file("slow/a.log");
    let log = daemon.log_client().open(&path).unwrap();
    let flood = {
        let mut pipe = log.pipe.try_clone().unwrap();
        slow.stop();
        thread::spawn(move || while pipe.write_all(b"line\n").is_ok() {})
    };
    let (pid_file, socket) = (daemon.pid_file(), daemon.main_socket());
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    eventually("the pid file is gone", || !pid_file.exists());
    assert!(!socket.exists());
    flood.join().expect("the guest sees its pipe end");
    // The kernel does not let a process end while one of its files hangs; but it is in nobody's way.
    let next = subject.setup_on(&daemon.host()).start();
    let other = next.file("b.log");
    guest_writes(&next.log_client().open(&other).unwrap().pipe, *b"line\n");
    expect_file(&other, "line\n");
    slow.go_on();
    let exit = daemon.wait();
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    assert!(exit.stderr.contains(&format!("log {} of", path.display())), "{}", exit.stderr);
}

#[track_caller]
fn expect_closed(daemon: &Daemon, path: &Path) {
    eventually("the log is closed", || daemon.log_client().position(path).is_err());
}
