//! What it costs to store a log's bytes, from memory, with and without rotation:
//! `cargo bench -p tests --bench rotation`.

use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use tempfile::TempDir;
use virtlogd::rotating_file::{Bytes, Limits, RotatingFile};

const LINE_BYTES: usize = 128;
const TEXT_BYTES: usize = 1_048_576;

/// libvirt's defaults.
const USUAL: Limits = Limits { size_bytes_max: 2_097_152, backups_max: 3 };
const NO_ROTATION: Limits = Limits { size_bytes_max: 0, backups_max: 0 };
/// Every page's end is looked at for where to cut.
const PAGES: Limits = Limits { size_bytes_max: 4_096, backups_max: 3 };

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("append 1 MiB");
    group.throughput(Throughput::Bytes(TEXT_BYTES.try_into().expect("a length fits")));
    append(&mut group, "64 KiB at a time, no rotation", NO_ROTATION, 65_536);
    append(&mut group, "64 KiB at a time, files of 2 MiB", USUAL, 65_536);
    append(&mut group, "64 KiB at a time, files of 4 KiB", PAGES, 65_536);
    append(&mut group, "a line at a time, files of 2 MiB", USUAL, LINE_BYTES);
    append(&mut group, "a line at a time, files of 4 KiB", PAGES, LINE_BYTES);
    group.finish();
    criterion.final_summary();
}

/// The file is truncated now and then where it does not rotate, or it would fill the memory.
fn append(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    limits: Limits,
    piece_bytes: usize,
) {
    let directory = scratch();
    let path = directory.path().join("guest.log");
    let text = text();
    group.bench_function(name, |bencher| {
        let mut file = RotatingFile::open(path.as_path(), limits, true).expect("a log file");
        bencher.iter(|| {
            let stored: u64 = text.chunks(piece_bytes).map(|piece| store(&mut file, piece)).sum();
            assert_eq!(stored, 1_048_576, "bytes were left");
            if limits == NO_ROTATION {
                file = RotatingFile::open(path.as_path(), limits, true).expect("a log file");
            }
        });
    });
}

/// With `flush`, as nothing keeps a held line from one piece to the next.
fn store(file: &mut RotatingFile, piece: &[u8]) -> u64 {
    file.append(&mut Bytes(piece), true).expect("storing")
}

fn text() -> Vec<u8> {
    let line: Vec<u8> = (b'a'..=b'z').cycle().take(LINE_BYTES - 1).chain([b'\n']).collect();
    line.repeat(TEXT_BYTES / LINE_BYTES)
}

/// In memory where that can be had: disks are not what is measured.
fn scratch() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory")
}
