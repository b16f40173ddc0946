//! One guest at full speed, with rotation.

use std::time::{Duration, Instant};

use tests::harness::Program;

use crate::content::Content;
use crate::guest::{Flood, LogDaemon, flood, scratch};
use crate::peer;
use crate::table::{Bench, Contender, Row, Wanted};
use crate::usage::{daemon_cpu, mebibytes};

const WANTED_OF_BLOCKS: &[Wanted] = &[Wanted::Max(0.62), Wanted::MaxTimesPeer(1.0)];

/// Measures writes of 64 KiB, of 4 KiB, and of lines.
pub(crate) fn run(bench: &mut Bench) {
    let bytes = bench.scaled(192 * 1024 * 1024);
    let peers = peer::all();
    for (title, size_bytes) in [("64 KiB", 65_536), ("4 KiB", 4_096)] {
        let rows = [
            Row("daemon's CPU, s/GiB", WANTED_OF_BLOCKS),
            Row("guest's CPU, s/GiB", &[]),
            Row("throughput, MiB/s", &[]),
        ];
        let title = format!("throughput, one guest, writes of {title}");
        bench.measure(&title, Program::Virtlogd, &rows, &peers, |contender| {
            measure(contender, Content::blocks(size_bytes), bytes)
        });
    }
    let rows = [
        Row("daemon's CPU, s/GiB", &[Wanted::Max(0.9)]),
        Row("guest's CPU, s/GiB", &[Wanted::MaxTimesTheirs(0.65)]),
        Row("throughput, MiB/s", &[Wanted::MinTimesTheirs(1.4)]),
    ];
    let title = "throughput, one guest, one write for each line of 80 to 200 bytes";
    bench.measure(title, Program::Virtlogd, &rows, &peers, |contender| {
        measure(contender, Content::lines(), bytes)
    });
}

fn measure(contender: Contender, content: Content, bytes: usize) -> Vec<f64> {
    match contender {
        Contender::Peer(name) => {
            let run = peer::run(name, scratch().path(), content, bytes);
            figures(run.flood, run.cpu, run.wall)
        }
        Contender::Theirs | Contender::Ours => through_daemon(contender, content, bytes),
    }
}

fn through_daemon(contender: Contender, mut content: Content, bytes: usize) -> Vec<f64> {
    let mut logs = LogDaemon::start(contender);
    let guest = logs.open("guest.log");
    let (cpu, started) = (daemon_cpu(&logs.daemon), Instant::now());
    let flood = flood(&guest.pipe, &mut content, |written| written >= bytes);
    logs.settle(&guest.path);
    let (cpu, wall) = (daemon_cpu(&logs.daemon) - cpu, started.elapsed());
    content.check_log(&guest.path, flood.writes);
    figures(flood, cpu, wall)
}

fn figures(flood: Flood, cpu: Duration, wall: Duration) -> Vec<f64> {
    let mebibytes = mebibytes(flood.bytes);
    let per_gib = |time: Duration| time.as_secs_f64() * 1024.0 / mebibytes;
    vec![per_gib(cpu), per_gib(flood.guest_cpu), mebibytes / wall.as_secs_f64()]
}
