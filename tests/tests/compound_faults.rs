//! Both daemons on seeded random walks through faults that come together: see [`tests::walks`].

use std::path::PathBuf;

use tests::harness::{Subject, can_hang};
use tests::walks::{Course, Equipment, run};

tests::ours! { Virtlogd: virtlogd_loses_no_line_untold }
tests::ours! { Virtlockd: virtlockd_loses_or_doubles_no_lease }

fn virtlogd_loses_no_line_untold(subject: Subject) {
    walk(subject);
}

fn virtlockd_loses_or_doubles_no_lease(subject: Subject) {
    walk(subject);
}

fn walk(subject: Subject) {
    if !can_hang("walks through faults that come together") {
        return;
    }
    let daemon = subject.executable().expect("checked before the test");
    let equipment = Equipment {
        walker: PathBuf::from(env!("CARGO_BIN_EXE_walker")),
        file_system: PathBuf::from(env!("CARGO_BIN_EXE_stoppable_fs")),
        daemons: daemon.parent().expect("a directory").to_path_buf(),
    };
    run(Course::Faults(subject.program), &equipment);
}
