//! Figures, printed and not judged: what a start costs with much in the store, and what it costs to
//! put something there.
//!
//!     cargo test --release -p tests --test systemd_crash -- --ignored --nocapture figures

use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use tests::harness::{Program, Whose};
use tests::machine::{enable, main_pid, main_socket, service, systemctl};
use tests::wire::{LogClient, OpenLog};

use super::guests::settled_store;
use super::kills::{wait_for_an_answer, wait_until_restarted};

/// Logs that are open in the end.
const LOGS: usize = 4_000;

/// Logs whose opening is measured together.
const BATCH: usize = 10;

/// Deaths that are measured.
const DEATHS: usize = 10;

mod many_logs {
    #[test]
    #[ignore = "prints figures, and judges nothing"]
    fn on_machine() {
        let name = concat!(module_path!(), "::on_machine");
        tests::machine::run(super::Whose::Ours, name, super::many_logs);
    }
}

fn many_logs() {
    enable(Program::Virtlogd);
    systemctl(&["start", &service(Program::Virtlogd)]);
    println!("restart to first answer without logs: {:?}", restarts());
    let mut client = LogClient::connect(&main_socket(Program::Virtlogd)).unwrap();
    let mut logs = Vec::new();
    for upto in [BATCH, LOGS / 4, LOGS / 2, LOGS] {
        let many = open(&mut client, upto - BATCH, &mut logs);
        // What the supervisor has not taken yet would be waited for.
        let fds = settled_store(Program::Virtlogd);
        let few = open(&mut client, upto, &mut logs);
        println!("opening log {upto}, {fds} fds being stored: {few:?}; many in a row: {many:?}");
    }
    println!("{} fds are stored", settled_store(Program::Virtlogd));
    println!("restart to first answer with {LOGS} logs: {:?}", restarts());
}

/// Opens logs until there are so many; how long each takes.
fn open(client: &mut LogClient, upto: usize, logs: &mut Vec<OpenLog>) -> Duration {
    let (before, start) = (logs.len(), Instant::now());
    while logs.len() < upto {
        let path = PathBuf::from(format!("/srv/guest.{}.log", logs.len()));
        logs.push(client.open(&path).unwrap());
    }
    start.elapsed() / u32::try_from(upto - before).unwrap().max(1)
}

/// How long it takes from the daemon's death to the first answer: shortest, median and longest,
/// with the 100 ms that systemd waits.
fn restarts() -> [Duration; 3] {
    let mut times: Vec<_> = (0..DEATHS).map(|_| restart()).collect();
    times.sort();
    [times[0], times[DEATHS / 2], times[DEATHS - 1]]
}

fn restart() -> Duration {
    let before = main_pid(Program::Virtlogd);
    let start = Instant::now();
    kill(before, Signal::SIGKILL).unwrap();
    wait_for_an_answer(Program::Virtlogd);
    let elapsed = start.elapsed();
    wait_until_restarted(Program::Virtlogd, before);
    elapsed
}
