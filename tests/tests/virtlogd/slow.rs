//! virtlogd while a file system is slow and does not hang: whoever writes less than the disk takes of
//! each loses nothing, whatever the others write, and everything is answered.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tests::harness::{
    Daemon, SlowFiles, Subject, Whose, can_hang, eventually, eventually_within, expect_losses,
};

tests::ours! { Virtlogd:
    a_flood_on_a_slow_disk_costs_its_neighbour_nothing,
    several_floods_on_a_slow_disk_cost_their_neighbour_nothing,
    a_flood_that_is_rotated_all_the_time_costs_its_neighbour_nothing,
    a_crawling_disk_is_told_of_now_and_then,
}

const SERVER: &str = env!("CARGO_BIN_EXE_stoppable_fs");

/// How long the guests write.
const PERIOD: Duration = Duration::from_secs(5);

/// A guest that writes without end, or so many bytes a second.
struct Guest {
    ends: Arc<AtomicBool>,
    written: Arc<AtomicUsize>,
    thread: JoinHandle<Vec<u8>>,
}

impl Guest {
    fn begin(mut pipe: File, bytes_per_s: Option<usize>) -> Self {
        const PIECE_BYTES: usize = 1_000;
        let (ends, written) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (end, counter) = (Arc::clone(&ends), Arc::clone(&written));
        let thread = thread::spawn(move || {
            let (mut all, begin) = (Vec::new(), Instant::now());
            while !end.load(Ordering::Relaxed) {
                let piece = format!("{:0width$}\n", all.len(), width = PIECE_BYTES - 1);
                pipe.write_all(piece.as_bytes()).expect("the guest gets no error");
                all.extend(piece.as_bytes());
                counter.store(all.len(), Ordering::Relaxed);
                if let Some(bytes_per_s) = bytes_per_s {
                    let due = Duration::from_secs_f64(all.len() as f64 / bytes_per_s as f64);
                    thread::sleep(due.saturating_sub(begin.elapsed()));
                }
            }
            all
        });
        Self { ends, written, thread }
    }

    /// Everything that it has written.
    fn end(self) -> Vec<u8> {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().expect("the guest")
    }
}

fn start(subject: Subject, configuration: &str) -> Option<(Daemon, SlowFiles)> {
    if !can_hang("a file system that is slow") {
        return None;
    }
    let daemon =
        subject.setup().config(configuration).with_slow_files(SERVER).replaceable().start();
    let slow = SlowFiles::of(&daemon.host());
    Some((daemon, slow))
}

fn a_flood_on_a_slow_disk_costs_its_neighbour_nothing(subject: Subject) {
    beside_floods(subject, 1, 30_000);
}

fn several_floods_on_a_slow_disk_cost_their_neighbour_nothing(subject: Subject) {
    beside_floods(subject, 4, 8_000);
}

/// The quiet one writes less than half its share of what the disk takes with 20 ms for each request,
/// as the machine may be busy.
fn beside_floods(subject: Subject, floods: usize, bytes_per_s: usize) {
    let Some((daemon, slow)) = start(subject, "max_size = 0\n") else { return };
    let mut client = daemon.log_client();
    let quiet = daemon.file("slow/quiet.log");
    let names = (0..floods).map(|number| format!("slow/flood{number}.log"));
    let floods: Vec<_> = names.map(|name| daemon.file(&name)).collect();
    let guests: Vec<_> =
        floods.iter().map(|path| Guest::begin(client.open(path).unwrap().pipe, None)).collect();
    let pipe = client.open(&quiet).unwrap().pipe;
    slow.say("delay-us 20000\n");
    let guest = Guest::begin(pipe, Some(bytes_per_s));
    // It is answered when all is stored that was written before: a flood waits for itself.
    let (mut asking, asked) = (daemon.log_client(), floods[0].clone());
    let asking = thread::spawn(move || asking.position(&asked));
    let begin = Instant::now();
    while begin.elapsed() < PERIOD {
        expect_answered(&daemon, &quiet);
        thread::sleep(Duration::from_millis(500));
    }
    daemon.put(Whose::Ours);
    daemon.signal(Signal::SIGUSR1);
    eventually("an upgrade comes about beside a slow disk", || daemon.is_current());
    let sent = guest.end();
    slow.say("");
    asking.join().unwrap().expect("the flood's log is open");
    let flooded: Vec<_> = guests.into_iter().map(Guest::end).collect();
    assert_eq!(losses(&daemon, &slow, "quiet.log", &quiet, &sent), 0, "the quiet guest lost bytes");
    for (number, sent) in flooded.iter().enumerate() {
        losses(&daemon, &slow, &format!("flood{number}.log"), &floods[number], sent);
    }
}

/// In time for a client of the tests.
#[track_caller]
fn expect_answered(daemon: &Daemon, path: &Path) {
    daemon.log_client().position(path).expect("the log is open");
}

/// How many losses a log tells of, once its guest has gone.
#[track_caller]
fn losses(daemon: &Daemon, slow: &SlowFiles, name: &str, path: &Path, sent: &[u8]) -> usize {
    eventually("the log is closed", || daemon.log_client().position(path).is_err());
    expect_losses(&fs::read(slow.backing(name)).expect("the log"), sent)
}

fn a_flood_that_is_rotated_all_the_time_costs_its_neighbour_nothing(subject: Subject) {
    let daemon = subject.setup().config("max_size = 300\nmax_backups = 32\n").start();
    let mut client = daemon.log_client();
    let (flooded, quiet) = (daemon.file("flood.log"), daemon.file("quiet.log"));
    let flood = Guest::begin(client.open(&flooded).unwrap().pipe, None);
    let guest = Guest::begin(client.open(&quiet).unwrap().pipe, Some(100_000));
    let begin = Instant::now();
    while begin.elapsed() < PERIOD / 2 {
        expect_answered(&daemon, &flooded);
        expect_answered(&daemon, &quiet);
    }
    assert!(flood.written.load(Ordering::Relaxed) > 0);
    let (sent, _) = (guest.end(), flood.end());
    for path in [&quiet, &flooded] {
        eventually("the log is closed", || daemon.log_client().position(path).is_err());
    }
    let part = |index: usize| fs::read_to_string(format!("{}.{index}", quiet.display()));
    let parts: String = (0..32).rev().filter_map(|index| part(index).ok()).collect();
    let text = parts + &fs::read_to_string(&quiet).unwrap();
    assert!(sent.ends_with(text.as_bytes()), "the quiet log is not the end of what was sent");
    assert!(text.len() > 3_000, "{} bytes are left of it", text.len());
    assert!(!text.contains("were lost"));
}

fn a_crawling_disk_is_told_of_now_and_then(subject: Subject) {
    let Some((daemon, slow)) = start(subject, "max_size = 0\n") else { return };
    let path = daemon.file("slow/flood.log");
    let flood = Guest::begin(daemon.log_client().open(&path).unwrap().pipe, None);
    slow.say("delay-us 120000\n");
    eventually("bytes are lost", || daemon.stderr().contains("is being lost"));
    assert!(!eventually_within(PERIOD, || daemon.stderr().matches("lost").count() > 3));
    slow.say("");
    let sent = flood.end();
    assert!(losses(&daemon, &slow, "flood.log", &path, &sent) > 0);
}
