//! The journal is complete at every moment, whatever becomes of the items.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::Signal;
use tests::guest::{Guest, NOBODY};
use tests::harness::{
    Program, SetAtEnd, SlowFiles, Subject, block, can_hang, eventually, eventually_within,
    slow_files,
};
use tests::load::is_free;
use tests::supervisor::{Origin, claims};
use tests::wire::{ACQUIRE_AUTOCREATE, ACQUIRE_SHARED, client_ids};

use crate::items::{
    Item, LARGE, Lease, Log, Scene, client_for, expect_all_going_on, image, parted,
};

tests::ours! { Virtlogd:
    a_stop_beside_a_disk_that_hangs_breaks_no_log,
    losses_renew_the_journal_in_a_full_store,
}

tests::ours! { Virtlockd:
    leases_renew_the_journal_in_a_full_store,
    what_belongs_to_no_item_is_in_a_renewed_journal,
    who_is_being_ended_is_in_a_renewed_journal,
}

const SERVER: &str = env!("CARGO_BIN_EXE_stoppable_fs");

/// A process that stops waits 5 s for a disk that hangs.
const STOP_PERIOD: Duration = Duration::from_secs(9);

/// What a flood writes at once.
static PIECE: [u8; 32_768] = [b'x'; 32_768];

fn a_stop_beside_a_disk_that_hangs_breaks_no_log(subject: Subject) {
    if !can_hang("a stop beside a disk that hangs") {
        return;
    }
    let origin = Origin { preparation: slow_files(SERVER), ..Origin::default() };
    let mut scene = Scene::begin_from(origin, subject, LARGE);
    let host = scene.daemon().host();
    let slow = SlowFiles::of(&host);
    let mut quiet: Vec<Log> = scene.items(20);
    expect_all_going_on(&mut quiet);
    let flooded = Log::begin(&scene, "slow/flood");
    scene.expect_stored(&quiet);
    slow.stop();
    let has_ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let _end = SetAtEnd(&has_ended);
        scope.spawn(|| flood(&flooded, &has_ended));
        stop_under_observation(&mut scene, &slow);
        scene.spawn();
        scene.expect_serving();
        expect_all_going_on(&mut quiet);
    });
}

