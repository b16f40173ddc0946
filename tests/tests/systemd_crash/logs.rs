//! virtlogd killed at random moments while guests write: every line is there, once and in order.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tests::harness::{Program, eventually, eventually_within, expect_file, guest_writes};
use tests::load::{Pace, Writer};
use tests::machine::{enable, journal, main_socket, service};
use tests::wire::{LogClient, OpenLog};

use super::guests::{holds_no_log, settled_store};
use super::kills::{Kills, count};

tests::on_machine! { Ours:
    every_line_is_there_after_many_kills,
}

/// Guests that write a line now and then, more at once, and as much as they can; and how long one
/// lives before another takes its place: not until its first lines are rotated away.
const GUESTS: [(Pace, usize, Duration); 3] = [
    (Pace::Steady, 40, Duration::from_secs(10)),
    (Pace::Lines, 5, Duration::from_secs(1)),
    (Pace::Bursts, 5, Duration::from_secs(1)),
];

/// Small files, so that kills fall into rotations, and as many of them as there may be.
const CONFIG: &str = "max_size = 65536\nmax_backups = 32\n";

fn every_line_is_there_after_many_kills() {
    fs::write("/etc/libvirt/virtlogd.conf", CONFIG).unwrap();
    enable(Program::Virtlogd);
    fs::create_dir("/srv/first").unwrap();
    write_a_line(Path::new("/srv/first/guest.log"));
    let idle = settled_store(Program::Virtlogd);
    let guests = GUESTS.iter().flat_map(|&(pace, count, life)| vec![(pace, life); count]);
    let live = |(number, (pace, life))| {
        Series::start(number, move |path, ending| write_lines(pace, life, path, ending))
    };
    let mut series: Vec<_> = guests.enumerate().map(live).collect();
    series.push(Series::start(series.len(), |path, _| write_a_line(path)));
    let mut kills = Kills::of(Program::Virtlogd);
    for _ in 0..count() {
        kills.wait();
        kills.strike();
    }
    kills.finish(count());
    let logs: u64 = series.into_iter().map(Series::finish).sum();
    println!("{logs} logs have all their lines");
    eventually("no log stays in the store", || holds_no_log(idle));
}

/// Guests that come one after the other, until they are told to end.
struct Series {
    ending: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Series {
    /// `live` is one guest's whole life, and the check of what it has left; its arguments are a
    /// log's path and what tells it to end early.
    fn start(number: usize, live: impl Fn(&Path, &AtomicBool) + Send + 'static) -> Self {
        let ending = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ending);
        let thread = std::thread::spawn(move || {
            let mut logs = 0;
            while !told.load(Ordering::Relaxed) {
                logs += 1;
                let directory = PathBuf::from(format!("/srv/{number}.{logs}"));
                fs::create_dir(&directory).unwrap();
                live(&directory.join("guest.log"), &told);
                fs::remove_dir_all(&directory).unwrap();
            }
            logs
        });
        Self { ending, thread }
    }

    /// Ends the last one; how many there were.
    fn finish(self) -> u64 {
        self.ending.store(true, Ordering::Relaxed);
        let unit = service(Program::Virtlogd);
        self.thread.join().unwrap_or_else(|_| panic!("a log is not complete: {}", journal(&unit)))
    }
}

fn write_lines(pace: Pace, life: Duration, path: &Path, ending: &AtomicBool) {
    let writer = Writer::start(path, open(path).pipe, pace);
    eventually_within(life, || ending.load(Ordering::Relaxed));
    writer.finish();
}

fn write_a_line(path: &Path) {
    guest_writes(&open(path).pipe, "a line\n");
    expect_file(path, "a line\n");
}

/// As libvirtd does it: on a lost connection again. What the lost one opened ends by itself.
fn open(path: &Path) -> OpenLog {
    let mut opened = None;
    eventually("a log is opened", || {
        let attempt = LogClient::connect(&main_socket(Program::Virtlogd))
            .and_then(|mut client| client.try_open(path));
        // "Busy" is the lost one.
        opened = attempt.ok().and_then(|answer| {
            answer.inspect_err(|error| assert_eq!(error.int1, 16, "{error:?}")).ok()
        });
        opened.is_some()
    });
    opened.expect("it came about")
}
