//! Calls to virtlogd, as many as it answers.

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use tests::harness::{Program, inode};
use tests::wire::{Header, LOG_PROGRAM, Writer};

use crate::caller::{Caller, SOCKET, socket_alone};
use crate::content::Content;
use crate::guest::LogDaemon;
use crate::table::{Bench, Contender, Row, Wanted};
use crate::usage::{as_f64, daemon_cpu, micros};

/// Procedure numbers (libvirt's values, on the wire).
const GET_POSITION: i32 = 2;
const READ: i32 = 3;
const APPEND: i32 = 4;

/// Inode and offset.
const POSITION_BYTES: usize = 16;

const POSITION_ALONE: &str = "GET_POSITION with 1 log, per s";
const OPEN_ALONE: &str = "OPEN and close, per s";

/// Logs that OPEN goes round, so that the last guest of each has long gone.
const OPENED_LOGS: usize = 64;

/// Measures each procedure.
pub(crate) fn run(bench: &mut Bench) {
    let span = bench.span();
    let cpu = Row("daemon's CPU, us per call", &[]);
    let same = &[Wanted::MinTimesTheirs(1.5), Wanted::MinTimesRow(0.9, POSITION_ALONE)];
    for (row, others) in [
        (Row(POSITION_ALONE, &[Wanted::MinTimesTheirs(1.5)]), 0),
        (Row("GET_POSITION with 4,000 logs, per s", same), 4_000),
    ] {
        let title = format!("rpc, GET_POSITION beside {others} open logs");
        bench.measure(&title, Program::Virtlogd, &[row, cpu], &[SOCKET], |who| {
            position(who, others, span)
        });
    }
    let same = &[Wanted::MinTimesTheirs(1.2), Wanted::MinTimesRow(0.9, OPEN_ALONE)];
    for (row, others) in [
        (Row(OPEN_ALONE, &[Wanted::MinTimesTheirs(1.2)]), 10),
        (Row("OPEN and close beside 4,000, per s", same), 4_000),
    ] {
        let title = format!("rpc, OPEN beside {others} open logs");
        bench.measure(&title, Program::Virtlogd, &[row, cpu], &[], |who| open(who, others, span));
    }
    let rows = [Row("APPEND, per s", &[Wanted::MinTimesTheirs(1.2)]), cpu];
    bench.measure("rpc, APPEND", Program::Virtlogd, &rows, &[], |who| append(who, span));
    for (row, length) in [
        (Row("READ 64 KiB, per s", &[Wanted::MinTimesTheirs(1.2)]), 65_536),
        (Row("READ 1 MiB, per s", &[Wanted::MinTimesTheirs(3.0)]), 1_048_576),
    ] {
        let title = format!("rpc, READ {length}");
        bench.measure(&title, Program::Virtlogd, &[row, cpu], &[SOCKET], |who| {
            read(who, length, span)
        });
    }
}

fn position(contender: Contender, others: usize, span: Duration) -> Vec<f64> {
    if contender == SOCKET {
        return socket_alone(&position_call(Path::new("/x")), POSITION_BYTES, span);
    }
    let mut logs = LogDaemon::start(contender);
    let guest = logs.open("asked");
    let _others = logs.open_many("other", others);
    (&guest.pipe).write_all(b"twelve bytes").expect("the guest gets no error");
    let mut caller = Caller::connect(&logs);
    let message = position_call(&guest.path);
    let figures = repeat(&logs, span, |_| {
        caller.call(&message);
    });
    let wanted = Writer::new().u64(inode(&guest.path)).u64(12).into_bytes();
    assert_eq!(caller.call(&message), wanted, "GET_POSITION's answer");
    figures
}

fn open(contender: Contender, others: usize, span: Duration) -> Vec<f64> {
    let mut logs = LogDaemon::start(contender);
    let _others = logs.open_many("other", others);
    let names: Vec<String> = (0..OPENED_LOGS).map(|number| format!("log{number}")).collect();
    let (cpu, started, mut count) = (daemon_cpu(&logs.daemon), Instant::now(), 0);
    while started.elapsed() < span {
        drop(logs.open(&names[count % OPENED_LOGS]));
        count += 1;
    }
    figures(&logs, cpu, started, count)
}

fn append(contender: Contender, span: Duration) -> Vec<f64> {
    let mut logs = LogDaemon::start(contender);
    let guest = logs.open("log");
    let mut caller = Caller::connect(&logs);
    let mut content = Content::lines();
    let mut writes = 0;
    let figures = repeat(&logs, span, |number| {
        let arguments = Writer::new().string("qemu").fixed(&[0xab; 16]).string("guest");
        let arguments = arguments.string(guest.path.as_os_str().as_bytes());
        caller.call(&call(APPEND, arguments.string(content.write(number)).u32(0)));
        writes = number + 1;
    });
    content.check_log(&guest.path, writes);
    figures
}

fn read(contender: Contender, length: usize, span: Duration) -> Vec<f64> {
    if contender == SOCKET {
        return socket_alone(&read_call(Path::new("/x"), 0, length), length, span);
    }
    let logs = LogDaemon::start(contender);
    let path = logs.path("log");
    let text = Content::blocks(length).write(7).to_vec();
    fs::write(&path, &text).expect("writing a log");
    let mut caller = Caller::connect(&logs);
    let message = read_call(&path, inode(&path), length);
    let figures = repeat(&logs, span, |_| {
        caller.call(&message);
    });
    assert!(caller.call(&message) == Writer::new().string(&text).into_bytes(), "READ's answer");
    figures
}

/// A GET_POSITION as bytes.
pub(crate) fn position_call(path: &Path) -> Vec<u8> {
    call(GET_POSITION, path_argument(path).u32(0))
}

fn read_call(path: &Path, inode: u64, length: usize) -> Vec<u8> {
    let length = length.try_into().expect("a length fits");
    call(READ, path_argument(path).u64(inode).u64(0).u64(length).u32(0))
}

/// The message that these bytes begin with, if it is complete.
pub(crate) fn first_message(bytes: &[u8]) -> Option<&[u8]> {
    let length = u32::from_be_bytes(*bytes.first_chunk()?);
    bytes.get(..length.try_into().expect("a length fits memory"))
}

fn path_argument(path: &Path) -> Writer {
    Writer::new().string(path.as_os_str().as_bytes())
}

fn call(procedure: i32, arguments: Writer) -> Vec<u8> {
    Header::call(LOG_PROGRAM, procedure).message(&arguments.into_bytes())
}

/// Calls per second and the daemon's CPU time for each in microseconds.
fn repeat(logs: &LogDaemon, span: Duration, mut work: impl FnMut(usize)) -> Vec<f64> {
    let (cpu, started) = (daemon_cpu(&logs.daemon), Instant::now());
    let mut count = 0;
    while started.elapsed() < span {
        work(count);
        count += 1;
    }
    figures(logs, cpu, started, count)
}

fn figures(logs: &LogDaemon, cpu: Duration, started: Instant, count: usize) -> Vec<f64> {
    let (wall, count) = (started.elapsed().as_secs_f64(), as_f64(count));
    vec![count / wall, micros(daemon_cpu(&logs.daemon) - cpu) / count]
}
