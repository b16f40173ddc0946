//! What a process or a thread has used.

use std::fs;
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;
use tests::harness::Daemon;

/// CPU time of a daemon, threads that have ended included.
pub(crate) fn daemon_cpu(daemon: &Daemon) -> Duration {
    process_cpu(daemon.pid())
}

/// CPU time of a living process in nanoseconds; `/proc/PID/stat` has only ticks of 10 ms.
pub(crate) fn process_cpu(pid: u32) -> Duration {
    let pid = Pid::from_raw(pid.try_into().expect("a process id is positive"));
    cpu_at(clock_getcpuclockid(pid).expect("the process is alive"))
}

/// CPU time of the calling thread.
pub(crate) fn thread_cpu() -> Duration {
    cpu_at(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

/// CPU time of the children that have been waited for.
pub(crate) fn children_cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("the usage of our children");
    let micros = (usage.user_time() + usage.system_time()).num_microseconds();
    Duration::from_micros(micros.try_into().expect("time used is positive"))
}

/// Memory of a daemon.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) resident_kib: f64,
    pub(crate) private_dirty_kib: f64,
}

impl Memory {
    /// Its memory now.
    pub(crate) fn of(daemon: &Daemon) -> Self {
        let text = fs::read_to_string(daemon.proc("smaps_rollup")).expect("the daemon is alive");
        let field = |name: &str| {
            let rest =
                text.lines().find_map(|line| line.strip_prefix(name)).expect("a known field");
            rest.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
        };
        Self { resident_kib: field("Rss:"), private_dirty_kib: field("Private_Dirty:") }
    }
}

/// From now on this program and what it starts run on one processor, the last that it may use. On
/// two, waking a process on the other costs either side more than answering a call does, on a
/// virtual machine several times as much, and that happens or not as the other is idle or not.
pub(crate) fn stay_on_one_processor() {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this).expect("the processors that may be used");
    let is_allowed = |number: &usize| allowed.is_set(*number).unwrap_or(false);
    let last = (0..CpuSet::count()).rev().find(is_allowed).expect("at least one processor");
    let mut one = CpuSet::new();
    one.set(last).expect("a processor's number fits");
    sched_setaffinity(this, &one).expect("using fewer processors");
}

/// The value below which `share` of the samples lie.
pub(crate) fn percentile(samples: &mut [Duration], share: f64) -> Duration {
    samples.sort_unstable();
    let below = samples
        .iter()
        .enumerate()
        .take_while(|&(index, _)| as_f64(index + 1) < as_f64(samples.len()) * share);
    samples[below.count()]
}

/// A count as a number to calculate with; exact, as no count here reaches 2^32.
pub(crate) fn as_f64(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("a moderate count"))
}

pub(crate) fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Bytes in MiB.
pub(crate) fn mebibytes(bytes: usize) -> f64 {
    as_f64(bytes >> 20) + as_f64(bytes & 0xf_ffff) / 1_048_576.0
}

fn cpu_at(clock: ClockId) -> Duration {
    clock.now().expect("reading a clock").into()
}
