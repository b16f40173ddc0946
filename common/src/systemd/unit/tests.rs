use std::io::Write;

use super::super::bus::tests::{call, error, greet, listen};
use super::*;

/// Returns the result of an error in answer to the first question.
fn asked_in_vain(name: &'static str) -> Result<Option<Unit>, Error> {
    let (directory, thread) = listen(move |mut stream| {
        greet(&mut stream);
        call(&mut stream);
        stream.write_all(&error(1, name)).unwrap();
    });
    let socket = directory.path().join("socket");
    let manager = Manager { socket, kind: Kind::Direct, notify_socket: PathBuf::new() };
    let answer = manager.ask(7, Instant::now() + Duration::from_secs(1));
    thread.join().unwrap();
    answer
}

#[test]
fn no_unit_is_told_from_no_answer() {
    assert!(matches!(asked_in_vain(NO_UNIT), Ok(None)));
    let other = "org.freedesktop.DBus.Error.ServiceUnknown";
    assert!(matches!(asked_in_vain(other), Err(Error::Refused(name)) if name == other));
}

fn unit(preserve: Preserve, job: Job, restarts_always: bool) -> Unit {
    Unit {
        name: "a.service".into(),
        notify_socket: "/run/systemd/notify".into(),
        is_listening: true,
        store_max: 8,
        stored: 0,
        preserve,
        job,
        restarts_always,
    }
}

#[test]
fn a_store_outlives_what_its_unit_says() {
    let outlives = |preserve, job, always| unit(preserve, job, always).outlives_stop();
    for job in [Job::None, Job::Restart, Job::Stop, Job::Other] {
        assert!(outlives(Preserve::Yes, job, false));
        assert!(!outlives(Preserve::No, job, true));
    }
    assert!(outlives(Preserve::Restart, Job::Restart, false));
    assert!(!outlives(Preserve::Restart, Job::Stop, true));
    assert!(!outlives(Preserve::Restart, Job::None, false));
    assert!(outlives(Preserve::Restart, Job::None, true));
}

#[test]
fn a_unit_that_does_not_listen_takes_nothing() {
    let listening = unit(Preserve::Yes, Job::None, false);
    assert_eq!(listening.takes(), 8);
    assert_eq!(Unit { is_listening: false, ..listening }.takes(), 0);
}

#[test]
fn a_unit_is_told_from_another_supervisor_by_its_address() {
    let unit = unit(Preserve::Yes, Job::None, false);
    for (address, is_its) in [
        ("/run/systemd/notify", true),
        ("@/org/freedesktop/systemd1/notify/1", true),
        ("/run/virtfdhold/virtlogd/messages", false),
        ("@0001a", false),
    ] {
        assert_eq!(unit.listens_at(OsStr::new(address)), is_its, "{address}");
    }
}
