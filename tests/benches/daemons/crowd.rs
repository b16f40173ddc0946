//! Thousands of guests that write all they can, all at once.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::sys::pipe::{capacity_bytes, readable_bytes};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use tests::harness::{Program, eventually};

use crate::content::Content;
use crate::guest::LogDaemon;
use crate::table::{Bench, Case, Contender, Row, Wanted};
use crate::usage::{as_f64, mebibytes};

const GUESTS: usize = 4_000;

/// Files so small that those of all guests fit into memory.
const CONFIG: &str = "max_size = 65536\nmax_backups = 1\n";

/// Each guest is a thread that does nothing but write.
const STACK_BYTES: usize = 64 * 1024;

const ROWS: [Row; 5] = [
    Row("peak memory, MiB", &[Wanted::Max(64.0)]),
    // The kernel's memory, which no process's figure contains.
    Row("guests' pipes can hold, MiB", &[]),
    Row("slowest log's bytes, % of the mean", &[Wanted::Min(50.0)]),
    Row("fastest log's bytes, % of the mean", &[]),
    Row("taken from all pipes, MiB/s", &[]),
];

/// Measures it once: it takes a minute, or ten seconds in a quick run.
pub(crate) fn run(bench: &mut Bench) {
    let span = bench.quick_or(Duration::from_secs(10), Duration::from_secs(60));
    let title = format!("crowd, {GUESTS} guests flood for {} s", span.as_secs());
    let program = Program::Virtlogd;
    let case = Case { title: &title, program, rows: &ROWS, peers: &[], rounds_max: 1 };
    bench.run(&case, |contender| Ok(measure(contender, span)));
}

fn measure(contender: Contender, span: Duration) -> Vec<f64> {
    let mut logs = LogDaemon::start_with(contender, CONFIG);
    let guests = logs.open_many("log", GUESTS);
    let written: Vec<AtomicUsize> = guests.iter().map(|_| AtomicUsize::new(0)).collect();
    let stop = &AtomicBool::new(false);
    let (taken, wall, capacity, peak_kib) = thread::scope(|scope| {
        // Every pipe is full before the first byte is taken, or it were the guests' own turns on
        // the CPUs that are measured.
        logs.daemon.signal(Signal::SIGSTOP);
        for (guest, written) in guests.iter().zip(&written) {
            let work = move || write_until(&guest.pipe, written, stop);
            let builder = thread::Builder::new().stack_size(STACK_BYTES);
            builder.spawn_scoped(scope, work).expect("starting a guest");
        }
        eventually("all pipes are full", || guests.iter().all(|guest| is_full(&guest.pipe)));
        logs.daemon.signal(Signal::SIGCONT);
        let started = Instant::now();
        thread::sleep(span);
        let pairs = guests.iter().zip(&written);
        let taken: Vec<usize> = pairs.map(|(guest, written)| taken(&guest.pipe, written)).collect();
        let (wall, peak_kib) = (started.elapsed(), logs.daemon.memory_kib("VmHWM"));
        let capacities = guests.iter().map(|guest| capacity_bytes(&guest.pipe));
        let capacity = capacities.map(|it| it.expect("the size of a pipe")).sum();
        stop.store(true, Ordering::Relaxed);
        // libvirt's daemon would take minutes to empty so many pipes, in which guests wait.
        logs.daemon.signal(Signal::SIGKILL);
        (taken, wall, capacity, peak_kib)
    });
    let mut content = Content::blocks(4096);
    guests.iter().for_each(|guest| content.check_piece(&guest.path));
    let peak_mib = as_f64(usize::try_from(peak_kib).expect("a size fits")) / 1024.0;
    [vec![peak_mib, mebibytes(capacity)], shares(&taken, wall)].concat()
}

fn write_until(mut pipe: &File, written: &AtomicUsize, stop: &AtomicBool) {
    let mut content = Content::blocks(4096);
    for number in 0.. {
        let write = content.write(number);
        match pipe.write_all(write) {
            Ok(()) => written.fetch_add(write.len(), Ordering::Relaxed),
            Err(_) if stop.load(Ordering::Relaxed) => return,
            Err(error) => panic!("a guest gets {error}"),
        };
    }
}

/// By what a guest would be told: a pipe can be full with fewer bytes than it holds at the most.
fn is_full(pipe: &File) -> bool {
    let mut polled = [PollFd::new(pipe.as_fd(), PollFlags::POLLOUT)];
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready == 0)
}

/// Bytes that the daemon has taken.
fn taken(pipe: &File, written: &AtomicUsize) -> usize {
    let written = written.load(Ordering::Relaxed);
    written.saturating_sub(readable_bytes(pipe).expect("the bytes in a pipe"))
}

fn shares(taken: &[usize], wall: Duration) -> Vec<f64> {
    let total = mebibytes(taken.iter().sum());
    let share = |bytes: Option<&usize>| {
        let bytes = mebibytes(*bytes.expect("at least one guest"));
        bytes / total * as_f64(taken.len()) * 100.0
    };
    vec![share(taken.iter().min()), share(taken.iter().max()), total / wall.as_secs_f64()]
}
