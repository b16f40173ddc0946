//! Many logs at once: idle ones beside a busy one, all a little busy, some flooding.

use std::fs;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tests::harness::{Program, eventually, size};

use crate::content::Content;
use crate::guest::{Flood, Guest, LogDaemon, flood, for_time, stored_bytes};
use crate::table::{Bench, Contender, Row, Wanted};
use crate::usage::{as_f64, daemon_cpu, mebibytes, micros, percentile};

const BESIDE_ONE: &str = "throughput beside 1, MiB/s";
const SPREAD_OVER_ONE: &str = "CPU with 1 log, us per line";

/// Time between two lines spread over many logs.
const LINE_PERIOD: Duration = Duration::from_millis(1);

/// Time between two lines whose latency is measured.
const PROBE_PERIOD: Duration = Duration::from_millis(10);

/// Measures all of it.
pub(crate) fn run(bench: &mut Bench) {
    let same = &[Wanted::MinTimesRow(0.9, BESIDE_ONE)][..];
    let span = bench.span();
    for (row, idle) in [
        (Row(BESIDE_ONE, &[]), 1),
        (Row("throughput beside 1,000, MiB/s", same), 1_000),
        (Row("throughput beside 4,000, MiB/s", same), 4_000),
    ] {
        let title = format!("many logs, one writes 4 KiB at a time beside {idle} idle");
        bench.measure(&title, Program::Virtlogd, &[row], &[], |contender| {
            vec![beside_idle(contender, idle, span)]
        });
    }
    let flat = &[Wanted::Max(15.0), Wanted::MaxTimesRow(1.1, SPREAD_OVER_ONE)][..];
    let lines = bench.scaled(2_000);
    for (row, logs) in [
        (Row(SPREAD_OVER_ONE, &[Wanted::Max(15.0)]), 1),
        (Row("CPU with 256 logs, us per line", flat), 256),
        (Row("CPU with 4,000 logs, us per line", flat), 4_000),
    ] {
        let title = format!("many logs, 1,000 lines/s spread over {logs}");
        bench.measure(&title, Program::Virtlogd, &[row], &[], |contender| {
            vec![spread(contender, logs, lines)]
        });
    }
    let probes = bench.scaled(400);
    for flooding in [0, 1, 4, 32] {
        let rows = [
            Row("latency of a line, p50, us", &[]),
            Row("latency of a line, p99, us", &[Wanted::MaxTimesTheirs(1.0)]),
        ];
        let title = format!("many logs, latency of a line while {flooding} flood");
        bench.measure(&title, Program::Virtlogd, &rows, &[], |contender| {
            latency(contender, flooding, probes)
        });
    }
}

fn beside_idle(contender: Contender, idle: usize, span: Duration) -> f64 {
    let mut logs = LogDaemon::start(contender);
    let guest = logs.open("busy");
    let idle = logs.open_many("idle", idle);
    let mut content = Content::blocks(4096);
    let started = Instant::now();
    let flood = flood(&guest.pipe, &mut content, for_time(span));
    logs.settle(&guest.path);
    let wall = started.elapsed();
    content.check_log(&guest.path, flood.writes);
    assert!(idle.iter().all(|guest| size(&guest.path) == Some(0)), "an idle log is not empty");
    mebibytes(flood.bytes) / wall.as_secs_f64()
}

/// The daemon's CPU time per line in microseconds.
fn spread(contender: Contender, count: usize, lines: usize) -> f64 {
    let mut logs = LogDaemon::start(contender);
    let guests = logs.open_many("log", count);
    let mut content = Content::lines();
    let mut wanted = vec![Vec::new(); count];
    let (cpu, started) = (daemon_cpu(&logs.daemon), Instant::now());
    for (number, due) in
        std::iter::successors(Some(started), |due| Some(*due + LINE_PERIOD)).enumerate().take(lines)
    {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let line = content.write(number);
        (&guests[number % count].pipe).write_all(line).expect("the guest gets no error");
        wanted[number % count].extend_from_slice(line);
    }
    for (guest, wanted) in guests.iter().zip(&wanted) {
        let length = u64::try_from(wanted.len()).ok();
        eventually("every line is stored", || size(&guest.path) == length);
    }
    let cpu = daemon_cpu(&logs.daemon) - cpu;
    for (guest, wanted) in guests.iter().zip(&wanted) {
        let stored = fs::read(&guest.path).expect("reading a log");
        assert!(stored == *wanted, "{} holds something else", guest.path.display());
    }
    micros(cpu) / as_f64(lines)
}

/// The median and the 99th percentile of the time from a write to the line in the file.
fn latency(contender: Contender, flooding: usize, probes: usize) -> Vec<f64> {
    let mut logs = LogDaemon::start(contender);
    let probe = logs.open("probe");
    let guests = logs.open_many("flood", flooding);
    let stop = AtomicBool::new(false);
    let (mut times, floods) = std::thread::scope(|scope| {
        let stop = &stop;
        let start = |guest| scope.spawn(move || flood_until(guest, stop));
        let floods: Vec<_> = guests.iter().map(start).collect();
        let times = probe_lines(&probe, probes);
        stop.store(true, Ordering::Relaxed);
        let floods: Vec<_> = floods.into_iter().map(|it| it.join().expect("a guest")).collect();
        (times, floods)
    });
    for (guest, flood) in guests.iter().zip(floods) {
        logs.settle(&guest.path);
        Content::blocks(4096).check_log(&guest.path, flood.writes);
    }
    Content::lines().check_log(&probe.path, times.len());
    [0.5, 0.99].map(|share| micros(percentile(&mut times, share))).to_vec()
}

fn flood_until(guest: &Guest, stop: &AtomicBool) -> Flood {
    flood(&guest.pipe, &mut Content::blocks(4096), |_| stop.load(Ordering::Relaxed))
}

/// Writes `count` lines, fewer if that would take too long.
///
/// Waits as `tail -f` does, so that the waiting takes no time on a CPU from the daemon.
pub(crate) fn probe_lines(probe: &Guest, count: usize) -> Vec<Duration> {
    let watch = Inotify::init(InitFlags::IN_CLOEXEC).expect("watching files");
    watch.add_watch(&probe.path, AddWatchFlags::IN_MODIFY).expect("watching a log");
    let mut content = Content::lines();
    let mut length = 0;
    let mut wait_and_write = |number| {
        std::thread::sleep(PROBE_PERIOD);
        let line = content.write(number);
        length += line.len();
        let started = Instant::now();
        (&probe.pipe).write_all(line).expect("the guest gets no error");
        while stored_bytes(&probe.path) < length {
            watch.read_events().expect("a change of the log");
        }
        started.elapsed()
    };
    let end = Instant::now() + PROBE_PERIOD * 3 * u32::try_from(count).expect("a moderate count");
    (0..count).map_while(|it| (Instant::now() < end).then(|| wait_and_write(it))).collect()
}
