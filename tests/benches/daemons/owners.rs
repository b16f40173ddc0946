//! A thousand connections to virtlockd with ten leases each: their beginning and their end.

use std::fs::File;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use tests::harness::Program;

use crate::leases::{Holder, LEASES_EACH, is_leased, open, start};
use crate::table::{Bench, Contender, Row, Wanted};
use crate::usage::{as_f64, daemon_cpu, micros};

const CONNECTIONS: usize = 1_000;

/// Calls of one connection: REGISTER and the ACQUIREs.
const CALLS_EACH: usize = LEASES_EACH + 1;

const ROWS: [Row; 3] = [
    Row("set-up, daemon's CPU, us per call", &[Wanted::Max(25.0)]),
    Row("released on disconnect after, ms", &[Wanted::Max(120.0)]),
    Row("released, daemon's CPU, ms", &[]),
];

/// Measures connections of one process, whose leases libvirt's daemon releases all at once, and
/// of a process each, as guests are.
pub(crate) fn run(bench: &mut Bench) {
    for (title, owners) in [
        ("leases, 1,000 connections of one owner with 10 each", 1),
        ("leases, 1,000 connections of 1,000 owners with 10 each", CONNECTIONS),
    ] {
        bench.measure(title, Program::Virtlockd, &ROWS, &[], |who| measure(who, owners));
    }
}

fn measure(contender: Contender, owners: usize) -> Vec<f64> {
    let (daemon, images) = start(contender, CONNECTIONS * LEASES_EACH);
    let files: Vec<File> = images.paths().iter().map(|path| open(Path::new(path))).collect();
    let cpu = daemon_cpu(&daemon);
    let each = CONNECTIONS / owners;
    let connections = (0..owners).map(|owner| owner * each..(owner + 1) * each);
    let mut holders: Vec<Holder> =
        connections.map(|range| Holder::start(&daemon, &images, range)).collect();
    holders.iter_mut().for_each(Holder::wait_until_held);
    let set_up = daemon_cpu(&daemon) - cpu;
    assert!(files.iter().all(is_leased), "a lease is not held");
    let (cpu, started) = (daemon_cpu(&daemon), Instant::now());
    // An owner that nobody waits for would still be a process, which init would not allow.
    let ending = thread::spawn(move || {
        holders.iter_mut().for_each(Holder::kill);
        drop(holders);
    });
    wait_until_released(&files);
    let (released, cpu) = (started.elapsed(), daemon_cpu(&daemon) - cpu);
    ending.join().expect("the owners' end");
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    vec![micros(set_up) / as_f64(CONNECTIONS * CALLS_EACH), millis(released), millis(cpu)]
}

fn wait_until_released(files: &[File]) {
    let started = Instant::now();
    for file in files {
        while is_leased(file) {
            assert!(started.elapsed() < Duration::from_secs(60), "a lease is never released");
            thread::sleep(Duration::from_micros(100));
        }
    }
}
