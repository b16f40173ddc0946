//! Memory of a daemon, and how soon it answers.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tests::harness::{Daemon, Program};
use tests::wire::Header;

use crate::guest::LogDaemon;
use crate::table::{Bench, Contender, Row, Wanted};
use crate::usage::{Memory, as_f64};

const LOGS: usize = 4_000;

/// Measures both daemons empty and starting, and virtlogd with logs.
pub(crate) fn run(bench: &mut Bench) {
    let empty = [
        Row("resident, MiB", &[Wanted::Max(3.0)]),
        Row("of it private and dirty, MiB", &[Wanted::Max(0.6)]),
        Row("exec to first answer, ms", &[Wanted::Max(3.0)]),
    ];
    for program in [Program::Virtlogd, Program::Virtlockd] {
        let title = format!("memory and start, {}", program.name());
        bench.measure(&title, program, &empty, &[], |contender| start(contender, program));
    }
    let rows = [Row("resident, KiB per open log", &[Wanted::Max(0.8)])];
    bench.measure("memory, virtlogd with 4,000 logs", Program::Virtlogd, &rows, &[], per_log);
}

fn start(contender: Contender, program: Program) -> Vec<f64> {
    let subject = contender.subject(program);
    let setup = subject.setup();
    let fifo = setup.host().path("go");
    mkfifo(&fifo, Mode::S_IRWXU).expect("making a FIFO");
    let executable = subject.executable().expect("it was there a moment ago");
    // Pages of a program that has just been built would count as dirty.
    File::open(&executable).and_then(|file| file.sync_all()).expect("syncing the executable");
    let mut daemon = setup.prepare(&wait_and_execute(&fifo, &executable)).spawn();
    let mut go = OpenOptions::new().write(true).open(&fifo).expect("somebody reads the FIFO");
    let started = Instant::now();
    go.write_all(b"\n").expect("somebody reads the FIFO");
    first_answer(&mut daemon, program);
    let answered = started.elapsed();
    let memory = Memory::of(&daemon);
    let mebibytes = [memory.resident_kib, memory.private_dirty_kib].map(|kib| kib / 1024.0);
    vec![mebibytes[0], mebibytes[1], answered.as_secs_f64() * 1e3]
}

/// Shell commands that execute the daemon, without what would come before it, when told to.
fn wait_and_execute(fifo: &Path, executable: &Path) -> String {
    let (fifo, executable) = (fifo.display(), executable.display());
    format!("read go < '{fifo}'; while [ \"$1\" != '{executable}' ]; do shift; done; exec \"$@\"")
}

/// Any answer will do, and to a call without arguments it is a refusal.
fn first_answer(daemon: &mut Daemon, program: Program) {
    let socket = daemon.main_socket();
    let mut stream = loop {
        match UnixStream::connect(&socket) {
            Ok(stream) => break stream,
            Err(_) => assert!(daemon.is_running(), "it ended at once: {}", daemon.stderr()),
        }
        std::thread::yield_now();
    };
    stream.write_all(&Header::call(program.number(), 1).message(&[])).expect("sending a call");
    stream.read_exact(&mut [0; 28]).expect("an answer");
}

fn per_log(contender: Contender) -> Vec<f64> {
    let mut logs = LogDaemon::start(contender);
    let first = logs.open("first");
    let before = Memory::of(&logs.daemon).resident_kib;
    let guests = logs.open_many("log", LOGS);
    let after = Memory::of(&logs.daemon).resident_kib;
    drop((first, guests));
    vec![(after - before) / as_f64(LOGS)]
}
