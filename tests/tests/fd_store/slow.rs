//! A supervisor that is slow once.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::Signal;
use tests::harness::{Subject, eventually, eventually_within};
use tests::wire::ACQUIRE_SHARED;

use crate::guests::Tenant;
use crate::items::{Item, LARGE, Lease, Log, Scene, client_for, expect_all_going_on, image};

tests::ours! { Virtlogd:
    logs_of_a_time_when_the_supervisor_was_slow_are_stored,
    a_stop_while_the_supervisor_is_slow_stores_what_is_in_pipes,
    a_log_gets_the_descriptors_of_what_waits_for_the_supervisor,
}

tests::ours! { Virtlockd:
    leases_of_a_time_when_the_supervisor_was_slow_are_stored,
    a_stop_while_the_supervisor_is_slow_ends_guests_without_leases,
    a_lease_with_the_last_descriptor_is_stored_later,
}

/// A caller is not left waiting for longer: a second, and what a busy machine takes.
const PATIENCE: Duration = Duration::from_secs(4);

fn logs_of_a_time_when_the_supervisor_was_slow_are_stored(subject: Subject) {
    everything_is_stored_in_the_end::<Log>(subject, 60);
}

fn leases_of_a_time_when_the_supervisor_was_slow_are_stored(subject: Subject) {
    everything_is_stored_in_the_end::<Lease>(subject, 40);
}

fn everything_is_stored_in_the_end<T: Item>(subject: Subject, count: usize) {
    let mut scene = Scene::begin(subject, LARGE);
    scene.supervisor.pause();
    let mut items: Vec<T> = begun_at_once(&scene, count);
    scene.upgrade_to_current();
    scene.supervisor.go_on();
    scene.expect_stored(&items);
    scene.kill_and_start();
    expect_all_going_on(&mut items);
}

/// Begun by several callers at a time.
fn begun_at_once<T: Item>(scene: &Scene, count: usize) -> Vec<T> {
    const CALLERS: usize = 10;
    let begin = |number| {
        let since = Instant::now();
        let item = T::begin(scene, &format!("i{number}"));
        assert!(since.elapsed() < PATIENCE, "the caller waits for {:?}", since.elapsed());
        item
    };
    thread::scope(|scope| {
        let callers = (0..CALLERS).map(|caller| {
            let numbers = (caller..count).step_by(CALLERS);
            scope.spawn(move || numbers.map(begin).collect::<Vec<_>>())
        });
        let callers: Vec<_> = callers.collect();
        callers.into_iter().flat_map(|caller| caller.join().expect("a caller")).collect()
    })
}

fn a_stop_while_the_supervisor_is_slow_stores_what_is_in_pipes(subject: Subject) {
    let mut scene = Scene::begin(subject, LARGE);
    let mut proved: Vec<Log> = scene.items(3);
    scene.expect_stored(&proved);
    scene.supervisor.pause();
    let mut others: Vec<Log> = (0..5).map(|it| Log::begin(&scene, &format!("o{it}"))).collect();
    scene.daemon().signal(Signal::SIGSTOP);
    for log in proved.iter_mut().chain(&mut others) {
        assert!(log.write_line());
    }
    scene.daemon().signal(Signal::SIGTERM);
    scene.daemon().signal(Signal::SIGCONT);
    scene.end(Signal::SIGTERM, PATIENCE * 2, || ());
    others.iter().for_each(|log| tests::harness::expect_file(&log.path, &log.sent));
    scene.supervisor.go_on();
    scene.supervisor.catch_up();
    scene.spawn();
    scene.expect_serving();
    expect_all_going_on(&mut proved);
}

fn a_stop_while_the_supervisor_is_slow_ends_guests_without_leases(subject: Subject) {
    let mut scene = Scene::begin(subject, LARGE);
    let mut proved = Tenant::start(&scene, "i", 2);
    eventually("the leases are in the store", || {
        proved.iter().all(|tenant| tenant.is_stored(&scene))
    });
    // The daemon hears of that by a question.
    std::thread::sleep(Duration::from_millis(300));
    scene.supervisor.pause();
    let mut others = Tenant::start(&scene, "o", 5);
    scene.end(Signal::SIGTERM, PATIENCE * 2, || ());
    scene.supervisor.go_on();
    scene.supervisor.catch_up();
    others.iter_mut().for_each(Tenant::expect_ended);
    scene.spawn();
    scene.expect_serving();
    proved.iter_mut().for_each(Tenant::expect_going_on);
    others.iter_mut().for_each(Tenant::expect_ended);
}

/// What the store has lost is to be stored again while nobody listens, for which no descriptor is left.
fn a_log_gets_the_descriptors_of_what_waits_for_the_supervisor(subject: Subject) {
    const COUNT: usize = 30;
    let mut scene = Scene::begin(subject, LARGE);
    let mut logs: Vec<Log> = scene.items(COUNT);
    scene.expect_stored(&logs);
    let fds_max = getrlimit(Resource::RLIMIT_NOFILE).unwrap().1;
    scene.supervisor.pause();
    scene.daemon().allow_more_fds(3);
    scene.supervisor.clear();
    scene.daemon().expect_said("Not everything is in the fd store");
    for log in &mut logs {
        // The file has to be made anew, in a directory that is opened for it.
        fs::rename(&log.path, log.path.with_extension("aside")).unwrap();
        log.sent.clear();
        assert!(log.write_line());
    }
    let is_written =
        || logs.iter().all(|log| fs::read(&log.path).is_ok_and(|it| it == log.sent.as_bytes()));
    assert!(eventually_within(PATIENCE, is_written), "{}", scene.daemon().stderr());
    scene.daemon().limit_fds(fds_max);
    scene.supervisor.go_on();
    scene.expect_stored(&logs);
    scene.kill_and_start();
    expect_all_going_on(&mut logs);
}

/// A lease that is to wait for the supervisor takes one more, and nothing else is under way.
fn a_lease_with_the_last_descriptor_is_stored_later(subject: Subject) {
    let mut scene = Scene::begin(subject, LARGE);
    let mut leases = ["first", "last"].map(|name| Lease { image: image(&scene, name) });
    let mut client = client_for(&scene, scene.guest.id());
    client.acquire("", &leases[0].image, ACQUIRE_SHARED).unwrap();
    scene.expect_stored(&leases[..1]);
    let fds_max = getrlimit(Resource::RLIMIT_NOFILE).unwrap().1;
    eventually("nothing is under way", || {
        let before = scene.daemon().fd_count();
        thread::sleep(Duration::from_millis(200));
        scene.daemon().fd_count() == before
    });
    scene.supervisor.pause();
    scene.daemon().allow_more_fds(1);
    client.acquire("", &leases[1].image, ACQUIRE_SHARED).unwrap();
    scene.daemon().expect_said("Not everything is in the fd store");
    scene.daemon().limit_fds(fds_max);
    scene.supervisor.go_on();
    scene.expect_stored(&leases);
    scene.kill_and_start();
    expect_all_going_on(&mut leases);
}
