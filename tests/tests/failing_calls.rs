//! Both daemons on journeys in which each system call fails once: see [`tests::walks`].

use std::path::PathBuf;

use tests::harness::{Subject, needs_root};
use tests::walks::{Equipment, injected};

tests::ours! { Virtlogd: virtlogd }
tests::ours! { Virtlockd: virtlockd }

fn virtlogd(subject: Subject) {
    travel(subject);
}

fn virtlockd(subject: Subject) {
    travel(subject);
}

fn travel(subject: Subject) {
    if needs_root("journeys in which a system call fails") {
        injected::run(subject.program, &equipment(subject));
    }
}

fn equipment(subject: Subject) -> Equipment {
    let daemon = subject.executable().expect("checked before the test");
    Equipment {
        walker: PathBuf::from(env!("CARGO_BIN_EXE_walker")),
        file_system: PathBuf::from(env!("CARGO_BIN_EXE_stoppable_fs")),
        daemons: daemon.parent().expect("a directory").to_path_buf(),
    }
}
