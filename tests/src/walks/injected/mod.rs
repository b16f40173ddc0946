//! Journeys through all that a daemon does, in which one system call fails.
//!
//! A process is executed through `asking`, so that the kernel asks the walk about each such call. The walk makes the one
//! fail that was asked for, and compares all that is promised with what is there.

mod errors;
mod injection;
mod injector;
mod machine;
mod runner;

pub(super) use machine::Machine;
use machine::Purpose;
pub use runner::run;

use super::{leases, logs};
use crate::harness::{Host, Program, Subject, Whose};

/// In place of an injection, when calls are counted.
const RECORD: &str = "record";

/// Parts of a log small enough for one to be full soon, and so many that none is lost.
const CONFIGURATION: &str = "max_size = 262144\nmax_backups = 30\n";

/// Makes a journey, in namespaces that are private already. Says on standard output how it went.
///
/// # Panics
/// When something is not as it has to be.
pub(super) fn travel(program: Program, injection: &str) {
    let purpose = match injection {
        RECORD => Purpose::Record,
        injection => Purpose::Inject(injection.parse().expect("an injection")),
    };
    let host = Host::new();
    if program == Program::Virtlogd {
        drop(Subject { whose: Whose::Ours, program }.setup_on(&host).config(CONFIGURATION));
    }
    let mut machine = Machine::start(program, &host, purpose);
    match program {
        Program::Virtlogd => logs::travel(&mut machine),
        Program::Virtlockd => leases::travel(&mut machine),
    }
    for (index, counts) in machine.counts().iter().enumerate() {
        counts.iter().for_each(|(call, count)| println!("CALL {} {call} {count}", index + 1));
    }
    println!("STRIKES {}", machine.strikes());
    println!("PASSED");
}