/// Writes what becomes ever more losses to be noted, and never waits.
fn flood(log: &Log, has_ended: &AtomicBool) {
    const PAUSE: Duration = Duration::from_micros(300);
    fcntl(&log.pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("not waiting");
    let mut pipe = &log.pipe;
    while !has_ended.load(Ordering::Relaxed) {
        if let Err(error) = pipe.write(&PIECE) {
            assert_eq!(error.kind(), ErrorKind::WouldBlock, "the flood's pipe is broken");
        }
        thread::sleep(PAUSE);
    }
}

/// While the process ends, the journal claims all that is in the store.
fn stop_under_observation(scene: &mut Scene, slow: &SlowFiles) {
    let names = scene.names("l");
    assert!(names.len() > 20, "{names:?}");
    let pid_file = scene.daemon().pid_file();
    scene.daemon().signal(Signal::SIGTERM);
    let since = Instant::now();
    while pid_file.exists() && since.elapsed() < STOP_PERIOD {
        expect_claimed(scene, &names);
    }
    slow.go_on();
    scene.end(Signal::SIGTERM, STOP_PERIOD, || ());
    scene.supervisor.catch_up();
    expect_claimed(scene, &names);
}

/// A journal may be renewed between two looks.
#[track_caller]
fn expect_claimed(scene: &Scene, names: &[String]) {
    const GLIMPSE: Duration = Duration::from_millis(300);
    let are_claimed = || {
        let claims = claims(&scene.supervisor.stored()).unwrap_or_default();
        names.iter().all(|name| claims.has(name))
    };
    assert!(eventually_within(GLIMPSE, are_claimed), "the journal does not claim {names:?}");
}

fn leases_renew_the_journal_in_a_full_store(subject: Subject) {
    let (mut scene, mut stored, others) = full::<Lease>(subject, 16);
    let journals = scene.names("j");
    let mut guest = Command::new("sleep").arg("600").spawn().expect("another guest");
    let mut manager = client_for(&scene, guest.id());
    let shared = stored[0].image.clone();
    expect_renewed(&mut scene, || {
        manager.acquire("", &shared, ACQUIRE_SHARED).expect("sharing a lease");
        manager.release("", &shared, 0).expect("giving it back");
    });
    guest.kill().and_then(|()| guest.wait()).expect("ending a guest");
    assert_eq!(scene.names("j"), journals);
    scene.kill_and_start();
    expect_all_going_on(&mut stored);
    drop(others);
}

/// Lockspaces, and the number of the next client.
fn what_belongs_to_no_item_is_in_a_renewed_journal(subject: Subject) {
    let mut scene = Scene::begin(subject, LARGE);
    let space = scene.daemon().file("space").to_str().expect("a path of text").to_owned();
    let mut guest = Command::new("sleep").arg("600").spawn().expect("a guest");
    let mut manager = client_for(&scene, guest.id());
    let image = image(&scene, "image");
    manager.create_lockspace(&space).expect("a lockspace");
    let last = newest_client(&scene);
    expect_renewed(&mut scene, || {
        manager.acquire("", &image, ACQUIRE_SHARED).expect("sharing a lease");
        manager.release("", &image, 0).expect("giving it back");
    });
    scene.kill_and_start();
    assert!(newest_client(&scene) > last, "a client has the number of another");
    let mut manager = client_for(&scene, guest.id());
    manager.acquire(&space, "resource", ACQUIRE_AUTOCREATE).expect("a lease in the lockspace");
    guest.kill().and_then(|()| guest.wait()).expect("ending a guest");
}

/// Tried again if the guest has ended before the renewal, as on a busy machine.
fn who_is_being_ended_is_in_a_renewed_journal(subject: Subject) {
    const ATTEMPTS_MAX: usize = 5;
    let mut scene = Scene::begin(subject, LARGE);
    let is_in_time = |_| is_ended_after_a_renewal(&mut scene);
    assert!((0..ATTEMPTS_MAX).any(is_in_time), "the journal is never renewed in time");
}

fn is_ended_after_a_renewal(scene: &mut Scene) -> bool {
    let [left, image] = ["left", "image"].map(|name| image(scene, name));
    let mut guest = Guest::start_stubborn(scene.daemon());
    client_for(scene, guest.pid()).acquire("", &left, 0).expect("a lease");
    guest.tell("close");
    let mut manager = client_for(scene, NOBODY);
    expect_renewed(scene, || {
        manager.acquire("", &image, ACQUIRE_SHARED).expect("sharing a lease");
        manager.release("", &image, 0).expect("giving it back");
    });
    scene.kill_and_start();
    let is_in_time = guest.is_running();
    let signal = guest.ending();
    assert!(!is_in_time || signal == Some(Signal::SIGKILL as i32), "{signal:?}");
    eventually("its lease is free", || is_free(&left));
    is_in_time
}

/// The number of a client that comes now.
fn newest_client(scene: &Scene) -> u64 {
    let _client = client_for(scene, std::process::id());
    let ids = client_ids(&mut scene.daemon().connect_admin(), Program::Virtlockd.name());
    ids.into_iter().max().expect("a client")
}

fn losses_renew_the_journal_in_a_full_store(subject: Subject) {
    let (mut scene, mut stored, others) = full::<Log>(subject, 30);
    let journals = scene.names("j");
    let lossy = stored.swap_remove(0);
    block(&lossy.path);
    let mut pipe = &lossy.pipe;
    expect_renewed(&mut scene, || pipe.write_all(&PIECE).expect("the guest gets no error"));
    assert_eq!(scene.names("j"), journals);
    scene.kill_and_start();
    expect_all_going_on(&mut stored);
    drop(others);
}

/// A store that takes less than said, and is full; what is in there, and what is not.
fn full<T: Item>(subject: Subject, kept: usize) -> (Scene, Vec<T>, Vec<T>) {
    let origin = Origin { kept: Some(kept), ..Origin::default() };
    let scene = Scene::begin_from(origin, subject, LARGE);
    let mut items = vec![T::begin(&scene, "first")];
    scene.expect_stored(&items);
    items.extend(scene.items::<T>(20));
    let stored = |items: &[T]| items.iter().filter(|item| item.is_stored(&scene)).count();
    let mut last = (stored(&items), Instant::now());
    const QUIET: Duration = Duration::from_millis(300);
    eventually_within(QUIET * 20, || {
        let now = stored(&items);
        if now != last.0 {
            last = (now, Instant::now());
        }
        last.1.elapsed() > QUIET
    });
    let (stored, others) = parted(&scene, items);
    (scene, stored, others)
}

/// Does something until the journal has been renewed several times.
#[track_caller]
fn expect_renewed(scene: &mut Scene, mut change: impl FnMut()) {
    const RENEWALS: usize = 4;
    const CHANGES_AT_A_TIME: usize = 20;
    let mut renewals = 0;
    let mut last = 0;
    let renewed = eventually_within(Duration::from_secs(20), || {
        (0..CHANGES_AT_A_TIME).for_each(|_| change());
        let now = journal_bytes(scene);
        renewals += usize::from(now < last);
        last = now;
        renewals >= RENEWALS
    });
    assert!(renewed, "{renewals} renewals, {last} bytes");
}

fn journal_bytes(scene: &Scene) -> u64 {
    let stored = scene.supervisor.stored();
    let journals = stored.iter().filter(|stored| stored.name.starts_with('j'));
    let copies = journals.filter_map(|stored| stored.fd.try_clone().ok()).map(fs::File::from);
    copies.filter_map(|file| Some(file.metadata().ok()?.size())).sum()
}
