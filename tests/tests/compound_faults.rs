//! Both daemons on seeded random walks through faults that come together: see [`tests::walks`].

use std::path::PathBuf;

use tests::harness::{Subject, can_hang};
use tests::walks::{Course, Equipment, replay, run};

tests::ours! { Virtlogd: virtlogd_loses_no_line_untold }
tests::ours! { Virtlockd:
    virtlockd_loses_or_doubles_no_lease,
    what_is_stored_under_new_names_is_not_swallowed_by_the_old_ones,
}

/// With a supervisor that has gone the store is not emptied for libvirt's daemon, and all keys are new.
/// When another supervisor is there the old ones have to be removed before the new ones are stored.
const SWALLOWED: &str = "store 512; act start 4006374771; act start 159567009; \
    act start 3743531004; act acquire 2911278624; begin supervisor-gone 2695247832; \
    event stop 2696332213; act die 3407530166; act release 4020720728; act start 2033828403; \
    event stop 111198766; begin store-small 1238425888; event kill-in-upgrade 2422859116; \
    begin fd-limit 4294058122; event libvirt 4140339495; event upgrade 3792810819; \
    act acquire 883124084; end store-small; act acquire 908453421; act contend 1168373781";

fn virtlogd_loses_no_line_untold(subject: Subject) {
    walk(subject);
}

fn virtlockd_loses_or_doubles_no_lease(subject: Subject) {
    walk(subject);
}

fn what_is_stored_under_new_names_is_not_swallowed_by_the_old_ones(subject: Subject) {
    if can_hang("a walk through faults that come together") {
        replay(Course::Faults(subject.program), &equipment(subject), SWALLOWED);
    }
}

fn walk(subject: Subject) {
    if can_hang("walks through faults that come together") {
        run(Course::Faults(subject.program), &equipment(subject));
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
