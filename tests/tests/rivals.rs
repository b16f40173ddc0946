//! virtlockd on seeded random walks of guests and strangers who all want the same disks: see
//! [`tests::walks`].

use std::path::PathBuf;

use tests::harness::{Program, Subject, Whose, left_out, needs_root};
use tests::walks::{Course, Equipment, Mode, run};

tests::ours! { Virtlockd:
    alone,
    with_a_store_and_kills,
    over_libvirts_and_back,
    libvirts_own_owes_what_we_think,
}

fn alone(subject: Subject) {
    walk(subject, Mode::Alone);
}

fn with_a_store_and_kills(subject: Subject) {
    walk(subject, Mode::Store);
}

fn over_libvirts_and_back(subject: Subject) {
    walk(subject, Mode::Libvirt);
}

/// Only libvirt's daemon is in these.
fn libvirts_own_owes_what_we_think(subject: Subject) {
    walk(subject, Mode::Theirs);
}

fn walk(subject: Subject, mode: Mode) {
    if !needs_root("walks of rivals") {
        return;
    }
    let theirs = Subject { whose: Whose::Theirs, program: Program::Virtlockd };
    if let (Mode::Libvirt | Mode::Theirs, Err(reason)) = (mode, theirs.executable()) {
        return left_out("walks of rivals with libvirt's daemon", &reason);
    }
    let daemon = subject.executable().expect("checked before the test");
    let equipment = Equipment {
        walker: PathBuf::from(env!("CARGO_BIN_EXE_walker")),
        file_system: PathBuf::from(env!("CARGO_BIN_EXE_stoppable_fs")),
        daemons: daemon.parent().expect("a directory").to_path_buf(),
    };
    run(Course::Rivals(mode), &equipment);
}
