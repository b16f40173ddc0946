//! A daemon that is started again while the disk of its own log hangs.

use std::fs;
use std::time::{Duration, Instant};

use tests::harness::{Subject, can_hang, slow_files};
use tests::supervisor::Origin;
use tests::wire::{ADMIN_PROGRAM, Writer};

use crate::items::{Item, LARGE, Lease, Log, Scene, expect_all_going_on};

tests::ours! { Virtlogd:
    logs_go_on_while_the_configured_log_hangs,
    logs_go_on_while_an_administrators_log_hangs,
}

tests::ours! { Virtlockd:
    leases_go_on_while_the_configured_log_hangs,
    leases_go_on_while_an_administrators_log_hangs,
}

const SERVER: &str = env!("CARGO_BIN_EXE_stoppable_fs");

/// Procedure number (libvirt's value, on the wire).
const SET_LOGGING_OUTPUTS: i32 = 16;

/// What a start takes on a busy machine, and no longer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Has the disk hang from the start on when the file `hangs` is there.
const HANG: &str = r#"
[ ! -e "$1/hangs" ] || kill -STOP "$(cat "$1/slow.pid")"
"#;

fn logs_go_on_while_the_configured_log_hangs(subject: Subject) {
    go_on_while_it_hangs::<Log>(subject, |_| ());
}

fn leases_go_on_while_the_configured_log_hangs(subject: Subject) {
    go_on_while_it_hangs::<Lease>(subject, |_| ());
}

fn logs_go_on_while_an_administrators_log_hangs(subject: Subject) {
    go_on_while_it_hangs::<Log>(subject, set_another);
}

fn leases_go_on_while_an_administrators_log_hangs(subject: Subject) {
    go_on_while_it_hangs::<Lease>(subject, set_another);
}

fn go_on_while_it_hangs<T: Item>(subject: Subject, set: impl FnOnce(&Scene)) {
    if !can_hang("a log file that hangs") {
        return;
    }
    let configured = r#"export LIBVIRT_LOG_OUTPUTS="1:file:$1/files/slow/own.log""#;
    let preparation = format!("{}{HANG}{configured}", slow_files(SERVER));
    let origin = Origin { preparation, ..Origin::default() };
    let mut scene = Scene::begin_from(origin, subject, LARGE);
    set(&scene);
    let mut items: Vec<T> = scene.items(3);
    scene.expect_stored(&items);
    fs::write(scene.daemon().host().path("hangs"), "").expect("saying that it hangs");
    for _ in 0..2 {
        let since = Instant::now();
        scene.kill_and_start();
        expect_all_going_on(&mut items);
        assert!(since.elapsed() < PATIENCE, "it took {:?}", since.elapsed());
    }
}

fn set_another(scene: &Scene) {
    let setting = format!("1:file:{}", scene.daemon().file("slow/another.log").display());
    let arguments = Writer::new().u32(1).string(setting).u32(0).into_bytes();
    let mut admin = scene.daemon().connect_admin();
    admin.call(ADMIN_PROGRAM, SET_LOGGING_OUTPUTS, &arguments).expect("setting outputs");
}
