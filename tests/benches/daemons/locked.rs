//! Logs beside guests that keep their pipes locked. libvirt's daemon hangs with the first of them.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tests::harness::{PipeLock, Program};

use crate::guest::{Guest, LogDaemon};
use crate::many::probe_lines;
use crate::table::{Bench, Case, Contender, Outcome, Row, Wanted};
use crate::usage::{micros, percentile};

const BESIDE_NONE: &str = "latency of a line beside no locked pipe, p99, us";

/// How long a guest that does it again and again keeps its pipe locked, and lets it go.
const TOGGLE_PERIOD: Duration = Duration::from_millis(20);

/// Behaviour of the guests beside the probe.
#[derive(Debug, Clone, Copy)]
enum Lock {
    /// They keep their pipes locked.
    Kept,
    /// They lock them again and again.
    Toggled,
}

/// Measures all of it.
pub(crate) fn run(bench: &mut Bench) {
    let near = &[Wanted::MaxTimesRow(2.0, BESIDE_NONE)][..];
    let probes = bench.scaled(400);
    for (row, count, lock) in [
        (Row(BESIDE_NONE, &[]), 0, Lock::Kept),
        (Row("beside 1, p99, us", near), 1, Lock::Kept),
        (Row("beside 100, p99, us", near), 100, Lock::Kept),
        (Row("beside 10 that are locked and let go, p99, us", near), 10, Lock::Toggled),
    ] {
        let title = format!("locked pipes, latency of a line beside {count} ({lock:?})");
        let rows = [row];
        let case = Case {
            title: &title,
            program: Program::Virtlogd,
            rows: &rows,
            peers: &[],
            rounds_max: usize::MAX,
        };
        bench.run(&case, |contender| latency(contender, count, lock, probes));
    }
}

fn latency(contender: Contender, count: usize, lock: Lock, probes: usize) -> Outcome {
    if contender.is_theirs() && count > 0 {
        return Err("it hangs".to_owned());
    }
    let mut logs = LogDaemon::start(contender);
    let probe = logs.open("probe");
    let guests = logs.open_many("locked", count);
    let ends = AtomicBool::new(false);
    let mut times = std::thread::scope(|scope| {
        for guest in &guests {
            scope.spawn(|| keep_locked(guest, lock, &ends));
        }
        let times = probe_lines(&probe, probes);
        ends.store(true, Ordering::Relaxed);
        times
    });
    Ok(vec![micros(percentile(&mut times, 0.99))])
}

fn keep_locked(guest: &Guest, lock: Lock, ends: &AtomicBool) {
    while !ends.load(Ordering::Relaxed) {
        (&guest.pipe).write_all(b"x").expect("the guest gets no error");
        let held = PipeLock::begin(&guest.pipe);
        let is_over = || matches!(lock, Lock::Toggled) || ends.load(Ordering::Relaxed);
        std::thread::sleep(TOGGLE_PERIOD);
        while !is_over() {
            std::thread::sleep(TOGGLE_PERIOD);
        }
        held.let_go("\n");
        std::thread::sleep(TOGGLE_PERIOD);
    }
}
