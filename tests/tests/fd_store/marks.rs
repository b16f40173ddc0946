//! Several sets of marks in one store, as starts that were cut off have left them.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::Signal;
use tests::harness::{Subject, eventually};

use crate::guests::Tenant;
use crate::items::{LARGE, Scene};

tests::ours! { Virtlockd: of_several_sets_of_call_marks_the_newest_counts }

/// Longer than a note takes.
const NOTE_PERIOD: Duration = Duration::from_millis(200);

/// Bytes of a mark.
const MARK_BYTES: usize = 16;

/// Keys that have marks, and all others in this test.
const KEYS: usize = 64;

/// Old sets say of each client that nobody knows what it is owed, which would cost its connection.
fn of_several_sets_of_call_marks_the_newest_counts(subject: Subject) {
    let mut scene = Scene::begin(subject, LARGE);
    let mut tenant = Tenant::start(&scene, "i", 1).remove(0);
    eventually("its connection is stored", || scene.names("c").len() == 1);
    eventually("its lease is stored", || tenant.is_stored(&scene));
    // Behind its answer is noted that nothing is owed; a kill before that costs the connection.
    std::thread::sleep(NOTE_PERIOD);
    scene.end(Signal::SIGKILL, Duration::from_secs(5), || ());
    for number in 0xa0..0xa8 {
        scene.supervisor.keep(&format!("o{number:x}"), old_marks().into());
    }
    scene.spawn();
    scene.expect_serving();
    tenant.guest.tell("call");
    tenant.expect_going_on();
}

/// Without a stamp in the first place.
fn old_marks() -> File {
    let fd = memfd_create(c"marks", MFdFlags::MFD_CLOEXEC).expect("a memfd");
    let marks = File::from(fd);
    let unknown = [0xff; KEYS * MARK_BYTES];
    marks.write_all_at(&unknown, MARK_BYTES as u64).expect("writing marks");
    marks
}
